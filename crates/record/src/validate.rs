//! What a broker accepts from a producer, and the answer to what it does not.
//!
//! The header and one pass of the CRC decide; the payload is opaque and the batch keeps the bytes it came in. Three named
//! exceptions look further: a compacted topic needs keys, a forced codec rewrites the batch once, and so does log append
//! time. Sequences are compared with earlier ones in the log's producer state.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use chronik_model::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::builder::seal;
use crate::compression::{Decoder, Encoder, OutputFull};
use crate::header::{ATTRIBUTES_AT, BATCH_LENGTH_AT, BATCH_LENGTH_MIN, HEADER_BYTES, LENGTH_EXCLUDES, MAGIC_AT};
use crate::header::{array_at, read_fields};
use crate::{BatchHeader, Caps, Compression, RecordsError, TimestampType, crc, records};

/// Bytes up to and including the magic byte, which every message format has at the same place.
const HEAD_BYTES: usize = MAGIC_AT + 1;
/// The least length field of any message format; one below it is no batch.
const ANY_LENGTH_MIN: i32 = 14;
/// A record's least bytes: length, attributes, both deltas, two null fields and no headers.
const RECORD_BYTES_MIN: usize = 7;
/// The most bytes that a codec makes of one: zstd's shortest block of four bytes stands for 128 KiB.
const EXPANSION_MAX: usize = 128 * 1024 / 4;
/// How many records a byte of a batch stands for at the most, rounded up; a batch that counts more is refused when it is
/// produced, so whoever looks for batches among damaged bytes may rely on it.
pub const RECORDS_PER_BYTE_MAX: u64 = EXPANSION_MAX.div_ceil(RECORD_BYTES_MIN) as u64;
/// The first version of Produce that may carry zstd (KIP-110).
const ZSTD_PRODUCE_VERSION: i16 = 7;

/// What a topic does with the codec of a produced batch (`compression.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CompressionPolicy {
    /// The producer's choice stays.
    #[default]
    Producer,
    /// Batches in another codec are rewritten, at the level given or the codec's own default.
    Forced(Compression, Option<i32>),
}

/// The settings of a topic, and of the request, that decide over a produced batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePolicy {
    /// Bytes of the whole batch, header included (`max.message.bytes`).
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// How far in the past a producer's timestamp may lie (`message.timestamp.before.max.ms`).
    pub timestamp_before_max: Duration,
    /// How far in the future a producer's timestamp may lie (`message.timestamp.after.max.ms`).
    pub timestamp_after_max: Duration,
    /// `compression.type`.
    pub compression: CompressionPolicy,
    /// Whether every record needs a key (`cleanup.policy` contains `compact`).
    pub keys_required: bool,
    /// The version of the Produce request the batch came in.
    pub produce_version: i16,
    /// Limits on looking inside, where the settings make that necessary.
    pub caps: Caps,
}

impl ProducePolicy {
    /// Whether validation may have to decompress records, which takes time in proportion to what they become.
    pub fn decompresses(&self) -> bool {
        self.keys_required || matches!(self.compression, CompressionPolicy::Forced(..))
    }
}

impl Default for ProducePolicy {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::Create,
            timestamp_before_max: Duration::MAX,
            timestamp_after_max: Duration::from_secs(60 * 60),
            compression: CompressionPolicy::Producer,
            keys_required: false,
            produce_version: i16::MAX,
            caps: Caps::default(),
        }
    }
}

/// One valid v2 batch, made by validation or by a builder only. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducedBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl ProducedBatch {
    pub(crate) fn new(header: BatchHeader, bytes: Bytes) -> Self {
        Self { header, bytes }
    }

    /// The header as it stands in the bytes; its base offset is 0.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// The family of answers a refused batch gets; the broker maps it to an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InvalidKind {
    /// The bytes are damaged.
    Corrupt,
    /// The bytes are what was sent, and must not be sent.
    InvalidRecord,
    /// More than `max.message.bytes`.
    TooLarge,
    /// A timestamp outside the topic's limits.
    InvalidTimestamp,
    /// The message format cannot carry what the batch asks for.
    UnsupportedFormat,
    /// A codec this request may not use.
    UnsupportedCompression,
}

