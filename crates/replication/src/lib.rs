//! One replica of one partition, and the link on which a leader sends its followers what they lack.
//!
//! A core: no thread, clock or socket. Inputs come in, effects go out. The log's files are the one thing touched inline,
//! through the `Fs` seam of `chronik-log`.
//!
//! - [`Replica`]: a log with a role. A leader appends, counts acknowledgements, proposes changes of the ISR and moves the
//!   high watermark; a follower takes what its leader has, at the same offsets and in the same segments.
//! - [`link`]: the two ends of a connection. They know positions, not records.
//! - [`message`] and [`frame`]: what is said, and how it lies in bytes.
//!
//! # What a shell does
//!
//! - A sender is given every partition once ([`link::sender::Input::Partition`]), again when its leader epoch changes, and
//!   [`link::sender::Input::Moved`] whenever log end, high watermark or log start moved. The reads it asks for are
//!   [`link::sender::read`] and [`link::sender::compare_tail`]; their answers may be given within the same turn.
//! - `Attached` and `Acked` of a sender go to [`Replica::follower_attached`] and [`Replica::acked`] with a number of the
//!   connection that no other connection has; its end is [`Replica::follower_detached`] for every partition.
//! - Where this node's own journal decides on the ISR, a change is told with [`Replica::assign_in_journal`], and
//!   `JournalAcked` of every sender goes to [`Replica::journal_acked`] of every partition.
//! - A receiver is told with [`link::receiver::Input::Generation`] whom another one was established with.
//! - `Append`, `Progress`, `Attach`, `Truncate` and `Reset` of a receiver go to the replica's methods of these names, in
//!   order. Between the `prepare_` half of a cut and the cut a checkpoint is written. An error becomes `Failed` with
//!   [`FollowError::reason`]; growth and finished flushes become `Advanced`, and `Settled` follows when a burst is over.
//! - A log that a power cut left with a hole ([`chronik_log::Log::first_lost`]) is cut there before its replica leads others
//!   or follows: `prepare_cut`, a checkpoint, `cut_aside`.
//! - A node that begins to lead after anything but a clean stop does so in a higher leader epoch.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod ack;
mod follower;
pub mod frame;
pub mod isr;
mod leader;
pub mod link;
pub mod message;
mod replica;

pub use follower::FollowError;
pub use replica::{Acks, Durability, Effect, Mode, Position, ProduceError, Replica, Settings, Unacknowledged};
