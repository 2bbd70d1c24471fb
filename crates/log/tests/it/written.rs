//! What a recovery relies on that finds the page cache as the process before it left it, and one that does not.

use std::path::PathBuf;
use std::sync::Arc;

use chronik_log::fs::MemFs;
use chronik_log::{Checkpoint, Log, LogConfig, ReadBound, ReadError, Recovered, RecoveryPoints};
use chronik_record::BatchHeader;

use crate::support::*;

/// A log that leaves its writes to the page cache.
fn unsynced() -> LogConfig {
    LogConfig { sync_on_roll: false, ..small() }
}

fn reopen(fs: &MemFs, known: RecoveryPoints) -> (Log, Recovered) {
    let opened = Log::open(Arc::new(fs.clone()), PathBuf::from(DIR), tp(), unsynced(), known, false, at(5000));
    let (log, recovered) = opened.unwrap();
    log.check_invariants();
    (log, recovered)
}

/// All batches that can be read; readers pass over what a power cut took.
fn batches(log: &Log) -> Vec<Vec<u8>> {
    let (mut batches, mut next) = (Vec::new(), log.log_start());
    loop {
        let slice = match log.reader().read(next, ReadBound::LogEnd, 1, true) {
            // A power cut may leave a batch torn before one that it left whole.
            Err(ReadError::Damaged(damage)) => {
                next = damage.offset_end;
                continue;
            }
            slice => slice.unwrap(),
        };
        if slice.len == 0 {
            return batches;
        }
        let bytes = slice.read().unwrap();
        next = BatchHeader::read(&bytes).unwrap().next_offset();
        batches.push(bytes);
    }
}

/// Whether the log had the batch already.
fn appended_once(log: &mut Log, sequence: i32) -> bool {
    log.append(&idempotent(1, 0, sequence, 1), EPOCH, at(0)).unwrap().duplicate
}

#[test]
fn after_the_end_of_a_process_only_what_came_after_its_last_word_is_read() {
    let fs = disk();
    let mut log = create(&fs, unsynced());
    let durable = log.close_cleanly().unwrap();
    for sequence in 0..40 {
        append(&mut log, 60, 2);
        log.append(&idempotent(1, 0, sequence, 1), EPOCH, at(0)).unwrap();
    }
    assert!(log.segments_count() > 4);
    let written = log.written_checkpoint().unwrap();
    let before = log.size_bytes();
    append(&mut log, 1, 1);
    append(&mut log, 2, 1);
    let (end, after) = (log.log_end(), log.size_bytes());
    let (batches, _) = read_all(&log, o(0), 700);
    drop(log);

    let (mut log, recovered) = reopen(&fs, RecoveryPoints { durable: Some(durable), written });
    assert_eq!((recovered.scanned_bytes, recovered.truncated_bytes), (after - before, 0));
    assert_eq!((recovered.damage.len(), recovered.lost.len(), log.log_end()), (0, 0, end));
    assert_eq!(read_all(&log, o(0), 700), (batches, vec![]));
    assert!(appended_once(&mut log, 39));
    // The page cache is not the disk.
    assert!(recovered.needs_sync);
    assert_eq!(log.durable_end(), durable.recovery_point);
    assert_eq!(log.checkpoint().unwrap().recovery_point, durable.recovery_point);
}

#[test]
fn what_only_the_page_cache_vouched_for_is_durable_after_the_next_sync() {
    for seed in 0..50 {
        let fs = disk();
        let mut log = create(&fs, unsynced());
        let durable = log.close_cleanly().unwrap();
        for tag in 0..30 {
            append(&mut log, tag, 3);
        }
        let written = log.written_checkpoint().unwrap();
        let end = log.log_end();
        drop(log);
        let (mut log, recovered) = reopen(&fs, RecoveryPoints { durable: Some(durable), written });
        assert_eq!(recovered.scanned_bytes, 0);
        let durable = log.close_cleanly().unwrap();
        assert_eq!(durable.recovery_point, end);
        drop(log);
        fs.crash(seed);
        let (log, recovered) = reopen(&fs, RecoveryPoints { durable: Some(durable), written: None });
        let found = (recovered.damage, recovered.lost, log.log_end());
        assert_eq!(found, (vec![], vec![], end), "seed {seed}");
    }
}

#[test]
fn a_log_that_waits_for_syncs_says_nothing_of_the_page_cache() {
    let fs = disk();
    let mut log = create(&fs, LogConfig { sync_on_roll: true, ..small() });
    append(&mut log, 1, 3);
    assert_eq!(log.written_checkpoint().unwrap(), None);
}

#[test]
fn a_log_about_to_be_cut_says_nothing_of_the_page_cache() {
    let fs = disk();
    let mut log = create(&fs, unsynced());
    append(&mut log, 1, 3);
    log.prepare_cut(o(0)).unwrap();
    assert_eq!(log.written_checkpoint().unwrap(), None);
}

