//! A replica: the log of one partition together with its role.
//!
//! Invariant, checked after every input: `log_start <= high_watermark <= log_end`; the high watermark never moves back,
//! but for a follower that cuts what its leader never had, and it never passes what the durability in force and the
//! replicas in sync allow. Leading is in `leader`, following in `follower`.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use chronik_log::{AppendError, Appended, Cut, DeletedSegment, FlushJob, Log, LogConfig, LogError};
use chronik_model::{Instant, LeaderEpoch, NodeId, Offset, Timestamp};
use chronik_record::ProducedBatch;

use crate::ack::Parked;
use crate::follower::Following;
use crate::isr::{Assignment, FollowerState, Proposal, Tracker};
use crate::leader::Leading;
use crate::link::sender::{Bounds, PartitionState};
use crate::message::TopicIdPartition;

/// What the high watermark counts on this replica (`chronik.durability`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Bytes that an fdatasync has put on stable storage.
    Fsync,
    /// Bytes that were written, which is the guarantee of Apache Kafka.
    PageCache,
}

/// Whether acknowledgements wait for followers (`chronik.replication.mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The leader alone is the ISR.
    Async,
    /// Followers that keep up are in the ISR.
    Sync,
}

/// The settings of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What counts.
    pub durability: Durability,
    /// Who counts.
    pub mode: Mode,
    /// `min.insync.replicas`.
    pub min_insync_replicas: usize,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max: Duration,
}

impl Settings {
    /// Without followers that count.
    pub const fn alone(durability: Durability) -> Self {
        Self { durability, mode: Mode::Async, min_insync_replicas: 1, lag_time_max: Duration::from_secs(30) }
    }
}

/// Which acknowledgement a producer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// `acks=0` and `acks=1`.
    Leader,
    /// `acks=all`.
    All,
}

/// A produced batch was not appended.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// This replica follows.
    #[error("this replica does not lead")]
    NotLeader,
    /// Too few replicas are in sync for an acknowledgement of all.
    #[error("{in_sync} replicas are in sync, {wanted} are needed")]
    NotEnoughReplicas {
        /// How many are.
        in_sync: usize,
        /// How many must be.
        wanted: usize,
    },
    /// The log does not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Why an append that was accepted will not be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unacknowledged {
    /// The log failed; the records may or may not be on disk.
    Offline,
    /// The replica was closed: its topic is deleted or the broker stops.
    Closed,
    /// Another node leads now; it may or may not have the records.
    NotLeader,
    /// Too few replicas are in sync any more.
    NotEnoughReplicas,
}

/// What the shell is to do after an input.
#[derive(Debug)]
pub enum Effect<T> {
    /// Everything up to the end that `token` waits for is committed.
    Acknowledged(T),
    /// What `token` waits for will not be committed by this replica.
    Refused(T, Unacknowledged),
    /// Consumers may read up to this offset (exclusive). Comes after the new bound is visible to readers.
    HighWatermarkMoved(Offset),
    /// There are bytes that a flush would make count: take a [`Replica::flush_job`].
    FlushWanted,
    /// Ask the controller for a change of the ISR. The outcome comes as [`Replica::assign`] or
    /// [`Replica::isr_refused`]; where it is not known, ask again with the same.
    AlterIsr(Proposal),
    /// A tail that the leader does not have was cut and kept: for the log and the metrics.
    TailCut(Cut),
}

/// How far a replica has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The leader epoch it is in.
    pub leader_epoch: LeaderEpoch,
    /// Log end, exclusive.
    pub log_end: Offset,
    /// Durable end, exclusive.
    pub durable_end: Offset,
}

#[derive(Debug)]
pub(crate) enum Role {
    Leader(Leading),
    Follower(Following),
}

/// One replica of one partition. `T` is what the shell gets back when an append is committed.
#[derive(Debug)]
pub struct Replica<T> {
    pub(crate) log: Log,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) settings: Settings,
    pub(crate) high_watermark: Offset,
    pub(crate) parked: Parked<T>,
    pub(crate) role: Role,
    closed: bool,
}

