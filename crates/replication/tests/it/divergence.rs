//! Logs that differ are brought to agree: by leader epochs (KIP-101, KIP-279, KIP-320), and where those do not tell, by
//! their last batches. What is cut is kept.

use chronik_log::dump;
use chronik_log::fs::{Durability, Fault, read_small_file, replace_file};
use chronik_model::Generation;
use chronik_replication::link::{Reason, receiver, sender};
use chronik_replication::message::{Attach, Progress, Reset, ResetCause, Truncate};
use chronik_replication::{Effect, FollowError, Mode};
use expect_test::expect_file;

use crate::support::*;

/// What one epoch appended: as many batches as `tags`.
fn led(leader_epoch: i32, tags: std::ops::Range<u64>) -> Vec<(i32, u64)> {
    tags.map(|tag| (leader_epoch, tag)).collect()
}

fn attach(leader_epoch: i32, epochs: &[(i32, i64)]) -> Attach {
    Attach {
        id: id(),
        topic: "t".into(),
        leader_epoch: epoch(leader_epoch),
        log_start: o(0),
        first_segment: o(0),
        high_watermark: o(0),
        epochs: epochs.iter().map(|(leader_epoch, start)| (epoch(*leader_epoch), o(*start))).collect(),
    }
}

fn rejoin(leader: &mut Node, follower: &mut Node) -> Link {
    let link = Link::connected(leader, follower);
    assert_eq!((link.sender_closed, link.receiver_closed), (None, None), "{}", link.transcript);
    assert_identical(leader, follower);
    link
}

#[test]
fn an_old_leader_loses_exactly_its_own_tail_kip_101() {
    // offsets    0 .. 5 | 5 .. 9          old leader, epoch 0
    //            0 .. 5 | 5 .. 12         new leader, epoch 1 from 5
    let mut leader = Node::leader_with(1, &led(0, 0..5));
    leader.produce_all(100..107);
    let mut old = Node::follower_with(&led(0, 0..9));
    let link = rejoin(&mut leader, &mut old);
    expect_file!["../../testdata/rejoin.txt"].assert_eq(&link.transcript);
    let cuts = old.cuts();
    assert_eq!(cuts.len(), 1);
    let mut kept = Vec::new();
    let summary = dump::walk(&old.fs, &cuts[0], |entry| kept.push(entry)).unwrap();
    assert!(summary.is_sound());
    assert_eq!((summary.batches, kept.len()), (4, 4));
    let note = dump::note(&old.fs, &cuts[0]).unwrap().unwrap();
    assert_eq!(
        note,
        "chronik-cut 1 topic=t partition=0 from=5 to=9 leader-epochs=0:5 reason=the leader of epoch 1 does not have it"
    );
    assert!(old.effects.iter().any(|effect| matches!(effect, Effect::TailCut(cut) if cut.from == o(5))));
}

#[test]
fn the_high_watermark_is_not_what_is_cut_to() {
    // The follower knows a high watermark of 2 and has 6 of the 6 that the same leader has: nothing is cut.
    let mut leader = Node::leader_with(1, &led(0, 0..6));
    let mut follower = Node::follower_with(&led(0, 0..6));
    let link = rejoin(&mut leader, &mut follower);
    assert!(!link.transcript.contains("truncate"), "{}", link.transcript);
}

#[test]
fn two_fast_failovers_do_not_hide_a_divergence_kip_279() {
    // leader     0 .. 4 epoch 0 | 4 .. 6 epoch 2
    // follower   0 .. 4 epoch 0 | 4 .. 9 epoch 1
    let mut leader = Node::leader_with(2, &led(0, 0..4));
    leader.produce_all(200..202);
    let mut follower = Node::follower_with(&[led(0, 0..4), led(1, 100..105)].concat());
    let link = rejoin(&mut leader, &mut follower);
    assert!(link.transcript.contains("-> truncate to 4\n"), "{}", link.transcript);
}

#[test]
fn a_follower_ahead_in_the_leaders_own_epoch_is_cut_to_its_end() {
    let mut leader = Node::leader_with(3, &led(2, 0..4));
    let mut follower = Node::follower_with(&led(2, 0..8));
    let link = rejoin(&mut leader, &mut follower);
    assert!(link.transcript.contains("-> truncate to 4\n"), "{}", link.transcript);
}

