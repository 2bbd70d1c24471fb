//! One segment: a file of batches, its tables, its name, and the lookups inside it.
//!
//! The writer alone appends and cuts; readers share the segment through an `Arc` and only look below the size they were
//! given. Everything derived is loaded when first needed and rebuilt from the batches when it does not agree with them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use chronik_model::{Offset, Timestamp};
use chronik_record::{BatchHeader, Caps, HEADER_BYTES};
use parking_lot::{Mutex, RwLock};

use crate::damage::{self, Damage};
use crate::fs::{Fence, File, Fs, OpenMode};
use crate::index::{OffsetEntry, OffsetTable, TimeEntry, TimeTable};
use crate::reader::ReadError;
use crate::scan::{HEADER_WINDOW_BYTES, Reason, Window};

/// Bytes of a batch before its checksum's range: base offset, length, leader epoch, magic and the checksum itself.
pub(crate) const HEAD_BYTES: usize = 21;

mod completion;

pub(crate) const LOG_SUFFIX: &str = "log";
pub(crate) const INDEX_SUFFIX: &str = "index";
pub(crate) const TIME_INDEX_SUFFIX: &str = "timeindex";
pub(crate) const SNAPSHOT_SUFFIX: &str = "snapshot";
pub(crate) const SUM_SUFFIX: &str = "sum";
pub(crate) const DAMAGE_SUFFIX: &str = "damage";
pub(crate) const DELETED_SUFFIX: &str = "deleted";
/// What lies beside a segment and is about it.
const SIDE_SUFFIXES: [&str; 4] = [INDEX_SUFFIX, TIME_INDEX_SUFFIX, SUM_SUFFIX, DAMAGE_SUFFIX];

/// Where a partition's files are and what they are called.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) partition: i32,
    /// What `fs` goes through.
    fence: Arc<Fence>,
}

impl Place {
    pub(crate) fn new(fs: Arc<dyn Fs>, dir: PathBuf, partition: i32) -> Self {
        let fence = Arc::new(Fence::new(fs));
        Self { fs: Arc::<Fence>::clone(&fence), dir, partition, fence }
    }

    /// Gives the files up: nothing is opened or changed through this place any more.
    pub(crate) fn give_up(&self) {
        self.fence.close();
    }

    /// Whether [`Place::give_up`] was called.
    pub(crate) fn is_given_up(&self) -> bool {
        self.fence.is_closed()
    }

    pub(crate) fn path(&self, base_offset: Offset, suffix: &str) -> PathBuf {
        self.dir.join(format!("wal_{}_{}.{}", self.partition, base_offset, suffix))
    }
}

/// Splits `wal_<partition>_<offset>.<suffix>`; `None` for any other name, also for one with leading zeros or signs.
pub(crate) fn parse_name(name: &str) -> Option<(i32, Offset, &str)> {
    let (stem, suffix) = name.strip_prefix("wal_")?.split_once('.')?;
    let (partition, offset) = stem.split_once('_')?;
    let (number, base): (i32, i64) = (partition.parse().ok()?, offset.parse().ok()?);
    if number < 0 || base < 0 || number.to_string() != partition || base.to_string() != offset {
        return None;
    }
    Some((number, Offset::new(base), suffix))
}

/// A batch found in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

/// A timestamp with the offset of the record that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) timestamp_ms: i64,
    pub(crate) offset: Offset,
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: Offset,
    place: Arc<Place>,
    index_interval_bytes: u64,
    size: AtomicU64,
    file: Mutex<Option<Weak<dyn File>>>,
    tables: RwLock<Option<Tables>>,
    damage: RwLock<Vec<Damage>>,
}

/// The tables with what is needed to continue them.
#[derive(Debug)]
struct Tables {
    offsets: OffsetTable,
    times: TimeTable,
    bytes_since_entry: u64,
    newest: Option<TimeEntry>,
    newest_in_table: Option<i64>,
    /// Whether no batch before `end` has a later timestamp than `newest`.
    times_complete: bool,
    /// Everything before this position is taken in, exclusive end.
    end: u64,
}

