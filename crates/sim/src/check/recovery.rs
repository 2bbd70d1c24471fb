//! I11: what a node said was synced stays: recovery never shortens a log below it, and finds no damage in it, unless a bit was
//! changed there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chronik_log::Damage;
use chronik_model::{NodeId, Offset};

use crate::sight::{Violation, hold};

/// Synced bytes are gone.
pub const SYNCED_STAYS: &str = "recovery-keeps-what-was-synced";

/// What each node said was durable.
#[derive(Debug, Default)]
pub struct Durability {
    /// Where each log's durable part began and ended.
    parts: BTreeMap<NodeId, (Offset, Offset)>,
    /// The damage that was known of each node.
    damage: BTreeMap<NodeId, Vec<(PathBuf, u64)>>,
    /// Where bits were changed.
    flipped: BTreeSet<(NodeId, PathBuf, u64)>,
}

impl Durability {
    /// A running node says what is durable, exclusive, of a log that starts at `log_start`.
    pub fn see(&mut self, node: NodeId, log_start: Offset, durable_end: Offset) {
        self.parts.insert(node, (log_start, durable_end));
    }

    /// A bit of a node's file was changed.
    pub fn flip(&mut self, node: NodeId, file: PathBuf, position: u64) {
        self.flipped.insert((node, file, position));
    }

    /// Whether a bit was changed there.
    pub fn is_flipped(&self, node: NodeId, file: &Path, position: u64) -> bool {
        self.flipped.contains(&(node, file.to_owned(), position))
    }

    /// A node knows of damage.
    pub fn damaged(&mut self, node: NodeId, damage: &[Damage]) -> Result<(), Violation> {
        let (log_start, durable) = self.parts.get(&node).copied().unwrap_or_default();
        let at = |range: &Damage| (range.file.clone(), range.position);
        let known = self.damage.insert(node, damage.iter().map(at).collect()).unwrap_or_default();
        // What lies below the log start is nobody's any more.
        let matters = |range: &Damage| range.offset < durable && range.offset_end > log_start;
        for range in damage.iter().filter(|range| matters(range) && !known.contains(&at(range))) {
            let flipped = self
                .flipped
                .range((node, range.file.clone(), range.position)..(node, range.file.clone(), range.position_end));
            hold!(SYNCED_STAYS, flipped.count() > 0, "node {node} had synced up to {durable}, and finds {range}");
        }
        Ok(())
    }

    /// What a node last said was durable, exclusive.
    pub fn end(&self, node: NodeId) -> Offset {
        self.parts.get(&node).map_or(Offset::ZERO, |part| part.1)
    }

    /// Where nothing vouches for a log's start: of one without a durable batch it may be forgotten.
    pub fn forget_start(&mut self, node: NodeId) {
        if let Some((log_start, durable)) =
            self.parts.get_mut(&node).filter(|(log_start, durable)| durable <= log_start)
        {
            (*log_start, *durable) = (Offset::ZERO, Offset::ZERO);
        }
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
    use chronik_log::Reason;

    use super::*;

    #[test]
    fn a_log_without_durable_batches_keeps_its_start_unless_nothing_vouches_for_it() {
        let mut durability = Durability::default();
        let node = NodeId::new(1);
        durability.see(node, Offset::new(5), Offset::new(5));
        assert_eq!(durability.recovered(node, Offset::ZERO).unwrap_err().rule, SYNCED_STAYS);
        durability.forget_start(node);
        assert!(durability.recovered(node, Offset::ZERO).is_ok());
    }

    #[test]
    fn damage_in_what_was_synced_is_found_unless_a_bit_was_changed() {
        let node = NodeId::new(1);
        let range = |position, offset| Damage {
            file: "s.log".into(),
            position,
            position_end: position + 80,
            offset: Offset::new(offset),
            offset_end: Offset::new(offset + 1),
            reason: Reason::Checksum,
        };
        let mut durability = Durability::default();
        durability.see(node, Offset::ZERO, Offset::new(5));
        assert!(durability.damaged(node, &[range(400, 5)]).is_ok(), "nobody said that it is durable");
        durability.see(node, Offset::ZERO, Offset::new(9));
        assert!(durability.damaged(node, &[range(400, 5)]).is_ok(), "it is known");
        durability.flip(node, "s.log".into(), 100);
        assert!(durability.damaged(node, &[range(80, 1), range(400, 5)]).is_ok());
        assert_eq!(durability.damaged(node, &[range(160, 2)]).unwrap_err().rule, SYNCED_STAYS);
    }

    #[test]
    fn a_log_that_lost_synced_batches_is_found() {
        let mut durability = Durability::default();
        let node = NodeId::new(1);
        durability.see(node, Offset::ZERO, Offset::new(5));
        assert!(durability.recovered(node, Offset::new(5)).is_ok());
        assert_eq!(durability.recovered(node, Offset::new(4)).unwrap_err().rule, SYNCED_STAYS);
    }
}
