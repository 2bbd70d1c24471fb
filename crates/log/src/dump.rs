//! Walking a segment file as it lies on the disk, for `log dump` and `log verify`. It needs no log to be open and changes
//! nothing, so it works beside a running process: what that one appends meanwhile ends the walk early, not wrongly.

use std::io;
use std::path::Path;

use chronik_model::{LeaderEpoch, Offset};
use chronik_record::BatchHeader;

use crate::checkpoint::checked_text;
use crate::follower::{CUT_HEAD, CUT_NOTE_BYTES_MAX, CUT_SUFFIX};
use crate::fs::{File, Fs, OpenMode, read_full_at, read_small_file};
use crate::scan::{Reason, Resync, SCAN_WINDOW_BYTES, Window, resync, sum_heads};
use crate::segment::{SUM_SUFFIX, parse_name};

/// Something found in a segment file, in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A batch whose checksum fits and whose offset continues the one before.
    Batch {
        /// Where it begins.
        position: u64,
        /// Its header.
        header: BatchHeader,
    },
    /// Bytes that are no such batch.
    Damage {
        /// Where they begin.
        position: u64,
        /// Where the next batch begins, exclusive end.
        position_end: u64,
        /// What is wrong.
        reason: Reason,
    },
    /// The file ends with bytes that no batch follows.
    TornTail {
        /// Where they begin.
        position: u64,
        /// The file's size.
        size: u64,
        /// What is wrong.
        reason: Reason,
    },
}

/// A segment as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sound batches.
    pub batches: u64,
    /// The file's size.
    pub size: u64,
    /// Damaged ranges, the torn tail included.
    pub damaged: u64,
    /// What the checksum side file says of the 21 bytes before each batch's checksummed part: `None` without such a file.
    pub sum_fits: Option<bool>,
}

impl Summary {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damaged == 0 && self.sum_fits != Some(false)
    }
}

/// Walks a segment file and shows each batch and each damaged range to `visit`.
pub fn walk(fs: &dyn Fs, path: &Path, mut visit: impl FnMut(Entry)) -> io::Result<Summary> {
    let file = fs.open(path, OpenMode::Read)?;
    let size = file.len()?;
    let mut buf = vec![0; SCAN_WINDOW_BYTES];
    let mut window = Window::new(&*file, &mut buf, size);
    let mut summary = Summary { size, ..Summary::default() };
    let name = path.file_name().and_then(|name| name.to_str()).and_then(parse_name);
    let mut expected = name.map_or(Offset::ZERO, |(_, base_offset, _)| base_offset);
    let mut latest = LeaderEpoch::NONE;
    let mut position = note_bytes(&*file, name.map_or("", |(_, _, suffix)| suffix))?;
    while position < size {
        let reason = match window.header_at(position)? {
            Err(reason) => reason,
            Ok(header) if !window.crc_is_valid(position, &header)? => Reason::Checksum,
            Ok(header) if header.base_offset != expected => Reason::BaseOffset { expected, found: header.base_offset },
            Ok(header) if header.partition_leader_epoch < latest => {
                Reason::LeaderEpoch { before: latest, found: header.partition_leader_epoch }
            }
            Ok(header) => {
                visit(Entry::Batch { position, header });
                summary.batches += 1;
                position += header.size_bytes() as u64;
                expected = header.next_offset();
                latest = header.partition_leader_epoch;
                continue;
            }
        };
        summary.damaged += 1;
        match resync(&mut window, position, expected, latest)? {
            Resync::Found { position: next, header } => {
                visit(Entry::Damage { position, position_end: next, reason });
                position = next;
                expected = header.base_offset;
            }
            Resync::End | Resync::Undecided => {
                visit(Entry::TornTail { position, size, reason });
                break;
            }
        }
    }
    if let Some(bytes) = read_small_file(fs, &path.with_extension(SUM_SUFFIX))? {
        let written = parse_sum(&bytes);
        let fits = match written {
            Some((len, sum)) => len == size && sum_heads(&*file, size)? == sum,
            None => false,
        };
        summary.sum_fits = Some(fits);
    }
    Ok(summary)
}

/// The note at the beginning of a file that keeps a cut tail, without its line end; `None` for any other file.
pub fn note(fs: &dyn Fs, path: &Path) -> io::Result<Option<String>> {
    let file = fs.open(path, OpenMode::Read)?;
    let mut start = vec![0; CUT_NOTE_BYTES_MAX];
    let read = read_full_at(&*file, &mut start, 0)?;
    start.truncate(read);
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(line.starts_with(CUT_HEAD.as_bytes()).then(|| String::from_utf8_lossy(line).into_owned()))
}

/// Where the batches of a file begin: behind its note, where it is one of a cut tail that has one.
fn note_bytes(file: &dyn File, suffix: &str) -> io::Result<u64> {
    if !suffix.ends_with(CUT_SUFFIX) {
        return Ok(0);
    }
    let mut start = vec![0; CUT_NOTE_BYTES_MAX];
    let read = read_full_at(file, &mut start, 0)?;
    start.truncate(read);
    let end = start.iter().position(|byte| *byte == b'\n').filter(|_| start.starts_with(CUT_HEAD.as_bytes()));
    Ok(end.map_or(0, |end| end as u64 + 1))
}

/// The length and checksum in a side file.
fn parse_sum(bytes: &[u8]) -> Option<(u64, u32)> {
    let mut lines = checked_text(bytes)?.lines();
    if lines.next()? != "chronik-segment-sum 1" {
        return None;
    }
    let (len, sum) = lines.next()?.split_once(' ')?;
    Some((len.parse().ok()?, u32::from_str_radix(sum, 16).ok()?))
}
