//! The committed offsets of groups: OffsetCommit 2 to 10, OffsetFetch 1 to 10 (KIP-709), OffsetDelete (KIP-496).

use std::sync::Arc;

use chronik_coordinator::message::{self, FetchedTopic, OffsetCommitPartition, OffsetCommitTopic, OffsetFetchTopic};
use chronik_coordinator::{GroupError, Response};
use chronik_metadata::Image;
use chronik_model::{LeaderEpoch, Offset, TopicId};
use chronik_wire::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use chronik_wire::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use chronik_wire::messages::offset_fetch_request::OffsetFetchRequestGroup;
use chronik_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use chronik_wire::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse,
};
use chronik_wire::{ErrorCode, Uuid};

use super::Call;
use crate::error_code::{group, group_or_none};

const MISMATCH: GroupError = GroupError::UnknownServerError;

/// From this version on topics are named by id (KIP-848 and KIP-516).
const BY_ID: i16 = 10;

/// The name of a topic that a request names, or why there is none.
fn topic_name(image: &Image, version: i16, name: &str, id: Uuid) -> Result<(String, TopicId), ErrorCode> {
    if version >= BY_ID {
        let topic = image.topic_by_id(TopicId(id)).ok_or(ErrorCode::UnknownTopicId)?;
        return Ok((topic.name.to_string(), topic.id));
    }
    let topic = image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok((name.to_owned(), topic.id))
}

pub(super) async fn commit(call: Arc<Call>, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let version = call.version();
    let image = call.broker.image();
    // Every partition at its place in the answer; those refused here never reach the group.
    let mut answer = Vec::with_capacity(request.topics.len());
    let mut topics = Vec::new();
    for asked in request.topics {
        let found = topic_name(&image, version, &asked.name, asked.topic_id);
        let partitions_known =
            found.as_ref().ok().and_then(|(name, _)| image.topic(name)).map_or(0, |t| t.partitions.len());
        let mut row = OffsetCommitResponseTopic { name: asked.name, topic_id: asked.topic_id, partitions: Vec::new() };
        let mut accepted = Vec::new();
        for partition in asked.partitions {
            let index = partition.partition_index;
            let exists = usize::try_from(index).is_ok_and(|index| index < partitions_known);
            let code = match &found {
                Err(code) => *code,
                Ok(_) if !exists => ErrorCode::UnknownTopicOrPartition,
                Ok(_) => {
                    accepted.push(OffsetCommitPartition {
                        partition: index,
                        offset: Offset::new(partition.committed_offset),
                        leader_epoch: LeaderEpoch::new(partition.committed_leader_epoch),
                        metadata: partition.committed_metadata,
                    });
                    ErrorCode::None
                }
            };
            row.partitions.push(OffsetCommitResponsePartition { partition_index: index, error_code: code.code() });
        }
        if let Ok((name, topic_id)) = found
            && !accepted.is_empty()
        {
            topics.push((answer.len(), OffsetCommitTopic { name, topic_id, partitions: accepted }));
        }
        answer.push(row);
    }
    if topics.is_empty() && !answer.is_empty() {
        return OffsetCommitResponse { topics: answer, ..Default::default() };
    }
    let mut commit = message::OffsetCommitRequest {
        group_id: request.group_id.clone(),
        generation: request.generation_id_or_member_epoch,
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        retention: u64::try_from(request.retention_time_ms).ok().map(std::time::Duration::from_millis),
        group_id_not_found_supported: version >= 9,
        topics: Vec::new(),
    };
    let mut rows = Vec::with_capacity(topics.len());
    let committed = call
        .broker
        .group_call(&request.group_id, |shard, now, token, effects| {
            // Looked at while the group's shard is held: the offsets of a topic that goes later will be told to it.
            let image = call.broker.image();
            for (row, topic) in topics {
                if is_there(&image, &topic) {
                    rows.push(row);
                    commit.topics.push(topic);
                } else if let Some(row) = answer.get_mut(row) {
                    let accepted = row.partitions.iter_mut().filter(|partition| partition.error_code == 0);
                    accepted.for_each(|partition| partition.error_code = ErrorCode::UnknownTopicOrPartition.code());
                }
            }
            shard.commit_offsets(now, commit, token, effects);
        })
        .await;
    match committed {
        Ok(Response::OffsetCommit(response)) => {
            for (at, topic) in rows.into_iter().zip(response.topics) {
                let Some(row) = answer.get_mut(at) else { continue };
                for result in topic.partitions {
                    let place = row.partitions.iter_mut().find(|p| p.partition_index == result.partition);
                    if let (Some(place), Some(error)) = (place, result.error) {
                        place.error_code = group(error).code();
                    }
                }
            }
        }
        other => {
            let code = group(other.err().unwrap_or(MISMATCH)).code();
            let open = answer.iter_mut().flat_map(|row| &mut row.partitions).filter(|p| p.error_code == 0);
            open.for_each(|partition| partition.error_code = code);
        }
    }
    OffsetCommitResponse { topics: answer, ..Default::default() }
}

