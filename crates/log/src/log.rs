//! The log of one partition as its writer sees it: append, roll, publish to readers, checkpoint.
//!
//! One owner calls it; nothing here blocks but the file calls themselves. A failed write or sync takes the log offline:
//! what is on the disk is then unknown, so every later call fails and the next start recovers from what is there.
//! Flushes, truncation, recovery and retention live in their own files.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicPartition};
use chronik_record::{BatchHeader, PREFIX_BYTES, ProducedBatch, TimestampType, prefix};
use parking_lot::{Mutex, RwLock};

use crate::checkpoint::{Checkpoint, with_checksum};
use crate::config::LogConfig;
use crate::damage::Damage;
use crate::flush::{Pending, Unsynced};
use crate::fs::{Durability, File, Fs, is_out_of_files, replace_file};
use crate::high_watermark::Kept;
use crate::leader_epoch::{self, History};
use crate::producer_state::{ProducerEntry, Producers, Refused};
use crate::reader::{Hints, LogReader, LogSlice, Mark, ReadBound, ReadError, Shared, View};
use crate::segment::{
    HEAD_BYTES, INDEX_SUFFIX, LOG_SUFFIX, Place, SNAPSHOT_SUFFIX, SUM_SUFFIX, Segment, parse_name, remove_if_there,
};

/// How many batch ends above the high watermark are remembered with their positions. Beyond them a reader finds the
/// position in the index.
const RECENT_ENDS_MAX: usize = 32;
/// How many producer snapshots are kept: what the last checkpoint names is not the one that the next is about to name.
const SNAPSHOTS_KEPT: usize = 3;

/// An append was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The batch does not continue its producer's sequence.
    #[error("producer {producer_id} sent sequence {found} where {expected} follows")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// The sequence that continues.
        expected: Sequence,
        /// The batch's first sequence.
        found: Sequence,
    },
    /// The producer was fenced by a later epoch.
    #[error("producer {producer_id} has epoch {current}, the batch has {found}")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The latest epoch seen.
        current: ProducerEpoch,
        /// The batch's epoch.
        found: ProducerEpoch,
    },
    /// The producer has an open transaction and the batch is not transactional.
    #[error("producer {producer_id} sent a batch outside its open transaction")]
    InvalidTxnState {
        /// The producer.
        producer_id: ProducerId,
    },
    /// The batch is larger than `segment.bytes`.
    #[error("batch of {size_bytes} bytes does not fit a segment of {segment_bytes}")]
    TooLargeForSegment {
        /// The batch's size.
        size_bytes: usize,
        /// The limit.
        segment_bytes: u32,
    },
    /// The batch comes from an older leader than the log's last batch.
    #[error("leader epoch {found} is older than {current}")]
    StaleLeaderEpoch {
        /// The log's latest leader epoch.
        current: LeaderEpoch,
        /// The epoch given.
        found: LeaderEpoch,
    },
    /// The partition has no offsets left.
    #[error("no offsets left behind {log_end}")]
    OffsetsExhausted {
        /// Log end, exclusive.
        log_end: Offset,
    },
    /// The log's topic is deleted, or its owner stops.
    #[error("the log is closed")]
    Closed,
    /// The log went offline earlier.
    #[error("the log is offline: {0}")]
    Offline(Arc<str>),
    /// The disk failed; the log is offline from now on, unless it was only out of open files.
    #[error("cannot write {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl AppendError {
    /// Whether the same batch may succeed later on this or another leader.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Closed | Self::Offline(_) | Self::Io { .. } | Self::StaleLeaderEpoch { .. })
    }
}

