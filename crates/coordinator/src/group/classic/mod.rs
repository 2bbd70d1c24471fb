//! A classic group: its members, its state, and what all transitions share. The requests live beside it: `join`,
//! `rebalance` (from the first reason to the end of the join phase), `sync`, `leave` (with heartbeats and expiry) and
//! `record` (to and from the log).
//!
//! ```text
//! Empty ──join──▶ PreparingRebalance ──all joined, or time over──▶ CompletingRebalance ──leader synced──▶ Stable
//!   ▲                  │        ▲                                        │                                   │
//!   └──nobody joined───┘        └────────── join, leave, expiry, metadata changed, no sync ◀─────────────────┘
//! ```
//!
//! Changes take effect when they are decided; the answers that rest on a record wait for it to be committed.

mod join;
mod leave;
mod member;
mod rebalance;
mod record;
mod sync;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chronik_model::Timestamp;

use crate::codec;
use crate::message::{DescribedGroup, JoinProtocol, JoinResponse, ListedGroup, Response, SyncResponse};
use crate::runtime::{AppendToken, ReplyToken, TimerKey, Timers, Turn};
use crate::{GroupError, GroupState};

use member::Member;

/// The protocol type of consumers, whose subscriptions the coordinator reads.
const CONSUMER: &str = "consumer";
/// Of a reason that a client gives this many characters are kept, which is what Kafka's clients send at most (KIP-800).
const REASON_CHARS_MAX: usize = 255;

#[derive(Debug)]
pub(crate) struct ClassicGroup {
    pub(super) id: Arc<str>,
    pub(super) state: GroupState,
    previous_state: GroupState,
    /// When the state was reached; not known for groups of old records.
    pub(super) state_since: Option<Timestamp>,
    /// None for a group nobody has joined: a simple group.
    pub(super) protocol_type: Option<String>,
    /// Set from the end of a join phase until the group is empty.
    protocol_name: Option<String>,
    generation: i32,
    leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member>,
    /// Instance id to member id.
    static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids given out that have not joined (KIP-394).
    pending_join: BTreeSet<Arc<str>>,
    /// How many members have `awaiting_join`.
    awaiting_join: usize,
    /// How many members offer a protocol.
    offered: BTreeMap<String, usize>,
    /// Members of the generation that have not synced.
    pending_sync: BTreeSet<Arc<str>>,
    /// What the members of a consumer group are subscribed to; none where it cannot be known.
    subscribed_topics: Option<BTreeSet<String>>,
    /// The first join phase: a member came since the delay was last looked at.
    joined_in_delay: bool,
    /// The first join phase: the delay running, and how much longer it may be made.
    initial_delay: Duration,
    initial_delay_left: Duration,
    /// The last append that concerns the group or its offsets.
    pub(crate) last_append: AppendToken,
}

