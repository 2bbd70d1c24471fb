//! Logs as a broker would return them, and what may be wrong with them.

use std::sync::LazyLock;

use bytes::Bytes;
use chronik_model::{LeaderEpoch, PartitionIndex, Timestamp};
use chronik_record::{BatchBuilder, Compression, PREFIX_BYTES, TimestampType, prefix};

use super::super::ledger::Ledger;
use super::super::pace::Span;
use super::*;

const RECORD_BYTES: usize = 40;

/// What a batch of the log holds: records of the run by number, or one of somebody else.
#[derive(Clone)]
enum Holds {
    Ours(Vec<u64>),
    Other,
}

fn ours(numbers: &[u64]) -> Holds {
    Holds::Ours(numbers.to_vec())
}

fn content() -> &'static Content {
    static CONTENT: LazyLock<Content> = LazyLock::new(|| Content::new(1, RECORD_BYTES));
    &CONTENT
}

fn batch(base_offset: i64, holds: &Holds, compression: Compression) -> Vec<u8> {
    let now = Timestamp::from_millis(1);
    let mut builder = BatchBuilder::new(compression, TimestampType::Create, now);
    match holds {
        Holds::Ours(numbers) => {
            let (content, mut value) = (content(), Vec::new());
            for &number in numbers {
                content.write(number, &mut value);
                builder.append(now, None, Some(&value), &[]);
            }
        }
        Holds::Other => builder.append(now, Some(b"key"), None, &[]),
    }
    let built = builder.build().unwrap();
    let mut bytes = built.bytes().to_vec();
    let head = prefix(Offset::new(base_offset), built.header().batch_length, LeaderEpoch::ZERO);
    bytes[..PREFIX_BYTES].copy_from_slice(&head);
    bytes
}

/// Batches one behind the other, from `base_offset` on.
fn log(base_offset: i64, batches: &[Holds]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut offset = base_offset;
    for holds in batches {
        bytes.extend(batch(offset, holds, Compression::None));
        offset += if let Holds::Ours(numbers) = holds { i64::try_from(numbers.len()).unwrap() } else { 1 };
    }
    bytes
}

/// Records 0, 1, 2 were acknowledged from offset 10 on, 3 and 4 from offset 14 on.
fn acknowledged() -> Vec<Range> {
    let partition = PartitionIndex::new(0);
    let mut ledger = Ledger::default();
    ledger.acknowledge(partition, Offset::new(14), Span { first: 3, step: 1, count: 2 });
    ledger.acknowledge(partition, Offset::new(10), Span { first: 0, step: 1, count: 3 });
    ledger.into_sorted().remove(&partition).unwrap()
}

/// How many records are found right in this log, read from offset 10 on.
fn compared(log: &[u8]) -> Result<u64, Fault> {
    let content = content();
    let mut walk = Walk::from(Offset::new(10));
    let mut comparison = Comparison::new(content, acknowledged())?;
    walk.take(log, |header, batch| {
        values(header, batch, RECORD_BYTES, |offset, value| comparison.take(offset, value))
    })?;
    comparison.finish()
}

#[test]
fn what_was_acknowledged_is_found_between_records_of_others() {
    let whole = log(10, &[ours(&[0, 1, 2]), Holds::Other, ours(&[3, 4]), Holds::Other]);
    assert_eq!(compared(&whole), Ok(5));
}

#[test]
fn each_flipped_byte_is_found() {
    let whole = log(10, &[ours(&[0, 1, 2]), Holds::Other, ours(&[3, 4])]);
    // The leader epoch is the broker's own, outside the checksum; nothing is promised of it.
    let first = BatchHeader::read(&whole).unwrap().size_bytes();
    for position in (0..first).filter(|position| !(12..16).contains(position)) {
        let mut damaged = whole.clone();
        damaged[position] ^= 1;
        assert!(compared(&damaged).is_err(), "byte {position}");
    }
    let mut damaged = whole;
    damaged[70] ^= 1;
    assert_eq!(compared(&damaged), Err(Fault::Crc { offset: Offset::new(10) }));
}

#[test]
fn a_byte_changed_before_the_checksum_was_made_is_found() {
    let value = |number| {
        let mut value = Vec::new();
        content().write(number, &mut value);
        value
    };
    let content = content();
    let mut comparison = Comparison::new(content, acknowledged()).unwrap();
    let mut changed = value(0);
    changed[20] = b'a';
    let fault = comparison.take(Offset::new(10), &changed).unwrap_err();
    assert_eq!(fault, Fault::Content { offset: Offset::new(10), number: 0, position: 20 });
}

