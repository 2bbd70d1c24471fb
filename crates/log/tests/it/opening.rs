//! Opening: after a clean stop nothing is read, derived files can be missing or wrong, many logs open fast.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_log::fs::{Fs, MemFs, OpenMode, RealFs};
use chronik_log::{Log, LogConfig, ReadBound};
use chronik_model::{LeaderEpoch, Offset, TopicPartition};

use crate::support::*;

fn filled(fs: &MemFs, batches: u64) -> Log {
    let mut log = create(fs, small());
    for tag in 0..batches {
        append(&mut log, tag, 1 + (tag % 4) as usize);
    }
    log.flush().unwrap();
    log
}

fn files_with(fs: &MemFs, suffix: &str) -> Vec<PathBuf> {
    fs.files().into_iter().map(|(path, _)| path).filter(|path| path.to_string_lossy().ends_with(suffix)).collect()
}

#[test]
fn after_a_clean_stop_nothing_is_scanned_and_everything_is_there() {
    let fs = disk();
    let mut log = filled(&fs, 100);
    let before = read_all(&log, o(0), 1000);
    log.set_high_watermark(log.log_end());
    let checkpoint = log.close_cleanly().unwrap();
    drop(log);
    let (mut log, recovered) = open(&fs, small(), Some(checkpoint), true);
    assert_eq!(recovered, chronik_log::Recovered::default());
    assert_eq!(read_all(&log, o(0), 1000), before);
    assert_eq!(log.high_watermark(), log.log_end());
    assert_eq!(log.durable_end(), log.log_end());
    append(&mut log, 1000, 3);
    assert_eq!(read_all(&log, o(0), 1000).0.len(), before.0.len() + 1);
}

#[test]
fn only_what_lies_behind_the_checkpoint_is_scanned() {
    let fs = disk();
    let mut log = filled(&fs, 100);
    let checkpoint = log.checkpoint().unwrap();
    let size = log.size_bytes();
    for tag in 100..120 {
        append(&mut log, tag, 2);
    }
    let added = log.size_bytes() - size;
    let before = read_all(&log, o(0), 1000);
    drop(log);
    let (log, recovered) = open(&fs, small(), Some(checkpoint), false);
    assert_eq!((recovered.scanned_bytes, recovered.truncated_bytes), (added, 0));
    assert!(recovered.needs_sync && recovered.damage.is_empty());
    assert_eq!(log.durable_end(), checkpoint.recovery_point);
    assert_eq!(read_all(&log, o(0), 1000), before);
}

#[test]
fn without_a_checkpoint_everything_is_scanned() {
    let fs = disk();
    let log = filled(&fs, 100);
    let (size, before) = (log.size_bytes(), read_all(&log, o(0), 1000));
    drop(log);
    let (log, recovered) = open(&fs, small(), None, false);
    assert_eq!((recovered.scanned_bytes, recovered.truncated_bytes), (size, 0));
    assert_eq!(read_all(&log, o(0), 1000), before);
}

#[test]
fn a_torn_tail_is_cut_wherever_it_is_torn() {
    let fs = disk();
    let mut log = filled(&fs, 10);
    log.flush().unwrap();
    let checkpoint = log.checkpoint().unwrap();
    let (end, size) = (log.log_end(), log.size_bytes());
    let segments = log.segments_count();
    append(&mut log, 50, 3);
    assert_eq!(log.segments_count(), segments);
    let torn = log.size_bytes() - size;
    let path = files_with(&fs, ".log").pop().unwrap();
    let full = fs.file_len(&path).unwrap();
    drop(log);
    for cut in 1..torn {
        for from in [Some(checkpoint), None] {
            let fs = fs.duplicate();
            fs.open(&path, OpenMode::Write).unwrap().set_len(full - cut).unwrap();
            let (log, recovered) = open(&fs, small(), from, false);
            assert_eq!((log.log_end(), recovered.truncated_bytes), (end, torn - cut));
            assert_eq!(fs.file_len(&path).unwrap(), full - torn);
            assert!(recovered.damage.is_empty());
        }
    }
}

