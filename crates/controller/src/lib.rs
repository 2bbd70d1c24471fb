//! The controller: orders the changes of the metadata, makes them durable, and publishes the image.
//!
//! A quorum of one: the journal is a log of this node alone, and a change is committed when it is synced. What a change
//! may be is decided in `metadata`; who carries it out (files, partitions) is told through an
//! [`ImageListener`](chronik_metadata::ImageListener). Others see a [`ControllerClient`](chronik_metadata::ControllerClient)
//! and not how many voters there are.

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod controller;
mod journal;
mod snapshot;
mod worker;

pub use controller::{Controller, OpenError, Setup};
pub use journal::JournalError;
