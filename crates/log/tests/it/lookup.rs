//! Offsets by timestamp, in closed and active segments, against the obvious search.

use chronik_log::{Log, LogConfig, ReadBound};
use chronik_model::{LeaderEpoch, Offset};
use chronik_record::{BatchBuilder, Compression, TimestampType};

use crate::support::*;

/// Appends batches with random timestamps; returns every record's timestamp, by offset.
fn fill(log: &mut Log, random: &mut Random, batches: u64, spread: u64) -> Vec<i64> {
    let mut stamps = Vec::new();
    for number in 0..batches {
        let base = (number * 10 + random.below(spread)) as i64;
        let codec = [Compression::None, Compression::Lz4][random.below(2) as usize];
        let mut builder = BatchBuilder::new(codec, TimestampType::Create, at(base));
        for _ in 0..1 + random.below(5) {
            let stamp = base + random.below(spread) as i64;
            builder.append(at(stamp), Some(b"k"), Some(b"some value"), &[]);
            stamps.push(stamp);
        }
        log.append(&builder.build().unwrap(), LeaderEpoch::new((number / 10) as i32), at(0)).unwrap();
    }
    stamps
}

fn check(log: &Log, stamps: &[i64], log_start: usize, context: &str) {
    let reader = log.reader();
    let newest = stamps.iter().copied().max().unwrap();
    for wanted in -1..newest + 3 {
        let found = reader.offset_for_timestamp(at(wanted), ReadBound::LogEnd).unwrap();
        let expected = stamps.iter().enumerate().skip(log_start).find(|(_, stamp)| **stamp >= wanted);
        assert_eq!(
            found.map(|found| (found.offset.get(), found.timestamp.millis())),
            expected.map(|(offset, stamp)| (offset as i64, *stamp)),
            "{context}: timestamp {wanted}"
        );
        if let Some(found) = found {
            assert_eq!(found.leader_epoch, reader.epoch_of(found.offset));
        }
    }
    let first_newest = stamps.iter().position(|stamp| *stamp == newest).unwrap();
    if first_newest >= log_start {
        let found = reader.max_timestamp().unwrap().unwrap();
        assert_eq!((found.offset, found.timestamp), (o(first_newest as i64), at(newest)), "{context}");
    }
}

#[test]
fn a_timestamp_finds_the_first_record_at_or_after_it() {
    for seed in 0..4 {
        for spread in [1, 15, 200] {
            let mut random = Random(seed);
            let fs = disk();
            let mut log = create(&fs, LogConfig { index_interval_bytes: 100, ..small() });
            let stamps = fill(&mut log, &mut random, 40, spread);
            let context = format!("seed {seed} spread {spread}");
            check(&log, &stamps, 0, &context);
            log.set_high_watermark(log.log_end());
            log.delete_records_before(o(30)).unwrap();
            check(&log, &stamps, 30, &context);
            let checkpoint = log.close_cleanly().unwrap();
            drop(log);
            let (log, _) = open(&fs, small(), Some(checkpoint), true);
            check(&log, &stamps, 30, &format!("{context} reopened"));
        }
    }
}

#[test]
fn records_behind_the_bound_are_not_found() {
    let fs = disk();
    let mut log = create(&fs, small());
    log.append(&batch_at(1, 2, 100), EPOCH, at(0)).unwrap();
    log.append(&batch_at(2, 2, 200), EPOCH, at(0)).unwrap();
    let reader = log.reader();
    assert_eq!(reader.offset_for_timestamp(at(50), ReadBound::HighWatermark).unwrap(), None);
    log.set_high_watermark(o(2));
    let found = reader.offset_for_timestamp(at(101), ReadBound::HighWatermark).unwrap().unwrap();
    assert_eq!((found.offset, found.timestamp), (o(1), at(101)));
    assert_eq!(reader.offset_for_timestamp(at(200), ReadBound::HighWatermark).unwrap(), None);
    assert_eq!(reader.offset_for_timestamp(at(200), ReadBound::LogEnd).unwrap().unwrap().offset, o(2));
}

#[test]
fn an_empty_log_has_no_timestamps() {
    let fs = disk();
    let log = create(&fs, small());
    assert_eq!(log.reader().offset_for_timestamp(at(0), ReadBound::LogEnd).unwrap(), None);
    assert_eq!(log.reader().max_timestamp().unwrap(), None);
    assert_eq!(log.reader().latest_epoch(), None);
}

#[test]
fn log_append_time_is_the_time_of_every_record() {
    let fs = disk();
    let mut log = create(&fs, small());
    let mut builder = BatchBuilder::new(Compression::None, TimestampType::LogAppend, at(777));
    builder.append(at(777), None, Some(b"a"), &[]);
    builder.append(at(777), None, Some(b"b"), &[]);
    let batch = builder.build().unwrap();
    let appended = log.append(&batch, EPOCH, at(0)).unwrap();
    assert_eq!(appended.log_append_time, batch.header().max_timestamp);
    let stamp = batch.header().max_timestamp;
    let found = log.reader().offset_for_timestamp(stamp, ReadBound::LogEnd).unwrap().unwrap();
    assert_eq!((found.offset, found.timestamp), (Offset::ZERO, stamp));
}
