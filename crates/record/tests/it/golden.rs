//! Batches written by Apache Kafka's own code (`golden/Golden.java`), read and rebuilt by ours.

use chronik_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use chronik_record::control::{ControlType, EndTxnMarker, control_type};
use chronik_record::{
    BatchBuilder, BatchHeader, Caps, Compression, Field, InvalidKind, ProducePolicy, RecordPosition, TimestampType,
    crc_is_valid, first_at_or_after, max_timestamp, records, validate_produced,
};
use std::fmt::Write as _;

use expect_test::{Expect, expect};

const BASE: i64 = 1_700_000_000_000;
const GOLDEN: &str = include_str!("../../testdata/golden.txt");

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap()).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn golden(name: &str) -> Vec<u8> {
    let line = GOLDEN.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    unhex(line.unwrap_or_else(|| panic!("no golden batch {name}")))
}

fn text(field: Field<'_>) -> String {
    match field {
        Field::Null => "null".to_owned(),
        Field::Bytes(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Field::Skipped { bytes } => format!("{bytes} bytes skipped"),
    }
}

fn transcript(batch: &[u8], caps: &Caps) -> String {
    let mut out = String::new();
    let mut records = records(batch, caps).unwrap();
    while let Some(record) = records.next_record().unwrap() {
        let time = record.timestamp.millis() - BASE;
        write!(out, "{} @{time} {} = {}", record.offset, text(record.key), text(record.value)).unwrap();
        for header in record.headers {
            let value = header.value.map_or(Field::Null, Field::Bytes);
            write!(out, " [{}: {}]", String::from_utf8_lossy(header.key), text(value)).unwrap();
        }
        out.push('\n');
    }
    out
}

fn check(name: &str, expected: &Expect) {
    let batch = golden(name);
    assert!(crc_is_valid(&batch), "{name}");
    expected.assert_eq(&transcript(&batch, &Caps::default()));
}

#[test]
fn small_batches_of_every_codec_hold_what_the_producer_appended() {
    for codec in Compression::ALL {
        let name = format!("small-{codec}");
        check(
            &name,
            &expect![[r#"
                0 @0 "key" = "value"
                1 @70000 null = "no key"
                2 @-5 "tombstone" = null
                3 @1 null = null [h: "v"] [null: null] [h: ""]
                4 @2 "" = ""
            "#]],
        );
        let header = BatchHeader::read(&golden(&name)).unwrap();
        assert_eq!(header.attributes.compression(), Some(codec));
        let batch = validate_produced(golden(&name).into(), &ProducePolicy::default(), Timestamp::from_millis(BASE));
        assert_eq!(batch.unwrap().bytes(), &golden(&name), "a valid batch keeps its bytes");
    }
}

#[test]
fn large_batches_of_every_codec_hold_what_the_producer_appended() {
    for codec in Compression::ALL.into_iter().filter(|codec| *codec != Compression::None) {
        let batch = golden(&format!("large-{codec}"));
        assert!(crc_is_valid(&batch));
        let mut records = records(&batch, &Caps::default()).unwrap();
        for index in 0..1500i64 {
            let record = records.next_record().unwrap().unwrap();
            assert_eq!(record.offset, Offset::new(index));
            assert_eq!(record.timestamp, Timestamp::from_millis(BASE + index));
            assert_eq!(record.key.bytes(), Some(format!("key-{}", index % 7).as_bytes()));
            let value = format!("value number {index}{}", " of a batch of many ".repeat(3));
            assert_eq!(record.value.bytes(), Some(value.as_bytes()));
        }
        assert!(records.next_record().unwrap().is_none());
    }
}

#[test]
fn log_append_time_gives_every_record_the_time_of_the_batch() {
    check(
        "log-append-time",
        &expect![[r#"
            0 @999 "key" = "value"
            1 @999 null = "no key"
            2 @999 "tombstone" = null
            3 @999 null = null [h: "v"] [null: null] [h: ""]
            4 @999 "" = ""
        "#]],
    );
    let refused =
        validate_produced(golden("log-append-time").into(), &ProducePolicy::default(), Timestamp::from_millis(BASE));
    assert_eq!(refused.unwrap_err().kind(), InvalidKind::InvalidTimestamp);
}

#[test]
fn builder_writes_the_bytes_kafka_writes() {
    let built = |builder: BatchBuilder| {
        let mut builder = builder;
        let at = |delta| Timestamp::from_millis(BASE + delta);
        builder.append(at(0), Some(b"key"), Some(b"value"), &[]);
        builder.append(at(70_000), None, Some(b"no key"), &[]);
        builder.append(at(-5), Some(b"tombstone"), None, &[]);
        builder.append(at(1), None, None, &[("h", Some(b"v")), ("null", None), ("h", Some(b""))]);
        builder.append(at(2), Some(b""), Some(b""), &[]);
        builder.build().unwrap().bytes().clone()
    };
    let plain = || BatchBuilder::new(Compression::None, TimestampType::Create, Timestamp::from_millis(BASE));
    let idempotent = || plain().producer(ProducerId::new(4000), ProducerEpoch::new(3), Sequence::new(41));
    assert_eq!(built(plain()), golden("small-none"));
    assert_eq!(built(idempotent()), golden("idempotent"));
    assert_eq!(built(idempotent().transactional()), golden("transactional"));
}

#[test]
fn markers_are_the_ones_kafka_writes() {
    for (name, committed) in [("marker-commit", true), ("marker-abort", false)] {
        let batch = golden(name);
        let marker = EndTxnMarker { committed, coordinator_epoch: 12 };
        let mut walk = records(&batch, &Caps::default()).unwrap();
        assert_eq!(EndTxnMarker::read(&walk.next_record().unwrap().unwrap()), Some(marker));
        let expected = if committed { ControlType::Commit } else { ControlType::Abort };
        assert_eq!(control_type(&batch), Some(expected));
        let ours = marker.to_batch(ProducerId::new(4000), ProducerEpoch::new(3), Timestamp::from_millis(BASE)).unwrap();
        assert_eq!(ours.bytes(), &batch);
        let refused = validate_produced(batch.into(), &ProducePolicy::default(), Timestamp::from_millis(BASE));
        assert_eq!(refused.unwrap_err().kind(), InvalidKind::InvalidRecord);
    }
}

#[test]
fn header_fields_are_the_producers() {
    let header = BatchHeader::read(&golden("transactional")).unwrap();
    assert_eq!(header.base_offset, Offset::ZERO);
    assert_eq!(header.partition_leader_epoch, LeaderEpoch::NONE);
    assert_eq!(header.size_bytes(), golden("transactional").len());
    assert_eq!((header.last_offset_delta, header.records_count), (4, 5));
    assert_eq!(header.base_timestamp, Timestamp::from_millis(BASE));
    assert_eq!(header.max_timestamp, Timestamp::from_millis(BASE + 70_000));
    assert_eq!(header.producer_id, ProducerId::new(4000));
    assert_eq!(header.producer_epoch, ProducerEpoch::new(3));
    assert_eq!(header.base_sequence, Sequence::new(41));
    assert_eq!(header.last_sequence(), Sequence::new(45));
    assert!(header.attributes.is_transactional() && !header.attributes.is_control());
}

#[test]
fn times_are_looked_up_within_the_batch() {
    let position = |offset, delta| {
        Some(RecordPosition { offset: Offset::new(offset), timestamp: Timestamp::from_millis(BASE + delta) })
    };
    let caps = Caps::default();
    for codec in Compression::ALL {
        let batch = golden(&format!("small-{codec}"));
        let first = |delta, from| {
            first_at_or_after(&batch, Timestamp::from_millis(BASE + delta), Offset::new(from), &caps).unwrap()
        };
        assert_eq!(first(-100, 0), position(0, 0));
        assert_eq!(first(1, 0), position(1, 70_000));
        assert_eq!(first(1, 2), position(3, 1));
        assert_eq!(first(70_001, 0), None);
        assert_eq!(first(0, 5), None);
        assert_eq!(max_timestamp(&batch, &caps).unwrap(), position(1, 70_000));
    }
    let batch = golden("log-append-time");
    assert_eq!(max_timestamp(&batch, &caps).unwrap(), position(0, 999));
    let first = first_at_or_after(&batch, Timestamp::from_millis(BASE + 500), Offset::ZERO, &caps);
    assert_eq!(first.unwrap(), position(0, 999));
}
