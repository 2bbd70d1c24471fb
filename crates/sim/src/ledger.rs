//! What stands in one replica's log, batch by batch, kept up to date by reading what is new.
//!
//! The observer's own copy: it is read from the files through the log's reader and never given back to a core. A batch is
//! known by its offsets, its leader epoch and its checksum, which covers everything a producer sent.

use std::collections::BTreeMap;
use std::ops::Bound;

use chronik_log::{LogReader, ReadBound, ReadError};
use chronik_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use chronik_record::BatchHeader;

/// One batch of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset after its last record, exclusive.
    pub next_offset: Offset,
    /// The epoch of the leader that wrote it.
    pub leader_epoch: LeaderEpoch,
    /// Its checksum.
    pub crc: u32,
    /// Its length.
    pub size_bytes: usize,
    /// Its producer's id, epoch and first sequence, where it has one.
    pub producer: Option<(ProducerId, ProducerEpoch, Sequence)>,
}

impl Batch {
    /// What a batch's header says.
    pub fn of(header: &BatchHeader) -> Self {
        let producer = (header.producer_id, header.producer_epoch, header.base_sequence);
        Self {
            base_offset: header.base_offset,
            next_offset: header.next_offset(),
            leader_epoch: header.partition_leader_epoch,
            crc: header.crc,
            size_bytes: header.size_bytes(),
            producer: header.has_producer_id().then_some(producer),
        }
    }
}

/// What [`Ledger::refresh`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Batches that were there and are not any more, from the end.
    pub cut: Vec<Batch>,
    /// Batches that were not there.
    pub added: Vec<Batch>,
}

/// The batches of one log.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    batches: BTreeMap<Offset, Batch>,
    log_end: Offset,
    epochs: Vec<(LeaderEpoch, Offset)>,
}

impl Ledger {
    /// A ledger of these batches, for tests of checkers.
    pub fn of(batches: impl IntoIterator<Item = Batch>) -> Self {
        let batches: BTreeMap<_, _> = batches.into_iter().map(|batch| (batch.base_offset, batch)).collect();
        let log_end = batches.values().next_back().map_or(Offset::ZERO, |batch| batch.next_offset);
        Self { batches, log_end, epochs: Vec::new() }
    }

    /// Takes over what changed in the log. Batches that retention removed stay known.
    pub fn refresh(&mut self, reader: &LogReader, epochs: &[(LeaderEpoch, Offset)]) -> Result<News, ReadError> {
        let mut news = News::default();
        let bounds = reader.bounds();
        // A tail that was cut and written again within one event shows in the leader epochs.
        let from = match epochs.starts_with(&self.epochs) {
            true => self.log_end.min(bounds.log_end).max(bounds.log_start),
            false => bounds.log_start,
        };
        let mut cut: Vec<Batch> = self.batches.split_off(&from).into_values().collect();
        // A log start can outlive the batch it lies in.
        if self.batches.values().next_back().is_some_and(|last| last.next_offset > bounds.log_end) {
            cut.extend(self.batches.pop_last().map(|(_, last)| last));
        }
        let mut at = from;
        while at < bounds.log_end {
            let slice = match reader.read(at, ReadBound::LogEnd, 1 << 20, true) {
                // Known damage is not a cut: what was there is missing, and nothing else is in its place.
                Err(ReadError::Damaged(damage)) => {
                    let (kept, rest) = cut.into_iter().partition(|batch| batch.base_offset < damage.offset_end);
                    cut = rest;
                    let kept: Vec<Batch> = kept;
                    self.batches.extend(kept.into_iter().map(|batch| (batch.base_offset, batch)));
                    at = damage.offset_end;
                    continue;
                }
                Ok(slice) => slice,
                // What is not known to have changed stays known.
                Err(error) => {
                    self.batches.extend(cut.into_iter().map(|batch| (batch.base_offset, batch)));
                    return Err(error);
                }
            };
            let bytes = slice.read().map_err(|source| ReadError::Io { file: "a slice".into(), source })?;
            let mut rest = bytes.as_slice();
            while let Ok(header) = BatchHeader::read(rest) {
                let batch = Batch::of(&header);
                rest = rest.get(header.size_bytes()..).unwrap_or_default();
                at = batch.next_offset;
                self.batches.insert(batch.base_offset, batch);
                match cut.iter().position(|was| *was == batch) {
                    Some(number) => drop(cut.remove(number)),
                    None => news.added.push(batch),
                }
            }
            if slice.len == 0 {
                break;
            }
        }
        news.cut = cut;
        self.log_end = bounds.log_end;
        self.epochs = epochs.to_vec();
        Ok(news)
    }

    /// Log end as of the last refresh, exclusive.
    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    /// The batch that begins at an offset.
    pub fn at(&self, base_offset: Offset) -> Option<&Batch> {
        self.batches.get(&base_offset)
    }

    /// The last batch that begins before an offset.
    pub fn before(&self, offset: Offset) -> Option<&Batch> {
        self.batches.range(..offset).next_back().map(|(_, batch)| batch)
    }

    /// Batches that begin in `[from, to)`.
    pub fn range(&self, from: Offset, to: Offset) -> impl Iterator<Item = &Batch> {
        let from = from.min(to);
        self.batches.range((Bound::Included(from), Bound::Excluded(to))).map(|(_, batch)| batch)
    }

    /// Every batch.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Batch> {
        self.batches.values()
    }
}
