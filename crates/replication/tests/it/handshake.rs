//! Who follows whom: clusters, generations, node ids, secrets, and time.

use chronik_model::{Generation, NodeId, Uuid};
use chronik_replication::Mode;
use chronik_replication::link::{Reason, Secret, receiver, sender};
use chronik_replication::message::{Fenced, Frame};

use crate::support::*;

fn meet(sender: sender::Config, receiver: receiver::Config) -> Link {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    let mut link = Link::new(sender, receiver);
    link.connect(&mut leader, &mut follower);
    link
}

fn ends(link: &Link) -> (Option<Reason>, Option<Reason>) {
    (link.sender_closed, link.receiver_closed)
}

#[test]
fn a_new_receiver_takes_the_cluster_and_a_node_id_from_its_first_leader() {
    let link = meet(sender_config(), receiver::Config { cluster_id: None, node_id: NodeId::NONE, ..receiver_config() });
    assert_eq!(link.adopted, Some((Uuid::from_bytes([5; 16]), NodeId::new(30))));
    assert!(link.sender.is_open() && link.receiver.is_open());
}

#[test]
fn another_cluster_and_the_same_node_are_refused() {
    let link = meet(sender_config(), receiver::Config { cluster_id: Some(Uuid::ZERO), ..receiver_config() });
    assert_eq!(ends(&link), (Some(Reason::WrongCluster), Some(Reason::WrongCluster)));
    let link = meet(sender_config(), receiver::Config { node_id: LEADER, ..receiver_config() });
    assert_eq!(ends(&link), (Some(Reason::SameNode), Some(Reason::SameNode)));
}

#[test]
fn a_leader_of_an_old_generation_is_fenced_and_told_who_leads() {
    let receiver = receiver::Config {
        generation: Generation::new(2),
        leader_id: NodeId::new(8),
        leader_advertised: "b:9092".into(),
        ..receiver_config()
    };
    let link = meet(sender_config(), receiver);
    let fenced = Fenced { generation: Generation::new(2), leader_id: NodeId::new(8), advertised: "b:9092".into() };
    assert_eq!(link.fenced, Some(fenced));
    assert_eq!(ends(&link), (Some(Reason::Fenced), Some(Reason::Fenced)));
}

#[test]
fn two_leaders_of_one_generation_are_not_both_followed() {
    let receiver = receiver::Config { generation: Generation::new(1), leader_id: NodeId::new(8), ..receiver_config() };
    assert_eq!(ends(&meet(sender_config(), receiver)), (Some(Reason::OtherLeader), Some(Reason::OtherLeader)));
}

#[test]
fn a_node_that_leads_follows_nobody() {
    let link = meet(sender_config(), receiver::Config { leads: true, ..receiver_config() });
    assert_eq!(ends(&link), (Some(Reason::IsLeader), Some(Reason::IsLeader)));
}

#[test]
fn a_node_that_is_promoted_fences_the_leader_it_followed() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    let mut link = Link::connected(&mut leader, &mut follower);
    let fenced = Fenced { generation: Generation::new(2), leader_id: FOLLOWER, advertised: "f:1".into() };
    link.tell_receiver(receiver::Input::Promoted(fenced.clone()), &mut follower);
    link.run(&mut leader, &mut follower);
    assert_eq!((link.fenced, link.sender_closed), (Some(fenced), Some(Reason::Fenced)));
}

#[test]
fn a_slow_handshake_is_judged_by_what_is_known_at_its_end() {
    let learned = |generation: i32, leader_id: i32| {
        let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
        let mut link = Link::new(sender_config(), receiver_config());
        link.tell_receiver(receiver::Input::Connected { nonce: [2; 32] }, &mut follower);
        link.tell_sender(sender::Input::Connected { nonce: [1; 32] }, &mut leader);
        let hello = link.to_receiver.pop_front().unwrap();
        link.deliver_to_receiver(&hello, &mut follower);
        // The hello was accepted; meanwhile another connection was established.
        let (generation, leader_id) = (Generation::new(generation), NodeId::new(leader_id));
        let known = Fenced { generation, leader_id, advertised: "c:1".into() };
        link.tell_receiver(receiver::Input::Generation(known), &mut follower);
        link.run(&mut leader, &mut follower);
        (ends(&link), link.receiver.is_open(), link.fenced.map(|fenced| fenced.leader_id))
    };
    let fenced = (Some(Reason::Fenced), Some(Reason::Fenced));
    assert_eq!(learned(2, 8), (fenced, false, Some(NodeId::new(8))));
    assert_eq!(learned(1, 8), ((Some(Reason::OtherLeader), Some(Reason::OtherLeader)), false, None));
    assert_eq!(learned(1, LEADER.get()), ((None, None), true, None));
    assert_eq!(learned(0, 8), ((None, None), true, None));
}

