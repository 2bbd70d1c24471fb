//! What the cluster knows at one offset of the journal: immutable, and cheap to copy.
//!
//! Nothing here decides; `rules` do. An image changes only through [`Builder::apply`], record by record.

mod brokers;
mod builder;
mod configs;
mod map;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_model::{NodeId, Offset, TopicId, Uuid};

pub use self::brokers::Broker;
pub use self::builder::{ApplyError, Builder};
use self::configs::Configs;
pub use self::configs::{ConfigMap, ConfigResource, ResourceKind};
use self::topics::Topics;
pub use self::topics::{Partition, RemovedTopic, Topic};
use crate::record::Record;

/// The metadata at one offset of the journal.
#[derive(Clone, Debug, Default)]
pub struct Image {
    cluster_id: Uuid,
    offset: Offset,
    brokers: Arc<BTreeMap<NodeId, Broker>>,
    topics: Topics,
    configs: Configs,
    deletions: Arc<BTreeMap<TopicId, RemovedTopic>>,
    next_producer_id: i64,
}

impl Image {
    /// The cluster's id; the null id before the first record.
    pub fn cluster_id(&self) -> Uuid {
        self.cluster_id
    }

    /// The offset of the first record not in the image, exclusive end.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// Brokers that ever registered, by number.
    pub fn brokers(&self) -> &BTreeMap<NodeId, Broker> {
        &self.brokers
    }

    /// Topics in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.iter()
    }

    /// How many topics there are.
    pub fn topics_count(&self) -> usize {
        self.topics.len()
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.by_name(name)
    }

    /// The topic with that id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.by_id(id)
    }

    /// A topic whose name differs from this one at most by `.` for `_`, which Kafka's metrics could not tell apart.
    pub fn colliding_topic(&self, name: &str) -> Option<&Arc<str>> {
        self.topics.colliding(name)
    }

    /// What has been configured for a resource; empty where nothing has.
    pub fn configs(&self, resource: &ConfigResource) -> &ConfigMap {
        self.configs.get(resource)
    }

    /// Resources of a kind for which something has been configured.
    pub fn configured(&self, kind: ResourceKind) -> impl Iterator<Item = &ConfigResource> {
        self.configs.iter().map(|(resource, _)| resource).filter(move |resource| resource.kind == kind)
    }

    /// Removed topics whose files are still to be deleted.
    pub fn deletions_pending(&self) -> impl Iterator<Item = &RemovedTopic> {
        self.deletions.values()
    }

    /// The first producer id never handed out.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// The image with one record more. For many records a [`Builder`] is cheaper.
    ///
    /// # Errors
    /// The record contradicts the image.
    pub fn apply(&self, record: &Record) -> Result<Self, ApplyError> {
        let mut builder = Builder::new(self);
        builder.apply(record)?;
        Ok(builder.finish(self.offset.next()).0)
    }

    /// Records that build this image from nothing.
    pub fn to_records(&self) -> Vec<Record> {
        let mut records = vec![Record::Cluster { id: self.cluster_id }];
        records.extend(self.brokers.values().map(Broker::to_record));
        records.extend(
            self.deletions
                .values()
                .map(|removed| Record::DeletionPending { id: removed.id, name: Arc::clone(&removed.name) }),
        );
        records.extend(self.topics.iter().map(|topic| Record::TopicCreated {
            id: topic.id,
            name: Arc::clone(&topic.name),
            partitions: topic.partitions.clone(),
            configs: self.configs.get(&ConfigResource::topic(Arc::clone(&topic.name))).clone(),
        }));
        let others = self.configs.iter().filter(|(resource, _)| resource.kind != ResourceKind::Topic);
        for (resource, configs) in others {
            records.extend(configs.iter().map(|(key, value)| Record::ConfigChanged {
                resource: resource.clone(),
                key: key.clone(),
                value: Some(value.clone()),
            }));
        }
        if self.next_producer_id > 0 {
            records.push(Record::ProducerIdsAllocated { next: self.next_producer_id });
        }
        records
    }

    /// Panics where the parts of the image do not fit together; for tests.
    pub fn check_invariants(&self) {
        self.topics.check_invariants();
        for topic in self.topics.iter() {
            assert!(!topic.partitions.is_empty(), "{} has no partitions", topic.name);
            assert!(!self.deletions.contains_key(&topic.id), "{} is there and removed", topic.name);
            for partition in &topic.partitions {
                assert!(
                    partition.isr.iter().all(|node| partition.replicas.contains(node)),
                    "{}: {partition:?}",
                    topic.name
                );
            }
        }
        for resource in self.configured(ResourceKind::Topic) {
            assert!(self.topic(&resource.name).is_some(), "configuration of no topic: {resource}");
        }
    }
}

/// Two images are equal when they know the same, wherever they lie in the journal.
impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        self.to_records() == other.to_records()
    }
}
