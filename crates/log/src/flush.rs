//! Making a log durable outside its lock: what to sync, and what that makes durable.
//!
//! Order is contract: [`FlushJob::run`], or the commit of a sync journal that took the job over, must have returned success
//! before [`crate::Log::flushed`] gets the job back. A failed job goes to [`crate::Log::fail`]; it is never run again, since
//! a sync that succeeds after one that failed proves nothing.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use chronik_model::Offset;

use crate::fs::{File, Fs, OpenMode, is_out_of_files};
use crate::log::{Log, LogError};
use crate::reader::Mark;
use crate::segment::{LOG_SUFFIX, Place};

/// What one flush makes durable: every batch below [`FlushJob::end`], and the names of the files that hold them.
#[derive(Debug)]
pub struct FlushJob {
    pub(crate) place: Arc<Place>,
    pub(crate) files: Vec<Arc<dyn File>>,
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) dirs: Vec<PathBuf>,
    pub(crate) mark: Mark,
    pub(crate) heads_sum: u32,
    pub(crate) truncations: u64,
    pub(crate) covers: u64,
    /// Where in the active segment the bytes begin that are not durable; `None` where the durable end lies in an earlier one.
    pub(crate) from: Option<u64>,
    /// A [`crate::SyncJournal`] has the bytes: the segment's file does not yet.
    pub(crate) journaled: bool,
}