impl ClassicGroup {
    pub(crate) fn new(id: Arc<str>, since: Option<Timestamp>) -> Self {
        Self {
            id,
            state: GroupState::Empty,
            previous_state: GroupState::Dead,
            state_since: since,
            protocol_type: None,
            protocol_name: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            awaiting_join: 0,
            offered: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            subscribed_topics: None,
            joined_in_delay: false,
            initial_delay: Duration::ZERO,
            initial_delay_left: Duration::ZERO,
            last_append: AppendToken::default(),
        }
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(crate) fn state(&self) -> GroupState {
        self.state
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Nobody is in the group or about to be.
    pub(crate) fn is_vacant(&self) -> bool {
        self.state == GroupState::Empty && self.pending_join.is_empty()
    }

    pub(crate) fn describe(&self) -> DescribedGroup {
        let protocol_name = self.protocol_name.as_deref().filter(|_| self.state == GroupState::Stable);
        DescribedGroup {
            group_id: self.id.to_string(),
            error: None,
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_name: protocol_name.unwrap_or_default().to_owned(),
            members: self.members.values().map(|member| member.describe(protocol_name)).collect(),
        }
    }

    pub(crate) fn list(&self) -> ListedGroup {
        ListedGroup {
            group_id: self.id.to_string(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            state: self.state,
        }
    }

    pub(crate) fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    pub(crate) fn knows_subscriptions(&self) -> bool {
        self.subscribed_topics.is_some()
    }

    /// Whether offsets of the topic are in use. Where the subscriptions of consumers cannot be read, they may be.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed_topics.as_ref().map_or(self.is_consumer(), |topics| topics.contains(topic))
    }

    /// Answers every request that waits, for a group that goes away.
    pub(crate) fn refuse_waiting(&mut self, turn: &mut Turn<'_>, error: GroupError) {
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            self.answer_join(turn, &id, JoinResponse::refused(error, &*id));
            self.answer_sync(turn, &id, SyncResponse::refused(error));
        }
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    fn has_all_members_joined(&self) -> bool {
        self.awaiting_join == self.members.len() && self.pending_join.is_empty()
    }

    /// The longest any member asks a rebalance to wait.
    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    /// Whether a request comes from a member of the group and, for a static one, from the one that has the instance.
    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(holder) if **holder != *member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    /// Whether an offset commit comes from the current generation, or from outside while nobody is in the group.
    pub(crate) fn check_offset_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        if generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.check_member(member_id, instance_id)?;
            if generation != self.generation {
                return Err(GroupError::IllegalGeneration);
            }
        } else if self.state != GroupState::Empty {
            return Err(GroupError::UnknownMemberId);
        }
        if self.state == GroupState::CompletingRebalance {
            // The member has joined this generation but owns nothing in it yet; it is told to go on with the rebalance.
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// An offset commit of a member is a sign of life.
    pub(crate) fn committed_offsets(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        if matches!(self.state, GroupState::Stable | GroupState::PreparingRebalance) {
            self.renew_session(turn, member_id);
        }
    }

    fn renew_session(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        if let Some(member) = self.members.get(member_id) {
            let key = TimerKey::Session(Arc::clone(&self.id), Arc::clone(&member.id));
            turn.schedule(key, member.session_timeout);
        }
    }

    fn cancel_session(&self, turn: &mut Turn<'_>, member_id: &Arc<str>) {
        turn.timers.cancel(&TimerKey::Session(Arc::clone(&self.id), Arc::clone(member_id)));
    }

    fn insert_member(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(Arc::clone(instance_id), Arc::clone(&member.id));
        }
        if self.leader.is_none() {
            self.leader = Some(Arc::clone(&member.id));
        }
        self.pending_join.remove(&member.id);
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.count_offers(&member.protocols, 1);
        self.members.insert(Arc::clone(&member.id), member);
    }

    /// Takes a member out, tells its waiting requests that it is unknown, and hands the lead on.
    fn remove_member(&mut self, turn: &mut Turn<'_>, member_id: &Arc<str>) {
        self.answer_join(turn, member_id, JoinResponse::refused(GroupError::UnknownMemberId, ""));
        self.answer_sync(turn, member_id, SyncResponse::refused(GroupError::UnknownMemberId));
        self.cancel_session(turn, member_id);
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
        let Some(member) = self.members.remove(member_id) else { return };
        self.count_offers(&member.protocols, -1);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    fn count_offers(&mut self, protocols: &[JoinProtocol], by: isize) {
        for protocol in protocols {
            let count = self.offered.get(&protocol.name).copied().unwrap_or(0).saturating_add_signed(by);
            if count == 0 {
                self.offered.remove(&protocol.name);
            } else {
                self.offered.insert(protocol.name.clone(), count);
            }
        }
    }

    fn set_awaiting_join(&mut self, turn: &mut Turn<'_>, member_id: &str, token: ReplyToken) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        let superseded = member.awaiting_join.replace(token);
        match superseded {
            None => self.awaiting_join += 1,
            // The client has asked again, most likely on another connection; the older question still gets its answer.
            Some(superseded) => {
                let response = JoinResponse::refused(GroupError::RebalanceInProgress, member_id);
                turn.reply(superseded, Response::Join(response));
            }
        }
    }

    /// Answers the member's waiting JoinGroup, if there is one.
    fn answer_join(&mut self, turn: &mut Turn<'_>, member_id: &str, response: JoinResponse) {
        if let Some(token) = self.take_awaiting_join(member_id) {
            turn.reply(token, Response::Join(response));
        }
    }

    fn take_awaiting_join(&mut self, member_id: &str) -> Option<ReplyToken> {
        let token = self.members.get_mut(member_id)?.awaiting_join.take()?;
        self.awaiting_join -= 1;
        Some(token)
    }

    /// Answers the member's waiting SyncGroup, if there is one.
    fn answer_sync(&mut self, turn: &mut Turn<'_>, member_id: &str, response: SyncResponse) {
        if let Some(token) = self.members.get_mut(member_id).and_then(|member| member.awaiting_sync.take()) {
            turn.reply(token, Response::Sync(response));
        }
    }

    /// Whether a member with these protocols can be in the group. An empty group takes anybody who names some.
    fn supports(&self, protocol_type: &str, protocols: &[JoinProtocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.is_common(&protocol.name))
    }

    fn is_common(&self, protocol_name: &str) -> bool {
        self.offered.get(protocol_name).copied().unwrap_or(0) == self.members.len()
    }

    /// The protocol most members like best among those all offer; of equals, the one the leader likes better.
    fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member.protocols.iter().find(|protocol| self.is_common(&protocol.name));
            if let Some(protocol) = vote {
                *votes.entry(&protocol.name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        let by_leader = leader.into_iter().flat_map(|leader| &leader.protocols);
        let mut in_order = by_leader.map(|protocol| protocol.name.as_str()).chain(votes.keys().copied());
        in_order.find(|name| votes.get(name) == Some(&most)).map(str::to_owned)
    }

    /// A consumer group without members is subscribed to nothing, so that its offsets may be deleted.
    fn compute_subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.is_consumer() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let subscription = member.metadata(self.protocol_name.as_deref()?);
            topics.extend(codec::subscribed_topics(&subscription).ok()?);
        }
        Some(topics)
    }

    fn transition(&mut self, turn: &Turn<'_>, state: GroupState) {
        self.previous_state = self.state;
        self.state = state;
        self.state_since = Some(turn.now.wall);
    }

    /// Asserts what must hold between inputs.
    pub(crate) fn check_invariants(&self, timers: &Timers) {
        let id = &self.id;
        let awaiting = self.members.values().filter(|member| member.awaiting_join.is_some()).count();
        assert_eq!(awaiting, self.awaiting_join, "{id}: waiting joins miscounted");
        assert!(awaiting == 0 || self.state == GroupState::PreparingRebalance, "{id}: join waits in {}", self.state);
        assert_eq!(self.state == GroupState::Empty, self.members.is_empty() && !self.is_preparing(), "{id}: emptiness");
        let mut offered: BTreeMap<&str, usize> = BTreeMap::new();
        for (key, member) in &self.members {
            assert_eq!(key, &member.id, "{id}: member under another id");
            for protocol in &member.protocols {
                *offered.entry(&protocol.name).or_default() += 1;
            }
            if let Some(instance_id) = &member.instance_id {
                assert_eq!(self.static_members.get(instance_id), Some(key), "{id}: {instance_id} is held by another");
            }
            let waits = member.awaiting_join.is_some() || member.awaiting_sync.is_some();
            let key = TimerKey::Session(Arc::clone(id), Arc::clone(key));
            assert!(waits && !member.is_new || timers.contains(&key), "{id}: {key:?} never ends");
            assert!(
                member.awaiting_sync.is_none() || self.state == GroupState::CompletingRebalance,
                "{id}: sync waits in {}",
                self.state
            );
        }
        let counted: BTreeMap<&str, usize> = self.offered.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(offered, counted, "{id}: protocols miscounted");
        assert!(self.static_members.values().all(|member| self.members.contains_key(member)), "{id}: static ghosts");
        assert!(self.pending_sync.iter().all(|member| self.members.contains_key(member)), "{id}: ghosts to sync");
        let may_sync = matches!(self.state, GroupState::CompletingRebalance | GroupState::Stable);
        assert!(may_sync || self.pending_sync.is_empty(), "{id}: {:?} must sync in {}", self.pending_sync, self.state);
        for pending in &self.pending_join {
            assert!(!self.members.contains_key(pending), "{id}: {pending} joined and pending");
            let key = TimerKey::Session(Arc::clone(id), Arc::clone(pending));
            assert!(timers.contains(&key), "{id}: {key:?} never ends");
        }
        assert_eq!(self.leader.is_some(), !self.members.is_empty(), "{id}: leader {:?}", self.leader);
        assert!(self.leader.iter().all(|leader| self.members.contains_key(leader)), "{id}: the leader is a ghost");
        match self.state {
            GroupState::PreparingRebalance => {
                assert!(timers.contains(&TimerKey::Join(Arc::clone(id))), "{id}: the join phase never ends");
            }
            GroupState::CompletingRebalance => {
                assert!(timers.contains(&TimerKey::Sync(Arc::clone(id))), "{id}: the sync phase never ends");
                assert!(self.protocol_name.is_some(), "{id}: a generation without a protocol");
            }
            GroupState::Stable => {
                assert!(self.protocol_name.is_some(), "{id}: a generation without a protocol");
                let ends = self.pending_sync.is_empty() || timers.contains(&TimerKey::Sync(Arc::clone(id)));
                assert!(ends, "{id}: {:?} may stay without having synced", self.pending_sync);
            }
            GroupState::Empty => {}
            GroupState::Dead => panic!("{id}: a dead group is kept"),
        }
    }

    fn is_preparing(&self) -> bool {
        self.state == GroupState::PreparingRebalance
    }
}

/// A client's reason as it goes into the log of the process.
fn shortened(reason: &str) -> &str {
    reason.char_indices().nth(REASON_CHARS_MAX).and_then(|(end, _)| reason.get(..end)).unwrap_or(reason)
}
