//! Offsets, and what admins ask: commit, fetch, delete, describe, list, expiry, topics that are gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use chronik_model::Timestamp;

use super::{GroupShard, Now, ReplyToken, TimerKey, Turn, must_not_be_empty, split};
use crate::codec::{self, OffsetCommitValue, STRING_BYTES_MAX};
use crate::group::{ClassicGroup, Group, Offsets, offsets};
use crate::message::{
    DeleteGroupsResponse, DescribedGroup, FetchedTopic, ListedGroup, OffsetCommitPartition, OffsetCommitRequest,
    OffsetCommitResponse, OffsetCommitTopic, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, PartitionResult, Response, TopicResult,
};
use crate::{AppendToken, CoordinatorRecord, Effect, GroupError, GroupState};

/// The one type of group here.
const TYPE_CLASSIC: &str = "classic";

impl GroupShard {
    /// OffsetCommit. The reply waits for the append.
    pub fn commit_offsets(
        &mut self,
        now: Now,
        request: OffsetCommitRequest,
        token: ReplyToken,
        effects: &mut Vec<Effect>,
    ) {
        let error = self.refusal().or_else(|| self.commit_refusal(&request));
        let (groups, mut turn) = split!(self, now, effects);
        if let Some(error) = error {
            return turn.reply(token, Response::OffsetCommit(request.refused(error)));
        }
        if let Some(group) = groups.get_mut(request.group_id.as_str()) {
            group.classic.committed_offsets(&mut turn, &request.member_id);
        }

        let expire_timestamp = request.retention.map(|retention| {
            let millis = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
            Timestamp::from_millis(now.wall.millis().saturating_add(millis))
        });
        let mut response = OffsetCommitResponse { topics: Vec::with_capacity(request.topics.len()) };
        let mut records = Vec::new();
        let mut commits = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let value = offset_value(topic, partition, now.wall, expire_timestamp);
                let error = match offset_record(&turn, &request.group_id, topic, partition, &value) {
                    Ok(record) => {
                        records.push(record);
                        commits.push((topic.name.clone(), partition.partition, value));
                        None
                    }
                    Err(error) => Some(error),
                };
                partitions.push(PartitionResult { partition: partition.partition, error });
            }
            response.topics.push(TopicResult { name: topic.name.clone(), topic_id: topic.topic_id, partitions });
        }
        if records.is_empty() {
            return turn.reply(token, Response::OffsetCommit(response));
        }
        if !turn.fits(&records) {
            let response = request.refused(GroupError::InvalidCommitOffsetSize);
            return turn.reply(token, Response::OffsetCommit(response));
        }

        let group_id: Arc<str> = request.group_id.into();
        let group = groups
            .entry(Arc::clone(&group_id))
            .or_insert_with(|| Group { classic: ClassicGroup::new(group_id, None), offsets: Offsets::default() });
        turn.counters.offset_commits += commits.len() as u64;
        for (topic, partition, value) in commits {
            group.offsets.insert(topic, partition, value);
        }
        let append = turn.append(records);
        group.classic.last_append = append;
        turn.reply_after(token, Response::OffsetCommit(response), append);
    }

    fn commit_refusal(&self, request: &OffsetCommitRequest) -> Option<GroupError> {
        if request.group_id.len() > STRING_BYTES_MAX {
            return Some(GroupError::InvalidGroupId);
        }
        match self.groups.get(request.group_id.as_str()) {
            Some(group) => {
                let instance_id = request.instance_id.as_deref();
                group.classic.check_offset_commit(&request.member_id, instance_id, request.generation).err()
            }
            // A client outside any group only stores offsets: they make a simple group.
            None if request.generation < 0 => None,
            None if request.group_id_not_found_supported => Some(GroupError::GroupIdNotFound),
            None => Some(GroupError::IllegalGeneration),
        }
    }

    /// OffsetFetch. The reply waits for the group's last append, so that no answer is ever taken back.
    pub fn fetch_offsets(&self, request: OffsetFetchRequest, token: ReplyToken, effects: &mut Vec<Effect>) {
        let mut after = None;
        let response = match self.read_refusal() {
            Some(error) => OffsetFetchResponse::refused(error, request.group_id),
            None => {
                let group = self.groups.get(request.group_id.as_str());
                // A group that is not there may have been deleted by any append.
                let last = group.map_or(self.appends.last, |group| group.classic.last_append);
                after = Some(last).filter(|last| *last > self.appends.committed);
                let topics = match (group, request.topics) {
                    (Some(group), Some(topics)) => topics.into_iter().map(|topic| group.offsets.fetch(topic)).collect(),
                    (Some(group), None) => group.offsets.fetch_all(),
                    (None, topics) => topics
                        .unwrap_or_default()
                        .into_iter()
                        .map(|topic| FetchedTopic {
                            name: topic.name,
                            topic_id: topic.topic_id,
                            partitions: topic.partitions.iter().map(|index| offsets::fetched(*index, None)).collect(),
                        })
                        .collect(),
                };
                OffsetFetchResponse { group_id: request.group_id, error: None, topics }
            }
        };
        effects.push(Effect::Reply { token, response: Response::OffsetFetch(response), after });
    }

    /// DescribeGroups for the groups that live in this shard.
    ///
    /// # Errors
    /// The shard does not serve; the broker gives the error for each of the groups.
    pub fn describe<S: AsRef<str>>(&self, group_ids: &[S]) -> Result<Vec<DescribedGroup>, GroupError> {
        if let Some(error) = self.read_refusal() {
            return Err(error);
        }
        let describe = |group_id: &S| match self.groups.get(group_id.as_ref()) {
            Some(group) => group.classic.describe(),
            None => DescribedGroup {
                group_id: group_id.as_ref().to_owned(),
                error: Some(GroupError::GroupIdNotFound),
                state: GroupState::Dead,
                protocol_type: String::new(),
                protocol_name: String::new(),
                members: Vec::new(),
            },
        };
        Ok(group_ids.iter().map(describe).collect())
    }

    /// ListGroups: the groups of this shard in one of `states` (KIP-518) and of one of `types` (KIP-848), whatever the
    /// case; no filter lets everything pass.
    ///
    /// # Errors
    /// The shard does not serve. The broker answers COORDINATOR_LOAD_IN_PROGRESS for all if one shard loads, and leaves
    /// out shards that are not coordinated here.
    pub fn list<S: AsRef<str>>(&self, states: &[S], types: &[S]) -> Result<Vec<ListedGroup>, GroupError> {
        if let Some(error) = self.read_refusal() {
            return Err(error);
        }
        if !types.is_empty() && !types.iter().any(|wanted| wanted.as_ref().trim().eq_ignore_ascii_case(TYPE_CLASSIC)) {
            return Ok(Vec::new());
        }
        let is_wanted = |state: GroupState| {
            states.is_empty() || states.iter().any(|wanted| wanted.as_ref().trim().eq_ignore_ascii_case(state.name()))
        };
        let groups = self.groups.values().filter(|group| is_wanted(group.classic.state()));
        Ok(groups.map(|group| group.classic.list()).collect())
    }

    /// DeleteGroups for the groups that live in this shard. The reply waits for the last append.
    pub fn delete_groups(&mut self, now: Now, group_ids: Vec<String>, token: ReplyToken, effects: &mut Vec<Effect>) {
        let refusal = self.refusal();
        let (groups, mut turn) = split!(self, now, effects);
        let mut append = AppendToken::default();
        let mut outcomes = Vec::with_capacity(group_ids.len());
        for group_id in group_ids {
            let error = match (refusal, groups.get(group_id.as_str())) {
                (Some(error), _) => Some(error),
                (None, None) => Some(GroupError::GroupIdNotFound),
                (None, Some(group)) if group.classic.state() != GroupState::Empty => Some(GroupError::NonEmptyGroup),
                (None, Some(group)) => {
                    let offsets = group.offsets.iter().map(|(topic, partition, _)| (topic.to_owned(), partition));
                    let offsets = offsets.collect();
                    turn.counters.offsets_deleted += group.offsets.count() as u64;
                    append = remove_group(&mut turn, group, offsets, "deleted by request").unwrap_or(append);
                    groups.remove(group_id.as_str());
                    None
                }
            };
            outcomes.push((group_id, error));
        }
        let response = Response::DeleteGroups(DeleteGroupsResponse { groups: outcomes });
        turn.reply_after(token, response, append);
    }

    /// OffsetDelete. The reply waits for the append.
    pub fn delete_offsets(
        &mut self,
        now: Now,
        request: OffsetDeleteRequest,
        token: ReplyToken,
        effects: &mut Vec<Effect>,
    ) {
        let refusal = self.refusal().or_else(|| must_not_be_empty(&request.group_id));
        let (groups, mut turn) = split!(self, now, effects);
        let group = groups.get_mut(request.group_id.as_str());
        let error = refusal.or(match &group {
            None => Some(GroupError::GroupIdNotFound),
            // What members of other kinds read cannot be known.
            Some(group) if group.classic.state() != GroupState::Empty && !group.classic.is_consumer() => {
                Some(GroupError::NonEmptyGroup)
            }
            Some(_) => None,
        });
        let (None, Some(group)) = (error, group) else {
            let response = OffsetDeleteResponse { error, topics: Vec::new() };
            return turn.reply(token, Response::OffsetDelete(response));
        };
        let mut deleted = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for (name, partitions) in request.topics {
            let error = group.classic.is_subscribed_to(&name).then_some(GroupError::GroupSubscribedToTopic);
            let mut results = Vec::with_capacity(partitions.len());
            for partition in partitions {
                if error.is_none() && group.offsets.get(&name, partition).is_some() {
                    group.offsets.remove(&name, partition);
                    deleted.push((name.clone(), partition));
                }
                results.push(PartitionResult { partition, error });
            }
            topics.push(TopicResult { name, topic_id: chronik_model::TopicId::ZERO, partitions: results });
        }
        turn.counters.offsets_deleted += deleted.len() as u64;
        if let Some(append) = turn.append_split(offset_tombstones(group.classic.id(), deleted)) {
            group.classic.last_append = append;
        }
        let response = OffsetDeleteResponse { error: None, topics };
        turn.reply_after(token, Response::OffsetDelete(response), group.classic.last_append);
    }

    /// The topics are gone, named with their ids: so are the offsets committed for them. Those of a topic that was made again
    /// under the same name stay; a commit that noted no id is the deleted topic's.
    pub fn on_topics_deleted<S: AsRef<str>>(
        &mut self,
        now: Now,
        topics: &[(S, chronik_model::TopicId)],
        effects: &mut Vec<Effect>,
    ) {
        if self.refusal().is_some() {
            return;
        }
        let (groups, mut turn) = split!(self, now, effects);
        for group in groups.values_mut() {
            let mut deleted = BTreeSet::new();
            for (topic, id) in topics {
                let of_it = group.offsets.of_topic(topic.as_ref());
                let of_it = of_it.filter(|(_, value)| value.topic_id.is_zero() || value.topic_id == *id);
                deleted.extend(of_it.map(|(partition, _)| (topic.as_ref().to_owned(), partition)));
            }
            turn.counters.offsets_deleted += deleted.len() as u64;
            remove_offsets(&mut turn, group, deleted.into_iter().collect());
        }
    }

    /// Forgets the offsets of topics that are gone while nobody told: `exists` knows a topic by its name and, where the commit
    /// noted one, its id. A topic made again under its name is not the topic that was read.
    pub fn retain_topics(
        &mut self,
        now: Now,
        exists: impl Fn(&str, chronik_model::TopicId) -> bool,
        effects: &mut Vec<Effect>,
    ) {
        if self.refusal().is_some() {
            return;
        }
        let (groups, mut turn) = split!(self, now, effects);
        for group in groups.values_mut() {
            let gone = group.offsets.iter().filter(|(topic, _, value)| !exists(topic, value.topic_id));
            let gone: Vec<_> = gone.map(|(topic, partition, _)| (topic.to_owned(), partition)).collect();
            turn.counters.offsets_deleted += gone.len() as u64;
            remove_offsets(&mut turn, group, gone);
        }
    }

    /// Offsets nobody has needed for `offsets.retention.minutes` go, and with the last of them groups nobody is in.
    pub(super) fn cleanup(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let (groups, mut turn) = split!(self, now, effects);
        groups.retain(|_, group| {
            let expired = group.offsets.expired(&group.classic, now.wall, turn.config.offsets_retention);
            let expired = expired.unwrap_or_default();
            turn.counters.offsets_expired += expired.len() as u64;
            if expired.len() == group.offsets.count() && group.classic.is_vacant() {
                remove_group(&mut turn, group, expired, "nobody is in it and its offsets have expired");
                return false;
            }
            remove_offsets(&mut turn, group, expired);
            true
        });
        let interval = turn.config.offsets_retention_check_interval;
        turn.schedule(TimerKey::Cleanup, interval);
    }
}

