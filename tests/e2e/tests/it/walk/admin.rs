//! Visits to the APIs that describe and change the cluster.

use std::collections::BTreeMap;

use chronik_e2e::clients;
use chronik_e2e::raw::{self, Connection, assert_code, assert_none};
use chronik_wire::messages::create_partitions_request::CreatePartitionsTopic;
use chronik_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use chronik_wire::messages::delete_topics_request::DeleteTopicState;
use chronik_wire::messages::describe_configs_request::DescribeConfigsResource;
use chronik_wire::messages::describe_log_dirs_request::DescribableLogDirTopic;
use chronik_wire::messages::describe_topic_partitions_request::TopicRequest;
use chronik_wire::messages::metadata_request::MetadataRequestTopic;
use chronik_wire::messages::{
    AlterConfigsRequest, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeLogDirsRequest, DescribeQuorumRequest,
    DescribeTopicPartitionsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest, MetadataRequest,
    UnregisterBrokerRequest, alter_configs_request, describe_quorum_request, incremental_alter_configs_request,
};
use chronik_wire::{ApiKey, ErrorCode};

use super::{World, produce_by_name, unique};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub(super) fn api_versions(world: &World, connection: &mut Connection, version: i16) {
    let response = connection.ask(version, &raw::hello());
    assert_none(response.error_code, "ApiVersions");
    let range = |key: ApiKey| {
        let api = response.api_keys.iter().find(|api| api.api_key == key.as_i16()).expect("it is advertised");
        (api.min_version, api.max_version)
    };
    // The ranges of Apache Kafka 4.3.
    assert_eq!(range(ApiKey::Produce), (0, 13));
    assert_eq!(range(ApiKey::Fetch), (4, 18));
    assert_eq!(range(ApiKey::ApiVersions), (0, 4));
    assert_eq!(range(ApiKey::JoinGroup), (0, 9));
    assert_eq!(response.throttle_time_ms, 0);
    if world.own {
        for api in &response.api_keys {
            let valid = ApiKey::from_i16(api.api_key).expect("a key clients may call").valid_versions();
            let low_enough = api.min_version >= *valid.start() || api.api_key == ApiKey::Produce.as_i16();
            assert!(low_enough && api.max_version <= *valid.end(), "{api:?}");
        }
    }
    if version >= 3 {
        let nameless = connection.ask(version, &ApiVersionsRequest::default());
        assert_code(nameless.error_code, ErrorCode::InvalidRequest, "a client without a name");
    }
}

pub(super) fn metadata(world: &World, connection: &mut Connection, version: i16) {
    let named = |name: &str| Some(vec![MetadataRequestTopic { name: Some(name.to_owned()), ..Default::default() }]);
    let request = MetadataRequest { topics: named(&world.topic), ..Default::default() };
    let response = connection.ask(version, &request);
    assert_eq!(response.brokers.len(), 1);
    let broker = &response.brokers[0];
    assert_eq!((broker.node_id, format!("{}:{}", broker.host, broker.port)), (world.node_id, world.bootstrap.clone()));
    if version >= 1 {
        assert_eq!(response.controller_id, world.node_id);
    }
    if version >= 2 {
        assert!(response.cluster_id.as_ref().is_some_and(|id| !id.is_empty()));
    }
    assert_eq!(response.topics.len(), 1);
    let topic = &response.topics[0];
    assert_none(topic.error_code, "metadata");
    assert_eq!((topic.name.as_deref(), topic.is_internal), (Some(world.topic.as_str()), false));
    if version >= 10 {
        assert_eq!(topic.topic_id, world.topic_id);
    }
    assert_eq!(topic.partitions.len(), 2);
    for partition in &topic.partitions {
        assert_none(partition.error_code, "partition");
        assert_eq!(partition.leader_id, world.node_id);
        assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![world.node_id], &vec![world.node_id]));
        assert!(partition.offline_replicas.is_empty());
    }
    let all = MetadataRequest { topics: if version == 0 { Some(Vec::new()) } else { None }, ..Default::default() };
    let found = connection.ask(version, &all).topics;
    assert!(found.iter().any(|topic| topic.name.as_deref() == Some(&world.topic)), "all topics");
    if version >= 1 {
        let none = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        assert_eq!(connection.ask(version, &none).topics, [], "no topics");
    }
    if version >= 4 {
        let nowhere = MetadataRequest {
            topics: named(&unique("nowhere")),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let found = connection.ask(version, &nowhere).topics;
        assert_code(found[0].error_code, ErrorCode::UnknownTopicOrPartition, "an unknown topic");
    }
    if version >= 12 {
        let by_id = MetadataRequestTopic { topic_id: world.topic_id, name: None };
        let found =
            connection.ask(version, &MetadataRequest { topics: Some(vec![by_id]), ..Default::default() }).topics;
        assert_eq!(found[0].name.as_deref(), Some(world.topic.as_str()));
    }
}