impl Segment {
    /// A segment whose tables are taken from its files when first needed.
    pub(crate) fn existing(place: Arc<Place>, base_offset: Offset, size: u64, index_interval_bytes: u64) -> Self {
        Self {
            base_offset,
            place,
            index_interval_bytes,
            size: AtomicU64::new(size),
            file: Mutex::new(None),
            tables: RwLock::new(None),
            damage: RwLock::new(Vec::new()),
        }
    }

    /// Makes an empty segment file. Its name is durable after a sync of the directory. Side files of an earlier segment with
    /// its name go: a crash may have brought them back, and what they say is about other bytes.
    pub(crate) fn create(
        place: Arc<Place>,
        base_offset: Offset,
        index_interval_bytes: u64,
    ) -> io::Result<(Self, Arc<dyn File>)> {
        for suffix in SIDE_SUFFIXES {
            remove_if_there(&*place.fs, &place.path(base_offset, suffix))?;
        }
        let file = place.fs.open(&place.path(base_offset, LOG_SUFFIX), OpenMode::Truncate)?;
        let segment = Self::existing(place, base_offset, 0, index_interval_bytes);
        *segment.tables.write() = Some(segment.no_tables());
        *segment.file.lock() = Some(Arc::downgrade(&file));
        Ok((segment, file))
    }

    pub(crate) fn path(&self, suffix: &str) -> PathBuf {
        self.place.path(self.base_offset, suffix)
    }

    pub(crate) fn fs(&self) -> &dyn Fs {
        &*self.place.fs
    }

    /// Bytes of valid batches, and of damage between them.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// The file, opened when nobody has it open.
    pub(crate) fn file(&self) -> io::Result<Arc<dyn File>> {
        let mut slot = self.file.lock();
        if let Some(file) = slot.as_ref().and_then(Weak::upgrade) {
            return Ok(file);
        }
        let file = self.place.fs.open(&self.path(LOG_SUFFIX), OpenMode::Write)?;
        *slot = Some(Arc::downgrade(&file));
        Ok(file)
    }

    pub(crate) fn damage(&self) -> Vec<Damage> {
        self.damage.read().clone()
    }

    /// Adds a damaged range; one that is known already is not added twice.
    pub(crate) fn add_damage(&self, damage: Damage) {
        let mut known = self.damage.write();
        if !known.iter().any(|range| {
            range.position <= damage.position && damage.position < range.position_end.max(range.position + 1)
        }) {
            known.push(damage);
            known.sort_by_key(|range| range.position);
        }
    }

    /// Forgets damage from a position on.
    pub(crate) fn cut_damage(&self, position: u64) {
        self.damage.write().retain(|range| range.position < position);
    }

    /// Forgets damage of offsets that the log does not have; true where there was some.
    pub(crate) fn forget_damage_from(&self, log_end: Offset) -> bool {
        let mut damage = self.damage.write();
        let before = damage.len();
        damage.retain(|range| range.offset < log_end);
        damage.len() < before
    }

    /// Forgets damaged bytes behind a position; offsets that are missing there stay missing.
    pub(crate) fn forget_damage_behind(&self, position: u64) {
        self.damage.write().retain(|range| range.position < position || range.position_end <= position);
    }

    /// Takes the damaged ranges from the side file.
    pub(crate) fn load_damage(&self) -> io::Result<()> {
        *self.damage.write() = damage::load(self.fs(), &self.path(DAMAGE_SUFFIX), &self.path(LOG_SUFFIX))?;
        Ok(())
    }

    /// Writes the damaged ranges to the side file, durably.
    pub(crate) fn save_damage(&self) -> io::Result<()> {
        damage::save(self.fs(), &self.path(DAMAGE_SUFFIX), &self.damage())
    }

    /// The damaged range that holds a position.
    pub(crate) fn damage_at(&self, position: u64) -> Option<Damage> {
        self.damage.read().iter().find(|range| range.position <= position && position < range.position_end).cloned()
    }

