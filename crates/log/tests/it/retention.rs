//! What goes by time, by size and by request, and what never goes.

use std::time::Duration;

use chronik_log::fs::{Fault, Fs};
use chronik_log::{Log, LogConfig, LogError};
use chronik_model::Offset;

use crate::support::*;

fn filled(config: LogConfig) -> (chronik_log::fs::MemFs, Log) {
    let fs = disk();
    let mut log = create(&fs, config);
    for tag in 0..100 {
        log.append(&batch_at(tag, 2, 1000 + tag as i64 * 10), EPOCH, at(0)).unwrap();
    }
    (fs, log)
}

#[test]
fn time_removes_whole_segments_whose_newest_record_is_too_old() {
    let (_, mut log) = filled(LogConfig { retention_ms: Some(Duration::from_millis(500)), ..small() });
    log.set_high_watermark(log.log_end());
    let before = log.segments_count();
    let deleted = log.apply_retention(at(2000)).unwrap();
    assert!(!deleted.is_empty() && deleted.len() < before);
    let first = read_all(&log, log.log_start(), 1 << 20).0;
    assert_eq!(first[0].0.base_offset, log.log_start());
    // Nothing younger than the limit went, and the first segment left has a record within it.
    assert!(log.log_start() <= o(100));
    assert!(log.apply_retention(at(2000)).unwrap().is_empty());
}

#[test]
fn time_removes_the_active_segment_after_rolling_it() {
    let (fs, mut log) = filled(LogConfig { retention_ms: Some(Duration::from_millis(500)), ..small() });
    log.set_high_watermark(log.log_end());
    log.apply_retention(at(1_000_000)).unwrap();
    assert_eq!((log.log_start(), log.log_end(), log.segments_count()), (o(200), o(200), 1));
    assert_eq!(log.size_bytes(), 0);
    assert!(log.apply_retention(at(2_000_000)).unwrap().is_empty());
    assert_eq!(append(&mut log, 1, 1), o(200));
    let names: Vec<_> = fs.read_dir(std::path::Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names.iter().filter(|name| name.ends_with(".log")).count(), 1, "{names:?}");
}

#[test]
fn size_keeps_at_least_what_is_configured() {
    let (_, mut log) = filled(LogConfig { retention_bytes: Some(5000), ..small() });
    log.set_high_watermark(log.log_end());
    let before = log.size_bytes();
    let deleted = log.apply_retention(at(0)).unwrap();
    let gone: u64 = deleted.iter().map(|segment| segment.size_bytes).sum();
    assert_eq!(before - gone, log.size_bytes());
    assert!(log.size_bytes() >= 5000 && log.size_bytes() < 5000 + 2000, "{}", log.size_bytes());
}

#[test]
fn nothing_above_the_high_watermark_goes() {
    let (_, mut log) = filled(LogConfig { retention_bytes: Some(0), retention_ms: Some(Duration::ZERO), ..small() });
    assert!(log.apply_retention(at(1_000_000)).unwrap().is_empty());
    log.set_high_watermark(o(90));
    log.apply_retention(at(1_000_000)).unwrap();
    assert!(log.log_start() <= o(90) && log.log_start() > Offset::ZERO);
}

#[test]
fn without_the_delete_policy_only_what_lies_below_the_log_start_goes() {
    let config = LogConfig {
        retention_bytes: Some(0),
        retention_ms: Some(Duration::ZERO),
        delete_on_retention: false,
        ..small()
    };
    let (_, mut log) = filled(config);
    log.set_high_watermark(log.log_end());
    assert!(log.apply_retention(at(1_000_000)).unwrap().is_empty());
    log.delete_records_before(o(101)).unwrap();
    assert!(!log.apply_retention(at(0)).unwrap().is_empty());
    assert_eq!(log.log_start(), o(101));
    assert_eq!(read_all(&log, o(101), 1 << 20).0[0].0.base_offset, o(100));
}

#[test]
fn deleted_records_stay_deleted_once_a_checkpoint_has_them() {
    let (fs, mut log) = filled(small());
    log.flush().unwrap();
    log.set_high_watermark(o(150));
    assert!(matches!(log.delete_records_before(o(151)), Err(LogError::OffsetOutOfRange { .. })));
    assert_eq!(log.delete_records_before(o(150)).unwrap(), o(150));
    assert_eq!(log.delete_records_before(o(20)).unwrap(), o(150));
    let checkpoint = log.checkpoint().unwrap();
    drop(log);
    for seed in 0..10 {
        let fs = fs.duplicate();
        fs.crash(seed);
        let (log, _) = open(&fs, small(), Some(checkpoint), false);
        assert_eq!((log.log_start(), log.high_watermark(), log.log_end()), (o(150), o(150), o(200)));
    }
}

