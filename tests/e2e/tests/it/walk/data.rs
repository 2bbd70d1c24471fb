//! Visits to the APIs that move records.

use chronik_e2e::batch;
use chronik_e2e::clients;
use chronik_e2e::raw::{Connection, assert_code, assert_none};
use chronik_e2e::wait;
use chronik_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use chronik_wire::messages::describe_producers_request::TopicRequest;
use chronik_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use chronik_wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use chronik_wire::messages::{
    DeleteRecordsRequest, DescribeProducersRequest, InitProducerIdRequest, ListOffsetsRequest,
    OffsetForLeaderEpochRequest, ProduceRequest,
};
use chronik_wire::{ErrorCode, Uuid};

use super::{TIMESTAMP, World, fetch_by_name, produce_by_name, unique};

const BOUND: std::time::Duration = std::time::Duration::from_secs(30);

pub(super) fn produce(world: &World, connection: &mut Connection, version: i16) {
    if version < 3 {
        // Advertised so that old librdkafka takes the broker for one with this API; then refused by closing (KIP-896).
        let request = chronik_e2e::raw::frame(chronik_wire::ApiKey::Produce, version, 1, |w| {
            w.raw(&[0, 1, 0, 0, 0, 100, 0, 0, 0, 0]);
        });
        connection.send(&request).unwrap();
        assert!(connection.frame().is_ok_and(|frame| frame.is_none()), "answered");
        return;
    }
    let mut next = None;
    for (acks, values) in [(1, [b"a".as_slice(), b"b"].as_slice()), (-1, &[b"c"])] {
        let mut request = produce_by_name(&world.topic, 1, acks, values);
        name(&mut request, world, version);
        let response = connection.ask(version, &request);
        let topic = &response.responses[0];
        if version >= 13 {
            assert_eq!(topic.topic_id, world.topic_id);
        } else {
            assert_eq!(topic.name, world.topic);
        }
        let partition = &topic.partition_responses[0];
        assert_none(partition.error_code, "produce");
        assert_eq!(partition.index, 1);
        assert_eq!(partition.base_offset, next.unwrap_or(partition.base_offset), "offsets are dense");
        next = Some(partition.base_offset + i64::try_from(values.len()).unwrap());
        assert_eq!(partition.log_append_time_ms, -1, "create time");
        if version >= 5 {
            assert_eq!(partition.log_start_offset, 0);
        }
        assert_eq!(response.throttle_time_ms, 0);
    }
    let mut request = produce_by_name(&world.topic, 99, 1, &[b"x"]);
    name(&mut request, world, version);
    let refused = connection.ask(version, &request);
    assert_code(
        refused.responses[0].partition_responses[0].error_code,
        ErrorCode::UnknownTopicOrPartition,
        "partition 99",
    );
    let mut request = produce_by_name(&world.topic, 1, 7, &[b"x"]);
    name(&mut request, world, version);
    let refused = connection.ask(version, &request);
    assert_code(refused.responses[0].partition_responses[0].error_code, ErrorCode::InvalidRequiredAcks, "acks 7");
}

fn name(request: &mut ProduceRequest, world: &World, version: i16) {
    if version >= 13 {
        request.topic_data[0].name = String::new();
        request.topic_data[0].topic_id = world.topic_id;
    }
}

