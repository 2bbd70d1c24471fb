//! DescribeQuorum, versions 0 to 2 (KIP-595, KIP-836, KIP-853): the controllers and how far their logs are.

use chronik_wire::ErrorCode;
use chronik_wire::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use chronik_wire::messages::{DescribeQuorumRequest, DescribeQuorumResponse};

use super::Call;

/// The topic that stands for the controller's log.
const METADATA_TOPIC: &str = "__cluster_metadata";

pub(super) fn handle(call: &Call, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let quorum = call.broker.controller.quorum();
    let asked_rightly = matches!(request.topics.as_slice(), [topic] if topic.topic_name == METADATA_TOPIC
        && matches!(topic.partitions.as_slice(), [partition] if partition.partition_index == 0));
    if !asked_rightly {
        // Names what was asked, each refused where it stands.
        let topics = request
            .topics
            .into_iter()
            .map(|topic| TopicData {
                partitions: topic
                    .partitions
                    .iter()
                    .map(|partition| PartitionData {
                        partition_index: partition.partition_index,
                        error_code: ErrorCode::UnknownTopicOrPartition.code(),
                        ..Default::default()
                    })
                    .collect(),
                topic_name: topic.topic_name,
            })
            .collect();
        return DescribeQuorumResponse { topics, ..Default::default() };
    }
    let voters: Vec<ReplicaState> = quorum
        .voters
        .iter()
        .map(|voter| ReplicaState {
            replica_id: voter.node_id.get(),
            log_end_offset: voter.log_end.get(),
            last_fetch_timestamp: voter.last_fetch.millis(),
            last_caught_up_timestamp: voter.last_caught_up.millis(),
            ..Default::default()
        })
        .collect();
    // The nodes came with version 2.
    let listed = if call.version() >= 2 { quorum.voters.as_slice() } else { &[] };
    let nodes = listed
        .iter()
        .filter_map(|voter| {
            let broker = call.broker.image().brokers().get(&voter.node_id)?.clone();
            let listeners = vec![Listener { name: "CONTROLLER".to_owned(), host: broker.host, port: broker.port }];
            Some(Node { node_id: voter.node_id.get(), listeners })
        })
        .collect();
    let partition = PartitionData {
        partition_index: 0,
        leader_id: quorum.leader.get(),
        leader_epoch: quorum.leader_epoch.get(),
        high_watermark: quorum.high_watermark.get(),
        current_voters: voters,
        ..Default::default()
    };
    let topic = TopicData { topic_name: METADATA_TOPIC.to_owned(), partitions: vec![partition] };
    DescribeQuorumResponse { topics: vec![topic], nodes, ..Default::default() }
}
