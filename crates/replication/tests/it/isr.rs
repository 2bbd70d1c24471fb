//! Who is in sync, and what that means for the high watermark and for producers.

use chronik_model::{NodeId, Offset};
use chronik_replication::isr::{Assignment, Proposal};
use chronik_replication::{Acks, Effect, Mode, Position, ProduceError, Settings, Unacknowledged};

use crate::support::*;

fn position(leader_epoch: i32, log_end: i64, durable_end: i64) -> Position {
    Position { leader_epoch: epoch(leader_epoch), log_end: o(log_end), durable_end: o(durable_end) }
}

fn proposals(effects: &mut Vec<Effect<u64>>) -> Vec<Proposal> {
    effects.drain(..).filter_map(|effect| if let Effect::AlterIsr(p) = effect { Some(p) } else { None }).collect()
}

fn isr_of(effects: &mut Vec<Effect<u64>>) -> Vec<Vec<i32>> {
    proposals(effects).into_iter().map(|p| p.isr.into_iter().map(NodeId::get).collect()).collect()
}

fn committed(partition_epoch: i32, isr: &[NodeId]) -> Assignment {
    Assignment { partition_epoch, ..assignment(0, isr) }
}

/// A leader with three durable records and its follower in sync, which has acknowledged them.
fn in_sync() -> Node {
    let mut leader = Node::leader(0, Mode::Sync);
    leader.produce_all(0..3);
    let (replica, effects) = (&mut leader.replica, &mut leader.effects);
    assert!(replica.follower_attached(FOLLOWER, SESSION, position(0, 3, 3), at(0).now, effects));
    replica.assign(committed(1, &[LEADER, FOLLOWER]), at(0).now, effects);
    effects.clear();
    leader
}

fn hw(leader: &Node) -> Offset {
    leader.replica.high_watermark()
}

#[test]
fn a_follower_that_has_what_is_committed_is_proposed_and_counts_from_then_on() {
    let mut leader = Node::leader(0, Mode::Sync);
    leader.produce_all(0..3);
    assert_eq!(hw(&leader), o(3));
    leader.effects.clear();
    let (replica, effects) = (&mut leader.replica, &mut leader.effects);
    replica.follower_attached(FOLLOWER, SESSION, position(0, 0, 0), at(0).now, effects);
    assert_eq!(isr_of(effects), Vec::<Vec<i32>>::new());
    replica.acked(FOLLOWER, SESSION, position(0, 3, 2), at(1).now, effects);
    assert_eq!(isr_of(effects), Vec::<Vec<i32>>::new(), "not before it is durable there");
    replica.acked(FOLLOWER, SESSION, position(0, 3, 3), at(1).now, effects);
    assert_eq!(isr_of(effects), [[1, 2]]);
    // Not committed yet, and already waited for.
    leader.produce_all(3..4);
    assert_eq!(hw(&leader), o(3));
    leader.replica.acked(FOLLOWER, SESSION, position(0, 4, 4), at(1).now, &mut leader.effects);
    assert_eq!(hw(&leader), o(4));
}

#[test]
fn the_high_watermark_waits_for_what_is_durable_on_every_replica_in_sync() {
    let mut leader = in_sync();
    leader.produce(3);
    leader.replica.await_committed(o(4), 77, &mut leader.effects);
    leader.replica.acked(FOLLOWER, SESSION, position(0, 4, 4), at(1).now, &mut leader.effects);
    assert_eq!(hw(&leader), o(3), "not durable here");
    leader.flush();
    assert_eq!(hw(&leader), o(4));
    assert!(leader.effects.iter().any(|effect| matches!(effect, Effect::Acknowledged(77))));
    leader.produce_all(4..5);
    leader.replica.acked(FOLLOWER, SESSION, position(0, 5, 4), at(1).now, &mut leader.effects);
    assert_eq!(hw(&leader), o(4), "not durable there");
}

#[test]
fn a_follower_that_lags_leaves_and_what_waits_goes_on_once_that_is_committed() {
    let mut leader = in_sync();
    leader.produce_all(3..4);
    leader.replica.await_committed(o(4), 77, &mut leader.effects);
    leader.effects.clear();
    for secs in [10, 20, 30] {
        leader.replica.tick(at(secs).now, &mut leader.effects);
        assert_eq!(isr_of(&mut leader.effects), Vec::<Vec<i32>>::new(), "after {secs} s");
    }
    leader.replica.tick(at(41).now, &mut leader.effects);
    assert_eq!(isr_of(&mut leader.effects), [[1]]);
    assert_eq!(hw(&leader), o(3), "it counts until the change is committed");
    leader.replica.assign(committed(2, &[LEADER]), at(41).now, &mut leader.effects);
    assert_eq!(hw(&leader), o(4));
    assert!(leader.effects.iter().any(|effect| matches!(effect, Effect::Acknowledged(77))));
    // It comes back and catches up.
    leader.effects.clear();
    leader.replica.acked(FOLLOWER, SESSION, position(0, 4, 4), at(50).now, &mut leader.effects);
    assert_eq!(isr_of(&mut leader.effects), [[1, 2]]);
}

