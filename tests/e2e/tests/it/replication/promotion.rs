//! A follower takes over when it is told to, under load; what it replaces is fenced, and rejoins.

use std::path::Path;
use std::time::{Duration, Instant};

use chronik_e2e::broker::{Broker, Setup};
use chronik_e2e::ledger::Shape;
use chronik_e2e::link::kind;
use chronik_e2e::load::Load;
use chronik_e2e::pair::{CATCH_UP_BOUND, Pair};
use chronik_e2e::place::Place;
use chronik_e2e::raw::{Connection, assert_code};
use chronik_e2e::relay::{Fate, Relay};
use chronik_e2e::seed::Random;
use chronik_e2e::status::{Status, promote, promote_with, wait_until_streaming};
use chronik_e2e::{admin, binary, clients, segments, view, wait};
use chronik_wire::ErrorCode;
use tempfile::TempDir;

use super::sync::sync;
use super::{BOUND, Replicated, continuous, counted, produce, produce_code};
use crate::groups::{self, Member, Seen};
use crate::walk::produce_by_name;

/// A promotion takes less.
const PROMOTION_BOUND: Duration = Duration::from_secs(1);

/// Whether every partition of a topic has this many replicas in sync.
fn all_in_sync(leader: &str, topic: &str, replicas: usize) -> bool {
    let told = view::metadata(leader, Some(topic));
    told.topics[0].partitions.iter().all(|partition| partition.isr_nodes.len() == replicas)
}

/// Producers on both nodes, with everything in sync and some records acknowledged.
fn under_load(pair: &Pair, shape: Shape) -> Load {
    clients::create_topic(&pair.leaders.kafka, "load", shape.partitions, &[("segment.bytes", "1048576")]);
    let load = Load::start(&pair.bootstrap(), "load", 4, shape);
    wait::until_true("records acknowledged", BOUND, || load.acknowledged() > 1_000);
    wait::until_true("both in sync", BOUND, || all_in_sync(&pair.leaders.kafka, "load", 2));
    load
}

fn goes_on(load: &Load, what: &str) {
    let goal = load.acknowledged() + 1_000;
    wait::until_true(what, BOUND, || {
        assert!(!load.is_stuck(), "a producer cannot go on: {:?}", load.problems());
        load.acknowledged() >= goal
    });
}

#[test]
fn promotion_under_load_loses_and_duplicates_nothing_acknowledged() {
    let mut random = Random::for_test("promotion");
    let mut pair = Pair::start_with(sync);
    let shape = Shape { seed: random.draw(), partitions: 4, value_bytes_max: 1_000 };
    let load = under_load(&pair, shape);
    load.watch_pauses();
    pair.leader.kill();
    let asked = Instant::now();
    let promotion = promote(&pair.follower);
    let answered = asked.elapsed();
    goes_on(&load, "records after the promotion");
    eprintln!(
        "promoted in {:?}, answered after {answered:?}; the longest pause of clients was {:?}",
        promotion.took(),
        load.longest_pause()
    );
    assert!(promotion.took() < PROMOTION_BOUND && answered < 2 * PROMOTION_BOUND, "{promotion:?}, {answered:?}");
    let status = Status::of(&pair.follower);
    assert_eq!((status.role(), status.generation()), ("leader", promotion.generation()));
    let problems = load.problems();
    let ledger = load.finish();
    assert!(problems.is_empty(), "{problems:?}");
    ledger.check(&pair.followers.kafka, "load", shape);
}

