//! Records that are not there: taken away below the recovery point, or never synced above it.

use std::path::{Path, PathBuf};

use chronik_log::fs::{Fs, MemFs, OpenMode};
use chronik_log::{Checkpoint, Log, LogConfig, ReadBound, ReadError, Reason};
use chronik_model::Offset;
use chronik_record::BatchHeader;

use crate::support::*;

/// What a consumer gets from the log start on: base offsets of batches, and the ranges that were refused.
fn consumed(log: &Log) -> (Vec<i64>, Vec<(i64, i64)>) {
    let reader = log.reader();
    let (mut batches, mut refused, mut next) = (Vec::new(), Vec::new(), log.log_start());
    while next < log.log_end() {
        match reader.read(next, ReadBound::LogEnd, 1, true) {
            Ok(slice) => {
                let header = BatchHeader::read(&slice.read().unwrap()).unwrap();
                assert!(slice.len > 0 && header.next_offset() > next, "nothing at {next}");
                assert_eq!(slice.base_offset, header.base_offset);
                batches.push(header.base_offset.get());
                next = header.next_offset();
            }
            Err(ReadError::Damaged(damage)) => {
                assert!(damage.offset <= next && next < damage.offset_end, "{damage} does not explain {next}");
                refused.push((next.get(), damage.offset_end.get()));
                next = damage.offset_end;
            }
            Err(error) => panic!("{next}: {error}"),
        }
    }
    (batches, refused)
}

/// A log of four segments with one record a batch; its files, and the bases of the segments.
fn filled(config: &LogConfig) -> (MemFs, Log, Vec<i64>) {
    let fs = disk();
    let mut log = create(&fs, config.clone());
    let mut tag = 0;
    while log.segments_count() < 4 {
        append(&mut log, tag, 1);
        tag += 1;
    }
    append(&mut log, tag, 1);
    let base = |path: &Path| path.file_stem()?.to_str()?.rsplit('_').next()?.parse().ok();
    let mut bases: Vec<i64> = fs
        .files()
        .iter()
        .filter(|(path, _)| path.extension() == Some("log".as_ref()))
        .filter_map(|(path, _)| base(path))
        .collect();
    bases.sort();
    (fs, log, bases)
}

fn segment(base: i64) -> PathBuf {
    Path::new(DIR).join(format!("wal_3_{base}.log"))
}

fn cut(fs: &MemFs, base: i64, size: u64) {
    fs.open(&segment(base), OpenMode::Write).unwrap().set_len(size).unwrap();
}

/// Where the batch with an offset begins in its segment.
fn position(fs: &MemFs, base: i64, offset: i64) -> u64 {
    let mut found = 0;
    chronik_log::dump::walk(fs, &segment(base), |entry| {
        if let chronik_log::dump::Entry::Batch { position, header } = entry
            && header.base_offset == o(offset)
        {
            found = position;
        }
    })
    .unwrap();
    found
}

#[test]
fn records_taken_away_below_the_recovery_point_are_refused_not_passed_over() {
    let (fs, mut log, bases) = filled(&small());
    let checkpoint = log.close_cleanly().unwrap();
    let end = log.log_end().get();
    drop(log);
    for (number, name) in [(1, "second"), (2, "third")] {
        let (base, next) = (bases[number], bases[number + 1]);
        let middle = base + 2;
        for (how, first_gone) in [("deleted", base), ("emptied", base), ("cut", middle)] {
            for clean in [true, false] {
                let fs = fs.duplicate();
                match how {
                    "deleted" => fs.remove_file(&segment(base)).unwrap(),
                    "emptied" => cut(&fs, base, 0),
                    _ => cut(&fs, base, position(&fs, base, middle)),
                }
                let (log, recovered) = open(&fs, small(), Some(checkpoint), clean);
                assert_eq!(recovered.scanned_bytes, 0, "{name} {how}");
                let (batches, refused) = consumed(&log);
                assert_eq!(refused, [(first_gone, next)], "{name} {how}");
                let expected: Vec<i64> = (0..first_gone).chain(next..end).collect();
                assert_eq!(batches, expected, "{name} {how}");
            }
        }
    }
}

/// What lives with the page cache: a power cut may leave a torn segment with a whole one behind it.
fn unsynced() -> LogConfig {
    LogConfig { sync_on_roll: false, ..small() }
}

/// A log whose third segment lost its end from a batch on, and the bases.
fn torn(from: Offset, whole: bool) -> (MemFs, Checkpoint, i64, i64) {
    let fs = disk();
    let mut log = create(&fs, unsynced());
    append(&mut log, 0, 1);
    log.flush().unwrap();
    let checkpoint = log.checkpoint().unwrap();
    drop(log);
    let (log, _) = open(&fs, unsynced(), Some(checkpoint), false);
    let mut log = log;
    let mut tag = 1;
    while log.segments_count() < 4 {
        append(&mut log, tag, 1);
        tag += 1;
    }
    append(&mut log, tag, 1);
    let end = log.log_end().get();
    drop(log);
    let mut bases: Vec<i64> = (0..end).filter(|base| fs.exists(&segment(*base)).unwrap()).collect();
    bases.sort();
    let (base, next) = (bases[2], bases[3]);
    let at = position(&fs, base, base + from.get());
    cut(&fs, base, if whole { at } else { at + 30 });
    (fs, checkpoint, base + from.get(), next)
}

