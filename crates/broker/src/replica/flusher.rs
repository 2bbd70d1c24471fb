//! Group commit: one thread turns the appends of all partitions since its last round into few syncs.
//!
//! While a round is under way further appends gather, so the rounds grow with the load.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use chronik_log::SyncJournalLimits;
use chronik_log::dir::DataDir;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::partition::Partition;
use super::releases::{self, Releases};
use super::round::Round;
use super::syncers::Syncers;
use crate::metrics::Metrics;
use crate::tasks;

/// Partitions with bytes to be made durable. Each is listed once at the most, so the list is bounded by the partitions.
#[derive(Debug, Default)]
pub(crate) struct FlushQueue {
    state: Mutex<State>,
    wanted: Condvar,
    round: Mutex<Round>,
}

#[derive(Debug, Default)]
struct State {
    dirty: VecDeque<Arc<Partition>>,
    stopping: bool,
}

impl FlushQueue {
    /// Lists `partition` for the next round.
    pub(crate) fn push(&self, partition: Arc<Partition>) {
        self.state.lock().dirty.push_back(partition);
        self.wanted.notify_one();
    }

    /// Lets the thread end once everything listed is durable.
    pub(crate) fn stop(&self) {
        self.state.lock().stopping = true;
        self.wanted.notify_one();
    }

    fn syncers(&self) -> Arc<Syncers> {
        self.round.lock().syncers()
    }

    /// The right to sync; blocks while somebody else does.
    pub(super) fn round(&self) -> MutexGuard<'_, Round> {
        self.round.lock()
    }

    /// The next round's partitions, or `None` at the end.
    fn next_round(&self) -> Option<VecDeque<Arc<Partition>>> {
        let mut state = self.state.lock();
        while state.dirty.is_empty() {
            if state.stopping {
                return None;
            }
            self.wanted.wait(&mut state);
        }
        Some(std::mem::take(&mut state.dirty))
    }
}

/// Starts the thread.
pub(crate) fn start(queue: Arc<FlushQueue>, dir: Arc<DataDir>, metrics: Arc<Metrics>) -> io::Result<JoinHandle<()>> {
    let syncers = queue.syncers();
    let mut others = syncers.start(&dir)?;
    let releases = Arc::new(Releases::default());
    others.push(releases::start(Arc::clone(&releases), Arc::clone(&queue), Arc::clone(&dir), Arc::clone(&metrics))?);
    queue.round().use_journal(dir.sync_journal(SyncJournalLimits::default()));
    tasks::thread("flusher", move || {
        while let Some(partitions) = queue.next_round() {
            let mut round = queue.round();
            let started = Instant::now();
            metrics.sync_journal_bytes.inc_by(round.commit(&partitions, &dir) as u64);
            metrics.flush_seconds.observe(started.elapsed().as_secs_f64());
            if round.wants_attention() {
                releases.want();
            }
        }
        syncers.stop();
        releases.stop();
        for other in others {
            if other.join().is_err() {
                tracing::error!("a thread that syncs has panicked");
            }
        }
    })
}

#[cfg(test)]
pub(super) mod tests;
