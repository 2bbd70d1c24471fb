//! Several followers, beside each other and one behind the other.

use chronik_e2e::broker::Broker;
use chronik_e2e::ledger::Shape;
use chronik_e2e::load::Load;
use chronik_e2e::pair::CATCH_UP_BOUND;
use chronik_e2e::place::Place;
use chronik_e2e::seed::Random;
use chronik_e2e::status::{Status, wait_until_streaming};
use chronik_e2e::{clients, segments, view, wait};
use tempfile::TempDir;

use super::BOUND;

#[test]
fn dead_follower_slows_neither_the_others_nor_the_leader() {
    let mut random = Random::for_test("three followers");
    let folder = TempDir::new().unwrap();
    let places = ["leader", "one", "two", "three"].map(|name| Place::below(folder.path(), name));
    let receivers: Vec<&str> = places[1..].iter().map(|place| place.receiver.as_str()).collect();
    let mut leader = places[0].leading(&receivers).start();
    let mut followers: Vec<Broker> = places[1..].iter().map(|place| place.following().start()).collect();
    let shape = Shape { seed: random.draw(), partitions: 3, value_bytes_max: 2_000 };
    clients::create_topic(&places[0].kafka, "load", shape.partitions, &[("segment.bytes", "1048576")]);
    wait_until_streaming(&leader, &places[1].receiver, BOUND);
    let dialled = Status::of(&leader).follower(&places[1].receiver).number("reconnects");
    let load = Load::start(&places[0].kafka, "load", 3, shape);
    wait::until_true("records acknowledged", BOUND, || load.acknowledged() > 1_000);
    followers[1].kill();
    let dead = view::bounds(&places[0].kafka, "load", 0).unwrap().1;
    let goal = load.acknowledged() + 3_000;
    wait::until_true("records without one of three", BOUND, || load.acknowledged() >= goal);
    // The other two go on while it is dead and the load lasts.
    for place in [&places[1], &places[3]] {
        wait::until_true("what came after its death", BOUND, || {
            view::bounds(&place.kafka, "load", 0).is_ok_and(|(_, end)| end > dead)
        });
    }
    let ledger = load.finish();
    for (number, place) in [(0, &places[1]), (2, &places[3])] {
        wait_until_streaming(&leader, &place.receiver, BOUND);
        segments::wait_until_same(leader.data(), followers[number].data(), CATCH_UP_BOUND);
    }
    let link = Status::of(&leader).follower(&places[2].receiver);
    assert!(link.state() != "streaming" && link.lag_records() > 0, "{link:?}");
    followers[1].start();
    segments::wait_until_same(leader.data(), followers[1].data(), CATCH_UP_BOUND);
    let reconnects = Status::of(&leader).follower(&places[1].receiver).number("reconnects");
    assert_eq!(reconnects, dialled, "a link does not break because another one does");
    leader.kill();
    for place in &places[1..] {
        ledger.check(&place.kafka, "load", shape);
    }
}

#[test]
fn follower_feeds_a_follower_of_its_own() {
    let mut random = Random::for_test("chain");
    let folder = TempDir::new().unwrap();
    let places = ["leader", "middle", "end"].map(|name| Place::below(folder.path(), name));
    let mut leader = places[0].leading(&[&places[1].receiver]).start();
    let mut middle = places[1].following().env("CHRONIK_REPLICATION_FOLLOWERS", &places[2].receiver).start();
    let mut end = places[2].following().start();
    let shape = Shape { seed: random.draw(), partitions: 3, value_bytes_max: 2_000 };
    clients::create_topic(&places[0].kafka, "load", shape.partitions, &[("segment.bytes", "1048576")]);
    let load = Load::start(&places[0].kafka, "load", 2, shape);
    let watch = view::Watch::start(&places[2].kafka, "load", shape.partitions);
    for round in 0..3 {
        let goal = load.acknowledged() + 500;
        wait::until_true("records acknowledged", BOUND, || load.acknowledged() >= goal);
        let restarted = if round % 2 == 0 { &mut middle } else { &mut end };
        restarted.kill();
        restarted.start();
    }
    let ledger = load.finish();
    for follower in [&middle, &end] {
        segments::wait_until_same(leader.data(), follower.data(), CATCH_UP_BOUND);
    }
    // What the last one tells comes from the one before it.
    for partition in 0..shape.partitions {
        let told = view::bounds(&places[0].kafka, "load", partition).unwrap();
        view::wait_for_bounds(&places[2].kafka, "load", partition, told, BOUND);
    }
    watch.finish();
    leader.kill();
    middle.kill();
    ledger.check(&places[2].kafka, "load", shape);
}
