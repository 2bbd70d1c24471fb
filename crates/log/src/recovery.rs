//! Opening a log: what a checkpoint vouches for is taken as it is, everything behind it is verified batch by batch. After
//! the end of a process the page cache still has what that one wrote, so that its checkpoint of the page cache vouches for
//! more than the durable one; what only that one vouches for has to be synced before it counts as durable.
//!
//! A batch counts if its header, checksum, offset and leader epoch fit. Where one does not, a valid batch behind it tells
//! damage from a torn tail: damage is kept, reported and never served; a torn tail of the last segment is cut. Nothing
//! durable is ever cut: where bytes below the recovery point are missing, their offsets stay taken.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_model::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use chronik_record::BatchHeader;
use parking_lot::{Mutex, RwLock};

use crate::checkpoint::{Checkpoint, RecoveryPoints};
use crate::config::LogConfig;
use crate::damage::Damage;
use crate::flush::{Pending, Unsynced};
use crate::fs::{Durability, File, Fs, read_small_file, replace_file};
use crate::leader_epoch::{self, History};
use crate::log::{Log, Parts};
use crate::producer_state::Producers;
use crate::reader::{Hints, Mark, ReadError, Shared, View};
use crate::scan::{Reason, Resync, SCAN_WINDOW_BYTES, Window, records_max, resync};
use crate::segment::{
    DAMAGE_SUFFIX, DELETED_SUFFIX, LOG_SUFFIX, Place, SNAPSHOT_SUFFIX, SUM_SUFFIX, Segment, parse_name, remove_if_there,
};

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes that were verified.
    pub scanned_bytes: u64,
    /// Bytes of a torn tail that were cut.
    pub truncated_bytes: u64,
    /// Ranges that cannot be served.
    pub damage: Vec<Damage>,
    /// Ranges that no sync had reached when the power went, in a log that does not wait for syncs: reads pass over them.
    pub lost: Vec<Damage>,
    /// Whether the log holds bytes that are perhaps not durable: the caller syncs the file system once for all logs, then
    /// calls [`Log::synced_all`].
    pub needs_sync: bool,
}

/// A log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The disk failed.
    #[error("cannot read or repair {}: {source}", file.display())]
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

/// Where verification begins.
#[derive(Clone, Copy, Debug)]
struct Start {
    number: usize,
    position: u64,
    offset: Offset,
    heads_sum: u32,
}

/// What the scan of one segment found.
#[derive(Debug)]
struct Scanned {
    end_position: u64,
    end_offset: Offset,
    batches: u64,
    torn: Option<Reason>,
    /// Whether there may be batches behind `end_position` that cannot be told from others.
    undecided: bool,
    heads_sum: u32,
    /// The damage on file.
    damage_before: Vec<Damage>,
}

struct Recovery {
    place: Arc<Place>,
    config: LogConfig,
    segments: Vec<Arc<Segment>>,
    snapshots: Vec<Offset>,
    producers: Producers,
    epochs: History,
    epochs_on_file: Option<History>,
    found: Recovered,
    pending: Pending,
    /// Whether the page cache has what the process before wrote.
    cache_counts: bool,
    /// From where on bytes may be missing without anybody having been told that they are durable.
    unsynced_from: Option<Offset>,
}

impl Log {
    /// Opens a log. `known` are the partition's last checkpoints, `clean` whether the last stop was clean, `now` the time
    /// that expires producers. No file is synced.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        tp: TopicPartition,
        config: LogConfig,
        known: impl Into<RecoveryPoints>,
        clean: bool,
        now: Timestamp,
    ) -> Result<(Self, Recovered), RecoveryError> {
        let RecoveryPoints { durable, written } = known.into();
        let durable_to = durable.map(|durable| durable.recovery_point);
        let written = written.filter(|written| durable_to.is_none_or(|durable| written.recovery_point >= durable));
        let from = written.or(durable);
        let place = Arc::new(Place::new(fs, dir, tp.partition.get()));
        let unsynced_from = durable_to.filter(|_| !config.sync_on_roll);
        let mut recovery = Recovery {
            place,
            config,
            cache_counts: written.is_some(),
            unsynced_from,
            segments: Vec::new(),
            snapshots: Vec::new(),
            producers: Producers::default(),
            epochs: History::default(),
            epochs_on_file: None,
            found: Recovered::default(),
            pending: Pending::default(),
        };
        recovery.list(from)?;
        recovery.run(tp, from, durable, clean, now)
    }
}

