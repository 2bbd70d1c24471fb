//! What can be asked of the controller, and what comes of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use chronik_model::{Generation, LeaderEpoch, NodeId, PartitionIndex, TopicId};

use crate::config::DescribedConfig;
use crate::image::{ConfigResource, Partition};
use crate::leader::{Leadership, ReplicationMode};
use crate::rules::{IsrError, LeadershipError, RegistrationError, RuleError};

/// Asked of the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Create topics, each by itself.
    CreateTopics {
        /// The topics.
        topics: Vec<NewTopic>,
        /// Decide, and change nothing.
        validate_only: bool,
    },
    /// Delete topics, each by itself.
    DeleteTopics {
        /// The topics.
        topics: Vec<TopicRef>,
    },
    /// Add partitions to topics, each by itself.
    CreatePartitions {
        /// The topics.
        topics: Vec<NewPartitions>,
        /// Decide, and change nothing.
        validate_only: bool,
    },
    /// Change single keys of resources (IncrementalAlterConfigs); of each resource all or none.
    AlterConfigs {
        /// The resources.
        resources: Vec<ConfigAlteration>,
        /// Decide, and change nothing.
        validate_only: bool,
    },
    /// Give resources another configuration as a whole (AlterConfigs); of each resource all or none.
    ReplaceConfigs {
        /// The resources.
        resources: Vec<ReplacedConfigs>,
        /// Decide, and change nothing.
        validate_only: bool,
    },
    /// Hand out a block of producer ids.
    AllocateProducerIds,
    /// Register a broker, which gives it a new broker epoch.
    RegisterBroker {
        /// Its number.
        node_id: NodeId,
        /// Address that clients are told.
        host: String,
        /// Port that clients are told.
        port: u16,
        /// Its rack, where it has one.
        rack: Option<String>,
    },
    /// The files of a removed topic are gone.
    TopicDeleted {
        /// The topic.
        id: TopicId,
    },
    /// A node that may lead starts. Nothing changes where it has no other nodes, and where it led and stopped cleanly;
    /// elsewhere every partition gets a leader epoch that none had before.
    Lead {
        /// The node.
        node_id: NodeId,
        /// What acknowledgements wait for.
        mode: ReplicationMode,
        /// Whether it is to have followers.
        is_replicated: bool,
        /// Whether every log of it was closed cleanly.
        clean_stop: bool,
        /// Generations up to this one are known to be taken.
        above: Generation,
    },
    /// A node is to lead in place of whoever does.
    Promote {
        /// The node.
        node_id: NodeId,
        /// Address that clients are told.
        host: String,
        /// Port that clients are told.
        port: u16,
        /// Its rack, where it has one.
        rack: Option<String>,
        /// What acknowledgements wait for.
        mode: ReplicationMode,
        /// Generations up to this one are known to be taken.
        above: Generation,
    },
    /// Give a follower a number that no node has.
    AllocateNodeId,
    /// A follower connected. It gets a new broker epoch, and a first time every partition.
    RegisterFollower {
        /// Its number.
        node_id: NodeId,
        /// Address that clients are told.
        host: String,
        /// Port that clients are told.
        port: u16,
        /// Its rack, where it has one.
        rack: Option<String>,
    },
    /// A follower's connection is gone: until it registers again, it does not get into the ISR of anything.
    FenceFollower {
        /// The follower.
        node_id: NodeId,
    },
    /// A follower does not come back: it is no replica of anything any more.
    UnregisterBroker {
        /// The follower.
        node_id: NodeId,
    },
    /// Change who is in sync, of each partition by itself (AlterPartition, KIP-497).
    AlterIsr {
        /// The leader that asks.
        node_id: NodeId,
        /// The changes.
        changes: Vec<IsrChange>,
    },
}

/// Who is to be in sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrChange {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number.
    pub partition: PartitionIndex,
    /// The replicas to be in sync, the leader among them.
    pub isr: Vec<NodeId>,
    /// The leader epoch that the leader asks in.
    pub leader_epoch: LeaderEpoch,
    /// The partition epoch that the change is made to.
    pub partition_epoch: i32,
}

/// A topic to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 takes the broker's default.
    pub num_partitions: i32,
    /// How many replicas of each; -1 takes the broker's default.
    pub replication_factor: i16,
    /// Partitions with the brokers that are to hold them; empty leaves it to the controller.
    pub assignments: Vec<(i32, Vec<NodeId>)>,
    /// Its configuration as it was given.
    pub configs: Vec<(String, Option<String>)>,
}

