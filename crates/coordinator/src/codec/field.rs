//! Reading and writing single fields of Kafka's schemas: big-endian integers, strings and bytes with plain or compact
//! lengths, tagged fields. No schema lives here.

use bytes::{BufMut, Bytes, BytesMut};
use chronik_model::Uuid;

/// Why bytes are not the record they should be, or a record cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end inside a field.
    #[error("cut short in {field}: {needed} bytes needed, {left} left")]
    CutShort {
        /// The field being read.
        field: &'static str,
        /// What the field asks for.
        needed: usize,
        /// What is there.
        left: usize,
    },
    /// A length is negative where null is not allowed, or a count cannot be held by the bytes that follow.
    #[error("length {length} of {field} is not possible")]
    BadLength {
        /// The field being read.
        field: &'static str,
        /// The length found.
        length: i64,
    },
    /// A string is not UTF-8.
    #[error("{field} is not utf-8")]
    NotUtf8 {
        /// The field being read.
        field: &'static str,
    },
    /// The value's version is not one this reader knows.
    #[error("version {version} of {record} is unknown")]
    UnknownVersion {
        /// The record's name in Kafka.
        record: &'static str,
        /// The version found.
        version: i16,
    },
    /// There are bytes after the last field.
    #[error("{0} bytes after the last field")]
    TrailingBytes(usize),
    /// A field is too long to be written.
    #[error("{length} bytes of {field} do not fit its length field")]
    TooLong {
        /// The field being written.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
    },
}

/// A cursor over a record's bytes.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, field: &'static str, needed: usize) -> Result<&'a [u8], CodecError> {
        let cut_short = CodecError::CutShort { field, needed, left: self.rest.len() };
        let (head, rest) = self.rest.split_at_checked(needed).ok_or(cut_short)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], CodecError> {
        let cut_short = CodecError::CutShort { field, needed: N, left: self.rest.len() };
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(cut_short)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn i16(&mut self, field: &'static str) -> Result<i16, CodecError> {
        self.array(field).map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, CodecError> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, CodecError> {
        self.array(field).map(i64::from_be_bytes)
    }

    pub(super) fn uuid(&mut self, field: &'static str) -> Result<Uuid, CodecError> {
        self.array(field).map(Uuid::from_bytes)
    }

    /// An unsigned varint of at most 32 bits, bounded by what is left to read: every use is a count or a length.
    pub(super) fn varint(&mut self, field: &'static str) -> Result<usize, CodecError> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array::<1>(field)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let value = u32::try_from(value)
                    .map_err(|_| CodecError::BadLength { field, length: i64::try_from(value).unwrap_or(i64::MAX) })?;
                return usize::try_from(value).map_err(|_| CodecError::BadLength { field, length: i64::from(value) });
            }
        }
        Err(CodecError::BadLength { field, length: i64::try_from(value).unwrap_or(i64::MAX) })
    }

    fn utf8(field: &'static str, bytes: &[u8]) -> Result<String, CodecError> {
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| CodecError::NotUtf8 { field })
    }

    pub(super) fn string(&mut self, field: &'static str) -> Result<String, CodecError> {
        self.nullable_string(field)?.ok_or(CodecError::BadLength { field, length: -1 })
    }

    pub(super) fn nullable_string(&mut self, field: &'static str) -> Result<Option<String>, CodecError> {
        let length = self.i16(field)?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| CodecError::BadLength { field, length: length.into() })?;
        Self::utf8(field, self.take(field, length)?).map(Some)
    }

    pub(super) fn compact_string(&mut self, field: &'static str) -> Result<String, CodecError> {
        self.compact_nullable_string(field)?.ok_or(CodecError::BadLength { field, length: -1 })
    }

    pub(super) fn compact_nullable_string(&mut self, field: &'static str) -> Result<Option<String>, CodecError> {
        let Some(length) = self.varint(field)?.checked_sub(1) else { return Ok(None) };
        Self::utf8(field, self.take(field, length)?).map(Some)
    }

    pub(super) fn bytes(&mut self, field: &'static str) -> Result<Bytes, CodecError> {
        let length = self.i32(field)?;
        let length = usize::try_from(length).map_err(|_| CodecError::BadLength { field, length: length.into() })?;
        self.take(field, length).map(Bytes::copy_from_slice)
    }

    pub(super) fn compact_bytes(&mut self, field: &'static str) -> Result<Bytes, CodecError> {
        let length = self.varint(field)?.checked_sub(1).ok_or(CodecError::BadLength { field, length: -1 })?;
        self.take(field, length).map(Bytes::copy_from_slice)
    }

    /// The count of an array whose elements take at least `element_bytes_min` bytes each.
    pub(super) fn count(&mut self, field: &'static str, element_bytes_min: usize) -> Result<usize, CodecError> {
        let length = self.i32(field)?;
        let count = usize::try_from(length).map_err(|_| CodecError::BadLength { field, length: length.into() })?;
        self.bounded(field, count, element_bytes_min)
    }

    pub(super) fn compact_count(&mut self, field: &'static str, element_bytes_min: usize) -> Result<usize, CodecError> {
        let count = self.varint(field)?.checked_sub(1).ok_or(CodecError::BadLength { field, length: -1 })?;
        self.bounded(field, count, element_bytes_min)
    }

    fn bounded(&self, field: &'static str, count: usize, element_bytes_min: usize) -> Result<usize, CodecError> {
        if count.saturating_mul(element_bytes_min) > self.rest.len() {
            return Err(CodecError::BadLength { field, length: i64::try_from(count).unwrap_or(i64::MAX) });
        }
        Ok(count)
    }

    /// Hands each tagged field's tag and bytes to `known`; unknown ones are for it to pass over.
    pub(super) fn tagged_fields(
        &mut self,
        mut known: impl FnMut(usize, &mut Reader<'a>) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        for _ in 0..self.varint("tagged fields")? {
            let tag = self.varint("tag")?;
            let length = self.varint("tagged field length")?;
            let mut field = Reader::new(self.take("tagged field", length)?);
            known(tag, &mut field)?;
        }
        Ok(())
    }

    pub(super) fn finish(&self) -> Result<(), CodecError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(CodecError::TrailingBytes(left)),
        }
    }
}

