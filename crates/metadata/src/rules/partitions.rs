//! Adds partitions to topics.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{AssignmentError, PartitionsError, RequestError, RuleError};
use super::placement::{check_assignment, new_partition, place};
use super::{Decision, PARTITIONS_PER_REQUEST_MAX};
use crate::command::{GrownTopic, NewPartitions, Outcome};
use crate::image::Image;
use crate::record::Record;

pub(super) fn create(image: &Image, topics: Vec<NewPartitions>) -> Decision {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for topic in &topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let mut records = Vec::new();
    let mut added = 0_usize;
    let mut answered = BTreeSet::new();
    let mut results = Vec::new();
    for topic in topics {
        if !answered.insert(topic.name.clone()) {
            continue;
        }
        let result = if times.get(&topic.name).is_some_and(|times| *times > 1) {
            Err(RequestError::DuplicateTopicName.into())
        } else {
            plan(image, &topic, added)
        };
        let result = result.map(|(record, count)| {
            added += count;
            records.push(record);
        });
        results.push(GrownTopic { name: topic.name, result });
    }
    Decision { records, outcome: Outcome::PartitionsCreated(results) }
}

fn plan(image: &Image, asked: &NewPartitions, added: usize) -> Result<(Record, usize), RuleError> {
    let topic = image.topic(&asked.name).ok_or(RuleError::UnknownTopic)?;
    let first = topic.partitions.len();
    let fewer = || PartitionsError::Fewer { topic: asked.name.clone(), current: first, asked: asked.count };
    let count = usize::try_from(asked.count).map_err(|_| fewer())?;
    if count == first {
        return Err(PartitionsError::Unchanged { count }.into());
    }
    let additional = count.checked_sub(first).ok_or_else(fewer)?;
    if let Some(assignments) = &asked.assignments
        && assignments.len() != additional
    {
        return Err(AssignmentError::Count { additional, assignments: assignments.len() }.into());
    }
    if additional.saturating_add(added) > PARTITIONS_PER_REQUEST_MAX {
        return Err(RuleError::TooManyPartitions);
    }
    let factor = topic.replication_factor();
    let partitions = match &asked.assignments {
        Some(assignments) => {
            for replicas in assignments {
                check_assignment(image, replicas, Some(factor))?;
            }
            assignments.iter().map(|replicas| new_partition(image, replicas.clone())).collect()
        }
        None => place(image, first, additional, i16::try_from(factor).unwrap_or(i16::MAX))?,
    };
    Ok((Record::PartitionsAdded { id: topic.id, first, partitions }, additional))
}
