//! Appending, rolling, reading back, flushing, failing.

use std::sync::Arc;
use std::time::Duration;

use chronik_log::fs::{Fault, Fs, OpenMode};
use chronik_log::{AppendError, Log, LogConfig, ReadBound, ReadError};
use chronik_model::{LeaderEpoch, Offset};

use crate::support::*;

#[test]
fn what_is_appended_is_read_back_byte_for_byte_with_offsets_assigned() {
    for (fs, dir, _guard) in both() {
        let mut log = Log::create(Arc::clone(&fs), dir.clone(), tp(), small(), true).unwrap();
        let mut expected = Vec::new();
        for tag in 0..200 {
            let batch = batch(tag, 1 + (tag % 5) as usize);
            let appended = log.append(&batch, EPOCH, at(2000)).unwrap();
            assert!(!appended.duplicate);
            expected.push(stored(&batch, appended.base_offset, EPOCH));
        }
        assert!(log.segments_count() > 5);
        for max_bytes in [1, 100, 1000, 4096, 1 << 20] {
            let (read, damaged) = read_all(&log, Offset::ZERO, max_bytes);
            assert_eq!(damaged, []);
            assert_eq!(read.iter().map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>(), expected);
        }
        let files = fs.read_dir(&dir).unwrap();
        assert!(files.iter().any(|entry| entry.name == "wal_3_0.log"));
        log.check_invariants();
    }
}

#[test]
fn segments_hold_nothing_but_the_batches() {
    let fs = disk();
    let mut log = create(&fs, LogConfig::default());
    let batches = [batch(1, 2), batch(2, 3)];
    let mut expected = Vec::new();
    for batch in &batches {
        let appended = log.append(batch, LeaderEpoch::new(7), at(0)).unwrap();
        expected.extend(stored(batch, appended.base_offset, LeaderEpoch::new(7)));
    }
    let files = fs.files();
    let (_, bytes) = files.iter().find(|(path, _)| path.ends_with("wal_3_0.log")).unwrap();
    assert_eq!(*bytes, expected);
}

#[test]
fn every_offset_inside_a_batch_finds_that_batch() {
    let fs = disk();
    let mut log = create(&fs, small());
    for tag in 0..60 {
        append(&mut log, tag, 1 + (tag % 7) as usize);
    }
    let reader = log.reader();
    for offset in 0..log.log_end().get() {
        let slice = reader.read(o(offset), ReadBound::LogEnd, 1, true).unwrap();
        let header = chronik_record::BatchHeader::read(&slice.read().unwrap()).unwrap();
        assert!(header.base_offset <= o(offset) && o(offset) <= header.last_offset());
        assert_eq!(slice.len, header.size_bytes());
    }
}

#[test]
fn reads_stop_at_the_high_watermark_and_outside_offsets_are_errors() {
    let fs = disk();
    let mut log = create(&fs, small());
    for tag in 0..40 {
        append(&mut log, tag, 3);
    }
    let reader = log.reader();
    assert_eq!(reader.read(o(0), ReadBound::HighWatermark, 1 << 20, true).unwrap().len, 0);
    for high_watermark in (3..=120).step_by(3) {
        log.set_high_watermark(o(high_watermark));
        let mut next = Offset::ZERO;
        loop {
            let slice = reader.read(next, ReadBound::HighWatermark, 1 << 20, true).unwrap();
            if slice.len == 0 {
                break;
            }
            let bytes = slice.read().unwrap();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let header = chronik_record::BatchHeader::read(rest).unwrap();
                next = header.next_offset();
                rest = &rest[header.size_bytes()..];
            }
        }
        assert_eq!(next, o(high_watermark));
        assert_eq!(reader.bytes_available(o(high_watermark), ReadBound::HighWatermark), 0);
        assert!(reader.bytes_available(o(high_watermark - 1), ReadBound::HighWatermark) > 0);
    }
    assert!(matches!(reader.read(o(121), ReadBound::LogEnd, 1, true), Err(ReadError::OutOfRange { .. })));
    assert!(matches!(reader.read(o(-1), ReadBound::LogEnd, 1, true), Err(ReadError::OutOfRange { .. })));
    assert_eq!(reader.read(o(120), ReadBound::LogEnd, 1, true).unwrap().len, 0);
}

