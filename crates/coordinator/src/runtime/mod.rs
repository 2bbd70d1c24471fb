//! A shard: the groups of one partition of `__consumer_offsets`, its life from loading to unloading, and the order
//! between records and replies. What a request does to a group lives in `group`.
//!
//! # What the shell does
//! 1. [`GroupShard::new`], then [`GroupShard::replay`] for every record of the partition in order, then
//!    [`GroupShard::loaded`]. Until then every request is answered COORDINATOR_LOAD_IN_PROGRESS.
//! 2. After each input it carries out the effects in their order. Appends go to the log one batch each, in token
//!    order; a [`Effect::Reply`] with `after` waits until that append is committed, and leaves at once where it already
//!    is. The append a reply waits for stands before the reply, in the same effects or in earlier ones.
//! 3. It reports commits with [`GroupShard::append_committed`], in order, before the next input, and calls
//!    [`GroupShard::tick`] when [`GroupShard::deadline`] has come.
//! 4. When an append fails, or what became of it is unknown, the state in memory is ahead of the log. The shard cannot
//!    take single changes back: [`GroupShard::append_failed`] answers all that wait and refuses everything from then
//!    on. The shell answers the replies whose `after` is not committed with [`Response::refused`], those it holds and
//!    those that still stand behind the failed append among the effects it carries out; later appends among them it
//!    leaves out. Then it drops the shard and loads another one from the log as in 1. What the log holds is what
//!    happened; clients repeat the rest.
//!
//! Every request gets exactly one reply with its token, whatever happens, if the shell also refuses what it holds back
//! when it drops a shard.

mod admin;
mod load;
mod timer;
mod turn;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chronik_model::{Instant, Uuid};

use crate::codec::STRING_BYTES_MAX;
use crate::group::{ClassicGroup, Group, Offsets};
use crate::message::{
    HeartbeatRequest, HeartbeatResponse, JoinProtocol, JoinRequest, JoinResponse, LeaveMemberResponse, LeaveRequest,
    LeaveResponse, Response, SyncRequest, SyncResponse,
};
use crate::{GroupError, GroupState};

pub use load::{ReplayError, Replayed};
pub use turn::{AppendToken, Now, ReplyToken};

pub(crate) use timer::{TimerKey, Timers};
pub(crate) use turn::Turn;

use turn::Appends;

/// What an id made for a member adds to the client's own.
const MEMBER_ID_SUFFIX_BYTES: usize = 37;

/// The settings of a shard, with Kafka's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max: Duration,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// How long a new member's first JoinGroup may wait; Kafka has no setting for it.
    pub new_member_join_timeout: Duration,
    /// `group.max.size`, in members.
    pub group_size_max: usize,
    /// How many member ids that have not joined yet a group gives out at a time (KIP-394); more are answered
    /// COORDINATOR_NOT_AVAILABLE until some expire.
    pub pending_members_max: usize,
    /// `offset.metadata.max.bytes`, counted in characters as Kafka does.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval: Duration,
    /// The most bytes of records in one append; below what the log takes as one batch. One protocol of a member is never
    /// larger, since a group's record holds one of each member.
    pub append_bytes_max: usize,
    /// The most bytes of all protocols that one member offers, which the group keeps in memory.
    pub member_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            initial_rebalance_delay: Duration::from_secs(3),
            new_member_join_timeout: Duration::from_secs(5 * 60),
            group_size_max: usize::try_from(i32::MAX).unwrap_or(usize::MAX),
            pending_members_max: 10_000,
            offset_metadata_max: 4096,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            offsets_retention_check_interval: Duration::from_secs(10 * 60),
            append_bytes_max: 1_000_000,
            member_bytes_max: 4_000_000,
        }
    }
}

/// A record for `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorRecord {
    /// Never empty; the partition is compacted by it.
    pub key: Bytes,
    /// None is a tombstone.
    pub value: Option<Bytes>,
}

/// What the shell must do. Effects are carried out in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Append the records as one batch to the shard's partition, behind all earlier appends.
    Append {
        /// For [`GroupShard::append_committed`] and [`GroupShard::append_failed`].
        token: AppendToken,
        /// At least one.
        records: Vec<CoordinatorRecord>,
    },
    /// Answer a request.
    Reply {
        /// The request.
        token: ReplyToken,
        /// The answer.
        response: Response,
        /// Send only once this append is committed.
        after: Option<AppendToken>,
    },
    /// For the log of the process: a group got into a state, [`GroupState::Dead`] where it is deleted. Nothing depends
    /// on it.
    StateChanged {
        /// The group.
        group_id: Arc<str>,
        /// The state it is in.
        state: GroupState,
        /// Its generation.
        generation: i32,
        /// How many members it has.
        members: usize,
        /// Why.
        reason: String,
    },
}

