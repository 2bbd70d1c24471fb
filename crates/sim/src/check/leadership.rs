//! DESIGN 4.4 rule 2, I1, I9: a leader epoch has one leader; who promoted itself leads a higher generation; who was
//! deposed changes nothing any more.

use std::collections::BTreeMap;

use chronik_model::{LeaderEpoch, NodeId};

use crate::sight::{Role, Sight, Violation, hold};

/// Rule 2.
pub const ONE_LEADER: &str = "one-leader-per-epoch";
/// Rule 5.
pub const HIGHER_GENERATION: &str = "promotion-raises-generation";
/// I9.
pub const DEPOSED: &str = "deposed-leader-is-silent";

/// Who led when.
#[derive(Debug, Default)]
pub struct Leadership {
    /// The leader of each epoch, and its run: an epoch ends with its process.
    leaders: BTreeMap<LeaderEpoch, (NodeId, u32)>,
    /// The highest generation each node knows.
    generations: BTreeMap<NodeId, u64>,
}

impl Leadership {
    /// Looks at one replica.
    pub fn see(&mut self, sight: &Sight) -> Result<(), Violation> {
        let known = self.generations.entry(sight.node).or_default();
        hold!(
            HIGHER_GENERATION,
            sight.generation >= *known,
            "node {} went from generation {known} back to {}",
            sight.node,
            sight.generation
        );
        *known = sight.generation;
        if sight.role == Role::Leader {
            let leader = self.leaders.entry(sight.leader_epoch).or_insert((sight.node, sight.run));
            hold!(
                ONE_LEADER,
                *leader == (sight.node, sight.run),
                "epoch {} is led by run {} of node {} and by run {} of node {}",
                sight.leader_epoch,
                leader.1,
                leader.0,
                sight.run,
                sight.node
            );
        }
        Ok(())
    }

    /// A node was promoted from following `before` to leading `after` (generation and leader epoch).
    pub fn promoted(&self, before: (u64, LeaderEpoch), after: (u64, LeaderEpoch)) -> Result<(), Violation> {
        hold!(
            HIGHER_GENERATION,
            after.0 > before.0 && after.1 > before.1,
            "promoted from generation {} epoch {} to generation {} epoch {}",
            before.0,
            before.1,
            after.0,
            after.1
        );
        Ok(())
    }

    /// A node told of a higher generation says whether it still takes writes.
    pub fn fenced(&self, node: NodeId, told: u64, still_leads: bool, generation: u64) -> Result<(), Violation> {
        hold!(
            DEPOSED,
            !still_leads || generation >= told,
            "node {node} leads generation {generation} though it was told of {told}"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::matching::tests::sight;

    #[test]
    fn two_leaders_of_one_epoch_are_found() {
        let mut leadership = Leadership::default();
        leadership.see(&sight(1, Role::Leader, 4)).unwrap();
        leadership.see(&sight(2, Role::Leader, 5)).unwrap();
        assert_eq!(leadership.see(&sight(2, Role::Leader, 4)).unwrap_err().rule, ONE_LEADER);
    }

    #[test]
    fn a_restarted_leader_with_its_old_epoch_is_found() {
        let mut leadership = Leadership::default();
        leadership.see(&sight(1, Role::Leader, 4)).unwrap();
        let again = Sight { run: 2, ..sight(1, Role::Leader, 4) };
        assert_eq!(leadership.see(&again).unwrap_err().rule, ONE_LEADER);
    }

    #[test]
    fn a_generation_that_goes_back_or_stays_at_a_promotion_is_found() {
        let mut leadership = Leadership::default();
        leadership.see(&Sight { generation: 3, ..sight(1, Role::Follower, 4) }).unwrap();
        let back = Sight { generation: 2, ..sight(1, Role::Follower, 4) };
        assert_eq!(leadership.see(&back).unwrap_err().rule, HIGHER_GENERATION);
        let epoch = LeaderEpoch::new;
        assert!(leadership.promoted((3, epoch(4)), (4, epoch(4))).is_err());
        assert!(leadership.promoted((3, epoch(4)), (4, epoch(5))).is_ok());
        assert_eq!(leadership.fenced(NodeId::new(1), 4, true, 3).unwrap_err().rule, DEPOSED);
    }
}
