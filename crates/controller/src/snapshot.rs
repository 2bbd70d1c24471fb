//! An image in a file, so that the journal before it need not be replayed.
//!
//! The file is record batches: first a record that names the journal offset the image stands for and, where there are
//! any, one with the generations that wrote the journal up to there; then the image's records; last a record that has how
//! many these are. It is replaced in one step, so it is whole or damaged, never half. A leader sends the same bytes; on a
//! follower they lie in a file of their own until the log has been begun anew behind them.

use std::path::{Path, PathBuf};

use chronik_log::fs::{Durability, Fs, read_small_file, replace_file};
use chronik_metadata::{Builder, Image, Record};
use chronik_model::{Generation, LeaderEpoch, Offset, Timestamp};
use chronik_record::{BatchBuilder, BatchHeader, Caps, Compression, TimestampType};

use crate::error::JournalError;

/// The snapshot's file in the journal's directory.
const SNAPSHOT_FILE: &str = "image";
/// A leader's snapshot that takes the place of everything.
const INCOMING_FILE: &str = "image.incoming";
/// The key of the record whose value is the journal offset that the image stands for, exclusive end.
const OFFSET_KEY: &[u8] = b"offset";
/// The key of the record whose value is the generations, as `generation:first offset` with commas between.
const GENERATIONS_KEY: &[u8] = b"generations";
/// The key of the last record, whose value is the number of the image's records.
const END_KEY: &[u8] = b"end";
/// A batch is closed when it has so many bytes.
const BATCH_BYTES: usize = 1024 * 1024;
/// More than this cannot be read back.
pub(crate) const SNAPSHOT_BYTES_MAX: usize = 192 * 1024 * 1024;

/// What a snapshot stands for.
#[derive(Debug)]
pub(crate) struct Stands {
    /// The journal's offset, exclusive end.
    pub(crate) offset: Offset,
    /// The generations that wrote the journal up to there.
    pub(crate) generations: Vec<(LeaderEpoch, Offset)>,
}

/// Whether a file of that name is one of those written here.
pub(crate) fn is_snapshot(name: &str) -> bool {
    name == SNAPSHOT_FILE || name == INCOMING_FILE
}

/// Those generations that wrote what is in the image; none where no node ever led others.
pub(crate) fn generations_of(image: &Image, generations: &[(LeaderEpoch, Offset)]) -> Vec<(LeaderEpoch, Offset)> {
    if image.generation() == Generation::ZERO {
        return Vec::new();
    }
    generations.iter().filter(|(_, start)| *start < image.offset()).copied().collect()
}

/// The image as bytes.
pub(crate) fn encode(
    image: &Image,
    generations: &[(LeaderEpoch, Offset)],
    now: Timestamp,
) -> Result<Vec<u8>, JournalError> {
    // Without compression: no cap on the way back can hit what was allowed on the way in.
    let begin = || BatchBuilder::new(Compression::None, TimestampType::Create, now);
    let mut bytes = Vec::new();
    let mut batch = begin();
    batch.append(now, Some(OFFSET_KEY), Some(image.offset().get().to_string().as_bytes()), &[]);
    let generations = generations_of(image, generations);
    if !generations.is_empty() {
        let entries: Vec<String> = generations.iter().map(|(epoch, start)| format!("{epoch}:{start}")).collect();
        batch.append(now, Some(GENERATIONS_KEY), Some(entries.join(",").as_bytes()), &[]);
    }
    let mut count = 0_u64;
    for record in image.to_records() {
        if batch.size_bytes() >= BATCH_BYTES {
            bytes.extend_from_slice(std::mem::replace(&mut batch, begin()).build()?.bytes());
        }
        batch.append(now, None, Some(&record.to_json()?), &[]);
        count += 1;
    }
    batch.append(now, Some(END_KEY), Some(count.to_string().as_bytes()), &[]);
    bytes.extend_from_slice(batch.build()?.bytes());
    if bytes.len() > SNAPSHOT_BYTES_MAX {
        return Err(JournalError::SnapshotTooLarge { size_bytes: bytes.len(), limit_bytes: SNAPSHOT_BYTES_MAX });
    }
    Ok(bytes)
}

/// Applies the image in the bytes. `file` is where errors say that it lies.
pub(crate) fn decode(bytes: &[u8], file: &Path, builder: &mut Builder) -> Result<Stands, JournalError> {
    let mut reading = Reading {
        file: file.to_owned(),
        position: 0,
        offset: None,
        generations: Vec::new(),
        records: 0,
        expected: None,
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        rest = reading.batch(rest, builder)?;
    }
    reading.finish()
}

/// Replaces the snapshot. It is durable when this returns.
pub(crate) fn write(
    fs: &dyn Fs,
    dir: &Path,
    image: &Image,
    generations: &[(LeaderEpoch, Offset)],
    now: Timestamp,
) -> Result<(), JournalError> {
    let file = dir.join(SNAPSHOT_FILE);
    let bytes = encode(image, generations, now)?;
    replace_file(fs, &file, &bytes, Durability::Durable).map_err(|source| JournalError::Io { file, source })
}

