//! Reading the protocol's primitive types from a frame, with a bound on the memory that decoding may take.
//!
//! Byte strings and records are slices of the frame, not copies. Every method names the field it reads for, so that an
//! error can say where a peer's message is wrong.

use bytes::Bytes;
use chronik_model::Uuid;

use super::STRING_BYTES_MAX;
use super::error::{DecodeError, DecodeErrorKind};

/// Memory in bytes that the elements of all arrays of one message may take, unless the caller says otherwise.
pub const DECODE_BUDGET_DEFAULT: usize = 16 * 1024 * 1024;

/// A position in bytes to decode. Invariant: `position <= end <= buf.len()`.
#[derive(Debug, Clone)]
pub struct Reader {
    buf: Bytes,
    position: usize,
    /// Exclusive end of what may be read: the buffer's length, or the end of the tagged field being read.
    end: usize,
    /// Bytes of element memory that may still be allocated.
    budget: usize,
}

impl Reader {
    /// Reads `buf` with the default budget.
    pub fn new(buf: Bytes) -> Self {
        Self::with_budget(buf, DECODE_BUDGET_DEFAULT)
    }

    /// Reads `buf`; the elements of all decoded arrays together take at most `budget` bytes of memory.
    ///
    /// Strings come on top of that, but they never take more than three times the bytes they have in `buf`.
    pub fn with_budget(buf: Bytes, budget: usize) -> Self {
        Self { end: buf.len(), buf, position: 0, budget }
    }

    /// Number of bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// Index of the next byte to read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The bytes not read yet, as a slice of the same memory.
    pub fn rest(&self) -> Bytes {
        self.buf.slice(self.position..self.end)
    }

    pub(crate) fn error(&self, field: &'static str, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { field, position: self.position, kind }
    }

    pub(crate) fn unsupported(&self, message: &'static str, version: i16) -> DecodeError {
        self.error(message, DecodeErrorKind::UnsupportedVersion(version))
    }

    /// Moves past `len` bytes and returns where they began.
    fn advance(&mut self, len: usize, field: &'static str) -> Result<usize, DecodeError> {
        if len > self.remaining() {
            return Err(self.error(field, DecodeErrorKind::Truncated { needed: len, remaining: self.remaining() }));
        }
        let start = self.position;
        self.position += len;
        Ok(start)
    }

    fn take(&mut self, len: usize, field: &'static str) -> Result<&[u8], DecodeError> {
        let start = self.advance(len, field)?;
        Ok(&self.buf[start..start + len])
    }

