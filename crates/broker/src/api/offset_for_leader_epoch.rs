//! OffsetForLeaderEpoch, versions 2 to 4 (KIP-101, KIP-279, KIP-320): where an epoch ended.

use chronik_model::LeaderEpoch;
use chronik_wire::ErrorCode;
use chronik_wire::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use chronik_wire::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use chronik_wire::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::Call;
use crate::error_code;

pub(super) fn handle(call: &Call, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = request
        .topics
        .into_iter()
        .map(|topic| {
            let partitions = topic
                .partitions
                .iter()
                .map(|asked| {
                    let (code, leader_epoch, end_offset) = match end_of(call, &topic.topic, asked) {
                        Ok((epoch, end)) => (ErrorCode::None, epoch, end),
                        Err(code) => (code, -1, -1),
                    };
                    EpochEndOffset { error_code: code.code(), partition: asked.partition, leader_epoch, end_offset }
                })
                .collect();
            OffsetForLeaderTopicResult { topic: topic.topic, partitions }
        })
        .collect();
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}

fn end_of(call: &Call, topic: &str, asked: &OffsetForLeaderPartition) -> Result<(i32, i64), ErrorCode> {
    let partition = call.broker.replicas.by_name(topic, asked.partition)?;
    let standing = partition.standing();
    error_code::check_leader_epoch(asked.current_leader_epoch, standing.leader_epoch)?;
    if !standing.is_readable || call.broker.is_fenced() {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    let end = partition.reader().end_offset_for_epoch(LeaderEpoch::new(asked.leader_epoch));
    // An epoch that is not known here has no end.
    Ok(end.map_or((-1, -1), |(epoch, end)| (epoch.get(), end.get())))
}
