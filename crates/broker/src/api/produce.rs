//! Produce, versions 3 to 13 (KIP-98, KIP-467, KIP-516, KIP-951).
//!
//! The batches stay slices of the request's frame from the socket to the file. The appends are done, in the order of
//! the request, before the next request of the connection starts; only the commit is waited for.

use std::time::Duration;

use bytes::Bytes;
use chronik_log::Appended;
use chronik_model::{NodeId, Offset, Timestamp, TopicId};
use chronik_record::{Attributes, ProducePolicy};
use chronik_wire::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use chronik_wire::messages::{ProduceRequest, ProduceResponse};
use chronik_wire::produce::{Partition as ProducedPartition, ProduceRequestView, Topic};
use chronik_wire::{DecodeError, ErrorCode};
use tokio::time::{Instant, timeout_at};

use super::{Answer, Call, Started};
use crate::error_code;
use crate::replica::Committed;
use crate::tasks;

const ACKS_NONE: i16 = 0;
const ACKS_LEADER: i16 = 1;
const ACKS_ALL: i16 = -1;

/// What became of one partition of the request.
struct Outcome {
    topic: usize,
    index: i32,
    result: Result<Appended, Failure>,
    committed: Committed,
}

pub(super) struct Failure {
    code: ErrorCode,
    message: Option<String>,
    /// Where the log starts, told with errors that came of looking at the log.
    log_start: Option<Offset>,
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self { code, message: None, log_start: None }
    }
}

pub(super) fn start(mut call: Call) -> Result<Started, DecodeError> {
    let version = call.version();
    let request = ProduceRequestView::decode(&mut call.reader, version)?;
    let ProduceRequestView { transactional_id, acks, timeout_ms, topics, partitions } = request;
    let now = call.broker.clock.wall();
    let mut outcomes = Vec::with_capacity(partitions.len());
    // A batch of a transaction that the request does not name: nobody may write it.
    let unauthorised = transactional_id.is_none()
        && partitions.iter().any(|partition| partition.records.as_ref().is_some_and(is_transactional));
    for partition in partitions {
        let (topic, index) = (partition.topic, partition.index);
        let appended = match topics.get(topic) {
            _ if unauthorised => Err(ErrorCode::TransactionalIdAuthorizationFailed.into()),
            Some(topic) if transactional_id.is_none() => append(&call, version, acks, topic, partition, now),
            Some(_) => Err(Failure {
                message: Some("This broker does not serve transactions.".to_owned()),
                ..ErrorCode::InvalidTxnState.into()
            }),
            None => Err(ErrorCode::InvalidRequest.into()),
        };
        let (result, committed) = match appended {
            Ok((appended, committed)) => (Ok(appended), committed),
            Err(failure) => (Err(failure), Committed::Now),
        };
        outcomes.push(Outcome { topic, index, result, committed });
    }
    // The batches are in the log; their memory may serve other requests while this one waits.
    call.release_memory();
    if acks == ACKS_NONE {
        let failed = outcomes.iter().any(|outcome| outcome.result.is_err());
        // Without an answer a closed connection is the only way to tell the producer, as Apache Kafka does.
        return Ok(Started::Done(if failed { Answer::Close } else { Answer::Nothing }));
    }
    if outcomes.iter().all(|outcome| matches!(outcome.committed, Committed::Now)) {
        return Ok(Started::Done(respond(&call, topics, outcomes)));
    }
    Ok(Started::Committing(Box::pin(async move {
        let patience = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        let deadline = Instant::now() + patience;
        for outcome in &mut outcomes {
            let committed = std::mem::replace(&mut outcome.committed, Committed::Now);
            if let Err(code) = commit_by(deadline, committed).await
                && outcome.result.is_ok()
            {
                outcome.result = Err(code.into());
            }
        }
        respond(&call, topics, outcomes)
    })))
}

async fn commit_by(deadline: Instant, committed: Committed) -> Result<(), ErrorCode> {
    match timeout_at(deadline, committed.wait()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(cause)) => Err(error_code::unacknowledged(cause)),
        Err(_) => Err(ErrorCode::RequestTimedOut),
    }
}