#[test]
fn a_follower_that_writes_and_does_not_sync_leaves() {
    let mut leader = in_sync();
    leader.produce_all(3..4);
    leader.replica.acked(FOLLOWER, SESSION, position(0, 4, 3), at(1).now, &mut leader.effects);
    leader.effects.clear();
    leader.replica.tick(at(20).now, &mut leader.effects);
    assert_eq!(isr_of(&mut leader.effects), Vec::<Vec<i32>>::new());
    leader.replica.tick(at(41).now, &mut leader.effects);
    assert_eq!(isr_of(&mut leader.effects), [[1]]);
}

#[test]
fn a_follower_that_is_always_a_little_behind_stays() {
    let mut leader = in_sync();
    for second in 1..200 {
        leader.produce_all(second + 2..second + 3);
        leader.effects.clear();
        // What was written now is synced with the next.
        let (end, now) = (i64::try_from(second).unwrap() + 3, at(second).now);
        leader.replica.acked(FOLLOWER, SESSION, position(0, end, end - 1), now, &mut leader.effects);
        leader.replica.tick(now, &mut leader.effects);
        assert_eq!(isr_of(&mut leader.effects), Vec::<Vec<i32>>::new(), "after {second} s");
    }
}

#[test]
fn a_leader_that_nobody_hears_does_not_take_anybody_at_an_old_word() {
    // Three replicas in sync. The second one has everything, the third one and then both are not heard any more.
    const THIRD: NodeId = NodeId::new(3);
    let of_three = |partition_epoch, isr: &[NodeId]| Assignment {
        replicas: vec![LEADER, FOLLOWER, THIRD],
        ..committed(partition_epoch, isr)
    };
    let mut leader = Node::leader(0, Mode::Sync);
    leader.replica.assign(of_three(1, &[LEADER]), at(0).now, &mut leader.effects);
    for (node_id, session) in [(FOLLOWER, SESSION), (THIRD, SESSION + 1)] {
        let (replica, effects) = (&mut leader.replica, &mut leader.effects);
        assert!(replica.follower_attached(node_id, session, position(0, 0, 0), at(0).now, effects));
    }
    let all = of_three(2, &[LEADER, FOLLOWER, THIRD]);
    leader.replica.assign_in_journal(all, o(10), at(0).now, &mut leader.effects);
    with_min(&mut leader, 2);
    leader.produce_all(0..3);
    for (node_id, session) in [(FOLLOWER, SESSION), (THIRD, SESSION + 1)] {
        leader.replica.acked(node_id, session, position(0, 3, 3), at(1).now, &mut leader.effects);
    }
    assert_eq!(hw(&leader), o(3), "who was in sync before is in sync now");
    leader.replica.journal_acked(FOLLOWER, o(10), &mut leader.effects);
    leader.replica.journal_acked(THIRD, o(11), &mut leader.effects);
    leader.produce_all(3..5);
    leader.replica.acked(FOLLOWER, SESSION, position(0, 5, 5), at(1).now, &mut leader.effects);
    leader.replica.assign_in_journal(of_three(3, &[LEADER, FOLLOWER]), o(12), at(40).now, &mut leader.effects);
    assert_eq!((hw(&leader), leader.replica.isr()), (o(3), vec![LEADER, FOLLOWER]));
    leader.replica.journal_acked(THIRD, o(12), &mut leader.effects);
    leader.replica.journal_acked(FOLLOWER, o(11), &mut leader.effects);
    assert_eq!(hw(&leader), o(3));
    leader.replica.journal_acked(FOLLOWER, o(12), &mut leader.effects);
    assert_eq!(hw(&leader), o(5));
}

#[test]
fn a_leader_left_alone_goes_on_alone_where_that_is_enough() {
    let mut leader = in_sync();
    leader.produce_all(3..5);
    leader.replica.assign_in_journal(committed(2, &[LEADER]), o(12), at(40).now, &mut leader.effects);
    assert_eq!(hw(&leader), o(5));
}

#[test]
fn an_idle_follower_stays() {
    let mut leader = in_sync();
    for secs in (0..3600).step_by(15) {
        leader.replica.tick(at(secs).now, &mut leader.effects);
    }
    assert_eq!(isr_of(&mut leader.effects), Vec::<Vec<i32>>::new());
}

#[test]
fn a_follower_that_comes_back_with_less_than_is_committed_is_out_at_once() {
    let mut leader = in_sync();
    leader.replica.follower_detached(FOLLOWER, SESSION);
    leader.replica.follower_attached(FOLLOWER, 8, position(0, 2, 2), at(1).now, &mut leader.effects);
    assert_eq!(isr_of(&mut leader.effects), [[1]]);
    // What its old connection still says does not count.
    assert!(!leader.replica.acked(FOLLOWER, SESSION, position(0, 3, 3), at(1).now, &mut leader.effects));
    assert!(leader.replica.acked(FOLLOWER, 8, position(0, 3, 3), at(1).now, &mut leader.effects));
}

