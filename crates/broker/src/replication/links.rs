//! What the links of a node share, and what the rest of the broker asks them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chronik_metadata::{KnownLeader, ReplicatedController, Role};
use chronik_model::{Generation, Instant, NodeId, Uuid};
use chronik_net::{Stream, TcpStream, TlsError, TlsFiles, dial, host_and_port, split_host_and_port};
use chronik_replication::link::{Secret, Time, Timing};
use chronik_replication::message::{Fenced, NONCE_BYTES};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::metrics::Metrics;
use super::peer::Peer;
use crate::clock::Clock;
use crate::replica::ReplicaHost;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After so long without a frame an end closes.
pub(super) const SILENCE: Duration = Duration::from_secs(60);
/// For so long after the end of its link a leader counts as one that can be reached: it may be dialling already.
const REACH_GRACE: Duration = Duration::from_millis(200);

/// A leader that is connected and not heard of for so many heartbeats cannot be reached.
const SILENT_HEARTBEATS: f64 = 2.5;

/// How a node replicates.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// The receivers to dial, `host:port` each.
    pub followers: Vec<String>,
    /// The shared secret.
    pub secret: Option<Secret>,
    /// Certificates; links are encrypted where there are any.
    pub tls: TlsFiles,
    /// `replication.heartbeat.interval.ms`.
    pub heartbeat: Duration,
    /// Where clients reach this node, `host:port`.
    pub advertised: Arc<str>,
    /// `broker.rack`.
    pub rack: Option<String>,
}

impl LinkSettings {
    /// Connects to a receiver.
    pub(super) async fn dial(&self, address: &str) -> Result<Stream, TlsError> {
        let stream = dial(address).await?;
        if self.tls.is_empty() {
            return Ok(Stream::Plain(stream));
        }
        let (host, _) = split_host_and_port(address).unwrap_or((address, 0));
        Ok(Stream::Tls(Box::new(self.tls.connect(host, stream).await?)))
    }

    /// Takes a connection that somebody made.
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<Stream, TlsError> {
        if self.tls.is_empty() {
            return Ok(Stream::Plain(stream));
        }
        match tokio::time::timeout(HANDSHAKE, self.tls.accept(stream)).await {
            Ok(accepted) => Ok(Stream::Tls(Box::new(accepted?))),
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }

    pub(super) fn timing(&self) -> Timing {
        Timing { handshake: HANDSHAKE, heartbeat: self.heartbeat, silence: SILENCE }
    }
}

/// The link on which this node follows.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    /// The connection.
    pub(super) session: u64,
    /// Who leads.
    pub(super) leader: Fenced,
}

/// The links of this node.
pub(crate) struct Links {
    pub(super) settings: LinkSettings,
    pub(super) cluster_id: Uuid,
    pub(super) replicas: Arc<ReplicaHost>,
    pub(super) controller: Arc<dyn ReplicatedController>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) bytes_appended: Arc<crate::metrics::Metrics>,
    sessions: AtomicU64,
    /// The link that was established last.
    pub(super) followed: watch::Sender<Option<Followed>>,
    reach: Mutex<Reach>,
    peers: Mutex<Peers>,
}

/// Whether the leader is heard of.
#[derive(Debug, Default)]
struct Reach {
    session: Option<u64>,
    /// When the connection was heard of last.
    heard: Instant,
    lost: Option<Instant>,
}

#[derive(Debug, Default)]
struct Peers {
    followers: BTreeMap<Arc<str>, Arc<Peer>>,
    leader: Option<Arc<Peer>>,
}

/// In which generation, and as whose, a node sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) generation: Generation,
    pub(super) leader_id: NodeId,
}

impl Links {
    pub(crate) fn new(
        settings: LinkSettings,
        replicas: Arc<ReplicaHost>,
        controller: Arc<dyn ReplicatedController>,
        clock: Clock,
        metrics: Arc<crate::metrics::Metrics>,
    ) -> Self {
        Self {
            settings,
            cluster_id: replicas.cluster_id(),
            replicas,
            controller,
            clock,
            metrics: Arc::clone(&metrics.replication),
            bytes_appended: metrics,
            sessions: AtomicU64::new(0),
            followed: watch::Sender::new(None),
            reach: Mutex::default(),
            peers: Mutex::default(),
        }
    }

    pub(super) fn node_id(&self) -> NodeId {
        self.replicas.node_id()
    }

