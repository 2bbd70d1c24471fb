//! Which replicas are in sync: what followers have acknowledged, who lags, which change is proposed, and how far the
//! replicas that count have come.
//!
//! A change is proposed here and decided elsewhere. Until it is known to be committed or refused, the larger of both sets
//! counts for the high watermark (KIP-497): a replica that may be in the ISR already must have what is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chronik_model::{Instant, LeaderEpoch, NodeId, Offset};

use crate::replica::{Durability, Mode, Settings};

/// What the metadata says of a partition that this node leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// This node.
    pub node_id: NodeId,
    /// The epoch it leads in.
    pub leader_epoch: LeaderEpoch,
    /// The number of the last committed change of the partition.
    pub partition_epoch: i32,
    /// All replicas, this node's included.
    pub replicas: Vec<NodeId>,
    /// Those in sync, this node included.
    pub isr: Vec<NodeId>,
}

impl Assignment {
    /// The only replica there is.
    pub fn alone(node_id: NodeId, leader_epoch: LeaderEpoch) -> Self {
        Self { node_id, leader_epoch, partition_epoch: 0, replicas: vec![node_id], isr: vec![node_id] }
    }
}

/// A change of the ISR, to be decided by the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The replicas to be in sync, rising.
    pub isr: Vec<NodeId>,
    /// The epoch the proposing replica leads in.
    pub leader_epoch: LeaderEpoch,
    /// The partition epoch the change is made to.
    pub partition_epoch: i32,
}

/// A follower as its leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerState {
    /// The connection that speaks for it. What another one says is ignored.
    pub session: u64,
    /// Whether that connection stands and the logs were brought to agree on it.
    pub attached: bool,
    /// Its log end, exclusive.
    pub log_end: Offset,
    /// Its durable end, exclusive.
    pub durable_end: Offset,
    /// When it last had everything that the leader had.
    pub caught_up: Instant,
    /// A time, and the leader's log end then: a follower that has that had everything at that time.
    goal: (Instant, Offset),
}

impl FollowerState {
    fn counted(&self, durability: Durability) -> Offset {
        match durability {
            Durability::Fsync => self.durable_end,
            Durability::PageCache => self.log_end,
        }
    }

    /// Notes whether it has everything, as far as it counts: what it only wrote keeps acknowledgements waiting.
    fn look(&mut self, durability: Durability, own: &Own, now: Instant) {
        let has = self.counted(durability);
        if has >= self.goal.1 {
            self.caught_up = self.caught_up.max(self.goal.0);
            self.goal = (now, own.log_end);
        }
        if has >= own.log_end {
            self.caught_up = now;
        }
    }
}

/// The leader's own ends at the moment of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub(crate) log_end: Offset,
    pub(crate) counted: Offset,
    pub(crate) high_watermark: Offset,
    /// The log end at which this node began to lead.
    pub(crate) epoch_start: Offset,
}

/// The replicas of a partition, seen by its leader.
#[derive(Debug)]
pub(crate) struct Tracker {
    assignment: Assignment,
    committed: BTreeSet<NodeId>,
    proposed: Option<BTreeSet<NodeId>>,
    /// Who was in sync before a change that not everybody who is in sync now is known to have in its journal, and where
    /// that journal ends, exclusive.
    before: Option<(BTreeSet<NodeId>, Offset)>,
    /// How far the followers' journals go, exclusive.
    journal_ends: BTreeMap<NodeId, Offset>,
    followers: BTreeMap<NodeId, FollowerState>,
    /// Since when this node leads: a follower that has not attached yet has this long.
    since: Instant,
    /// The last tick.
    ticked: Instant,
}

impl Tracker {
    pub(crate) fn new(assignment: Assignment, now: Instant) -> Self {
        let mut committed: BTreeSet<NodeId> = assignment.isr.iter().copied().collect();
        committed.insert(assignment.node_id);
        Self {
            assignment,
            committed,
            proposed: None,
            before: None,
            journal_ends: BTreeMap::new(),
            followers: BTreeMap::new(),
            since: now,
            ticked: now,
        }
    }

