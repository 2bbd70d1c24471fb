//! The journal on a link: continued where the follower's is the beginning of the leader's, replaced where it is not, and
//! always before what depends on it.

use bytes::Bytes;
use chronik_model::{Generation, Instant};
use chronik_replication::Mode;
use chronik_replication::link::receiver::{self, Receiver};
use chronik_replication::link::sender::{self, Effect, Input, Sender};
use chronik_replication::link::{Reason, Time};
use chronik_replication::message::*;

use crate::support::*;

const NOW: Time = Time { now: Instant::ORIGIN, wall: chronik_model::Timestamp::NONE };

fn position(end: i64, generations: &[(i32, i64)]) -> JournalPosition {
    let generations = generations.iter().map(|(generation, start)| (epoch(*generation), o(*start))).collect();
    JournalPosition { end: o(end), generations }
}

fn handle(sender: &mut Sender, input: Input) -> Vec<Effect> {
    let mut effects = Vec::new();
    sender.handle(input, NOW, &mut effects);
    effects
}

/// A sender whose journal is `[start, ours)`, told of a follower's; what it does first.
fn met(start: i64, ours: JournalPosition, theirs: JournalPosition) -> (Sender, Vec<Effect>) {
    let config = sender::Config { journal_start: o(start), journal: ours, ..sender_config() };
    let mut sender = Sender::new(config);
    handle(&mut sender, Input::Connected { nonce: [1; 32] });
    let ack = HelloAck {
        version: 1,
        cluster_id: None,
        node_id: FOLLOWER,
        generation: Generation::ZERO,
        features: 0,
        advertised: "f:1".into(),
        rack: "".into(),
        journal: theirs,
    };
    let effects = handle(&mut sender, Input::Frame(Frame::HelloAck(ack)));
    (sender, effects)
}

fn asked(effects: &[Effect]) -> Option<Option<i64>> {
    effects.iter().find_map(|effect| match effect {
        Effect::ReadJournal { from, .. } => Some(Some(from.get())),
        Effect::ReadSnapshot => Some(None),
        _ => None,
    })
}

#[test]
fn a_journal_is_continued_where_it_can_be_and_replaced_where_it_cannot() {
    let ours = || position(50, &[(0, 0), (2, 30)]);
    let first = |start, theirs| asked(&met(start, ours(), theirs).1);
    assert_eq!(first(0, position(0, &[])), Some(Some(0)));
    assert_eq!(first(0, position(20, &[(0, 0)])), Some(Some(20)));
    assert_eq!(first(0, position(40, &[(0, 0), (2, 30)])), Some(Some(40)));
    assert_eq!(first(0, ours()), None, "nothing to send");
    assert_eq!(first(0, position(35, &[(0, 0)])), Some(None), "it went on by itself");
    assert_eq!(first(0, position(35, &[(0, 0), (1, 25)])), Some(None), "in another generation");
    assert_eq!(first(0, position(60, &[(0, 0), (2, 30)])), Some(None), "further than ours");
    assert_eq!(first(25, position(20, &[(0, 0)])), Some(None), "no longer there");
    assert_eq!(first(25, position(0, &[])), Some(None), "no longer there");
}

fn delta(base: i64, end: i64) -> MetadataDelta {
    MetadataDelta { base: o(base), end: o(end), batches: Bytes::from_static(b"batch") }
}

fn ack(end: i64) -> Input {
    Input::Frame(Frame::Ack(Ack { journal_end: o(end), partitions: Vec::new() }))
}

#[test]
fn one_part_is_under_way_at_a_time() {
    let (mut sender, _) = met(0, position(50, &[(0, 0)]), position(20, &[(0, 0)]));
    let effects = handle(&mut sender, Input::JournalRead(delta(20, 30)));
    assert!(matches!(&effects[..], [Effect::Send(Frame::MetadataDelta(_))]), "{effects:?}");
    assert_eq!(asked(&handle(&mut sender, ack(25))), None);
    assert_eq!(asked(&handle(&mut sender, ack(30))), Some(Some(30)));
    let effects = handle(&mut sender, ack(31));
    assert!(matches!(effects.last(), Some(Effect::Close { reason: Reason::BadOffset, .. })), "{effects:?}");
}

#[test]
fn a_partition_is_attached_once_the_journal_that_knows_it_was_sent() {
    let leader = Node::leader(0, Mode::Async);
    let (mut sender, _) = met(0, position(50, &[(0, 0)]), position(20, &[(0, 0)]));
    let attaches = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Send(Frame::Attach(_))));
    assert!(!attaches(&handle(&mut sender, Input::Partition(leader.replica.partition_state(id(), o(40))))));
    assert!(!attaches(&handle(&mut sender, Input::JournalRead(delta(20, 30)))));
    handle(&mut sender, ack(30));
    let effects = handle(&mut sender, Input::JournalRead(delta(30, 50)));
    assert!(matches!(&effects[..], [Effect::Send(Frame::MetadataDelta(_)), Effect::Send(Frame::Attach(_))]));
}

#[test]
fn nothing_is_attached_before_the_last_part_of_a_snapshot() {
    let leader = Node::leader(0, Mode::Async);
    let (mut sender, _) = met(0, position(50, &[(1, 0)]), position(20, &[(0, 0)]));
    let part = |part, last| {
        let position = position(50, &[(1, 0)]);
        Input::SnapshotRead(MetadataSnapshot { position, part, last, records: Bytes::new() })
    };
    let attaches = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Send(Frame::Attach(_))));
    assert!(!attaches(&handle(&mut sender, Input::Partition(leader.replica.partition_state(id(), o(10))))));
    assert!(!attaches(&handle(&mut sender, part(0, false))));
    assert!(attaches(&handle(&mut sender, part(1, true))));
    let more = Input::Journal { start: o(0), position: position(60, &[(1, 0)]) };
    assert_eq!(asked(&handle(&mut sender, more)), None, "the snapshot is not acknowledged");
    assert_eq!(asked(&handle(&mut sender, ack(50))), Some(Some(50)));
}

