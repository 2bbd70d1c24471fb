//! What a power cut may bring back and what it may not: names of files that nobody synced, and epochs without a record.

use std::path::PathBuf;
use std::sync::Arc;

use chronik_log::Log;
use chronik_model::LeaderEpoch;

use crate::support::*;

#[test]
fn the_first_batch_of_a_leader_epoch_is_kept_or_cut_and_never_damage() {
    for seed in 0..200 {
        let fs = disk();
        let mut log = create(&fs, small());
        append(&mut log, 1, 3);
        log.flush().unwrap();
        log.append(&batch(2, 2), LeaderEpoch::new(7), at(2000)).unwrap();
        drop(log);
        fs.crash(seed);
        let (log, recovered) = open(&fs, small(), None, false);
        assert_eq!(recovered.damage, [], "seed {seed}");
        assert!(log.log_end() == o(3) || log.log_end() == o(5), "seed {seed}: {}", log.log_end());
    }
}

#[test]
fn what_is_flushed_after_a_kill_has_durable_names() {
    for seed in 0..50 {
        let fs = disk();
        let mut log = create(&fs, small());
        while log.segments_count() < 3 {
            append(&mut log, 40, 3);
        }
        let end = log.log_end();
        // Killed: the page cache stays, and nobody knows any more which names were never synced.
        drop(log);
        let (mut log, _) = open(&fs, small(), None, false);
        let checkpoint = log.close_cleanly().unwrap();
        assert_eq!(checkpoint.recovery_point, end);
        drop(log);
        fs.crash(seed);
        let (log, recovered) = open(&fs, small(), Some(checkpoint), false);
        assert_eq!((recovered.damage.as_slice(), log.log_end()), (&[][..], end), "seed {seed}");
    }
}

#[test]
fn what_is_flushed_into_a_log_that_a_kill_left_empty_has_durable_names() {
    for seed in 0..50 {
        let fs = disk();
        drop(Log::create(Arc::new(fs.clone()), PathBuf::from(DIR), tp(), small(), false).unwrap());
        let (mut log, recovered) = open(&fs, small(), None, false);
        assert!(recovered.needs_sync);
        append(&mut log, 1, 3);
        log.flush().unwrap();
        drop(log);
        fs.crash(seed);
        let (log, recovered) = open(&fs, small(), None, false);
        assert_eq!((recovered.damage.as_slice(), log.log_end()), (&[][..], o(3)), "seed {seed}");
    }
}

#[test]
fn a_log_start_that_was_forgotten_brings_its_epochs_back() {
    for seed in 0..50 {
        for vouched in [false, true] {
            let fs = disk();
            let mut log = create(&fs, small());
            for tag in 0..60 {
                log.append(&batch(tag, 2), LeaderEpoch::new((tag / 13) as i32), at(0)).unwrap();
            }
            log.set_high_watermark(log.log_end());
            let checkpoint = log.close_cleanly().unwrap();
            let epochs = log.leader_epochs();
            log.delete_records_before(o(61)).unwrap();
            assert_eq!(log.leader_epochs().entries().first(), Some(&(LeaderEpoch::new(2), o(61))));
            log.flush().unwrap();
            drop(log);
            fs.crash(seed);
            let (log, recovered) = open(&fs, small(), vouched.then_some(checkpoint), false);
            assert_eq!((recovered.damage, log.log_start()), (vec![], o(0)));
            assert_eq!(log.leader_epochs(), epochs, "seed {seed}");
        }
    }
}

#[test]
fn a_log_that_began_anew_does_not_give_its_offsets_again() {
    for seed in 0..50 {
        let fs = disk();
        let mut log = create(&fs, small());
        while log.segments_count() < 3 {
            append(&mut log, 40, 3);
        }
        log.flush().unwrap();
        log.prepare_cut(log.first_segment()).unwrap();
        let checkpoint = log.checkpoint().unwrap();
        log.reset_to(o(500), None).unwrap();
        // Neither a flush nor a checkpoint follows.
        drop(log);
        fs.crash(seed);
        let (log, recovered) = open(&fs, small(), Some(checkpoint), false);
        assert_eq!((recovered.damage.as_slice(), log.log_start(), log.log_end()), (&[][..], o(500), o(500)), "{seed}");
    }
}
