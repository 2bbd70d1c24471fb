//! Why a rule refuses. Each variant of [`RuleError`] is one error code of Kafka, its text is what tools show.

use chronik_model::{Generation, LeaderEpoch, NodeId};
use thiserror::Error;

use super::topic_name::TopicNameError;
use crate::config::ConfigError;

/// A refusal; one variant for each error code of Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleError {
    /// INVALID_TOPIC_EXCEPTION.
    #[error(transparent)]
    InvalidTopicName(#[from] TopicNameError),
    /// TOPIC_ALREADY_EXISTS.
    #[error("Topic '{name}' already exists.")]
    TopicAlreadyExists {
        /// The name.
        name: String,
    },
    /// UNKNOWN_TOPIC_OR_PARTITION.
    #[error("This server does not host this topic-partition.")]
    UnknownTopic,
    /// UNKNOWN_TOPIC_OR_PARTITION, of a topic to be configured.
    #[error("The topic '{name}' does not exist.")]
    UnknownConfigTopic {
        /// The name.
        name: String,
    },
    /// UNKNOWN_TOPIC_ID.
    #[error("This server does not host this topic ID.")]
    UnknownTopicId,
    /// TOPIC_DELETION_DISABLED.
    #[error("Topic deletion is disabled.")]
    TopicDeletionDisabled,
    /// INVALID_PARTITIONS.
    #[error(transparent)]
    InvalidPartitions(#[from] PartitionsError),
    /// INVALID_REPLICATION_FACTOR.
    #[error(transparent)]
    InvalidReplicationFactor(#[from] ReplicationFactorError),
    /// INVALID_REPLICA_ASSIGNMENT.
    #[error(transparent)]
    InvalidReplicaAssignment(#[from] AssignmentError),
    /// INVALID_CONFIG.
    #[error(transparent)]
    InvalidConfig(#[from] InvalidConfig),
    /// INVALID_REQUEST.
    #[error(transparent)]
    InvalidRequest(#[from] RequestError),
    /// POLICY_VIOLATION.
    #[error("Excessively large number of partitions per request.")]
    TooManyPartitions,
}

/// A number of partitions that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PartitionsError {
    /// None, or fewer.
    #[error("Number of partitions was set to an invalid non-positive value.")]
    NotPositive,
    /// As many as there are.
    #[error("Topic already has {count} partition(s).")]
    Unchanged {
        /// How many there are.
        count: usize,
    },
    /// Fewer than there are.
    #[error("The topic {topic} currently has {current} partition(s); {asked} would not be an increase.")]
    Fewer {
        /// The topic.
        topic: String,
        /// How many there are.
        current: usize,
        /// How many were asked for.
        asked: i32,
    },
}

/// A number of replicas that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplicationFactorError {
    /// None, or fewer.
    #[error("Replication factor must be larger than 0, or -1 to use the default value.")]
    NotPositive,
    /// More than there are brokers.
    #[error(
        "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be \
         reached because only {brokers} broker(s) are registered or some brokers have all their log directories \
         cordoned."
    )]
    TooFewBrokers {
        /// The replicas asked for.
        factor: i16,
        /// The brokers there are.
        brokers: usize,
    },
}

/// An assignment of partitions to brokers that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AssignmentError {
    /// A partition without replicas.
    #[error("The manual partition assignment includes an empty replica list.")]
    Empty,
    /// A broker that is not there.
    #[error("The manual partition assignment includes broker {broker}, but no such broker is registered.")]
    UnknownBroker {
        /// The broker.
        broker: NodeId,
    },
    /// A broker that is to hold a partition twice.
    #[error("The manual partition assignment includes the broker {broker} more than once.")]
    BrokerTwice {
        /// The broker.
        broker: NodeId,
    },
    /// Partitions with different numbers of replicas.
    #[error(
        "The manual partition assignment includes a partition with {found} replica(s), but this is not consistent \
         with previous partitions, which have {expected} replica(s)."
    )]
    Uneven {
        /// Replicas of the others.
        expected: usize,
        /// Replicas of this one.
        found: usize,
    },
    /// A partition named twice.
    #[error("Found multiple manual partition assignments for partition {partition}")]
    PartitionTwice {
        /// The partition.
        partition: i32,
    },
    /// Partitions with a gap.
    #[error("partitions should be a consecutive 0-based integer sequence")]
    Gap,
    /// Not as many assignments as partitions.
    #[error(
        "Attempted to add {additional} additional partition(s), but only {assignments} assignment(s) were specified."
    )]
    Count {
        /// Partitions to be added.
        additional: usize,
        /// Assignments given.
        assignments: usize,
    },
}

/// A configuration that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidConfig {
    /// A key or value is not valid.
    #[error(transparent)]
    Value(#[from] ConfigError),
    /// A key without a value.
    #[error("Null value not supported for topic configs: {}", .keys.join(","))]
    NullValues {
        /// The keys.
        keys: Vec<String>,
    },
    /// Something added to or taken from what is no list.
    #[error("Can't {operation} to key {key} because its type is not LIST.")]
    NotAList {
        /// APPEND or SUBTRACT.
        operation: &'static str,
        /// The key.
        key: String,
    },
}

impl From<ConfigError> for RuleError {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::MetricsInterval { .. } | ConfigError::UnknownClientMetricsKey { .. } => {
                Self::InvalidRequest(RequestError::Config(error))
            }
            error => Self::InvalidConfig(InvalidConfig::Value(error)),
        }
    }
}

