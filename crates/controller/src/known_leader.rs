//! A note of who leads, beside the journal: a generation that a node was told of fences all earlier ones from then on,
//! also before a record of it came and after a crash.

use std::path::Path;

use chronik_log::fs::{Durability, Fs, read_small_file, replace_file};
use chronik_metadata::KnownLeader;
use chronik_model::Timestamp;
use chronik_record::{BatchBuilder, BatchHeader, Caps, Compression, TimestampType};

use crate::error::JournalError;

/// The note's file in the journal's directory: one record batch with one record.
const FILE: &str = "leader";

/// Whether a file of that name is the note.
pub(crate) fn is_note(name: &str) -> bool {
    name == FILE
}

/// Replaces the note. It is durable when this returns.
pub(crate) fn write(fs: &dyn Fs, dir: &Path, leader: &KnownLeader, now: Timestamp) -> Result<(), JournalError> {
    let file = dir.join(FILE);
    let mut batch = BatchBuilder::new(Compression::None, TimestampType::Create, now);
    batch.append(now, None, Some(&leader.to_json()?), &[]);
    let batch = batch.build()?;
    replace_file(fs, &file, batch.bytes(), Durability::Durable).map_err(|source| JournalError::Io { file, source })
}

/// Reads the note, where there is one.
pub(crate) fn read(fs: &dyn Fs, dir: &Path) -> Result<Option<KnownLeader>, JournalError> {
    let file = dir.join(FILE);
    let bytes = read_small_file(fs, &file).map_err(|source| JournalError::Io { file: file.clone(), source })?;
    let Some(bytes) = bytes else { return Ok(None) };
    match parse(&bytes) {
        Ok(leader) => Ok(Some(leader)),
        Err(reason) => Err(JournalError::KnownLeader { file, reason }),
    }
}

/// Of two leaders the later one; of one that is known twice, the note, which is renewed at every handshake.
pub(crate) fn later(recorded: Option<KnownLeader>, noted: Option<KnownLeader>) -> Option<KnownLeader> {
    match (recorded, noted) {
        (Some(recorded), Some(noted)) => Some(if noted.generation >= recorded.generation { noted } else { recorded }),
        (recorded, noted) => recorded.or(noted),
    }
}

fn parse(bytes: &[u8]) -> Result<KnownLeader, String> {
    let header = BatchHeader::read(bytes).map_err(|error| error.to_string())?;
    if header.size_bytes() != bytes.len() || !chronik_record::crc_is_valid(bytes) {
        return Err("a checksum is wrong".to_owned());
    }
    let mut records = chronik_record::records(bytes, &Caps::default()).map_err(|error| error.to_string())?;
    let record = records.next_record().map_err(|error| error.to_string())?.ok_or("it is empty")?;
    KnownLeader::from_json(record.value.bytes().unwrap_or_default()).map_err(|error| error.to_string())
}
