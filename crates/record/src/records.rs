//! Walking the records of a batch. An uncompressed batch lends its own bytes; a compressed one is decompressed as a stream
//! into a buffer for one record, and a record too large for it is passed over without being held.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use chronik_model::{Offset, Timestamp};

use crate::compression::{CapExceeded, Decoder};
use crate::record::{self, Body, Field, Headers, Record};
use crate::varint::{self, Streamed};
use crate::{BatchHeader, Caps, Compression, HEADER_BYTES, HeaderError, TimestampType};

const STREAM_BUFFER_BYTES: usize = 8 * 1024;

/// The records of a batch cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The bytes do not begin with a batch header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The batch is cut.
    #[error("record batch of {size_bytes} bytes has only {available}")]
    Cut {
        /// What its header says.
        size_bytes: usize,
        /// Bytes there.
        available: usize,
    },
    /// A codec number no Kafka version defines.
    #[error("record batch has unknown codec {id}")]
    UnknownCodec {
        /// The number.
        id: u8,
    },
    /// The header counts a negative number of records.
    #[error("record batch counts {records_count} records")]
    Count {
        /// The field.
        records_count: i32,
    },
    /// A record does not parse, or lies outside the batch's offsets.
    #[error("record {index} of the batch is malformed")]
    Malformed {
        /// The record's place in the batch, counted from 0.
        index: i32,
    },
    /// Bytes follow the last record.
    #[error("bytes follow the last record of the batch")]
    Trailing,
    /// The compressed data is broken.
    #[error("records of the batch do not decompress: {0}")]
    Decompression(#[source] io::Error),
    /// The records decompress to more than the caps allow.
    #[error("records of the batch decompress to more than their cap")]
    CapExceeded,
}

impl From<io::Error> for RecordsError {
    fn from(error: io::Error) -> Self {
        if error.get_ref().is_some_and(|source| source.is::<CapExceeded>()) {
            Self::CapExceeded
        } else {
            Self::Decompression(error)
        }
    }
}

/// Starts walking the records of the batch at the head of `batch`. Costs no more than a buffer of a few KiB, whatever the
/// header counts.
pub fn records<'a>(batch: &'a [u8], caps: &Caps) -> Result<Records<'a>, RecordsError> {
    let header = BatchHeader::read(batch)?;
    let size_bytes = header.size_bytes();
    let payload =
        batch.get(HEADER_BYTES..size_bytes).ok_or(RecordsError::Cut { size_bytes, available: batch.len() })?;
    if header.records_count < 0 {
        return Err(RecordsError::Count { records_count: header.records_count });
    }
    let attributes = header.attributes;
    let codec =
        attributes.compression().ok_or_else(|| RecordsError::UnknownCodec { id: attributes.compression_id() })?;
    let input = match codec {
        Compression::None => Input::Borrowed(payload),
        codec => {
            let decoder = Decoder::new(codec, payload, caps)?;
            Input::Streamed(Box::new(BufReader::with_capacity(STREAM_BUFFER_BYTES, decoder)))
        }
    };
    Ok(Records { header, input, held: Vec::new(), held_max: caps.record_bytes_max, index: 0, ended: false })
}

/// A walk over the records of one batch; see [`records`].
pub struct Records<'a> {
    header: BatchHeader,
    input: Input<'a>,
    /// The record last read from a stream.
    held: Vec<u8>,
    held_max: usize,
    /// How many records have been given out.
    index: i32,
    /// The end was reached, by the last record or by an error.
    ended: bool,
}

enum Input<'a> {
    Borrowed(&'a [u8]),
    Streamed(Box<BufReader<Decoder<'a>>>),
}

impl Records<'_> {
    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The next record, or `None` after the last. After an error the walk is at its end.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, RecordsError> {
        if self.ended {
            return Ok(None);
        }
        // Unless a record comes and turns out well.
        self.ended = true;
        let index = self.index;
        if index == self.header.records_count {
            return if self.input.is_at_end()? { Ok(None) } else { Err(RecordsError::Trailing) };
        }
        let body = match &mut self.input {
            Input::Borrowed(rest) => take_borrowed(rest),
            Input::Streamed(stream) => take_streamed(stream, &mut self.held, self.held_max)?,
        };
        let record = body.and_then(|body| place(&self.header, body)).ok_or(RecordsError::Malformed { index })?;
        self.index = index.saturating_add(1);
        self.ended = false;
        Ok(Some(record))
    }
}

impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("header", &self.header).field("index", &self.index).finish_non_exhaustive()
    }
}

impl Input<'_> {
    fn is_at_end(&mut self) -> Result<bool, RecordsError> {
        Ok(match self {
            Self::Borrowed(rest) => rest.is_empty(),
            Self::Streamed(stream) => stream.fill_buf()?.is_empty(),
        })
    }
}

/// Gives the fields of a record the offset and timestamp they have in their batch.
fn place<'a>(header: &BatchHeader, body: Body<'a>) -> Option<Record<'a>> {
    if !(0..=header.last_offset_delta).contains(&body.offset_delta) {
        return None;
    }
    let offset = Offset::new(header.base_offset.get().checked_add(i64::from(body.offset_delta))?);
    let timestamp = match header.attributes.timestamp_type() {
        TimestampType::LogAppend => header.max_timestamp,
        TimestampType::Create => {
            Timestamp::from_millis(header.base_timestamp.millis().checked_add(body.timestamp_delta)?)
        }
    };
    Some(Record { offset, timestamp, key: body.key, value: body.value, headers: body.headers })
}

