//! The sync journal of a process, used as the broker uses it: small appends go through it, a checkpoint leaves nothing in it.

use std::io;

use chronik_log::dir::DataDir;
use chronik_log::{CommitError, FlushJob, SyncJournal, SyncJournalLimits};
use chronik_model::TopicId;
use chronik_replication::Replica;

use super::slot::Slot;
use crate::mutation::Mutation;
use crate::plan::Plan;
use crate::random::Random;

/// Small, so that its files are filled, released and filled again within a run.
const LIMITS: SyncJournalLimits =
    SyncJournalLimits { file_bytes: 32 << 10, record_bytes: 8 << 10, entry_bytes: 2 << 10 };
/// From how many segments on a release syncs the file system.
const SYNC_ALL_FROM: usize = 2;

/// Where small appends become durable.
#[derive(Debug, Default)]
pub(super) struct GroupCommit {
    journal: Option<SyncJournal>,
    mutation: Option<Mutation>,
}

impl GroupCommit {
    pub(super) fn new(dir: &DataDir, plan: &Plan) -> Self {
        let journal = (plan.fsync && plan.journal).then(|| dir.sync_journal(LIMITS));
        Self { journal, mutation: plan.mutation }
    }

    /// Makes durable what a job is about, and tells how that ended; nothing where the job is to be run.
    pub(super) fn commit(&mut self, replica: &Replica<u64>, job: &FlushJob) -> Option<io::Result<()>> {
        let journal = self.journal.as_mut()?;
        // In the broker a cut waits for the group commit that is under way.
        if !replica.log().expects(job) || !journal.add(TopicId::ZERO, replica.log().topic_partition(), job) {
            return None;
        }
        match journal.commit() {
            Ok(_) => Some(Ok(())),
            Err(CommitError::Write(_)) => None,
            Err(CommitError::Sync(error)) => Some(Err(error)),
        }
    }

    /// What a thread of its own does in the broker, sooner or later.
    pub(super) fn attend(&mut self, dir: &DataDir, slots: &mut [Slot], random: &mut Random) -> io::Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if let Some(wanted) = journal.wanted() {
            // Where it cannot be made, it is done without.
            let _ = journal.prepared(wanted.run());
        }
        if journal.is_full()
            && random.one_in(3)
            && let Some(release) = journal.full()
        {
            if let Err(error) = release.run(dir, SYNC_ALL_FROM).and_then(|()| none_failed(slots, self.mutation)) {
                return Err(failed(journal, slots, error));
            }
            let _ = journal.released(&release);
        }
        Ok(())
    }

    /// Syncs what the journal has where it lies, and lets nothing in it count any more; with `close` for good.
    pub(super) fn empty(&mut self, close: bool, dir: &DataDir, slots: &mut [Slot]) -> io::Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if self.mutation == Some(Mutation::JournalKept) && !close {
            return Ok(());
        }
        let release = journal.everything();
        if let Err(error) = release.run(dir, SYNC_ALL_FROM).and_then(|()| none_failed(slots, self.mutation)) {
            return Err(failed(journal, slots, error));
        }
        journal.synced(&release);
        if close { journal.close() } else { journal.renew() }?;
        slots.iter_mut().for_each(|slot| slot.replica.log_mut().released());
        Ok(())
    }
}

/// A sync that succeeds after one that failed proves nothing.
fn none_failed(slots: &[Slot], mutation: Option<Mutation>) -> io::Result<()> {
    if mutation != Some(Mutation::ReleaseTrusted) && slots.iter().any(|slot| slot.replica.log().sync_failed()) {
        return Err(io::Error::other("a sync of a log failed before"));
    }
    Ok(())
}

fn failed(journal: &mut SyncJournal, slots: &mut [Slot], error: io::Error) -> io::Error {
    journal.fail();
    slots.iter_mut().for_each(|slot| slot.replica.log_mut().fail(&error));
    error
}
