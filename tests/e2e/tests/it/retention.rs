//! Segments roll, old ones go, deleted records and topics leave no files.

use std::path::Path;
use std::time::Duration;

use chronik_e2e::broker::Broker;
use chronik_e2e::disk::files_below;
use chronik_e2e::raw::{Connection, assert_none};
use chronik_e2e::{clients, wait};
use chronik_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use chronik_wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use crate::walk::produce_by_name;

const BOUND: Duration = Duration::from_secs(60);
const RECORDS: i64 = 40;

fn eager() -> Broker {
    Broker::fresh_with(|setup| {
        setup.set("log.retention.check.interval.ms", "200").set("log.segment.delete.delay.ms", "100")
    })
}

/// 40 records of 100,000 bytes: four segments of a mebibyte.
fn fill(broker: &Broker, topic: &str) {
    let mut connection = Connection::open(broker.bootstrap());
    for _ in 0..RECORDS {
        let produced = connection.ask(9, &produce_by_name(topic, 0, -1, &[&[7; 100_000]]));
        assert_none(produced.responses[0].partition_responses[0].error_code, "fill");
    }
}

fn segments(broker: &Broker, topic: &str) -> Vec<(i64, u64)> {
    let mut found: Vec<(i64, u64)> = files_below(&broker.partition_folder(topic, 0))
        .into_iter()
        .filter_map(|(path, size)| {
            let base = path.to_str()?.strip_prefix("wal_0_")?.strip_suffix(".log")?.parse().ok()?;
            Some((base, size))
        })
        .collect();
    found.sort_unstable();
    found
}

fn delete_records(broker: &Broker, topic: &str, offset: i64) -> DeleteRecordsResponse {
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
    let topics = vec![DeleteRecordsTopic { name: topic.to_owned(), partitions }];
    Connection::open(broker.bootstrap()).ask(2, &DeleteRecordsRequest { topics, timeout_ms: 10_000 })
}

#[test]
fn segments_roll_at_their_size_and_are_named_by_their_base_offset() {
    let broker = eager();
    clients::create_topic(broker.bootstrap(), "rolled", 1, &[("segment.bytes", "1048576"), ("retention.ms", "-1")]);
    fill(&broker, "rolled");
    let segments = segments(&broker, "rolled");
    assert_eq!(segments.iter().map(|(base, _)| *base).collect::<Vec<_>>(), [0, 10, 20, 30], "{segments:?}");
    for (base, size) in segments {
        assert!((1_000_000..=1_048_576).contains(&size), "segment {base} has {size} bytes");
    }
}

#[test]
fn retention_by_size_and_by_time_removes_whole_segments() {
    let broker = eager();
    // The records' own timestamps are from 2023.
    for (topic, setting, left) in
        [("by-size", ("retention.bytes", "2200000"), 2), ("by-time", ("retention.ms", "3600000"), 1)]
    {
        clients::create_topic(broker.bootstrap(), topic, 1, &[("segment.bytes", "1048576"), setting]);
        fill(&broker, topic);
        wait::until_true("old segments gone", BOUND, || segments(&broker, topic).len() <= left);
        let (start, end) = clients::watermarks(broker.bootstrap(), topic, 0);
        let first = segments(&broker, topic).first().map_or(end, |(base, _)| *base);
        assert_eq!((start, end), (first, RECORDS), "{topic}");
        assert_eq!(clients::read_all(broker.bootstrap(), topic, 1).len(), usize::try_from(end - start).unwrap());
    }
}

#[test]
fn deleted_records_are_gone_also_after_a_kill_and_their_segments_too() {
    let mut broker = eager();
    for words in ["torn", "truncat", "recover", "unclean"] {
        broker.expect_log(words);
    }
    clients::create_topic(broker.bootstrap(), "trimmed", 1, &[("segment.bytes", "1048576"), ("retention.ms", "-1")]);
    fill(&broker, "trimmed");
    let answer = delete_records(&broker, "trimmed", 25);
    assert_none(answer.topics[0].partitions[0].error_code, "delete records");
    assert_eq!(answer.topics[0].partitions[0].low_watermark, 25);
    assert_eq!(clients::watermarks(broker.bootstrap(), "trimmed", 0), (25, RECORDS));
    broker.kill();
    broker.start();
    assert_eq!(clients::watermarks(broker.bootstrap(), "trimmed", 0), (25, RECORDS));
    wait::until_true("segments below it gone", BOUND, || {
        segments(&broker, "trimmed").first().is_some_and(|(base, _)| *base == 20)
    });
    let all = delete_records(&broker, "trimmed", -1);
    assert_eq!(all.topics[0].partitions[0].low_watermark, RECORDS);
    assert_eq!(clients::watermarks(broker.bootstrap(), "trimmed", 0), (RECORDS, RECORDS));
    let beyond = delete_records(&broker, "trimmed", RECORDS + 1);
    assert_eq!(beyond.topics[0].partitions[0].error_code, 1, "OFFSET_OUT_OF_RANGE");
}

fn traces(data: &Path, topic: &str) -> Vec<String> {
    let below = files_below(&data.join("wal"));
    below.iter().map(|(path, _)| path.display().to_string()).filter(|path| path.starts_with(topic)).collect()
}

#[test]
fn deleted_topic_leaves_no_files_and_comes_back_empty() {
    let mut broker = eager();
    for words in ["torn", "truncat", "recover", "unclean"] {
        broker.expect_log(words);
    }
    for how in ["running", "killed"] {
        clients::create_topic(broker.bootstrap(), "gone", 1, &[("segment.bytes", "1048576")]);
        fill(&broker, "gone");
        clients::delete_topic(broker.bootstrap(), "gone");
        if how == "killed" {
            broker.kill();
            broker.start();
        }
        wait::until_true("files gone", BOUND, || traces(broker.data(), "gone").is_empty());
        clients::create_topic(broker.bootstrap(), "gone", 1, &[]);
        assert_eq!(clients::watermarks(broker.bootstrap(), "gone", 0), (0, 0), "{how}");
        clients::delete_topic(broker.bootstrap(), "gone");
        wait::until_true("files gone", BOUND, || traces(broker.data(), "gone").is_empty());
    }
}

#[test]
fn compacted_topic_keeps_every_record() {
    let broker = eager();
    clients::create_topic(
        broker.bootstrap(),
        "compacted",
        1,
        &[("cleanup.policy", "compact"), ("segment.bytes", "1048576")],
    );
    let producer: rdkafka::producer::BaseProducer = clients::config(broker.bootstrap()).create().unwrap();
    for number in 0..1_000 {
        let value = format!("value {number}");
        let record = rdkafka::producer::BaseRecord::<str, str>::to("compacted").key("same").payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    rdkafka::producer::Producer::flush(&producer, BOUND).unwrap();
    assert_eq!(clients::read_all(broker.bootstrap(), "compacted", 1).len(), 1_000);
}