#[test]
fn any_derived_file_can_be_deleted() {
    let fs = disk();
    let mut log = filled(&fs, 200);
    log.append(&idempotent(9, 0, 0, 4), LeaderEpoch::new(3), at(0)).unwrap();
    log.append(&idempotent(9, 0, 4, 1), LeaderEpoch::new(5), at(0)).unwrap();
    log.set_high_watermark(log.log_end());
    let (before, epochs) = (read_all(&log, o(0), 1000), log.leader_epochs());
    let by_time = log.reader().offset_for_timestamp(at(1100), ReadBound::LogEnd).unwrap();
    let checkpoint = log.close_cleanly().unwrap();
    drop(log);
    let derived: Vec<_> =
        fs.files().into_iter().map(|(path, _)| path).filter(|path| path.extension() != Some("log".as_ref())).collect();
    assert!(derived.len() > 10);
    let mut sets: Vec<Vec<PathBuf>> = derived.iter().map(|path| vec![path.clone()]).collect();
    sets.push(derived);
    for set in sets {
        for (from, clean) in [(Some(checkpoint), true), (Some(checkpoint), false), (None, false)] {
            let fs = fs.duplicate();
            for path in &set {
                fs.remove_file(path).unwrap();
            }
            let (mut log, recovered) = open(&fs, small(), from, clean);
            assert!(recovered.damage.is_empty(), "{set:?}: {recovered:?}");
            assert_eq!(read_all(&log, o(0), 1000), before, "{set:?}");
            assert_eq!(log.leader_epochs(), epochs, "{set:?}");
            assert_eq!(log.reader().offset_for_timestamp(at(1100), ReadBound::LogEnd).unwrap(), by_time, "{set:?}");
            let repeated = log.append(&idempotent(9, 0, 4, 1), LeaderEpoch::new(5), at(0)).unwrap();
            assert!(repeated.duplicate, "{set:?}");
        }
    }
}

#[test]
fn durable_batches_that_vanished_keep_their_offsets_taken() {
    let fs = disk();
    let mut log = filled(&fs, 8);
    let checkpoint = log.checkpoint().unwrap();
    let end = log.log_end();
    let path = files_with(&fs, ".log").pop().unwrap();
    drop(log);
    let half = fs.file_len(&path).unwrap() / 2;
    fs.open(&path, OpenMode::Write).unwrap().set_len(half).unwrap();
    let (mut log, recovered) = open(&fs, small(), Some(checkpoint), false);
    assert_eq!(log.log_end(), end);
    assert_eq!(recovered.truncated_bytes, 0);
    assert_eq!(recovered.damage.len(), 1);
    assert_eq!(recovered.damage[0].offset_end, end);
    assert_eq!(append(&mut log, 99, 1), end);
    let (batches, damaged) = read_all(&log, o(0), 1000);
    assert_eq!(damaged.len(), 1);
    assert_eq!(batches.last().unwrap().0.base_offset, end);
}

#[test]
fn a_log_whose_directory_is_gone_begins_where_the_checkpoint_ended() {
    let fs = disk();
    let mut log = filled(&fs, 8);
    let checkpoint = log.checkpoint().unwrap();
    let end = log.log_end();
    drop(log);
    fs.remove_dir_all(Path::new(DIR)).unwrap();
    let (log, recovered) = open(&fs, small(), Some(checkpoint), false);
    assert_eq!((log.log_start(), log.log_end()), (end, end));
    assert_eq!(recovered.damage.len(), 1);
}

#[test]
fn a_segment_that_a_truncation_removed_and_a_crash_brought_back_is_set_aside() {
    let fs = disk();
    let mut log = filled(&fs, 60);
    let stale = files_with(&fs, ".log").pop().unwrap();
    let (_, bytes) = fs.files().into_iter().find(|(path, _)| *path == stale).unwrap();
    let base: i64 = stale.file_stem().unwrap().to_string_lossy().rsplit('_').next().unwrap().parse().unwrap();
    log.truncate_to(o(base - 3)).unwrap();
    log.append(&batch(70, 8), LeaderEpoch::new(1), at(0)).unwrap();
    assert!(log.log_end() > o(base));
    log.flush().unwrap();
    let (before, end) = (read_all(&log, o(0), 1000), log.log_end());
    drop(log);
    fs.open(&stale, OpenMode::Create).unwrap().write_all_at(&bytes, 0).unwrap();
    let (log, recovered) = open(&fs, small(), None, false);
    assert_eq!(recovered.damage.len(), 1);
    assert_eq!(recovered.damage[0].reason, chronik_log::Reason::Overlap);
    assert_eq!((read_all(&log, o(0), 1000), log.log_end()), (before, end));
    assert_eq!(fs.file_len(&stale.with_extension("log.stale")).unwrap(), bytes.len() as u64);
}

