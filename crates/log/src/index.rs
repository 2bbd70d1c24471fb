//! The sparse tables beside a segment: offset to position, and timestamp to offset.
//!
//! Both are files of fixed-size big-endian entries in rising order, with a bounded tail in memory that is appended to the
//! file when it is full. An entry is a hint: whoever uses one checks it against the batch header it points to, so a table
//! may be stale, short, deleted or damaged without harm. No descriptor is kept open.

use std::io;
use std::path::PathBuf;

use crate::fs::{Fs, OpenMode, read_full_at};

/// Bytes of tail a table holds in memory before it writes them to its file.
const TAIL_BYTES_MAX: usize = 2048;
/// A binary search in a file narrows down to this many bytes, then reads them at once.
const CHUNK_BYTES: usize = 4096;

/// A table of `W`-byte entries: the first `in_file` of them in the file, the rest in memory.
#[derive(Debug)]
pub(crate) struct Table<const W: usize> {
    path: PathBuf,
    in_file: u64,
    tail: Vec<[u8; W]>,
}

/// Offset index entry: a batch's base offset relative to the segment's, and its position.
pub(crate) type OffsetTable = Table<8>;
/// Time index entry: the largest timestamp so far, and the relative base offset of the batch that brought it.
pub(crate) type TimeTable = Table<12>;

/// A decoded offset index entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) relative_offset: u32,
    pub(crate) position: u32,
}

/// A decoded time index entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp_ms: i64,
    pub(crate) relative_offset: u32,
}