#[test]
fn an_open_link_ends_when_a_later_leader_is_met_on_another() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    let mut link = Link::connected(&mut leader, &mut follower);
    let known = |generation, leader_id| {
        let generation = Generation::new(generation);
        receiver::Input::Generation(Fenced { generation, leader_id, advertised: "c:1".into() })
    };
    link.tell_receiver(known(1, LEADER), &mut follower);
    link.run(&mut leader, &mut follower);
    assert_eq!(ends(&link), (None, None));
    link.tell_receiver(known(2, NodeId::new(8)), &mut follower);
    link.run(&mut leader, &mut follower);
    assert_eq!(ends(&link), (Some(Reason::Fenced), Some(Reason::Fenced)));
    assert_eq!(link.fenced.map(|fenced| fenced.generation), Some(Generation::new(2)));
}

#[test]
fn a_fence_of_a_generation_that_is_not_higher_is_not_believed() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    let mut link = Link::connected(&mut leader, &mut follower);
    let fenced = Fenced { generation: Generation::new(1), leader_id: FOLLOWER, advertised: "f:1".into() };
    link.tell_sender(sender::Input::Frame(Frame::Fenced(fenced)), &mut leader);
    assert_eq!((link.fenced, link.sender_closed), (None, Some(Reason::Unexpected)));
}

#[test]
fn both_sides_need_the_same_secret() {
    let secret = |text: &str| Some(Secret::new(text.as_bytes()));
    let with = |ours: Option<Secret>, theirs: Option<Secret>| {
        let sender = sender::Config { secret: ours, ..sender_config() };
        meet(sender, receiver::Config { secret: theirs, ..receiver_config() })
    };
    let link = with(secret("s"), secret("s"));
    assert!(link.sender.is_open() && link.receiver.is_open(), "{}", link.transcript);
    for (ours, theirs) in [(secret("s"), secret("t")), (None, secret("s")), (secret("s"), None)] {
        let link = with(ours, theirs);
        assert_eq!(link.sender_closed, Some(Reason::NotAuthenticated));
        assert_eq!(link.receiver.attached(), 0);
    }
}

#[test]
fn a_stranger_cannot_fence_a_leader_that_has_a_secret() {
    let mut leader = Node::leader(0, Mode::Async);
    let secret = Some(Secret::new(b"s"));
    let mut link = Link::new(sender::Config { secret, ..sender_config() }, receiver_config());
    link.tell_sender(sender::Input::Connected { nonce: [1; 32] }, &mut leader);
    let fenced = Fenced { generation: Generation::new(99), leader_id: FOLLOWER, advertised: "f:1".into() };
    link.tell_sender(sender::Input::Frame(Frame::Fenced(fenced)), &mut leader);
    assert_eq!((link.fenced.take(), link.sender_closed), (None, Some(Reason::Unexpected)));
}

#[test]
fn silence_closes_and_heartbeats_keep_open() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    let mut link = Link::connected(&mut leader, &mut follower);
    for secs in (10..=600).step_by(10) {
        link.time = at(secs);
        link.tell_sender(sender::Input::Tick, &mut leader);
        link.tell_receiver(receiver::Input::Tick, &mut follower);
        link.run(&mut leader, &mut follower);
        assert_eq!(ends(&link), (None, None), "after {secs} s");
    }
    assert_eq!(link.sender.deadline(), Some(at(610).now));
    link.time = at(660);
    link.tell_sender(sender::Input::Tick, &mut leader);
    assert_eq!(link.sender_closed, Some(Reason::Silence));
    link.tell_receiver(receiver::Input::Tick, &mut follower);
    assert_eq!(link.receiver_closed, Some(Reason::Silence));
    assert_eq!((link.sender.deadline(), link.receiver.deadline()), (None, None));
}

#[test]
fn a_handshake_that_does_not_go_on_is_ended() {
    let (mut leader, mut follower) = (Node::leader(0, Mode::Async), Node::follower());
    let mut link = Link::new(sender_config(), receiver_config());
    link.tell_receiver(receiver::Input::Connected { nonce: [2; 32] }, &mut follower);
    link.tell_sender(sender::Input::Connected { nonce: [1; 32] }, &mut leader);
    assert_eq!(link.receiver.deadline(), Some(at(10).now));
    link.time = at(10);
    link.tell_receiver(receiver::Input::Tick, &mut follower);
    link.tell_sender(sender::Input::Tick, &mut leader);
    assert_eq!(ends(&link), (Some(Reason::HandshakeTimeout), Some(Reason::HandshakeTimeout)));
}
