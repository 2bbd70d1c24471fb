//! The HTTP side door as the node holds it open: what it says while the node starts, runs and stops.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chronik_broker::Operator;
use chronik_broker::replication::{Promotion, ReplicationStatus};
use chronik_console::{Console, Readiness, Reply, State};
use prometheus_client::registry::Registry;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tracing::error;

/// The console while it runs.
pub(crate) struct Door {
    stop: oneshot::Sender<()>,
    serving: Option<JoinHandle<io::Result<()>>>,
    readiness: watch::Sender<Readiness>,
    operator: Arc<OnceLock<Operator>>,
}

impl Door {
    /// Serves metrics and health from here on; the node is not ready yet. A follower that lags more than `lag_max` is not ready
    /// either.
    pub(crate) fn open(console: Option<Console>, registry: Registry, lag_max: Option<Duration>) -> Self {
        let (readiness, current) = watch::channel(Readiness::NotReady("starting".to_owned()));
        let (stop, stopped) = oneshot::channel();
        let operator: Arc<OnceLock<Operator>> = Arc::default();
        let state = State {
            readiness: {
                let (current, operator) = (current.clone(), Arc::clone(&operator));
                Arc::new(move || match (&*current.borrow(), lag_max, operator.get()) {
                    (Readiness::Ready, Some(lag_max), Some(operator)) => keeps_up(&operator.replication(), lag_max),
                    (readiness, ..) => readiness.clone(),
                })
            },
            metrics: Arc::new(registry),
            replication: {
                let (current, operator) = (current.clone(), Arc::clone(&operator));
                Arc::new(move || match (&*current.borrow(), operator.get()) {
                    (Readiness::Ready, Some(operator)) => json(200, &operator.replication()),
                    (Readiness::NotReady(why), _) => Reply::error(503, why),
                    (Readiness::Ready, None) => Reply::error(503, "starting"),
                })
            },
            promote: {
                let operator = Arc::clone(&operator);
                Arc::new(move |asked| {
                    let (current, operator) = (current.borrow().clone(), operator.get().cloned());
                    Box::pin(async move {
                        match (current, operator) {
                            (Readiness::Ready, Some(operator)) => promote(&operator, asked).await,
                            (Readiness::NotReady(why), _) => Reply::error(503, &why),
                            (Readiness::Ready, None) => Reply::error(503, "starting"),
                        }
                    })
                })
            },
        };
        let serving = console.map(|console| {
            tokio::spawn(console.serve(state, async {
                // That nobody can ask for the stop any more is a stop as well.
                let _ = stopped.await;
            }))
        });
        Self { stop, serving, readiness, operator }
    }

    /// The node is not ready, for this reason.
    pub(crate) fn not_ready(&self, why: impl Into<String>) {
        self.readiness.send_replace(Readiness::NotReady(why.into()));
    }

    /// The node serves clients, and operators through `operator`.
    pub(crate) fn ready(&self, operator: Operator) {
        // Set once, at the end of the start.
        let _ = self.operator.set(operator);
        self.readiness.send_replace(Readiness::Ready);
    }

    pub(crate) async fn close(self) {
        drop(self.stop);
        if let Some(serving) = self.serving {
            match serving.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => error!(%error, "console failed"),
                Err(error) => error!(%error, "console's task failed"),
            }
        }
    }
}

/// A link that has stood for so long and brought no partition has none to bring.
const SETTLED_MS: u64 = 1000;

/// Whether a follower has what its leader had a short while ago.
fn keeps_up(status: &ReplicationStatus, lag_max: Duration) -> Readiness {
    if status.role != "follower" {
        return Readiness::Ready;
    }
    let open = status.receiver.as_ref().filter(|link| matches!(link.state.as_str(), "streaming" | "catching up"));
    let Some(link) = open else { return Readiness::NotReady("the leader is not connected".to_owned()) };
    let Some(lag) = link.lag_ms else {
        // Without partitions there is nothing to lag with.
        return match link.partitions.is_empty() && status.generation > 0 && link.state_ms > SETTLED_MS {
            true => Readiness::Ready,
            false => Readiness::NotReady("it is not known how far behind the leader this is".to_owned()),
        };
    };
    match u128::from(lag) <= lag_max.as_millis() {
        true => Readiness::Ready,
        false => Readiness::NotReady(format!("{} records and {lag} ms behind the leader", link.lag_records)),
    }
}

async fn promote(operator: &Operator, asked: chronik_console::Promotion) -> Reply {
    let chronik_console::Promotion { require_caught_up, dry_run, accept_damage } = asked;
    let answer = operator.promote(Promotion { require_caught_up, dry_run, accept_damage }).await;
    let status = if answer.promoted || (answer.dry_run && answer.refused.is_none()) { 200 } else { 409 };
    json(status, &answer)
}

fn json(status: u16, body: &impl serde::Serialize) -> Reply {
    match serde_json::to_vec(body) {
        Ok(body) => Reply { status, body },
        Err(error) => Reply::error(500, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use chronik_broker::replication::LinkStatus;

    use super::*;

    #[test]
    fn a_follower_is_ready_while_it_keeps_up_and_a_leader_always() {
        let second = Duration::from_secs(1);
        let link = |state: &str, lag_ms| LinkStatus {
            state: state.to_owned(),
            lag_ms: Some(lag_ms),
            lag_records: 7,
            ..LinkStatus::default()
        };
        let status = |role: &str, receiver| ReplicationStatus {
            role: role.to_owned(),
            receiver,
            ..ReplicationStatus::default()
        };
        assert_eq!(keeps_up(&status("leader", None), second), Readiness::Ready);
        assert_eq!(keeps_up(&status("follower", Some(link("streaming", 0))), second), Readiness::Ready);
        assert_eq!(keeps_up(&status("follower", Some(link("catching up", 1000))), second), Readiness::Ready);
        for (receiver, why) in [
            (Some(link("catching up", 1001)), "7 records and 1001 ms behind the leader"),
            (Some(link("waiting", 0)), "the leader is not connected"),
            (None, "the leader is not connected"),
        ] {
            assert_eq!(keeps_up(&status("follower", receiver), second), Readiness::NotReady(why.to_owned()));
        }
    }
}