/// Why a produced batch is refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidBatch {
    /// There is no batch.
    #[error("the partition has no record batch")]
    Empty,
    /// More than one batch came.
    #[error("{trailing_bytes} bytes of another record batch follow the first")]
    SecondBatch {
        /// Bytes behind the first batch.
        trailing_bytes: usize,
    },
    /// Fewer bytes than the batch needs.
    #[error("record batch of {size_bytes} bytes has only {available}")]
    Cut {
        /// Bytes the batch says it has, or that its header needs.
        size_bytes: usize,
        /// Bytes that came.
        available: usize,
    },
    /// The length field is less than a header takes.
    #[error("record batch has length {batch_length}, less than its header needs")]
    Length {
        /// The field.
        batch_length: i32,
    },
    /// A magic number that no message format has.
    #[error("record batch has magic {magic}")]
    UnknownMagic {
        /// The field.
        magic: i8,
    },
    /// A message format older than record batches.
    #[error("record batch has magic {magic}, produce requests carry magic 2")]
    OldMagic {
        /// The field.
        magic: i8,
    },
    /// Only the broker assigns offsets.
    #[error("record batch has base offset {base_offset} instead of 0")]
    BaseOffset {
        /// The field.
        base_offset: i64,
    },
    /// The batch is larger than the topic allows.
    #[error("record batch of {size_bytes} bytes exceeds the limit of {max_message_bytes}")]
    TooLarge {
        /// Bytes of the batch.
        size_bytes: usize,
        /// `max.message.bytes`.
        max_message_bytes: usize,
    },
    /// The checksum disagrees with the bytes.
    #[error("record batch has CRC {stored:#010x}, its bytes have {computed:#010x}")]
    Crc {
        /// The field.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The record count disagrees with the offsets, or is not positive.
    #[error("record batch counts {records_count} records with last offset delta {last_offset_delta}")]
    Count {
        /// The field.
        records_count: i32,
        /// The field.
        last_offset_delta: i32,
    },
    /// Only brokers write control batches.
    #[error("control batches are not accepted from clients")]
    Control,
    /// Producer id, epoch and sequence do not belong together.
    #[error("record batch has producer id {producer_id}, epoch {producer_epoch}, base sequence {base_sequence}")]
    Producer {
        /// The field.
        producer_id: ProducerId,
        /// The field.
        producer_epoch: ProducerEpoch,
        /// The field.
        base_sequence: Sequence,
    },
    /// A transactional batch without a producer id.
    #[error("transactional record batch has no producer id")]
    TransactionWithoutProducer,
    /// Only the broker sets log append time.
    #[error("record batch claims log append time")]
    LogAppendTime,
    /// A timestamp lies too far from the broker's time.
    #[error("timestamp {timestamp} is out of range at {now}")]
    Timestamp {
        /// The offending timestamp.
        timestamp: Timestamp,
        /// The broker's time.
        now: Timestamp,
    },
    /// A codec number no Kafka version defines.
    #[error("record batch has unknown codec {id}")]
    UnknownCodec {
        /// The number.
        id: u8,
    },
    /// A codec that this version of the request may not carry.
    #[error("produce version {produce_version} cannot carry {codec}")]
    CodecOfLaterVersion {
        /// The codec.
        codec: Compression,
        /// The request's version.
        produce_version: i16,
    },
    /// A record without a key on a compacted topic.
    #[error("record {index} has no key, which a compacted topic needs")]
    KeyMissing {
        /// The record's place in the batch, counted from 0.
        index: i32,
    },
    /// An offset delta that skips or repeats.
    #[error("record {index} has offset delta {offset_delta}")]
    OffsetDelta {
        /// The record's place in the batch, counted from 0.
        index: i32,
        /// What it has instead.
        offset_delta: i64,
    },
    /// The records had to be looked at and cannot be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The codec failed while the batch was rewritten.
    #[error("records do not compress: {0}")]
    Compression(#[source] io::Error),
}

impl InvalidBatch {
    /// Whether the bytes are not one batch that a log could be asked to take: nothing is known of the log then.
    pub fn is_no_batch(&self) -> bool {
        matches!(self, Self::Empty | Self::Cut { .. } | Self::SecondBatch { .. } | Self::OldMagic { .. })
    }

    /// The family of the answer.
    pub fn kind(&self) -> InvalidKind {
        match self {
            Self::Length { .. } | Self::UnknownMagic { .. } | Self::Crc { .. } | Self::Compression(_) => {
                InvalidKind::Corrupt
            }
            Self::Empty
            | Self::Cut { .. }
            | Self::SecondBatch { .. }
            | Self::OldMagic { .. }
            | Self::BaseOffset { .. }
            | Self::Count { .. }
            | Self::Control
            | Self::Producer { .. }
            | Self::TransactionWithoutProducer
            | Self::KeyMissing { .. }
            | Self::OffsetDelta { .. } => InvalidKind::InvalidRecord,
            Self::TooLarge { .. } => InvalidKind::TooLarge,
            Self::LogAppendTime | Self::Timestamp { .. } => InvalidKind::InvalidTimestamp,
            Self::UnknownCodec { .. } | Self::CodecOfLaterVersion { .. } => InvalidKind::UnsupportedCompression,
            Self::Records(error) => match error {
                RecordsError::CapExceeded => InvalidKind::TooLarge,
                RecordsError::Header(_) | RecordsError::Cut { .. } | RecordsError::Decompression(_) => {
                    InvalidKind::Corrupt
                }
                RecordsError::UnknownCodec { .. } => InvalidKind::UnsupportedCompression,
                RecordsError::Count { .. } | RecordsError::Malformed { .. } | RecordsError::Trailing => {
                    InvalidKind::InvalidRecord
                }
            },
        }
    }
}

/// Decides over what a producer sent for one partition: exactly one batch, whole, undamaged and allowed by `policy`.
/// `now` is the broker's time, for the limits on timestamps and for log append time.
pub fn validate_produced(
    mut records: Bytes,
    policy: &ProducePolicy,
    now: Timestamp,
) -> Result<ProducedBatch, InvalidBatch> {
    let header = frame(&records, policy.max_message_bytes)?;
    records.truncate(header.size_bytes());
    let computed = crc::compute(records.get(ATTRIBUTES_AT..).unwrap_or_default());
    if header.crc != computed {
        return Err(InvalidBatch::Crc { stored: header.crc, computed });
    }
    let codec = check_fields(&header, policy, now)?;
    // Records that lie open are looked at; those of a codec only where a setting asks for it.
    if policy.keys_required || codec == Compression::None {
        check_records(&records, policy)?;
    }
    match policy.compression {
        CompressionPolicy::Forced(target, level) if target != codec => {
            recompress(header, &records, codec, target, level, policy, now)
        }
        _ if policy.timestamp_type == TimestampType::LogAppend => stamp(header, &records, now),
        _ => Ok(ProducedBatch { header, bytes: records }),
    }
}

/// Checks that the bytes are one batch from end to end and have the size the topic allows, before anything is computed
/// over them.
fn frame(records: &[u8], max_message_bytes: usize) -> Result<BatchHeader, InvalidBatch> {
    if records.is_empty() {
        return Err(InvalidBatch::Empty);
    }
    let cut = |size_bytes| InvalidBatch::Cut { size_bytes, available: records.len() };
    let size_bytes = announced(records)?.ok_or(cut(HEAD_BYTES))?;
    let trailing = records.get(size_bytes..).ok_or(cut(size_bytes))?;
    // The beginning of a batch that is not whole is passed over, as Apache Kafka does.
    if announced(trailing)?.is_some_and(|size| size <= trailing.len()) {
        return Err(InvalidBatch::SecondBatch { trailing_bytes: trailing.len() });
    }
    if let Some([magic @ (0 | 1)]) = array_at::<1>(records, MAGIC_AT) {
        return Err(InvalidBatch::OldMagic { magic: i8::from_be_bytes([magic]) });
    }
    let header = read_fields(records).filter(|header| header.batch_length >= BATCH_LENGTH_MIN);
    let header = header.ok_or(InvalidBatch::Length { batch_length: announced_length(records).unwrap_or(0) })?;
    if header.base_offset != Offset::ZERO {
        return Err(InvalidBatch::BaseOffset { base_offset: header.base_offset.get() });
    }
    if size_bytes > max_message_bytes {
        return Err(InvalidBatch::TooLarge { size_bytes, max_message_bytes });
    }
    Ok(header)
}

/// The size of the batch that begins here, as its first bytes say; `None` where they are too few to say.
fn announced(bytes: &[u8]) -> Result<Option<usize>, InvalidBatch> {
    let Some(batch_length) = announced_length(bytes) else { return Ok(None) };
    if batch_length < ANY_LENGTH_MIN {
        return Err(InvalidBatch::Length { batch_length });
    }
    match array_at::<1>(bytes, MAGIC_AT) {
        None => Ok(None),
        Some([0..=2]) => Ok(usize::try_from(batch_length).ok().map(|length| length.saturating_add(LENGTH_EXCLUDES))),
        Some([magic]) => Err(InvalidBatch::UnknownMagic { magic: i8::from_be_bytes([magic]) }),
    }
}

fn announced_length(bytes: &[u8]) -> Option<i32> {
    array_at(bytes, BATCH_LENGTH_AT).map(i32::from_be_bytes)
}

/// The checks on header fields, once the CRC vouches for them.
fn check_fields(header: &BatchHeader, policy: &ProducePolicy, now: Timestamp) -> Result<Compression, InvalidBatch> {
    let BatchHeader { attributes, last_offset_delta, records_count, .. } = *header;
    if records_count <= 0 || last_offset_delta != records_count - 1 || records_count > records_max(header) {
        return Err(InvalidBatch::Count { records_count, last_offset_delta });
    }
    if attributes.is_control() {
        return Err(InvalidBatch::Control);
    }
    let BatchHeader { producer_id, producer_epoch, base_sequence, .. } = *header;
    if header.has_producer_id() {
        if producer_epoch < ProducerEpoch::new(0) || base_sequence < Sequence::new(0) {
            return Err(InvalidBatch::Producer { producer_id, producer_epoch, base_sequence });
        }
    } else if attributes.is_transactional() {
        return Err(InvalidBatch::TransactionWithoutProducer);
    }
    let id = attributes.compression_id();
    let codec = attributes.compression().ok_or(InvalidBatch::UnknownCodec { id })?;
    if codec == Compression::Zstd && policy.produce_version < ZSTD_PRODUCE_VERSION {
        return Err(InvalidBatch::CodecOfLaterVersion { codec, produce_version: policy.produce_version });
    }
    if attributes.timestamp_type() == TimestampType::LogAppend {
        return Err(InvalidBatch::LogAppendTime);
    }
    if policy.timestamp_type == TimestampType::Create {
        check_timestamps(header, policy, now)?;
    }
    Ok(codec)
}

/// More records than this cannot be in the batch: a count is no reason to take offsets that nothing stands for.
fn records_max(header: &BatchHeader) -> i32 {
    let payload = header.size_bytes().saturating_sub(HEADER_BYTES);
    let expanded = match header.attributes.compression() {
        Some(Compression::None) => payload,
        _ => payload.saturating_mul(EXPANSION_MAX),
    };
    i32::try_from(expanded / RECORD_BYTES_MIN).unwrap_or(i32::MAX)
}

/// The header bounds the timestamps from above. From below it gives the first record's, which producers send in order;
/// a record that goes back further within its batch is not seen.
fn check_timestamps(header: &BatchHeader, policy: &ProducePolicy, now: Timestamp) -> Result<(), InvalidBatch> {
    let millis = |limit: Duration| i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
    let latest = now.millis().saturating_add(millis(policy.timestamp_after_max));
    let earliest = now.millis().saturating_sub(millis(policy.timestamp_before_max));
    let BatchHeader { base_timestamp, max_timestamp, .. } = *header;
    for timestamp in [max_timestamp, base_timestamp] {
        let outside = timestamp.millis() > latest || timestamp.millis() < earliest;
        if timestamp != Timestamp::NONE && outside {
            return Err(InvalidBatch::Timestamp { timestamp, now });
        }
    }
    Ok(())
}

/// Walks the records: as many as the header says, each whole, with the offset that is its turn, and with a key where the
/// topic needs one.
fn check_records(batch: &[u8], policy: &ProducePolicy) -> Result<(), InvalidBatch> {
    let mut records = records(batch, &policy.caps)?;
    let mut index = 0;
    while let Some(record) = records.next_record()? {
        if policy.keys_required && record.key.is_null() {
            return Err(InvalidBatch::KeyMissing { index });
        }
        if record.offset.get() != i64::from(index) {
            return Err(InvalidBatch::OffsetDelta { index, offset_delta: record.offset.get() });
        }
        index = index.saturating_add(1);
    }
    Ok(())
}

/// The one rewrite of log append time: type, max timestamp and CRC, in a copy.
fn stamp(mut header: BatchHeader, batch: &[u8], now: Timestamp) -> Result<ProducedBatch, InvalidBatch> {
    header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppend);
    header.max_timestamp = now;
    let size_bytes = batch.len();
    let bytes = seal(&mut header, batch.to_vec())
        .ok_or(InvalidBatch::TooLarge { size_bytes, max_message_bytes: size_bytes })?;
    Ok(ProducedBatch { header, bytes })
}

