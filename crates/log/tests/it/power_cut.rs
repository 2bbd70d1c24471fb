//! What a power cut may bring back and what it may not: names of files that nobody synced, and epochs without a record.

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