impl Recovery {
    fn io<T>(&self, file: &Path, result: io::Result<T>) -> Result<T, RecoveryError> {
        result.map_err(|source| RecoveryError::Io { file: file.to_owned(), source })
    }

    /// Finds the segments and snapshots, and removes what an interrupted deletion or replacement left.
    fn list(&mut self, from: Option<Checkpoint>) -> Result<(), RecoveryError> {
        let (fs, dir) = (Arc::clone(&self.place.fs), self.place.dir.clone());
        let entries = match fs.read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.io(&dir, fs.create_dir_all(&dir))?;
                for dir in dir.ancestors().take(3).filter(|dir| !dir.as_os_str().is_empty()) {
                    self.pending.add(Unsynced::Dir(dir.to_owned()));
                }
                Vec::new()
            }
            other => self.io(&dir, other)?,
        };
        let (mut bases, mut damaged) = (Vec::new(), Vec::new());
        for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
            let path = dir.join(&entry.name);
            if entry.name.ends_with(".tmp") {
                self.io(&path, remove_if_there(&*fs, &path))?;
                continue;
            }
            match parse_name(&entry.name) {
                Some((partition, _, _)) if partition != self.place.partition => {}
                Some((_, base, LOG_SUFFIX)) => bases.push(base),
                Some((_, base, SNAPSHOT_SUFFIX)) => self.snapshots.push(base),
                Some((_, base, DAMAGE_SUFFIX)) => damaged.push(base),
                Some((_, _, suffix)) if suffix.ends_with(DELETED_SUFFIX) => {
                    self.io(&path, remove_if_there(&*fs, &path))?;
                }
                _ => {}
            }
        }
        for base in damaged.extract_if(.., |base| !bases.contains(base)) {
            // Its segment was cut, and a power cut brought the name back: another segment may come to have it.
            let path = self.place.path(base, DAMAGE_SUFFIX);
            self.io(&path, remove_if_there(&*fs, &path))?;
            self.pending.add(Unsynced::Dir(dir.clone()));
        }
        bases.sort();
        self.snapshots.sort();
        let interval = u64::from(self.config.index_interval_bytes);
        for base in bases {
            let path = self.place.path(base, LOG_SUFFIX);
            let size = self.io(&path, fs.file_len(&path))?;
            let segment = Arc::new(Segment::existing(Arc::clone(&self.place), base, size, interval));
            if damaged.contains(&base) {
                self.io(&path, segment.load_damage())?;
            }
            self.segments.push(segment);
        }
        if self.segments.is_empty() {
            let base = from.map_or(Offset::ZERO, |from| from.recovery_point.max(from.log_start));
            self.begin_segment(base)?;
            if let Some(from) = from.filter(|from| from.recovery_point > from.log_start) {
                let file = self.place.path(from.log_start, LOG_SUFFIX);
                let (offset, offset_end) = (from.log_start, from.recovery_point);
                self.found.damage.push(Damage {
                    file,
                    position: 0,
                    position_end: 0,
                    offset,
                    offset_end,
                    reason: Reason::Missing,
                });
            }
        }
        Ok(())
    }

    fn begin_segment(&mut self, base: Offset) -> Result<(), RecoveryError> {
        let path = self.place.path(base, LOG_SUFFIX);
        let interval = u64::from(self.config.index_interval_bytes);
        let (segment, _) = self.io(&path, Segment::create(Arc::clone(&self.place), base, interval))?;
        self.segments.push(Arc::new(segment));
        self.pending.add(Unsynced::Dir(self.place.dir.clone()));
        Ok(())
    }

    fn run(
        mut self,
        tp: TopicPartition,
        from: Option<Checkpoint>,
        durable: Option<Checkpoint>,
        clean: bool,
        now: Timestamp,
    ) -> Result<(Log, Recovered), RecoveryError> {
        let start = self.start(from);
        let durable = if self.cache_counts { self.start(durable) } else { start };
        self.count_unsynced(durable, start);
        self.load_epochs(start, from)?;
        if from.is_none_or(|from| from.producer_snapshot.is_some() || start.offset < from.recovery_point) {
            self.producers = producers_at(
                &self.place,
                self.segments.get(..=start.number).unwrap_or_default(),
                &mut self.snapshots,
                start.offset,
            )?;
        }
        let scans = self.scan_all(start)?;
        if !clean && self.segments.iter().skip(start.number).any(|segment| segment.size() == 0) {
            // What is written there next counts once it is synced, with the names of the files made by the process before.
            self.count_unsynced_names();
        }
        let (mut log_end, mut heads_sum) = self.resolve(start, scans, from)?;

        let first = self.segments.first().map_or(Offset::ZERO, |segment| segment.base_offset);
        let log_start = from.map_or(first, |from| from.log_start.max(first));
        if log_start > log_end {
            self.begin_segment(log_start)?;
            (log_end, heads_sum) = (log_start, 0);
        }
        for segment in self.segments.clone() {
            // A later power cut took what lay behind a range, and other batches will have its offsets.
            if segment.forget_damage_from(log_end) {
                self.io(&segment.path(DAMAGE_SUFFIX), segment.save_damage())?;
            }
        }
        self.finish_epochs(log_start, log_end)?;
        self.drop_snapshots_behind(log_end)?;
        if self.snapshots.last().is_some_and(|snapshot| *snapshot > start.offset) {
            // A snapshot knows producers whose batches are gone, which the scan of what is left does not.
            self.producers = producers_at(&self.place, &self.segments, &mut self.snapshots, log_end)?;
        }
        let active = match self.segments.last() {
            Some(active) => Arc::clone(active),
            None => {
                return Err(RecoveryError::Io { file: self.place.dir.clone(), source: io::ErrorKind::NotFound.into() });
            }
        };
        self.producers.expire(now, self.config.producer_id_expiration);
        let place = &self.place;
        let kept = crate::high_watermark::read(&*place.fs, &place.dir, &self.epochs, log_end);
        let kept = self.io(&place.dir.join(crate::high_watermark::FILE), kept)?;
        let high_watermark = from.map(|from| from.high_watermark).max(kept).unwrap_or(log_start);
        let high_watermark = high_watermark.clamp(log_start, log_end);
        let end = Mark { offset: log_end, segment: active.base_offset, position: active.size() };
        let begin = self.segments.get(durable.number).map_or(end, |segment| Mark {
            offset: durable.offset,
            segment: segment.base_offset,
            position: durable.position,
        });
        let unsynced = self.cache_counts
            || self.found.scanned_bytes > 0
            || self.found.truncated_bytes > 0
            || (!clean && from.is_none());
        let (durable, durable_heads_sum) = if unsynced { (begin, durable.heads_sum) } else { (end, heads_sum) };
        self.found.needs_sync = durable.offset < log_end || !self.pending.is_empty();
        let last_stable = self.producers.first_unstable(high_watermark).unwrap_or(high_watermark);
        let view = View {
            log_start,
            last_stable: last_stable.clamp(log_start, high_watermark),
            high_watermark,
            log_end,
            segments: self.segments,
            high_watermark_mark: None,
            epochs: self.epochs,
            offline: false,
        };
        let shared = Shared { place: self.place, tp, view: RwLock::new(view), hints: Mutex::new(Hints::default()) };
        let log = Log::assemble(Parts {
            shared: Arc::new(shared),
            config: self.config,
            active,
            heads_sum,
            producers: self.producers,
            snapshots: self.snapshots,
            durable,
            durable_heads_sum,
            pending: self.pending,
            // One that cannot be read may be read next time.
            epochs_on_file: true,
        });
        Ok((log, self.found))
    }

    /// Notes the files between what is durable and where verification begins, which nobody reads.
    fn count_unsynced(&mut self, durable: Start, start: Start) {
        if !self.cache_counts {
            return;
        }
        for segment in self.segments.get(durable.number..=start.number).unwrap_or_default() {
            self.pending.add(Unsynced::Path(segment.path(LOG_SUFFIX)));
        }
        self.count_unsynced_names();
    }

    /// The process that made the files may have died before it synced their names.
    fn count_unsynced_names(&mut self) {
        for dir in self.place.dir.ancestors().take(3).filter(|dir| !dir.as_os_str().is_empty()) {
            self.pending.add(Unsynced::Dir(dir.to_owned()));
        }
    }

    /// The place behind everything the checkpoint vouches for.
    fn start(&self, from: Option<Checkpoint>) -> Start {
        let at = |number: usize| Start {
            number,
            position: 0,
            offset: self.segments.get(number).map_or(Offset::ZERO, |segment| segment.base_offset),
            heads_sum: 0,
        };
        let Some(from) = from else { return at(0) };
        let named = self.segments.iter().position(|segment| segment.base_offset == from.segment);
        match named.and_then(|number| self.segments.get(number).map(|segment| (number, segment))) {
            Some((number, segment))
                if from.position <= segment.size() && from.recovery_point >= segment.base_offset =>
            {
                Start { number, position: from.position, offset: from.recovery_point, heads_sum: from.heads_sum }
            }
            _ => {
                let after = self.segments.partition_point(|segment| segment.base_offset <= from.recovery_point);
                at(after.saturating_sub(1))
            }
        }
    }

    // ---- scanning -------------------------------------------------------------------------------------------------

    fn scan_all(&mut self, start: Start) -> Result<Vec<Scanned>, RecoveryError> {
        let mut scans = Vec::new();
        let mut buf = Vec::new();
        let mut number = start.number;
        while let Some(segment) = self.segments.get(number).map(Arc::clone) {
            let end = scans.last().map_or(segment.base_offset, |before: &Scanned| before.end_offset);
            if segment.base_offset < end {
                self.set_aside(number, end)?;
                continue;
            }
            let at = if number == start.number {
                start
            } else {
                Start { number, position: 0, offset: segment.base_offset, heads_sum: 0 }
            };
            let damage_before = segment.damage();
            if at.position == segment.size() {
                // What was damaged behind the end is gone; other batches will lie there.
                segment.forget_damage_behind(at.position);
                scans.push(Scanned {
                    damage_before,
                    end_position: at.position,
                    end_offset: at.offset,
                    batches: 0,
                    torn: None,
                    undecided: false,
                    heads_sum: at.heads_sum,
                });
                number += 1;
                continue;
            }
            let wanted = usize::try_from(segment.size() - at.position).unwrap_or(usize::MAX).min(SCAN_WINDOW_BYTES);
            if buf.len() < wanted {
                buf.resize(wanted, 0);
            }
            let path = segment.path(LOG_SUFFIX);
            let file = self.io(&path, segment.file())?;
            // What counts is on the disk: the process before this one may have ended because a sync failed. It takes its
            // checkpoint of the page cache back then.
            if !self.cache_counts {
                self.io(&path, file.drop_cached(at.position))?;
            }
            self.pending.add(Unsynced::Path(path.clone()));
            self.count_unsynced_names();
            if at.position == 0 {
                segment.restart_tables();
                segment.cut_damage(0);
            } else {
                self.io(&path, segment.continue_tables(at.position, at.offset))?;
                segment.cut_damage(at.position);
            }
            self.found.scanned_bytes += segment.size() - at.position;
            let scanned = self.scan(&segment, &*file, at, &mut buf)?;
            scans.push(Scanned { damage_before, ..scanned });
            number += 1;
        }
        Ok(scans)
    }

    /// Takes a segment out of the log whose offsets the segment before it holds as well: a truncation removed it, and a crash
    /// brought its name back. Its bytes stay, under a name the log does not use.
    fn set_aside(&mut self, number: usize, end: Offset) -> Result<(), RecoveryError> {
        let segment = self.segments.remove(number);
        let path = segment.path(LOG_SUFFIX);
        let aside = path.with_extension("log.stale");
        self.io(&path, self.place.fs.rename(&path, &aside))?;
        self.pending.add(Unsynced::Dir(self.place.dir.clone()));
        let (offset, reason) = (segment.base_offset, Reason::Overlap);
        let damage = Damage {
            file: aside,
            position: 0,
            position_end: segment.size(),
            offset,
            offset_end: offset.min(end),
            reason,
        };
        self.found.damage.push(damage);
        Ok(())
    }

    fn scan(
        &mut self,
        segment: &Segment,
        file: &dyn File,
        at: Start,
        buf: &mut [u8],
    ) -> Result<Scanned, RecoveryError> {
        let path = segment.path(LOG_SUFFIX);
        let mut window = Window::new(file, buf, segment.size());
        let mut scanned = Scanned {
            end_position: at.position,
            end_offset: at.offset,
            batches: 0,
            torn: None,
            undecided: false,
            heads_sum: at.heads_sum,
            damage_before: Vec::new(),
        };
        while scanned.end_position < window.end() {
            let (position, expected) = (scanned.end_position, scanned.end_offset);
            let checked = self.io(&path, self.check(&mut window, position, expected))?;
            let reason = match checked {
                Ok(header) => {
                    self.io(&path, segment.note(&header, position))?;
                    let sum = self.io(&path, window.crc(scanned.heads_sum, position, position + 21))?;
                    scanned.heads_sum = sum.unwrap_or(scanned.heads_sum);
                    self.producers.note(&header);
                    self.epochs.assign(header.partition_leader_epoch, header.base_offset);
                    scanned.end_position += header.size_bytes() as u64;
                    scanned.end_offset = header.next_offset();
                    scanned.batches += 1;
                    continue;
                }
                Err(reason) => reason,
            };
            let latest = self.epochs.latest().unwrap_or(LeaderEpoch::ZERO);
            let mut reason = reason;
            let (position_end, offset_end) = match self.io(&path, resync(&mut window, position, expected, latest))? {
                Resync::Undecided => {
                    (scanned.torn, scanned.undecided) = (Some(reason), true);
                    break;
                }
                Resync::Found { position: next, header } => {
                    // Pages reach the disk in any order: one that did not is a hole before those that did.
                    if self.may_be_unsynced(expected) && self.io(&path, window.has_hole(position, next))? {
                        reason = Reason::Lost;
                    }
                    (next, header.base_offset)
                }
                Resync::End => match self.io(&path, sound_header(&mut window, position))? {
                    // The records are whole, only the fields outside the checksum are wrong: no torn write looks so.
                    Some(header) => {
                        let count = i64::from(header.last_offset_delta) + 1;
                        (position + header.size_bytes() as u64, expected.checked_add(count).unwrap_or(expected))
                    }
                    None => {
                        scanned.torn = Some(reason);
                        break;
                    }
                },
            };
            self.report(
                segment,
                Damage { file: path.clone(), position, position_end, offset: expected, offset_end, reason },
            );
            // What is on record about the epochs of damaged offsets stays on record: the next scan judges them by it again.
            let on_file = self.epochs_on_file.iter().flat_map(|on_file| on_file.entries());
            for (leader_epoch, begin) in on_file.filter(|entry| expected <= entry.1 && entry.1 < offset_end) {
                self.epochs.assign(*leader_epoch, *begin);
            }
            scanned.end_position = position_end;
            scanned.end_offset = offset_end;
            scanned.batches += 1;
        }
        Ok(scanned)
    }

    /// The header at a position, if the batch there continues the log.
    fn check(
        &self,
        window: &mut Window<'_>,
        position: u64,
        expected: Offset,
    ) -> io::Result<Result<BatchHeader, Reason>> {
        let header = match window.header_at(position)? {
            Ok(header) => header,
            Err(reason) => return Ok(Err(reason)),
        };
        if !window.crc_is_valid(position, &header)? {
            return Ok(Err(Reason::Checksum));
        }
        if header.base_offset != expected {
            return Ok(Err(Reason::BaseOffset { expected, found: header.base_offset }));
        }
        let found = header.partition_leader_epoch;
        let before = self.epochs.latest().unwrap_or(LeaderEpoch::NONE);
        // The history's file begins at the log start, which may lie behind the one the checkpoint knew.
        let on_file = self.epochs_on_file.as_ref();
        let known = match on_file.and_then(|on_file| on_file.epoch_of(expected)) {
            Some(on_file) => found == on_file,
            None => {
                found >= before
                    && on_file.and_then(|on_file| on_file.entries().first()).is_none_or(|first| found <= first.0)
            }
        };
        Ok(if known { Ok(header) } else { Err(Reason::LeaderEpoch { before, found }) })
    }

    fn report(&mut self, segment: &Segment, damage: Damage) {
        segment.add_damage(damage.clone());
        let found = if damage.is_lost() { &mut self.found.lost } else { &mut self.found.damage };
        found.push(damage);
    }

    /// Whether what is missing from an offset on was perhaps never synced, and nobody waited for it to be.
    fn may_be_unsynced(&self, offset: Offset) -> bool {
        self.unsynced_from.is_some_and(|from| from <= offset)
    }

    // ---- resolving ------------------------------------------------------------------------------------------------

    /// Decides about what lies between and behind the scanned parts. Returns the log end and the active segment's sum.
    fn resolve(
        &mut self,
        start: Start,
        mut scans: Vec<Scanned>,
        from: Option<Checkpoint>,
    ) -> Result<(Offset, u32), RecoveryError> {
        let durable = from.map_or(Offset::ZERO, |from| from.recovery_point);
        // Segments without a batch behind a torn one were begun by the process that died.
        while let [.., before, last] = scans.as_slice() {
            let base = self.segments.last().map_or(Offset::ZERO, |segment| segment.base_offset);
            let continues = before.torn.is_none() && before.end_offset == base;
            if last.batches > 0 || continues || base <= durable {
                break;
            }
            scans.pop();
            if let Some(segment) = self.segments.pop() {
                self.found.truncated_bytes += segment.size();
                let path = segment.path(LOG_SUFFIX);
                self.io(&path, segment.rename_deleted().and_then(|()| segment.remove_deleted()))?;
                self.pending.add(Unsynced::Dir(self.place.dir.clone()));
            }
        }
        let last = scans.len().saturating_sub(1);
        let mut end = (start.offset, start.heads_sum, durable);
        for (at, scanned) in scans.into_iter().enumerate() {
            let Some(segment) = self.segments.get(start.number + at).map(Arc::clone) else { break };
            let next_base = self.segments.get(start.number + at + 1).map(|next| next.base_offset);
            end = self.resolve_one(&segment, scanned, next_base, durable, at == last)?;
        }
        let (log_end, heads_sum, taken_to) = end;
        if log_end < taken_to {
            self.begin_segment(taken_to)?;
            return Ok((taken_to, 0));
        }
        Ok((log_end, heads_sum))
    }

    /// The end of what the segment holds, its sum, and the offset before which all are taken.
    fn resolve_one(
        &mut self,
        segment: &Segment,
        scanned: Scanned,
        next_base: Option<Offset>,
        durable: Offset,
        last: bool,
    ) -> Result<(Offset, u32, Offset), RecoveryError> {
        let path = segment.path(LOG_SUFFIX);
        let size = segment.size();
        let missing_to = match next_base.filter(|_| !last) {
            Some(next) => next,
            // Whatever those bytes hold has offsets, and they are not given again.
            None if scanned.undecided => durable.max(behind_all(scanned.end_offset, size - scanned.end_position)),
            None => durable,
        };
        // The power went when the next segment had reached the disk and the end of this one had not.
        let known_lost =
            |range: &Damage| range.is_lost() && range.offset == scanned.end_offset && range.offset_end == missing_to;
        let lost = !last
            && !scanned.undecided
            && scanned.end_offset < missing_to
            && (self.may_be_unsynced(scanned.end_offset) || scanned.damage_before.iter().any(known_lost));
        if lost {
            let (position, offset) = (scanned.end_position, scanned.end_offset);
            let (file, reason) = (path.clone(), Reason::Lost);
            self.report(
                segment,
                Damage { file, position, position_end: position, offset, offset_end: missing_to, reason },
            );
        }
        if scanned.end_offset < missing_to && !lost {
            // Offsets up to there are taken: the bytes stay as they are, and cannot be served.
            self.report(
                segment,
                Damage {
                    file: path.clone(),
                    position: scanned.end_position,
                    position_end: size,
                    offset: scanned.end_offset,
                    offset_end: missing_to,
                    reason: scanned.torn.clone().unwrap_or(Reason::Missing),
                },
            );
        } else if scanned.end_position < size {
            // What is cut here was never answered, or its answer did not promise that it is durable.
            let file = self.io(&path, segment.file())?;
            self.io(&path, file.set_len(scanned.end_position))?;
            self.found.truncated_bytes += size - scanned.end_position;
            segment.set_size(scanned.end_position);
            self.io(&path, remove_if_there(&*self.place.fs, &segment.path(SUM_SUFFIX)))?;
        }
        if !last && scanned.batches > 0 {
            self.io(&path, segment.spill(true))?;
        }
        if segment.damage() != scanned.damage_before {
            // Durable at once: the next checkpoint vouches for what lies behind, and no scan will find it again.
            self.io(&path, segment.save_damage())?;
        }
        Ok((scanned.end_offset, scanned.heads_sum, missing_to))
    }

    // ---- derived files --------------------------------------------------------------------------------------------

    fn load_epochs(&mut self, start: Start, from: Option<Checkpoint>) -> Result<(), RecoveryError> {
        let path = self.place.dir.join(leader_epoch::FILE);
        let read = match read_small_file(&*self.place.fs, &path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            other => self.io(&path, other)?,
        };
        self.epochs_on_file = read.and_then(|bytes| History::decode(&bytes));
        let first = self.segments.first().map_or(Offset::ZERO, |segment| segment.base_offset);
        let log_start = from.map_or(first, |from| from.log_start.max(first));
        match self.epochs_on_file.clone() {
            None => self.epochs = self.epochs_of_batches(start, start.offset)?,
            Some(on_file) => match on_file.entries().first() {
                // The file knows of a later log start than the checkpoint does: what lies between is part of the log again.
                Some((_, begin)) if *begin > log_start => {
                    self.epochs = self.epochs_of_batches(start, (*begin).min(start.offset))?;
                    for (leader_epoch, begin) in on_file.entries() {
                        self.epochs.assign(*leader_epoch, *begin);
                    }
                }
                _ => self.epochs = on_file,
            },
        }
        self.epochs.truncate_from_end(start.offset);
        Ok(())
    }

    /// The epochs of the batches below `end`, up to the segment that the scan begins in.
    fn epochs_of_batches(&self, start: Start, end: Offset) -> Result<History, RecoveryError> {
        let mut epochs = History::default();
        for segment in self.segments.get(..=start.number).unwrap_or_default() {
            if segment.size() == 0 || segment.base_offset >= end {
                continue;
            }
            let file = segment.file().map_err(|error| segment.io(error))?;
            let walked = segment.walk(&*file, 0, segment.size(), |_, header| {
                let below = header.base_offset < end;
                if below {
                    epochs.assign(header.partition_leader_epoch, header.base_offset);
                }
                below
            });
            ignore_damage(walked)?;
        }
        Ok(epochs)
    }

    fn finish_epochs(&mut self, log_start: Offset, log_end: Offset) -> Result<(), RecoveryError> {
        self.epochs.truncate_from_end(log_end);
        self.epochs.truncate_from_start(log_start);
        let unchanged = match &self.epochs_on_file {
            Some(on_file) => *on_file == self.epochs,
            None => self.epochs == History::default(),
        };
        if !unchanged {
            let path = self.place.dir.join(leader_epoch::FILE);
            self.io(&path, replace_file(&*self.place.fs, &path, &self.epochs.encode(), Durability::Visible))?;
            self.pending.add(Unsynced::Path(path));
            self.pending.add(Unsynced::Dir(self.place.dir.clone()));
        }
        Ok(())
    }
}

