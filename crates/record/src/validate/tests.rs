//! What a produced batch may be, and which error anything else gets.

use std::time::Duration;

use bytes::Bytes;
use chronik_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::{CompressionPolicy, InvalidBatch, InvalidKind, ProducePolicy, ProducedBatch, validate_produced};
use crate::builder::seal;
use crate::{BatchBuilder, BatchHeader, Caps, Compression, HEADER_BYTES, TimestampType, crc_is_valid, prefix, records};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn batch_in(codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(codec, TimestampType::Create, NOW);
    for n in 0..3u8 {
        builder.append(NOW, Some(&[n]), Some(&[n; 40]), &[("h", Some(b"x"))]);
    }
    builder.build().unwrap().bytes().clone()
}

fn batch() -> Bytes {
    batch_in(Compression::None)
}

fn tampered(change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let batch = batch();
    let mut header = BatchHeader::read(&batch).unwrap();
    change(&mut header);
    seal(&mut header, batch.to_vec()).unwrap()
}

fn with(bytes: impl Into<Bytes>, policy: &ProducePolicy) -> Result<ProducedBatch, InvalidBatch> {
    validate_produced(bytes.into(), policy, NOW)
}

fn kind(bytes: impl Into<Bytes>) -> Option<InvalidKind> {
    with(bytes, &ProducePolicy::default()).err().map(|error| error.kind())
}

fn values(batch: &[u8]) -> Vec<(Timestamp, Vec<u8>)> {
    let mut walk = records(batch, &Caps::default()).unwrap();
    let mut values = Vec::new();
    while let Some(record) = walk.next_record().unwrap() {
        values.push((record.timestamp, record.value.bytes().unwrap().to_vec()));
    }
    values
}

#[test]
fn valid_batch_keeps_its_bytes_in_place() {
    for codec in Compression::ALL {
        let bytes = batch_in(codec);
        let valid = with(bytes.clone(), &ProducePolicy::default()).unwrap();
        assert_eq!(valid.bytes().as_ptr(), bytes.as_ptr());
        assert_eq!(valid.header().records_count, 3);
    }
}

#[test]
fn every_flipped_bit_but_those_of_the_leader_epoch_is_refused() {
    for codec in Compression::ALL {
        let valid = batch_in(codec);
        for bit in 0..valid.len() * 8 {
            let mut flipped = valid.to_vec();
            *flipped.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
            let in_leader_epoch = (12..16).contains(&(bit / 8));
            assert_eq!(kind(flipped).is_none(), in_leader_epoch, "{codec} bit {bit}");
        }
    }
}

#[test]
fn a_count_that_the_payload_cannot_hold_takes_no_offsets() {
    let counted = |codec: Compression, count: i32| {
        let batch = batch_in(codec);
        let mut header = BatchHeader::read(&batch).unwrap();
        (header.records_count, header.last_offset_delta) = (count, count - 1);
        seal(&mut header, batch.to_vec()).unwrap()
    };
    for codec in Compression::ALL {
        assert_eq!(kind(counted(codec, i32::MAX)), Some(InvalidKind::InvalidRecord), "{codec}");
    }
    for count in [1, 2, 4] {
        assert_eq!(kind(counted(Compression::None, count)), Some(InvalidKind::InvalidRecord), "{count} of 3 records");
    }
}

#[test]
fn records_that_lie_open_have_the_offsets_that_are_their_turn() {
    let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, NOW);
    for value in [b"a", b"b"] {
        builder.append(NOW, None, Some(value), &[]);
    }
    let two = builder.build().unwrap().bytes().clone();
    let (head, payload) = two.split_at(HEADER_BYTES);
    let (first, second) = payload.split_at(payload.len() / 2);
    let of = |records: &[&[u8]]| {
        let bytes = [&[head], records].concat().concat();
        let mut header = BatchHeader::read(&bytes).unwrap();
        header.batch_length = i32::try_from(bytes.len() - 12).unwrap();
        header.records_count = i32::try_from(records.len()).unwrap();
        header.last_offset_delta = header.records_count - 1;
        kind(seal(&mut header, bytes).unwrap())
    };
    assert_eq!(of(&[first, second]), None);
    assert_eq!(of(&[first]), None);
    for wrong in [&[second, first][..], &[first, first], &[second], &[first, &second[1..]]] {
        assert_eq!(of(wrong), Some(InvalidKind::InvalidRecord));
    }
}

