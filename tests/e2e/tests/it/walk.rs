//! Every advertised API in every advertised version: a valid request gets a decodable, correct answer.
//!
//! Each API has one function that asks in a version and looks at the answer; the walk fails on an advertised API without one. The requests
//! are valid for Apache Kafka too: `CHRONIK_E2E_BOOTSTRAP` walks over one.

use chronik_e2e::broker::Broker;
use chronik_e2e::raw::{self, Connection, assert_code, assert_none};
use chronik_e2e::{batch, clients, wait};
use chronik_wire::messages::fetch_request::{FetchPartition, FetchTopic, ReplicaState};
use chronik_wire::messages::join_group_request::JoinGroupRequestProtocol;
use chronik_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use chronik_wire::messages::{
    ApiVersionsRequest, FetchRequest, FindCoordinatorRequest, JoinGroupRequest, JoinGroupResponse, MetadataRequest,
    ProduceRequest,
};
use chronik_wire::{ApiKey, ErrorCode, Uuid};

mod admin;
mod data;
mod groups;

/// What the walk finds and changes: a topic with records in partition 0.
pub(crate) struct World {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    pub(crate) topic_id: Uuid,
    pub(crate) node_id: i32,
    /// Whether the broker is the one under test; what only Chronik promises is not asked of others.
    pub(crate) own: bool,
}

/// Timestamp of every record that the walk produces.
pub(crate) const TIMESTAMP: i64 = 1_700_000_000_000;

impl World {
    fn connect(&self) -> Connection {
        Connection::open(&self.bootstrap)
    }
}

/// A name nobody else uses, also where the walk runs twice on one broker.
fn unique(what: &str) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    format!("walk-{what}-{now}")
}

/// A produce request of one batch, for versions that name topics by name.
pub(crate) fn produce_records(topic: &str, partition: i32, acks: i16, records: Vec<u8>) -> ProduceRequest {
    let partition_data = vec![PartitionProduceData { index: partition, records: Some(records.into()) }];
    let topic = TopicProduceData { name: topic.to_owned(), partition_data, ..Default::default() };
    ProduceRequest { transactional_id: None, acks, timeout_ms: 10_000, topic_data: vec![topic] }
}

/// Like [`produce_records`], of records with these values.
pub(crate) fn produce_by_name(topic: &str, partition: i32, acks: i16, values: &[&[u8]]) -> ProduceRequest {
    produce_records(topic, partition, acks, batch::of(values))
}

/// A fetch of one partition outside of any session, for versions that name topics by name.
pub(crate) fn fetch_by_name(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let partition = FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 10_000_000,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        ..Default::default()
    };
    FetchRequest {
        replica_id: -1,
        replica_state: ReplicaState::default(),
        max_wait_ms: 1_000,
        min_bytes: 1,
        max_bytes: 50_000_000,
        session_id: 0,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: topic.to_owned(), partitions: vec![partition], ..Default::default() }],
        ..Default::default()
    }
}

/// What a member of a `consumer` group says it wants, in version 0 of that schema. Brokers look into it.
pub(crate) fn subscription(topic: &str) -> Vec<u8> {
    let mut metadata = vec![0, 0, 0, 0, 0, 1];
    metadata.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
    metadata.extend(topic.as_bytes());
    metadata.extend((-1_i32).to_be_bytes());
    metadata
}

/// Joins a group as its only member, in the version that needs one round.
pub(crate) fn join_group(bootstrap: &str, group: &str, topic: &str, session_timeout_ms: i32) -> JoinGroupResponse {
    let request = JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms,
        rebalance_timeout_ms: session_timeout_ms,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".to_owned(), metadata: subscription(topic).into() }],
        ..Default::default()
    };
    let mut connection = Connection::open(bootstrap);
    // Asking for the coordinator is what creates the offsets topic; it may load for a moment.
    let find = FindCoordinatorRequest { key: group.to_owned(), ..Default::default() };
    let joined = wait::until("a coordinator", clients::CLIENT_BOUND, || {
        let found = connection.ask(3, &find);
        (found.error_code == 0)
            .then(|| connection.ask(3, &request))
            .filter(|joined| ![14, 15, 16].contains(&joined.error_code))
    });
    assert_none(joined.error_code, "joining a group");
    joined
}

