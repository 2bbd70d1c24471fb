//! Writing the protocol's primitive types.
//!
//! A writer grows as needed: what is written is our own data, bounded by whoever made it. Lengths that their prefix cannot
//! hold are errors.

use bytes::{BufMut, Bytes, BytesMut};
use chronik_model::Uuid;

use super::STRING_BYTES_MAX;
use super::error::EncodeError;

/// Bytes being written.
#[derive(Debug, Default)]
pub struct Writer {
    buf: BytesMut,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buf: BytesMut::with_capacity(capacity) }
    }

    /// Number of bytes written.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// The bytes written.
    pub fn as_slice(&self) -> &[u8] {
        &self.buf
    }

    /// Ends writing.
    pub fn into_bytes(self) -> Bytes {
        self.buf.freeze()
    }

    /// Hands out the bytes written since the last call and starts anew in the same allocation.
    pub fn split(&mut self) -> Bytes {
        self.buf.split().freeze()
    }

    /// Overwrites four bytes at `position` with a big-endian integer; the bytes must have been written already.
    pub(crate) fn patch_i32(&mut self, position: usize, value: i32) {
        self.buf[position..position + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Writes bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buf.put_slice(bytes);
    }

    /// Writes a byte, 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.buf.put_u8(u8::from(value));
    }

    /// Writes a signed byte.
    pub fn i8(&mut self, value: i8) {
        self.buf.put_i8(value);
    }

    /// Writes a big-endian 16-bit integer.
    pub fn i16(&mut self, value: i16) {
        self.buf.put_i16(value);
    }

    /// Writes a big-endian unsigned 16-bit integer.
    pub fn u16(&mut self, value: u16) {
        self.buf.put_u16(value);
    }

    /// Writes a big-endian 32-bit integer.
    pub fn i32(&mut self, value: i32) {
        self.buf.put_i32(value);
    }

    /// Writes a big-endian 64-bit integer.
    pub fn i64(&mut self, value: i64) {
        self.buf.put_i64(value);
    }

    /// Writes a big-endian IEEE double.
    pub fn f64(&mut self, value: f64) {
        self.buf.put_f64(value);
    }

    /// Writes the 16 bytes of an identifier.
    pub fn uuid(&mut self, value: Uuid) {
        self.buf.put_slice(value.as_bytes());
    }

    /// Writes an unsigned variable-length integer.
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buf.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.buf.put_u8(value as u8);
    }

    /// Writes a null string.
    pub fn null_string(&mut self, flexible: bool) {
        if flexible { self.uvarint(0) } else { self.i16(-1) }
    }

    /// Writes a null byte string or array.
    pub fn null(&mut self, flexible: bool) {
        if flexible { self.uvarint(0) } else { self.i32(-1) }
    }

    /// Writes the length of a byte string or the count of an array.
    pub fn length(&mut self, flexible: bool, field: &'static str, len: usize) -> Result<(), EncodeError> {
        // One below the maximum leaves room for the offset of one in the compact form.
        match i32::try_from(len) {
            Ok(value) if value < i32::MAX => {
                if flexible {
                    self.uvarint(value as u32 + 1);
                } else {
                    self.i32(value);
                }
                Ok(())
            }
            _ => Err(EncodeError::TooLong { field, len }),
        }
    }

    /// Writes a string.
    pub fn string(&mut self, flexible: bool, field: &'static str, value: &str) -> Result<(), EncodeError> {
        let len = value.len();
        if len > STRING_BYTES_MAX {
            return Err(EncodeError::TooLong { field, len });
        }
        if flexible {
            self.uvarint(len as u32 + 1);
        } else {
            self.i16(len as i16);
        }
        self.raw(value.as_bytes());
        Ok(())
    }

    /// Writes a string that may be null.
    pub fn nullable_string(
        &mut self,
        flexible: bool,
        field: &'static str,
        value: Option<&str>,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.string(flexible, field, value),
            None => {
                self.null_string(flexible);
                Ok(())
            }
        }
    }

    /// Writes a byte string.
    pub fn bytes(&mut self, flexible: bool, field: &'static str, value: &[u8]) -> Result<(), EncodeError> {
        self.length(flexible, field, value.len())?;
        self.raw(value);
        Ok(())
    }

    /// Writes a byte string that may be null.
    pub fn nullable_bytes(
        &mut self,
        flexible: bool,
        field: &'static str,
        value: Option<&[u8]>,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.bytes(flexible, field, value),
            None => {
                self.null(flexible);
                Ok(())
            }
        }
    }

    /// Writes an array, each element with `element`.
    pub fn array<T>(
        &mut self,
        flexible: bool,
        field: &'static str,
        values: &[T],
        mut element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.length(flexible, field, values.len())?;
        for value in values {
            element(self, value)?;
        }
        Ok(())
    }

    /// Writes an array that may be null, each element with `element`.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        field: &'static str,
        values: Option<&[T]>,
        element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match values {
            Some(values) => self.array(flexible, field, values, element),
            None => {
                self.null(flexible);
                Ok(())
            }
        }
    }

    /// Writes the marker before a structure that may be null.
    pub fn present(&mut self, present: bool) {
        self.i8(if present { 1 } else { -1 });
    }

    /// Writes one tagged field: tag, size and what `content` writes. The count of tagged fields comes before the first of
    /// them, and their tags ascend.
    pub fn tagged(
        &mut self,
        tag: u32,
        content: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        // The size comes first and has no fixed width; tagged fields are small and rare, so they are written aside.
        let mut aside = Self::new();
        content(&mut aside)?;
        let size = u32::try_from(aside.len())
            .map_err(|_| EncodeError::TooLong { field: "tagged_fields", len: aside.len() })?;
        self.uvarint(tag);
        self.uvarint(size);
        self.raw(aside.as_slice());
        Ok(())
    }
}

/// Number of bytes an unsigned variable-length integer takes.
pub fn uvarint_len(value: u32) -> usize {
    let bits = (32 - value.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}
