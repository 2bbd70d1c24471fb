//! A produced batch under every policy, and a walk over its records. Whatever is accepted must be a batch its own reader
//! takes, at the size its header says; looking inside may fail, never panic and never hold more than the caps.

#![no_main]

use std::time::Duration;

use bytes::Bytes;
use chronik_model::{Offset, Timestamp};
use chronik_record::{
    BatchHeader, Caps, Compression, CompressionPolicy, HEADER_BYTES, ProducePolicy, TimestampType, crc_is_valid,
    first_at_or_after, max_timestamp, records, validate_produced,
};
use libfuzzer_sys::fuzz_target;

const CAPS: Caps = Caps {
    bytes_max: 1 << 20,
    ratio_max: 2048,
    ratio_free_bytes: 1 << 18,
    record_bytes_max: 4096,
    block_bytes_max: 1 << 20,
    zstd_window_log_max: 21,
};
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// The checksum guards everything behind it: without a right one no input would come past the first check.
fn with_right_checksum(batch: &[u8]) -> Bytes {
    let mut bytes = batch.to_vec();
    if let Some(covered) = bytes.get(21..) {
        let crc = crc32c::crc32c(covered).to_be_bytes();
        bytes[17..21].copy_from_slice(&crc);
    }
    bytes.into()
}

fn walk(batch: &[u8]) {
    let Ok(header) = BatchHeader::read(batch) else { return };
    assert_eq!(&header.to_bytes()[..], &batch[..HEADER_BYTES]);
    if let Ok(mut walk) = records(batch, &CAPS) {
        let mut count = 0;
        while let Ok(Some(record)) = walk.next_record() {
            assert!(record.offset >= header.base_offset && record.offset <= header.last_offset());
            if !record.headers.is_skipped() {
                assert_eq!(record.headers.iter().count(), record.headers.len());
            }
            count += 1;
        }
        assert!(count <= header.records_count);
    }
    let _ = first_at_or_after(batch, NOW, Offset::ZERO, &CAPS);
    let _ = max_timestamp(batch, &CAPS);
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, batch)) = input.split_first() else { return };
    walk(batch);
    let forced = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
        .get(usize::from(choice >> 4));
    let policy = ProducePolicy {
        max_message_bytes: 1 << 16,
        timestamp_type: if choice & 1 == 0 { TimestampType::Create } else { TimestampType::LogAppend },
        timestamp_after_max: Duration::MAX,
        compression: forced.map_or(CompressionPolicy::Producer, |codec| CompressionPolicy::Forced(*codec, None)),
        keys_required: choice & 2 != 0,
        caps: CAPS,
        ..ProducePolicy::default()
    };
    let _ = validate_produced(Bytes::copy_from_slice(batch), &policy, NOW);
    if let Ok(valid) = validate_produced(with_right_checksum(batch), &policy, NOW) {
        let bytes = valid.bytes();
        assert!(crc_is_valid(bytes));
        assert_eq!(BatchHeader::read(bytes).as_ref(), Ok(valid.header()));
        assert_eq!(valid.header().size_bytes(), bytes.len());
        assert!(bytes.len() <= policy.max_message_bytes);
        assert_eq!(valid.header().last_offset_delta + 1, valid.header().records_count);
        walk(bytes);
    }
});
