//! The read side: a cheap clone that resolves offsets to file regions while the writer appends.
//!
//! Readers share the partition's view under a lock that is held for a few loads, never across a disk access. They do not
//! read payload: a slice names a file, a position and a length. Invariant of the view:
//! `log_start <= last_stable <= high_watermark <= log_end`, all but the first exclusive ends.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use chronik_model::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use chronik_record::BatchHeader;
use parking_lot::{Mutex, RwLock};

use crate::damage::Damage;
use crate::fs::File;
use crate::leader_epoch::History;
use crate::segment::{Place, Segment, Stamp};

/// How many recent slice ends are remembered, so that sequential consumers need no search.
const HINTS: usize = 8;

/// A read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is not between log start and log end.
    #[error("offset {offset} is outside [{log_start}, {log_end}]")]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// First offset that may be served, inclusive.
        log_start: Offset,
        /// Log end, exclusive.
        log_end: Offset,
    },
    /// The bytes that hold the offset are damaged.
    #[error("damaged: {0}")]
    Damaged(Damage),
    /// The log went offline after a failed write or sync.
    #[error("the log is offline")]
    Offline,
    /// The file could not be read.
    #[error("cannot read {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Which end a reader may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadBound {
    /// Consumers that read uncommitted records.
    HighWatermark,
    /// Consumers that read committed transactions only.
    LastStable,
    /// Followers.
    LogEnd,
}

/// The partition's offsets at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// First offset that may be served, inclusive.
    pub log_start: Offset,
    /// Last stable offset, exclusive end for committed reads.
    pub last_stable: Offset,
    /// High watermark, exclusive.
    pub high_watermark: Offset,
    /// Log end, exclusive.
    pub log_end: Offset,
}

/// A region of a segment file that holds whole batches.
#[derive(Clone, Debug)]
pub struct LogSlice {
    /// The file; it stays readable while this handle lives, even after its segment was deleted.
    pub file: Arc<dyn File>,
    /// Where the first batch begins.
    pub position: u64,
    /// How many bytes; may be 0.
    pub len: usize,
    /// Base offset of the first batch, which may lie below the offset asked for; the offset asked for where `len` is 0.
    pub base_offset: Offset,
}

/// A region of one segment as a follower is sent it.
#[derive(Clone, Debug)]
pub struct ReplicaSlice {
    /// The batches.
    pub slice: LogSlice,
    /// Base offset of their segment.
    pub segment: Offset,
    /// The offset behind the last batch, exclusive; that of the first where there is none.
    pub end: Offset,
}

/// A timestamp found by a ListOffsets search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampAndOffset {
    /// The record's timestamp.
    pub timestamp: Timestamp,
    /// The record's offset.
    pub offset: Offset,
    /// The leader epoch the record was written in.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// A known batch boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) offset: Offset,
    pub(crate) segment: Offset,
    pub(crate) position: u64,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) place: Arc<Place>,
    pub(crate) tp: TopicPartition,
    pub(crate) view: RwLock<View>,
    pub(crate) hints: Mutex<Hints>,
}

/// What readers see.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) log_start: Offset,
    pub(crate) last_stable: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) log_end: Offset,
    /// Never empty; base offsets rise.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Where the high watermark lies, when known.
    pub(crate) high_watermark_mark: Option<Mark>,
    pub(crate) epochs: History,
    pub(crate) offline: bool,
}

impl View {
    pub(crate) fn check_invariants(&self) {
        assert!(
            self.log_start <= self.last_stable
                && self.last_stable <= self.high_watermark
                && self.high_watermark <= self.log_end
                && !self.segments.is_empty()
                && self.segments.is_sorted_by(|a, b| a.base_offset < b.base_offset),
            "view out of order: log_start={} last_stable={} high_watermark={} log_end={} segments={}",
            self.log_start,
            self.last_stable,
            self.high_watermark,
            self.log_end,
            self.segments.len()
        );
    }

    pub(crate) fn bound(&self, bound: ReadBound) -> Offset {
        match bound {
            ReadBound::HighWatermark => self.high_watermark,
            ReadBound::LastStable => self.last_stable,
            ReadBound::LogEnd => self.log_end,
        }
    }

