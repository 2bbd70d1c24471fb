//! The 61 bytes at the head of a v2 record batch, and the 16 of them a leader rewrites.
//!
//! Reading checks structure only: that the fields can be used without overflow. Whether a producer may send such a batch
//! is decided in `validate`, whether it continues a log is decided by the log.
//!
//! ```text
//!  0 base offset i64        | 16 magic i8        | 27 base timestamp i64 | 51 producer epoch i16
//!  8 batch length i32       | 17 crc u32         | 35 max timestamp i64  | 53 base sequence i32
//! 12 leader epoch i32       | 21 attributes i16  | 43 producer id i64    | 57 records count i32
//!                           | 23 last offset delta i32                   | 61 records
//! ```

use chronik_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::Attributes;

/// Bytes before the records.
pub const HEADER_BYTES: usize = 61;
/// The bytes outside the CRC that a leader rewrites: base offset, batch length, partition leader epoch.
pub const PREFIX_BYTES: usize = 16;
/// The magic number of the batches Chronik stores.
pub const MAGIC: i8 = 2;

/// Bytes that the batch length does not count: base offset and the length itself.
pub(crate) const LENGTH_EXCLUDES: usize = 12;
/// The smallest batch length: a header without records.
pub(crate) const BATCH_LENGTH_MIN: i32 = 49;
pub(crate) const BATCH_LENGTH_AT: usize = 8;
pub(crate) const MAGIC_AT: usize = 16;
pub(crate) const CRC_AT: usize = 17;
pub(crate) const ATTRIBUTES_AT: usize = 21;
pub(crate) const MAX_TIMESTAMP_AT: usize = 35;

/// The header of a v2 record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record, inclusive; producers send 0.
    pub base_offset: Offset,
    /// Bytes that follow the length field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch; outside the CRC.
    pub partition_leader_epoch: LeaderEpoch,
    /// Always 2 in a header that was read.
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Offset of the last record less the base offset; compaction keeps it while removing records.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas are added to, or the delete horizon.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of the batch; the append time for log append time.
    pub max_timestamp: Timestamp,
    /// The idempotent producer, or none.
    pub producer_id: ProducerId,
    /// The producer's epoch, or none.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record, or none.
    pub base_sequence: Sequence,
    /// How many records follow.
    pub records_count: i32,
}

/// The bytes are not the head of a v2 record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    #[error("{available} bytes cannot hold a record batch header")]
    TooShort {
        /// Bytes there.
        available: usize,
    },
    /// Not a v2 batch.
    #[error("record batch has magic {magic}")]
    Magic {
        /// The magic byte.
        magic: i8,
    },
    /// The length says that the header itself is cut.
    #[error("record batch has length {batch_length}, less than its header needs")]
    BatchLength {
        /// The length field.
        batch_length: i32,
    },
    /// The last offset lies before the first.
    #[error("record batch has last offset delta {last_offset_delta}")]
    LastOffsetDelta {
        /// The field.
        last_offset_delta: i32,
    },
    /// The base offset is negative, or the offset after the last does not fit.
    #[error("record batch at offset {base_offset} with last offset delta {last_offset_delta} leaves the offset range")]
    OffsetRange {
        /// The field.
        base_offset: i64,
        /// The field.
        last_offset_delta: i32,
    },
}

