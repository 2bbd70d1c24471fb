//! One connection between two nodes: [`sender`] at the end that dialled and has the records, [`receiver`] at the other.
//!
//! Both are state machines: inputs in, effects out, the time as an argument, a deadline to be called back at. A link holds
//! positions, never records. Order is contract: a shell carries effects out in the order it got them, and feeds
//! frames in the order they came.

mod auth;
mod clock;
mod reason;
pub mod receiver;
pub mod sender;

pub use auth::Secret;
pub use clock::{Pulse, Time, Timing};
pub use reason::Reason;
