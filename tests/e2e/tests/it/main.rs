//! The real binary with real clients and faults. One module per promise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests")]

mod bench;
mod codecs;
mod groups;
mod hostile;
mod idle;
mod kill;
mod order;
mod power_cut;
mod recovery;
mod reference;
mod replication;
mod retention;
mod start_stop;
mod tls;
mod walk;
