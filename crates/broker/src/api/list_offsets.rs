//! ListOffsets, versions 1 to 11 (KIP-79, KIP-320, KIP-734, KIP-405, KIP-1005, KIP-1023).
//!
//! A look-up by time reads the log, so the work is done off the threads that serve connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_log::ReadBound;
use chronik_model::{Offset, Timestamp};
use chronik_wire::ErrorCode;
use chronik_wire::messages::list_offsets_request::ListOffsetsPartition;
use chronik_wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use chronik_wire::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::Call;
use crate::error_code;
use crate::replica::Partition;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Timestamp, offset and leader epoch of an answer.
type Found = (Timestamp, Offset, i32);

const NOTHING: Found = (Timestamp::NONE, Offset::UNKNOWN, -1);

pub(super) async fn handle(call: Arc<Call>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let version = call.version();
    let by_time = |p: &ListOffsetsPartition| p.timestamp >= 0 || p.timestamp == MAX_TIMESTAMP;
    if !request.topics.iter().flat_map(|topic| &topic.partitions).any(by_time) {
        return answer(request, version, |topic, asked, bound| look_up(&call, topic, asked, bound));
    }
    let again = request.clone();
    let looker = Arc::clone(&call);
    let looked = call.broker.look_ups.run(move |turn| {
        answer(request, version, |topic, asked, bound| {
            if turn.is_over() { Err(ErrorCode::RequestTimedOut) } else { look_up(&looker, topic, asked, bound) }
        })
    });
    match looked.await {
        Some(response) => response,
        None => {
            tracing::error!("look-up by time panicked");
            answer(again, version, |_, _, _| Err(ErrorCode::UnknownServerError))
        }
    }
}

fn answer(
    request: ListOffsetsRequest,
    version: i16,
    mut look_up: impl FnMut(&str, &ListOffsetsPartition, ReadBound) -> Result<Found, ErrorCode>,
) -> ListOffsetsResponse {
    let bound = if request.isolation_level == 1 { ReadBound::LastStable } else { ReadBound::HighWatermark };
    let topics = request
        .topics
        .into_iter()
        .map(|topic| {
            let mut times_asked = BTreeMap::new();
            for asked in &topic.partitions {
                *times_asked.entry(asked.partition_index).or_insert(0) += 1;
            }
            // A partition asked for twice is answered once, and refused.
            let partitions = topic
                .partitions
                .iter()
                .filter_map(|asked| Some((asked, times_asked.remove(&asked.partition_index)?)))
                .map(|(asked, times)| {
                    let found =
                        if times == 1 { look_up(&topic.name, asked, bound) } else { Err(ErrorCode::InvalidRequest) };
                    let (code, (timestamp, offset, leader_epoch)) = match found {
                        Ok(found) => (ErrorCode::None, found),
                        Err(code) => (code, NOTHING),
                    };
                    ListOffsetsPartitionResponse {
                        partition_index: asked.partition_index,
                        error_code: code.code(),
                        timestamp: timestamp.millis(),
                        offset: offset.get(),
                        // Came with version 4.
                        leader_epoch: if version >= 4 { leader_epoch } else { -1 },
                    }
                })
                .collect();
            ListOffsetsTopicResponse { name: topic.name, partitions }
        })
        .collect();
    ListOffsetsResponse { topics, ..Default::default() }
}

fn look_up(call: &Call, topic: &str, asked: &ListOffsetsPartition, bound: ReadBound) -> Result<Found, ErrorCode> {
    let version = call.version();
    let partition = call.broker.replicas.by_name(topic, asked.partition_index)?;
    let standing = partition.standing();
    error_code::check_leader_epoch(asked.current_leader_epoch, standing.leader_epoch)?;
    if !standing.is_readable || call.broker.is_fenced() {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    let view = partition.reader().bounds();
    let at = |offset: Offset| (Timestamp::NONE, offset, epoch_at(&partition, offset));
    let latest = if bound == ReadBound::LastStable { view.last_stable } else { view.high_watermark };
    // A version that does not know a special timestamp refuses it, as Apache Kafka does.
    let since = |first: i16| if version >= first { Ok(()) } else { Err(ErrorCode::UnsupportedVersion) };
    let by_time = match asked.timestamp {
        // It would be told lower than it was before (KIP-207).
        LATEST if !standing.end_is_known && version >= 5 => return Err(ErrorCode::OffsetNotAvailable),
        LATEST if !standing.end_is_known => return Err(ErrorCode::LeaderNotAvailable),
        LATEST => return Ok((Timestamp::NONE, latest, partition.leader_epoch().get())),
        EARLIEST => return Ok(at(view.log_start)),
        EARLIEST_LOCAL => return since(8).map(|()| at(view.log_start)),
        // Nothing is tiered.
        LATEST_TIERED => return since(9).map(|()| (Timestamp::NONE, Offset::UNKNOWN, -1)),
        EARLIEST_PENDING_UPLOAD => return since(11).map(|()| NOTHING),
        MAX_TIMESTAMP => {
            since(7)?;
            partition.reader().max_timestamp()
        }
        timestamp if timestamp >= 0 => {
            partition.reader().offset_for_timestamp(Timestamp::from_millis(timestamp), bound)
        }
        _ => return Err(ErrorCode::UnsupportedVersion),
    };
    let found = by_time.map_err(|error| {
        tracing::error!(partition = %partition.name(), %error, "look-up by time failed");
        error_code::read(&error)
    })?;
    Ok(found
        .map_or(NOTHING, |found| (found.timestamp, found.offset, found.leader_epoch.map_or(-1, |epoch| epoch.get()))))
}

/// The leader epoch of the record at `offset`, or of the one to come.
fn epoch_at(partition: &Partition, offset: Offset) -> i32 {
    partition.reader().epoch_of(offset).unwrap_or(partition.leader_epoch()).get()
}
