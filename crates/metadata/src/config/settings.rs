//! Configuration with types, for those who act on it.

use std::time::Duration;

use super::layers::Layers;
use super::value::Value;
use super::{StaticConfig, broker, group, key, topic};
use crate::image::{ConfigMap, ConfigResource, Image};

/// What the high watermark counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Bytes on stable storage.
    Fsync,
    /// Bytes handed to the operating system.
    PageCache,
}

/// How batches are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer compressed them.
    Producer,
    /// Not compressed.
    Uncompressed,
    /// With gzip at a level; `None` is the codec's own.
    Gzip(Option<i32>),
    /// With Snappy.
    Snappy,
    /// With LZ4 at a level.
    Lz4(i32),
    /// With Zstandard at a level.
    Zstd(i32),
}

/// Whose clock stamps records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    Create,
    /// The broker's.
    LogAppend,
}

/// What counts for a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicSettings {
    /// `chronik.durability`.
    pub durability: Durability,
    /// `cleanup.policy` has `delete`.
    pub cleanup_delete: bool,
    /// `cleanup.policy` has `compact`.
    pub cleanup_compact: bool,
    /// `compression.type` with its level.
    pub compression: CompressionType,
    /// `delete.retention.ms`.
    pub delete_retention: Duration,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `max.message.bytes`.
    pub max_message_bytes: usize,
    /// `message.timestamp.after.max.ms`; [`Duration::MAX`] is no limit.
    pub timestamp_after_max: Duration,
    /// `message.timestamp.before.max.ms`; [`Duration::MAX`] is no limit.
    pub timestamp_before_max: Duration,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `min.insync.replicas`.
    pub min_insync_replicas: usize,
    /// `retention.bytes`; `None` is no limit.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`; `None` is for ever.
    pub retention: Option<Duration>,
    /// `segment.bytes`, or `internal.segment.bytes` where it is set.
    pub segment_bytes: u32,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u32,
    /// `segment.jitter.ms`.
    pub segment_jitter: Duration,
    /// `segment.ms`.
    pub segment_age_max: Duration,
    /// `unclean.leader.election.enable`.
    pub unclean_leader_election: bool,
}

impl TopicSettings {
    /// What counts for the topic of that name.
    pub fn resolve(image: &Image, topic: &str, fixed: &StaticConfig) -> Self {
        Self::with_overrides(image.configs(&ConfigResource::topic(topic)), image, fixed)
    }

    /// What would count for a topic with these values of its own.
    pub fn with_overrides(overrides: &ConfigMap, image: &Image, fixed: &StaticConfig) -> Self {
        let layers = Layers::new(image, fixed);
        let read = Reader(&|name| layers.value(overrides, key::find(topic::KEYS, name)?));
        let policies = read.list("cleanup.policy");
        let internal_segment_bytes = read.number("internal.segment.bytes");
        Self {
            durability: read.durability(),
            cleanup_delete: policies.iter().any(|policy| policy == "delete"),
            cleanup_compact: policies.iter().any(|policy| policy == "compact"),
            compression: read.compression(),
            delete_retention: read.duration("delete.retention.ms"),
            index_interval_bytes: read.u32("index.interval.bytes"),
            max_message_bytes: read.usize("max.message.bytes"),
            timestamp_after_max: read.duration("message.timestamp.after.max.ms"),
            timestamp_before_max: read.duration("message.timestamp.before.max.ms"),
            timestamp_type: read.timestamp_type("message.timestamp.type"),
            min_insync_replicas: read.usize("min.insync.replicas"),
            retention_bytes: read.limit("retention.bytes"),
            retention: read.limit("retention.ms").map(millis),
            segment_bytes: match internal_segment_bytes {
                Some(bytes) => saturated(bytes),
                None => read.u32("segment.bytes"),
            },
            segment_index_bytes: read.u32("segment.index.bytes"),
            segment_jitter: read.duration("segment.jitter.ms"),
            segment_age_max: read.duration("segment.ms"),
            unclean_leader_election: read.boolean("unclean.leader.election.enable"),
        }
    }
}

