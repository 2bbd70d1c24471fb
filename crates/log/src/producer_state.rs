//! Idempotent producers: the last batches of each producer id, the rules that keep them in order and free of duplicates,
//! open transactions, and the snapshot file.
//!
//! State moves only by [`Producers::note`], after a batch is in the log, so a failed append leaves it untouched and
//! recovery rebuilds it by noting the same headers again. The rules are Kafka's for batches of clients (KIP-98, KIP-360).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chronik_model::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use chronik_record::BatchHeader;

/// How many batches of a producer are remembered: the requests a client may have in flight.
const BATCHES_MAX: usize = 5;
const SNAPSHOT_MAGIC: &[u8; 8] = b"CHRKPS01";

/// A remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) base_sequence: Sequence,
    pub(crate) last_sequence: Sequence,
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) timestamp: Timestamp,
}

/// What the log knows of one producer id, as DescribeProducers shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerEntry {
    /// The producer id.
    pub producer_id: ProducerId,
    /// Its latest epoch.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of its last record; none where its batches are forgotten.
    pub last_sequence: Sequence,
    /// Timestamp of its last batch.
    pub last_timestamp: Timestamp,
    /// Epoch of the coordinator that wrote its last transaction marker; -1 for none.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub current_txn_start: Option<Offset>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    last_timestamp: Timestamp,
    coordinator_epoch: i32,
    txn_start: Option<Offset>,
    batches: VecDeque<Batch>,
}

/// Why a batch of a producer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    OutOfOrderSequence { expected: Sequence, found: Sequence },
    InvalidProducerEpoch { current: ProducerEpoch, found: ProducerEpoch },
    InvalidTxnState,
}

/// The producers of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
    /// Open transactions and those whose end marker is above the high watermark: first offset to marker offset.
    transactions: BTreeMap<Offset, Option<Offset>>,
}

