//! The Kafka server: connections, one file per API, the replicas and the coordinators of this node.
//!
//! A shell: it moves bytes, time and decisions between the network and the cores. What a batch, a log, a group or the
//! metadata is, is decided below; what a process is, above.

#![deny(unsafe_code)]

mod api;
mod clock;
mod connection;
mod coordinator_host;
mod error_code;
mod fetch_session;
mod forward;
#[cfg(test)]
mod hooked_fs;
mod look_ups;
mod metrics;
mod producer_ids;
mod replica;
pub mod replication;
mod server;
mod settings;
mod tasks;

pub use api::{SERVED, ServedApi};
pub use clock::Clock;
pub use metrics::Metrics;
pub use replica::{CloseError, OpenError, Opened, ReplicaHost};
pub use server::{Operator, Parts, RunningBroker, ThisNode, start};
