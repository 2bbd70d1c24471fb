//! Decides commands: image and command in, records and outcome out.
//!
//! A rule never looks at a clock, a disk or a random number; ids come in as an argument. What it refuses leaves no
//! record behind.

mod configs;
mod error;
mod isr;
mod leadership;
mod partitions;
mod placement;
mod producer_ids;
mod registration;
#[cfg(test)]
mod tests;
mod topic_name;
mod topics;

use chronik_model::Uuid;

pub use self::error::{
    AssignmentError, InvalidConfig, IsrError, LeadershipError, PartitionsError, RegistrationError,
    ReplicationFactorError, RequestError, RuleError,
};
pub use self::producer_ids::PRODUCER_ID_BLOCK;
use self::registration::Registering;
pub use self::topic_name::{TopicNameError, is_internal_topic, validate_topic_name};
use crate::command::{Command, Outcome};
use crate::config::StaticConfig;
use crate::image::Image;
use crate::record::Record;

/// Partitions that one request may create, as in Kafka; a request for more is refused whole.
const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// What a command leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// To be committed together, in this order; empty where nothing changes.
    pub records: Vec<Record>,
    /// The answer, to be given once the records are committed and applied.
    pub outcome: Outcome,
}

/// Decides a command on an image that has every record decided before. `ids` gives random ids.
pub fn decide(image: &Image, command: Command, fixed: &StaticConfig, ids: &mut dyn FnMut() -> Uuid) -> Decision {
    match command {
        Command::CreateTopics { topics, validate_only } => {
            topics::create(image, topics, fixed, ids).unless(validate_only)
        }
        Command::DeleteTopics { topics } => topics::delete(image, topics, fixed),
        Command::CreatePartitions { topics, validate_only } => partitions::create(image, topics).unless(validate_only),
        Command::AlterConfigs { resources, validate_only } => {
            configs::alter(image, resources, fixed).unless(validate_only)
        }
        Command::ReplaceConfigs { resources, validate_only } => {
            configs::replace(image, resources, fixed).unless(validate_only)
        }
        Command::AllocateProducerIds => producer_ids::allocate(image),
        Command::RegisterBroker { node_id, host, port, rack } => {
            registration::register(image, Registering { node_id, host, port, rack })
        }
        Command::TopicDeleted { id } => topics::files_deleted(image, id),
        Command::Lead { node_id, mode, is_replicated, clean_stop, above } => {
            leadership::lead(image, node_id, mode, is_replicated, clean_stop, above)
        }
        Command::Promote { node_id, host, port, rack, mode, above } => {
            leadership::promote(image, Registering { node_id, host, port, rack }, mode, above)
        }
        Command::AllocateNodeId => registration::allocate_node_id(image),
        Command::RegisterFollower { node_id, host, port, rack } => {
            registration::register_follower(image, Registering { node_id, host, port, rack })
        }
        Command::FenceFollower { node_id } => registration::fence(image, node_id),
        Command::UnregisterBroker { node_id } => registration::unregister(image, node_id),
        Command::AlterIsr { node_id, changes } => isr::alter(image, node_id, changes),
    }
}

impl Decision {
    fn unless(mut self, validate_only: bool) -> Self {
        if validate_only {
            self.records.clear();
        }
        self
    }
}
