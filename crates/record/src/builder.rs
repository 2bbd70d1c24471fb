//! Building batches: for coordinators, markers, the command line and tests. The produce path never does.

use std::io::{self, Write};

use bytes::Bytes;
use chronik_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::compression::Encoder;
use crate::header::{HEADER_BYTES, LENGTH_EXCLUDES, MAGIC};
use crate::{Attributes, BatchHeader, Compression, ProducedBatch, TimestampType, crc, record};

/// The records appended do not make a batch.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No record was appended.
    #[error("a record batch holds at least one record")]
    Empty,
    /// A length, count or timestamp delta does not fit its field.
    #[error("record {index} does not fit a record batch")]
    Range {
        /// The record's place, counted from 0.
        index: i32,
    },
    /// The codec failed.
    #[error("records do not compress: {0}")]
    Compression(#[from] io::Error),
}

/// Collects records into one batch. The batch begins at offset 0 with no leader epoch, as a producer sends it; the log
/// assigns both.
#[derive(Debug)]
pub struct BatchBuilder {
    attributes: Attributes,
    compression: Compression,
    level: Option<i32>,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: Sequence,
    records: Vec<u8>,
    records_count: i32,
    /// The first record that did not fit.
    misfit: Option<i32>,
}

impl BatchBuilder {
    /// An empty batch. Record timestamps are stored relative to `base_timestamp`; with log append time it is the append
    /// time of them all.
    pub fn new(compression: Compression, timestamp_type: TimestampType, base_timestamp: Timestamp) -> Self {
        Self {
            attributes: Attributes::new(compression, timestamp_type),
            compression,
            level: None,
            base_timestamp,
            max_timestamp: match timestamp_type {
                TimestampType::Create => Timestamp::NONE,
                TimestampType::LogAppend => base_timestamp,
            },
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
            records: Vec::new(),
            records_count: 0,
            misfit: None,
        }
    }

    /// Makes room for `bytes` of records, to be filled without growing.
    #[must_use]
    pub fn reserve(mut self, bytes: usize) -> Self {
        self.records.reserve(bytes);
        self
    }

    /// Compresses at this level of the codec.
    #[must_use]
    pub fn level(mut self, level: i32) -> Self {
        self.level = Some(level);
        self
    }

    /// Makes it a batch of an idempotent producer.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: Sequence) -> Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Makes the batch part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.attributes = self.attributes.with_transactional();
        self
    }

    /// Makes it a control batch.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.attributes = self.attributes.with_control();
        self
    }

    /// Appends a record. One that does not fit makes [`build`](Self::build) fail.
    pub fn append(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        let index = self.records_count;
        let fitted = self.misfit.is_none()
            && index < i32::MAX
            && timestamp
                .millis()
                .checked_sub(self.base_timestamp.millis())
                .and_then(|delta| record::put(&mut self.records, delta, index, key, value, headers))
                .is_some();
        if !fitted {
            self.misfit.get_or_insert(index);
            return;
        }
        if self.attributes.timestamp_type() == TimestampType::Create {
            self.max_timestamp = self.max_timestamp.max(timestamp);
        }
        self.records_count += 1;
    }

    /// How many records have been appended.
    pub fn records_count(&self) -> usize {
        usize::try_from(self.records_count).unwrap_or(0)
    }

    /// Bytes of the batch if it were built now without compression.
    pub fn size_bytes(&self) -> usize {
        HEADER_BYTES.saturating_add(self.records.len())
    }

    /// Compresses, closes and checksums the batch.
    pub fn build(self) -> Result<ProducedBatch, BuildError> {
        if let Some(index) = self.misfit {
            return Err(BuildError::Range { index });
        }
        if self.records_count == 0 {
            return Err(BuildError::Empty);
        }
        let mut header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: 0,
            partition_leader_epoch: LeaderEpoch::NONE,
            magic: MAGIC,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: self.records_count.saturating_sub(1),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            records_count: self.records_count,
        };
        // Compressed records seldom take more room than they lie in.
        let mut out = Vec::with_capacity(self.size_bytes());
        out.resize(HEADER_BYTES, 0);
        let mut encoder = Encoder::new(self.compression, self.level, out, usize::MAX)?;
        encoder.write_all(&self.records)?;
        let bytes = seal(&mut header, encoder.finish()?).ok_or(BuildError::Range { index: self.records_count })?;
        Ok(ProducedBatch::new(header, bytes))
    }
}

/// Writes `header` over the first bytes of `batch`, with the length and CRC its bytes have. `None` where the batch is too
/// large for its length field.
pub(crate) fn seal(header: &mut BatchHeader, mut batch: Vec<u8>) -> Option<Bytes> {
    header.batch_length = i32::try_from(batch.len().checked_sub(LENGTH_EXCLUDES)?).ok()?;
    *batch.first_chunk_mut()? = header.to_bytes();
    header.crc = crc::compute(batch.get(crate::header::ATTRIBUTES_AT..)?);
    *batch.first_chunk_mut()? = header.to_bytes();
    Some(Bytes::from(batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_batch_is_refused() {
        let builder = BatchBuilder::new(Compression::None, TimestampType::Create, Timestamp::from_millis(1));
        assert!(matches!(builder.build(), Err(BuildError::Empty)));
    }

    #[test]
    fn record_out_of_the_timestamp_range_makes_the_build_fail() {
        let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, Timestamp::from_millis(i64::MIN));
        builder.append(Timestamp::from_millis(i64::MIN), None, None, &[]);
        builder.append(Timestamp::from_millis(i64::MAX), None, None, &[]);
        builder.append(Timestamp::from_millis(i64::MIN), None, None, &[]);
        assert!(matches!(builder.build(), Err(BuildError::Range { index: 1 })));
    }

    #[test]
    fn header_says_what_was_appended() {
        let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, Timestamp::from_millis(100))
            .producer(ProducerId::new(9), ProducerEpoch::new(1), Sequence::new(5))
            .transactional();
        builder.append(Timestamp::from_millis(300), Some(b"k"), None, &[]);
        builder.append(Timestamp::from_millis(200), None, Some(b"v"), &[("h", None)]);
        let size_bytes = builder.size_bytes();
        let batch = builder.build().unwrap();
        assert_eq!(batch.bytes().len(), size_bytes);
        let header = batch.header();
        assert_eq!(header, &BatchHeader::read(batch.bytes()).unwrap());
        assert_eq!(header.records_count, 2);
        assert_eq!(header.last_sequence(), Sequence::new(6));
        assert_eq!(header.max_timestamp, Timestamp::from_millis(300));
        assert!(header.attributes.is_transactional());
        assert!(crate::crc_is_valid(batch.bytes()));
    }
}
