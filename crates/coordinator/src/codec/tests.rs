//! The codec against Kafka's own bytes, against itself, and against bytes that are no record.

use std::collections::BTreeMap;

use chronik_model::{LeaderEpoch, Offset, Timestamp, TopicId};
use proptest::prelude::*;

use super::*;

/// Name, key and value of each golden record; `golden/GoldenRecords.java` makes them with Apache Kafka 4.3.1.
fn golden() -> BTreeMap<&'static str, (Vec<u8>, Option<Vec<u8>>)> {
    let lines = include_str!("../../testdata/golden_records.txt").lines();
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            let key = from_hex(words.next().unwrap());
            let value = Some(words.next().unwrap()).filter(|value| *value != "-").map(from_hex);
            (name, (key, value))
        })
        .collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn golden_offset(version: i16) -> OffsetCommitValue {
    OffsetCommitValue {
        offset: Offset::new(4711),
        leader_epoch: if version >= 3 { LeaderEpoch::new(12) } else { LeaderEpoch::NONE },
        metadata: "note äö".to_owned(),
        commit_timestamp: Timestamp::from_millis(1_700_000_000_123),
        expire_timestamp: (version == 1).then_some(Timestamp::from_millis(1_700_000_600_123)),
        topic_id: TopicId::ZERO,
    }
}

fn golden_group(version: i16) -> GroupMetadataValue {
    let dynamic = MemberMetadata {
        member_id: "client-1-0001".to_owned(),
        instance_id: None,
        client_id: "client-1".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        rebalance_timeout_ms: if version >= 1 { 300_000 } else { 45_000 },
        session_timeout_ms: 45_000,
        subscription: Bytes::from_static(&[0, 1, 2, 3]),
        assignment: Bytes::from_static(&[9, 8]),
    };
    let other = MemberMetadata {
        member_id: "instance-a-0002".to_owned(),
        instance_id: (version >= 3).then(|| "instance-a".to_owned()),
        client_id: "client-2".to_owned(),
        client_host: "/10.0.0.2".to_owned(),
        rebalance_timeout_ms: if version >= 1 { 60_000 } else { 10_000 },
        session_timeout_ms: 10_000,
        subscription: Bytes::from_static(&[5]),
        assignment: Bytes::new(),
    };
    GroupMetadataValue {
        protocol_type: "consumer".to_owned(),
        generation: 3,
        protocol_name: Some("range".to_owned()),
        leader: Some("client-1-0001".to_owned()),
        state_timestamp: if version >= 2 { Timestamp::from_millis(1_700_000_000_456) } else { Timestamp::NONE },
        members: vec![dynamic, other],
    }
}

#[test]
fn every_version_of_kafkas_offset_commits_is_read() {
    let golden = golden();
    let key = Key::OffsetCommit { group_id: "orders-app".to_owned(), topic: "orders".to_owned(), partition: 7 };
    for version in 0..=4 {
        let (key_bytes, value) = &golden[format!("offset_commit_v{version}").as_str()];
        assert_eq!(Key::decode(key_bytes).as_ref(), Ok(&key));
        assert_eq!(OffsetCommitValue::decode(value.as_ref().unwrap()), Ok(golden_offset(version)), "version {version}");
    }
    let with_id = OffsetCommitValue { topic_id: topic_id(), ..golden_offset(4) };
    assert_eq!(OffsetCommitValue::decode(golden["offset_commit_v4_topic_id"].1.as_ref().unwrap()), Ok(with_id));
    let legacy = Key::OffsetCommit { group_id: "old".to_owned(), topic: "t".to_owned(), partition: 0 };
    assert_eq!(Key::decode(&golden["offset_commit_legacy_key"].0), Ok(legacy));
}

