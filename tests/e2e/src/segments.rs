//! Segment files of two nodes, name by name and byte by byte.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::disk::files_below;
use crate::wait;

/// Bytes compared at once.
const CHUNK_BYTES: usize = 1 << 20;

/// The segment files below a data directory, relative to `wal`, with their sizes.
pub fn of(data: &Path) -> BTreeMap<PathBuf, u64> {
    with_ending(data, "log")
}

/// The files in which followers keep what was cut, relative to `wal`, with their sizes.
pub fn cut_files(data: &Path) -> BTreeMap<PathBuf, u64> {
    with_ending(data, "cut")
}

fn with_ending(data: &Path, ending: &str) -> BTreeMap<PathBuf, u64> {
    files_below(&data.join("wal"))
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|found| found == ending))
        .collect()
}

/// How the segments of two nodes differ; `None` where all files have the same names and bytes.
pub fn difference(one: &Path, other: &Path) -> Option<String> {
    let (ours, theirs) = (of(one), of(other));
    for (path, size) in &ours {
        match theirs.get(path) {
            None => return Some(format!("{} is on one side only", path.display())),
            Some(other) if other != size => {
                return Some(format!("{} has {size} bytes on one side and {other} on the other", path.display()));
            }
            Some(_) => {}
        }
    }
    if let Some(path) = theirs.keys().find(|path| !ours.contains_key(*path)) {
        return Some(format!("{} is on the other side only", path.display()));
    }
    ours.iter().find_map(|(path, size)| {
        let position = first_difference(&one.join("wal").join(path), &other.join("wal").join(path), *size)?;
        Some(format!("{} differs at position {position}", path.display()))
    })
}

/// Waits until two nodes have the same segment files.
pub fn wait_until_same(one: &Path, other: &Path, bound: Duration) {
    let started = Instant::now();
    wait::until_true("the same segment files", bound * 2, || {
        let difference = difference(one, other);
        let what = || format!("{} and {}: {difference:?}", one.display(), other.display());
        assert!(difference.is_none() || started.elapsed() < bound, "{}: not the same within {bound:?}", what());
        difference.is_none()
    });
}

/// Asserts that each segment of a follower is the beginning of its leader's: that whatever is there is right.
pub fn assert_prefix(follower: &Path, leader: &Path) {
    for (path, size) in of(follower) {
        let (short, long) = (follower.join("wal").join(&path), leader.join("wal").join(&path));
        let leaders_size = std::fs::metadata(&long).map_or(0, |file| file.len());
        // An empty segment is the beginning of any.
        assert!(size <= leaders_size || size == 0, "{}: {size} bytes, the leader has {leaders_size}", path.display());
        if let Some(position) = first_difference(&short, &long, size) {
            panic!("{} differs from the leader's at position {position} of {size}", path.display());
        }
    }
}

/// The first position below `size` at which two files differ; a file that is not there, or is too short, differs there.
fn first_difference(one: &Path, other: &Path, size: u64) -> Option<u64> {
    if size == 0 {
        return None;
    }
    let (Ok(mut one), Ok(mut other)) = (File::open(one), File::open(other)) else { return Some(0) };
    let (mut ours, mut theirs) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut position = 0;
    while position < size {
        let length = CHUNK_BYTES.min(usize::try_from(size - position).unwrap_or(CHUNK_BYTES));
        let (ours, theirs) = (&mut ours[..length], &mut theirs[..length]);
        if one.read_exact(ours).is_err() || other.read_exact(theirs).is_err() {
            return Some(position);
        }
        if let Some(at) = (0..length).find(|at| ours[*at] != theirs[*at]) {
            return Some(position + u64::try_from(at).expect("a position"));
        }
        position += u64::try_from(length).expect("a length");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn write(data: &TempDir, name: &str, bytes: &[u8]) {
        let path = data.path().join("wal/t/0").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_difference_in_names_sizes_or_bytes_is_found() {
        let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        write(&one, "wal_0_0.log", b"abc");
        assert!(difference(one.path(), other.path()).unwrap().contains("one side only"));
        assert!(difference(other.path(), one.path()).unwrap().contains("other side only"));
        write(&other, "wal_0_0.log", b"ab");
        write(&other, "wal_0_0.index", b"differs");
        assert!(difference(one.path(), other.path()).unwrap().contains("3 bytes on one side and 2"));
        assert_prefix(other.path(), one.path());
        write(&other, "wal_0_0.log", b"abd");
        assert!(difference(one.path(), other.path()).unwrap().contains("position 2"));
        write(&other, "wal_0_0.log", b"abc");
        assert_eq!(difference(one.path(), other.path()), None);
    }

    #[test]
    fn what_the_leader_does_not_have_is_no_prefix() {
        let (leader, follower) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        write(&leader, "wal_0_0.log", b"abc");
        for bytes in [&b"abcd"[..], b"x"] {
            write(&follower, "wal_0_0.log", bytes);
            assert!(std::panic::catch_unwind(|| assert_prefix(follower.path(), leader.path())).is_err(), "{bytes:?}");
        }
    }
}
