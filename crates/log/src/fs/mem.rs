//! A disk in memory that behaves as badly as POSIX allows: it loses or tears what was not synced, forgets names whose
//! directory was not synced, fails at a chosen call, and flips bits on request.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{DirEntry, File, Fs, OpenMode};

/// The unit that reaches the disk whole unless it is the torn one.
const SECTOR_BYTES: usize = 512;

/// What an injected failure does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full: a write leaves a prefix of its bytes behind.
    NoSpace,
    /// The disk fails: a write leaves a prefix behind; a sync drops what it should have written and the next sync
    /// "succeeds", as on Linux.
    Io,
    /// The machine stops: this call and every later one fail, until [`MemFs::crash`].
    PowerCut,
}

/// A file system in memory. Clones share the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemFs {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<FileState>,
    names: BTreeMap<PathBuf, Node>,
    names_durable: BTreeMap<PathBuf, Node>,
    pending: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    crashes: u64,
    mounts: Vec<PathBuf>,
    calls: u64,
    fault: Option<(u64, Fault)>,
    /// How many syncs of file contents succeed before one fails.
    syncs_left: Option<u64>,
    powered_off: bool,
    out_of_files: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Debug, Default)]
struct FileState {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Debug)]
struct MemFile {
    state: Arc<Mutex<State>>,
    number: usize,
    writable: bool,
    lock: Option<PathBuf>,
}

impl MemFs {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the `call`-th changing call from now fail, counted from 0: writes, cuts, syncs, creations, renames, removals.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        let mut state = self.state.lock();
        state.fault = Some((state.calls + call, fault));
    }

    /// Makes the `sync`-th sync of file contents from now fail, counted from 0. What it should have written is lost, also
    /// for a later one that succeeds.
    pub fn fail_sync_at(&self, sync: u64) {
        self.state.lock().syncs_left = Some(sync);
    }

    /// Makes a directory a file system of its own: a sync of the one does not reach the other.
    pub fn mount(&self, path: &Path) {
        self.state.lock().mounts.push(path.to_owned());
    }

    /// Lets every call fail that needs a descriptor, or no more. Open files go on working.
    pub fn set_out_of_files(&self, out_of_files: bool) {
        self.state.lock().out_of_files = out_of_files;
    }

    /// How many changing calls were made so far.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Removes a planned failure.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.fault = None;
        state.syncs_left = None;
        state.powered_off = false;
    }

    /// Stops the machine and starts it again: every unsynced sector is kept, lost or torn and every unsynced name kept or
    /// lost, as the seed decides. Handles from before must not be used again.
    pub fn crash(&self, seed: u64) {
        let mut random = Random(seed ^ 0x9e37_79b9_7f4a_7c15);
        let mut state = self.state.lock();
        state.fault = None;
        state.syncs_left = None;
        state.powered_off = false;
        state.locks.clear();
        state.crashes += 1;
        state.crash_names(&mut random);
        for file in &mut state.files {
            file.crash(&mut random);
        }
    }

    /// Inverts one bit of a file, on the disk and in memory, as a failing medium does.
    pub fn flip(&self, path: &Path, position: u64, bit: u8) {
        let mut state = self.state.lock();
        let Some(Node::File(number)) = state.names.get(path).copied() else { return };
        let Some(file) = state.files.get_mut(number) else { return };
        let mask = 1 << (bit % 8);
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        for bytes in [&mut file.bytes, &mut file.durable] {
            if let Some(byte) = bytes.get_mut(position) {
                *byte ^= mask;
            }
        }
    }

    /// Every file's path with its bytes, sorted by path.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let state = self.state.lock();
        let mut files = Vec::new();
        for (path, node) in &state.names {
            if let Node::File(number) = node
                && let Some(file) = state.files.get(*number)
            {
                files.push((path.clone(), file.bytes.clone()));
            }
        }
        files
    }

    /// A copy that shares nothing with this disk, with everything on it durable.
    pub fn duplicate(&self) -> Self {
        let copy = Self::new();
        let state = self.state.lock();
        {
            let mut target = copy.state.lock();
            target.names = state.names.clone();
            target.names_durable = state.names.clone();
            for file in &state.files {
                target.files.push(FileState {
                    bytes: file.bytes.clone(),
                    durable: file.bytes.clone(),
                    dirty: BTreeSet::new(),
                });
            }
        }
        copy
    }

    fn handle(&self, number: usize, writable: bool, lock: Option<PathBuf>) -> Arc<dyn File> {
        Arc::new(MemFile { state: Arc::clone(&self.state), number, writable, lock })
    }
}