impl OffsetEntry {
    pub(crate) fn encode(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        let (offset, position) = bytes.split_at_mut(4);
        offset.copy_from_slice(&self.relative_offset.to_be_bytes());
        position.copy_from_slice(&self.position.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: [u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self { relative_offset: u32::from_be_bytes([a, b, c, d]), position: u32::from_be_bytes([e, f, g, h]) }
    }
}

impl TimeEntry {
    pub(crate) fn encode(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        let (timestamp, offset) = bytes.split_at_mut(8);
        timestamp.copy_from_slice(&self.timestamp_ms.to_be_bytes());
        offset.copy_from_slice(&self.relative_offset.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: [u8; 12]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        Self {
            timestamp_ms: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            relative_offset: u32::from_be_bytes([i, j, k, l]),
        }
    }
}

impl<const W: usize> Table<W> {
    /// An empty table; whatever the file holds is overwritten by the first spill.
    pub(crate) fn empty(path: PathBuf) -> Self {
        Self { path, in_file: 0, tail: Vec::new() }
    }

    /// The table as its file has it; a missing file is an empty table, a part of an entry at the end is ignored.
    pub(crate) fn load(fs: &dyn Fs, path: PathBuf) -> io::Result<Self> {
        let in_file = match fs.file_len(&path) {
            Ok(len) => len / W as u64,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Self { path, in_file, tail: Vec::new() })
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> u64 {
        self.in_file + self.tail.len() as u64
    }

    /// Whether any entry is in the file.
    pub(crate) fn is_on_file(&self) -> bool {
        self.in_file > 0
    }

    /// The entry with a number, counted from 0.
    pub(crate) fn get(&self, fs: &dyn Fs, number: u64) -> io::Result<Option<[u8; W]>> {
        if let Some(in_tail) = number.checked_sub(self.in_file) {
            return Ok(usize::try_from(in_tail).ok().and_then(|at| self.tail.get(at)).copied());
        }
        let mut entry = [0; W];
        fs.open(&self.path, OpenMode::Read)?.read_exact_at(&mut entry, number * W as u64)?;
        Ok(Some(entry))
    }

    /// The last entry.
    pub(crate) fn last(&self, fs: &dyn Fs) -> io::Result<Option<[u8; W]>> {
        self.len().checked_sub(1).map_or(Ok(None), |last| self.get(fs, last))
    }

    /// The number of leading entries for which `before` holds; entries are in rising order.
    pub(crate) fn partition_point(&self, fs: &dyn Fs, before: impl Fn([u8; W]) -> bool) -> io::Result<u64> {
        if self.tail.first().is_some_and(|first| before(*first)) || self.in_file == 0 {
            return Ok(self.in_file + self.tail.partition_point(|entry| before(*entry)) as u64);
        }
        let file = fs.open(&self.path, OpenMode::Read)?;
        let chunk_entries = (CHUNK_BYTES / W) as u64;
        let (mut low, mut high) = (0, self.in_file);
        while high - low > chunk_entries {
            let middle = low + (high - low) / 2;
            let mut entry = [0; W];
            file.read_exact_at(&mut entry, middle * W as u64)?;
            if before(entry) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let mut chunk = [0; CHUNK_BYTES];
        let wanted = usize::try_from(high - low).unwrap_or(0) * W;
        let Some(chunk) = chunk.get_mut(..wanted) else { return Ok(low) };
        let read = read_full_at(&*file, chunk, low * W as u64)?;
        let (entries, _) = chunk.get(..read).unwrap_or_default().as_chunks::<W>();
        Ok(low + entries.partition_point(|entry| before(*entry)) as u64)
    }

    /// Adds an entry; writes the tail to the file first where it is full.
    pub(crate) fn push(&mut self, fs: &dyn Fs, entry: [u8; W]) -> io::Result<()> {
        self.spill_if_full(fs)?;
        self.tail.push(entry);
        Ok(())
    }

    /// Writes the tail to the file where it has no room for another entry.
    pub(crate) fn spill_if_full(&mut self, fs: &dyn Fs) -> io::Result<()> {
        if (self.tail.len() + 1) * W > TAIL_BYTES_MAX { self.spill(fs) } else { Ok(()) }
    }

    /// Writes the tail to the file. Not synced: a table that a power cut leaves short is completed from the segment.
    pub(crate) fn spill(&mut self, fs: &dyn Fs) -> io::Result<()> {
        if self.tail.is_empty() {
            return Ok(());
        }
        let file = fs.open(&self.path, OpenMode::Create)?;
        let end = self.in_file * W as u64;
        if file.len()? != end {
            file.set_len(end)?;
        }
        file.write_all_at(self.tail.as_flattened(), end)?;
        self.in_file += self.tail.len() as u64;
        self.tail.clear();
        Ok(())
    }

    /// Forgets all entries from `count` on.
    pub(crate) fn truncate(&mut self, count: u64) {
        match count.checked_sub(self.in_file) {
            Some(in_tail) => self.tail.truncate(usize::try_from(in_tail).unwrap_or(usize::MAX)),
            None => {
                self.in_file = count;
                self.tail.clear();
            }
        }
    }

    /// Releases memory the tail no longer needs.
    pub(crate) fn shrink(&mut self) {
        self.tail.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::MemFs;

    fn table(entries: u32) -> (MemFs, OffsetTable) {
        let fs = MemFs::new();
        let mut table = Table::empty(PathBuf::from("/t.index"));
        for number in 0..entries {
            table.push(&fs, OffsetEntry { relative_offset: number * 3, position: number * 100 }.encode()).unwrap();
        }
        (fs, table)
    }

    fn floor(fs: &MemFs, table: &OffsetTable, relative_offset: u32) -> Option<OffsetEntry> {
        let after = table.partition_point(fs, |e| OffsetEntry::decode(e).relative_offset <= relative_offset).unwrap();
        after.checked_sub(1).map(|at| OffsetEntry::decode(table.get(fs, at).unwrap().unwrap()))
    }

    #[test]
    fn every_offset_finds_the_entry_at_or_before_it_in_file_and_tail() {
        for entries in [0, 1, 255, 256, 257, 1000, 3000] {
            let (fs, table) = table(entries);
            assert_eq!(table.len(), u64::from(entries));
            for wanted in 0..entries * 3 {
                assert_eq!(floor(&fs, &table, wanted).unwrap().relative_offset, wanted / 3 * 3);
            }
        }
    }

    #[test]
    fn a_reloaded_table_has_what_was_spilled_and_ignores_half_an_entry() {
        let (fs, mut table) = table(700);
        table.spill(&fs).unwrap();
        let path = Path::new("/t.index");
        fs.open(path, OpenMode::Write).unwrap().set_len(700 * 8 - 3).unwrap();
        let loaded: OffsetTable = Table::load(&fs, path.to_owned()).unwrap();
        assert_eq!(loaded.len(), 699);
        assert_eq!(floor(&fs, &loaded, 5000).unwrap().relative_offset, 698 * 3);
    }

    #[test]
    fn entries_after_a_cut_overwrite_what_the_file_had() {
        let (fs, mut table) = table(600);
        table.truncate(100);
        table.push(&fs, OffsetEntry { relative_offset: 9000, position: 1 }.encode()).unwrap();
        table.spill(&fs).unwrap();
        assert_eq!(table.len(), 101);
        assert_eq!(fs.file_len(Path::new("/t.index")).unwrap(), 808);
        assert_eq!(floor(&fs, &table, 8999).unwrap().relative_offset, 297);
    }
}
