//! Zigzag variable-length integers, as records use them for lengths and deltas.

use std::io::{self, BufRead};

const BYTES_MAX_32: u32 = 5;
const BYTES_MAX_64: u32 = 10;

/// Appends `value`.
pub(crate) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(low_seven(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low_seven(rest));
}

/// Bytes that `value` takes.
pub(crate) fn len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).unwrap_or(0)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn low_seven(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

fn unzigzag(raw: u64) -> i64 {
    (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed()
}

fn decode(bytes_max: u32, mut next: impl FnMut() -> Option<u8>) -> Option<i64> {
    let mut raw = 0u64;
    for index in 0..bytes_max {
        let byte = next()?;
        let part = u64::from(byte & 0x7f);
        // The tenth byte holds one bit.
        if index == 9 && part > 1 {
            return None;
        }
        raw |= part << (7 * index);
        if byte & 0x80 == 0 {
            return Some(unzigzag(raw));
        }
    }
    None
}

/// Takes an `i32` off the front of `bytes`; `None` where it is cut, too long or out of range.
#[inline]
pub(crate) fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    i32::try_from(take(bytes, BYTES_MAX_32)?).ok()
}

/// Takes an `i64` off the front of `bytes`; `None` where it is cut or too long.
#[inline]
pub(crate) fn take_i64(bytes: &mut &[u8]) -> Option<i64> {
    take(bytes, BYTES_MAX_64)
}

#[inline]
fn take(bytes: &mut &[u8], bytes_max: u32) -> Option<i64> {
    // The commonest cases by far: lengths and deltas of one or two bytes.
    let (raw, rest) = match **bytes {
        [a @ 0..0x80, ref rest @ ..] => (u64::from(a), rest),
        [a, b @ 0..0x80, ref rest @ ..] => (u64::from(a & 0x7f) | u64::from(b) << 7, rest),
        _ => return take_long(bytes, bytes_max),
    };
    *bytes = rest;
    Some(unzigzag(raw))
}

fn take_long(bytes: &mut &[u8], bytes_max: u32) -> Option<i64> {
    decode(bytes_max, || {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        Some(byte)
    })
}

/// An integer read from a stream and the bytes it took, or why there is none.
pub(crate) enum Streamed {
    Value(i64, u64),
    Malformed,
    Failed(io::Error),
}

/// Reads an integer of at most 32 bits from a stream.
pub(crate) fn read_i32(input: &mut impl BufRead) -> Streamed {
    match read(input, BYTES_MAX_32) {
        Streamed::Value(value, _) if i32::try_from(value).is_err() => Streamed::Malformed,
        other => other,
    }
}

/// Reads an integer of at most 64 bits from a stream.
pub(crate) fn read_i64(input: &mut impl BufRead) -> Streamed {
    read(input, BYTES_MAX_64)
}

fn read(input: &mut impl BufRead, bytes_max: u32) -> Streamed {
    let mut failure = None;
    let mut taken = 0;
    let value = decode(bytes_max, || match input.fill_buf() {
        Ok(buffer) => {
            let byte = buffer.first().copied()?;
            input.consume(1);
            taken += 1;
            Some(byte)
        }
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    match (value, failure) {
        (Some(value), _) => Streamed::Value(value, taken),
        (None, Some(error)) => Streamed::Failed(error),
        (None, None) => Streamed::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_integer_reads_back_from_slice_and_stream(value: i64) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            prop_assert_eq!(bytes.len(), len(value));
            prop_assert_eq!(take_i64(&mut bytes.as_slice()), Some(value));
            prop_assert!(matches!(read_i64(&mut bytes.as_slice()), Streamed::Value(read, _) if read == value));
            let small = i32::try_from(value).ok();
            prop_assert_eq!(take_i32(&mut bytes.as_slice()), small);
            for cut in 0..bytes.len() {
                prop_assert_eq!(take_i64(&mut bytes.get(..cut).unwrap()), None);
            }
        }
    }

    #[test]
    fn integers_that_never_end_are_refused() {
        assert_eq!(take_i64(&mut [0xff; 20].as_slice()), None);
        assert_eq!(take_i32(&mut [0x80, 0x80, 0x80, 0x80, 0x80, 0].as_slice()), None);
        assert_eq!(take_i32(&mut [0x7f].as_slice()), Some(-64));
        assert_eq!(take_i64(&mut [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1].as_slice()), Some(i64::MIN));
        assert_eq!(take_i64(&mut [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2].as_slice()), None);
    }
}