    /// The first damaged range that begins behind a position.
    pub(crate) fn damage_after(&self, position: u64) -> Option<Damage> {
        self.damage.read().iter().find(|range| range.position > position).cloned()
    }

    /// Whether a batch ending with `last_offset` keeps its offset relative to the base within 32 bits.
    pub(crate) fn can_hold(&self, last_offset: Offset) -> bool {
        last_offset.distance_from(self.base_offset) <= i32::MAX as u64
    }

    fn relative(&self, offset: Offset) -> u32 {
        u32::try_from(offset.distance_from(self.base_offset)).unwrap_or(u32::MAX)
    }

    fn absolute(&self, relative_offset: u32) -> Offset {
        Offset::new(self.base_offset.get().saturating_add(i64::from(relative_offset)))
    }

    fn no_tables(&self) -> Tables {
        Tables {
            offsets: OffsetTable::empty(self.path(INDEX_SUFFIX)),
            times: TimeTable::empty(self.path(TIME_INDEX_SUFFIX)),
            bytes_since_entry: 0,
            newest: None,
            newest_in_table: None,
            times_complete: true,
            end: 0,
        }
    }

    // ---- what the writer does -------------------------------------------------------------------------------------

    /// Makes the tables ready to take entries for batches from `position` on; entries at or behind it are dropped.
    pub(crate) fn continue_tables(&self, position: u64, offset: Offset) -> io::Result<()> {
        let mut slot = self.tables.write();
        let fs = self.fs();
        let mut tables = match slot.take() {
            Some(tables) => tables,
            None => self.tables_on_file()?,
        };
        let relative = self.relative(offset);
        let kept = tables.times.partition_point(fs, |entry| TimeEntry::decode(entry).relative_offset < relative)?;
        tables.times.truncate(kept);
        *slot = Some(self.complete(tables, position)?);
        Ok(())
    }

    /// Starts the tables over, for a scan from the first byte.
    pub(crate) fn restart_tables(&self) {
        *self.tables.write() = Some(self.no_tables());
    }

    /// Makes room for one more entry in memory, so that [`Segment::note`] needs no disk.
    pub(crate) fn make_entry_room(&self) -> io::Result<()> {
        let mut slot = self.tables.write();
        if slot.is_none() {
            *slot = Some(self.load(self.size())?);
        }
        if let Some(tables) = slot.as_mut() {
            tables.offsets.spill_if_full(self.fs())?;
            tables.times.spill_if_full(self.fs())?;
        }
        Ok(())
    }

    /// Takes a written batch into the tables. Where that fails the tables are taken from their files and the batches when
    /// they are needed next.
    pub(crate) fn note(&self, header: &BatchHeader, position: u64) -> io::Result<()> {
        let mut slot = self.tables.write();
        if slot.is_none() {
            *slot = Some(self.load(position)?);
        }
        let noted = slot.as_mut().map_or(Ok(()), |tables| self.note_in(tables, header, position));
        if noted.is_err() {
            *slot = None;
        }
        noted
    }

    fn note_in(&self, tables: &mut Tables, header: &BatchHeader, position: u64) -> io::Result<()> {
        if position < tables.end {
            // A reader that had to load the tables was faster.
            return Ok(());
        }
        tables.end = position + header.size_bytes() as u64;
        let relative_offset = self.relative(header.base_offset);
        let timestamp_ms = header.max_timestamp.millis();
        if tables.newest.is_none_or(|newest| timestamp_ms > newest.timestamp_ms) {
            tables.newest = Some(TimeEntry { timestamp_ms, relative_offset });
        }
        if tables.bytes_since_entry > self.index_interval_bytes
            && let Ok(position) = u32::try_from(position)
        {
            tables.offsets.push(self.fs(), OffsetEntry { relative_offset, position }.encode())?;
            tables.push_newest(self.fs())?;
            tables.bytes_since_entry = 0;
        }
        tables.bytes_since_entry += header.size_bytes() as u64;
        Ok(())
    }

