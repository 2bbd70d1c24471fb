//! What became different between two images.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use chronik_model::TopicId;

use crate::image::{ConfigResource, Image, RemovedTopic, ResourceKind};

/// What became different. A topic is in at most one of created, grown and removed; one that was created and removed
/// between the two images is among the removed only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    pub(crate) created: BTreeSet<TopicId>,
    pub(crate) grown: BTreeSet<TopicId>,
    pub(crate) shrunk: BTreeSet<TopicId>,
    pub(crate) removed: Vec<RemovedTopic>,
    pub(crate) changed: BTreeSet<(TopicId, usize)>,
    pub(crate) reconfigured: BTreeSet<TopicId>,
    pub(crate) resources: BTreeSet<ConfigResource>,
    pub(crate) brokers_changed: bool,
    pub(crate) leader_changed: bool,
    /// It stands for records that nobody has seen one by one.
    pub(crate) is_replacement: bool,
}

impl Delta {
    /// What became different from one whole image to another that did not come from it record by record. A name that
    /// stands for another topic is one topic removed and one created. A topic in neither image is among the removed where
    /// its files are newly to be deleted.
    pub fn between(old: &Image, new: &Image) -> Self {
        let mut delta = Self {
            is_replacement: true,
            brokers_changed: old.brokers() != new.brokers(),
            leader_changed: (old.generation(), old.leader(), old.leader_epoch())
                != (new.generation(), new.leader(), new.leader_epoch()),
            ..Self::default()
        };
        for topic in old.topics() {
            if new.topic_by_id(topic.id).is_none() {
                delta.removed.push(RemovedTopic { id: topic.id, name: Arc::clone(&topic.name) });
            }
        }
        let known: BTreeSet<TopicId> = old.deletions_pending().map(|removed| removed.id).collect();
        let unknown = new.deletions_pending().filter(|removed| !known.contains(&removed.id));
        delta.removed.extend(unknown.filter(|removed| old.topic_by_id(removed.id).is_none()).cloned());
        for topic in new.topics() {
            let Some(before) = old.topic_by_id(topic.id) else {
                delta.created.insert(topic.id);
                continue;
            };
            match topic.partitions.len().cmp(&before.partitions.len()) {
                Ordering::Greater => drop(delta.grown.insert(topic.id)),
                Ordering::Less => drop(delta.shrunk.insert(topic.id)),
                Ordering::Equal => {}
            }
            for (index, (then, now)) in before.partitions.iter().zip(&topic.partitions).enumerate() {
                if then != now {
                    delta.changed.insert((topic.id, index));
                }
            }
            let resource = ConfigResource::topic(Arc::clone(&topic.name));
            if old.configs(&resource) != new.configs(&resource) {
                delta.reconfigured.insert(topic.id);
            }
        }
        let resources = old.resources().chain(new.resources()).filter(|resource| resource.kind != ResourceKind::Topic);
        delta.resources.extend(resources.filter(|resource| old.configs(resource) != new.configs(resource)).cloned());
        delta
    }

    /// Topics that are new.
    pub fn topics_created(&self) -> impl Iterator<Item = TopicId> + '_ {
        self.created.iter().copied()
    }

    /// Topics that have more partitions than before.
    pub fn topics_grown(&self) -> impl Iterator<Item = TopicId> + '_ {
        self.grown.iter().copied()
    }

    /// Topics that have fewer partitions than before, as only a replaced image can have them: the last ones never were on
    /// the node that leads.
    pub fn topics_shrunk(&self) -> impl Iterator<Item = TopicId> + '_ {
        self.shrunk.iter().copied()
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

    /// Whether a broker registered, was fenced, or is no more.
    pub fn brokers_changed(&self) -> bool {
        self.brokers_changed
    }

    /// Whether another node leads, or the same one in another generation or leader epoch.
    pub fn leader_changed(&self) -> bool {
        self.leader_changed
    }

    /// Whether a whole image took the place of another: what is gone may have been removed, or never have been there.
    pub fn is_replacement(&self) -> bool {
        self.is_replacement
    }

    /// Whether nothing is different that anybody would have to act on.
    pub fn is_empty(&self) -> bool {
        *self == Self { is_replacement: self.is_replacement, ..Self::default() }
    }
}

#[cfg(test)]
mod tests;
