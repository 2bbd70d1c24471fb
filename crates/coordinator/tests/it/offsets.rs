//! Committed offsets: who may commit, what is kept, what is fetched, and when offsets go.

use std::time::Duration;

use chronik_coordinator::Config;
use chronik_coordinator::codec::{OffsetCommitValue, offset_commit_key};
use chronik_coordinator::message::OffsetCommitRequest;
use chronik_model::{LeaderEpoch, Offset, Timestamp, TopicId, Uuid};
use expect_test::expect;

use crate::rebalance::{stable_pair, stable_pair_with_sessions_of};
use crate::scene::{EPOCH_MS, GROUP, Scene, commit_request, config, fetch_topic};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn a_client_outside_any_group_stores_and_fetches_offsets() {
    let mut scene = Scene::new(config());
    scene.commit_with("simple", commit_request("s", "t", &[(0, 5), (3, 8)]));
    scene.fetch("s", Some(fetch_topic("t", &[0, 1, 3])));
    scene.fetch("s", Some(fetch_topic("u", &[0])));
    scene.fetch("s", None);
    scene.fetch("nobody", None);
    scene.fetch("nobody", Some(fetch_topic("t", &[0])));
    scene.commit_with("simple", commit_request("", "t", &[(0, 1)]));
    scene.fetch("", None);
    expect![[r#"
        @0 simple commits
            append 1: offset of t-0 in s = 5
            append 1: offset of t-3 in s = 8
          simple <- commit: t-0 ok, t-3 ok
        @0 fetch s
          admin <- fetch: t-0=5@5 t-1=-1@-1 t-3=8@5
        @0 fetch s
          admin <- fetch: u-0=-1@-1
        @0 fetch s
          admin <- fetch: t-0=5@5 t-3=8@5
        @0 fetch nobody
          admin <- fetch:
        @0 fetch nobody
          admin <- fetch: t-0=-1@-1
        @0 simple commits
            append 2: offset of t-0 in  = 1
          simple <- commit: t-0 ok
        @0 fetch 
          admin <- fetch: t-0=1@5
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn commits_are_fenced_by_member_and_generation() {
    let mut scene = stable_pair();
    scene.take();
    scene.commit_with("outsider", commit_request(GROUP, "t", &[(0, 5)]));
    scene.commit_with("late", OffsetCommitRequest { generation: 3, ..commit_request("nobody", "t", &[(0, 5)]) });
    let old_client =
        OffsetCommitRequest { group_id_not_found_supported: false, ..commit_request("nobody", "t", &[(0, 5)]) };
    scene.commit_with("late", OffsetCommitRequest { generation: 3, ..old_client });
    scene.join("a");
    scene.commit("b", &[(0, 5)]);
    scene.join("b");
    scene.commit("b", &[(0, 6)]);
    expect![[r#"
        @6100 outsider commits
          outsider <- commit: t-0 UnknownMemberId
        @6100 late commits
          late <- commit: t-0 GroupIdNotFound
        @6100 late commits
          late <- commit: t-0 IllegalGeneration
        @6100 a joins
            g is PreparingRebalance, generation 1, 2 members: leader rejoins: a-#1
        @6100 b commits
            append 3: offset of t-0 in g = 5
          b <- commit: t-0 ok
        @6100 b joins
            g is CompletingRebalance, generation 2, 2 members: join phase is over
          a <- join: a-#1 in generation 2 of range, leader a-#1, members ["a-#1", "b-#2"]
          b <- join: b-#2 in generation 2 of range, leader a-#1, members []
        @6100 b commits
          b <- commit: t-0 RebalanceInProgress
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_commit_keeps_a_member_alive() {
    let mut scene = stable_pair();
    for offset in 0..10 {
        scene.wait_ms(9_000);
        scene.commit("a", &[(0, offset)]);
        scene.commit("b", &[(1, offset)]);
    }
    assert_eq!(scene.shard.stats().members, 2);
}

#[test]
fn each_partition_of_a_commit_has_its_own_outcome() {
    let mut scene = Scene::new(Config { offset_metadata_max: 4, ..config() });
    let mut request = commit_request("s", "t", &[(0, 1), (1, 2), (2, 3)]);
    request.topics[0].partitions[0].metadata = Some("12345".to_owned());
    request.topics[0].partitions[1].metadata = Some("1234".to_owned());
    let mut long_name = commit_request("s", &"t".repeat(40_000), &[(0, 1)]);
    request.topics.append(&mut long_name.topics);
    scene.commit_with("simple", request);
    scene.fetch("s", None);
    let transcript = scene.take().replace(&"t".repeat(40_000), "t...t");
    expect![[r#"
        @0 simple commits
            append 1: offset of t-1 in s = 2
            append 1: offset of t-2 in s = 3
          simple <- commit: t-0 OffsetMetadataTooLarge, t-1 ok, t-2 ok, t...t-0 InvalidTopic
        @0 fetch s
          admin <- fetch: t-1=2@5"1234" t-2=3@5
    "#]]
    .assert_eq(&transcript);
}

#[test]
fn a_commit_too_large_for_one_batch_changes_nothing() {
    let mut scene = Scene::new(Config { append_bytes_max: 200, ..config() });
    let offsets: Vec<(i32, i64)> = (0..4).map(|partition| (partition, 1)).collect();
    scene.commit_with("simple", commit_request("s", "t", &offsets));
    scene.commit_with("simple", commit_request("s", "t", &offsets[..2]));
    scene.fetch("s", None);
    expect![[r#"
        @0 simple commits
          simple <- commit: t-0 InvalidCommitOffsetSize, t-1 InvalidCommitOffsetSize, t-2 InvalidCommitOffsetSize, t-3 InvalidCommitOffsetSize
        @0 simple commits
            append 1: offset of t-0 in s = 1
            append 1: offset of t-1 in s = 1
          simple <- commit: t-0 ok, t-1 ok
        @0 fetch s
          admin <- fetch: t-0=1@5 t-1=1@5
    "#]].assert_eq(&scene.take());
}

#[test]
fn an_offset_of_a_topic_that_was_made_again_is_not_given() {
    let mut scene = Scene::new(config());
    let id = |byte| TopicId(Uuid::from_bytes([byte; 16]));
    let mut request = commit_request("s", "t", &[(0, 5)]);
    request.topics[0].topic_id = id(1);
    scene.commit_with("simple", request);
    for topic_id in [TopicId::ZERO, id(1), id(2)] {
        let mut topics = fetch_topic("t", &[0]);
        topics[0].topic_id = topic_id;
        scene.fetch("s", Some(topics));
    }
    expect![[r#"
        @0 simple commits
            append 1: offset of t-0 in s = 5
          simple <- commit: t-0 ok
        @0 fetch s
          admin <- fetch: t-0=5@5
        @0 fetch s
          admin <- fetch: t-0=5@5
        @0 fetch s
          admin <- fetch: t-0=-1@-1
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn the_record_of_a_commit_carries_all_of_it() {
    let mut scene = Scene::new(config());
    let mut request = commit_request("s", "t", &[(4, 5)]);
    request.topics[0].topic_id = TopicId(Uuid::from_bytes([7; 16]));
    request.topics[0].partitions[0].metadata = Some("note".to_owned());
    scene.commit_with("simple", request.clone());
    request.retention = Some(Duration::from_secs(60));
    scene.commit_with("simple", request);

    assert_eq!(scene.log[0].key, offset_commit_key("s", "t", 4).unwrap());
    let mut value = OffsetCommitValue {
        offset: Offset::new(5),
        leader_epoch: LeaderEpoch::new(5),
        metadata: "note".to_owned(),
        commit_timestamp: Timestamp::from_millis(EPOCH_MS),
        expire_timestamp: None,
        topic_id: TopicId(Uuid::from_bytes([7; 16])),
    };
    assert_eq!(OffsetCommitValue::decode(scene.log[0].value.as_ref().unwrap()), Ok(value.clone()));
    value.leader_epoch = LeaderEpoch::NONE;
    value.topic_id = TopicId::ZERO;
    value.expire_timestamp = Some(Timestamp::from_millis(EPOCH_MS + 60_000));
    assert_eq!(OffsetCommitValue::decode(scene.log[1].value.as_ref().unwrap()), Ok(value));
}

#[test]
fn offsets_of_a_simple_group_go_a_week_after_their_last_commit_and_the_group_with_them() {
    let mut scene = Scene::new(config());
    scene.commit_with("simple", commit_request("s", "t", &[(0, 5), (1, 6)]));
    scene.wait(3 * DAY);
    scene.commit_with("simple", commit_request("s", "t", &[(1, 7)]));
    scene.take();
    scene.wait(5 * DAY);
    expect![[r#"
        @604800000 tick
            append 3: offset of t-0 in s is gone
    "#]]
    .assert_eq(&scene.take());
    scene.wait(3 * DAY);
    expect![[r#"
        @864000000 tick
            s is Dead, generation 0, 0 members: nobody is in it and its offsets have expired
            append 4: offset of t-1 in s is gone
            append 4: group s is gone
    "#]]
    .assert_eq(&scene.take());
    assert_eq!(scene.shard.stats().groups.len(), 0);
    assert_eq!(scene.shard.stats().offsets_expired, 2);
}

#[test]
fn offsets_of_a_group_go_a_week_after_it_became_empty() {
    let mut scene = stable_pair_with_sessions_of(Duration::from_secs(30 * 60));
    scene.commit("a", &[(0, 5)]);
    for _ in 0..10 * 48 {
        scene.wait(Duration::from_secs(30 * 60 - 1));
        scene.heartbeat("a");
        scene.heartbeat("b");
    }
    assert_eq!(scene.shard.stats().offsets, 1, "a group with members keeps what it is subscribed to");
    scene.leave("a");
    scene.leave("b");
    scene.take();
    scene.wait(7 * DAY - Duration::from_secs(3_600));
    assert_eq!(scene.shard.stats().offsets, 1);
    scene.wait(Duration::from_secs(7_200));
    expect![[r#"
        @1468800000 tick
            g is Dead, generation 2, 0 members: nobody is in it and its offsets have expired
            append 5: offset of t-0 in g is gone
            append 5: group g is gone
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn offsets_of_a_topic_a_stable_group_has_left_go_a_week_after_their_last_commit() {
    let mut scene = stable_pair_with_sessions_of(Duration::from_secs(30 * 60));
    let member_id = scene.client("a").request.member_id.clone();
    let request = OffsetCommitRequest { generation: 1, member_id, ..commit_request(GROUP, "left", &[(0, 5)]) };
    scene.commit_with("a", request);
    scene.commit("a", &[(0, 5)]);
    for _ in 0..8 * 48 {
        scene.wait(Duration::from_secs(30 * 60 - 1));
        scene.heartbeat("a");
        scene.heartbeat("b");
    }
    scene.take();
    scene.fetch(GROUP, None);
    expect![[r#"
        @690822100 fetch g
          admin <- fetch: t-0=5@5
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn a_commit_may_bring_its_own_retention() {
    let mut scene = Scene::new(config());
    let retention = Some(Duration::from_secs(60));
    scene.commit_with("old client", OffsetCommitRequest { retention, ..commit_request("s", "t", &[(0, 5)]) });
    scene.take();
    scene.wait_ms(599_999);
    assert_eq!(scene.shard.stats().offsets, 1, "nothing goes between two looks");
    scene.wait_ms(1);
    expect![[r#"
        @600000 tick
            s is Dead, generation 0, 0 members: nobody is in it and its offsets have expired
            append 2: offset of t-0 in s is gone
            append 2: group s is gone
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn offsets_go_with_their_topic() {
    let mut scene = Scene::new(config());
    scene.commit_with("simple", commit_request("s", "t", &[(0, 5), (1, 6)]));
    scene.commit_with("simple", commit_request("s", "u", &[(0, 7)]));
    scene.commit_with("simple", commit_request("r", "t", &[(0, 8)]));
    scene.take();
    scene.delete_topics(&["t", "unheard-of"]);
    scene.fetch("s", None);
    scene.fetch("r", None);
    expect![[r#"
        @0 topics ["t", "unheard-of"] are deleted
            append 4: offset of t-0 in r is gone
            append 5: offset of t-0 in s is gone
            append 5: offset of t-1 in s is gone
        @0 fetch s
          admin <- fetch: u-0=7@5
        @0 fetch r
          admin <- fetch:
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn offsets_of_a_topic_made_again_outlive_the_late_word_of_its_deletion() {
    let mut scene = Scene::new(config());
    let id = |byte| TopicId(Uuid::from_bytes([byte; 16]));
    let commit = |group: &str, byte: u8| {
        let mut request = commit_request(group, "t", &[(0, 5)]);
        request.topics[0].topic_id = id(byte);
        request
    };
    scene.commit_with("simple", commit("late", 1));
    scene.commit_with("simple", commit("again", 2));
    scene.take();
    scene.delete_topics_with(&[("t", id(1))]);
    scene.fetch("late", None);
    scene.fetch("again", None);
    expect![[r#"
        @0 topics ["t"] are deleted
            append 3: offset of t-0 in late is gone
        @0 fetch late
          admin <- fetch:
        @0 fetch again
          admin <- fetch: t-0=5@5
    "#]]
    .assert_eq(&scene.take());
}

#[test]
fn offsets_of_topics_that_went_while_nobody_told_are_forgotten() {
    let mut scene = Scene::new(config());
    let id = |byte| TopicId(Uuid::from_bytes([byte; 16]));
    let mut made_again = commit_request("s", "made-again", &[(0, 1)]);
    made_again.topics[0].topic_id = id(1);
    let mut kept = commit_request("s", "kept", &[(0, 2)]);
    kept.topics[0].topic_id = id(2);
    scene.commit_with("simple", made_again);
    scene.commit_with("simple", kept);
    scene.commit_with("simple", commit_request("s", "gone", &[(0, 3)]));
    scene.commit_with("simple", commit_request("s", "without-id", &[(0, 4)]));
    scene.take();
    scene.retain_topics(&[("made-again", id(9)), ("kept", id(2)), ("without-id", id(3))]);
    scene.fetch("s", None);
    expect![[r#"
        @0 topics that are gone are looked for
            append 5: offset of gone-0 in s is gone
            append 5: offset of made-again-0 in s is gone
        @0 fetch s
          admin <- fetch: kept-0=2@5 without-id-0=4@5
    "#]]
    .assert_eq(&scene.take());
}