#[test]
fn the_high_watermark_neither_moves_back_nor_passes_the_log_end() {
    let fs = disk();
    let mut log = create(&fs, small());
    append(&mut log, 1, 10);
    log.set_high_watermark(o(5));
    log.set_high_watermark(o(3));
    assert_eq!(log.high_watermark(), o(5));
    log.set_high_watermark(o(1000));
    assert_eq!(log.high_watermark(), o(10));
    // A watermark inside a batch keeps the batch back.
    let fs = disk();
    let mut log = create(&fs, small());
    append(&mut log, 1, 10);
    log.set_high_watermark(o(5));
    assert_eq!(log.reader().read(o(0), ReadBound::HighWatermark, 1 << 20, true).unwrap().len, 0);
}

#[test]
fn a_first_batch_larger_than_the_limit_comes_whole_or_not_at_all() {
    let fs = disk();
    let mut log = create(&fs, small());
    append(&mut log, 1, 10);
    append(&mut log, 2, 10);
    let reader = log.reader();
    let whole = reader.read(o(0), ReadBound::LogEnd, 50, true).unwrap();
    assert_eq!(whole.len, batch(1, 10).bytes().len());
    assert_eq!(reader.read(o(0), ReadBound::LogEnd, 50, false).unwrap().len, 0);
}

#[test]
fn a_batch_beyond_the_segment_size_is_refused_and_changes_nothing() {
    let fs = disk();
    let mut log = create(&fs, LogConfig { segment_bytes: 300, ..small() });
    let error = log.append(&batch(1, 100), EPOCH, at(0)).unwrap_err();
    assert!(matches!(error, AppendError::TooLargeForSegment { .. }));
    assert_eq!(append(&mut log, 2, 1), Offset::ZERO);
}

#[test]
fn an_older_leader_cannot_append() {
    let fs = disk();
    let mut log = create(&fs, small());
    log.append(&batch(1, 1), LeaderEpoch::new(4), at(0)).unwrap();
    let error = log.append(&batch(2, 1), LeaderEpoch::new(3), at(0)).unwrap_err();
    assert!(matches!(error, AppendError::StaleLeaderEpoch { .. }));
    assert_eq!(log.log_end(), o(1));
}

#[test]
fn a_segment_rolls_when_its_time_is_over() {
    let fs = disk();
    let config = LogConfig { segment_ms: Duration::from_millis(100), segment_bytes: 1 << 20, ..small() };
    let mut log = create(&fs, config);
    log.append(&batch_at(1, 1, 1000), EPOCH, at(0)).unwrap();
    log.append(&batch_at(2, 1, 1100), EPOCH, at(0)).unwrap();
    assert_eq!(log.segments_count(), 1);
    log.append(&batch_at(3, 1, 1101), EPOCH, at(0)).unwrap();
    assert_eq!(log.segments_count(), 2);
    assert_eq!(read_all(&log, o(0), 1 << 20).0.len(), 3);
}

#[test]
fn a_segment_rolls_when_its_index_is_full() {
    let fs = disk();
    let config = LogConfig { segment_index_bytes: 64, segment_bytes: 1 << 20, ..small() };
    let mut log = create(&fs, config);
    for tag in 0..100 {
        append(&mut log, tag, 2);
    }
    assert!(log.segments_count() > 3, "{}", log.segments_count());
    assert_eq!(read_all(&log, o(0), 1 << 20).0.len(), 100);
}

#[test]
fn only_a_flush_moves_the_durable_end() {
    let fs = disk();
    let mut log = create(&fs, small());
    for tag in 0..30 {
        append(&mut log, tag, 2);
    }
    assert_eq!(log.durable_end(), Offset::ZERO);
    let job = log.flush_job().unwrap();
    append(&mut log, 31, 2);
    job.run().unwrap();
    let end = job.end();
    log.flushed(job);
    assert_eq!((log.durable_end(), end), (o(60), o(60)));
    log.flush().unwrap();
    assert_eq!(log.durable_end(), o(62));
    assert!(log.flush_job().is_none());
}

