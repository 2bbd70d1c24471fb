//! Cuts the tail of the log: the segments after the cut go, the one it falls into is shortened, and what the log
//! derives from its tail is brought back to the new end.

use std::io;
use std::sync::Arc;

use chronik_model::Offset;

use crate::flush::Unsynced;
use crate::fs::{Durability, File, is_out_of_files};
use crate::log::{Log, LogError};
use crate::reader::{Mark, ReadError};
use crate::segment::{LOG_SUFFIX, SNAPSHOT_SUFFIX, SUM_SUFFIX, Segment, remove_if_there};

/// A boundary of batches, or the beginning of damage, at which the log may come to end.
pub(crate) struct CutPoint {
    pub(crate) segment: Arc<Segment>,
    pub(crate) position: u64,
    /// The log end there, exclusive.
    pub(crate) end: Offset,
}

impl Log {
    /// Cuts the log so that it ends at `offset`, or at the beginning of the batch that holds it. Returns the new log end.
    /// Only followers do this; nothing below the high watermark may be cut. A checkpoint taken before must be replaced
    /// before the next append.
    pub fn truncate_to(&mut self, offset: Offset) -> Result<Offset, LogError> {
        self.online().map_err(LogError::Offline)?;
        let (log_start, high_watermark, log_end) = {
            let view = self.shared.view.read();
            (view.log_start, view.high_watermark, view.log_end)
        };
        if offset >= log_end {
            return Ok(log_end);
        }
        if offset < high_watermark.max(log_start) {
            return Err(LogError::OffsetOutOfRange { offset, from: high_watermark.max(log_start), to: log_end });
        }
        let CutPoint { segment, position, end } = self.cut_point(offset)?;
        if end < high_watermark.max(log_start) {
            return Err(LogError::OffsetOutOfRange { offset: end, from: high_watermark.max(log_start), to: log_end });
        }
        // Before anything is changed: there may be no descriptor left.
        let file = segment.file().map_err(|error| segment.io(error))?;
        let removed = {
            let mut view = self.shared.view.write();
            let kept = view.segment_at(segment.base_offset) + 1;
            let removed = view.segments.split_off(kept);
            view.log_end = end;
            view.epochs.truncate_from_end(end);
            segment.set_size(position);
            removed
        };
        self.shared.hints.lock().clear();
        segment.cut_damage(position);
        self.recent_ends.clear();
        self.truncations += 1;
        let cut = self.cut_files(&segment, file, position, end, &removed);
        cut.map_err(|source| {
            self.sync_failed |= !is_out_of_files(&source);
            self.change_half_done(segment.path(LOG_SUFFIX), source)
        })?;
        self.active = segment;
        self.active_file = None;
        self.active_began = None;
        let derived = self.derive_anew(position, end);
        if let Err(error) = &derived {
            self.go_offline(&io::Error::other(error.to_string()));
        }
        derived.map(|()| end)
    }

    /// Brings what is derived from the tail back to a new end, at `position` of the active segment.
    fn derive_anew(&mut self, position: u64, end: Offset) -> Result<(), LogError> {
        self.heads_sum = self.sum_heads(position)?;
        if self.durable.offset > end {
            self.lower_durable(Mark { offset: end, segment: self.active.base_offset, position }, self.heads_sum);
        }
        let epochs = self.leader_epochs();
        self.write_epochs(&epochs, Durability::Visible).map_err(|(file, source)| LogError::Io { file, source })?;
        self.reload_producers(end)
    }

    /// Where the log is cut to end at `offset`, or at the beginning of the batch or the damage that holds it.
    pub(crate) fn cut_point(&self, offset: Offset) -> Result<CutPoint, ReadError> {
        let segment = {
            let view = self.shared.view.read();
            let segment = view.segments.get(view.segment_at(offset)).map(Arc::clone);
            segment.unwrap_or_else(|| Arc::clone(&self.active))
        };
        let (position, end) = segment.place_to_cut(offset, segment.size())?;
        Ok(CutPoint { segment, position, end })
    }

    fn cut_files(
        &mut self,
        segment: &Segment,
        file: Arc<dyn File>,
        position: u64,
        end: Offset,
        removed: &[Arc<Segment>],
    ) -> io::Result<()> {
        let place = Arc::clone(&self.shared.place);
        for segment in removed.iter().rev() {
            segment.remove_for_good()?;
        }
        file.set_len(position)?;
        // Other batches will be written over the cut ones: a crash must not mix the two.
        file.sync_data()?;
        segment.continue_tables(position, end)?;
        segment.save_damage()?;
        remove_if_there(&*place.fs, &segment.path(SUM_SUFFIX))?;
        self.pending.add(Unsynced::File(file));
        self.pending.add(Unsynced::Dir(place.dir.clone()));
        Ok(())
    }

    /// Rebuilds the producer state as of a new log end.
    fn reload_producers(&mut self, end: Offset) -> Result<(), LogError> {
        let place = Arc::clone(&self.shared.place);
        for offset in self.snapshots.iter().filter(|offset| **offset > end) {
            let path = place.path(*offset, SNAPSHOT_SUFFIX);
            remove_if_there(&*place.fs, &path).map_err(|source| LogError::Io { file: path, source })?;
        }
        self.snapshots.retain(|offset| *offset <= end);
        self.snapshot_pending = None;
        let segments = self.shared.view.read().segments.clone();
        self.producers = crate::recovery::producers_at(&place, &segments, &mut self.snapshots, end)?;
        self.producers_changed = true;
        Ok(())
    }
}