impl<T> Replica<T> {
    /// Leads the partition at `leader_epoch` on a recovered log, as the only replica. Where only durable bytes count the
    /// caller has synced what recovery read; with no other replica all of it is committed.
    pub fn lead(mut log: Log, leader_epoch: LeaderEpoch, durability: Durability) -> Self {
        let high_watermark = log.log_end();
        log.set_high_watermark(high_watermark);
        let tracker = Tracker::new(Assignment::alone(NodeId::NONE, leader_epoch), Instant::ORIGIN);
        Self {
            log,
            leader_epoch,
            settings: Settings::alone(durability),
            high_watermark,
            parked: Parked::new(),
            role: Role::Leader(Leading { tracker, epoch_start: high_watermark }),
            closed: false,
        }
    }

    /// Follows on a recovered log, at the leader epoch that the metadata knows. Where more of the log may have been committed
    /// than is known, consumers are served once the leader has spoken, or after [`Replica::serve_alone`].
    pub fn follow(mut log: Log, leader_epoch: LeaderEpoch, settings: Settings) -> Self {
        log.keep_high_watermark(true);
        Self::recovered(log, leader_epoch, settings)
    }

    fn recovered(log: Log, leader_epoch: LeaderEpoch, settings: Settings) -> Self {
        // Nothing is known of the high watermark's origin but that it is no older than the last batch.
        let told_in = log.leader_epochs().latest().unwrap_or(LeaderEpoch::NONE);
        let role = Role::Follower(Following::recovered(told_in, log.high_watermark(), log.log_end()));
        Self {
            leader_epoch,
            settings,
            high_watermark: log.high_watermark(),
            log,
            parked: Parked::new(),
            role,
            closed: false,
        }
    }

    /// Leads on a recovered log as the metadata says. The leader epoch must be higher than any in which this node led
    /// before it stopped, unless it stopped cleanly: what an unclean stop lost may be on a follower, and the same offsets
    /// must not get other records in the same epoch.
    pub fn lead_assigned(
        log: Log,
        assignment: Assignment,
        settings: Settings,
        now: Instant,
        effects: &mut Vec<Effect<T>>,
    ) -> Self {
        let mut replica = Self::recovered(log, assignment.leader_epoch, settings);
        replica.begin_to_lead(assignment, now, effects);
        replica
    }

    // ---- getters --------------------------------------------------------------------------------------------------

    /// The log, for reading its state.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The log, for maintenance that moves neither its end nor the high watermark: retention of a leader, checkpoints,
    /// deletion of records. [`Replica::settle`] comes after it.
    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// The epoch this replica leads or follows in.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Whether this replica leads.
    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// The first offset not committed (exclusive end).
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The leader's high watermark as a follower was last told, also where the own log does not go as far; a leader's own.
    pub fn told_high_watermark(&self) -> Offset {
        match &self.role {
            Role::Leader(_) => self.high_watermark,
            Role::Follower(following) => following.told.max(self.high_watermark),
        }
    }

    /// The log end at which this replica began to lead, exclusive; none where it follows.
    pub fn epoch_start(&self) -> Option<Offset> {
        match &self.role {
            Role::Leader(leading) => Some(leading.epoch_start),
            Role::Follower(_) => None,
        }
    }

