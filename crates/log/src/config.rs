//! The settings of one log, already resolved to values.

use std::time::Duration;

/// How a log rolls, indexes and forgets. Names follow Kafka's topic configs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is rolled before a batch would make it larger.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is rolled when a batch arrives this long after its first one.
    pub segment_ms: Duration,
    /// How much earlier than `segment_ms` this log rolls: a random part of `segment.jitter.ms`, chosen by the caller.
    pub segment_jitter: Duration,
    /// `segment.index.bytes`: a segment is rolled when an index reaches this size.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`: bytes of log between two index entries.
    pub index_interval_bytes: u32,
    /// `retention.ms`; `None` for no limit.
    pub retention_ms: Option<Duration>,
    /// `retention.bytes`; `None` for no limit.
    pub retention_bytes: Option<u64>,
    /// Whether `cleanup.policy` contains `delete`.
    pub delete_on_retention: bool,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration: Duration,
    /// Whether a segment is made durable before the next one is begun, as it must be where acknowledgements promise that.
    /// Without it a power cut can leave a torn segment with a whole one behind it: recovery calls what lies between lost,
    /// not damaged.
    pub sync_on_roll: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: Duration::from_secs(7 * 24 * 3600),
            segment_jitter: Duration::ZERO,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: Some(Duration::from_secs(7 * 24 * 3600)),
            retention_bytes: None,
            delete_on_retention: true,
            producer_id_expiration: Duration::from_secs(24 * 3600),
            sync_on_roll: true,
        }
    }
}
