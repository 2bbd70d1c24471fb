//! What became different between two images.

use std::collections::BTreeSet;

use chronik_model::TopicId;

use crate::image::{ConfigResource, RemovedTopic, ResourceKind};

/// What became different. A topic is in at most one of created, grown and removed; one that was created and removed
/// between the two images is among the removed only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    pub(crate) created: BTreeSet<TopicId>,
    pub(crate) grown: BTreeSet<TopicId>,
    pub(crate) removed: Vec<RemovedTopic>,
    pub(crate) changed: BTreeSet<(TopicId, usize)>,
    pub(crate) reconfigured: BTreeSet<TopicId>,
    pub(crate) resources: BTreeSet<ConfigResource>,
    pub(crate) brokers_changed: bool,
}

impl Delta {
    /// Topics that are new.
    pub fn topics_created(&self) -> impl Iterator<Item = TopicId> + '_ {
        self.created.iter().copied()
    }

    /// Topics that have more partitions than before.
    pub fn topics_grown(&self) -> impl Iterator<Item = TopicId> + '_ {
        self.grown.iter().copied()
    }

    /// Topics that are no more, in the order of their removal.
    pub fn topics_removed(&self) -> impl Iterator<Item = &RemovedTopic> {
        self.removed.iter()
    }

    /// Partitions, by topic and number, whose leader or replicas changed.
    pub fn partitions_changed(&self) -> impl Iterator<Item = (TopicId, usize)> + '_ {
        self.changed.iter().copied()
    }

    /// Topics with another configuration of their own; new ones are not among them.
    pub fn topics_reconfigured(&self) -> impl Iterator<Item = TopicId> + '_ {
        self.reconfigured.iter().copied()
    }

    /// Whether a broker, or the default of all, has another configuration.
    pub fn broker_configs_changed(&self) -> bool {
        self.resources.iter().any(|resource| resource.kind == ResourceKind::Broker)
    }

    /// Brokers, groups and subscriptions with another configuration.
    pub fn resources_reconfigured(&self) -> impl Iterator<Item = &ConfigResource> {
        self.resources.iter()
    }

    /// Whether a broker registered.
    pub fn brokers_changed(&self) -> bool {
        self.brokers_changed
    }

    /// Whether nothing is different that anybody would have to act on.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