    pub(crate) fn first_segment(&self) -> Offset {
        self.segments.first().map_or(self.log_start, |segment| segment.base_offset)
    }

    /// The number of the segment that an offset falls into.
    pub(crate) fn segment_at(&self, offset: Offset) -> usize {
        self.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1)
    }

    /// The segment with a number, the base offset of the one behind it, and the position of `end` in it where that is
    /// known: its size where it ends before, the mark where the mark is that offset's.
    fn part(&self, number: usize, end: Offset) -> Option<Part> {
        let segment = Arc::clone(self.segments.get(number)?);
        let next_base = self.segments.get(number + 1).map(|next| next.base_offset);
        let size = segment.size();
        let limit = if next_base.map_or(end == self.log_end, |next| next <= end) {
            Some(size)
        } else {
            self.high_watermark_mark
                .filter(|mark| mark.offset == end && mark.segment == segment.base_offset)
                .map(|mark| mark.position)
        };
        Some(Part { segment, next_base, size, limit })
    }

    /// The first segment from a base offset on.
    fn part_from(&self, base_offset: Offset, end: Offset) -> Option<Part> {
        self.part(self.segments.partition_point(|segment| segment.base_offset < base_offset), end)
    }
}

/// A segment by what one look at the view says of it: numbers change when retention removes the first.
struct Part {
    segment: Arc<Segment>,
    next_base: Option<Offset>,
    size: u64,
    limit: Option<u64>,
}

/// Recent slice ends. A hint is checked against the header it points to before it is used.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    marks: [Option<Mark>; HINTS],
    next: usize,
}

impl Hints {
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn get(&self, offset: Offset) -> Option<Mark> {
        self.marks.iter().flatten().find(|mark| mark.offset == offset).copied()
    }

    fn put(&mut self, mark: Mark) {
        if self.marks.iter().flatten().any(|known| *known == mark) {
            return;
        }
        if let Some(slot) = self.marks.get_mut(self.next) {
            *slot = Some(mark);
        }
        self.next = (self.next + 1) % HINTS;
    }
}

/// Reads a partition's log. Clones share the view.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(crate) shared: Arc<Shared>,
}

