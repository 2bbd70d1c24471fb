//! Offsets count records of a partition; leader epochs count its leaders.

use std::fmt;

/// The place of a record in its partition, counted from 0. An end (log end offset, high watermark, last stable offset)
/// is exclusive: the first offset not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Offset(i64);

impl Offset {
    /// The first offset of a partition.
    pub const ZERO: Self = Self(0);
    /// "No offset" on the wire.
    pub const UNKNOWN: Self = Self(-1);

    /// Wraps a raw value as it stands on the wire.
    pub const fn new(raw: i64) -> Self {
        Self(raw)
    }

    /// The raw value as it stands on the wire.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The offset `count` records further on; `None` where it does not fit.
    pub fn checked_add(self, count: i64) -> Option<Self> {
        self.0.checked_add(count).map(Self)
    }

    /// The offset one further on, saturating at the largest value.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// How many offsets lie in `[earlier, self)`; 0 where `earlier` is not earlier.
    pub fn distance_from(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a partition's leader, raised at every change of leader (KIP-101).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LeaderEpoch(i32);

impl LeaderEpoch {
    /// "No epoch": the request does not fence.
    pub const NONE: Self = Self(-1);
    /// The epoch of a partition's first leader.
    pub const ZERO: Self = Self(0);

    /// Wraps a raw value as it stands on the wire.
    pub const fn new(raw: i32) -> Self {
        Self(raw)
    }

    /// The raw value as it stands on the wire.
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
