//! Changes who is in sync, as a partition's leader asks (KIP-497): in its leader epoch, and to the state it knows.
//!
//! A broker that is not connected does not get in (KIP-841). That an acknowledgement of an earlier run of a follower lets
//! none of it in (KIP-903) is the leader's to see to: registration and change come from the same node, in this order.

use std::collections::BTreeSet;

use chronik_model::NodeId;

use super::Decision;
use super::error::IsrError;
use crate::command::{AlteredIsr, IsrChange, Outcome};
use crate::image::{Image, Partition};
use crate::record::Record;

pub(super) fn alter(image: &Image, node_id: NodeId, changes: Vec<IsrChange>) -> Decision {
    let mut records = Vec::new();
    let mut named = BTreeSet::new();
    let mut results = Vec::new();
    for change in changes {
        let IsrChange { topic_id, partition, .. } = change;
        let known = image.topic_by_id(topic_id);
        let index = usize::try_from(partition.get()).ok();
        let found = index.and_then(|index| Some((index, known?.partitions.get(index)?)));
        let result = match found {
            None => Err(IsrError::UnknownPartition),
            // Decided on the image before, a second change of the same partition is one of a partition that changed.
            Some((_, current)) if !named.insert((topic_id, partition)) => Err(IsrError::PartitionEpoch {
                current: current.partition_epoch.saturating_add(1),
                found: change.partition_epoch,
            }),
            Some((index, current)) => altered(image, node_id, current, &change).inspect(|next| {
                if next != current {
                    records.push(Record::PartitionChanged { id: topic_id, index, partition: next.clone() });
                }
            }),
        };
        results.push(AlteredIsr { topic_id, partition, result });
    }
    Decision { records, outcome: Outcome::IsrAltered(results) }
}

fn altered(image: &Image, node_id: NodeId, current: &Partition, change: &IsrChange) -> Result<Partition, IsrError> {
    if current.leader != node_id {
        return Err(IsrError::NotLeader { leader: current.leader });
    }
    if current.leader_epoch != change.leader_epoch {
        return Err(IsrError::LeaderEpoch { current: current.leader_epoch, found: change.leader_epoch });
    }
    if current.partition_epoch != change.partition_epoch {
        return Err(IsrError::PartitionEpoch { current: current.partition_epoch, found: change.partition_epoch });
    }
    let wanted: BTreeSet<NodeId> = change.isr.iter().copied().collect();
    let is_set = wanted.len() == change.isr.len();
    if !is_set || !wanted.contains(&node_id) || wanted.iter().any(|replica| !current.replicas.contains(replica)) {
        return Err(IsrError::Invalid { isr: change.isr.clone() });
    }
    for replica in wanted.iter().filter(|replica| !current.isr.contains(replica)) {
        if image.brokers().get(replica).is_none_or(|broker| broker.is_fenced) {
            return Err(IsrError::Ineligible { node_id: *replica });
        }
    }
    let isr: Vec<NodeId> = current.replicas.iter().copied().filter(|replica| wanted.contains(replica)).collect();
    if isr.len() == current.isr.len() && current.isr.iter().all(|replica| wanted.contains(replica)) {
        return Ok(current.clone());
    }
    Ok(Partition { isr, partition_epoch: current.partition_epoch.saturating_add(1), ..current.clone() })
}