pub(super) fn describe_cluster(world: &World, connection: &mut Connection, version: i16) {
    let response = connection.ask(version, &DescribeClusterRequest { endpoint_type: 1, ..Default::default() });
    assert_none(response.error_code, "describe cluster");
    assert!(!response.cluster_id.is_empty());
    assert_eq!(response.controller_id, world.node_id);
    assert_eq!(response.brokers.len(), 1);
    assert_eq!(format!("{}:{}", response.brokers[0].host, response.brokers[0].port), world.bootstrap);
}

pub(super) fn describe_topic_partitions(world: &World, connection: &mut Connection, version: i16) {
    let topics = vec![TopicRequest { name: world.topic.clone() }];
    let mut request = DescribeTopicPartitionsRequest { topics, response_partition_limit: 2_000, cursor: None };
    let whole = connection.ask(version, &request);
    assert_none(whole.topics[0].error_code, "describe topic partitions");
    assert_eq!(whole.topics[0].topic_id, world.topic_id);
    assert_eq!(whole.topics[0].partitions.len(), 2);
    assert_eq!(whole.next_cursor, None);
    request.response_partition_limit = 1;
    let first = connection.ask(version, &request);
    assert_eq!(first.topics[0].partitions.iter().map(|p| p.partition_index).collect::<Vec<_>>(), [0]);
    let cursor = first.next_cursor.expect("there is more");
    assert_eq!((cursor.topic_name.as_str(), cursor.partition_index), (world.topic.as_str(), 1));
}

pub(super) fn describe_quorum(world: &World, connection: &mut Connection, version: i16) {
    let topics = vec![describe_quorum_request::TopicData {
        topic_name: "__cluster_metadata".to_owned(),
        partitions: vec![describe_quorum_request::PartitionData { partition_index: 0 }],
    }];
    let response = connection.ask(version, &DescribeQuorumRequest { topics });
    assert_none(response.error_code, "describe quorum");
    let partition = &response.topics[0].partitions[0];
    assert_none(partition.error_code, "describe quorum");
    assert_eq!(partition.leader_id, world.node_id);
    assert!(partition.high_watermark > 0);
    assert_eq!(partition.current_voters.iter().map(|voter| voter.replica_id).collect::<Vec<_>>(), [world.node_id]);
}

pub(super) fn unregister_broker(world: &World, connection: &mut Connection, version: i16) {
    let unknown = connection.ask(version, &UnregisterBrokerRequest { broker_id: 90_909 });
    assert_code(unknown.error_code, ErrorCode::BrokerIdNotRegistered, "a broker that nobody knows");
    if world.own {
        let alone = connection.ask(version, &UnregisterBrokerRequest { broker_id: world.node_id });
        assert_code(alone.error_code, ErrorCode::BrokerIdNotRegistered, "a node without followers");
        assert!(alone.error_message.is_some_and(|message| !message.is_empty()));
        let described = connection.ask(1, &DescribeClusterRequest::default());
        assert!(described.brokers.iter().any(|broker| broker.broker_id == world.node_id));
    }
}

pub(super) fn describe_log_dirs(world: &World, connection: &mut Connection, version: i16) {
    let topics = Some(vec![DescribableLogDirTopic { topic: world.topic.clone(), partitions: vec![0] }]);
    let response = connection.ask(version, &DescribeLogDirsRequest { topics });
    assert_eq!(response.results.len(), 1);
    let dir = &response.results[0];
    assert_none(dir.error_code, "describe log dirs");
    assert!(dir.log_dir.starts_with('/'), "{}", dir.log_dir);
    let partition = &dir.topics[0].partitions[0];
    assert_eq!((dir.topics[0].name.as_str(), partition.partition_index), (world.topic.as_str(), 0));
    assert!(partition.partition_size > 61, "{}", partition.partition_size);
    assert!(!partition.is_future_key);
    if version >= 4 {
        assert!(dir.total_bytes > 0 && dir.usable_bytes > 0);
    }
}

