//! Turns records into the next image and the difference to the one before.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_model::{Offset, TopicId, Uuid};
use thiserror::Error;

use super::{Broker, ConfigResource, Image, Partition, RemovedTopic, ResourceKind, Topic};
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
