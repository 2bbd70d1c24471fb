//! An image in a file, so that the journal before it need not be replayed.
//!
//! The file is record batches: first one whose only record names the journal offset the image stands for, then the
//! image's records, last one whose only record has how many these are. It is replaced in one step, so it is whole or
//! damaged, never half.

use std::path::{Path, PathBuf};

use chronik_log::fs::{Durability, Fs, read_small_file, replace_file};
use chronik_metadata::{Builder, Image, Record};
use chronik_model::{Offset, Timestamp};
use chronik_record::{BatchBuilder, BatchHeader, Caps, Compression, TimestampType};

use crate::journal::JournalError;

/// The snapshot's file in the journal's directory.
pub(crate) const SNAPSHOT_FILE: &str = "image";
/// The key of the record whose value is the journal offset that the image stands for, exclusive end.
const OFFSET_KEY: &[u8] = b"offset";
/// The key of the last record, whose value is the number of the image's records.
const END_KEY: &[u8] = b"end";
/// A batch is closed when it has so many bytes.
const BATCH_BYTES: usize = 1024 * 1024;
/// More than this cannot be read back.
const SNAPSHOT_BYTES_MAX: usize = 192 * 1024 * 1024;

/// Replaces the snapshot. It is durable when this returns.
pub(crate) fn write(fs: &dyn Fs, dir: &Path, image: &Image, now: Timestamp) -> Result<(), JournalError> {
    let file = dir.join(SNAPSHOT_FILE);
    // Without compression: no cap on the way back can hit what was allowed on the way in.
    let begin = || BatchBuilder::new(Compression::None, TimestampType::Create, now);
    let mut bytes = Vec::new();
    let mut batch = begin();
    batch.append(now, Some(OFFSET_KEY), Some(image.offset().get().to_string().as_bytes()), &[]);
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
    replace_file(fs, &file, &bytes, Durability::Durable).map_err(|source| JournalError::Io { file, source })
}

/// Applies the snapshot, where there is one, and gives the journal offset to go on from.
pub(crate) fn read(fs: &dyn Fs, dir: &Path, builder: &mut Builder) -> Result<Offset, JournalError> {
    let file = dir.join(SNAPSHOT_FILE);
    let bytes = read_small_file(fs, &file).map_err(|source| JournalError::Io { file: file.clone(), source })?;
    let Some(bytes) = bytes else { return Ok(Offset::ZERO) };
    let mut reading = Reading { file, position: 0, offset: None, records: 0, expected: None };
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        rest = reading.batch(rest, builder)?;
    }
    reading.finish()
}

struct Reading {
    file: PathBuf,
    position: usize,
    offset: Option<Offset>,
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

    fn finish(self) -> Result<Offset, JournalError> {
        if self.expected != Some(self.records) {
            return Err(self.damaged("records are missing"));
        }
        self.offset.ok_or_else(|| self.damaged("it does not say which offset it stands for"))
    }
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
