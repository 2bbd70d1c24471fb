//! A replica: the log of one partition together with its role.
//!
//! Invariant, checked after every input: `log_start <= high_watermark <= log_end`, the high watermark never moves
//! back, and it never passes what the durability in force allows.

use std::io;

use chronik_log::{AppendError, Appended, FlushJob, Log, LogConfig};
use chronik_model::{LeaderEpoch, Offset, Timestamp};
use chronik_record::ProducedBatch;

use crate::ack::Parked;

/// What the high watermark counts on this replica (`chronik.durability`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Bytes that an fdatasync has put on stable storage.
    Fsync,
    /// Bytes that were written, which is the guarantee of Apache Kafka.
    PageCache,
}

/// Why an append that was accepted will not be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unacknowledged {
    /// The log failed; the records may or may not be on disk.
    Offline,
    /// The replica was closed: its topic is deleted or the broker stops.
    Closed,
}

/// What the shell is to do after an input.
#[derive(Debug)]
pub enum Effect<T> {
    /// Everything up to the end that `token` waits for is committed.
    Acknowledged(T),
    /// What `token` waits for will not be committed by this replica.
    Refused(T, Unacknowledged),
    /// Consumers may read up to this offset (exclusive). Comes after the new bound is visible to readers.
    HighWatermarkMoved(Offset),
    /// There are bytes that a flush would make count: take a [`Replica::flush_job`].
    FlushWanted,
}

/// One replica of one partition, here always its leader. `T` is what the shell gets back when an append is committed.
#[derive(Debug)]
pub struct Replica<T> {
    log: Log,
    leader_epoch: LeaderEpoch,
    durability: Durability,
    high_watermark: Offset,
    parked: Parked<T>,
    closed: bool,
}

impl<T> Replica<T> {
    /// Leads the partition at `leader_epoch` on a recovered log. Where only durable bytes count the caller has synced
    /// what recovery read; with no other replica all of it is committed.
    pub fn lead(mut log: Log, leader_epoch: LeaderEpoch, durability: Durability) -> Self {
        let high_watermark = log.log_end();
        log.set_high_watermark(high_watermark);
        Self { log, leader_epoch, durability, high_watermark, parked: Parked::new(), closed: false }
    }

    /// The log, for reading its state.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The log, for maintenance that moves neither its end nor the high watermark: retention, checkpoints, deletion
    /// of records. [`Replica::settle`] comes after it.
    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// The epoch this replica leads in.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The first offset not committed (exclusive end).
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// How many acknowledgements wait.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Appends a validated batch. It is written, and not yet durable, when this returns.
    ///
    /// # Errors
    /// As [`Log::append`], or closed; nothing was appended then. An input/output error takes the replica offline, and everything
    /// parked is refused.
    pub fn append(
        &mut self,
        batch: &ProducedBatch,
        now: Timestamp,
        effects: &mut Vec<Effect<T>>,
    ) -> Result<Appended, AppendError> {
        if self.closed {
            return Err(AppendError::Closed);
        }
        match self.log.append(batch, self.leader_epoch, now) {
            Ok(appended) => {
                if !appended.duplicate {
                    self.advance(effects);
                    if self.durability == Durability::Fsync {
                        effects.push(Effect::FlushWanted);
                    }
                }
                Ok(appended)
            }
            Err(error) => {
                if self.log.offline().is_some() {
                    self.refuse_parked(Unacknowledged::Offline, effects);
                }
                Err(error)
            }
        }
    }

    /// Parks `token` until everything before `end` (exclusive) is committed; answers at once where it is already.
    pub fn await_committed(&mut self, end: Offset, token: T, effects: &mut Vec<Effect<T>>) {
        if end <= self.high_watermark {
            effects.push(Effect::Acknowledged(token));
        } else if self.closed {
            effects.push(Effect::Refused(token, Unacknowledged::Closed));
        } else if self.log.offline().is_some() {
            effects.push(Effect::Refused(token, Unacknowledged::Offline));
        } else {
            self.parked.park(end, token);
        }
    }

    /// What is to be synced to make everything written so far durable; `None` where nothing is missing. Run it
    /// without holding the replica, then report to [`Replica::flushed`].
    pub fn flush_job(&self) -> Option<FlushJob> {
        if self.log.offline().is_some() { None } else { self.log.flush_job() }
    }

    /// The outcome of a flush job. A failure takes the replica offline for good: what the disk holds is unknown, and a
    /// second sync that succeeds would prove nothing.
    pub fn flushed(&mut self, job: FlushJob, outcome: io::Result<()>, effects: &mut Vec<Effect<T>>) {
        match outcome {
            Ok(()) => {
                self.log.flushed(job);
                self.advance(effects);
            }
            Err(error) => {
                self.log.fail(&error);
                self.refuse_parked(Unacknowledged::Offline, effects);
            }
        }
    }

