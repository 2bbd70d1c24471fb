//! One replica of one partition: its log, its role, the high watermark and the acknowledgements that wait for it.
//!
//! A core: no thread, clock or socket. Appends and finished flushes come in, effects go out. The log's files are the
//! one thing touched inline, through the `Fs` seam of `chronik-log`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod ack;
mod replica;

pub use replica::{Durability, Effect, Replica, Unacknowledged};