impl Recovery {
    /// Removes snapshots of a state that the log lost: it will hold other batches when it reaches their offsets again.
    fn drop_snapshots_behind(&mut self, log_end: Offset) -> Result<(), RecoveryError> {
        let kept = self.snapshots.partition_point(|offset| *offset <= log_end);
        for offset in self.snapshots.split_off(kept) {
            let path = self.place.path(offset, SNAPSHOT_SUFFIX);
            self.io(&path, remove_if_there(&*self.place.fs, &path))?;
            self.pending.add(Unsynced::Dir(self.place.dir.clone()));
        }
        Ok(())
    }
}

/// An offset that no record in so many bytes reaches.
fn behind_all(offset: Offset, bytes: u64) -> Offset {
    Offset::new(offset.get().saturating_add_unsigned(records_max(bytes)))
}

/// The header of a batch whose checksum fits, whatever its offset and epoch say.
fn sound_header(window: &mut Window<'_>, position: u64) -> io::Result<Option<BatchHeader>> {
    match window.header_at(position)? {
        Ok(header) if window.crc_is_valid(position, &header)? => Ok(Some(header)),
        _ => Ok(None),
    }
}

fn ignore_damage(result: Result<(), ReadError>) -> Result<(), ReadError> {
    match result {
        Err(ReadError::Damaged(_)) => Ok(()),
        other => other,
    }
}

