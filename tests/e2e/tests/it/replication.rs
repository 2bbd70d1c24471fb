//! A leader and its followers. One module per promise.

use std::time::Duration;

use chronik_e2e::raw::{Connection, assert_none};

use crate::walk::produce_by_name;

mod gaps;
mod hostile;
mod kills;
mod partitions;
mod power;
mod promotion;
mod reading;
mod reference;
mod secret;
mod seeing;
mod settings;
mod several;
mod slow;
mod sync;
mod tls;

/// Longest wait for anything.
const BOUND: Duration = Duration::from_secs(60);

/// Appends one batch of these values and gives its base offset.
fn produce(bootstrap: &str, topic: &str, partition: i32, acks: i16, values: &[&[u8]]) -> i64 {
    let mut connection = Connection::open(bootstrap);
    connection.set_read_bound(BOUND);
    let response = connection.ask(9, &produce_by_name(topic, partition, acks, values));
    let answer = &response.responses[0].partition_responses[0];
    assert_none(answer.error_code, &format!("produce to {topic}-{partition} at {bootstrap}"));
    answer.base_offset
}

/// The error code of appending one batch.
fn produce_code(address: &str, topic: &str, partition: i32, acks: i16) -> i16 {
    let mut connection = Connection::open(address);
    connection.set_read_bound(BOUND);
    let response = connection.ask(9, &produce_by_name(topic, partition, acks, &[b"perhaps"]));
    response.responses[0].partition_responses[0].error_code
}

/// A range that a follower logs as replicated.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Replicated {
    topic: String,
    partition: i32,
    offset: i64,
    records: i64,
    bytes: u64,
}

impl Replicated {
    /// Reads a log line; `None` where it says something else.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once("WAL✓ Replicated: ")?;
        let (place, rest) = rest.split_once(" offset ")?;
        let (topic, partition) = place.rsplit_once('-')?;
        let (offset, rest) = rest.split_once(" (")?;
        let (records, rest) = rest.split_once(" records, ")?;
        let (bytes, rest) = rest.split_once(" bytes)")?;
        assert_eq!(rest, "", "{line}");
        Some(Self {
            topic: topic.to_owned(),
            partition: partition.parse().ok()?,
            offset: offset.parse().ok()?,
            records: records.parse().ok()?,
            bytes: bytes.parse().ok()?,
        })
    }

    /// The ranges of a partition, in the order of a log.
    fn of(log: &str, topic: &str, partition: i32) -> Vec<Self> {
        let all = log.lines().filter_map(Self::parse);
        all.filter(|range| range.topic == topic && range.partition == partition).collect()
    }
}

/// First offset, records and bytes of all ranges together. Panics where one does not begin where the one before ends.
fn continuous(ranges: &[Replicated]) -> Option<(i64, i64, u64)> {
    let first = ranges.first()?.offset;
    let (mut next, mut bytes) = (first, 0);
    for range in ranges {
        assert_eq!(range.offset, next, "each range is told once, in order: {ranges:?}");
        next += range.records;
        bytes += range.bytes;
    }
    Some((first, next - first, bytes))
}

/// The sum of all samples of metrics whose name has each of these words, or whose labels have. 0 where there are none.
fn counted(metrics: &str, words: &[&str]) -> f64 {
    let samples = metrics.lines().filter(|line| !line.starts_with('#') && words.iter().all(|word| line.contains(word)));
    samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}
