//! Creates and deletes topics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chronik_model::{TopicId, Uuid};

use super::error::{AssignmentError, InvalidConfig, PartitionsError, ReplicationFactorError, RequestError, RuleError};
use super::placement::{check_assignment, default_factor, new_partition, place};
use super::topic_name::{CLUSTER_METADATA, TopicNameError, validate_topic_name};
use super::{Decision, PARTITIONS_PER_REQUEST_MAX};
use crate::command::{Configs, CreatedTopic, DeletedTopic, NewTopic, Outcome, TopicCreation, TopicRef};
use crate::config::{BrokerSettings, StaticConfig, effective_topic_configs, validate_topic};
use crate::image::{Image, Partition};
use crate::record::Record;

pub(super) fn create(
    image: &Image,
    topics: Vec<NewTopic>,
    fixed: &StaticConfig,
    ids: &mut dyn FnMut() -> Uuid,
) -> Decision {
    let settings = BrokerSettings::resolve(image, fixed);
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for topic in &topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let is_excessive = partitions_asked(&topics, &settings) > PARTITIONS_PER_REQUEST_MAX;
    let mut unified: BTreeMap<String, String> = BTreeMap::new();
    let mut records = Vec::new();
    let mut answered = BTreeSet::new();
    let mut results = Vec::new();
    for topic in topics {
        if !answered.insert(topic.name.clone()) {
            continue;
        }
        let result = if times.get(&topic.name).is_some_and(|times| *times > 1) {
            Err(RequestError::DuplicateTopicName.into())
        } else if topic.name == CLUSTER_METADATA {
            Err(RequestError::InternalTopic { name: topic.name.clone() }.into())
        } else if is_excessive {
            Err(RuleError::TooManyPartitions)
        } else {
            plan(image, &topic, &settings, fixed, &unified)
        };
        let result = result.map(|planned| {
            let id = new_id(image, &records, ids);
            unified.insert(topic.name.replace('.', "_"), topic.name.clone());
            let created = CreatedTopic {
                id,
                num_partitions: i32::try_from(planned.partitions.len()).unwrap_or(i32::MAX),
                replication_factor: planned
                    .partitions
                    .first()
                    .and_then(|partition| i16::try_from(partition.replicas.len()).ok())
                    .unwrap_or(i16::MAX),
                configs: effective_topic_configs(&planned.configs, image, fixed).into(),
            };
            records.push(Record::TopicCreated {
                id,
                name: Arc::from(topic.name.as_str()),
                partitions: planned.partitions,
                configs: planned.configs,
            });
            created
        });
        results.push(TopicCreation { name: topic.name, result });
    }
    Decision { records, outcome: Outcome::TopicsCreated(results) }
}

struct Planned {
    partitions: Vec<Partition>,
    configs: Configs,
}

/// How many partitions the request would create, each count as it was given.
fn partitions_asked(topics: &[NewTopic], settings: &BrokerSettings) -> usize {
    topics.iter().fold(0_usize, |sum, topic| {
        let count = match (topic.assignments.len(), topic.num_partitions) {
            (0, -1) => usize::try_from(settings.num_partitions).unwrap_or(0),
            (0, count) => usize::try_from(count).unwrap_or(0),
            (assigned, _) => assigned,
        };
        sum.saturating_add(count)
    })
}

fn plan(
    image: &Image,
    topic: &NewTopic,
    settings: &BrokerSettings,
    fixed: &StaticConfig,
    unified: &BTreeMap<String, String>,
) -> Result<Planned, RuleError> {
    let name = &topic.name;
    validate_topic_name(name)?;
    if image.topic(name).is_some() {
        return Err(RuleError::TopicAlreadyExists { name: name.clone() });
    }
    let existing = image.colliding_topic(name).map(|existing| existing.to_string());
    if let Some(existing) = existing.or_else(|| unified.get(&name.replace('.', "_")).cloned()) {
        return Err(TopicNameError::Collision { name: name.clone(), existing }.into());
    }
    let configs = given_configs(&topic.configs)?;
    validate_topic(&configs, image, fixed)?;
    let partitions =
        if topic.assignments.is_empty() { placed(image, topic, settings)? } else { assigned(image, topic)? };
    Ok(Planned { partitions, configs })
}

fn given_configs(given: &[(String, Option<String>)]) -> Result<Configs, RuleError> {
    let mut configs = Configs::new();
    let mut without_value = Vec::new();
    for (key, value) in given {
        match value {
            Some(value) => {
                configs.insert(key.clone(), value.clone());
            }
            None => without_value.push(key.clone()),
        }
    }
    if without_value.is_empty() { Ok(configs) } else { Err(InvalidConfig::NullValues { keys: without_value }.into()) }
}