fn append(
    call: &Call,
    version: i16,
    acks: i16,
    topic: &Topic,
    partition: ProducedPartition,
    now: Timestamp,
) -> Result<(Appended, Committed), Failure> {
    if !matches!(acks, ACKS_NONE | ACKS_LEADER | ACKS_ALL) {
        return Err(ErrorCode::InvalidRequiredAcks.into());
    }
    let replicas = &call.broker.replicas;
    let target = if version >= 13 {
        replicas.by_id(TopicId(topic.topic_id), partition.index)?
    } else {
        replicas.by_name(&topic.name, partition.index)?
    };
    if chronik_metadata::is_internal_topic(&target.name().topic) && call.client_id() != "__admin_client" {
        return Err(Failure {
            message: Some(format!("Topic {} is internal and written by the broker alone.", target.name().topic)),
            ..ErrorCode::InvalidTopicException.into()
        });
    }
    let settings = target.settings();
    let topic_metrics = &call.broker.metrics;
    let policy = ProducePolicy { produce_version: version, ..settings.produce.clone() };
    let records = partition.records.unwrap_or_default();
    let validate = || chronik_record::validate_produced(records, &policy, now);
    // Decompression may take long; other connections of this thread go on meanwhile.
    let validated = if policy.decompresses() { tasks::aside(validate) } else { validate() };
    let batch = validated.map_err(|invalid| {
        topic_metrics.batches_refused.inc();
        let code = error_code::invalid_batch(&invalid);
        let log_start = tells_log_start(code) && !invalid.is_no_batch();
        let log_start = log_start.then(|| target.reader().bounds().log_start);
        Failure { code, message: Some(invalid.to_string()), log_start }
    })?;
    let appended = target.append(&batch, now, acks == ACKS_ALL).map_err(|error| {
        let code = error_code::produce(&error);
        if code == ErrorCode::KafkaStorageError {
            tracing::error!(partition = %target.name(), %error, "append failed, the partition is offline");
        }
        let log_start = tells_log_start(code).then(|| target.reader().bounds().log_start);
        Failure { code, message: Some(error.to_string()), log_start }
    })?;
    if !appended.0.duplicate {
        topic_metrics.batch_appended(batch.header().records_count, batch.bytes().len());
    }
    Ok(appended)
}

/// Whether Apache Kafka tells the log start with an error.
fn tells_log_start(code: ErrorCode) -> bool {
    !matches!(
        code,
        ErrorCode::CorruptMessage
            | ErrorCode::MessageTooLarge
            | ErrorCode::UnsupportedCompressionType
            | ErrorCode::RecordListTooLarge
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::KafkaStorageError
    )
}

/// Whether the batch says that it belongs to a transaction, as far as the bytes go.
fn is_transactional(records: &Bytes) -> bool {
    Attributes::of(records).is_some_and(Attributes::is_transactional)
}

fn respond(call: &Call, topics: Vec<Topic>, outcomes: Vec<Outcome>) -> Answer {
    let mut responses: Vec<TopicProduceResponse> = topics
        .into_iter()
        .map(|topic| TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses: Vec::new(),
        })
        .collect();
    for outcome in outcomes {
        let response = match outcome.result {
            Ok(appended) => PartitionProduceResponse {
                index: outcome.index,
                base_offset: appended.base_offset.get(),
                log_append_time_ms: appended.log_append_time.millis(),
                log_start_offset: appended.log_start.get(),
                ..Default::default()
            },
            Err(failure) => {
                call.broker.metrics.produce_failed(failure.code);
                let moved = failure.code == ErrorCode::NotLeaderOrFollower && call.version() >= 10;
                PartitionProduceResponse {
                    index: outcome.index,
                    error_code: failure.code.code(),
                    error_message: failure.message,
                    // So that the producer need not look for it (KIP-951).
                    current_leader: moved.then(|| leader_elsewhere(call)).flatten().unwrap_or_default(),
                    base_offset: -1,
                    log_append_time_ms: -1,
                    log_start_offset: failure.log_start.map_or(-1, Offset::get),
                    ..Default::default()
                }
            }
        };
        if let Some(topic) = responses.get_mut(outcome.topic) {
            topic.partition_responses.push(response);
        }
    }
    let moved =
        responses.iter().flat_map(|topic| &topic.partition_responses).any(|row| row.current_leader.leader_id >= 0);
    let node_endpoints = if moved { endpoints(call) } else { Vec::new() };
    call.answer::<ProduceRequest>(&ProduceResponse { responses, node_endpoints, ..Default::default() })
}

/// The leader of everything, where it is another broker that can be reached.
fn leader_elsewhere(call: &Call) -> Option<LeaderIdAndEpoch> {
    let leader = call.broker.controller_id();
    let elsewhere = leader != call.broker.this_node().node_id && leader != NodeId::NONE;
    let leader_epoch = call.broker.image().leader_epoch().get();
    elsewhere.then(|| LeaderIdAndEpoch { leader_id: leader.get(), leader_epoch })
}

fn endpoints(call: &Call) -> Vec<NodeEndpoint> {
    let leader = call.broker.controller_id();
    let brokers = call.broker.brokers_for_clients().into_iter().filter(|(node_id, ..)| *node_id == leader);
    brokers
        .map(|(node_id, host, port, rack)| NodeEndpoint { node_id: node_id.get(), host, port: i32::from(port), rack })
        .collect()
}
