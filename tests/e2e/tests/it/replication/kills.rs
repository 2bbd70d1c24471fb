//! `kill -9` of either side at random points under load: logs are byte-identical, and nothing acknowledged is lost.

use chronik_e2e::broker::Broker;
use chronik_e2e::ledger::Shape;
use chronik_e2e::load::Load;
use chronik_e2e::pair::Pair;
use chronik_e2e::seed::Random;
use chronik_e2e::{clients, segments, view, wait};

use super::BOUND;

pub(super) fn rounds() -> u64 {
    let given = std::env::var("CHRONIK_REPLICATION_ROUNDS");
    given.map_or(10, |text| text.parse().expect("CHRONIK_REPLICATION_ROUNDS is a number"))
}

fn alive(brokers: &mut [&mut Broker]) {
    for broker in brokers {
        assert!(broker.runs(), "a broker died by itself:\n{}", broker.log_text());
    }
}

fn kill_either_again_and_again(name: &str, mode: &str) {
    let mut random = Random::for_test(name);
    let shape = Shape { seed: random.draw(), partitions: 4, value_bytes_max: 2_000 };
    let mut pair =
        Pair::start_with(|setup| setup.env("CHRONIK_REPLICATION_MODE", mode).set("replica.lag.time.max.ms", "1500"));
    clients::create_topic(&pair.leaders.kafka, "load", shape.partitions, &[("segment.bytes", "1048576")]);
    let load = Load::start(&pair.leaders.kafka, "load", 4, shape);
    let watches = [&pair.leaders, &pair.followers].map(|place| view::Watch::start(&place.kafka, "load", 4));
    for round in 0..rounds() {
        let reach = |pair: &mut Pair, records: u64| {
            let goal = load.acknowledged() + usize::try_from(records).unwrap();
            wait::until_true("records acknowledged", BOUND, || {
                alive(&mut [&mut pair.leader, &mut pair.follower]);
                assert!(!load.is_stuck(), "round {round}: a producer cannot go on: {:?}", load.problems());
                load.acknowledged() >= goal
            });
        };
        reach(&mut pair, random.between(1, 2_000));
        match random.between(0, 3) {
            0 => {
                pair.leader.kill();
                pair.leader.start();
            }
            1 => {
                pair.follower.kill();
                if random.draw().is_multiple_of(2) {
                    let goal = load.acknowledged() + usize::try_from(random.between(1, 1_000)).unwrap();
                    wait::until_true("records without the follower", BOUND, || load.acknowledged() >= goal);
                    // What the dead one has is right, whatever it lacks.
                    segments::assert_prefix(pair.follower.data(), pair.leader.data());
                }
                pair.follower.start();
            }
            _ => {
                pair.follower.kill();
                pair.leader.kill();
                // It has met its leader before, and does not wait for it.
                pair.follower.start();
                pair.leader.start();
            }
        }
    }
    let last = load.acknowledged();
    wait::until_true("records after the last restart", BOUND, || load.acknowledged() > last);
    let problems = load.problems();
    let ledger = load.finish();
    eprintln!("{name}: {} rounds, {} acknowledged, {} unknown", rounds(), ledger.count(), ledger.count_unknown());
    assert!(problems.is_empty(), "an idempotent producer gets every record through: {problems:?}");
    assert_eq!(ledger.count_unknown(), 0);
    ledger.check(&pair.leaders.kafka, "load", shape);
    pair.catch_up();
    for watch in watches {
        watch.finish();
    }
    assert!(segments::cut_files(pair.follower.data()).is_empty(), "a follower of one leader never has more than it");
    // The follower alone has all of it as well.
    pair.leader.kill();
    ledger.check(&pair.followers.kafka, "load", shape);
}

#[test]
fn kills_of_either_side_under_load_leave_identical_logs() {
    kill_either_again_and_again("kills, async", "async");
}

#[test]
fn kills_of_either_side_under_load_leave_identical_logs_in_sync_mode() {
    kill_either_again_and_again("kills, sync", "sync");
}