impl NewTopic {
    /// A topic with the broker's defaults.
    pub fn with_defaults(name: impl Into<String>) -> Self {
        Self { name: name.into(), num_partitions: -1, replication_factor: -1, ..Self::default() }
    }
}

/// Names a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRef {
    /// By name.
    pub name: Option<String>,
    /// By id, where it is not the null id.
    pub id: TopicId,
}

impl TopicRef {
    /// By name.
    pub fn by_name(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), id: TopicId::ZERO }
    }

    /// By id.
    pub fn by_id(id: TopicId) -> Self {
        Self { name: None, id }
    }
}

/// Partitions to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartitions {
    /// The topic's name.
    pub name: String,
    /// How many partitions it is to have.
    pub count: i32,
    /// For each one added, the brokers that are to hold it; `None` leaves it to the controller.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

/// What is done with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Give it the value.
    Set,
    /// Take its value back.
    Delete,
    /// Add to a list.
    Append,
    /// Take from a list.
    Subtract,
}

impl Operation {
    /// The operation of a code in the protocol.
    pub const fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::Delete => "DELETE",
            Self::Append => "APPEND",
            Self::Subtract => "SUBTRACT",
        }
    }
}

/// One key to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigOperation {
    /// The key.
    pub key: String,
    /// What is done with it.
    pub operation: Operation,
    /// The value.
    pub value: Option<String>,
}

/// A resource of which single keys are to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigAlteration {
    /// The resource.
    pub resource: ConfigResource,
    /// The changes.
    pub operations: Vec<ConfigOperation>,
}

/// A resource that is to have another configuration as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplacedConfigs {
    /// The resource.
    pub resource: ConfigResource,
    /// All it is to have.
    pub configs: Vec<(String, Option<String>)>,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// One for each topic asked for, in the order asked; of a name asked for twice one.
    TopicsCreated(Vec<TopicCreation>),
    /// One for each topic named, in the order named; of a topic named twice one.
    TopicsDeleted(Vec<DeletedTopic>),
    /// One for each topic named, in the order named; of a topic named twice one.
    PartitionsCreated(Vec<GrownTopic>),
    /// One for each resource, in the order named.
    ConfigsAltered(Vec<AlteredConfigs>),
    /// The block handed out.
    ProducerIds(Range<i64>),
    /// The broker is registered.
    BrokerRegistered {
        /// Its epoch.
        broker_epoch: i64,
    },
    /// It is known that the files are gone.
    DeletionRecorded,
    /// The node leads, or why it does not. `None` where it leads without generations, having no other nodes.
    Leads(Result<Option<Leadership>, LeadershipError>),
    /// The number, which nobody else gets.
    NodeId(Result<NodeId, RegistrationError>),
    /// The follower's broker epoch.
    FollowerRegistered(Result<i64, RegistrationError>),
    /// The follower does not get into an ISR.
    FollowerFenced,
    /// The broker is no more.
    BrokerUnregistered(Result<(), RegistrationError>),
    /// One for each partition, in the order named.
    IsrAltered(Vec<AlteredIsr>),
}

/// What came of a change of an ISR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredIsr {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number.
    pub partition: PartitionIndex,
    /// How it is now, or why it is as it was.
    pub result: Result<Partition, IsrError>,
}

/// What came of a topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicCreation {
    /// Its name.
    pub name: String,
    /// What it is, or why it is not.
    pub result: Result<CreatedTopic, RuleError>,
}

/// A topic that was created, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id.
    pub id: TopicId,
    /// Its partitions.
    pub num_partitions: i32,
    /// Replicas of each.
    pub replication_factor: i16,
    /// What counts for each of its keys.
    pub configs: Arc<[DescribedConfig]>,
}

/// What came of a topic to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    /// Its name, where it is known.
    pub name: Option<String>,
    /// Its id, where it is known.
    pub id: TopicId,
    /// Why it is still there.
    pub result: Result<(), RuleError>,
}

/// What came of a topic that was to have more partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrownTopic {
    /// Its name.
    pub name: String,
    /// Why it has not.
    pub result: Result<(), RuleError>,
}

/// What came of a resource to be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredConfigs {
    /// The resource.
    pub resource: ConfigResource,
    /// Why it has not changed.
    pub result: Result<(), RuleError>,
}

pub(crate) type Configs = BTreeMap<String, String>;
