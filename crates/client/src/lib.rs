//! A small Kafka client for the command line, tests and broker-to-broker calls.
//!
//! One request at a time goes out on each connection, but for pipelines, which have connections of their own. Record
//! batches are bytes here, made and read by the caller.
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
mod pipeline;
mod produce;
mod retry;
mod topics;

pub use client::{Client, Target};
pub use error::ClientError;
pub use fetch::{FetchLimits, FetchPipeline, Fetched};
pub use metadata::{PartitionInfo, TopicInfo};
pub use offsets::OffsetAt;
pub use options::Options;
pub use produce::{Acks, AnsweredAcks, ProducePipeline, Produced, ProducerIdentity};
pub use topics::NewTopic;
