//! Turns records into the next image and the difference to the one before.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_model::{Generation, LeaderEpoch, NodeId, Offset, TopicId, Uuid};
use thiserror::Error;

use super::{Broker, ConfigResource, Image, Leads, Partition, RemovedTopic, ResourceKind, Topic};
use crate::delta::Delta;
use crate::record::Record;

/// A record contradicts the image: the journal is damaged, or a rule is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// The journal is of another cluster.
    #[error("record of cluster {found} in the journal of cluster {expected}")]
    OtherCluster {
        /// The cluster of the image.
        expected: Uuid,
        /// The cluster of the record.
        found: Uuid,
    },
    /// It creates what is there.
    #[error("topic {name} with id {id} is created twice")]
    TopicExists {
        /// The topic's id.
        id: TopicId,
        /// The topic's name.
        name: Arc<str>,
    },
    /// It changes a topic that is not there.
    #[error("record of topic {id}, which does not exist")]
    UnknownTopic {
        /// The topic's id.
        id: TopicId,
    },
    /// It changes a partition that is not there, or adds partitions with a gap.
    #[error("record of partition {index} of topic {id}, which has {partitions} partitions")]
    UnknownPartition {
        /// The topic's id.
        id: TopicId,
        /// The partition's number.
        index: usize,
        /// How many there are.
        partitions: usize,
    },
    /// It configures a topic that is not there.
    #[error("configuration of {resource}, which does not exist")]
    UnknownResource {
        /// What it configures.
        resource: ConfigResource,
    },
    /// It hands out producer ids again.
    #[error("producer ids up to {next} are handed out again, {known} is the next")]
    ProducerIdsBackwards {
        /// What the record says.
        next: i64,
        /// What the image knows.
        known: i64,
    },
    /// It is of a broker that is not registered.
    #[error("record of broker {node_id}, which is not registered")]
    UnknownBroker {
        /// The broker.
        node_id: NodeId,
    },
    /// It takes away the leader.
    #[error("broker {node_id} is to go, but leads")]
    LeaderRemoved {
        /// The broker.
        node_id: NodeId,
    },
    /// A leader begins in an old generation, or in an old leader epoch.
    #[error(
        "generation {generation} with leader epoch {leader_epoch} begins after generation {known} with {known_epoch}"
    )]
    LedBackwards {
        /// What the record says.
        generation: Generation,
        /// What the record says.
        leader_epoch: LeaderEpoch,
        /// What the image knows.
        known: Generation,
        /// What the image knows.
        known_epoch: LeaderEpoch,
    },
    /// Node ids are given again.
    #[error("node ids from {next} on are given again, {known} is the next")]
    NodeIdsBackwards {
        /// What the record says.
        next: NodeId,
        /// What the image knows.
        known: NodeId,
    },
}

/// An image in the making.
#[derive(Clone, Debug)]
pub struct Builder {
    image: Image,
    delta: Delta,
}

impl Builder {
    /// Begins with a copy of an image.
    pub fn new(base: &Image) -> Self {
        Self { image: base.clone(), delta: Delta::default() }
    }

