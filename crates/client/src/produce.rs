//! Appending record batches.

use std::collections::VecDeque;

use bytes::Bytes;
use chronik_model::{NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId};
use chronik_wire::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use chronik_wire::messages::{InitProducerIdRequest, ProduceResponse};
use chronik_wire::{ApiKey, ErrorCode, Uuid};

use crate::client::{Client, Target};
use crate::error::ClientError;
use crate::pipeline::Pipeline;
use crate::retry::Retry;

/// First version of Produce that names topics by id.
const BY_ID_SINCE: i16 = 13;

/// What an answer to a produced batch means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// There is no answer.
    None,
    /// The leader has the batch in its log.
    Leader,
    /// Every in-sync replica has it, as safely as the topic asks for.
    All,
}

impl Acks {
    fn on_the_wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// What makes a producer's batches recognisable, so that one sent twice is stored once (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// Goes into every batch.
    pub id: ProducerId,
    /// Goes into every batch.
    pub epoch: ProducerEpoch,
}

impl Client {
    /// Asks for a producer id of one's own.
    pub async fn init_producer(&mut self) -> Result<ProducerIdentity, ClientError> {
        let mut retry = Retry::new(self.options.retry_max);
        loop {
            let request = InitProducerIdRequest {
                transactional_id: None,
                transaction_timeout_ms: i32::MAX,
                ..InitProducerIdRequest::default()
            };
            let asked = match self.send(Target::Bootstrap, request).await {
                Ok(response) => {
                    ClientError::check(response.error_code, None, || "producer id".to_owned()).map(|()| response)
                }
                Err(error) => Err(error),
            };
            match asked {
                Ok(response) => {
                    return Ok(ProducerIdentity {
                        id: ProducerId::new(response.producer_id),
                        epoch: ProducerEpoch::new(response.producer_epoch),
                    });
                }
                Err(error) if error.retryable() && retry.pause().await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Appends one record batch to a partition and returns the offset of its first record; `None` without acks.
    ///
    /// A batch that carries a producer identity is sent again also where the first attempt may have succeeded; one without
    /// is only sent again where it certainly did not.
    pub async fn produce(
        &mut self,
        topic: &str,
        partition: PartitionIndex,
        batch: Bytes,
        acks: Acks,
        identity: Option<ProducerIdentity>,
    ) -> Result<Option<Offset>, ClientError> {
        let mut retry = Retry::new(self.options.retry_max);
        loop {
            match self.produce_once(topic, partition, batch.clone(), acks).await {
                Err(error)
                    if error.retryable() && (identity.is_some() || !error.outcome_unknown()) && retry.pause().await =>
                {
                    self.forget_topic(topic);
                }
                done => return done,
            }
        }
    }

    async fn produce_once(
        &mut self,
        topic: &str,
        partition: PartitionIndex,
        batch: Bytes,
        acks: Acks,
    ) -> Result<Option<Offset>, ClientError> {
        let leader = self.leader(topic, partition).await?;
        let target = Target::Node(leader.node);
        let timeout_ms = i32::try_from(self.options.request_max.as_millis()).unwrap_or(i32::MAX);
        let request = |version| produce_request(version, topic, leader.topic_id, partition, batch, acks, timeout_ms);
        if acks == Acks::None {
            self.send_unanswered(target, request).await?;
            return Ok(None);
        }
        let response = self.send_as(target, request).await?;
        match base_offset(response, &self.address(target)?, topic, partition) {
            Ok(base_offset) => Ok(Some(base_offset)),
            // The batch is there since an earlier attempt, too long ago for the broker to know its offset.
            Err(ClientError::Refused { code: ErrorCode::DuplicateSequenceNumber, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The offset of the first record of the one batch that was sent.
fn base_offset(
    response: ProduceResponse,
    address: &str,
    topic: &str,
    partition: PartitionIndex,
) -> Result<Offset, ClientError> {
    let Some(answer) = response.responses.into_iter().flat_map(|topic| topic.partition_responses).next() else {
        return Err(ClientError::incomplete(address, ApiKey::Produce, "the partition is missing"));
    };
    let subject = || format!("partition {topic}-{partition}");
    ClientError::check(answer.error_code, answer.error_message.as_deref(), subject)?;
    Ok(Offset::new(answer.base_offset))
}

/// The acks a pipeline can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredAcks {
    /// The leader has the batch in its log.
    Leader,
    /// Every in-sync replica has it, as safely as the topic asks for.
    All,
}

impl From<AnsweredAcks> for Acks {
    fn from(acks: AnsweredAcks) -> Self {
        match acks {
            AnsweredAcks::Leader => Self::Leader,
            AnsweredAcks::All => Self::All,
        }
    }
}

/// A connection to one broker on which several batches are on their way at a time, one in each request.
///
/// Nothing is sent again. After an error the pipeline must be dropped; what was in flight may be in the log.
#[derive(Debug)]
pub struct ProducePipeline {
    pipeline: Pipeline<ProduceRequest>,
    topic: String,
    topic_id: TopicId,
    acks: Acks,
    timeout_ms: i32,
    /// The partitions of the batches in flight, oldest first.
    partitions: VecDeque<PartitionIndex>,
}

/// A batch that is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Where it is.
    pub partition: PartitionIndex,
    /// The offset of its first record.
    pub base_offset: Offset,
}

impl Client {
    /// Opens a pipeline to the broker that leads the partitions to write to, for at most `in_flight_max` requests.
    pub async fn produce_pipeline(
        &mut self,
        topic: &str,
        leader: NodeId,
        acks: AnsweredAcks,
        in_flight_max: usize,
    ) -> Result<ProducePipeline, ClientError> {
        let topic_id = self.topic(topic).await?.id;
        let answer_max = self.options.request_max;
        Ok(ProducePipeline {
            pipeline: Pipeline::open(self, Target::Node(leader), in_flight_max, answer_max).await?,
            topic: topic.to_owned(),
            topic_id,
            acks: acks.into(),
            timeout_ms: i32::try_from(answer_max.as_millis()).unwrap_or(i32::MAX),
            partitions: VecDeque::new(),
        })
    }
}

impl ProducePipeline {
    /// Whether another batch is taken.
    pub fn has_room(&self) -> bool {
        self.pipeline.has_room()
    }

    /// How many batches are not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.pipeline.in_flight()
    }

    /// Sends a batch without waiting; `false` where the pipeline is full and the batch was not taken.
    pub fn push(&mut self, partition: PartitionIndex, batch: Bytes) -> Result<bool, ClientError> {
        let Self { pipeline, topic, topic_id, acks, timeout_ms, .. } = self;
        let taken = pipeline
            .push(|version| produce_request(version, topic, *topic_id, partition, batch, *acks, *timeout_ms))?;
        if taken {
            self.partitions.push_back(partition);
        }
        Ok(taken)
    }

    /// The acknowledgement of the oldest batch in flight. Never ready while there is none; may be left and begun again.
    pub async fn answer(&mut self) -> Result<Produced, ClientError> {
        let response = self.pipeline.answer().await?;
        let Some(partition) = self.partitions.pop_front() else { return std::future::pending().await };
        let base_offset = base_offset(response, self.pipeline.address(), &self.topic, partition)?;
        Ok(Produced { partition, base_offset })
    }
}

fn produce_request(
    version: i16,
    topic: &str,
    topic_id: TopicId,
    partition: PartitionIndex,
    batch: Bytes,
    acks: Acks,
    timeout_ms: i32,
) -> ProduceRequest {
    let by_id = version >= BY_ID_SINCE;
    ProduceRequest {
        transactional_id: None,
        acks: acks.on_the_wire(),
        timeout_ms,
        topic_data: vec![TopicProduceData {
            name: if by_id { String::new() } else { topic.to_owned() },
            topic_id: if by_id { topic_id.0 } else { Uuid::ZERO },
            partition_data: vec![PartitionProduceData { index: partition.get(), records: Some(batch) }],
        }],
    }
}
