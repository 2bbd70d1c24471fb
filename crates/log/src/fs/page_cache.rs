//! Whether what was written and never synced is still there.
//!
//! Linux gives each boot an id, and each mounted ext4 and XFS a directory in sysfs whose inode number is given once a
//! boot: a file system that is mounted anew, as after its device was lost, has another one. Other file systems do not tell.

#![expect(clippy::disallowed_methods, reason = "these files are the system's, not the log's")]

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The file systems that have a directory for each of their devices.
const TELL: [&str; 2] = ["ext4", "xfs"];

/// See [`super::Fs::page_cache`].
pub(super) fn of(device: u64) -> io::Result<Option<String>> {
    let Some(boot) = there(fs::read_to_string(BOOT_ID))? else { return Ok(None) };
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let Some(block) = there(fs::canonicalize(PathBuf::from("/sys/dev/block").join(number)))? else { return Ok(None) };
    let Some(block) = block.file_name() else { return Ok(None) };
    for kind in TELL {
        if let Some(mounted) = there(fs::metadata(PathBuf::from("/sys/fs").join(kind).join(block)))? {
            return Ok(Some(format!("{}-{}", boot.trim(), mounted.ino())));
        }
    }
    Ok(None)
}

fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
