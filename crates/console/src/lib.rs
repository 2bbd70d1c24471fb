//! The HTTP side door: metrics and health. Owns no state.