/// A follower's append was refused or failed; nothing was written unless it is an `Append` of `Io`.
#[derive(Debug, thiserror::Error)]
pub enum ReplicateError {
    /// The batches do not continue the log.
    #[error("batch at offset {found} where the log ends at {expected}")]
    NotContiguous {
        /// The log end.
        expected: Offset,
        /// The batch's base offset.
        found: Offset,
    },
    /// A batch is not whole or its checksum is wrong.
    #[error("corrupt batch at byte {position}: {reason}")]
    Corrupt {
        /// Where in the bytes given.
        position: usize,
        /// What is wrong.
        reason: crate::scan::Reason,
    },
    /// A batch has a leader epoch older than the log's or newer than the leader's.
    #[error("batch has leader epoch {found}, expected {from} to {to}")]
    LeaderEpoch {
        /// The log's latest epoch.
        from: LeaderEpoch,
        /// The leader's epoch.
        to: LeaderEpoch,
        /// The batch's.
        found: LeaderEpoch,
    },
    /// The batches belong to a segment that the log cannot continue.
    #[error("batches of segment {found}, the log ends in segment {active}")]
    Segment {
        /// Base offset of the segment that the log ends in.
        active: Offset,
        /// Base offset of the leader's.
        found: Offset,
    },
    /// The write failed or was refused.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// A call that changes the log without appending failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The offset is not one the call can use.
    #[error("offset {offset} is outside [{from}, {to}]")]
    OffsetOutOfRange {
        /// The offset given.
        offset: Offset,
        /// Smallest usable offset.
        from: Offset,
        /// Largest usable offset.
        to: Offset,
    },
    /// The log went offline earlier.
    #[error("the log is offline: {0}")]
    Offline(Arc<str>),
    /// The disk failed; the log is offline from now on, unless it was only out of open files.
    #[error("cannot change {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// An append that succeeded: written, not yet durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record, inclusive.
    pub base_offset: Offset,
    /// Offset after the last record, exclusive.
    pub next_offset: Offset,
    /// The time the log gave the records; none where they keep their producer's.
    pub log_append_time: Timestamp,
    /// The log start at the time of the append.
    pub log_start: Offset,
    /// Whether the batch was already there; the offsets are those of then.
    pub duplicate: bool,
}

/// A partition's log.
#[derive(Debug)]
pub struct Log {
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: LogConfig,
    pub(crate) active: Arc<Segment>,
    /// Opened at the first append, held from then on.
    pub(crate) active_file: Option<Arc<dyn File>>,
    /// Timestamp of the active segment's first batch, and the time the segment was first written to by this process.
    pub(crate) active_began: Option<(Timestamp, Timestamp)>,
    pub(crate) heads_sum: u32,
    pub(crate) producers: Producers,
    pub(crate) producers_changed: bool,
    pub(crate) snapshots: Vec<Offset>,
    pub(crate) snapshot_pending: Option<(Offset, Vec<u8>)>,
    pub(crate) durable: Mark,
    pub(crate) durable_heads_sum: u32,
    /// What of the durable part the segments have themselves: the rest is in the sync journal as well, and only there durable.
    pub(crate) in_place: Mark,
    pub(crate) in_place_heads_sum: u32,
    pub(crate) pending: Pending,
    pub(crate) recent_ends: VecDeque<Mark>,
    pub(crate) truncations: u64,
    /// The log is about to be cut: nothing becomes durable before it is.
    pub(crate) cut_prepared: bool,
    pub(crate) kept_high_watermark: Kept,
    /// The file of leader epochs has, or once had, an entry that a power cut may bring back.
    epochs_on_file: bool,
    pub(crate) failed: Option<Arc<str>>,
    /// A sync failed: what was written and not synced before is perhaps nowhere, whatever a later sync says.
    pub(crate) sync_failed: bool,
}

/// What recovery hands to [`Log::assemble`].
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: LogConfig,
    pub(crate) active: Arc<Segment>,
    pub(crate) heads_sum: u32,
    pub(crate) producers: Producers,
    pub(crate) snapshots: Vec<Offset>,
    pub(crate) durable: Mark,
    pub(crate) durable_heads_sum: u32,
    pub(crate) pending: Pending,
    pub(crate) epochs_on_file: bool,
}

