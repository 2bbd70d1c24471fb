//! The built command, as a person uses it: a broker, and records in and out through pipes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod client_commands;
mod process;
mod refusals;
mod replication;
