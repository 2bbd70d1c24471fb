//! The nouns of Chronik: identifiers, offsets, epochs and time.
//!
//! Values only. Nothing here decides, allocates on a hot path or knows a file, a socket or a clock; anything that is
//! merely "useful" lives in the room that uses it.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod ids;
mod offset;
mod time;
mod uuid;

pub use ids::{Generation, NodeId, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TopicId, TopicPartition};
pub use offset::{LeaderEpoch, Offset};
pub use time::{Instant, Timestamp};
pub use uuid::{ParseUuidError, Uuid};