impl Log {
    /// Makes an empty log; one that holds batches is not replaced. With `sync` its directories are durable when this returns;
    /// without, with its first flush.
    pub fn create(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        tp: TopicPartition,
        config: LogConfig,
        sync: bool,
    ) -> Result<Self, LogError> {
        let failed = |file: &Path, source| LogError::Io { file: file.to_owned(), source };
        fs.create_dir_all(&dir).map_err(|error| failed(&dir, error))?;
        for entry in fs.read_dir(&dir).map_err(|error| failed(&dir, error))? {
            let (path, known) = (dir.join(&entry.name), parse_name(&entry.name));
            let is_log =
                known.is_some_and(|(partition, _, suffix)| partition == tp.partition.get() && suffix == LOG_SUFFIX);
            if is_log && fs.file_len(&path).map_err(|error| failed(&path, error))? > 0 {
                return Err(failed(&path, io::ErrorKind::AlreadyExists.into()));
            }
        }
        let place = Arc::new(Place::new(fs, dir.clone(), tp.partition.get()));
        let (segment, _) = Segment::create(Arc::clone(&place), Offset::ZERO, u64::from(config.index_interval_bytes))
            .map_err(|error| failed(&place.path(Offset::ZERO, LOG_SUFFIX), error))?;
        let active = Arc::new(segment);
        let mut pending = Pending::default();
        // The partition's, the topic's and the data directory each have a name to make durable.
        for dir in dir.ancestors().take(3).filter(|dir| !dir.as_os_str().is_empty()) {
            if sync {
                place.fs.sync_dir(dir).map_err(|error| failed(dir, error))?;
            } else {
                pending.add(Unsynced::Dir(dir.to_owned()));
            }
        }
        let view = View {
            log_start: Offset::ZERO,
            last_stable: Offset::ZERO,
            high_watermark: Offset::ZERO,
            log_end: Offset::ZERO,
            segments: vec![Arc::clone(&active)],
            high_watermark_mark: None,
            epochs: History::default(),
            offline: false,
        };
        let durable = Mark { offset: Offset::ZERO, segment: Offset::ZERO, position: 0 };
        let shared = Arc::new(Shared { place, tp, view: RwLock::new(view), hints: Mutex::new(Hints::default()) });
        Ok(Self::assemble(Parts {
            shared,
            config,
            active,
            heads_sum: 0,
            producers: Producers::default(),
            snapshots: Vec::new(),
            durable,
            durable_heads_sum: 0,
            pending,
            epochs_on_file: false,
        }))
    }

    pub(crate) fn assemble(parts: Parts) -> Self {
        Self {
            shared: parts.shared,
            config: parts.config,
            active: parts.active,
            active_file: None,
            active_began: None,
            heads_sum: parts.heads_sum,
            producers_changed: !parts.producers.is_empty(),
            producers: parts.producers,
            snapshots: parts.snapshots,
            snapshot_pending: None,
            durable: parts.durable,
            durable_heads_sum: parts.durable_heads_sum,
            in_place: parts.durable,
            in_place_heads_sum: parts.durable_heads_sum,
            pending: parts.pending,
            recent_ends: VecDeque::new(),
            truncations: 0,
            cut_prepared: false,
            kept_high_watermark: Kept::default(),
            epochs_on_file: parts.epochs_on_file,
            failed: None,
            sync_failed: false,
        }
    }

