//! An in-memory file system whose reads and syncs a test may watch or hold up. Everything else passes through.

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_log::fs::{DirEntry, File, Fs, MemFs, OpenMode};

/// What a test has to do with the calls.
pub(crate) trait Hooks: Debug + Send + Sync {
    /// Before a read of a file.
    fn before_read(&self) {}

    /// A sync of the file at `path`.
    fn sync(&self, path: &Path, sync: &dyn Fn() -> io::Result<()>) -> io::Result<()> {
        let _ = path;
        sync()
    }
}

/// An empty file system.
pub(crate) fn hooked<H: Hooks + 'static>(hooks: &Arc<H>) -> Arc<dyn Fs> {
    Arc::new(HookedFs { inner: MemFs::new(), hooks: Arc::clone(hooks) })
}

#[derive(Debug)]
struct HookedFs<H> {
    inner: MemFs,
    hooks: Arc<H>,
}

#[derive(Debug)]
struct HookedFile<H> {
    path: PathBuf,
    inner: Arc<dyn File>,
    hooks: Arc<H>,
}

impl<H: Hooks + 'static> Fs for HookedFs<H> {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let (path, inner) = (path.to_owned(), self.inner.open(path, mode)?);
        Ok(Arc::new(HookedFile { path, inner, hooks: Arc::clone(&self.hooks) }))
    }
    fn lock(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.inner.lock(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.read_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_all(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }
    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.inner.file_len(path)
    }
    fn device(&self, path: &Path) -> io::Result<u64> {
        self.inner.device(path)
    }
    fn page_cache(&self, path: &Path) -> io::Result<Option<String>> {
        self.inner.page_cache(path)
    }
}

impl<H: Hooks + 'static> File for HookedFile<H> {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.hooks.before_read();
        self.inner.read_at(buf, position)
    }
    fn write_at_vectored(&self, slices: &[io::IoSlice<'_>], position: u64) -> io::Result<()> {
        self.inner.write_at_vectored(slices, position)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn sync_data(&self) -> io::Result<()> {
        self.hooks.sync(&self.path, &|| self.inner.sync_data())
    }
    fn sync_file_system(&self) -> io::Result<()> {
        self.inner.sync_file_system()
    }
    fn drop_cached(&self, from: u64) -> io::Result<()> {
        self.inner.drop_cached(from)
    }
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.as_fd()
    }
}