impl LogReader {
    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.shared.tp
    }

    /// The partition's offsets now.
    pub fn bounds(&self) -> Bounds {
        let view = self.shared.view.read();
        Bounds {
            log_start: view.log_start,
            last_stable: view.last_stable,
            high_watermark: view.high_watermark,
            log_end: view.log_end,
        }
    }

    /// The region that begins with the batch holding `from` and ends below `bound`, at most `max_bytes` long and made of
    /// whole batches. Where the first batch alone is longer, it is returned if `min_one_batch`, else nothing.
    pub fn read(
        &self,
        from: Offset,
        bound: ReadBound,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<LogSlice, ReadError> {
        loop {
            let (part, end, log_start) = {
                let view = self.shared.view.read();
                view.check_readable(from)?;
                let end = view.bound(bound);
                (view.part(view.segment_at(from), end), end, view.log_start)
            };
            if from >= end {
                return Ok(LogSlice::nothing(from));
            }
            match self.read_parts(part, from, end, max_bytes, min_one_batch) {
                Ok(found) => return Ok(found.map_or_else(|| LogSlice::nothing(from), |found| found.slice)),
                // The segment was deleted meanwhile: the view says so now.
                Err(ReadError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && self.bounds().log_start > log_start => {}
                // The log was given up meanwhile, and its files with it.
                Err(ReadError::Io { .. }) if self.shared.view.read().offline => return Err(ReadError::Offline),
                Err(error) => return Err(error),
            }
        }
    }

    /// The region that begins at `from`, a batch's base offset, and goes on below `end` within one segment: at most
    /// `max_bytes` long, but one whole batch at least. Unlike consumers, followers are served what lies below the log start
    /// in a segment that is still there, so that their files are the same.
    pub fn read_replica(&self, from: Offset, end: Offset, max_bytes: usize) -> Result<ReplicaSlice, ReadError> {
        let (part, end, first, log_end) = {
            let view = self.shared.view.read();
            if view.offline {
                return Err(ReadError::Offline);
            }
            let end = end.min(view.log_end);
            (view.part(view.segment_at(from), end), end, view.first_segment(), view.log_end)
        };
        let out_of_range = |log_start| Err(ReadError::OutOfRange { offset: from, log_start, log_end });
        if from < first || from > log_end {
            return out_of_range(first);
        }
        let nothing = ReplicaSlice { slice: LogSlice::nothing(from), segment: first, end: from };
        if from >= end {
            return Ok(nothing);
        }
        match self.read_parts(part, from, end, max_bytes, true) {
            Ok(found) => Ok(found.unwrap_or(nothing)),
            // The segment was deleted meanwhile: the view says so now.
            Err(ReadError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && self.first_segment() > first =>
            {
                out_of_range(self.first_segment())
            }
            Err(error) => Err(error),
        }
    }

    /// Base offset of the first segment, at or below the log start.
    pub fn first_segment(&self) -> Offset {
        self.shared.view.read().first_segment()
    }

    /// The header of the batch that ends at `end` (exclusive); `None` where no batch does.
    pub fn batch_before(&self, end: Offset) -> Result<Option<BatchHeader>, ReadError> {
        let Some(last) = end.checked_add(-1) else { return Ok(None) };
        let segment = {
            let view = self.shared.view.read();
            if view.offline {
                return Err(ReadError::Offline);
            }
            if last < view.first_segment() || end > view.log_end {
                return Ok(None);
            }
            view.segments.get(view.segment_at(last)).map(Arc::clone)
        };
        let Some(segment) = segment else { return Ok(None) };
        let found = segment.find(last, segment.size())?;
        Ok(found.map(|found| found.header).filter(|header| header.next_offset() == end))
    }

    /// The region in the first segment from `part` on that has a batch at or behind `from` below the end; `None` where none
    /// has.
    fn read_parts(
        &self,
        mut part: Option<Part>,
        from: Offset,
        end: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<Option<ReplicaSlice>, ReadError> {
        while let Some(current) = part {
            if let Some((slice, end)) = self.read_part(&current, from, end, max_bytes, min_one_batch)? {
                return Ok(Some(ReplicaSlice { slice, segment: current.segment.base_offset, end }));
            }
            // By its base offset: numbers change when retention removes the first segments.
            let next = current.next_base.filter(|next| *next < end);
            part = next.and_then(|next| self.shared.view.read().part_from(next, end));
        }
        Ok(None)
    }

    /// The slice within one segment, and the offset behind it; `None` where the segment has no batch at or behind `from`
    /// below the end.
    fn read_part(
        &self,
        part: &Part,
        from: Offset,
        end: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<Option<(LogSlice, Offset)>, ReadError> {
        let segment = &part.segment;
        let file = segment.file().map_err(|error| segment.io(error))?;
        let hint = self.shared.hints.lock().get(from).filter(|mark| mark.segment == segment.base_offset);
        let hinted = hint.and_then(|mark| {
            let header = segment.header_at(&*file, mark.position, part.size).ok()?;
            let usable = header.base_offset == from && segment.damage_at(mark.position).is_none();
            usable.then_some((mark.position, header))
        });
        let (position, header) = match hinted {
            Some(found) => found,
            None => match segment.find_all(from, part.next_base, part.size)? {
                Some(found) => (found.position, found.header),
                None => return Ok(None),
            },
        };
        if header.base_offset >= end {
            return Ok(None);
        }
        if let Some(damage) = segment.damage_at(position) {
            return Err(ReadError::Damaged(damage));
        }
        let limit = match part.limit {
            Some(limit) => limit,
            None => match segment.find(end, part.size) {
                Ok(found) => found.map_or(part.size, |found| found.position),
                // An end inside of damage hides nothing of what lies before the damage.
                Err(ReadError::Damaged(damage)) if damage.position > position && damage.offset > from => {
                    damage.position + 1
                }
                Err(error) => return Err(error),
            },
        };
        let damaged = segment.damage_after(position).filter(|damage| damage.position < limit);
        let readable = damaged.as_ref().map_or(limit, |damage| damage.position);
        let available = readable.saturating_sub(position);
        let first = header.size_bytes();
        if available < first as u64 {
            // The end lies inside the first batch.
            return Ok(None);
        }
        let slice = |len: usize| LogSlice { file: Arc::clone(&file), position, len, base_offset: header.base_offset };
        let Some(len) = usize::try_from(available).ok().filter(|available| *available <= max_bytes) else {
            if max_bytes < first {
                let next = Mark {
                    offset: header.next_offset(),
                    segment: segment.base_offset,
                    position: position + first as u64,
                };
                if min_one_batch {
                    self.shared.hints.lock().put(next);
                }
                let taken = if min_one_batch { (first, next.offset) } else { (0, header.base_offset) };
                return Ok(Some((slice(taken.0), taken.1)));
            }
            let until = readable.min(position.saturating_add(max_bytes as u64));
            let cut = self.cut(segment, &*file, position, until)?;
            self.shared.hints.lock().put(cut);
            return Ok(Some((slice(usize::try_from(cut.position - position).unwrap_or(first)), cut.offset)));
        };
        if readable == limit && part.next_base.is_none_or(|next| next > end) {
            self.shared.hints.lock().put(Mark { offset: end, segment: segment.base_offset, position: limit });
        }
        let reached = part.next_base.map_or(end, |next| next.min(end));
        Ok(Some((slice(len), damaged.map_or(reached, |damage| damage.offset.min(reached)))))
    }

    /// The last batch boundary in `(position, until]`.
    fn cut(&self, segment: &Segment, file: &dyn File, position: u64, until: u64) -> Result<Mark, ReadError> {
        let start = segment.boundary_before(position, until).filter(|(at, offset)| {
            segment.header_at(file, *at, segment.size()).is_ok_and(|header| header.base_offset == *offset)
        });
        let mut cut = Mark {
            offset: start.map_or(Offset::ZERO, |(_, offset)| offset),
            segment: segment.base_offset,
            position: start.map_or(position, |(at, _)| at),
        };
        segment.walk(file, cut.position, segment.size(), |at, header| {
            let next = at + header.size_bytes() as u64;
            let fits = next <= until;
            if fits {
                cut.position = next;
                cut.offset = header.next_offset();
            }
            fits
        })?;
        Ok(cut)
    }

    /// About how many bytes a consumer at `from` could read; exact where that is cheap, 0 exactly where there is nothing.
    pub fn bytes_available(&self, from: Offset, bound: ReadBound) -> u64 {
        let (mut next_part, end, log_end) = {
            let view = self.shared.view.read();
            let end = view.bound(bound);
            (view.part(view.segment_at(from), end), end, view.log_end)
        };
        if from >= end {
            return 0;
        }
        let mut bytes: u64 = 0;
        while let Some(part) = next_part {
            let segment = &part.segment;
            if segment.base_offset >= end {
                break;
            }
            let hint = self.shared.hints.lock().get(from).filter(|mark| mark.segment == segment.base_offset);
            let start = match hint {
                Some(mark) => mark.position,
                None if from <= segment.base_offset => 0,
                None if from >= log_end => part.size,
                None => segment.find(from, part.size).ok().flatten().map_or(part.size, |found| found.position),
            };
            let limit = match part.limit {
                Some(limit) => limit,
                None => segment.find(end, part.size).ok().flatten().map_or(part.size, |found| found.position),
            };
            bytes = bytes.saturating_add(limit.saturating_sub(start));
            next_part = part.next_base.and_then(|next| self.shared.view.read().part_from(next, end));
        }
        bytes.max(1)
    }

    /// The first record below `bound` whose timestamp is at or after `wanted`.
    pub fn offset_for_timestamp(
        &self,
        wanted: Timestamp,
        bound: ReadBound,
    ) -> Result<Option<TimestampAndOffset>, ReadError> {
        let (segments, log_start, end) = self.searched(bound)?;
        for segment in segments {
            if segment.base_offset >= end {
                break;
            }
            if segment.newest()?.is_none_or(|newest| newest.timestamp_ms < wanted.millis()) {
                continue;
            }
            if let Some(stamp) = segment.first_at_or_after(wanted, log_start, end, segment.size())? {
                return Ok(Some(self.found(stamp)));
            }
        }
        Ok(None)
    }

    /// The first record that has the largest timestamp of the log; `None` where the log is empty or no batch has a
    /// timestamp.
    pub fn max_timestamp(&self) -> Result<Option<TimestampAndOffset>, ReadError> {
        let (segments, log_start, log_end) = self.searched(ReadBound::LogEnd)?;
        let mut best: Option<(Arc<Segment>, Stamp)> = None;
        for segment in segments {
            if let Some(newest) = segment.newest()?
                && best.as_ref().is_none_or(|(_, best)| newest.timestamp_ms > best.timestamp_ms)
            {
                best = Some((segment, newest));
            }
        }
        let Some((segment, newest)) = best.filter(|(_, newest)| newest.timestamp_ms >= 0) else { return Ok(None) };
        let wanted = Timestamp::from_millis(newest.timestamp_ms);
        let from = newest.offset.max(log_start);
        Ok(segment.first_at_or_after(wanted, from, log_end, segment.size())?.map(|stamp| self.found(stamp)))
    }

    fn searched(&self, bound: ReadBound) -> Result<(Vec<Arc<Segment>>, Offset, Offset), ReadError> {
        let view = self.shared.view.read();
        if view.offline {
            return Err(ReadError::Offline);
        }
        Ok((view.segments.clone(), view.log_start, view.bound(bound)))
    }

    fn found(&self, stamp: Stamp) -> TimestampAndOffset {
        TimestampAndOffset {
            timestamp: Timestamp::from_millis(stamp.timestamp_ms),
            offset: stamp.offset,
            leader_epoch: self.shared.view.read().epochs.epoch_of(stamp.offset),
        }
    }

    /// The largest leader epoch not above `wanted` with its end offset, exclusive (OffsetForLeaderEpoch).
    pub fn end_offset_for_epoch(&self, wanted: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let view = self.shared.view.read();
        view.epochs.end_offset_for(wanted, view.log_end)
    }

    /// The leader epoch of the last batch.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.shared.view.read().epochs.latest()
    }

    /// The leader epoch an offset was written in.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.shared.view.read().epochs.epoch_of(offset)
    }

    /// Every known damaged range; what is only lost is not among them.
    pub fn damage(&self) -> Vec<Damage> {
        let view = self.shared.view.read();
        view.segments.iter().flat_map(|segment| segment.damage()).filter(|damage| !damage.is_lost()).collect()
    }
}

impl View {
    fn check_readable(&self, from: Offset) -> Result<(), ReadError> {
        if self.offline {
            return Err(ReadError::Offline);
        }
        if from < self.log_start || from > self.log_end {
            return Err(ReadError::OutOfRange { offset: from, log_start: self.log_start, log_end: self.log_end });
        }
        Ok(())
    }
}

impl LogSlice {
    fn nothing(from: Offset) -> Self {
        Self { file: nothing(), position: 0, len: 0, base_offset: from }
    }

    /// The slice's bytes in memory, for whoever cannot use the file.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.len];
        self.file.read_exact_at(&mut bytes, self.position)?;
        Ok(bytes)
    }
}

/// The file of an empty slice: an idle partition is polled without opening its segment.
#[derive(Debug)]
struct Nothing;

fn nothing() -> Arc<dyn File> {
    static NOTHING: LazyLock<Arc<Nothing>> = LazyLock::new(|| Arc::new(Nothing));
    Arc::<Nothing>::clone(&NOTHING)
}

impl File for Nothing {
    fn read_at(&self, _buf: &mut [u8], _position: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at_vectored(&self, _slices: &[IoSlice<'_>], _position: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_file_system(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cached(&self, _from: u64) -> io::Result<()> {
        Ok(())
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
