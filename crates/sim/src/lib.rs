//! Deterministic simulation of a leader and its followers: the cores that production runs, over virtual time, disks and
//! network, with what must always hold checked after every event.
//!
//! Everything follows from a seed. No thread, clock, socket, environment or order of a hash map reaches a run; a test
//! runs seeds twice and compares the hashes of what happened. The command line lives in `main.rs`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod check;
pub mod clients;
pub mod journal;
pub mod ledger;
pub mod mutation;
pub mod network;
pub mod node;
mod operator;
pub mod plan;
pub mod random;
pub mod run;
pub mod schedule;
pub mod sight;
pub mod trace;
mod traffic;
pub mod watch;
pub mod world;