impl State {
    /// Counts a changing call and returns the failure planned for it.
    fn fault(&mut self) -> Option<Fault> {
        let call = self.calls;
        self.calls += 1;
        if self.powered_off {
            return Some(Fault::PowerCut);
        }
        match self.fault {
            Some((at, fault)) if at == call => {
                self.powered_off = fault == Fault::PowerCut;
                Some(fault)
            }
            _ => None,
        }
    }

    /// As [`State::fault`], for a sync of file contents.
    fn sync_fault(&mut self) -> Option<Fault> {
        let left = self.syncs_left.take();
        self.syncs_left = left.and_then(|left| left.checked_sub(1));
        self.fault().or((left == Some(0)).then_some(Fault::Io))
    }

    fn descriptor(&self) -> io::Result<()> {
        if self.out_of_files { Err(io::Error::from_raw_os_error(24)) } else { Ok(()) }
    }

    fn change(&mut self) -> io::Result<()> {
        self.fault().map_or(Ok(()), |fault| Err(error_of(fault)))
    }

    fn sync_all(&mut self, device: u64) -> io::Result<()> {
        if let Some(fault) = self.sync_fault() {
            if fault == Fault::Io {
                self.files.iter_mut().for_each(|file| file.dirty.clear());
            }
            return Err(error_of(fault));
        }
        let elsewhere: BTreeSet<usize> = self
            .names
            .iter()
            .filter(|(path, _)| self.device(path) != device)
            .filter_map(|(_, node)| if let Node::File(number) = node { Some(*number) } else { None })
            .collect();
        let (synced, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|change| self.device(change.dir()) == device);
        self.pending = rest;
        for change in synced {
            apply(&mut self.names_durable, &change);
        }
        for (number, file) in self.files.iter_mut().enumerate() {
            if !elsewhere.contains(&number) {
                file.sync();
            }
        }
        Ok(())
    }

    /// The number of the mounted directory that holds a path; they are few, and none in another.
    fn device(&self, path: &Path) -> u64 {
        self.mounts.iter().position(|mount| path.starts_with(mount)).map_or(0, |number| number as u64 + 1)
    }

    fn device_of(&self, number: usize) -> u64 {
        let name = self.names.iter().find(|(_, node)| **node == Node::File(number));
        name.map_or(0, |(path, _)| self.device(path))
    }

