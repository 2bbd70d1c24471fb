//! What a leader does beside appending: it counts what its followers acknowledge, proposes changes of the ISR, and says
//! when too few are in sync.
//!
//! Who counts and how far is decided in `isr`; the high watermark moves in one place, in `replica`.

use chronik_model::{Instant, NodeId, Offset};

use crate::isr::{Assignment, Own, Tracker};
use crate::replica::{Effect, Position, Replica, Role, Unacknowledged};

/// What a leader knows beside its log.
#[derive(Debug)]
pub(crate) struct Leading {
    pub(crate) tracker: Tracker,
    /// The log end at which this node began to lead.
    pub(crate) epoch_start: Offset,
}

impl<T> Replica<T> {
    /// The metadata changed the partition without changing its leader epoch. Nobody has to be told of it for it to count.
    pub fn assign(&mut self, assignment: Assignment, now: Instant, effects: &mut Vec<Effect<T>>) {
        self.assign_from(assignment, None, now, effects);
    }

    /// As [`Replica::assign`], where the change lies in a journal that this node writes alone and followers copy: it counts
    /// for the high watermark when every follower that is in sync by it has the journal up to `journal_end`, exclusive.
    ///
    /// A leader that nobody hears could else take from the ISR whom it does not hear, and acknowledge by what the others
    /// said before they followed somebody else.
    pub fn assign_in_journal(
        &mut self,
        assignment: Assignment,
        journal_end: Offset,
        now: Instant,
        effects: &mut Vec<Effect<T>>,
    ) {
        self.assign_from(assignment, Some(journal_end), now, effects);
    }

    /// A follower has the journal up to `end`, exclusive, as it said to this leader.
    pub fn journal_acked(&mut self, node_id: NodeId, end: Offset, effects: &mut Vec<Effect<T>>) {
        if let Role::Leader(leading) = &mut self.role {
            leading.tracker.journal_acked(node_id, end);
            self.advance(effects);
        }
    }

    fn assign_from(
        &mut self,
        assignment: Assignment,
        journal_end: Option<Offset>,
        now: Instant,
        effects: &mut Vec<Effect<T>>,
    ) {
        let Role::Leader(leading) = &mut self.role else { return };
        if assignment.leader_epoch != self.leader_epoch {
            return;
        }
        leading.tracker.assign(assignment, journal_end);
        self.advance(effects);
        self.refuse_if_too_few(effects);
        self.propose(now, effects);
    }

    /// The change of the ISR that was proposed for a partition epoch is known not to be committed.
    pub fn isr_refused(&mut self, partition_epoch: i32, now: Instant, effects: &mut Vec<Effect<T>>) {
        if let Role::Leader(leading) = &mut self.role {
            leading.tracker.refused(partition_epoch);
            self.advance(effects);
            self.propose(now, effects);
        }
    }

    /// A follower's log was brought to agree with this one, on the connection `session`. False where this replica does
    /// not lead in that epoch.
    pub fn follower_attached(
        &mut self,
        node_id: NodeId,
        session: u64,
        follower: Position,
        now: Instant,
        effects: &mut Vec<Effect<T>>,
    ) -> bool {
        let own = self.own();
        let Role::Leader(leading) = &mut self.role else { return false };
        if follower.leader_epoch != self.leader_epoch || follower.log_end > own.log_end {
            return false;
        }
        let durable_end = follower.durable_end.min(follower.log_end);
        let (ends, durability) = ((follower.log_end, durable_end), self.settings.durability);
        leading.tracker.attach(node_id, session, ends, durability, &own, now);
        self.advance(effects);
        self.propose(now, effects);
        true
    }

    /// A follower has come further. False where the connection or the leader epoch is another one, or the follower says
    /// what cannot be.
    pub fn acked(
        &mut self,
        node_id: NodeId,
        session: u64,
        follower: Position,
        now: Instant,
        effects: &mut Vec<Effect<T>>,
    ) -> bool {
        let own = self.own();
        let Role::Leader(leading) = &mut self.role else { return false };
        let ends = (follower.log_end, follower.durable_end);
        if follower.leader_epoch != self.leader_epoch
            || !leading.tracker.ack(node_id, session, ends, self.settings.durability, &own, now)
        {
            return false;
        }
        // Who is in sync stays so until the clock says otherwise.
        let may_join = !leading.tracker.isr().contains(&node_id);
        self.advance(effects);
        if may_join {
            self.propose(now, effects);
        }
        true
    }

    /// A follower's connection is gone. It stays in sync until it has been away for too long.
    pub fn follower_detached(&mut self, node_id: NodeId, session: u64) {
        if let Role::Leader(leading) = &mut self.role {
            leading.tracker.detach(node_id, session);
        }
    }

    /// Looks at the clock: a follower that lags for too long is no longer in sync.
    pub fn tick(&mut self, now: Instant, effects: &mut Vec<Effect<T>>) {
        let own = self.own();
        if let Role::Leader(leading) = &mut self.role {
            leading.tracker.tick(self.settings.durability, &own, now);
            self.propose(now, effects);
        }
    }

    /// When to call [`Replica::tick`].
    pub fn deadline(&self) -> Option<Instant> {
        match &self.role {
            Role::Leader(leading) => leading.tracker.next_tick(&self.settings),
            Role::Follower(_) => None,
        }
    }

    pub(crate) fn own(&self) -> Own {
        let epoch_start = match &self.role {
            Role::Leader(leading) => leading.epoch_start,
            Role::Follower(_) => Offset::ZERO,
        };
        Own { log_end: self.log.log_end(), counted: self.counted(), high_watermark: self.high_watermark, epoch_start }
    }

    pub(crate) fn propose(&mut self, now: Instant, effects: &mut Vec<Effect<T>>) {
        let own = self.own();
        if let Role::Leader(leading) = &mut self.role
            && let Some(proposal) = leading.tracker.propose(&self.settings, &own, now)
        {
            effects.push(Effect::AlterIsr(proposal));
        }
        self.check_invariants();
    }

    /// Why nothing more can be committed here, if so.
    pub(crate) fn cannot_commit(&self) -> Option<Unacknowledged> {
        match &self.role {
            Role::Follower(_) => Some(Unacknowledged::NotLeader),
            Role::Leader(leading) => {
                let too_few = leading.tracker.isr().len() < leading.tracker.min_in_sync(&self.settings);
                too_few.then_some(Unacknowledged::NotEnoughReplicas)
            }
        }
    }

    pub(crate) fn refuse_if_too_few(&mut self, effects: &mut Vec<Effect<T>>) {
        if let Some(cause) = self.cannot_commit() {
            self.refuse_parked(cause, effects);
        }
    }
}
