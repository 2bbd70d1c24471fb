//! Sync mode: followers are in-sync replicas, and `acks=all` waits for them.

use std::time::{Duration, Instant};

use chronik_e2e::broker::Setup;
use chronik_e2e::link::kind;
use chronik_e2e::pair::{CATCH_UP_BOUND, Pair};
use chronik_e2e::place::Place;
use chronik_e2e::raw::{Connection, assert_code};
use chronik_e2e::relay::{Fate, Relay};
use chronik_e2e::{admin, binary, clients, process, segments, view, wait};
use chronik_wire::ErrorCode;
use chronik_wire::messages::describe_topic_partitions_request::TopicRequest;
use chronik_wire::messages::{DescribeTopicPartitionsRequest, ProduceRequest};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{BOUND, produce, produce_code};
use crate::walk::produce_by_name;

/// After how long a follower that does not keep up leaves the ISR.
const LAG: Duration = Duration::from_secs(2);

pub(super) fn sync(setup: Setup) -> Setup {
    setup
        .env("CHRONIK_REPLICATION_MODE", "sync")
        .set("replica.lag.time.max.ms", &LAG.as_millis().to_string())
        .set("replication.heartbeat.interval.ms", "300")
}

/// The ISR of partition 0 as a node tells it; empty where it does not know the topic.
fn isr(address: &str, topic: &str) -> Vec<i32> {
    let mut isr = view::try_partition(address, topic, 0).map(|told| told.isr_nodes).unwrap_or_default();
    isr.sort_unstable();
    isr
}

fn wait_for_isr(address: &str, topic: &str, expected: &[i32]) {
    wait::until_true(&format!("ISR {expected:?} at {address}"), BOUND, || isr(address, topic) == expected);
}

fn stand_still(pair: &Pair) {
    pair.follower.signal(Signal::STOP);
    wait::until_true("the process to stand still", BOUND, || process::stands_still(pair.follower.pid()));
}

#[test]
fn acks_all_waits_for_the_follower_until_it_leaves_the_isr() {
    let pair = Pair::start_with(sync);
    let (leader, follower) = (pair.leaders.kafka.as_str(), pair.followers.kafka.as_str());
    clients::create_topic(leader, "waits", 1, &[("min.insync.replicas", "1")]);
    wait_for_isr(leader, "waits", &[1, 2]);
    produce(leader, "waits", 0, -1, &[b"on both"]);
    // What is acknowledged is on the follower's disk already.
    assert_eq!(
        view::end_of(&std::fs::read(pair.follower.partition_folder("waits", 0).join("wal_0_0.log")).unwrap()),
        1
    );
    stand_still(&pair);
    // acks=1 is for the leader alone, and consumers do not see it before the others have it.
    assert_eq!(produce(leader, "waits", 0, 1, &[b"on one"]), 1);
    assert_eq!(view::bounds(leader, "waits", 0), Ok((0, 1)));
    let started = Instant::now();
    let offset = produce(leader, "waits", 0, -1, &[b"waited"]);
    let waited = started.elapsed();
    eprintln!("acks=all waited {waited:?} for a follower that stood still, which is in sync for {LAG:?}");
    assert_eq!(offset, 2);
    assert_eq!(isr(leader, "waits"), [1], "answered when the follower was out");
    view::wait_for_bounds(leader, "waits", 0, (0, 3), BOUND);
    pair.follower.signal(Signal::CONT);
    wait_for_isr(leader, "waits", &[1, 2]);
    // The follower knows as well, from the leader's journal.
    wait_for_isr(follower, "waits", &[1, 2]);
    view::wait_for_bounds(follower, "waits", 0, (0, 3), BOUND);
    pair.catch_up();
}

#[test]
fn follower_that_writes_and_never_syncs_leaves_the_isr() {
    let folder = TempDir::new().unwrap();
    let (leaders, followers) = (Place::below(folder.path(), "leader"), Place::below(folder.path(), "follower"));
    let relay = Relay::to(&followers.receiver);
    let leader = sync(leaders.leading(&[relay.address()])).start();
    let follower = sync(followers.following()).start();
    let kafka = leaders.kafka.as_str();
    clients::create_topic(kafka, "synced", 1, &[("min.insync.replicas", "1")]);
    wait_for_isr(kafka, "synced", &[1, 2]);
    produce(kafka, "synced", 0, -1, &[b"on both disks"]);
    // From now on its disk takes bytes and never comes to an end with a sync, as far as the leader hears.
    relay.rule_on_answers(|frame| {
        if frame.kind() == kind::ACK {
            frame.lower_durable_ends(1);
        }
        Fate::Pass
    });
    let started = Instant::now();
    assert_eq!(produce(kafka, "synced", 0, -1, &[b"waited"]), 1);
    eprintln!("acks=all waited {:?} for a follower that never synced", started.elapsed());
    assert_eq!(isr(kafka, "synced"), [1]);
    relay.pass();
    assert_eq!(produce(kafka, "synced", 0, -1, &[b"again"]), 2);
    wait_for_isr(kafka, "synced", &[1, 2]);
    segments::wait_until_same(leader.data(), follower.data(), CATCH_UP_BOUND);
}

