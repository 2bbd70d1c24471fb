//! Walking the batches of a segment file in bounded memory: a window over the file, headers, checksums, and the search for
//! a batch after damage. Recovery, index rebuilding, lookups and `log dump|verify` all read through here.
//!
//! Nothing here changes a file or decides what to do about damage.

use std::io;

use chronik_model::{LeaderEpoch, Offset};
use chronik_record::{BatchHeader, HEADER_BYTES, RECORDS_PER_BYTE_MAX};

use crate::fs::{File, read_full_at};

/// Bytes before the part a batch's checksum covers.
const CRC_FIELD_END: u64 = 21;
/// The unit a disk writes whole.
const SECTOR_BYTES: u64 = 512;
/// The smallest unit that the page cache writes.
const PAGE_BYTES: u64 = HEADER_WINDOW_BYTES as u64;
/// Bytes read at once when every byte is needed.
pub(crate) const SCAN_WINDOW_BYTES: usize = 1 << 20;
/// Bytes read at once when only headers are needed.
pub(crate) const HEADER_WINDOW_BYTES: usize = 4096;
/// How many bytes the search after one damaged place checks against candidates' checksums before it gives up. The search
/// reads every byte anyway; this bounds what bytes made to look like headers can cost.
const RESYNC_CRC_BYTES_MAX: u64 = 1 << 30;

/// What is wrong with the bytes at a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The file ends inside a batch.
    #[error("the file ends inside a batch")]
    Incomplete,
    /// The bytes are no batch header.
    #[error("no batch header: {0}")]
    Header(#[from] chronik_record::HeaderError),
    /// The batch's checksum does not fit its bytes.
    #[error("checksum mismatch")]
    Checksum,
    /// The batch does not continue the one before it.
    #[error("base offset {found} where {expected} follows")]
    BaseOffset {
        /// The offset that continues the log.
        expected: Offset,
        /// The batch's base offset.
        found: Offset,
    },
    /// The batch's leader epoch is older than its predecessor's or unknown to the leader-epoch checkpoint.
    #[error("leader epoch {found} after {before}")]
    LeaderEpoch {
        /// The leader epoch of the batches before.
        before: LeaderEpoch,
        /// The batch's leader epoch.
        found: LeaderEpoch,
    },
    /// Bytes that were durable are gone: the file or the log ends before its recovery point.
    #[error("durable batches are missing")]
    Missing,
    /// The segment holds offsets that the one before it holds as well; it was set aside.
    #[error("offsets overlap with the segment before; set aside")]
    Overlap,
    /// The power went before these bytes were synced, and nothing waited for them to be: reads pass over their offsets.
    #[error("not synced when the power went")]
    Lost,
    /// Found damaged earlier.
    #[error("found damaged earlier")]
    KnownDamage,
    /// The segment's side file holds another checksum for these bytes.
    #[error("segment checksum mismatch")]
    SegmentChecksum,
}

/// A window that slides over a file. Positions at or beyond `end` are not there.
pub(crate) struct Window<'a> {
    file: &'a dyn File,
    buf: &'a mut [u8],
    start: u64,
    filled: usize,
    end: u64,
}

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a dyn File, buf: &'a mut [u8], end: u64) -> Self {
        Self { file, buf, start: 0, filled: 0, end }
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The bytes from a position on: at least `wanted` (at most the window's size) unless the file ends before.
    fn bytes_at(&mut self, position: u64, wanted: usize) -> io::Result<&[u8]> {
        let wanted =
            usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX).min(wanted).min(self.buf.len());
        let inside =
            position.checked_sub(self.start).and_then(|at| usize::try_from(at).ok()).filter(|at| *at <= self.filled);
        let at = match inside {
            Some(at) if self.filled - at >= wanted => at,
            _ => {
                let room = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX).min(self.buf.len());
                self.start = position;
                self.filled = 0;
                if let Some(target) = self.buf.get_mut(..room) {
                    self.filled = read_full_at(self.file, target, position)?;
                }
                0
            }
        };
        Ok(self.buf.get(at..self.filled).unwrap_or_default())
    }

    /// The header at a position, where the whole batch lies inside the file.
    pub(crate) fn header_at(&mut self, position: u64) -> io::Result<Result<BatchHeader, Reason>> {
        let end = self.end;
        let bytes = self.bytes_at(position, HEADER_BYTES)?;
        if bytes.len() < HEADER_BYTES {
            return Ok(Err(Reason::Incomplete));
        }
        Ok(match BatchHeader::read(bytes) {
            Ok(header) if position.saturating_add(header.size_bytes() as u64) > end => Err(Reason::Incomplete),
            Ok(header) => Ok(header),
            Err(error) => Err(Reason::Header(error)),
        })
    }

    /// Whether the checksum of the batch at a position fits its bytes.
    pub(crate) fn crc_is_valid(&mut self, position: u64, header: &BatchHeader) -> io::Result<bool> {
        let end = position + header.size_bytes() as u64;
        Ok(self.crc(0, position + CRC_FIELD_END, end)? == Some(header.crc))
    }

    /// Whether a whole page of a range is zero, as one is that never reached the disk.
    pub(crate) fn has_hole(&mut self, from: u64, to: u64) -> io::Result<bool> {
        let mut page = from.next_multiple_of(PAGE_BYTES);
        while page + PAGE_BYTES <= to {
            let bytes = self.bytes_at(page, HEADER_WINDOW_BYTES)?;
            if bytes.get(..HEADER_WINDOW_BYTES).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0)) {
                return Ok(true);
            }
            page += PAGE_BYTES;
        }
        Ok(false)
    }

    /// CRC-32C of a range, chained onto `crc`; `None` where the file ends before.
    pub(crate) fn crc(&mut self, crc: u32, from: u64, to: u64) -> io::Result<Option<u32>> {
        let (mut crc, mut at) = (crc, from);
        while at < to {
            let wanted = usize::try_from(to - at).unwrap_or(usize::MAX);
            let bytes = self.bytes_at(at, wanted.min(HEADER_WINDOW_BYTES))?;
            let bytes = bytes.get(..bytes.len().min(wanted)).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(None);
            }
            crc = crc32c::crc32c_append(crc, bytes);
            at += bytes.len() as u64;
        }
        Ok(Some(crc))
    }
}

