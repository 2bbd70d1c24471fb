//! The keys of a topic, as Kafka 4.3 has them, with the broker keys that give their defaults.

use super::key::{Key, Kind, Synonym, Valid, key};

const fn same(name: &'static str) -> Synonym {
    Synonym { name, factor: 1 }
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

pub(super) const COMPRESSION_TYPES: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
pub(super) const CLEANUP_POLICIES: &[&str] = &["compact", "delete"];
pub(super) const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];
pub(super) const DURABILITIES: &[&str] = &["fsync", "page-cache"];

/// By name.
pub(super) const KEYS: &[Key] = &[
    key("chronik.durability", Kind::String, "fsync", "What the high watermark counts: `fsync` counts bytes on stable storage of every in-sync replica, so that an acknowledgement with acks=all survives a power cut; `page-cache` counts bytes handed to the operating system, which is Apache Kafka's guarantee.")
        .valid(Valid::OneOf(DURABILITIES)).synonyms(&[same("chronik.durability")]),
    key("cleanup.policy", Kind::List, "delete", "What happens to old segments: `delete` removes them by time and size, `compact` is to keep the last record of each key, both do both. Chronik has no cleaner: a topic with `compact` alone keeps everything, one with both is deleted from by retention only.")
        .valid(Valid::OneOf(CLEANUP_POLICIES)).synonyms(&[same("log.cleanup.policy")]),
    key("compression.gzip.level", Kind::Int, "-1", "Level of gzip where `compression.type` is gzip; -1 is the codec's own default.")
        .valid(Valid::RangeOr(1, 9, -1)).synonyms(&[same("compression.gzip.level")]),
    key("compression.lz4.level", Kind::Int, "9", "Level of LZ4 where `compression.type` is lz4.")
        .between(1, 17).synonyms(&[same("compression.lz4.level")]),
    key("compression.type", Kind::String, "producer", "Codec that batches are stored with. `producer` keeps what the producer chose and stores its bytes untouched; any other rewrites batches that came with another codec.")
        .valid(Valid::OneOf(COMPRESSION_TYPES)).synonyms(&[same("compression.type")]),
    key("compression.zstd.level", Kind::Int, "3", "Level of Zstandard where `compression.type` is zstd.")
        .between(-131_072, 22).synonyms(&[same("compression.zstd.level")]),
    key("delete.retention.ms", Kind::Long, "86400000", "How long compaction keeps tombstones, so that a consumer reading from the start sees them. Without a cleaner they stay.")
        .at_least(0).synonyms(&[same("log.cleaner.delete.retention.ms")]),
    key("file.delete.delay.ms", Kind::Long, "60000", "How long Kafka leaves the files of a deleted segment on disk. Chronik deletes them at once: readers that have them open keep them.")
        .at_least(0).synonyms(&[same("log.segment.delete.delay.ms")]),
    key("flush.messages", Kind::Long, "9223372036854775807", "After how many records Kafka forces an fsync. Chronik's flushing follows `chronik.durability`.")
        .at_least(1).synonyms(&[same("log.flush.interval.messages")]),
    key("flush.ms", Kind::Long, "9223372036854775807", "After how much time Kafka forces an fsync. Chronik's flushing follows `chronik.durability`.")
        .at_least(0).synonyms(&[same("log.flush.interval.ms"), same("log.flush.scheduler.interval.ms")]),
    key("follower.replication.throttled.replicas", Kind::List, "", "Replicas, as partition:broker pairs or `*`, whose replication is throttled on the follower's side.")
        .valid(Valid::ThrottledReplicas),
    key("index.interval.bytes", Kind::Int, "4096", "After how many bytes of batches the offset index gets an entry. Smaller finds offsets with less reading and needs a larger index.")
        .at_least(0).synonyms(&[same("log.index.interval.bytes")]),
    key("internal.segment.bytes", Kind::Int, "", "Segment size below the least that `segment.bytes` takes; for tests.").without_default().internal(),
    key("leader.replication.throttled.replicas", Kind::List, "", "Replicas, as partition:broker pairs or `*`, whose replication is throttled on the leader's side.")
        .valid(Valid::ThrottledReplicas),
    key("local.retention.bytes", Kind::Long, "-2", "With tiered storage, how many bytes stay on the broker's disk; -2 takes `retention.bytes`.")
        .at_least(-2).synonyms(&[same("log.local.retention.bytes")]),
    key("local.retention.ms", Kind::Long, "-2", "With tiered storage, how long segments stay on the broker's disk; -2 takes `retention.ms`.")
        .at_least(-2).synonyms(&[same("log.local.retention.ms")]),
    key("max.compaction.lag.ms", Kind::Long, "9223372036854775807", "After how long at the latest a record becomes subject to compaction.")
        .at_least(1).synonyms(&[same("log.cleaner.max.compaction.lag.ms")]),
    key("max.message.bytes", Kind::Int, "1048588", "Largest record batch taken, after compression, with its header.")
        .at_least(0).synonyms(&[same("message.max.bytes")]),
    key("message.timestamp.after.max.ms", Kind::Long, "3600000", "How far in the future a record's timestamp may lie; a batch beyond is refused. Not looked at with LogAppendTime.")
        .at_least(0).synonyms(&[same("log.message.timestamp.after.max.ms")]),
    key("message.timestamp.before.max.ms", Kind::Long, "9223372036854775807", "How far in the past a record's timestamp may lie; a batch beyond is refused. Not looked at with LogAppendTime.")
        .at_least(0).synonyms(&[same("log.message.timestamp.before.max.ms")]),
    key("message.timestamp.type", Kind::String, "CreateTime", "Whose clock stamps records: the producer's (CreateTime) or the broker's (LogAppendTime).")
        .valid(Valid::OneOf(TIMESTAMP_TYPES)).synonyms(&[same("log.message.timestamp.type")]),
    key("min.cleanable.dirty.ratio", Kind::Double, "0.5", "Share of a log that must be uncleaned before compaction looks at it.")
        .valid(Valid::Fraction(0.0, 1.0)).synonyms(&[same("log.cleaner.min.cleanable.ratio")]),
    key("min.compaction.lag.ms", Kind::Long, "0", "How long a record is safe from compaction.")
        .at_least(0).synonyms(&[same("log.cleaner.min.compaction.lag.ms")]),
    key("min.insync.replicas", Kind::Int, "1", "How many replicas must be in sync for a produce with acks=all to be taken.")
        .at_least(1).synonyms(&[same("min.insync.replicas")]),
    key("preallocate", Kind::Boolean, "false", "Whether a segment's file is given its full size at once. Chronik lets segments grow.")
        .synonyms(&[same("log.preallocate")]),
    key("remote.log.copy.disable", Kind::Boolean, "false", "With tiered storage, stops copying segments to the object store."),
    key("remote.log.delete.on.disable", Kind::Boolean, "false", "With tiered storage, deletes remote segments when tiering is switched off for the topic."),
    key("remote.storage.enable", Kind::Boolean, "false", "Whether segments go to tiered storage. Cannot be switched on where the broker has none."),
    key("retention.bytes", Kind::Long, "-1", "How many bytes a partition may hold before its oldest segments are deleted; -1 is no limit.")
        .synonyms(&[same("log.retention.bytes")]),
    key("retention.ms", Kind::Long, "604800000", "How long records are kept before their segment is deleted; -1 is for ever.")
        .at_least(-1)
        .synonyms(&[same("log.retention.ms"), Synonym { name: "log.retention.minutes", factor: MINUTE_MS }, Synonym { name: "log.retention.hours", factor: HOUR_MS }]),
    key("segment.bytes", Kind::Int, "1073741824", "Size at which a segment is closed and the next begun. Retention works on whole segments.")
        .at_least(1_048_576).synonyms(&[same("log.segment.bytes")]),
    key("segment.index.bytes", Kind::Int, "10485760", "Largest offset index of a segment; the segment is closed when its index is full.")
        .at_least(4).synonyms(&[same("log.index.size.max.bytes")]),
    key("segment.jitter.ms", Kind::Long, "0", "Random time taken off `segment.ms`, so that many partitions do not begin segments together.")
        .at_least(0).synonyms(&[same("log.roll.jitter.ms"), Synonym { name: "log.roll.jitter.hours", factor: HOUR_MS }]),
    key("segment.ms", Kind::Long, "604800000", "After how long a segment is closed even if it is not full, so that retention can reach it.")
        .at_least(1).synonyms(&[same("log.roll.ms"), Synonym { name: "log.roll.hours", factor: HOUR_MS }]),
    key("unclean.leader.election.enable", Kind::Boolean, "false", "Whether a replica that is not in sync may become leader when no other is left, at the price of lost records.")
        .synonyms(&[same("unclean.leader.election.enable")]),
];