#[test]
fn a_failed_write_or_sync_takes_the_log_offline_for_good() {
    for fault in [Fault::NoSpace, Fault::Io] {
        let fs = disk();
        let mut log = create(&fs, small());
        append(&mut log, 1, 1);
        log.flush().unwrap();
        log.set_high_watermark(o(1));
        fs.fail_at(0, fault);
        assert!(matches!(log.append(&batch(2, 1), EPOCH, at(0)), Err(AppendError::Io { .. })));
        assert!(matches!(log.append(&batch(2, 1), EPOCH, at(0)), Err(AppendError::Offline(_))));
        assert!(log.flush_job().is_none());
        assert!(log.checkpoint().is_err() && log.flush().is_err() && log.apply_retention(at(0)).is_err());
        assert!(matches!(log.reader().read(o(0), ReadBound::LogEnd, 1, true), Err(ReadError::Offline)));
        assert_eq!(log.log_end(), o(1));

        let fs = disk();
        let mut log = create(&fs, small());
        append(&mut log, 1, 1);
        fs.fail_at(0, fault);
        assert!(log.flush().is_err());
        assert_eq!(log.durable_end(), Offset::ZERO);
        assert!(matches!(log.append(&batch(2, 1), EPOCH, at(0)), Err(AppendError::Offline(_))));
    }
}

#[test]
fn readers_keep_a_segment_that_is_deleted_under_them() {
    for (fs, dir, _guard) in both() {
        let mut log = Log::create(fs, dir, tp(), small(), true).unwrap();
        for tag in 0..60 {
            append(&mut log, tag, 2);
        }
        log.set_high_watermark(log.log_end());
        let slice = log.reader().read(o(0), ReadBound::HighWatermark, 500, true).unwrap();
        let before = slice.read().unwrap();
        log.delete_records_before(o(100)).unwrap();
        assert!(!log.apply_retention(at(0)).unwrap().is_empty());
        assert_eq!(slice.read().unwrap(), before);
        assert!(matches!(
            log.reader().read(o(0), ReadBound::HighWatermark, 500, true),
            Err(ReadError::OutOfRange { .. })
        ));
    }
}

#[test]
fn an_idle_partition_is_polled_without_opening_its_file() {
    let fs = disk();
    let log = create(&fs, small());
    let reader = log.reader();
    fs.remove_file(std::path::Path::new("/data/wal/t/3/wal_3_0.log")).unwrap();
    assert!(fs.open(std::path::Path::new("/data/wal/t/3/wal_3_0.log"), OpenMode::Read).is_err());
    assert_eq!(reader.read(o(0), ReadBound::HighWatermark, 1000, true).unwrap().len, 0);
    assert_eq!(reader.bytes_available(o(0), ReadBound::HighWatermark), 0);
}

#[test]
fn readers_beside_the_writer_see_only_whole_published_batches_in_order() {
    for (fs, dir, _guard) in both() {
        let mut log = Log::create(fs, dir, tp(), LogConfig { segment_bytes: 20_000, ..small() }, true).unwrap();
        let reader = log.reader();
        let total = o(3000);
        std::thread::scope(|scope| {
            for max_bytes in [1, 3000, 1 << 20] {
                let reader = reader.clone();
                scope.spawn(move || {
                    let mut next = Offset::ZERO;
                    while next < total {
                        let slice = reader.read(next, ReadBound::HighWatermark, max_bytes, true).unwrap();
                        let bytes = slice.read().unwrap();
                        let mut rest = bytes.as_slice();
                        while !rest.is_empty() {
                            let header = chronik_record::BatchHeader::read(rest).unwrap();
                            let (batch, after) = rest.split_at(header.size_bytes());
                            assert!(header.base_offset == next && chronik_record::crc_is_valid(batch));
                            next = header.next_offset();
                            rest = after;
                        }
                        let bounds = reader.bounds();
                        assert!(next <= bounds.high_watermark && bounds.high_watermark <= bounds.log_end);
                        if let Some(newest) = reader.max_timestamp().unwrap() {
                            assert!(newest.offset < reader.bounds().log_end);
                        }
                    }
                });
            }
            while log.log_end() < total {
                let tag = log.log_end().get() as u64;
                append(&mut log, tag, 2);
                log.set_high_watermark(log.log_end());
            }
        });
    }
}
