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
use crate::follower::{FollowError, Following, end_of};
use crate::isr::{Assignment, FollowerState, Own, Proposal, Tracker};
use crate::link::sender::{Bounds, PartitionState};
use crate::message::{AppendHead, Attach, Attached, Progress, Reset, ResetCause, Tail, TopicIdPartition, Truncate};

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

#[derive(Debug)]
pub(crate) struct Leading {
    pub(crate) tracker: Tracker,
    /// The log end at which this node began to lead.
    pub(crate) epoch_start: Offset,
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
        let tracker = Tracker::new(Assignment::alone(NodeId::NONE, leader_epoch), high_watermark, Instant::ORIGIN);
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

    /// Follows on a recovered log, at the leader epoch that the metadata knows.
    pub fn follow(log: Log, leader_epoch: LeaderEpoch, settings: Settings) -> Self {
        // Nothing is known of the high watermark's origin but that it is no older than the last batch.
        let told_in = log.leader_epochs().latest().unwrap_or(LeaderEpoch::NONE);
        Self {
            leader_epoch,
            settings,
            high_watermark: log.high_watermark(),
            log,
            parked: Parked::new(),
            role: Role::Follower(Following::new(told_in)),
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
        let mut replica = Self::follow(log, assignment.leader_epoch, settings);
        replica.begin_to_lead(assignment, now, effects);
        replica
    }

    // ---- getters --------------------------------------------------------------------------------------------------

    /// The log, for reading its state.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The log, for maintenance that moves neither its end nor the high watermark: retention of a leader, checkpoints,
    /// deletion of records.
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

    /// Whether consumers may be served. A follower that had to cut below its high watermark serves nobody until its
    /// leader has said how far the log is committed.
    pub fn is_readable(&self) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(following) => following.readable,
        }
    }

    /// Whether the high watermark covers what the leader began with (KIP-207): before that, the end of what is committed
    /// could be said lower than it was said before.
    pub fn end_is_known(&self) -> bool {
        match &self.role {
            Role::Leader(leading) => self.high_watermark >= leading.epoch_start,
            Role::Follower(following) => following.readable,
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
        PartitionState {
            id,
            topic: std::sync::Arc::clone(&self.log.topic_partition().topic),
            leader_epoch: self.leader_epoch,
            journal_end,
            epochs: self.log.leader_epochs().entries().to_vec(),
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
            Err(error) => {
                self.log.fail(&error);
                self.refuse_parked(Unacknowledged::Offline, effects);
            }
        }
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
        let (told_in, readable) = match &self.role {
            Role::Leader(_) => (self.leader_epoch, true),
            Role::Follower(following) => (following.told_in, following.readable),
        };
        if leader_epoch > self.leader_epoch || self.leads() {
            self.leader_epoch = leader_epoch;
            let following = Following { told: self.high_watermark, readable, ..Following::new(told_in) };
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
            self.role = Role::Follower(Following { told: self.high_watermark, ..Following::new(self.leader_epoch) });
            self.refuse_parked(Unacknowledged::NotLeader, effects);
        }
        self.check_invariants();
    }

    fn begin_to_lead(&mut self, assignment: Assignment, now: Instant, effects: &mut Vec<Effect<T>>) {
        self.log.abandon_cut();
        self.leader_epoch = assignment.leader_epoch;
        let epoch_start = self.log.log_end();
        let tracker = Tracker::new(assignment, epoch_start, now);
        self.role = Role::Leader(Leading { tracker, epoch_start });
        self.advance(effects);
        self.propose(now, effects);
        self.want_flush(effects);
    }

    // ---- leading --------------------------------------------------------------------------------------------------

    /// The metadata changed the partition without changing its leader epoch.
    pub fn assign(&mut self, assignment: Assignment, now: Instant, effects: &mut Vec<Effect<T>>) {
        let Role::Leader(leading) = &mut self.role else { return };
        if assignment.leader_epoch != self.leader_epoch {
            return;
        }
        leading.tracker.assign(assignment);
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
        leading.tracker.attach(node_id, session, (follower.log_end, durable_end), &own, now);
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
        if follower.leader_epoch != self.leader_epoch
            || !leading.tracker.ack(node_id, session, (follower.log_end, follower.durable_end), &own, now)
        {
            return false;
        }
        self.advance(effects);
        self.propose(now, effects);
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
            leading.tracker.tick(&own, now);
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

    fn own(&self) -> Own {
        let epoch_start = match &self.role {
            Role::Leader(leading) => leading.epoch_start,
            Role::Follower(_) => Offset::ZERO,
        };
        Own { log_end: self.log.log_end(), counted: self.counted(), high_watermark: self.high_watermark, epoch_start }
    }

    fn propose(&mut self, now: Instant, effects: &mut Vec<Effect<T>>) {
        let own = self.own();
        if let Role::Leader(leading) = &mut self.role
            && let Some(proposal) = leading.tracker.propose(&self.settings, &own, now)
        {
            effects.push(Effect::AlterIsr(proposal));
        }
        self.check_invariants();
    }

    /// Why nothing more can be committed here, if so.
    fn cannot_commit(&self) -> Option<Unacknowledged> {
        match &self.role {
            Role::Follower(_) => Some(Unacknowledged::NotLeader),
            Role::Leader(leading) => {
                let too_few = leading.tracker.isr().len() < leading.tracker.min_in_sync(&self.settings);
                too_few.then_some(Unacknowledged::NotEnoughReplicas)
            }
        }
    }

    fn refuse_if_too_few(&mut self, effects: &mut Vec<Effect<T>>) {
        if let Some(cause) = self.cannot_commit() {
            self.refuse_parked(cause, effects);
        }
    }

    // ---- following ------------------------------------------------------------------------------------------------

    /// The leader wants to send: tells it what is here.
    ///
    /// # Errors
    /// This replica leads, knows a later leader, or its log cannot be read.
    pub fn attach(&mut self, attach: &Attach) -> Result<Attached, FollowError> {
        self.online()?;
        let following = self.following(attach.leader_epoch)?;
        following.attached = Some(attach.leader_epoch);
        self.leader_epoch = attach.leader_epoch;
        self.attached(attach.id)
    }

    /// First half of a cut: call it, write a checkpoint, call [`Replica::truncate`]. Nothing may be appended in between.
    ///
    /// # Errors
    /// As [`Replica::truncate`].
    pub fn prepare_truncate(&mut self, truncate: &Truncate) -> Result<(), FollowError> {
        self.check_truncate(truncate)?;
        self.log.prepare_cut(truncate.to)?;
        self.lowered();
        Ok(())
    }

    /// Cuts what the leader does not have, and keeps it in a file.
    ///
    /// # Errors
    /// The leader is not the one attached to, or contradicts what it said was committed; or the disk failed.
    pub fn truncate(&mut self, truncate: &Truncate, effects: &mut Vec<Effect<T>>) -> Result<Attached, FollowError> {
        self.check_truncate(truncate)?;
        let reason = format!("the leader of epoch {} does not have it", truncate.leader_epoch);
        let cut = self.log.cut_aside(truncate.to, &reason)?;
        self.lowered();
        effects.extend(cut.map(Effect::TailCut));
        self.want_flush(effects);
        self.attached(truncate.id)
    }

    /// First half of a new beginning: call it, write a checkpoint, call [`Replica::reset`].
    ///
    /// # Errors
    /// As [`Replica::reset`].
    pub fn prepare_reset(&mut self, reset: &Reset) -> Result<(), FollowError> {
        self.online()?;
        self.agreed(reset.leader_epoch)?;
        self.log.prepare_cut(self.log.first_segment())?;
        self.lowered();
        Ok(())
    }

    /// Drops the log and begins it anew where the leader's begins.
    ///
    /// # Errors
    /// The leader is not the one attached to, or the disk failed.
    pub fn reset(&mut self, reset: &Reset, effects: &mut Vec<Effect<T>>) -> Result<Attached, FollowError> {
        self.online()?;
        self.agreed(reset.leader_epoch)?;
        let reason = format!("it shares nothing with the leader of epoch {}", reset.leader_epoch);
        self.log.reset_to(reset.to, (reset.cause == ResetCause::Diverged).then_some(&reason))?;
        self.lowered();
        self.want_flush(effects);
        self.attached(reset.id)
    }

    /// Appends what the leader sent, exactly as it is.
    ///
    /// # Errors
    /// Nothing was appended, unless the disk failed; the replica is offline then.
    pub fn append_replicated(
        &mut self,
        head: &AppendHead,
        batches: &[u8],
        now: Timestamp,
        effects: &mut Vec<Effect<T>>,
    ) -> Result<Position, FollowError> {
        self.agreed(head.leader_epoch)?;
        let (log_end, found) = (self.log.log_end(), head.base);
        if found > log_end {
            return Err(FollowError::Gap { log_end, found });
        }
        if found < log_end {
            return Err(FollowError::Overlap { log_end, found });
        }
        let (announced, found) = (head.end, end_of(batches)?);
        if announced != found {
            return Err(FollowError::WrongEnd { announced, found });
        }
        self.log.append_replicated_in(head.segment, batches, head.leader_epoch, now)?;
        self.told(head.high_watermark, head.log_start, effects)?;
        self.want_flush(effects);
        Ok(self.position())
    }

    /// The leader's bounds moved.
    ///
    /// # Errors
    /// The leader is not the one attached to, or the disk failed.
    pub fn progress(&mut self, progress: &Progress, effects: &mut Vec<Effect<T>>) -> Result<(), FollowError> {
        self.agreed(progress.leader_epoch)?;
        self.told(progress.high_watermark, progress.log_start, effects)
    }

    fn told(
        &mut self,
        high_watermark: Offset,
        log_start: Offset,
        effects: &mut Vec<Effect<T>>,
    ) -> Result<(), FollowError> {
        let leader_epoch = self.leader_epoch;
        if let Role::Follower(following) = &mut self.role {
            following.told =
                if following.told_in == leader_epoch { following.told.max(high_watermark) } else { high_watermark };
            following.told_in = leader_epoch;
            following.log_start = log_start;
            following.readable = true;
        }
        self.advance(effects);
        self.follow_log_start()?;
        self.check_invariants();
        Ok(())
    }

    /// Takes over the leader's log start. What lies above the own high watermark waits for that to pass.
    fn follow_log_start(&mut self) -> Result<(), LogError> {
        if let Role::Follower(following) = &self.role {
            let log_start = following.log_start.min(self.high_watermark);
            if log_start > self.log.log_start() {
                self.log.delete_records_before(log_start)?;
            }
        }
        Ok(())
    }

    fn online(&self) -> Result<(), FollowError> {
        match self.log.offline() {
            None => Ok(()),
            Some(cause) => Err(LogError::Offline(cause.into()).into()),
        }
    }

    /// The follower's part, where it may follow in `leader_epoch`.
    fn following(&mut self, found: LeaderEpoch) -> Result<&mut Following, FollowError> {
        let current = self.leader_epoch;
        match &mut self.role {
            Role::Leader(_) => Err(FollowError::Leads { leader_epoch: current }),
            Role::Follower(_) if found < current => Err(FollowError::StaleLeaderEpoch { current, found }),
            Role::Follower(following) => Ok(following),
        }
    }

    /// Whether the leader of this epoch was attached to.
    fn agreed(&mut self, found: LeaderEpoch) -> Result<(), FollowError> {
        if self.following(found)?.attached == Some(found) { Ok(()) } else { Err(FollowError::NotAttached { found }) }
    }

    fn check_truncate(&mut self, truncate: &Truncate) -> Result<(), FollowError> {
        self.online()?;
        self.agreed(truncate.leader_epoch)?;
        let (high_watermark, leader_epoch) = (self.high_watermark, truncate.leader_epoch);
        if truncate.to < high_watermark && self.following(leader_epoch)?.told_in >= leader_epoch {
            return Err(FollowError::BelowHighWatermark { to: truncate.to, high_watermark, leader_epoch });
        }
        Ok(())
    }

    /// Takes over the high watermark of a log that was cut.
    fn lowered(&mut self) {
        let high_watermark = self.log.high_watermark();
        let changed = high_watermark != self.high_watermark;
        self.high_watermark = high_watermark;
        if let Role::Follower(following) = &mut self.role {
            following.told = following.told.min(high_watermark);
            following.readable &= !changed;
        }
        self.check_invariants();
    }

    fn attached(&self, id: TopicIdPartition) -> Result<Attached, FollowError> {
        let log_end = self.log.log_end();
        let tail = self.log.reader().batch_before(log_end)?;
        Ok(Attached {
            id,
            leader_epoch: self.leader_epoch,
            log_start: self.log.log_start(),
            log_end,
            durable_end: self.log.durable_end(),
            tail: tail.map(|header| Tail { base: header.base_offset, crc: header.crc }),
            epochs: self.log.leader_epochs().entries().to_vec(),
        })
    }

    // ---- both -----------------------------------------------------------------------------------------------------

    /// The end of what counts of the own log.
    fn counted(&self) -> Offset {
        match self.settings.durability {
            Durability::Fsync => self.log.durable_end(),
            Durability::PageCache => self.log.log_end(),
        }
    }

    fn want_flush(&self, effects: &mut Vec<Effect<T>>) {
        if self.settings.durability == Durability::Fsync && self.log.durable_end() < self.log.log_end() {
            effects.push(Effect::FlushWanted);
        }
    }

    fn advance(&mut self, effects: &mut Vec<Effect<T>>) {
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

    fn refuse_parked(&mut self, cause: Unacknowledged, effects: &mut Vec<Effect<T>>) {
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
