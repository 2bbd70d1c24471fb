//! What an observer who sees everything sees of one replica at one moment. Values only; nothing here judges.

use std::fmt;

use chronik_model::{LeaderEpoch, NodeId, Offset};

/// What a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes writes.
    Leader,
    /// It serves what a leader sends it, below its high watermark.
    Follower,
    /// It serves nobody: it has not met its leader yet, or was fenced.
    Nobody,
}

/// One replica's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The node.
    pub node: NodeId,
    /// Which run of its process, counted from 1.
    pub run: u32,
    /// What it is.
    pub role: Role,
    /// The generation it leads in or follows.
    pub generation: u64,
    /// The generation of the leader whose data or bounds it took last: its log is of that history.
    pub heard: u64,
    /// The leader epoch it leads in or follows.
    pub leader_epoch: LeaderEpoch,
    /// First offset it may serve, inclusive.
    pub log_start: Offset,
    /// First offset not committed as far as it knows, exclusive end.
    pub high_watermark: Offset,
    /// End of what it says is durable, exclusive.
    pub durable_end: Offset,
    /// Log end, exclusive.
    pub log_end: Offset,
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "node {} {:?} g{} e{} start={} hw={} durable={} end={}",
            self.node,
            self.role,
            self.generation,
            self.leader_epoch,
            self.log_start,
            self.high_watermark,
            self.durable_end,
            self.log_end
        )
    }
}

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule's short name.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// Stops a check with a violation where a condition does not hold.
macro_rules! hold {
    ($rule:expr, $condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::sight::Violation { rule: $rule, what: format!($($what)+) });
        }
    };
}
pub(crate) use hold;