pub(super) fn fetch(world: &World, connection: &mut Connection, version: i16) {
    let mut request = fetch_by_name(&world.topic, 0, 0);
    if version >= 13 {
        request.topics[0].topic = String::new();
        request.topics[0].topic_id = world.topic_id;
    }
    if version >= 15 {
        request.replica_id = Default::default();
        request.replica_id = -1;
    }
    let response = connection.ask(version, &request);
    assert_none(response.error_code, "fetch");
    assert_eq!((response.throttle_time_ms, response.session_id), (0, 0));
    let partition = &response.responses[0].partitions[0];
    assert_none(partition.error_code, "fetch");
    assert_eq!((partition.partition_index, partition.high_watermark, partition.last_stable_offset), (0, 3, 3));
    let records = partition.records.as_ref().expect("records");
    let mut sent = batch::of(&[b"zero", b"one", b"two"]);
    // Base offset and leader epoch are the broker's.
    sent[..8].copy_from_slice(&0_i64.to_be_bytes());
    sent[12..16].copy_from_slice(&records[12..16]);
    assert_eq!(records[..], sent[..]);
    let mut beyond = request.clone();
    beyond.topics[0].partitions[0].fetch_offset = 99;
    let response = connection.ask(version, &beyond);
    assert_code(response.responses[0].partitions[0].error_code, ErrorCode::OffsetOutOfRange, "offset 99");
    let mut nowhere = request.clone();
    if version >= 13 {
        nowhere.topics[0].topic_id = Uuid::from_bytes([7; 16]);
    } else {
        nowhere.topics[0].topic = unique("nowhere");
    }
    let response = connection.ask(version, &nowhere);
    let expected = if version >= 13 { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
    assert_code(response.responses[0].partitions[0].error_code, expected, "unknown topic");
    if version >= 7 {
        sessions(connection, version, request);
    }
}

/// A session (KIP-227): a full fetch opens it, an incremental one leaves out what did not change, and bad ones are refused.
fn sessions(connection: &mut Connection, version: i16, mut request: chronik_wire::messages::FetchRequest) {
    request.session_epoch = 0;
    let opened = connection.ask(version, &request);
    assert_none(opened.error_code, "opening a session");
    assert_ne!(opened.session_id, 0);
    let mut next = request.clone();
    next.topics[0].partitions[0].fetch_offset = 3;
    (next.session_id, next.session_epoch, next.max_wait_ms) = (opened.session_id, 1, 0);
    let nothing = connection.ask(version, &next);
    assert_none(nothing.error_code, "an incremental fetch");
    assert_eq!(nothing.session_id, opened.session_id);
    assert!(nothing.responses.is_empty(), "nothing changed: {nothing:?}");
    let wrong_epoch = connection.ask(version, &next);
    assert_code(wrong_epoch.error_code, ErrorCode::InvalidFetchSessionEpoch, "an epoch again");
    next.session_id = opened.session_id.wrapping_add(12_345).max(1);
    let unknown = connection.ask(version, &next);
    assert_code(unknown.error_code, ErrorCode::FetchSessionIdNotFound, "an unknown session");
}

pub(super) fn list_offsets(world: &World, connection: &mut Connection, version: i16) {
    let mut at = |timestamp: i64| {
        let partitions = vec![ListOffsetsPartition { partition_index: 0, current_leader_epoch: -1, timestamp }];
        let topics = vec![ListOffsetsTopic { name: world.topic.clone(), partitions }];
        let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        let response = connection.ask(version, &request);
        let partition = &response.topics[0].partitions[0];
        assert_none(partition.error_code, &format!("offset at {timestamp}"));
        (partition.offset, partition.timestamp)
    };
    assert_eq!(at(-1), (3, -1), "latest");
    assert_eq!(at(-2), (0, -1), "earliest");
    assert_eq!(at(TIMESTAMP), (0, TIMESTAMP));
    assert_eq!(at(TIMESTAMP + 1), (-1, -1), "in the future");
    if version >= 7 {
        assert_eq!(at(-3), (0, TIMESTAMP), "the first record with the largest timestamp");
    }
    if version >= 8 {
        assert_eq!(at(-4), (0, -1), "earliest local");
    }
    if version >= 9 {
        assert_eq!(at(-5), (-1, -1), "nothing is tiered");
    }
}

pub(super) fn offset_for_leader_epoch(world: &World, connection: &mut Connection, version: i16) {
    let partitions = vec![OffsetForLeaderPartition { partition: 0, current_leader_epoch: -1, leader_epoch: 0 }];
    let topics = vec![OffsetForLeaderTopic { topic: world.topic.clone(), partitions }];
    let mut request = OffsetForLeaderEpochRequest { topics, ..Default::default() };
    if version >= 3 {
        request.replica_id = -1;
    }
    let response = connection.ask(version, &request);
    let answer = &response.topics[0].partitions[0];
    assert_none(answer.error_code, "the end of epoch 0");
    assert_eq!((answer.leader_epoch, answer.end_offset), (0, 3));
}

pub(super) fn delete_records(world: &World, connection: &mut Connection, version: i16) {
    let topic = unique("records");
    clients::create_topic(&world.bootstrap, &topic, 1, &[]);
    let produced = connection.ask(9, &produce_by_name(&topic, 0, -1, &[b"a", b"b", b"c"]));
    assert_none(produced.responses[0].partition_responses[0].error_code, "produce");
    for (asked, got) in [(2, 2), (-1, 3)] {
        let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: asked }];
        let topics = vec![DeleteRecordsTopic { name: topic.clone(), partitions }];
        let response = connection.ask(version, &DeleteRecordsRequest { topics, timeout_ms: 10_000 });
        let answer = &response.topics[0].partitions[0];
        assert_none(answer.error_code, "delete records");
        assert_eq!(answer.low_watermark, got);
    }
    assert_eq!(clients::watermarks(&world.bootstrap, &topic, 0), (3, 3));
}

pub(super) fn init_producer_id(connection: &mut Connection, version: i16) {
    let request =
        InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: 60_000, ..Default::default() };
    // Apache Kafka may have to fetch a block of ids first and then says so.
    let loading = ErrorCode::CoordinatorLoadInProgress as i16;
    let mut ask = || {
        wait::until("a producer id", BOUND, || {
            Some(connection.ask(version, &request)).filter(|answer| answer.error_code != loading)
        })
    };
    let (first, second) = (ask(), ask());
    for answer in [&first, &second] {
        assert_none(answer.error_code, "a producer id");
        assert!(answer.producer_id >= 0);
        assert_eq!(answer.producer_epoch, 0);
    }
    assert_ne!(first.producer_id, second.producer_id);
}

pub(super) fn describe_producers(world: &World, connection: &mut Connection, version: i16) {
    let topic = unique("producers");
    clients::create_topic(&world.bootstrap, &topic, 1, &[]);
    let header = batch::Header { producer_id: 4_000_000, producer_epoch: 3, base_sequence: 0, ..Default::default() };
    let records = batch::with(header, &[b"a", b"b"]);
    let produced = connection.ask(9, &super::produce_records(&topic, 0, -1, records));
    assert_none(produced.responses[0].partition_responses[0].error_code, "an idempotent produce");
    let topics = vec![TopicRequest { name: topic, partition_indexes: vec![0] }];
    let response = connection.ask(version, &DescribeProducersRequest { topics });
    let answer = &response.topics[0].partitions[0];
    assert_none(answer.error_code, "describe producers");
    let producer = &answer.active_producers[0];
    assert_eq!((producer.producer_id, producer.producer_epoch, producer.last_sequence), (4_000_000, 3, 1));
    assert_eq!(producer.current_txn_start_offset, -1);
}
