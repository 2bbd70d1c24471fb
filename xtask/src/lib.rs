//! Repository checks: what they look at and the rules they hold it to.
//!
//! The checks themselves run as ordinary tests of this crate (`tests/it`). Commands that write generated files live in
//! the binary beside it.

pub mod dependencies;
pub mod repository;
pub mod tidy;