#[test]
fn offset_commits_are_written_byte_for_byte_as_kafka_writes_them() {
    let golden = golden();
    let (key, value) = &golden["offset_commit_v4_topic_id"];
    assert_eq!(offset_commit_key("orders-app", "orders", 7).unwrap(), key);
    let with_id = OffsetCommitValue { topic_id: topic_id(), ..golden_offset(4) };
    assert_eq!(with_id.encode().unwrap(), value.as_ref().unwrap());
    assert_eq!(golden_offset(4).encode().unwrap(), golden["offset_commit_v4"].1.as_ref().unwrap());
    assert_eq!(golden_offset(1).encode().unwrap(), golden["offset_commit_v1"].1.as_ref().unwrap());
    let long = OffsetCommitValue { metadata: "m".repeat(300), leader_epoch: LeaderEpoch::NONE, ..golden_offset(4) };
    assert_eq!(long.encode().unwrap(), golden["offset_commit_v4_long_metadata"].1.as_ref().unwrap());
    assert_eq!(golden["offset_commit_tombstone"], (key.clone(), None));
}

#[test]
fn every_version_of_kafkas_group_metadata_is_read() {
    let golden = golden();
    for version in 0..=4 {
        let (key, value) = &golden[format!("group_metadata_v{version}").as_str()];
        assert_eq!(Key::decode(key), Ok(Key::GroupMetadata { group_id: "orders-app".to_owned() }));
        assert_eq!(GroupMetadataValue::decode(value.as_ref().unwrap()), Ok(golden_group(version)), "version {version}");
    }
}

#[test]
fn group_metadata_is_written_byte_for_byte_as_kafka_writes_it() {
    let golden = golden();
    let (key, value) = &golden["group_metadata_v3"];
    assert_eq!(group_metadata_key("orders-app").unwrap(), key);
    assert_eq!(golden_group(3).encode().unwrap(), value.as_ref().unwrap());
    let empty = GroupMetadataValue {
        generation: 4,
        protocol_name: None,
        leader: None,
        state_timestamp: Timestamp::from_millis(1_700_000_000_789),
        members: Vec::new(),
        ..golden_group(3)
    };
    assert_eq!(empty.encode().unwrap(), golden["group_metadata_v3_empty"].1.as_ref().unwrap());
    assert_eq!(golden["group_metadata_tombstone"], (key.clone(), None));
}

#[test]
fn a_record_cut_anywhere_is_refused_with_the_field_it_was_cut_in() {
    for (name, (key, value)) in golden() {
        for cut in 0..key.len() {
            assert!(Key::decode(&key[..cut]).is_err(), "{name}: key cut at {cut} passes");
        }
        let Some(value) = value else { continue };
        let decode = |bytes: &[u8]| match name.starts_with("offset") {
            true => OffsetCommitValue::decode(bytes).map(drop),
            false => GroupMetadataValue::decode(bytes).map(drop),
        };
        for cut in 0..value.len() {
            assert!(decode(&value[..cut]).is_err(), "{name}: value cut at {cut} passes");
        }
        let longer = [&value[..], &[0]].concat();
        assert_eq!(decode(&longer), Err(CodecError::TrailingBytes(1)), "{name}");
    }
}

#[test]
fn a_count_larger_than_the_bytes_behind_it_is_refused_before_anything_is_allocated() {
    let mut bytes = golden()["group_metadata_v3_empty"].1.clone().unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&i32::MAX.to_be_bytes());
    let refused = CodecError::BadLength { field: "members", length: i32::MAX.into() };
    assert_eq!(GroupMetadataValue::decode(&bytes), Err(refused));
    let subscription = [&[0, 0][..], &i32::MAX.to_be_bytes()].concat();
    assert_eq!(
        subscribed_topics(&subscription),
        Err(CodecError::BadLength { field: "topics", length: i32::MAX.into() })
    );
}

#[test]
fn unknown_versions_are_refused_and_unknown_record_types_are_named() {
    assert_eq!(
        OffsetCommitValue::decode(&[0, 5]),
        Err(CodecError::UnknownVersion { record: "OffsetCommitValue", version: 5 })
    );
    assert_eq!(
        GroupMetadataValue::decode(&[255, 255]),
        Err(CodecError::UnknownVersion { record: "GroupMetadataValue", version: -1 })
    );
    assert_eq!(Key::decode(&[0, 3, 0xff, 0xff]), Ok(Key::Other(3)));
}

#[test]
fn tagged_fields_of_later_brokers_are_passed_over() {
    let mut bytes = golden()["offset_commit_v4"].1.clone().unwrap();
    assert_eq!(bytes.pop(), Some(0), "the value ends in an empty set of tagged fields");
    bytes.extend([1, 9, 2, 0xca, 0xfe]);
    assert_eq!(OffsetCommitValue::decode(&bytes), Ok(golden_offset(4)));
}

