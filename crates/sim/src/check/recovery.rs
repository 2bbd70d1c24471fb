//! I11: recovery never shortens a log below what it said was synced.

use std::collections::BTreeMap;

use chronik_model::{NodeId, Offset};

use crate::sight::{Violation, hold};

/// Synced bytes are gone.
pub const SYNCED_STAYS: &str = "recovery-keeps-what-was-synced";

/// What each node said was durable.
#[derive(Debug, Default)]
pub struct Durability {
    /// Where each log's durable part began and ended.
    parts: BTreeMap<NodeId, (Offset, Offset)>,
}

impl Durability {
    /// A running node says what is durable, exclusive, of a log that starts at `log_start`.
    pub fn see(&mut self, node: NodeId, log_start: Offset, durable_end: Offset) {
        self.parts.insert(node, (log_start, durable_end));
    }

    /// What a node last said was durable, exclusive.
    pub fn end(&self, node: NodeId) -> Offset {
        self.parts.get(&node).map_or(Offset::ZERO, |part| part.1)
    }

    /// A node opened its log again after a crash.
    pub fn recovered(&self, node: NodeId, log_end: Offset) -> Result<(), Violation> {
        let (log_start, durable) = self.parts.get(&node).copied().unwrap_or_default();
        // Of a log without a durable batch nothing has to stay, its start included.
        hold!(
            SYNCED_STAYS,
            log_end >= durable || durable <= log_start,
            "node {node} had synced up to {durable}, its log ends at {log_end}"
        );
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
        durability.see(node, Offset::ZERO, Offset::new(5));
        assert!(durability.recovered(node, Offset::new(5)).is_ok());
        assert_eq!(durability.recovered(node, Offset::new(4)).unwrap_err().rule, SYNCED_STAYS);
    }
}
