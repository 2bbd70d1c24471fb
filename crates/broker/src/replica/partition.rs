//! One partition on this broker: the replica behind its lock, the read view beside it, and what waits for both.
//!
//! The lock is the replica's one owner at a time: the connection that appends runs the replica itself, so nothing is
//! handed from thread to thread between the socket and the file. No await happens under the lock.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use chronik_log::{Appended, Checkpoint, DeletedSegment, FlushJob, Log, LogError, LogReader};
use chronik_model::{Instant, LeaderEpoch, NodeId, Offset, PartitionIndex, Timestamp, TopicPartition};
use chronik_record::ProducedBatch;
use chronik_replication::isr::Assignment;
use chronik_replication::link::sender::{Bounds, PartitionState};
use chronik_replication::message::{AppendHead, Attach, Attached, Progress, Reset, TopicIdPartition, Truncate};
use chronik_replication::{Acks, Effect, FollowError, Position, ProduceError, Replica, Unacknowledged};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::feed::{Feed, Mark};
use super::flusher::FlushQueue;
use super::isr::IsrQueue;
use super::waiters::{Registration, Waiter, Waiters};
use crate::settings::PartitionSettings;

/// Ends with the fate of an append: committed, or why not.
type Acknowledge = oneshot::Sender<Result<(), Unacknowledged>>;

/// When an append is committed.
#[derive(Debug)]
pub(crate) enum Committed {
    /// The high watermark has passed it.
    Now,
    /// It will be known later.
    Later(oneshot::Receiver<Result<(), Unacknowledged>>),
}

/// What the partitions of a broker share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) flush_queue: Arc<FlushQueue>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) isr_queue: Arc<IsrQueue>,
}

/// How a partition begins.
#[derive(Clone, Debug)]
pub(crate) enum Beginning {
    /// This broker leads it.
    Lead(Assignment),
    /// It follows, at the leader epoch that the metadata knows.
    Follow(LeaderEpoch),
}

/// A partition of which this broker has a replica.
#[derive(Debug)]
pub(crate) struct Partition {
    id: TopicIdPartition,
    name: TopicPartition,
    owned: Mutex<Owned>,
    reader: LogReader,
    /// What clients are told of the replica without its lock; see [`Standing`].
    standing: AtomicU64,
    /// The journal's end, exclusive, from which on followers know the partition in its leader epoch.
    known_since: AtomicI64,
    waiters: Arc<Waiters>,
    settings: ArcSwap<PartitionSettings>,
    shared: Arc<Shared>,
    /// Listed in the flush queue and not yet taken out of it.
    flush_queued: AtomicBool,
    mark: Mark,
}

#[derive(Debug)]
struct Owned {
    replica: Replica<Acknowledge>,
    /// Empty between inputs.
    effects: Vec<Effect<Acknowledge>>,
    /// What the links were told last.
    told: Option<(Bounds, Position, bool)>,
}

/// What clients are told of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The epoch that this replica leads or follows in.
    pub(crate) leader_epoch: LeaderEpoch,
    /// Whether it leads.
    pub(crate) leads: bool,
    /// Whether consumers may be served.
    pub(crate) is_readable: bool,
    /// Whether the high watermark has reached what was committed before this replica led (KIP-207).
    pub(crate) end_is_known: bool,
    /// Whether others may be fed from it.
    pub(crate) is_settled: bool,
}

/// A follower as its leader knows it. Offsets are exclusive ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FollowerStanding {
    pub(crate) log_end: Offset,
    pub(crate) durable_end: Offset,
    pub(crate) attached: bool,
    pub(crate) in_sync: bool,
}

impl Standing {
    const LEADS: u64 = 1 << 32;
    const IS_READABLE: u64 = 1 << 33;
    const END_IS_KNOWN: u64 = 1 << 34;
    const IS_SETTLED: u64 = 1 << 35;

    fn of<T>(replica: &Replica<T>) -> Self {
        Self {
            leader_epoch: replica.leader_epoch(),
            leads: replica.leads(),
            is_readable: replica.is_readable(),
            end_is_known: replica.end_is_known(),
            is_settled: replica.is_settled(),
        }
    }