    /// Takes new settings for the log and the durability.
    pub fn reconfigure(&mut self, config: LogConfig, durability: Durability, effects: &mut Vec<Effect<T>>) {
        self.log.reconfigure(config);
        self.durability = durability;
        self.advance(effects);
        if durability == Durability::Fsync && self.log.durable_end() < self.log.log_end() {
            effects.push(Effect::FlushWanted);
        }
    }

    /// Refuses what waits where maintenance of the log took it offline.
    pub fn settle(&mut self, effects: &mut Vec<Effect<T>>) {
        if self.log.offline().is_some() {
            self.refuse_parked(Unacknowledged::Offline, effects);
        }
    }

    /// Whether the replica was closed or given up.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Closes the replica and gives its files up: they are about to be removed, and another topic's may take their place.
    pub fn give_up(&mut self, effects: &mut Vec<Effect<T>>) {
        self.log.give_up();
        self.close(effects);
    }

    /// Ends the replica: nothing parked will be committed, and nothing more is accepted. The log can still be closed
    /// cleanly.
    pub fn close(&mut self, effects: &mut Vec<Effect<T>>) {
        self.closed = true;
        self.refuse_parked(Unacknowledged::Closed, effects);
    }

    fn advance(&mut self, effects: &mut Vec<Effect<T>>) {
        let reached = match self.durability {
            Durability::Fsync => self.log.durable_end(),
            Durability::PageCache => self.log.log_end(),
        };
        if reached > self.high_watermark {
            self.high_watermark = reached;
            self.log.set_high_watermark(reached);
            self.parked.release(reached, |token| effects.push(Effect::Acknowledged(token)));
            effects.push(Effect::HighWatermarkMoved(reached));
        }
        self.check_invariants();
    }

    fn refuse_parked(&mut self, cause: Unacknowledged, effects: &mut Vec<Effect<T>>) {
        self.parked.drain(|token| effects.push(Effect::Refused(token, cause)));
    }

    fn check_invariants(&self) {
        let (log_start, log_end) = (self.log.log_start(), self.log.log_end());
        assert!(
            log_start <= self.high_watermark && self.high_watermark <= log_end,
            "high watermark {} outside of the log [{log_start}, {log_end})",
            self.high_watermark
        );
        assert!(
            self.parked.first_end().is_none_or(|end| end > self.high_watermark),
            "an acknowledgement below the high watermark {} is still parked",
            self.high_watermark
        );
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use chronik_log::fs::{Fault, Fs, MemFs};
    use chronik_model::TopicPartition;
    use chronik_record::{BatchBuilder, Compression, TimestampType};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn replica(fs: &Arc<MemFs>, durability: Durability) -> Replica<u32> {
        let fs: Arc<dyn Fs> = Arc::clone(fs) as Arc<dyn Fs>;
        let dir = PathBuf::from("/data/wal/t/0");
        let log = Log::create(fs, dir, TopicPartition::new("t", 0), LogConfig::default(), true).unwrap();
        Replica::lead(log, LeaderEpoch::ZERO, durability)
    }

    fn batch(records: usize) -> ProducedBatch {
        let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, NOW);
        for _ in 0..records {
            builder.append(NOW, Some(b"key"), Some(b"value"), &[]);
        }
        builder.build().unwrap()
    }

    fn flush(replica: &mut Replica<u32>, effects: &mut Vec<Effect<u32>>) {
        let job = replica.flush_job().unwrap();
        let outcome = job.run();
        replica.flushed(job, outcome, effects);
    }

    fn acknowledged(effects: &[Effect<u32>]) -> Vec<u32> {
        effects.iter().filter_map(|e| if let Effect::Acknowledged(token) = e { Some(*token) } else { None }).collect()
    }

    #[test]
    fn with_fsync_the_high_watermark_waits_for_the_flush() {
        let fs = Arc::new(MemFs::new());
        let mut replica = replica(&fs, Durability::Fsync);
        let mut effects = Vec::new();
        let appended = replica.append(&batch(3), NOW, &mut effects).unwrap();
        replica.await_committed(appended.next_offset, 7, &mut effects);
        assert!(matches!(effects.as_slice(), [Effect::FlushWanted]), "{effects:?}");
        assert_eq!(replica.high_watermark(), Offset::ZERO);
        effects.clear();
        flush(&mut replica, &mut effects);
        assert_eq!((acknowledged(&effects), replica.high_watermark()), (vec![7], Offset::new(3)));
        assert!(matches!(effects.last(), Some(Effect::HighWatermarkMoved(to)) if *to == Offset::new(3)));
    }

