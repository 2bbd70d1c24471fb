//! The batch checksum: CRC-32C over everything from the attributes to the end of the batch. The 21 bytes before are
//! outside it, which is what lets a leader patch base offset and leader epoch in place.

use crate::header::{ATTRIBUTES_AT, CRC_AT, array_at};

/// The checksum of the covered part of a batch.
pub(crate) fn compute(covered: &[u8]) -> u32 {
    crc32c::crc32c(covered)
}

/// Whether the stored CRC-32C agrees with the bytes from the attributes to the end of `batch`, which must be exactly one
/// batch. A slice too short to hold a CRC is not valid.
pub fn crc_is_valid(batch: &[u8]) -> bool {
    match (array_at::<4>(batch, CRC_AT), batch.get(ATTRIBUTES_AT..)) {
        (Some(stored), Some(covered)) => u32::from_be_bytes(stored) == compute(covered),
        _ => false,
    }
}
