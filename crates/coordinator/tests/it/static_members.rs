//! Static members (KIP-345): they come back under their instance id without a rebalance, and fence who was there.

use std::time::Duration;

use expect_test::expect;

use crate::scene::{Scene, config, protocol, subscription};

/// Two static members, `a` leading, in stable generation 1.
fn stable_pair() -> Scene {
    let mut scene = Scene::new(config());
    for name in ["a", "b"] {
        let request = &mut scene.client(name).request;
        request.instance_id = Some(format!("i-{name}"));
        request.member_id_required = true;
        request.skip_assignment_supported = true;
        scene.join(name);
    }
    scene.wait_ms(6_000);
    scene.sync("b", &[]);
    scene.sync("a", &[("a", "p0"), ("b", "p1")]);
    scene
}

#[test]
fn a_static_follower_that_returns_keeps_its_assignment_without_a_rebalance() {
    let mut scene = stable_pair();
    scene.take();
    let old_id = std::mem::take(&mut scene.client("b").request.member_id);
    scene.join("b");
    scene.sync("b", &[]);
    scene.heartbeat("a");
    // The process that held the instance before is fenced in everything it tries.
    let ghost = scene.client("ghost");
    ghost.request.member_id = old_id;
    ghost.request.instance_id = Some("i-b".to_owned());
    ghost.generation = 1;
    scene.heartbeat("ghost");
    scene.sync("ghost", &[]);
    scene.join("ghost");
    scene.commit("ghost", &[(0, 1)]);
    let ghost_id = scene.client("ghost").request.member_id.clone();
    scene.leave_all("ghost", &[(&ghost_id, Some("i-b"))]);
    expect![[r#"
        @6000 b joins
            append 3: group g generation 1 of Some("range") ["i-a-#1=b\"p0\"", "i-b-#3=b\"p1\""]
          b <- join: i-b-#3 in generation 1 of range, leader i-a-#1, members []
        @6000 b syncs []
          b <- sync: b"p1"
        @6000 a beats
          a <- heartbeat: None
        @6000 ghost beats
          ghost <- heartbeat: Some(FencedInstanceId)
        @6000 ghost syncs []
          ghost <- sync: FencedInstanceId
        @6000 ghost joins
          ghost <- join: FencedInstanceId "i-b-#2"
        @6000 ghost commits
          ghost <- commit: t-0 FencedInstanceId
        @6000 ghost: leave [("i-b-#2", Some("i-b"))]
          ghost <- leave: FencedInstanceId
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_static_leader_that_returns_is_told_to_skip_assigning() {
    let mut scene = stable_pair();
    scene.take();
    scene.client("a").request.member_id.clear();
    scene.join("a");
    scene.sync("a", &[]);
    scene.client("a").request.member_id.clear();
    scene.client("a").request.skip_assignment_supported = false;
    scene.join("a");
    scene.sync("a", &[]);
    expect![[r#"
        @6000 a joins
            append 3: group g generation 1 of Some("range") ["i-a-#3=b\"p0\"", "i-b-#2=b\"p1\""]
          a <- join: i-a-#3 in generation 1 of range, leader i-a-#3, skips assignment, members ["i-a-#3", "i-b-#2"]
        @6000 a syncs []
          a <- sync: b"p0"
        @6000 a joins
            append 4: group g generation 1 of Some("range") ["i-a-#4=b\"p0\"", "i-b-#2=b\"p1\""]
          a <- join: i-a-#4 in generation 1 of range, leader i-a-#3, members []
        @6000 a syncs []
          a <- sync: b"p0"
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_static_member_that_returns_with_other_protocols_rebalances_if_the_choice_changes() {
    let mut scene = stable_pair();
    scene.client("b").request.protocols = vec![protocol("range", &subscription("t")), protocol("sticky", b"")];
    scene.client("b").request.member_id.clear();
    scene.take();
    scene.join("b");
    // Other metadata for the protocol in use is kept for the next generation.
    scene.client("a").request.protocols = vec![protocol("sticky", b""), protocol("range", &subscription("t"))];
    scene.client("a").request.member_id.clear();
    scene.join("a");
    scene.client("b").request.protocols.reverse();
    scene.client("b").request.member_id.clear();
    scene.join("b");
    scene.join("a");
    expect![[r#"
        @6000 b joins
            append 3: group g generation 1 of Some("range") ["i-a-#1=b\"p0\"", "i-b-#3=b\"p1\""]
          b <- join: i-b-#3 in generation 1 of range, leader i-a-#1, members []
        @6000 a joins
            g is PreparingRebalance, generation 1, 2 members: static member returns: i-a-#4
        @6000 b joins
            g is CompletingRebalance, generation 2, 2 members: join phase is over
          a <- join: i-a-#4 in generation 2 of sticky, leader i-a-#4, members ["i-a-#4", "i-b-#5"]
          b <- join: i-b-#5 in generation 2 of sticky, leader i-a-#4, members []
        @6000 a joins
          a <- join: i-a-#4 in generation 2 of sticky, leader i-a-#4, members ["i-a-#4", "i-b-#5"]
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_static_member_that_returns_while_the_leader_assigns_starts_over() {
    let mut scene = stable_pair();
    scene.join("a");
    scene.join("b");
    scene.sync("b", &[]);
    scene.take();
    scene.client("b").request.member_id.clear();
    scene.join("b");
    scene.join("a");
    expect![[r#"
        @6000 b joins
          b <- sync: FencedInstanceId
            g is PreparingRebalance, generation 2, 2 members: static member returns: i-b-#3
        @6000 a joins
            g is CompletingRebalance, generation 3, 2 members: join phase is over
          a <- join: i-a-#1 in generation 3 of range, leader i-a-#1, members ["i-a-#1", "i-b-#3"]
          b <- join: i-b-#3 in generation 3 of range, leader i-a-#1, members []
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_static_member_that_stays_away_is_kept_through_the_join_phase_but_must_sync() {
    let mut scene = stable_pair();
    for name in ["a", "b"] {
        scene.client(name).request.rebalance_timeout = Some(Duration::from_secs(12));
        scene.client(name).request.session_timeout = Duration::from_secs(100);
        scene.join(name);
    }
    scene.sync("b", &[]);
    scene.sync("a", &[("a", "p0"), ("b", "p1")]);
    scene.take();
    scene.join("a");
    scene.wait_ms(12_000);
    scene.sync("a", &[("a", "p0"), ("b", "p1")]);
    scene.wait_ms(12_000);
    expect![[r#"
        @6000 a joins
            g is PreparingRebalance, generation 2, 2 members: leader rejoins: i-a-#1
        @18000 tick
            g is CompletingRebalance, generation 3, 2 members: join phase is over
          a <- join: i-a-#1 in generation 3 of range, leader i-a-#1, members ["i-a-#1", "i-b-#2"]
        @18000 a syncs [("a", "p0"), ("b", "p1")]
            g is Stable, generation 3, 2 members: leader assigned: i-a-#1
            append 4: group g generation 3 of Some("range") ["i-a-#1=b\"p0\"", "i-b-#2=b\"p1\""]
          a <- sync: b"p0"
        @30000 tick
            g is PreparingRebalance, generation 3, 1 members: members did not sync: i-b-#2
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_group_of_static_members_that_all_stay_away_waits_for_their_sessions() {
    let mut scene = Scene::new(config());
    for name in ["a", "b"] {
        let request = &mut scene.client(name).request;
        request.instance_id = Some(format!("i-{name}"));
        request.rebalance_timeout = Some(Duration::from_secs(4));
        scene.join(name);
    }
    scene.wait_ms(4_000);
    scene.sync("b", &[]);
    scene.sync("a", &[("a", "p0"), ("b", "p1")]);
    scene.take();
    scene.client("c").request.rebalance_timeout = Some(Duration::from_secs(4));
    scene.join("c");
    let c = scene.shard.describe(&["g"]).unwrap()[0].members[0].member_id.clone();
    scene.leave_all("c", &[(&c, None)]);
    scene.wait_ms(100_000);
    expect![[r#"
        @4000 c joins
            g is PreparingRebalance, generation 1, 3 members: member joins: c-#3
        @4000 c: leave [("c-#3", None)]
          c <- join: UnknownMemberId ""
          c <- leave: left
        @14000 tick
            g is Empty, generation 2, 0 members: nobody joined
            append 3: group g generation 2 of None []
    "#]]
    .assert_eq(&scene.take());
    assert!(scene.unanswered().is_empty());
}

#[test]
fn static_members_that_give_a_rebalance_no_time_do_not_keep_the_coordinator_busy() {
    let mut scene = Scene::new(config());
    for name in ["a", "b"] {
        let request = &mut scene.client(name).request;
        request.instance_id = Some(format!("i-{name}"));
        request.rebalance_timeout = Some(Duration::ZERO);
    }
    scene.join("a");
    scene.wait_ms(3_000);
    scene.sync("a", &[("a", "p0")]);
    // The join phase that `b` begins ends for want of `a`, and `b` goes away in it.
    scene.join("b");
    scene.leave("b");
    let mut looks = 0;
    while scene.shard.stats().members > 0 {
        let deadline = scene.shard.deadline().unwrap().elapsed();
        scene.wait(deadline - scene.now().monotonic.elapsed());
        looks += 1;
    }
    assert!(looks <= 11, "{looks} looks within a session of ten seconds");
}

#[test]
fn an_admin_removes_static_members_by_instance() {
    let mut scene = stable_pair();
    scene.take();
    scene.leave_all("admin", &[("", Some("i-b")), ("", Some("i-b"))]);
    scene.heartbeat("b");
    expect![[r#"
        @6000 admin: leave [("", Some("i-b")), ("", Some("i-b"))]
            g is PreparingRebalance, generation 1, 1 members: members leave: i-b-#2
          admin <- leave: left, UnknownMemberId
        @6000 b beats
          b <- heartbeat: Some(UnknownMemberId)
    "#]]
    .assert_eq(&scene.take());
}