#[test]
fn batches_that_differ_within_one_epoch_are_found_by_the_last_one() {
    // A leader lost 6..20 in a power cut, came back in the same epoch although it must not, and wrote others.
    let mut leader = Node::leader_with(1, &[led(0, 0..6), led(0, 100..130)].concat());
    let mut follower = Node::follower_with(&led(0, 0..20));
    let link = rejoin(&mut leader, &mut follower);
    assert!(link.transcript.contains("truncate"), "{}", link.transcript);
}

#[test]
fn the_same_records_at_the_same_offset_of_two_leaders_are_not_the_same_batch() {
    // A producer sent one batch to the old leader, and again to the new one, whose history the sender was given before.
    let mut leader = Node::leader_with(1, &led(0, 0..5));
    let mut follower = Node::follower_with(&[led(0, 0..5), led(0, 77..78)].concat());
    let mut link = Link::new(sender_config(), receiver_config());
    let mut state = leader.replica.partition_state(id(), o(0));
    state.epochs = vec![(epoch(0), o(0))];
    leader.produce_all(77..78);
    link.tell_sender(sender::Input::Partition(state), &mut leader);
    link.tell_receiver(receiver::Input::Connected { nonce: [2; 32] }, &mut follower);
    link.tell_sender(sender::Input::Connected { nonce: [1; 32] }, &mut leader);
    link.run(&mut leader, &mut follower);
    assert_identical(&leader, &follower);
    let latest = follower.replica.log().leader_epochs().latest();
    assert_eq!(latest, Some(epoch(1)));
}

#[test]
fn a_leader_tells_its_epoch_before_it_has_appended_in_it() {
    let leader = Node::leader_with(4, &led(2, 0..5));
    assert_eq!(leader.replica.partition_state(id(), o(0)).epochs, [(epoch(2), o(0)), (epoch(4), o(5))]);
}

#[test]
fn logs_without_a_common_epoch_are_kept_aside_as_a_whole() {
    let mut leader = Node::leader_with(5, &led(4, 0..6));
    let mut follower = Node::follower_with(&led(3, 100..130));
    let link = rejoin(&mut leader, &mut follower);
    assert_eq!(link.resets, [(o(30), o(0), ResetCause::Diverged)]);
    let summary = dump::walk(&follower.fs, &follower.cuts()[0], |_| {}).unwrap();
    assert_eq!((summary.batches, summary.damaged), (30, 0));
}

#[test]
fn a_follower_without_batches_that_remembers_a_later_epoch_than_the_next_batch_has_forgets_it() {
    // Retention left of the follower's log no more than where it ends, and a power cut an earlier file of its epochs.
    let mut leader = Node::leader_with(9, &led(2, 0..60));
    leader.replica.log_mut().delete_records_before(o(41)).unwrap();
    leader.replica.apply_retention(at(0).wall).unwrap();
    let first = leader.replica.log().first_segment();
    let mut follower = Node::follower_with(&led(5, 0..first.get().unsigned_abs()));
    let epochs = std::path::Path::new(DIR).join("leader-epoch-checkpoint");
    let earlier = read_small_file(&follower.fs, &epochs).unwrap().unwrap();
    let log = follower.replica.log_mut();
    log.set_high_watermark(first);
    log.delete_records_before(first).unwrap();
    log.end_segment().unwrap();
    log.remove_below_log_start().unwrap();
    let checkpoint = log.close_cleanly().unwrap();
    replace_file(&follower.fs, &epochs, &earlier, Durability::Durable).unwrap();
    follower.reopen(Some(checkpoint));
    let log = follower.replica.log();
    assert_eq!((log.log_start(), log.log_end(), log.first_segment()), (first, first, first));
    assert_eq!(log.leader_epochs().entries(), [(epoch(5), first)]);
    let link = rejoin(&mut leader, &mut follower);
    assert_eq!(link.resets, [(first, first, ResetCause::Empty)]);
}

#[test]
fn every_pair_of_histories_is_brought_to_agree() {
    // Both share 0..shared in epoch 0; then each goes its own way through later epochs.
    let mut random: u64 = 42;
    let mut below = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    for round in 0..150 {
        let shared = led(0, 0..below(12));
        let (mut ours, mut theirs) = (shared.clone(), shared);
        for leader_epoch in 1..5 {
            let target = if below(2) == 0 { &mut ours } else { &mut theirs };
            let tag = 1000 * u64::try_from(leader_epoch).unwrap() + round;
            target.extend(led(leader_epoch, tag..tag + below(6)));
        }
        let mut leader = Node::leader_with(9, &ours);
        leader.produce_all(9000..9000 + below(4));
        let mut follower = Node::follower_with(&theirs);
        rejoin(&mut leader, &mut follower);
        leader.produce_all(9100..9110);
        drop(rejoin(&mut leader, &mut follower));
    }
}

