//! The real binary with real clients and faults.
