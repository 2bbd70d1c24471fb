//! One connection: answers in the order of requests, silence where none is due, waiting fetches woken by appends.

use std::time::{Duration, Instant};

use chronik_e2e::broker::Broker;
use chronik_e2e::raw::{self, Connection, assert_none};
use chronik_e2e::{batch, clients};
use chronik_wire::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest, ProduceRequest};

use crate::walk::{fetch_by_name, produce_by_name};

const FETCH: i16 = 12;
const PRODUCE: i16 = 9;

/// A wait that no test reaches: a fetch that lasts so long was not woken.
const LONG: i32 = 25_000;

#[test]
fn answers_leave_in_the_order_of_requests_also_behind_a_waiting_fetch() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "order", 1, &[]);
    let mut connection = Connection::open(broker.bootstrap());
    let waits = FetchRequest { max_wait_ms: 300, min_bytes: 1_000_000, ..fetch_by_name("order", 0, 0) };
    for _ in 0..20 {
        let versions = connection.request(3, &raw::hello());
        let fetch = connection.request(FETCH, &waits);
        let metadata = connection.request(9, &MetadataRequest::default());
        let produce = connection.request(PRODUCE, &produce_by_name("order", 0, 1, &[b"x"]));
        let last = connection.request(0, &raw::hello());
        connection.response::<ApiVersionsRequest>(3, versions);
        let fetched = connection.response::<FetchRequest>(FETCH, fetch);
        assert_none(fetched.error_code, "fetch");
        connection.response::<MetadataRequest>(9, metadata);
        let produced = connection.response::<ProduceRequest>(PRODUCE, produce);
        assert_none(produced.responses[0].partition_responses[0].error_code, "produce");
        connection.response::<ApiVersionsRequest>(0, last);
    }
}

#[test]
fn produce_without_acks_gets_no_answer_and_is_there() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "silent", 1, &[]);
    let mut connection = Connection::open(broker.bootstrap());
    for number in 0..50_i64 {
        connection.request(PRODUCE, &produce_by_name("silent", 0, 0, &[b"x"]));
        // The next answer on this connection is the next request's.
        connection.ask(3, &raw::hello());
        let fetched = connection
            .ask(FETCH, &FetchRequest { max_wait_ms: LONG, min_bytes: 1, ..fetch_by_name("silent", 0, number) });
        assert!(fetched.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
    }
}

#[test]
fn waiting_fetch_is_woken_by_the_append() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "woken", 3, &[]);
    let mut waiting = Connection::open(broker.bootstrap());
    let mut producing = Connection::open(broker.bootstrap());
    let mut slowest = Duration::ZERO;
    for number in 0..200_i64 {
        let fetch = FetchRequest { max_wait_ms: LONG, min_bytes: 1, ..fetch_by_name("woken", 2, number) };
        let asked = waiting.request(FETCH, &fetch);
        let started = Instant::now();
        let acks = [1, -1][usize::from(number % 2 == 0)];
        producing.ask(PRODUCE, &produce_by_name("woken", 2, acks, &[b"wake"]));
        let fetched = waiting.response::<FetchRequest>(FETCH, asked);
        slowest = slowest.max(started.elapsed());
        let records = fetched.responses[0].partitions[0].records.clone().unwrap();
        assert!(records.len() > 61, "{records:?}");
        assert_eq!(records[..8], number.to_be_bytes(), "the batch carries its offset");
    }
    eprintln!("slowest of 200 wake-ups: {slowest:?}");
    assert!(slowest < Duration::from_millis(u64::from(LONG.unsigned_abs()) / 2), "{slowest:?}: not woken");
}

#[test]
fn fetch_waits_for_min_bytes_and_no_longer_than_told() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "minimum", 1, &[]);
    let mut waiting = Connection::open(broker.bootstrap());
    let mut producing = Connection::open(broker.bootstrap());
    let value = vec![7; 1000];
    let fetch = FetchRequest { max_wait_ms: LONG, min_bytes: 5_000, ..fetch_by_name("minimum", 0, 0) };
    let asked = waiting.request(FETCH, &fetch);
    for _ in 0..5 {
        producing.ask(PRODUCE, &produce_by_name("minimum", 0, 1, &[&value]));
    }
    let fetched = waiting.response::<FetchRequest>(FETCH, asked);
    assert!(fetched.responses[0].partitions[0].records.as_ref().unwrap().len() >= 5_000);
    let started = Instant::now();
    let fetch = FetchRequest { max_wait_ms: 200, min_bytes: 5_000, ..fetch_by_name("minimum", 0, 5) };
    let fetched = waiting.ask(FETCH, &fetch);
    assert!(fetched.responses[0].partitions[0].records.as_ref().is_none_or(bytes::Bytes::is_empty));
    let took = started.elapsed();
    assert!((Duration::from_millis(190)..Duration::from_secs(10)).contains(&took), "{took:?}");
}

#[test]
fn fetch_honours_its_limits_but_gives_the_first_batch_whole() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "limits", 1, &[]);
    let mut connection = Connection::open(broker.bootstrap());
    let value = vec![7; 10_000];
    let size = batch::of(&[&value]).len();
    for _ in 0..10 {
        // Committed when it is answered, so that all of it can be fetched at once.
        connection.ask(PRODUCE, &produce_by_name("limits", 0, -1, &[&value]));
    }
    let mut got = |max_bytes: i32, partition_max_bytes: i32| {
        let mut fetch = fetch_by_name("limits", 0, 0);
        fetch.max_bytes = max_bytes;
        fetch.topics[0].partitions[0].partition_max_bytes = partition_max_bytes;
        let fetched = connection.ask(FETCH, &fetch);
        fetched.responses[0].partitions[0].records.as_ref().map_or(0, bytes::Bytes::len)
    };
    assert_eq!(got(1, 1), size, "the first batch, whole");
    assert_eq!(got(i32::MAX, i32::MAX), 10 * size);
    for (max_bytes, partition_max_bytes) in [(35_000, i32::MAX), (i32::MAX, 35_000)] {
        let bytes = got(max_bytes, partition_max_bytes);
        assert!((3 * size..=35_000).contains(&bytes), "{bytes} bytes for limits {max_bytes}, {partition_max_bytes}");
    }
}