#[test]
fn a_million_equal_records_pass_in_every_codec() {
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new(codec, TimestampType::Create, NOW);
        for _ in 0..1_000_000 {
            builder.append(NOW, None, None, &[]);
        }
        let policy = ProducePolicy { max_message_bytes: usize::MAX, ..ProducePolicy::default() };
        assert!(with(builder.build().unwrap().bytes().clone(), &policy).is_ok(), "{codec}");
    }
}

#[test]
fn batch_cut_anywhere_is_no_batch() {
    let valid = batch();
    assert_eq!(kind(Bytes::new()), Some(InvalidKind::InvalidRecord));
    for end in 1..valid.len() {
        let refused = with(valid.slice(..end), &ProducePolicy::default()).unwrap_err();
        assert!(refused.is_no_batch() && refused.kind() == InvalidKind::InvalidRecord, "cut at {end}: {refused}");
    }
}

#[test]
fn leader_may_rewrite_the_prefix_without_touching_the_checksum() {
    let mut bytes = batch().to_vec();
    let length = BatchHeader::read(&bytes).unwrap().batch_length;
    *bytes.first_chunk_mut().unwrap() = prefix(Offset::new(77), length, LeaderEpoch::new(5));
    assert!(crc_is_valid(&bytes));
    assert_eq!(BatchHeader::read(&bytes).unwrap().next_offset(), Offset::new(80));
}

#[test]
fn formats_older_than_record_batches_are_invalid_and_unknown_ones_corrupt() {
    for (magic, expected) in [(0, InvalidKind::InvalidRecord), (1, InvalidKind::InvalidRecord)]
        .into_iter()
        .chain([3, 127, -1].map(|magic| (magic, InvalidKind::Corrupt)))
    {
        assert_eq!(kind(tampered(|header| header.magic = magic)), Some(expected), "magic {magic}");
    }
    // An old message set may be shorter than a v2 header.
    let mut old = vec![0; 34];
    *old.get_mut(16).unwrap() = 1;
    *old.get_mut(11).unwrap() = 22;
    assert_eq!(kind(old), Some(InvalidKind::InvalidRecord));
}

#[test]
fn length_that_disagrees_with_the_bytes_is_corrupt() {
    for length in [i32::MIN, -1, 0, 13, 48] {
        let mut bytes = batch().to_vec();
        *bytes.first_chunk_mut().unwrap() = prefix(Offset::ZERO, length, LeaderEpoch::NONE);
        assert_eq!(kind(bytes), Some(InvalidKind::Corrupt), "length {length}");
    }
    let mut trailing = batch().to_vec();
    trailing.extend([0xff; 30]);
    assert_eq!(kind(trailing), Some(InvalidKind::Corrupt));
}

#[test]
fn the_beginning_of_another_batch_is_passed_over() {
    let whole = batch();
    for more in [1, 11, 12, 17, 60] {
        let bytes = [whole.clone(), whole.slice(..more)].concat();
        assert_eq!(with(bytes, &ProducePolicy::default()).unwrap().bytes(), &whole, "{more} bytes more");
    }
}

#[test]
fn second_batch_is_an_invalid_record() {
    assert_eq!(kind([batch(), batch()].concat()), Some(InvalidKind::InvalidRecord));
}

#[test]
fn base_offset_other_than_zero_is_an_invalid_record() {
    for base_offset in [1, -1, i64::MAX] {
        let bytes = tampered(|header| header.base_offset = Offset::new(base_offset));
        assert_eq!(kind(bytes), Some(InvalidKind::InvalidRecord));
    }
}

#[test]
fn count_and_last_offset_delta_must_agree() {
    for (records_count, last_offset_delta) in [(3, 3), (3, 1), (0, 0), (0, -1), (-1, -2), (i32::MIN, i32::MAX)] {
        let bytes = tampered(|header| {
            header.records_count = records_count;
            header.last_offset_delta = last_offset_delta;
        });
        assert_eq!(kind(bytes), Some(InvalidKind::InvalidRecord), "{records_count} with {last_offset_delta}");
    }
}