#[test]
fn old_leader_that_is_alive_is_fenced_at_once_and_rejoins() {
    let mut random = Random::for_test("fencing");
    let mut pair = Pair::start_with(sync);
    let (old, new) = (pair.leaders.kafka.clone(), pair.followers.kafka.clone());
    let shape = Shape { seed: random.draw(), partitions: 4, value_bytes_max: 1_000 };
    let load = under_load(&pair, shape);
    load.watch_pauses();
    let promotion = promote(&pair.follower);
    goes_on(&load, "records after the promotion");
    eprintln!("promoted in {:?} beside a living leader; longest pause {:?}", promotion.took(), load.longest_pause());
    assert!(promotion.took() < PROMOTION_BOUND, "{promotion:?}");
    let new_id = Status::of(&pair.follower).node_id();
    wait::until_true("the old leader to know", BOUND, || Status::of(&pair.leader).role() == "fenced");
    is_fenced(&pair.leader, &new, new_id);
    // Started again as a leader it remembers.
    assert!(pair.leader.stop().success());
    pair.leader.start();
    is_fenced(&pair.leader, &new, new_id);
    pair.leader.kill();
    let problems = load.problems();
    let ledger = load.finish();
    assert!(problems.is_empty(), "{problems:?}");
    ledger.check(&new, "load", shape);

    // As a receiver of the new leader it becomes the same again.
    assert!(pair.follower.stop().success());
    let setup = sync(pair.followers.leading(&[&pair.leaders.receiver]));
    pair.follower.change(|_| setup);
    pair.follower.start();
    pair.demote_leader();
    pair.leader.start();
    pair.catch_up();
    assert_eq!(Status::of(&pair.leader).role(), "follower");
    pair.follower.kill();
    ledger.check(&old, "load", shape);
}

/// It takes no writes, and names who replaced it, to clients and in its log.
fn is_fenced(broker: &Broker, new: &str, new_id: i32) {
    let kafka = broker.bootstrap();
    for acks in [1, -1] {
        let refused = Connection::open(kafka).ask(10, &produce_by_name("load", 0, acks, &[b"late"]));
        let code = refused.responses[0].partition_responses[0].error_code;
        assert_code(code, ErrorCode::NotLeaderOrFollower, "a write to a fenced leader");
    }
    assert_eq!(view::partition(kafka, "load", 0).leader_id, new_id);
    let status = Status::of(broker);
    let leader = status.field("leader");
    assert_eq!((leader["node_id"].as_i64(), leader["address"].as_str()), (Some(new_id.into()), Some(new)), "{leader}");
    let log = broker.log_text();
    let says =
        log.lines().any(|line| line.contains(new) && [" ERROR ", " WARN "].iter().any(|level| line.contains(level)));
    assert!(says, "the log does not say who replaced it:\n{log}");
}

/// The bytes of a partition's only segment.
fn segment(broker: &Broker, topic: &str) -> Vec<u8> {
    std::fs::read(broker.partition_folder(topic, 0).join("wal_0_0.log")).unwrap()
}

