//! Conversations with a shard: transcripts of what goes in and comes out, and a simulation of many members.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "all of this crate is test code")]

mod admin;
mod arbitrary;
mod loading;
mod offsets;
mod rebalance;
mod scene;
mod simulation;
mod static_members;