    pub(crate) fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    pub(crate) fn isr(&self) -> &BTreeSet<NodeId> {
        &self.committed
    }

    pub(crate) fn followers(&self) -> &BTreeMap<NodeId, FollowerState> {
        &self.followers
    }

    /// How many replicas must be in sync for an acknowledgement of all: never more than there are (KIP-966).
    pub(crate) fn min_in_sync(&self, settings: &Settings) -> usize {
        match settings.mode {
            Mode::Async => 1,
            Mode::Sync => settings.min_insync_replicas.min(self.assignment.replicas.len()).max(1),
        }
    }

    /// The committed state changed, in this leader epoch. Where the change lies in a journal that followers copy, those who
    /// were in sync before count until everybody who is in sync now has it.
    pub(crate) fn assign(&mut self, assignment: Assignment, journal_end: Option<Offset>) {
        if assignment.partition_epoch < self.assignment.partition_epoch {
            return;
        }
        self.before = journal_end.map(|journal_end| {
            let mut before = self.before.take().map(|(before, _)| before).unwrap_or_default();
            before.append(&mut self.committed);
            (before, journal_end)
        });
        self.committed = assignment.isr.iter().copied().collect();
        self.committed.insert(assignment.node_id);
        // The change proposed was decided on this state or an older one: either it is this, or it will be refused.
        if assignment.partition_epoch > self.assignment.partition_epoch {
            self.proposed = None;
        }
        self.assignment = assignment;
        self.forget_before();
    }

    /// A follower has the journal up to here.
    pub(crate) fn journal_acked(&mut self, node_id: NodeId, end: Offset) {
        let known = self.journal_ends.entry(node_id).or_insert(end);
        *known = end.max(*known);
        self.forget_before();
    }

    fn forget_before(&mut self) {
        let node_id = self.assignment.node_id;
        if let Some((_, journal_end)) = &self.before {
            let others = self.committed.iter().filter(|replica| **replica != node_id);
            let has = |replica: &NodeId| self.journal_ends.get(replica).is_some_and(|end| end >= journal_end);
            if others.clone().all(has) {
                self.before = None;
            }
        }
    }

    /// The change that was proposed for a partition epoch is known not to be committed.
    pub(crate) fn refused(&mut self, partition_epoch: i32) {
        if self.assignment.partition_epoch == partition_epoch {
            self.proposed = None;
        }
    }

    pub(crate) fn attach(
        &mut self,
        node_id: NodeId,
        session: u64,
        ends: (Offset, Offset),
        durability: Durability,
        own: &Own,
        now: Instant,
    ) {
        let known = self.followers.get(&node_id).map_or(self.since, |known| known.caught_up);
        let mut follower = FollowerState {
            session,
            attached: true,
            log_end: ends.0,
            durable_end: ends.1,
            caught_up: known,
            goal: (now, own.log_end),
        };
        follower.look(durability, own, now);
        self.followers.insert(node_id, follower);
    }

    /// Takes an acknowledgement; false where it is not this session's, or says what cannot be.
    pub(crate) fn ack(
        &mut self,
        node_id: NodeId,
        session: u64,
        ends: (Offset, Offset),
        durability: Durability,
        own: &Own,
        now: Instant,
    ) -> bool {
        let (log_end, durable_end) = ends;
        let Some(follower) = self.followers.get_mut(&node_id) else { return false };
        let is_fresh = follower.session == session && follower.attached;
        if !is_fresh || log_end > own.log_end || durable_end > log_end || log_end < follower.log_end {
            return false;
        }
        follower.log_end = log_end;
        follower.durable_end = follower.durable_end.max(durable_end);
        follower.look(durability, own, now);
        true
    }