/// A receiver on an open link, its journal ending at 20.
fn open() -> Receiver {
    let config = receiver::Config { journal: position(20, &[(0, 0)]), ..receiver_config() };
    let (mut receiver, mut effects) = (Receiver::new(config), Vec::new());
    let hello = Hello {
        version_min: 1,
        version_max: 1,
        cluster_id: sender_config().cluster_id,
        node_id: LEADER,
        leader_id: LEADER,
        generation: Generation::new(1),
        features: 0,
        advertised: "l:1".into(),
        nonce: [1; 32],
    };
    receiver.handle(receiver::Input::Connected { nonce: [2; 32] }, NOW, &mut effects);
    receiver.handle(receiver::Input::Frame(Frame::Hello(hello)), NOW, &mut effects);
    receiver.handle(receiver::Input::Frame(Frame::Welcome(Welcome { node_id: FOLLOWER })), NOW, &mut effects);
    assert!(receiver.is_open(), "{effects:?}");
    receiver
}

fn told(receiver: &mut Receiver, input: receiver::Input) -> Vec<receiver::Effect> {
    let mut effects = Vec::new();
    receiver.handle(input, NOW, &mut effects);
    effects
}

#[test]
fn a_receiver_applies_what_continues_its_journal_and_refuses_the_rest() {
    let mut receiver = open();
    let frame = |base, end| receiver::Input::Frame(Frame::MetadataDelta(delta(base, end)));
    assert!(matches!(&told(&mut receiver, frame(20, 30))[..], [receiver::Effect::ApplyDelta(_)]));
    told(&mut receiver, receiver::Input::JournalApplied { end: o(30) });
    let effects = told(&mut receiver, receiver::Input::Settled);
    let [receiver::Effect::Send(Frame::Ack(ack))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((ack.journal_end, ack.partitions.len()), (o(30), 0));
    assert_eq!(told(&mut receiver, receiver::Input::Settled).len(), 0, "acknowledged once");
    let effects = told(&mut receiver, frame(40, 50));
    assert!(matches!(effects.last(), Some(receiver::Effect::Close { reason: Reason::Metadata, .. })), "{effects:?}");
}

#[test]
fn parts_of_a_snapshot_come_in_order_or_not_at_all() {
    let part = |part, last, end| {
        let position = position(end, &[(1, 0)]);
        receiver::Input::Frame(Frame::MetadataSnapshot(MetadataSnapshot {
            position,
            part,
            last,
            records: Bytes::new(),
        }))
    };
    let mut receiver = open();
    for (number, last) in [(0, false), (1, false), (2, true)] {
        assert!(matches!(&told(&mut receiver, part(number, last, 90))[..], [receiver::Effect::ApplySnapshot(_)]));
    }
    let next = receiver::Input::Frame(Frame::MetadataDelta(delta(90, 91)));
    assert!(matches!(&told(&mut receiver, next)[..], [receiver::Effect::ApplyDelta(_)]));
    let begun = || {
        let mut receiver = open();
        told(&mut receiver, part(0, false, 90));
        receiver
    };
    let wrong = [
        (open(), part(1, false, 90)),
        (begun(), part(0, false, 90)),
        (begun(), part(2, true, 90)),
        (begun(), part(1, true, 91)),
        (begun(), receiver::Input::Frame(Frame::MetadataDelta(delta(20, 30)))),
    ];
    for (mut receiver, wrong) in wrong {
        let effects = told(&mut receiver, wrong);
        assert!(
            matches!(effects.last(), Some(receiver::Effect::Close { reason: Reason::Metadata, .. })),
            "{effects:?}"
        );
    }
}

#[test]
fn a_disk_that_fails_under_one_partition_refuses_that_one_only() {
    let mut receiver = open();
    let attach = Attach {
        id: id(),
        topic: "t".into(),
        leader_epoch: epoch(0),
        log_start: o(0),
        first_segment: o(0),
        high_watermark: o(0),
        epochs: Vec::new(),
    };
    told(&mut receiver, receiver::Input::Frame(Frame::Attach(attach)));
    let failed = |reason| receiver::Input::Failed { id: Some(id()), reason, detail: "no space".into() };
    let effects = told(&mut receiver, failed(Reason::Storage));
    assert!(matches!(&effects[..], [receiver::Effect::Send(Frame::PartitionRefused(_))]), "{effects:?}");
    assert!(receiver.is_open());
    let effects = told(&mut receiver, failed(Reason::UnknownPartition));
    assert!(matches!(effects.last(), Some(receiver::Effect::Close { reason: Reason::UnknownPartition, .. })));
}

#[test]
fn a_partition_that_was_refused_is_offered_again_later() {
    let leader = Node::leader(0, Mode::Async);
    let (mut sender, _) = met(0, position(0, &[]), position(0, &[]));
    handle(&mut sender, Input::Partition(leader.replica.partition_state(id(), o(0))));
    let refused =
        PartitionRefused { id: id(), leader_epoch: epoch(0), reason: Reason::Storage, detail: "no space".into() };
    handle(&mut sender, Input::Frame(Frame::PartitionRefused(refused)));
    assert_eq!(sender.deadline(), Some(at(5).now));
    let mut effects = Vec::new();
    sender.handle(Input::Tick, at(5), &mut effects);
    assert!(matches!(&effects[..], [Effect::Send(Frame::Attach(_))]), "{effects:?}");
}
