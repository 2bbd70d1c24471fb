//! Links to other nodes: this node sends its log to followers, or receives a leader's.
//!
//! What is said on a link is decided in `chronik-replication`; here it gets sockets, files, the metadata and time.

mod back_off;
mod links;
mod meeting;
mod metrics;
mod operator;
mod peer;
mod receiving;
mod replicated_lines;
mod sending;
mod status;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use chronik_net::Listener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use links::LinkSettings;
pub(crate) use links::Links;
pub use meeting::{Adopted, meet_first_leader};
pub(crate) use metrics::Metrics;
pub use operator::Promotion;
pub use status::{LeaderStatus, LinkStatus, PartitionStatus, PromotedPartition, PromotionAnswer, ReplicationStatus};

use crate::tasks::{self, Shutdown};

/// For so long a node that follows waits to hear of its leader.
const LEADER_PATIENCE: Duration = Duration::from_secs(1);
/// How often gauges that nobody pushes are read.
const GAUGE_INTERVAL: Duration = Duration::from_secs(10);

/// Starts the links: one to each follower, and those that leaders open to `receiver`. They end with the shutdown.
pub(crate) fn start(links: &Arc<Links>, receiver: Option<Listener>, shutdown: &Shutdown) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for address in &links.settings.followers {
        let sending = sending::keep_sending(Arc::clone(links), address.as_str().into(), shutdown.clone());
        tasks.push(tasks::spawn_awaited("link to a follower", sending));
    }
    if let Some(listener) = receiver {
        let receiving = receiving::keep_receiving(Arc::clone(links), listener, shutdown.clone());
        tasks.push(tasks::spawn_awaited("WAL receiver", receiving));
    }
    tasks::spawn_essential("replication gauges", keep_gauges(Arc::clone(links), shutdown.clone()));
    tasks::spawn_essential("serving without a leader", serve_without_leader(Arc::clone(links), shutdown.clone()));
    tasks
}

/// After a crash partitions serve nobody before their leader has said how far they are committed. Where it is not heard of,
/// they serve what they know.
async fn serve_without_leader(links: Arc<Links>, mut shutdown: Shutdown) {
    let mut silent_since = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LEADER_PATIENCE / 4) => {}
            () = shutdown.raised() => return,
        }
        if links.controller.role().leads() || links.hears_leader() {
            silent_since = Instant::now();
        } else if silent_since.elapsed() >= LEADER_PATIENCE {
            links.replicas.all().iter().filter(|p| !p.standing().is_readable).for_each(|p| p.serve_alone());
        }
    }
}

async fn keep_gauges(links: Arc<Links>, mut shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(GAUGE_INTERVAL) => links.read_gauges(),
            () = shutdown.raised() => return,
        }
    }
}