#[test]
fn async_promotion_states_what_is_lost_and_the_old_leader_keeps_it_aside() {
    let folder = TempDir::new().unwrap();
    let (olds, news) = (Place::below(folder.path(), "old"), Place::below(folder.path(), "new"));
    let relay = Relay::to(&news.receiver);
    let mut old = olds.leading(&[relay.address()]).start();
    // It has a follower of its own, as soon as that one is there: the old leader.
    let mut new = news.following().env("CHRONIK_REPLICATION_FOLLOWERS", &olds.receiver).start();
    for topic in ["lost", "whole"] {
        clients::create_topic(&olds.kafka, topic, 1, &[]);
        for _ in 0..10 {
            produce(&olds.kafka, topic, 0, -1, &[&[1; 1_000]]);
        }
    }
    segments::wait_until_same(old.data(), new.data(), CATCH_UP_BOUND);
    // The follower gets the first part of a backlog, and with it news of how far the leader had come.
    assert!(new.stop().success());
    for number in 0..30_u8 {
        produce(&olds.kafka, "lost", 0, -1, &[&[number; 100_000]]);
    }
    relay.rule(|frame| if frame.kind() == kind::APPEND { Fate::PassAndHold } else { Fate::Pass });
    new.start();
    let here = wait::until("the first part", BOUND, || {
        let (_, end) = view::bounds(&news.kafka, "lost", 0).ok()?;
        (end > 10).then_some(end)
    });
    assert!(here < 40, "the frame that passed was to hold a part of it");
    let kept = segment(&old, "lost");
    old.kill();
    relay.cut();

    let lost = 40 - here;
    let (code, dry) = promote_with(&new, &["--dry-run"]);
    assert_eq!((code, dry.promoted(), dry.caught_up()), (Some(0), false, false), "{dry:?}");
    assert_eq!(dry.partition("lost", 0), (here, lost), "{dry:?}");
    let (code, refused) = promote_with(&new, &["--require-caught-up"]);
    assert!(code != Some(0) && !refused.promoted() && refused.refused().is_some(), "{code:?} {refused:?}");
    assert_eq!(Status::of(&new).role(), "follower");
    assert_code(produce_code(&news.kafka, "lost", 0, 1), ErrorCode::NotLeaderOrFollower, "a follower still");
    let (code, promotion) = promote_with(&new, &[]);
    assert_eq!((code, promotion.promoted(), promotion.caught_up()), (Some(0), true, false), "{promotion:?}");
    assert_eq!(promotion.partition("lost", 0), (here, lost), "{promotion:?}");
    assert_eq!(promotion.partition("whole", 0), (10, 0), "{promotion:?}");
    assert!(promotion.took() < PROMOTION_BOUND, "{promotion:?}");
    for _ in 0..5 {
        produce(&news.kafka, "lost", 0, -1, &[b"in its place"]);
    }

    // The old leader comes back as a leader: it is fenced, and changes nothing.
    relay.pass();
    relay.release();
    old.start();
    let new_id = Status::of(&new).node_id();
    wait::until_true("the old leader to know", BOUND, || Status::of(&old).role() == "fenced");
    assert_code(produce_code(&olds.kafka, "lost", 0, 1), ErrorCode::NotLeaderOrFollower, "a fenced leader");
    assert_eq!(view::partition(&olds.kafka, "lost", 0).leader_id, new_id);
    assert!(old.stop().success());

    // And as a receiver: the tail that was never replicated is cut, and kept.
    old.change(|_| olds.following());
    old.start();
    segments::wait_until_same(old.data(), new.data(), CATCH_UP_BOUND);
    let cut = segments::cut_files(old.data());
    assert_eq!(cut.len(), 1, "{cut:?}");
    let file = old.data().join("wal").join(cut.keys().next().unwrap());
    assert_eq!(file.file_name().unwrap().to_str().unwrap(), format!("wal_0_{here}.cut"));
    holds_the_tail(&file, &kept, here);
    view::wait_for_bounds(&olds.kafka, "lost", 0, (0, here + 5), BOUND);
    assert_eq!(segment(&old, "lost"), segment(&new, "lost"));
}

/// A line of text and then exactly the batches from an offset on, which `chronik log dump` reads.
fn holds_the_tail(file: &Path, whole: &[u8], from: i64) {
    let bytes = std::fs::read(file).unwrap();
    let line = bytes.iter().position(|byte| *byte == b'\n').expect("a line of text") + 1;
    let tail = &bytes[line..];
    assert!(!tail.is_empty() && whole.ends_with(tail), "{} bytes that were not the log's end", tail.len());
    assert_eq!(tail[..8], from.to_be_bytes(), "its first offset");
    assert_eq!(view::end_of(tail), 40);
    let dump = binary::output_of(&["log", "dump", file.to_str().unwrap()]);
    let batches = dump.lines().filter(|line| line.trim_start().starts_with("batch ")).count();
    assert_eq!(batches, usize::try_from(40 - from).unwrap(), "{dump}");
    assert!(dump.contains(&format!("base-offset={from} ")), "{dump}");
}