pub(super) fn create_topics(world: &World, connection: &mut Connection, version: i16) {
    let name = unique("created");
    let topic = |name: &str, partitions: i32, config: Option<(&str, &str)>| CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: config
            .map(|(name, value)| CreatableTopicConfig { name: name.to_owned(), value: Some(value.to_owned()) })
            .into_iter()
            .collect(),
        ..Default::default()
    };
    let topics = vec![
        topic(&name, 3, Some(("retention.ms", "12345"))),
        topic("not a name", 1, None),
        topic(&world.topic, 1, None),
        topic(&unique("config"), 1, Some(("retention.ms", "soon"))),
        CreatableTopic { replication_factor: 3, ..topic(&unique("replicas"), 1, None) },
        topic(&unique("none"), 0, None),
    ];
    let mut request = CreateTopicsRequest { topics, timeout_ms: 10_000, validate_only: true };
    let expected = [
        ErrorCode::None,
        ErrorCode::InvalidTopicException,
        ErrorCode::TopicAlreadyExists,
        ErrorCode::InvalidConfig,
        ErrorCode::InvalidReplicationFactor,
        ErrorCode::InvalidPartitions,
    ];
    for validate_only in [true, false] {
        request.validate_only = validate_only;
        let response = connection.ask(version, &request);
        let found: BTreeMap<&str, i16> =
            response.topics.iter().map(|topic| (topic.name.as_str(), topic.error_code)).collect();
        for (topic, expected) in request.topics.iter().zip(expected) {
            assert_code(
                found[topic.name.as_str()],
                expected,
                &format!("{}, validate_only {validate_only}", topic.name),
            );
        }
        let created = response.topics.iter().find(|topic| topic.name == name).expect("an answer");
        if version >= 5 {
            assert_eq!((created.num_partitions, created.replication_factor), (3, 1));
            let configs = created.configs.as_ref().expect("configs");
            let retention = configs.iter().find(|config| config.name == "retention.ms").expect("retention.ms");
            assert_eq!(retention.value.as_deref(), Some("12345"));
        }
    }
    if world.own {
        // Usable at once.
        let produced = connection.ask(9, &produce_by_name(&name, 2, -1, &[b"x"]));
        assert_none(produced.responses[0].partition_responses[0].error_code, "produce after create");
    }
}

pub(super) fn delete_topics(world: &World, connection: &mut Connection, version: i16) {
    let (name, nowhere) = (unique("deleted"), unique("nowhere"));
    clients::create_topic(&world.bootstrap, &name, 1, &[]);
    let mut request = DeleteTopicsRequest { timeout_ms: 10_000, ..Default::default() };
    if version >= 6 {
        let by_name = |name: &str| DeleteTopicState { name: Some(name.to_owned()), ..Default::default() };
        request.topics = vec![by_name(&name), by_name(&nowhere)];
    } else {
        request.topic_names = vec![name.clone(), nowhere.clone()];
    }
    let response = connection.ask(version, &request);
    let code = |name: &str| {
        response.responses.iter().find(|topic| topic.name.as_deref() == Some(name)).expect("an answer").error_code
    };
    assert_none(code(&name), "delete");
    assert_code(code(&nowhere), ErrorCode::UnknownTopicOrPartition, "an unknown topic");
}

pub(super) fn create_partitions(world: &World, connection: &mut Connection, version: i16) {
    let name = unique("grown");
    clients::create_topic(&world.bootstrap, &name, 2, &[]);
    let mut grow = |count: i32, validate_only: bool| {
        let topics = vec![CreatePartitionsTopic { name: name.clone(), count, assignments: None }];
        let response = connection.ask(version, &CreatePartitionsRequest { topics, timeout_ms: 10_000, validate_only });
        response.results[0].error_code
    };
    assert_none(grow(5, true), "growing, to try");
    assert_none(grow(4, false), "growing");
    assert_code(grow(3, false), ErrorCode::InvalidPartitions, "shrinking");
    assert_code(grow(4, false), ErrorCode::InvalidPartitions, "staying");
}

fn described(connection: &mut Connection, topic: &str, key: &str) -> (Option<String>, i8) {
    let resource = DescribeConfigsResource {
        resource_type: TOPIC,
        resource_name: topic.to_owned(),
        configuration_keys: Some(vec![key.to_owned()]),
    };
    let response = connection.ask(4, &DescribeConfigsRequest { resources: vec![resource], ..Default::default() });
    assert_none(response.results[0].error_code, "describe configs");
    let config = &response.results[0].configs[0];
    (config.value.clone(), config.config_source)
}

pub(super) fn describe_configs(world: &World, connection: &mut Connection, version: i16) {
    let name = unique("described");
    clients::create_topic(&world.bootstrap, &name, 1, &[("retention.ms", "777000")]);
    let resource = |resource_type: i8, name: &str| DescribeConfigsResource {
        resource_type,
        resource_name: name.to_owned(),
        configuration_keys: None,
    };
    let resources =
        vec![resource(TOPIC, &name), resource(BROKER, &world.node_id.to_string()), resource(TOPIC, &unique("nowhere"))];
    let request = DescribeConfigsRequest { resources, include_synonyms: true, include_documentation: version >= 3 };
    let response = connection.ask(version, &request);
    let topic = &response.results[0];
    assert_none(topic.error_code, "describe configs");
    let config = |name: &str| topic.configs.iter().find(|config| config.name == name).expect("the key is described");
    let retention = config("retention.ms");
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("777000"), 1), "a topic's own");
    assert_eq!(retention.synonyms[0].name, "retention.ms");
    let segment = config("segment.bytes");
    assert_eq!((segment.value.as_deref(), segment.config_source), (Some("1073741824"), 5), "a default");
    assert_eq!(segment.synonyms.last().map(|synonym| synonym.name.as_str()), Some("log.segment.bytes"));
    if version >= 3 {
        assert_eq!(segment.config_type, 3, "int");
        assert!(segment.documentation.as_ref().is_some_and(|text| !text.is_empty()));
    }
    assert_none(response.results[1].error_code, "describe configs of a broker");
    assert!(response.results[1].configs.iter().any(|config| config.name == "log.retention.hours"));
    assert_code(response.results[2].error_code, ErrorCode::UnknownTopicOrPartition, "an unknown topic");
}

