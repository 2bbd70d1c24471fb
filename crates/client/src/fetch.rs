//! Reading record batches.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chronik_model::{NodeId, Offset, PartitionIndex};
use chronik_wire::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use chronik_wire::{ErrorCode, Uuid};

use crate::client::{Client, Target};
use crate::error::ClientError;
use crate::metadata::Leader;
use crate::retry::Retry;

/// First version of Fetch that names topics by id.
const BY_ID_SINCE: i16 = 13;
/// Session id and epoch of a fetch outside any session (KIP-227).
const NO_SESSION: (i32, i32) = (0, -1);

/// How long a fetch waits and how much it brings.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// Longest time brokers wait for the first byte, in all.
    pub wait_max: Duration,
    /// Bytes of one answer, but for a first batch that is larger alone.
    pub bytes_max: i32,
    /// Bytes of one partition in one answer, likewise.
    pub partition_bytes_max: i32,
}

/// What a fetch brought from one partition.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The partition.
    pub partition: PartitionIndex,
    /// Record batches as the broker keeps them; the first may begin before the offset asked for, the last may be cut.
    pub records: Bytes,
    /// One past the last record consumers see.
    pub high_watermark: Offset,
    /// The first offset kept.
    pub log_start: Offset,
}

impl Client {
    /// Reads from partitions of one topic, each from its offset, committed or not.
    ///
    /// Leaders are asked one after the other and share the waiting time. An answer with a partition's error that may pass
    /// is retried as a whole.
    pub async fn fetch(
        &mut self,
        topic: &str,
        positions: &BTreeMap<PartitionIndex, Offset>,
        limits: FetchLimits,
    ) -> Result<Vec<Fetched>, ClientError> {
        let mut retry = Retry::new(self.options.retry_max);
        loop {
            match self.fetch_once(topic, positions, limits).await {
                Err(error) if error.retryable() && retry.pause().await => self.forget_topic(topic),
                done => return done,
            }
        }
    }

    async fn fetch_once(
        &mut self,
        topic: &str,
        positions: &BTreeMap<PartitionIndex, Offset>,
        limits: FetchLimits,
    ) -> Result<Vec<Fetched>, ClientError> {
        let mut by_leader: BTreeMap<NodeId, Vec<(PartitionIndex, Offset, Leader)>> = BTreeMap::new();
        for (&partition, &offset) in positions {
            let leader = self.leader(topic, partition).await?;
            by_leader.entry(leader.node).or_default().push((partition, offset, leader));
        }
        let leaders = u32::try_from(by_leader.len()).unwrap_or(u32::MAX).max(1);
        let wait = limits.wait_max / leaders;
        let mut fetched = Vec::with_capacity(positions.len());
        for (node, asked) in by_leader {
            let answer_max = self.options.request_max.saturating_add(wait);
            let request = |version| fetch_request(version, topic, &asked, wait, limits);
            let response = self.send_within(Target::Node(node), answer_max, request).await?;
            ClientError::check(response.error_code, None, || format!("topic {topic}"))?;
            for answer in response.responses.into_iter().flat_map(|topic| topic.partitions) {
                let subject = || format!("partition {topic}-{}", answer.partition_index);
                ClientError::check(answer.error_code, None, subject)?;
                fetched.push(Fetched {
                    partition: PartitionIndex::new(answer.partition_index),
                    records: answer.records.unwrap_or_default(),
                    high_watermark: Offset::new(answer.high_watermark),
                    log_start: Offset::new(answer.log_start_offset),
                });
            }
        }
        Ok(fetched)
    }
}

fn fetch_request(
    version: i16,
    topic: &str,
    asked: &[(PartitionIndex, Offset, Leader)],
    wait: Duration,
    limits: FetchLimits,
) -> FetchRequest {
    let by_id = version >= BY_ID_SINCE;
    let topic_id = asked.first().map_or(Uuid::ZERO, |(_, _, leader)| leader.topic_id.0);
    let (session_id, session_epoch) = NO_SESSION;
    let partitions = asked.iter().map(|&(partition, offset, leader)| FetchPartition {
        partition: partition.get(),
        current_leader_epoch: leader.epoch.get(),
        fetch_offset: offset.get(),
        partition_max_bytes: limits.partition_bytes_max,
        ..FetchPartition::default()
    });
    FetchRequest {
        max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: 1,
        max_bytes: limits.bytes_max,
        session_id,
        session_epoch,
        topics: vec![FetchTopic {
            topic: if by_id { String::new() } else { topic.to_owned() },
            topic_id: if by_id { topic_id } else { Uuid::ZERO },
            partitions: partitions.collect(),
        }],
        ..FetchRequest::default()
    }
}

impl ClientError {
    /// Whether the offset asked for is not, or no longer, in the partition.
    pub fn is_offset_out_of_range(&self) -> bool {
        matches!(self, Self::Refused { code: ErrorCode::OffsetOutOfRange, .. })
    }
}
