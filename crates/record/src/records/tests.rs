//! Walking records: what was built comes back, and what cannot be right is an error.

use bytes::Bytes;
use chronik_model::{Offset, Timestamp};
use proptest::prelude::*;

use super::{RecordsError, records};
use crate::builder::seal;
use crate::{BatchBuilder, BatchHeader, Caps, Compression, Field, HEADER_BYTES, ProducePolicy, TimestampType};

/// An owned record to build from and to compare with.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn plain_records() -> impl Strategy<Value = Vec<Plain>> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..300));
    let headers = prop::collection::vec(("[a-z]{0,9}", bytes()), 0..4);
    let plain = (0i64..1 << 45, bytes(), bytes(), headers).prop_map(|(timestamp, key, value, headers)| Plain {
        timestamp,
        key,
        value,
        headers,
    });
    prop::collection::vec(plain, 1..40)
}

fn build(codec: Compression, plain: &[Plain]) -> Bytes {
    let mut builder = BatchBuilder::new(codec, TimestampType::Create, Timestamp::from_millis(1 << 40));
    for record in plain {
        let headers: Vec<_> = record.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        builder.append(
            Timestamp::from_millis(record.timestamp),
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
        );
    }
    builder.build().unwrap().bytes().clone()
}

fn read(batch: &[u8], caps: &Caps) -> Result<Vec<Plain>, RecordsError> {
    let mut walk = records(batch, caps)?;
    let mut plain = Vec::new();
    while let Some(record) = walk.next_record()? {
        assert_eq!(usize::try_from(record.offset.get()).unwrap(), plain.len());
        plain.push(Plain {
            timestamp: record.timestamp.millis(),
            key: record.key.bytes().map(<[u8]>::to_vec),
            value: record.value.bytes().map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|header| (String::from_utf8(header.key.to_vec()).unwrap(), header.value.map(<[u8]>::to_vec)))
                .collect(),
        });
    }
    Ok(plain)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_come_back_as_they_were_appended(plain in plain_records()) {
        for codec in Compression::ALL {
            let batch = build(codec, &plain);
            let policy = ProducePolicy { timestamp_after_max: std::time::Duration::MAX, ..ProducePolicy::default() };
            let valid = crate::validate_produced(batch.clone(), &policy, Timestamp::from_millis(0)).unwrap();
            prop_assert_eq!(valid.bytes(), &batch);
            prop_assert_eq!(&read(&batch, &Caps::default()).unwrap(), &plain);
        }
    }

    #[test]
    fn small_cap_only_replaces_bytes_by_their_length(plain in plain_records(), cap in 0usize..700) {
        let caps = Caps { record_bytes_max: cap, ..Caps::default() };
        for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let batch = build(codec, &plain);
            let mut walk = records(&batch, &caps).unwrap();
            for expected in &plain {
                let record = walk.next_record().unwrap().unwrap();
                prop_assert_eq!(record.timestamp.millis(), expected.timestamp);
                prop_assert_eq!(record.headers.len(), expected.headers.len());
                for (field, expected) in [(record.key, &expected.key), (record.value, &expected.value)] {
                    match field {
                        Field::Null => prop_assert!(expected.is_none()),
                        Field::Bytes(bytes) => prop_assert_eq!(Some(bytes), expected.as_deref()),
                        Field::Skipped { bytes } => prop_assert_eq!(Some(bytes), expected.as_ref().map(Vec::len)),
                    }
                }
                prop_assert!(record.key.bytes().map_or(0, <[u8]>::len) + record.value.bytes().map_or(0, <[u8]>::len) <= cap);
            }
            prop_assert!(walk.next_record().unwrap().is_none());
        }
    }

    #[test]
    fn noise_as_payload_never_panics(noise in prop::collection::vec(any::<u8>(), 0..400), count in 0..5i32, attributes: i16) {
        let template = build(Compression::None, &[Plain { timestamp: 0, key: None, value: None, headers: vec![] }]);
        let mut header = BatchHeader::read(&template).unwrap();
        header.attributes.0 = attributes;
        header.records_count = count;
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend(&noise);
        let batch = seal(&mut header, bytes).unwrap();
        let _ = read(&batch, &Caps { bytes_max: 1 << 20, record_bytes_max: 64, ..Caps::default() }).map(drop);
    }
}

