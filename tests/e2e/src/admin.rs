//! What an administrator asks of one node, sent raw: changes of topics, and what it says of configurations and groups.

use std::time::Duration;

use chronik_wire::messages::create_partitions_request::CreatePartitionsTopic;
use chronik_wire::messages::create_topics_request::CreatableTopic;
use chronik_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use chronik_wire::messages::describe_configs_request::DescribeConfigsResource;
use chronik_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use chronik_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use chronik_wire::messages::offset_fetch_request::OffsetFetchRequestTopic;
use chronik_wire::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DescribeConfigsRequest, FindCoordinatorRequest,
    IncrementalAlterConfigsRequest, OffsetCommitRequest, OffsetFetchRequest,
};

use crate::raw::{Connection, assert_none};
use crate::wait;

const TOPIC: i8 = 2;
const SET: i8 = 0;

/// The error code of creating a topic with this replication factor.
pub fn create_replicated(bootstrap: &str, topic: &str, replication_factor: i16) -> i16 {
    let topic = CreatableTopic { name: topic.to_owned(), num_partitions: 1, replication_factor, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, validate_only: false };
    Connection::open(bootstrap).ask(7, &request).topics[0].error_code
}

/// Gives a topic this many partitions in all.
pub fn add_partitions(bootstrap: &str, topic: &str, count: i32) {
    let topics = vec![CreatePartitionsTopic { name: topic.to_owned(), count, assignments: None }];
    let request = CreatePartitionsRequest { topics, timeout_ms: 60_000, validate_only: false };
    let response = Connection::open(bootstrap).ask(3, &request);
    assert_none(response.results[0].error_code, &format!("partitions of {topic}"));
}

/// Removes what lies below an offset.
pub fn delete_records(bootstrap: &str, topic: &str, partition: i32, offset: i64) {
    let partitions = vec![DeleteRecordsPartition { partition_index: partition, offset }];
    let topics = vec![DeleteRecordsTopic { name: topic.to_owned(), partitions }];
    let response = Connection::open(bootstrap).ask(2, &DeleteRecordsRequest { topics, timeout_ms: 60_000 });
    assert_none(response.topics[0].partitions[0].error_code, &format!("deleting records of {topic}"));
}

/// Sets a configuration of a topic.
pub fn set_config(bootstrap: &str, topic: &str, key: &str, value: &str) {
    let configs = vec![AlterableConfig { name: key.to_owned(), config_operation: SET, value: Some(value.to_owned()) }];
    let resources = vec![AlterConfigsResource { resource_type: TOPIC, resource_name: topic.to_owned(), configs }];
    let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
    let response = Connection::open(bootstrap).ask(1, &request);
    assert_none(response.responses[0].error_code, &format!("{key} of {topic}"));
}

/// A configuration of a topic, as this node tells it; `None` where it does not.
pub fn config(address: &str, topic: &str, key: &str) -> Option<String> {
    let resource = DescribeConfigsResource {
        resource_type: TOPIC,
        resource_name: topic.to_owned(),
        configuration_keys: Some(vec![key.to_owned()]),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let response = Connection::open(address).ask(4, &request);
    response.results.first()?.configs.first()?.value.clone()
}

/// Waits until the coordinator of a group can be asked: it loads for a moment.
pub fn wait_for_coordinator(bootstrap: &str, group: &str, bound: Duration) {
    wait::until_true("a coordinator", bound, || {
        let request = FindCoordinatorRequest { key: group.to_owned(), ..Default::default() };
        Connection::open(bootstrap).ask(3, &request).error_code == 0 && committed(bootstrap, group, "none", 0).is_ok()
    });
}

/// Commits an offset for a group without members.
pub fn commit(bootstrap: &str, group: &str, topic: &str, partition: i32, offset: i64) {
    let partition = OffsetCommitRequestPartition {
        partition_index: partition,
        committed_offset: offset,
        committed_leader_epoch: -1,
        committed_metadata: Some("noted".to_owned()),
    };
    let topics =
        vec![OffsetCommitRequestTopic { name: topic.to_owned(), partitions: vec![partition], ..Default::default() }];
    let request = OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: -1,
        topics,
        ..Default::default()
    };
    let response = Connection::open(bootstrap).ask(7, &request);
    assert_none(response.topics[0].partitions[0].error_code, &format!("commit of {group}"));
}

/// The offset a group has committed, as this node tells it, -1 for none; its error code where it does not tell.
pub fn committed(address: &str, group: &str, topic: &str, partition: i32) -> Result<i64, i16> {
    let topics = vec![OffsetFetchRequestTopic { name: topic.to_owned(), partition_indexes: vec![partition] }];
    let request = OffsetFetchRequest { group_id: group.to_owned(), topics: Some(topics), ..Default::default() };
    let response = Connection::open(address).ask(5, &request);
    if response.error_code != 0 {
        return Err(response.error_code);
    }
    let found = &response.topics[0].partitions[0];
    if found.error_code == 0 { Ok(found.committed_offset) } else { Err(found.error_code) }
}
