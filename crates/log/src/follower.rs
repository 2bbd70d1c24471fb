//! What only a follower does to its log: it takes batches into the segments its leader put them in, cuts a tail that the
//! leader does not have, and begins anew where the leader's log begins.
//!
//! A cut or a new beginning is prepared first, so that the checkpoint written in between vouches for nothing that is about
//! to go: a crash at any point leaves a log that recovery takes as it is. Bytes that only this node had are kept in a
//! file beside the segments, durable before they leave the log. When to do any of this is not decided here.

use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use chronik_model::{LeaderEpoch, Offset, Timestamp};

use crate::flush::Unsynced;
use crate::fs::{Durability, File, OpenMode};
use crate::leader_epoch::History;
use crate::log::{AppendError, Log, LogError, ReplicateError, heads};
use crate::producer_state::Producers;
use crate::reader::Mark;
use crate::segment::{LOG_SUFFIX, SNAPSHOT_SUFFIX, SUM_SUFFIX, Segment, remove_if_there};
use crate::truncation::CutPoint;

/// How the name of a file with a cut tail ends: `wal_<partition>_<first offset>.cut`, or `.1.cut` and so on.
pub(crate) const CUT_SUFFIX: &str = "cut";
/// How the note at its beginning begins.
pub(crate) const CUT_HEAD: &str = "chronik-cut 1 ";
/// Bytes of the note, its line end included.
pub(crate) const CUT_NOTE_BYTES_MAX: usize = 4096;
/// Leader epochs named in the note at the most.
const CUT_EPOCHS_MAX: usize = 64;
/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;

/// A tail that was cut and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file that holds it.
    pub file: PathBuf,
    /// Its first offset, which is the new log end.
    pub from: Offset,
    /// The log end before, exclusive.
    pub to: Offset,
    /// Bytes of its batches.
    pub bytes: u64,
}

impl Log {
    /// Base offset of the first segment, at or below the log start.
    pub fn first_segment(&self) -> Offset {
        self.shared.view.read().first_segment()
    }

    /// Base offset of the segment that the log ends in.
    pub fn active_segment(&self) -> Offset {
        self.active.base_offset
    }

