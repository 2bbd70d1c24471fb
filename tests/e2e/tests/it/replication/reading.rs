//! A follower is read at once, up to its high watermark.

use std::time::{Duration, Instant};

use chronik_e2e::pair::Pair;
use chronik_e2e::raw::{Connection, assert_none};
use chronik_e2e::status::Status;
use chronik_e2e::view::fetch_request;
use chronik_e2e::{admin, clients, view, wait};
use chronik_wire::messages::describe_log_dirs_request::DescribableLogDirTopic;
use chronik_wire::messages::{
    DescribeGroupsRequest, DescribeLogDirsRequest, FetchRequest, ListGroupsRequest, OffsetForLeaderEpochRequest,
    offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::{BOUND, produce};

/// A wait that no test reaches: a fetch that lasts so long was not woken.
const LONG: i32 = 25_000;

#[test]
fn waiting_fetch_at_a_follower_is_woken_by_replicated_records() {
    let pair = Pair::start();
    let (leader, follower) = (pair.leaders.kafka.as_str(), pair.followers.kafka.as_str());
    clients::create_topic(leader, "woken", 1, &[]);
    produce(leader, "woken", 0, -1, &[b"first"]);
    view::wait_for_bounds(follower, "woken", 0, (0, 1), BOUND);
    let mut waiting = Connection::open(follower);
    let mut slowest = Duration::ZERO;
    for number in 1..100_i64 {
        let fetch = FetchRequest { max_wait_ms: LONG, min_bytes: 1, ..fetch_request("woken", 0, number) };
        let asked = waiting.request(12, &fetch);
        let started = Instant::now();
        produce(leader, "woken", 0, [1, -1][usize::from(number % 2 == 0)], &[b"wake"]);
        let fetched = waiting.response::<FetchRequest>(12, asked);
        slowest = slowest.max(started.elapsed());
        let partition = &fetched.responses[0].partitions[0];
        assert_none(partition.error_code, "a fetch at a follower");
        let records = partition.records.clone().unwrap();
        assert!(records.len() > 61 && records[..8] == number.to_be_bytes(), "the record that woke it: {records:?}");
        assert!(partition.high_watermark > number);
    }
    eprintln!("slowest of 99 wake-ups over the follower: {slowest:?}");
    assert!(slowest < Duration::from_millis(u64::from(LONG.unsigned_abs()) / 2), "{slowest:?}: not woken");
}

#[test]
fn consumer_with_a_rack_is_sent_to_the_follower_in_it() {
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let rack = |name: &'static str| move |setup: chronik_e2e::broker::Setup| setup.set("broker.rack", name);
    let mut pair = Pair::start_each(
        |setup| rack("here")(setup).set("replica.selector.class", selector),
        |setup| rack("there")(setup).set("replica.selector.class", selector),
    );
    let (leader, follower) = (&*pair.leaders.kafka.clone(), &*pair.followers.kafka.clone());
    let follower_id = Status::of(&pair.follower).node_id();
    clients::create_topic(leader, "near", 1, &[]);
    for _ in 0..20 {
        produce(leader, "near", 0, -1, &[b"somewhere"]);
    }
    view::wait_for_bounds(follower, "near", 0, (0, 20), BOUND);
    let told = |rack_id: &str| {
        let request = FetchRequest { rack_id: rack_id.to_owned(), ..fetch_request("near", 0, 0) };
        let fetched = Connection::open(leader).ask(12, &request).responses[0].partitions[0].clone();
        assert_none(fetched.error_code, "a fetch with a rack");
        (fetched.preferred_read_replica, fetched.records.is_none_or(|records| records.is_empty()))
    };
    wait::until_true("the leader to know that the follower has it", BOUND, || told("there").0 == follower_id);
    assert_eq!(told("there"), (follower_id, true), "whoever is sent away gets nothing here");
    for rack in ["here", "elsewhere", ""] {
        assert_eq!(told(rack), (-1, false), "rack {rack:?}");
    }
    // A real client goes there by itself.
    let mut config = clients::config(leader);
    config.set("group.id", "near").set("client.rack", "there").set("check.crcs", "true");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset("near", 0, Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let mut got = 0;
    wait::until_true("all records", BOUND, || {
        got += usize::from(consumer.poll(Duration::from_millis(100)).is_some_and(|record| record.is_ok()));
        got == 20
    });
    // And is sent back when the follower is gone.
    drop(consumer);
    pair.follower.kill();
    wait::until_true("nobody sent to a dead follower", BOUND, || told("there") == (-1, false));
}

#[test]
fn administrators_can_ask_a_follower() {
    let pair = Pair::start();
    let (leader, follower) = (pair.leaders.kafka.as_str(), pair.followers.kafka.as_str());
    clients::create_topic(leader, "asked", 2, &[("segment.bytes", "2097152")]);
    produce(leader, "asked", 1, -1, &[b"one", b"two"]);
    admin::wait_for_coordinator(leader, "asking", BOUND);
    admin::commit(leader, "asking", "asked", 1, 1);
    pair.catch_up();
    view::wait_for_bounds(follower, "asked", 1, (0, 2), BOUND);
    assert_eq!(admin::config(follower, "asked", "segment.bytes").as_deref(), Some("2097152"));
    let mut connection = Connection::open(follower);
    wait::until_true("the group's offset", BOUND, || admin::committed(follower, "asking", "asked", 1) == Ok(1));
    let groups = connection.ask(4, &ListGroupsRequest::default());
    assert_none(groups.error_code, "listing groups");
    assert!(groups.groups.iter().any(|group| group.group_id == "asking"), "{groups:?}");
    let described =
        connection.ask(5, &DescribeGroupsRequest { groups: vec!["asking".to_owned()], ..Default::default() });
    assert_none(described.groups[0].error_code, "describing a group");
    let topics = Some(vec![DescribableLogDirTopic { topic: "asked".to_owned(), partitions: vec![1] }]);
    let dirs = connection.ask(2, &DescribeLogDirsRequest { topics });
    assert_none(dirs.results[0].error_code, "describing log directories");
    assert!(dirs.results[0].topics[0].partitions[0].partition_size > 61);
    let partition = OffsetForLeaderPartition { partition: 1, current_leader_epoch: -1, leader_epoch: 0 };
    let topics = vec![OffsetForLeaderTopic { topic: "asked".to_owned(), partitions: vec![partition] }];
    let ends = connection.ask(3, &OffsetForLeaderEpochRequest { replica_id: -1, topics });
    assert_eq!(ends.topics[0].partitions[0].error_code, 0, "{ends:?}");
    for record in clients::read_all(follower, "asked", 2) {
        assert_eq!(record.partition, 1);
    }
}
