//! Which brokers hold a partition.

use std::collections::BTreeSet;

use chronik_model::{LeaderEpoch, NodeId};

use super::error::{AssignmentError, ReplicationFactorError};
use crate::image::{Image, Partition};

/// Brokers for the partitions from `first` on: round robin over the brokers, so that leaders are spread evenly, each
/// with the brokers that follow it as its other replicas.
pub(super) fn place(
    image: &Image,
    first: usize,
    count: usize,
    replication_factor: i16,
) -> Result<Vec<Partition>, ReplicationFactorError> {
    let brokers: Vec<NodeId> = image.brokers().keys().copied().collect();
    let factor = usize::try_from(replication_factor).map_err(|_| ReplicationFactorError::NotPositive)?;
    if factor == 0 {
        return Err(ReplicationFactorError::NotPositive);
    }
    if factor > brokers.len() {
        return Err(ReplicationFactorError::TooFewBrokers { factor: replication_factor, brokers: brokers.len() });
    }
    let replicas = |partition: usize| brokers.iter().cycle().skip(partition % brokers.len()).take(factor).copied();
    Ok((first..first.saturating_add(count)).map(|partition| new_partition(replicas(partition).collect())).collect())
}

/// Checks a partition's brokers as somebody named them; all partitions of a topic have as many.
pub(super) fn check_assignment(
    image: &Image,
    replicas: &[NodeId],
    expected: Option<usize>,
) -> Result<(), AssignmentError> {
    if replicas.is_empty() {
        return Err(AssignmentError::Empty);
    }
    let mut sorted = replicas.to_vec();
    sorted.sort_unstable();
    let mut seen = BTreeSet::new();
    for broker in sorted {
        if !image.brokers().contains_key(&broker) {
            return Err(AssignmentError::UnknownBroker { broker });
        }
        if !seen.insert(broker) {
            return Err(AssignmentError::BrokerTwice { broker });
        }
    }
    match expected {
        Some(expected) if expected != replicas.len() => {
            Err(AssignmentError::Uneven { expected, found: replicas.len() })
        }
        _ => Ok(()),
    }
}

/// A partition of which every replica is in sync, since there is nothing yet, led by the first.
pub(super) fn new_partition(replicas: Vec<NodeId>) -> Partition {
    Partition {
        leader: replicas.first().copied().unwrap_or(NodeId::NONE),
        leader_epoch: LeaderEpoch::ZERO,
        partition_epoch: 0,
        isr: replicas.clone(),
        replicas,
    }
}