    /// Whether consumers may be served. A follower that knows of a later leader serves nobody until that one has said how
    /// far the log is committed: it may not have what an earlier one said was.
    pub fn is_readable(&self) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(following) => following.is_readable(self.high_watermark),
        }
    }

    /// Whether the high watermark covers what the leader began with (KIP-207): before that, the end of what is committed
    /// could be said lower than it was said before.
    pub fn end_is_known(&self) -> bool {
        match &self.role {
            Role::Leader(leading) => self.high_watermark >= leading.epoch_start,
            Role::Follower(following) => following.is_readable(self.high_watermark),
        }
    }

    /// How many acknowledgements wait.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// How far this replica has come.
    pub fn position(&self) -> Position {
        Position { leader_epoch: self.leader_epoch, log_end: self.log.log_end(), durable_end: self.log.durable_end() }
    }

    /// What a sender is told of this replica's bounds.
    pub fn bounds(&self) -> Bounds {
        let end = if self.leads() { self.log.log_end() } else { self.high_watermark };
        Bounds {
            log_start: self.log.log_start(),
            first_segment: self.log.first_segment(),
            high_watermark: self.high_watermark,
            end,
        }
    }

    /// What a sender is told of this replica. `journal_end` is where the journal knows the partition in this leader epoch.
    pub fn partition_state(&self, id: TopicIdPartition, journal_end: Offset) -> PartitionState {
        let mut epochs = self.log.leader_epochs();
        if let Role::Leader(leading) = &self.role {
            // What will be appended belongs to this epoch, also where nothing has been yet.
            epochs.assign(self.leader_epoch, leading.epoch_start);
        }
        PartitionState {
            id,
            topic: std::sync::Arc::clone(&self.log.topic_partition().topic),
            leader_epoch: self.leader_epoch,
            journal_end,
            epochs: epochs.entries().to_vec(),
            damaged: self.log.damage().iter().map(|range| (range.offset, range.offset_end)).collect(),
            bounds: self.bounds(),
        }
    }

    /// The replicas in sync as far as is committed; empty on a follower.
    pub fn isr(&self) -> Vec<NodeId> {
        match &self.role {
            Role::Leader(leading) => leading.tracker.isr().iter().copied().collect(),
            Role::Follower(_) => Vec::new(),
        }
    }

    /// What a leader knows of its followers.
    pub fn followers(&self) -> BTreeMap<NodeId, FollowerState> {
        match &self.role {
            Role::Leader(leading) => leading.tracker.followers().clone(),
            Role::Follower(_) => BTreeMap::new(),
        }
    }

    // ---- produce --------------------------------------------------------------------------------------------------

    /// Appends a validated batch. It is written, and not yet durable, when this returns.
    ///
    /// # Errors
    /// Nothing was appended. An input/output error takes the replica offline, and everything parked is refused.
    pub fn append(
        &mut self,
        batch: &ProducedBatch,
        acks: Acks,
        now: Timestamp,
        effects: &mut Vec<Effect<T>>,
    ) -> Result<Appended, ProduceError> {
        if self.closed {
            return Err(AppendError::Closed.into());
        }
        let Role::Leader(leading) = &self.role else { return Err(ProduceError::NotLeader) };
        if acks == Acks::All {
            let (in_sync, wanted) = (leading.tracker.isr().len(), leading.tracker.min_in_sync(&self.settings));
            if in_sync < wanted {
                return Err(ProduceError::NotEnoughReplicas { in_sync, wanted });
            }
        }
        match self.log.append(batch, self.leader_epoch, now) {
            Ok(appended) => {
                if !appended.duplicate {
                    self.advance(effects);
                    self.want_flush(effects);
                }
                Ok(appended)
            }
            Err(error) => {
                if self.log.offline().is_some() {
                    self.refuse_parked(Unacknowledged::Offline, effects);
                }
                Err(error.into())
            }
        }
    }

    /// Parks `token` until everything before `end` (exclusive) is committed; answers at once where it is already.
    pub fn await_committed(&mut self, end: Offset, token: T, effects: &mut Vec<Effect<T>>) {
        if end <= self.high_watermark {
            effects.push(Effect::Acknowledged(token));
        } else if self.closed {
            effects.push(Effect::Refused(token, Unacknowledged::Closed));
        } else if self.log.offline().is_some() {
            effects.push(Effect::Refused(token, Unacknowledged::Offline));
        } else if let Some(cause) = self.cannot_commit() {
            effects.push(Effect::Refused(token, cause));
        } else {
            self.parked.park(end, token);
        }
    }

    // ---- flush ----------------------------------------------------------------------------------------------------

    /// What is to be synced to make everything written so far durable; `None` where nothing is missing. Run it
    /// without holding the replica, then report to [`Replica::flushed`].
    pub fn flush_job(&self) -> Option<FlushJob> {
        if self.log.offline().is_some() { None } else { self.log.flush_job() }
    }

    /// Like [`Replica::flush_job`], to be run beside others; see [`Log::detached_flush_job`].
    pub fn detached_flush_job(&self) -> Option<FlushJob> {
        if self.log.offline().is_some() { None } else { self.log.detached_flush_job() }
    }

    /// The outcome of a flush job. A failure takes the replica offline for good: what the disk holds is unknown, and a
    /// second sync that succeeds would prove nothing.
    pub fn flushed(&mut self, job: FlushJob, outcome: io::Result<()>, effects: &mut Vec<Effect<T>>) {
        match outcome {
            Ok(()) => {
                self.log.flushed(job);
                self.advance(effects);
                // An error takes the log offline, which the next call says.
                let _ = self.follow_log_start();
            }
            Err(error) => self.sync_failed(&error, effects),
        }
    }

    /// A sync of the log's files failed that no flush job asked for: the replica is offline, as after one that did.
    pub fn sync_failed(&mut self, error: &io::Error, effects: &mut Vec<Effect<T>>) {
        self.log.fail(error);
        self.refuse_parked(Unacknowledged::Offline, effects);
    }

    /// Takes new settings for the log and the durability.
    pub fn reconfigure(&mut self, config: LogConfig, durability: Durability, effects: &mut Vec<Effect<T>>) {
        let settings = Settings { durability, ..self.settings };
        self.reconfigure_all(config, settings, effects);
    }

    /// Takes new settings.
    pub fn reconfigure_all(&mut self, config: LogConfig, settings: Settings, effects: &mut Vec<Effect<T>>) {
        self.log.reconfigure(config);
        self.settings = settings;
        self.advance(effects);
        self.refuse_if_too_few(effects);
        self.want_flush(effects);
    }

    /// Forgets what retention says: a leader by its own settings, a follower what its leader has forgotten.
    ///
    /// # Errors
    /// As [`Log::apply_retention`].
    pub fn apply_retention(&mut self, now: Timestamp) -> Result<Vec<DeletedSegment>, LogError> {
        match self.role {
            Role::Leader(_) => self.log.apply_retention(now),
            Role::Follower(_) => self.log.remove_below_log_start(),
        }
    }

    /// Refuses what waits where maintenance of the log took it offline.
    pub fn settle(&mut self, effects: &mut Vec<Effect<T>>) {
        if self.log.offline().is_some() {
            self.refuse_parked(Unacknowledged::Offline, effects);
        }
    }

    /// Whether the replica was closed or given up.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Closes the replica and gives its files up: they are about to be removed, and another topic's may take their place.
    pub fn give_up(&mut self, effects: &mut Vec<Effect<T>>) {
        self.log.give_up();
        self.close(effects);
    }

    /// Ends the replica: nothing parked will be committed, and nothing more is accepted by the shell.
    pub fn close(&mut self, effects: &mut Vec<Effect<T>>) {
        self.closed = true;
        self.refuse_parked(Unacknowledged::Closed, effects);
    }

    // ---- roles ----------------------------------------------------------------------------------------------------

    /// Begins to lead, in a leader epoch higher than any this replica has known. False, and nothing changes, where it is
    /// not.
    pub fn become_leader(&mut self, assignment: Assignment, now: Instant, effects: &mut Vec<Effect<T>>) -> bool {
        if assignment.leader_epoch <= self.leader_epoch {
            return false;
        }
        self.begin_to_lead(assignment, now, effects);
        true
    }

    /// Follows from now on, in a leader epoch not lower than any this replica has known; a leader needs a higher one.
    /// False, and nothing changes, where it is lower.
    pub fn become_follower(&mut self, leader_epoch: LeaderEpoch, effects: &mut Vec<Effect<T>>) -> bool {
        let stays = match &self.role {
            Role::Leader(_) => leader_epoch > self.leader_epoch,
            Role::Follower(_) => leader_epoch >= self.leader_epoch,
        };
        if !stays {
            return false;
        }
        let (told_in, seen) = match &self.role {
            Role::Leader(_) => (self.leader_epoch, self.high_watermark),
            Role::Follower(following) => (following.told_in, following.seen),
        };
        if leader_epoch > self.leader_epoch || self.leads() {
            self.leader_epoch = leader_epoch;
            self.log.keep_high_watermark(true);
            // A later leader may not have what an earlier one called committed: it has to speak first.
            let following = Following { told: self.high_watermark, spoken: false, seen, ..Following::new(told_in) };
            self.role = Role::Follower(following);
            self.refuse_parked(Unacknowledged::NotLeader, effects);
        }
        self.check_invariants();
        true
    }

    /// Stops to lead before it is known who does: produced batches are refused, and so is what waits. The leader epoch
    /// stays.
    pub fn step_down(&mut self, effects: &mut Vec<Effect<T>>) {
        if self.leads() {
            self.log.keep_high_watermark(true);
            self.role = Role::Follower(Following { told: self.high_watermark, ..Following::new(self.leader_epoch) });
            self.refuse_parked(Unacknowledged::NotLeader, effects);
        }
        self.check_invariants();
    }

    fn begin_to_lead(&mut self, assignment: Assignment, now: Instant, effects: &mut Vec<Effect<T>>) {
        self.log.abandon_cut();
        self.log.keep_high_watermark(false);
        self.leader_epoch = assignment.leader_epoch;
        let epoch_start = self.log.log_end();
        let tracker = Tracker::new(assignment, now);
        self.role = Role::Leader(Leading { tracker, epoch_start });
        self.advance(effects);
        self.propose(now, effects);
        self.want_flush(effects);
    }

    // ---- both -----------------------------------------------------------------------------------------------------

    /// The end of what counts of the own log.
    pub(crate) fn counted(&self) -> Offset {
        match self.settings.durability {
            Durability::Fsync => self.log.durable_end(),
            Durability::PageCache => self.log.log_end(),
        }
    }

    pub(crate) fn want_flush(&self, effects: &mut Vec<Effect<T>>) {
        if self.settings.durability == Durability::Fsync && self.log.durable_end() < self.log.log_end() {
            effects.push(Effect::FlushWanted);
        }
    }

    pub(crate) fn advance(&mut self, effects: &mut Vec<Effect<T>>) {
        let own = self.own();
        let reached = match &self.role {
            Role::Leader(leading) => leading.tracker.committed_end(&self.settings, &own),
            Role::Follower(following) => Some(own.counted.min(following.told)),
        };
        if let Some(reached) = reached.filter(|reached| *reached > self.high_watermark) {
            self.high_watermark = reached;
            self.log.set_high_watermark(reached);
            self.parked.release(reached, |token| effects.push(Effect::Acknowledged(token)));
            effects.push(Effect::HighWatermarkMoved(reached));
        }
        self.check_invariants();
    }

    pub(crate) fn refuse_parked(&mut self, cause: Unacknowledged, effects: &mut Vec<Effect<T>>) {
        self.parked.drain(|token| effects.push(Effect::Refused(token, cause)));
    }

    /// Asserts what always holds.
    pub fn check_invariants(&self) {
        let (log_start, log_end) = (self.log.log_start(), self.log.log_end());
        assert!(
            log_start <= self.high_watermark && self.high_watermark <= log_end,
            "high watermark {} outside of the log [{log_start}, {log_end})",
            self.high_watermark
        );
        assert!(
            self.high_watermark == self.log.high_watermark(),
            "high watermark {} where readers see {}",
            self.high_watermark,
            self.log.high_watermark()
        );
        assert!(
            self.parked.first_end().is_none_or(|end| end > self.high_watermark),
            "an acknowledgement below the high watermark {} is still parked",
            self.high_watermark
        );
        match &self.role {
            Role::Leader(leading) => {
                leading.tracker.check_invariants();
                let assigned = leading.tracker.assignment().leader_epoch;
                assert!(assigned == self.leader_epoch, "leads in {assigned} and in {}", self.leader_epoch);
            }
            Role::Follower(following) => {
                assert!(self.parked.len() == 0, "a follower has {} acknowledgements parked", self.parked.len());
                assert!(
                    following.attached.is_none_or(|attached| attached == self.leader_epoch),
                    "attached in {:?}, follows in {}",
                    following.attached,
                    self.leader_epoch
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