fn offset_value(
    topic: &OffsetCommitTopic,
    partition: &OffsetCommitPartition,
    commit_timestamp: Timestamp,
    expire_timestamp: Option<Timestamp>,
) -> OffsetCommitValue {
    OffsetCommitValue {
        offset: partition.offset,
        leader_epoch: partition.leader_epoch,
        metadata: partition.metadata.clone().unwrap_or_default(),
        commit_timestamp,
        expire_timestamp,
        topic_id: topic.topic_id,
    }
}

fn offset_record(
    turn: &Turn<'_>,
    group_id: &str,
    topic: &OffsetCommitTopic,
    partition: &OffsetCommitPartition,
    value: &OffsetCommitValue,
) -> Result<CoordinatorRecord, GroupError> {
    let is_longer_than = |max: usize| value.metadata.encode_utf16().nth(max).is_some();
    if is_longer_than(turn.config.offset_metadata_max) {
        return Err(GroupError::OffsetMetadataTooLarge);
    }
    let key = codec::offset_commit_key(group_id, &topic.name, partition.partition);
    let key = key.map_err(|_| GroupError::InvalidTopic)?;
    let value = value.encode().map_err(|_| GroupError::OffsetMetadataTooLarge)?;
    Ok(CoordinatorRecord { key, value: Some(value) })
}

fn offset_tombstones(group_id: &str, offsets: Vec<(String, i32)>) -> Vec<CoordinatorRecord> {
    let tombstone = |(topic, partition): (String, i32)| {
        // A key that was written once can be written again.
        CoordinatorRecord::new(codec::offset_commit_key(group_id, &topic, partition), None).ok()
    };
    offsets.into_iter().filter_map(tombstone).collect()
}

fn remove_offsets(turn: &mut Turn<'_>, group: &mut Group, offsets: Vec<(String, i32)>) {
    for (topic, partition) in &offsets {
        group.offsets.remove(topic, *partition);
    }
    if let Some(append) = turn.append_split(offset_tombstones(group.classic.id(), offsets)) {
        group.classic.last_append = append;
    }
}

/// The records that take a group out of the log: its offsets first, so that a log cut between them still has the group.
/// The caller takes it out of memory.
fn remove_group(turn: &mut Turn<'_>, group: &Group, offsets: Vec<(String, i32)>, reason: &str) -> Option<AppendToken> {
    group.classic.cancel_timers(turn);
    turn.effects.push(group.classic.died(reason.to_owned()));
    let mut records = offset_tombstones(group.classic.id(), offsets);
    records.extend(group.classic.tombstone());
    turn.append_split(records)
}
