//! What hostile batches cost in memory, counted by the allocator of this binary.

#![expect(unsafe_code, reason = "a global allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;

use bytes::Bytes;
use chronik_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use chronik_record::compression::Encoder;
use chronik_record::{
    Attributes, BatchBuilder, BatchHeader, Caps, Compression, CompressionPolicy, Field, HEADER_BYTES, InvalidKind,
    ProducePolicy, TimestampType, records, validate_produced,
};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.get().saturating_add(layout.size());
        HELD.set(held);
        PEAK.set(PEAK.get().max(held));
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().saturating_sub(layout.size()));
        // SAFETY: the pointer came from `alloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The allocations of `work` and the most bytes it held at once.
fn measure<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let calls = CALLS.get();
    let result = work();
    (result, CALLS.get() - calls, PEAK.get().saturating_sub(before))
}

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const MIB: usize = 1 << 20;

fn header(compression: Compression, records_count: i32) -> BatchHeader {
    BatchHeader {
        base_offset: Offset::ZERO,
        batch_length: 0,
        partition_leader_epoch: LeaderEpoch::NONE,
        magic: 2,
        crc: 0,
        attributes: Attributes::new(compression, TimestampType::Create),
        last_offset_delta: records_count - 1,
        base_timestamp: NOW,
        max_timestamp: NOW,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: Sequence::NONE,
        records_count,
    }
}

fn batch(mut header: BatchHeader, payload: &[u8]) -> Bytes {
    header.batch_length = i32::try_from(HEADER_BYTES - 12 + payload.len()).unwrap();
    let mut covered = header.to_bytes()[21..].to_vec();
    covered.extend(payload);
    header.crc = crc32c::crc32c(&covered);
    let mut bytes = header.to_bytes()[..21].to_vec();
    bytes.extend(covered);
    bytes.into()
}

fn varint(mut value: u64) -> Vec<u8> {
    value <<= 1;
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
    out
}

/// One record with key `k` and a value of `bytes` zeros, compressed.
fn huge_record(compression: Compression, bytes: usize) -> Bytes {
    let mut body = vec![0, 0, 0];
    body.extend([2, b'k']);
    body.extend(varint(bytes as u64));
    let mut encoder = Encoder::new(compression, None, Vec::new(), usize::MAX).unwrap();
    encoder.write_all(&varint((body.len() + bytes + 1) as u64)).unwrap();
    encoder.write_all(&body).unwrap();
    let zeros = vec![0; MIB];
    for _ in 0..bytes / MIB {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.write_all(&[0]).unwrap();
    batch(header(compression, 1), &encoder.finish().unwrap())
}

#[test]
fn validation_of_an_untouched_batch_allocates_nothing() {
    let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, NOW);
    builder.append(NOW, Some(b"key"), Some(&[7; 10_000]), &[]);
    let bytes = builder.build().unwrap().bytes().clone();
    let policy = ProducePolicy { keys_required: true, ..ProducePolicy::default() };
    let (valid, calls, _) = measure(|| validate_produced(bytes.clone(), &policy, NOW));
    assert_eq!(valid.unwrap().bytes().as_ptr(), bytes.as_ptr(), "the batch is the slice that came in");
    assert_eq!(calls, 0);
}

#[test]
fn giant_counts_in_tiny_batches_allocate_nothing() {
    // A count of records in a batch of 69 bytes, a count of headers in one of 73.
    let records_claimed = batch(header(Compression::None, i32::MAX), &[14, 0, 0, 0, 1, 1, 0, 0]);
    let headers_claimed = batch(header(Compression::None, 1), &[22, 0, 0, 0, 2, b'k', 1, 0xfe, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!((records_claimed.len(), headers_claimed.len()), (69, 73));
    let policy = ProducePolicy { keys_required: true, ..ProducePolicy::default() };
    for hostile in [records_claimed, headers_claimed] {
        // The first clone of bytes that were a vector allocates their count.
        let sent = hostile.clone();
        let (refused, calls, _) = measure(|| validate_produced(sent.clone(), &policy, NOW));
        assert_eq!(refused.unwrap_err().kind(), InvalidKind::InvalidRecord);
        assert_eq!(calls, 0);
        let (failed, calls, _) = measure(|| {
            let mut walk = records(&hostile, &Caps::default()).unwrap();
            while walk.next_record()?.is_some() {}
            Ok::<_, chronik_record::RecordsError>(())
        });
        assert!(failed.is_err());
        assert_eq!(calls, 0);
    }
}

#[test]
fn record_of_256_mib_in_a_small_gzip_batch_is_never_held() {
    let hostile = huge_record(Compression::Gzip, 256 * MIB);
    assert!(hostile.len() < 300_000, "{} bytes", hostile.len());
    let policy = ProducePolicy { keys_required: true, ..ProducePolicy::default() };
    let (valid, _, peak) = measure(|| validate_produced(hostile.clone(), &policy, NOW));
    assert_eq!(valid.unwrap().header().records_count, 1);
    assert!(peak < MIB, "{peak} bytes");

    let ((key, value), _, peak) = measure(|| {
        let mut walk = records(&hostile, &Caps::default()).unwrap();
        let record = walk.next_record().unwrap().unwrap();
        let key = record.key.bytes().map(<[u8]>::to_vec);
        let value = if let Field::Skipped { bytes } = record.value { bytes } else { 0 };
        assert!(walk.next_record().unwrap().is_none());
        (key, value)
    });
    assert_eq!((key.as_deref(), value), (Some(b"k".as_slice()), 256 * MIB));
    assert!(peak < MIB, "{peak} bytes");
}

#[test]
fn forced_codec_never_holds_the_plain_records() {
    let hostile = huge_record(Compression::Gzip, 64 * MIB);
    let forced =
        |codec| ProducePolicy { compression: CompressionPolicy::Forced(codec, None), ..ProducePolicy::default() };
    let (rewritten, _, peak) = measure(|| validate_produced(hostile.clone(), &forced(Compression::Zstd), NOW));
    assert_eq!(rewritten.unwrap().header().attributes.compression(), Some(Compression::Zstd));
    assert!(peak < 4 * MIB, "{peak} bytes");
    let (refused, _, peak) = measure(|| validate_produced(hostile.clone(), &forced(Compression::None), NOW));
    assert_eq!(refused.unwrap_err().kind(), InvalidKind::TooLarge);
    assert!(peak < 4 * MIB, "{peak} bytes");
}
