//! What the cluster knows and the rules for changing it.
//!
//! A command is decided on an [`Image`] and becomes [`Record`]s; committed records become the next image and a
//! [`Delta`]. Pure: no disk, no clock, no randomness; who orders and stores records is behind [`ControllerClient`].

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod client;
mod command;
pub mod config;
mod delta;
mod image;
mod journal;
mod leader;
mod record;
mod rules;

pub use client::{
    Answer, ControllerClient, ControllerError, ImageListener, QuorumStatus, ReplicatedController, Submitted,
    VoterStatus,
};
pub use command::{
    AlteredConfigs, AlteredIsr, Command, ConfigAlteration, ConfigOperation, CreatedTopic, DeletedTopic, GrownTopic,
    IsrChange, NewPartitions, NewTopic, Operation, Outcome, ReplacedConfigs, TopicCreation, TopicRef,
};
pub use delta::Delta;
pub use image::{
    ApplyError, Broker, Builder, ConfigMap, ConfigResource, Image, Partition, RemovedTopic, ResourceKind, Topic,
};
pub use journal::{
    FollowError, JournalBatches, JournalPosition, JournalReadError, JournalSnapshot, JournalStatus, SnapshotPart,
};
pub use leader::{KnownLeader, Leadership, ReplicationMode, Role};
pub use record::{RECORD_VERSION, Record, RecordError};
pub use rules::{
    AssignmentError, Decision, InvalidConfig, IsrError, LeadershipError, PRODUCER_ID_BLOCK, PartitionsError,
    RegistrationError, ReplicationFactorError, RequestError, RuleError, TopicNameError, decide, is_internal_topic,
    validate_topic_name,
};
