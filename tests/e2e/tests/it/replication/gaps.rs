//! Never a hole: a follower is sent exactly what it lacks, whatever happened while it was away.

use std::path::Path;

use chronik_e2e::broker::{Broker, Setup};
use chronik_e2e::disk::files_below;
use chronik_e2e::ledger::Shape;
use chronik_e2e::load::Load;
use chronik_e2e::pair::{CATCH_UP_BOUND, Pair};
use chronik_e2e::place::Place;
use chronik_e2e::seed::Random;
use chronik_e2e::{admin, clients, segments, view, wait};
use chronik_wire::ErrorCode;
use tempfile::TempDir;

use super::{BOUND, Replicated, continuous, counted, produce};

/// Small segments that go soon after they may.
const SMALL: &[(&str, &str)] = &[("segment.bytes", "1048576"), ("retention.ms", "-1")];

fn eager(setup: Setup) -> Setup {
    setup.set("log.retention.check.interval.ms", "200").set("log.segment.delete.delay.ms", "100")
}

/// Records of 100,000 bytes: ten of them fill a segment.
fn fill(leader: &str, topic: &str, partition: i32, records: usize) {
    for _ in 0..records {
        produce(leader, topic, partition, -1, &[&[7; 100_000]]);
    }
}

/// What a follower has logged since, of a partition: where it went on, and how many records came.
fn came(follower: &Broker, since: usize, topic: &str, partition: i32) -> Option<(i64, i64)> {
    let log = follower.log_text();
    continuous(&Replicated::of(&log[since..], topic, partition)).map(|(first, records, _)| (first, records))
}

fn traces(data: &Path, topic: &str) -> usize {
    files_below(&data.join("wal")).iter().filter(|(path, _)| path.starts_with(topic)).count()
}

#[test]
fn follower_that_was_away_is_sent_exactly_what_it_lacks() {
    let mut pair = Pair::start_with(eager);
    let (leader, follower) = (pair.leaders.kafka.clone(), pair.followers.kafka.clone());
    clients::create_topic(&leader, "grows", 2, SMALL);
    clients::create_topic(&leader, "goes", 2, SMALL);
    clients::create_topic(&leader, "stays", 1, SMALL);
    for topic in ["grows", "goes"] {
        fill(&leader, topic, 0, 25);
    }
    fill(&leader, "grows", 1, 12);
    fill(&leader, "stays", 0, 3);
    admin::wait_for_coordinator(&leader, "readers", BOUND);
    admin::commit(&leader, "readers", "grows", 0, 10);
    pair.catch_up();
    assert!(pair.follower.stop().success());
    let since = pair.follower.log_text().len();

    // Records over rolls of segments, a clean restart and a kill of the leader.
    fill(&leader, "grows", 0, 12);
    assert!(pair.leader.stop().success());
    pair.leader.start();
    fill(&leader, "grows", 0, 12);
    pair.leader.kill();
    pair.leader.start();
    fill(&leader, "grows", 0, 3);
    clients::create_topic(&leader, "comes", 3, &[("retention.ms", "4567000000000")]);
    produce(&leader, "comes", 2, -1, &[b"first"]);
    clients::delete_topic(&leader, "goes");
    admin::add_partitions(&leader, "grows", 4);
    produce(&leader, "grows", 3, -1, &[b"first"]);
    admin::set_config(&leader, "grows", "max.message.bytes", "765432");
    admin::delete_records(&leader, "grows", 1, 11);
    admin::wait_for_coordinator(&leader, "readers", BOUND);
    admin::commit(&leader, "readers", "grows", 0, 30);

    pair.follower.start();
    pair.catch_up();
    view::wait_for_bounds(&follower, "grows", 0, (0, 52), BOUND);
    view::wait_for_bounds(&follower, "grows", 1, (11, 12), BOUND);
    for topic in ["comes", "grows"] {
        view::wait_for_bounds(&follower, topic, if topic == "comes" { 2 } else { 3 }, (0, 1), BOUND);
    }
    wait::until_true("what came in the log", BOUND, || came(&pair.follower, since, "grows", 0) == Some((25, 27)));
    assert_eq!(came(&pair.follower, since, "grows", 3), Some((0, 1)));
    for (topic, partition) in [("grows", 1), ("stays", 0)] {
        assert_eq!(came(&pair.follower, since, topic, partition), None, "{topic}-{partition} lacked nothing");
    }
    let unknown = view::metadata(&follower, Some("goes")).topics[0].error_code;
    assert_eq!(unknown, ErrorCode::UnknownTopicOrPartition.code(), "the topic that went");
    wait::until_true("its files gone", BOUND, || traces(pair.follower.data(), "goes") == 0);
    assert_eq!(view::metadata(&follower, Some("grows")).topics[0].partitions.len(), 4);
    assert_eq!(admin::config(&follower, "grows", "max.message.bytes").as_deref(), Some("765432"));
    assert_eq!(admin::config(&follower, "comes", "retention.ms").as_deref(), Some("4567000000000"));
    wait::until_true("the group's offset", BOUND, || admin::committed(&follower, "readers", "grows", 0) == Ok(30));
    assert_eq!(counted(&pair.follower.get("/metrics").1, &["replication", "reset"]), 0.0);
}

