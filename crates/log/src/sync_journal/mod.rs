//! One file to sync for the small appends of many logs: a group commit that covers a hundred partitions costs one sync of a
//! file that does not grow, where each partition's own file would cost a sync, and with it a commit of the file system.
//!
//! The log stays the only copy that is read. What a log appended is in its segment before it comes here, written and not
//! yet synced; the journal has the same bytes once more, with the place they belong to, until the segment is synced as well.
//! After a power cut [`replay`] puts them where they belong, before any log is opened; nobody else reads them.
//!
//! Two files are filled in turn, over and over. A full one is *released*: the segments that it has bytes of are synced,
//! then it may be filled anew. Which fillings count is said in a file of its own (`fillings`), replaced durably, so:
//!
//! - bytes count as durable when their record is synced in a filling that counts;
//! - a filling counts until all its segments are synced;
//! - none that counted when a log's cut was prepared counts when the log is cut: no replay brings back what a cut took.
//!
//! What does not fit, is large, or needs more than bytes to be durable (a new file, a leader epoch) is synced in its segment.
//! So is everything where the journal cannot be written, or while both files wait to be released: it is never waited for.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use chronik_model::{Offset, PartitionIndex, TopicId, TopicPartition};

use crate::dir::DataDir;
use crate::flush::FlushJob;
use crate::fs::{File, Fs, OpenMode, is_out_of_files};
use crate::segment::{LOG_SUFFIX, remove_if_there};

mod fillings;
mod record;
mod replay;

pub use replay::Replayed;
pub(crate) use replay::{forget, replay};

use fillings::{Fillings, SLOTS, slot_path};
use record::{Builder, Entry};

/// Zeros written at once. The page cache keeps them in pieces as large as the writes that made them, and the system counts a
/// later write of some of their bytes as all of them.
const ZEROS_BYTES: usize = 64 << 10;

/// Sizes of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncJournalLimits {
    /// Bytes of each of the two files. After a power cut as much as both hold is read and written once more. With more a
    /// release is a longer burst that group commits have to share the disk with: measured with 2 to 64 MiB.
    pub file_bytes: u64,
    /// Bytes of one record, of all its logs together.
    pub record_bytes: u32,
    /// Bytes of one log in one record. More are synced in their segment, where a sync costs less than to write them twice.
    pub entry_bytes: u32,
}

impl Default for SyncJournalLimits {
    fn default() -> Self {
        Self { file_bytes: 4 << 20, record_bytes: 1 << 20, entry_bytes: 128 << 10 }
    }
}

/// The journal of one data directory. One owner calls it.
#[derive(Debug)]
pub struct SyncJournal {
    fs: Arc<dyn Fs>,
    wal: PathBuf,
    limits: SyncJournalLimits,
    state: State,
    record: Builder,
    /// Records so far, that which is put together included.
    records: u64,
    /// Filled, or given up; they count until they are released.
    full: Vec<Filling>,
    /// What is on file.
    fillings: Fillings,
    /// A segment's sync failed: nobody knows which bytes are only here, so they stay for the next start.
    stuck: bool,
}

#[derive(Debug)]
enum State {
    /// Nothing can be added, and nobody wants to.
    Idle,
    /// Its files are being made, or it could not be written: nothing is added before [`SyncJournal::prepared`] or
    /// [`SyncJournal::renew`].
    Resting,
    /// Nothing can be added before the files are there.
    Wanted,
    Open {
        current: Filling,
        /// The one that is filled next.
        next: Option<Filling>,
    },
    /// Nothing is added any more.
    Closed,
}

/// A file that is being filled from its beginning, or was.
#[derive(Debug)]
struct Filling {
    number: u64,
    slot: u8,
    file: Arc<dyn File>,
    /// Where the next record goes.
    end: u64,
    segments: Segments,
}

/// The segments that have to be synced before a filling is released.
type Segments = HashMap<(TopicId, PartitionIndex, Offset), Unsynced>;

/// A segment that has bytes in the journal.
#[derive(Clone, Debug)]
struct Unsynced {
    path: PathBuf,
    /// The last record with bytes of it.
    record: u64,
}

/// A record was not made durable.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// It could not be written: what it has can still be synced where it lies.
    #[error("sync journal cannot be written: {0}")]
    Write(io::Error),
    /// Its sync failed: what is on the disk is not known.
    #[error("sync journal cannot be synced: {0}")]
    Sync(io::Error),
}

/// The journal's files, to be made.
#[derive(Debug)]
pub struct Preparation {
    fs: Arc<dyn Fs>,
    wal: PathBuf,
    file_bytes: u64,
}

