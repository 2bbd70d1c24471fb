//! What keeps partitions in bounds: checkpoints, retention, expiry of producers, deletion of removed topics.

use std::sync::Arc;
use std::time::Duration;

use chronik_metadata::{Command, ControllerClient};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::host::ReplicaHost;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::tasks::Shutdown;

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(500);
/// After the end of the process there is at most about this much to verify.
const CHECKPOINT_BYTES: u64 = 256 * 1024 * 1024;
/// With fewer bytes a checkpoint still comes this often.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(30);
/// After a power cut there is about this much to verify in the logs that do not wait for syncs. A sync of all that is written
/// shares the disk with whoever writes more, so it comes seldom.
const SYNC_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// With fewer bytes that sync still comes this often.
const SYNC_INTERVAL: Duration = Duration::from_secs(300);
/// Pause before the deletion of files that failed is tried again.
const DELETION_RETRY: Duration = Duration::from_secs(10);

/// Runs retention and checkpoints until the shutdown.
pub(crate) async fn keep(host: Arc<ReplicaHost>, clock: Clock, metrics: Arc<Metrics>, mut shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut checkpointed = Instant::now();
    let mut retained = Instant::now();
    let mut synced = Instant::now();
    // What the process before left unsynced is not counted.
    let mut unsynced = u64::from(host.knows_page_cache());
    let mut syncing: Option<JoinHandle<()>> = None;
    let mut sync_wanted = false;
    // What the start has found in the page cache holds for the next one as well.
    let mut begun = !host.leaves_some_unsynced();
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
        sync_wanted |= changed || unsynced >= SYNC_BYTES || (unsynced > 0 && synced.elapsed() >= SYNC_INTERVAL);
        sync_wanted |= due && !host.knows_page_cache();
        if sync_wanted && syncing.is_none() {
            (synced, unsynced, sync_wanted) = (Instant::now(), 0, false);
            let host = Arc::clone(&host);
            syncing = Some(tokio::task::spawn_blocking(move || host.sync_unsynced()));
        }
        let sync_ended = match syncing.take_if(|syncing| syncing.is_finished()) {
            Some(ended) => ended.await.inspect_err(|error| tracing::error!(%error, "sync failed")).is_ok(),
            None => false,
        };
        if !(due || sync_ended || !begun) {
            continue;
        }
        begun = true;
        checkpointed = Instant::now();
        let host = Arc::clone(&host);
        match blocking("checkpoint", move || host.write_checkpoints()).await {
            Some(Ok(covered)) => unsynced += covered,
            Some(Err(error)) => {
                tracing::error!(%error, "checkpoint cannot be written, a crash would take longer to recover from");
            }
            None => {}
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
        if pending.is_empty() {
            // A follower may hear of a removal and that it is over at once.
            let host = Arc::clone(&host);
            if let Some(Err(error)) = blocking("deletion", move || host.remove_leftovers()).await {
                tracing::error!(%error, "files of deleted topics cannot be removed");
                failed = true;
            }
        }
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
