//! Transactions and the snapshot; the sequence rules are shown through the log.

use chronik_record::{BatchBuilder, Compression, TimestampType};

use super::*;

fn header(producer: i64, epoch: i16, sequence: i32, base: i64, kind: &str) -> BatchHeader {
    let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, Timestamp::from_millis(5)).producer(
        ProducerId::new(producer),
        ProducerEpoch::new(epoch),
        Sequence::new(sequence),
    );
    builder = match kind {
        "transactional" => builder.transactional(),
        "marker" => builder.transactional().control(),
        _ => builder,
    };
    builder.append(Timestamp::from_millis(5), None, Some(b"v"), &[]);
    let mut header = *builder.build().unwrap().header();
    header.base_offset = Offset::new(base);
    header
}

fn sample() -> Producers {
    let mut producers = Producers::default();
    for number in 0..7 {
        producers.note(&header(1, 0, number, i64::from(number), "plain"));
    }
    producers.note(&header(2, 3, 0, 10, "transactional"));
    producers.note(&header(3, 1, 0, 11, "transactional"));
    producers.note(&header(3, 1, -1, 12, "marker"));
    producers
}

#[test]
fn the_first_unstable_offset_is_held_by_an_open_or_unreplicated_transaction() {
    let mut producers = sample();
    assert_eq!(producers.first_unstable(Offset::new(20)), Some(Offset::new(10)));
    producers.note(&header(2, 3, -1, 15, "marker"));
    assert_eq!(producers.first_unstable(Offset::new(13)), Some(Offset::new(10)));
    assert_eq!(producers.first_unstable(Offset::new(15)), Some(Offset::new(10)));
    assert_eq!(producers.first_unstable(Offset::new(16)), None);
}

#[test]
fn an_open_transaction_takes_only_its_own_batches_and_keeps_its_producer() {
    let mut producers = sample();
    assert_eq!(producers.check(&header(2, 3, 1, 0, "plain")), Err(Refused::InvalidTxnState));
    assert_eq!(producers.check(&header(2, 3, 1, 0, "transactional")), Ok(None));
    producers.expire(Timestamp::from_millis(i64::MAX), Duration::from_secs(1));
    let left: Vec<_> = producers.entries().iter().map(|entry| entry.producer_id.get()).collect();
    assert_eq!(left, [2]);
}

#[test]
fn after_a_marker_with_a_later_epoch_sequences_begin_at_zero() {
    let mut producers = sample();
    producers.note(&header(2, 4, -1, 15, "marker"));
    let refused = producers.check(&header(2, 4, 1, 0, "transactional"));
    assert_eq!(refused, Err(Refused::OutOfOrderSequence { expected: Sequence::new(0), found: Sequence::new(1) }));
    assert_eq!(producers.check(&header(2, 4, 0, 0, "transactional")), Ok(None));
    assert!(matches!(producers.check(&header(2, 3, 1, 0, "plain")), Err(Refused::InvalidProducerEpoch { .. })));
}

#[test]
fn a_snapshot_round_trips_and_any_flipped_bit_or_other_offset_is_noticed() {
    let producers = sample();
    let bytes = producers.encode(Offset::new(13));
    assert_eq!(Producers::decode(&bytes, Offset::new(13)), Some(producers));
    assert_eq!(Producers::decode(&bytes, Offset::new(14)), None);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Producers::decode(&flipped, Offset::new(13)), None, "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert_eq!(Producers::decode(&bytes[..len], Offset::new(13)), None);
    }
}
