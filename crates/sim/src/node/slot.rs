//! One replica in its shell: the core, its group commit, and what an observer sees of it.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_log::FlushJob;
use chronik_model::{LeaderEpoch, NodeId, Offset, PartitionIndex};
use chronik_replication::Replica;
use chronik_replication::message::TopicIdPartition;

use super::Context;
use super::group_commit::GroupCommit;
use crate::sight::{Role, Sight};
use crate::world::Event;

/// One replica.
#[derive(Debug)]
pub struct Slot {
    /// The partition.
    pub id: TopicIdPartition,
    /// The core. Its tokens are those of the clients.
    pub replica: Replica<u64>,
    /// The sync that is under way.
    job: Option<FlushJob>,
    /// The epoch of the leader whose data or bounds it took last.
    pub(super) heard: LeaderEpoch,
    /// M8: it does not hear of high watermarks any more.
    pub(super) deaf: bool,
    /// M4: epochs that a cut has left.
    pub(super) left: Vec<(LeaderEpoch, Offset)>,
    /// M6: it got data in this run.
    pub(super) fetched: bool,
}

impl Slot {
    pub(super) fn new(id: TopicIdPartition, replica: Replica<u64>) -> Self {
        let latest = replica.log().leader_epochs().latest().unwrap_or(LeaderEpoch::NONE);
        let heard = if replica.leads() { replica.leader_epoch() } else { latest };
        Self { id, replica, job: None, heard, deaf: false, left: Vec::new(), fetched: false }
    }

    /// The partition's number.
    pub fn partition(&self) -> PartitionIndex {
        self.id.partition
    }

    /// Begins a sync, unless one is under way or nothing is to be synced.
    pub(super) fn begin_flush(&mut self, node: NodeId, run: u32, cx: &mut Context<'_>) {
        if self.job.is_none() {
            self.job = self.replica.flush_job();
            if self.job.is_some() {
                let delay = Duration::from_micros(cx.random.between(50, 50 + cx.plan.sync_ms * 1_000));
                cx.schedule.after(delay, Event::Flushed { node, run, partition: self.id.partition });
            }
        }
    }

    /// Ends the sync that is under way: the disk is asked at its end, so that a fault hits it then.
    pub(super) fn end_flush(
        &mut self,
        retried: bool,
        commits: &mut GroupCommit,
        effects: &mut Vec<chronik_replication::Effect<u64>>,
    ) {
        if let Some(job) = self.job.take() {
            if let Some(outcome) = commits.commit(&self.replica, &job) {
                return self.replica.flushed(job.journaled(), outcome, effects);
            }
            let mut outcome = job.run();
            if retried && outcome.is_err() {
                outcome = job.run();
            }
            self.replica.flushed(job, outcome, effects);
        }
    }

    /// What an observer sees.
    pub fn sight(&self, node: NodeId, run: u32, generations: &BTreeMap<LeaderEpoch, u64>, serves: bool) -> Sight {
        let log = self.replica.log();
        let of = |leader_epoch| generations.get(&leader_epoch).copied().unwrap_or(0);
        let role = match (serves && self.replica.is_readable(), self.replica.leads()) {
            (true, true) => Role::Leader,
            (true, false) => Role::Follower,
            _ => Role::Nobody,
        };
        Sight {
            node,
            run,
            role,
            generation: of(self.replica.leader_epoch()),
            // A leader that has started again since may have lost, and written anew, what was heard of it.
            heard: match generations.range(self.heard..).nth(1) {
                Some((_, next)) if *next == of(self.heard) => 0,
                _ => of(self.heard),
            },
            leader_epoch: self.replica.leader_epoch(),
            log_start: log.log_start(),
            high_watermark: self.replica.high_watermark(),
            durable_end: log.durable_end(),
            log_end: log.log_end(),
        }
    }
}