/// Collects a record's bytes.
pub(super) struct Writer {
    bytes: BytesMut,
}

impl Writer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: BytesMut::with_capacity(bytes) }
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.bytes.put_i16(value);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.bytes.put_i32(value);
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.bytes.put_i64(value);
    }

    pub(super) fn uuid(&mut self, value: Uuid) {
        self.bytes.put_slice(value.as_bytes());
    }

    pub(super) fn varint(&mut self, field: &'static str, value: usize) -> Result<(), CodecError> {
        let mut rest = u32::try_from(value).map_err(|_| CodecError::TooLong { field, length: value })?;
        while rest > 0x7f {
            self.bytes.put_u8((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.put_u8(rest as u8);
        Ok(())
    }

    pub(super) fn string(&mut self, field: &'static str, value: &str) -> Result<(), CodecError> {
        let length = i16::try_from(value.len()).map_err(|_| CodecError::TooLong { field, length: value.len() })?;
        self.bytes.put_i16(length);
        self.bytes.put_slice(value.as_bytes());
        Ok(())
    }

    pub(super) fn nullable_string(&mut self, field: &'static str, value: Option<&str>) -> Result<(), CodecError> {
        match value {
            Some(value) => self.string(field, value),
            None => {
                self.bytes.put_i16(-1);
                Ok(())
            }
        }
    }

    pub(super) fn compact_string(&mut self, field: &'static str, value: &str) -> Result<(), CodecError> {
        self.varint(field, value.len().saturating_add(1))?;
        self.bytes.put_slice(value.as_bytes());
        Ok(())
    }

    pub(super) fn count(&mut self, field: &'static str, count: usize) -> Result<(), CodecError> {
        self.bytes.put_i32(i32::try_from(count).map_err(|_| CodecError::TooLong { field, length: count })?);
        Ok(())
    }

    pub(super) fn byte_string(&mut self, field: &'static str, value: &[u8]) -> Result<(), CodecError> {
        self.count(field, value.len())?;
        self.bytes.put_slice(value);
        Ok(())
    }

    pub(super) fn finish(self) -> Bytes {
        self.bytes.freeze()
    }
}
