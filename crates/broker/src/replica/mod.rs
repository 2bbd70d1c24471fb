//! The replicas of this broker: one [`Partition`] each, started and stopped by the [`ReplicaHost`] as the metadata
//! says, made durable by the flusher, kept in bounds by maintenance.

mod feed;
mod flusher;
mod host;
mod isr;
mod lost;
mod maintenance;
mod partition;
mod releases;
mod round;
mod segment_part;
mod syncers;
mod waiters;

pub(crate) use feed::Subscription;
pub use host::{CloseError, OpenError, Opened, ReplicaHost};
pub(crate) use isr::{keep_time, propose};
pub(crate) use maintenance::{delete_removed, keep};
pub(crate) use partition::{Committed, Partition};
pub(crate) use segment_part::segment_part;
pub(crate) use waiters::{Registration, Waiter};
