//! One group commit: what of it goes through the sync journal, what is synced by file, and what by file system.
//!
//! A few bytes of a segment go into the journal's next record, together with those of all other partitions: one sync covers
//! them. Whatever else there is (large appends, new files) is synced where it lies, several files at once, or from a few on
//! by one `syncfs`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Weak};

use chronik_log::dir::{DataDir, SYNC_ALL_MIN};
use chronik_log::{CommitError, FlushJob, Preparation, Prepared, Release, SyncJournal};
use chronik_model::{PartitionIndex, TopicId};

use super::partition::Partition;
use super::syncers::{Syncers, told};

type Jobs = Vec<(Arc<Partition>, FlushJob)>;

/// Syncs, one round at a time. Held from the cutting of the jobs until every outcome is told: the system tells a failed
/// write-back once for each open file, so of two threads that sync the same one the other hears of a success. A round's
/// jobs have no file in common. What is released is synced meanwhile, through handles of its own.
#[derive(Debug, Default)]
pub(super) struct Round {
    syncers: Arc<Syncers>,
    journal: Option<SyncJournal>,
    /// Those that the journal may have bytes of.
    journaled: HashMap<(TopicId, PartitionIndex), Weak<Partition>>,
}

impl Round {
    pub(super) fn syncers(&self) -> Arc<Syncers> {
        Arc::clone(&self.syncers)
    }

    /// Lets rounds go through a journal from now on.
    pub(super) fn use_journal(&mut self, journal: SyncJournal) {
        self.journal = Some(journal);
    }

    /// Makes everything appended to `partitions` before the call durable, in the journal or where it lies, and tells them.
    /// Returns how many bytes went into the journal.
    pub(super) fn commit(&mut self, partitions: &VecDeque<Arc<Partition>>, dir: &DataDir) -> usize {
        let jobs = taken(partitions);
        let (rest, journaled_bytes) = self.through_journal(jobs, dir);
        self.in_place(rest, dir);
        journaled_bytes
    }

    /// Makes everything appended to `partitions` before the call durable where it lies, and tells them.
    pub(super) fn flush(&mut self, partitions: &VecDeque<Arc<Partition>>, dir: &DataDir) {
        self.in_place(taken(partitions), dir);
    }

    fn in_place(&self, jobs: Jobs, dir: &DataDir) {
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

    /// Commits what fits the journal; returns the rest, and how many bytes the journal took.
    fn through_journal(&mut self, jobs: Jobs, dir: &DataDir) -> (Jobs, usize) {
        let Some(journal) = &mut self.journal else { return (jobs, 0) };
        let (journaled, mut rest): (Jobs, Jobs) =
            jobs.into_iter().partition(|(partition, job)| journal.add(partition.id().topic_id, partition.name(), job));
        let written = match journal.commit() {
            Ok(bytes) => {
                for (partition, job) in journaled {
                    let id = partition.id();
                    self.journaled.entry((id.topic_id, id.partition)).or_insert_with(|| Arc::downgrade(&partition));
                    partition.flushed(job.journaled(), Ok(()));
                }
                bytes
            }
            Err(error @ CommitError::Write(_)) => {
                tracing::warn!(%error, "partitions are synced one by one until the next checkpoint");
                rest.extend(journaled);
                0
            }
            Err(CommitError::Sync(error)) => {
                forget_written(dir);
                for (partition, job) in journaled {
                    partition.flushed(job, Err(io::Error::other(error.to_string())));
                }
                0
            }
        };
        (rest, written)
    }

    // ---- release --------------------------------------------------------------------------------------------------

    /// Whether there is something for [`Round::wanted`] or [`Round::full`].
    pub(super) fn wants_attention(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.is_wanted() || journal.is_full())
    }

    /// The journal's files, where they have to be made. To be run without the round.
    pub(super) fn wanted(&mut self) -> Option<Preparation> {
        self.journal.as_mut()?.wanted()
    }

