//! The client against a broker in this process that speaks real frames.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod fake;
mod operations;
mod pipelines;
mod replicas;
mod versions;
