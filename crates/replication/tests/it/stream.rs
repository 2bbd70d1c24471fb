//! Data on a link: bytes and segments, the window, the bounds, retention.

use chronik_replication::link::sender;
use chronik_replication::message::{Frame, ResetCause};
use chronik_replication::{Mode, link::Reason};
use expect_test::expect_file;

use crate::support::*;

#[test]
fn an_empty_follower_gets_the_same_files() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    leader.produce_all(0..40);
    let link = Link::connected(&mut leader, &mut follower);
    assert!(leader.replica.log().segments_count() > 2);
    assert_identical(&leader, &follower);
    assert_eq!(follower.replica.high_watermark(), o(40));
    assert_eq!(link.sender.in_flight_bytes(), 0);
}

#[test]
fn what_is_said() {
    // Leader: one segment, records 0 to 2; the follower is empty. Then one more record.
    let (mut leader, mut follower) = (Node::leader(4, Mode::Async), Node::follower());
    leader.produce_all(0..3);
    let mut link = Link::connected(&mut leader, &mut follower);
    leader.produce(3);
    link.run(&mut leader, &mut follower);
    leader.flush();
    link.run(&mut leader, &mut follower);
    expect_file!["../../testdata/attach_and_stream.txt"].assert_eq(&link.transcript);
}

#[test]
fn the_high_watermark_of_a_follower_is_the_leaders_as_far_as_its_own_log_is_durable() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    let mut link = Link::connected(&mut leader, &mut follower);
    link.follower_syncs = false;
    leader.produce_all(0..3);
    link.run(&mut leader, &mut follower);
    assert_eq!((follower.replica.log().log_end(), follower.replica.high_watermark()), (o(3), o(0)));
    link.follower_syncs = true;
    leader.produce(3);
    link.run(&mut leader, &mut follower);
    assert_eq!((follower.replica.log().log_end(), follower.replica.high_watermark()), (o(4), o(3)));
    leader.flush();
    link.run(&mut leader, &mut follower);
    assert_eq!(follower.replica.high_watermark(), o(4));
}

#[test]
fn a_follower_that_does_not_acknowledge_is_sent_no_more_than_the_window() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    let mut link = Link::connected(&mut leader, &mut follower);
    leader.produce_all(0..200);
    let bounds = leader.replica.bounds();
    link.tell_sender(sender::Input::Moved { id: id(), bounds }, &mut leader);
    let sent: usize = link.to_receiver.iter().map(Vec::len).sum();
    assert!(link.sender.in_flight_bytes() >= 2000, "the window is used");
    assert!(link.sender.in_flight_bytes() < 2000 + 400, "{} bytes in flight", link.sender.in_flight_bytes());
    assert!(sent < 4000);
    link.run(&mut leader, &mut follower);
    assert_identical(&leader, &follower);
}

#[test]
fn a_follower_that_was_away_gets_exactly_what_it_lacks() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    leader.produce_all(0..10);
    drop(Link::connected(&mut leader, &mut follower));
    leader.produce_all(10..60);
    let link = Link::connected(&mut leader, &mut follower);
    assert!(link.transcript.contains("-> append [10, "), "{}", link.transcript);
    assert!(!link.transcript.contains("-> append [0, "), "{}", link.transcript);
    assert_identical(&leader, &follower);
}

#[test]
fn where_retention_has_removed_what_comes_next_the_follower_begins_anew() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    leader.produce_all(0..5);
    drop(Link::connected(&mut leader, &mut follower));
    leader.produce_all(5..60);
    leader.replica.log_mut().delete_records_before(o(41)).unwrap();
    leader.replica.apply_retention(at(0).wall).unwrap();
    let first = leader.replica.log().first_segment();
    assert!(first > o(5) && first < o(41));
    let link = Link::connected(&mut leader, &mut follower);
    assert_eq!(link.resets, [(o(5), first, ResetCause::Retention)]);
    assert_identical(&leader, &follower);
    assert_eq!(follower.replica.log().log_start(), o(41));
}

#[test]
fn retention_that_overtakes_a_running_link_resets_it() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    leader.produce_all(0..5);
    let mut link = Link::connected(&mut leader, &mut follower);
    leader.produce_all(5..60);
    leader.replica.log_mut().delete_records_before(o(41)).unwrap();
    leader.replica.apply_retention(at(0).wall).unwrap();
    link.run(&mut leader, &mut follower);
    assert_eq!(link.resets.len(), 1);
    assert_identical(&leader, &follower);
}

