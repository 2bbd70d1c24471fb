//! The reference scenario: two processes and two settings.

use std::time::Duration;

use chronik_e2e::broker::{Broker, steady_port};
use chronik_e2e::pair::{CATCH_UP_BOUND, Pair};
use chronik_e2e::place::Place;
use chronik_e2e::raw::{Connection, assert_code};
use chronik_e2e::status::Status;
use chronik_e2e::{admin, clients, http, segments, view, wait};
use chronik_wire::ErrorCode;
use chronik_wire::messages::{
    CreateTopicsRequest, DescribeClusterRequest, FindCoordinatorRequest, JoinGroupRequest,
    create_topics_request::CreatableTopic, join_group_request::JoinGroupRequestProtocol,
};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tempfile::TempDir;

use super::{BOUND, Replicated, continuous, produce, produce_code};
use crate::walk::{produce_by_name, subscription};

const TOPIC: &str = "test-replication";
/// Messages of each partition.
const MESSAGES: [usize; 3] = [4, 2, 4];

fn send_ten(bootstrap: &str) {
    let producer: BaseProducer = clients::config(bootstrap).set("linger.ms", "50").create().unwrap();
    for (partition, count) in (0..).zip(MESSAGES) {
        for number in 0..count {
            let (key, value) = (format!("key {number}"), format!("message {number} of partition {partition}"));
            let record = BaseRecord::to(TOPIC).partition(partition).key(&key).payload(&value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
    }
    producer.flush(BOUND).unwrap();
}

fn reads_ten(bootstrap: &str) {
    let records = clients::read_all(bootstrap, TOPIC, 3);
    for (partition, count) in (0..).zip(MESSAGES) {
        let values: Vec<String> = records
            .iter()
            .filter(|record| record.partition == partition)
            .map(|record| String::from_utf8(record.value.clone().unwrap()).unwrap())
            .collect();
        let expected: Vec<String> =
            (0..count).map(|number| format!("message {number} of partition {partition}")).collect();
        assert_eq!(values, expected, "partition {partition} at {bootstrap}");
    }
}

#[test]
fn two_processes_and_two_settings_make_a_byte_identical_replica() {
    let folder = TempDir::new().unwrap();
    let (to_dial, port) = ("localhost", steady_port());
    let place =
        |name: &str| Place { kafka: format!("localhost:{}", steady_port()), ..Place::below(folder.path(), name) };
    let leaders = place("data-leader");
    let followers = Place { receiver: format!("0.0.0.0:{port}"), ..place("data-follower") };
    let dialled = format!("{to_dial}:{port}");
    let mut leader = leaders.leading(&[&dialled]).start();
    wait::until_true("an attempt that fails", BOUND, || leader.log_text().contains("Failed to connect to follower"));
    let mut follower = followers.following().start();

    clients::create_topic(leader.bootstrap(), TOPIC, 3, &[("retention.ms", "123456789")]);
    send_ten(leader.bootstrap());
    admin::wait_for_coordinator(leader.bootstrap(), "readers", BOUND);
    admin::commit(leader.bootstrap(), "readers", TOPIC, 0, 3);
    segments::wait_until_same(leader.data(), follower.data(), CATCH_UP_BOUND);

    // Files of the same names with the same bytes.
    for partition in 0..3 {
        let name = format!("wal/{TOPIC}/{partition}/wal_{partition}_0.log");
        let (ours, theirs) = (std::fs::read(leaders.data.join(&name)), std::fs::read(followers.data.join(&name)));
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        assert!(!ours.is_empty() && ours == theirs, "{name}");
        assert_eq!(view::end_of(&ours), i64::try_from(MESSAGES[usize::try_from(partition).unwrap()]).unwrap());
    }
    logs_tell_what_happened(&leader, &follower, &dialled);

    // Topics, configurations, offsets of groups.
    let (kafka, other) = (followers.kafka.as_str(), leaders.kafka.as_str());
    assert_eq!(
        view::metadata(kafka, Some(TOPIC)).topics[0].topic_id,
        view::metadata(other, Some(TOPIC)).topics[0].topic_id
    );
    assert_eq!(admin::config(kafka, TOPIC, "retention.ms").as_deref(), Some("123456789"));
    wait::until_true("the group's offset", BOUND, || admin::committed(kafka, "readers", TOPIC, 0) == Ok(3));

    reads_ten(kafka);
    leader.kill();
    reads_ten(kafka);
    for partition in 0..3 {
        let name = format!("wal/{TOPIC}/{partition}/wal_{partition}_0.log");
        let records = view::read_all(kafka, TOPIC, partition);
        assert!(records == std::fs::read(followers.data.join(name)).unwrap(), "the bytes of partition {partition}");
    }

    // Without the receiver's address it serves everything, read-write.
    assert!(follower.stop().success());
    follower.change(|setup| setup.without_env("CHRONIK_WAL_RECEIVER_ADDR"));
    follower.start();
    reads_ten(kafka);
    assert_eq!(produce(kafka, TOPIC, 0, -1, &[b"one more"]), 4);
    clients::create_topic(kafka, "another", 1, &[]);
    assert_eq!(produce(kafka, "another", 0, -1, &[b"first"]), 0);
    admin::wait_for_coordinator(kafka, "readers", BOUND);
    assert_eq!(admin::committed(kafka, "readers", TOPIC, 0), Ok(3));
    admin::commit(kafka, "readers", TOPIC, 0, 5);
}

fn logs_tell_what_happened(leader: &Broker, follower: &Broker, dialled: &str) {
    wait::until_true("each replicated range in the log", BOUND, || {
        let log = follower.log_text();
        (0..3).zip(MESSAGES).all(|(partition, count)| {
            let ranges = Replicated::of(&log, TOPIC, partition);
            continuous(&ranges).is_some_and(|(_, records, _)| records == i64::try_from(count).unwrap())
        })
    });
    for partition in 0..3 {
        let (first, _, bytes) = continuous(&Replicated::of(&follower.log_text(), TOPIC, partition)).unwrap();
        let file = follower.partition_folder(TOPIC, partition).join(format!("wal_{partition}_0.log"));
        assert_eq!((first, bytes), (0, file.metadata().unwrap().len()), "partition {partition}");
    }
    let log = follower.log_text();
    let accepted = log.lines().find_map(|line| line.split_once("WAL receiver: Accepted connection from 127.0.0.1:"));
    let (_, port) = accepted.unwrap_or_else(|| panic!("no connection was accepted:\n{log}"));
    assert_ne!(port.trim().parse::<u16>().unwrap(), 0);
    for line in
        ["WAL receiver listening on 0.0.0.0:", "CHRONIK_REPLICATION_FOLLOWERS not set, WAL replication disabled"]
    {
        assert!(log.contains(line), "no {line:?} in the follower's log:\n{log}");
    }
    let log = leader.log_text();
    for line in [
        format!("WAL replication enabled with 1 followers: {dialled}"),
        format!("Attempting to connect to follower: {dialled}"),
        format!("Failed to connect to follower {dialled}: "),
        format!("Connected to follower: {dialled}"),
    ] {
        assert!(log.contains(&line), "no {line:?} in the leader's log:\n{log}");
    }
}

#[test]
fn follower_refuses_writes_and_names_its_leader() {
    let pair = Pair::start();
    let (kafka, leader) = (pair.followers.kafka.as_str(), &pair.leaders.kafka);
    let leader_id = Status::of(&pair.leader).node_id();
    clients::create_topic(leader, "written", 1, &[]);
    produce(leader, "written", 0, -1, &[b"there"]);
    view::wait_for_bounds(kafka, "written", 0, (0, 1), BOUND);
    for acks in [1, -1] {
        let refused = Connection::open(kafka).ask(10, &produce_by_name("written", 0, acks, &[b"here"]));
        let answer = &refused.responses[0].partition_responses[0];
        assert_code(answer.error_code, ErrorCode::NotLeaderOrFollower, "a write to a follower");
        assert_eq!(answer.current_leader.leader_id, leader_id);
        let node = refused.node_endpoints.iter().find(|node| node.node_id == leader_id).expect("the leader's address");
        assert_eq!(&format!("{}:{}", node.host, node.port), leader);
    }
    let metadata = view::metadata(kafka, Some("written"));
    let brokers: Vec<String> = metadata.brokers.iter().map(|node| format!("{}:{}", node.host, node.port)).collect();
    assert!(brokers.contains(leader) && brokers.contains(&pair.followers.kafka), "{brokers:?}");
    assert_eq!((metadata.controller_id, metadata.topics[0].partitions[0].leader_id), (leader_id, leader_id));
    let cluster = Connection::open(kafka).ask(1, &DescribeClusterRequest { endpoint_type: 1, ..Default::default() });
    assert_eq!((cluster.controller_id, cluster.brokers.len()), (leader_id, 2));

    admin::wait_for_coordinator(leader, "group", BOUND);
    let join = JoinGroupRequest {
        group_id: "group".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: subscription("written").into(),
        }],
        ..Default::default()
    };
    // The topic of groups' offsets came with the first group, and is on the follower a moment later.
    wait::until_true("a refused join", BOUND, || {
        let code = Connection::open(kafka).ask(3, &join).error_code;
        let not_yet = [ErrorCode::CoordinatorNotAvailable.code(), ErrorCode::CoordinatorLoadInProgress.code()];
        assert!(code == ErrorCode::NotCoordinator.code() || not_yet.contains(&code), "joining at a follower: {code}");
        code == ErrorCode::NotCoordinator.code()
    });
    let found =
        Connection::open(kafka).ask(3, &FindCoordinatorRequest { key: "group".to_owned(), ..Default::default() });
    assert_eq!((found.error_code, found.node_id), (0, leader_id), "the coordinator is the leader");
    let topic =
        CreatableTopic { name: "created".to_owned(), num_partitions: 1, replication_factor: 1, ..Default::default() };
    let create = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only: false };
    let created = Connection::open(kafka).ask(7, &create);
    assert_code(created.topics[0].error_code, ErrorCode::NotController, "creating a topic at a follower");

    // A client that knows only the follower finds the leader.
    let producer: BaseProducer = clients::config(kafka).create().unwrap();
    producer.send(BaseRecord::<(), str>::to("written").payload("found")).map_err(|(error, _)| error).unwrap();
    producer.flush(BOUND).unwrap();
    view::wait_for_bounds(kafka, "written", 0, (0, 2), BOUND);
    pair.catch_up();
}

