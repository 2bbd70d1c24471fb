//! Whole messages: valid, cut and damaged ones of every schema and version, and bytes captured from Apache Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "all of this crate is test code")]

mod any;
mod build;
mod golden;
mod messages;
mod schema;