#[test]
fn what_a_power_cut_took_from_a_rolled_segment_that_nobody_synced_is_passed_over() {
    for from in [0, 2] {
        for whole in [true, false] {
            let (fs, checkpoint, lost, next) = torn(o(from), whole);
            let context = format!("from {from} whole {whole}");
            let synced = LogConfig { sync_on_roll: true, ..unsynced() };
            let (log, recovered) = open(&fs.duplicate(), synced.clone(), Some(checkpoint), false);
            assert_eq!(recovered.damage.len(), 1, "{context}: with syncs it is damage");
            assert_eq!(consumed(&log).1, [(lost, next)], "{context}");
            drop(log);

            // Again with the checkpoint of then, also where syncs are waited for by now, and after a clean stop.
            let mut end = 0;
            for config in [unsynced(), unsynced(), synced] {
                let (log, recovered) = open(&fs, config, Some(checkpoint), false);
                assert!(recovered.damage.is_empty() && log.damage().is_empty(), "{context}: {recovered:?}");
                assert_eq!(recovered.lost.len(), 1, "{context}");
                assert_eq!(recovered.lost[0].reason, Reason::Lost);
                end = log.log_end().get();
                let (batches, refused) = consumed(&log);
                assert_eq!(refused, [], "{context}");
                assert_eq!(batches, (0..lost).chain(next..end).collect::<Vec<_>>(), "{context}");
            }
            let (mut log, _) = open(&fs, unsynced(), Some(checkpoint), false);
            assert_eq!(append(&mut log, 500, 1), o(end), "offsets are not given twice");
            let checkpoint = log.close_cleanly().unwrap();
            drop(log);
            let (log, recovered) = open(&fs, unsynced(), Some(checkpoint), true);
            assert_eq!((recovered.scanned_bytes, consumed(&log).1), (0, Vec::new()), "{context}");
        }
    }
}

#[test]
fn a_log_that_is_cut_where_a_power_cut_took_something_has_no_hole() {
    for from in [0, 2] {
        let (fs, checkpoint, lost, _) = torn(o(from), false);
        let (mut log, _) = open(&fs, unsynced(), Some(checkpoint), false);
        assert_eq!(log.first_lost(), Some(o(lost)));
        let end = log.log_end();
        log.prepare_cut(o(lost)).unwrap();
        let before = log.checkpoint().unwrap();
        let cut = log.cut_aside(o(lost), "it lies behind what a power cut took").unwrap().unwrap();
        assert_eq!((cut.from, cut.to), (o(lost), end));
        assert_eq!((log.first_lost(), log.log_end()), (None, o(lost)));
        append(&mut log, 500, 1);
        let after = log.close_cleanly().unwrap();
        drop(log);
        for (checkpoint, clean) in [(before, false), (after, true)] {
            let (log, recovered) = open(&fs, unsynced(), Some(checkpoint), clean);
            assert_eq!((recovered.damage, recovered.lost, log.first_lost()), (vec![], vec![], None));
            assert_eq!(consumed(&log), ((0..=lost).collect(), vec![]));
        }
    }
}

#[test]
fn a_lost_range_is_forgotten_when_the_log_comes_to_end_before_it() {
    let (fs, checkpoint, lost, next) = torn(o(0), true);
    let (log, _) = open(&fs, unsynced(), Some(checkpoint), false);
    let end = log.log_end().get();
    assert_eq!((log.first_lost(), end > next), (Some(o(lost)), true));
    drop(log);
    // The next power cut takes what lay behind it as well.
    for base in (next..end).filter(|base| fs.exists(&segment(*base)).unwrap()).collect::<Vec<_>>() {
        fs.remove_file(&segment(base)).unwrap();
    }
    let (mut log, _) = open(&fs, unsynced(), Some(checkpoint), false);
    assert_eq!((log.first_lost(), log.log_end()), (None, o(lost)));
    for tag in 500..505 {
        append(&mut log, tag, 1);
    }
    assert_eq!(consumed(&log), ((0..lost + 5).collect(), vec![]));
    let checkpoint = log.close_cleanly().unwrap();
    drop(log);
    let (log, _) = open(&fs, unsynced(), Some(checkpoint), true);
    assert_eq!(consumed(&log), ((0..lost + 5).collect(), vec![]));
}

#[test]
fn without_a_checkpoint_nothing_is_called_lost() {
    let (fs, _, lost, next) = torn(o(2), false);
    let (log, recovered) = open(&fs, unsynced(), None, false);
    assert_eq!((recovered.damage.len(), recovered.lost.len()), (1, 0));
    assert_eq!(consumed(&log).1, [(lost, next)]);
}

#[test]
fn a_page_that_never_reached_the_disk_is_lost_only_where_nobody_waits_for_syncs() {
    let config = |sync_on_roll| LogConfig { segment_bytes: 1 << 20, sync_on_roll, ..small() };
    let fs = disk();
    let mut log = create(&fs, config(false));
    append(&mut log, 0, 1);
    log.flush().unwrap();
    let checkpoint = log.checkpoint().unwrap();
    (1..400).for_each(|tag| {
        append(&mut log, tag, 1);
    });
    drop(log);
    let file = fs.open(&segment(0), OpenMode::Write).unwrap();
    file.write_all_at(&[0; 8192], 8192).unwrap();
    for (sync_on_roll, refused_ranges) in [(true, 1), (false, 0)] {
        let fs = fs.duplicate();
        let (log, recovered) = open(&fs, config(sync_on_roll), Some(checkpoint), false);
        assert_eq!((recovered.damage.len(), recovered.lost.len()), (refused_ranges, 1 - refused_ranges));
        let (batches, refused) = consumed(&log);
        assert_eq!(refused.len(), refused_ranges, "{refused:?} {recovered:?}");
        assert!(batches.len() < 400 && batches.last() == Some(&399) && batches.is_sorted());
        assert_eq!(log.log_end(), o(400));
    }
}