/// The journal's files, as long as they will ever be: a sync of one need not make its length durable as well.
#[derive(Debug)]
pub struct Prepared {
    files: Vec<Arc<dyn File>>,
    next: u64,
}

/// Segments to be synced in their own files. The journal need not be held meanwhile.
#[derive(Debug)]
pub struct Release {
    filling: Option<u64>,
    /// Up to this record.
    through: u64,
    segments: Segments,
}

impl SyncJournal {
    /// A journal that has nothing, in the directory of the logs. What an earlier one had was replayed when the data
    /// directory was opened.
    pub(crate) fn new(fs: Arc<dyn Fs>, wal: PathBuf, limits: SyncJournalLimits) -> Self {
        Self {
            fs,
            wal,
            limits,
            state: State::Idle,
            record: Builder::default(),
            records: 1,
            full: Vec::new(),
            fillings: Fillings::default(),
            stuck: false,
        }
    }

    /// Takes over what a flush would sync, if that is a few bytes of one segment. `false` where the job is to be run.
    pub fn add(&mut self, topic_id: TopicId, partition: &TopicPartition, job: &FlushJob) -> bool {
        let Some((file, from, to)) = job.bytes() else { return false };
        let len = match u32::try_from(to - from) {
            Ok(len) if len <= self.limits.entry_bytes => len,
            _ => return false,
        };
        let record_bytes = u64::from(self.limits.record_bytes);
        if self.record.len_with(&partition.topic, len as usize) > record_bytes {
            return false;
        }
        if self.record.is_empty() && !self.make_room(record_bytes) {
            return false;
        }
        let State::Open { current, .. } = &mut self.state else { return false };
        let segment = job.mark.segment;
        let of = Entry {
            topic_id,
            topic: &partition.topic,
            partition: partition.partition,
            segment,
            position: from,
            bytes: &[],
        };
        // What cannot be read is synced where it lies, or says there why not.
        if self.record.add(of, len, |bytes| file.read_exact_at(bytes, from)).is_err() {
            return false;
        }
        let unsynced = || Unsynced { path: job.place.path(segment, LOG_SUFFIX), record: 0 };
        let key = (topic_id, partition.partition, segment);
        current.segments.entry(key).or_insert_with(unsynced).record = self.records;
        true
    }

    /// Whether a record of `bytes` has room in the current filling, or in the next one, which is the current one then.
    fn make_room(&mut self, bytes: u64) -> bool {
        match &mut self.state {
            State::Open { current, .. } if current.end + bytes <= self.limits.file_bytes => true,
            State::Open { current, next } => {
                let Some(next) = next.take() else { return false };
                self.full.push(std::mem::replace(current, next));
                true
            }
            State::Idle => {
                self.state = State::Wanted;
                false
            }
            State::Resting | State::Wanted | State::Closed => false,
        }
    }

    /// Makes durable what was added; returns how many bytes that wrote.
    ///
    /// # Errors
    /// See [`CommitError`]. Nothing is added any more: after a write that failed before [`SyncJournal::renew`], after a sync
    /// that failed for good.
    pub fn commit(&mut self) -> Result<usize, CommitError> {
        if self.record.is_empty() {
            return Ok(0);
        }
        self.records += 1;
        let outcome = match &mut self.state {
            State::Open { current, .. } => {
                let record = self.record.finish(current.number, current.end);
                let written = current.file.write_all_at(record, current.end).map_err(CommitError::Write);
                current.end += record.len() as u64;
                let synced = written.and_then(|()| current.file.sync_data().map_err(CommitError::Sync));
                synced.map(|()| record.len())
            }
            _ => Err(CommitError::Write(io::ErrorKind::NotConnected.into())),
        };
        self.record.clear();
        if let Err(error) = &outcome {
            self.give_up(if matches!(error, CommitError::Sync(_)) { State::Closed } else { State::Resting });
        }
        outcome
    }

    /// Adds nothing any more; what is there counts until it is released. What was closed stays so.
    fn give_up(&mut self, state: State) {
        self.record.clear();
        if matches!(self.state, State::Closed) {
            return;
        }
        if let State::Open { current, next } = std::mem::replace(&mut self.state, state) {
            self.full.push(current);
            self.full.extend(next);
        }
    }

    /// Whether there is something for [`SyncJournal::wanted`].
    pub fn is_wanted(&self) -> bool {
        matches!(self.state, State::Wanted)
    }