/// Counts of a shard. Gauges count what is there; the others only grow.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    /// Gauge: groups by state; states without groups are absent.
    pub groups: BTreeMap<GroupState, usize>,
    /// Gauge: members of all groups.
    pub members: usize,
    /// Gauge: committed offsets of all groups.
    pub offsets: usize,
    /// Appends asked for.
    pub appends: u64,
    /// Records in them.
    pub records: u64,
    /// Rebalances brought to a stable generation.
    pub rebalances: u64,
    /// Offsets committed.
    pub offset_commits: u64,
    /// Offsets that expired.
    pub offsets_expired: u64,
    /// Offsets deleted by request, or with their group or topic.
    pub offsets_deleted: u64,
    /// Members removed for silence.
    pub sessions_expired: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appends: u64,
    pub(crate) records: u64,
    pub(crate) rebalances: u64,
    pub(crate) offset_commits: u64,
    pub(crate) offsets_expired: u64,
    pub(crate) offsets_deleted: u64,
    pub(crate) sessions_expired: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Loading,
    /// The partition is led elsewhere, and its copy here is read.
    Following,
    Active,
    /// Ended with the error every request gets.
    Closed(GroupError),
}

/// The groups of one partition of `__consumer_offsets`.
pub struct GroupShard {
    config: Config,
    phase: Phase,
    groups: BTreeMap<Arc<str>, Group>,
    timers: Timers,
    appends: Appends,
    ids: Box<dyn FnMut() -> Uuid + Send>,
    counters: Counters,
}

impl fmt::Debug for GroupShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupShard")
            .field("phase", &self.phase)
            .field("groups", &self.groups)
            .field("appends", &self.appends)
            .finish_non_exhaustive()
    }
}

/// Splits a shard into its groups and the [`Turn`] that changes the rest, so that a group can be changed through it.
macro_rules! split {
    ($shard:ident, $now:expr, $effects:expr) => {
        (
            &mut $shard.groups,
            Turn {
                now: $now,
                config: &$shard.config,
                timers: &mut $shard.timers,
                appends: &mut $shard.appends,
                ids: &mut *$shard.ids,
                counters: &mut $shard.counters,
                effects: $effects,
            },
        )
    };
}
use split;

impl GroupShard {
    /// A shard that has seen nothing of its log yet. `member_ids` gives random ids: what members are named by.
    pub fn new(config: Config, member_ids: Box<dyn FnMut() -> Uuid + Send>) -> Self {
        Self {
            config,
            phase: Phase::Loading,
            groups: BTreeMap::new(),
            timers: Timers::default(),
            appends: Appends::default(),
            ids: member_ids,
            counters: Counters::default(),
        }
    }

    /// Whether the log is still being replayed: requests are refused until [`GroupShard::loaded`].
    pub fn is_loading(&self) -> bool {
        self.phase == Phase::Loading
    }