/// A request that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// A topic named twice.
    #[error("Duplicate topic name.")]
    DuplicateTopicName,
    /// A topic named twice by its id.
    #[error("Duplicate topic id.")]
    DuplicateTopicId,
    /// A topic named by id and by name.
    #[error("The provided topic name maps to an ID that was already supplied.")]
    NameOfSuppliedId,
    /// A topic named not at all.
    #[error("Neither topic name nor id were specified.")]
    NeitherNameNorId,
    /// A topic named in two ways at once.
    #[error("You may not specify both topic name and topic id.")]
    NameAndId,
    /// An assignment together with a number of replicas.
    #[error("A manual partition assignment was specified, but replication factor was not set to -1.")]
    AssignmentAndReplicationFactor,
    /// An assignment together with a number of partitions.
    #[error("A manual partition assignment was specified, but numPartitions was not set to -1.")]
    AssignmentAndPartitions,
    /// The topic that stands for the controller's journal.
    #[error("Creation of internal topic {name} is prohibited.")]
    InternalTopic {
        /// The name.
        name: String,
    },
    /// A resource named twice.
    #[error("Each resource must appear at most once.")]
    DuplicateResource,
    /// A key named twice.
    #[error("Error due to duplicate config keys")]
    DuplicateKeys,
    /// Keys without a value.
    #[error("Null value not supported for : {}", .keys.join(", "))]
    NullValues {
        /// The keys.
        keys: Vec<String>,
    },
    /// A kind of resource that does not exist or cannot be changed this way.
    #[error("Unknown resource type {code}")]
    UnknownResourceType {
        /// The code in the protocol.
        code: i8,
    },
    /// An operation that does not exist.
    #[error("Unknown operations type {code}")]
    UnknownOperation {
        /// The code in the protocol.
        code: i8,
    },
    /// A topic without a name.
    #[error("Default topic resources are not allowed.")]
    DefaultTopic,
    /// A group without a name, to be configured.
    #[error("Default group resources are not allowed.")]
    DefaultGroup,
    /// A group without a name, to be described.
    #[error("Group name must not be empty")]
    EmptyGroupName,
    /// A subscription without a name, to be configured.
    #[error("Subscription name can't be empty")]
    DefaultSubscription,
    /// A subscription without a name, to be described.
    #[error("Client metrics subscription name must not be empty")]
    EmptySubscriptionName,
    /// A broker without a number.
    #[error("Broker id must not be empty")]
    EmptyBrokerId,
    /// A broker's number that is none.
    #[error("Broker id must be an integer, but it is: {received}")]
    BrokerIdNotAnInteger {
        /// What was given.
        received: String,
    },
    /// Another broker.
    #[error("Unexpected broker id, expected {expected}{}, but received {received}", if *.or_empty { " or empty string" } else { "" })]
    OtherBroker {
        /// This broker.
        expected: NodeId,
        /// Whether no number could be given as well.
        or_empty: bool,
        /// What was given.
        received: String,
    },
    /// Keys that are fixed at the start.
    #[error("Cannot update these configs dynamically: [{}]", .keys.join(", "))]
    ReadOnly {
        /// The keys.
        keys: Vec<String>,
    },
    /// There are no loggers to change.
    #[error("Log levels are set when the broker is started and cannot be changed.")]
    LogLevels,
    /// A value of a broker's key.
    #[error(transparent)]
    Config(ConfigError),
}

/// A node cannot lead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LeadershipError {
    /// Generations are numbers of 21 bits.
    #[error("no generation is left above {highest}")]
    GenerationsExhausted {
        /// The highest one known.
        highest: Generation,
    },
}

/// A broker cannot be registered, or not be given up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegistrationError {
    /// No node leads in a generation, so there are no followers.
    #[error("no node leads, so that none can follow")]
    NoLeader,
    /// The number of the leader.
    #[error("node id {node_id} is the leader's")]
    IsLeader {
        /// The number.
        node_id: NodeId,
    },
    /// Two nodes that would choose the same generations.
    #[error("node id {node_id} cannot be told from {other}: they must differ in their remainder by {modulus}")]
    Indistinct {
        /// The node.
        node_id: NodeId,
        /// The node that is registered.
        other: NodeId,
        /// How many node ids can be told apart.
        modulus: i32,
    },
    /// A number that no node can have.
    #[error("node id {node_id} is negative")]
    Negative {
        /// The number.
        node_id: NodeId,
    },
    /// Every number is taken.
    #[error("no node id is left")]
    NodeIdsExhausted,
    /// A broker that is not registered.
    #[error("broker {node_id} is not registered")]
    UnknownBroker {
        /// The broker.
        node_id: NodeId,
    },
}

/// An ISR is not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IsrError {
    /// The partition is not there.
    #[error("the partition does not exist")]
    UnknownPartition,
    /// Another node leads the partition.
    #[error("node {leader} leads the partition")]
    NotLeader {
        /// Who leads.
        leader: NodeId,
    },
    /// The leader epoch is over, or not one that is known.
    #[error("leader epoch {found}, the partition is in {current}")]
    LeaderEpoch {
        /// The partition's.
        current: LeaderEpoch,
        /// The one asked in.
        found: LeaderEpoch,
    },
    /// The partition changed meanwhile.
    #[error("partition epoch {found}, the partition is in {current}")]
    PartitionEpoch {
        /// The partition's.
        current: i32,
        /// The one asked for.
        found: i32,
    },
    /// No set of replicas with the leader among them.
    #[error("{isr:?} is no set of replicas with their leader")]
    Invalid {
        /// What was asked for.
        isr: Vec<NodeId>,
    },
    /// A broker that is not there or not connected would get into the ISR (KIP-841).
    #[error("broker {node_id} is not connected")]
    Ineligible {
        /// The broker.
        node_id: NodeId,
    },
}

impl IsrError {
    /// Whether the leader that asks is one no more, or does not know yet that it is.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::NotLeader { .. } | Self::LeaderEpoch { .. })
    }
}
