//! Finding records of a batch by time, for ListOffsets.

use chronik_model::{Offset, Timestamp};

use crate::{BatchHeader, Caps, RecordsError, TimestampType, records};

/// Where a record stands and when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPosition {
    /// The record's offset.
    pub offset: Offset,
    /// The record's timestamp.
    pub timestamp: Timestamp,
}

/// The first record at `from` or behind it (inclusive) whose timestamp is `timestamp` or later. Looks inside the records
/// only where the header leaves the answer open.
pub fn first_at_or_after(
    batch: &[u8],
    timestamp: Timestamp,
    from: Offset,
    caps: &Caps,
) -> Result<Option<RecordPosition>, RecordsError> {
    let header = BatchHeader::read(batch)?;
    if header.max_timestamp < timestamp || header.last_offset() < from {
        return Ok(None);
    }
    let mut records = records(batch, caps)?;
    while let Some(record) = records.next_record()? {
        if record.timestamp >= timestamp && record.offset >= from {
            return Ok(Some(RecordPosition { offset: record.offset, timestamp: record.timestamp }));
        }
    }
    Ok(None)
}

/// The first of the batch's records with its largest timestamp; `None` where the batch has no records.
pub fn max_timestamp(batch: &[u8], caps: &Caps) -> Result<Option<RecordPosition>, RecordsError> {
    let header = BatchHeader::read(batch)?;
    let mut largest: Option<RecordPosition> = None;
    let mut records = records(batch, caps)?;
    while let Some(record) = records.next_record()? {
        if largest.is_none_or(|largest| record.timestamp > largest.timestamp) {
            largest = Some(RecordPosition { offset: record.offset, timestamp: record.timestamp });
        }
        // Nothing later can be larger; with log append time this is the first record.
        if record.timestamp == header.max_timestamp || header.attributes.timestamp_type() == TimestampType::LogAppend {
            break;
        }
    }
    Ok(largest)
}
