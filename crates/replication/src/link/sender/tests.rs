//! A sender and what it says.