#[test]
fn a_cut_below_what_the_same_leader_called_committed_is_refused() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    leader.produce_all(0..5);
    drop(Link::connected(&mut leader, &mut follower));
    assert_eq!(follower.replica.high_watermark(), o(5));
    let truncate = Truncate { id: id(), leader_epoch: epoch(0), to: o(3) };
    let error = follower.replica.prepare_truncate(&truncate).unwrap_err();
    assert!(matches!(error, FollowError::BelowHighWatermark { .. }));
    assert_eq!((error.reason(), follower.replica.log().log_end()), (Reason::BelowHighWatermark, o(5)));
}

#[test]
fn a_follower_cut_below_its_high_watermark_serves_nobody_until_the_new_leader_has_spoken() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    leader.produce_all(0..5);
    drop(Link::connected(&mut leader, &mut follower));
    let attach = chronik_replication::message::Attach {
        id: id(),
        topic: "t".into(),
        leader_epoch: epoch(1),
        log_start: o(0),
        first_segment: o(0),
        high_watermark: o(3),
        epochs: vec![(epoch(0), o(0)), (epoch(1), o(3))],
    };
    follower.replica.attach(&attach).unwrap();
    let truncate = Truncate { id: id(), leader_epoch: epoch(1), to: o(3) };
    follower.replica.prepare_truncate(&truncate).unwrap();
    assert!(!follower.replica.is_readable());
    follower.replica.truncate(&truncate, &mut follower.effects).unwrap();
    assert!(!follower.replica.is_readable());
    let (leader_epoch, high_watermark, log_start) = (epoch(1), o(3), o(0));
    let progress = chronik_replication::message::Progress {
        id: id(),
        leader_epoch,
        high_watermark,
        log_start,
        first_segment: o(0),
    };
    follower.replica.progress(&progress, &mut follower.effects).unwrap();
    assert!(follower.replica.is_readable());
}

#[test]
fn a_follower_that_begins_serves_nobody_less_than_before_while_its_leader_can_be_asked() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower_with(&led(0, 0..5)));
    leader.produce_all(0..7);
    assert!(!follower.replica.is_readable() && !follower.replica.is_settled());
    let mut link = Link::new(sender_config(), receiver_config());
    link.connect(&mut leader, &mut follower);
    assert!(follower.replica.is_readable() && follower.replica.is_settled());
    assert_eq!(follower.replica.high_watermark(), o(7));
}

#[test]
fn a_follower_that_begins_waits_for_what_it_served_to_be_committed_again() {
    // The leader has begun anew behind 4 and knows of nothing that is committed yet.
    let mut follower = Node::follower_with(&led(0, 0..5));
    follower.replica.attach(&attach(1, &[(0, 0), (1, 4)])).unwrap();
    let truncate = Truncate { id: id(), leader_epoch: epoch(1), to: o(4) };
    follower.replica.prepare_truncate(&truncate).unwrap();
    follower.replica.truncate(&truncate, &mut follower.effects).unwrap();
    let told = |high_watermark: i64| chronik_replication::message::Progress {
        id: id(),
        leader_epoch: epoch(1),
        high_watermark: o(high_watermark),
        log_start: o(0),
        first_segment: o(0),
    };
    follower.replica.progress(&told(3), &mut follower.effects).unwrap();
    assert_eq!((follower.replica.high_watermark(), follower.replica.is_readable()), (o(3), false));
    follower.replica.progress(&told(4), &mut follower.effects).unwrap();
    assert_eq!((follower.replica.high_watermark(), follower.replica.is_readable()), (o(4), true));
}

#[test]
fn a_follower_whose_leader_is_gone_serves_what_it_knows_but_feeds_nobody() {
    let mut follower = Node::follower();
    assert!(follower.replica.is_settled(), "nothing of its log is open");
    follower = Node::follower_with(&led(0, 0..5));
    follower.replica.serve_alone();
    assert!(follower.replica.is_readable() && !follower.replica.is_settled());
    assert_eq!(follower.replica.high_watermark(), o(0));
}

#[test]
fn what_an_earlier_leader_called_committed_is_not_believed_any_more() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    let mut link = Link::connected(&mut leader, &mut follower);
    link.follower_syncs = false;
    leader.produce_all(0..5);
    link.run(&mut leader, &mut follower);
    assert_eq!((follower.replica.log().log_end(), follower.replica.high_watermark()), (o(5), o(0)));
    follower.replica.attach(&attach(1, &[(0, 0), (1, 3)])).unwrap();
    follower.flush();
    assert_eq!((follower.replica.high_watermark(), follower.replica.is_readable()), (o(0), false));
}

