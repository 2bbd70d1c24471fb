//! Tables taken from files, brought up to the end of the batches.
//!
//! The files are not synced: after a power cut each of the two may lack its last entries, by itself. A short offset table
//! costs a longer walk; a short time table would let retention take a segment for older than it is. So what lies behind
//! the last entries is walked before the tables are used, and what cannot be told from a short walk is told before
//! anything is deleted.

use std::io;

use chronik_record::HEADER_BYTES;

use super::{Segment, Stamp, Tables};
use crate::index::{OffsetEntry, TimeEntry};
use crate::reader::ReadError;
use crate::scan::{HEADER_WINDOW_BYTES, Window};

/// A table whose last entry lies further before the end of the segment than this is built again.
const UNINDEXED_BYTES_MAX: u64 = 4 << 20;

impl Segment {
    /// Takes the batches below `size` into tables that may lack the last of them; entries at or behind it are dropped.
    pub(super) fn complete(&self, mut tables: Tables, size: u64) -> io::Result<Tables> {
        let fs = self.fs();
        let kept = tables.offsets.partition_point(fs, |entry| u64::from(OffsetEntry::decode(entry).position) < size)?;
        tables.offsets.truncate(kept);
        tables.newest = tables.times.last(fs)?.map(TimeEntry::decode);
        tables.newest_in_table = tables.newest.map(|newest| newest.timestamp_ms);
        let last = tables.offsets.last(fs)?.map_or(0, |entry| u64::from(OffsetEntry::decode(entry).position));
        let Some(newest) = tables.newest.filter(|_| size - last.min(size) <= UNINDEXED_BYTES_MAX) else {
            return self.rebuild(size);
        };
        // Batches behind the one that brought the last time entry are all older, or missing in the table.
        let mut before = tables
            .offsets
            .partition_point(fs, |entry| OffsetEntry::decode(entry).relative_offset <= newest.relative_offset)?;
        let mut from = self.entry_before(&tables, before)?;
        tables.times_complete =
            size - from.map_or(0, |entry| u64::from(entry.position)).min(size) <= UNINDEXED_BYTES_MAX;
        if !tables.times_complete {
            before = kept;
            from = self.entry_before(&tables, before)?;
        }
        let position = from.map_or(0, |entry| u64::from(entry.position));
        let agrees = match from {
            None => true,
            Some(entry) => {
                let file = self.file()?;
                let header = Window::new(&*file, &mut [0; HEADER_BYTES], size).header_at(position)?;
                header.is_ok_and(|header| header.base_offset == self.absolute(entry.relative_offset))
            }
        };
        if !agrees {
            return self.rebuild(size);
        }
        tables.offsets.truncate(before);
        tables.end = position;
        tables.bytes_since_entry = 0;
        self.take_in(&mut tables, size)?;
        Ok(tables)
    }

    fn entry_before(&self, tables: &Tables, number: u64) -> io::Result<Option<OffsetEntry>> {
        let entry = number.checked_sub(1).map_or(Ok(None), |at| tables.offsets.get(self.fs(), at))?;
        Ok(entry.map(OffsetEntry::decode))
    }

    /// The tables as the batches below `size` say.
    pub(super) fn rebuild(&self, size: u64) -> io::Result<Tables> {
        let mut tables = self.no_tables();
        self.take_in(&mut tables, size)?;
        tables.push_newest(self.fs())?;
        Ok(tables)
    }

    /// Notes the batches from the tables' end on.
    fn take_in(&self, tables: &mut Tables, size: u64) -> io::Result<()> {
        let mut position = tables.end;
        if position < size {
            let file = self.file()?;
            let mut buf = vec![0; HEADER_WINDOW_BYTES * 16];
            let mut window = Window::new(&*file, &mut buf, size);
            while position < size {
                if let Some(damage) = self.damage_at(position) {
                    position = damage.position_end;
                    continue;
                }
                let Ok(header) = window.header_at(position)? else { break };
                self.note_in(tables, &header, position)?;
                position += header.size_bytes() as u64;
            }
        }
        tables.times_complete &= position >= size;
        tables.end = size;
        Ok(())
    }

    /// [`Segment::newest`] for whoever deletes by it: from all batches, `None` where one of them cannot be read.
    pub(crate) fn newest_of_all(&self) -> Result<Option<Stamp>, ReadError> {
        let complete = || self.with_tables(|tables| Ok(tables.times_complete)).map_err(|error| self.io(error));
        if !complete()? {
            self.rebuild_tables().map_err(|error| self.io(error))?;
        }
        if complete()? { self.newest() } else { Ok(None) }
    }
}