#[test]
fn follower_without_its_leader_serves_reads_and_still_refuses_writes() {
    let mut pair = Pair::start();
    let kafka = pair.followers.kafka.clone();
    let follower_id = Status::of(&pair.follower).node_id();
    clients::create_topic(&pair.leaders.kafka, "kept", 2, &[]);
    produce(&pair.leaders.kafka, "kept", 1, -1, &[b"one", b"two"]);
    pair.catch_up();
    pair.leader.kill();
    wait::until_true("the follower to name itself", BOUND, || {
        view::partition(&kafka, "kept", 1).leader_id == follower_id
    });
    assert_code(produce_code(&kafka, "kept", 1, 1), ErrorCode::NotLeaderOrFollower, "a write without a leader");
    assert_eq!(clients::read_all(&kafka, "kept", 2).len(), 2);
    // It starts without its leader as well, whom it has met.
    pair.follower.kill();
    pair.follower.start();
    assert_eq!(pair.follower.get("/health/ready").0, 200);
    assert_code(produce_code(&kafka, "kept", 1, 1), ErrorCode::NotLeaderOrFollower, "a write after a restart");
    assert_eq!(clients::read_all(&kafka, "kept", 2).len(), 2);
    // And takes up where it was when the leader is back.
    pair.leader.start();
    produce(&pair.leaders.kafka, "kept", 1, -1, &[b"three"]);
    view::wait_for_bounds(&kafka, "kept", 1, (0, 3), BOUND);
    pair.catch_up();
}

