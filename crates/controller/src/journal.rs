//! The records of the metadata on disk: a log of record batches, and a snapshot that keeps its replay short.
//!
//! One decision is one batch, so a torn write loses a decision whole. A new snapshot is durable before the log below it
//! is given up.

use std::path::PathBuf;
use std::sync::Arc;

use chronik_log::fs::Fs;
use chronik_log::{AppendError, Damage, Log, LogConfig, LogError, ReadBound, ReadError, RecoveryError, checkpoint};
use chronik_metadata::{ApplyError, Builder, Image, Record, RecordError};
use chronik_model::{LeaderEpoch, Offset, Timestamp, TopicPartition, Uuid};
use chronik_record::{
    BatchBuilder, BatchHeader, BuildError, Caps, Compression, HEADER_BYTES, RecordsError, TimestampType,
};

use crate::snapshot;

/// Kafka's name for the metadata log.
const JOURNAL: &str = "__cluster_metadata";
/// A segment of the journal.
const SEGMENT_BYTES: u32 = 16 * 1024 * 1024;
/// One decision; a larger one is refused.
const DECISION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// After so many bytes of records a snapshot is due.
const SNAPSHOT_EVERY_BYTES: u64 = 2 * 1024 * 1024;
/// Bytes of the log read at once.
const READ_BYTES: usize = 1024 * 1024;

