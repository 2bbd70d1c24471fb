//! Metadata 0 to 13, DescribeTopicPartitions (KIP-966) and DescribeCluster (KIP-700): what the image says.

use std::collections::BTreeSet;
use std::sync::Arc;

use chronik_metadata::{Image, Partition, Topic};
use chronik_model::{NodeId, TopicId};
use chronik_wire::messages::describe_cluster_response::DescribeClusterBroker;
use chronik_wire::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use chronik_wire::messages::metadata_request::MetadataRequestTopic;
use chronik_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use chronik_wire::messages::{
    DescribeClusterRequest, DescribeClusterResponse, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    MetadataRequest, MetadataResponse,
};
use chronik_wire::{ErrorCode, Uuid};

use super::Call;
use super::authorized_operations::{self, NOT_ASKED};

/// Brokers, as opposed to controllers, in DescribeCluster.
const ENDPOINT_BROKERS: i8 = 1;
const ENDPOINT_CONTROLLERS: i8 = 2;

pub(super) async fn handle(call: Arc<Call>, request: MetadataRequest) -> MetadataResponse {
    let version = call.version();
    let all = match &request.topics {
        None => true,
        // Version 0 has no null.
        Some(topics) => version == 0 && topics.is_empty(),
    };
    let topics = if all {
        let image = call.broker.image();
        image.topics().map(|topic| found(&call, topic, &request)).collect()
    } else {
        asked(&call, &request).await
    };
    let brokers = call
        .broker
        .brokers_for_clients()
        .into_iter()
        .map(|(node_id, host, port, rack)| MetadataResponseBroker {
            node_id: node_id.get(),
            host,
            port: i32::from(port),
            rack,
        })
        .collect();
    MetadataResponse {
        brokers,
        cluster_id: Some(call.broker.replicas.cluster_id().to_string()),
        controller_id: call.broker.controller_id().get(),
        topics,
        cluster_authorized_operations: if (8..=10).contains(&version) && request.include_cluster_authorized_operations {
            authorized_operations::CLUSTER
        } else {
            NOT_ASKED
        },
        ..Default::default()
    }
}

/// The topics that the request names, creating those that are missing where that is allowed.
async fn asked(call: &Arc<Call>, request: &MetadataRequest) -> Vec<MetadataResponseTopic> {
    let mut seen = BTreeSet::new();
    let topics: Vec<&MetadataRequestTopic> =
        request.topics.iter().flatten().filter(|topic| seen.insert((topic.name.as_deref(), topic.topic_id))).collect();
    let image = call.broker.image();
    let missing: Vec<String> = topics
        .iter()
        .filter(|topic| topic.topic_id == Uuid::ZERO)
        .filter_map(|topic| topic.name.clone())
        .filter(|name| image.topic(name).is_none())
        .collect();
    let may_create = call.version() < 4 || request.allow_auto_topic_creation;
    let created = if missing.is_empty() || !may_create || !call.broker.settings().auto_create_topics {
        Default::default()
    } else {
        call.broker.create_automatically(missing, call.client_id()).await
    };
    let image = call.broker.image();
    topics
        .into_iter()
        .map(|topic| {
            if topic.topic_id != Uuid::ZERO {
                return match image.topic_by_id(TopicId(topic.topic_id)) {
                    Some(topic) => found(call, topic, request),
                    None => MetadataResponseTopic {
                        error_code: ErrorCode::UnknownTopicId.code(),
                        // Versions before 12 have no null.
                        name: if call.version() < 12 { Some(String::new()) } else { None },
                        topic_id: topic.topic_id,
                        topic_authorized_operations: NOT_ASKED,
                        ..Default::default()
                    },
                };
            }
            let name = topic.name.clone().unwrap_or_default();
            match image.topic(&name) {
                Some(topic) => found(call, topic, request),
                None => MetadataResponseTopic {
                    error_code: match created.get(&name) {
                        Some(code) => code.code(),
                        None if chronik_metadata::validate_topic_name(&name).is_err() => {
                            ErrorCode::InvalidTopicException.code()
                        }
                        None => ErrorCode::UnknownTopicOrPartition.code(),
                    },
                    is_internal: chronik_metadata::is_internal_topic(&name),
                    name: Some(name),
                    topic_authorized_operations: NOT_ASKED,
                    ..Default::default()
                },
            }
        })
        .collect()
}

fn found(call: &Call, topic: &Topic, request: &MetadataRequest) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: ErrorCode::None.code(),
        name: Some(topic.name.to_string()),
        topic_id: topic.id.0,
        is_internal: chronik_metadata::is_internal_topic(&topic.name),
        partitions: topic
            .partitions
            .iter()
            .zip(0..)
            .map(|(partition, partition_index)| MetadataResponsePartition {
                error_code: leader_error(partition).code(),
                partition_index,
                leader_id: call.broker.leader_for_clients(partition.leader).get(),
                leader_epoch: partition.leader_epoch.get(),
                replica_nodes: nodes(&partition.replicas),
                isr_nodes: nodes(&partition.isr),
                offline_replicas: offline(call, partition),
            })
            .collect(),
        topic_authorized_operations: if request.include_topic_authorized_operations {
            authorized_operations::TOPIC
        } else {
            NOT_ASKED
        },
    }
}

