//! What one partition is run with, resolved from the metadata.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use chronik_log::LogConfig;
use chronik_metadata::config::{self, BrokerSettings, CompressionType, StaticConfig, TopicSettings};
use chronik_metadata::{Image, ReplicationMode, Topic};
use chronik_record::{Caps, Compression, CompressionPolicy, ProducePolicy, TimestampType};
use chronik_replication::{Durability, Mode, Settings};

/// The settings of one partition.
#[derive(Clone, Debug)]
pub(crate) struct PartitionSettings {
    pub(crate) log: LogConfig,
    pub(crate) produce: ProducePolicy,
    pub(crate) replica: Settings,
}

impl PartitionSettings {
    /// What counts for the partitions of `topic`.
    pub(crate) fn resolve(image: &Image, topic: &Topic, fixed: &StaticConfig, broker: &BrokerSettings) -> Self {
        let settings = TopicSettings::resolve(image, &topic.name, fixed);
        let durability = match settings.durability {
            config::Durability::Fsync => Durability::Fsync,
            config::Durability::PageCache => Durability::PageCache,
        };
        Self {
            log: LogConfig {
                segment_bytes: settings.segment_bytes,
                segment_ms: settings.segment_age_max,
                segment_jitter: a_part_of(settings.segment_jitter),
                segment_index_bytes: settings.segment_index_bytes,
                index_interval_bytes: settings.index_interval_bytes,
                retention_ms: settings.retention,
                retention_bytes: settings.retention_bytes,
                delete_on_retention: settings.cleanup_delete,
                producer_id_expiration: broker.producer_id_expiration,
                // Where the page cache counts, a roll does not wait for what no ack waits for.
                sync_on_roll: durability == Durability::Fsync,
            },
            produce: ProducePolicy {
                max_message_bytes: settings.max_message_bytes,
                timestamp_type: match settings.timestamp_type {
                    config::TimestampType::Create => TimestampType::Create,
                    config::TimestampType::LogAppend => TimestampType::LogAppend,
                },
                timestamp_before_max: settings.timestamp_before_max,
                timestamp_after_max: settings.timestamp_after_max,
                compression: compression(settings.compression),
                keys_required: settings.cleanup_compact,
                // Each request sets its own.
                produce_version: i16::MAX,
                caps: Caps::default(),
            },
            replica: Settings {
                durability,
                mode: match image.mode() {
                    ReplicationMode::Async => Mode::Async,
                    ReplicationMode::Sync => Mode::Sync,
                },
                min_insync_replicas: settings.min_insync_replicas,
                lag_time_max: broker.replica_lag_time_max,
            },
        }
    }
}

/// A random part of the jitter, so that the segments of many partitions do not roll at once.
fn a_part_of(jitter: Duration) -> Duration {
    let millis = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    Duration::from_millis(RandomState::new().hash_one(()) % millis)
}

fn compression(setting: CompressionType) -> CompressionPolicy {
    match setting {
        CompressionType::Producer => CompressionPolicy::Producer,
        CompressionType::Uncompressed => CompressionPolicy::Forced(Compression::None, None),
        CompressionType::Gzip(level) => CompressionPolicy::Forced(Compression::Gzip, level),
        CompressionType::Snappy => CompressionPolicy::Forced(Compression::Snappy, None),
        CompressionType::Lz4(level) => CompressionPolicy::Forced(Compression::Lz4, Some(level)),
        CompressionType::Zstd(level) => CompressionPolicy::Forced(Compression::Zstd, Some(level)),
    }
}