    /// The files to be made, where they are wanted and are not there. Nothing is added before [`SyncJournal::prepared`].
    pub fn wanted(&mut self) -> Option<Preparation> {
        if !self.is_wanted() {
            return None;
        }
        self.state = State::Resting;
        Some(Preparation { fs: Arc::clone(&self.fs), wal: self.wal.clone(), file_bytes: self.limits.file_bytes })
    }

    /// Begins to fill the files that were made.
    ///
    /// # Errors
    /// They were not, or that they count could not be written down: nothing is added before [`SyncJournal::renew`].
    pub fn prepared(&mut self, made: io::Result<Prepared>) -> io::Result<()> {
        let made = made?;
        if !matches!(self.state, State::Resting | State::Idle) || !self.full.is_empty() {
            return Ok(());
        }
        self.fillings.next = self.fillings.next.max(made.next);
        self.begin((0..).zip(made.files).collect())
    }

    /// Whether a filling waits for [`SyncJournal::full`].
    pub fn is_full(&self) -> bool {
        matches!(self.state, State::Open { .. }) && !self.full.is_empty()
    }

    /// Begins to fill the files; nothing else counts from then on.
    fn begin(&mut self, files: Vec<(u8, Arc<dyn File>)>) -> io::Result<()> {
        let first = self.fillings.next;
        let begun: Vec<Filling> = (first..)
            .zip(files)
            .map(|(number, (slot, file))| Filling { number, slot, file, end: 0, segments: Segments::new() })
            .collect();
        let counting = begun.iter().map(|filling| (filling.number, filling.slot)).collect();
        self.tell(Fillings { next: first + u64::from(SLOTS), counting })?;
        self.full.clear();
        let mut begun = begun.into_iter();
        if let Some(current) = begun.next() {
            self.state = State::Open { current, next: begun.next() };
        }
        Ok(())
    }

    fn tell(&mut self, fillings: Fillings) -> io::Result<()> {
        if self.stuck {
            return Err(io::Error::other("an earlier sync of a segment failed"));
        }
        fillings::write(&*self.fs, &self.wal, &fillings)?;
        self.fillings = fillings;
        Ok(())
    }

    /// The oldest full filling's segments, to be synced and given to [`SyncJournal::released`].
    pub fn full(&self) -> Option<Release> {
        let filling = self.full.first()?;
        Some(Release { filling: Some(filling.number), through: self.records, segments: filling.segments.clone() })
    }

    /// Takes back the segments of a full filling, synced: it does not count any more, and its file is filled anew.
    ///
    /// # Errors
    /// That could not be written down: perhaps the filling counts as before, and nothing is added before
    /// [`SyncJournal::renew`].
    pub fn released(&mut self, release: &Release) -> io::Result<()> {
        self.synced(release);
        let Some(at) = self.full.iter().position(|filling| Some(filling.number) == release.filling) else {
            return Ok(());
        };
        let Some(slot) = self.full.get(at).map(|filling| filling.slot) else { return Ok(()) };
        let mut fillings = self.fillings.clone();
        fillings.counting.retain(|(number, _)| Some(*number) != release.filling);
        let number = fillings.next;
        let refill = matches!(self.state, State::Open { next: None, .. });
        if refill {
            fillings.next += 1;
            fillings.counting.push((number, slot));
        }
        if let Err(error) = self.tell(fillings) {
            self.give_up(State::Resting);
            return Err(error);
        }
        let filling = self.full.remove(at);
        if let (true, State::Open { next, .. }) = (refill, &mut self.state) {
            *next = Some(Filling { number, end: 0, segments: Segments::new(), ..filling });
        }
        Ok(())
    }

    /// Every segment that has bytes here, to be synced and given to [`SyncJournal::synced`].
    pub fn everything(&self) -> Release {
        let segments = self.counting().flat_map(|filling| &filling.segments);
        let segments = segments.map(|(key, segment)| (*key, segment.clone())).collect();
        Release { filling: None, through: self.records, segments }
    }

    /// The fillings that may have something.
    fn counting(&self) -> impl Iterator<Item = &Filling> {
        let open = match &self.state {
            State::Open { current, .. } => Some(current),
            _ => None,
        };
        self.full.iter().chain(open)
    }

    /// Takes back segments, synced after they were given out.
    pub fn synced(&mut self, release: &Release) {
        let open = match &mut self.state {
            State::Open { current, .. } => Some(current),
            _ => None,
        };
        for filling in self.full.iter_mut().chain(open) {
            // What was added since is not covered.
            filling
                .segments
                .retain(|key, segment| segment.record >= release.through || !release.segments.contains_key(key));
        }
    }

