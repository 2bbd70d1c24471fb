//! `kill -9` under load: what was acknowledged is there once, in order, byte for byte.

use std::time::Duration;

use chronik_e2e::broker::{Broker, steady_port};
use chronik_e2e::clients;
use chronik_e2e::ledger::Shape;
use chronik_e2e::load::Load;
use chronik_e2e::seed::Random;
use chronik_e2e::wait;

const BOUND: Duration = Duration::from_secs(60);

fn rounds() -> u64 {
    std::env::var("CHRONIK_KILL_ROUNDS").map_or(50, |text| text.parse().expect("CHRONIK_KILL_ROUNDS is a number"))
}

/// Many rounds of load, kill and restart. Producers live through all of them.
fn kill_again_and_again(name: &str, configs: &[(&str, &str)]) {
    let mut random = Random::for_test(name);
    let shape = Shape { seed: random.draw(), partitions: 4, value_bytes_max: 2_000 };
    let port = steady_port();
    let mut broker = Broker::fresh_with(|setup| setup.listen(&format!("127.0.0.1:{port}")));
    // A torn end of the active segment is what a kill may leave.
    for words in ["torn", "truncat", "recover", "unclean"] {
        broker.expect_log(words);
    }
    clients::create_topic(broker.bootstrap(), "load", shape.partitions, configs);
    let load = Load::start(broker.bootstrap(), "load", 5, shape);
    let mut slowest = 0;
    for _ in 0..rounds() {
        let goal = load.acknowledged() + usize::try_from(random.between(1, 2_000)).unwrap();
        wait::until("records acknowledged", BOUND, || {
            assert!(broker.runs(), "the broker died by itself:\n{}", broker.log_text());
            assert!(!load.is_stuck(), "a producer cannot go on: {:?}", load.problems());
            (load.acknowledged() >= goal).then_some(())
        });
        broker.kill();
        slowest = slowest.max(broker.start().took_ms);
    }
    let last = load.acknowledged();
    wait::until_true("records after the last restart", BOUND, || load.acknowledged() > last);
    let problems = load.problems();
    let ledger = load.finish();
    eprintln!(
        "{} kills, {} records acknowledged, {} unknown, slowest start {slowest} ms",
        rounds(),
        ledger.count(),
        ledger.count_unknown()
    );
    assert!(
        problems.is_empty(),
        "an idempotent producer gets every record through: {:?}",
        &problems[..problems.len().min(10)]
    );
    assert_eq!(ledger.count_unknown(), 0);
    ledger.check(broker.bootstrap(), "load", shape);
    // And once more after a kill without load, with nobody writing.
    broker.kill();
    broker.start();
    ledger.check(broker.bootstrap(), "load", shape);
}

#[test]
fn acknowledged_records_survive_kills_under_load() {
    kill_again_and_again("kill", &[("segment.bytes", "1048576")]);
}

#[test]
fn acknowledged_records_survive_kills_with_page_cache_durability() {
    kill_again_and_again("kill, page cache", &[("chronik.durability", "page-cache")]);
}