    /// When [`GroupShard::tick`] must be called next; none where nothing is waited for.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.deadline()
    }

    /// Counts for metrics. Goes through all groups.
    pub fn stats(&self) -> Stats {
        let mut groups = BTreeMap::new();
        for group in self.groups.values() {
            *groups.entry(group.classic.state()).or_default() += 1;
        }
        Stats {
            groups,
            members: self.groups.values().map(|group| group.classic.member_count()).sum(),
            offsets: self.groups.values().map(|group| group.offsets.count()).sum(),
            appends: self.counters.appends,
            records: self.counters.records,
            rebalances: self.counters.rebalances,
            offset_commits: self.counters.offset_commits,
            offsets_expired: self.counters.offsets_expired,
            offsets_deleted: self.counters.offsets_deleted,
            sessions_expired: self.counters.sessions_expired,
        }
    }

    /// Takes new settings. Timers that run keep their time.
    pub fn reconfigure(&mut self, config: Config) {
        self.config = config;
    }

    /// JoinGroup. The reply comes when the join phase ends, which may be as late as the longest rebalance timeout.
    pub fn join(&mut self, now: Now, request: JoinRequest, token: ReplyToken, effects: &mut Vec<Effect>) {
        let refusal = self.refusal().or_else(|| self.join_refusal(&request));
        let (groups, mut turn) = split!(self, now, effects);
        if let Some(error) = refusal {
            return turn.reply(token, Response::Join(JoinResponse::refused(error, request.member_id)));
        }
        if let Some(group) = groups.get_mut(request.group_id.as_str()) {
            return group.classic.join(&mut turn, request, token);
        }
        if !request.member_id.is_empty() {
            let response = JoinResponse::refused(GroupError::UnknownMemberId, request.member_id);
            return turn.reply(token, Response::Join(response));
        }
        let group_id: Arc<str> = request.group_id.as_str().into();
        let mut group = ClassicGroup::new(Arc::clone(&group_id), Some(now.wall));
        group.join(&mut turn, request, token);
        if group.is_vacant() {
            return;
        }
        // No answer waits for this record: should it be lost, so is the group, and its members join another one.
        if let Ok(record) = group.first_record() {
            group.last_append = turn.append(vec![record]);
        }
        groups.insert(group_id, Group { classic: group, offsets: Offsets::default() });
    }

    /// SyncGroup. The leader's reply waits for its append, the others' for the leader and then for the append.
    pub fn sync(&mut self, now: Now, request: SyncRequest, token: ReplyToken, effects: &mut Vec<Effect>) {
        let refusal = self.refusal().or_else(|| must_not_be_empty(&request.group_id));
        let (groups, mut turn) = split!(self, now, effects);
        let error = match (refusal, groups.get_mut(request.group_id.as_str())) {
            (None, Some(group)) => return group.classic.sync(&mut turn, request, token),
            (Some(error), _) => error,
            (None, None) => GroupError::UnknownMemberId,
        };
        turn.reply(token, Response::Sync(SyncResponse::refused(error)));
    }

    /// Heartbeat. The reply waits for nothing. While the shard loads, members are told that all is well.
    pub fn heartbeat(&mut self, now: Now, request: &HeartbeatRequest, token: ReplyToken, effects: &mut Vec<Effect>) {
        let refusal = must_not_be_empty(&request.group_id).or_else(|| self.refusal());
        let (groups, mut turn) = split!(self, now, effects);
        let error = match (refusal, groups.get_mut(request.group_id.as_str())) {
            (Some(GroupError::CoordinatorLoadInProgress), _) => None,
            (Some(error), _) => Some(error),
            (None, Some(group)) => group.classic.heartbeat(&mut turn, request).err(),
            (None, None) => Some(GroupError::UnknownMemberId),
        };
        turn.reply(token, Response::Heartbeat(HeartbeatResponse { error }));
    }

    /// LeaveGroup. The reply waits for the append where the last member leaves.
    pub fn leave(&mut self, now: Now, request: LeaveRequest, token: ReplyToken, effects: &mut Vec<Effect>) {
        let refusal = self.refusal().or_else(|| must_not_be_empty(&request.group_id));
        let (groups, mut turn) = split!(self, now, effects);
        if let Some(error) = refusal {
            let response = LeaveResponse { error: Some(error), members: Vec::new() };
            return turn.reply(token, Response::Leave(response));
        }
        let append_before = turn.appends.last;
        let members = match groups.get_mut(request.group_id.as_str()) {
            Some(group) => group.classic.leave(&mut turn, request.members),
            None => request
                .members
                .into_iter()
                .map(|member| LeaveMemberResponse {
                    member_id: member.member_id,
                    instance_id: member.instance_id,
                    error: Some(GroupError::UnknownMemberId),
                })
                .collect(),
        };
        let append = turn.appends.last;
        let response = Response::Leave(LeaveResponse { error: None, members });
        if append == append_before {
            turn.reply(token, response);
        } else {
            turn.reply_after(token, response, append);
        }
    }

    /// Does what is due: ends join and sync phases, sessions, and the time of offsets.
    pub fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some(key) = self.timers.pop_due(now.monotonic) {
            let (groups, mut turn) = split!(self, now, effects);
            match key {
                TimerKey::Cleanup => self.cleanup(now, effects),
                TimerKey::Join(group_id) => {
                    if let Some(group) = groups.get_mut(&group_id) {
                        group.classic.on_join_timer(&mut turn);
                    }
                }
                TimerKey::Sync(group_id) => {
                    if let Some(group) = groups.get_mut(&group_id) {
                        group.classic.on_sync_timer(&mut turn);
                    }
                }
                TimerKey::Session(group_id, member_id) => {
                    if let Some(group) = groups.get_mut(&group_id) {
                        group.classic.on_session_timer(&mut turn, &member_id);
                    }
                }
            }
        }
    }

    /// The append and all before it are committed.
    pub fn append_committed(&mut self, token: AppendToken) {
        assert!(token <= self.appends.last, "commit of {token:?} after {:?}", self.appends.last);
        self.appends.committed = self.appends.committed.max(token);
    }

    /// The append failed, or nobody knows. Ends the shard: waiting requests and all later ones get `error`, which is
    /// [`GroupError::NotCoordinator`] or [`GroupError::CoordinatorNotAvailable`].
    pub fn append_failed(&mut self, now: Now, token: AppendToken, error: GroupError, effects: &mut Vec<Effect>) {
        assert!(token <= self.appends.last, "failure of {token:?} after {:?}", self.appends.last);
        self.unload(now, error, effects);
    }

    /// Ends the shard: the partition is led elsewhere, or the process stops. Waiting requests and all later ones get
    /// `error`.
    pub fn unload(&mut self, now: Now, error: GroupError, effects: &mut Vec<Effect>) {
        self.phase = Phase::Closed(error);
        let (groups, mut turn) = split!(self, now, effects);
        for group in groups.values_mut() {
            group.classic.refuse_waiting(&mut turn, error);
        }
        self.groups.clear();
        self.timers.clear();
    }

    /// Asserts what must hold between inputs. For tests and simulations.
    pub fn check_invariants(&self) {
        assert!(self.appends.committed <= self.appends.last, "more committed than appended: {:?}", self.appends);
        self.timers.check_invariants();
        if self.phase != Phase::Active {
            return;
        }
        for (group_id, group) in &self.groups {
            assert_eq!(group_id, group.classic.id(), "group under another id");
            group.classic.check_invariants(&self.timers);
        }
        for key in self.timers.keys() {
            let (TimerKey::Join(group_id) | TimerKey::Sync(group_id) | TimerKey::Session(group_id, _)) = key else {
                continue;
            };
            assert!(self.groups.contains_key(group_id), "{key:?} of a group that is gone");
        }
    }

    /// Why nothing is told of the groups.
    fn read_refusal(&self) -> Option<GroupError> {
        if self.phase == Phase::Following { None } else { self.refusal() }
    }

    fn refusal(&self) -> Option<GroupError> {
        match self.phase {
            Phase::Loading => Some(GroupError::CoordinatorLoadInProgress),
            Phase::Following => Some(GroupError::NotCoordinator),
            Phase::Active => None,
            Phase::Closed(error) => Some(error),
        }
    }

    fn join_refusal(&self, request: &JoinRequest) -> Option<GroupError> {
        if let Some(error) = must_not_be_empty(&request.group_id) {
            return Some(error);
        }
        let session_timeouts = self.config.session_timeout_min..=self.config.session_timeout_max;
        if !session_timeouts.contains(&request.session_timeout) {
            return Some(GroupError::InvalidSessionTimeout);
        }
        let stem = request.instance_id.as_ref().unwrap_or(&request.client_id);
        let fits = stem.len() + MEMBER_ID_SUFFIX_BYTES <= STRING_BYTES_MAX
            && request.client_id.len() <= STRING_BYTES_MAX
            && request.client_host.len() <= STRING_BYTES_MAX
            && request.protocol_type.len() <= STRING_BYTES_MAX
            && request.protocols.iter().all(|protocol| {
                protocol.name.len() <= STRING_BYTES_MAX && protocol.size_bytes() <= self.config.append_bytes_max
            })
            && request.protocols.iter().map(JoinProtocol::size_bytes).sum::<usize>() <= self.config.member_bytes_max;
        (!fits).then_some(GroupError::InvalidRequest)
    }
}

fn must_not_be_empty(group_id: &str) -> Option<GroupError> {
    let is_valid = !group_id.is_empty() && group_id.len() <= STRING_BYTES_MAX;
    (!is_valid).then_some(GroupError::InvalidGroupId)
}