#[test]
fn a_crash_between_the_halves_of_a_cut_damages_nothing() {
    for step in 0..3 {
        let mut leader = Node::leader_with(1, &led(0, 0..12));
        leader.produce_all(100..110);
        let mut follower = Node::follower_with(&led(0, 0..40));
        let attach = chronik_replication::message::Attach {
            id: id(),
            topic: "t".into(),
            leader_epoch: epoch(1),
            log_start: o(0),
            first_segment: o(0),
            high_watermark: o(12),
            epochs: leader.replica.log().leader_epochs().entries().to_vec(),
        };
        follower.replica.attach(&attach).unwrap();
        let truncate = Truncate { id: id(), leader_epoch: epoch(1), to: o(12) };
        let mut checkpoint = follower.replica.log_mut().checkpoint().unwrap();
        if step > 0 {
            follower.replica.prepare_truncate(&truncate).unwrap();
            checkpoint = follower.replica.log_mut().checkpoint().unwrap();
            assert_eq!(checkpoint.recovery_point, o(12));
        }
        if step > 1 {
            follower.replica.truncate(&truncate, &mut follower.effects).unwrap();
        }
        follower.crash(Some(checkpoint), 0);
        assert!(follower.replica.log().log_end() >= o(12));
        rejoin(&mut leader, &mut follower);
    }
}

#[test]
fn a_crash_after_a_new_beginning_was_prepared_damages_nothing() {
    let mut leader = Node::leader_with(5, &led(4, 0..30));
    let mut follower = Node::follower_with(&led(3, 100..130));
    let link = Link::connected(&mut leader, &mut follower);
    drop(link);
    let checkpoint = follower.replica.log_mut().checkpoint().unwrap();
    follower.crash(Some(checkpoint), 5);
    rejoin(&mut leader, &mut follower);
}

#[test]
fn a_promoted_follower_takes_over_and_the_old_leader_rejoins() {
    let (mut old, mut promoted) = (Node::leader(0, Mode::Async), Node::follower());
    old.produce_all(0..30);
    drop(Link::connected(&mut old, &mut promoted));
    // Never replicated.
    old.produce_all(30..37);
    let assignment = assignment(1, &[LEADER]);
    assert!(promoted.replica.become_leader(assignment, at(1).now, &mut promoted.effects));
    assert_eq!(promoted.replica.high_watermark(), o(30));
    promoted.produce_all(500..540);
    // It is met by a higher generation: it steps down, and follows.
    old.replica.step_down(&mut old.effects);
    let config = sender::Config { generation: Generation::new(2), ..sender_config() };
    let mut link = Link::new(config, receiver::Config { generation: Generation::new(1), ..receiver_config() });
    link.connect(&mut promoted, &mut old);
    assert_identical(&promoted, &old);
    assert_eq!(old.cuts().len(), 1);
}

#[test]
fn a_disk_that_fails_anywhere_in_a_cut_or_a_new_beginning_breaks_no_rule() {
    for reset in [false, true] {
        let mut failed = 0;
        for call in 0..40 {
            let mut follower = Node::follower_with(&led(if reset { 3 } else { 4 }, 0..40));
            follower.replica.attach(&attach(4, &[(0, 0)])).unwrap();
            let progress = Progress {
                id: id(),
                leader_epoch: epoch(4),
                high_watermark: o(20),
                log_start: o(0),
                first_segment: o(0),
            };
            follower.replica.progress(&progress, &mut follower.effects).unwrap();
            assert_eq!(follower.replica.high_watermark(), o(20));
            follower.replica.attach(&attach(5, &[(4, 0), (5, 12)])).unwrap();
            follower.fs.fail_at(call, Fault::NoSpace);
            let (replica, effects) = (&mut follower.replica, &mut follower.effects);
            let outcome = if reset {
                let reset = Reset { id: id(), leader_epoch: epoch(5), to: o(0), cause: ResetCause::Diverged };
                replica.prepare_reset(&reset).and_then(|()| replica.reset(&reset, effects))
            } else {
                let truncate = Truncate { id: id(), leader_epoch: epoch(5), to: o(12) };
                replica.prepare_truncate(&truncate).and_then(|()| replica.truncate(&truncate, effects))
            };
            replica.check_invariants();
            failed += u64::from(outcome.is_err());
        }
        assert!(failed > 3, "{failed} calls failed");
    }
}