fn three() -> Vec<Plain> {
    let record = |n: u8| Plain {
        timestamp: 5,
        key: Some(vec![n; 3]),
        value: Some(vec![n; 60]),
        headers: vec![("h".to_owned(), None)],
    };
    vec![record(1), record(2), record(3)]
}

/// The batch with its header changed and its CRC made right again.
fn tampered(batch: &[u8], change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let mut header = BatchHeader::read(batch).unwrap();
    change(&mut header);
    seal(&mut header, batch.to_vec()).unwrap()
}

#[test]
fn batch_cut_anywhere_is_an_error() {
    for codec in Compression::ALL {
        let batch = build(codec, &three());
        for end in 0..batch.len() {
            assert!(read(&batch.slice(..end), &Caps::default()).is_err(), "{codec} cut at {end}");
        }
    }
}

#[test]
fn payload_cut_anywhere_is_an_error() {
    for codec in Compression::ALL {
        let batch = build(codec, &three());
        let mut refused = 0;
        for end in HEADER_BYTES..batch.len() {
            // The end marks and checksums of some codecs may be missing, the records may not.
            match read(&tampered(&batch.slice(..end), |_| {}), &Caps::default()) {
                Ok(plain) => assert_eq!(plain, three(), "{codec} cut at {end}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 0);
    }
}

#[test]
fn bytes_behind_the_batch_are_not_read() {
    let mut batch = build(Compression::None, &three()).to_vec();
    batch.extend([9; 10]);
    assert_eq!(read(&batch, &Caps::default()).unwrap(), three());
}

#[test]
fn count_that_disagrees_with_the_records_is_an_error() {
    for codec in Compression::ALL {
        let batch = build(codec, &three());
        let fewer = tampered(&batch, |header| header.records_count = 2);
        assert!(matches!(read(&fewer, &Caps::default()), Err(RecordsError::Trailing)), "{codec}");
        let more = tampered(&batch, |header| header.records_count = 4);
        assert!(matches!(read(&more, &Caps::default()), Err(RecordsError::Malformed { index: 3 })), "{codec}");
        let negative = tampered(&batch, |header| header.records_count = -1);
        assert!(matches!(read(&negative, &Caps::default()), Err(RecordsError::Count { records_count: -1 })));
    }
}

#[test]
fn offset_delta_beyond_the_batch_is_an_error() {
    let batch = tampered(&build(Compression::None, &three()), |header| header.last_offset_delta = 1);
    assert!(matches!(read(&batch, &Caps::default()), Err(RecordsError::Malformed { index: 2 })));
}

#[test]
fn offsets_count_from_the_base_offset() {
    let batch = tampered(&build(Compression::Lz4, &three()), |header| header.base_offset = Offset::new(1000));
    let mut walk = records(&batch, &Caps::default()).unwrap();
    assert_eq!(walk.next_record().unwrap().unwrap().offset, Offset::new(1000));
    assert_eq!(walk.next_record().unwrap().unwrap().offset, Offset::new(1001));
}

#[test]
fn walk_is_over_after_an_error() {
    let batch = tampered(&build(Compression::None, &three()), |header| header.records_count = 4);
    let mut walk = records(&batch, &Caps::default()).unwrap();
    while let Ok(Some(_)) = walk.next_record() {}
    assert!(walk.next_record().unwrap().is_none());
}

#[test]
fn unknown_codec_is_an_error() {
    let batch = tampered(&build(Compression::None, &three()), |header| header.attributes.0 = 7);
    assert!(matches!(records(&batch, &Caps::default()), Err(RecordsError::UnknownCodec { id: 7 })));
}

#[test]
fn records_beyond_the_cap_end_the_walk() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let batch = build(codec, &three());
        let caps = Caps { bytes_max: 100, ..Caps::default() };
        assert!(matches!(read(&batch, &caps), Err(RecordsError::CapExceeded)), "{codec}");
    }
}