pub(super) fn alter_configs(world: &World, connection: &mut Connection, version: i16) {
    let name = unique("altered");
    clients::create_topic(&world.bootstrap, &name, 1, &[("retention.ms", "777000")]);
    let mut alter = |key: &str, value: &str, validate_only: bool| {
        let configs =
            vec![alter_configs_request::AlterableConfig { name: key.to_owned(), value: Some(value.to_owned()) }];
        let resources = vec![alter_configs_request::AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: name.clone(),
            configs,
        }];
        connection.ask(version, &AlterConfigsRequest { resources, validate_only }).responses[0].error_code
    };
    assert_none(alter("segment.bytes", "2000000", true), "to try");
    assert_none(alter("segment.bytes", "2097152", false), "alter");
    assert_code(alter("segment.bytes", "many", false), ErrorCode::InvalidConfig, "an invalid value");
    assert_code(alter("no.such.key", "1", false), ErrorCode::InvalidConfig, "an unknown key");
    eventually(world, connection, &name, "segment.bytes", (Some("2097152"), 1));
    // The whole set is replaced.
    assert_eq!(described(connection, &name, "retention.ms"), (Some("604800000".to_owned()), 5));
}

/// A broker may apply what it acknowledged a moment later; the one under test has it at once.
fn eventually(world: &World, connection: &mut Connection, topic: &str, key: &str, expected: (Option<&str>, i8)) {
    let expected = (expected.0.map(str::to_owned), expected.1);
    if world.own {
        assert_eq!(described(connection, topic, key), expected);
    } else {
        let bound = std::time::Duration::from_secs(10);
        chronik_e2e::wait::until_true("a configuration applied", bound, || {
            described(connection, topic, key) == expected
        });
    }
}

pub(super) fn incremental_alter_configs(world: &World, connection: &mut Connection, version: i16) {
    let name = unique("incremental");
    clients::create_topic(&world.bootstrap, &name, 1, &[("retention.ms", "777000"), ("cleanup.policy", "delete")]);
    let mut alter = |key: &str, operation: i8, value: Option<&str>| {
        let configs = vec![incremental_alter_configs_request::AlterableConfig {
            name: key.to_owned(),
            config_operation: operation,
            value: value.map(str::to_owned),
        }];
        let resources = vec![incremental_alter_configs_request::AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: name.clone(),
            configs,
        }];
        connection.ask(version, &IncrementalAlterConfigsRequest { resources, validate_only: false }).responses[0]
            .error_code
    };
    let (set, delete, append, subtract) = (0, 1, 2, 3);
    assert_none(alter("segment.bytes", set, Some("2097152")), "set");
    assert_none(alter("retention.ms", delete, None), "delete");
    assert_none(alter("cleanup.policy", append, Some("compact")), "append");
    assert_none(alter("cleanup.policy", subtract, Some("delete")), "subtract");
    assert_code(alter("segment.bytes", append, Some("1")), ErrorCode::InvalidConfig, "append to a number");
    assert_code(alter("segment.bytes", set, Some("-5")), ErrorCode::InvalidConfig, "an invalid value");
    eventually(world, connection, &name, "cleanup.policy", (Some("compact"), 1));
    eventually(world, connection, &name, "segment.bytes", (Some("2097152"), 1));
    eventually(world, connection, &name, "retention.ms", (Some("604800000"), 5));
}

pub(super) fn list_config_resources(world: &World, connection: &mut Connection, version: i16) {
    let mut request = ListConfigResourcesRequest::default();
    if version >= 1 {
        request.resource_types = vec![TOPIC, BROKER];
    }
    let response = connection.ask(version, &request);
    assert_none(response.error_code, "list config resources");
    if version >= 1 {
        let has = |kind: i8, name: &str| {
            response
                .config_resources
                .iter()
                .any(|found| (found.resource_type, found.resource_name.as_str()) == (kind, name))
        };
        assert!(has(TOPIC, &world.topic), "{response:?}");
        assert!(has(BROKER, &world.node_id.to_string()), "{response:?}");
    }
}
