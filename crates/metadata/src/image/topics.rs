//! Topics by name and by id.

use std::borrow::Cow;
use std::sync::Arc;

use chronik_model::{LeaderEpoch, NodeId, TopicId};
use serde::{Deserialize, Serialize};

use super::map::Map;
use crate::record::{as_leader_epoch, as_node, as_nodes};

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; a topic deleted and created again has another.
    pub id: TopicId,
    /// Its partitions, from 0 on.
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// Replicas of each partition.
    pub fn replication_factor(&self) -> usize {
        self.partitions.first().map_or(0, |partition| partition.replicas.len())
    }
}

/// Who holds a partition. `isr` is a subset of `replicas`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Its leader; [`NodeId::NONE`] where it has none.
    #[serde(with = "as_node")]
    pub leader: NodeId,
    /// Raised at every change of leader.
    #[serde(with = "as_leader_epoch")]
    pub leader_epoch: LeaderEpoch,
    /// Raised at every change.
    pub partition_epoch: i32,
    /// The brokers that hold a copy, the preferred leader first.
    #[serde(with = "as_nodes")]
    pub replicas: Vec<NodeId>,
    /// The replicas in sync.
    #[serde(with = "as_nodes")]
    pub isr: Vec<NodeId>,
}

/// A removed topic whose files are still to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedTopic {
    /// The id it had.
    pub id: TopicId,
    /// The name it had.
    pub name: Arc<str>,
}

/// Topics by name and id, and by the name that collides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topics {
    by_name: Map<Arc<str>, Arc<Topic>>,
    by_id: Map<TopicId, Arc<Topic>>,
    /// Names with `.` or `_`, by what they are with `_` only.
    by_unified: Map<Box<str>, Arc<str>>,
}

impl Topics {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.iter().map(|(_, topic)| topic)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    pub(super) fn by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    pub(super) fn colliding(&self, name: &str) -> Option<&Arc<str>> {
        self.by_unified.get(&*unified(name)?)
    }

    pub(super) fn put(&mut self, topic: Topic) {
        if let Some(unified) = unified(&topic.name) {
            self.by_unified.insert(unified.into(), Arc::clone(&topic.name));
        }
        let topic = Arc::new(topic);
        self.by_name.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        self.by_id.insert(topic.id, topic);
    }

    pub(super) fn remove(&mut self, id: TopicId) -> Option<Arc<Topic>> {
        let topic = self.by_id.remove(&id)?;
        self.by_name.remove(&*topic.name);
        if let Some(unified) = unified(&topic.name) {
            self.by_unified.remove(&*unified);
        }
        Some(topic)
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.by_name.len(), self.by_id.len(), "topics by name and by id");
        for (name, topic) in self.by_name.iter() {
            assert_eq!(*name, topic.name);
            assert_eq!(self.by_id.get(&topic.id), Some(topic));
        }
        let collidable = self.by_name.iter().filter(|(name, _)| unified(name).is_some()).count();
        assert_eq!(self.by_unified.len(), collidable, "names that could collide");
    }
}

/// The name with `_` for `.`; `None` where it has neither and cannot collide.
fn unified(name: &str) -> Option<Cow<'_, str>> {
    if name.contains('.') {
        Some(Cow::Owned(name.replace('.', "_")))
    } else {
        name.contains('_').then_some(Cow::Borrowed(name))
    }
}
