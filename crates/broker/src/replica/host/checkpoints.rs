//! What the next start may rely on: checkpoints of what is durable and of what the page cache has, and a clean stop.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use chronik_log::dir::{DirError, SYNC_ALL_MIN};
use chronik_log::{Checkpoint, LogError};
use chronik_model::TopicPartition;
use chronik_replication::Durability;

use super::{CloseError, Lines, ReplicaHost, is_about};
use crate::replica::partition::Partition;
use crate::replica::round::Round;
use crate::replica::syncers;

impl ReplicaHost {
    /// Whether what is written can be told from what a reboot took.
    pub(in crate::replica) fn knows_page_cache(&self) -> bool {
        self.dir.knows_page_cache()
    }

    /// Whether there are logs that do not wait for syncs.
    pub(in crate::replica) fn leaves_some_unsynced(&self) -> bool {
        self.all().iter().any(is_unsynced)
    }

    /// Makes everything durable and writes down from where recovery has to look, before the log of a partition is cut. Blocks.
    ///
    /// # Errors
    /// The disk failed; or the line about `cut` is an earlier one, which may vouch for what is about to go.
    pub(crate) fn write_checkpoint_to_cut(&self, cut: &Arc<Partition>) -> Result<(), LogError> {
        let mut on_file = self.checkpoints.lock();
        let covered = self.metrics.uncheckpointed_bytes();
        let mut stays = None;
        let line = |partition: &Arc<Partition>| match partition.checkpoint() {
            Ok(line) => Some(line),
            Err(error) => {
                tracing::debug!(partition = %partition.name(), %error, "checkpoint stays");
                if Arc::ptr_eq(partition, cut) {
                    stays = Some(error);
                }
                None
            }
        };
        let written = self.sync_in_place().and_then(|()| self.replace_checkpoints(&mut on_file, line));
        written.map_err(|error| LogError::Offline(error.to_string().into()))?;
        self.metrics.checkpointed(covered);
        stays.map_or(Ok(()), Err)
    }

    /// Makes everything durable where it lies, so that nothing in the sync journal counts any more: before a log is cut, or
    /// another one comes to lie where it does. Blocks.
    pub(super) fn sync_in_place(&self) -> Result<(), DirError> {
        self.empty_journal(|round| round.flush(&self.all().into(), &self.dir))
    }

    /// Makes durable where it lies what only the sync journal has durably, and what `flush` does. Blocks.
    fn empty_journal(&self, flush: impl FnOnce(&mut Round)) -> Result<(), DirError> {
        let queue = &self.shared.flush_queue;
        // Most of it while group commits go on.
        let release = queue.round().everything();
        let outcome = release.as_ref().map_or(Ok(()), |release| release.run(&self.dir, SYNC_ALL_MIN));
        let mut round = queue.round();
        let synced = release.map_or(Ok(()), |release| round.synced(&release, outcome, &self.dir));
        flush(&mut round);
        self.emptied(synced.and_then(|()| round.empty_journal(false, &self.dir)))
    }

    fn emptied(&self, outcome: io::Result<()>) -> Result<(), DirError> {
        outcome.map_err(|source| DirError::Io { path: self.dir.wal_dir(), action: "synced", source })
    }

    /// Makes durable what logs have that do not wait for syncs, while others go on with their group commits and with
    /// [`ReplicaHost::write_checkpoints`]. Blocks.
    pub(in crate::replica) fn sync_unsynced(&self) {
        let mut rest = VecDeque::new();
        for partition in self.all().into_iter().filter(is_unsynced) {
            match partition.detached_flush_job() {
                Some(job) => syncers::sync(&partition, job, &self.dir),
                None => rest.push_back(partition),
            }
        }
        self.shared.flush_queue.round().flush(&rest, &self.dir);
    }

