//! Identifiers of nodes, topics, partitions and producers.

use std::fmt;
use std::sync::Arc;

use crate::Uuid;

macro_rules! integer_id {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name($repr);

        impl $name {
            /// Wraps a raw value as it stands on the wire.
            pub const fn new(raw: $repr) -> Self {
                Self(raw)
            }

            /// The raw value as it stands on the wire.
            pub const fn get(self) -> $repr {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

integer_id!(
    /// A process of the cluster (`node.id`); its Kafka role is the broker id.
    NodeId(i32)
);
integer_id!(
    /// The number of a leader of the whole node set: every promotion raises it. Zero before there is one.
    Generation(i32)
);
integer_id!(
    /// A partition's number within its topic, counted from 0.
    PartitionIndex(i32)
);
integer_id!(
    /// The identity a producer got from InitProducerId (KIP-98).
    ProducerId(i64)
);
integer_id!(
    /// The fencing epoch of a producer id (KIP-98).
    ProducerEpoch(i16)
);
integer_id!(
    /// The sequence number of a record within a producer id, epoch and partition; it wraps from `i32::MAX` to 0.
    Sequence(i32)
);

impl NodeId {
    /// "No node": an unknown leader or controller on the wire.
    pub const NONE: Self = Self(-1);
}

impl Generation {
    /// Before any leader.
    pub const ZERO: Self = Self(0);
}

impl ProducerId {
    /// The batch carries no producer id.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// The batch carries no producer epoch.
    pub const NONE: Self = Self(-1);
}

impl Sequence {
    /// The batch carries no sequence.
    pub const NONE: Self = Self(-1);

    /// The sequence `count` records further on, wrapping to 0 after `i32::MAX` as Kafka's clients do.
    pub const fn advanced_by(self, count: u32) -> Self {
        let next = (self.0 as i64 + count as i64) % (i32::MAX as i64 + 1);
        Self(next as i32)
    }
}

/// A topic's identity (KIP-516): a topic deleted and created again under the same name has another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TopicId(pub Uuid);

impl TopicId {
    /// "No id": requests that name topics by name.
    pub const ZERO: Self = Self(Uuid::ZERO);

    /// Whether this is the null id.
    pub fn is_zero(self) -> bool {
        self.0 == Uuid::ZERO
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A topic's name with a partition's number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// Joins a topic name and a partition number.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition: PartitionIndex::new(partition) }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_wraps_to_zero_after_the_largest_value() {
        assert_eq!(Sequence::new(i32::MAX).advanced_by(1), Sequence::new(0));
        assert_eq!(Sequence::new(i32::MAX - 1).advanced_by(3), Sequence::new(1));
        assert_eq!(Sequence::new(5).advanced_by(0), Sequence::new(5));
    }
}