#[test]
fn a_crash_in_the_middle_of_a_deletion_leaves_no_hole() {
    for call in 0..40 {
        for seed in 0..5 {
            let (fs, mut log) = filled(small());
            log.flush().unwrap();
            log.set_high_watermark(o(200));
            let checkpoint = log.checkpoint().unwrap();
            log.delete_records_before(o(160)).unwrap();
            fs.fail_at(call, Fault::PowerCut);
            let _ = log.apply_retention(at(0));
            drop(log);
            fs.crash(seed);
            let (log, recovered) = open(&fs, small(), Some(checkpoint), false);
            let (batches, damaged) = read_all(&log, log.log_start(), 1 << 20);
            assert!(log.log_start() <= o(160) && log.log_end() == o(200), "call {call}: {recovered:?}");
            assert!(damaged.is_empty() && recovered.damage.is_empty(), "call {call} seed {seed}: {recovered:?}");
            assert_eq!(batches.last().unwrap().0.next_offset(), o(200));
        }
    }
}

#[test]
fn a_time_index_that_a_power_cut_left_short_makes_nothing_older_than_it_is() {
    let config = LogConfig {
        segment_bytes: 8 << 20,
        index_interval_bytes: 150,
        retention_ms: Some(Duration::from_millis(500)),
        ..small()
    };
    // Timestamps that rise, so that the tables rise together; and one late record that all others are older than.
    for late in [false, true] {
        let fs = disk();
        let mut log = create(&fs, config.clone());
        for tag in 0..60_000_i64 {
            let rising = if late { i64::from(tag >= 10) * 100_000 } else { tag };
            log.append(&batch_at(1, 2, 1000 + rising), EPOCH, at(0)).unwrap();
        }
        assert!(log.segments_count() == 1 && log.size_bytes() > 5 << 20, "{}", log.size_bytes());
        log.set_high_watermark(log.log_end());
        let newest = log.reader().max_timestamp().unwrap();
        let checkpoint = log.close_cleanly().unwrap();
        drop(log);
        for (index_lost, times_lost) in [(0, 1), (0, 500), (500, 500), (500, 0), (0, 1 << 30), (1 << 30, 1 << 30)] {
            let fs = fs.duplicate();
            for (name, lost, width) in [("wal_3_0.index", index_lost, 8), ("wal_3_0.timeindex", times_lost, 12)] {
                let path = std::path::Path::new(DIR).join(name);
                let entries = fs.file_len(&path).unwrap() / width;
                let file = fs.open(&path, chronik_log::fs::OpenMode::Write).unwrap();
                file.set_len(entries.saturating_sub(lost) * width).unwrap();
            }
            let context = format!("late {late}, {index_lost} and {times_lost} entries lost");
            let (mut log, _) = open(&fs, config.clone(), Some(checkpoint), false);
            let at_newest = at(newest.unwrap().timestamp.millis() + 400);
            assert!(log.apply_retention(at_newest).unwrap().is_empty(), "{context}");
            if !late {
                assert_eq!(log.reader().max_timestamp().unwrap(), newest, "{context}");
            }
            let later = at(newest.unwrap().timestamp.millis() + 502);
            assert_eq!(log.apply_retention(later).unwrap().len(), 1, "{context}");
        }
    }
}

#[test]
fn a_reader_beside_retention_is_never_sent_past_records_that_are_there() {
    let config = LogConfig { segment_bytes: 300, ..small() };
    let fs = disk();
    let mut log = create(&fs, config);
    (0..40).for_each(|tag| {
        append(&mut log, tag, 2);
    });
    log.set_high_watermark(log.log_end());
    let reader = log.reader();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    let from = reader.bounds().log_start;
                    reader.bytes_available(from, chronik_log::ReadBound::HighWatermark);
                    match reader.read(from, chronik_log::ReadBound::HighWatermark, 1, true) {
                        Ok(slice) => assert!(slice.base_offset <= from, "{from}: sent to {}", slice.base_offset),
                        Err(chronik_log::ReadError::OutOfRange { .. }) => {}
                        Err(error) => panic!("{from}: {error}"),
                    }
                }
            });
        }
        for round in 0..300 {
            (0..12).for_each(|tag| {
                append(&mut log, tag, 2);
            });
            log.set_high_watermark(log.log_end());
            log.delete_records_before(o((round + 1) * 24)).unwrap();
            log.apply_retention(at(0)).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    });
}
