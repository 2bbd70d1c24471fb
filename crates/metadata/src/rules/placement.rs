//! Which brokers hold a partition.

use std::collections::BTreeSet;

use chronik_model::{LeaderEpoch, NodeId};

use super::error::{AssignmentError, ReplicationFactorError};
use crate::image::{Image, Partition};
use crate::leader::ReplicationMode;

/// Brokers for the partitions from `first` on. Where nodes follow a leader, it leads each, and all others follow, however
/// few were asked for. Elsewhere round robin over the brokers, so that leaders are spread evenly, each with the brokers
/// that follow it as its other replicas.
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
    if let Some(partition) = led_partition(image) {
        return Ok(vec![partition; count]);
    }
    let replicas = |partition: usize| brokers.iter().cycle().skip(partition % brokers.len()).take(factor).copied();
    Ok((first..first.saturating_add(count)).map(|partition| first_leads(replicas(partition).collect())).collect())
}

/// A partition of the node that leads all, where one does. In sync mode connected followers are in sync from the
/// beginning, since there is nothing yet: the first acknowledgement already waits for them.
pub(super) fn led_partition(image: &Image) -> Option<Partition> {
    let leader = image.leader();
    if leader == NodeId::NONE {
        return None;
    }
    let followers = || image.brokers().values().filter(|broker| broker.node_id != leader);
    let in_sync = followers().filter(|broker| image.mode() == ReplicationMode::Sync && !broker.is_fenced);
    let with_leader = |rest: Vec<NodeId>| std::iter::once(leader).chain(rest).collect();
    Some(Partition {
        leader,
        leader_epoch: image.leader_epoch(),
        partition_epoch: 0,
        isr: with_leader(in_sync.map(|broker| broker.node_id).collect()),
        replicas: with_leader(followers().map(|broker| broker.node_id).collect()),
    })
}

/// How many replicas there are where nobody says how many there are to be: all nodes, where they follow a leader.
pub(super) fn default_factor(image: &Image, configured: i16) -> i16 {
    match image.leader() {
        NodeId::NONE => configured,
        _ => i16::try_from(image.brokers().len()).unwrap_or(i16::MAX).max(1),
    }
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

/// A partition of the brokers that somebody named: every replica is in sync, since there is nothing yet, and the first
/// leads. Where nodes follow a leader they hold every partition, whoever was named.
pub(super) fn new_partition(image: &Image, replicas: Vec<NodeId>) -> Partition {
    led_partition(image).unwrap_or_else(|| first_leads(replicas))
}

fn first_leads(replicas: Vec<NodeId>) -> Partition {
    Partition {
        leader: replicas.first().copied().unwrap_or(NodeId::NONE),
        leader_epoch: LeaderEpoch::ZERO,
        partition_epoch: 0,
        isr: replicas.clone(),
        replicas,
    }
}
