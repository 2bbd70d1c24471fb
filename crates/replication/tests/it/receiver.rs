//! Bad frames: the receiver answers with a reason, closes, and nothing of them is on the disk.

use bytes::Bytes;
use chronik_model::{PartitionIndex, TopicId, Uuid};
use chronik_replication::Mode;
use chronik_replication::frame;
use chronik_replication::link::{Reason, sender};
use chronik_replication::message::{AppendHead, Frame, TopicIdPartition};

use crate::support::*;

/// A follower with five records on a link that is open, and the next append frame of its leader.
fn before(next: impl FnOnce(&mut AppendHead, &mut Vec<u8>)) -> (Link, Node, AppendHead, Bytes) {
    let (mut leader, mut follower) = (Node::leader(3, Mode::Async), Node::follower());
    leader.produce_all(0..5);
    let link = Link::connected(&mut leader, &mut follower);
    leader.produce_all(5..7);
    let region = leader.replica.log().reader().read_replica(o(5), o(7), 1 << 20).unwrap();
    let mut head = AppendHead {
        id: id(),
        leader_epoch: epoch(3),
        segment: region.segment,
        base: o(5),
        end: o(7),
        high_watermark: o(7),
        log_start: o(0),
    };
    let mut batches = region.slice.read().unwrap();
    next(&mut head, &mut batches);
    (link, follower, head, batches.into())
}

fn refused(next: impl FnOnce(&mut AppendHead, &mut Vec<u8>)) -> Reason {
    let (mut link, mut follower, head, batches) = before(next);
    let files = follower.segments();
    link.deliver_to_receiver(&frame::to_bytes(&Frame::Append(head, batches)), &mut follower);
    assert_eq!(follower.segments(), files, "the disk changed");
    assert_eq!(follower.replica.log().log_end(), o(5));
    let reason = link.receiver_closed.unwrap();
    assert!(link.transcript.contains(&format!("<- refused {reason}")), "{}", link.transcript);
    reason
}

#[test]
fn a_good_frame_is_appended() {
    let (mut link, mut follower, head, batches) = before(|_, _| {});
    link.deliver_to_receiver(&frame::to_bytes(&Frame::Append(head, batches)), &mut follower);
    assert_eq!((follower.replica.log().log_end(), link.receiver_closed), (o(7), None));
}

#[test]
fn appends_that_do_not_fit_are_refused_each_with_its_reason() {
    let reasons = [
        refused(|head, _| (head.base, head.end) = (o(6), o(8))),
        refused(|head, _| (head.base, head.end) = (o(4), o(6))),
        refused(|head, _| head.leader_epoch = epoch(2)),
        refused(|head, _| head.leader_epoch = epoch(4)),
        refused(|head, _| head.id = TopicIdPartition::new(TopicId(Uuid::ZERO), PartitionIndex::new(0))),
        refused(|head, _| head.end = o(8)),
        refused(|head, _| head.segment = o(2)),
        refused(|_, batches| *batches.last_mut().unwrap() ^= 1),
        refused(|_, batches| batches.truncate(batches.len() - 1)),
        refused(|_, batches| batches.extend([0; 5])),
        refused(|_, batches| batches[7] ^= 1),
        refused(|_, batches| batches[15] = 9),
        refused(|_, batches| batches[16] = 1),
    ];
    use Reason::*;
    let expected = [
        Gap,
        Overlap,
        StaleLeaderEpoch,
        NotAttached,
        NotAttached,
        CorruptBatch,
        WrongSegment,
        CorruptBatch,
        CorruptBatch,
        CorruptBatch,
        CorruptBatch,
        BatchLeaderEpoch,
        CorruptBatch,
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn bytes_that_are_no_frame_are_refused_each_with_its_reason() {
    let with = |change: fn(&mut Vec<u8>)| {
        let (mut link, mut follower, head, batches) = before(|_, _| {});
        let mut bytes = frame::to_bytes(&Frame::Append(head, batches));
        change(&mut bytes);
        link.deliver_to_receiver(&bytes, &mut follower);
        assert_eq!(follower.replica.log().log_end(), o(5));
        link.receiver_closed.unwrap()
    };
    assert_eq!(with(|bytes| bytes[0] = 0), Reason::WrongMagic);
    assert_eq!(with(|bytes| bytes[4] = 7), Reason::UnsupportedVersion);
    assert_eq!(with(|bytes| bytes[5] = 77), Reason::UnknownKind);
    assert_eq!(with(|bytes| bytes[6] = 1), Reason::UnknownKind);
    assert_eq!(with(|bytes| bytes[8] = 0xff), Reason::TooLong);
    assert_eq!(with(|bytes| bytes[12] = 0xff), Reason::TooLong);
    assert_eq!(with(|bytes| bytes[25] ^= 1), Reason::Checksum);
}

#[test]
fn every_flipped_bit_of_an_append_frame_is_refused() {
    let (_, _, head, batches) = before(|_, _| {});
    let len = frame::to_bytes(&Frame::Append(head, batches)).len();
    for bit in (0..len * 8).step_by(7) {
        let (mut link, mut follower, head, batches) = before(|_, _| {});
        let mut bytes = frame::to_bytes(&Frame::Append(head, batches));
        bytes[bit / 8] ^= 1 << (bit % 8);
        link.deliver_to_receiver(&bytes, &mut follower);
        // A longer frame is waited for.
        assert_eq!(follower.replica.log().log_end(), o(5), "bit {bit}");
    }
}

#[test]
fn frames_out_of_place_are_refused() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    let mut link = Link::new(sender_config(), receiver_config());
    link.tell_receiver(chronik_replication::link::receiver::Input::Connected { nonce: [2; 32] }, &mut follower);
    let (_, _, head, batches) = before(|_, _| {});
    link.deliver_to_receiver(&frame::to_bytes(&Frame::Append(head, batches)), &mut follower);
    assert_eq!(link.receiver_closed, Some(Reason::Unexpected));
    let mut link = Link::new(sender_config(), receiver_config());
    link.tell_sender(sender::Input::Connected { nonce: [1; 32] }, &mut leader);
    link.tell_sender(sender::Input::Frame(Frame::Ack(chronik_replication::message::Ack::default())), &mut leader);
    assert_eq!(link.sender_closed, Some(Reason::Unexpected));
}
