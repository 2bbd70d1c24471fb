//! Taking the data directory, and the words for what can be wrong with it or its disk.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_log::dir::{DataDir, DirError};
use chronik_log::fs::Fs;
use chronik_model::{NodeId, Uuid};

use crate::problem::Problem;

/// Free bytes that a start needs: the journal, the checkpoint and the marks of a running process.
const FREE_BYTES_MIN: u64 = 1 << 20;
/// Made and removed again.
const PROBE_FILE: &str = ".probe";
/// Where the kernel lists who holds which lock.
const LOCKS: &str = "/proc/locks";

/// Takes the directory for this process. A new one belongs to `cluster_id`, or to a cluster of its own.
pub(crate) fn open(
    fs: Arc<dyn Fs>,
    root: PathBuf,
    node_id: NodeId,
    cluster_id: Option<Uuid>,
) -> Result<DataDir, Problem> {
    let new_cluster_id = match cluster_id {
        Some(cluster_id) => cluster_id,
        None => random_id().map_err(|error| {
            Problem::new(format!("the system gives no random numbers: {error}"), "check that /dev/urandom can be read")
        })?,
    };
    if let Some(problem) = free_bytes(&root).and_then(|free| too_full(&root, free)) {
        return Err(problem);
    }
    let dir = DataDir::open(fs, root, node_id, new_cluster_id).map_err(|error| explain(&error))?;
    let replayed = dir.replayed();
    for (path, position) in &replayed.damage {
        tracing::error!(
            file = %path.display(), position,
            "a group commit in the sync journal is damaged, recovery tells what is missing in the logs"
        );
    }
    if replayed.records > 0 {
        tracing::info!(
            commits = replayed.records,
            bytes = replayed.bytes,
            segments = replayed.segments.len(),
            "sync journal replayed"
        );
    }
    Ok(dir)
}

/// Whether the directory can be used, before anything is promised in its name.
pub(crate) fn check(fs: &dyn Fs, root: &Path) -> Result<(), Problem> {
    if let Some(problem) = free_bytes(root).and_then(|free| too_full(root, free)) {
        return Err(problem);
    }
    let failed = |action, source| explain(&DirError::Io { path: root.to_owned(), action, source });
    fs.create_dir_all(root).map_err(|source| failed("created", source))?;
    let lock = fs.lock(&root.join(PROBE_FILE));
    let probed = lock.map_err(|source| failed("written", source)).map(drop);
    let _ = fs.remove_file(&root.join(PROBE_FILE));
    probed
}

/// A disk this full is refused before anything is written: a start that fails half way would leave traces.
fn too_full(root: &Path, free: u64) -> Option<Problem> {
    (free < FREE_BYTES_MIN).then(|| {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        Problem::new(
            format!("no space is left for the data directory {}: {free} bytes are free", root.display()),
            after_io_error(&full, root),
        )
    })
}

/// Bytes free on the file system that holds the directory, or will hold it; `None` where the system does not tell.
fn free_bytes(root: &Path) -> Option<u64> {
    let root = std::path::absolute(root).ok()?;
    let stat = root.ancestors().find_map(|path| rustix::fs::statvfs(path).ok())?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// An id nobody else has.
pub(crate) fn random_id() -> Result<Uuid, getrandom::Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    Ok(Uuid::from_random(random))
}

/// A failure of the data directory in words.
pub(crate) fn explain(error: &DirError) -> Problem {
    match error {
        DirError::InUse { path } => {
            let owner = lock_owner(path).map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            Problem::new(
                format!("the data directory {} is in use by {owner}", path.display()),
                "stop that process, or choose another directory with --data-dir DIR (CHRONIK_DATA_DIR)",
            )
        }
        DirError::NewerFormat { path, found, known } => Problem::new(
            format!(
                "the data directory {} has format version {found}, this chronik reads up to {known}",
                path.display()
            ),
            "start the newer version of chronik that wrote it, or choose another directory with --data-dir DIR",
        ),
        DirError::OtherNode { path, found, wanted } => Problem::new(
            format!("the data directory {} belongs to node {found}, not to node {wanted}", path.display()),
            format!("start with --node-id {found}, or choose another directory with --data-dir DIR"),
        ),
        DirError::BadIdentity { path, what } => Problem::new(
            format!("{} is damaged: {what}", path.display()),
            "restore that file from a backup, or choose another directory with --data-dir DIR",
        ),
        DirError::BadSyncJournal { path } => Problem::new(
            format!(
                "{} is damaged: what was acknowledged last may be missing from the logs without it",
                path.display()
            ),
            "restore that file, or remove it to start with what the logs have",
        ),
        DirError::Io { path, action, source } => {
            Problem::new(format!("{} cannot be {action}: {source}", path.display()), after_io_error(source, path))
        }
    }
}