/// What counts for this broker.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerSettings {
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// `connections.max.idle.ms`; [`Duration::MAX`] is never.
    pub connections_max_idle: Duration,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `delete.topic.enable`.
    pub delete_topics: bool,
    /// `chronik.durability`.
    pub durability: Durability,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: usize,
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay: Duration,
    /// `group.max.session.timeout.ms`.
    pub group_max_session_timeout: Duration,
    /// `group.max.size`.
    pub group_max_size: usize,
    /// `group.min.session.timeout.ms`.
    pub group_min_session_timeout: Duration,
    /// `log.retention.check.interval.ms`.
    pub log_retention_check_interval: Duration,
    /// `max.connection.creation.rate`, per second.
    pub max_connection_creation_rate: usize,
    /// `max.connections`.
    pub max_connections: usize,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: usize,
    /// `max.connections.per.ip.overrides`: addresses or host names with their limits.
    pub max_connections_per_ip_overrides: Vec<(String, usize)>,
    /// `max.incremental.fetch.session.cache.slots`.
    pub max_incremental_fetch_session_cache_slots: usize,
    /// `max.request.partition.size.limit`.
    pub max_request_partition_size_limit: usize,
    /// `message.max.bytes`.
    pub message_max_bytes: usize,
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.commit.timeout.ms`.
    pub offsets_commit_timeout: Duration,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval: Duration,
    /// `offsets.topic.compression.codec`, by its number in a record batch.
    pub offsets_topic_compression: i8,
    /// `offsets.topic.num.partitions`.
    pub offsets_topic_partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub offsets_topic_replication_factor: i16,
    /// `offsets.topic.segment.bytes`.
    pub offsets_topic_segment_bytes: u32,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration: Duration,
    /// `producer.id.expiration.check.interval.ms`.
    pub producer_id_expiration_check_interval: Duration,
    /// `queued.max.request.bytes`; `None` leaves the bound to the broker.
    pub queued_max_request_bytes: Option<u64>,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_time_max: Duration,
    /// `request.timeout.ms`.
    pub request_timeout: Duration,
    /// `socket.listen.backlog.size`.
    pub socket_listen_backlog: u32,
    /// `socket.receive.buffer.bytes`; `None` leaves it to the system.
    pub socket_receive_buffer_bytes: Option<u64>,
    /// `socket.request.max.bytes`.
    pub socket_request_max_bytes: usize,
    /// `socket.send.buffer.bytes`; `None` leaves it to the system.
    pub socket_send_buffer_bytes: Option<u64>,
    /// `transaction.max.timeout.ms`.
    pub transaction_max_timeout: Duration,
    /// `transactional.id.expiration.ms`.
    pub transactional_id_expiration: Duration,
}

impl BrokerSettings {
    /// What counts for the broker.
    pub fn resolve(image: &Image, fixed: &StaticConfig) -> Self {
        let layers = Layers::new(image, fixed);
        let read = Reader(&|name| layers.broker(key::find(broker::KEYS, name)?));
        Self {
            auto_create_topics: read.boolean("auto.create.topics.enable"),
            rack: Some(read.text("broker.rack")).filter(|rack| !rack.is_empty()),
            connections_max_idle: read.limit("connections.max.idle.ms").map_or(Duration::MAX, millis),
            default_replication_factor: saturated(read.number("default.replication.factor").unwrap_or(1)),
            delete_topics: read.boolean("delete.topic.enable"),
            durability: read.durability(),
            fetch_max_bytes: read.usize("fetch.max.bytes"),
            group_initial_rebalance_delay: read.duration("group.initial.rebalance.delay.ms"),
            group_max_session_timeout: read.duration("group.max.session.timeout.ms"),
            group_max_size: read.usize("group.max.size"),
            group_min_session_timeout: read.duration("group.min.session.timeout.ms"),
            log_retention_check_interval: read.duration("log.retention.check.interval.ms"),
            max_connection_creation_rate: read.usize("max.connection.creation.rate"),
            max_connections: read.usize("max.connections"),
            max_connections_per_ip: read.usize("max.connections.per.ip"),
            max_connections_per_ip_overrides: read
                .text("max.connections.per.ip.overrides")
                .split(',')
                .filter_map(|part| part.rsplit_once(':'))
                .filter_map(|(address, limit)| Some((address.trim().to_owned(), limit.trim().parse().ok()?)))
                .collect(),
            max_incremental_fetch_session_cache_slots: read.usize("max.incremental.fetch.session.cache.slots"),
            max_request_partition_size_limit: read.usize("max.request.partition.size.limit"),
            message_max_bytes: read.usize("message.max.bytes"),
            num_partitions: saturated(read.number("num.partitions").unwrap_or(1)),
            offset_metadata_max_bytes: read.usize("offset.metadata.max.bytes"),
            offsets_commit_timeout: read.duration("offsets.commit.timeout.ms"),
            offsets_retention: minutes(read.number("offsets.retention.minutes")),
            offsets_retention_check_interval: read.duration("offsets.retention.check.interval.ms"),
            offsets_topic_compression: saturated(read.number("offsets.topic.compression.codec").unwrap_or(0)),
            offsets_topic_partitions: saturated(read.number("offsets.topic.num.partitions").unwrap_or(1)),
            offsets_topic_replication_factor: saturated(read.number("offsets.topic.replication.factor").unwrap_or(1)),
            offsets_topic_segment_bytes: read.u32("offsets.topic.segment.bytes"),
            producer_id_expiration: read.duration("producer.id.expiration.ms"),
            producer_id_expiration_check_interval: read.duration("producer.id.expiration.check.interval.ms"),
            queued_max_request_bytes: read.limit("queued.max.request.bytes"),
            replica_lag_time_max: read.duration("replica.lag.time.max.ms"),
            request_timeout: read.duration("request.timeout.ms"),
            socket_listen_backlog: read.u32("socket.listen.backlog.size"),
            socket_receive_buffer_bytes: read.limit("socket.receive.buffer.bytes"),
            socket_request_max_bytes: read.usize("socket.request.max.bytes"),
            socket_send_buffer_bytes: read.limit("socket.send.buffer.bytes"),
            transaction_max_timeout: read.duration("transaction.max.timeout.ms"),
            transactional_id_expiration: read.duration("transactional.id.expiration.ms"),
        }
    }
}

/// What counts for a group of the consumer protocol (KIP-848).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// `consumer.assignment.interval.ms`.
    pub consumer_assignment_interval: Duration,
    /// `consumer.heartbeat.interval.ms`.
    pub consumer_heartbeat_interval: Duration,
    /// `consumer.session.timeout.ms`.
    pub consumer_session_timeout: Duration,
}

impl GroupSettings {
    /// What counts for the group of that name.
    pub fn resolve(image: &Image, name: &str, fixed: &StaticConfig) -> Self {
        let layers = Layers::new(image, fixed);
        let own = image.configs(&ConfigResource::group(name));
        let read = Reader(&|name| layers.value(own, key::find(group::KEYS, name)?));
        Self {
            consumer_assignment_interval: read.duration("consumer.assignment.interval.ms"),
            consumer_heartbeat_interval: read.duration("consumer.heartbeat.interval.ms"),
            consumer_session_timeout: read.duration("consumer.session.timeout.ms"),
        }
    }
}

/// Reads values by name; of a key without value nothing, zero or no limit comes out.
struct Reader<'a>(&'a dyn Fn(&str) -> Option<Value>);

impl Reader<'_> {
    fn number(&self, name: &str) -> Option<i64> {
        match (self.0)(name) {
            Some(Value::Integer(number)) => Some(number),
            _ => None,
        }
    }

    fn usize(&self, name: &str) -> usize {
        saturated(self.number(name).unwrap_or_default())
    }

    fn u32(&self, name: &str) -> u32 {
        saturated(self.number(name).unwrap_or_default())
    }

    /// `None` where the value is negative, which these keys understand as no limit.
    fn limit(&self, name: &str) -> Option<u64> {
        self.number(name).and_then(|number| u64::try_from(number).ok())
    }

    fn duration(&self, name: &str) -> Duration {
        match self.number(name) {
            Some(i64::MAX) => Duration::MAX,
            number => millis(saturated(number.unwrap_or_default())),
        }
    }

    fn boolean(&self, name: &str) -> bool {
        (self.0)(name) == Some(Value::Boolean(true))
    }

    fn text(&self, name: &str) -> String {
        (self.0)(name).map(|value| value.text()).unwrap_or_default()
    }

    fn list(&self, name: &str) -> Vec<String> {
        match (self.0)(name) {
            Some(Value::List(parts)) => parts,
            _ => Vec::new(),
        }
    }

    fn durability(&self) -> Durability {
        match self.text("chronik.durability").as_str() {
            "page-cache" => Durability::PageCache,
            _ => Durability::Fsync,
        }
    }

    fn timestamp_type(&self, name: &str) -> TimestampType {
        match self.text(name).as_str() {
            "LogAppendTime" => TimestampType::LogAppend,
            _ => TimestampType::Create,
        }
    }

    fn compression(&self) -> CompressionType {
        let level = |name: &str| saturated(self.number(name).unwrap_or_default());
        match self.text("compression.type").as_str() {
            "uncompressed" => CompressionType::Uncompressed,
            "gzip" => CompressionType::Gzip(Some(level("compression.gzip.level")).filter(|level| *level > 0)),
            "snappy" => CompressionType::Snappy,
            "lz4" => CompressionType::Lz4(level("compression.lz4.level")),
            "zstd" => CompressionType::Zstd(level("compression.zstd.level")),
            _ => CompressionType::Producer,
        }
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn minutes(minutes: Option<i64>) -> Duration {
    Duration::from_secs(saturated::<u64>(minutes.unwrap_or_default()).saturating_mul(60))
}

/// The number in another type; what does not fit becomes the nearest end.
fn saturated<T: Bounds>(number: i64) -> T {
    T::try_from(number).unwrap_or(if number < 0 { T::LEAST } else { T::MOST })
}

trait Bounds: TryFrom<i64> {
    const LEAST: Self;
    const MOST: Self;
}

macro_rules! bounds {
    ($($number:ty),*) => {$(
        impl Bounds for $number {
            const LEAST: Self = <$number>::MIN;
            const MOST: Self = <$number>::MAX;
        }
    )*};
}

bounds!(i8, i16, i32, u32, u64, usize);