    fn pack(self) -> u64 {
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        u64::from(self.leader_epoch.get().cast_unsigned())
            | flag(self.leads, Self::LEADS)
            | flag(self.is_readable, Self::IS_READABLE)
            | flag(self.end_is_known, Self::END_IS_KNOWN)
            | flag(self.is_settled, Self::IS_SETTLED)
    }

    fn unpack(packed: u64) -> Self {
        let [.., a, b, c, d] = packed.to_be_bytes();
        Self {
            leader_epoch: LeaderEpoch::new(i32::from_be_bytes([a, b, c, d])),
            leads: packed & Self::LEADS != 0,
            is_readable: packed & Self::IS_READABLE != 0,
            end_is_known: packed & Self::END_IS_KNOWN != 0,
            is_settled: packed & Self::IS_SETTLED != 0,
        }
    }
}

impl Partition {
    /// A partition on its recovered and synced log. `known_since` is the end of the journal that knows it so.
    pub(crate) fn begin(
        id: TopicIdPartition,
        log: Log,
        beginning: Beginning,
        known_since: Offset,
        settings: PartitionSettings,
        shared: Arc<Shared>,
        now: Instant,
    ) -> Arc<Self> {
        let (name, reader) = (log.topic_partition().clone(), log.reader());
        let mut effects = Vec::new();
        let replica = match beginning {
            Beginning::Lead(assignment) => Replica::lead_assigned(log, assignment, settings.replica, now, &mut effects),
            Beginning::Follow(leader_epoch) => Replica::follow(log, leader_epoch, settings.replica),
        };
        let standing = Standing::of(&replica).pack();
        let partition = Arc::new(Self {
            id,
            name,
            owned: Mutex::new(Owned { replica, effects, told: None }),
            reader,
            standing: AtomicU64::new(standing),
            known_since: AtomicI64::new(known_since.get()),
            waiters: Arc::default(),
            settings: ArcSwap::from_pointee(settings),
            shared,
            flush_queued: AtomicBool::new(false),
            mark: Mark::default(),
        });
        // Carries out what beginning to lead has led to.
        partition.owned(|_| ());
        partition
    }

    pub(crate) fn id(&self) -> TopicIdPartition {
        self.id
    }

    pub(crate) fn name(&self) -> &TopicPartition {
        &self.name
    }