fn take_borrowed<'a>(rest: &mut &'a [u8]) -> Option<Body<'a>> {
    let length = usize::try_from(varint::take_i32(rest)?).ok()?;
    let (bytes, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    record::read_body(bytes)
}

fn take_streamed<'h>(
    stream: &mut BufReader<Decoder<'_>>,
    held: &'h mut Vec<u8>,
    held_max: usize,
) -> Result<Option<Body<'h>>, RecordsError> {
    let length = match varint::read_i32(stream) {
        Streamed::Value(length, _) => length,
        Streamed::Malformed => return Ok(None),
        Streamed::Failed(error) => return Err(error.into()),
    };
    let Ok(length) = usize::try_from(length) else {
        return Ok(None);
    };
    held.clear();
    if length > held_max {
        return LargeRecord { stream, left: length }.read(held, held_max);
    }
    // Grows with the bytes that come, not by the length they announce.
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    if stream.take(limit).read_to_end(held)? < length {
        return Ok(None);
    }
    Ok(record::read_body(held))
}

/// A record larger than what is held: fields are kept while they fit together, the others are passed over.
struct LargeRecord<'s, 'a> {
    stream: &'s mut BufReader<Decoder<'a>>,
    /// Bytes of the record not yet read.
    left: usize,
}

/// A field that has been read: null, a length that was passed over, or bytes at the end of the held ones.
enum LargeField {
    Null,
    Held(usize),
    Skipped(usize),
}

impl LargeRecord<'_, '_> {
    fn read<'h>(mut self, held: &'h mut Vec<u8>, held_max: usize) -> Result<Option<Body<'h>>, RecordsError> {
        // The attributes of a record are unused.
        if !self.skip(1)? {
            return Ok(None);
        }
        let timestamp_delta = varint::read_i64(self.stream);
        let Some(timestamp_delta) = self.integer(timestamp_delta)? else { return Ok(None) };
        let Some(offset_delta) = self.small_integer()? else { return Ok(None) };
        let Some(key) = self.field(held, held_max)? else { return Ok(None) };
        let Some(value) = self.field(held, held_max)? else { return Ok(None) };
        let Some(headers_count) = self.small_integer()? else { return Ok(None) };
        let Ok(headers_count) = usize::try_from(headers_count) else { return Ok(None) };
        // Each header has two lengths of at least a byte.
        let fits = if headers_count == 0 { self.left == 0 } else { headers_count <= self.left / 2 };
        if !fits || !self.skip(self.left)? {
            return Ok(None);
        }
        let key_end = if let LargeField::Held(bytes) = key { bytes } else { 0 };
        let (key_bytes, value_bytes) = held.split_at_checked(key_end).unwrap_or_default();
        let key = key.with(key_bytes);
        let value = value.with(value_bytes);
        Ok(Some(Body { timestamp_delta, offset_delta, key, value, headers: Headers::skipped(headers_count) }))
    }

    /// Counts the bytes of an integer that was read.
    fn integer(&mut self, read: Streamed) -> Result<Option<i64>, RecordsError> {
        match read {
            Streamed::Value(value, taken) => {
                let left = usize::try_from(taken).ok().and_then(|taken| self.left.checked_sub(taken));
                Ok(left.map(|left| {
                    self.left = left;
                    value
                }))
            }
            Streamed::Malformed => Ok(None),
            Streamed::Failed(error) => Err(error.into()),
        }
    }

    fn small_integer(&mut self) -> Result<Option<i32>, RecordsError> {
        let read = varint::read_i32(self.stream);
        Ok(self.integer(read)?.and_then(|value| i32::try_from(value).ok()))
    }

    fn field(&mut self, held: &mut Vec<u8>, held_max: usize) -> Result<Option<LargeField>, RecordsError> {
        let Some(length) = self.small_integer()? else { return Ok(None) };
        let Ok(length) = usize::try_from(length) else { return Ok(Some(LargeField::Null)) };
        if length > self.left {
            return Ok(None);
        }
        if length > held_max.saturating_sub(held.len()) {
            return Ok(self.skip(length)?.then_some(LargeField::Skipped(length)));
        }
        let limit = u64::try_from(length).unwrap_or(u64::MAX);
        let read = self.stream.by_ref().take(limit).read_to_end(held)?;
        self.left = self.left.saturating_sub(read);
        Ok((read == length).then_some(LargeField::Held(length)))
    }

    /// Passes over `bytes`; `false` where the record or the stream has fewer.
    fn skip(&mut self, bytes: usize) -> Result<bool, RecordsError> {
        let Some(left) = self.left.checked_sub(bytes) else { return Ok(false) };
        self.left = left;
        let mut to_skip = bytes;
        while to_skip > 0 {
            let ready = self.stream.fill_buf()?.len().min(to_skip);
            if ready == 0 {
                return Ok(false);
            }
            self.stream.consume(ready);
            to_skip = to_skip.saturating_sub(ready);
        }
        Ok(true)
    }
}

impl LargeField {
    fn with(self, bytes: &[u8]) -> Field<'_> {
        match self {
            Self::Null => Field::Null,
            Self::Held(_) => Field::Bytes(bytes),
            Self::Skipped(bytes) => Field::Skipped { bytes },
        }
    }
}

#[cfg(test)]
mod tests;