#[test]
fn a_log_that_holds_batches_is_not_created_over() {
    let fs = disk();
    drop(filled(&fs, 5));
    let again = Log::create(Arc::new(fs.clone()), PathBuf::from(DIR), tp(), small(), true);
    assert!(again.is_err());
    let (log, _) = open(&fs, small(), None, false);
    assert_eq!(read_all(&log, o(0), 1000).0.len(), 5);
}

#[test]
fn leftovers_of_deletions_and_replacements_are_removed_and_strangers_left_alone() {
    let fs = disk();
    drop(filled(&fs, 5));
    for name in [
        "wal_3_7.log.deleted",
        "leader-epoch-checkpoint.tmp",
        "wal_4_0.log",
        "notes.txt",
        "wal_3_-5.log",
        "wal_3_007.log",
    ] {
        fs.open(&Path::new(DIR).join(name), OpenMode::Create).unwrap();
    }
    let (log, _) = open(&fs, small(), None, false);
    assert_eq!(log.segments_count(), 1);
    let there = |name: &str| fs.exists(&Path::new(DIR).join(name)).unwrap();
    assert!(!there("wal_3_7.log.deleted") && !there("leader-epoch-checkpoint.tmp"));
    assert!(there("wal_4_0.log") && there("notes.txt") && there("wal_3_-5.log") && there("wal_3_007.log"));
}

#[test]
fn opening_an_intact_log_neither_writes_nor_syncs() {
    let fs = disk();
    let mut log = filled(&fs, 100);
    let checkpoint = log.checkpoint().unwrap();
    drop(log);
    let calls = fs.calls();
    for (from, clean) in [(Some(checkpoint), true), (Some(checkpoint), false), (None, false)] {
        open(&fs, small(), from, clean);
        // Without a checkpoint the tables are built again, and written when a segment turns out to be sealed.
        assert!(fs.calls() == calls || from.is_none(), "{} calls", fs.calls() - calls);
    }
}

#[test]
fn a_thousand_logs_open_with_few_descriptors() {
    let root = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let count = 1000;
    let mut checkpoints = Vec::new();
    for number in 0..count {
        let dir = root.path().join(format!("wal/t/{number}"));
        let mut log =
            Log::create(Arc::clone(&fs), dir, TopicPartition::new("t", number), LogConfig::default(), false).unwrap();
        log.append(&batch(1, 3), EPOCH, at(0)).unwrap();
        checkpoints.push(log.close_without_sync());
    }
    fs.sync_all(root.path()).unwrap();
    for (checkpoint, clean) in [(true, true), (true, false), (false, false)] {
        let mut logs = Vec::new();
        for number in 0..count {
            let dir = root.path().join(format!("wal/t/{number}"));
            let from = checkpoint.then(|| checkpoints[number as usize]);
            let tp = TopicPartition::new("t", number);
            let (log, recovered) =
                Log::open(Arc::clone(&fs), dir, tp, LogConfig::default(), from, clean, at(0)).unwrap();
            assert_eq!((log.log_end(), recovered.truncated_bytes), (Offset::new(3), 0));
            logs.push(log);
        }
        let mut open_files = 0;
        for entry in fs.read_dir(Path::new("/proc/self/fd")).unwrap() {
            open_files += usize::from(!entry.name.is_empty());
        }
        assert!(open_files < 500, "{open_files} descriptors");
    }
}

trait CloseWithoutSync {
    fn close_without_sync(self) -> chronik_log::Checkpoint;
}

impl CloseWithoutSync for Log {
    /// What one sync of the whole file system makes true for many logs.
    fn close_without_sync(mut self) -> chronik_log::Checkpoint {
        self.synced_all();
        self.checkpoint().unwrap()
    }
}
