//! Starting again with much on the disk reads what lies behind the checkpoint, not everything.

use std::time::{Duration, Instant};

use chronik_e2e::broker::{Broker, Ready};
use chronik_e2e::raw::Connection;
use chronik_e2e::{clients, process, wait};
use chronik_wire::messages::ProduceRequest;

use crate::walk::produce_by_name;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

fn gibibytes() -> u64 {
    std::env::var("CHRONIK_RECOVERY_GIB").map_or(3, |text| text.parse().expect("CHRONIK_RECOVERY_GIB is a number"))
}

/// Appends about this many bytes to a partition, as fast as one pipelined connection goes.
pub(crate) fn fill(bootstrap: &str, topic: &str, partition: i32, bytes: u64) -> i64 {
    let value = chronik_e2e::seed::Random::from_parts(&[1]).bytes(900_000);
    let request = produce_by_name(topic, partition, 1, &[&value]);
    let mut connection = Connection::open(bootstrap);
    let mut in_flight = std::collections::VecDeque::new();
    let mut last = -1;
    let count = bytes / 900_000;
    let take = |connection: &mut Connection, asked: i32| {
        let answer = connection.response::<ProduceRequest>(9, asked);
        let answer = &answer.responses[0].partition_responses[0];
        chronik_e2e::raw::assert_none(answer.error_code, "fill");
        answer.base_offset
    };
    for _ in 0..count {
        in_flight.push_back(connection.request(9, &request));
        if in_flight.len() > 4 {
            let asked = in_flight.pop_front().unwrap();
            last = take(&mut connection, asked);
        }
    }
    for asked in in_flight {
        last = take(&mut connection, asked);
    }
    last + 1
}

fn expect_crash(broker: &mut Broker) {
    for words in ["torn", "truncat", "recover", "unclean"] {
        broker.expect_log(words);
    }
}

#[test]
fn start_after_kill_reads_little_of_much_data() {
    let mut broker = Broker::fresh();
    expect_crash(&mut broker);
    let topic_settings = [("chronik.durability", "page-cache"), ("segment.bytes", "268435456")];
    clients::create_topic(broker.bootstrap(), "much", 4, &topic_settings);
    let started = Instant::now();
    let ends: Vec<i64> =
        (0..4).map(|partition| fill(broker.bootstrap(), "much", partition, gibibytes() * GIB / 4)).collect();
    eprintln!("wrote {} GiB in {:?}", gibibytes(), started.elapsed());
    // A checkpoint that began after the last of it covers all of it.
    let checkpoint = broker.data().join("checkpoint-page-cache");
    let text = || std::fs::read(&checkpoint).unwrap_or_default();
    for _ in 0..2 {
        let before = text();
        fill(broker.bootstrap(), "much", 0, MIB);
        wait::until_true("a checkpoint", Duration::from_secs(90), || text() != before);
    }
    let after = 64 * MIB;
    let ends: Vec<i64> = (0..4)
        .zip(ends)
        .map(|(partition, end)| fill(broker.bootstrap(), "much", partition, after / 4).max(end))
        .collect();
    broker.kill();
    let Ready { took_ms, partitions, .. } = broker.start();
    let scanned = broker.metric("chronik_log_recovery_scanned_bytes").expect("recovery counts what it reads");
    eprintln!("ready {took_ms} ms after kill -9 with {} GiB; {:.0} MiB scanned", gibibytes(), scanned / 1e6);
    assert_eq!(partitions, 4);
    assert!(scanned < 2.0 * after as f64, "{scanned} bytes scanned, {after} were written since the checkpoint");
    for (partition, end) in (0..).zip(ends) {
        assert_eq!(clients::watermarks(broker.bootstrap(), "much", partition), (0, end));
    }
}

#[test]
fn thousands_of_partitions_open_after_a_clean_stop_and_after_a_kill() {
    process::raise_descriptor_limit(20_000);
    let mut broker = Broker::fresh();
    expect_crash(&mut broker);
    let started = Instant::now();
    for number in 0..50 {
        clients::create_topic(broker.bootstrap(), &format!("many-{number}"), 100, &[]);
    }
    eprintln!("created 5,000 partitions in {:?}", started.elapsed());
    let mut connection = Connection::open(broker.bootstrap());
    for partition in 0..100 {
        connection.ask(9, &produce_by_name("many-7", partition, -1, &[b"kept"]));
    }
    assert!(broker.stop().success());
    for how in ["a clean stop", "a kill"] {
        let Ready { took_ms, topics, partitions, .. } = broker.start();
        eprintln!(
            "ready {took_ms} ms after {how} with 5,000 partitions; {} MiB",
            process::resident_bytes(broker.pid()) >> 20
        );
        assert_eq!((topics, partitions), (50, 5_000));
        for partition in [0, 50, 99] {
            assert_eq!(clients::watermarks(broker.bootstrap(), "many-7", partition), (0, 1));
        }
        broker.kill();
    }
}
