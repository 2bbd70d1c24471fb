//! The records of the metadata on disk: a log of record batches, and a snapshot that keeps its replay short.
//!
//! One decision is one batch, so a torn write loses a decision whole. A batch has the generation that holds after its
//! records as its leader epoch. A new snapshot is durable before the log below it is given up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_log::fs::Fs;
use chronik_log::{Checkpoint, Log, LogConfig, LogReader, ReadBound, checkpoint};
use chronik_metadata::{Builder, Image, JournalPosition, KnownLeader, Record};
use chronik_model::{Generation, LeaderEpoch, Offset, Timestamp, TopicPartition, Uuid};
use chronik_record::{BatchBuilder, BatchHeader, Caps, Compression, HEADER_BYTES, RecordsError, TimestampType};

use crate::error::{ClaimError, JournalError};
use crate::known_leader;
use crate::snapshot::{self, Stands};

/// Kafka's name for the metadata log.
const JOURNAL: &str = "__cluster_metadata";
/// A segment of the journal.
const SEGMENT_BYTES: u32 = 16 * 1024 * 1024;
/// One decision; a larger one is refused.
pub(crate) const DECISION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// After so many bytes of records a snapshot is due.
const SNAPSHOT_EVERY_BYTES: u64 = 2 * 1024 * 1024;
/// Bytes of the log read at once.
const READ_BYTES: usize = 1024 * 1024;
/// Generations that are told, the latest ones.
const GENERATIONS_MAX: usize = 512;

/// The journal of one node.
#[derive(Debug)]
pub(crate) struct Journal {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    log: Log,
    /// The generations that wrote what is in the snapshot.
    generations_before: Vec<(LeaderEpoch, Offset)>,
    bytes_since_snapshot: u64,
}

/// What the batches of a generation have as their leader epoch. Records of a node without followers are in none, and
/// have 1.
pub(crate) fn epoch_of(generation: Generation) -> LeaderEpoch {
    LeaderEpoch::new(generation.get().max(1))
}

impl Journal {
    /// Opens or creates the journal in `dir` and replays it.
    pub(crate) fn open(fs: Arc<dyn Fs>, dir: PathBuf, now: Timestamp) -> Result<(Self, Image), JournalError> {
        let io = |source| JournalError::Io { file: dir.clone(), source };
        let (name, config) = (name(), config());
        let log = if let Some(stands) = snapshot::read_incoming(fs.as_ref(), &dir)? {
            // The machine stopped while a leader's image took the place of everything: it is done once more.
            begin_anew(&fs, &dir, stands.offset, now)?
        } else if fs.exists(&dir).map_err(io)? {
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
        let mut journal = Self { fs, dir, log, generations_before: Vec::new(), bytes_since_snapshot: 0 };
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
        self.append(&[record], image.generation(), now)?;
        self.sync()?;
        Ok(builder.finish(self.end()).0)
    }

    /// Opens the journal anew, as a start does.
    pub(crate) fn open_again(&mut self, now: Timestamp) -> Result<Image, JournalError> {
        let (journal, image) = Self::open(Arc::clone(&self.fs), self.dir.clone(), now)?;
        *self = journal;
        Ok(image)
    }

    /// End of the journal, exclusive.
    pub(crate) fn end(&self) -> Offset {
        self.log.log_end()
    }

    /// Where it ends, and the generations that wrote it.
    pub(crate) fn position(&self) -> JournalPosition {
        let mut generations = self.generations_before.clone();
        let latest = generations.last().map(|(generation, _)| *generation);
        let epochs = self.log.leader_epochs();
        generations.extend(epochs.entries().iter().filter(|(epoch, _)| latest.is_none_or(|latest| *epoch > latest)));
        generations.drain(..generations.len().saturating_sub(GENERATIONS_MAX));
        JournalPosition { end: self.end(), generations }
    }

    /// The first offset that others can read, inclusive.
    pub(crate) fn start(&self) -> Offset {
        self.log.first_segment()
    }

    /// What others read the journal through, until it is replaced.
    pub(crate) fn reader(&self) -> LogReader {
        self.log.reader()
    }

    /// Writes the records of one decision, after which `generation` holds. They are durable after the next
    /// [`Journal::sync`].
    pub(crate) fn append(
        &mut self,
        records: &[Record],
        generation: Generation,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, now);
        for record in records {
            builder.append(now, None, Some(&record.to_json()?), &[]);
        }
        let batch = builder.build()?;
        let size_bytes = batch.bytes().len();
        if size_bytes > DECISION_BYTES_MAX {
            return Err(JournalError::DecisionTooLarge { size_bytes });
        }
        self.log.append(&batch, epoch_of(generation), now)?;
        self.bytes_since_snapshot = self.bytes_since_snapshot.saturating_add(size_bytes as u64);
        Ok(())
    }