#[test]
fn changes_reach_a_follower_while_it_streams() {
    let pair = Pair::start_with(eager);
    let (leader, follower) = (pair.leaders.kafka.as_str(), pair.followers.kafka.as_str());
    clients::create_topic(leader, "changes", 1, SMALL);
    fill(leader, "changes", 0, 25);
    admin::delete_records(leader, "changes", 0, 17);
    view::wait_for_bounds(follower, "changes", 0, (17, 25), BOUND);
    let first = pair.follower.partition_folder("changes", 0).join("wal_0_0.log");
    wait::until_true("whole segments below it gone", BOUND, || !first.exists());
    pair.catch_up();
    admin::add_partitions(leader, "changes", 3);
    produce(leader, "changes", 2, -1, &[b"new"]);
    view::wait_for_bounds(follower, "changes", 2, (0, 1), BOUND);
    admin::set_config(leader, "changes", "retention.ms", "987654");
    wait::until_true("the configuration", BOUND, || {
        admin::config(follower, "changes", "retention.ms").as_deref() == Some("987654")
    });
    // A topic that comes again under its name is another one.
    let id = || view::metadata(follower, Some("changes")).topics[0].topic_id;
    let before = id();
    clients::delete_topic(leader, "changes");
    wait::until_true("the topic gone", BOUND, || traces(pair.follower.data(), "changes") == 0);
    clients::create_topic(leader, "changes", 1, SMALL);
    produce(leader, "changes", 0, -1, &[b"again"]);
    view::wait_for_bounds(follower, "changes", 0, (0, 1), BOUND);
    assert_ne!(id(), before);
    pair.catch_up();
}

#[test]
fn follower_whose_next_record_is_gone_begins_at_the_leaders_log_start_and_says_so_once() {
    let mut pair = Pair::start_with(eager);
    let (leader, follower) = (pair.leaders.kafka.clone(), pair.followers.kafka.clone());
    let retained = &[("segment.bytes", "1048576"), ("retention.bytes", "2200000")];
    clients::create_topic(&leader, "retained", 1, retained);
    clients::create_topic(&leader, "untouched", 1, SMALL);
    fill(&leader, "retained", 0, 5);
    fill(&leader, "untouched", 0, 5);
    pair.catch_up();
    assert!(pair.follower.stop().success());
    let since = pair.follower.log_text().len();
    fill(&leader, "retained", 0, 60);
    let start = wait::until("old segments gone", BOUND, || {
        let (start, _) = view::bounds(&leader, "retained", 0).unwrap();
        (start > 30).then_some(start)
    });
    pair.follower.start();
    pair.catch_up();
    wait::until_true("the same bounds", BOUND, || {
        view::bounds(&follower, "retained", 0) == view::bounds(&leader, "retained", 0)
    });
    assert!(view::bounds(&follower, "retained", 0).unwrap().0 >= start);
    view::wait_for_bounds(&follower, "untouched", 0, (0, 5), BOUND);
    let log = pair.follower.log_text();
    let warned: Vec<&str> =
        log[since..].lines().filter(|line| line.contains(" WARN ") && line.contains("retained")).collect();
    assert_eq!(warned.len(), 1, "{warned:#?}");
    assert_eq!(counted(&pair.follower.get("/metrics").1, &["replication", "reset"]), 1.0);
    // What is kept aside is what diverged; what retention took is gone.
    assert!(segments::cut_files(pair.follower.data()).is_empty());
}

#[test]
fn follower_that_joins_empty_is_brought_up_while_writes_go_on() {
    let mut random = Random::for_test("join empty");
    let folder = TempDir::new().unwrap();
    let (leaders, followers) = (Place::below(folder.path(), "leader"), Place::below(folder.path(), "follower"));
    let leader = leaders.leading(&[&followers.receiver]).start();
    let shape = Shape { seed: random.draw(), partitions: 5, value_bytes_max: 3_000 };
    clients::create_topic(&leaders.kafka, "busy", shape.partitions, SMALL);
    let load = Load::start(&leaders.kafka, "busy", 3, shape);
    wait::until_true("a backlog", BOUND, || load.acknowledged() > 5_000);
    let mut follower = followers.following().start();
    let watch = view::Watch::start(&followers.kafka, "busy", shape.partitions);
    wait::until_true("the follower to have some", BOUND, || {
        view::bounds(&followers.kafka, "busy", 0).is_ok_and(|(_, end)| end > 0)
    });
    let goal = load.acknowledged() + 3_000;
    wait::until_true("writes to go on", BOUND, || load.acknowledged() >= goal);
    let problems = load.problems();
    let ledger = load.finish();
    assert!(problems.is_empty(), "{problems:?}");
    segments::wait_until_same(leader.data(), follower.data(), CATCH_UP_BOUND);
    drop(leader);
    ledger.check(&followers.kafka, "busy", shape);
    watch.finish();
    assert!(follower.runs());
}
