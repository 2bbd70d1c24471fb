//! The data directory: who uses it, whose it is, and where things lie in it.
//!
//! ```text
//! DATA/.lock                         held while a process uses the directory
//! DATA/meta.properties               format version, cluster id, node id
//! DATA/checkpoint, DATA/checkpoint-page-cache, DATA/clean-stop
//!                                    see `checkpoint`
//! DATA/metadata/                     the controller's log
//! DATA/wal/sync-journal~*            see `sync_journal`
//! DATA/wal/.sync                     where `wal` is a file system of its own: what its syncs go through
//! DATA/wal/<topic>/topic-id          whose directory it is, see `topic_id`
//! DATA/wal/<topic>/<partition>/      a partition's log
//! DATA/wal/deleted~<topic id>        leftovers of a deletion, removed at start
//! DATA/aside/                        topics and partitions that only this node had when it began to follow another
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use chronik_model::{NodeId, TopicId, TopicPartition, Uuid};
use parking_lot::Mutex;

use crate::checkpoint::{self, Checkpoint, Checkpoints};
use crate::fs::{Durability, File, Fs, OpenMode, read_small_file, replace_file};
use crate::sync_journal::{self, Replayed, SyncJournal, SyncJournalLimits};
use crate::topic_id;

/// The format this code reads and writes.
pub const FORMAT_VERSION: u32 = 2;
/// From how many files on one sync of the file system is taken for cheaper than theirs.
pub const SYNC_ALL_MIN: usize = 8;
const LOCK_FILE: &str = ".lock";
const META_FILE: &str = "meta.properties";
const SYNC_FILE: &str = ".sync";
const WAL_DIR: &str = "wal";
const METADATA_DIR: &str = "metadata";
/// Topics that only this node had when it began to follow another one.
const ASIDE_DIR: &str = "aside";
/// What a directory on its way out is called. No topic has a name with `~`, so none is ever taken for one.
const DELETED_PREFIX: &str = "deleted~";

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// Another process uses it.
    #[error("data directory {} is in use by another process; stop it or choose another directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to a later version.
    #[error("data directory {} has format {found}, this version reads up to {known}; use a newer version", path.display())]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The latest format this code knows.
        known: u32,
    },
    /// It belongs to another node.
    #[error("data directory {} belongs to node {found}, not to node {wanted}; start with that node id or another directory", path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Its node.
        found: NodeId,
        /// The node that wants it.
        wanted: NodeId,
    },
    /// Its identity file cannot be understood.
    #[error("{} is damaged: {what}", path.display())]
    BadIdentity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Nobody can tell what was acknowledged last and is not in the logs.
    #[error("{} is damaged: what was acknowledged last may be missing from the logs without it; restore the file, or remove it to start with what the logs have", path.display())]
    BadSyncJournal {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("cannot use data directory: {} cannot be {action}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// Whose a data directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The format it was last written in.
    pub version: u32,
    /// The cluster it belongs to.
    pub cluster_id: Uuid,
    /// The node it belongs to.
    pub node_id: NodeId,
}

/// An open data directory; the lock is held until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    fs: Arc<dyn Fs>,
    root: PathBuf,
    cluster_id: Uuid,
    node_id: NodeId,
    created: bool,
    /// What holds the files of the directory in memory, where the system tells.
    page_cache: Option<String>,
    /// One file on each file system that the directory spans: the lock, held by this, and one where the logs lie. Syncs
    /// go through them, so they are opened before anything is written.
    file_systems: Vec<Arc<dyn File>>,
    /// What the first sync of the file system that failed said.
    sync_failed: Mutex<Option<String>>,
    replayed: Replayed,
}

