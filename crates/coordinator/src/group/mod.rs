//! Groups: their membership (`classic`) and their committed offsets (`offsets`). Which shard a group belongs to is
//! said here; what a shard is, in `runtime`.

pub(crate) mod classic;
pub(crate) mod offsets;

use std::fmt;

pub(crate) use classic::ClassicGroup;
pub(crate) use offsets::Offsets;

/// A group as a shard keeps it. A group without members that only stores offsets is a simple group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) classic: ClassicGroup,
    pub(crate) offsets: Offsets,
}

/// The state of a classic group, printed as Kafka prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GroupState {
    /// No members; there may be offsets.
    Empty,
    /// Members are asked to join again.
    PreparingRebalance,
    /// Members have joined and wait for what the leader assigns.
    CompletingRebalance,
    /// Members have their assignments.
    Stable,
    /// There is no such group.
    Dead,
}

impl GroupState {
    /// The name Kafka's tools show and filter by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The partition of `__consumer_offsets` a group lives in, of `partitions` (`offsets.topic.num.partitions`): Java's
/// hash of the id over UTF-16 units, made positive as Kafka does, so that both place a group alike.
pub fn partition_for(group_id: &str, partitions: i32) -> i32 {
    let hash = group_id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_placed_as_java_places_them() {
        // Computed with Kafka's `Utils.abs(id.hashCode())`; the hash of "polygenelubricants" is the smallest integer.
        for (group_id, of_50, of_7) in [
            ("", 0, 0),
            ("a", 47, 6),
            ("test-group", 12, 2),
            ("console-consumer-12345", 6, 6),
            ("polygenelubricants", 0, 0),
            ("grüße-😀", 27, 1),
            ("orders-app", 5, 5),
        ] {
            assert_eq!((partition_for(group_id, 50), partition_for(group_id, 7)), (of_50, of_7), "{group_id}");
        }
    }
}
