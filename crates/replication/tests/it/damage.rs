//! A follower whose disk lost something gets it again from its leader; meanwhile it serves nobody less than before.

use std::path::Path;

use chronik_log::Checkpoint;
use chronik_replication::link::{receiver, sender};
use chronik_replication::message::{Progress, ResetCause};
use chronik_replication::{Effect, Mode};

use crate::support::*;

/// A leader and its follower that has everything, each of `count` batches.
fn pair(count: u64) -> (Node, Node) {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Sync), Node::follower());
    leader.produce_all(0..count);
    drop(Link::connected(&mut leader, &mut follower));
    assert_identical(&leader, &follower);
    (leader, follower)
}

/// Flips a bit of the batch at an offset, in its header or in its records, and starts the follower again from a
/// checkpoint that vouches for nothing, or for all.
fn damage(follower: &mut Node, offset: i64, header: bool, vouched: bool) {
    let region = follower.replica.log().reader().read_replica(o(offset), o(offset + 1), 1).unwrap();
    let checkpoint = follower.replica.log_mut().checkpoint().unwrap();
    let path = Path::new("/data/wal/t/0").join(format!("wal_0_{}.log", region.segment));
    let position = region.slice.position + if header { 16 } else { 70 };
    follower.fs.flip(&path, position, 0);
    let first = follower.replica.log().first_segment();
    let scanned = Checkpoint { recovery_point: first, segment: first, position: 0, heads_sum: 0, ..checkpoint };
    follower.reopen(Some(if vouched { checkpoint } else { scanned }));
}

#[test]
fn what_is_damaged_is_cut_kept_and_sent_again_wherever_it_lies() {
    for offset in 0..30 {
        for (header, vouched) in [(false, false), (true, false), (true, true)] {
            let (mut leader, mut follower) = pair(30);
            leader.produce_all(30..33);
            damage(&mut follower, offset, header, vouched);
            let is_known = follower.replica.log().first_damaged() == Some(o(offset));
            let link = Link::connected(&mut leader, &mut follower);
            assert_eq!((link.sender_closed, link.receiver_closed), (None, None), "{}", link.transcript);
            // What a checkpoint vouches for is not looked at, unless something is read there.
            assert!(is_known || vouched || offset == 29);
            if is_known {
                assert_identical(&leader, &follower);
                assert_eq!(follower.cuts().len(), 1, "{}", link.transcript);
                let how = if offset == 0 { "reset to 0 (Damaged)" } else { &format!("truncate to {offset}") };
                assert!(link.transcript.contains(how), "offset {offset}: {}", link.transcript);
            }
            assert_eq!(follower.replica.log().first_damaged(), None);
            assert_eq!(follower.replica.high_watermark(), o(33));
        }
    }
}

#[test]
fn a_last_batch_that_cannot_be_read_is_sent_again() {
    let (mut leader, mut follower) = pair(30);
    damage(&mut follower, 29, true, true);
    // The checkpoint vouches for it: nobody has looked.
    assert_eq!((follower.replica.log().first_damaged(), follower.replica.log().log_end()), (None, o(30)));
    let link = Link::connected(&mut leader, &mut follower);
    assert_eq!((link.sender_closed, link.receiver_closed), (None, None), "{}", link.transcript);
    assert_identical(&leader, &follower);
}

#[test]
fn damage_in_a_tail_that_the_leader_does_not_have_goes_with_it() {
    let mut leader = Node::leader_with(1, &(0..10).map(|tag| (0, tag)).collect::<Vec<_>>());
    leader.produce_all(100..120);
    for offset in [4, 12] {
        let mut follower = Node::follower_with(&(0..30).map(|tag| (0, tag)).collect::<Vec<_>>());
        damage(&mut follower, offset, true, false);
        let link = Link::connected(&mut leader, &mut follower);
        assert_eq!((link.sender_closed, link.receiver_closed), (None, None), "{}", link.transcript);
        assert_identical(&leader, &follower);
    }
}

#[test]
fn damage_that_the_leader_has_forgotten_is_passed_over_with_a_new_beginning() {
    let (mut leader, mut follower) = pair(60);
    leader.replica.log_mut().delete_records_before(o(40)).unwrap();
    leader.replica.apply_retention(at(0).wall).unwrap();
    let first = leader.replica.log().first_segment();
    assert!(first > o(5));
    damage(&mut follower, 4, true, false);
    let link = Link::connected(&mut leader, &mut follower);
    assert_eq!(link.resets, [(o(60), first, ResetCause::Damaged)]);
    assert_identical(&leader, &follower);
}