#[test]
fn batch_at_the_exact_limit_passes_and_one_byte_over_does_not() {
    let bytes = batch();
    let limit = |max_message_bytes| ProducePolicy { max_message_bytes, ..ProducePolicy::default() };
    assert!(with(bytes.clone(), &limit(bytes.len())).is_ok());
    let refused = with(bytes.clone(), &limit(bytes.len() - 1)).unwrap_err();
    assert_eq!(refused.kind(), InvalidKind::TooLarge);
}

#[test]
fn control_batch_from_a_client_is_an_invalid_record() {
    assert_eq!(
        kind(tampered(|header| header.attributes = header.attributes.with_control())),
        Some(InvalidKind::InvalidRecord)
    );
}

#[test]
fn producer_id_needs_epoch_and_sequence() {
    let of = |id, epoch, sequence| {
        tampered(|header| {
            header.producer_id = ProducerId::new(id);
            header.producer_epoch = ProducerEpoch::new(epoch);
            header.base_sequence = Sequence::new(sequence);
        })
    };
    assert_eq!(kind(of(5, 0, 0)), None);
    assert_eq!(kind(of(-1, -1, -1)), None);
    assert_eq!(kind(of(5, -1, 0)), Some(InvalidKind::InvalidRecord));
    assert_eq!(kind(of(5, 0, -1)), Some(InvalidKind::InvalidRecord));
    assert_eq!(
        kind(tampered(|header| header.attributes = header.attributes.with_transactional())),
        Some(InvalidKind::InvalidRecord)
    );
}

#[test]
fn timestamps_outside_the_limits_are_refused() {
    let at = |millis: i64| {
        let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, Timestamp::from_millis(millis));
        builder.append(Timestamp::from_millis(millis), None, Some(b"v"), &[]);
        builder.build().unwrap().bytes().clone()
    };
    let policy = ProducePolicy {
        timestamp_before_max: Duration::from_millis(500),
        timestamp_after_max: Duration::from_millis(1000),
        ..ProducePolicy::default()
    };
    for (delta, accepted) in [(-501, false), (-500, true), (0, true), (1000, true), (1001, false)] {
        let result = with(at(NOW.millis() + delta), &policy);
        assert_eq!(result.is_ok(), accepted, "{delta} ms");
        if let Err(error) = result {
            assert_eq!(error.kind(), InvalidKind::InvalidTimestamp);
        }
    }
    assert!(with(at(-1), &policy).is_ok(), "a record without timestamp has none to check");
    assert!(with(at(0), &ProducePolicy::default()).is_ok(), "the past is open by default");
    assert!(with(at(i64::MAX), &ProducePolicy::default()).is_err());
    let appended = ProducePolicy { timestamp_type: TimestampType::LogAppend, ..policy };
    assert!(with(at(i64::MAX), &appended).is_ok(), "the broker's time replaces the producer's");
}

#[test]
fn producer_may_not_claim_log_append_time() {
    let bytes = tampered(|header| header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppend));
    assert_eq!(kind(bytes), Some(InvalidKind::InvalidTimestamp));
}

#[test]
fn codecs_are_checked_by_number_and_by_version_of_the_request() {
    for id in 5..8 {
        assert_eq!(kind(tampered(|header| header.attributes.0 = id)), Some(InvalidKind::UnsupportedCompression));
    }
    let version = |produce_version| ProducePolicy { produce_version, ..ProducePolicy::default() };
    assert!(with(batch_in(Compression::Zstd), &version(7)).is_ok());
    let refused = with(batch_in(Compression::Zstd), &version(6)).unwrap_err();
    assert_eq!(refused.kind(), InvalidKind::UnsupportedCompression);
    assert!(with(batch_in(Compression::Lz4), &version(3)).is_ok());
}

#[test]
fn compacted_topic_needs_a_key_in_every_record() {
    let policy = ProducePolicy { keys_required: true, ..ProducePolicy::default() };
    for codec in Compression::ALL {
        assert!(with(batch_in(codec), &policy).is_ok());
        let mut builder = BatchBuilder::new(codec, TimestampType::Create, NOW);
        builder.append(NOW, Some(b""), Some(b"an empty key is a key"), &[]);
        builder.append(NOW, None, Some(b"no key"), &[]);
        let keyless = builder.build().unwrap().bytes().clone();
        assert!(with(keyless.clone(), &ProducePolicy::default()).is_ok());
        let refused = with(keyless, &policy).unwrap_err();
        assert!(matches!(refused, InvalidBatch::KeyMissing { index: 1 }), "{codec}: {refused}");
        assert_eq!(refused.kind(), InvalidKind::InvalidRecord);
    }
}

