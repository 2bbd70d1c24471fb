//! Asking partitions for offsets.

use chronik_model::{LeaderEpoch, Offset, PartitionIndex, Timestamp};
use chronik_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};

use crate::client::{Client, Target};
use crate::error::ClientError;
use crate::retry::Retry;

/// Which offset of a partition to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// The first one kept.
    Start,
    /// The high watermark: one past the last record consumers see.
    End,
    /// The first one whose timestamp is this or later.
    Time(Timestamp),
}

impl OffsetAt {
    fn on_the_wire(self) -> i64 {
        match self {
            Self::Start => -2,
            Self::End => -1,
            Self::Time(timestamp) => timestamp.millis(),
        }
    }
}

impl Client {
    /// Asks a partition's leader for an offset; `None` where no record is as late as the time asked for.
    pub async fn offset(
        &mut self,
        topic: &str,
        partition: PartitionIndex,
        at: OffsetAt,
    ) -> Result<Option<Offset>, ClientError> {
        let mut retry = Retry::new(self.options.retry_max);
        loop {
            match self.offset_once(topic, partition, at).await {
                Err(error) if error.retryable() && retry.pause().await => self.forget_topic(topic),
                done => return done,
            }
        }
    }

    async fn offset_once(
        &mut self,
        topic: &str,
        partition: PartitionIndex,
        at: OffsetAt,
    ) -> Result<Option<Offset>, ClientError> {
        let leader = self.leader(topic, partition).await?;
        self.ask_offset(Target::Node(leader.node), topic, partition, at).await
    }

    /// Asks the broker `to` for an offset of its own replica, whoever leads the partition.
    pub async fn replica_offset(
        &mut self,
        to: Target,
        topic: &str,
        partition: PartitionIndex,
        at: OffsetAt,
    ) -> Result<Option<Offset>, ClientError> {
        let mut retry = Retry::new(self.options.retry_max);
        loop {
            match self.ask_offset(to, topic, partition, at).await {
                Err(error) if error.retryable() && retry.pause().await => {}
                done => return done,
            }
        }
    }

    async fn ask_offset(
        &mut self,
        target: Target,
        topic: &str,
        partition: PartitionIndex,
        at: OffsetAt,
    ) -> Result<Option<Offset>, ClientError> {
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: topic.to_owned(),
                partitions: vec![ListOffsetsPartition {
                    partition_index: partition.get(),
                    current_leader_epoch: LeaderEpoch::NONE.get(),
                    timestamp: at.on_the_wire(),
                }],
            }],
            ..ListOffsetsRequest::default()
        };
        let response = self.send(target, request).await?;
        let answer = response.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let Some(answer) = answer else {
            let address = self.address(target)?;
            return Err(ClientError::incomplete(
                &address,
                chronik_wire::ApiKey::ListOffsets,
                "the partition is missing",
            ));
        };
        ClientError::check(answer.error_code, None, || format!("partition {topic}-{partition}"))?;
        Ok((answer.offset >= 0).then(|| Offset::new(answer.offset)))
    }
}