#[test]
fn too_few_in_sync_replicas_refuse_acks_all_until_the_follower_is_back() {
    let pair = Pair::start_with(sync);
    let leader = pair.leaders.kafka.as_str();
    clients::create_topic(leader, "two", 1, &[("min.insync.replicas", "2")]);
    wait_for_isr(leader, "two", &[1, 2]);
    produce(leader, "two", 0, -1, &[b"on both"]);
    stand_still(&pair);
    // Appended, and then there were too few; a client whose own time is over first hears that.
    let mut connection = Connection::open(leader);
    connection.set_read_bound(BOUND);
    let request = ProduceRequest { timeout_ms: 30_000, ..produce_by_name("two", 0, -1, &[b"appended"]) };
    let code = connection.ask(9, &request).responses[0].partition_responses[0].error_code;
    let after = [ErrorCode::NotEnoughReplicasAfterAppend.code(), ErrorCode::RequestTimedOut.code()];
    assert!(after.contains(&code), "code {code}");
    wait_for_isr(leader, "two", &[1]);
    assert_code(produce_code(leader, "two", 0, -1), ErrorCode::NotEnoughReplicas, "before the append");
    assert_code(produce_code(leader, "two", 0, -1), ErrorCode::NotEnoughReplicas, "before the append");
    let measured = binary::run(&["bench", "produce", "two", "--num-records", "1", "--bootstrap", leader]);
    let said = String::from_utf8_lossy(&measured.stderr);
    assert!(!measured.status.success() && measured.stdout.is_empty(), "{measured:?}");
    assert!(said.contains("NOT_ENOUGH_REPLICAS") && said.contains("--acks 1"), "{said}");
    // Nothing of those is in the log; acks=1 still is taken, and nobody sees it: the high watermark stands still (KIP-966).
    assert_eq!(produce(leader, "two", 0, 1, &[b"for one"]), 2);
    assert_eq!(view::bounds(leader, "two", 0), Ok((0, 1)));
    let given = view::fetch(leader, "two", 0, 1).responses[0].partitions[0].clone();
    assert!(given.high_watermark == 1 && given.records.is_none_or(|records| records.is_empty()));
    pair.follower.signal(Signal::CONT);
    wait_for_isr(leader, "two", &[1, 2]);
    assert_eq!(produce(leader, "two", 0, -1, &[b"on both again"]), 3);
    assert_eq!(view::bounds(leader, "two", 0), Ok((0, 4)));
    pair.catch_up();
}

#[test]
fn metadata_shows_replicas_and_isr_as_they_are() {
    let mut pair = Pair::start_with(sync);
    let (leader, follower) = (pair.leaders.kafka.clone(), pair.followers.kafka.clone());
    assert_code(admin::create_replicated(&leader, "three", 3), ErrorCode::InvalidReplicationFactor, "three of two");
    // Every topic goes to every follower, whatever factor was asked for.
    for (topic, factor) in [("one", 1), ("two", 2), ("default", -1)] {
        assert_code(admin::create_replicated(&leader, topic, factor), ErrorCode::None, topic);
        wait_for_isr(&leader, topic, &[1, 2]);
        for address in [&leader, &follower] {
            wait_for_isr(address, topic, &[1, 2]);
            let told = view::partition(address, topic, 0);
            let mut replicas = told.replica_nodes.clone();
            replicas.sort_unstable();
            assert_eq!((told.leader_id, replicas.as_slice()), (1, &[1, 2][..]), "{topic} at {address}");
        }
    }
    pair.follower.kill();
    wait_for_isr(&leader, "two", &[1]);
    let topics = vec![TopicRequest { name: "two".to_owned() }];
    let request = DescribeTopicPartitionsRequest { topics, response_partition_limit: 10, cursor: None };
    let described = Connection::open(&leader).ask(0, &request).topics[0].partitions[0].clone();
    assert_eq!((described.replica_nodes.len(), described.isr_nodes.as_slice()), (2, &[1][..]));
    pair.follower.start();
    wait_for_isr(&leader, "two", &[1, 2]);
}

#[test]
fn follower_tells_its_high_watermark_no_sooner_than_the_leader_and_never_takes_it_back() {
    let mut pair = Pair::start_with(sync);
    let (leader, follower) = (pair.leaders.kafka.clone(), pair.followers.kafka.clone());
    clients::create_topic(&leader, "marks", 1, &[("min.insync.replicas", "1")]);
    wait_for_isr(&leader, "marks", &[1, 2]);
    let watches = [&leader, &follower].map(|address| view::Watch::start(address, "marks", 1));
    for round in 0..30 {
        produce(&leader, "marks", 0, [1, -1][round % 2], &[b"x"]);
        // Asked in this order, the follower cannot be ahead of the leader unless it told too much.
        let theirs = view::bounds(&follower, "marks", 0).map_or(0, |(_, end)| end);
        let ours = view::bounds(&leader, "marks", 0).map_or(i64::MAX, |(_, end)| end);
        assert!(theirs <= ours, "the follower tells {theirs}, the leader {ours}");
        match round {
            10 => {
                pair.follower.kill();
                pair.follower.start();
            }
            20 => {
                pair.leader.kill();
                pair.leader.start();
            }
            _ => {}
        }
    }
    let (_, end) = view::bounds(&leader, "marks", 0).unwrap();
    view::wait_for_bounds(&follower, "marks", 0, (0, end), BOUND);
    for watch in watches {
        watch.finish();
    }
}
