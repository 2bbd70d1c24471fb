//! Carries changes of ISRs from the replicas that propose them to the controller, many in one command, and lets time pass
//! in replicas that have followers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chronik_metadata::{AlteredIsr, Command, ControllerClient, ControllerError, IsrChange, Outcome, ReplicationMode};
use chronik_model::NodeId;
use chronik_replication::isr::Proposal;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::host::ReplicaHost;
use super::partition::Partition;
use crate::clock::Clock;
use crate::tasks::Shutdown;

/// Changes asked for in one command.
const CHANGES_MAX: usize = 1000;
/// Pause after the controller could not decide.
const RETRY: Duration = Duration::from_millis(200);
/// Replicas look at the clock at least this often for each `replica.lag.time.max.ms`.
const LOOKS_PER_LAG_TIME: u32 = 4;
/// Replicas look at the clock no more often than this.
const LOOK_MIN: Duration = Duration::from_millis(50);

/// Proposals that wait for the controller; one of each replica at the most.
#[derive(Debug, Default)]
pub(crate) struct IsrQueue {
    proposals: Mutex<VecDeque<(Arc<Partition>, Proposal)>>,
    wake: Notify,
}

impl IsrQueue {
    pub(super) fn push(&self, partition: Arc<Partition>, proposal: Proposal) {
        self.proposals.lock().push_back((partition, proposal));
        self.wake.notify_one();
    }

    fn take(&self) -> Vec<(Arc<Partition>, Proposal)> {
        let mut proposals = self.proposals.lock();
        let count = proposals.len().min(CHANGES_MAX);
        proposals.drain(..count).collect()
    }
}

/// Asks the controller for what replicas propose, until the shutdown.
pub(crate) async fn propose(
    queue: Arc<IsrQueue>,
    controller: Arc<dyn ControllerClient>,
    node_id: NodeId,
    clock: Clock,
    mut shutdown: Shutdown,
) {
    loop {
        let asked = queue.take();
        if asked.is_empty() {
            tokio::select! {
                () = queue.wake.notified() => continue,
                () = shutdown.raised() => return,
            }
        }
        let changes = asked
            .iter()
            .map(|(partition, proposal)| IsrChange {
                topic_id: partition.id().topic_id,
                partition: partition.id().partition,
                isr: proposal.isr.clone(),
                leader_epoch: proposal.leader_epoch,
                partition_epoch: proposal.partition_epoch,
            })
            .collect();
        match controller.submit(Command::AlterIsr { node_id, changes }).await {
            Ok(Outcome::IsrAltered(results)) => {
                for ((partition, proposal), altered) in asked.into_iter().zip(results) {
                    told(&partition, &proposal, altered, clock);
                }
            }
            // The replicas step down, or the process stops: nobody decides on these any more.
            Err(ControllerError::NotLeader { .. } | ControllerError::Stopped) => {}
            // Whether it is committed is not known: the same is asked again.
            outcome => {
                tracing::warn!(?outcome, "changes of in-sync replicas cannot be decided, asked again");
                asked.into_iter().for_each(|(partition, proposal)| queue.push(partition, proposal));
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = shutdown.raised() => return,
                }
            }
        }
    }
}

fn told(partition: &Arc<Partition>, proposal: &Proposal, altered: AlteredIsr, clock: Clock) {
    match altered.result {
        // The replica has it from the image, which came before the answer.
        Ok(now) if now.partition_epoch > proposal.partition_epoch => {
            let isr: Vec<i32> = now.isr.iter().map(|node| node.get()).collect();
            tracing::info!(partition = %partition.name(), ?isr, "in-sync replicas changed");
        }
        Ok(_) => partition.isr_refused(proposal.partition_epoch, clock.now()),
        Err(error) => {
            tracing::debug!(partition = %partition.name(), %error, "change of in-sync replicas refused");
            partition.isr_refused(proposal.partition_epoch, clock.now());
        }
    }
}

/// Lets time pass in the replicas that this node leads, so that followers that lag leave the ISR, until the shutdown.
pub(crate) async fn keep_time(
    host: Arc<ReplicaHost>,
    controller: Arc<dyn ControllerClient>,
    clock: Clock,
    mut shutdown: Shutdown,
) {
    loop {
        let pause = (host.settings().replica_lag_time_max / LOOKS_PER_LAG_TIME).max(LOOK_MIN);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.raised() => return,
        }
        if controller.image().mode() == ReplicationMode::Sync && controller.role().leads() {
            let now = clock.now();
            host.all().iter().for_each(|partition| partition.tick(now));
        }
    }
}