#[test]
fn acknowledgements_that_cannot_be_are_not_taken() {
    let mut leader = in_sync();
    for ack in [position(0, 4, 3), position(0, 2, 2), position(0, 3, 4), position(1, 3, 3)] {
        assert!(!leader.replica.acked(FOLLOWER, SESSION, ack, at(1).now, &mut leader.effects), "{ack:?}");
    }
    assert!(!leader.replica.acked(NodeId::new(9), SESSION, position(0, 3, 3), at(1).now, &mut leader.effects));
}

#[test]
fn a_replica_that_is_not_assigned_does_not_join() {
    let mut leader = Node::leader(0, Mode::Sync);
    leader.effects.clear();
    let stranger = NodeId::new(9);
    leader.replica.follower_attached(stranger, SESSION, position(0, 0, 0), at(0).now, &mut leader.effects);
    assert_eq!(isr_of(&mut leader.effects), Vec::<Vec<i32>>::new());
}

fn with_min(leader: &mut Node, min_insync_replicas: usize) {
    let settings = Settings { min_insync_replicas, ..settings(Mode::Sync) };
    leader.replica.reconfigure_all(config(), settings, &mut leader.effects);
}

#[test]
fn too_few_in_sync_refuse_before_and_after_the_append() {
    let mut leader = in_sync();
    with_min(&mut leader, 2);
    leader.produce(3);
    leader.replica.await_committed(o(4), 77, &mut leader.effects);
    leader.flush();
    leader.effects.clear();
    leader.replica.assign(committed(2, &[LEADER]), at(1).now, &mut leader.effects);
    let refused = |effect: &Effect<u64>| matches!(effect, Effect::Refused(77, Unacknowledged::NotEnoughReplicas));
    assert!(leader.effects.iter().any(refused), "{:?}", leader.effects);
    assert_eq!(hw(&leader), o(3), "nothing is committed while too few are in sync");
    let error = leader.replica.append(&batch(9), Acks::All, at(0).wall, &mut leader.effects).unwrap_err();
    assert!(matches!(error, ProduceError::NotEnoughReplicas { in_sync: 1, wanted: 2 }));
    leader.replica.append(&batch(9), Acks::Leader, at(0).wall, &mut leader.effects).unwrap();
}

#[test]
fn more_replicas_than_there_are_are_never_asked_for() {
    let mut leader = in_sync();
    with_min(&mut leader, 5);
    leader.replica.append(&batch(9), Acks::All, at(0).wall, &mut leader.effects).unwrap();
}

#[test]
fn a_change_that_was_refused_is_proposed_again_and_one_not_known_is_not() {
    let mut leader = in_sync();
    leader.produce_all(3..4);
    leader.replica.tick(at(31).now, &mut leader.effects);
    assert_eq!(isr_of(&mut leader.effects), [[1]]);
    leader.replica.tick(at(62).now, &mut leader.effects);
    assert_eq!(isr_of(&mut leader.effects), Vec::<Vec<i32>>::new());
    leader.replica.isr_refused(1, at(62).now, &mut leader.effects);
    assert_eq!(isr_of(&mut leader.effects), [[1]]);
}

#[test]
fn a_leader_that_steps_down_refuses_what_waits_and_what_comes() {
    let mut leader = in_sync();
    leader.produce(3);
    leader.replica.await_committed(o(4), 77, &mut leader.effects);
    leader.effects.clear();
    leader.replica.step_down(&mut leader.effects);
    assert!(matches!(leader.effects.as_slice(), [Effect::Refused(77, Unacknowledged::NotLeader)]));
    let error = leader.replica.append(&batch(9), Acks::Leader, at(0).wall, &mut leader.effects).unwrap_err();
    assert!(matches!(error, ProduceError::NotLeader));
    // It leads again in a higher epoch only.
    assert!(!leader.replica.become_leader(assignment(0, &[LEADER]), at(1).now, &mut leader.effects));
    assert!(leader.replica.become_leader(assignment(1, &[LEADER]), at(1).now, &mut leader.effects));
}

#[test]
fn a_leader_that_restarts_does_not_know_the_end_before_its_followers_came_back() {
    let mut node = Node::follower_with(&[(0, 0), (0, 1), (0, 2)]);
    let (log_config, both) = (config(), [LEADER, FOLLOWER]);
    node.replica.reconfigure_all(log_config, settings(Mode::Sync), &mut node.effects);
    assert!(node.replica.become_leader(assignment(1, &both), at(0).now, &mut node.effects));
    assert_eq!((hw(&node), node.replica.end_is_known()), (o(0), false));
    node.replica.follower_attached(FOLLOWER, SESSION, position(1, 3, 3), at(1).now, &mut node.effects);
    assert_eq!((hw(&node), node.replica.end_is_known()), (o(3), true));
}
