//! The controller on a disk in memory that can be crashed, and on a real one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod crash;
mod damage;
mod follower_crash;
mod following;
mod journal;
mod leading;
mod pair;
mod support;
