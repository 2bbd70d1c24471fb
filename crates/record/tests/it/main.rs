//! The record crate from outside: batches of Apache Kafka, hostile batches, and what looking inside them costs.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod golden;
mod memory;