    pub(super) fn time(&self) -> Time {
        Time { now: self.clock.now(), wall: self.clock.wall() }
    }

    /// A number that no other connection of this process has.
    pub(super) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// In which generation this node sends: as the leader, or what it has of one; `None` where it must not.
    pub(super) fn term(&self) -> Option<Term> {
        let image = self.controller.image();
        match &*self.controller.role() {
            Role::Leading if image.leader() == self.node_id() => {
                Some(Term { generation: image.generation(), leader_id: self.node_id() })
            }
            // Its metadata is that leader's already.
            Role::Following { leader: Some(leader) } if leader.generation == image.generation() => {
                Some(Term { generation: leader.generation, leader_id: leader.node_id })
            }
            _ => None,
        }
    }

    /// Who leads as far as this node knows, as others are told.
    pub(super) fn known_leader(&self) -> Fenced {
        let generation = self.controller.journal().generation;
        match &*self.controller.role() {
            Role::Leading => {
                Fenced { generation, leader_id: self.node_id(), advertised: Arc::clone(&self.settings.advertised) }
            }
            role => match role.leader_elsewhere() {
                Some(leader) => Fenced {
                    generation,
                    leader_id: leader.node_id,
                    advertised: host_and_port(&leader.host, leader.port).into(),
                },
                None => Fenced { generation, leader_id: NodeId::NONE, advertised: "".into() },
            },
        }
    }

    // ---- the leader -----------------------------------------------------------------------------------------------

    /// The leader is heard of on this connection.
    pub(super) fn reached(&self, session: u64) {
        *self.reach.lock() = Reach { session: Some(session), heard: self.clock.now(), lost: None };
    }

    /// The leader said something on this connection.
    pub(super) fn heard(&self, session: u64, at: Instant) {
        let mut reach = self.reach.lock();
        if reach.session == Some(session) {
            reach.heard = at;
        }
    }

    /// The connection is gone.
    pub(super) fn lost(&self, session: u64) {
        let mut reach = self.reach.lock();
        if reach.session == Some(session) {
            *reach = Reach { session: None, lost: Some(self.clock.now()), ..*reach };
        }
    }

    /// Whether the leader that this node follows can be reached, as far as is known.
    pub(crate) fn hears_leader(&self) -> bool {
        let reach = self.reach.lock();
        // A machine that is gone closes nothing.
        let patience = self.settings.heartbeat.mul_f64(SILENT_HEARTBEATS);
        let now = self.clock.now();
        reach.session.is_some_and(|_| now.saturating_since(reach.heard) < patience)
            || reach.lost.is_some_and(|lost| now.saturating_since(lost) < REACH_GRACE)
    }

    // ---- peers ----------------------------------------------------------------------------------------------------

    /// What is known of a follower at an address.
    pub(super) fn follower(&self, address: &Arc<str>) -> Arc<Peer> {
        let mut peers = self.peers.lock();
        Arc::clone(
            peers.followers.entry(Arc::clone(address)).or_insert_with(|| Arc::new(Peer::new(address, self.clock))),
        )
    }

    pub(super) fn followers(&self) -> Vec<Arc<Peer>> {
        self.peers.lock().followers.values().cloned().collect()
    }

    /// What is known of the node that sends here; another connection takes the place of the one before.
    pub(super) fn leader(&self, address: &str, node_id: NodeId) -> Arc<Peer> {
        let mut peers = self.peers.lock();
        let peer = Arc::new(Peer::new(address, self.clock));
        peer.met(node_id);
        if let Some(before) = &peers.leader {
            peer.succeed(before);
        }
        peers.leader = Some(Arc::clone(&peer));
        peer
    }

    pub(super) fn current_leader(&self) -> Option<Arc<Peer>> {
        self.peers.lock().leader.clone()
    }
}

/// A leader as the metadata keeps it.
pub(super) fn as_known(fenced: &Fenced) -> KnownLeader {
    let (host, port) = split_host_and_port(&fenced.advertised).unwrap_or(("", 0));
    KnownLeader { node_id: fenced.leader_id, generation: fenced.generation, host: host.into(), port }
}

/// Random bytes that are used once. Without them no link is opened.
pub(super) fn nonce() -> Result<[u8; NONCE_BYTES], getrandom::Error> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce)?;
    Ok(nonce)
}
