//! The records of the metadata on disk: a log of record batches, and a snapshot that keeps its replay short.
//!
//! One decision is one batch, so a torn write loses a decision whole. The snapshot is one record batch in a file of its own; it
//! is replaced in one step and only then is the log before it given up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_log::fs::{Durability, Fs, read_small_file, replace_file};
use chronik_log::{Damage, Log, LogConfig, LogError, ReadBound, ReadError, RecoveryError};
use chronik_metadata::{ApplyError, Builder, Delta, Image, Record, RecordError};
use chronik_model::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use chronik_record::{
    BatchBuilder, BatchHeader, BuildError, Caps, Compression, HEADER_BYTES, RecordsError, TimestampType,
};

/// Kafka's name for the metadata log.
const JOURNAL: &str = "__cluster_metadata";
/// The snapshot's file in the journal's directory.
const SNAPSHOT_FILE: &str = "image";
/// The key of the snapshot's first record, whose value is the journal offset it stands for.
const SNAPSHOT_OFFSET_KEY: &[u8] = b"offset";
/// Also the bound for one decision.
const SEGMENT_BYTES: u32 = 16 * 1024 * 1024;
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
    /// The log refused a change.
    #[error("metadata journal: {0}")]
    Log(#[from] LogError),
    /// The log cannot be read.
    #[error("metadata journal: {0}")]
    Read(#[from] ReadError),
    /// The log refused an append.
    #[error("metadata journal: {0}")]
    Append(#[from] chronik_log::AppendError),
    /// A batch cannot be read.
    #[error("metadata journal at offset {offset}: {reason}")]
    Batch {
        /// Offset of the batch.
        offset: Offset,
        /// What is wrong.
        reason: String,
    },
    /// A record cannot be understood.
    #[error("metadata journal at offset {offset}: {source}")]
    Record {
        /// The record's offset.
        offset: Offset,
        /// What is wrong.
        source: RecordError,
    },
    /// A record contradicts those before it.
    #[error("metadata journal at offset {offset}: {source}")]
    Contradiction {
        /// The record's offset.
        offset: Offset,
        /// What is wrong.
        source: ApplyError,
    },
    /// The snapshot cannot be read.
    #[error("metadata snapshot {} is damaged: {reason}; restore the file from a backup, nothing was changed", file.display())]
    Snapshot {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A record cannot be written.
    #[error("metadata record cannot be written: {0}")]
    Encode(#[from] RecordError),
    /// The records of one decision do not fit a batch.
    #[error("metadata records cannot be put into a batch: {0}")]
    Build(#[from] BuildError),
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
            let (mut log, recovered) = Log::open(Arc::clone(&fs), dir.clone(), name, config, None, false, now)?;
            if let Some(damage) = recovered.damage.into_iter().next() {
                return Err(JournalError::Damaged(damage));
            }
            if recovered.needs_sync {
                fs.sync_all(&dir).map_err(io)?;
                log.synced_all();
            }
            log
        } else {
            Log::create(Arc::clone(&fs), dir.clone(), name, config, true)?
        };
        let mut journal = Self { fs, dir, log, leader_epoch, bytes_since_snapshot: 0 };
        let image = journal.replay()?;
        Ok((journal, image))
    }

    /// The image that has `records` behind what is in the journal, and what they change. Nothing is written.
    pub(crate) fn apply(&self, image: &Image, records: &[Record]) -> Result<(Image, Delta), ApplyError> {
        let mut builder = Builder::new(image);
        for record in records {
            builder.apply(record)?;
        }
        let count = i64::try_from(records.len()).unwrap_or(i64::MAX);
        let end = self.log.log_end().checked_add(count).unwrap_or(self.log.log_end());
        Ok(builder.finish(end))
    }

    /// Writes the records of one decision. They are durable when this returns.
    pub(crate) fn append(&mut self, records: &[Record], now: Timestamp) -> Result<(), JournalError> {
        let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, now);
        for record in records {
            builder.append(now, None, Some(&record.to_json()?), &[]);
        }
        let batch = builder.build()?;
        self.log.append(&batch, self.leader_epoch, now)?;
        self.log.flush()?;
        self.bytes_since_snapshot += batch.bytes().len() as u64;
        Ok(())
    }

    /// Writes a snapshot where one is due, and gives up the log before it.
    pub(crate) fn compact(&mut self, image: &Image, now: Timestamp) -> Result<(), JournalError> {
        if self.bytes_since_snapshot < SNAPSHOT_EVERY_BYTES {
            return Ok(());
        }
        let mut builder = BatchBuilder::new(Compression::Lz4, TimestampType::Create, now);
        let offset = image.offset().get().to_string();
        builder.append(now, Some(SNAPSHOT_OFFSET_KEY), Some(offset.as_bytes()), &[]);
        for record in image.to_records() {
            builder.append(now, None, Some(&record.to_json()?), &[]);
        }
        let batch = builder.build()?;
        let file = self.dir.join(SNAPSHOT_FILE);
        replace_file(self.fs.as_ref(), &file, batch.bytes(), Durability::Durable)
            .map_err(|source| JournalError::Io { file, source })?;
        self.bytes_since_snapshot = 0;
        self.log.set_high_watermark(self.log.durable_end());
        self.log.delete_records_before(image.offset())?;
        self.log.apply_retention(now)?;
        Ok(())
    }

    fn replay(&mut self) -> Result<Image, JournalError> {
        let mut builder = Builder::new(&Image::default());
        let mut from = self.replay_snapshot(&mut builder)?;
        let reader = self.log.reader();
        let bounds = reader.bounds();
        if bounds.log_start > from {
            let reason = format!("records from offset {from} are missing, the log starts at {}", bounds.log_start);
            return Err(JournalError::Batch { offset: from, reason });
        }
        while from < bounds.log_end {
            let slice = reader.read(from, ReadBound::LogEnd, READ_BYTES, true)?;
            let bytes = slice.read().map_err(|source| JournalError::Io { file: self.dir.clone(), source })?;
            let before = from;
            let mut rest = bytes.as_slice();
            while rest.len() >= HEADER_BYTES {
                let bad = |reason: String| JournalError::Batch { offset: from, reason };
                let header = BatchHeader::read(rest).map_err(|error| bad(error.to_string()))?;
                // The last batch of a read may be cut; it comes whole with the next one.
                let Some((batch, behind)) = rest.split_at_checked(header.size_bytes()) else { break };
                self.replay_batch(batch, from, &mut builder)?;
                self.bytes_since_snapshot += batch.len() as u64;
                from = from.max(header.next_offset());
                rest = behind;
            }
            if from == before {
                return Err(JournalError::Batch { offset: from, reason: "no batch where one must be".to_owned() });
            }
        }
        Ok(builder.finish(self.log.log_end()).0)
    }

    fn replay_batch(&self, batch: &[u8], from: Offset, builder: &mut Builder) -> Result<(), JournalError> {
        let bad = |error: RecordsError| JournalError::Batch { offset: from, reason: error.to_string() };
        let mut records = chronik_record::records(batch, &caps()).map_err(bad)?;
        while let Some(record) = records.next_record().map_err(bad)? {
            if record.offset < from {
                continue;
            }
            let offset = record.offset;
            let json = record.value.bytes().unwrap_or_default();
            let record = Record::from_json(json).map_err(|source| JournalError::Record { offset, source })?;
            builder.apply(&record).map_err(|source| JournalError::Contradiction { offset, source })?;
        }
        Ok(())
    }

    /// Applies the snapshot and gives the journal offset to go on from.
    fn replay_snapshot(&self, builder: &mut Builder) -> Result<Offset, JournalError> {
        let file = self.dir.join(SNAPSHOT_FILE);
        let Some(bytes) = read_snapshot(self.fs.as_ref(), &file)? else { return Ok(Offset::ZERO) };
        let bad = |reason: String| JournalError::Snapshot { file: file.clone(), reason };
        let header = BatchHeader::read(&bytes).map_err(|error| bad(error.to_string()))?;
        if header.size_bytes() != bytes.len() || !chronik_record::crc_is_valid(&bytes) {
            return Err(bad("its checksum is wrong".to_owned()));
        }
        let mut records = chronik_record::records(&bytes, &caps()).map_err(|error| bad(error.to_string()))?;
        let mut offset = None;
        while let Some(record) = records.next_record().map_err(|error| bad(error.to_string()))? {
            let value = record.value.bytes().unwrap_or_default();
            if record.key.bytes() == Some(SNAPSHOT_OFFSET_KEY) {
                offset = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).map(Offset::new);
                continue;
            }
            let record = Record::from_json(value).map_err(|error| bad(error.to_string()))?;
            builder.apply(&record).map_err(|error| bad(error.to_string()))?;
        }
        offset.ok_or_else(|| bad("it does not say which offset it stands for".to_owned()))
    }
}

fn caps() -> Caps {
    Caps::default()
}

fn read_snapshot(fs: &dyn Fs, file: &Path) -> Result<Option<Vec<u8>>, JournalError> {
    read_small_file(fs, file).map_err(|source| JournalError::Io { file: file.to_owned(), source })
}