#[test]
fn a_missing_record_is_found() {
    let missing = |offset, number| Err(Fault::Missing { offset: Offset::new(offset), number });
    let at = |expected, found| Err(Fault::Record { offset: Offset::new(12), expected, found });
    assert_eq!(compared(&log(10, &[ours(&[0, 1])])), missing(12, 2));
    assert_eq!(compared(&log(10, &[ours(&[0, 1, 2]), Holds::Other, ours(&[3])])), missing(15, 4));
    assert_eq!(compared(&log(10, &[ours(&[0, 1]), Holds::Other])), at(2, None));
    assert_eq!(compared(&log(10, &[ours(&[0, 1]), ours(&[3])])), at(2, Some(3)));
    assert_eq!(compared(&[]), missing(10, 0));
    // A log that begins later than the first acknowledged record.
    let gap = Err(Fault::Gap { expected: Offset::new(10), found: Offset::new(13) });
    assert_eq!(compared(&log(13, &[Holds::Other, ours(&[3, 4])])), gap);
}

#[test]
fn a_hole_inside_a_batch_is_found() {
    let content = content();
    let mut comparison = Comparison::new(content, acknowledged()).unwrap();
    let mut value = Vec::new();
    content.write(1, &mut value);
    let fault = comparison.take(Offset::new(11), &value).unwrap_err();
    assert_eq!(fault, Fault::Missing { offset: Offset::new(10), number: 0 });
}

#[test]
fn a_duplicate_is_found() {
    let duplicate = |offset, number| Err(Fault::Duplicate { offset: Offset::new(offset), number });
    assert_eq!(compared(&log(10, &[ours(&[0, 1, 2]), ours(&[2])])), duplicate(13, 2));
    let behind = log(10, &[ours(&[0, 1, 2]), Holds::Other, ours(&[3, 4]), ours(&[3, 4])]);
    assert_eq!(compared(&behind), duplicate(16, 3));
    let shifted = Err(Fault::Record { offset: Offset::new(11), expected: 1, found: Some(0) });
    assert_eq!(compared(&log(10, &[ours(&[0, 0, 1, 2])])), shifted);
}

#[test]
fn one_offset_for_two_batches_is_found() {
    let mut ranges = acknowledged();
    ranges[1].base_offset = Offset::new(12);
    let fault = Comparison::new(content(), ranges).unwrap_err();
    assert_eq!(fault, Fault::AcknowledgedTwice { offset: Offset::new(12) });
}

#[test]
fn batches_must_follow_each_other_but_the_first_may_begin_earlier() {
    let walk = |bytes: &[u8]| {
        let mut walk = Walk::from(Offset::new(5));
        let mut seen = Vec::new();
        walk.take(bytes, |header, _| {
            seen.push(header.base_offset.get());
            Ok(())
        })?;
        Ok((seen, walk.next().get()))
    };
    let three = |base_offset| batch(base_offset, &ours(&[0, 1, 2]), Compression::Zstd);
    assert_eq!(walk(&[three(3), three(6)].concat()), Ok((vec![3, 6], 9)));
    let gap = |expected, found| Err(Fault::Gap { expected: Offset::new(expected), found: Offset::new(found) });
    assert_eq!(walk(&three(6)), gap(5, 6));
    assert_eq!(walk(&three(2)), gap(5, 2));
    assert_eq!(walk(&[three(3), three(7)].concat()), gap(6, 7));
    assert_eq!(walk(&[three(3), three(3)].concat()), gap(6, 3));
}

#[test]
fn a_batch_cut_short_is_left_for_the_next_fetch() {
    let (first, second) = (batch(0, &ours(&[0]), Compression::None), batch(1, &ours(&[1, 2]), Compression::None));
    for kept in [0, 1, 11, 60, second.len() - 1] {
        let cut = [&first[..], &second[..kept]].concat();
        let mut walk = Walk::from(Offset::ZERO);
        walk.take(&cut, |_, _| Ok(())).unwrap();
        assert_eq!(walk.next(), Offset::new(1), "{kept}");
        assert_eq!(offset_behind(&cut, Offset::ZERO), Offset::new(1), "{kept}");
    }
    let both = Bytes::from([first, second].concat());
    assert_eq!(offset_behind(&both, Offset::ZERO), Offset::new(3));
    assert_eq!(offset_behind(&[], Offset::new(9)), Offset::new(9));
}

#[test]
fn records_are_read_in_every_codec() {
    for compression in Compression::ALL {
        let bytes = batch(7, &ours(&[4, 5]), compression);
        let header = BatchHeader::read(&bytes).unwrap();
        let content = content();
        let mut seen = Vec::new();
        values(&header, &bytes, RECORD_BYTES, |offset, value| {
            seen.push((offset.get(), content.number(value)));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(7, Some(4)), (8, Some(5))], "{compression}");
    }
}