    /// Writes a leader's batches as they are. They are durable after the next [`Journal::sync`].
    pub(crate) fn append_raw(
        &mut self,
        batches: &[u8],
        generation: Generation,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        self.log.append_replicated(batches, epoch_of(generation), now)?;
        self.bytes_since_snapshot = self.bytes_since_snapshot.saturating_add(batches.len() as u64);
        Ok(())
    }

    /// Puts a leader's snapshot in place of everything. It is durable when this returns; a stop in between is made good
    /// by the next start.
    pub(crate) fn replace(&mut self, bytes: &[u8], stands: Stands, now: Timestamp) -> Result<(), JournalError> {
        snapshot::write_incoming(self.fs.as_ref(), &self.dir, bytes)?;
        self.log = begin_anew(&self.fs, &self.dir, stands.offset, now)?;
        self.generations_before = stands.generations;
        self.bytes_since_snapshot = 0;
        Ok(())
    }

    /// Keeps who leads, beside the journal. It is durable when this returns.
    pub(crate) fn note_leader(&self, leader: &KnownLeader, now: Timestamp) -> Result<(), JournalError> {
        known_leader::write(self.fs.as_ref(), &self.dir, leader, now)
    }

    /// Makes everything appended durable.
    pub(crate) fn sync(&mut self) -> Result<(), JournalError> {
        self.log.flush()?;
        self.log.set_high_watermark(self.log.durable_end());
        Ok(())
    }

    /// Writes a snapshot where one is due, and gives up the log before it. Tells whether it did.
    pub(crate) fn compact(&mut self, image: &Image, now: Timestamp) -> Result<bool, JournalError> {
        if self.bytes_since_snapshot < SNAPSHOT_EVERY_BYTES {
            return Ok(false);
        }
        // Also where it fails: trying again after every command would make each one slow.
        self.bytes_since_snapshot = 0;
        let position = self.position();
        snapshot::write(self.fs.as_ref(), &self.dir, image, &position.generations, now)?;
        self.generations_before = snapshot::generations_of(image, &position.generations);
        self.log.delete_records_before(image.offset())?;
        // Before any file goes: a recovery that looked for it would call it missing.
        self.write_checkpoint()?;
        self.log.apply_retention(now)?;
        Ok(true)
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
        let Stands { offset: mut from, generations } = snapshot::read(self.fs.as_ref(), &self.dir, &mut builder)?;
        self.generations_before = generations;
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
                let is_ahead = header.next_offset() > from;
                if is_ahead && header.base_offset != from {
                    return Err(self.unreadable(from, "the batch does not continue the journal"));
                }
                self.replay_batch(batch, from, &mut builder)?;
                if is_ahead && header.partition_leader_epoch != epoch_of(builder.image().generation()) {
                    return Err(self.unreadable(from, "the batch is of another generation"));
                }
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

fn name() -> TopicPartition {
    TopicPartition::new(JOURNAL, 0)
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: SEGMENT_BYTES, delete_on_retention: false, ..LogConfig::default() }
}

/// Removes the log that is there, begins one at `base`, and lets the incoming snapshot count. Each step can be done again.
fn begin_anew(fs: &Arc<dyn Fs>, dir: &Path, base: Offset, now: Timestamp) -> Result<Log, JournalError> {
    let io = |file: &Path| {
        let file = file.to_owned();
        move |source| JournalError::Io { file, source }
    };
    let is_kept = |name: &str| snapshot::is_snapshot(name) || known_leader::is_note(name);
    for entry in fs.read_dir(dir).map_err(io(dir))?.into_iter().filter(|entry| !entry.is_dir) {
        let path = dir.join(&entry.name);
        if !is_kept(&entry.name) {
            fs.remove_file(&path).map_err(io(&path))?;
        }
    }
    fs.sync_dir(dir).map_err(io(dir))?;
    let name = name();
    let known = Checkpoint {
        log_start: base,
        recovery_point: base,
        high_watermark: base,
        segment: base,
        position: 0,
        heads_sum: 0,
        producer_snapshot: None,
        topic_id: None,
    };
    let checkpoint_file = dir.join(checkpoint::CHECKPOINT_FILE);
    checkpoint::write(fs.as_ref(), dir, [(&name, &known)]).map_err(io(&checkpoint_file))?;
    let (mut log, _) = Log::open(Arc::clone(fs), dir.to_owned(), name, config(), Some(known), false, now)?;
    log.flush()?;
    snapshot::accept_incoming(fs.as_ref(), dir)?;
    Ok(log)
}
