//! Syncs of several files at once: a file system commits together what waits for its journal at the same time, where one after the
//! other would each wait for a commit of their own.
//!
//! A job is run and its outcome told by the same thread. Whoever hands out jobs works on them as well and returns when
//! all are told, so that no more threads than these ever run jobs.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use chronik_log::FlushJob;
use chronik_log::dir::{DataDir, DirError};
use chronik_log::fs::is_out_of_files;
use parking_lot::{Condvar, Mutex};

use super::partition::Partition;
use super::round::forget_written;
use crate::tasks;

/// Threads beside the one that hands out the jobs.
const OTHERS: usize = 3;

/// Jobs and the threads that take them. The jobs are bounded by whoever hands them out.
#[derive(Debug, Default)]
pub(super) struct Syncers {
    state: Mutex<State>,
    wanted: Condvar,
    told: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<(Arc<Partition>, FlushJob)>,
    /// Taken, and their outcomes not told.
    under_way: usize,
    stopping: bool,
}

impl Syncers {
    /// Starts the threads. They end after [`Syncers::stop`].
    pub(super) fn start(self: &Arc<Self>, dir: &Arc<DataDir>) -> io::Result<Vec<JoinHandle<()>>> {
        let begin = |_| {
            let (syncers, dir) = (Arc::clone(self), Arc::clone(dir));
            tasks::thread("syncer", move || syncers.work(&dir))
        };
        (0..OTHERS).map(begin).collect()
    }

    /// Lets the threads end. Jobs handed out later are run by whoever hands them out.
    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.wanted.notify_all();
    }

    /// Runs the jobs and tells the partitions; returns when all are told.
    pub(super) fn run(&self, jobs: Vec<(Arc<Partition>, FlushJob)>, dir: &DataDir) {
        let others = jobs.len().saturating_sub(1).min(OTHERS);
        let mut state = self.state.lock();
        state.jobs.extend(jobs);
        for _ in 0..others {
            self.wanted.notify_one();
        }
        while let Some((partition, job)) = state.jobs.pop_front() {
            drop(state);
            sync(&partition, job, dir);
            state = self.state.lock();
        }
        while state.under_way > 0 {
            self.told.wait(&mut state);
        }
    }

    fn work(&self, dir: &DataDir) {
        let mut state = self.state.lock();
        loop {
            if let Some((partition, job)) = state.jobs.pop_front() {
                state.under_way += 1;
                drop(state);
                sync(&partition, job, dir);
                state = self.state.lock();
                state.under_way -= 1;
                if state.under_way == 0 {
                    self.told.notify_all();
                }
            } else if state.stopping {
                return;
            } else {
                self.wanted.wait(&mut state);
            }
        }
    }
}

/// Runs a job and tells its outcome.
pub(super) fn sync(partition: &Arc<Partition>, job: FlushJob, dir: &DataDir) {
    let outcome = match job.run() {
        // Needs none, and covers what the job would have synced.
        Err(error) if is_out_of_files(&error) => told(&dir.sync_all()),
        outcome => outcome,
    };
    let failed = outcome.is_err();
    if failed {
        forget_written(dir);
    }
    partition.flushed(job, outcome);
    if failed {
        // Whoever wrote down meanwhile what the page cache has may not have seen it yet.
        forget_written(dir);
    }
}

/// The outcome of a sync of the whole directory, as each of those that waited for it is told.
pub(super) fn told(outcome: &Result<(), DirError>) -> io::Result<()> {
    outcome.as_ref().copied().map_err(|error| io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests;