    /// Writes what the tables hold in memory to their files; `seal` when no batch follows. Not synced.
    pub(crate) fn spill(&self, seal: bool) -> io::Result<()> {
        if let Some(tables) = self.tables.write().as_mut() {
            tables.push_newest(self.fs())?;
            tables.offsets.spill(self.fs())?;
            tables.times.spill(self.fs())?;
            if seal {
                tables.offsets.shrink();
                tables.times.shrink();
            }
        }
        Ok(())
    }

    /// Brings the tables' files up to date where there are any. A small segment gets none before it is sealed: what a crash
    /// takes of its tables is soon read from its batches, and thousands of small files are much to make at once.
    pub(crate) fn spill_what_is_begun(&self) -> io::Result<()> {
        let begun =
            self.tables.read().as_ref().is_some_and(|tables| tables.offsets.is_on_file() || tables.times.is_on_file());
        if begun { self.spill(false) } else { Ok(()) }
    }

    /// Entries in the larger table.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.tables.read().as_ref().map_or(0, |tables| (tables.offsets.len() * 8).max(tables.times.len() * 12))
    }

    // ---- tables ---------------------------------------------------------------------------------------------------

    fn load(&self, size: u64) -> io::Result<Tables> {
        self.complete(self.tables_on_file()?, size)
    }

    /// What the files hold, to be completed before it is used.
    fn tables_on_file(&self) -> io::Result<Tables> {
        Ok(Tables {
            offsets: OffsetTable::load(self.fs(), self.path(INDEX_SUFFIX))?,
            times: TimeTable::load(self.fs(), self.path(TIME_INDEX_SUFFIX))?,
            ..self.no_tables()
        })
    }

    fn with_tables<T>(&self, work: impl FnOnce(&Tables) -> io::Result<T>) -> io::Result<T> {
        loop {
            if let Some(tables) = self.tables.read().as_ref() {
                return work(tables);
            }
            let mut slot = self.tables.write();
            if slot.is_none() {
                *slot = Some(self.load(self.size())?);
            }
        }
    }

    fn rebuild_tables(&self) -> io::Result<()> {
        // The writer waits meanwhile, so that none of its entries is lost.
        let mut slot = self.tables.write();
        *slot = Some(self.rebuild(self.size())?);
        Ok(())
    }

    // ---- lookups --------------------------------------------------------------------------------------------------

    /// The header at a position below `limit`, or the damage there.
    pub(crate) fn header_at(&self, file: &dyn File, position: u64, limit: u64) -> Result<BatchHeader, ReadError> {
        let mut buf = [0; HEADER_BYTES];
        let header = Window::new(file, &mut buf, limit).header_at(position).map_err(|error| self.io(error))?;
        header.map_err(|reason| self.damaged(position, reason))
    }

    /// The batch that holds `target`, or the first one behind it, among those below `limit`.
    pub(crate) fn find(&self, target: Offset, limit: u64) -> Result<Option<Found>, ReadError> {
        let file = self.file().map_err(|error| self.io(error))?;
        let mut start = self.floor(&*file, target, limit)?;
        if start.is_none() {
            self.rebuild_tables().map_err(|error| self.io(error))?;
            start = self.floor(&*file, target, limit)?;
        }
        let mut found = None;
        self.walk(&*file, start.unwrap_or(0), limit, |position, header| {
            if header.last_offset() >= target {
                found = Some(Found { position, header: *header });
            }
            found.is_none()
        })?;
        if found.is_none_or(|found| found.header.base_offset > target)
            && let Some(damage) = self.damage_holding(target).filter(|damage| !damage.is_lost())
        {
            return Err(ReadError::Damaged(damage));
        }
        Ok(found)
    }

    /// The batch that holds `target`, or the first one behind it where the offsets between are only lost. `next_base` is
    /// where the next segment begins: offsets before it are this one's, and where they are not there they were taken away.
    pub(crate) fn find_all(
        &self,
        target: Offset,
        next_base: Option<Offset>,
        limit: u64,
    ) -> Result<Option<Found>, ReadError> {
        let mut target = target.max(self.base_offset);
        loop {
            let found = self.find(target, limit)?;
            if next_base.is_some_and(|next| next <= target)
                || found.is_some_and(|found| found.header.base_offset <= target)
            {
                return Ok(found);
            }
            if let Some(lost) = self.damage_holding(target) {
                target = lost.offset_end.max(target.next());
                continue;
            }
            let Some(offset_end) = found.map(|found| found.header.base_offset).or(next_base) else { return Ok(None) };
            let position = found.map_or(limit, |found| found.position);
            let damage = self.damage_here(position, Reason::Missing);
            return Err(ReadError::Damaged(Damage { offset: target, offset_end, ..damage }));
        }
    }

    /// Where a log that ends at or before `target` ends in this segment, and its log end then: the beginning of the batch
    /// or of the damage that holds `target`. Damage that nobody has met yet ends it as well. Nothing behind that place is
    /// read.
    pub(crate) fn place_to_cut(&self, target: Offset, limit: u64) -> Result<(u64, Offset), ReadError> {
        let file = self.file().map_err(|error| self.io(error))?;
        let start = self.floor(&*file, target, limit)?.unwrap_or(0);
        let (mut found, mut behind) = (None, (start, None));
        let walked = self.walk(&*file, start, limit, |position, header| {
            if header.last_offset() >= target {
                found = Some((position, header.base_offset));
            } else {
                behind = (position + header.size_bytes() as u64, Some(header.next_offset()));
            }
            found.is_none()
        });
        match walked {
            Ok(()) => {}
            Err(ReadError::Damaged(_)) => {
                return Ok((behind.0, behind.1.unwrap_or(self.base_offset)));
            }
            Err(error) => return Err(error),
        }
        if let Some(damage) = self.damage_holding(target) {
            return Ok((damage.position, damage.offset));
        }
        Ok(found.unwrap_or((limit, target)))
    }

    fn damage_holding(&self, offset: Offset) -> Option<Damage> {
        self.damage.read().iter().find(|range| range.offset <= offset && offset < range.offset_end).cloned()
    }

    /// The position of an indexed batch at or before `target`; `None` where the table is wrong.
    fn floor(&self, file: &dyn File, target: Offset, limit: u64) -> Result<Option<u64>, ReadError> {
        let relative = self.relative(target);
        let entry = self.with_tables(|tables| {
            let fs = self.fs();
            let after =
                tables.offsets.partition_point(fs, |entry| OffsetEntry::decode(entry).relative_offset <= relative)?;
            after.checked_sub(1).map_or(Ok(None), |at| tables.offsets.get(fs, at))
        });
        let entry = match entry {
            Ok(entry) => entry.map(OffsetEntry::decode),
            // A table file that vanished or shrank under us is a wrong table.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
                return Ok(None);
            }
            Err(error) => return Err(self.io(error)),
        };
        let Some(entry) = entry else { return Ok(Some(0)) };
        let position = u64::from(entry.position);
        if position >= limit {
            // The entry is wrong, unless the log was cut after the caller took its limit.
            return Ok((limit < self.size()).then_some(0));
        }
        match self.header_at(file, position, self.size()) {
            Ok(header)
                if header.base_offset == self.absolute(entry.relative_offset) && header.base_offset <= target =>
            {
                Ok(Some(position))
            }
            Ok(_) | Err(ReadError::Damaged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Calls `visit` for each batch from a position on while it says so, passing over known damage.
    pub(crate) fn walk(
        &self,
        file: &dyn File,
        from: u64,
        limit: u64,
        mut visit: impl FnMut(u64, &BatchHeader) -> bool,
    ) -> Result<(), ReadError> {
        let mut buf = [0; HEADER_WINDOW_BYTES];
        let mut window = Window::new(file, &mut buf, limit);
        let mut position = from;
        while position < limit {
            match window.header_at(position).map_err(|error| self.io(error))? {
                Ok(header) if self.damage_at(position).is_none() => {
                    if !visit(position, &header) {
                        break;
                    }
                    position += header.size_bytes() as u64;
                }
                Ok(_) | Err(_) => match self.damage_at(position) {
                    Some(damage) => position = damage.position_end,
                    None => {
                        let reason = window.header_at(position).map_err(|error| self.io(error))?.err();
                        return Err(self.damaged(position, reason.unwrap_or(Reason::Incomplete)));
                    }
                },
            }
        }
        Ok(())
    }

    /// The last indexed batch start in `(after, until]`, with its offset: where a slice can end without reading headers.
    pub(crate) fn boundary_before(&self, after: u64, until: u64) -> Option<(u64, Offset)> {
        let entry = self
            .with_tables(|tables| {
                let fs = self.fs();
                let next = tables
                    .offsets
                    .partition_point(fs, |entry| u64::from(OffsetEntry::decode(entry).position) <= until)?;
                next.checked_sub(1).map_or(Ok(None), |at| tables.offsets.get(fs, at))
            })
            .ok()??;
        let entry = OffsetEntry::decode(entry);
        let position = u64::from(entry.position);
        (position > after && position <= until).then(|| (position, self.absolute(entry.relative_offset)))
    }

    /// The largest timestamp below the segment's end, with the base offset of the first batch that has it.
    pub(crate) fn newest(&self) -> Result<Option<Stamp>, ReadError> {
        for _ in 0..2 {
            let newest = self.with_tables(|tables| Ok(tables.newest)).map_err(|error| self.io(error))?;
            let Some(newest) = newest else { return Ok(None) };
            let stamp = Stamp { timestamp_ms: newest.timestamp_ms, offset: self.absolute(newest.relative_offset) };
            if self.batch_agrees(stamp)?.is_some() {
                return Ok(Some(stamp));
            }
            self.rebuild_tables().map_err(|error| self.io(error))?;
        }
        Ok(None)
    }

    /// The batch a time entry points to, if it says the same.
    fn batch_agrees(&self, stamp: Stamp) -> Result<Option<Found>, ReadError> {
        match self.find(stamp.offset, self.size()) {
            Ok(found) => Ok(found.filter(|found| {
                found.header.base_offset == stamp.offset && found.header.max_timestamp.millis() == stamp.timestamp_ms
            })),
            Err(ReadError::Damaged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The first record with a timestamp at or after `wanted` and an offset in `[from, below)`.
    pub(crate) fn first_at_or_after(
        &self,
        wanted: Timestamp,
        from: Offset,
        below: Offset,
        limit: u64,
    ) -> Result<Option<Stamp>, ReadError> {
        let start = match self.time_floor(wanted)? {
            Some(start) => start,
            None => {
                self.rebuild_tables().map_err(|error| self.io(error))?;
                self.time_floor(wanted)?.unwrap_or(0)
            }
        };
        let file = self.file().map_err(|error| self.io(error))?;
        let mut position = start;
        loop {
            let mut next = None;
            self.walk(&*file, position, limit, |at, header| {
                let fits = header.max_timestamp >= wanted && header.last_offset() >= from;
                if fits || header.base_offset >= below {
                    next = Some(Found { position: at, header: *header });
                }
                next.is_none()
            })?;
            let Some(found) = next.filter(|found| found.header.base_offset < below) else { return Ok(None) };
            let batch = self.batch(&*file, &found)?;
            match chronik_record::first_at_or_after(&batch, wanted, from, &Caps::default()) {
                Ok(Some(record)) if record.offset < below => {
                    return Ok(Some(Stamp { timestamp_ms: record.timestamp.millis(), offset: record.offset }));
                }
                Ok(_) => position = found.position + found.header.size_bytes() as u64,
                // Records nobody can read: the batch is named, as precise as can be.
                Err(_) => {
                    let offset = found.header.base_offset.max(from);
                    return Ok(Some(Stamp { timestamp_ms: found.header.max_timestamp.millis(), offset }));
                }
            }
        }
    }

    /// A position before the first batch that reaches `wanted`; `None` where the time table is wrong.
    ///
    /// The entry before the one that reaches it is where the search starts, so that an entry's offset matters only where
    /// the batch it points to confirms it.
    fn time_floor(&self, wanted: Timestamp) -> Result<Option<u64>, ReadError> {
        let before = self
            .with_tables(|tables| {
                let fs = self.fs();
                let reached = tables
                    .times
                    .partition_point(fs, |entry| TimeEntry::decode(entry).timestamp_ms < wanted.millis())?;
                let before = match reached.checked_sub(1) {
                    Some(at) => tables.times.get(fs, at)?.map(TimeEntry::decode),
                    None => None,
                };
                let after = tables.times.get(fs, reached)?.map(TimeEntry::decode);
                Ok((before, after))
            })
            .map_err(|error| self.io(error))?;
        match before {
            (None, _) => Ok(Some(0)),
            (Some(before), Some(after)) if before.relative_offset >= after.relative_offset => Ok(None),
            (Some(before), _) => {
                let stamp = Stamp { timestamp_ms: before.timestamp_ms, offset: self.absolute(before.relative_offset) };
                Ok(self.batch_agrees(stamp)?.map(|found| found.position))
            }
        }
    }

    /// A whole batch in memory.
    pub(crate) fn batch(&self, file: &dyn File, found: &Found) -> Result<Vec<u8>, ReadError> {
        let mut batch = vec![0; found.header.size_bytes()];
        file.read_exact_at(&mut batch, found.position).map_err(|error| self.io(error))?;
        if chronik_record::crc_is_valid(&batch) {
            Ok(batch)
        } else {
            let mut damage = self.damage_here(found.position, Reason::Checksum);
            damage.position_end = found.position + batch.len() as u64;
            damage.offset = found.header.base_offset;
            damage.offset_end = found.header.next_offset();
            Err(ReadError::Damaged(damage))
        }
    }

    fn damage_here(&self, position: u64, reason: Reason) -> Damage {
        Damage {
            file: self.path(LOG_SUFFIX),
            position,
            position_end: position,
            offset: self.base_offset,
            offset_end: self.base_offset,
            reason,
        }
    }

    fn damaged(&self, position: u64, reason: Reason) -> ReadError {
        ReadError::Damaged(self.damage_here(position, reason))
    }

    pub(crate) fn io(&self, source: io::Error) -> ReadError {
        ReadError::Io { file: self.path(LOG_SUFFIX), source }
    }

    /// Renames the segment's files out of the way; the log file last is removed first, so that a crash leaves either a
    /// whole segment or leftovers that the next start removes.
    pub(crate) fn rename_deleted(&self) -> io::Result<()> {
        let log = self.path(LOG_SUFFIX);
        self.place.fs.rename(&log, &deleted(&log))
    }

    /// Removes the segment so that no crash brings it back. Where several go from the end of a log, each is gone before the
    /// one before it is touched: a name that came back behind a shorter segment would look like damage between them.
    pub(crate) fn remove_for_good(&self) -> io::Result<()> {
        self.rename_deleted()?;
        self.place.fs.sync_dir(&self.place.dir)?;
        self.remove_deleted()
    }

    /// Removes a renamed segment and its derived files.
    pub(crate) fn remove_deleted(&self) -> io::Result<()> {
        for suffix in SIDE_SUFFIXES {
            remove_if_there(self.fs(), &self.path(suffix))?;
        }
        remove_if_there(self.fs(), &deleted(&self.path(LOG_SUFFIX)))
    }
}

impl Tables {
    /// Adds the newest timestamp to the time table where it is not in it.
    fn push_newest(&mut self, fs: &dyn Fs) -> io::Result<()> {
        if let Some(newest) = self.newest
            && self.newest_in_table.is_none_or(|last| newest.timestamp_ms > last)
        {
            self.times.push(fs, newest.encode())?;
            self.newest_in_table = Some(newest.timestamp_ms);
        }
        Ok(())
    }
}

fn deleted(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(DELETED_SUFFIX);
    PathBuf::from(name)
}

pub(crate) fn remove_if_there(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    match fs.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
