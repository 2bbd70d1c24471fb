//! DESIGN 4.4 rule 1, I3, I4, I5: what was committed stays, in every later leader and every in-sync replica.
//!
//! Each generation has a lineage: what its leader committed, on top of what the promoted replica had. A lineage that a
//! promotion by hand leaves behind goes on for those who still follow it, and its later writes count nowhere else. What a
//! promotion or a power cut is allowed to lose is told by the caller and kept as a list of lost batches.

use std::collections::{BTreeMap, BTreeSet};

use chronik_model::{NodeId, Offset};

use crate::ledger::{Batch, Ledger};
use crate::sight::{Sight, Violation, hold};

/// A leader lacks a committed batch.
pub const COMPLETE: &str = "leader-completeness";
/// A watermark covers what was not committed.
pub const COVERED: &str = "watermark-covers-committed-only";
/// An in-sync replica lacks a committed batch.
pub const IN_SYNC: &str = "in-sync-replica-has-committed";
/// A promotion lost more than a suffix.
pub const SUFFIX: &str = "promotion-loses-a-suffix-at-most";

/// What one generation committed.
#[derive(Clone, Debug)]
struct Lineage {
    leader: NodeId,
    batches: BTreeMap<Offset, Batch>,
    end: Offset,
    base_end: Offset,
}

/// Every generation's committed batches.
#[derive(Debug, Default)]
pub struct Committed {
    lineages: BTreeMap<u64, Lineage>,
    lost: BTreeSet<(Offset, u32)>,
}

impl Committed {
    /// The first leader begins with nothing.
    pub fn begin(&mut self, generation: u64, leader: NodeId) {
        self.lineages.insert(
            generation,
            Lineage { leader, batches: BTreeMap::new(), end: Offset::ZERO, base_end: Offset::ZERO },
        );
    }

    /// The highest generation.
    pub fn newest(&self) -> u64 {
        self.lineages.keys().next_back().copied().unwrap_or(0)
    }

    /// Who leads a generation.
    pub fn leader(&self, generation: u64) -> Option<NodeId> {
        self.lineages.get(&generation).map(|lineage| lineage.leader)
    }

    /// End of what a generation committed, exclusive.
    pub fn end(&self, generation: u64) -> Offset {
        self.lineages.get(&generation).map_or(Offset::ZERO, |lineage| lineage.end)
    }

    /// End of what was committed when a generation began, exclusive: who joins it may go back that far.
    pub fn base_end(&self, generation: u64) -> Offset {
        self.lineages.get(&generation).map_or(Offset::ZERO, |lineage| lineage.base_end)
    }

    /// Whether the newest generation has committed a batch.
    pub fn has(&self, batch: &Batch) -> bool {
        let newest = self.lineages.values().next_back();
        newest.is_some_and(|newest| newest.batches.get(&batch.base_offset) == Some(batch))
    }

    /// Whether a batch was lost in a way the mode allows, by its offset and checksum.
    pub fn is_lost(&self, base_offset: Offset, crc: u32) -> bool {
        self.lost.contains(&(base_offset, crc))
    }

    /// Looks at a leader: what its watermark covers is committed, and it still has all of it.
    pub fn leads(&mut self, sight: &Sight, ledger: &Ledger) -> Result<(), Violation> {
        let Some(lineage) = self.lineages.get_mut(&sight.generation).filter(|lineage| lineage.leader == sight.node)
        else {
            return Ok(());
        };
        hold!(COMPLETE, sight.log_end >= lineage.end, "{sight}, but up to {} was committed", lineage.end);
        if sight.high_watermark > lineage.end {
            for batch in ledger.range(lineage.end, sight.high_watermark) {
                lineage.batches.insert(batch.base_offset, *batch);
            }
            lineage.end = sight.high_watermark;
        }
        Ok(())
    }

    /// Looks at a follower whose watermark moved up from `before`.
    pub fn follows(&self, sight: &Sight, before: Offset, ledger: &Ledger) -> Result<(), Violation> {
        let Some(lineage) = self.lineages.get(&sight.generation) else { return Ok(()) };
        if sight.high_watermark <= before {
            return Ok(());
        }
        hold!(COVERED, sight.high_watermark <= lineage.end, "{sight}, but only up to {} is committed", lineage.end);
        for batch in ledger.range(before.max(sight.log_start), sight.high_watermark) {
            let committed = lineage.batches.get(&batch.base_offset);
            hold!(COVERED, committed == Some(batch), "{sight} serves {batch:?}, committed is {committed:?}");
        }
        Ok(())
    }

