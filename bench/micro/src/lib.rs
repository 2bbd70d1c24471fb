//! Benches of the hot paths. By the clock: `cargo bench -p chronik-bench-micro`. By instructions, which is the same on a
//! busy machine: `cargo run --release -p chronik-bench-micro --bin instruction-counts`.

#![expect(clippy::expect_used, reason = "a bench that cannot set up has nothing to measure")]

pub mod baseline;
pub mod paths;

use std::path::Path;
use std::sync::Arc;

use chronik_log::fs::RealFs;
use chronik_log::{Log, LogConfig};
use chronik_model::{LeaderEpoch, Timestamp, TopicPartition};
use chronik_record::{BatchBuilder, Compression, ProducedBatch, TimestampType};

/// The time of everything that needs one.
pub const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// An uncompressed batch of about `size` bytes in records of 100.
pub fn batch(size: usize) -> ProducedBatch {
    let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, NOW);
    while builder.records_count() == 0 || builder.size_bytes() < size {
        builder.append(NOW, Some(b"key"), Some(&[7; 90]), &[]);
    }
    builder.build().expect("records that fit")
}

/// A log in `dir` with `count` copies of `batch`.
pub fn log_with(dir: &Path, count: usize, batch: &ProducedBatch) -> Log {
    let partition = TopicPartition::new("bench", 0);
    let mut log =
        Log::create(Arc::new(RealFs), dir.join("log"), partition, LogConfig::default(), false).expect("an empty log");
    for _ in 0..count {
        log.append(batch, LeaderEpoch::ZERO, NOW).expect("an append");
    }
    log
}