#[test]
fn the_topics_of_a_subscription_are_read_from_any_version() {
    let subscription = [&[0, 3, 0, 0, 0, 2, 0, 1][..], b"b", &[0, 1], b"a", &[1, 2, 3]].concat();
    assert_eq!(subscribed_topics(&subscription), Ok(["a".to_owned(), "b".to_owned()].into()));
    assert!(subscribed_topics(&[0, 0, 0, 0, 0, 1, 0, 1]).is_err());
}

#[test]
fn what_does_not_fit_a_field_is_not_written() {
    let long = "g".repeat(STRING_BYTES_MAX + 1);
    assert_eq!(group_metadata_key(&long), Err(CodecError::TooLong { field: "group", length: 32_768 }));
    assert!(group_metadata_key(&long[1..]).is_ok());
}

fn topic_id() -> TopicId {
    TopicId("Rm9vQmFyQmF6UXV4MTIzNA".parse().unwrap())
}

prop_compose! {
    fn member()(
        member_id in ".{0,20}", instance_id in proptest::option::of(".{0,9}"), client_id in ".{0,9}",
        client_host in ".{0,9}", rebalance_timeout_ms in 0i32.., session_timeout_ms in any::<i32>(),
        subscription in proptest::collection::vec(any::<u8>(), 0..50), assignment in proptest::collection::vec(any::<u8>(), 0..50),
    ) -> MemberMetadata {
        MemberMetadata {
            member_id, instance_id, client_id, client_host, rebalance_timeout_ms, session_timeout_ms,
            subscription: subscription.into(), assignment: assignment.into(),
        }
    }
}

proptest! {
    #[test]
    fn offset_commits_survive_the_log(
        offset in any::<i64>(), leader_epoch in any::<i32>(), metadata in ".{0,200}", commit in any::<i64>(),
        id in any::<[u8; 16]>(),
    ) {
        let value = OffsetCommitValue {
            offset: Offset::new(offset),
            leader_epoch: LeaderEpoch::new(leader_epoch),
            metadata,
            commit_timestamp: Timestamp::from_millis(commit),
            expire_timestamp: None,
            topic_id: TopicId(chronik_model::Uuid::from_bytes(id)),
        };
        prop_assert_eq!(OffsetCommitValue::decode(&value.encode().unwrap()), Ok(value));
    }

    #[test]
    fn groups_survive_the_log(
        protocol_type in ".{0,9}", generation in any::<i32>(), protocol_name in proptest::option::of(".{0,9}"),
        leader in proptest::option::of(".{0,9}"), since in any::<i64>(),
        members in proptest::collection::vec(member(), 0..5),
    ) {
        let state_timestamp = Timestamp::from_millis(since);
        let value = GroupMetadataValue { protocol_type, generation, protocol_name, leader, state_timestamp, members };
        prop_assert_eq!(GroupMetadataValue::decode(&value.encode().unwrap()), Ok(value));
    }

    #[test]
    fn keys_survive_the_log(group_id in ".{0,40}", topic in ".{0,40}", partition in any::<i32>()) {
        let key = Key::OffsetCommit { group_id: group_id.clone(), topic, partition };
        prop_assert_eq!(Key::decode(&key.encode().unwrap()), Ok(key));
        let key = Key::GroupMetadata { group_id };
        prop_assert_eq!(Key::decode(&key.encode().unwrap()), Ok(key));
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), version in 0u8..6) {
        let _ = Key::decode(&bytes);
        let _ = subscribed_topics(&bytes);
        let _ = OffsetCommitValue::decode(&[&[0, version][..], &bytes].concat());
        let _ = GroupMetadataValue::decode(&[&[0, version][..], &bytes].concat());
    }

    #[test]
    fn golden_records_with_flipped_bytes_are_read_or_refused_without_a_panic(at in 0usize..1000, to in any::<u8>()) {
        for (_, value) in golden().into_values() {
            let Some(mut value) = value else { continue };
            let at = at % value.len();
            value[at] = to;
            let _ = OffsetCommitValue::decode(&value);
            let _ = GroupMetadataValue::decode(&value);
        }
    }
}
