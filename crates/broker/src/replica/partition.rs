//! One partition on this broker: the replica behind its lock, the read view beside it, and what waits for both.
//!
//! The lock is the replica's one owner at a time: the connection that appends runs the replica itself, so nothing is
//! handed from thread to thread between the socket and the file. No await happens under the lock.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use chronik_log::{AppendError, Appended, Checkpoint, FlushJob, Log, LogError, LogReader};
use chronik_model::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicPartition};
use chronik_record::ProducedBatch;
use chronik_replication::{Effect, Replica, Unacknowledged};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::flusher::FlushQueue;
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

/// A partition that this broker leads.
#[derive(Debug)]
pub(crate) struct Partition {
    name: TopicPartition,
    leader_epoch: LeaderEpoch,
    owned: Mutex<Owned>,
    reader: LogReader,
    waiters: Arc<Waiters>,
    settings: ArcSwap<PartitionSettings>,
    flush_queue: Arc<FlushQueue>,
    /// Listed in the flush queue and not yet taken out of it.
    flush_queued: AtomicBool,
}

#[derive(Debug)]
struct Owned {
    replica: Replica<Acknowledge>,
    /// Empty between inputs.
    effects: Vec<Effect<Acknowledge>>,
}

impl Partition {
    /// Leads the partition on its recovered and synced log.
    pub(crate) fn lead(
        name: TopicPartition,
        leader_epoch: LeaderEpoch,
        log: Log,
        settings: PartitionSettings,
        flush_queue: Arc<FlushQueue>,
    ) -> Arc<Self> {
        let reader = log.reader();
        let replica = Replica::lead(log, leader_epoch, settings.durability);
        Arc::new(Self {
            name,
            leader_epoch,
            owned: Mutex::new(Owned { replica, effects: Vec::new() }),
            reader,
            waiters: Arc::default(),
            settings: ArcSwap::from_pointee(settings),
            flush_queue,
            flush_queued: AtomicBool::new(false),
        })
    }

    pub(crate) fn name(&self) -> &TopicPartition {
        &self.name
    }

    pub(crate) fn index(&self) -> PartitionIndex {
        self.name.partition
    }

    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
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
    ) -> Result<(Appended, Committed), AppendError> {
        self.owned(|owned| {
            let appended = owned.replica.append(batch, now, &mut owned.effects)?;
            let committed = if wait { owned.await_committed(appended.next_offset) } else { Committed::Now };
            Ok((appended, committed))
        })
    }

    /// Tells when everything before `end` (exclusive) is committed.
    pub(crate) fn await_committed(self: &Arc<Self>, end: Offset) -> Committed {
        self.owned(|owned| owned.await_committed(end))
    }

    /// Registers a fetch that waits for this partition to grow.
    pub(crate) fn register(&self, waiter: &Waiter) -> Registration {
        Waiters::register(&self.waiters, waiter)
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
            owned.replica.reconfigure(settings.log.clone(), settings.durability, &mut owned.effects);
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

    /// Whether the replica has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.owned.lock().replica.is_closed()
    }

    /// The work that makes everything written so far durable.
    pub(super) fn take_flush_job(&self) -> Option<FlushJob> {
        // Cleared before the job is cut: an append in between is listed again rather than forgotten.
        self.flush_queued.store(false, Ordering::SeqCst);
        self.owned.lock().replica.flush_job()
    }

    /// The outcome of that work.
    pub(super) fn flushed(self: &Arc<Self>, job: FlushJob, outcome: io::Result<()>) {
        // A deleted topic's files are gone before a sync that was under way.
        if let Err(error) = outcome.as_ref()
            && !self.is_closed()
        {
            tracing::error!(partition = %self.name, %error, "sync failed, the partition is offline until a restart");
        }
        self.owned(|owned| owned.replica.flushed(job, outcome, &mut owned.effects));
    }

    /// From where recovery has to look. What it counts as flushed is flushed.
    pub(super) fn checkpoint(self: &Arc<Self>) -> Result<Checkpoint, LogError> {
        self.with_log(|log| log.checkpoint())
    }

    /// Runs an input of the replica, then carries out its effects without the lock.
    fn owned<R>(self: &Arc<Self>, input: impl FnOnce(&mut Owned) -> R) -> R {
        let mut owned = self.owned.lock();
        let result = input(&mut owned);
        if owned.effects.is_empty() {
            return result;
        }
        let effects = std::mem::take(&mut owned.effects);
        drop(owned);
        for effect in effects {
            match effect {
                // A receiver that is gone belongs to a connection that is gone.
                Effect::Acknowledged(token) => drop(token.send(Ok(()))),
                Effect::Refused(token, cause) => drop(token.send(Err(cause))),
                Effect::HighWatermarkMoved(_) => self.waiters.wake(),
                Effect::FlushWanted => {
                    if !self.flush_queued.swap(true, Ordering::SeqCst) {
                        self.flush_queue.push(Arc::clone(self));
                    }
                }
            }
        }
        result
    }
}

impl Owned {
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