    /// A replica counts as in sync for what `sight`, its leader, has committed.
    pub fn in_sync(&self, sight: &Sight, replica: NodeId, has: Offset) -> Result<(), Violation> {
        hold!(IN_SYNC, has >= sight.high_watermark, "{sight}, but in-sync replica {replica} has only up to {has}");
        Ok(())
    }

    /// A log holds everything that its lineage has committed from its log start on.
    pub fn complete(&self, node: NodeId, generation: u64, log_start: Offset, log: &Ledger) -> Result<(), Violation> {
        let Some(lineage) = self.lineages.get(&generation) else { return Ok(()) };
        for (base_offset, batch) in lineage.batches.range(log_start..) {
            let has = log.at(*base_offset);
            hold!(COMPLETE, has == Some(batch), "node {node} has {has:?} where {batch:?} is committed");
        }
        Ok(())
    }

    /// Forgets what a lineage committed from `from` on: its leader lost it in a way its durability allows.
    pub fn forgive(&mut self, generation: u64, from: Offset) {
        let Some(lineage) = self.lineages.get_mut(&generation) else { return };
        // A batch that `from` lies in goes as a whole.
        let mut cut = lineage.batches.split_off(&from);
        if let Some((base, batch)) = lineage.batches.pop_last() {
            let into = if batch.next_offset > from { &mut cut } else { &mut lineage.batches };
            into.insert(base, batch);
        }
        self.lost.extend(cut.values().map(|batch| (batch.base_offset, batch.crc)));
        lineage.end = lineage.end.min(from);
        lineage.base_end = lineage.base_end.min(from);
    }

