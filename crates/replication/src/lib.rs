//! One replica of one partition, and the link on which a leader sends its followers what they lack.
//!
//! A core: no thread, clock or socket. Inputs come in, effects go out. The log's files are the one thing touched inline,
//! through the `Fs` seam of `chronik-log`.
//!
//! - [`Replica`]: a log with a role. A leader appends, counts acknowledgements, proposes changes of the ISR and moves the
//!   high watermark; a follower takes what its leader has, at the same offsets and in the same segments.
//! - [`link`]: the two ends of a connection. They know positions, not records.
//! - [`message`] and [`frame`]: what is said, and how it lies in bytes.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod ack;
mod follower;
pub mod frame;
pub mod isr;
pub mod link;
pub mod message;
mod replica;

pub use follower::FollowError;
pub use replica::{Acks, Durability, Effect, Mode, Position, ProduceError, Replica, Settings, Unacknowledged};
