//! Two nodes with one partition each and a link between them, all in one thread: what a shell does, in a hundred lines.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by stopping")]

mod damage;
mod divergence;
mod handshake;
mod isr;
mod journal;
mod receiver;
mod stream;
mod support;
