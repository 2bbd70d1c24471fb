//! DESIGN 4.4 rule 3, I2, I7: logs match. One leader epoch has one batch at an offset on whichever node, and always the
//! same batch before it; so two logs that share a batch are the same up to it. Offsets have no gap and epochs only rise.

use std::collections::BTreeMap;

use chronik_model::{LeaderEpoch, NodeId, Offset};

use crate::ledger::{Batch, Ledger};
use crate::sight::{Role, Sight, Violation, hold};

/// Same offset and epoch, other bytes.
pub const SAME_BATCH: &str = "one-batch-per-offset-and-epoch";
/// Same batch, other predecessor.
pub const SAME_PAST: &str = "same-batch-same-past";
/// A gap, an overlap or a falling epoch.
pub const DENSE: &str = "offsets-dense-and-epochs-rising";
/// A follower cut what its leader has.
pub const NEEDLESS_CUT: &str = "only-what-the-leader-lacks-is-cut";
/// A follower has something that its leader has not.
pub const PREFIX: &str = "follower-is-a-prefix-of-its-leader";

#[derive(Debug)]
struct Known {
    batch: Batch,
    before: Option<(Offset, LeaderEpoch)>,
    node: NodeId,
}

/// Every batch ever seen.
#[derive(Debug, Default)]
pub struct Matching {
    known: BTreeMap<(Offset, LeaderEpoch), Known>,
}

impl Matching {
    /// Looks at batches that a node's log has gained; `ledger` has them already.
    /// Nothing below `dense_from` needs a predecessor: the log starts there, or ends a damaged range.
    pub fn added(
        &mut self,
        node: NodeId,
        dense_from: Offset,
        added: &[Batch],
        ledger: &Ledger,
    ) -> Result<(), Violation> {
        for batch in added {
            let before = ledger.before(batch.base_offset).filter(|before| before.next_offset > dense_from);
            hold!(
                DENSE,
                batch.base_offset <= dense_from
                    || before.is_some_and(|before| {
                        before.next_offset == batch.base_offset && before.leader_epoch <= batch.leader_epoch
                    }),
                "node {node} has {batch:?} behind {before:?}, which is behind {dense_from}"
            );
            let before = before.map(|before| (before.base_offset, before.leader_epoch));
            let key = (batch.base_offset, batch.leader_epoch);
            let known = self.known.entry(key).or_insert(Known { batch: *batch, before, node });
            hold!(
                SAME_BATCH,
                known.batch == *batch,
                "node {node} has {batch:?} where node {} has {:?}",
                known.node,
                known.batch
            );
            // A log that begins here knows no past.
            known.before = known.before.or(before);
            hold!(
                SAME_PAST,
                before.is_none() || known.before == before,
                "node {node} has {before:?} before {key:?} where node {} has {:?}",
                known.node,
                known.before
            );
        }
        Ok(())
    }

    /// A follower of a leader cuts only what that leader does not have, from its log start on.
    pub fn cuts(&self, sight: &Sight, cut: &[Batch], leader: &Ledger) -> Result<(), Violation> {
        for batch in cut.iter().filter(|batch| batch.base_offset >= sight.log_start) {
            let has = leader.at(batch.base_offset);
            hold!(NEEDLESS_CUT, has != Some(batch), "node {} cut {batch:?}, which its leader has", sight.node);
        }
        Ok(())
    }

    /// A follower that has something of its leader's epoch has nothing that its leader has not. `added` is what it got.
    pub fn follows(&self, sight: &Sight, added: &[Batch], leader: &Ledger) -> Result<(), Violation> {
        if sight.role != Role::Follower {
            return Ok(());
        }
        for batch in added {
            let has = leader.at(batch.base_offset);
            hold!(PREFIX, has == Some(batch), "node {} appended {batch:?}, its leader has {has:?}", sight.node);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A batch of one record.
    pub(crate) fn batch(offset: i64, leader_epoch: i32, crc: u32) -> Batch {
        Batch {
            base_offset: Offset::new(offset),
            next_offset: Offset::new(offset + 1),
            leader_epoch: LeaderEpoch::new(leader_epoch),
            crc,
            size_bytes: 70,
            producer: None,
        }
    }

    /// A replica with an empty log.
    pub(crate) fn sight(node: i32, role: Role, leader_epoch: i32) -> Sight {
        Sight {
            node: NodeId::new(node),
            run: 1,
            role,
            generation: 1,
            heard: 1,
            leader_epoch: LeaderEpoch::new(leader_epoch),
            log_start: Offset::ZERO,
            high_watermark: Offset::ZERO,
            durable_end: Offset::ZERO,
            log_end: Offset::ZERO,
        }
    }

    fn check(logs: &[&[Batch]]) -> Result<(), Violation> {
        let mut matching = Matching::default();
        for (node, log) in (1..).zip(logs) {
            let log_start = log.first().map_or(Offset::ZERO, |first| first.base_offset);
            matching.added(NodeId::new(node), log_start, log, &Ledger::of(log.iter().copied()))?;
        }
        Ok(())
    }

    #[test]
    fn equal_logs_and_divergent_epochs_are_allowed() {
        let log = [batch(0, 0, 1), batch(1, 0, 2), batch(2, 1, 3)];
        let other = [batch(0, 0, 1), batch(1, 0, 2), batch(2, 2, 9)];
        assert_eq!(check(&[&log, &log, &log[1..], &other]), Ok(()));
    }

    #[test]
    fn other_bytes_at_the_same_offset_and_epoch_are_found() {
        assert_eq!(check(&[&[batch(0, 0, 1)], &[batch(0, 0, 2)]]).unwrap_err().rule, SAME_BATCH);
    }

    #[test]
    fn a_shared_batch_behind_different_ones_is_found() {
        let (one, other) = ([batch(0, 0, 1), batch(1, 5, 2)], [batch(0, 3, 9), batch(1, 5, 2)]);
        assert_eq!(check(&[&one, &other]).unwrap_err().rule, SAME_PAST);
    }

    #[test]
    fn a_falling_epoch_is_found() {
        assert_eq!(check(&[&[batch(0, 4, 1), batch(1, 3, 2)]]).unwrap_err().rule, DENSE);
    }

    #[test]
    fn a_cut_of_what_the_leader_has_is_found() {
        let leader = Ledger::of([batch(0, 1, 1)]);
        let (matching, sight) = (Matching::default(), sight(2, Role::Follower, 1));
        assert!(matching.cuts(&sight, &[batch(0, 0, 7), batch(1, 0, 8)], &leader).is_ok());
        assert_eq!(matching.cuts(&sight, &[batch(0, 1, 1)], &leader).unwrap_err().rule, NEEDLESS_CUT);
    }

    #[test]
    fn a_follower_with_a_batch_that_its_leader_lacks_is_found() {
        let leader = Ledger::of([batch(0, 1, 1)]);
        let matching = Matching::default();
        let sight = sight(2, Role::Follower, 1);
        assert!(matching.follows(&sight, &[batch(0, 1, 1)], &leader).is_ok());
        assert_eq!(matching.follows(&sight, &[batch(1, 1, 1)], &leader).unwrap_err().rule, PREFIX);
    }
}
