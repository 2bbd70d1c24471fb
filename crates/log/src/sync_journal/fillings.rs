//! The file that says which fillings of the journal's files count: `wal/sync-journal~fillings`.
//!
//! Text with a checksum line, replaced as one step. A filling is one use of a file from its beginning; each has a number that
//! is never given again, so that what an earlier one left behind it is not taken for its own.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::{checked_text, with_checksum};
use crate::fs::{Durability, Fs, read_small_file, replace_file};

/// The file's name in the directory of the logs. No topic has a name with `~`.
pub(super) const FILE: &str = "sync-journal~fillings";
const HEAD: &str = "chronik-sync-journal 1";
/// How many files there are: one is written while the segments take over what the other has.
pub(super) const SLOTS: u8 = 2;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fillings {
    /// The number that the next filling gets.
    pub(super) next: u64,
    /// Those that count, oldest first: number and file.
    pub(super) counting: Vec<(u64, u8)>,
}

/// Where the bytes of a slot lie.
pub(super) fn slot_path(wal: &Path, slot: u8) -> PathBuf {
    wal.join(format!("sync-journal~{slot}"))
}

/// What counts.
///
/// # Errors
/// `InvalidData` where the file is not what was written.
pub(super) fn read(fs: &dyn Fs, wal: &Path) -> io::Result<Fillings> {
    let Some(bytes) = read_small_file(fs, &wal.join(FILE))? else { return Ok(Fillings::default()) };
    decode(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its checksum or a line is wrong"))
}

/// Says what counts; durable when it returns.
pub(super) fn write(fs: &dyn Fs, wal: &Path, fillings: &Fillings) -> io::Result<()> {
    let mut text = format!("{HEAD}\nnext {}\n", fillings.next);
    for (number, slot) in &fillings.counting {
        let _ = writeln!(text, "{number} {slot}");
    }
    replace_file(fs, &wal.join(FILE), &with_checksum(text), Durability::Durable)
}

fn decode(bytes: &[u8]) -> Option<Fillings> {
    let mut lines = checked_text(bytes)?.lines();
    if lines.next()? != HEAD {
        return None;
    }
    let next = lines.next()?.strip_prefix("next ")?.parse().ok()?;
    let mut counting = Vec::new();
    for line in lines {
        let (number, slot) = line.split_once(' ')?;
        counting.push((number.parse().ok()?, slot.parse().ok().filter(|slot| *slot < SLOTS)?));
    }
    Some(Fillings { next, counting })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::MemFs;

    #[test]
    fn what_is_written_survives_a_power_cut_and_a_flipped_bit_is_an_error() {
        let fs = MemFs::new();
        let wal = Path::new("/wal");
        fs.create_dir_all(wal).unwrap();
        fs.sync_all(wal).unwrap();
        assert_eq!(read(&fs, wal).unwrap(), Fillings::default());
        let fillings = Fillings { next: 9, counting: vec![(7, 1), (8, 0)] };
        write(&fs, wal, &fillings).unwrap();
        fs.crash(1);
        assert_eq!(read(&fs, wal).unwrap(), fillings);
        fs.flip(&wal.join(FILE), 12, 3);
        assert_eq!(read(&fs, wal).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