    // ---- getters --------------------------------------------------------------------------------------------------

    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.shared.tp
    }

    /// A reader of this log.
    pub fn reader(&self) -> LogReader {
        LogReader { shared: Arc::clone(&self.shared) }
    }

    /// First offset that may be served, inclusive.
    pub fn log_start(&self) -> Offset {
        self.shared.view.read().log_start
    }

    /// Log end, exclusive.
    pub fn log_end(&self) -> Offset {
        self.shared.view.read().log_end
    }

    /// High watermark, exclusive.
    pub fn high_watermark(&self) -> Offset {
        self.shared.view.read().high_watermark
    }

    /// End of what is on stable storage, exclusive.
    pub fn durable_end(&self) -> Offset {
        self.durable.offset
    }

    /// Where the next recovery begins once a checkpoint is written, exclusive end of the verified part.
    pub fn recovery_point(&self) -> Offset {
        self.in_place.offset
    }

    pub(crate) fn end_mark(&self) -> Mark {
        Mark { offset: self.log_end(), segment: self.active.base_offset, position: self.active.size() }
    }

    /// Bytes in all segments.
    pub fn size_bytes(&self) -> u64 {
        self.shared.view.read().segments.iter().map(|segment| segment.size()).sum()
    }

    /// How many segments there are.
    pub fn segments_count(&self) -> usize {
        self.shared.view.read().segments.len()
    }

    /// The settings in force.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// What is known of producers (DescribeProducers).
    pub fn producers(&self) -> Vec<ProducerEntry> {
        self.producers.entries()
    }

    /// The leader epochs of the log.
    pub fn leader_epochs(&self) -> History {
        self.shared.view.read().epochs.clone()
    }

    /// The largest leader epoch not above `wanted` with its end offset, exclusive.
    pub fn end_offset_for_epoch(&self, wanted: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.reader().end_offset_for_epoch(wanted)
    }

    /// Every known damaged range.
    pub fn damage(&self) -> Vec<Damage> {
        self.reader().damage()
    }

    /// Why the log is offline, if it is.
    pub fn offline(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Asserts what always holds.
    pub fn check_invariants(&self) {
        let view = self.shared.view.read();
        view.check_invariants();
        assert!(
            self.durable.offset <= view.log_end,
            "durable end {} is above log end {}",
            self.durable.offset,
            view.log_end
        );
    }

    // ---- append ---------------------------------------------------------------------------------------------------

    /// Appends a validated batch: checks its producer, assigns its offsets, writes it. Written, not durable, when it
    /// returns; after a refusal nothing has changed, after an IO error the log is offline.
    pub fn append(
        &mut self,
        batch: &ProducedBatch,
        leader_epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        self.online().map_err(AppendError::Offline)?;
        let mut header = *batch.header();
        let bytes = batch.bytes();
        let size_bytes = bytes.len();
        if size_bytes as u64 > u64::from(self.config.segment_bytes) {
            return Err(AppendError::TooLargeForSegment { size_bytes, segment_bytes: self.config.segment_bytes });
        }
        let (log_start, log_end, latest) = {
            let view = self.shared.view.read();
            (view.log_start, view.log_end, view.epochs.latest())
        };
        if let Some(current) = latest.filter(|current| leader_epoch < *current) {
            return Err(AppendError::StaleLeaderEpoch { current, found: leader_epoch });
        }
        let log_append_time = match header.attributes.timestamp_type() {
            TimestampType::Create => Timestamp::NONE,
            TimestampType::LogAppend => header.max_timestamp,
        };
        if let Some(known) = self.producers.check(&header).map_err(|refused| refusal(header.producer_id, refused))? {
            return Ok(Appended {
                base_offset: known.base_offset,
                next_offset: known.last_offset.next(),
                // What it was then is not known any more; Apache Kafka gives the batch's newest time.
                log_append_time: known.timestamp,
                log_start,
                duplicate: true,
            });
        }
        header.base_offset = log_end;
        header.partition_leader_epoch = leader_epoch;
        if log_end.checked_add(i64::from(header.last_offset_delta) + 1).is_none() {
            return Err(AppendError::OffsetsExhausted { log_end });
        }
        self.make_room(&header, now)?;
        let head = prefix(log_end, header.batch_length, leader_epoch);
        let rest = bytes.get(PREFIX_BYTES..).unwrap_or_default();
        let slices = [&head, rest];
        self.write(std::iter::once((&header, heads(slices))), &slices.map(IoSlice::new), now)?;
        Ok(Appended {
            base_offset: log_end,
            next_offset: header.next_offset(),
            log_append_time,
            log_start,
            duplicate: false,
        })
    }

    /// Appends a leader's batches as they are. All of them are checked before any is written: whole, with fitting
    /// checksums, continuing the log, with leader epochs from the log's latest to `leader_epoch`.
    pub fn append_replicated(
        &mut self,
        batches: &[u8],
        leader_epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<Offset, ReplicateError> {
        self.online().map_err(AppendError::Offline)?;
        for (header, batch) in self.check_replicated(batches, leader_epoch)? {
            self.make_room(&header, now)?;
            let slices = [batch, &[]];
            self.write(std::iter::once((&header, heads(slices))), &slices.map(IoSlice::new), now)?;
        }
        Ok(self.log_end())
    }

    /// Cuts a leader's bytes into batches, each of them whole, sound and continuing the one before.
    pub(crate) fn check_replicated<'a>(
        &self,
        batches: &'a [u8],
        leader_epoch: LeaderEpoch,
    ) -> Result<Vec<(BatchHeader, &'a [u8])>, ReplicateError> {
        let (mut expected, mut latest) = {
            let view = self.shared.view.read();
            (view.log_end, view.epochs.latest().unwrap_or(LeaderEpoch::ZERO))
        };
        let mut checked = Vec::new();
        let mut position = 0;
        while let Some(rest) = batches.get(position..).filter(|rest| !rest.is_empty()) {
            let corrupt = |reason| ReplicateError::Corrupt { position, reason };
            let header = BatchHeader::read(rest).map_err(|error| corrupt(error.into()))?;
            let batch = rest.get(..header.size_bytes()).ok_or_else(|| corrupt(crate::scan::Reason::Incomplete))?;
            if !chronik_record::crc_is_valid(batch) {
                return Err(corrupt(crate::scan::Reason::Checksum));
            }
            if header.base_offset != expected {
                return Err(ReplicateError::NotContiguous { expected, found: header.base_offset });
            }
            let found = header.partition_leader_epoch;
            if found < latest || found > leader_epoch {
                return Err(ReplicateError::LeaderEpoch { from: latest, to: leader_epoch, found });
            }
            expected = header.next_offset();
            latest = found;
            position += batch.len();
            checked.push((header, batch));
        }
        Ok(checked)
    }

    /// Rolls where the batch does not go into the active segment.
    fn make_room(&mut self, header: &BatchHeader, now: Timestamp) -> Result<(), AppendError> {
        let size = self.active.size();
        if size == 0 {
            // An empty segment takes any batch that passed the size check; its name says the offset it begins at.
            return Ok(());
        }
        let full = size.saturating_add(header.size_bytes() as u64) > u64::from(self.config.segment_bytes);
        let indexed = self.active.index_bytes() + 12 > u64::from(self.config.segment_index_bytes);
        if full || indexed || !self.active.can_hold(header.last_offset()) || self.waited(header.max_timestamp, now)? {
            self.roll()?;
        }
        Ok(())
    }

    /// Whether the active segment is older than `segment.ms`, by the clock of its records where they have one.
    fn waited(&mut self, newest: Timestamp, now: Timestamp) -> Result<bool, AppendError> {
        let (first, created) = match self.active_began {
            Some(began) => began,
            None => {
                let file = self.active_file()?;
                let first = self.active.header_at(&*file, 0, self.active.size());
                let first = first.map_or(Timestamp::NONE, |header| header.max_timestamp);
                *self.active_began.insert((first, now))
            }
        };
        let waited_ms = if first.millis() >= 0 {
            newest.millis().saturating_sub(first.millis())
        } else {
            now.millis().saturating_sub(created.millis())
        };
        let limit = self.config.segment_ms.saturating_sub(self.config.segment_jitter);
        Ok(i128::from(waited_ms) > i128::try_from(limit.as_millis()).unwrap_or(i128::MAX))
    }

    /// Writes batches of one leader epoch with one call and publishes them together. Each header is final and comes with the
    /// batch's [`heads`]; `slices` are the bytes of all, one batch behind the other.
    pub(crate) fn write<'a>(
        &mut self,
        batches: impl Iterator<Item = (&'a BatchHeader, [u8; HEAD_BYTES])> + Clone,
        slices: &[IoSlice<'_>],
        now: Timestamp,
    ) -> Result<(), AppendError> {
        let Some((first, _)) = batches.clone().next() else { return Ok(()) };
        let begin = self.active.size();
        let file = self.active_file()?;
        self.assign_epoch(first.partition_leader_epoch, first.base_offset)?;
        // Whatever can fail comes before the batches are in the file, or is the write itself.
        if let Err(source) = self.active.make_entry_room() {
            return Err(self.io_failed(self.active.path(INDEX_SUFFIX), source));
        }
        if let Err(source) = file.write_at_vectored(slices, begin) {
            return Err(self.io_failed(self.active.path(LOG_SUFFIX), source));
        }
        let (mut end, mut log_end) = (begin, first.base_offset);
        for (header, heads) in batches.clone() {
            self.heads_sum = crc32c::crc32c_append(self.heads_sum, &heads);
            if end == 0 {
                self.active_began = Some((header.max_timestamp, now));
            }
            if header.has_producer_id() {
                self.producers.note(header);
                self.producers_changed = true;
            }
            end += header.size_bytes() as u64;
            log_end = header.next_offset();
            if self.recent_ends.len() == RECENT_ENDS_MAX {
                self.recent_ends.pop_front();
            }
            self.recent_ends.push_back(Mark { offset: log_end, segment: self.active.base_offset, position: end });
        }
        {
            let mut view = self.shared.view.write();
            self.active.set_size(end);
            view.log_end = log_end;
        }
        let mut position = begin;
        for (header, _) in batches {
            // After publishing: a table may lack a batch that readers see, never name one that they do not.
            if let Err(source) = self.active.note(header, position)
                && !is_out_of_files(&source)
            {
                return Err(self.io_failed(self.active.path(INDEX_SUFFIX), source));
            }
            position += header.size_bytes() as u64;
        }
        Ok(())
    }

    fn active_file(&mut self) -> Result<Arc<dyn File>, AppendError> {
        if let Some(file) = &self.active_file {
            return Ok(Arc::clone(file));
        }
        // Nothing was written: a descriptor may be free again later, so the log stays online.
        let file =
            self.active.file().map_err(|source| AppendError::Io { file: self.active.path(LOG_SUFFIX), source })?;
        self.active_file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Notes a leader epoch's start, in memory and in its file. The first entry is part of the next flush, so that a durable
    /// batch always has its epoch on record. A later one is durable before its first batch is written: where a power cut
    /// kept that batch and the record without it, recovery would have to take the batch for damage.
    fn assign_epoch(&mut self, leader_epoch: LeaderEpoch, start: Offset) -> Result<(), AppendError> {
        if self.shared.view.read().epochs.latest() == Some(leader_epoch) {
            return Ok(());
        }
        let mut epochs = self.leader_epochs();
        if epochs.assign(leader_epoch, start) {
            let durability = if self.epochs_on_file { Durability::Durable } else { Durability::Visible };
            self.epochs_on_file = true;
            self.write_epochs(&epochs, durability).map_err(|(file, source)| self.io_failed(file, source))?;
            self.shared.view.write().epochs = epochs;
        }
        Ok(())
    }

    pub(crate) fn write_epochs(
        &mut self,
        epochs: &History,
        durability: Durability,
    ) -> Result<(), (PathBuf, io::Error)> {
        let place = &self.shared.place;
        let path = place.dir.join(leader_epoch::FILE);
        match replace_file(&*place.fs, &path, &epochs.encode(), durability) {
            Ok(()) => {
                self.pending.add(Unsynced::Path(path));
                self.pending.add(Unsynced::Dir(place.dir.clone()));
                Ok(())
            }
            Err(source) => Err((path, source)),
        }
    }

    /// Closes the active segment for writing and begins the next one at the log end.
    pub(crate) fn roll(&mut self) -> Result<(), AppendError> {
        let log_end = self.log_end();
        let place = Arc::clone(&self.shared.place);
        let file = self.active_file()?;
        if self.config.sync_on_roll
            && let Err(source) = file.sync_data()
        {
            self.sync_failed = true;
            return Err(self.io_failed(self.active.path(LOG_SUFFIX), source));
        }
        let sealed = self.active.spill(true).and_then(|()| self.write_sum());
        sealed.map_err(|source| self.io_failed(self.active.path(INDEX_SUFFIX), source))?;
        if !self.producers.is_empty() {
            let bytes = self.producers.encode(log_end);
            self.write_snapshot(log_end, &bytes).map_err(|(file, source)| self.io_failed(file, source))?;
        }
        let created = Segment::create(Arc::clone(&place), log_end, u64::from(self.config.index_interval_bytes));
        let (segment, next_file) = created.map_err(|source| self.io_failed(place.path(log_end, LOG_SUFFIX), source))?;
        self.pending.add(if self.config.sync_on_roll {
            Unsynced::File(file)
        } else {
            // The next sync may be gigabytes away, and segments may be small.
            Unsynced::Path(self.active.path(LOG_SUFFIX))
        });
        self.pending.add(Unsynced::Dir(place.dir.clone()));
        self.active = Arc::new(segment);
        self.active_file = Some(next_file);
        self.active_began = None;
        self.heads_sum = 0;
        self.shared.view.write().segments.push(Arc::clone(&self.active));
        Ok(())
    }

    /// Writes the sealed segment's side file: its length and the chained checksum of its batch heads.
    fn write_sum(&self) -> io::Result<()> {
        let text = format!("chronik-segment-sum 1\n{} {:08x}\n", self.active.size(), self.heads_sum);
        let path = self.active.path(SUM_SUFFIX);
        replace_file(self.active.fs(), &path, &with_checksum(text), Durability::Visible)
    }

    // ---- publish --------------------------------------------------------------------------------------------------

    /// Raises the high watermark, and with it the last stable offset. Lower values and values above the log end are
    /// ignored: a watermark never moves back, and never covers what is not there.
    pub fn set_high_watermark(&mut self, high_watermark: Offset) {
        let (current, log_end) = {
            let view = self.shared.view.read();
            (view.high_watermark, view.log_end)
        };
        let high_watermark = high_watermark.min(log_end);
        while self.recent_ends.front().is_some_and(|mark| mark.offset < high_watermark) {
            self.recent_ends.pop_front();
        }
        if high_watermark <= current {
            return;
        }
        let last_stable = self.producers.first_unstable(high_watermark).unwrap_or(high_watermark).min(high_watermark);
        // The watermark mostly moves to the log end, or to the end that the last flush made durable.
        let end = Mark { offset: log_end, segment: self.active.base_offset, position: self.active.size() };
        let recent = self.recent_ends.front().copied();
        let known = [Some(end), Some(self.durable), recent];
        let mark = known.into_iter().flatten().find(|mark| mark.offset == high_watermark);
        let mut view = self.shared.view.write();
        view.high_watermark = high_watermark;
        view.high_watermark_mark = mark;
        view.last_stable = last_stable.clamp(view.last_stable, high_watermark);
        drop(view);
        self.write_high_watermark();
    }

    // ---- offline --------------------------------------------------------------------------------------------------

    /// Takes the log offline after a failed flush.
    pub fn fail(&mut self, error: &io::Error) {
        self.sync_failed = true;
        self.go_offline(error);
    }

    /// Whether a sync of the log's files failed: no later one proves anything then, so what a sync journal has of the log
    /// has to stay there.
    pub fn sync_failed(&self) -> bool {
        self.sync_failed
    }

    pub(crate) fn go_offline(&mut self, error: &io::Error) {
        if self.failed.is_none() {
            self.failed = Some(error.to_string().into());
            self.shared.view.write().offline = true;
        }
    }

    /// Ends the log for good, because its files are about to be removed and those of another log may come to lie where
    /// they did: no call opens, writes, renames or removes anything from now on. Stopping is [`Log::close_cleanly`].
    pub fn give_up(&mut self) {
        self.shared.place.give_up();
        self.go_offline(&io::Error::other("its files are being removed"));
    }

    pub(crate) fn online(&self) -> Result<(), Arc<str>> {
        self.failed.as_ref().map_or(Ok(()), |reason| Err(Arc::clone(reason)))
    }

    /// Takes the log offline for an error of the disk. That no file can be opened is none: what was to be done was not
    /// begun, and what was done before it can be done again.
    fn disk_failed(&mut self, error: &io::Error) {
        if !is_out_of_files(error) {
            self.go_offline(error);
        }
    }

    pub(crate) fn io_failed(&mut self, file: PathBuf, source: io::Error) -> AppendError {
        self.disk_failed(&source);
        AppendError::Io { file, source }
    }

    pub(crate) fn change_failed(&mut self, file: PathBuf, source: io::Error) -> LogError {
        self.disk_failed(&source);
        LogError::Io { file, source }
    }

    /// An error in the middle of a change, of whatever kind: what there is now is found by opening the log again.
    pub(crate) fn change_half_done(&mut self, file: PathBuf, source: io::Error) -> LogError {
        self.go_offline(&source);
        LogError::Io { file, source }
    }

    // ---- checkpoint -----------------------------------------------------------------------------------------------

    /// What the next recovery may rely on. Derived files are brought up to date on the way; the result counts only once it
    /// is written with [`crate::checkpoint::write`]. Whose log it is, only the caller knows.
    pub fn checkpoint(&mut self) -> Result<Checkpoint, LogError> {
        self.online().map_err(LogError::Offline)?;
        let spilled = self.active.spill_what_is_begun();
        spilled.map_err(|source| self.change_failed(self.active.path(INDEX_SUFFIX), source))?;
        if self.producers_changed && self.snapshot_pending.is_none() {
            let log_end = self.log_end();
            self.snapshot_pending = Some((log_end, self.producers.encode(log_end)));
            self.producers_changed = false;
        }
        // A snapshot of batches that are not durable yet could outlive them.
        if let Some((offset, bytes)) = self.snapshot_pending.take_if(|(offset, _)| *offset <= self.in_place.offset)
            && let Err((file, source)) = self.write_snapshot(offset, &bytes)
        {
            self.producers_changed = true;
            return Err(self.change_failed(file, source));
        }
        Ok(self.checkpoint_at(self.in_place, self.in_place_heads_sum))
    }

    /// What the next recovery may rely on for as long as the page cache lives: everything up to the log end. `None` for a
    /// log whose writes are synced as they come, where [`Log::checkpoint`] says nearly as much. Derived files are brought up
    /// to date on the way.
    pub fn written_checkpoint(&mut self) -> Result<Option<Checkpoint>, LogError> {
        self.online().map_err(LogError::Offline)?;
        if self.config.sync_on_roll || self.cut_prepared {
            return Ok(None);
        }
        let spilled = self.active.spill_what_is_begun();
        spilled.map_err(|source| self.change_failed(self.active.path(INDEX_SUFFIX), source))?;
        let log_end = self.log_end();
        if self.producers_changed {
            let bytes = self.producers.encode(log_end);
            self.write_snapshot(log_end, &bytes).map_err(|(file, source)| self.change_failed(file, source))?;
            (self.producers_changed, self.snapshot_pending) = (false, None);
        }
        Ok(Some(self.checkpoint_at(self.end_mark(), self.heads_sum)))
    }

    fn checkpoint_at(&self, end: Mark, heads_sum: u32) -> Checkpoint {
        let snapshot = self.snapshots.iter().rev().find(|offset| **offset <= end.offset).copied();
        let view = self.shared.view.read();
        Checkpoint {
            topic_id: None,
            log_start: view.log_start,
            recovery_point: end.offset,
            high_watermark: view.high_watermark,
            segment: end.segment,
            position: end.position,
            heads_sum,
            producer_snapshot: snapshot.or((!self.producers.is_empty()).then_some(view.log_start)),
        }
    }

    /// Flushes everything and brings all derived files up to date: with the checkpoint it returns written, the next open
    /// reads nothing.
    pub fn close_cleanly(&mut self) -> Result<Checkpoint, LogError> {
        self.flush()?;
        self.snapshot_pending = None;
        self.active.spill(false).map_err(|source| self.change_failed(self.active.path(INDEX_SUFFIX), source))?;
        self.checkpoint()
    }

    pub(crate) fn write_snapshot(&mut self, offset: Offset, bytes: &[u8]) -> Result<(), (PathBuf, io::Error)> {
        let place = Arc::clone(&self.shared.place);
        let path = place.path(offset, SNAPSHOT_SUFFIX);
        replace_file(&*place.fs, &path, bytes, Durability::Visible).map_err(|error| (path, error))?;
        self.snapshots.retain(|known| *known != offset);
        self.snapshots.push(offset);
        self.snapshots.sort();
        while self.snapshots.len() > SNAPSHOTS_KEPT {
            // The newest that a power cut cannot take its batches from stays.
            let durable = self.snapshots.partition_point(|offset| *offset <= self.in_place.offset);
            let path = place.path(self.snapshots.remove(usize::from(durable == 1)), SNAPSHOT_SUFFIX);
            remove_if_there(&*place.fs, &path).map_err(|error| (path, error))?;
        }
        Ok(())
    }

    // ---- truncate and configure -----------------------------------------------------------------------------------

    /// The regions from the batch that holds `from` to the log end: what [`Log::truncate_to`] would cut.
    pub fn tail(&self, from: Offset) -> Result<Vec<LogSlice>, ReadError> {
        let (reader, mut slices, mut at) = (self.reader(), Vec::new(), from);
        loop {
            let slice = reader.read(at, ReadBound::LogEnd, usize::MAX, true)?;
            if slice.len == 0 {
                return Ok(slices);
            }
            let next =
                self.shared.view.read().segments.iter().map(|segment| segment.base_offset).find(|base| *base > at);
            slices.push(slice);
            match next {
                Some(next) => at = next,
                None => return Ok(slices),
            }
        }
    }

    pub(crate) fn sum_heads(&self, limit: u64) -> Result<u32, LogError> {
        let file = self.active.file().map_err(|error| self.active.io(error))?;
        Ok(crate::scan::sum_heads(&*file, limit).map_err(|error| self.active.io(error))?)
    }

    /// Changes the settings; they hold from the next append on.
    pub fn reconfigure(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// Forgets producers that wrote nothing for `producer.id.expiration.ms`.
    pub fn expire_producers(&mut self, now: Timestamp) {
        let before = self.producers.len();
        self.producers.expire(now, self.config.producer_id_expiration);
        self.producers_changed |= before != self.producers.len();
    }
}

/// The bytes of a batch before its checksum's range, out of the two slices it is written from.
pub(crate) fn heads([first, second]: [&[u8]; 2]) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    let (front, back) = head.split_at_mut(first.len().min(HEAD_BYTES));
    for (part, bytes) in [(front, first), (back, second)] {
        let count = part.len().min(bytes.len());
        if let (Some(part), Some(bytes)) = (part.get_mut(..count), bytes.get(..count)) {
            part.copy_from_slice(bytes);
        }
    }
    head
}

fn refusal(producer_id: ProducerId, refused: Refused) -> AppendError {
    match refused {
        Refused::OutOfOrderSequence { expected, found } => {
            AppendError::OutOfOrderSequence { producer_id, expected, found }
        }
        Refused::InvalidProducerEpoch { current, found } => {
            AppendError::InvalidProducerEpoch { producer_id, current, found }
        }
        Refused::InvalidTxnState => AppendError::InvalidTxnState { producer_id },
    }
}
