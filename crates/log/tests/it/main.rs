//! The log through its public surface, over the in-memory disk that loses and tears and over the real one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by stopping")]

mod append;
mod crash;
mod damage;
mod follower;
mod idempotence;
mod journal;
mod lookup;
mod missing;
mod model;
mod open_files;
mod opening;
mod power_cut;
mod retention;
mod support;
mod written;
