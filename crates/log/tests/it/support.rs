//! A log in a directory, batches to put into it, and the check that reads everything back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chronik_log::fs::{Fs, MemFs, RealFs};
use chronik_log::{Checkpoint, Log, LogConfig, ReadBound, ReadError, Recovered};
use chronik_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicPartition};
use chronik_record::{BatchBuilder, BatchHeader, Compression, ProducedBatch, TimestampType};

pub(crate) const DIR: &str = "/data/wal/t/3";
pub(crate) const EPOCH: LeaderEpoch = LeaderEpoch::ZERO;

pub(crate) fn tp() -> TopicPartition {
    TopicPartition::new("t", 3)
}

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) fn o(offset: i64) -> Offset {
    Offset::new(offset)
}

/// Small segments and dense indexes, so that short tests cross their borders.
pub(crate) fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 2000,
        index_interval_bytes: 150,
        retention_ms: None,
        producer_id_expiration: Duration::from_secs(3600),
        ..LogConfig::default()
    }
}

/// A splitmix64 generator: a seed means the same test everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A batch of `count` records whose values carry `tag`, with timestamps `first_ms`, `first_ms + 1`, ...
pub(crate) fn batch_at(tag: u64, count: usize, first_ms: i64) -> ProducedBatch {
    let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, at(first_ms));
    for number in 0..count {
        let value = format!("value {tag} {number} {}", "x".repeat((tag % 61) as usize));
        builder.append(at(first_ms + number as i64), None, Some(value.as_bytes()), &[]);
    }
    builder.build().unwrap()
}

pub(crate) fn batch(tag: u64, count: usize) -> ProducedBatch {
    batch_at(tag, count, 1000 + tag as i64)
}

pub(crate) fn idempotent(producer: i64, epoch: i16, sequence: i32, count: usize) -> ProducedBatch {
    let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, at(1000)).producer(
        ProducerId::new(producer),
        ProducerEpoch::new(epoch),
        Sequence::new(sequence),
    );
    for number in 0..count {
        builder.append(at(1000 + number as i64), None, Some(b"idempotent"), &[]);
    }
    builder.build().unwrap()
}

/// An in-memory disk with the directories above the partition made durable.
pub(crate) fn disk() -> MemFs {
    let fs = MemFs::new();
    fs.create_dir_all(Path::new("/data/wal/t")).unwrap();
    fs.sync_all(Path::new("/")).unwrap();
    fs
}

pub(crate) fn create(fs: &MemFs, config: LogConfig) -> Log {
    Log::create(Arc::new(fs.clone()), PathBuf::from(DIR), tp(), config, true).unwrap()
}

pub(crate) fn open(fs: &MemFs, config: LogConfig, from: Option<Checkpoint>, clean: bool) -> (Log, Recovered) {
    let (log, recovered) =
        Log::open(Arc::new(fs.clone()), PathBuf::from(DIR), tp(), config, from, clean, at(5000)).unwrap();
    log.check_invariants();
    (log, recovered)
}

pub(crate) fn append(log: &mut Log, tag: u64, count: usize) -> Offset {
    log.append(&batch(tag, count), EPOCH, at(2000)).unwrap().base_offset
}

/// Both file systems, for tests that must hold on each. The directory lives as long as the second value.
pub(crate) fn both() -> Vec<(Arc<dyn Fs>, PathBuf, Option<tempfile::TempDir>)> {
    let real = tempfile::tempdir().unwrap();
    let dir = real.path().join("wal/t/3");
    vec![(Arc::new(disk()), PathBuf::from(DIR), None), (Arc::new(RealFs), dir, Some(real))]
}

/// Batches as they lie in the log: header and bytes.
pub(crate) type Batches = Vec<(BatchHeader, Vec<u8>)>;

/// Every readable batch from `from` to the log end, whole, in order: header and bytes. Damaged ranges are skipped and
/// returned; anything else that is not contiguous fails.
pub(crate) fn read_all(log: &Log, from: Offset, max_bytes: usize) -> (Batches, Vec<(Offset, Offset)>) {
    let reader = log.reader();
    let (mut batches, mut damaged) = (Vec::new(), Vec::new());
    let mut next = from;
    while next < log.log_end() {
        let slice = match reader.read(next, ReadBound::LogEnd, max_bytes, true) {
            Ok(slice) => slice,
            Err(ReadError::Damaged(damage)) => {
                assert!(damage.offset <= next && next < damage.offset_end, "{damage} does not explain {next}");
                damaged.push((next, damage.offset_end));
                next = damage.offset_end;
                continue;
            }
            Err(error) => panic!("cannot read {next}: {error}"),
        };
        assert!(slice.len > 0, "nothing at {next} of {:?}", reader.bounds());
        let bytes = slice.read().unwrap();
        let mut rest = bytes.as_slice();
        let mut first = true;
        while !rest.is_empty() {
            let header = BatchHeader::read(rest).unwrap();
            let (batch, after) = rest.split_at(header.size_bytes());
            assert!(chronik_record::crc_is_valid(batch));
            if first {
                assert_eq!(header.base_offset, slice.base_offset);
                assert!(header.base_offset <= next && next <= header.last_offset(), "{next} is not in the first batch");
            } else {
                assert_eq!(header.base_offset, next);
            }
            first = false;
            next = header.next_offset();
            batches.push((header, batch.to_vec()));
            rest = after;
        }
    }
    (batches, damaged)
}

/// The bytes a produced batch has in the log at an offset.
pub(crate) fn stored(batch: &ProducedBatch, base_offset: Offset, leader_epoch: LeaderEpoch) -> Vec<u8> {
    let mut bytes = chronik_record::prefix(base_offset, batch.header().batch_length, leader_epoch).to_vec();
    bytes.extend_from_slice(&batch.bytes()[bytes.len()..]);
    bytes
}
