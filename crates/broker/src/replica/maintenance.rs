//! What keeps partitions in bounds: checkpoints, retention, expiry of producers, deletion of removed topics.

use std::sync::Arc;
use std::time::Duration;

use chronik_metadata::{Command, ControllerClient};
use tokio::time::{Instant, MissedTickBehavior};

use super::host::ReplicaHost;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::tasks::Shutdown;

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(500);
/// A crash has at most about this much to verify.
const CHECKPOINT_BYTES: u64 = 256 * 1024 * 1024;
/// With fewer bytes a checkpoint still comes this often.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(30);
/// Pause before the deletion of files that failed is tried again.
const DELETION_RETRY: Duration = Duration::from_secs(10);

/// Runs retention and checkpoints until the shutdown.
pub(crate) async fn keep(host: Arc<ReplicaHost>, clock: Clock, metrics: Arc<Metrics>, mut shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut checkpointed = Instant::now();
    let mut retained = Instant::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.raised() => return,
        }
        let written = metrics.uncheckpointed_bytes();
        let mut changed = false;
        if retained.elapsed() >= host.settings().log_retention_check_interval {
            retained = Instant::now();
            let (host, metrics) = (Arc::clone(&host), Arc::clone(&metrics));
            changed = blocking("retention", move || retain(&host, clock, &metrics)).await.unwrap_or(false);
        }
        let due = written >= CHECKPOINT_BYTES || (written > 0 && checkpointed.elapsed() >= CHECKPOINT_INTERVAL);
        if due || changed {
            checkpointed = Instant::now();
            let host = Arc::clone(&host);
            let written = blocking("checkpoint", move || host.write_checkpoint()).await;
            if let Some(Err(error)) = written {
                tracing::error!(%error, "checkpoint cannot be written, a crash would take longer to recover from");
            }
        }
    }
}

async fn blocking<T: Send + 'static>(what: &'static str, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Some(result),
        Err(error) => {
            tracing::error!(task = what, %error, "maintenance failed");
            None
        }
    }
}

/// Applies retention everywhere; true when something was deleted.
fn retain(host: &ReplicaHost, clock: Clock, metrics: &Metrics) -> bool {
    let now = clock.wall();
    let (mut deleted, mut bytes, mut offline) = (0, 0, 0);
    for partition in host.all() {
        if partition.is_closed() {
            continue;
        }
        partition.with_log(|log| log.expire_producers(now));
        let outcome = partition.apply_retention(now);
        partition.with_log(|log| {
            bytes += log.size_bytes();
            offline += i64::from(log.offline().is_some());
        });
        match outcome {
            Ok(segments) => {
                for segment in &segments {
                    tracing::info!(partition = %partition.name(), segment = %segment.base_offset, bytes = segment.size_bytes, "segment deleted by retention");
                }
                deleted += segments.len();
            }
            // Its topic was deleted meanwhile.
            Err(_) if partition.is_closed() => {}
            Err(error) => tracing::error!(partition = %partition.name(), %error, "retention failed"),
        }
    }
    metrics.segments_deleted.inc_by(deleted as u64);
    metrics.log_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    metrics.partitions_offline.set(offline);
    deleted > 0
}

/// Deletes the files of removed topics, and tells the controller when they are gone.
pub(crate) async fn delete_removed(
    host: Arc<ReplicaHost>,
    controller: Arc<dyn ControllerClient>,
    mut shutdown: Shutdown,
) {
    loop {
        let pending: Vec<_> = controller.image().deletions_pending().cloned().collect();
        let mut failed = false;
        for removed in pending {
            let (host, id) = (Arc::clone(&host), removed.id);
            match blocking("deletion", move || host.delete_files(id)).await {
                // The leader's to record; here the files are gone.
                Some(Ok(true)) if !controller.role().leads() => {}
                Some(Ok(true)) => match controller.submit(Command::TopicDeleted { id }).await {
                    Ok(_) => tracing::info!(topic = %removed.name, %id, "files of the deleted topic are gone"),
                    Err(error) => {
                        tracing::warn!(topic = %removed.name, %error, "deletion cannot be recorded");
                        failed = true;
                    }
                },
                // Said when it could not be set aside; the next start tries again.
                Some(Ok(false)) => {}
                Some(Err(error)) => {
                    tracing::error!(topic = %removed.name, %error, "files of a deleted topic cannot be removed");
                    failed = true;
                }
                None => failed = true,
            }
        }
        tokio::select! {
            () = host.removed.notified() => {}
            () = tokio::time::sleep(DELETION_RETRY), if failed => {}
            () = shutdown.raised() => return,
        }
    }
}