impl Producers {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether a client's batch may be appended; `Some` is the batch it repeats.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Option<Batch>, Refused> {
        if header.producer_id <= ProducerId::NONE {
            return Ok(None);
        }
        let Some(producer) = self.by_id.get(&header.producer_id) else {
            // Nothing is known, perhaps because it expired: any sequence begins.
            return Ok(None);
        };
        let found = header.base_sequence;
        if header.producer_epoch < producer.epoch {
            return Err(Refused::InvalidProducerEpoch { current: producer.epoch, found: header.producer_epoch });
        }
        if header.attributes.is_control() {
            return Ok(None);
        }
        if header.producer_epoch > producer.epoch {
            if found != Sequence::new(0) {
                return Err(Refused::OutOfOrderSequence { expected: Sequence::new(0), found });
            }
        } else {
            let last_sequence = header.last_sequence();
            let repeated = producer
                .batches
                .iter()
                .find(|batch| batch.base_sequence == found && batch.last_sequence == last_sequence);
            if let Some(batch) = repeated {
                return Ok(Some(*batch));
            }
            let expected = match producer.batches.back() {
                Some(last) => last.last_sequence.advanced_by(1),
                // Only a marker was seen in this epoch: the first batch begins at 0.
                None => Sequence::new(0),
            };
            if found != expected {
                return Err(Refused::OutOfOrderSequence { expected, found });
            }
        }
        if producer.txn_start.is_some() && !header.attributes.is_transactional() {
            return Err(Refused::InvalidTxnState);
        }
        Ok(None)
    }

    /// Takes a batch that is in the log into the state.
    pub(crate) fn note(&mut self, header: &BatchHeader) {
        if header.producer_id <= ProducerId::NONE {
            return;
        }
        let producer = self.by_id.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            last_timestamp: header.max_timestamp,
            coordinator_epoch: -1,
            txn_start: None,
            batches: VecDeque::new(),
        });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        producer.last_timestamp = header.max_timestamp;
        if header.attributes.is_control() {
            if let Some(start) = producer.txn_start.take() {
                self.transactions.insert(start, Some(header.last_offset()));
            }
            return;
        }
        if producer.batches.len() == BATCHES_MAX {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Batch {
            base_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            timestamp: header.max_timestamp,
        });
        if header.attributes.is_transactional() && producer.txn_start.is_none() {
            producer.txn_start = Some(header.base_offset);
            self.transactions.insert(header.base_offset, None);
        }
    }

    /// The first offset of a transaction that is open or whose marker is not below the high watermark.
    pub(crate) fn first_unstable(&mut self, high_watermark: Offset) -> Option<Offset> {
        while let Some(first) = self.transactions.first_entry() {
            match first.get() {
                Some(marker) if *marker < high_watermark => first.remove(),
                _ => return Some(*first.key()),
            };
        }
        None
    }

    /// Forgets producers that wrote nothing for `expiration`; those with an open transaction stay.
    pub(crate) fn expire(&mut self, now: Timestamp, expiration: Duration) {
        let expiration_ms = i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX);
        self.by_id.retain(|_, producer| {
            producer.txn_start.is_some()
                || now.millis().saturating_sub(producer.last_timestamp.millis()) < expiration_ms
        });
    }

    pub(crate) fn entries(&self) -> Vec<ProducerEntry> {
        let entry = |(producer_id, producer): (&ProducerId, &Producer)| ProducerEntry {
            producer_id: *producer_id,
            producer_epoch: producer.epoch,
            last_sequence: producer.batches.back().map_or(Sequence::NONE, |batch| batch.last_sequence),
            last_timestamp: producer.last_timestamp,
            coordinator_epoch: producer.coordinator_epoch,
            current_txn_start: producer.txn_start,
        };
        self.by_id.iter().map(entry).collect()
    }

    /// The snapshot file's bytes: the state before `offset`.
    pub(crate) fn encode(&self, offset: Offset) -> Vec<u8> {
        let mut bytes = SNAPSHOT_MAGIC.to_vec();
        bytes.extend(offset.get().to_be_bytes());
        bytes.extend(u32::try_from(self.by_id.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (producer_id, producer) in &self.by_id {
            bytes.extend(producer_id.get().to_be_bytes());
            bytes.extend(producer.epoch.get().to_be_bytes());
            bytes.extend(producer.last_timestamp.millis().to_be_bytes());
            bytes.extend(producer.coordinator_epoch.to_be_bytes());
            bytes.extend(producer.txn_start.map_or(-1, Offset::get).to_be_bytes());
            bytes.push(u8::try_from(producer.batches.len()).unwrap_or(u8::MAX));
            for batch in &producer.batches {
                bytes.extend(batch.base_sequence.get().to_be_bytes());
                bytes.extend(batch.last_sequence.get().to_be_bytes());
                bytes.extend(batch.base_offset.get().to_be_bytes());
                bytes.extend(batch.last_offset.get().to_be_bytes());
                bytes.extend(batch.timestamp.millis().to_be_bytes());
            }
        }
        bytes.extend(u32::try_from(self.transactions.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (start, marker) in &self.transactions {
            bytes.extend(start.get().to_be_bytes());
            bytes.extend(marker.map_or(-1, Offset::get).to_be_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(crc.to_be_bytes());
        bytes
    }

    /// Reads a snapshot taken at `offset`; `None` where the bytes are anything else.
    pub(crate) fn decode(bytes: &[u8], offset: Offset) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
            return None;
        }
        let mut rest = Cursor(body.strip_prefix(SNAPSHOT_MAGIC)?);
        if rest.i64()? != offset.get() {
            return None;
        }
        let mut producers = Self::default();
        for _ in 0..rest.u32()? {
            let producer_id = ProducerId::new(rest.i64()?);
            let mut producer = Producer {
                epoch: ProducerEpoch::new(i16::from_be_bytes(rest.take()?)),
                last_timestamp: Timestamp::from_millis(rest.i64()?),
                coordinator_epoch: rest.i32()?,
                txn_start: rest.offset()?,
                batches: VecDeque::new(),
            };
            let [batches] = rest.take()?;
            if usize::from(batches) > BATCHES_MAX {
                return None;
            }
            for _ in 0..batches {
                producer.batches.push_back(Batch {
                    base_sequence: Sequence::new(rest.i32()?),
                    last_sequence: Sequence::new(rest.i32()?),
                    base_offset: Offset::new(rest.i64()?),
                    last_offset: Offset::new(rest.i64()?),
                    timestamp: Timestamp::from_millis(rest.i64()?),
                });
            }
            producers.by_id.insert(producer_id, producer);
        }
        for _ in 0..rest.u32()? {
            let start = Offset::new(rest.i64()?);
            producers.transactions.insert(start, rest.offset()?);
        }
        rest.0.is_empty().then_some(producers)
    }
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// An offset where -1 stands for none.
    fn offset(&mut self) -> Option<Option<Offset>> {
        self.i64().map(|raw| (raw >= 0).then(|| Offset::new(raw)))
    }
}

#[cfg(test)]
mod tests;