#[test]
fn log_append_time_replaces_the_batch_time_and_nothing_else() {
    let policy = ProducePolicy { timestamp_type: TimestampType::LogAppend, ..ProducePolicy::default() };
    let later = Timestamp::from_millis(NOW.millis() + 12_345);
    for codec in Compression::ALL {
        let bytes = batch_in(codec);
        let stamped = validate_produced(bytes.clone(), &policy, later).unwrap();
        assert!(crc_is_valid(stamped.bytes()));
        assert_eq!(BatchHeader::read(stamped.bytes()).as_ref(), Ok(stamped.header()));
        assert_eq!(stamped.header().max_timestamp, later);
        assert_eq!(stamped.header().attributes.timestamp_type(), TimestampType::LogAppend);
        assert_eq!(stamped.bytes().get(HEADER_BYTES..), bytes.get(HEADER_BYTES..));
        assert!(values(stamped.bytes()).iter().all(|(timestamp, _)| *timestamp == later));
    }
}

#[test]
fn forced_codec_rewrites_what_comes_in_another() {
    for source in Compression::ALL {
        for target in Compression::ALL {
            for level in [None, Some(1), Some(9)] {
                let policy =
                    ProducePolicy { compression: CompressionPolicy::Forced(target, level), ..ProducePolicy::default() };
                let bytes = batch_in(source);
                let rewritten = with(bytes.clone(), &policy).unwrap();
                assert_eq!(rewritten.header().attributes.compression(), Some(target));
                assert!(crc_is_valid(rewritten.bytes()));
                assert_eq!(values(rewritten.bytes()), values(&bytes));
                assert_eq!(rewritten.bytes().as_ptr() == bytes.as_ptr(), source == target);
            }
        }
    }
}

#[test]
fn forced_codec_and_log_append_time_are_one_rewrite() {
    let policy = ProducePolicy {
        compression: CompressionPolicy::Forced(Compression::Lz4, None),
        timestamp_type: TimestampType::LogAppend,
        ..ProducePolicy::default()
    };
    let later = Timestamp::from_millis(NOW.millis() + 1);
    let rewritten = validate_produced(batch(), &policy, later).unwrap();
    assert_eq!(rewritten.header().max_timestamp, later);
    assert!(values(rewritten.bytes()).iter().all(|(timestamp, _)| *timestamp == later));
}

#[test]
fn batch_that_grows_past_the_limit_when_rewritten_is_too_large() {
    let mut builder = BatchBuilder::new(Compression::Gzip, TimestampType::Create, NOW);
    builder.append(NOW, None, Some(&[0; 5000]), &[]);
    let bytes = builder.build().unwrap().bytes().clone();
    let policy = ProducePolicy {
        compression: CompressionPolicy::Forced(Compression::None, None),
        max_message_bytes: 1000,
        ..ProducePolicy::default()
    };
    assert_eq!(with(bytes, &policy).unwrap_err().kind(), InvalidKind::TooLarge);
}

#[test]
fn broken_compressed_payload_is_found_where_it_has_to_be_read() {
    let valid = batch_in(Compression::Zstd);
    let mut header = BatchHeader::read(&valid).unwrap();
    let mut bytes = valid.to_vec();
    bytes.truncate(HEADER_BYTES);
    bytes.extend([0xaa; 30]);
    let broken = seal(&mut header, bytes).unwrap();
    assert_eq!(kind(broken.clone()), None, "the payload is opaque to the produce path");
    let keys = ProducePolicy { keys_required: true, ..ProducePolicy::default() };
    assert_eq!(with(broken.clone(), &keys).unwrap_err().kind(), InvalidKind::Corrupt);
    let forced = CompressionPolicy::Forced(Compression::Gzip, None);
    let forced = ProducePolicy { compression: forced, ..ProducePolicy::default() };
    assert_eq!(with(broken, &forced).unwrap_err().kind(), InvalidKind::Corrupt);
}