    /// Appends a leader's batches as they are, into the leader's segment: as [`Log::append_replicated`], but the next
    /// segment is begun exactly where the leader began it, and nowhere else.
    pub fn append_replicated_in(
        &mut self,
        segment: Offset,
        batches: &[u8],
        leader_epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<Offset, ReplicateError> {
        self.online().map_err(AppendError::Offline)?;
        let checked = self.check_replicated(batches, leader_epoch)?;
        if !checked.is_empty() {
            self.continue_in(segment)?;
        }
        if let Some((last, _)) = checked.last()
            && !self.active.can_hold(last.last_offset())
        {
            return Err(ReplicateError::Segment { active: self.active.base_offset, found: segment });
        }
        let mut rest = batches;
        for run in checked.chunk_by(|(one, _), (next, _)| one.partition_leader_epoch == next.partition_leader_epoch) {
            let len = run.iter().map(|(_, batch)| batch.len()).sum();
            let (bytes, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            let batches = run.iter().map(|(header, batch)| (header, heads([batch, &[]])));
            self.write(batches, &[IoSlice::new(bytes)], now)?;
            rest = behind;
        }
        Ok(self.log_end())
    }

    /// Makes the segment that begins at `segment` the active one.
    fn continue_in(&mut self, segment: Offset) -> Result<(), ReplicateError> {
        let active = self.active.base_offset;
        if active == segment {
            return Ok(());
        }
        if self.log_end() == segment && active < segment {
            return Ok(self.roll()?);
        }
        // A cut can leave an empty segment where the leader still writes to the one before.
        match self.before_empty().filter(|before| before.base_offset == segment) {
            Some(before) => self.drop_empty(before).map_err(|(file, source)| {
                self.go_offline(&source);
                AppendError::Io { file, source }.into()
            }),
            None => Err(ReplicateError::Segment { active, found: segment }),
        }
    }

    /// The segment before the active one, where that is empty. Not one that ends in damage: what is missing there need not
    /// have a place in the file, and a batch written behind it would be in the place of what is missing.
    fn before_empty(&self) -> Option<Arc<Segment>> {
        let view = self.shared.view.read();
        let before = view.segments.iter().rev().nth(1).filter(|_| self.active.size() == 0)?;
        let ends_in_damage = before.damage().iter().any(|range| range.offset_end >= self.active.base_offset);
        (!ends_in_damage).then(|| Arc::clone(before))
    }

    /// Makes the one before the active segment the active one. An error is one in the middle of a change.
    fn drop_empty(&mut self, before: Arc<Segment>) -> Result<(), (PathBuf, io::Error)> {
        let size = before.size();
        let log_end = self.log_end();
        let dropped = Arc::clone(&self.active);
        self.shared.view.write().segments.pop();
        self.shared.hints.lock().clear();
        self.recent_ends.clear();
        dropped.remove_for_good().map_err(|source| (dropped.path(LOG_SUFFIX), source))?;
        let unsealed = remove_if_there(before.fs(), &before.path(SUM_SUFFIX));
        unsealed.map_err(|source| (before.path(SUM_SUFFIX), source))?;
        self.pending.add(Unsynced::Dir(self.shared.place.dir.clone()));
        self.active = before;
        self.active_file = None;
        self.active_began = None;
        let sum = self.sum_heads(size);
        self.heads_sum = sum.map_err(|error| (self.active.path(LOG_SUFFIX), io::Error::other(error.to_string())))?;
        if self.durable.segment == dropped.base_offset {
            self.durable = Mark { offset: log_end, segment: self.active.base_offset, position: size };
            self.durable_heads_sum = self.heads_sum;
        }
        if self.in_place.segment == dropped.base_offset {
            (self.in_place, self.in_place_heads_sum) = (self.durable, self.durable_heads_sum);
        }
        Ok(())
    }

    /// The first offset from the log start on that cannot be served, inclusive; `None` where nothing is damaged as far as is
    /// known.
    pub fn first_damaged(&self) -> Option<Offset> {
        let (log_start, damage) = (self.log_start(), self.damage());
        let of_interest = damage.iter().filter(|range| range.offset_end > log_start);
        of_interest.map(|range| range.offset).min()
    }

    /// The first offset from the log start on that a power cut took before it was synced, inclusive. Reads pass over it; a
    /// replica may not have such a hole, so its log is cut there before it leads or follows others.
    pub fn first_lost(&self) -> Option<Offset> {
        let (log_start, view) = (self.log_start(), self.shared.view.read());
        let ranges = view.segments.iter().flat_map(|segment| segment.damage());
        let of_interest = ranges.filter(|range| range.is_lost() && range.offset_end > log_start);
        of_interest.map(|range| range.offset).min()
    }

    /// Lowers the durable end and the high watermark to the batch, or the damage, that begins at or holds `to`, and keeps them there until
    /// [`Log::cut_aside`] or [`Log::reset_to`]: a checkpoint taken now does not vouch for what is about to go. Write one
    /// before the cut. Returns what will be the log end.
    pub fn prepare_cut(&mut self, to: Offset) -> Result<Offset, LogError> {
        self.online().map_err(LogError::Offline)?;
        let (first, log_end) = (self.first_segment(), self.log_end());
        if to < first || to > log_end {
            return Err(LogError::OffsetOutOfRange { offset: to, from: first, to: log_end });
        }
        let CutPoint { segment, position, end } = self.cut_point(to)?;
        let heads_sum = if self.durable.offset > end {
            let file = segment.file().map_err(|error| segment.io(error))?;
            Some(crate::scan::sum_heads(&*file, position).map_err(|error| segment.io(error))?)
        } else {
            None
        };
        self.cut_prepared = true;
        // A flush that is under way was cut for a log that will not be.
        self.truncations += 1;
        if let Some(heads_sum) = heads_sum {
            self.lower_durable(Mark { offset: end, segment: segment.base_offset, position }, heads_sum);
        }
        self.lower_high_watermark(end);
        Ok(end)
    }

    /// Cuts the log so that it ends at `to`, or at the beginning of the batch or the damage that holds it, also below the
    /// high watermark, after the cut batches were written to a file beside the segments that begins with `reason`. `None` where
    /// there is nothing to cut. Only a follower whose leader has no such batches does this.
    pub fn cut_aside(&mut self, to: Offset, reason: &str) -> Result<Option<Cut>, LogError> {
        let (log_start, log_end) = (self.log_start(), self.log_end());
        if to < log_start || to > log_end {
            self.online().map_err(LogError::Offline)?;
            return Err(LogError::OffsetOutOfRange { offset: to, from: log_start, to: log_end });
        }
        let end = self.prepare_cut(to)?;
        self.cut_prepared = false;
        if end == log_end {
            return Ok(None);
        }
        if end < log_start {
            return Err(LogError::OffsetOutOfRange { offset: end, from: log_start, to: log_end });
        }
        let kept = self.keep(end, log_end, reason).map_err(|(file, source)| self.change_failed(file, source))?;
        self.truncate_to(end)?;
        // The leader decides where a segment begins: one without batches is none of its.
        if let Some(before) = self.before_empty() {
            self.drop_empty(before).map_err(|(file, source)| self.change_half_done(file, source))?;
        }
        Ok(Some(kept))
    }

    /// Gives up a cut that was prepared: the log stays as it is. The high watermark stays where it was lowered to.
    pub fn abandon_cut(&mut self) {
        self.cut_prepared = false;
    }

    /// Drops everything and begins anew at `base`. With `reason` the batches are copied to a file first, as
    /// [`Log::cut_aside`] does. Write a checkpoint after a [`Log::prepare_cut`] at the first segment, then call this, and write
    /// another one before the next append where `base` lies before the log start.
    pub fn reset_to(&mut self, base: Offset, reason: Option<&str>) -> Result<(), LogError> {
        self.online().map_err(LogError::Offline)?;
        if base < Offset::ZERO {
            return Err(LogError::OffsetOutOfRange { offset: base, from: Offset::ZERO, to: base });
        }
        self.prepare_cut(self.first_segment())?;
        if let Some(reason) = reason {
            let (first, log_end) = (self.first_segment(), self.log_end());
            if first < log_end {
                let kept = self.keep(first, log_end, reason);
                kept.map_err(|(file, source)| self.change_failed(file, source))?;
            }
        }
        let place = Arc::clone(&self.shared.place);
        let segments = self.shared.view.read().segments.clone();
        // The last one first: what a crash leaves is always the beginning of the log.
        for segment in segments.iter().rev() {
            let gone = segment.remove_for_good();
            gone.map_err(|source| self.change_half_done(segment.path(LOG_SUFFIX), source))?;
        }
        for offset in std::mem::take(&mut self.snapshots) {
            let path = place.path(offset, SNAPSHOT_SUFFIX);
            remove_if_there(&*place.fs, &path).map_err(|source| self.change_half_done(path, source))?;
        }
        let forgotten = self.forget_high_watermark();
        forgotten.map_err(|source| self.change_half_done(place.dir.join(crate::high_watermark::FILE), source))?;
        let created = Segment::create(Arc::clone(&place), base, u64::from(self.config.index_interval_bytes));
        let (segment, file) = created.map_err(|source| self.change_half_done(place.path(base, LOG_SUFFIX), source))?;
        // What was there is gone for good: a crash must not bring back a log that begins at 0 and gives its offsets again.
        self.pending.add(Unsynced::Dir(place.dir.clone()));
        let durable = self.pending.sync_names(&*place.fs);
        durable.map_err(|source| self.change_half_done(place.dir.clone(), source))?;
        self.active = Arc::new(segment);
        self.active_file = Some(file);
        self.active_began = None;
        self.heads_sum = 0;
        self.producers = Producers::default();
        self.producers_changed = true;
        self.snapshot_pending = None;
        self.recent_ends.clear();
        (self.durable, self.durable_heads_sum) = (Mark { offset: base, segment: base, position: 0 }, 0);
        (self.in_place, self.in_place_heads_sum) = (self.durable, self.durable_heads_sum);
        {
            let mut view = self.shared.view.write();
            view.segments = vec![Arc::clone(&self.active)];
            (view.log_start, view.last_stable, view.high_watermark, view.log_end) = (base, base, base, base);
            view.high_watermark_mark = None;
            view.epochs = History::default();
        }
        self.shared.hints.lock().clear();
        self.cut_prepared = false;
        self.write_epochs(&History::default(), Durability::Visible)
            .map_err(|(file, source)| self.change_half_done(file, source))
    }

    /// The only place where a high watermark moves down: what was below it turned out to be this node's alone.
    fn lower_high_watermark(&mut self, to: Offset) {
        self.recent_ends.clear();
        let mut view = self.shared.view.write();
        let to = to.max(view.log_start);
        if to < view.high_watermark {
            view.high_watermark = to;
            view.high_watermark_mark = None;
            view.last_stable = view.last_stable.min(to);
        }
        drop(view);
        self.write_high_watermark();
    }

    /// Copies everything from `from` on to a file of its own, durably. Bytes are copied as they lie there, damage included.
    fn keep(&mut self, from: Offset, to: Offset, reason: &str) -> Result<Cut, (PathBuf, io::Error)> {
        let place = Arc::clone(&self.shared.place);
        let path = self.free_name(from).map_err(|error| (place.dir.clone(), error))?;
        let note = self.note(from, to, reason);
        let failed = |error| (path.clone(), error);
        let file = place.fs.open(&path, OpenMode::Truncate).map_err(failed)?;
        file.write_all_at(note.as_bytes(), 0).map_err(failed)?;
        let start = note.len() as u64;
        let mut end = start;
        let (number, segments) = {
            let view = self.shared.view.read();
            (view.segment_at(from), view.segments.clone())
        };
        for segment in segments.iter().skip(number) {
            let position = if segment.base_offset >= from {
                0
            } else {
                let place = segment.place_to_cut(from, segment.size());
                place.map_err(|error| (path.clone(), io::Error::other(error.to_string())))?.0
            };
            let source = segment.file().map_err(|error| (segment.path(LOG_SUFFIX), error))?;
            end = copy(&*source, position, segment.size(), &*file, end).map_err(failed)?;
        }
        file.sync_data().map_err(failed)?;
        place.fs.sync_dir(&place.dir).map_err(failed)?;
        Ok(Cut { file: path, from, to, bytes: end - start })
    }

    fn free_name(&self, from: Offset) -> io::Result<PathBuf> {
        let place = &self.shared.place;
        let mut path = place.path(from, CUT_SUFFIX);
        let mut number = 0;
        while place.fs.exists(&path)? {
            number += 1;
            path = place.path(from, &format!("{number}.{CUT_SUFFIX}"));
        }
        Ok(path)
    }

    /// One line that names what follows it.
    fn note(&self, from: Offset, to: Offset, reason: &str) -> String {
        let tp = &self.shared.tp;
        let mut note =
            format!("{CUT_HEAD}topic={} partition={} from={from} to={to} leader-epochs=", tp.topic, tp.partition);
        let epochs = self.leader_epochs();
        let first = epochs.entries().partition_point(|entry| entry.1 <= from).saturating_sub(1);
        for (number, (leader_epoch, start)) in epochs.entries().iter().skip(first).take(CUT_EPOCHS_MAX).enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let _ = write!(note, "{comma}{leader_epoch}:{}", (*start).max(from));
        }
        let _ = write!(note, " reason=");
        let room = CUT_NOTE_BYTES_MAX - 1;
        note.extend(reason.chars().filter(|c| !c.is_control()).take(room.saturating_sub(note.len()) / 4));
        note.push('\n');
        note
    }
}

/// Copies `[from, to)` of one file behind `at` of another; returns where that ends.
fn copy(source: &dyn File, from: u64, to: u64, target: &dyn File, at: u64) -> io::Result<u64> {
    let mut buf = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(COPY_BYTES).min(COPY_BYTES)];
    let (mut position, mut at) = (from, at);
    while position < to {
        let count = usize::try_from(to - position).unwrap_or(COPY_BYTES).min(buf.len());
        let Some(part) = buf.get_mut(..count) else { break };
        source.read_exact_at(part, position)?;
        target.write_all_at(part, at)?;
        position += count as u64;
        at += count as u64;
    }
    Ok(at)
}
