//! Registers brokers; each registration has a higher epoch than every one before. A follower holds every partition.

use chronik_model::NodeId;

use super::Decision;
use super::error::RegistrationError;
use super::leadership::{NODES, tag};
use crate::command::Outcome;
use crate::image::Image;
use crate::record::Record;

/// A broker with the address that clients are told.
pub(super) struct Registering {
    pub(super) node_id: NodeId,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) rack: Option<String>,
}

pub(super) fn register(image: &Image, broker: Registering) -> Decision {
    let (record, broker_epoch) = registered(image, broker);
    Decision { records: vec![record], outcome: Outcome::BrokerRegistered { broker_epoch } }
}

/// The record of a registration, and the broker epoch in it.
pub(super) fn registered(image: &Image, broker: Registering) -> (Record, i64) {
    let highest = image.brokers().values().map(|broker| broker.epoch).max().unwrap_or(-1);
    let broker_epoch = highest.saturating_add(1).max(image.offset().get());
    let Registering { node_id, host, port, rack } = broker;
    (Record::BrokerRegistered { node_id, host, port, rack, broker_epoch }, broker_epoch)
}

pub(super) fn register_follower(image: &Image, broker: Registering) -> Decision {
    let node_id = broker.node_id;
    if let Err(error) = can_follow(image, node_id) {
        return refused(Outcome::FollowerRegistered(Err(error)));
    }
    let (record, broker_epoch) = registered(image, broker);
    let mut records = vec![record];
    // Also for a broker that is registered: partitions that came from elsewhere might lack it.
    let lacks = |topic: &crate::Topic| topic.partitions.iter().any(|partition| !partition.replicas.contains(&node_id));
    if image.topics().any(|topic| lacks(topic)) {
        records.push(Record::ReplicaAdded { node_id });
    }
    Decision { records, outcome: Outcome::FollowerRegistered(Ok(broker_epoch)) }
}

fn can_follow(image: &Image, node_id: NodeId) -> Result<(), RegistrationError> {
    if image.leader() == NodeId::NONE {
        return Err(RegistrationError::NoLeader);
    }
    if node_id == image.leader() {
        return Err(RegistrationError::IsLeader { node_id });
    }
    if node_id < NodeId::new(0) {
        return Err(RegistrationError::Negative { node_id });
    }
    match known_nodes(image).find(|known| *known != node_id && tag(*known) == tag(node_id)) {
        Some(other) => Err(RegistrationError::Indistinct { node_id, other, modulus: NODES }),
        None => Ok(()),
    }
}

/// Brokers, and the leader, which may not have registered yet.
fn known_nodes(image: &Image) -> impl Iterator<Item = NodeId> {
    image.brokers().keys().copied().chain([image.leader()]).filter(|node_id| *node_id != NodeId::NONE)
}

pub(super) fn allocate_node_id(image: &Image) -> Decision {
    if image.leader() == NodeId::NONE {
        return refused(Outcome::NodeId(Err(RegistrationError::NoLeader)));
    }
    let highest = known_nodes(image).max().unwrap_or(NodeId::NONE).get();
    let first = highest.saturating_add(1).max(image.next_node_id().get());
    let is_distinct = |node_id: &i32| !known_nodes(image).any(|known| tag(known) == tag(NodeId::new(*node_id)));
    // The last number is not given: the one behind it would be next.
    let candidates = (first..i32::MAX).take(usize::try_from(NODES).unwrap_or(0));
    match candidates.into_iter().find(is_distinct) {
        Some(node_id) => Decision {
            records: vec![Record::NodeIdsAllocated { next: NodeId::new(node_id + 1) }],
            outcome: Outcome::NodeId(Ok(NodeId::new(node_id))),
        },
        None => refused(Outcome::NodeId(Err(RegistrationError::NodeIdsExhausted))),
    }
}

pub(super) fn fence(image: &Image, node_id: NodeId) -> Decision {
    let is_news = image.brokers().get(&node_id).is_some_and(|broker| !broker.is_fenced);
    // A leader is never fenced: it is the one who asks.
    let records =
        if is_news && node_id != image.leader() { vec![Record::BrokerFenced { node_id }] } else { Vec::new() };
    Decision { records, outcome: Outcome::FollowerFenced }
}

pub(super) fn unregister(image: &Image, node_id: NodeId) -> Decision {
    let refusal = match image.leader() {
        NodeId::NONE => Some(RegistrationError::NoLeader),
        leader if leader == node_id => Some(RegistrationError::IsLeader { node_id }),
        _ if !image.brokers().contains_key(&node_id) => Some(RegistrationError::UnknownBroker { node_id }),
        _ => None,
    };
    match refusal {
        Some(error) => refused(Outcome::BrokerUnregistered(Err(error))),
        None => Decision {
            records: vec![Record::BrokerUnregistered { node_id }],
            outcome: Outcome::BrokerUnregistered(Ok(())),
        },
    }
}

fn refused(outcome: Outcome) -> Decision {
    Decision { records: Vec::new(), outcome }
}