/// Whether the topic that a commit means is the one that has its name.
fn is_there(image: &Image, topic: &OffsetCommitTopic) -> bool {
    image.topic(&topic.name).is_some_and(|known| known.id == topic.topic_id)
}

pub(super) async fn fetch(call: Arc<Call>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let version = call.version();
    let require_stable = request.require_stable;
    if version >= 8 {
        let mut groups = Vec::with_capacity(request.groups.len());
        for asked in request.groups {
            groups.push(fetch_group(&call, asked, require_stable).await);
        }
        return OffsetFetchResponse { groups, ..Default::default() };
    }
    let asked = message::OffsetFetchRequest {
        group_id: request.group_id,
        topics: request.topics.as_ref().map(|topics| {
            let topic = |t: &chronik_wire::messages::offset_fetch_request::OffsetFetchRequestTopic| OffsetFetchTopic {
                name: t.name.clone(),
                topic_id: TopicId::ZERO,
                partitions: t.partition_indexes.clone(),
            };
            topics.iter().map(topic).collect()
        }),
        require_stable,
    };
    match fetch_from_group(&call, asked).await {
        Ok(topics) => OffsetFetchResponse { topics: topics.into_iter().map(old_topic).collect(), ..Default::default() },
        // Version 1 has no place for an error but the partitions.
        Err(error) if version < 2 => {
            let code = group(error).code();
            let topics = request.topics.into_iter().flatten().map(|topic| OffsetFetchResponseTopic {
                partitions: topic
                    .partition_indexes
                    .iter()
                    .map(|index| OffsetFetchResponsePartition {
                        partition_index: *index,
                        committed_offset: -1,
                        committed_leader_epoch: -1,
                        metadata: Some(String::new()),
                        error_code: code,
                    })
                    .collect(),
                name: topic.name,
            });
            OffsetFetchResponse { topics: topics.collect(), ..Default::default() }
        }
        Err(error) => OffsetFetchResponse { error_code: group(error).code(), ..Default::default() },
    }
}

async fn fetch_from_group(call: &Call, asked: message::OffsetFetchRequest) -> Result<Vec<FetchedTopic>, GroupError> {
    let group_id = asked.group_id.clone();
    let fetched = call
        .broker
        .group_call(&group_id, |shard, _, token, effects| shard.fetch_offsets(asked, token, effects))
        .await?;
    match fetched {
        Response::OffsetFetch(message::OffsetFetchResponse { error: Some(error), .. }) => Err(error),
        Response::OffsetFetch(response) => Ok(response.topics),
        _ => Err(MISMATCH),
    }
}

fn old_topic(topic: FetchedTopic) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition| OffsetFetchResponsePartition {
        partition_index: partition.partition,
        committed_offset: partition.offset.get(),
        committed_leader_epoch: partition.leader_epoch.get(),
        metadata: Some(partition.metadata),
        error_code: ErrorCode::None.code(),
    });
    OffsetFetchResponseTopic { name: topic.name, partitions: partitions.collect() }
}

async fn fetch_group(call: &Call, asked: OffsetFetchRequestGroup, require_stable: bool) -> OffsetFetchResponseGroup {
    let version = call.version();
    let image = call.broker.image();
    let mut refused = Vec::new();
    let topics = asked.topics.map(|topics| {
        let mut known = Vec::with_capacity(topics.len());
        for topic in topics {
            if version < BY_ID {
                // Offsets of a topic that is gone can still be asked for by its name.
                known.push(OffsetFetchTopic {
                    name: topic.name,
                    topic_id: TopicId::ZERO,
                    partitions: topic.partition_indexes,
                });
                continue;
            }
            match topic_name(&image, version, &topic.name, topic.topic_id) {
                Ok((name, topic_id)) => {
                    known.push(OffsetFetchTopic { name, topic_id, partitions: topic.partition_indexes });
                }
                Err(code) => refused.push(OffsetFetchResponseTopics {
                    name: topic.name,
                    topic_id: topic.topic_id,
                    partitions: topic.partition_indexes.into_iter().map(|index| without_offset(index, code)).collect(),
                }),
            }
        }
        known
    });
    let request = message::OffsetFetchRequest { group_id: asked.group_id.clone(), topics, require_stable };
    match fetch_from_group(call, request).await {
        Ok(fetched) => {
            let mut topics: Vec<_> =
                fetched.into_iter().filter_map(|topic| fetched_topic(&image, version, topic)).collect();
            topics.append(&mut refused);
            OffsetFetchResponseGroup { group_id: asked.group_id, topics, error_code: ErrorCode::None.code() }
        }
        Err(error) => {
            OffsetFetchResponseGroup { group_id: asked.group_id, topics: Vec::new(), error_code: group(error).code() }
        }
    }
}