#[test]
fn promotion_of_a_follower_that_has_everything_is_allowed_and_loses_nothing() {
    let pair = Pair::start();
    clients::create_topic(&pair.leaders.kafka, "even", 1, &[]);
    produce(&pair.leaders.kafka, "even", 0, -1, &[b"there"]);
    pair.catch_up();
    wait_until_streaming(&pair.leader, &pair.followers.receiver, BOUND);
    wait::until_true("the follower to know that it has everything", BOUND, || {
        promote_with(&pair.follower, &["--dry-run"]).1.caught_up()
    });
    let (code, promotion) = promote_with(&pair.follower, &["--require-caught-up"]);
    assert_eq!((code, promotion.promoted(), promotion.caught_up()), (Some(0), true, true), "{promotion:?}");
    assert_eq!(promotion.partition("even", 0), (1, 0));
    assert_eq!(produce(&pair.followers.kafka, "even", 0, -1, &[b"next"]), 1);
    // Whoever leads is not promoted again.
    let (code, again) = promote_with(&pair.follower, &[]);
    assert!(code != Some(0) && again.refused().is_some(), "{code:?} {again:?}");
}

#[test]
fn promoted_follower_takes_over_the_others_without_a_full_copy() {
    let folder = TempDir::new().unwrap();
    let places = ["leader", "one", "other"].map(|name| Place::below(folder.path(), name));
    let mut leader = places[0].leading(&[&places[1].receiver, &places[2].receiver]).start();
    let mut one = places[1].following().start();
    let other = places[2].following().start();
    clients::create_topic(&places[0].kafka, "taken", 1, &[("segment.bytes", "1048576")]);
    for _ in 0..25 {
        produce(&places[0].kafka, "taken", 0, -1, &[&[7; 100_000]]);
    }
    for follower in [&one, &other] {
        segments::wait_until_same(leader.data(), follower.data(), CATCH_UP_BOUND);
    }
    leader.kill();
    promote(&one);
    let since = other.log_text().len();
    assert!(one.stop().success());
    one.change(|_| places[1].leading(&[&places[2].receiver]));
    one.start();
    assert_eq!(Status::of(&one).role(), "leader");
    for _ in 0..5 {
        produce(&places[1].kafka, "taken", 0, -1, &[b"from the next"]);
    }
    view::wait_for_bounds(&places[2].kafka, "taken", 0, (0, 30), BOUND);
    segments::wait_until_same(one.data(), other.data(), CATCH_UP_BOUND);
    wait::until_true("what came in the log", BOUND, || {
        let log = other.log_text();
        let came = continuous(&Replicated::of(&log[since..], "taken", 0));
        came.is_some_and(|(first, records, _)| (first, records) == (25, 5))
    });
    assert_eq!(counted(&other.get("/metrics").1, &["replication", "reset"]), 0.0);
    assert!(segments::cut_files(other.data()).is_empty());
}

#[test]
fn promoted_middle_of_a_chain_feeds_its_follower_at_once() {
    let folder = TempDir::new().unwrap();
    let places = ["leader", "middle", "end"].map(|name| Place::below(folder.path(), name));
    let leader = places[0].leading(&[&places[1].receiver]).start();
    let middle = places[1].following().env("CHRONIK_REPLICATION_FOLLOWERS", &places[2].receiver).start();
    let end = places[2].following().start();
    clients::create_topic(&places[0].kafka, "fed", 1, &[]);
    produce(&places[0].kafka, "fed", 0, -1, &[b"before"]);
    for follower in [&middle, &end] {
        segments::wait_until_same(leader.data(), follower.data(), CATCH_UP_BOUND);
    }
    promote(&middle);
    produce(&places[1].kafka, "fed", 0, -1, &[b"after"]);
    view::wait_for_bounds(&places[2].kafka, "fed", 0, (0, 2), BOUND);
    segments::wait_until_same(middle.data(), end.data(), CATCH_UP_BOUND);
    let leader_id = Status::of(&middle).node_id();
    wait::until_true("the end to name its new leader", BOUND, || {
        view::partition(&places[2].kafka, "fed", 0).leader_id == leader_id
    });
    wait::until_true("the old leader to know", BOUND, || Status::of(&leader).role() == "fenced");
}