    fn array_of<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, field)?);
        Ok(bytes)
    }

    /// Reads `len` bytes as a slice of the same memory.
    pub fn slice(&mut self, len: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        let start = self.advance(len, field)?;
        Ok(self.buf.slice(start..start + len))
    }

    /// Reads a byte; anything but zero is true.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.i8(field)? != 0)
    }

    /// Reads a signed byte.
    pub fn i8(&mut self, field: &'static str) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.array_of(field)?))
    }

    /// Reads a big-endian 16-bit integer.
    pub fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array_of(field)?))
    }

    /// Reads a big-endian unsigned 16-bit integer.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array_of(field)?))
    }

    /// Reads a big-endian 32-bit integer.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array_of(field)?))
    }

    /// Reads a big-endian 64-bit integer.
    pub fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array_of(field)?))
    }

    /// Reads a big-endian IEEE double.
    pub fn f64(&mut self, field: &'static str) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.array_of(field)?))
    }

    /// Reads 16 bytes as an identifier.
    pub fn uuid(&mut self, field: &'static str) -> Result<Uuid, DecodeError> {
        Ok(Uuid::from_bytes(self.array_of(field)?))
    }

    /// Reads an unsigned variable-length integer of at most 32 bits.
    pub fn uvarint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let mut value: u32 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array_of(field)?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error(field, DecodeErrorKind::VarintTooLong))
    }

    /// Length prefix of a string, byte string or array: `None` is null.
    fn length(&mut self, prefix: Prefix, field: &'static str) -> Result<Option<usize>, DecodeError> {
        let len = match prefix {
            Prefix::Compact => return Ok(self.uvarint(field)?.checked_sub(1).map(|len| len as usize)),
            Prefix::Short => i32::from(self.i16(field)?),
            Prefix::Int => self.i32(field)?,
        };
        Ok(usize::try_from(len).ok())
    }

    fn required<T>(&self, value: Option<T>, field: &'static str) -> Result<T, DecodeError> {
        value.ok_or_else(|| self.error(field, DecodeErrorKind::Null))
    }

    /// Reads a string that may be null. Bytes that are not UTF-8 become U+FFFD, as in Kafka.
    pub fn nullable_string(&mut self, flexible: bool, field: &'static str) -> Result<Option<String>, DecodeError> {
        let prefix = if flexible { Prefix::Compact } else { Prefix::Short };
        let Some(len) = self.length(prefix, field)? else { return Ok(None) };
        if len > STRING_BYTES_MAX {
            return Err(self.error(field, DecodeErrorKind::StringTooLong(len)));
        }
        Ok(Some(String::from_utf8_lossy(self.take(len, field)?).into_owned()))
    }

    /// Reads a string. Bytes that are not UTF-8 become U+FFFD, as in Kafka.
    pub fn string(&mut self, flexible: bool, field: &'static str) -> Result<String, DecodeError> {
        let value = self.nullable_string(flexible, field)?;
        self.required(value, field)
    }

    /// Reads a byte string that may be null, as a slice of the same memory.
    pub fn nullable_bytes(&mut self, flexible: bool, field: &'static str) -> Result<Option<Bytes>, DecodeError> {
        match self.length(Prefix::of(flexible), field)? {
            Some(len) => Ok(Some(self.slice(len, field)?)),
            None => Ok(None),
        }
    }

    /// Reads a byte string, as a slice of the same memory.
    pub fn bytes(&mut self, flexible: bool, field: &'static str) -> Result<Bytes, DecodeError> {
        let value = self.nullable_bytes(flexible, field)?;
        self.required(value, field)
    }

    /// Reads the count of an array that may be null and charges the budget for that many `T`.
    ///
    /// The count is at most the bytes left: no element is shorter than one byte.
    pub fn nullable_count<T>(&mut self, flexible: bool, field: &'static str) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.length(Prefix::of(flexible), field)? else { return Ok(None) };
        let remaining = self.remaining();
        if count > remaining {
            return Err(self.error(field, DecodeErrorKind::CountTooLarge { count: count as u64, remaining }));
        }
        match count.checked_mul(size_of::<T>()).and_then(|cost| self.budget.checked_sub(cost)) {
            Some(left) => self.budget = left,
            None => return Err(self.error(field, DecodeErrorKind::BudgetExceeded { count, budget: self.budget })),
        }
        Ok(Some(count))
    }

    /// Reads the count of an array and charges the budget for that many `T`.
    pub fn count<T>(&mut self, flexible: bool, field: &'static str) -> Result<usize, DecodeError> {
        let count = self.nullable_count::<T>(flexible, field)?;
        self.required(count, field)
    }

    /// Reads an array that may be null, each element with `element`.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        field: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.nullable_count::<T>(flexible, field)? else { return Ok(None) };
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// Reads an array, each element with `element`.
    pub fn array<T>(
        &mut self,
        flexible: bool,
        field: &'static str,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let elements = self.nullable_array(flexible, field, element)?;
        self.required(elements, field)
    }

    /// Reads the marker before a structure that may be null: true if the structure follows.
    pub fn present(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.i8(field)? >= 0)
    }

    /// Reads the tagged fields that end a structure. `known` reads those it knows and returns false for the others,
    /// having read nothing; those are skipped. A known field must fill its size exactly.
    pub fn tags(
        &mut self,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        const FIELD: &str = "tagged_fields";
        let count = self.uvarint(FIELD)?;
        // A tagged field takes at least two bytes, its tag and its size.
        if count as usize > self.remaining() / 2 {
            let kind = DecodeErrorKind::CountTooLarge { count: u64::from(count), remaining: self.remaining() };
            return Err(self.error(FIELD, kind));
        }
        for _ in 0..count {
            let tag = self.uvarint(FIELD)?;
            let size = self.uvarint(FIELD)? as usize;
            let start = self.advance(size, FIELD)?;
            let (outer_end, field_end) = (self.end, self.position);
            (self.position, self.end) = (start, field_end);
            if known(self, tag)? {
                if self.position != field_end {
                    return Err(self.error(FIELD, DecodeErrorKind::TaggedFieldSize { tag, size }));
                }
            } else {
                self.position = field_end;
            }
            self.end = outer_end;
        }
        Ok(())
    }

    /// Skips the tagged fields that end a structure.
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        self.tags(|_, _| Ok(false))
    }
}

/// How a length is written.
#[derive(Clone, Copy)]
enum Prefix {
    /// Unsigned variable-length integer, one more than the length; zero is null.
    Compact,
    /// 16 bits; negative is null.
    Short,
    /// 32 bits; negative is null.
    Int,
}

impl Prefix {
    /// The prefix of everything but strings.
    fn of(flexible: bool) -> Self {
        if flexible { Self::Compact } else { Self::Int }
    }
}