    pub(crate) fn detach(&mut self, node_id: NodeId, session: u64) {
        if let Some(follower) = self.followers.get_mut(&node_id).filter(|follower| follower.session == session) {
            follower.attached = false;
        }
    }

    /// Looks at the clock.
    pub(crate) fn tick(&mut self, durability: Durability, own: &Own, now: Instant) {
        self.followers.values_mut().filter(|f| f.attached).for_each(|f| f.look(durability, own, now));
        self.ticked = now;
    }

    pub(crate) fn next_tick(&self, settings: &Settings) -> Option<Instant> {
        (settings.mode == Mode::Sync).then(|| self.ticked + settings.lag_time_max / 2)
    }

    /// The change that is due, now on its way. At most one at a time.
    pub(crate) fn propose(&mut self, settings: &Settings, own: &Own, now: Instant) -> Option<Proposal> {
        if self.proposed.is_some() {
            return None;
        }
        let wanted = self.wanted(settings, own, now);
        if wanted == self.committed {
            return None;
        }
        let proposal = Proposal {
            isr: wanted.iter().copied().collect(),
            leader_epoch: self.assignment.leader_epoch,
            partition_epoch: self.assignment.partition_epoch,
        };
        self.proposed = Some(wanted);
        Some(proposal)
    }

    fn wanted(&self, settings: &Settings, own: &Own, now: Instant) -> BTreeSet<NodeId> {
        let node_id = self.assignment.node_id;
        let mut wanted = BTreeSet::from([node_id]);
        if settings.mode == Mode::Async {
            return wanted;
        }
        for replica in self.assignment.replicas.iter().filter(|replica| **replica != node_id) {
            let is_in = self.committed.contains(replica);
            let stays = match self.followers.get(replica) {
                None => is_in && !is_late(self.since, settings.lag_time_max, now),
                Some(follower) => {
                    // One in the ISR that comes back with less than is committed has lost it.
                    let has_committed = follower.counted(settings.durability) >= own.high_watermark.min(own.counted);
                    let is_current = !is_late(follower.caught_up, settings.lag_time_max, now);
                    if is_in {
                        is_current && (has_committed || !follower.attached)
                    } else {
                        // KIP-320: not before it has all that the new leader began with.
                        follower.attached && is_current && has_committed && follower.log_end >= own.epoch_start
                    }
                }
            };
            if stays {
                wanted.insert(*replica);
            }
        }
        wanted
    }

    /// How far all replicas have come that are, or may be, in sync; `None` while too few are (KIP-966).
    pub(crate) fn committed_end(&self, settings: &Settings, own: &Own) -> Option<Offset> {
        if settings.mode == Mode::Async {
            return Some(own.counted);
        }
        let joining = self.proposed.iter().flatten().filter(|replica| !self.committed.contains(replica));
        if self.committed.len() + joining.clone().count() < self.min_in_sync(settings) {
            return None;
        }
        let node_id = self.assignment.node_id;
        let before = self.before.iter().flat_map(|(before, _)| before);
        let all = self.committed.iter().chain(joining).chain(before);
        let ends = all.filter(|replica| **replica != node_id).map(|replica| {
            self.followers.get(replica).map_or(Offset::ZERO, |follower| follower.counted(settings.durability))
        });
        ends.chain([own.counted]).min()
    }

    pub(crate) fn check_invariants(&self) {
        let node_id = self.assignment.node_id;
        assert!(self.committed.contains(&node_id), "leader {node_id} is not in the ISR {:?}", self.committed);
        for (replica, follower) in &self.followers {
            assert!(
                follower.durable_end <= follower.log_end,
                "replica {replica}: durable end {} is above log end {}",
                follower.durable_end,
                follower.log_end
            );
        }
    }
}

fn is_late(caught_up: Instant, lag_time_max: Duration, now: Instant) -> bool {
    now.saturating_since(caught_up) > lag_time_max
}
