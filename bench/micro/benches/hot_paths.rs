//! What a broker does for every batch: validate it, append it, find it, answer with it. The disk's own speed is not
//! measured: appends go to the page cache and nothing is synced.

#![expect(clippy::expect_used, reason = "a bench that cannot set up has nothing to measure")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_bench_micro::{NOW, batch, log_with};
use chronik_log::fs::RealFs;
use chronik_log::{Log, LogConfig, ReadBound};
use chronik_model::{LeaderEpoch, Offset, TopicPartition, Uuid};
use chronik_record::{ProducePolicy, validate_produced};
use chronik_wire::fetch_response::{Partition, Response, Topic};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const BATCH_BYTES: [usize; 4] = [1 << 10, 16 << 10, 64 << 10, 1 << 20];
/// Appends into one log before it is thrown away, so that a run does not fill the disk.
const APPENDS_PER_LOG: u64 = 1000;

fn bytes_of(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

fn validation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("validate");
    let policy = ProducePolicy { max_message_bytes: usize::MAX, ..ProducePolicy::default() };
    for size in BATCH_BYTES {
        let bytes: Bytes = batch(size).bytes().clone();
        group.throughput(Throughput::Bytes(bytes_of(bytes.len())));
        group.bench_with_input(BenchmarkId::from_parameter(size), &bytes, |bencher, bytes| {
            bencher.iter_batched(
                || bytes.clone(),
                |bytes| validate_produced(black_box(bytes), &policy, NOW),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for size in [1 << 10, 16 << 10] {
        let batch = batch(size);
        group.throughput(Throughput::Bytes(bytes_of(batch.bytes().len())));
        group.bench_with_input(BenchmarkId::from_parameter(size), &batch, |bencher, batch| {
            bencher.iter_custom(|iterations| {
                let mut elapsed = Duration::ZERO;
                let mut left = iterations;
                while left > 0 {
                    let count = left.min(APPENDS_PER_LOG);
                    left -= count;
                    let dir = tempfile::tempdir().expect("a temporary directory");
                    let partition = TopicPartition::new("bench", 0);
                    let path = dir.path().join("log");
                    let mut log = Log::create(Arc::new(RealFs), path, partition, LogConfig::default(), false)
                        .expect("an empty log");
                    let start = Instant::now();
                    for _ in 0..count {
                        black_box(log.append(batch, LeaderEpoch::ZERO, NOW).expect("an append"));
                    }
                    elapsed += start.elapsed();
                }
                elapsed
            });
        });
    }
    group.finish();
}

fn lookup(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = log_with(dir.path(), 50_000, &batch(1 << 10));
    let reader = log.reader();
    let end = log.log_end().get();
    let mut group = criterion.benchmark_group("lookup");
    // A step that visits the offsets in no useful order.
    let mut offset = 0;
    group.bench_function("any offset", |bencher| {
        bencher.iter(|| {
            offset = (offset + 7_919_993) % end;
            reader.read(Offset::new(black_box(offset)), ReadBound::LogEnd, 1 << 20, true).expect("an offset of the log")
        });
    });
    let mut next = Offset::ZERO;
    group.bench_function("where the last read ended", |bencher| {
        bencher.iter(|| {
            let slice = reader.read(black_box(next), ReadBound::LogEnd, 1 << 20, true).expect("an offset of the log");
            next = log.log_end();
            slice
        });
    });
    group.finish();
}

fn fetch_encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fetch encode");
    for partitions in [1, 100, 1000] {
        let response = Response {
            correlation_id: 7,
            topics: vec![Topic {
                topic_id: Uuid::from_bytes([7; 16]),
                partitions: (0..partitions)
                    .map(|index| Partition { index, records_len: Some(16 << 10), ..Partition::default() })
                    .collect(),
                ..Topic::default()
            }],
            ..Response::default()
        };
        group.bench_with_input(BenchmarkId::new("partitions", partitions), &response, |bencher, response| {
            bencher.iter(|| black_box(response).encode(17).expect("a response that fits"));
        });
    }
    group.finish();
}

criterion_group!(benches, validation, append, lookup, fetch_encode);
criterion_main!(benches);
