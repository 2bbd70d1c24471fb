//! What a follower does: verbatim appends, truncation, leader epochs.

use std::path::Path;

use chronik_log::fs::Fs as _;
use chronik_log::{Log, LogError, ReplicateError};
use chronik_model::{LeaderEpoch, Offset};

use crate::support::*;

fn leader() -> (chronik_log::fs::MemFs, Log) {
    let fs = disk();
    let mut log = create(&fs, small());
    for tag in 0..60 {
        log.append(&batch(tag, 2), LeaderEpoch::new((tag / 20) as i32), at(0)).unwrap();
    }
    (fs, log)
}

fn bytes_of(log: &Log, from: Offset) -> Vec<u8> {
    read_all(log, from, 1 << 20).0.into_iter().flat_map(|(_, bytes)| bytes).collect()
}

#[test]
fn a_replicated_log_is_byte_identical() {
    let (_, leader) = leader();
    let fs = disk();
    let mut follower = create(&fs, small());
    for (_, bytes) in read_all(&leader, o(0), 1000)
        .0
        .chunks(3)
        .map(|chunk| (0, chunk.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>()))
    {
        follower.append_replicated(&bytes, LeaderEpoch::new(2), at(0)).unwrap();
    }
    assert_eq!(bytes_of(&follower, o(0)), bytes_of(&leader, o(0)));
    assert_eq!(follower.leader_epochs(), leader.leader_epochs());
}

#[test]
fn batches_that_do_not_continue_the_log_change_nothing() {
    let (_, leader) = leader();
    let batches = read_all(&leader, o(0), 1000).0;
    let fs = disk();
    let mut follower = create(&fs, small());
    follower.append_replicated(&batches[0].1, LeaderEpoch::new(0), at(0)).unwrap();
    let refused = |follower: &mut Log, bytes: &[u8], epoch: i32| {
        let error = follower.append_replicated(bytes, LeaderEpoch::new(epoch), at(0)).unwrap_err();
        assert_eq!(follower.log_end(), o(2));
        error
    };
    let gap = refused(&mut follower, &batches[2].1, 0);
    assert!(matches!(gap, ReplicateError::NotContiguous { .. }));
    let again = refused(&mut follower, &batches[0].1, 0);
    assert!(matches!(again, ReplicateError::NotContiguous { .. }));
    let mut flipped = [batches[1].1.clone(), batches[2].1.clone()].concat();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    assert!(matches!(refused(&mut follower, &flipped, 0), ReplicateError::Corrupt { .. }));
    flipped.truncate(last);
    assert!(matches!(refused(&mut follower, &flipped, 0), ReplicateError::Corrupt { .. }));
    let mut newer = batches[1].1.clone();
    newer[15] = 9;
    assert!(matches!(refused(&mut follower, &newer, 3), ReplicateError::LeaderEpoch { .. }));
}

#[test]
fn truncation_cuts_batches_epochs_producers_and_files() {
    for target in 0..120 {
        let (fs, mut log) = leader();
        log.append(&idempotent(3, 0, 0, 2), LeaderEpoch::new(2), at(0)).unwrap();
        log.flush().unwrap();
        let (all, _) = read_all(&log, o(0), 1 << 20);
        let cut: usize = log.tail(o(target)).unwrap().iter().map(|slice| slice.len).sum();
        let size = log.size_bytes();
        let end = log.truncate_to(o(target)).unwrap();
        assert_eq!(end, o(target / 2 * 2));
        assert_eq!(size - log.size_bytes(), cut as u64);
        log.check_invariants();
        assert_eq!(log.durable_end(), end);
        assert!(log.leader_epochs().entries().iter().all(|(_, start)| *start < end));
        assert!(log.producers().is_empty());
        let kept: Vec<_> = all.into_iter().filter(|(header, _)| header.base_offset < end).collect();
        assert_eq!(read_all(&log, o(0), 1 << 20).0, kept);
        let leader_epoch = LeaderEpoch::new(7);
        assert_eq!(log.append(&batch(99, 1), leader_epoch, at(0)).unwrap().base_offset, end);
        log.flush().unwrap();
        let checkpoint = log.checkpoint().unwrap();
        let epochs = log.leader_epochs();
        drop(log);
        fs.crash(target as u64);
        for from in [Some(checkpoint), None] {
            let (log, recovered) = open(&fs, small(), from, false);
            assert!(recovered.damage.is_empty(), "to {target}: {recovered:?}");
            assert_eq!(read_all(&log, o(0), 1 << 20).0.len(), kept.len() + 1);
            assert_eq!(log.leader_epochs(), epochs);
        }
    }
}