#[test]
fn consumers_never_see_less_than_they_saw() {
    let (mut leader, mut follower) = pair(30);
    let checkpoint = follower.replica.log_mut().checkpoint().unwrap();
    follower.reopen(Some(checkpoint));
    assert_eq!(follower.replica.high_watermark(), o(30));
    damage(&mut follower, 10, true, false);
    let progress =
        Progress { id: id(), leader_epoch: epoch(0), high_watermark: o(30), log_start: o(0), first_segment: o(0) };
    assert!(follower.replica.is_readable());
    assert_eq!(follower.replica.high_watermark(), o(30));
    let mut link = Link::new(sender_config(), receiver_config());
    let seen = follower.replica.high_watermark();
    let mut unreadable = 0;
    link.start(&mut leader, &mut follower);
    while link.step(&mut leader, &mut follower) {
        if follower.replica.is_readable() {
            assert!(follower.replica.high_watermark() >= seen, "{}", link.transcript);
        } else {
            unreadable += 1;
            // Hearing a high watermark is not enough.
            if follower.replica.log().log_end() < o(30) {
                let _ = follower.replica.progress(&progress, &mut follower.effects);
                assert!(!follower.replica.is_readable());
            }
        }
    }
    assert!(unreadable > 0 && follower.replica.is_readable());
    assert_identical(&leader, &follower);
}

#[test]
fn a_replica_in_sync_that_lost_something_leaves_until_it_has_it_again() {
    let (mut leader, mut follower) = pair(30);
    let proposals = |node: &Node| -> Vec<_> {
        let effects = node.effects.iter();
        effects
            .filter_map(|effect| if let Effect::AlterIsr(proposal) = effect { Some(proposal.clone()) } else { None })
            .collect()
    };
    let joined = proposals(&leader).pop().unwrap();
    assert_eq!(joined.isr, [LEADER, FOLLOWER]);
    let in_sync = chronik_replication::isr::Assignment { partition_epoch: 1, ..assignment(0, &[LEADER, FOLLOWER]) };
    leader.replica.assign(in_sync, at(0).now, &mut leader.effects);
    leader.effects.clear();
    damage(&mut follower, 8, true, false);
    drop(Link::connected(&mut leader, &mut follower));
    assert_eq!(proposals(&leader).first().map(|proposal| proposal.isr.clone()), Some(vec![LEADER]));
    assert_eq!(leader.replica.high_watermark(), o(30));
}

#[test]
fn a_leader_that_lost_epochs_with_a_damaged_range_has_nobody_cut_what_it_lost() {
    let history: Vec<_> = (0..10).map(|tag| (0, tag)).chain((10..20).map(|tag| (1, tag))).collect();
    for (damaged, follower_keeps) in [(10, true), (4, false), (15, false)] {
        let mut leader = Node::follower_with(&history);
        damage(&mut leader, damaged, true, false);
        assert!(leader.replica.become_leader(assignment(5, &[LEADER]), at(0).now, &mut leader.effects));
        leader.produce_all(100..105);
        let mut follower = Node::follower_with(&history);
        let mut link = Link::new(sender_config(), receiver_config());
        link.tell_receiver(receiver::Input::Connected { nonce: [2; 32] }, &mut follower);
        link.tell_sender(sender::Input::Connected { nonce: [1; 32] }, &mut leader);
        let mut state = leader.replica.partition_state(id(), o(0));
        assert_eq!(state.damaged, [(o(damaged), o(damaged + 1))]);
        state.epochs.retain(|entry| entry.0 != epoch(1));
        link.tell_sender(sender::Input::Partition(state), &mut leader);
        link.run(&mut leader, &mut follower);
        assert_eq!(follower.replica.log().log_end() == o(20), follower_keeps, "{}", link.transcript);
        assert_eq!(link.transcript.contains("unreadable at 10"), follower_keeps, "{}", link.transcript);
    }
}

#[test]
fn any_damage_on_any_pair_of_histories_ends_in_the_same_files() {
    let mut random: u64 = 7;
    let mut below = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    for round in 0..300 {
        let shared: Vec<_> = (0..below(25)).map(|tag| (0, tag)).collect();
        let (mut ours, mut theirs) = (shared.clone(), shared);
        for leader_epoch in 1..4 {
            let target = if below(2) == 0 { &mut ours } else { &mut theirs };
            let tag = 1000 * u64::try_from(leader_epoch).unwrap() + round;
            target.extend((tag..tag + below(8)).map(|tag| (leader_epoch, tag)));
        }
        let mut leader = Node::leader_with(9, &ours);
        leader.produce_all(9000..9000 + below(4));
        let mut follower = Node::follower_with(&theirs);
        for _ in 0..=below(3) {
            let log = follower.replica.log();
            let end = u64::try_from(log.log_end().get()).unwrap();
            let offset = i64::try_from(below(end.max(1))).unwrap();
            let is_whole = log.damage().iter().all(|range| o(offset) < range.offset || range.offset_end <= o(offset));
            if o(offset) < log.log_end() && is_whole {
                damage(&mut follower, offset, below(2) == 0, false);
            }
        }
        let link = Link::connected(&mut leader, &mut follower);
        assert_eq!((link.sender_closed, link.receiver_closed), (None, None), "round {round}: {}", link.transcript);
        assert_identical(&leader, &follower);
        assert_eq!(follower.replica.log().first_damaged(), None);
        let checkpoint = follower.replica.log_mut().close_cleanly().unwrap();
        follower.reopen(Some(checkpoint));
        assert_eq!(follower.replica.log().damage(), []);
        assert_identical(&leader, &follower);
    }
}
