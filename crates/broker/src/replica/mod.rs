//! The replicas of this broker: one [`Partition`] each, started and stopped by the [`ReplicaHost`] as the metadata
//! says, made durable by the flusher, kept in bounds by maintenance.

mod flusher;
mod host;
mod maintenance;
mod partition;
mod waiters;

pub use host::{Checkpoints, CloseError, OpenError, Opened, ReplicaHost};
pub(crate) use maintenance::{delete_removed, keep};
pub(crate) use partition::{Committed, Partition};
pub(crate) use waiters::{Registration, Waiter};