fn placed(image: &Image, topic: &NewTopic, settings: &BrokerSettings) -> Result<Vec<Partition>, RuleError> {
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        return Err(ReplicationFactorError::NotPositive.into());
    }
    if topic.num_partitions < -1 || topic.num_partitions == 0 {
        return Err(PartitionsError::NotPositive.into());
    }
    let factor = match topic.replication_factor {
        -1 => default_factor(image, settings.default_replication_factor),
        factor => factor,
    };
    let count = if topic.num_partitions == -1 { settings.num_partitions } else { topic.num_partitions };
    let count = usize::try_from(count).map_err(|_| PartitionsError::NotPositive)?;
    Ok(place(image, 0, count, factor)?)
}

fn assigned(image: &Image, topic: &NewTopic) -> Result<Vec<Partition>, RuleError> {
    if topic.replication_factor != -1 {
        return Err(RequestError::AssignmentAndReplicationFactor.into());
    }
    if topic.num_partitions != -1 {
        return Err(RequestError::AssignmentAndPartitions.into());
    }
    let mut partitions = BTreeMap::new();
    let mut expected = None;
    for (partition, replicas) in &topic.assignments {
        if partitions.contains_key(partition) {
            return Err(AssignmentError::PartitionTwice { partition: *partition }.into());
        }
        check_assignment(image, replicas, expected)?;
        expected = Some(replicas.len());
        partitions.insert(*partition, new_partition(image, replicas.clone()));
    }
    if partitions.keys().zip(0..).any(|(partition, expected)| *partition != expected) {
        return Err(AssignmentError::Gap.into());
    }
    Ok(partitions.into_values().collect())
}

/// An id that no topic has or had, as far as is known.
fn new_id(image: &Image, records: &[Record], ids: &mut dyn FnMut() -> Uuid) -> TopicId {
    loop {
        let id = TopicId(ids());
        let taken = image.topic_by_id(id).is_some()
            || image.deletions_pending().any(|removed| removed.id == id)
            || matches!(records.last(), Some(Record::TopicCreated { id: last, .. }) if *last == id);
        if !taken && !id.is_zero() {
            return id;
        }
    }
}

pub(super) fn delete(image: &Image, topics: Vec<TopicRef>, fixed: &StaticConfig) -> Decision {
    let is_enabled = BrokerSettings::resolve(image, fixed).delete_topics;
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut by_id: BTreeMap<TopicId, usize> = BTreeMap::new();
    for topic in &topics {
        match (&topic.name, topic.id.is_zero()) {
            (Some(name), true) => *names.entry(name.clone()).or_default() += 1,
            (None, false) => *by_id.entry(topic.id).or_default() += 1,
            _ => {}
        }
    }
    let mut records = Vec::new();
    let mut answered: BTreeSet<(Option<String>, TopicId)> = BTreeSet::new();
    let mut results = Vec::new();
    for TopicRef { name, id } in topics {
        if !answered.insert((name.clone(), id)) {
            continue;
        }
        let found = match (&name, id.is_zero()) {
            _ if !is_enabled => Err(RuleError::TopicDeletionDisabled),
            (None, true) => Err(RequestError::NeitherNameNorId.into()),
            (Some(_), false) => Err(RequestError::NameAndId.into()),
            (Some(name), true) => match image.topic(name) {
                _ if names.get(name).is_some_and(|times| *times > 1) => Err(RequestError::DuplicateTopicName.into()),
                None => Err(RuleError::UnknownTopic),
                Some(topic) if by_id.contains_key(&topic.id) => Err(RequestError::NameOfSuppliedId.into()),
                Some(topic) => Ok(topic),
            },
            (None, false) => match image.topic_by_id(id) {
                _ if by_id.get(&id).is_some_and(|times| *times > 1) => Err(RequestError::DuplicateTopicId.into()),
                None => Err(RuleError::UnknownTopicId),
                // Named by its name as well: neither is carried out.
                Some(topic) if names.contains_key(&*topic.name) => Err(RequestError::NameOfSuppliedId.into()),
                Some(topic) => Ok(topic),
            },
        };
        results.push(match found {
            Ok(topic) => {
                records.push(Record::TopicRemoved { id: topic.id });
                DeletedTopic { name: Some(topic.name.to_string()), id: topic.id, result: Ok(()) }
            }
            Err(error) => DeletedTopic { name, id, result: Err(error) },
        });
    }
    Decision { records, outcome: Outcome::TopicsDeleted(results) }
}

pub(super) fn files_deleted(image: &Image, id: TopicId) -> Decision {
    // Told twice, as after an answer that got lost, it is known already.
    let is_pending = image.deletions_pending().any(|removed| removed.id == id);
    let records = if is_pending { vec![Record::TopicFilesDeleted { id }] } else { Vec::new() };
    Decision { records, outcome: Outcome::DeletionRecorded }
}
