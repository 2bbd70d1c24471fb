//! One record, borrowed from the batch or from the iterator's buffer.

use chronik_model::{Offset, Timestamp};

use crate::varint;

/// A key or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Field<'a> {
    /// There is none; as a value on a compacted topic, a tombstone.
    #[default]
    Null,
    /// The bytes.
    Bytes(&'a [u8]),
    /// The record is larger than [`Caps::record_bytes_max`](crate::Caps::record_bytes_max), and this field was passed
    /// over.
    Skipped {
        /// The field's length.
        bytes: usize,
    },
}

impl<'a> Field<'a> {
    /// The bytes; `None` for null as well as for a field that was passed over.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Null | Self::Skipped { .. } => None,
        }
    }

    /// Whether the record has no such field.
    pub fn is_null(self) -> bool {
        self == Self::Null
    }

    /// The field's length, 0 for null.
    pub fn len(self) -> usize {
        match self {
            Self::Null => 0,
            Self::Bytes(bytes) => bytes.len(),
            Self::Skipped { bytes } => bytes,
        }
    }

    /// Whether the field is null or has no bytes.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// A record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The record's place in its partition.
    pub offset: Offset,
    /// The record's time; the batch's max timestamp for log append time.
    pub timestamp: Timestamp,
    /// The key.
    pub key: Field<'a>,
    /// The value.
    pub value: Field<'a>,
    /// The headers, in the producer's order.
    pub headers: Headers<'a>,
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key; clients send UTF-8, nothing checks it.
    pub key: &'a [u8],
    /// The value.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, checked when the record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    count: usize,
    skipped: bool,
}

impl<'a> Headers<'a> {
    pub(crate) fn skipped(count: usize) -> Self {
        Self { bytes: &[], count, skipped: count > 0 }
    }

    /// How many headers the record has, also where they were passed over.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the record has no headers.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether the record is too large to be held and its headers were passed over; iteration is then empty.
    pub fn is_skipped(&self) -> bool {
        self.skipped
    }

    /// The headers in order.
    pub fn iter(&self) -> HeadersIter<'a> {
        HeadersIter { bytes: self.bytes }
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = Header<'a>;
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &Headers<'a> {
    type Item = Header<'a>;
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterates over the headers of a record.
#[derive(Clone, Debug)]
pub struct HeadersIter<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        take_header(&mut self.bytes)
    }
}

/// A record's fields before the batch gives them their meaning.
pub(crate) struct Body<'a> {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Field<'a>,
    pub(crate) value: Field<'a>,
    pub(crate) headers: Headers<'a>,
}

/// Reads the bytes of one record, without its length, to the last one; `None` where they are malformed.
#[inline]
pub(crate) fn read_body(mut bytes: &[u8]) -> Option<Body<'_>> {
    // The attributes of a record are unused.
    bytes = bytes.get(1..)?;
    let timestamp_delta = varint::take_i64(&mut bytes)?;
    let offset_delta = varint::take_i32(&mut bytes)?;
    let key = take_nullable(&mut bytes)?.map_or(Field::Null, Field::Bytes);
    let value = take_nullable(&mut bytes)?.map_or(Field::Null, Field::Bytes);
    let count = usize::try_from(varint::take_i32(&mut bytes)?).ok()?;
    let headers = Headers { bytes, count, skipped: false };
    for _ in 0..count {
        take_header(&mut bytes)?;
    }
    bytes.is_empty().then_some(Body { timestamp_delta, offset_delta, key, value, headers })
}

fn take_header<'a>(bytes: &mut &'a [u8]) -> Option<Header<'a>> {
    let key = take_nullable(bytes)??;
    let value = take_nullable(bytes)?;
    Some(Header { key, value })
}

/// Bytes behind their length; any negative length means null, as in Kafka.
#[inline]
fn take_nullable<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let Ok(length) = usize::try_from(varint::take_i32(bytes)?) else {
        return Some(None);
    };
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(Some(taken))
}

/// Appends a record with its length.
pub(crate) fn put(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(&str, Option<&[u8]>)],
) -> Option<()> {
    let count = i32::try_from(headers.len()).ok()?;
    let mut size = 1usize;
    size = size.checked_add(varint::len(timestamp_delta))?.checked_add(varint::len(i64::from(offset_delta)))?;
    size = size.checked_add(nullable_len(key)?)?.checked_add(nullable_len(value)?)?;
    size = size.checked_add(varint::len(i64::from(count)))?;
    for (key, value) in headers {
        size = size.checked_add(nullable_len(Some(key.as_bytes()))?)?.checked_add(nullable_len(*value)?)?;
    }
    varint::put(out, i64::from(i32::try_from(size).ok()?));
    out.push(0);
    varint::put(out, timestamp_delta);
    varint::put(out, i64::from(offset_delta));
    put_nullable(out, key);
    put_nullable(out, value);
    varint::put(out, i64::from(count));
    for (key, value) in headers {
        put_nullable(out, Some(key.as_bytes()));
        put_nullable(out, *value);
    }
    Some(())
}

fn nullable_len(bytes: Option<&[u8]>) -> Option<usize> {
    match bytes {
        Some(bytes) => varint::len(i64::from(i32::try_from(bytes.len()).ok()?)).checked_add(bytes.len()),
        None => Some(1),
    }
}

/// Only called with lengths that `nullable_len` has accepted.
fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::put(out, i64::try_from(bytes.len()).unwrap_or(i64::MAX));
            out.extend_from_slice(bytes);
        }
        None => varint::put(out, -1),
    }
}