/// The producer state as of `end`: the newest snapshot that is not later, and the headers behind it. Snapshots that turn
/// out to be unreadable leave the list.
pub(crate) fn producers_at(
    place: &Place,
    segments: &[Arc<Segment>],
    snapshots: &mut Vec<Offset>,
    end: Offset,
) -> Result<Producers, ReadError> {
    let mut producers = Producers::default();
    let mut from = Offset::ZERO;
    for offset in snapshots.clone().into_iter().rev().filter(|offset| *offset <= end) {
        let path = place.path(offset, SNAPSHOT_SUFFIX);
        let bytes = match read_small_file(&*place.fs, &path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            Err(source) => return Err(ReadError::Io { file: path, source }),
        };
        match bytes.and_then(|bytes| Producers::decode(&bytes, offset)) {
            Some(found) => {
                (producers, from) = (found, offset);
                break;
            }
            None => snapshots.retain(|known| *known != offset),
        }
    }
    for (number, segment) in segments.iter().enumerate() {
        let ends_before = segments.get(number + 1).is_some_and(|next| next.base_offset <= from);
        if ends_before || segment.base_offset >= end || segment.size() == 0 {
            continue;
        }
        let file = segment.file().map_err(|error| segment.io(error))?;
        let position = match segment.find(from, segment.size()) {
            Ok(found) => found.map(|found| found.position),
            Err(ReadError::Damaged(damage)) => Some(damage.position_end),
            Err(error) => return Err(error),
        };
        let Some(position) = position else { continue };
        ignore_damage(segment.walk(&*file, position, segment.size(), |_, header| {
            let below = header.base_offset < end;
            if below && header.base_offset >= from {
                producers.note(header);
            }
            below
        }))?;
    }
    Ok(producers)
}