impl FlushJob {
    /// Syncs; blocks for as long as the disk takes.
    pub fn run(&self) -> io::Result<()> {
        for file in &self.files {
            file.sync_data()?;
        }
        for path in &self.paths {
            match self.place.fs.open(path, OpenMode::Write) {
                Ok(file) => file.sync_data()?,
                // Removed by retention meanwhile: nothing that has to be durable.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for dir in &self.dirs {
            match self.place.fs.sync_dir(dir) {
                // The log was given up meanwhile: nobody counts on the job, and no sync has failed.
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.place.is_given_up() => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// The job as one that a [`crate::SyncJournal`] has made durable instead.
    #[must_use]
    pub fn journaled(self) -> Self {
        Self { journaled: true, ..self }
    }

    /// The log end that becomes durable, exclusive.
    pub fn end(&self) -> Offset {
        self.mark.offset
    }

    /// Where the bytes lie, if they are all that is to be synced: file, position, and the position behind them.
    pub(crate) fn bytes(&self) -> Option<(&Arc<dyn File>, u64, u64)> {
        match (self.files.as_slice(), self.from) {
            ([file], Some(from)) if self.paths.is_empty() && self.dirs.is_empty() && from < self.mark.position => {
                Some((file, from, self.mark.position))
            }
            _ => None,
        }
    }

    /// How many files and directories are synced.
    pub fn syncs(&self) -> usize {
        self.files.len() + self.paths.len() + self.dirs.len()
    }
}

/// Something that must be synced before the durable end may pass it.
#[derive(Debug)]
pub(crate) enum Unsynced {
    /// A file that is no longer the active segment, still open.
    File(Arc<dyn File>),
    /// A file that nobody has open: many logs may wait for a sync at once, descriptors are few.
    Path(PathBuf),
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

    /// Whether there are files that are known by a handle only.
    fn has_files(&self) -> bool {
        self.items.iter().any(|(_, item)| matches!(item, Unsynced::File(_)))
    }

    pub(crate) fn add(&mut self, item: Unsynced) {
        self.changes += 1;
        self.items.push((self.changes, item));
    }

    /// Fills a job's lists, each path and directory once.
    pub(crate) fn collect(&self, job: &mut FlushJob) {
        let mut seen = HashSet::new();
        for (_, item) in &self.items {
            match item {
                Unsynced::File(file) => job.files.push(Arc::clone(file)),
                Unsynced::Path(path) if seen.insert(path) => job.paths.push(path.clone()),
                Unsynced::Dir(dir) if seen.insert(dir) => job.dirs.push(dir.clone()),
                Unsynced::Path(_) | Unsynced::Dir(_) => {}
            }
        }
        job.covers = self.changes;
    }

    /// Syncs the directories, and forgets the files: they are gone.
    pub(crate) fn sync_names(&mut self, fs: &dyn Fs) -> io::Result<()> {
        for (_, item) in &self.items {
            if let Unsynced::Dir(dir) = item {
                fs.sync_dir(dir)?;
            }
        }
        self.items.clear();
        Ok(())
    }

    pub(crate) fn synced(&mut self, covers: u64) {
        self.items.retain(|(change, _)| *change > covers);
    }
}

impl Log {
    /// What must be synced to make the log durable up to its end; `None` where it is.
    pub fn flush_job(&self) -> Option<FlushJob> {
        let log_end = self.log_end();
        if self.failed.is_some() || self.cut_prepared || (self.durable.offset == log_end && self.pending.is_empty()) {
            return None;
        }
        let mut job = FlushJob {
            place: Arc::clone(&self.shared.place),
            files: self.active_file.iter().map(Arc::clone).collect(),
            paths: Vec::new(),
            dirs: Vec::new(),
            mark: self.end_mark(),
            heads_sum: self.heads_sum,
            truncations: self.truncations,
            covers: 0,
            from: (self.durable.segment == self.active.base_offset).then_some(self.durable.position),
            journaled: false,
        };
        self.pending.collect(&mut job);
        Some(job)
    }

    /// Like [`Log::flush_job`], with handles of its own: it may run beside another job of the log, since the system tells every
    /// handle of a write-back that failed. `None` as well where something has to be synced that only one handle is left of.
    pub fn detached_flush_job(&self) -> Option<FlushJob> {
        if self.pending.has_files() {
            return None;
        }
        let mut job = self.flush_job()?;
        if !job.files.is_empty() {
            job.files.clear();
            job.paths.push(self.active.path(LOG_SUFFIX));
        }
        Some(job)
    }

    /// Whether [`Log::flushed`] will count a job: not once the log was cut, or a cut prepared, after the job.
    pub fn expects(&self, job: &FlushJob) -> bool {
        self.failed.is_none() && job.truncations == self.truncations
    }

    /// Takes back a job that ran without error and moves the durable end.
    pub fn flushed(&mut self, job: FlushJob) {
        if !self.expects(&job) {
            return;
        }
        self.pending.synced(job.covers);
        if job.mark.offset >= self.durable.offset {
            self.durable = job.mark;
            self.durable_heads_sum = job.heads_sum;
        }
        if !job.journaled && job.mark.offset >= self.in_place.offset {
            self.in_place = job.mark;
            self.in_place_heads_sum = job.heads_sum;
        }
    }

    /// Says that what a sync journal had of this log was synced in the log's own files after the last call of
    /// [`Log::flushed`]: recovery need not look below the durable end.
    pub fn released(&mut self) {
        if self.failed.is_none() {
            (self.in_place, self.in_place_heads_sum) = (self.durable, self.durable_heads_sum);
        }
    }

    /// Moves the durable end back: the log is cut there.
    pub(crate) fn lower_durable(&mut self, to: Mark, heads_sum: u32) {
        (self.durable, self.durable_heads_sum) = (to, heads_sum);
        if self.in_place.offset >= to.offset {
            (self.in_place, self.in_place_heads_sum) = (to, heads_sum);
        }
    }

    /// Says that the whole file system was synced after the last call that changed this log.
    pub fn synced_all(&mut self) {
        if self.failed.is_none() {
            self.durable = self.end_mark();
            self.durable_heads_sum = self.heads_sum;
            (self.in_place, self.in_place_heads_sum) = (self.durable, self.durable_heads_sum);
            self.pending = Pending::default();
        }
    }

    /// Runs a flush inline.
    pub fn flush(&mut self) -> Result<(), LogError> {
        self.online().map_err(LogError::Offline)?;
        let Some(job) = self.flush_job() else { return Ok(()) };
        match job.run() {
            Ok(()) => {
                self.flushed(job);
                Ok(())
            }
            Err(source) => {
                // Where no file could be opened, none was synced in vain.
                self.sync_failed |= !is_out_of_files(&source);
                Err(self.change_failed(self.shared.place.dir.clone(), source))
            }
        }
    }
}