#[test]
fn nothing_below_the_high_watermark_can_be_cut() {
    let (_, mut log) = leader();
    log.set_high_watermark(o(60));
    assert!(matches!(log.truncate_to(o(59)), Err(LogError::OffsetOutOfRange { .. })));
    assert_eq!(log.truncate_to(o(60)).unwrap(), o(60));
    assert_eq!(log.truncate_to(o(500)).unwrap(), o(60));
}

#[test]
fn a_flush_that_began_before_a_truncation_does_not_count() {
    let (_, mut log) = leader();
    let job = log.flush_job().unwrap();
    log.truncate_to(o(20)).unwrap();
    for tag in 0..60 {
        log.append(&batch(tag, 2), LeaderEpoch::new(9), at(0)).unwrap();
    }
    job.run().unwrap();
    log.flushed(job);
    assert_eq!(log.durable_end(), o(0));
    log.flush().unwrap();
    assert_eq!(log.durable_end(), log.log_end());
}

#[test]
fn epochs_end_where_the_next_one_begins() {
    let (_, log) = leader();
    let end = |epoch: i32| log.end_offset_for_epoch(LeaderEpoch::new(epoch)).map(|(e, o)| (e.get(), o.get()));
    assert_eq!((end(0), end(1), end(2), end(3)), (Some((0, 40)), Some((1, 80)), Some((2, 120)), None));
}

#[test]
fn a_segment_begins_where_the_leaders_did_and_nowhere_else() {
    let (_, leader) = leader();
    let fs = disk();
    // Its own settings would never begin a segment, and the leader's did.
    let mut follower = create(&fs, chronik_log::LogConfig { segment_bytes: 1 << 30, ..small() });
    let reader = leader.reader();
    let mut from = o(0);
    while from < leader.log_end() {
        let region = reader.read_replica(from, leader.log_end(), 700).unwrap();
        let bytes = region.slice.read().unwrap();
        let end = follower.append_replicated_in(region.segment, &bytes, LeaderEpoch::new(2), at(0)).unwrap();
        assert_eq!(end, region.end);
        from = end;
    }
    assert!(leader.segments_count() > 2);
    assert_eq!(follower.segments_count(), leader.segments_count());
    assert_eq!(follower.active_segment(), leader.active_segment());
    let segment = o(1);
    let batch = stored(&batch(99, 1), follower.log_end(), LeaderEpoch::new(2));
    let error = follower.append_replicated_in(segment, &batch, LeaderEpoch::new(2), at(0)).unwrap_err();
    assert!(matches!(error, ReplicateError::Segment { found, .. } if found == segment));
    assert_eq!(follower.log_end(), leader.log_end());
}

#[test]
fn an_empty_segment_that_a_cut_left_gives_way_to_the_one_before() {
    let (_, leader) = leader();
    let bases: Vec<Offset> = leader.tail(o(0)).unwrap().iter().map(|slice| slice.base_offset).collect();
    let (fs, mut follower) = self::leader();
    let last = *bases.last().unwrap();
    follower.flush().unwrap();
    follower.truncate_to(last).unwrap();
    assert_eq!((follower.active_segment(), follower.log_end()), (last, last));
    // The leader went on in the segment before.
    let before = bases[bases.len() - 2];
    let batch = stored(&batch(99, 1), last, LeaderEpoch::new(2));
    follower.append_replicated_in(before, &batch, LeaderEpoch::new(2), at(0)).unwrap();
    assert_eq!((follower.active_segment(), follower.segments_count()), (before, bases.len() - 1));
    follower.check_invariants();
    follower.flush().unwrap();
    let checkpoint = follower.checkpoint().unwrap();
    drop(follower);
    fs.crash(3);
    let (follower, recovered) = open(&fs, small(), Some(checkpoint), false);
    assert_eq!((recovered.damage.len(), follower.log_end()), (0, last.next()));
}

