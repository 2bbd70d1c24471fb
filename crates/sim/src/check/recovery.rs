//! I11: recovery never shortens a log below what it said was synced.

use std::collections::BTreeMap;

use chronik_model::{NodeId, Offset};

use crate::sight::{Violation, hold};

/// Synced bytes are gone.
pub const SYNCED_STAYS: &str = "recovery-keeps-what-was-synced";

/// What each node said was durable.
#[derive(Debug, Default)]
pub struct Durability {
    ends: BTreeMap<NodeId, Offset>,
}

impl Durability {
    /// A running node says what is durable.
    pub fn see(&mut self, node: NodeId, durable_end: Offset) {
        self.ends.insert(node, durable_end);
    }

    /// What a node last said was durable, exclusive.
    pub fn end(&self, node: NodeId) -> Offset {
        self.ends.get(&node).copied().unwrap_or(Offset::ZERO)
    }

    /// A node opened its log again after a crash.
    pub fn recovered(&self, node: NodeId, log_end: Offset) -> Result<(), Violation> {
        let durable = self.end(node);
        hold!(SYNCED_STAYS, log_end >= durable, "node {node} had synced up to {durable}, its log ends at {log_end}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_lost_synced_batches_is_found() {
        let mut durability = Durability::default();
        let node = NodeId::new(1);
        durability.see(node, Offset::new(5));
        assert!(durability.recovered(node, Offset::new(5)).is_ok());
        assert_eq!(durability.recovered(node, Offset::new(4)).unwrap_err().rule, SYNCED_STAYS);
    }
}
