//! Group commit: one thread turns the appends of all partitions since its last round into few syncs.
//!
//! While a round is under way further appends gather, so the rounds grow with the load. A few partitions are synced
//! file by file, several at once, so that they share the file system's commits; many by one `syncfs`, whose cost does not
//! grow with their number.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use chronik_log::FlushJob;
use chronik_log::dir::DataDir;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::partition::Partition;
use super::syncers::{Syncers, told};
use crate::metrics::Metrics;
use crate::tasks;

/// From this many syncs on, one sync of the file system is cheaper than one for each file.
pub(super) const SYNC_ALL_MIN: usize = 8;

/// Partitions with bytes to be made durable. Each is listed once at the most, so the list is bounded by the partitions.
#[derive(Debug, Default)]
pub(crate) struct FlushQueue {
    state: Mutex<State>,
    wanted: Condvar,
    round: Mutex<Round>,
}

/// Syncs, one round at a time. Held from the cutting of the jobs until every outcome is told: the system tells a failed
/// write-back once for each open file, so of two threads that sync the same one the other hears of a success. A round's
/// jobs have no file in common.
#[derive(Debug, Default)]
pub(super) struct Round {
    syncers: Arc<Syncers>,
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
        Arc::clone(&self.round.lock().syncers)
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
    let others = syncers.start(&dir)?;
    tasks::thread("flusher", move || {
        while let Some(partitions) = queue.next_round() {
            let mut round = queue.round();
            let started = Instant::now();
            round.flush(&partitions, &dir);
            metrics.flush_seconds.observe(started.elapsed().as_secs_f64());
        }
        syncers.stop();
        for other in others {
            if other.join().is_err() {
                tracing::error!("a thread that syncs has panicked");
            }
        }
    })
}

impl Round {
    /// Makes everything appended to `partitions` before the call durable, and tells them.
    pub(super) fn flush(&mut self, partitions: &VecDeque<Arc<Partition>>, dir: &DataDir) {
        // One that a checkpoint flushed while it was listed may be listed again: its file must not be synced by two.
        let mut taken = HashSet::new();
        let jobs: Vec<(Arc<Partition>, FlushJob)> = partitions
            .iter()
            .filter(|partition| taken.insert(Arc::as_ptr(partition)))
            .filter_map(|partition| Some((Arc::clone(partition), partition.take_flush_job()?)))
            .collect();
        let syncs: usize = jobs.iter().map(|(_, job)| job.syncs()).sum();
        if syncs >= SYNC_ALL_MIN {
            let outcome = dir.sync_all();
            for (partition, job) in jobs {
                partition.flushed(job, told(&outcome));
            }
        } else {
            self.syncers.run(jobs, dir);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
