//! The HTTP side door: metrics and health. Owns no state.
//!
//! What is served is asked of the node at every request: a readiness function and a metrics registry. Nothing here
//! changes anything, so nothing asks who is calling; the default address is the local host's.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod door;
mod routes;

pub use door::{Console, LIMITS_DEFAULT, Limits};
pub use routes::{Readiness, State};
