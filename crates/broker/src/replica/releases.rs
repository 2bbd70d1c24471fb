//! Makes the sync journal's files where they are first wanted, and frees them: syncs the segments that a full one has bytes of,
//! while group commits go on in the other.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use chronik_log::dir::{DataDir, SYNC_ALL_MIN};
use parking_lot::{Condvar, Mutex};

use super::flusher::FlushQueue;
use crate::metrics::Metrics;
use crate::tasks;

/// Wakes the thread.
#[derive(Debug, Default)]
pub(super) struct Releases {
    state: Mutex<State>,
    wanted: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wanted: bool,
    stopping: bool,
}

impl Releases {
    /// Files of the journal are missing, or one is full.
    pub(super) fn want(&self) {
        self.state.lock().wanted = true;
        self.wanted.notify_one();
    }

    /// Lets the thread end.
    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.wanted.notify_one();
    }

    /// Waits until there is something to do; `false` at the end.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.wanted && !state.stopping {
            self.wanted.wait(&mut state);
        }
        state.wanted = false;
        !state.stopping
    }
}

/// Starts the thread.
pub(super) fn start(
    releases: Arc<Releases>,
    queue: Arc<FlushQueue>,
    dir: Arc<DataDir>,
    metrics: Arc<Metrics>,
) -> io::Result<JoinHandle<()>> {
    tasks::thread("releases", move || {
        while releases.wait() {
            let wanted = queue.round().wanted();
            if let Some(wanted) = wanted {
                let made = wanted.run();
                queue.round().prepared(made);
            }
            loop {
                let Some(release) = queue.round().full() else { break };
                let outcome = release.run(&dir, SYNC_ALL_MIN);
                if !queue.round().released(&release, outcome, &dir) {
                    break;
                }
                metrics.sync_journal_releases.inc();
            }
        }
    })
}