#[test]
fn groups_go_on_from_their_committed_offsets() {
    let mut pair = Pair::start_with(sync);
    let bootstrap = pair.bootstrap();
    clients::create_topic(&pair.leaders.kafka, "kept", 4, &[]);
    let seen = Seen::default();
    let join = |seen: &Seen| Member::join(&bootstrap, "kept-group", "kept", &[], seen);
    let members = [join(&seen), join(&seen)];
    groups::shared(&[&members[0], &members[1]], 4);
    groups::produce(&bootstrap, "kept", 4, 25);
    groups::wait_for_all(&seen, &groups::all_of(4, 0, 25));
    for topic in ["kept", "__consumer_offsets"] {
        wait::until_true("both in sync", BOUND, || all_in_sync(&pair.leaders.kafka, topic, 2));
    }
    pair.leader.kill();
    promote(&pair.follower);
    groups::produce(&bootstrap, "kept", 4, 25);
    groups::wait_for_all(&seen, &groups::all_of(4, 0, 50));
    // Commits are synchronous, one a record: at most the record in hand comes again, for each member, and once more where
    // its answer was lost.
    let again: u32 = seen.lock().unwrap().values().map(|times| times - 1).sum();
    assert!(again <= 4, "{again} records came again");
    for member in members {
        member.leave();
    }
    let late = Seen::default();
    let fresh = join(&late);
    groups::produce(&bootstrap, "kept", 4, 1);
    groups::wait_for_all(&late, &groups::all_of(4, 50, 51));
    fresh.leave();
    let before = late.lock().unwrap().keys().filter(|(_, offset)| *offset < 50).count();
    assert!(before <= 2, "{before} committed records came again");
    assert!(admin::committed(&pair.followers.kafka, "kept-group", "kept", 0).is_ok_and(|offset| offset >= 50));
}

#[test]
fn leadership_goes_back_and_forth_under_load_and_loses_nothing() {
    let mut random = Random::for_test("back and forth");
    let folder = TempDir::new().unwrap();
    let places = ["one", "other"].map(|name| Place::below(folder.path(), name));
    // Each is ready for either role from its first restart on.
    let both = |ours: &Place, theirs: &Place| -> Setup {
        sync(ours.following().env("CHRONIK_REPLICATION_FOLLOWERS", &theirs.receiver))
    };
    let mut nodes = [sync(places[0].leading(&[&places[1].receiver])).start(), both(&places[1], &places[0]).start()];
    let shape = Shape { seed: random.draw(), partitions: 3, value_bytes_max: 1_000 };
    let bootstrap = format!("{},{}", places[0].kafka, places[1].kafka);
    clients::create_topic(&places[0].kafka, "load", shape.partitions, &[("segment.bytes", "1048576")]);
    let load = Load::start(&bootstrap, "load", 3, shape);
    let mut leading = 0;
    for round in 0..3 {
        goes_on(&load, "records acknowledged");
        wait::until_true("both in sync", BOUND, || all_in_sync(&places[leading].kafka, "load", 2));
        load.watch_pauses();
        nodes[leading].kill();
        let promotion = promote(&nodes[1 - leading]);
        goes_on(&load, "records after a promotion");
        eprintln!("round {round}: promoted in {:?}, longest pause {:?}", promotion.took(), load.longest_pause());
        assert!(promotion.took() < PROMOTION_BOUND, "{promotion:?}");
        nodes[leading].change(|_| both(&places[leading], &places[1 - leading]));
        nodes[leading].start();
        leading = 1 - leading;
    }
    wait::until_true("both in sync", BOUND, || all_in_sync(&places[leading].kafka, "load", 2));
    let problems = load.problems();
    let ledger = load.finish();
    assert!(problems.is_empty(), "{problems:?}");
    ledger.check(&places[leading].kafka, "load", shape);
    segments::wait_until_same(nodes[0].data(), nodes[1].data(), CATCH_UP_BOUND);
    assert_eq!(Status::of(&nodes[leading]).generation(), Status::of(&nodes[1 - leading]).generation());
}