/// The journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk failed.
    #[error("cannot access {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The log cannot be opened.
    #[error("metadata journal: {0}")]
    Recovery(#[from] RecoveryError),
    /// A part of the log was written once and cannot be read any more.
    #[error("metadata journal is damaged: {0}; restore the file from a backup, nothing was changed")]
    Damaged(Damage),
    /// Records that were committed once are not in the log any more.
    #[error(
        "metadata journal {} is damaged: it holds offsets {log_start} to {log_end} exclusive, the snapshot goes on at \
         {wanted}; restore the directory from a backup, nothing was changed",
        dir.display()
    )]
    Missing {
        /// The journal's directory.
        dir: PathBuf,
        /// First offset in the log, inclusive.
        log_start: Offset,
        /// End of the log, exclusive.
        log_end: Offset,
        /// First offset that is not in the snapshot.
        wanted: Offset,
    },
    /// The log refused a change.
    #[error("metadata journal: {0}")]
    Log(#[from] LogError),
    /// The log cannot be read.
    #[error("metadata journal: {0}")]
    Read(#[from] ReadError),
    /// The log refused an append.
    #[error("metadata journal: {0}")]
    Append(#[from] AppendError),
    /// A batch cannot be read.
    #[error(
        "metadata journal {} is damaged at offset {offset}: {reason}; restore the file from a backup, nothing was changed",
        file.display()
    )]
    Batch {
        /// The segment.
        file: PathBuf,
        /// Offset of the batch.
        offset: Offset,
        /// What is wrong.
        reason: String,
    },
    /// A record cannot be understood.
    #[error("metadata journal {} at offset {offset}: {source}", file.display())]
    Record {
        /// The segment.
        file: PathBuf,
        /// The record's offset.
        offset: Offset,
        /// What is wrong.
        source: RecordError,
    },
    /// A record contradicts those before it.
    #[error("metadata journal {} at offset {offset}: {source}", file.display())]
    Contradiction {
        /// The segment.
        file: PathBuf,
        /// The record's offset.
        offset: Offset,
        /// What is wrong.
        source: ApplyError,
    },
    /// The snapshot cannot be read.
    #[error(
        "metadata snapshot {} is damaged at position {position}: {reason}; restore the file from a backup, nothing was \
         changed",
        file.display()
    )]
    Snapshot {
        /// The file.
        file: PathBuf,
        /// Where its batch begins.
        position: usize,
        /// What is wrong.
        reason: String,
    },
    /// The snapshot would be larger than can be read back.
    #[error("metadata snapshot of {size_bytes} bytes is larger than {limit_bytes}")]
    SnapshotTooLarge {
        /// Its size.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// A record cannot be written.
    #[error("metadata record cannot be written: {0}")]
    Encode(#[from] RecordError),
    /// The records of one decision do not make a batch.
    #[error("metadata records cannot be put into a batch: {0}")]
    Build(#[from] BuildError),
    /// The records of one decision are too many.
    #[error("the change needs {size_bytes} bytes of metadata, more than {DECISION_BYTES_MAX} at once are refused")]
    DecisionTooLarge {
        /// Their size.
        size_bytes: usize,
    },
}

impl JournalError {
    /// Whether the journal is as it was: nothing of what was to be written has been.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Encode(_) | Self::Build(_) | Self::DecisionTooLarge { .. })
    }
}

/// The journal of one node.
#[derive(Debug)]
pub(crate) struct Journal {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    log: Log,
    leader_epoch: LeaderEpoch,
    bytes_since_snapshot: u64,
}

impl Journal {
    /// Opens or creates the journal in `dir` and replays it.
    pub(crate) fn open(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        leader_epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<(Self, Image), JournalError> {
        let io = |source| JournalError::Io { file: dir.clone(), source };
        let name = TopicPartition::new(JOURNAL, 0);
        let config = LogConfig { segment_bytes: SEGMENT_BYTES, delete_on_retention: false, ..LogConfig::default() };
        let log = if fs.exists(&dir).map_err(io)? {
            let known = checkpoint::read(fs.as_ref(), &dir).map_err(io)?.and_then(|mut all| all.remove(&name));
            let (mut log, recovered) = Log::open(Arc::clone(&fs), dir.clone(), name, config, known, false, now)?;
            if let Some(damage) = recovered.damage.into_iter().next() {
                return Err(JournalError::Damaged(damage));
            }
            if recovered.truncated_bytes > 0 {
                tracing::warn!(
                    bytes = recovered.truncated_bytes,
                    "torn tail of the metadata journal cut: the last change before the crash was never answered"
                );
            }
            log.flush()?;
            log
        } else {
            Log::create(Arc::clone(&fs), dir.clone(), name, config, true)?
        };
        let mut journal = Self { fs, dir, log, leader_epoch, bytes_since_snapshot: 0 };
        let image = journal.replay()?;
        Ok((journal, image))
    }

    /// Records the cluster in a journal that is new, and refuses one of another cluster.
    pub(crate) fn claim(&mut self, image: Image, cluster_id: Uuid, now: Timestamp) -> Result<Image, ClaimError> {
        let record = Record::Cluster { id: cluster_id };
        let mut builder = Builder::new(&image);
        builder.apply(&record)?;
        if image.cluster_id() == cluster_id {
            return Ok(image);
        }
        self.append(&[record], now)?;
        self.sync()?;
        Ok(builder.finish(self.end()).0)
    }

    /// End of the journal, exclusive.
    pub(crate) fn end(&self) -> Offset {
        self.log.log_end()
    }

    /// Writes the records of one decision. They are durable after the next [`Journal::sync`].
    pub(crate) fn append(&mut self, records: &[Record], now: Timestamp) -> Result<(), JournalError> {
        let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, now);
        for record in records {
            builder.append(now, None, Some(&record.to_json()?), &[]);
        }
        let batch = builder.build()?;
        let size_bytes = batch.bytes().len();
        if size_bytes > DECISION_BYTES_MAX {
            return Err(JournalError::DecisionTooLarge { size_bytes });
        }
        self.log.append(&batch, self.leader_epoch, now)?;
        self.bytes_since_snapshot = self.bytes_since_snapshot.saturating_add(size_bytes as u64);
        Ok(())
    }

    /// Makes everything appended durable.
    pub(crate) fn sync(&mut self) -> Result<(), JournalError> {
        self.log.flush()?;
        self.log.set_high_watermark(self.log.durable_end());
        Ok(())
    }

    /// Writes a snapshot where one is due, and gives up the log before it.
    pub(crate) fn compact(&mut self, image: &Image, now: Timestamp) -> Result<(), JournalError> {
        if self.bytes_since_snapshot < SNAPSHOT_EVERY_BYTES {
            return Ok(());
        }
        // Also where it fails: trying again after every command would make each one slow.
        self.bytes_since_snapshot = 0;
        snapshot::write(self.fs.as_ref(), &self.dir, image, now)?;
        self.log.delete_records_before(image.offset())?;
        // Before any file goes: a recovery that looked for it would call it missing.
        self.write_checkpoint()?;
        self.log.apply_retention(now)?;
        Ok(())
    }

    /// Writes down how far the journal is durable, so that damage of it is not taken for a torn tail.
    pub(crate) fn close(&mut self) -> Result<(), JournalError> {
        self.log.flush()?;
        self.write_checkpoint()
    }

    fn write_checkpoint(&mut self) -> Result<(), JournalError> {
        let known = self.log.checkpoint()?;
        let name = self.log.topic_partition().clone();
        checkpoint::write(self.fs.as_ref(), &self.dir, [(&name, &known)])
            .map_err(|source| JournalError::Io { file: self.dir.join(checkpoint::CHECKPOINT_FILE), source })
    }

    fn replay(&mut self) -> Result<Image, JournalError> {
        let mut builder = Builder::new(&Image::default());
        let mut from = snapshot::read(self.fs.as_ref(), &self.dir, &mut builder)?;
        let reader = self.log.reader();
        let bounds = reader.bounds();
        let (log_start, log_end) = (bounds.log_start, bounds.log_end);
        if log_start > from || log_end < from {
            return Err(JournalError::Missing { dir: self.dir.clone(), log_start, log_end, wanted: from });
        }
        while from < log_end {
            let slice = reader.read(from, ReadBound::LogEnd, READ_BYTES, true)?;
            let bytes = slice.read().map_err(|source| JournalError::Io { file: self.dir.clone(), source })?;
            let before = from;
            let mut rest = bytes.as_slice();
            while rest.len() >= HEADER_BYTES {
                let header = BatchHeader::read(rest).map_err(|error| self.unreadable(from, error))?;
                // The last batch of a read may be cut; it comes whole with the next one.
                let Some((batch, behind)) = rest.split_at_checked(header.size_bytes()) else { break };
                // Base offset and leader epoch lie outside of the batch's checksum. A snapshot ends between batches.
                if header.next_offset() > from
                    && (header.base_offset != from || header.partition_leader_epoch != self.leader_epoch)
                {
                    return Err(self.unreadable(from, "the batch does not continue the journal"));
                }
                self.replay_batch(batch, from, &mut builder)?;
                self.bytes_since_snapshot = self.bytes_since_snapshot.saturating_add(batch.len() as u64);
                from = from.max(header.next_offset());
                rest = behind;
            }
            if from == before {
                return Err(self.unreadable(from, "no batch where one must be"));
            }
        }
        self.log.set_high_watermark(log_end);
        Ok(builder.finish(log_end).0)
    }

    /// Applies the records of a batch from the offset `from` on; those before are in the snapshot.
    fn replay_batch(&self, batch: &[u8], from: Offset, builder: &mut Builder) -> Result<(), JournalError> {
        if !chronik_record::crc_is_valid(batch) {
            return Err(self.unreadable(from, "a checksum is wrong"));
        }
        let bad = |error: RecordsError| self.unreadable(from, error);
        let mut records = chronik_record::records(batch, &Caps::default()).map_err(bad)?;
        while let Some(record) = records.next_record().map_err(bad)? {
            if record.offset < from {
                continue;
            }
            let offset = record.offset;
            let record = Record::from_json(record.value.bytes().unwrap_or_default())
                .map_err(|source| JournalError::Record { file: self.file_of(offset), offset, source })?;
            builder.apply(&record).map_err(|source| JournalError::Contradiction {
                file: self.file_of(offset),
                offset,
                source,
            })?;
        }
        Ok(())
    }

    fn unreadable(&self, offset: Offset, reason: impl ToString) -> JournalError {
        JournalError::Batch { file: self.file_of(offset), offset, reason: reason.to_string() }
    }

    /// The segment that holds the offset, for somebody who has to look at it; the directory where that cannot be told.
    fn file_of(&self, offset: Offset) -> PathBuf {
        let base = |name: &str| name.strip_prefix("wal_0_")?.strip_suffix(".log")?.parse::<i64>().ok();
        let names = self.fs.read_dir(&self.dir).unwrap_or_default();
        let bases = names.iter().filter_map(|entry| Some((base(&entry.name)?, &entry.name)));
        match bases.filter(|(base, _)| *base <= offset.get()).max() {
            Some((_, name)) => self.dir.join(name),
            None => self.dir.clone(),
        }
    }
}

/// The journal is of another cluster, or the cluster cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Cluster(#[from] ApplyError),
}
