//! A file system that one log uses until its files are given up.
//!
//! A deleted topic's directory is renamed, and a topic of the same name gets a directory of the same name. Whoever still
//! holds the old log reaches its files by path, and would reach the new one's: after [`Fence::close`] every call fails.
//! A file opened while the fence closes counts only if it was open before; then it is the old log's.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{DirEntry, File, Fs, OpenMode};

#[derive(Debug)]
pub(crate) struct Fence {
    inner: Arc<dyn Fs>,
    closed: AtomicBool,
}

impl Fence {
    pub(crate) fn new(inner: Arc<dyn Fs>) -> Self {
        Self { inner, closed: AtomicBool::new(false) }
    }

    /// Lets nothing through from now on. What changes names runs under the lock of the log's owner, and so does this: no
    /// such call is under way. Readers open files at any time, so those are looked at again once they are open.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn through(&self) -> io::Result<&dyn Fs> {
        if self.is_closed() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the log's files are given up"));
        }
        Ok(&*self.inner)
    }
}

impl Fs for Fence {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.through()?.open(path, mode)?;
        self.through()?;
        Ok(file)
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.through()?.lock(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.through()?.create_dir_all(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.through()?.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.through()?.remove_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.through()?.rename(from, to)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.through()?.read_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.through()?.sync_dir(path)
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.through()?.sync_all(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.through()?.exists(path)
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.through()?.file_len(path)
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        self.through()?.device(path)
    }

    fn page_cache(&self, path: &Path) -> io::Result<Option<String>> {
        self.through()?.page_cache(path)
    }

    fn spread_directories(&self, path: &Path) -> io::Result<()> {
        self.through()?.spread_directories(path)
    }
}
