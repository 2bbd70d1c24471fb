//! What a follower does: verbatim appends, truncation, leader epochs.

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
