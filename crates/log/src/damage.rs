//! Ranges of a segment that cannot be served, and the side file that remembers them once the recovery point has passed.
//!
//! Deciding what is damage and what is merely lost is recovery's; refusing the one and passing over the other is the
//! reader's.

use std::io;
use std::path::{Path, PathBuf};

use chronik_model::Offset;

use crate::checkpoint::{checked_text, with_checksum};
use crate::fs::{Durability, Fs, read_small_file, replace_file};
use crate::scan::Reason;
use crate::segment::remove_if_there;

const HEAD: &str = "chronik-damage 1";
/// Ends the line of a range that is only lost.
const LOST: &str = " lost";

/// A range of a segment that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment file.
    pub file: PathBuf,
    /// Where the damage begins.
    pub position: u64,
    /// Where the next usable batch begins, exclusive end of the damage; equal to `position` where bytes are missing.
    pub position_end: u64,
    /// The first offset that cannot be served, inclusive.
    pub offset: Offset,
    /// The first offset behind the damage, exclusive end.
    pub offset_end: Offset,
    /// What was found.
    pub reason: Reason,
}

impl Damage {
    /// Whether the range is only lost: nobody was told that it is durable, so that reads may pass over it.
    pub fn is_lost(&self) -> bool {
        self.reason == Reason::Lost
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} at position {} (offsets {} to {} exclusive): {}",
            self.file.display(),
            self.position,
            self.offset,
            self.offset_end,
            self.reason
        )
    }
}

/// Writes a segment's damaged ranges to its side file, durably; without any, removes the file.
pub(crate) fn save(fs: &dyn Fs, path: &Path, ranges: &[Damage]) -> io::Result<()> {
    if ranges.is_empty() {
        return remove_if_there(fs, path);
    }
    let mut text = format!("{HEAD}\n");
    for range in ranges {
        let (position, end, lost) = (range.position, range.position_end, if range.is_lost() { LOST } else { "" });
        text.push_str(&format!("{position} {end} {} {}{lost}\n", range.offset, range.offset_end));
    }
    replace_file(fs, path, &with_checksum(text), Durability::Durable)
}

/// Reads a side file; a missing or damaged one names no range.
pub(crate) fn load(fs: &dyn Fs, path: &Path, log_file: &Path) -> io::Result<Vec<Damage>> {
    match read_small_file(fs, path) {
        Ok(bytes) => Ok(bytes.and_then(|bytes| decode(log_file, &bytes)).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn decode(log_file: &Path, bytes: &[u8]) -> Option<Vec<Damage>> {
    let mut ranges = Vec::new();
    let mut lines = checked_text(bytes)?.lines();
    if lines.next()? != HEAD {
        return None;
    }
    for line in lines {
        let (line, reason) = match line.strip_suffix(LOST) {
            Some(line) => (line, Reason::Lost),
            None => (line, Reason::KnownDamage),
        };
        let mut fields = line.split(' ');
        let mut next = || fields.next()?.parse::<i64>().ok();
        let (position, position_end, offset, offset_end) = (next()?, next()?, next()?, next()?);
        ranges.push(Damage {
            file: log_file.to_owned(),
            position: u64::try_from(position).ok()?,
            position_end: u64::try_from(position_end).ok()?,
            offset: Offset::new(offset),
            offset_end: Offset::new(offset_end),
            reason,
        });
    }
    Some(ranges)
}