    /// The image so far.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Adds one record.
    ///
    /// # Errors
    /// The record contradicts the image, which stays as it was.
    pub fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        match record {
            Record::Cluster { id } => self.cluster(*id)?,
            Record::BrokerRegistered { node_id, host, port, rack, broker_epoch } => {
                let broker = Broker {
                    node_id: *node_id,
                    host: host.clone(),
                    port: *port,
                    rack: rack.clone(),
                    epoch: *broker_epoch,
                    is_fenced: false,
                };
                Arc::make_mut(&mut self.image.brokers).insert(*node_id, broker);
                self.delta.brokers_changed = true;
            }
            Record::TopicCreated { id, name, partitions, configs } => {
                self.create_topic(*id, name, partitions, configs)?;
            }
            Record::PartitionsAdded { id, first, partitions } => self.add_partitions(*id, *first, partitions)?,
            Record::PartitionChanged { id, index, partition } => self.change_partition(*id, *index, partition)?,
            Record::TopicRemoved { id } => self.remove_topic(*id)?,
            Record::DeletionPending { id, name } => {
                let removed = RemovedTopic { id: *id, name: Arc::clone(name) };
                Arc::make_mut(&mut self.image.deletions).insert(*id, removed);
            }
            Record::TopicFilesDeleted { id } => {
                if !self.image.deletions.contains_key(id) {
                    return Err(ApplyError::UnknownTopic { id: *id });
                }
                Arc::make_mut(&mut self.image.deletions).remove(id);
            }
            Record::ConfigChanged { resource, key, value } => self.configure(resource, key, value.as_deref())?,
            Record::ProducerIdsAllocated { next } => {
                let known = self.image.next_producer_id;
                if *next < known {
                    return Err(ApplyError::ProducerIdsBackwards { next: *next, known });
                }
                self.image.next_producer_id = *next;
            }
            Record::Led { generation, node_id, leader_epoch, mode, keeps_isr } => {
                let (generation, node_id, leader_epoch, mode) = (*generation, *node_id, *leader_epoch, *mode);
                self.lead(Leads { generation, node_id, leader_epoch, mode }, *keeps_isr)?;
            }
            Record::ReplicaAdded { node_id } => {
                self.broker(*node_id)?;
                self.change_all(|partition| {
                    let is_new = !partition.replicas.contains(node_id);
                    if is_new {
                        partition.replicas.push(*node_id);
                    }
                    is_new
                });
            }
            Record::BrokerFenced { node_id } => {
                let mut broker = self.broker(*node_id)?;
                broker.is_fenced = true;
                Arc::make_mut(&mut self.image.brokers).insert(*node_id, broker);
                self.delta.brokers_changed = true;
            }
            Record::BrokerUnregistered { node_id } => self.unregister(*node_id)?,
            Record::NodeIdsAllocated { next } => {
                let known = self.image.next_node_id;
                if *next < known {
                    return Err(ApplyError::NodeIdsBackwards { next: *next, known });
                }
                self.image.next_node_id = *next;
            }
        }
        Ok(())
    }

    /// The image and what became different, with the journal's offset behind the last record applied.
    pub fn finish(mut self, offset: Offset) -> (Image, Delta) {
        self.image.offset = offset;
        (self.image, self.delta)
    }

    fn cluster(&mut self, id: Uuid) -> Result<(), ApplyError> {
        let expected = self.image.cluster_id;
        if expected != Uuid::ZERO && expected != id {
            return Err(ApplyError::OtherCluster { expected, found: id });
        }
        self.image.cluster_id = id;
        Ok(())
    }

    fn lead(&mut self, leads: Leads, keeps_isr: bool) -> Result<(), ApplyError> {
        let known = self.image.leads;
        let known_epoch = known.leader_epoch;
        let is_later = leads.generation > known.generation || leads.node_id == known.node_id;
        if !is_later || leads.generation < known.generation || leads.leader_epoch <= known_epoch {
            let Leads { generation, leader_epoch, .. } = leads;
            return Err(ApplyError::LedBackwards { generation, leader_epoch, known: known.generation, known_epoch });
        }
        self.image.leads = leads;
        let brokers = Arc::make_mut(&mut self.image.brokers);
        for broker in brokers.values_mut().filter(|broker| broker.node_id != leads.node_id) {
            broker.is_fenced = true;
        }
        self.change_all(|partition| {
            let node_id = leads.node_id;
            (partition.leader, partition.leader_epoch) = (node_id, leads.leader_epoch);
            partition.replicas.retain(|replica| *replica != node_id);
            partition.replicas.insert(0, node_id);
            partition.isr.retain(|replica| keeps_isr && *replica != node_id);
            partition.isr.insert(0, node_id);
            true
        });
        self.delta.leader_changed = true;
        Ok(())
    }

    fn broker(&self, node_id: NodeId) -> Result<Broker, ApplyError> {
        self.image.brokers.get(&node_id).cloned().ok_or(ApplyError::UnknownBroker { node_id })
    }

    fn unregister(&mut self, node_id: NodeId) -> Result<(), ApplyError> {
        self.broker(node_id)?;
        if node_id == self.image.leads.node_id {
            return Err(ApplyError::LeaderRemoved { node_id });
        }
        Arc::make_mut(&mut self.image.brokers).remove(&node_id);
        self.delta.brokers_changed = true;
        self.change_all(|partition| {
            let before = partition.replicas.len();
            partition.replicas.retain(|replica| *replica != node_id);
            partition.isr.retain(|replica| *replica != node_id);
            partition.replicas.len() != before
        });
        Ok(())
    }

    /// Changes every partition for which `change` says that it did.
    fn change_all(&mut self, mut change: impl FnMut(&mut Partition) -> bool) {
        let topics: Vec<Arc<Topic>> = self.image.topics.iter().map(Arc::clone).collect();
        for topic in topics {
            let mut next = Topic::clone(&topic);
            let mut is_changed = false;
            for (index, partition) in next.partitions.iter_mut().enumerate() {
                if change(partition) {
                    partition.partition_epoch = partition.partition_epoch.saturating_add(1);
                    is_changed = true;
                    if !self.delta.created.contains(&topic.id) {
                        self.delta.changed.insert((topic.id, index));
                    }
                }
            }
            if is_changed {
                self.image.topics.put(next);
            }
        }
    }

    fn create_topic(
        &mut self,
        id: TopicId,
        name: &Arc<str>,
        partitions: &[Partition],
        configs: &BTreeMap<String, String>,
    ) -> Result<(), ApplyError> {
        let topics = &mut self.image.topics;
        if topics.by_id(id).is_some() || topics.by_name(name).is_some() || self.image.deletions.contains_key(&id) {
            return Err(ApplyError::TopicExists { id, name: Arc::clone(name) });
        }
        topics.put(Topic { name: Arc::clone(name), id, partitions: partitions.to_vec() });
        self.image.configs.replace(ConfigResource::topic(Arc::clone(name)), configs.clone());
        self.delta.created.insert(id);
        Ok(())
    }

    fn topic(&self, id: TopicId) -> Result<Topic, ApplyError> {
        let topic = self.image.topics.by_id(id).ok_or(ApplyError::UnknownTopic { id })?;
        Ok(Topic::clone(topic))
    }

    fn add_partitions(&mut self, id: TopicId, first: usize, partitions: &[Partition]) -> Result<(), ApplyError> {
        let mut topic = self.topic(id)?;
        if topic.partitions.len() != first {
            return Err(ApplyError::UnknownPartition { id, index: first, partitions: topic.partitions.len() });
        }
        topic.partitions.extend_from_slice(partitions);
        self.image.topics.put(topic);
        if !self.delta.created.contains(&id) {
            self.delta.grown.insert(id);
        }
        Ok(())
    }

    fn change_partition(&mut self, id: TopicId, index: usize, partition: &Partition) -> Result<(), ApplyError> {
        let mut topic = self.topic(id)?;
        let partitions = topic.partitions.len();
        let place = topic.partitions.get_mut(index).ok_or(ApplyError::UnknownPartition { id, index, partitions })?;
        *place = partition.clone();
        self.image.topics.put(topic);
        if !self.delta.created.contains(&id) {
            self.delta.changed.insert((id, index));
        }
        Ok(())
    }

    fn remove_topic(&mut self, id: TopicId) -> Result<(), ApplyError> {
        let topic = self.image.topics.remove(id).ok_or(ApplyError::UnknownTopic { id })?;
        self.image.configs.replace(ConfigResource::topic(Arc::clone(&topic.name)), BTreeMap::new());
        let removed = RemovedTopic { id, name: Arc::clone(&topic.name) };
        Arc::make_mut(&mut self.image.deletions).insert(id, removed.clone());
        self.delta.created.remove(&id);
        self.delta.grown.remove(&id);
        self.delta.reconfigured.remove(&id);
        self.delta.changed.retain(|(changed, _)| *changed != id);
        // Also of a topic that was created since the last image: somebody has to see that its files are gone.
        self.delta.removed.push(removed);
        Ok(())
    }

    fn configure(&mut self, resource: &ConfigResource, key: &str, value: Option<&str>) -> Result<(), ApplyError> {
        let topic = match resource.kind {
            ResourceKind::Topic => {
                let topic = self.image.topics.by_name(&resource.name);
                Some(topic.ok_or_else(|| ApplyError::UnknownResource { resource: resource.clone() })?.id)
            }
            _ => None,
        };
        if !self.image.configs.change(resource, key, value) {
            return Ok(());
        }
        match (resource.kind, topic) {
            (ResourceKind::Topic, Some(id)) if !self.delta.created.contains(&id) => {
                self.delta.reconfigured.insert(id);
            }
            (ResourceKind::Topic, _) => {}
            _ => {
                self.delta.resources.insert(resource.clone());
            }
        }
        Ok(())
    }
}
