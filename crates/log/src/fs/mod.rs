//! The seam between the log and a disk: the only way this crate, and the controller on top of it, touch files.
//!
//! The traits draw the line of durability exactly where POSIX draws it: a write is visible at once and durable only after
//! [`File::sync_data`]; a created, renamed or removed name is durable only after [`Fs::sync_dir`] of its directory.
//! Nothing here knows segments or offsets.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

mod fence;
mod mem;
mod page_cache;
mod real;

pub(crate) use fence::Fence;

pub use mem::{Fault, MemFs};
pub use real::RealFs;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Reading only; the file must exist.
    Read,
    /// Reading and writing; the file must exist.
    Write,
    /// Reading and writing; the file is made when it does not exist.
    Create,
    /// Reading and writing; an existing file is emptied.
    Truncate,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without its directory. Names that are not UTF-8 are not listed: the log never makes any.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A file system.
pub trait Fs: Send + Sync + Debug {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Takes an exclusive lock on a file, made when it does not exist; held until the handle is dropped or the process
    /// ends. `WouldBlock` where somebody else holds it.
    fn lock(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Makes a directory and all above it. Durable after syncing each parent.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Removes a file's name; open handles keep working.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with everything below it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Renames a file or directory, replacing an existing file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Lists a directory, sorted by name.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes everything on the file system that holds `path` durable.
    fn sync_all(&self, path: &Path) -> io::Result<()>;
    /// Whether the name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// A file's length in bytes, without opening it.
    fn file_len(&self, path: &Path) -> io::Result<u64>;
    /// The file system that a file or directory lies on: another number is another one, with syncs of its own.
    fn device(&self, path: &Path) -> io::Result<u64>;
    /// Names what keeps the written bytes of a file system in memory: the same for as long as what was written can be read
    /// without having been synced, another after a reboot and after the file system was mounted anew. `None` where the
    /// system does not tell.
    fn page_cache(&self, path: &Path) -> io::Result<Option<String>>;

    /// Tells the file system that the directories made in this one from now on have nothing to do with each other, as those of
    /// `/home` have not, where it can be told.
    fn spread_directories(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// An open file, used by position only: there is no cursor that two users could disagree about.
pub trait File: Send + Sync + Debug {
    /// Reads up to `buf.len()` bytes at a position; 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all slices one after the other at a position. After an error any part of them may be in the file.
    fn write_at_vectored(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Makes the file's bytes and length durable, not its name. After an error the state on disk is unknown and a later
    /// success proves nothing.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes everything on the file's file system durable. A write-back that failed since the file was opened is an
    /// error here, so the handle must be older than the writes that count: one opened for the call would miss it.
    fn sync_file_system(&self) -> io::Result<()>;
    /// Makes reads from a position on come from the disk, as far as the system can tell the two apart: writes what is
    /// cached and drops it. After a sync that failed, in this process or an earlier one, the cache holds bytes that the
    /// disk does not have and that no later sync will write.
    fn drop_cached(&self, from: u64) -> io::Result<()>;
    /// The descriptor, for `sendfile`; `None` where the file has none.
    fn as_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Whether the file holds no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Writes all of `bytes` at a position.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.write_at_vectored(&[IoSlice::new(bytes)], position)
    }
    /// Fills `buf` from a position; `UnexpectedEof` where the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()> {
        let wanted = buf.len();
        if read_full_at(self, buf, position)? < wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// Reads until `buf` is full or the file ends; returns the number of bytes read.
pub(crate) fn read_full_at<F: File + ?Sized>(file: &F, buf: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, position.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Whether the process or the system has no descriptor left: nothing was opened, nothing is wrong with the disk, and the
/// same call may succeed later. No sync and no write of an open file says so.
pub fn is_out_of_files(error: &io::Error) -> bool {
    let numbers = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|number| numbers.contains(&number))
}

/// The largest small file read whole: larger ones are refused as damaged, not loaded.
const SMALL_FILE_BYTES_MAX: u64 = 256 << 20;

/// Reads a small file whole; `None` where it does not exist.
pub fn read_small_file(fs: &dyn Fs, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match fs.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = file.len()?;
    if len > SMALL_FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "file is larger than any the log writes"));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let read = read_full_at(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Whether [`replace_file`] syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The new content and its name are on stable storage when the call returns.
    Durable,
    /// Readers see the old content or the new one; a power cut may leave either, or an empty file.
    Visible,
}

/// Replaces a small file as one step, through a temporary file beside it and a rename.
pub fn replace_file(fs: &dyn Fs, path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    if let Err(error) = write_new(fs, temporary, bytes, durability) {
        // A full disk gets its bytes back; what stays anyway is removed at the next start.
        let _ = fs.remove_file(temporary);
        return Err(error);
    }
    fs.rename(temporary, path)?;
    if durability == Durability::Durable
        && let Some(dir) = path.parent()
    {
        fs.sync_dir(dir)?;
    }
    Ok(())
}

fn write_new(fs: &dyn Fs, path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let file = fs.open(path, OpenMode::Truncate)?;
    file.write_all_at(bytes, 0)?;
    if durability == Durability::Durable {
        file.sync_data()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