    /// `node`, which followed `followed`, was promoted to `generation`. `clean` says whether it was an in-sync replica of
    /// the newest leader; then nothing may be missing. What it has from `kept` on does not count yet. Returns how many
    /// committed batches are lost.
    pub fn promoted(
        &mut self,
        sight: &Sight,
        followed: u64,
        clean: bool,
        kept: Offset,
        ledger: &Ledger,
    ) -> Result<usize, Violation> {
        let newest = self.newest();
        if clean {
            self.complete(sight.node, newest, sight.log_start, ledger)?;
            hold!(COMPLETE, sight.log_end >= self.end(newest), "{sight}, but {} is committed", self.end(newest));
        }
        let mut batches = BTreeMap::new();
        let mut lost = 0;
        let own = self.lineages.get(&followed);
        if let Some(lineage) = self.lineages.get(&newest) {
            for batch in lineage.batches.values() {
                let has = batch.next_offset <= kept && ledger.at(batch.base_offset) == Some(batch);
                // Before its log start it may have had what another lineage committed, and others may get that of it.
                let had = batch.next_offset <= sight.log_start
                    && own.is_none_or(|own| own.batches.get(&batch.base_offset) == Some(batch));
                if had || has {
                    batches.insert(batch.base_offset, *batch);
                } else {
                    lost += 1;
                    self.lost.insert((batch.base_offset, batch.crc));
                }
            }
        }
        if let Some(own) = own {
            let first_missing = own
                .batches
                .range(sight.log_start..)
                .find(|(base, batch)| ledger.at(**base) != Some(*batch))
                .map(|(base, _)| *base);
            if let Some(missing) = first_missing {
                hold!(
                    SUFFIX,
                    sight.log_end <= missing || followed != newest,
                    "{sight} is promoted without the committed batch at {missing}, but with later ones"
                );
            }
        }
        let end = batches.values().next_back().map_or(Offset::ZERO, |batch: &Batch| batch.next_offset);
        self.lineages.insert(sight.generation, Lineage { leader: sight.node, batches, end, base_end: end });
        Ok(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::matching::tests::{batch, sight};
    use crate::sight::Role;

    const A: i32 = 1;
    const B: i32 = 2;

    fn at(node: i32, role: Role, generation: u64, high_watermark: i64, log_end: i64) -> Sight {
        Sight {
            generation,
            high_watermark: Offset::new(high_watermark),
            log_end: Offset::new(log_end),
            ..sight(node, role, 0)
        }
    }

    /// A leads generation 1 and has committed two of three batches.
    fn led() -> (Committed, [Batch; 3]) {
        let log = [batch(0, 0, 1), batch(1, 0, 2), batch(2, 0, 3)];
        let mut committed = Committed::default();
        committed.begin(1, NodeId::new(A));
        committed.leads(&at(A, Role::Leader, 1, 2, 3), &Ledger::of(log)).unwrap();
        (committed, log)
    }

    #[test]
    fn a_leader_that_lost_a_committed_batch_is_found() {
        let (mut committed, log) = led();
        let short = Ledger::of(log[..1].iter().copied());
        assert_eq!(committed.leads(&at(A, Role::Leader, 1, 1, 1), &short).unwrap_err().rule, COMPLETE);
        committed.forgive(1, Offset::new(1));
        assert_eq!(committed.leads(&at(A, Role::Leader, 1, 1, 1), &short), Ok(()));
        assert!(committed.is_lost(Offset::new(1), 2));
    }

    #[test]
    fn a_clean_promotion_that_lacks_a_committed_batch_is_found() {
        let (mut committed, log) = led();
        let sight = at(B, Role::Leader, 2, 0, 1);
        let short = Ledger::of(log[..1].iter().copied());
        assert_eq!(committed.promoted(&sight, 1, true, sight.log_end, &short).unwrap_err().rule, COMPLETE);
        assert_eq!(committed.promoted(&sight, 1, false, sight.log_end, &short), Ok(1));
        assert_eq!((committed.newest(), committed.end(2)), (2, Offset::new(1)));
    }

    #[test]
    fn a_promotion_with_a_hole_is_found() {
        let (mut committed, log) = led();
        let holed = Ledger::of([log[0], batch(1, 0, 9), log[2]]);
        let sight = at(B, Role::Leader, 2, 0, 3);
        assert_eq!(committed.promoted(&sight, 1, false, sight.log_end, &holed).unwrap_err().rule, SUFFIX);
    }

    #[test]
    fn a_follower_whose_watermark_covers_other_bytes_or_too_much_is_found() {
        let (committed, log) = led();
        let follower = |high_watermark| at(B, Role::Follower, 1, high_watermark, 3);
        assert_eq!(committed.follows(&follower(2), Offset::ZERO, &Ledger::of(log)), Ok(()));
        assert_eq!(committed.follows(&follower(3), Offset::ZERO, &Ledger::of(log)).unwrap_err().rule, COVERED);
        let divergent = Ledger::of([log[0], batch(1, 0, 9), log[2]]);
        assert_eq!(committed.follows(&follower(2), Offset::ZERO, &divergent).unwrap_err().rule, COVERED);
    }

    #[test]
    fn an_in_sync_replica_that_lags_behind_the_watermark_is_found() {
        let (committed, _) = led();
        let leader = at(A, Role::Leader, 1, 2, 3);
        assert!(committed.in_sync(&leader, NodeId::new(B), Offset::new(2)).is_ok());
        assert_eq!(committed.in_sync(&leader, NodeId::new(B), Offset::new(1)).unwrap_err().rule, IN_SYNC);
    }

    #[test]
    fn before_its_log_start_a_promoted_replica_had_what_its_own_lineage_committed() {
        let (mut committed, log) = led();
        let follower = at(B, Role::Follower, 1, 1, 1);
        // B goes on without A's second batch and commits another one in its place.
        let other = batch(1, 1, 9);
        let own = Ledger::of([log[0], other]);
        assert_eq!(committed.promoted(&Sight { generation: 2, ..follower }, 1, false, follower.log_end, &own), Ok(1));
        committed.leads(&at(B, Role::Leader, 2, 2, 2), &own).unwrap();
        // A comes back, and has deleted what it had up to its third batch.
        let sight = Sight { generation: 3, log_start: Offset::new(2), ..at(A, Role::Follower, 1, 2, 3) };
        assert_eq!(committed.promoted(&sight, 1, false, sight.log_end, &Ledger::of(log)), Ok(1));
        assert!(committed.is_lost(other.base_offset, other.crc));
        assert!(!committed.is_lost(log[0].base_offset, log[0].crc));
        // Whoever has A's second batch again has nothing wrong.
        committed.complete(NodeId::new(B), 3, Offset::ZERO, &Ledger::of(log)).unwrap();
    }
}