/// The `N` bytes of `bytes` at `at`.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// Reads the fields as they come, without any check but that the bytes are there.
pub(crate) fn read_fields(bytes: &[u8]) -> Option<BatchHeader> {
    let head: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
    Some(BatchHeader {
        base_offset: Offset::new(i64::from_be_bytes(array_at(head, 0)?)),
        batch_length: i32::from_be_bytes(array_at(head, 8)?),
        partition_leader_epoch: LeaderEpoch::new(i32::from_be_bytes(array_at(head, 12)?)),
        magic: i8::from_be_bytes(array_at(head, MAGIC_AT)?),
        crc: u32::from_be_bytes(array_at(head, CRC_AT)?),
        attributes: Attributes(i16::from_be_bytes(array_at(head, ATTRIBUTES_AT)?)),
        last_offset_delta: i32::from_be_bytes(array_at(head, 23)?),
        base_timestamp: Timestamp::from_millis(i64::from_be_bytes(array_at(head, 27)?)),
        max_timestamp: Timestamp::from_millis(i64::from_be_bytes(array_at(head, MAX_TIMESTAMP_AT)?)),
        producer_id: ProducerId::new(i64::from_be_bytes(array_at(head, 43)?)),
        producer_epoch: ProducerEpoch::new(i16::from_be_bytes(array_at(head, 51)?)),
        base_sequence: Sequence::new(i32::from_be_bytes(array_at(head, 53)?)),
        records_count: i32::from_be_bytes(array_at(head, 57)?),
    })
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which may end anywhere after it.
    pub fn read(bytes: &[u8]) -> Result<Self, HeaderError> {
        let header = read_fields(bytes).ok_or(HeaderError::TooShort { available: bytes.len() })?;
        header.check()?;
        Ok(header)
    }

    /// The checks that make every other method free of overflow.
    pub(crate) fn check(&self) -> Result<(), HeaderError> {
        if self.magic != MAGIC {
            return Err(HeaderError::Magic { magic: self.magic });
        }
        if self.batch_length < BATCH_LENGTH_MIN {
            return Err(HeaderError::BatchLength { batch_length: self.batch_length });
        }
        if self.last_offset_delta < 0 {
            return Err(HeaderError::LastOffsetDelta { last_offset_delta: self.last_offset_delta });
        }
        let next = self.base_offset.checked_add(i64::from(self.last_offset_delta)).and_then(|last| last.checked_add(1));
        if self.base_offset < Offset::ZERO || next.is_none() {
            return Err(HeaderError::OffsetRange {
                base_offset: self.base_offset.get(),
                last_offset_delta: self.last_offset_delta,
            });
        }
        Ok(())
    }

    /// Bytes of the whole batch, header included.
    pub fn size_bytes(&self) -> usize {
        LENGTH_EXCLUDES.saturating_add(usize::try_from(self.batch_length).unwrap_or(0))
    }

    /// Offset of the last record, inclusive.
    pub fn last_offset(&self) -> Offset {
        Offset::new(self.base_offset.get().saturating_add(i64::from(self.last_offset_delta)))
    }

    /// The offset after the last record, exclusive end of the batch.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// Sequence of the last record, inclusive; none where the batch has no sequence.
    pub fn last_sequence(&self) -> Sequence {
        if self.base_sequence == Sequence::NONE {
            return Sequence::NONE;
        }
        self.base_sequence.advanced_by(u32::try_from(self.last_offset_delta).unwrap_or(0))
    }

    /// Whether an idempotent or transactional producer sent the batch.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > ProducerId::NONE
    }

    /// The header's bytes, with the fields as they are.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            let end = at + field.len();
            if let Some(place) = bytes.get_mut(at..end) {
                place.copy_from_slice(field);
            }
            at = end;
        };
        put(&prefix(self.base_offset, self.batch_length, self.partition_leader_epoch));
        put(&self.magic.to_be_bytes());
        put(&self.crc.to_be_bytes());
        put(&self.attributes.0.to_be_bytes());
        put(&self.last_offset_delta.to_be_bytes());
        put(&self.base_timestamp.millis().to_be_bytes());
        put(&self.max_timestamp.millis().to_be_bytes());
        put(&self.producer_id.get().to_be_bytes());
        put(&self.producer_epoch.get().to_be_bytes());
        put(&self.base_sequence.get().to_be_bytes());
        put(&self.records_count.to_be_bytes());
        bytes
    }
}

/// The 16 bytes outside the CRC, as the leader writes them in front of the producer's remaining bytes.
pub fn prefix(base_offset: Offset, batch_length: i32, leader_epoch: LeaderEpoch) -> [u8; PREFIX_BYTES] {
    let [a, b, c, d, e, f, g, h] = base_offset.get().to_be_bytes();
    let [i, j, k, l] = batch_length.to_be_bytes();
    let [m, n, o, p] = leader_epoch.get().to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            base_offset: Offset::new(7),
            batch_length: 60,
            partition_leader_epoch: LeaderEpoch::new(3),
            magic: MAGIC,
            crc: 0xdead_beef,
            attributes: Attributes(0x14),
            last_offset_delta: 4,
            base_timestamp: Timestamp::from_millis(1),
            max_timestamp: Timestamp::from_millis(2),
            producer_id: ProducerId::new(5),
            producer_epoch: ProducerEpoch::new(6),
            base_sequence: Sequence::new(i32::MAX - 1),
            records_count: 5,
        }
    }

    #[test]
    fn written_header_reads_back() {
        let header = header();
        assert_eq!(BatchHeader::read(&header.to_bytes()), Ok(header));
        assert_eq!(header.size_bytes(), 72);
        assert_eq!(header.last_offset(), Offset::new(11));
        assert_eq!(header.next_offset(), Offset::new(12));
        assert_eq!(header.last_sequence(), Sequence::new(2));
    }

    #[test]
    fn batch_without_sequence_has_no_last_sequence() {
        let header = BatchHeader { base_sequence: Sequence::NONE, ..header() };
        assert_eq!(header.last_sequence(), Sequence::NONE);
    }

    #[test]
    fn structure_that_would_overflow_is_refused() {
        let read = |header: BatchHeader| BatchHeader::read(&header.to_bytes());
        assert_eq!(BatchHeader::read(&[0; 60]), Err(HeaderError::TooShort { available: 60 }));
        assert_eq!(read(BatchHeader { magic: 1, ..header() }), Err(HeaderError::Magic { magic: 1 }));
        assert_eq!(
            read(BatchHeader { batch_length: 48, ..header() }),
            Err(HeaderError::BatchLength { batch_length: 48 })
        );
        assert_eq!(
            read(BatchHeader { last_offset_delta: -1, ..header() }),
            Err(HeaderError::LastOffsetDelta { last_offset_delta: -1 })
        );
        for base_offset in [-1, i64::MAX - 4, i64::MAX] {
            assert_eq!(
                read(BatchHeader { base_offset: Offset::new(base_offset), ..header() }),
                Err(HeaderError::OffsetRange { base_offset, last_offset_delta: 4 })
            );
        }
        assert!(read(BatchHeader { base_offset: Offset::new(i64::MAX - 5), ..header() }).is_ok());
    }

    #[test]
    fn prefix_is_the_head_of_the_header() {
        let header = header();
        let prefix = prefix(header.base_offset, header.batch_length, header.partition_leader_epoch);
        assert_eq!(header.to_bytes().first_chunk(), Some(&prefix));
    }
}