#[test]
fn a_flush_beside_another_one_counts_whichever_ends_first() {
    for detached_first in [true, false] {
        let fs = disk();
        let mut log = create(&fs, unsynced());
        for tag in 0..30 {
            append(&mut log, tag, 3);
        }
        assert!(log.segments_count() > 2);
        let detached = log.detached_flush_job().unwrap();
        append(&mut log, 30, 3);
        let job = log.flush_job().unwrap();
        let ends = (detached.end(), job.end());
        assert_eq!(ends, (o(90), o(93)));
        let (first, second) = if detached_first { (detached, job) } else { (job, detached) };
        for job in [first, second] {
            job.run().unwrap();
            let end = job.end();
            log.flushed(job);
            assert!(log.durable_end() >= end);
        }
        assert_eq!((log.durable_end(), log.flush_job().is_none()), (o(93), true));
        let durable = log.checkpoint().unwrap();
        drop(log);
        fs.crash(1);
        let (log, recovered) = reopen(&fs, Some(durable).into());
        assert_eq!((log.log_end(), recovered.scanned_bytes), (o(93), 0));
    }
}

#[test]
fn a_file_that_only_one_handle_is_left_of_is_synced_by_no_detached_flush() {
    let fs = disk();
    let mut log = create(&fs, LogConfig { sync_on_roll: true, ..small() });
    append(&mut log, 0, 3);
    assert!(log.detached_flush_job().is_some());
    while log.segments_count() == 1 {
        append(&mut log, 1, 3);
    }
    assert!(log.detached_flush_job().is_none());
    log.flush().unwrap();
    append(&mut log, 2, 3);
    assert!(log.detached_flush_job().is_some());
}

#[test]
fn a_file_that_is_shorter_than_was_written_does_not_give_its_offsets_again() {
    let fs = disk();
    let mut log = create(&fs, unsynced());
    let durable = log.close_cleanly().unwrap();
    for tag in 0..5 {
        append(&mut log, tag, 3);
    }
    let written = log.written_checkpoint().unwrap();
    drop(log);
    let path = PathBuf::from(DIR).join("wal_3_0.log");
    let file = chronik_log::fs::Fs::open(&fs, &path, chronik_log::fs::OpenMode::Write).unwrap();
    file.set_len(100).unwrap();
    let (log, recovered) = reopen(&fs, RecoveryPoints { durable: Some(durable), written });
    assert_eq!(log.log_end(), o(15));
    assert_eq!(recovered.damage.iter().chain(&recovered.lost).count(), 1);
}

/// Lives that end by the end of the process or of the machine, in any order.
#[test]
fn no_end_of_a_process_takes_anything_and_no_power_cut_what_was_synced() {
    for seed in 0..300 {
        let fs = disk();
        let mut random = Random(seed);
        let mut log = create(&fs, unsynced());
        let (mut durable, mut written): (Option<Checkpoint>, Option<Checkpoint>) = (None, None);
        let (mut flushed, mut sequence) = (o(0), 0);
        for life in 0..6 {
            let context = format!("seed {seed} life {life}");
            let mut detached = None;
            for _ in 0..random.below(60) {
                match random.below(14) {
                    12 => detached = log.detached_flush_job(),
                    13 => {
                        let Some(job) = detached.take() else { continue };
                        job.run().unwrap();
                        flushed = flushed.max(job.end());
                        log.flushed(job);
                        (durable, written) = (Some(log.checkpoint().unwrap()), log.written_checkpoint().unwrap());
                    }
                    0 => written = log.written_checkpoint().unwrap(),
                    1 if random.below(3) == 0 => {
                        log.flush().unwrap();
                        (durable, written) = (Some(log.checkpoint().unwrap()), None);
                        flushed = log.log_end();
                    }
                    1 => (durable, written) = (Some(log.checkpoint().unwrap()), None),
                    2 => log.set_high_watermark(log.log_end()),
                    3..6 => {
                        assert!(!appended_once(&mut log, sequence), "{context}");
                        sequence += 1;
                    }
                    _ => {
                        append(&mut log, random.below(60), 1 + random.below(4) as usize);
                    }
                }
            }
            let end = log.log_end();
            let before = batches(&log);
            drop(log);
            let power_cut = random.below(3) == 0;
            let torn = !power_cut && random.below(2) == 0;
            if power_cut {
                fs.crash(random.next());
                written = None;
            } else if torn {
                // It ended in the middle of a write.
                let path = fs
                    .files()
                    .into_iter()
                    .map(|(path, _)| path)
                    .filter(|path| path.extension() == Some("log".as_ref()));
                let base = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap()[6..].parse::<i64>().unwrap();
                let path = path.max_by_key(base).unwrap();
                let file = chronik_log::fs::Fs::open(&fs, &path, chronik_log::fs::OpenMode::Write).unwrap();
                file.write_all_at(&[0, 0, 0, 0, 0, 0, 1], file.len().unwrap()).unwrap();
            }
            let (reopened, recovered) = reopen(&fs, RecoveryPoints { durable, written });
            log = reopened;
            let after = batches(&log);
            if power_cut {
                assert!(log.log_end() >= flushed, "{context}: ends at {} before {flushed}", log.log_end());
                let kept = |batch: &&Vec<u8>| BatchHeader::read(batch).unwrap().next_offset() <= flushed;
                assert!(before.iter().filter(kept).eq(after.iter().filter(kept)), "{context}: {recovered:?}");
                // What producers the log forgot, it knows no more.
                sequence = log.producers().first().map_or(0, |entry| entry.last_sequence.get() + 1);
            } else {
                assert_eq!((log.log_end(), after), (end, before), "{context}: {recovered:?}");
                assert_eq!(torn, recovered.truncated_bytes > 0, "{context}");
                if sequence > 0 {
                    assert!(appended_once(&mut log, sequence - 1), "{context}");
                }
            }
            flushed = flushed.min(log.durable_end());
        }
    }
}
