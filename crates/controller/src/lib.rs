//! The controller: orders the changes of the metadata, makes them durable, and publishes the image.
//!
//! One node decides, and a change is committed when it is synced there; the journals of its followers are copies, applied
//! as they come. What a change may be is decided in `metadata`; who carries it out (files, partitions) is told through an
//! [`ImageListener`](chronik_metadata::ImageListener). Others see a [`ControllerClient`](chronik_metadata::ControllerClient)
//! and not how many voters there are.

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod controller;
mod error;
mod following;
mod journal;
mod known_leader;
mod leading;
mod published;
mod setup;
mod snapshot;
mod worker;

pub use controller::Controller;
pub use error::JournalError;
pub use setup::{Advertised, OpenError, Setup};
