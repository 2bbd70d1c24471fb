//! The 16 attribute bits of a batch: codec, timestamp type, transactional, control, delete horizon.

use crate::Compression;
use crate::header::{ATTRIBUTES_AT, array_at};

/// Who set the timestamps of a batch's records (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// The producer, record by record.
    #[default]
    Create,
    /// The broker at append: every record has the batch's max timestamp.
    LogAppend,
}

/// The attribute bits as they stand in the batch. Bits 7 to 15 are unused by Kafka and kept as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Attributes(pub i16);

const CODEC_MASK: i16 = 0x07;
const LOG_APPEND: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

impl Attributes {
    /// Those of the batch that begins here, where there are bytes enough; nothing else of it is looked at.
    pub fn of(batch: &[u8]) -> Option<Self> {
        array_at(batch, ATTRIBUTES_AT).map(|bytes| Self(i16::from_be_bytes(bytes)))
    }

    /// The attributes of a batch that is neither transactional nor a control batch.
    pub fn new(compression: Compression, timestamp_type: TimestampType) -> Self {
        Self(0).with_compression(compression).with_timestamp_type(timestamp_type)
    }

    /// The codec of the records; `None` for a codec number no Kafka version defines.
    pub fn compression(self) -> Option<Compression> {
        Compression::from_id(self.compression_id())
    }

    /// The raw codec number, 0 to 7.
    pub fn compression_id(self) -> u8 {
        (self.0 & CODEC_MASK).to_be_bytes()[1]
    }

    /// Who set the timestamps.
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & LOG_APPEND == 0 { TimestampType::Create } else { TimestampType::LogAppend }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & TRANSACTIONAL != 0
    }

    /// Whether the batch holds control records, which clients skip.
    pub fn is_control(self) -> bool {
        self.0 & CONTROL != 0
    }

    /// Whether the base timestamp field holds the time after which tombstones may go (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.0 & DELETE_HORIZON != 0
    }

    /// The same bits with another codec.
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        Self(self.0 & !CODEC_MASK | i16::from(compression.id()))
    }

    /// The same bits with another timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        match timestamp_type {
            TimestampType::Create => Self(self.0 & !LOG_APPEND),
            TimestampType::LogAppend => Self(self.0 | LOG_APPEND),
        }
    }

    /// The same bits, marked as part of a transaction.
    #[must_use]
    pub fn with_transactional(self) -> Self {
        Self(self.0 | TRANSACTIONAL)
    }

    /// The same bits, marked as a control batch.
    #[must_use]
    pub fn with_control(self) -> Self {
        Self(self.0 | CONTROL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_kafka_puts_them() {
        let attributes =
            Attributes::new(Compression::Zstd, TimestampType::LogAppend).with_transactional().with_control();
        assert_eq!(attributes, Attributes(0b11_1100));
        assert_eq!(attributes.compression(), Some(Compression::Zstd));
        assert_eq!(attributes.with_compression(Compression::Gzip), Attributes(0b11_1001));
        assert_eq!(attributes.with_timestamp_type(TimestampType::Create), Attributes(0b11_0100));
        assert!(Attributes(0x40).has_delete_horizon());
    }

    #[test]
    fn codec_numbers_five_to_seven_have_no_codec() {
        for id in 5..8 {
            assert_eq!(Attributes(id).compression(), None);
        }
        assert_eq!(Attributes(i16::MIN).compression(), Some(Compression::None));
    }
}