    /// Takes them over.
    pub(super) fn prepared(&mut self, made: io::Result<Prepared>) {
        if let Some(Err(error)) = self.journal.as_mut().map(|journal| journal.prepared(made)) {
            tracing::warn!(%error, "sync journal cannot be made, partitions are synced one by one until the next checkpoint");
        }
    }

    /// What has to be synced so that the journal's full file can be filled anew. To be run without the round.
    pub(super) fn full(&self) -> Option<Release> {
        self.journal.as_ref().filter(|journal| journal.is_full())?.full()
    }

    /// Takes back what ran; the journal's file is filled anew. `false` where it cannot be.
    pub(super) fn released(&mut self, release: &Release, outcome: io::Result<()>, dir: &DataDir) -> bool {
        if self.synced(release, outcome, dir).is_err() {
            return false;
        }
        match self.journal.as_mut().map(|journal| journal.released(release)) {
            Some(Err(error)) => {
                tracing::warn!(%error, "sync journal cannot be filled anew, partitions are synced one by one until the next checkpoint");
                false
            }
            _ => true,
        }
    }

    /// Everything that the journal has, to be synced where it lies. To be run without the round, where that can be.
    pub(super) fn everything(&self) -> Option<Release> {
        self.journal.as_ref().map(SyncJournal::everything)
    }

    /// Takes back what ran.
    pub(super) fn synced(&mut self, release: &Release, outcome: io::Result<()>, dir: &DataDir) -> io::Result<()> {
        if let Err(error) = outcome.and_then(|()| self.none_failed(release)) {
            self.release_failed(release, &error, dir);
            return Err(error);
        }
        if let Some(journal) = &mut self.journal {
            journal.synced(release);
        }
        Ok(())
    }

    /// An error where one of the logs was told by a sync of its own that bytes are lost: a later sync of the same file does
    /// not say it again. Whoever syncs holds the round or the log, so all have told.
    fn none_failed(&self, release: &Release) -> io::Result<()> {
        let failed =
            |id| self.journaled.get(&id).and_then(Weak::upgrade).is_some_and(|partition| partition.sync_failed());
        match release.partitions().find(|id| failed(*id)) {
            Some((_, index)) => Err(io::Error::other(format!("a sync of partition {index} failed before"))),
            None => Ok(()),
        }
    }

    /// Its partitions are offline, and what the journal has stays for the next start.
    fn release_failed(&mut self, release: &Release, error: &io::Error, dir: &DataDir) {
        forget_written(dir);
        if let Some(journal) = &mut self.journal {
            journal.fail();
        }
        let failed: HashSet<_> = release.partitions().collect();
        for id in failed {
            if let Some(partition) = self.journaled.get(&id).and_then(Weak::upgrade) {
                partition.fail_sync(error);
            }
        }
    }

    /// Syncs what the journal has where it lies, and lets nothing in it count any more; with `close` for good.
    pub(super) fn empty_journal(&mut self, close: bool, dir: &DataDir) -> io::Result<()> {
        let Some(release) = self.everything() else { return Ok(()) };
        self.synced(&release, release.run(dir, SYNC_ALL_MIN), dir)?;
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if close { journal.close() } else { journal.renew() }?;
        for partition in self.journaled.drain().filter_map(|(_, partition)| partition.upgrade()) {
            partition.with_log(|log| log.released());
        }
        Ok(())
    }
}

/// The jobs of some partitions. One that a checkpoint flushed while it was listed may be listed again: its file must not be
/// synced by two.
fn taken(partitions: &VecDeque<Arc<Partition>>) -> Jobs {
    let mut taken = HashSet::new();
    partitions
        .iter()
        .filter(|partition| taken.insert(Arc::as_ptr(partition)))
        .filter_map(|partition| Some((Arc::clone(partition), partition.take_flush_job()?)))
        .collect()
}

/// What the page cache has after a sync that failed is nobody's to vouch for.
pub(super) fn forget_written(dir: &DataDir) {
    if let Err(error) = dir.forget_written() {
        tracing::error!(%error, "after a failed sync the next start may trust the page cache");
    }
}

#[cfg(test)]
mod tests;
