//! The first meeting: a node that has no cluster yet takes that of the first leader that dials, and a number where it has
//! none. Nothing else is taken: the leader dials again when the node has its data directory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chronik_model::{Generation, Instant, NodeId, Uuid};
use chronik_net::{Listener, TcpStream, WriteError};
use chronik_replication::link::Reason;
use chronik_replication::link::receiver::{Config, Effect, Input, Receiver};
use chronik_replication::message::JournalPosition;
use tokio::task::JoinSet;

use super::links::{LinkSettings, nonce};
use super::sending::at;
use super::wire::{Turn, Wire};
use crate::clock::Clock;

/// Leaders that may introduce themselves at a time.
const AT_A_TIME_MAX: usize = 16;
/// Pause while so many do.
const BUSY: Duration = Duration::from_millis(100);

/// What a node is from its first meeting on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The cluster.
    pub cluster_id: Uuid,
    /// The node's number.
    pub node_id: NodeId,
}

/// Waits for the first leader. `node_id` is the node's number, where somebody gave it one.
pub async fn meet_first_leader(
    listener: &Listener,
    node_id: Option<NodeId>,
    settings: &LinkSettings,
    clock: Clock,
) -> Adopted {
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if handshakes.len() < AT_A_TIME_MAX => {
                tracing::info!("WAL receiver: Accepted connection from {}", accepted.peer);
                let (settings, permit) = (settings.clone(), accepted.permit);
                handshakes.spawn(async move {
                    let adopted = shake_hands(accepted.stream, node_id, &settings, clock).await;
                    tracing::info!("WAL receiver connection from {} closed", accepted.peer);
                    drop(permit);
                    adopted
                });
            }
            Some(ended) = handshakes.join_next(), if !handshakes.is_empty() => match ended {
                Ok(Some(adopted)) => return adopted,
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "a link's task failed"),
            },
            () = tokio::time::sleep(BUSY), if handshakes.len() >= AT_A_TIME_MAX => {}
        }
    }
}

async fn shake_hands(
    stream: TcpStream,
    node_id: Option<NodeId>,
    settings: &LinkSettings,
    clock: Clock,
) -> Option<Adopted> {
    let accepted = settings.accept(stream).await;
    let stream = accepted
        .inspect_err(|error| tracing::warn!(%error, "a connection to the WAL receiver is not encrypted as it must be"))
        .ok()?;
    let nonce = nonce().inspect_err(|_| tracing::error!("the system gives no random numbers")).ok()?;
    let mut core = Receiver::new(Config {
        cluster_id: None,
        node_id: node_id.unwrap_or(NodeId::NONE),
        generation: Generation::ZERO,
        leader_id: NodeId::NONE,
        leader_advertised: "".into(),
        leads: false,
        advertised: Arc::clone(&settings.advertised),
        rack: settings.rack.as_deref().unwrap_or_default().into(),
        secret: settings.secret.clone(),
        timing: settings.timing(),
        journal: JournalPosition::default(),
    });
    let mut wire = Wire::new(stream);
    let mut inputs = VecDeque::from([Input::Connected { nonce }]);
    let mut adopted = None;
    let mut effects = Vec::new();
    loop {
        while let Some(input) = inputs.pop_front() {
            let time = chronik_replication::link::Time { now: clock.now(), wall: clock.wall() };
            core.handle(input, time, &mut effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Send(frame) => wire.send(&frame),
                    Effect::Adopt { cluster_id, node_id } => {
                        adopted = Some(Adopted { cluster_id, node_id });
                        inputs.push_back(Input::Close(Reason::Closing));
                    }
                    Effect::Close { reason, detail, .. } => {
                        if adopted.is_none() {
                            tracing::warn!(%reason, %detail, "a leader introduced itself and is not followed");
                        }
                        wire.close().await;
                        return adopted;
                    }
                    // What comes before the connection is closed is not looked at: it is sent again.
                    _ => {}
                }
            }
        }
        let deadline = core.deadline().map(|at: Instant| clock.deadline(at));
        let input = tokio::select! {
            turn = wire.turn() => arrived(turn, &mut wire),
            () = at(deadline) => vec![Input::Tick],
        };
        inputs.extend(input);
    }
}

fn arrived(turn: Result<Turn, WriteError>, wire: &mut Wire) -> Vec<Input> {
    match turn {
        Ok(Turn::Written) => Vec::new(),
        Ok(Turn::Received) => {
            let mut inputs = Vec::new();
            loop {
                match wire.next_frame() {
                    Ok(Some(frame)) => inputs.push(Input::Frame(frame)),
                    Ok(None) => return inputs,
                    Err(error) => {
                        inputs.push(Input::Malformed(error));
                        return inputs;
                    }
                }
            }
        }
        Ok(Turn::Ended) | Err(_) => vec![Input::Disconnected],
    }
}
