//! The keys of a group (resource type 32), with the broker keys that give their defaults and bounds.

use super::key::{Key, Kind, Synonym, Valid, key};

const fn same(name: &'static str) -> Synonym {
    Synonym { name, factor: 1 }
}

/// By name.
pub(super) const KEYS: &[Key] = &[
    key("consumer.assignment.interval.ms", Kind::Int, "1000", "Least time between two assignments of the group.")
        .at_least(0).synonyms(&[same("group.consumer.assignment.interval.ms")]),
    key("consumer.heartbeat.interval.ms", Kind::Int, "5000", "How often members of the group are told to send a heartbeat.")
        .at_least(1).synonyms(&[same("group.consumer.heartbeat.interval.ms")]),
    key("consumer.session.timeout.ms", Kind::Int, "45000", "How long a member may be silent before it is removed from the group.")
        .at_least(1).synonyms(&[same("group.consumer.session.timeout.ms")]),
    key("share.assignment.interval.ms", Kind::Int, "1000", "Least time between two assignments of the share group.")
        .at_least(0).synonyms(&[same("group.share.assignment.interval.ms")]),
    key("share.auto.offset.reset", Kind::String, "latest", "Where a share group begins on a partition it has not read: `earliest`, `latest` or `by_duration:` with an ISO 8601 duration.")
        .valid(Valid::OffsetReset),
    key("share.delivery.count.limit", Kind::Int, "5", "How often a record is delivered to a share group before it is given up.")
        .between(2, 10).synonyms(&[same("group.share.delivery.count.limit")]),
    key("share.heartbeat.interval.ms", Kind::Int, "5000", "How often members of the share group are told to send a heartbeat.")
        .at_least(1).synonyms(&[same("group.share.heartbeat.interval.ms")]),
    key("share.isolation.level", Kind::String, "read_uncommitted", "Whether the share group sees records of open and aborted transactions.")
        .valid(Valid::OneOf(&["read_committed", "read_uncommitted"])),
    key("share.partition.max.record.locks", Kind::Int, "2000", "How many records of a partition may be out for delivery to the share group at once.")
        .between(100, 10_000).synonyms(&[same("group.share.partition.max.record.locks")]),
    key("share.record.lock.duration.ms", Kind::Int, "30000", "How long a member of the share group may hold a record before it is delivered again.")
        .between(1000, 3_600_000).synonyms(&[same("group.share.record.lock.duration.ms")]),
    key("share.renew.acknowledge.enable", Kind::Boolean, "true", "Whether members of the share group may prolong their hold on a record."),
    key("share.session.timeout.ms", Kind::Int, "45000", "How long a member of the share group may be silent before it is removed.")
        .at_least(1).synonyms(&[same("group.share.session.timeout.ms")]),
    key("streams.assignment.interval.ms", Kind::Int, "1000", "Least time between two assignments of the streams group.")
        .at_least(0).synonyms(&[same("group.streams.assignment.interval.ms")]),
    key("streams.heartbeat.interval.ms", Kind::Int, "5000", "How often members of the streams group are told to send a heartbeat.")
        .at_least(1).synonyms(&[same("group.streams.heartbeat.interval.ms")]),
    key("streams.initial.rebalance.delay.ms", Kind::Int, "3000", "How long a new streams group waits for more members before its first assignment.")
        .at_least(0).synonyms(&[same("group.streams.initial.rebalance.delay.ms")]),
    key("streams.num.standby.replicas", Kind::Int, "0", "How many standby copies of each task's state the streams group keeps.")
        .at_least(0).synonyms(&[same("group.streams.num.standby.replicas")]),
    key("streams.session.timeout.ms", Kind::Int, "45000", "How long a member of the streams group may be silent before it is removed.")
        .at_least(1).synonyms(&[same("group.streams.session.timeout.ms")]),
];

/// A group's key with the broker's keys that it must lie between.
pub(super) const BOUNDS: &[(&str, &str, &str)] = &[
    (
        "consumer.heartbeat.interval.ms",
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.max.heartbeat.interval.ms",
    ),
    ("consumer.session.timeout.ms", "group.consumer.min.session.timeout.ms", "group.consumer.max.session.timeout.ms"),
    (
        "consumer.assignment.interval.ms",
        "group.consumer.min.assignment.interval.ms",
        "group.consumer.max.assignment.interval.ms",
    ),
    ("share.heartbeat.interval.ms", "group.share.min.heartbeat.interval.ms", "group.share.max.heartbeat.interval.ms"),
    ("share.session.timeout.ms", "group.share.min.session.timeout.ms", "group.share.max.session.timeout.ms"),
    (
        "share.record.lock.duration.ms",
        "group.share.min.record.lock.duration.ms",
        "group.share.max.record.lock.duration.ms",
    ),
    ("share.delivery.count.limit", "group.share.min.delivery.count.limit", "group.share.max.delivery.count.limit"),
    (
        "share.partition.max.record.locks",
        "group.share.min.partition.max.record.locks",
        "group.share.max.partition.max.record.locks",
    ),
    (
        "share.assignment.interval.ms",
        "group.share.min.assignment.interval.ms",
        "group.share.max.assignment.interval.ms",
    ),
    (
        "streams.heartbeat.interval.ms",
        "group.streams.min.heartbeat.interval.ms",
        "group.streams.max.heartbeat.interval.ms",
    ),
    ("streams.session.timeout.ms", "group.streams.min.session.timeout.ms", "group.streams.max.session.timeout.ms"),
    (
        "streams.assignment.interval.ms",
        "group.streams.min.assignment.interval.ms",
        "group.streams.max.assignment.interval.ms",
    ),
    ("streams.num.standby.replicas", "", "group.streams.max.standby.replicas"),
];

/// Session time-outs with the heartbeat interval that they must exceed.
pub(super) const SESSIONS: &[(&str, &str)] = &[
    ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"),
    ("share.session.timeout.ms", "share.heartbeat.interval.ms"),
    ("streams.session.timeout.ms", "streams.heartbeat.interval.ms"),
];
