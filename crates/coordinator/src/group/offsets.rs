//! The committed offsets of one group, and when they are too old to keep (KIP-211).

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_model::{LeaderEpoch, Offset, Timestamp, TopicId};

use super::{ClassicGroup, GroupState};
use crate::codec::OffsetCommitValue;
use crate::message::{FetchedOffset, FetchedTopic, OffsetFetchTopic};

#[derive(Debug, Default)]
pub(crate) struct Offsets {
    topics: BTreeMap<String, BTreeMap<i32, OffsetCommitValue>>,
}

impl Offsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(crate) fn count(&self) -> usize {
        self.topics.values().map(BTreeMap::len).sum()
    }

    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&OffsetCommitValue> {
        self.topics.get(topic)?.get(&partition)
    }

    pub(crate) fn insert(&mut self, topic: String, partition: i32, value: OffsetCommitValue) {
        self.topics.entry(topic).or_default().insert(partition, value);
    }

    pub(crate) fn remove(&mut self, topic: &str, partition: i32) {
        let Some(partitions) = self.topics.get_mut(topic) else { return };
        partitions.remove(&partition);
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, i32, &OffsetCommitValue)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(|(partition, value)| (topic.as_str(), *partition, value))
        })
    }

    /// The partitions of a topic that have an offset.
    pub(crate) fn of_topic(&self, topic: &str) -> impl Iterator<Item = (i32, &OffsetCommitValue)> {
        self.topics.get(topic).into_iter().flatten().map(|(partition, value)| (*partition, value))
    }

    pub(crate) fn fetch(&self, topic: OffsetFetchTopic) -> FetchedTopic {
        let offset_of = |partition: i32| {
            let value = self.get(&topic.name, partition).filter(|value| {
                // An offset of a topic that was deleted and created again says nothing about the one that is there.
                topic.topic_id.is_zero() || value.topic_id.is_zero() || value.topic_id == topic.topic_id
            });
            fetched(partition, value)
        };
        let partitions = topic.partitions.iter().map(|partition| offset_of(*partition)).collect();
        FetchedTopic { partitions, name: topic.name, topic_id: topic.topic_id }
    }

    pub(crate) fn fetch_all(&self) -> Vec<FetchedTopic> {
        let fetched_topic = |(name, partitions): (&String, &BTreeMap<i32, OffsetCommitValue>)| FetchedTopic {
            name: name.clone(),
            topic_id: TopicId::ZERO,
            partitions: partitions.iter().map(|(partition, value)| fetched(*partition, Some(value))).collect(),
        };
        self.topics.iter().map(fetched_topic).collect()
    }

    /// The offsets nobody has needed for `retention`. `None` where the group's state keeps them all.
    ///
    /// The time counts from when the group became empty; for a simple group, or a topic a stable consumer group is not
    /// subscribed to, from the last commit. An offset with its own expiry goes by that.
    pub(crate) fn expired(
        &self,
        group: &ClassicGroup,
        now: Timestamp,
        retention: Duration,
    ) -> Option<Vec<(String, i32)>> {
        let empty_since = match (&group.protocol_type, group.state) {
            (None, _) => None,
            (Some(_), GroupState::Empty) => group.state_since,
            (Some(_), GroupState::Stable) if group.is_consumer() && group.knows_subscriptions() => None,
            (Some(_), _) => return None,
        };
        let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let is_expired = |value: &OffsetCommitValue| match value.expire_timestamp {
            Some(expire_timestamp) => now >= expire_timestamp,
            None => {
                let unused_since = empty_since.unwrap_or(value.commit_timestamp);
                now.millis().saturating_sub(unused_since.millis()) >= retention_ms
            }
        };
        let expired = self.iter().filter(|(topic, _, value)| !group.is_subscribed_to(topic) && is_expired(value));
        Some(expired.map(|(topic, partition, _)| (topic.to_owned(), partition)).collect())
    }
}

pub(crate) fn fetched(partition: i32, value: Option<&OffsetCommitValue>) -> FetchedOffset {
    match value {
        Some(value) => FetchedOffset {
            partition,
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.clone(),
        },
        None => FetchedOffset {
            partition,
            offset: Offset::UNKNOWN,
            leader_epoch: LeaderEpoch::NONE,
            metadata: String::new(),
        },
    }
}
