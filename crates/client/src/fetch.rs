//! Reading record batches.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chronik_model::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId};
use chronik_wire::messages::FetchResponse;
use chronik_wire::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use chronik_wire::{ApiKey, ErrorCode, Uuid};

use crate::client::{Client, Target};
use crate::error::ClientError;
use crate::metadata::TopicInfo;
use crate::pipeline::Pipeline;
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
        let mut by_leader: BTreeMap<NodeId, (TopicId, Vec<Wanted>)> = BTreeMap::new();
        for (&partition, &offset) in positions {
            let leader = self.leader(topic, partition).await?;
            let (_, wanted) = by_leader.entry(leader.node).or_insert((leader.topic_id, Vec::new()));
            wanted.push(Wanted { partition, offset, leader_epoch: leader.epoch });
        }
        let leaders = u32::try_from(by_leader.len()).unwrap_or(u32::MAX).max(1);
        let limits = FetchLimits { wait_max: limits.wait_max / leaders, ..limits };
        let mut fetched = Vec::with_capacity(positions.len());
        for (node, (topic_id, wanted)) in by_leader {
            fetched.extend(self.ask_records(Target::Node(node), topic, topic_id, &wanted, limits).await?);
        }
        Ok(fetched)
    }

    /// Reads from the replica that the broker `to` has of a partition, whoever leads it. `topic` is as that broker describes
    /// it.
    pub async fn fetch_replica(
        &mut self,
        to: Target,
        topic: &TopicInfo,
        partition: PartitionIndex,
        offset: Offset,
        limits: FetchLimits,
    ) -> Result<Fetched, ClientError> {
        let wanted = [Wanted { partition, offset, leader_epoch: LeaderEpoch::NONE }];
        let mut retry = Retry::new(self.options.retry_max);
        loop {
            match self.ask_records(to, &topic.name, topic.id, &wanted, limits).await {
                Ok(fetched) => {
                    let answer = fetched.into_iter().find(|fetched| fetched.partition == partition);
                    let address = self.address(to)?;
                    return answer
                        .ok_or_else(|| ClientError::incomplete(&address, ApiKey::Fetch, "the partition is missing"));
                }
                Err(error) if error.retryable() && retry.pause().await => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn ask_records(
        &mut self,
        to: Target,
        topic: &str,
        topic_id: TopicId,
        wanted: &[Wanted],
        limits: FetchLimits,
    ) -> Result<Vec<Fetched>, ClientError> {
        let answer_max = self.options.request_max.saturating_add(limits.wait_max);
        let request = |version| fetch_request(version, topic, topic_id, wanted, limits);
        let response = self.send_within(to, answer_max, request).await?;
        fetched(response, topic)
    }

    /// Opens a pipeline to the broker that leads the partitions to read from, for at most `in_flight_max` fetches.
    pub async fn fetch_pipeline(
        &mut self,
        topic: &str,
        leader: NodeId,
        limits: FetchLimits,
        in_flight_max: usize,
    ) -> Result<FetchPipeline, ClientError> {
        let topic_id = self.topic(topic).await?.id;
        let answer_max = self.options.request_max.saturating_add(limits.wait_max);
        Ok(FetchPipeline {
            pipeline: Pipeline::open(self, Target::Node(leader), in_flight_max, answer_max).await?,
            topic: topic.to_owned(),
            topic_id,
            limits,
        })
    }
}

/// A connection to one broker on which the next fetch is on its way while the records of the last one are looked at.
///
/// Nothing is asked again. After an error the pipeline must be dropped.
#[derive(Debug)]
pub struct FetchPipeline {
    pipeline: Pipeline<FetchRequest>,
    topic: String,
    topic_id: TopicId,
    limits: FetchLimits,
}

impl FetchPipeline {
    /// Asks for records of these partitions without waiting; `false` where the pipeline is full and nothing was asked.
    pub fn push(&mut self, positions: &BTreeMap<PartitionIndex, Offset>) -> Result<bool, ClientError> {
        let wanted =
            positions.iter().map(|(&partition, &offset)| Wanted { partition, offset, leader_epoch: LeaderEpoch::NONE });
        let wanted: Vec<Wanted> = wanted.collect();
        let Self { pipeline, topic, topic_id, limits } = self;
        pipeline.push(|version| fetch_request(version, topic, *topic_id, &wanted, *limits))
    }

    /// What the oldest fetch brought. Never ready while there is none; may be left and begun again.
    pub async fn answer(&mut self) -> Result<Vec<Fetched>, ClientError> {
        let response = self.pipeline.answer().await?;
        fetched(response, &self.topic)
    }
}

/// What an answer brings; the first error of a partition fails it as a whole.
fn fetched(response: FetchResponse, topic: &str) -> Result<Vec<Fetched>, ClientError> {
    ClientError::check(response.error_code, None, || format!("topic {topic}"))?;
    let mut fetched = Vec::new();
    for answer in response.responses.into_iter().flat_map(|topic| topic.partitions) {
        ClientError::check(answer.error_code, None, || format!("partition {topic}-{}", answer.partition_index))?;
        fetched.push(Fetched {
            partition: PartitionIndex::new(answer.partition_index),
            records: answer.records.unwrap_or_default(),
            high_watermark: Offset::new(answer.high_watermark),
            log_start: Offset::new(answer.log_start_offset),
        });
    }
    Ok(fetched)
}

/// What is asked of one partition.
struct Wanted {
    partition: PartitionIndex,
    offset: Offset,
    leader_epoch: LeaderEpoch,
}

fn fetch_request(version: i16, topic: &str, topic_id: TopicId, wanted: &[Wanted], limits: FetchLimits) -> FetchRequest {
    let by_id = version >= BY_ID_SINCE;
    let (session_id, session_epoch) = NO_SESSION;
    let partitions = wanted.iter().map(|wanted| FetchPartition {
        partition: wanted.partition.get(),
        current_leader_epoch: wanted.leader_epoch.get(),
        fetch_offset: wanted.offset.get(),
        partition_max_bytes: limits.partition_bytes_max,
        ..FetchPartition::default()
    });
    FetchRequest {
        max_wait_ms: i32::try_from(limits.wait_max.as_millis()).unwrap_or(i32::MAX),
        min_bytes: 1,
        max_bytes: limits.bytes_max,
        session_id,
        session_epoch,
        topics: vec![FetchTopic {
            topic: if by_id { String::new() } else { topic.to_owned() },
            topic_id: if by_id { topic_id.0 } else { Uuid::ZERO },
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
