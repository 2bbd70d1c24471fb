//! Bytes become a segment and its derived files. Opening the log must not panic; what it then serves is contiguous, sound
//! and the same after another opening; appending goes on where it ends.
//!
//! Input: flags, the lengths of offset index, time index and leader-epoch file (two bytes each), their bytes, the segment.

#![no_main]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_log::fs::{Fs, MemFs, OpenMode};
use chronik_log::{AppendError, Log, LogConfig, ReadBound, ReadError, dump};
use chronik_model::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use chronik_record::{BatchBuilder, BatchHeader, Compression, TimestampType, crc_is_valid};
use libfuzzer_sys::fuzz_target;

const DIR: &str = "/t/0";
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Gives what looks like a chain of batches the magic, the checksums and, on request, the offsets it needs to be taken for
/// one: otherwise no input would come past the first batch.
fn completed(segment: &mut [u8], offsets: bool) {
    let (mut position, mut expected) = (0, 0_i64);
    while let Some(batch) = segment.get_mut(position..).filter(|rest| rest.len() >= 61) {
        let length = i32::from_be_bytes([batch[8], batch[9], batch[10], batch[11]]);
        let Ok(size) = usize::try_from(i64::from(length) + 12) else { return };
        if size < 61 || size > batch.len() {
            return;
        }
        let batch = &mut batch[..size];
        batch[16] = 2;
        if offsets {
            batch[..8].copy_from_slice(&expected.to_be_bytes());
            let delta = i32::from_be_bytes([batch[23], batch[24], batch[25], batch[26]]);
            expected = expected.saturating_add(i64::from(delta.max(0))).saturating_add(1);
        }
        let crc = crc32c::crc32c(&batch[21..]).to_be_bytes();
        batch[17..21].copy_from_slice(&crc);
        position += size;
    }
}

fn open(fs: &MemFs) -> Option<Log> {
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    let config = LogConfig { segment_bytes: 1 << 20, index_interval_bytes: 100, ..LogConfig::default() };
    let opened = Log::open(fs, PathBuf::from(DIR), TopicPartition::new("t", 0), config, None, false, NOW);
    opened.ok().map(|(log, _)| log)
}

/// Every batch that is served, by base offset.
fn served(log: &Log) -> Vec<(Offset, Vec<u8>)> {
    let (reader, mut batches, mut next) = (log.reader(), Vec::new(), log.log_start());
    while next < log.log_end() {
        let slice = match reader.read(next, ReadBound::LogEnd, 500, true) {
            Ok(slice) => slice,
            Err(ReadError::Damaged(damage)) => {
                assert!(damage.offset_end > next, "{damage} does not lead on from {next}");
                next = damage.offset_end;
                continue;
            }
            Err(error) => panic!("cannot read {next}: {error}"),
        };
        assert!(slice.len > 0, "nothing at {next}");
        let bytes = slice.read().unwrap();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let header = BatchHeader::read(rest).unwrap();
            let (batch, after) = rest.split_at(header.size_bytes());
            assert!(crc_is_valid(batch));
            assert_eq!(header.base_offset, next);
            next = header.next_offset();
            batches.push((header.base_offset, batch.to_vec()));
            rest = after;
        }
    }
    batches
}

fuzz_target!(|input: &[u8]| {
    let Some((&[flags, a, b, c, d, e, f], rest)) = input.split_first_chunk::<7>() else { return };
    let fs = MemFs::new();
    fs.create_dir_all(Path::new(DIR)).unwrap();
    let mut rest = rest;
    let derived = [("wal_0_0.index", [a, b]), ("wal_0_0.timeindex", [c, d]), ("leader-epoch-checkpoint", [e, f])];
    for (name, len) in derived {
        let (bytes, after) = rest.split_at(usize::from(u16::from_be_bytes(len)).min(rest.len()));
        rest = after;
        if !bytes.is_empty() {
            let file = fs.open(&Path::new(DIR).join(name), OpenMode::Create).unwrap();
            file.write_all_at(bytes, 0).unwrap();
        }
    }
    let mut segment = rest.to_vec();
    if flags & 1 != 0 {
        completed(&mut segment, flags & 2 != 0);
    }
    let path = Path::new(DIR).join("wal_0_0.log");
    fs.open(&path, OpenMode::Create).unwrap().write_all_at(&segment, 0).unwrap();
    let _ = dump::walk(&fs, &path, |_| {});

    let Some(mut log) = open(&fs) else { return };
    log.check_invariants();
    let before = served(&log);
    for wanted in [-1, 0, 1000, i64::MAX] {
        let _ = log.reader().offset_for_timestamp(Timestamp::from_millis(wanted), ReadBound::LogEnd);
    }
    let _ = log.reader().max_timestamp();

    let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, NOW);
    builder.append(NOW, None, Some(b"v"), &[]);
    let end = log.log_end();
    let leader_epoch = log.reader().latest_epoch().unwrap_or(LeaderEpoch::ZERO);
    match log.append(&builder.build().unwrap(), leader_epoch, NOW) {
        Ok(appended) => assert_eq!(appended.base_offset, end),
        Err(error) => {
            assert!(matches!(error, AppendError::OffsetsExhausted { .. }), "{error}");
            return;
        }
    }
    drop(log);
    let again = served(&open(&fs).unwrap());
    assert_eq!(again.len(), before.len() + 1);
    assert!(again.starts_with(&before));
    assert_eq!(again.last().unwrap().0, end);
});
