//! Forgetting: whole segments by time and size, and a log start moved by request.
//!
//! Only what lies below the high watermark goes. A segment's file is renamed first and removed after, so a crash leaves
//! it whole or as a leftover that the next open removes. The log start counts after a crash only once it is in a
//! checkpoint; until then the first segment's base offset stands in for it.

use std::path::PathBuf;
use std::sync::Arc;

use chronik_model::{Offset, Timestamp};

use crate::fs::Durability;
use crate::leader_epoch::History;
use crate::log::{AppendError, Log, LogError};
use crate::reader::{ReadError, View};
use crate::segment::{LOG_SUFFIX, Segment, Stamp};

/// A segment that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedSegment {
    /// The file it was.
    pub file: PathBuf,
    /// Its first offset.
    pub base_offset: Offset,
    /// Its size.
    pub size_bytes: u64,
}

impl Log {
    /// Moves the log start up to `offset`, which must not be above the high watermark; a lower one changes nothing.
    /// Returns the log start. Files go with the next [`Log::apply_retention`].
    pub fn delete_records_before(&mut self, offset: Offset) -> Result<Offset, LogError> {
        self.online().map_err(LogError::Offline)?;
        let (log_start, high_watermark) = {
            let view = self.shared.view.read();
            (view.log_start, view.high_watermark)
        };
        if offset > high_watermark || offset < Offset::ZERO {
            return Err(LogError::OffsetOutOfRange { offset, from: log_start, to: high_watermark });
        }
        self.raise_log_start(offset)
    }

    /// Removes segments that are older than `retention.ms`, beyond `retention.bytes`, or below the log start.
    pub fn apply_retention(&mut self, now: Timestamp) -> Result<Vec<DeletedSegment>, LogError> {
        self.online().map_err(LogError::Offline)?;
        let (segments, log_start, high_watermark, log_end) = {
            let view = self.shared.view.read();
            (view.segments.clone(), view.log_start, view.high_watermark, view.log_end)
        };
        let mut excess = match self.config.retention_bytes.filter(|_| self.config.delete_on_retention) {
            Some(kept) => segments.iter().map(|segment| segment.size()).sum::<u64>().saturating_sub(kept),
            None => 0,
        };
        let mut going = 0;
        for (number, segment) in segments.iter().enumerate() {
            let next = segments.get(number + 1).map(|next| next.base_offset);
            let end = next.unwrap_or(log_end);
            let size = segment.size();
            if end > high_watermark || (next.is_none() && size == 0) {
                break;
            }
            let below_start = next.is_some_and(|next| next <= log_start);
            let beyond_size = excess > 0 && excess >= size;
            if !(below_start || beyond_size || self.expired(segment, now)?) {
                break;
            }
            excess = excess.saturating_sub(size);
            going = number + 1;
        }
        if going == 0 {
            return Ok(Vec::new());
        }
        if going == segments.len() {
            self.end_segment()?;
        }
        self.remove_first(going)
    }

    /// Begins a segment at the log end, so that the one before can be removed as a whole. Nothing where there is one.
    pub fn end_segment(&mut self) -> Result<(), LogError> {
        self.online().map_err(LogError::Offline)?;
        if self.active.size() == 0 {
            return Ok(());
        }
        self.roll().map_err(|error| match error {
            AppendError::Io { file, source } => LogError::Io { file, source },
            error => LogError::Offline(error.to_string().into()),
        })
    }

    /// Removes the segments that lie below the log start as a whole. A follower keeps the active one, which its leader
    /// decides when to end.
    pub fn remove_below_log_start(&mut self) -> Result<Vec<DeletedSegment>, LogError> {
        self.online().map_err(LogError::Offline)?;
        let going = {
            let view = self.shared.view.read();
            view.segment_at(view.log_start)
        };
        if going == 0 { Ok(Vec::new()) } else { self.remove_first(going) }
    }

    /// Whether the newest record of a segment is older than `retention.ms`. A segment without timestamps never is, and
    /// neither is one that cannot be read: what is damaged is for a human to remove.
    fn expired(&self, segment: &Segment, now: Timestamp) -> Result<bool, LogError> {
        let Some(retention) = self.config.retention_ms.filter(|_| self.config.delete_on_retention) else {
            return Ok(false);
        };
        let is_old = |newest: Result<Option<Stamp>, ReadError>| match newest {
            Ok(newest) => Ok(newest.filter(|newest| newest.timestamp_ms >= 0).is_some_and(|newest| {
                let age_ms = i128::from(now.millis()) - i128::from(newest.timestamp_ms);
                age_ms > i128::try_from(retention.as_millis()).unwrap_or(i128::MAX)
            })),
            Err(ReadError::Damaged(_)) => Ok(false),
            Err(error) => Err(error),
        };
        // The second look may read the whole segment, so only the first makes it worth while.
        Ok(is_old(segment.newest())? && is_old(segment.newest_of_all())?)
    }

    fn remove_first(&mut self, count: usize) -> Result<Vec<DeletedSegment>, LogError> {
        // In one step: a reader that is sent to the first segment must be told where it begins.
        let (removed, epochs) = {
            let mut view = self.shared.view.write();
            let removed: Vec<Arc<Segment>> = view.segments.drain(..count).collect();
            let log_start = view.segments.first().map_or(view.log_start, |segment| segment.base_offset);
            (removed, view.raise_log_start(log_start))
        };
        self.epochs_changed(epochs)?;
        let mut deleted = Vec::new();
        for segment in removed {
            let (file, size_bytes) = (segment.path(LOG_SUFFIX), segment.size());
            let gone = segment.rename_deleted().and_then(|()| segment.remove_deleted());
            gone.map_err(|source| self.change_failed(file.clone(), source))?;
            deleted.push(DeletedSegment { file, base_offset: segment.base_offset, size_bytes });
        }
        Ok(deleted)
    }

    fn raise_log_start(&mut self, log_start: Offset) -> Result<Offset, LogError> {
        let epochs = {
            let mut view = self.shared.view.write();
            if log_start <= view.log_start {
                return Ok(view.log_start);
            }
            view.raise_log_start(log_start)
        };
        self.epochs_changed(epochs)?;
        Ok(log_start)
    }

    fn epochs_changed(&mut self, epochs: Option<History>) -> Result<(), LogError> {
        match epochs {
            Some(epochs) => self
                .write_epochs(&epochs, Durability::Visible)
                .map_err(|(file, source)| self.change_failed(file, source)),
            None => Ok(()),
        }
    }
}

impl View {
    /// Moves the log start up; returns the leader epochs where they changed with it.
    fn raise_log_start(&mut self, log_start: Offset) -> Option<History> {
        self.log_start = self.log_start.max(log_start);
        self.last_stable = self.last_stable.max(log_start);
        self.epochs.truncate_from_start(log_start).then(|| self.epochs.clone())
    }
}