/// What to do after the file system refused something at `path`.
pub(crate) fn after_io_error(error: &io::Error, path: &Path) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("free space on the file system of {path}, or choose another directory with --data-dir DIR")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!(
                "{path} is on a read-only file system: mount it writable, or choose another directory with --data-dir DIR"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "make {path} writable for the user that runs chronik, or choose another directory with --data-dir DIR"
            )
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file stands where a directory should: name a directory with --data-dir DIR".to_owned()
        }
        _ => format!("check the disk and the file system of {path}; the system's log may say more"),
    }
}

/// The process that holds the directory's lock, where the system tells.
fn lock_owner(root: &Path) -> Option<u32> {
    let inode = std::fs::metadata(root.join(".lock")).ok()?.ino();
    owner_of(&std::fs::read_to_string(LOCKS).ok()?, inode)
}

/// Looks an inode up in the kernel's list: `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF`.
fn owner_of(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let is_flock = words.nth(1) == Some("FLOCK");
        let pid = words.nth(2)?;
        let place = words.next()?;
        let found: u64 = place.rsplit(':').next()?.parse().ok()?;
        // Zero stands for a process outside of this container.
        if is_flock && found == inode { pid.parse().ok().filter(|&pid| pid != 0) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use chronik_log::fs::RealFs;

    use super::*;

    fn open_here(root: &Path, node_id: i32) -> Result<DataDir, String> {
        open(Arc::new(RealFs), root.to_owned(), NodeId::new(node_id), None).map_err(|problem| problem.to_string())
    }

    #[test]
    fn the_owner_of_a_lock_is_found_by_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 10 00:1a:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4711 08:01:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 5 08:01:78 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 0 08:01:79 0 EOF\n";
        assert_eq!(owner_of(locks, 77), Some(4711));
        assert_eq!(owner_of(locks, 78), None);
        assert_eq!(owner_of(locks, 79), None);
        assert_eq!(owner_of("", 77), None);
        assert_eq!(owner_of("junk\n1: FLOCK", 77), None);
    }

    #[test]
    fn a_directory_in_use_is_refused_until_it_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let held = open_here(dir.path(), 1).unwrap();
        let problem = open_here(dir.path(), 1).unwrap_err();
        assert!(problem.contains("is in use by"), "{problem}");
        assert!(problem.contains("--data-dir DIR (CHRONIK_DATA_DIR)"), "{problem}");
        drop(held);
        open_here(dir.path(), 1).unwrap();
    }

    #[test]
    fn directories_of_others_are_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(open_here(dir.path(), 1).unwrap());
        let problem = open_here(dir.path(), 2).unwrap_err();
        assert!(problem.contains("start with --node-id 1"), "{problem}");
        let meta = dir.path().join("meta.properties");
        for (text, expected) in
            [("version=99\n", "the newer version of chronik that wrote it"), ("rubbish\n", "is damaged")]
        {
            std::fs::write(&meta, text).unwrap();
            let problem = open_here(dir.path(), 1).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
            assert_eq!(std::fs::read_to_string(&meta).unwrap(), text);
        }
    }

    #[test]
    fn a_file_in_the_way_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for root in [file.clone(), file.join("below")] {
            let problem = open_here(&root, 1).unwrap_err();
            assert!(problem.contains("name a directory with --data-dir DIR"), "{problem}");
        }
    }

    #[test]
    fn a_full_disk_is_told_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("not/there/yet");
        assert!(free_bytes(&below).is_some(), "the nearest directory that exists tells");
        assert_eq!(too_full(&below, FREE_BYTES_MIN), None);
        let problem = too_full(&below, FREE_BYTES_MIN - 1).unwrap().to_string();
        assert!(problem.contains("no space is left") && problem.contains("free space on"), "{problem}");
    }

    #[test]
    fn every_refusal_of_the_disk_says_what_to_do() {
        for (kind, expected) in [
            (io::ErrorKind::StorageFull, "free space"),
            (io::ErrorKind::ReadOnlyFilesystem, "read-only file system: mount it writable"),
            (io::ErrorKind::PermissionDenied, "writable for the user"),
            (io::ErrorKind::Other, "check the disk"),
        ] {
            let error = DirError::Io { path: PathBuf::from("/d"), action: "created", source: kind.into() };
            let problem = explain(&error).to_string();
            assert!(problem.contains("/d cannot be created") && problem.contains(expected), "{problem}");
        }
    }
}
