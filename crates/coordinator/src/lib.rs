//! Group coordinator: classic groups and their committed offsets as shards without IO.
//!
//! One [`GroupShard`] owns the groups of one partition of `__consumer_offsets`. Requests go in with the time, effects
//! come out: records to append and replies to send, some of them only after an append is committed. A fresh shard that
//! replays the log of its partition is the shard that wrote it. What is absent on purpose: the log, timers that fire by
//! themselves, the wire format of requests, transactional offset commits, and the consumer protocol of KIP-848.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod codec;
mod error;
mod group;
pub mod message;
mod runtime;

pub use error::GroupError;
pub use group::{GroupState, partition_for};
pub use message::Response;
pub use runtime::{
    AppendToken, Config, CoordinatorRecord, Effect, GroupShard, Now, ReplayError, Replayed, ReplyToken, Stats,
};