#[test]
fn a_cut_leaves_no_segment_without_batches() {
    let (_, leader) = leader();
    let bases: Vec<Offset> = leader.tail(o(0)).unwrap().iter().map(|slice| slice.base_offset).collect();
    for (number, base) in bases.iter().enumerate() {
        for seed in 0..10 {
            let (fs, mut log) = self::leader();
            log.prepare_cut(*base).unwrap();
            let checkpoint = log.checkpoint().unwrap();
            log.cut_aside(*base, "test").unwrap();
            log.check_invariants();
            assert_eq!((log.segments_count(), log.log_end()), (number.max(1), *base));
            if seed % 2 == 0 {
                log.flush().unwrap();
            }
            drop(log);
            fs.crash(seed);
            let (log, recovered) = open(&fs, small(), Some(checkpoint), false);
            assert_eq!(recovered.damage, []);
            assert!(seed % 2 == 1 || log.log_end() == *base, "segment {number} seed {seed}");
        }
    }
}

#[test]
fn a_cut_goes_below_the_high_watermark_and_keeps_what_it_cut() {
    for target in [0, 1, 7, 40, 80, 119] {
        let (fs, mut log) = leader();
        log.flush().unwrap();
        log.set_high_watermark(o(100));
        let (all, _) = read_all(&log, o(0), 1 << 20);
        let cut = log.cut_aside(o(target), "a reason\nof two lines").unwrap().unwrap();
        let end = o(target / 2 * 2);
        assert_eq!((log.log_end(), cut.from, cut.to), (end, end, o(120)));
        assert_eq!(log.high_watermark(), end.min(o(100)));
        log.check_invariants();
        let mut kept = Vec::new();
        let summary = chronik_log::dump::walk(&fs, &cut.file, |entry| match entry {
            chronik_log::dump::Entry::Batch { header, .. } => kept.push(header),
            entry => panic!("{entry:?}"),
        });
        assert!(summary.unwrap().is_sound());
        let expected: Vec<_> =
            all.iter().map(|(header, _)| *header).filter(|header| header.base_offset >= end).collect();
        assert_eq!(kept, expected);
        let note = chronik_log::dump::note(&fs, &cut.file).unwrap().unwrap();
        assert!(note.ends_with("reason=a reasonof two lines"), "{note}");
        assert_eq!(
            log.cut_aside(o(120), "again").unwrap_err().to_string(),
            format!("offset 120 is outside [0, {end}]")
        );
    }
}

#[test]
fn a_second_cut_at_the_same_offset_keeps_the_first() {
    let (_, mut log) = leader();
    let first = log.cut_aside(o(80), "first").unwrap().unwrap();
    log.append(&batch(500, 2), LeaderEpoch::new(3), at(0)).unwrap();
    let second = log.cut_aside(o(80), "second").unwrap().unwrap();
    assert!(first.file.ends_with("wal_3_80.cut") && second.file.ends_with("wal_3_80.1.cut"));
}

#[test]
fn nothing_becomes_durable_between_the_halves_of_a_cut() {
    let (_, mut log) = leader();
    let job = log.flush_job().unwrap();
    job.run().unwrap();
    assert_eq!(log.prepare_cut(o(31)).unwrap(), o(30));
    log.flushed(job);
    assert!(log.flush_job().is_none());
    assert_eq!(log.checkpoint().unwrap().recovery_point, o(0));
    log.cut_aside(o(31), "test").unwrap();
    log.flush().unwrap();
    assert_eq!(log.durable_end(), o(30));
}

#[test]
fn a_new_beginning_leaves_nothing_of_the_old_log() {
    for base in [0, 7, 500] {
        let (fs, mut log) = leader();
        log.append(&idempotent(3, 0, 0, 2), LeaderEpoch::new(2), at(0)).unwrap();
        log.flush().unwrap();
        log.set_high_watermark(log.log_end());
        log.reset_to(o(base), None).unwrap();
        log.check_invariants();
        assert_eq!((log.log_start(), log.log_end(), log.high_watermark()), (o(base), o(base), o(base)));
        assert!(log.leader_epochs().entries().is_empty() && log.producers().is_empty());
        let bytes = stored(&batch(1, 1), o(base), LeaderEpoch::new(1));
        log.append_replicated_in(o(base), &bytes, LeaderEpoch::new(1), at(0)).unwrap();
        log.flush().unwrap();
        let checkpoint = log.checkpoint().unwrap();
        drop(log);
        fs.crash(5);
        let (log, recovered) = open(&fs, small(), Some(checkpoint), false);
        assert_eq!((recovered.damage.len(), log.log_start(), log.log_end()), (0, o(base), o(base + 1)));
    }
}