/// Replicas on brokers that are not connected.
fn offline(call: &Call, partition: &Partition) -> Vec<i32> {
    let image = call.broker.image();
    let is_offline = |node_id: &&NodeId| image.brokers().get(node_id).is_some_and(|broker| broker.is_fenced);
    partition.replicas.iter().filter(is_offline).map(|node_id| node_id.get()).collect()
}

fn nodes(ids: &[NodeId]) -> Vec<i32> {
    ids.iter().map(|id| id.get()).collect()
}

fn leader_error(partition: &Partition) -> ErrorCode {
    if partition.leader == NodeId::NONE { ErrorCode::LeaderNotAvailable } else { ErrorCode::None }
}

/// Pages through topics in name order, never more than the broker's limit of partitions at once.
pub(super) fn describe_topic_partitions(
    call: &Call,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = call.broker.image();
    let limit_max = call.broker.settings().max_request_partition_size_limit;
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, limit_max.max(1));
    let mut names: BTreeSet<&str> = if request.topics.is_empty() {
        image.topics().map(|topic| &*topic.name).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.as_str()).collect()
    };
    let (first_topic, first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), usize::try_from(cursor.partition_index).unwrap_or(0)),
        None => ("", 0),
    };
    names.retain(|name| *name >= first_topic);
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut left = limit;
    for name in names {
        let skip = if name == first_topic { first_partition } else { 0 };
        if left == 0 {
            response.next_cursor = Some(cursor(name, skip));
            break;
        }
        let Some(topic) = image.topic(name) else {
            // Asked for by name; a listing of all never meets this.
            let valid = chronik_metadata::validate_topic_name(name).is_ok();
            let code = if valid { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::InvalidTopicException };
            response.topics.push(DescribeTopicPartitionsResponseTopic {
                error_code: code.code(),
                name: Some(name.to_owned()),
                topic_authorized_operations: NOT_ASKED,
                ..Default::default()
            });
            continue;
        };
        let shown: Vec<_> =
            (0..).zip(&topic.partitions).skip(skip).take(left).map(|row| partition_row(call, row)).collect();
        left -= shown.len();
        let next = skip + shown.len();
        response.topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::None.code(),
            name: Some(name.to_owned()),
            topic_id: topic.id.0,
            is_internal: chronik_metadata::is_internal_topic(name),
            partitions: shown,
            topic_authorized_operations: authorized_operations::TOPIC,
        });
        if next < topic.partitions.len() {
            response.next_cursor = Some(cursor(name, next));
            break;
        }
    }
    response
}

fn cursor(topic_name: &str, partition: usize) -> Cursor {
    Cursor { topic_name: topic_name.to_owned(), partition_index: i32::try_from(partition).unwrap_or(i32::MAX) }
}

fn partition_row(
    call: &Call,
    (partition_index, partition): (i32, &Partition),
) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition {
        error_code: leader_error(partition).code(),
        partition_index,
        leader_id: call.broker.leader_for_clients(partition.leader).get(),
        leader_epoch: partition.leader_epoch.get(),
        replica_nodes: nodes(&partition.replicas),
        isr_nodes: nodes(&partition.isr),
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: offline(call, partition),
    }
}

pub(super) fn describe_cluster(call: &Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    if call.version() >= 1 && request.endpoint_type != ENDPOINT_BROKERS {
        let (code, message) = if request.endpoint_type == ENDPOINT_CONTROLLERS {
            (ErrorCode::MismatchedEndpointType, "The request was sent to an endpoint of the wrong type.")
        } else {
            (ErrorCode::UnsupportedEndpointType, "Unsupported endpoint type.")
        };
        return DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some(message.to_owned()),
            ..Default::default()
        };
    }
    let image: Arc<Image> = call.broker.image();
    let row = |node_id: NodeId, host: String, port: u16, rack, is_fenced| DescribeClusterBroker {
        broker_id: node_id.get(),
        host,
        port: i32::from(port),
        rack,
        is_fenced,
    };
    let reachable = call.broker.brokers_for_clients();
    // Asked for since version 2 (KIP-1073).
    let fenced = image.brokers().values().filter(|broker| {
        request.include_fenced_brokers && !reachable.iter().any(|(node_id, ..)| *node_id == broker.node_id)
    });
    let fenced: Vec<_> =
        fenced.map(|broker| row(broker.node_id, broker.host.clone(), broker.port, broker.rack.clone(), true)).collect();
    DescribeClusterResponse {
        endpoint_type: ENDPOINT_BROKERS,
        cluster_id: call.broker.replicas.cluster_id().to_string(),
        controller_id: call.broker.controller_id().get(),
        brokers: reachable
            .into_iter()
            .map(|(node_id, host, port, rack)| row(node_id, host, port, rack, false))
            .chain(fenced)
            .collect(),
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            authorized_operations::CLUSTER
        } else {
            NOT_ASKED
        },
        ..Default::default()
    }
}
