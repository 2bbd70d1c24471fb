//! Puts what a journal has where it belongs, before any log is opened.
//!
//! A record holds bytes that their segment had as well, so whatever is written here was there before, unless the power went.
//! It can be done again: a crash in the middle changes nothing. Segments that are gone were deleted, and stay so.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_model::{Offset, TopicId};

use super::fillings::{self, slot_path};
use super::record::{ALIGNMENT, Entry, HEAD_BYTES, claimed_len, parse};
use crate::fs::{File, Fs, OpenMode, read_full_at};
use crate::segment::{LOG_SUFFIX, Place};
use crate::topic_id;

/// Segments held open at once.
const OPEN_MAX: usize = 256;
/// Bytes looked through at once for records behind one that is not whole.
const SEARCH_BYTES: usize = 1 << 20;

/// What a journal had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Group commits.
    pub records: u64,
    /// Bytes written to segments.
    pub bytes: u64,
    /// The segments they were written to.
    pub segments: BTreeSet<PathBuf>,
    /// Where a record that was synced cannot be read, or names a place that cannot be meant: file and position. What it had
    /// may be in its segments all the same; recovery finds out.
    pub damage: Vec<(PathBuf, u64)>,
    /// Whether the fillings have to be told not to count any more.
    pub(crate) counted: bool,
}

/// Writes every record of the fillings that count to its segments, in the order in which they were made. Nothing is synced.
///
/// # Errors
/// The disk failed, or what says which fillings count is damaged (`InvalidData`): the path says where.
pub(crate) fn replay(fs: &Arc<dyn Fs>, wal: &Path) -> Result<Replayed, (PathBuf, io::Error)> {
    let fillings = fillings::read(&**fs, wal).map_err(|error| (wal.join(fillings::FILE), error))?;
    let mut found = Replayed { counted: !fillings.counting.is_empty(), ..Replayed::default() };
    let (mut files, mut journal_bytes) = (Vec::new(), 0);
    for (number, slot) in fillings.counting {
        let path = slot_path(wal, slot);
        match fs.open(&path, OpenMode::Read).and_then(|file| Ok((file.len()?, file))) {
            Ok((len, file)) => {
                journal_bytes += len;
                files.push((number, path, file));
            }
            // It was durable before its filling counted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => found.damage.push((path, 0)),
            Err(error) => return Err((path, error)),
        }
    }
    let mut replay = Replay { fs, wal, journal_bytes, topics: HashMap::new(), open: HashMap::new(), found };
    for (number, path, file) in files {
        replay.filling(&path, &*file, number)?;
    }
    Ok(replay.found)
}

/// Says that nothing counts any more, once what was replayed is synced.
pub(crate) fn forget(fs: &dyn Fs, wal: &Path) -> Result<(), (PathBuf, io::Error)> {
    let failed = |error| (wal.join(fillings::FILE), error);
    let known = fillings::read(fs, wal).map_err(failed)?;
    fillings::write(fs, wal, &fillings::Fillings { counting: Vec::new(), ..known }).map_err(failed)
}

struct Replay<'a> {
    fs: &'a Arc<dyn Fs>,
    wal: &'a Path,
    /// Of all files. What lies between the end of a segment's file and the bytes of an entry was in the journal as well, so
    /// it is never more.
    journal_bytes: u64,
    /// Whose the directory of a topic's name is.
    topics: HashMap<String, Option<TopicId>>,
    /// Segments with the lengths of their files.
    open: HashMap<PathBuf, (Arc<dyn File>, u64)>,
    found: Replayed,
}