#[test]
fn a_crash_at_any_call_of_a_cut_or_a_new_beginning_damages_nothing() {
    for (reset, seed) in (0..8).flat_map(|seed| [(false, seed), (true, seed)]) {
        for call in 0.. {
            let (fs, mut log) = leader();
            log.flush().unwrap();
            let to = if reset { log.first_segment() } else { o(50) };
            log.prepare_cut(to).unwrap();
            let checkpoint = log.checkpoint().unwrap();
            fs.fail_at(call, chronik_log::fs::Fault::Io);
            let outcome = if reset { log.reset_to(o(900), Some("t")) } else { log.cut_aside(o(50), "t").map(drop) };
            drop(log);
            fs.heal();
            fs.crash(call * 100 + seed);
            let (log, recovered) = open(&fs, small(), Some(checkpoint), false);
            assert_eq!(recovered.damage, [], "call {call} seed {seed}");
            assert!(reset || log.log_end() >= o(50), "call {call} seed {seed}: {}", log.log_end());
            if outcome.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn a_region_for_a_follower_begins_below_the_log_start_where_the_segment_is_there() {
    let (_, mut log) = leader();
    log.set_high_watermark(o(120));
    log.delete_records_before(o(51)).unwrap();
    log.remove_below_log_start().unwrap();
    let first = log.first_segment();
    assert!(first > o(0) && first < o(51));
    let reader = log.reader();
    let region = reader.read_replica(first, o(120), 1 << 20).unwrap();
    assert_eq!((region.slice.base_offset, region.segment), (first, first));
    assert!(matches!(
        reader.read_replica(o(0), o(120), 100),
        Err(chronik_log::ReadError::OutOfRange { log_start, .. }) if log_start == first
    ));
    assert_eq!(reader.batch_before(region.end).unwrap().unwrap().next_offset(), region.end);
    assert!(reader.batch_before(o(first.get() + 1)).unwrap().is_none());
    let end = reader.read_replica(o(120), o(120), 100).unwrap();
    assert_eq!((end.slice.len, end.end), (0, o(120)));
}

#[test]
fn a_damaged_range_can_be_cut_and_kept_wherever_it_lies() {
    // One bit of each of several batches, known to recovery or met by the cut.
    for known in [true, false] {
        for target in [0, 1, 7, 30, 31, 60, 118, 119] {
            let (fs, mut log) = leader();
            let found = log.reader().read(o(target), chronik_log::ReadBound::LogEnd, 1, true).unwrap();
            let segment = log.reader().read_replica(found.base_offset, log.log_end(), 1).unwrap().segment;
            let from = log.close_cleanly().unwrap();
            drop(log);
            let path = std::path::Path::new(DIR).join(format!("wal_3_{segment}.log"));
            // The magic, so that not even the header can be read.
            fs.flip(&path, found.position + 16, 0);
            let (mut log, recovered) = open(&fs, small(), (!known).then_some(from), false);
            log.flush().unwrap();
            if known && target < 118 {
                assert_eq!(recovered.damage.len(), 1);
                assert_eq!(log.first_damaged(), Some(found.base_offset));
            }
            if log.log_end() == found.base_offset {
                // A last batch that nobody vouches for is a torn tail.
                continue;
            }
            log.set_high_watermark(log.log_end());
            assert_eq!(log.prepare_cut(o(target)).unwrap(), found.base_offset);
            log.checkpoint().unwrap();
            let cut = log.cut_aside(o(target), "damage").unwrap().unwrap();
            assert_eq!((cut.from, cut.to), (found.base_offset, o(120)));
            assert_eq!((log.log_end(), log.first_damaged()), (found.base_offset, None));
            log.check_invariants();
            // The log goes on as if nothing had been.
            log.append(&batch(900, 2), LeaderEpoch::new(9), at(0)).unwrap();
            let from = log.close_cleanly().unwrap();
            let (log, recovered) = open(&fs, small(), Some(from), true);
            assert_eq!((recovered.damage, log.log_end().get()), (vec![], cut.from.get() + 2));
            assert!(!bytes_of(&log, o(0)).is_empty());
        }
    }
}

#[test]
fn a_log_that_is_damaged_anywhere_can_begin_anew() {
    let (fs, log) = leader();
    drop(log);
    let path = std::path::Path::new(DIR).join("wal_3_0.log");
    fs.flip(&path, 16, 0);
    let (mut log, _) = open(&fs, small(), None, false);
    assert_eq!(log.first_damaged(), Some(o(0)));
    log.prepare_cut(log.first_segment()).unwrap();
    log.checkpoint().unwrap();
    log.reset_to(o(50), Some("damage")).unwrap();
    assert_eq!((log.log_start(), log.log_end(), log.first_damaged()), (o(50), o(50), None));
}

#[test]
fn a_follower_knows_its_high_watermark_after_a_crash_of_the_process() {
    let (fs, mut log) = leader();
    let log_end = log.log_end();
    let checkpoint = log.checkpoint().unwrap();
    log.keep_high_watermark(true);
    log.set_high_watermark(o(30));
    log.set_high_watermark(o(60));
    drop(log);
    let (mut log, _) = open(&fs, small(), Some(checkpoint), false);
    assert_eq!(log.high_watermark(), o(60));
    // A cut writes the lower one, and a log that is begun anew forgets it.
    log.keep_high_watermark(true);
    log.cut_aside(o(50), "test").unwrap();
    let end = log.log_end();
    let checkpoint = log.checkpoint().unwrap();
    drop(log);
    let (mut log, _) = open(&fs, small(), Some(checkpoint), false);
    assert!(end < log_end && log.high_watermark() == end, "{} of {end}", log.high_watermark());
    log.keep_high_watermark(true);
    log.reset_to(o(0), None).unwrap();
    assert!(!fs.exists(&Path::new(DIR).join("high-watermark")).unwrap());
}

#[test]
fn a_high_watermark_counts_up_to_the_end_of_the_leader_epoch_that_it_is_of() {
    // Leader epochs 0, 1 and 2 begin at 0, 40 and 80.
    for (cut_to, known) in [(120, 120), (100, 100), (70, 0)] {
        let (fs, mut log) = leader();
        log.keep_high_watermark(true);
        log.set_high_watermark(o(120));
        log.keep_high_watermark(false);
        if cut_to < 120 {
            log.cut_aside(o(cut_to), "test").unwrap();
        }
        log.append(&batch(500, 2), LeaderEpoch::new(9), at(0)).unwrap();
        log.flush().unwrap();
        drop(log);
        let (log, _) = open(&fs, small(), None, false);
        assert_eq!((log.log_end(), log.high_watermark()), (o(cut_to + 2), o(known)));
    }
}

#[test]
fn a_cut_does_not_go_on_in_a_segment_that_lacks_what_comes_before() {
    let fs = disk();
    let mut log = create(&fs, small());
    log.reset_to(o(20), None).unwrap();
    let line = log.checkpoint().unwrap();
    // The process ends before it says that the log begins at 0 from now on.
    log.reset_to(o(0), None).unwrap();
    drop(log);
    let (mut log, recovered) = open(&fs, small(), Some(line), false);
    assert_eq!((log.log_end(), recovered.damage.len()), (o(20), 1));
    append(&mut log, 1, 5);
    log.flush().unwrap();
    assert_eq!(log.cut_aside(o(20), "test").unwrap().unwrap().from, o(20));
    append(&mut log, 2, 3);
    log.flush().unwrap();
    let (batches, _) = read_all(&log, o(20), 700);
    drop(log);
    for line in [None, Some(line)] {
        let (log, _) = open(&fs, small(), line, false);
        assert_eq!(log.log_end(), o(23));
        assert_eq!(read_all(&log, o(20), 700), (batches.clone(), vec![]));
    }
}
