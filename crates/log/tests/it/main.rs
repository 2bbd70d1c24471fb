//! The log through its public surface, over the in-memory disk that loses and tears and over the real one.

mod append;
mod crash;
mod damage;
mod follower;
mod idempotence;
mod lookup;
mod model;
mod opening;
mod retention;
mod support;