#[test]
fn receiver_is_not_ready_before_it_has_met_its_leader_and_says_why() {
    let folder = TempDir::new().unwrap();
    let (leaders, followers) = (Place::below(folder.path(), "leader"), Place::below(folder.path(), "follower"));
    let mut follower = followers.following().launch();
    wait::until_true("its HTTP port", BOUND, || std::net::TcpStream::connect(&followers.http).is_ok());
    let reason = wait::until("a reason", BOUND, || {
        let (status, body) = http::get(&followers.http, "/health/ready");
        assert_eq!(status, 503, "{body}");
        body.contains("leader").then_some(body)
    });
    eprintln!("{}", reason.trim());
    assert_eq!(http::get(&followers.http, "/health/live").0, 200);
    // It does not become ready by itself.
    wait::window(Duration::from_millis(500));
    assert!(follower.is_not_ready());
    let leader = leaders.leading(&[&followers.receiver]).start();
    follower.await_ready();
    assert_eq!(follower.get("/health/ready").0, 200);
    drop(leader);
}

#[test]
fn receiver_takes_cluster_and_node_id_from_its_first_leader_and_keeps_both() {
    let folder = TempDir::new().unwrap();
    let places: Vec<Place> =
        ["leader", "second", "third", "fourth"].map(|name| Place::below(folder.path(), name)).into();
    let receivers: Vec<&str> = places[1..].iter().map(|place| place.receiver.as_str()).collect();
    let mut leader = places[0].leading(&receivers).start();
    let mut second = places[1].following().start();
    let third = places[2].following().start();
    let fourth = places[3].following().env("CHRONIK_NODE_ID", "40").start();
    let ids = [&leader, &second, &third, &fourth].map(|node| Status::of(node).node_id());
    assert_eq!(ids, [1, 2, 3, 40]);
    let cluster = |broker: &Broker| Status::of(broker).field("cluster_id").as_str().unwrap().to_owned();
    let ours = cluster(&leader);
    assert!(!ours.is_empty());
    for node in [&second, &third, &fourth] {
        assert_eq!(cluster(node), ours);
        assert_eq!(view::metadata(node.bootstrap(), None).cluster_id.as_deref(), Some(ours.as_str()));
    }
    wait::until_true("all of them known", BOUND, || {
        let told = view::metadata(leader.bootstrap(), None).brokers;
        told.iter().map(|node| node.node_id).collect::<Vec<_>>() == [1, 2, 3, 40]
    });
    leader.kill();
    second.kill();
    second.start();
    assert_eq!((Status::of(&second).node_id(), cluster(&second)), (2, ours));
}
