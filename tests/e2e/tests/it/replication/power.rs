//! Power cuts of either side, or of both at once, while records are replicated.

use chronik_e2e::disk::{Disk, cut};
use chronik_e2e::ledger::Shape;
use chronik_e2e::load::Load;
use chronik_e2e::pair::CATCH_UP_BOUND;
use chronik_e2e::place::Place;
use chronik_e2e::seed::Random;
use chronik_e2e::{clients, segments, wait};

use super::BOUND;

fn rounds() -> u64 {
    let given = std::env::var("CHRONIK_REPLICATION_POWER_ROUNDS");
    given.map_or(4, |text| text.parse().expect("CHRONIK_REPLICATION_POWER_ROUNDS is a number"))
}

#[test]
fn power_cuts_of_either_side_under_load_leave_identical_logs_and_lose_nothing() {
    let mut random = Random::for_test("replicated power cuts");
    let shape = Shape { seed: random.draw(), partitions: 3, value_bytes_max: 1_000 };
    let mut disks = [Disk::of_mib(1024), Disk::of_mib(1024)];
    let places = [0, 1].map(|number: usize| Place::below(&disks[number].path(), "data"));
    let alarms = &["offline", "failed", "error", "snapshot", "index"];
    let sync = |setup: chronik_e2e::broker::Setup| {
        setup.env("CHRONIK_REPLICATION_MODE", "sync").set("replica.lag.time.max.ms", "1500").expect_log(alarms)
    };
    let mut leader = sync(places[0].leading(&[&places[1].receiver])).start();
    let mut follower = sync(places[1].following()).start();
    clients::create_topic(&places[0].kafka, "load", shape.partitions, &[("segment.bytes", "1048576")]);
    let load = Load::start(&places[0].kafka, "load", 3, shape);
    for round in 0..rounds() {
        let goal = load.acknowledged() + usize::try_from(random.between(1, 1_000)).unwrap();
        wait::until_true("records acknowledged", BOUND, || {
            assert!(leader.runs() && follower.runs(), "round {round}: one died by itself:\n{}", leader.log_text());
            assert!(!load.is_stuck(), "round {round}: a producer cannot go on: {:?}", load.problems());
            load.acknowledged() >= goal
        });
        let [ours, theirs] = &mut disks;
        match random.between(0, 3) {
            0 => cut(&mut [(&mut leader, ours)]),
            1 => cut(&mut [(&mut follower, theirs)]),
            _ => cut(&mut [(&mut leader, ours), (&mut follower, theirs)]),
        }
        for broker in [&mut leader, &mut follower] {
            if !broker.runs() {
                broker.start();
                assert_eq!(broker.metric("chronik_log_damaged_ranges"), Some(0.0), "round {round}: a cut is no damage");
            }
        }
    }
    let last = load.acknowledged();
    wait::until_true("records after the last cut", BOUND, || load.acknowledged() > last);
    let ledger = load.finish();
    eprintln!("{} cuts, {} acknowledged, {} unknown", rounds(), ledger.count(), ledger.count_unknown());
    ledger.check(&places[0].kafka, "load", shape);
    segments::wait_until_same(leader.data(), follower.data(), CATCH_UP_BOUND);
    leader.kill();
    ledger.check(&places[1].kafka, "load", shape);
    drop((leader, follower));
}
