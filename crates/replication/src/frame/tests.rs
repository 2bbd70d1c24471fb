//! The codec: golden bytes, round trips, and bytes that are no frames.