#[test]
fn a_log_start_moves_on_followers_and_their_segments_go() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    leader.produce_all(0..60);
    let mut link = Link::connected(&mut leader, &mut follower);
    leader.replica.log_mut().delete_records_before(o(41)).unwrap();
    leader.replica.apply_retention(at(0).wall).unwrap();
    link.run(&mut leader, &mut follower);
    assert_eq!(follower.replica.log().log_start(), o(41));
    follower.replica.apply_retention(at(0).wall).unwrap();
    assert_identical(&leader, &follower);
}

#[test]
fn what_retention_took_as_a_whole_goes_on_followers_as_well() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    let mut link = Link::connected(&mut leader, &mut follower);
    leader.produce_all(0..60);
    link.run(&mut leader, &mut follower);
    let mut config = config();
    config.retention_ms = Some(std::time::Duration::from_millis(1));
    leader.replica.log_mut().reconfigure(config);
    let later = chronik_model::Timestamp::from_millis(i64::MAX / 2);
    assert!(!leader.replica.apply_retention(later).unwrap().is_empty());
    assert_eq!((leader.replica.log().log_start(), leader.replica.log().size_bytes()), (o(60), 0));
    link.run(&mut leader, &mut follower);
    follower.replica.apply_retention(at(0).wall).unwrap();
    assert_identical(&leader, &follower);
    // Also one that has all of it and was away meanwhile, and what comes next continues.
    drop(link);
    let mut link = Link::connected(&mut leader, &mut follower);
    leader.produce_all(60..63);
    link.run(&mut leader, &mut follower);
    assert_identical(&leader, &follower);
    assert_eq!(link.resets, []);
}

#[test]
fn a_partition_that_the_follower_cannot_take_is_offered_again() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    leader.produce_all(0..3);
    follower.replica.log_mut().fail(&std::io::Error::other("full"));
    let mut link = Link::connected(&mut leader, &mut follower);
    assert!(link.transcript.ends_with("<- partition_refused\n"), "{}", link.transcript);
    assert_eq!(link.sender.deadline(), Some(at(5).now));
    link.time = at(4);
    link.tell_sender(sender::Input::Tick, &mut leader);
    assert_eq!((link.to_receiver.len(), link.sender.deadline()), (0, Some(at(5).now)));
    // The log was opened again meanwhile.
    follower = Node::follower();
    link.time = at(5);
    link.tell_sender(sender::Input::Tick, &mut leader);
    link.run(&mut leader, &mut follower);
    assert_identical(&leader, &follower);
    assert_eq!((link.sender_closed, link.sender.deadline()), (None, Some(at(10).now)));
}

#[test]
fn a_partition_that_is_gone_is_detached() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    let mut link = Link::connected(&mut leader, &mut follower);
    link.tell_sender(sender::Input::Removed(id()), &mut leader);
    link.run(&mut leader, &mut follower);
    assert_eq!((link.receiver.attached(), link.receiver_closed), (0, None));
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_ends_the_link() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    leader.produce_all(0..3);
    let mut link = Link::connected(&mut leader, &mut follower);
    let ack = chronik_replication::message::PartitionAck {
        id: id(),
        leader_epoch: epoch(0),
        log_end: o(4),
        durable_end: o(4),
    };
    let ack = chronik_replication::message::Ack { journal_end: o(0), partitions: vec![ack] };
    link.tell_sender(sender::Input::Frame(Frame::Ack(ack)), &mut leader);
    assert_eq!(link.sender_closed, Some(Reason::BadOffset));
}

#[test]
fn a_follower_that_feeds_others_sends_what_is_below_its_high_watermark() {
    let (mut leader, mut middle, mut last) = (Node::leader(0, Mode::Async), Node::follower(), Node::follower());
    leader.produce_all(0..20);
    leader.produce(20);
    drop(Link::connected(&mut leader, &mut middle));
    assert_eq!((middle.replica.log().log_end(), middle.replica.high_watermark()), (o(21), o(20)));
    let mut link = Link::new(
        sender::Config { node_id: FOLLOWER, ..sender_config() },
        chronik_replication::link::receiver::Config { node_id: chronik_model::NodeId::new(3), ..receiver_config() },
    );
    link.connect(&mut middle, &mut last);
    assert_eq!((last.replica.log().log_end(), last.replica.high_watermark()), (o(20), o(20)));
    assert_eq!(last.bytes_below(o(20)), leader.bytes_below(o(20)));
}
