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

use chronik_model::{Generation, LeaderEpoch, NodeId, Offset, TopicId, Uuid};

pub use self::brokers::Broker;
pub use self::builder::{ApplyError, Builder};
use self::configs::Configs;
pub use self::configs::{ConfigMap, ConfigResource, ResourceKind};
use self::topics::Topics;
pub use self::topics::{Partition, RemovedTopic, Topic};
use crate::leader::{KnownLeader, ReplicationMode};
use crate::record::Record;

/// Who leads every partition, where nodes follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leads {
    generation: Generation,
    node_id: NodeId,
    leader_epoch: LeaderEpoch,
    mode: ReplicationMode,
}

impl Default for Leads {
    fn default() -> Self {
        Self {
            generation: Generation::ZERO,
            node_id: NodeId::NONE,
            leader_epoch: LeaderEpoch::ZERO,
            mode: ReplicationMode::Async,
        }
    }
}

/// The metadata at one offset of the journal.
#[derive(Clone, Debug, Default)]
pub struct Image {
    cluster_id: Uuid,
    offset: Offset,
    leads: Leads,
    next_node_id: NodeId,
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

    /// The generation that the last record was written in; zero where no node ever had followers.
    pub fn generation(&self) -> Generation {
        self.leads.generation
    }

    /// The node that leads every partition; [`NodeId::NONE`] where no node ever had followers.
    pub fn leader(&self) -> NodeId {
        self.leads.node_id
    }

    /// The leader epoch of every partition, where there is a leader.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leads.leader_epoch
    }

    /// What acknowledgements wait for.
    pub fn mode(&self) -> ReplicationMode {
        self.leads.mode
    }

    /// The leader with its address, where there is one.
    pub fn known_leader(&self) -> Option<KnownLeader> {
        let Leads { node_id, generation, .. } = self.leads;
        if node_id == NodeId::NONE {
            return None;
        }
        let broker = self.brokers.get(&node_id);
        let host = broker.map_or_else(|| "".into(), |broker| broker.host.as_str().into());
        Some(KnownLeader { node_id, generation, host, port: broker.map_or(0, |broker| broker.port) })
    }

    /// The first node id never given to a follower.
    pub fn next_node_id(&self) -> NodeId {
        self.next_node_id
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

    /// Everything for which something has been configured.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &ConfigResource> {
        self.configs.iter().map(|(resource, _)| resource)
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
        if self.leads != Leads::default() {
            let Leads { generation, node_id, leader_epoch, mode } = self.leads;
            records.push(Record::Led { generation, node_id, leader_epoch, mode, keeps_isr: false });
        }
        if self.next_node_id > NodeId::new(0) {
            records.push(Record::NodeIdsAllocated { next: self.next_node_id });
        }
        // Behind the leader, of whose record they would all be fenced.
        records.extend(self.brokers.values().flat_map(Broker::to_records));
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
                if self.leads.node_id != NodeId::NONE {
                    let led = (partition.leader, partition.leader_epoch);
                    assert_eq!(led, (self.leads.node_id, self.leads.leader_epoch), "{}", topic.name);
                    assert!(partition.isr.contains(&partition.leader), "{}: {partition:?}", topic.name);
                }
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