/// Applies the snapshot, where there is one, and tells what it stands for.
pub(crate) fn read(fs: &dyn Fs, dir: &Path, builder: &mut Builder) -> Result<Stands, JournalError> {
    read_file(fs, dir.join(SNAPSHOT_FILE), builder)
        .map(|found| found.unwrap_or(Stands { offset: Offset::ZERO, generations: Vec::new() }))
}

/// What a leader's snapshot stands for that has not taken the place of everything yet.
pub(crate) fn read_incoming(fs: &dyn Fs, dir: &Path) -> Result<Option<Stands>, JournalError> {
    read_file(fs, dir.join(INCOMING_FILE), &mut Builder::new(&Image::default()))
}

/// Keeps a leader's snapshot. It is durable when this returns, and the next start puts it in place of everything.
pub(crate) fn write_incoming(fs: &dyn Fs, dir: &Path, bytes: &[u8]) -> Result<(), JournalError> {
    let file = dir.join(INCOMING_FILE);
    replace_file(fs, &file, bytes, Durability::Durable).map_err(|source| JournalError::Io { file, source })
}

/// Makes the leader's snapshot the one that counts. It is durable when this returns.
pub(crate) fn accept_incoming(fs: &dyn Fs, dir: &Path) -> Result<(), JournalError> {
    let file = dir.join(INCOMING_FILE);
    fs.rename(&file, &dir.join(SNAPSHOT_FILE))
        .and_then(|()| fs.sync_dir(dir))
        .map_err(|source| JournalError::Io { file, source })
}

fn read_file(fs: &dyn Fs, file: PathBuf, builder: &mut Builder) -> Result<Option<Stands>, JournalError> {
    let bytes = read_small_file(fs, &file).map_err(|source| JournalError::Io { file: file.clone(), source })?;
    bytes.map(|bytes: Vec<u8>| decode(&bytes, &file, builder)).transpose()
}

struct Reading {
    file: PathBuf,
    position: usize,
    offset: Option<Offset>,
    generations: Vec<(LeaderEpoch, Offset)>,
    records: u64,
    expected: Option<u64>,
}

impl Reading {
    fn damaged(&self, reason: impl ToString) -> JournalError {
        JournalError::Snapshot { file: self.file.clone(), position: self.position, reason: reason.to_string() }
    }

    /// Applies the first batch of `bytes` and gives what is behind it.
    fn batch<'a>(&mut self, bytes: &'a [u8], builder: &mut Builder) -> Result<&'a [u8], JournalError> {
        let header = BatchHeader::read(bytes).map_err(|error| self.damaged(error))?;
        let (batch, rest) =
            bytes.split_at_checked(header.size_bytes()).ok_or_else(|| self.damaged("the file is cut"))?;
        if !chronik_record::crc_is_valid(batch) {
            return Err(self.damaged("a checksum is wrong"));
        }
        let mut records = chronik_record::records(batch, &Caps::default()).map_err(|error| self.damaged(error))?;
        while let Some(record) = records.next_record().map_err(|error| self.damaged(error))? {
            let value = record.value.bytes().unwrap_or_default();
            match record.key.bytes() {
                Some(OFFSET_KEY) => self.offset = number(value).map(Offset::new),
                Some(GENERATIONS_KEY) => {
                    self.generations = generations(value).ok_or_else(|| self.damaged("its generations"))?;
                }
                Some(END_KEY) => self.expected = number(value).and_then(|count| u64::try_from(count).ok()),
                _ => {
                    let record = Record::from_json(value).map_err(|error| self.damaged(error))?;
                    builder.apply(&record).map_err(|error| self.damaged(error))?;
                    self.records += 1;
                }
            }
        }
        self.position += header.size_bytes();
        Ok(rest)
    }

    fn finish(self) -> Result<Stands, JournalError> {
        if self.expected != Some(self.records) {
            return Err(self.damaged("records are missing"));
        }
        let offset = self.offset.filter(|offset| *offset >= Offset::ZERO);
        let offset = offset.ok_or_else(|| self.damaged("it does not say which offset it stands for"))?;
        Ok(Stands { offset, generations: self.generations })
    }
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Generations with their first offsets, rising in both.
fn generations(text: &[u8]) -> Option<Vec<(LeaderEpoch, Offset)>> {
    let mut generations: Vec<(LeaderEpoch, Offset)> = Vec::new();
    for entry in std::str::from_utf8(text).ok()?.split(',') {
        let (generation, start) = entry.split_once(':')?;
        let entry = (LeaderEpoch::new(generation.parse().ok()?), Offset::new(start.parse().ok()?));
        if generations.last().is_some_and(|last| last.0 >= entry.0 || last.1 >= entry.1) {
            return None;
        }
        generations.push(entry);
    }
    Some(generations)
}