fn without_offset(partition_index: i32, code: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(String::new()),
        error_code: code.code(),
    }
}

/// A topic's offsets; `None` where ids are spoken and the topic has none any more.
fn fetched_topic(image: &Image, version: i16, topic: FetchedTopic) -> Option<OffsetFetchResponseTopics> {
    let topic_id = if version < BY_ID {
        TopicId::ZERO
    } else if topic.topic_id.is_zero() {
        image.topic(&topic.name)?.id
    } else {
        topic.topic_id
    };
    let partitions = topic.partitions.into_iter().map(|partition| OffsetFetchResponsePartitions {
        partition_index: partition.partition,
        committed_offset: partition.offset.get(),
        committed_leader_epoch: partition.leader_epoch.get(),
        metadata: Some(partition.metadata),
        error_code: ErrorCode::None.code(),
    });
    let name = if version < BY_ID { topic.name } else { String::new() };
    Some(OffsetFetchResponseTopics { name, topic_id: topic_id.0, partitions: partitions.collect() })
}

pub(super) async fn delete(call: Arc<Call>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let image = call.broker.image();
    let mut rows: Vec<OffsetDeleteResponseTopic> = Vec::with_capacity(request.topics.len());
    let mut topics = Vec::new();
    for asked in request.topics {
        let known = image.topic(&asked.name).map_or(0, |topic| topic.partitions.len());
        let mut accepted = Vec::new();
        let mut row = OffsetDeleteResponseTopic { name: asked.name.clone(), partitions: Vec::new() };
        for partition in asked.partitions {
            let index = partition.partition_index;
            let exists = usize::try_from(index).is_ok_and(|index| index < known);
            let code = if exists { ErrorCode::None } else { ErrorCode::UnknownTopicOrPartition };
            if exists {
                accepted.push(index);
            }
            row.partitions.push(OffsetDeleteResponsePartition { partition_index: index, error_code: code.code() });
        }
        if !accepted.is_empty() {
            topics.push((asked.name, accepted));
        }
        rows.push(row);
    }
    let group_id = request.group_id.clone();
    let delete = message::OffsetDeleteRequest { group_id: request.group_id, topics };
    let deleted = call
        .broker
        .groups
        .call(&group_id, |shard, now, token, effects| shard.delete_offsets(now, delete, token, effects))
        .await;
    let (error, results) = match deleted {
        Ok(Response::OffsetDelete(response)) => (response.error, response.topics),
        other => (Some(other.err().unwrap_or(MISMATCH)), Vec::new()),
    };
    if let Some(error) = error {
        return OffsetDeleteResponse { error_code: group(error).code(), ..Default::default() };
    }
    for result in results {
        let Some(row) = rows.iter_mut().find(|row| row.name == result.name) else { continue };
        for partition in result.partitions {
            let place = row.partitions.iter_mut().find(|place| place.partition_index == partition.partition);
            if let Some(place) = place {
                place.error_code = group_or_none(partition.error).code();
            }
        }
    }
    OffsetDeleteResponse { topics: rows, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chronik_metadata::Record;

    use super::*;

    #[test]
    fn a_commit_for_a_topic_that_went_is_not_one_for_its_successor() {
        let id = |byte| TopicId(Uuid::from_bytes([byte; 16]));
        let created = |byte| Record::TopicCreated {
            id: id(byte),
            name: "t".into(),
            partitions: Vec::new(),
            configs: BTreeMap::new(),
        };
        let commit = OffsetCommitTopic { name: "t".to_owned(), topic_id: id(1), partitions: Vec::new() };
        let there = Image::default().apply(&created(1)).unwrap();
        assert!(is_there(&there, &commit));
        let gone = there.apply(&Record::TopicRemoved { id: id(1) }).unwrap();
        assert!(!is_there(&gone, &commit));
        assert!(!is_there(&gone.apply(&created(2)).unwrap(), &commit));
    }
}