/// The outcome of a search for a batch after damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resync {
    /// A batch with a fitting checksum that can follow.
    Found { position: u64, header: BatchHeader },
    /// No batch follows: the damage reaches the end.
    End,
    /// Too many bytes look like batches to tell within bounds.
    Undecided,
}

/// Searches the first valid batch behind damaged bytes at `damaged`, whose base offset would be `expected`.
///
/// Where the damaged batch still says its length, the search starts behind it, so that a batch inside a record's value is
/// not mistaken for one of the log.
pub(crate) fn resync(
    window: &mut Window<'_>,
    damaged: u64,
    expected: Offset,
    leader_epoch: LeaderEpoch,
) -> io::Result<Resync> {
    let mut search = Search { damaged, expected, leader_epoch, next: None };
    let mut spent: u64 = 0;
    if let Ok(header) = window.header_at(damaged)? {
        // The header may be sound and only the records behind it damaged: then it says how many there were.
        let count = i64::from(header.last_offset_delta).saturating_add(1);
        search.next = expected.checked_add(count);
        if let Some(found) = search.accept(window, damaged + header.size_bytes() as u64, &mut spent)? {
            return Ok(found);
        }
        search.next = None;
    }
    let mut position = damaged + 1;
    while position + HEADER_BYTES as u64 <= window.end() {
        // The magic byte is 16 bytes into a header; skipping to the next 2 keeps the search at memory speed.
        let bytes = window.bytes_at(position + 16, HEADER_WINDOW_BYTES)?;
        match bytes.iter().position(|byte| *byte == 2) {
            None => {
                position += bytes.len().max(1) as u64;
                continue;
            }
            Some(skip) => position += skip as u64,
        }
        if let Some(found) = search.accept(window, position, &mut spent)? {
            return Ok(found);
        }
        if spent > RESYNC_CRC_BYTES_MAX {
            return Ok(Resync::Undecided);
        }
        position += 1;
    }
    Ok(Resync::End)
}

struct Search {
    damaged: u64,
    expected: Offset,
    leader_epoch: LeaderEpoch,
    /// The offset that follows by what the damaged batch says of itself.
    next: Option<Offset>,
}

impl Search {
    /// The batch at a position, if it can follow the damage.
    ///
    /// Its base offset is outside its checksum. A write torn inside it leaves the rest of the batch sound, so a head that
    /// crosses a sector counts only where the next batch continues it.
    fn accept(&self, window: &mut Window<'_>, position: u64, spent: &mut u64) -> io::Result<Option<Resync>> {
        let Some(header) = self.plausible(window, position)? else { return Ok(None) };
        *spent += header.size_bytes() as u64;
        if !window.crc_is_valid(position, &header)? {
            return Ok(None);
        }
        if position % SECTOR_BYTES + CRC_FIELD_END > SECTOR_BYTES {
            let next = position + header.size_bytes() as u64;
            let Ok(next_header) = window.header_at(next)? else { return Ok(None) };
            if next_header.base_offset != header.next_offset() || !window.crc_is_valid(next, &next_header)? {
                return Ok(None);
            }
        }
        Ok(Some(Resync::Found { position, header }))
    }

    /// The header at a position if its offset is the one that follows, or can be reached with the records that the bytes
    /// between can stand for, and its leader epoch is not older.
    fn plausible(&self, window: &mut Window<'_>, position: u64) -> io::Result<Option<BatchHeader>> {
        let records_max = records_max(position.saturating_sub(self.damaged));
        Ok(window.header_at(position)?.ok().filter(|header| {
            header.base_offset > self.expected
                && (Some(header.base_offset) == self.next
                    || header.base_offset.distance_from(self.expected) <= records_max)
                && header.partition_leader_epoch >= self.leader_epoch
        }))
    }
}

/// More records than so many bytes of batches can stand for.
pub(crate) fn records_max(bytes: u64) -> u64 {
    bytes.saturating_mul(RECORDS_PER_BYTE_MAX)
}

/// The chained checksum of the batch heads below `limit`, which must be whole batches.
pub(crate) fn sum_heads(file: &dyn File, limit: u64) -> io::Result<u32> {
    let mut buf = vec![0; HEADER_WINDOW_BYTES * 16];
    let mut window = Window::new(file, &mut buf, limit);
    let (mut sum, mut position) = (0, 0);
    while let Ok(header) = window.header_at(position)? {
        sum = window.crc(sum, position, position + CRC_FIELD_END)?.unwrap_or(sum);
        position += header.size_bytes() as u64;
    }
    Ok(sum)
}