impl Replay<'_> {
    fn filling(&mut self, path: &Path, file: &dyn File, number: u64) -> Result<(), (PathBuf, io::Error)> {
        let failed = |error| (path.to_owned(), error);
        let len = file.len().map_err(failed)?;
        let mut position = 0;
        while position < len {
            let record = read_record(file, number, position, len).map_err(failed)?;
            if let Some(entries) = record.as_deref().and_then(parse) {
                self.found.records += 1;
                let mut fits = true;
                for entry in entries {
                    fits &= self.write(&entry)?;
                }
                if !fits {
                    self.found.damage.push((path.to_owned(), position));
                }
                let taken = record.as_ref().map_or(0, Vec::len);
                position += taken.next_multiple_of(ALIGNMENT) as u64;
                continue;
            }
            // What was being written when the power went, unless there is a later one.
            match later_record(file, number, position, len).map_err(failed)? {
                Some(later) => {
                    self.found.damage.push((path.to_owned(), position));
                    position = later;
                }
                None => break,
            }
        }
        Ok(())
    }

    /// Puts an entry where it belongs; `false` where that cannot be its place.
    fn write(&mut self, entry: &Entry<'_>) -> Result<bool, (PathBuf, io::Error)> {
        let is_name = !["", ".", ".."].contains(&entry.topic) && !entry.topic.contains(['/', '~', '\0']);
        if !is_name || entry.partition.get() < 0 || entry.segment < Offset::ZERO {
            return Ok(false);
        }
        let topic_dir = self.wal.join(entry.topic);
        let owner = match self.topics.get(entry.topic) {
            Some(owner) => *owner,
            None => {
                let owner = topic_id::read(&**self.fs, &topic_dir).map_err(|error| (topic_dir.clone(), error))?;
                self.topics.insert(entry.topic.to_owned(), owner);
                owner
            }
        };
        // A directory that does not say whose it is is taken as the topic's, as everywhere.
        if owner.is_some_and(|owner| owner != entry.topic_id) {
            return Ok(true);
        }
        let dir = topic_dir.join(entry.partition.to_string());
        let path = Place::new(Arc::clone(self.fs), dir, entry.partition.get()).path(entry.segment, LOG_SUFFIX);
        let failed = |error| (path.clone(), error);
        let (file, len) = match self.open.get(&path) {
            Some((file, len)) => (Arc::clone(file), *len),
            None => match self.fs.open(&path, OpenMode::Write).and_then(|file| Ok((file.len()?, file))) {
                Ok((len, file)) => (file, len),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                Err(error) => return Err(failed(error)),
            },
        };
        if entry.position.saturating_sub(len) > self.journal_bytes {
            return Ok(false);
        }
        file.write_all_at(entry.bytes, entry.position).map_err(failed)?;
        if self.open.len() >= OPEN_MAX {
            self.open.clear();
        }
        let bytes = entry.bytes.len() as u64;
        self.open.insert(path.clone(), (file, len.max(entry.position + bytes)));
        self.found.bytes += bytes;
        self.found.segments.insert(path);
        Ok(true)
    }
}

/// What a record's head says is the record; `None` where there is no such head, or the file ends before.
fn read_record(file: &dyn File, number: u64, position: u64, len: u64) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; HEAD_BYTES];
    if read_full_at(file, &mut head, position)? < HEAD_BYTES {
        return Ok(None);
    }
    let Some(claimed) = claimed_len(&head, number, position).filter(|claimed| *claimed as u64 <= len - position) else {
        return Ok(None);
    };
    let mut record = vec![0; claimed];
    let read = read_full_at(file, &mut record, position)?;
    Ok((read == claimed).then_some(record))
}

/// Where behind `position` the next whole record of the filling begins.
fn later_record(file: &dyn File, number: u64, position: u64, len: u64) -> io::Result<Option<u64>> {
    let mut chunk = vec![0; SEARCH_BYTES];
    let mut from = position + ALIGNMENT as u64;
    while from < len {
        let read = read_full_at(file, &mut chunk, from)?;
        for (at, block) in (from..).step_by(ALIGNMENT).zip(chunk.get(..read).unwrap_or_default().chunks(ALIGNMENT)) {
            let head = block.first_chunk::<HEAD_BYTES>();
            if head.is_some_and(|head| claimed_len(head, number, at).is_some())
                && read_record(file, number, at, len)?.is_some_and(|record| parse(&record).is_some())
            {
                return Ok(Some(at));
            }
        }
        if read < SEARCH_BYTES {
            break;
        }
        from += read as u64;
    }
    Ok(None)
}