impl DataDir {
    /// Takes a directory for a node. One without an identity gets `new_cluster_id`; one with a later format, another node
    /// or another user is left exactly as it is.
    pub fn open(fs: Arc<dyn Fs>, root: PathBuf, node_id: NodeId, new_cluster_id: Uuid) -> Result<Self, DirError> {
        let io_error = |path: &Path, action: &'static str| {
            let path = path.to_owned();
            move |source| DirError::Io { path, action, source }
        };
        let meta = root.join(META_FILE);
        let above = above(&*fs, &root);
        // Read first: nothing is created in a directory that turns out to be somebody else's.
        let identity = Self::identity_for(&*fs, &root, node_id)?;
        fs.create_dir_all(&root).map_err(io_error(&root, "created"))?;
        let lock_path = root.join(LOCK_FILE);
        let lock = fs.lock(&lock_path).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => DirError::InUse { path: root.clone() },
            _ => DirError::Io { path: lock_path, action: "locked", source },
        })?;
        // Again under the lock: another process may have made it meanwhile.
        let identity = match identity {
            Some(identity) => Some(identity),
            None => Self::identity_for(&*fs, &root, node_id)?,
        };
        let created = identity.is_none();
        let write_meta = |cluster_id: Uuid| {
            let text = format!("version={FORMAT_VERSION}\ncluster.id={cluster_id}\nnode.id={node_id}\n");
            replace_file(&*fs, &meta, text.as_bytes(), Durability::Durable).map_err(io_error(&meta, "written"))
        };
        let cluster_id = match identity {
            Some(Identity { cluster_id, version, .. }) => {
                // A version that knows no sync journal would start without what is only there.
                if version < FORMAT_VERSION {
                    write_meta(cluster_id)?;
                }
                cluster_id
            }
            None => {
                write_meta(new_cluster_id)?;
                for (dir, must) in above {
                    // A process that died may have made those that were there; the system may not let us sync them.
                    if let (Err(source), true) = (fs.sync_dir(dir), must) {
                        return Err(DirError::Io { path: dir.to_owned(), action: "synced", source });
                    }
                }
                new_cluster_id
            }
        };
        for dir in [root.join(WAL_DIR), root.join(METADATA_DIR)] {
            fs.create_dir_all(&dir).map_err(io_error(&dir, "created"))?;
        }
        fs.sync_dir(&root).map_err(io_error(&root, "synced"))?;
        let wal = root.join(WAL_DIR);
        // ext4 keeps what belongs together in one group of inodes. Without a journal it looks there through all that were deleted
        // within the last minutes for each new one: a topic made after others were deleted took ten times as long.
        let _ = fs.spread_directories(&wal);
        let device = |dir: &Path| fs.device(dir).map_err(io_error(dir, "looked up"));
        let mut file_systems = vec![lock];
        if device(&wal)? != device(&root)? {
            let path = wal.join(SYNC_FILE);
            file_systems.push(fs.open(&path, OpenMode::Create).map_err(io_error(&path, "created"))?);
        }
        // Who cannot tell does without: every checkpoint is a durable one then.
        let page_cache = |dir: &Path| fs.page_cache(dir).ok().flatten();
        let page_cache = page_cache(&root).zip(page_cache(&wal)).map(|(root, wal)| format!("{root} {wal}"));
        let mut dir = Self {
            fs,
            root,
            cluster_id,
            node_id,
            created,
            page_cache,
            file_systems,
            sync_failed: Mutex::new(None),
            replayed: Replayed::default(),
        };
        dir.replay()?;
        Ok(dir)
    }

    /// Puts what the sync journal has where it belongs, durably; nothing in it counts afterwards.
    fn replay(&mut self) -> Result<(), DirError> {
        let wal = self.wal_dir();
        let failed = |(path, source): (PathBuf, io::Error)| match source.kind() {
            io::ErrorKind::InvalidData => DirError::BadSyncJournal { path },
            _ => DirError::Io { path, action: "replayed", source },
        };
        self.replayed = sync_journal::replay(&self.fs, &wal).map_err(failed)?;
        if !self.replayed.counted {
            return Ok(());
        }
        if self.replayed.segments.len() >= SYNC_ALL_MIN {
            self.sync_all()?;
        } else {
            for path in &self.replayed.segments {
                self.sync_file(path)?;
            }
        }
        sync_journal::forget(&*self.fs, &wal).map_err(failed)
    }

    /// What the sync journal of the process before had.
    pub fn replayed(&self) -> &Replayed {
        &self.replayed
    }

    /// A journal for the group commits of the directory's logs.
    pub fn sync_journal(&self, limits: SyncJournalLimits) -> SyncJournal {
        SyncJournal::new(Arc::clone(&self.fs), self.wal_dir(), limits)
    }

    /// Whose a directory is, without taking it: nothing is locked, created or changed. `None` where it has no identity yet,
    /// as that of a follower which is to adopt its leader's cluster before [`DataDir::open`].
    pub fn identity(fs: &dyn Fs, root: &Path) -> Result<Option<Identity>, DirError> {
        let path = root.join(META_FILE);
        let bytes =
            read_small_file(fs, &path).map_err(|source| DirError::Io { path: path.clone(), action: "read", source })?;
        let Some(bytes) = bytes else { return Ok(None) };
        let bad = |what| DirError::BadIdentity { path: path.clone(), what };
        let text = std::str::from_utf8(&bytes).map_err(|_| bad("not text"))?;
        let mut values = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, value) = line.split_once('=').ok_or_else(|| bad("a line without '='"))?;
            values.insert(key.trim(), value.trim());
        }
        let version: u32 = parsed(&values, "version").ok_or_else(|| bad("no usable version"))?;
        if version > FORMAT_VERSION {
            return Err(DirError::NewerFormat { path: root.to_owned(), found: version, known: FORMAT_VERSION });
        }
        let node_id = NodeId::new(parsed(&values, "node.id").ok_or_else(|| bad("no usable node.id"))?);
        let cluster_id = parsed(&values, "cluster.id").ok_or_else(|| bad("no usable cluster.id"))?;
        Ok(Some(Identity { version, cluster_id, node_id }))
    }

    /// The identity of a directory that is to be `wanted`'s.
    fn identity_for(fs: &dyn Fs, root: &Path, wanted: NodeId) -> Result<Option<Identity>, DirError> {
        match Self::identity(fs, root)? {
            Some(Identity { node_id, .. }) if node_id != wanted => {
                Err(DirError::OtherNode { path: root.to_owned(), found: node_id, wanted })
            }
            identity => Ok(identity),
        }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file system it lies on.
    pub fn fs(&self) -> &Arc<dyn Fs> {
        &self.fs
    }

    /// The cluster it belongs to.
    pub fn cluster_id(&self) -> Uuid {
        self.cluster_id
    }

    /// The node it belongs to.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// Whether this call gave the directory its identity.
    pub fn created(&self) -> bool {
        self.created
    }

    /// Where the partitions' logs lie.
    pub fn wal_dir(&self) -> PathBuf {
        self.root.join(WAL_DIR)
    }

    /// Where the controller's log lies.
    pub fn metadata_dir(&self) -> PathBuf {
        self.root.join(METADATA_DIR)
    }

    /// Where a topic's partitions lie.
    pub fn topic_dir(&self, topic: &str) -> PathBuf {
        self.wal_dir().join(topic)
    }

    /// Where a partition's log lies.
    pub fn partition_dir(&self, tp: &TopicPartition) -> PathBuf {
        self.topic_dir(&tp.topic).join(tp.partition.to_string())
    }

    /// Whose files lie in the directory of a topic's name; `None` where there is none, or it does not say.
    pub fn topic_id(&self, topic: &str) -> Result<Option<TopicId>, DirError> {
        let dir = self.topic_dir(topic);
        topic_id::read(&*self.fs, &dir).map_err(|source| self.error(&dir.join(topic_id::FILE), "read", source))
    }

    /// Makes a topic's directory where there is none, and says in it whose it is. Durable with the next
    /// [`DataDir::sync_topic_id`] or [`DataDir::sync_all`], which must come before anything else is made in the directory:
    /// a sync journal may have bytes of an earlier topic of the name.
    pub fn write_topic_id(&self, topic: &str, id: TopicId) -> Result<(), DirError> {
        let dir = self.topic_dir(topic);
        self.fs.create_dir_all(&dir).map_err(|source| self.error(&dir, "created", source))?;
        topic_id::write(&*self.fs, &dir, id).map_err(|source| self.error(&dir.join(topic_id::FILE), "written", source))
    }

    /// Makes what [`DataDir::write_topic_id`] wrote durable.
    pub fn sync_topic_id(&self, topic: &str) -> Result<(), DirError> {
        let dir = self.topic_dir(topic);
        self.sync_file(&dir.join(topic_id::FILE))?;
        self.fs.sync_dir(&dir).map_err(|source| self.error(&dir, "synced", source))
    }

    /// The partitions that have a directory, leftovers of deletions not counted.
    pub fn partitions(&self) -> Result<Vec<TopicPartition>, DirError> {
        let mut partitions = Vec::new();
        for topic in self.list(&self.wal_dir())? {
            if topic.starts_with(DELETED_PREFIX) {
                continue;
            }
            let name: Arc<str> = topic.as_str().into();
            for partition in self.list(&self.topic_dir(&topic))? {
                if let Ok(number) = i32::from_str(&partition)
                    && number >= 0
                    && number.to_string() == partition
                {
                    partitions.push(TopicPartition::new(Arc::clone(&name), number));
                }
            }
        }
        partitions.sort();
        Ok(partitions)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DirError> {
        let entries = self.fs.read_dir(dir).map_err(|source| self.error(dir, "listed", source))?;
        Ok(entries.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.name).collect())
    }

    fn sync_file(&self, path: &Path) -> Result<(), DirError> {
        let synced = self.fs.open(path, OpenMode::Write).and_then(|file| file.sync_data());
        synced.map_err(|source| self.error(path, "synced", source))
    }

    fn error(&self, path: &Path, action: &'static str, source: io::Error) -> DirError {
        DirError::Io { path: path.to_owned(), action, source }
    }

    /// Renames a topic's directory out of the way, durably: from now on its name is free and its files are gone for every
    /// later start. Returns the directory to give to [`DataDir::remove`]; `None` where there is none.
    pub fn stage_topic_deletion(&self, topic: &str, id: TopicId) -> Result<Option<PathBuf>, DirError> {
        let staged = self.wal_dir().join(format!("{DELETED_PREFIX}{id}"));
        self.stage(&self.topic_dir(topic), staged)
    }

    /// Moves a topic's directory to a place of its own, durably, where nothing looks for it and nothing deletes it. Returns
    /// the place; `None` where there is no directory.
    pub fn keep_topic_aside(&self, topic: &str, id: TopicId) -> Result<Option<PathBuf>, DirError> {
        let aside = self.root.join(ASIDE_DIR);
        self.fs.create_dir_all(&aside).map_err(|source| self.error(&aside, "created", source))?;
        self.fs.sync_dir(&self.root).map_err(|source| self.error(&self.root, "synced", source))?;
        let kept = aside.join(format!("{topic}~{id}"));
        Ok(self.stage(&self.topic_dir(topic), kept.clone())?.map(|_| kept))
    }

    /// The same for one partition.
    pub fn keep_partition_aside(&self, tp: &TopicPartition, id: TopicId) -> Result<Option<PathBuf>, DirError> {
        let aside = self.root.join(ASIDE_DIR);
        self.fs.create_dir_all(&aside).map_err(|source| self.error(&aside, "created", source))?;
        self.fs.sync_dir(&self.root).map_err(|source| self.error(&self.root, "synced", source))?;
        let kept = aside.join(format!("{}~{id}~{}", tp.topic, tp.partition));
        Ok(self.stage(&self.partition_dir(tp), kept.clone())?.map(|_| kept))
    }

    fn stage(&self, dir: &Path, staged: PathBuf) -> Result<Option<PathBuf>, DirError> {
        if !self.fs.exists(dir).map_err(|source| self.error(dir, "looked up", source))? {
            let left = self.fs.exists(&staged).map_err(|source| self.error(&staged, "looked up", source))?;
            return Ok(left.then_some(staged));
        }
        self.fs.rename(dir, &staged).map_err(|source| self.error(dir, "renamed", source))?;
        for dir in [dir.parent(), staged.parent()].into_iter().flatten() {
            self.fs.sync_dir(dir).map_err(|source| self.error(dir, "synced", source))?;
        }
        Ok(Some(staged))
    }

    /// Removes a staged directory.
    pub fn remove(&self, staged: &Path) -> Result<(), DirError> {
        match self.fs.remove_dir_all(staged) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(self.error(staged, "removed", source)),
            _ => Ok(()),
        }
    }

    /// Removes what interrupted deletions left; returns how many directories that were.
    pub fn remove_leftovers(&self) -> Result<usize, DirError> {
        let wal = self.wal_dir();
        let leftovers: Vec<_> = self.list(&wal)?.into_iter().filter(|name| name.starts_with(DELETED_PREFIX)).collect();
        for name in &leftovers {
            self.remove(&wal.join(name))?;
        }
        Ok(leftovers.len())
    }

    /// Whether the last stop was clean; the marker is gone when this returns.
    pub fn take_clean_stop(&self) -> Result<bool, DirError> {
        checkpoint::take_clean_stop(&*self.fs, &self.root)
            .map_err(|source| self.error(&self.root.join(checkpoint::CLEAN_STOP_FILE), "removed", source))
    }

    /// Says that the stop was clean.
    pub fn mark_clean_stop(&self) -> Result<(), DirError> {
        checkpoint::mark_clean_stop(&*self.fs, &self.root)
            .map_err(|source| self.error(&self.root.join(checkpoint::CLEAN_STOP_FILE), "written", source))
    }

    /// Every partition's checkpoints; none where a file is missing or damaged, so that everything is scanned.
    pub fn read_checkpoints(&self) -> Result<Checkpoints, DirError> {
        let durable = checkpoint::read(&*self.fs, &self.root)
            .map_err(|source| self.error(&self.root.join(checkpoint::CHECKPOINT_FILE), "read", source))?;
        // Whoever removes the one has everything verified, whatever else there is.
        let Some(durable) = durable else { return Ok(Checkpoints::default()) };
        let Some(page_cache) = &self.page_cache else { return Ok(Checkpoints { durable, written: BTreeMap::new() }) };
        let written = checkpoint::read_written(&*self.fs, &self.root, page_cache)
            .map_err(|source| self.error(&self.root.join(checkpoint::PAGE_CACHE_FILE), "read", source))?;
        Ok(Checkpoints { durable, written: written.unwrap_or_default() })
    }

    /// Replaces every partition's checkpoint; durable when this returns. What the page cache was said to have is forgotten,
    /// so that a log may be cut from then on to where its line says; a sync journal that has bytes of it must have been
    /// renewed before.
    pub fn write_checkpoint<'a>(
        &self,
        partitions: impl IntoIterator<Item = (&'a TopicPartition, &'a Checkpoint)>,
    ) -> Result<(), DirError> {
        checkpoint::write(&*self.fs, &self.root, partitions)
            .map_err(|source| self.error(&self.root.join(checkpoint::CHECKPOINT_FILE), "written", source))?;
        self.forget_written()
    }

    /// Whether a reboot can be told from the end of a process, so that [`DataDir::write_written`] is of use.
    pub fn knows_page_cache(&self) -> bool {
        self.page_cache.is_some()
    }

    /// Replaces what is known to be written, for the recovery after the end of a process.
    pub fn write_written<'a>(
        &self,
        partitions: impl IntoIterator<Item = (&'a TopicPartition, &'a Checkpoint)>,
    ) -> Result<(), DirError> {
        let Some(page_cache) = &self.page_cache else { return Ok(()) };
        checkpoint::write_written(&*self.fs, &self.root, page_cache, partitions)
            .map_err(|source| self.error(&self.root.join(checkpoint::PAGE_CACHE_FILE), "written", source))?;
        // A sync of the file system may have failed meanwhile.
        if self.none_failed().is_err() { self.forget_written() } else { Ok(()) }
    }

    /// Lets the next recovery begin at the durable checkpoint: after a sync that failed nobody knows what the page cache has.
    pub fn forget_written(&self) -> Result<(), DirError> {
        checkpoint::forget_written(&*self.fs, &self.root)
            .map_err(|source| self.error(&self.root.join(checkpoint::PAGE_CACHE_FILE), "removed", source))
    }

    /// An error where [`DataDir::sync_all`] has failed once.
    pub(crate) fn none_failed(&self) -> io::Result<()> {
        earlier(&self.sync_failed.lock())
    }

    /// Makes everything in the directory durable, with all else on its file systems. A failed write-back since the
    /// directory was opened is an error, and stays one: the system tells it once, to whoever asks first, and which bytes
    /// were lost it does not tell. So nothing may count on a sync of the whole file system any more, nor the next start on
    /// what was said of the page cache.
    pub fn sync_all(&self) -> Result<(), DirError> {
        let mut failed = self.sync_failed.lock();
        let outcome =
            earlier(&failed).and_then(|()| self.file_systems.iter().try_for_each(|file| file.sync_file_system()));
        outcome.map_err(|source| {
            failed.get_or_insert_with(|| source.to_string());
            let source = match self.forget_written() {
                Ok(()) => source,
                Err(kept) => io::Error::other(format!("{source}; the next start may trust the page cache: {kept}")),
            };
            self.error(&self.root, "synced", source)
        })
    }
}

fn earlier(failed: &Option<String>) -> io::Result<()> {
    failed.as_ref().map_or(Ok(()), |first| Err(io::Error::other(format!("an earlier sync failed: {first}"))))
}

/// The directories above one, and whether each must be synced for its name to be durable: those that get a name now.
fn above<'a>(fs: &dyn Fs, root: &'a Path) -> Vec<(&'a Path, bool)> {
    let mut must = true;
    let mut dirs = Vec::new();
    for dir in root.ancestors().skip(1) {
        // The first that is there gets a name as well.
        dirs.push((if dir.as_os_str().is_empty() { Path::new(".") } else { dir }, must));
        must &= !fs.exists(dir).unwrap_or(true);
    }
    dirs
}

fn parsed<T: FromStr>(values: &BTreeMap<&str, &str>, key: &str) -> Option<T> {
    values.get(key)?.parse().ok()
}

#[cfg(test)]
mod tests;