/// The one rewrite of a forced codec: the records pass from decoder to encoder through a small buffer.
fn recompress(
    mut header: BatchHeader,
    batch: &[u8],
    codec: Compression,
    target: Compression,
    level: Option<i32>,
    policy: &ProducePolicy,
    now: Timestamp,
) -> Result<ProducedBatch, InvalidBatch> {
    let max_message_bytes = policy.max_message_bytes;
    let too_large = |size_bytes| InvalidBatch::TooLarge { size_bytes, max_message_bytes };
    let refused = |error: io::Error| {
        if error.get_ref().is_some_and(|source| source.is::<OutputFull>()) {
            return too_large(max_message_bytes.saturating_add(1));
        }
        InvalidBatch::Compression(error)
    };
    let payload = batch.get(HEADER_BYTES..).unwrap_or_default();
    let mut decoder = Decoder::new(codec, payload, &policy.caps).map_err(RecordsError::from)?;
    let mut encoder = Encoder::new(target, level, vec![0; HEADER_BYTES], max_message_bytes).map_err(refused)?;
    let mut buffer = [0; 8 * 1024];
    loop {
        let read = io::Read::read(&mut decoder, &mut buffer).map_err(RecordsError::from)?;
        if read == 0 {
            break;
        }
        encoder.write_all(buffer.get(..read).unwrap_or_default()).map_err(refused)?;
    }
    header.attributes = header.attributes.with_compression(target);
    if policy.timestamp_type == TimestampType::LogAppend {
        header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppend);
        header.max_timestamp = now;
    }
    let bytes = seal(&mut header, encoder.finish().map_err(refused)?).ok_or_else(|| too_large(LENGTH_EXCLUDES))?;
    Ok(ProducedBatch { header, bytes })
}

#[cfg(test)]
mod tests;