    pub(crate) fn index(&self) -> PartitionIndex {
        self.name.partition
    }

    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        self.standing().leader_epoch
    }

    /// What clients are told of the replica.
    pub(crate) fn standing(&self) -> Standing {
        Standing::unpack(self.standing.load(Ordering::SeqCst))
    }

    pub(super) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// The read view; it needs no lock of the replica.
    pub(crate) fn reader(&self) -> &LogReader {
        &self.reader
    }

    pub(crate) fn settings(&self) -> Arc<PartitionSettings> {
        self.settings.load_full()
    }

    /// Appends a validated batch. With `wait` the second part tells when it is committed.
    pub(crate) fn append(
        self: &Arc<Self>,
        batch: &ProducedBatch,
        now: Timestamp,
        wait: bool,
    ) -> Result<(Appended, Committed), ProduceError> {
        self.owned(|owned| {
            let acks = if wait { Acks::All } else { Acks::Leader };
            let appended = owned.replica.append(batch, acks, now, &mut owned.effects)?;
            let committed = if wait { owned.await_committed(appended.next_offset) } else { Committed::Now };
            Ok((appended, committed))
        })
    }

    /// Tells when everything before `end` (exclusive) is committed.
    pub(crate) fn await_committed(self: &Arc<Self>, end: Offset) -> Committed {
        self.owned(|owned| owned.await_committed(end))
    }

    /// Registers a fetch that waits for this partition to grow.
    pub(crate) fn register(&self, waiter: &Arc<Waiter>) -> Registration {
        Waiters::register(&self.waiters, waiter)
    }

    /// Rises with every change that a waiting fetch would be woken for.
    pub(crate) fn changes(&self) -> u64 {
        self.waiters.changes()
    }

    /// Reads the log's state, or maintains it, under the lock.
    pub(crate) fn with_log<R>(self: &Arc<Self>, body: impl FnOnce(&mut Log) -> R) -> R {
        self.owned(|owned| {
            let result = body(owned.replica.log_mut());
            owned.replica.settle(&mut owned.effects);
            result
        })
    }

    /// Takes new settings.
    pub(crate) fn reconfigure(self: &Arc<Self>, settings: PartitionSettings) {
        self.owned(|owned| {
            owned.replica.reconfigure_all(settings.log.clone(), settings.replica, &mut owned.effects);
        });
        self.settings.store(Arc::new(settings));
    }

    /// Ends the replica; whatever waits is refused.
    pub(crate) fn close(self: &Arc<Self>) {
        self.owned(|owned| owned.replica.close(&mut owned.effects));
        self.waiters.wake();
    }

    /// Ends the replica of a deleted topic, and touches its files no more.
    pub(super) fn give_up(self: &Arc<Self>) {
        self.owned(|owned| owned.replica.give_up(&mut owned.effects));
        self.waiters.wake();
    }

    /// Whether a sync has failed, which only a restart makes good.
    pub(super) fn sync_failed(&self) -> bool {
        self.owned.lock().replica.log().sync_failed()
    }

    /// The log end at which this replica began to lead, or the present one of one that follows.
    pub(crate) fn led_from(&self) -> Offset {
        let owned = self.owned.lock();
        owned.replica.epoch_start().unwrap_or_else(|| owned.replica.position().log_end)
    }

    /// Whether the log has failed.
    pub(crate) fn is_offline(&self) -> bool {
        self.owned.lock().replica.log().offline().is_some()
    }

    /// Whether the replica has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.owned.lock().replica.is_closed()
    }

    /// The work that makes everything written so far durable.
    pub(super) fn take_flush_job(&self) -> Option<FlushJob> {
        // Cleared before the job is cut: an append in between is listed again rather than forgotten.
        self.flush_queued.store(false, Ordering::SeqCst);
        self.owned.lock().replica.flush_job()
    }

    /// The same, to be done beside other such work; `None` as well where that cannot be.
    pub(super) fn detached_flush_job(&self) -> Option<FlushJob> {
        self.owned.lock().replica.detached_flush_job()
    }

    /// The outcome of that work.
    pub(super) fn flushed(self: &Arc<Self>, job: FlushJob, outcome: io::Result<()>) {
        if let Err(error) = outcome.as_ref() {
            self.note_sync_failed(error);
        }
        self.owned(|owned| owned.replica.flushed(job, outcome, &mut owned.effects));
    }

    /// A sync of its segments failed that it did not ask for.
    pub(super) fn fail_sync(self: &Arc<Self>, error: &io::Error) {
        self.note_sync_failed(error);
        self.owned(|owned| owned.replica.sync_failed(error, &mut owned.effects));
    }

    fn note_sync_failed(&self, error: &io::Error) {
        // A deleted topic's files are gone before a sync that was under way.
        if !self.is_closed() {
            tracing::error!(partition = %self.name, %error, "sync failed, the partition is offline until a restart");
        }
    }

    /// From where recovery has to look. What it counts as flushed is flushed.
    pub(crate) fn checkpoint(self: &Arc<Self>) -> Result<Checkpoint, LogError> {
        self.with_log(|log| log.checkpoint())
    }

    // ---- roles ----------------------------------------------------------------------------------------------------

    /// Leads as the metadata says from the journal's end `known_since` on: begins to, or takes over what has changed.
    pub(super) fn lead(self: &Arc<Self>, assignment: Assignment, known_since: Offset, now: Instant) {
        let leader_epoch = assignment.leader_epoch;
        self.owned(|owned| {
            if owned.replica.leads() && owned.replica.leader_epoch() == leader_epoch {
                owned.replica.assign_in_journal(assignment, known_since, now, &mut owned.effects);
            } else {
                self.known_since.store(known_since.get(), Ordering::SeqCst);
                owned.told = None;
                if !owned.replica.become_leader(assignment, now, &mut owned.effects) {
                    let known = owned.replica.leader_epoch();
                    tracing::error!(partition = %self.name, %leader_epoch, %known, "leader epoch is not new, the partition does not lead");
                }
            }
        });
        self.waiters.wake();
    }

    /// Follows from now on, in a leader epoch that the metadata knows from the journal's end `known_since` on.
    pub(super) fn follow(self: &Arc<Self>, leader_epoch: LeaderEpoch, known_since: Offset) {
        self.owned(|owned| {
            if leader_epoch > owned.replica.leader_epoch() {
                self.known_since.store(known_since.get(), Ordering::SeqCst);
                owned.told = None;
            }
            owned.replica.become_follower(leader_epoch, &mut owned.effects);
        });
        self.waiters.wake();
    }

    /// Leads no more.
    pub(super) fn step_down(self: &Arc<Self>) {
        self.owned(|owned| owned.replica.step_down(&mut owned.effects));
        self.waiters.wake();
    }

    // ---- as a leader ----------------------------------------------------------------------------------------------

    /// What a link is told of the partition.
    pub(crate) fn state(&self) -> PartitionState {
        let known_since = Offset::new(self.known_since.load(Ordering::SeqCst));
        self.owned.lock().replica.partition_state(self.id, known_since)
    }

    /// The leader epoch with the bounds in it.
    pub(crate) fn bounds(&self) -> (LeaderEpoch, Bounds) {
        let owned = self.owned.lock();
        (owned.replica.leader_epoch(), owned.replica.bounds())
    }

    /// The logs were brought to agree on the connection `session`.
    pub(crate) fn follower_attached(self: &Arc<Self>, node_id: NodeId, session: u64, position: Position, now: Instant) {
        self.owned(|owned| owned.replica.follower_attached(node_id, session, position, now, &mut owned.effects));
    }

    /// A follower has come further.
    pub(crate) fn acked(self: &Arc<Self>, node_id: NodeId, session: u64, position: Position, now: Instant) {
        self.owned(|owned| owned.replica.acked(node_id, session, position, now, &mut owned.effects));
    }

    /// A follower's connection is gone.
    pub(crate) fn follower_detached(&self, node_id: NodeId, session: u64) {
        self.owned.lock().replica.follower_detached(node_id, session);
    }

    /// A follower has the journal up to `end`, exclusive.
    pub(crate) fn journal_acked(self: &Arc<Self>, node_id: NodeId, end: Offset) {
        self.owned(|owned| owned.replica.journal_acked(node_id, end, &mut owned.effects));
    }

    /// A proposed change of the ISR is known not to be committed.
    pub(super) fn isr_refused(self: &Arc<Self>, partition_epoch: i32, now: Instant) {
        self.owned(|owned| owned.replica.isr_refused(partition_epoch, now, &mut owned.effects));
    }

    /// Lets time pass.
    pub(super) fn tick(self: &Arc<Self>, now: Instant) {
        self.owned(|owned| owned.replica.tick(now, &mut owned.effects));
    }

    /// What a replica that leads knows of a follower.
    pub(crate) fn follower(&self, node_id: NodeId) -> Option<FollowerStanding> {
        let owned = self.owned.lock();
        let follower = *owned.replica.followers().get(&node_id)?;
        Some(FollowerStanding {
            log_end: follower.log_end,
            durable_end: follower.durable_end,
            attached: follower.attached,
            in_sync: owned.replica.isr().contains(&node_id),
        })
    }

    // ---- as a follower --------------------------------------------------------------------------------------------

    pub(crate) fn position(&self) -> Position {
        self.owned.lock().replica.position()
    }

    /// The leader's high watermark as it was last told; its own for a replica that leads.
    pub(crate) fn told_high_watermark(&self) -> Offset {
        self.owned.lock().replica.told_high_watermark()
    }

    pub(crate) fn attach(self: &Arc<Self>, attach: &Attach) -> Result<Attached, FollowError> {
        self.owned(|owned| {
            owned.open()?;
            owned.replica.attach(attach)
        })
    }

    /// The first half of a cut; a checkpoint is written before the second.
    pub(crate) fn prepare_truncate(self: &Arc<Self>, truncate: &Truncate) -> Result<(), FollowError> {
        self.owned(|owned| {
            owned.open()?;
            owned.replica.prepare_truncate(truncate)
        })
    }

    pub(crate) fn truncate(self: &Arc<Self>, truncate: &Truncate) -> Result<Attached, FollowError> {
        self.owned(|owned| {
            owned.open()?;
            owned.replica.truncate(truncate, &mut owned.effects)
        })
    }

    /// The first half of a new beginning; a checkpoint is written before the second.
    pub(crate) fn prepare_reset(self: &Arc<Self>, reset: &Reset) -> Result<(), FollowError> {
        self.owned(|owned| {
            owned.open()?;
            owned.replica.prepare_reset(reset)
        })
    }

    pub(crate) fn reset(self: &Arc<Self>, reset: &Reset) -> Result<Attached, FollowError> {
        self.owned(|owned| {
            owned.open()?;
            owned.replica.reset(reset, &mut owned.effects)
        })
    }

    /// Appends what the leader sent, exactly as it is.
    pub(crate) fn append_replicated(
        self: &Arc<Self>,
        head: &AppendHead,
        batches: &[u8],
        now: Timestamp,
    ) -> Result<Position, FollowError> {
        self.owned(|owned| {
            owned.open()?;
            owned.replica.append_replicated(head, batches, now, &mut owned.effects)
        })
    }

    pub(crate) fn progress(self: &Arc<Self>, progress: &Progress) -> Result<(), FollowError> {
        self.owned(|owned| {
            owned.open()?;
            owned.replica.progress(progress, &mut owned.effects)
        })
    }

    /// The leader cannot be asked: consumers are served what is known here.
    pub(crate) fn serve_alone(self: &Arc<Self>) {
        self.owned(|owned| owned.replica.serve_alone());
    }

    // ---- both -----------------------------------------------------------------------------------------------------

    /// Forgets what retention says: a leader by its settings, a follower what its leader has forgotten.
    pub(super) fn apply_retention(self: &Arc<Self>, now: Timestamp) -> Result<Vec<DeletedSegment>, LogError> {
        self.owned(|owned| {
            let outcome = owned.replica.apply_retention(now);
            owned.replica.settle(&mut owned.effects);
            outcome
        })
    }

    /// Runs an input of the replica, then carries out its effects without the lock.
    fn owned<R>(self: &Arc<Self>, input: impl FnOnce(&mut Owned) -> R) -> R {
        let mut owned = self.owned.lock();
        let result = input(&mut owned);
        self.standing.store(Standing::of(&owned.replica).pack(), Ordering::SeqCst);
        let moved = !self.shared.feed.is_empty() && owned.has_moved();
        let effects = std::mem::take(&mut owned.effects);
        drop(owned);
        if moved {
            self.shared.feed.push(self);
        }
        for effect in effects {
            match effect {
                // A receiver that is gone belongs to a connection that is gone.
                Effect::Acknowledged(token) => drop(token.send(Ok(()))),
                Effect::Refused(token, cause) => drop(token.send(Err(cause))),
                Effect::HighWatermarkMoved(_) => self.waiters.wake(),
                Effect::AlterIsr(proposal) => self.shared.isr_queue.push(Arc::clone(self), proposal),
                Effect::TailCut(cut) => tracing::warn!(
                    partition = %self.name, from = %cut.from, to = %cut.to, bytes = cut.bytes, kept = %cut.file.display(),
                    "the leader does not have this tail, it is cut and kept in a file"
                ),
                Effect::FlushWanted => {
                    if !self.flush_queued.swap(true, Ordering::SeqCst) {
                        self.shared.flush_queue.push(Arc::clone(self));
                    }
                }
            }
        }
        result
    }
}

impl Owned {
    /// Whether it may take what a leader sends: not after it was closed.
    fn open(&self) -> Result<(), FollowError> {
        if self.replica.is_closed() {
            return Err(LogError::Offline("the replica is closed".into()).into());
        }
        Ok(())
    }

    /// Whether the links would hear something else than before.
    fn has_moved(&mut self) -> bool {
        let now = Some((self.replica.bounds(), self.replica.position(), self.replica.is_settled()));
        let moved = now != self.told || self.replica.is_closed();
        self.told = now;
        moved
    }

    fn await_committed(&mut self, end: Offset) -> Committed {
        if end <= self.replica.high_watermark() {
            return Committed::Now;
        }
        let (token, receiver) = oneshot::channel();
        self.replica.await_committed(end, token, &mut self.effects);
        Committed::Later(receiver)
    }
}

impl Committed {
    /// Waits for the fate.
    pub(crate) async fn wait(self) -> Result<(), Unacknowledged> {
        match self {
            Self::Now => Ok(()),
            Self::Later(receiver) => receiver.await.unwrap_or(Err(Unacknowledged::Closed)),
        }
    }
}