fn world() -> (Broker, World) {
    let broker = Broker::fresh_with(|setup| setup.set("group.initial.rebalance.delay.ms", "0"));
    let bootstrap = broker.bootstrap().to_owned();
    let topic = unique("topic");
    clients::create_topic(&bootstrap, &topic, 2, &[]);
    // Group requests create the offsets topic; a broker may need a moment for it.
    clients::watermarks(&bootstrap, &topic, 0);
    let mut connection = Connection::open(&bootstrap);
    let metadata = connection.ask(12, &MetadataRequest { topics: None, ..Default::default() });
    let found = metadata.topics.iter().find(|found| found.name.as_deref() == Some(&topic)).expect("the topic is there");
    let own = std::env::var_os("CHRONIK_E2E_BOOTSTRAP").is_none();
    let world =
        World { bootstrap, topic: topic.clone(), topic_id: found.topic_id, node_id: metadata.brokers[0].node_id, own };
    let produced = connection.ask(9, &produce_by_name(&topic, 0, -1, &[b"zero", b"one", b"two"]));
    assert_none(produced.responses[0].partition_responses[0].error_code, "the walk's records");
    (broker, world)
}

fn visit(world: &World, key: ApiKey, version: i16) -> bool {
    let connection = &mut world.connect();
    match key {
        ApiKey::Produce => data::produce(world, connection, version),
        ApiKey::Fetch => data::fetch(world, connection, version),
        ApiKey::ListOffsets => data::list_offsets(world, connection, version),
        ApiKey::OffsetForLeaderEpoch => data::offset_for_leader_epoch(world, connection, version),
        ApiKey::DeleteRecords => data::delete_records(world, connection, version),
        ApiKey::InitProducerId => data::init_producer_id(connection, version),
        ApiKey::DescribeProducers => data::describe_producers(world, connection, version),
        ApiKey::ApiVersions => admin::api_versions(world, connection, version),
        ApiKey::Metadata => admin::metadata(world, connection, version),
        ApiKey::DescribeCluster => admin::describe_cluster(world, connection, version),
        ApiKey::DescribeTopicPartitions => admin::describe_topic_partitions(world, connection, version),
        ApiKey::DescribeQuorum => admin::describe_quorum(world, connection, version),
        ApiKey::UnregisterBroker => admin::unregister_broker(world, connection, version),
        ApiKey::DescribeLogDirs => admin::describe_log_dirs(world, connection, version),
        ApiKey::CreateTopics => admin::create_topics(world, connection, version),
        ApiKey::DeleteTopics => admin::delete_topics(world, connection, version),
        ApiKey::CreatePartitions => admin::create_partitions(world, connection, version),
        ApiKey::DescribeConfigs => admin::describe_configs(world, connection, version),
        ApiKey::AlterConfigs => admin::alter_configs(world, connection, version),
        ApiKey::IncrementalAlterConfigs => admin::incremental_alter_configs(world, connection, version),
        ApiKey::ListConfigResources => admin::list_config_resources(world, connection, version),
        ApiKey::FindCoordinator => groups::find_coordinator(world, connection, version),
        ApiKey::JoinGroup => groups::join_group(world, connection, version),
        ApiKey::SyncGroup => groups::sync_group(world, connection, version),
        ApiKey::Heartbeat => groups::heartbeat(world, connection, version),
        ApiKey::LeaveGroup => groups::leave_group(world, connection, version),
        ApiKey::OffsetCommit => groups::offset_commit(world, connection, version),
        ApiKey::OffsetFetch => groups::offset_fetch(world, connection, version),
        ApiKey::OffsetDelete => groups::offset_delete(world, connection, version),
        ApiKey::ListGroups => groups::list_groups(world, connection, version),
        ApiKey::DescribeGroups => groups::describe_groups(world, connection, version),
        ApiKey::DeleteGroups => groups::delete_groups(world, connection, version),
        _ => return false,
    }
    true
}

