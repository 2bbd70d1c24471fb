//! Rebalances of dynamic members: joining, generations, leaving, dying, and requests of the past.

use std::time::Duration;

use chronik_coordinator::Config;
use chronik_coordinator::message::SyncRequest;
use expect_test::expect;

use crate::scene::{GROUP, Scene, config, protocol, subscription};

/// Two members, `a` leading, in stable generation 1.
pub(crate) fn stable_pair() -> Scene {
    stable_pair_with_sessions_of(Duration::from_secs(10))
}

pub(crate) fn stable_pair_with_sessions_of(session_timeout: Duration) -> Scene {
    let mut scene = Scene::new(config());
    for name in ["a", "b"] {
        scene.client(name).request.session_timeout = session_timeout;
    }
    scene.join("a");
    scene.wait_ms(100);
    scene.join("b");
    scene.wait_ms(6_000);
    scene.sync("b", &[]);
    scene.sync("a", &[("a", "p0"), ("b", "p1")]);
    scene
}

#[test]
fn members_that_start_together_get_one_generation() {
    let mut scene = stable_pair();
    expect![[r#"
        @0 a joins
            g is PreparingRebalance, generation 0, 1 members: member joins: a-#1
            append 1: group g generation 0 of None []
        @100 b joins
        @6000 tick
            g is CompletingRebalance, generation 1, 2 members: join phase is over
          a <- join: a-#1 in generation 1 of range, leader a-#1, members ["a-#1", "b-#2"]
          b <- join: b-#2 in generation 1 of range, leader a-#1, members []
        @6100 b syncs []
        @6100 a syncs [("a", "p0"), ("b", "p1")]
            g is Stable, generation 1, 2 members: leader assigned: a-#1
            append 2: group g generation 1 of Some("range") ["a-#1=b\"p0\"", "b-#2=b\"p1\""]
          a <- sync: b"p0"
          b <- sync: b"p1"
    "#]]
    .assert_eq(&scene.take());
    assert!(scene.unanswered().is_empty());
}

#[test]
fn a_member_must_join_with_the_id_it_was_given_and_the_id_expires() {
    let mut scene = Scene::new(config());
    scene.client("a").request.member_id_required = true;
    scene.client("b").request.member_id_required = true;
    scene.join("a");
    scene.join("b");
    scene.join("a");
    scene.wait_ms(3_000);
    scene.sync("a", &[("a", "p0")]);
    for _ in 0..3 {
        scene.wait_ms(4_000);
        scene.heartbeat("a");
    }
    scene.join("b");
    expect![[r#"
        @0 a joins
          a <- join: MemberIdRequired "a-#1"
            append 1: group g generation 0 of None []
        @0 b joins
          b <- join: MemberIdRequired "b-#2"
        @0 a joins
            g is PreparingRebalance, generation 0, 1 members: member joins: a-#1
        @3000 tick
            g is CompletingRebalance, generation 1, 1 members: join phase is over
          a <- join: a-#1 in generation 1 of range, leader a-#1, members ["a-#1"]
        @3000 a syncs [("a", "p0")]
            g is Stable, generation 1, 1 members: leader assigned: a-#1
            append 2: group g generation 1 of Some("range") ["a-#1=b\"p0\""]
          a <- sync: b"p0"
        @7000 a beats
          a <- heartbeat: None
        @11000 a beats
          a <- heartbeat: None
        @15000 a beats
          a <- heartbeat: None
        @15000 b joins
          b <- join: UnknownMemberId "b-#2"
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_rebalance_waits_for_an_id_that_was_given_out_until_it_expires() {
    let mut scene = stable_pair();
    scene.client("c").request.member_id_required = true;
    scene.client("c").request.session_timeout = Duration::from_secs(6);
    scene.join("c");
    scene.take();
    scene.join("a");
    scene.join("b");
    scene.wait_ms(6_000);
    expect![[r#"
        @6100 a joins
            g is PreparingRebalance, generation 1, 2 members: leader rejoins: a-#1
        @6100 b joins
        @12100 tick
            g is CompletingRebalance, generation 2, 2 members: join phase is over
          a <- join: a-#1 in generation 2 of range, leader a-#1, members ["a-#1", "b-#2"]
          b <- join: b-#2 in generation 2 of range, leader a-#1, members []
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_third_member_makes_the_others_join_again_with_their_metadata() {
    let mut scene = stable_pair();
    scene.take();
    scene.join("c");
    scene.heartbeat("a");
    scene.sync("a", &[]);
    scene.commit("a", &[(0, 17)]);
    scene.join("a");
    scene.join("b");
    scene.commit("b", &[(1, 18)]);
    scene.heartbeat("b");
    scene.sync("c", &[]);
    scene.sync("b", &[]);
    scene.sync("a", &[("a", "p0"), ("b", "p1"), ("c", "p2")]);
    expect![[r#"
        @6100 c joins
            g is PreparingRebalance, generation 1, 3 members: member joins: c-#3
        @6100 a beats
          a <- heartbeat: Some(RebalanceInProgress)
        @6100 a syncs []
          a <- sync: RebalanceInProgress
        @6100 a commits
            append 3: offset of t-0 in g = 17
          a <- commit: t-0 ok
        @6100 a joins
        @6100 b joins
            g is CompletingRebalance, generation 2, 3 members: join phase is over
          a <- join: a-#1 in generation 2 of range, leader a-#1, members ["a-#1", "b-#2", "c-#3"]
          b <- join: b-#2 in generation 2 of range, leader a-#1, members []
          c <- join: c-#3 in generation 2 of range, leader a-#1, members []
        @6100 b commits
          b <- commit: t-1 RebalanceInProgress
        @6100 b beats
          b <- heartbeat: None
        @6100 c syncs []
        @6100 b syncs []
        @6100 a syncs [("a", "p0"), ("b", "p1"), ("c", "p2")]
            g is Stable, generation 2, 3 members: leader assigned: a-#1
            append 4: group g generation 2 of Some("range") ["a-#1=b\"p0\"", "b-#2=b\"p1\"", "c-#3=b\"p2\""]
          a <- sync: b"p0"
          b <- sync: b"p1"
          c <- sync: b"p2"
    "#]]
    .assert_eq(&scene.take());
    assert!(scene.unanswered().is_empty());
}

#[test]
fn a_cooperative_rebalance_takes_two_rounds_of_the_same_members() {
    let mut scene = Scene::new(config());
    for name in ["a", "b"] {
        scene.client(name).request.protocols =
            vec![protocol("cooperative-sticky", &subscription("t")), protocol("range", &subscription("t"))];
    }
    scene.join("a");
    scene.wait_ms(3_000);
    scene.sync("a", &[("a", "p0 p1")]);
    scene.take();
    scene.join("b");
    scene.heartbeat("a");
    scene.client("a").request.protocols[0] =
        protocol("cooperative-sticky", &[&subscription("t")[..], b"owns"].concat());
    scene.client("a").request.protocols[1] = protocol("range", &[&subscription("t")[..], b"owns"].concat());
    scene.join("a");
    scene.sync("b", &[]);
    scene.sync("a", &[("a", "p0")]);
    // What `a` gave back can be assigned only in another round, which `a` asks for.
    scene.join("a");
    scene.heartbeat("b");
    scene.join("b");
    scene.sync("a", &[("a", "p0"), ("b", "p1")]);
    scene.sync("b", &[]);
    expect![[r#"
        @3000 b joins
            g is PreparingRebalance, generation 1, 2 members: member joins: b-#2
        @3000 a beats
          a <- heartbeat: Some(RebalanceInProgress)
        @3000 a joins
            g is CompletingRebalance, generation 2, 2 members: join phase is over
          a <- join: a-#1 in generation 2 of cooperative-sticky, leader a-#1, members ["a-#1", "b-#2"]
          b <- join: b-#2 in generation 2 of cooperative-sticky, leader a-#1, members []
        @3000 b syncs []
        @3000 a syncs [("a", "p0")]
            g is Stable, generation 2, 2 members: leader assigned: a-#1
            append 3: group g generation 2 of Some("cooperative-sticky") ["a-#1=b\"p0\"", "b-#2=b\"\""]
          a <- sync: b"p0"
          b <- sync: b""
        @3000 a joins
            g is PreparingRebalance, generation 2, 2 members: leader rejoins: a-#1
        @3000 b beats
          b <- heartbeat: Some(RebalanceInProgress)
        @3000 b joins
            g is CompletingRebalance, generation 3, 2 members: join phase is over
          a <- join: a-#1 in generation 3 of cooperative-sticky, leader a-#1, members ["a-#1", "b-#2"]
          b <- join: b-#2 in generation 3 of cooperative-sticky, leader a-#1, members []
        @3000 a syncs [("a", "p0"), ("b", "p1")]
            g is Stable, generation 3, 2 members: leader assigned: a-#1
            append 4: group g generation 3 of Some("cooperative-sticky") ["a-#1=b\"p0\"", "b-#2=b\"p1\""]
          a <- sync: b"p0"
        @3000 b syncs []
          b <- sync: b"p1"
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_stable_follower_that_rejoins_unchanged_gets_its_generation_and_a_leader_rebalances() {
    let mut scene = stable_pair();
    scene.take();
    scene.join("b");
    scene.sync("b", &[]);
    scene.join("a");
    scene.join("b");
    // The same question again in the same generation gets the same answer; the leader's carries the members.
    scene.join("a");
    scene.join("b");
    scene.client("b").request.protocols = vec![protocol("range", &subscription("u"))];
    scene.join("b");
    expect![[r#"
        @6100 b joins
          b <- join: b-#2 in generation 1 of range, leader a-#1, members []
        @6100 b syncs []
          b <- sync: b"p1"
        @6100 a joins
            g is PreparingRebalance, generation 1, 2 members: leader rejoins: a-#1
        @6100 b joins
            g is CompletingRebalance, generation 2, 2 members: join phase is over
          a <- join: a-#1 in generation 2 of range, leader a-#1, members ["a-#1", "b-#2"]
          b <- join: b-#2 in generation 2 of range, leader a-#1, members []
        @6100 a joins
          a <- join: a-#1 in generation 2 of range, leader a-#1, members ["a-#1", "b-#2"]
        @6100 b joins
          b <- join: b-#2 in generation 2 of range, leader a-#1, members []
        @6100 b joins
            g is PreparingRebalance, generation 2, 2 members: member changes its metadata: b-#2
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn requests_of_another_generation_member_or_protocol_are_refused() {
    let mut scene = stable_pair();
    scene.take();
    scene.client("a").generation = 7;
    scene.heartbeat("a");
    scene.sync("a", &[]);
    scene.commit("a", &[(0, 1)]);
    scene.client("a").generation = 1;
    scene.client("x").request.member_id = "x-unknown".to_owned();
    scene.heartbeat("x");
    scene.sync("x", &[]);
    scene.join("x");
    scene.commit("x", &[(0, 1)]);
    scene.leave("x");
    scene.client("y").request.protocols = vec![protocol("sticky", b"")];
    scene.join("y");
    scene.client("z").request.protocol_type = "connect".to_owned();
    scene.join("z");
    let member_id = scene.client("a").request.member_id.clone();
    for (protocol_type, protocol_name) in [("connect", "range"), ("consumer", "sticky")] {
        scene.sync_with(
            "a",
            SyncRequest {
                group_id: GROUP.to_owned(),
                generation: 1,
                member_id: member_id.clone(),
                protocol_type: Some(protocol_type.to_owned()),
                protocol_name: Some(protocol_name.to_owned()),
                ..SyncRequest::default()
            },
        );
    }
    expect![[r#"
        @6100 a beats
          a <- heartbeat: Some(IllegalGeneration)
        @6100 a syncs []
          a <- sync: IllegalGeneration
        @6100 a commits
          a <- commit: t-0 IllegalGeneration
        @6100 x beats
          x <- heartbeat: Some(UnknownMemberId)
        @6100 x syncs []
          x <- sync: UnknownMemberId
        @6100 x joins
          x <- join: UnknownMemberId "x-unknown"
        @6100 x commits
          x <- commit: t-0 UnknownMemberId
        @6100 x: leave [("x-unknown", None)]
          x <- leave: UnknownMemberId
        @6100 y joins
          y <- join: InconsistentGroupProtocol ""
        @6100 z joins
          z <- join: InconsistentGroupProtocol ""
          a <- sync: InconsistentGroupProtocol
          a <- sync: InconsistentGroupProtocol
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn requests_without_a_group_or_with_impossible_times_are_refused() {
    let mut scene = Scene::new(config());
    scene.client("a").request.session_timeout = Duration::from_millis(5_999);
    scene.join("a");
    scene.client("a").request.session_timeout = Duration::from_millis(1_800_001);
    scene.join("a");
    scene.client("a").request.session_timeout = Duration::from_secs(10);
    scene.client("a").request.protocols.clear();
    scene.join("a");
    scene.client("a").request.client_id = "c".repeat(40_000);
    scene.join("a");
    scene.client("b").request.group_id.clear();
    scene.join("b");
    scene.client("c").request.member_id = "c-unknown".to_owned();
    scene.join("c");
    scene.heartbeat("c");
    scene.sync("c", &[]);
    scene.leave("c");
    expect![[r#"
        @0 a joins
          a <- join: InvalidSessionTimeout ""
        @0 a joins
          a <- join: InvalidSessionTimeout ""
        @0 a joins
          a <- join: InconsistentGroupProtocol ""
        @0 a joins
          a <- join: InvalidRequest ""
        @0 b joins
          b <- join: InvalidGroupId ""
        @0 c joins
          c <- join: UnknownMemberId "c-unknown"
        @0 c beats
          c <- heartbeat: Some(UnknownMemberId)
        @0 c syncs []
          c <- sync: UnknownMemberId
        @0 c: leave [("c-unknown", None)]
          c <- leave: UnknownMemberId
    "#]]
    .assert_eq(&scene.take());
    assert!(scene.log.is_empty(), "nobody got in, so there is nothing to remember");
}

#[test]
fn a_silent_member_is_removed_and_the_other_goes_on() {
    let mut scene = stable_pair();
    scene.take();
    scene.wait_ms(6_000);
    scene.heartbeat("a");
    scene.wait_ms(4_000);
    scene.heartbeat("a");
    scene.join("a");
    scene.sync("a", &[("a", "p0 p1")]);
    scene.heartbeat("b");
    scene.join("b");
    expect![[r#"
        @12100 a beats
          a <- heartbeat: None
        @16100 tick
            g is PreparingRebalance, generation 1, 1 members: session of member expired: b-#2
        @16100 a beats
          a <- heartbeat: Some(RebalanceInProgress)
        @16100 a joins
            g is CompletingRebalance, generation 2, 1 members: join phase is over
          a <- join: a-#1 in generation 2 of range, leader a-#1, members ["a-#1"]
        @16100 a syncs [("a", "p0 p1")]
            g is Stable, generation 2, 1 members: leader assigned: a-#1
            append 3: group g generation 2 of Some("range") ["a-#1=b\"p0 p1\""]
          a <- sync: b"p0 p1"
        @16100 b beats
          b <- heartbeat: Some(UnknownMemberId)
        @16100 b joins
          b <- join: UnknownMemberId "b-#2"
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_member_that_does_not_rejoin_is_left_behind_when_the_time_is_over() {
    let mut scene = stable_pair();
    scene.take();
    scene.client("c").request.rebalance_timeout = Some(Duration::from_secs(20));
    scene.client("a").request.rebalance_timeout = Some(Duration::from_secs(20));
    scene.join("c");
    scene.join("a");
    for _ in 0..7 {
        scene.wait_ms(9_000);
        scene.heartbeat("b");
    }
    expect![[r#"
        @6100 c joins
            g is PreparingRebalance, generation 1, 3 members: member joins: c-#3
        @6100 a joins
        @15100 b beats
          b <- heartbeat: Some(RebalanceInProgress)
        @24100 b beats
          b <- heartbeat: Some(RebalanceInProgress)
        @33100 b beats
          b <- heartbeat: Some(RebalanceInProgress)
        @42100 b beats
          b <- heartbeat: Some(RebalanceInProgress)
        @51100 b beats
          b <- heartbeat: Some(RebalanceInProgress)
        @60100 b beats
          b <- heartbeat: Some(RebalanceInProgress)
        @66100 tick
            g is CompletingRebalance, generation 2, 2 members: join phase is over
          a <- join: a-#1 in generation 2 of range, leader a-#1, members ["a-#1", "c-#3"]
          c <- join: c-#3 in generation 2 of range, leader a-#1, members []
        @69100 b beats
          b <- heartbeat: Some(UnknownMemberId)
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_leader_that_never_syncs_is_removed_and_the_others_are_told_to_rejoin() {
    let mut scene = stable_pair();
    scene.join("a");
    scene.join("b");
    scene.take();
    scene.sync("b", &[]);
    for _ in 0..7 {
        scene.wait_ms(9_000);
        scene.heartbeat("a");
    }
    scene.join("b");
    scene.sync("b", &[("b", "p0 p1")]);
    expect![[r#"
        @6100 b syncs []
        @15100 a beats
          a <- heartbeat: None
        @24100 a beats
          a <- heartbeat: None
        @33100 a beats
          a <- heartbeat: None
        @42100 a beats
          a <- heartbeat: None
        @51100 a beats
          a <- heartbeat: None
        @60100 a beats
          a <- heartbeat: None
        @66100 tick
          b <- sync: RebalanceInProgress
            g is PreparingRebalance, generation 2, 1 members: members did not sync: a-#1
        @69100 a beats
          a <- heartbeat: Some(UnknownMemberId)
        @69100 b joins
            g is CompletingRebalance, generation 3, 1 members: join phase is over
          b <- join: b-#2 in generation 3 of range, leader b-#2, members ["b-#2"]
        @69100 b syncs [("b", "p0 p1")]
            g is Stable, generation 3, 1 members: leader assigned: b-#2
            append 3: group g generation 3 of Some("range") ["b-#2=b\"p0 p1\""]
          b <- sync: b"p0 p1"
    "#]]
    .assert_eq(&scene.take());
    assert!(scene.unanswered().is_empty());
}

#[test]
fn a_follower_that_never_syncs_is_removed_from_the_stable_generation() {
    let mut scene = stable_pair();
    scene.join("a");
    scene.join("b");
    scene.take();
    scene.sync("a", &[("a", "p0"), ("b", "p1")]);
    for _ in 0..7 {
        scene.wait_ms(9_000);
        scene.heartbeat("a");
        scene.heartbeat("b");
    }
    expect![[r#"
        @6100 a syncs [("a", "p0"), ("b", "p1")]
            g is Stable, generation 2, 2 members: leader assigned: a-#1
            append 3: group g generation 2 of Some("range") ["a-#1=b\"p0\"", "b-#2=b\"p1\""]
          a <- sync: b"p0"
        @15100 a beats
          a <- heartbeat: None
        @15100 b beats
          b <- heartbeat: None
        @24100 a beats
          a <- heartbeat: None
        @24100 b beats
          b <- heartbeat: None
        @33100 a beats
          a <- heartbeat: None
        @33100 b beats
          b <- heartbeat: None
        @42100 a beats
          a <- heartbeat: None
        @42100 b beats
          b <- heartbeat: None
        @51100 a beats
          a <- heartbeat: None
        @51100 b beats
          b <- heartbeat: None
        @60100 a beats
          a <- heartbeat: None
        @60100 b beats
          b <- heartbeat: None
        @66100 tick
            g is PreparingRebalance, generation 2, 1 members: members did not sync: b-#2
        @69100 a beats
          a <- heartbeat: Some(RebalanceInProgress)
        @69100 b beats
          b <- heartbeat: Some(UnknownMemberId)
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn members_leave_one_by_one_and_the_group_is_empty() {
    let mut scene = stable_pair();
    scene.take();
    scene.leave("b");
    scene.join("a");
    scene.sync("a", &[("a", "p0 p1")]);
    scene.leave("a");
    scene.join("b");
    scene.client("b").request.member_id.clear();
    scene.join("b");
    scene.wait_ms(3_000);
    expect![[r#"
        @6100 b: leave [("b-#2", None)]
            g is PreparingRebalance, generation 1, 1 members: members leave: b-#2
          b <- leave: left
        @6100 a joins
            g is CompletingRebalance, generation 2, 1 members: join phase is over
          a <- join: a-#1 in generation 2 of range, leader a-#1, members ["a-#1"]
        @6100 a syncs [("a", "p0 p1")]
            g is Stable, generation 2, 1 members: leader assigned: a-#1
            append 3: group g generation 2 of Some("range") ["a-#1=b\"p0 p1\""]
          a <- sync: b"p0 p1"
        @6100 a: leave [("a-#1", None)]
            g is PreparingRebalance, generation 2, 0 members: members leave: a-#1
            g is Empty, generation 3, 0 members: nobody joined
            append 4: group g generation 3 of None []
          a <- leave: left
        @6100 b joins
          b <- join: UnknownMemberId "b-#2"
        @6100 b joins
            g is PreparingRebalance, generation 3, 1 members: member joins: b-#3
        @9100 tick
            g is CompletingRebalance, generation 4, 1 members: join phase is over
          b <- join: b-#3 in generation 4 of range, leader b-#3, members ["b-#3"]
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_batch_of_leaves_says_for_each_what_became_of_it() {
    let mut scene = stable_pair();
    scene.client("c").request.member_id_required = true;
    scene.join("c");
    scene.take();
    let id = |scene: &mut Scene, name: &str| scene.client(name).request.member_id.clone();
    let (b, c) = (id(&mut scene, "b"), id(&mut scene, "c"));
    scene.leave_all("admin", &[(&b, None), ("ghost", None), (&c, None), ("", Some("nobody")), ("", None)]);
    expect![[r#"
        @6100 admin: leave [("b-#2", None), ("ghost", None), ("c-#3", None), ("", Some("nobody")), ("", None)]
            g is PreparingRebalance, generation 1, 1 members: members leave: b-#2, c-#3
          admin <- leave: left, UnknownMemberId, left, UnknownMemberId, UnknownMemberId
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn members_that_come_during_the_first_delay_make_it_longer_up_to_the_rebalance_timeout() {
    let mut scene = Scene::new(config());
    scene.client("a").request.rebalance_timeout = Some(Duration::from_secs(7));
    scene.join("a");
    for name in ["b", "c", "d"] {
        scene.client(name).request.rebalance_timeout = Some(Duration::from_secs(7));
        scene.wait_ms(2_000);
        scene.join(name);
    }
    scene.wait_ms(10_000);
    expect![[r#"
        @0 a joins
            g is PreparingRebalance, generation 0, 1 members: member joins: a-#1
            append 1: group g generation 0 of None []
        @2000 b joins
        @4000 c joins
        @6000 d joins
        @7000 tick
            g is CompletingRebalance, generation 1, 4 members: join phase is over
          a <- join: a-#1 in generation 1 of range, leader a-#1, members ["a-#1", "b-#2", "c-#3", "d-#4"]
          b <- join: b-#2 in generation 1 of range, leader a-#1, members []
          c <- join: c-#3 in generation 1 of range, leader a-#1, members []
          d <- join: d-#4 in generation 1 of range, leader a-#1, members []
        @14000 tick
            g is PreparingRebalance, generation 1, 0 members: members did not sync: a-#1, b-#2, c-#3, d-#4
            g is Empty, generation 2, 0 members: nobody joined
            append 2: group g generation 2 of None []
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_group_takes_no_more_members_than_it_may_have() {
    let mut scene = Scene::new(Config { group_size_max: 2, ..config() });
    scene.join("a");
    scene.join("b");
    scene.join("c");
    scene.wait_ms(6_000);
    scene.join("c");
    scene.sync("b", &[]);
    scene.sync("a", &[("a", "p0"), ("b", "p1")]);
    scene.join("c");
    // While the group gathers those who came first count, so an old member may find its place taken.
    scene.join("a");
    scene.client("c").request.member_id.clear();
    scene.join("c");
    scene.join("b");
    expect![[r#"
        @0 a joins
            g is PreparingRebalance, generation 0, 1 members: member joins: a-#1
            append 1: group g generation 0 of None []
        @0 b joins
        @0 c joins
          c <- join: GroupMaxSizeReached ""
        @6000 tick
            g is CompletingRebalance, generation 1, 2 members: join phase is over
          a <- join: a-#1 in generation 1 of range, leader a-#1, members ["a-#1", "b-#2"]
          b <- join: b-#2 in generation 1 of range, leader a-#1, members []
        @6000 c joins
          c <- join: GroupMaxSizeReached ""
        @6000 b syncs []
        @6000 a syncs [("a", "p0"), ("b", "p1")]
            g is Stable, generation 1, 2 members: leader assigned: a-#1
            append 2: group g generation 1 of Some("range") ["a-#1=b\"p0\"", "b-#2=b\"p1\""]
          a <- sync: b"p0"
          b <- sync: b"p1"
        @6000 c joins
          c <- join: GroupMaxSizeReached ""
        @6000 a joins
            g is PreparingRebalance, generation 1, 2 members: leader rejoins: a-#1
        @6000 c joins
        @6000 b joins
          b <- join: GroupMaxSizeReached ""
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn an_id_that_is_taken_is_not_given_out_again() {
    let mut scene = stable_pair();
    scene.restart();
    scene.take();
    // The ids of the scene begin anew with each shard.
    scene.client("a").request.member_id.clear();
    scene.join("a");
    scene.join("a");
    expect![[r#"
        @6100 a joins
          a <- join: CoordinatorNotAvailable ""
        @6100 a joins
            g is PreparingRebalance, generation 1, 3 members: member joins: a-#2
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn ids_given_out_are_bounded() {
    let mut scene = Scene::new(Config { pending_members_max: 2, ..config() });
    for name in ["a", "b", "c"] {
        scene.client(name).request.member_id_required = true;
        scene.join(name);
    }
    expect![[r#"
        @0 a joins
          a <- join: MemberIdRequired "a-#1"
            append 1: group g generation 0 of None []
        @0 b joins
          b <- join: MemberIdRequired "b-#2"
        @0 c joins
          c <- join: CoordinatorNotAvailable ""
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn the_protocol_most_members_like_best_is_chosen_among_those_all_offer() {
    let mut scene = Scene::new(config());
    let offers = [
        ("a", ["sticky", "range", "only-a"]),
        ("b", ["range", "sticky", "only-b"]),
        ("c", ["only-c", "range", "sticky"]),
    ];
    for (name, offered) in offers {
        let metadata = subscription("t");
        scene.client(name).request.protocols = offered.iter().map(|offer| protocol(offer, &metadata)).collect();
        scene.join(name);
    }
    scene.wait_ms(6_000);
    expect![[r#"
        @0 a joins
            g is PreparingRebalance, generation 0, 1 members: member joins: a-#1
            append 1: group g generation 0 of None []
        @0 b joins
        @0 c joins
        @6000 tick
            g is CompletingRebalance, generation 1, 3 members: join phase is over
          a <- join: a-#1 in generation 1 of range, leader a-#1, members ["a-#1", "b-#2", "c-#3"]
          b <- join: b-#2 in generation 1 of range, leader a-#1, members []
          c <- join: c-#3 in generation 1 of range, leader a-#1, members []
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_join_asked_twice_is_answered_twice() {
    let mut scene = stable_pair();
    scene.take();
    scene.join("a");
    scene.join("a");
    scene.join("b");
    scene.sync("b", &[]);
    scene.sync("b", &[]);
    scene.sync("a", &[("b", "p1")]);
    expect![[r#"
        @6100 a joins
            g is PreparingRebalance, generation 1, 2 members: leader rejoins: a-#1
        @6100 a joins
          a <- join: RebalanceInProgress "a-#1"
        @6100 b joins
            g is CompletingRebalance, generation 2, 2 members: join phase is over
          a <- join: a-#1 in generation 2 of range, leader a-#1, members ["a-#1", "b-#2"]
          b <- join: b-#2 in generation 2 of range, leader a-#1, members []
        @6100 b syncs []
        @6100 b syncs []
          b <- sync: RebalanceInProgress
        @6100 a syncs [("b", "p1")]
            g is Stable, generation 2, 2 members: leader assigned: a-#1
            append 3: group g generation 2 of Some("range") ["a-#1=b\"\"", "b-#2=b\"p1\""]
          a <- sync: b""
          b <- sync: b"p1"
    "#]]
    .assert_eq(&scene.take());
    assert!(scene.unanswered().is_empty());
}

#[test]
fn a_new_member_whose_client_went_away_is_forgotten_while_its_join_waits() {
    let mut scene = Scene::new(config());
    scene.client("a").request.rebalance_timeout = Some(Duration::from_secs(900));
    scene.join("a");
    scene.wait_ms(3_000);
    scene.sync("a", &[("a", "p0")]);
    scene.take();
    scene.join("b");
    for _ in 0..34 {
        scene.wait_ms(9_000);
        scene.heartbeat("a");
        scene.take();
    }
    assert_eq!(scene.shard.stats().members, 1);
    assert_eq!(scene.unanswered(), Vec::<&str>::new());
}

#[test]
fn answers_that_rest_on_records_wait_for_the_commit() {
    let mut scene = Scene::new(config());
    scene.join("a");
    scene.join("b");
    scene.wait_ms(6_000);
    scene.take();
    scene.hold_commits = true;
    scene.sync("a", &[("a", "p0"), ("b", "p1")]);
    scene.sync("b", &[]);
    scene.commit("a", &[(0, 17)]);
    scene.fetch(GROUP, None);
    // Members cannot beat while their answers wait, however long that takes.
    scene.wait_ms(50_000);
    scene.commit_appends();
    scene.heartbeat("a");
    scene.heartbeat("b");
    expect![[r#"
        @6000 a syncs [("a", "p0"), ("b", "p1")]
            g is Stable, generation 1, 2 members: leader assigned: a-#1
            append 2: group g generation 1 of Some("range") ["a-#1=b\"p0\"", "b-#2=b\"p1\""]
            (a reply waits for append 2)
        @6000 b syncs []
            (a reply waits for append 2)
        @6000 a commits
            append 3: offset of t-0 in g = 17
            (a reply waits for append 3)
        @6000 fetch g
            (a reply waits for append 3)
        @56000 appends are committed
          a <- sync: b"p0"
          b <- sync: b"p1"
          a <- commit: t-0 ok
          admin <- fetch: t-0=17@5
        @56000 a beats
          a <- heartbeat: None
        @56000 b beats
          b <- heartbeat: None
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_join_with_more_than_a_group_can_keep_is_refused_and_leaves_nothing() {
    let mut scene = Scene::new(Config { append_bytes_max: 100, member_bytes_max: 150, ..config() });
    let offer = |scene: &mut Scene, protocols: &[(&str, usize)]| {
        scene.client("a").request.protocols =
            protocols.iter().map(|(name, len)| protocol(name, &vec![0; *len])).collect();
        scene.join("a");
    };
    offer(&mut scene, &[("range", 96)]);
    offer(&mut scene, &[("range", 70), ("other", 71)]);
    expect![[r#"
        @0 a joins
          a <- join: InvalidRequest ""
        @0 a joins
          a <- join: InvalidRequest ""
    "#]]
    .assert_eq(&scene.take());
    assert_eq!(scene.shard.stats().members, 0);
    offer(&mut scene, &[("range", 70), ("other", 70)]);
    assert_eq!(scene.shard.stats().members, 1);
}

#[test]
fn a_reason_without_end_is_cut_where_it_is_told() {
    let mut scene = stable_pair();
    scene.client("c").request.reason = Some("ä".repeat(100_000));
    scene.join("c");
    let told = scene.take();
    assert!(told.contains(&"ä".repeat(255)) && !told.contains(&"ä".repeat(256)), "{} bytes told", told.len());
}
