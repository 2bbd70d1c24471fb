//! A small Kafka client for the command line, tests and broker-to-broker calls.
//!
//! One request at a time goes out on each connection. Record batches are bytes here, made and read by the caller.
//! Groups, transactions and batching are not here: whoever needs those wants one of Kafka's own clients.
//!
//! Everything is bounded: a request and its connection by time-outs, retries by their total time, a response by its size.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod client;
mod connection;
mod error;
mod fetch;
mod metadata;
mod offsets;
mod options;
mod produce;
mod retry;
mod topics;

pub use client::{Client, Target};
pub use error::ClientError;
pub use fetch::{FetchLimits, Fetched};
pub use metadata::{PartitionInfo, TopicInfo};
pub use offsets::OffsetAt;
pub use options::Options;
pub use produce::{Acks, ProducerIdentity};
pub use topics::NewTopic;