#[test]
fn every_advertised_version_of_every_api_is_answered_correctly() {
    let (_broker, world) = world();
    let advertised = world.connect().ask(3, &raw::hello()).api_keys;
    let mut failures = Vec::new();
    let mut visited = 0;
    for api in &advertised {
        let Some(key) = ApiKey::from_i16(api.api_key) else {
            failures.push(format!("key {} is not one that clients may call", api.api_key));
            continue;
        };
        for version in api.min_version..=api.max_version {
            // Each visit may panic with what it saw; the walk goes on, so that one run tells all.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| visit(&world, key, version)));
            match outcome {
                Ok(true) => visited += 1,
                Ok(false) if world.own => failures.push(format!("{key:?} is advertised and the walk does not know it")),
                Ok(false) => {}
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                    failures.push(format!("{key:?} v{version}: {}", text.unwrap_or_default()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{visited} versions are right, {} are not:\n{}", failures.len(), failures.join("\n"));
    assert!(visited > 100, "{visited}");
}

#[test]
fn unknown_apis_and_versions_close_the_connection() {
    let (_broker, world) = world();
    let advertised = world.connect().ask(3, &raw::hello()).api_keys;
    let closes = |key: i16, version: i16| {
        let mut header = key.to_be_bytes().to_vec();
        header.extend(version.to_be_bytes());
        header.extend([0, 0, 0, 9, 0xff, 0xff, 0, 0, 0, 0]);
        let mut frame = i32::try_from(header.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(header);
        let mut connection = world.connect();
        connection.send(&frame).unwrap();
        assert!(connection.frame().is_ok_and(|frame| frame.is_none()), "key {key} version {version} is answered");
    };
    for key in [-1, 4, 5, 6, 7, 93, 999, i16::MAX] {
        closes(key, 0);
    }
    for api in advertised.iter().filter(|api| api.api_key != ApiKey::ApiVersions.as_i16()) {
        closes(api.api_key, api.max_version + 1);
        closes(api.api_key, i16::MAX);
        closes(api.api_key, -1);
        if api.min_version > 0 {
            closes(api.api_key, api.min_version - 1);
        }
    }
}

#[test]
fn unsupported_version_of_api_versions_is_answered_in_version_0() {
    let (_broker, world) = world();
    let table = world.connect().ask(0, &raw::hello());
    let mut connection = world.connect();
    for version in [5, 99, i16::MAX] {
        let frame = raw::frame(ApiKey::ApiVersions, version, 77, |w| w.raw(b"whatever comes later"));
        connection.send(&frame).unwrap();
        let answer = connection.response::<ApiVersionsRequest>(0, 77);
        assert_code(answer.error_code, ErrorCode::UnsupportedVersion, "ApiVersions");
        // It says with which version to ask again, and as Apache Kafka nothing else.
        let own = table.api_keys.iter().filter(|api| api.api_key == ApiKey::ApiVersions.as_i16());
        assert_eq!(answer.api_keys, own.cloned().collect::<Vec<_>>());
    }
    // The connection goes on.
    assert_none(connection.ask(4, &raw::hello()).error_code, "afterwards");
}

#[test]
fn cut_requests_close_the_connection() {
    let (_broker, world) = world();
    let whole = raw::frame(ApiKey::Metadata, 12, 5, |w| {
        chronik_wire::Message::encode(&MetadataRequest::default(), w, 12).unwrap();
    });
    for length in 1..whole.len() - 5 {
        let mut cut = i32::try_from(length).unwrap().to_be_bytes().to_vec();
        cut.extend(&whole[4..4 + length]);
        let mut connection = world.connect();
        connection.send(&cut).unwrap();
        assert!(connection.is_closed(), "a request of {length} bytes");
    }
}