    /// An error while a segment waits for its sync.
    fn all_synced(&self) -> io::Result<()> {
        if self.counting().any(|filling| !filling.segments.is_empty()) {
            return Err(io::Error::other("a segment with bytes in the sync journal is not synced"));
        }
        Ok(())
    }

    /// Says that a sync of segments failed: their bytes stay here for the next start, and nothing is added any more.
    pub fn fail(&mut self) {
        self.stuck = true;
        self.give_up(State::Closed);
    }

    /// Says that nothing here counts any more, once everything is synced: a log may be cut then.
    ///
    /// # Errors
    /// Something is not synced; or that could not be written down: perhaps what counted counts, and nothing is added before
    /// the next call.
    pub fn renew(&mut self) -> io::Result<()> {
        self.all_synced()?;
        let unused = self.full.is_empty() && !matches!(&self.state, State::Open { current, .. } if current.end > 0);
        if unused && !self.stuck {
            self.wake();
            return Ok(());
        }
        if let State::Open { current, next } = &self.state {
            let slots = std::iter::once(current).chain(next).chain(&self.full);
            let mut files: Vec<_> = slots.map(|filling| (filling.slot, Arc::clone(&filling.file))).collect();
            files.sort_by_key(|(slot, _)| *slot);
            let begun = self.begin(files);
            if begun.is_err() {
                // Nobody knows whether a record of the present filling would count.
                self.give_up(State::Resting);
            }
            return begun;
        }
        self.tell(Fillings { counting: Vec::new(), ..self.fillings })?;
        self.full.clear();
        self.wake();
        Ok(())
    }

    fn wake(&mut self) {
        if matches!(self.state, State::Resting) {
            self.state = State::Idle;
        }
    }

    /// Ends the journal and removes its files, as [`SyncJournal::renew`] does it.
    ///
    /// # Errors
    /// As there.
    pub fn close(&mut self) -> io::Result<()> {
        self.give_up(State::Closed);
        self.all_synced()?;
        if self.stuck || !self.fillings.counting.is_empty() {
            self.tell(Fillings { counting: Vec::new(), ..self.fillings })?;
        }
        self.full.clear();
        for slot in 0..SLOTS {
            remove_if_there(&*self.fs, &slot_path(&self.wal, slot))?;
        }
        Ok(())
    }
}

impl Preparation {
    /// Makes the files, durably. Blocks for as long as the disk takes for their bytes.
    ///
    /// # Errors
    /// The disk is full or failed.
    pub fn run(&self) -> io::Result<Prepared> {
        let next = fillings::read(&*self.fs, &self.wal)?.next;
        // Numbers begin anew: somebody may have removed what said them, and no record of the earlier ones may be left.
        let mode = if next == 0 { OpenMode::Truncate } else { OpenMode::Create };
        let zeros = vec![0; ZEROS_BYTES];
        let mut files = Vec::new();
        for slot in 0..SLOTS {
            let file = self.fs.open(&slot_path(&self.wal, slot), mode)?;
            let mut len = file.len()?;
            while len < self.file_bytes {
                let missing = usize::try_from(self.file_bytes - len).unwrap_or(usize::MAX).min(ZEROS_BYTES);
                file.write_all_at(zeros.get(..missing).unwrap_or_default(), len)?;
                len += missing as u64;
            }
            file.sync_data()?;
            files.push(file);
        }
        self.fs.sync_dir(&self.wal)?;
        Ok(Prepared { files, next })
    }
}

impl Release {
    /// Syncs the segments: each through a handle of its own, so that a write-back that failed is told here and to whoever
    /// else syncs the file; from `all_from` segments on the whole file system.
    ///
    /// # Errors
    /// A sync failed: [`SyncJournal::fail`], and no log of [`Release::partitions`] may count on a sync any more. The other way
    /// round, success proves nothing for a log whose own sync failed before: look at [`crate::Log::sync_failed`] afterwards.
    pub fn run(&self, dir: &DataDir, all_from: usize) -> io::Result<()> {
        dir.none_failed()?;
        if self.segments.len() >= all_from {
            return dir.sync_all().map_err(io::Error::other);
        }
        for Unsynced { path, .. } in self.segments.values() {
            match dir.fs().open(path, OpenMode::Write) {
                Ok(file) => file.sync_data()?,
                // Removed meanwhile, with all that could be lost.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if is_out_of_files(&error) => return dir.sync_all().map_err(io::Error::other),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The partitions that the segments belong to; one is named as often as it has segments.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicId, PartitionIndex)> {
        self.segments.keys().map(|(topic, partition, _)| (*topic, *partition))
    }
}
