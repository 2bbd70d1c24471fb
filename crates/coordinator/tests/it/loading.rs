//! From the log back to groups: what a restart keeps, what a failed append leaves, and what is no record.

use std::time::Duration;

use chronik_coordinator::codec::{GroupMetadataValue, Key, MemberMetadata};
use chronik_coordinator::message::{HeartbeatRequest, HeartbeatResponse, JoinRequest, Response};
use chronik_coordinator::{Config, Effect, GroupError, GroupShard, GroupState, ReplayError, Replayed, ReplyToken};
use chronik_model::{Instant, Timestamp};
use expect_test::expect;
use proptest::prelude::*;

use crate::rebalance::stable_pair;
use crate::scene::{GROUP, Scene, commit_request, config, ids};

#[test]
fn a_stable_group_goes_on_after_a_restart() {
    let mut scene = stable_pair();
    scene.commit("a", &[(0, 5)]);
    let described = scene.shard.describe(&[GROUP]);
    scene.take();
    scene.restart();
    assert_eq!(scene.shard.describe(&[GROUP]), described);
    scene.heartbeat("a");
    scene.sync("b", &[]);
    scene.fetch(GROUP, None);
    // Sessions begin anew with the load.
    scene.wait_ms(9_999);
    scene.heartbeat("a");
    scene.wait_ms(1);
    expect![[r#"
        @6100 restart
        @6100 a beats
          a <- heartbeat: None
        @6100 b syncs []
          b <- sync: b"p1"
        @6100 fetch g
          admin <- fetch: t-0=5@5
        @16099 a beats
          a <- heartbeat: None
        @16100 tick
            g is PreparingRebalance, generation 1, 1 members: session of member expired: b-#2
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_restart_within_a_rebalance_goes_back_to_the_generation_before() {
    let mut scene = stable_pair();
    scene.join("c");
    scene.join("a");
    scene.take();
    scene.restart();
    scene.heartbeat("a");
    scene.heartbeat("b");
    scene.join("c");
    expect![[r#"
        @6100 restart
          a <- join: NotCoordinator "a-#1"
          c <- join: NotCoordinator "c-#3"
        @6100 a beats
          a <- heartbeat: None
        @6100 b beats
          b <- heartbeat: None
        @6100 c joins
            g is PreparingRebalance, generation 1, 3 members: member joins: c-#1
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn an_empty_group_and_a_deleted_one_stay_that_way_after_a_restart() {
    let mut scene = stable_pair();
    scene.commit_with("simple", commit_request("s", "t", &[(0, 5)]));
    scene.leave("a");
    scene.leave("b");
    scene.wait_ms(60_000);
    scene.delete_groups(&["s"]);
    scene.restart();
    let listed = scene.shard.list::<&str>(&[], &[]).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].protocol_type.as_str(), listed[0].state), ("consumer", GroupState::Empty));
}

#[test]
fn a_failed_append_ends_the_shard_and_answers_everybody() {
    let mut scene = stable_pair();
    scene.take();
    scene.hold_commits = true;
    scene.commit("b", &[(0, 5)]);
    scene.join("a");
    scene.fail_appends();
    scene.heartbeat("a");
    scene.fetch(GROUP, None);
    assert!(scene.unanswered().is_empty());
    assert_eq!(scene.shard.deadline(), None);
    expect![[r#"
        @6100 b commits
            append 3: offset of t-0 in g = 5
            (a reply waits for append 3)
        @6100 a joins
            g is PreparingRebalance, generation 1, 2 members: leader rejoins: a-#1
        @6100 appends fail
          a <- join: NotCoordinator "a-#1"
          b <- commit: t-0 NotCoordinator
        @6100 a beats
          a <- heartbeat: Some(NotCoordinator)
        @6100 fetch g
          admin <- fetch: NotCoordinator
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn nothing_is_answered_from_a_half_loaded_shard() {
    let mut shard = GroupShard::new(config(), ids());
    let scene = stable_pair();
    let now = scene.now();
    shard.replay(&scene.log[0].key, scene.log[0].value.as_deref()).unwrap();
    let mut effects = Vec::new();
    shard.join(now, JoinRequest { group_id: GROUP.to_owned(), ..JoinRequest::default() }, ReplyToken(1), &mut effects);
    shard.commit_offsets(now, commit_request(GROUP, "t", &[(0, 5)]), ReplyToken(2), &mut effects);
    shard.delete_groups(now, vec![GROUP.to_owned()], ReplyToken(3), &mut effects);
    let refusals = effects.iter().map(|effect| match effect {
        Effect::Reply { response: Response::Join(join), .. } => join.error,
        Effect::Reply { response: Response::OffsetCommit(commit), .. } => commit.topics[0].partitions[0].error,
        Effect::Reply { response: Response::DeleteGroups(delete), .. } => delete.groups[0].1,
        other => panic!("{other:?}"),
    });
    assert_eq!(refusals.collect::<Vec<_>>(), [Some(GroupError::CoordinatorLoadInProgress); 3]);
    assert_eq!(shard.describe(&[GROUP]), Err(GroupError::CoordinatorLoadInProgress));
    assert_eq!(shard.list::<&str>(&[], &[]), Err(GroupError::CoordinatorLoadInProgress));
    // A heartbeat is told that all is well, so that members stay until the load is over.
    effects.clear();
    let request = HeartbeatRequest { group_id: GROUP.to_owned(), ..HeartbeatRequest::default() };
    shard.heartbeat(now, &request, ReplyToken(4), &mut effects);
    let response = Response::Heartbeat(HeartbeatResponse { error: None });
    assert_eq!(effects, [Effect::Reply { token: ReplyToken(4), response, after: None }]);
}

#[test]
fn a_loaded_group_over_its_size_limit_rebalances() {
    let scene = stable_pair();
    let mut shard = GroupShard::new(Config { group_size_max: 1, ..config() }, ids());
    for record in &scene.log {
        shard.replay(&record.key, record.value.as_deref()).unwrap();
    }
    let mut effects = Vec::new();
    shard.loaded(scene.now(), &mut effects);
    shard.check_invariants();
    assert_eq!(shard.describe(&[GROUP]).unwrap()[0].state, GroupState::PreparingRebalance);
}

#[test]
fn malformed_records_are_refused_with_a_reason_and_change_nothing() {
    let mut shard = GroupShard::new(config(), ids());
    let key = Key::GroupMetadata { group_id: GROUP.to_owned() }.encode().unwrap();
    let reason = |error: Result<Replayed, ReplayError>| error.unwrap_err().to_string();
    expect!["malformed key: cut short in record type: 2 bytes needed, 0 left"]
        .assert_eq(&reason(shard.replay(&[], None)));
    expect!["malformed key: cut short in group: 1 bytes needed, 0 left"]
        .assert_eq(&reason(shard.replay(&key[..4], None)));
    expect![[r#"malformed value of GroupMetadata { group_id: "g" }: version 9 of GroupMetadataValue is unknown"#]]
        .assert_eq(&reason(shard.replay(&key, Some(&[0, 9]))));
    expect![[
        r#"malformed value of GroupMetadata { group_id: "g" }: cut short in protocol type: 9 bytes needed, 0 left"#
    ]]
    .assert_eq(&reason(shard.replay(&key, Some(&[0, 3, 0, 9]))));
    assert_eq!(shard.replay(&[0, 3, 1, 2], Some(&[1])), Ok(Replayed::Skipped(3)));
    let mut effects = Vec::new();
    shard.loaded(Scene::new(config()).now(), &mut effects);
    assert_eq!(shard.stats().groups.len(), 0);
    assert_eq!(shard.replay(&key, None), Err(ReplayError::NotLoading));
}

prop_compose! {
    /// A record that can be read but says what no coordinator would write.
    fn odd_group()(
        protocol_type in prop_oneof![Just(""), Just("consumer"), Just("connect")],
        generation in prop_oneof![any::<i32>(), Just(i32::MAX)],
        protocol_name in proptest::option::of("[ab]?"),
        leader in proptest::option::of("[abc]?"),
        state_timestamp in any::<i64>(),
        members in proptest::collection::vec(odd_member(), 0..4),
    ) -> GroupMetadataValue {
        let state_timestamp = Timestamp::from_millis(state_timestamp);
        GroupMetadataValue { protocol_type: protocol_type.to_owned(), generation, protocol_name, leader, state_timestamp, members }
    }
}

prop_compose! {
    fn odd_member()(
        member_id in "[abc]?", instance_id in proptest::option::of("[ij]?"), rebalance_timeout_ms in any::<i32>(),
        session_timeout_ms in prop_oneof![Just(i32::MIN), -5i32..5, 0i32..100_000],
        subscription in proptest::collection::vec(any::<u8>(), 0..20),
    ) -> MemberMetadata {
        MemberMetadata {
            member_id, instance_id, client_id: String::new(), client_host: String::new(), rebalance_timeout_ms,
            session_timeout_ms, assignment: subscription.clone().into(), subscription: subscription.into(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn odd_records_make_groups_that_hold_together_and_end(
        groups in proptest::collection::vec(("[gh]", proptest::option::of(odd_group())), 0..6)
    ) {
        let mut shard = GroupShard::new(config(), ids());
        for (group_id, value) in groups {
            let key = Key::GroupMetadata { group_id }.encode().unwrap();
            let value = value.map(|value| value.encode().unwrap());
            shard.replay(&key, value.as_deref()).unwrap();
        }
        let mut now = Scene::new(config()).now();
        let mut effects = Vec::new();
        shard.loaded(now, &mut effects);
        shard.check_invariants();
        let end = Instant::since_origin(Duration::from_secs(3_600));
        for _ in 0..2_000 {
            let Some(deadline) = shard.deadline().filter(|deadline| *deadline < end) else { break };
            now.monotonic = deadline;
            shard.tick(now, &mut effects);
            shard.check_invariants();
        }
        prop_assert_eq!(shard.stats().members, 0, "silent members stay");
    }
}
