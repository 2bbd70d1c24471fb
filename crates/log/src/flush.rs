//! Making a log durable outside its lock: what to sync, and what that makes durable.
//!
//! Order is contract: [`FlushJob::run`] must have returned success before [`crate::Log::flushed`] gets the job back. A
//! failed job goes to [`crate::Log::fail`]; it is never run again, since a sync that succeeds after one that failed
//! proves nothing.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use chronik_model::Offset;

use crate::fs::File;
use crate::reader::Mark;
use crate::segment::Place;

/// What one flush makes durable: every batch below [`FlushJob::end`], and the names of the files that hold them.
#[derive(Debug)]
pub struct FlushJob {
    pub(crate) place: Arc<Place>,
    pub(crate) files: Vec<Arc<dyn File>>,
    pub(crate) dirs: Vec<PathBuf>,
    pub(crate) mark: Mark,
    pub(crate) heads_sum: u32,
    pub(crate) truncations: u64,
    pub(crate) covers: u64,
}

impl FlushJob {
    /// Syncs; blocks for as long as the disk takes.
    pub fn run(&self) -> io::Result<()> {
        for file in &self.files {
            file.sync_data()?;
        }
        for dir in &self.dirs {
            self.place.fs.sync_dir(dir)?;
        }
        Ok(())
    }

    /// The log end that becomes durable, exclusive.
    pub fn end(&self) -> Offset {
        self.mark.offset
    }

    /// How many files and directories are synced.
    pub fn syncs(&self) -> usize {
        self.files.len() + self.dirs.len()
    }
}

/// Something that must be synced before the durable end may pass it.
#[derive(Debug)]
pub(crate) enum Unsynced {
    /// A file that is no longer the active segment.
    File(Arc<dyn File>),
    /// A directory with a changed name.
    Dir(PathBuf),
}

/// What waits for a sync beside the active segment, each with the number of the change.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    changes: u64,
    items: Vec<(u64, Unsynced)>,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn add(&mut self, item: Unsynced) {
        self.changes += 1;
        self.items.push((self.changes, item));
    }

    /// Fills a job's lists, each directory once.
    pub(crate) fn collect(&self, files: &mut Vec<Arc<dyn File>>, dirs: &mut Vec<PathBuf>) -> u64 {
        for (_, item) in &self.items {
            match item {
                Unsynced::File(file) => files.push(Arc::clone(file)),
                Unsynced::Dir(dir) if !dirs.contains(dir) => dirs.push(dir.clone()),
                Unsynced::Dir(_) => {}
            }
        }
        self.changes
    }

    pub(crate) fn synced(&mut self, covers: u64) {
        self.items.retain(|(change, _)| *change > covers);
    }
}
