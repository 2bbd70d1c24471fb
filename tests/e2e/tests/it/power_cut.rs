//! Power cuts: what was acknowledged with `acks=all` is on the disk.

use std::time::Duration;

use chronik_e2e::broker::{Broker, Setup, steady_port};
use chronik_e2e::clients;
use chronik_e2e::disk::{self, Disk};
use chronik_e2e::ledger::Shape;
use chronik_e2e::load::Load;
use chronik_e2e::seed::Random;
use chronik_e2e::wait;

use crate::recovery::fill;

const BOUND: Duration = Duration::from_secs(60);

fn rounds() -> u64 {
    std::env::var("CHRONIK_POWER_ROUNDS").map_or(30, |text| text.parse().expect("CHRONIK_POWER_ROUNDS is a number"))
}

#[test]
fn acknowledged_records_survive_power_cuts_under_load() {
    let mut random = Random::for_test("power cut");
    let shape = Shape { seed: random.draw(), partitions: 3, value_bytes_max: 1_000 };
    let mut disk = Disk::of_mib(1024);
    let address = format!("127.0.0.1:{}", steady_port());
    let mut broker = Setup::on(&disk.path().join("data")).listen(&address).start();
    // After the cut every write fails, and what the last ones left is cut at the next start.
    for words in ["offline", "failed", "error", "torn", "truncat", "recover", "unclean", "snapshot", "index"] {
        broker.expect_log(words);
    }
    clients::create_topic(broker.bootstrap(), "load", shape.partitions, &[("segment.bytes", "1048576")]);
    let load = Load::start(broker.bootstrap(), "load", 4, shape);
    for round in 0..rounds() {
        let goal = load.acknowledged() + usize::try_from(random.between(1, 1_000)).unwrap();
        wait::until("records acknowledged", BOUND, || {
            assert!(broker.runs(), "round {round}: the broker died by itself:\n{}", broker.log_text());
            (load.acknowledged() >= goal || load.is_stuck()).then_some(())
        });
        if load.is_stuck() {
            let problems = load.problems();
            // Whether something is lost says more than that a producer noticed.
            load.finish().check(broker.bootstrap(), "load", shape);
            panic!("round {round}: nothing is lost, yet a producer cannot go on: {problems:?}");
        }
        // A topic created a moment before the cut is there afterwards: its creation was acknowledged.
        let topic = format!("round-{round}");
        clients::create_topic(broker.bootstrap(), &topic, 1, &[]);
        let acknowledged = load.highest_acknowledged();
        disk::cut(&mut [(&mut broker, &mut disk)]);
        broker.start();
        assert_eq!(
            broker.metric("chronik_log_damaged_ranges"),
            Some(0.0),
            "round {round}: a cut is no damage; acknowledged before it were at least {acknowledged:?}"
        );
        assert_eq!(clients::watermarks(broker.bootstrap(), &topic, 0), (0, 0));
        clients::delete_topic(broker.bootstrap(), &topic);
    }
    // What was acknowledged last was in the sync journal only, more often than not.
    let replays = broker.log_text().matches("sync journal replayed").count() as u64;
    assert!(replays >= rounds() / 2, "{replays} replays in {} rounds", rounds());
    let problems = load.problems();
    let ledger = load.finish();
    eprintln!(
        "{} cuts, {replays} replays of the sync journal, {} records acknowledged, {} unknown",
        rounds(),
        ledger.count(),
        ledger.count_unknown()
    );
    for problem in problems.iter().take(10) {
        eprintln!("{problem}");
    }
    ledger.check(broker.bootstrap(), "load", shape);
    broker.kill();
    broker.start();
    ledger.check(broker.bootstrap(), "load", shape);
    drop(broker);
}

#[test]
fn what_the_page_cache_had_counts_after_a_kill_and_not_after_a_power_cut() {
    const BYTES: u64 = 300 << 20;
    let mut disk = Disk::of_mib(1024);
    let mut broker = Setup::on(&disk.path().join("data")).start();
    for words in ["offline", "failed", "error", "torn", "truncat", "recover", "unclean", "not synced", "index"] {
        broker.expect_log(words);
    }
    clients::create_topic(broker.bootstrap(), "t", 1, &[("chronik.durability", "page-cache")]);
    let end = fill(broker.bootstrap(), "t", 0, BYTES);
    let written = broker.data().join("checkpoint-page-cache");
    let recovery_point = |line: &str| line.strip_prefix("t 0 ")?.split(' ').nth(1)?.parse::<i64>().ok();
    wait::until_true("a checkpoint", BOUND, || {
        let text = std::fs::read_to_string(&written).unwrap_or_default();
        text.lines().filter_map(recovery_point).any(|point| point > end / 2)
    });
    broker.kill();
    broker.start();
    let scanned =
        |broker: &Broker| broker.metric("chronik_log_recovery_scanned_bytes").expect("it counts what it reads");
    assert!(scanned(&broker) < (BYTES / 2) as f64, "{} bytes read", scanned(&broker));
    assert_eq!(clients::watermarks(broker.bootstrap(), "t", 0), (0, end));

    disk::cut(&mut [(&mut broker, &mut disk)]);
    broker.start();
    let left = std::fs::metadata(broker.data().join("wal/t/0/wal_0_0.log")).map_or(0, |file| file.len());
    assert!(scanned(&broker) >= left as f64, "{} of {left} bytes read", scanned(&broker));
    assert_eq!(broker.metric("chronik_log_damaged_ranges"), Some(0.0), "a cut is no damage");
    let (_, end) = clients::watermarks(broker.bootstrap(), "t", 0);
    let mut last = -1;
    if end > 0 {
        clients::read_through(broker.bootstrap(), "t", 1, |record| last = record.offset);
    }
    eprintln!("{end} records left by the power cut, the last at {last}");
}
