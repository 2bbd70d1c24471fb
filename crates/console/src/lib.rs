//! The HTTP side door: metrics, health and the admin API. Owns no state.
//!
//! What is served is asked of the node at every request: a metrics registry and functions of the wiring's. Whoever reaches
//! the port may ask, so the default address is the local host's; `admin` keeps web pages out.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod admin;
mod door;
mod json;
mod routes;

pub use admin::{Promote, Promotion, Replication, Reply};
pub use door::{Console, LIMITS_DEFAULT, Limits};
pub use routes::{OPENAPI, Readiness, State};
