//! What admins ask: describe, list, delete.

use chronik_coordinator::message::{DescribedMember, OffsetCommitRequest};
use chronik_coordinator::{Config, GroupError, GroupState};
use expect_test::expect;

use crate::rebalance::stable_pair;
use crate::scene::{GROUP, Scene, commit_request, config, subscription};

#[test]
fn a_stable_group_is_described_with_metadata_and_assignments() {
    let mut scene = stable_pair();
    let described = scene.shard.describe(&[GROUP, "nobody"]).unwrap();
    assert_eq!(described[0].state, GroupState::Stable);
    assert_eq!((described[0].protocol_type.as_str(), described[0].protocol_name.as_str()), ("consumer", "range"));
    let member = DescribedMember {
        member_id: scene.client("b").request.member_id.clone(),
        instance_id: None,
        client_id: "b".to_owned(),
        client_host: "/10.0.0.1".to_owned(),
        metadata: subscription("t").into(),
        assignment: "p1".into(),
    };
    assert_eq!(described[0].members[1], member);
    assert_eq!((described[1].state, described[1].error), (GroupState::Dead, Some(GroupError::GroupIdNotFound)));

    scene.join("a");
    let described = scene.shard.describe(&[GROUP]).unwrap();
    assert_eq!(described[0].state, GroupState::PreparingRebalance);
    assert_eq!(described[0].protocol_name, "", "a protocol is told of stable groups alone");
    assert!(described[0].members.iter().all(|member| member.metadata.is_empty()));
}

#[test]
fn groups_are_listed_by_state_and_type_whatever_the_case() {
    let mut scene = stable_pair();
    scene.commit_with("simple", commit_request("s", "t", &[(0, 5)]));
    let list = |states: &[&str], types: &[&str]| {
        let listed = scene.shard.list(states, types).unwrap();
        listed
            .iter()
            .map(|group| format!("{} {:?} {}", group.group_id, group.protocol_type, group.state))
            .collect::<Vec<_>>()
    };
    assert_eq!(list(&[], &[]), ["g \"consumer\" Stable", "s \"\" Empty"]);
    assert_eq!(list(&["stable"], &[]), ["g \"consumer\" Stable"]);
    assert_eq!(list(&[" EMPTY ", "PreparingRebalance"], &["Classic"]), ["s \"\" Empty"]);
    assert!(list(&["dead"], &[]).is_empty());
    assert!(list(&[], &["consumer", "unheard-of"]).is_empty());
}

#[test]
fn only_groups_without_members_are_deleted() {
    let mut scene = stable_pair();
    scene.commit_with("simple", commit_request("s", "t", &[(0, 5), (1, 6)]));
    scene.take();
    scene.delete_groups(&["s", GROUP, "nobody", "s"]);
    scene.fetch("s", None);
    expect![[r#"
        @6100 delete groups ["s", "g", "nobody", "s"]
            s is Dead, generation 0, 0 members: deleted by request
            append 4: offset of t-0 in s is gone
            append 4: offset of t-1 in s is gone
            append 4: group s is gone
          admin <- delete groups: [("s", None), ("g", Some(NonEmptyGroup)), ("nobody", Some(GroupIdNotFound)), ("s", Some(GroupIdNotFound))]
        @6100 fetch s
          admin <- fetch:
    "#]].assert_eq(&scene.take());
}

#[test]
fn a_group_with_more_offsets_than_fit_one_batch_is_deleted_in_several() {
    let mut scene = Scene::new(Config { append_bytes_max: 100, ..config() });
    for partition in 0..4 {
        scene.commit_with("simple", commit_request("s", "t", &[(partition, 5)]));
    }
    scene.take();
    scene.hold_commits = true;
    scene.delete_groups(&["s"]);
    scene.fetch("s", None);
    scene.commit_appends();
    expect![[r#"
        @0 delete groups ["s"]
            s is Dead, generation 0, 0 members: deleted by request
            append 5: offset of t-0 in s is gone
            append 5: offset of t-1 in s is gone
            append 6: offset of t-2 in s is gone
            append 6: offset of t-3 in s is gone
            append 7: group s is gone
            (a reply waits for append 7)
        @0 fetch s
            (a reply waits for append 7)
        @0 appends are committed
          admin <- delete groups: [("s", None)]
          admin <- fetch:
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn offsets_in_use_are_not_deleted() {
    let mut scene = stable_pair();
    scene.commit("a", &[(0, 5)]);
    let member_id = scene.client("a").request.member_id.clone();
    let request = OffsetCommitRequest { generation: 1, member_id, ..commit_request(GROUP, "left", &[(0, 5)]) };
    scene.commit_with("a", request);
    scene.take();
    scene.delete_offsets(GROUP, "t", &[0, 1]);
    scene.delete_offsets(GROUP, "left", &[0, 1]);
    scene.delete_offsets("nobody", "t", &[0]);
    scene.delete_offsets("", "t", &[0]);
    scene.leave("a");
    scene.leave("b");
    scene.delete_offsets(GROUP, "t", &[0, 1]);
    expect![[r#"
        @6100 delete offsets of t [0, 1] in g
          admin <- delete offsets: t-0 GroupSubscribedToTopic, t-1 GroupSubscribedToTopic
        @6100 delete offsets of left [0, 1] in g
            append 5: offset of left-0 in g is gone
          admin <- delete offsets: left-0 ok, left-1 ok
        @6100 delete offsets of t [0] in nobody
          admin <- delete offsets: GroupIdNotFound
        @6100 delete offsets of t [0] in 
          admin <- delete offsets: InvalidGroupId
        @6100 a: leave [("a-#1", None)]
            g is PreparingRebalance, generation 1, 1 members: members leave: a-#1
          a <- leave: left
        @6100 b: leave [("b-#2", None)]
            g is Empty, generation 2, 0 members: nobody joined
            append 6: group g generation 2 of None []
          b <- leave: left
        @6100 delete offsets of t [0, 1] in g
            append 7: offset of t-0 in g is gone
          admin <- delete offsets: t-0 ok, t-1 ok
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn offsets_of_members_that_are_no_consumers_are_not_deleted() {
    let mut scene = Scene::new(config());
    scene.client("a").request.protocol_type = "connect".to_owned();
    scene.join("a");
    scene.take();
    scene.delete_offsets(GROUP, "t", &[0]);
    expect![[r#"
        @0 delete offsets of t [0] in g
          admin <- delete offsets: NonEmptyGroup
    "#]]
    .assert_eq(&scene.take());
}