    fn parent_must_exist(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            None => Ok(()),
            Some(parent) if parent.as_os_str().is_empty() || parent == Path::new("/") => Ok(()),
            Some(parent) if self.names.get(parent) == Some(&Node::Dir) => Ok(()),
            Some(_) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<usize> {
        self.parent_must_exist(path)?;
        self.change()?;
        let number = self.files.len();
        self.files.push(FileState::default());
        self.names.insert(path.to_owned(), Node::File(number));
        self.pending.push(NameChange::Set(path.to_owned(), Node::File(number)));
        Ok(number)
    }

    /// Applies a random number of each directory's pending changes, in their order.
    fn crash_names(&mut self, random: &mut Random) {
        let mut survive: BTreeMap<PathBuf, bool> = BTreeMap::new();
        for change in std::mem::take(&mut self.pending) {
            let open = survive.entry(change.dir().to_owned()).or_insert(true);
            *open = *open && random.below(4) != 0;
            if *open {
                apply(&mut self.names_durable, &change);
            }
        }
        let names = self.names_durable.clone();
        self.names = names.into_iter().filter(|(path, _)| self.reachable(path)).collect();
        self.names_durable = self.names.clone();
    }

    fn reachable(&self, path: &Path) -> bool {
        path.ancestors()
            .skip(1)
            .filter(|dir| !dir.as_os_str().is_empty() && *dir != Path::new("/"))
            .all(|dir| self.names_durable.get(dir) == Some(&Node::Dir))
    }
}

impl NameChange {
    fn dir(&self) -> &Path {
        let path = match self {
            Self::Set(path, _) | Self::Remove(path) | Self::Rename(path, _) => path,
        };
        path.parent().unwrap_or(Path::new(""))
    }
}

fn apply(names: &mut BTreeMap<PathBuf, Node>, change: &NameChange) {
    match change {
        NameChange::Set(path, node) => {
            names.insert(path.clone(), *node);
        }
        // Files have nothing below them, and are nearly all there is: no name but theirs is looked at.
        NameChange::Remove(path) if matches!(names.get(path), Some(Node::File(_))) => {
            names.remove(path);
        }
        NameChange::Remove(path) => names.retain(|name, _| !name.starts_with(path)),
        NameChange::Rename(from, to)
            if matches!(names.get(from), Some(Node::File(_))) && names.get(to) != Some(&Node::Dir) =>
        {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
        NameChange::Rename(from, to) => {
            let moved: Vec<_> =
                names.iter().filter(|(name, _)| name.starts_with(from)).map(|(n, v)| (n.clone(), *v)).collect();
            if moved.is_empty() {
                return;
            }
            names.retain(|name, _| !name.starts_with(from) && !name.starts_with(to));
            for (name, node) in moved {
                let rest = name.strip_prefix(from).unwrap_or(Path::new(""));
                let target = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                names.insert(target, node);
            }
        }
    }
}

fn error_of(fault: Fault) -> io::Error {
    match fault {
        Fault::NoSpace => io::Error::from_raw_os_error(28),
        Fault::Io | Fault::PowerCut => io::Error::from_raw_os_error(5),
    }
}

impl FileState {
    fn write(&mut self, bytes: &[u8], position: usize) {
        let end = position + bytes.len();
        let len_before = self.bytes.len();
        if end > len_before {
            self.bytes.resize(end, 0);
        }
        if let Some(target) = self.bytes.get_mut(position..end) {
            target.copy_from_slice(bytes);
        }
        let first = position.min(len_before) / SECTOR_BYTES;
        self.dirty.extend(first..end.div_ceil(SECTOR_BYTES));
    }

    /// Makes the dirty sectors durable, and only them: what a failed sync dropped stays lost.
    fn sync(&mut self) {
        self.durable.resize(self.bytes.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let start = sector * SECTOR_BYTES;
            let end = (start + SECTOR_BYTES).min(self.bytes.len());
            if let (Some(target), Some(source)) = (self.durable.get_mut(start..end), self.bytes.get(start..end)) {
                target.copy_from_slice(source);
            }
        }
    }

    /// A third of the files keep all, a third lose all, the rest keep, lose or tear each sector by itself.
    fn crash(&mut self, random: &mut Random) {
        match random.below(3) {
            0 => self.sync(),
            1 => self.dirty.clear(),
            _ => self.tear(random),
        }
        self.bytes = self.durable.clone();
        self.dirty.clear();
    }

    fn tear(&mut self, random: &mut Random) {
        let (shortest, longest) = (self.durable.len().min(self.bytes.len()), self.durable.len().max(self.bytes.len()));
        let len = match random.below(3) {
            0 => self.durable.len(),
            1 => self.bytes.len(),
            _ => shortest + random.below(longest - shortest + 1),
        };
        self.durable.resize(longest, 0);
        for sector in &self.dirty {
            let start = sector * SECTOR_BYTES;
            let whole = (start + SECTOR_BYTES).min(self.bytes.len());
            let end = match random.below(4) {
                0 => start,
                1 => start + random.below(SECTOR_BYTES),
                _ => whole,
            }
            .min(whole);
            if let (Some(target), Some(source)) = (self.durable.get_mut(start..end), self.bytes.get(start..end)) {
                target.copy_from_slice(source);
            }
        }
        self.durable.truncate(len);
    }
}

impl Fs for MemFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut state = self.state.lock();
        state.descriptor()?;
        if state.powered_off {
            return Err(error_of(Fault::PowerCut));
        }
        let writable = mode != OpenMode::Read;
        let number = match (state.names.get(path).copied(), mode) {
            (Some(Node::Dir), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(number)), OpenMode::Truncate) => {
                state.change()?;
                if let Some(file) = state.files.get_mut(number) {
                    file.bytes.clear();
                    file.dirty.clear();
                }
                number
            }
            (Some(Node::File(number)), _) => number,
            (None, OpenMode::Read | OpenMode::Write) => return Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::Create | OpenMode::Truncate) => state.create(path)?,
        };
        Ok(self.handle(number, writable, None))
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state.lock();
        let number = match state.names.get(path).copied() {
            Some(Node::File(number)) => number,
            Some(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            None => state.create(path)?,
        };
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(self.handle(number, true, Some(path.to_owned())))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut missing: Vec<_> =
            path.ancestors().filter(|dir| !dir.as_os_str().is_empty() && *dir != Path::new("/")).collect();
        missing.reverse();
        for dir in missing {
            match state.names.get(dir) {
                Some(Node::Dir) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    state.change()?;
                    state.names.insert(dir.to_owned(), Node::Dir);
                    state.pending.push(NameChange::Set(dir.to_owned(), Node::Dir));
                }
            }
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        match state.names.get(path) {
            Some(Node::File(_)) => {}
            Some(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        state.change()?;
        state.names.remove(path);
        state.pending.push(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.names.get(path) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change()?;
        let change = NameChange::Remove(path.to_owned());
        apply(&mut state.names, &change);
        state.pending.push(change);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.parent_must_exist(to)?;
        state.change()?;
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        apply(&mut state.names, &change);
        state.pending.push(change);
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.state.lock();
        state.descriptor()?;
        if state.names.get(path) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut entries = Vec::new();
        for (name, node) in &state.names {
            if name.parent() == Some(path)
                && let Some(name) = name.file_name().and_then(|name| name.to_str())
            {
                entries.push(DirEntry { name: name.to_owned(), is_dir: *node == Node::Dir });
            }
        }
        Ok(entries)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.descriptor()?;
        state.change()?;
        let (synced, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.pending).into_iter().partition(|change| change.dir() == path);
        state.pending = rest;
        for change in synced {
            apply(&mut state.names_durable, &change);
        }
        Ok(())
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let device = state.device(path);
        state.sync_all(device)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.state.lock().names.contains_key(path))
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        let state = self.state.lock();
        match state.names.get(path) {
            Some(Node::File(number)) => Ok(state.files.get(*number).map_or(0, |file| file.bytes.len() as u64)),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        Ok(self.state.lock().device(path))
    }

    fn page_cache(&self, _path: &Path) -> io::Result<Option<String>> {
        Ok(Some(format!("memory-{}", self.state.lock().crashes)))
    }
}

impl MemFile {
    fn with<T>(&self, work: impl FnOnce(&mut FileState) -> T) -> io::Result<T> {
        let mut state = self.state.lock();
        state.files.get_mut(self.number).map(work).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn fault(&self) -> Option<Fault> {
        self.state.lock().fault()
    }
}

impl File for MemFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        if self.state.lock().powered_off {
            return Err(error_of(Fault::PowerCut));
        }
        self.with(|file| {
            let start = usize::try_from(position).unwrap_or(usize::MAX).min(file.bytes.len());
            let rest = file.bytes.get(start..).unwrap_or_default();
            let count = rest.len().min(buf.len());
            if let (Some(target), Some(source)) = (buf.get_mut(..count), rest.get(..count)) {
                target.copy_from_slice(source);
            }
            count
        })
    }

    fn write_at_vectored(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if self.state.lock().powered_off {
            return Err(error_of(Fault::PowerCut));
        }
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let fault = self.fault();
        if fault.is_some() {
            bytes.truncate(bytes.len() * 2 / 3);
        }
        let position = usize::try_from(position).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.with(|file| file.write(&bytes, position))?;
        fault.map_or(Ok(()), |fault| Err(error_of(fault)))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if let Some(fault) = self.fault() {
            return Err(error_of(fault));
        }
        let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.with(|file| {
            if len > file.bytes.len() {
                file.write(&vec![0; len - file.bytes.len()], file.bytes.len());
            } else {
                file.bytes.truncate(len);
                file.dirty.retain(|sector| sector * SECTOR_BYTES < len);
            }
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|file| file.bytes.len() as u64)
    }

    fn sync_file_system(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let device = state.device_of(self.number);
        state.sync_all(device)
    }

    fn sync_data(&self) -> io::Result<()> {
        let fault = self.state.lock().sync_fault();
        match fault {
            None => self.with(FileState::sync),
            Some(fault) => {
                if fault == Fault::Io {
                    self.with(|file| file.dirty.clear())?;
                }
                Err(error_of(fault))
            }
        }
    }

    fn drop_cached(&self, _from: u64) -> io::Result<()> {
        self.sync_data()?;
        self.with(|file| file.bytes = file.durable.clone())
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        if let Some(path) = &self.lock {
            self.state.lock().locks.remove(path);
        }
    }
}

/// A small generator of its own (splitmix64), so that a seed means the same crash everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        if bound == 0 { 0 } else { usize::try_from(mixed % bound as u64).unwrap_or(0) }
    }
}