    #[test]
    fn with_page_cache_an_append_is_committed_at_once() {
        let fs = Arc::new(MemFs::new());
        let mut replica = replica(&fs, Durability::PageCache);
        let mut effects = Vec::new();
        let appended = replica.append(&batch(2), NOW, &mut effects).unwrap();
        replica.await_committed(appended.next_offset, 1, &mut effects);
        assert_eq!((acknowledged(&effects), replica.parked()), (vec![1], 0));
    }

    #[test]
    fn a_flush_covers_only_what_was_written_when_it_was_cut() {
        let fs = Arc::new(MemFs::new());
        let mut replica = replica(&fs, Durability::Fsync);
        let mut effects = Vec::new();
        let first = replica.append(&batch(1), NOW, &mut effects).unwrap();
        replica.await_committed(first.next_offset, 1, &mut effects);
        let job = replica.flush_job().unwrap();
        let second = replica.append(&batch(1), NOW, &mut effects).unwrap();
        replica.await_committed(second.next_offset, 2, &mut effects);
        let outcome = job.run();
        replica.flushed(job, outcome, &mut effects);
        assert_eq!((acknowledged(&effects), replica.parked()), (vec![1], 1));
        flush(&mut replica, &mut effects);
        assert_eq!(acknowledged(&effects), [1, 2]);
    }

    #[test]
    fn a_failed_sync_refuses_everything_parked_and_is_never_tried_again() {
        let fs = Arc::new(MemFs::new());
        let mut replica = replica(&fs, Durability::Fsync);
        let mut effects = Vec::new();
        let appended = replica.append(&batch(1), NOW, &mut effects).unwrap();
        replica.await_committed(appended.next_offset, 9, &mut effects);
        fs.fail_at(0, Fault::Io);
        let job = replica.flush_job().unwrap();
        let outcome = job.run();
        assert!(outcome.is_err(), "the fault was injected");
        effects.clear();
        replica.flushed(job, outcome, &mut effects);
        assert!(matches!(effects.as_slice(), [Effect::Refused(9, Unacknowledged::Offline)]), "{effects:?}");
        fs.heal();
        assert!(replica.flush_job().is_none());
        assert!(replica.append(&batch(1), NOW, &mut effects).is_err());
        effects.clear();
        replica.await_committed(appended.next_offset, 10, &mut effects);
        assert!(matches!(effects.as_slice(), [Effect::Refused(10, Unacknowledged::Offline)]), "{effects:?}");
        assert_eq!(replica.high_watermark(), Offset::ZERO);
    }

    #[test]
    fn maintenance_that_takes_the_log_offline_refuses_what_waits() {
        let fs = Arc::new(MemFs::new());
        let mut replica = replica(&fs, Durability::Fsync);
        let mut effects = Vec::new();
        let appended = replica.append(&batch(1), NOW, &mut effects).unwrap();
        replica.await_committed(appended.next_offset, 4, &mut effects);
        effects.clear();
        replica.settle(&mut effects);
        assert!(effects.is_empty(), "{effects:?}");
        fs.fail_at(0, Fault::Io);
        assert!(replica.log_mut().close_cleanly().is_err());
        replica.settle(&mut effects);
        assert!(matches!(effects.as_slice(), [Effect::Refused(4, Unacknowledged::Offline)]), "{effects:?}");
    }

    #[test]
    fn a_closed_replica_refuses_what_waits_and_what_comes() {
        let fs = Arc::new(MemFs::new());
        let mut replica = replica(&fs, Durability::Fsync);
        let mut effects = Vec::new();
        let appended = replica.append(&batch(1), NOW, &mut effects).unwrap();
        replica.await_committed(appended.next_offset, 1, &mut effects);
        effects.clear();
        replica.close(&mut effects);
        replica.await_committed(appended.next_offset, 2, &mut effects);
        let refused = [Unacknowledged::Closed; 2];
        let causes: Vec<_> = effects
            .iter()
            .filter_map(|e| if let Effect::Refused(_, cause) = e { Some(*cause) } else { None })
            .collect();
        assert_eq!(causes, refused);
    }

    #[test]
    fn a_change_to_page_cache_commits_what_is_written() {
        let fs = Arc::new(MemFs::new());
        let mut replica = replica(&fs, Durability::Fsync);
        let mut effects = Vec::new();
        let appended = replica.append(&batch(4), NOW, &mut effects).unwrap();
        replica.await_committed(appended.next_offset, 5, &mut effects);
        effects.clear();
        replica.reconfigure(LogConfig::default(), Durability::PageCache, &mut effects);
        assert_eq!((acknowledged(&effects), replica.high_watermark()), (vec![5], Offset::new(4)));
    }
}