    /// Writes down how far each log is written, for a recovery in the life of this page cache, and how far it is durable.
    /// Syncs nothing but what the sync journal has. Returns how many bytes were appended since the last time. Blocks.
    pub(crate) fn write_checkpoints(&self) -> Result<u64, DirError> {
        let mut on_file = self.checkpoints.lock();
        let covered = self.metrics.uncheckpointed_bytes();
        self.empty_journal(|_| ())?;
        let mut written = Lines::new();
        let mut vouched_for = Vec::new();
        let mut moved = false;
        for topic in self.registry.load().by_name.values() {
            for (index, partition) in (0..).zip(&topic.partitions) {
                let Some(partition) = partition else { continue };
                let name = TopicPartition::new(Arc::clone(&topic.name), index);
                let known = on_file.get(&name).filter(|line| is_about(line, topic.id));
                let known = known.map(|line| (line.log_start, line.recovery_point));
                let (durable, line) =
                    partition.with_log(|log| ((log.log_start(), log.recovery_point()), log.written_checkpoint()));
                moved |= known != Some(durable);
                match line {
                    Ok(Some(line)) => {
                        written.insert(name, Checkpoint { topic_id: Some(topic.id), ..line });
                        vouched_for.push(Arc::clone(partition));
                    }
                    Ok(None) => {}
                    Err(error) => tracing::debug!(partition = %partition.name(), %error, "checkpoint stays"),
                }
            }
        }
        if moved {
            self.replace_checkpoints(&mut on_file, |partition| partition.checkpoint().ok())?;
        }
        self.dir.write_written(&written)?;
        if vouched_for.iter().any(|partition| partition.sync_failed()) {
            // A sync beside this has failed since the line was made.
            self.dir.forget_written()?;
        }
        self.metrics.checkpointed(covered);
        Ok(covered)
    }

    /// Writes a line for each partition: what `cut` gives, else what is on file. A partition that is offline, or could not be
    /// opened, must not become one that nothing is known of: its missing files would be begun anew and damage at its
    /// end be cut.
    fn replace_checkpoints(
        &self,
        on_file: &mut Lines,
        mut cut: impl FnMut(&Arc<Partition>) -> Option<Checkpoint>,
    ) -> Result<(), DirError> {
        let mut lines = Lines::new();
        for topic in self.registry.load().by_name.values() {
            for (index, partition) in (0..).zip(&topic.partitions) {
                let name = TopicPartition::new(Arc::clone(&topic.name), index);
                let line = partition.as_ref().and_then(&mut cut).or_else(|| {
                    let known = on_file.get(&name).filter(|line| is_about(line, topic.id))?;
                    // What was deleted by request while the log was online stays deleted.
                    let log_start = partition.as_ref().map(|partition| partition.reader().bounds().log_start);
                    Some(Checkpoint { log_start: known.log_start.max(log_start.unwrap_or_default()), ..*known })
                });
                lines.extend(line.map(|line| (name, Checkpoint { topic_id: Some(topic.id), ..line })));
            }
        }
        self.dir.write_checkpoint(&lines)?;
        *on_file = lines;
        Ok(())
    }

    /// Closes every log cleanly, so that the next start reads nothing. Blocks.
    ///
    /// # Errors
    /// A log could not be closed; the stop is then not marked clean.
    pub fn close_all(&self) -> Result<(), CloseError> {
        let mut on_file = self.checkpoints.lock();
        let mut failed = None;
        // Closing a log syncs it as well.
        let mut round = self.shared.flush_queue.round();
        round.flush(&self.all().into(), &self.dir);
        let emptied = self.emptied(round.empty_journal(true, &self.dir));
        let written = self.replace_checkpoints(&mut on_file, |partition| {
            let closed = partition.with_log(|log| log.close_cleanly());
            partition.close();
            closed
                .map_err(|error| {
                    tracing::error!(partition = %partition.name(), %error, "log cannot be closed cleanly");
                    failed = Some(error);
                })
                .ok()
        });
        if failed.is_some() {
            self.dir.forget_written()?;
        }
        drop(round);
        self.shared.flush_queue.stop();
        emptied?;
        written?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        self.dir.mark_clean_stop()?;
        Ok(())
    }
}

/// Whether a partition counts what is written, and does not wait for syncs.
fn is_unsynced(partition: &Arc<Partition>) -> bool {
    partition.settings().replica.durability == Durability::PageCache
}
