//! SIGTERM and SIGINT: the first asks the node to stop, the second ends the process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// The signals of this process, caught from the moment this is made.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the first signal. From then on another one ends the process at once, as an uncaught one would.
    pub(crate) async fn first(mut self) {
        let (name, _) = self.next().await;
        info!(signal = name, "stopping; a second signal stops at once");
        tokio::spawn(async move {
            let (name, code) = self.next().await;
            warn!(signal = name, "stopped before everything was flushed");
            std::process::exit(code);
        });
    }

    /// The next signal's name and the exit code that tells of it.
    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", 128 + 15),
            _ = self.interrupt.recv() => ("SIGINT", 128 + 2),
        }
    }
}
