//! Links to other nodes: this node sends its log to followers, or receives a leader's.

mod status;

pub use status::{LeaderStatus, LinkStatus, PartitionStatus, PromotedPartition, PromotionAnswer, ReplicationStatus};
