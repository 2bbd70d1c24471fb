//! The end of a link that follows: accepts whoever dials, and carries out what the receiver core asks for.
//!
//! Frames are taken in the order they came, each carried out before the next: metadata is durable and applied before a
//! partition that needs it is attached. Nothing is read from the socket meanwhile, which is the back-pressure.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use chronik_metadata::{FollowError as MetadataError, JournalBatches, Role, SnapshotPart};
use chronik_model::{Generation, NodeId, Offset};
use chronik_net::{ConnectionPermit, Listener, TcpStream};
use chronik_replication::frame::Limits;
use chronik_replication::link::Reason;
use chronik_replication::link::receiver::{Config, Effect, Input, Receiver};
use chronik_replication::message::{
    AppendHead, Attached, Fenced, JournalPosition, MetadataDelta, MetadataSnapshot, TopicIdPartition,
};
use chronik_replication::{FollowError, Position};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::links::{Followed, Links, as_known, nonce};
use super::peer::{Peer, State};
use super::replicated_lines::ReplicatedLines;
use super::sending::at;
use super::wire::{Turn, Wire};
use crate::replica::{Partition, Subscription};
use crate::tasks::{self, Shutdown};

/// Bytes of batches that one append frame may hold: what a leader sends at once, or one batch that is larger.
pub(super) const PAYLOAD_BYTES_MAX: u32 = 128 << 20;
/// Flushed partitions that are looked at before the socket is again.
const MOVED_MAX: usize = 1024;

/// Accepts leaders until the shutdown.
pub(super) async fn keep_receiving(links: Arc<Links>, listener: Listener, mut shutdown: Shutdown) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let serve = serve(Arc::clone(&links), accepted.stream, accepted.peer, accepted.permit, shutdown.clone());
                connections.spawn(serve);
            }
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a link's task failed");
                }
            }
            () = shutdown.raised() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A connection while it stands.
struct Link {
    links: Arc<Links>,
    address: SocketAddr,
    peer: Option<Arc<Peer>>,
    session: u64,
    core: Receiver,
    wire: Wire,
    subscription: Option<Subscription>,
    inputs: VecDeque<Input>,
    lines: ReplicatedLines,
    /// The generation that the link was established in.
    generation: Option<Generation>,
    is_over: bool,
}

async fn serve(
    links: Arc<Links>,
    stream: TcpStream,
    address: SocketAddr,
    permit: ConnectionPermit,
    mut shutdown: Shutdown,
) {
    tracing::info!("WAL receiver: Accepted connection from {address}");
    let accepted = tokio::select! {
        accepted = links.settings.accept(stream) => accepted,
        () = shutdown.raised() => return,
    };
    let stream = match accepted {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(peer = %address, %error, "a connection to the WAL receiver is not encrypted as it must be");
            links.metrics.rejected(Reason::NotAuthenticated);
            tracing::info!("WAL receiver connection from {address} closed");
            return;
        }
    };
    let Ok(nonce) = nonce() else {
        tracing::error!("the system gives no random numbers, no link is accepted");
        return;
    };
    let (known, status) = (links.known_leader(), links.controller.journal());
    let core = Receiver::new(Config {
        cluster_id: Some(links.cluster_id),
        node_id: links.node_id(),
        generation: known.generation,
        leader_id: known.leader_id,
        leader_advertised: known.advertised,
        leads: links.controller.role().leads(),
        advertised: Arc::clone(&links.settings.advertised),
        rack: links.settings.rack.as_deref().unwrap_or_default().into(),
        secret: links.settings.secret.clone(),
        timing: links.settings.timing(),
        journal: JournalPosition { end: status.position.end, generations: status.position.generations.clone() },
    });
    let mut link = Link {
        session: links.next_session(),
        links,
        address,
        peer: None,
        core,
        wire: Wire::new(stream),
        subscription: None,
        inputs: VecDeque::from([Input::Connected { nonce }]),
        lines: ReplicatedLines::default(),
        generation: None,
        is_over: false,
    };
    link.keep(&mut shutdown).await;
    link.links.lost(link.session);
    if let Some(peer) = &link.peer {
        peer.counted(link.wire.sent_bytes(), link.wire.received_bytes(), link.links.clock.now());
        peer.entered(State::Waiting);
    }
    link.wire.close().await;
    tracing::info!("WAL receiver connection from {address} closed");
    drop(permit);
}

impl Link {
    async fn keep(&mut self, shutdown: &mut Shutdown) {
        let mut role = self.links.replicas.role();
        let mut followed = self.links.followed.subscribe();
        loop {
            self.work_off().await;
            if self.is_over {
                return;
            }
            if let Some(peer) = &self.peer {
                peer.counted(self.wire.sent_bytes(), self.wire.received_bytes(), self.core.last_heard());
                self.links.heard(self.session, self.core.last_heard());
            }
            let clock = self.links.clock;
            let deadline = self.core.deadline().map(|at| clock.deadline(at));
            let lines = self.lines.deadline(clock.now()).map(|at| clock.deadline(at));
            tokio::select! {
                turn = self.wire.turn() => match turn {
                    Ok(Turn::Received) => self.core.heard(clock.now()),
                    Ok(Turn::Written) => continue,
                    Ok(Turn::Ended) => {
                        if let Err(error) = self.wire.end() {
                            self.inputs.push_back(Input::Malformed(error));
                        }
                        self.inputs.push_back(Input::Disconnected);
                    }
                    Err(_) => self.inputs.push_back(Input::Disconnected),
                },
                () = moved(self.subscription.as_ref()) => self.look_at_moved(),
                changed = role.changed() => self.role_changed(changed.is_ok()),
                changed = followed.changed() => self.other_followed(changed.is_ok(), &followed),
                () = at(deadline) => self.inputs.push_back(Input::Tick),
                () = at(lines) => self.write_lines(),
                () = shutdown.raised() => self.inputs.push_back(Input::Close(Reason::Closing)),
            }
        }
    }

    fn write_lines(&mut self) {
        let replicas = &self.links.replicas;
        let name = |id: TopicIdPartition| {
            replicas.find(id).map_or_else(|| id.to_string(), |partition| partition.name().to_string())
        };
        for line in self.lines.due(self.links.clock.now(), name) {
            tracing::info!("{line}");
        }
    }

    /// The node was promoted, or somebody else leads.
    fn role_changed(&mut self, is_known: bool) {
        if !is_known {
            self.inputs.push_back(Input::Close(Reason::Closing));
        } else if matches!(*self.links.controller.role(), Role::Following { .. }) {
            // Perhaps of a later leader than this link's.
            self.inputs.push_back(Input::Generation(self.links.known_leader()));
        } else {
            self.inputs.push_back(Input::Promoted(self.links.known_leader()));
        }
    }

    /// Another connection was established: of a later leader, or a newer one of the same.
    fn other_followed(&mut self, is_known: bool, followed: &watch::Receiver<Option<Followed>>) {
        let other = followed.borrow().clone().filter(|other| is_known && other.session != self.session);
        let Some(other) = other else { return };
        self.inputs.push_back(Input::Generation(other.leader));
        if self.generation.is_some() {
            self.inputs.push_back(Input::Close(Reason::Replaced));
        }
    }

    /// Tells the core what has become durable.
    fn look_at_moved(&mut self) {
        let Some(subscription) = &self.subscription else { return };
        for _ in 0..MOVED_MAX {
            let Some(partition) = subscription.next() else {
                self.inputs.push_back(Input::Settled);
                return;
            };
            self.inputs.push_back(advanced(&partition));
        }
        self.inputs.push_back(Input::Settled);
        subscription.again();
    }

    /// Gives the core everything that waits for it and all frames that came, and carries out what follows.
    async fn work_off(&mut self) {
        let mut effects = Vec::new();
        let mut frames = false;
        while !self.is_over {
            let input = match self.inputs.pop_front() {
                Some(input) => input,
                None => match self.wire.next_frame() {
                    Ok(Some(frame)) => {
                        self.links.metrics.frames_received.inc();
                        frames = true;
                        Input::Frame(frame)
                    }
                    Ok(None) if frames => {
                        frames = false;
                        Input::Settled
                    }
                    Ok(None) => return,
                    Err(error) => Input::Malformed(error),
                },
            };
            self.core.handle(input, self.links.time(), &mut effects);
            for effect in effects.drain(..) {
                self.carry_out(effect).await;
            }
        }
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send(frame) => {
                self.links.metrics.frames_sent.inc();
                self.wire.send(&frame);
            }
            // A node that runs has its cluster and its number.
            Effect::Adopt { .. } => self.inputs.push_back(failed(Reason::Metadata, "this node is another one already")),
            Effect::Established { leader_id, generation, advertised, node_id, .. } => {
                self.established(node_id, leader_id, generation, advertised).await;
            }
            Effect::ApplyDelta(delta) => self.apply_delta(delta).await,
            Effect::ApplySnapshot(part) => self.apply_snapshot(part).await,
            Effect::Attach(attach) => {
                let partition = self.find_online(attach.id);
                let answer = match &partition {
                    Some(partition) => tasks::aside(|| partition.attach(&attach)),
                    None => return self.unknown(attach.id),
                };
                self.note(attach.id, attach.high_watermark);
                self.answer(attach.id, answer);
            }
            Effect::Truncate(truncate) => {
                let Some(partition) = self.links.replicas.find(truncate.id) else { return self.unknown(truncate.id) };
                let answer = tasks::aside(|| {
                    partition.prepare_truncate(&truncate)?;
                    self.checkpoint(&partition)?;
                    partition.truncate(&truncate)
                });
                self.answer(truncate.id, answer);
            }
            Effect::Reset(reset) => {
                let Some(partition) = self.links.replicas.find(reset.id) else { return self.unknown(reset.id) };
                self.links.metrics.reset(reset.cause);
                if reset.cause != chronik_replication::message::ResetCause::Empty {
                    tracing::warn!(
                        partition = %partition.name(), log_end = %partition.position().log_end, to = %reset.to,
                        cause = super::metrics::cause_name(reset.cause), "the log is begun anew where the leader's begins"
                    );
                }
                let answer = tasks::aside(|| {
                    let log_start = partition.reader().bounds().log_start;
                    partition.prepare_reset(&reset)?;
                    self.checkpoint(&partition)?;
                    let attached = partition.reset(&reset)?;
                    // What comes now must not lie before the log start that is on file.
                    if reset.to < log_start {
                        self.checkpoint(&partition)?;
                    }
                    Ok(attached)
                });
                self.answer(reset.id, answer);
            }
            Effect::Append { head, batches } => self.append(&head, &batches),
            Effect::Progress(progress) => {
                let Some(partition) = self.links.replicas.find(progress.id) else { return self.unknown(progress.id) };
                match partition.progress(&progress) {
                    Ok(()) => self.note(progress.id, progress.high_watermark),
                    Err(error) => self.inputs.push_back(refused(progress.id, &error)),
                }
            }
            Effect::Detach(id) => {
                if let Some(peer) = &self.peer {
                    peer.forget(&id);
                }
            }
            Effect::Pulse(pulse) => {
                if let Some(peer) = &self.peer {
                    peer.pulse(&pulse);
                }
            }
            Effect::Superseded(fenced) => {
                tracing::error!(
                    generation = %fenced.generation, leader = %fenced.leader_id, address = %fenced.advertised,
                    "another node leads in a higher generation, this node takes no writes any more"
                );
                if let Err(error) = self.links.controller.fenced(as_known(&fenced)).await {
                    tracing::error!(%error, "it cannot be kept that another node leads");
                }
            }
            Effect::Close { reason, detail, by_peer } => self.close(reason, &detail, by_peer),
        }
    }

    fn close(&mut self, reason: Reason, detail: &str, by_peer: bool) {
        self.is_over = true;
        let address = self.address;
        match reason {
            Reason::Silence => {
                tracing::warn!("No data received for {}s, closing connection", super::links::SILENCE.as_secs());
            }
            Reason::Closing | Reason::Replaced => {
                tracing::info!(peer = %address, %reason, detail, by_peer, "link from the leader ended");
            }
            _ => tracing::warn!(peer = %address, %reason, detail, by_peer, "link from the leader ended"),
        }
        let is_rejection = !matches!(reason, Reason::Closing | Reason::Replaced | Reason::Silence | Reason::Fenced);
        if !by_peer && is_rejection {
            self.links.metrics.rejected(reason);
        }
        if let Some(peer) = &self.peer {
            peer.failed(if detail.is_empty() { reason.to_string() } else { format!("{reason}: {detail}") });
        }
    }

    async fn established(&mut self, node_id: NodeId, leader_id: NodeId, generation: Generation, advertised: Arc<str>) {
        // One that feeds others does not say where its own leader is reached; the metadata does.
        let advertised = if node_id == leader_id { advertised } else { "".into() };
        let leader = Fenced { generation, leader_id, advertised };
        match self.links.controller.follow(self.links.cluster_id, as_known(&leader)).await {
            Ok(()) => {}
            Err(MetadataError::Stale { .. } | MetadataError::OtherLeader { .. } | MetadataError::Leads { .. }) => {
                return self.inputs.push_front(Input::Promoted(self.links.known_leader()));
            }
            Err(error) => return self.inputs.push_front(metadata_failed(&error)),
        }
        let Some(subscription) = self.links.replicas.feed().subscribe() else {
            return self.inputs.push_front(failed(Reason::Other, "too many links"));
        };
        subscription.list_all(self.links.replicas.all());
        self.subscription = Some(subscription);
        self.generation = Some(generation);
        self.wire.open(Limits::open(PAYLOAD_BYTES_MAX));
        let peer = self.links.leader(&self.address.to_string(), node_id);
        peer.entered(State::Open);
        self.peer = Some(peer);
        self.links.followed.send_replace(Some(Followed { session: self.session, leader }));
        self.links.reached(self.session);
        tracing::info!(peer = %self.address, %node_id, leader = %leader_id, %generation, "following");
    }

    // ---- metadata -------------------------------------------------------------------------------------------------

    async fn apply_delta(&mut self, delta: MetadataDelta) {
        let Some(generation) = self.generation else { return };
        let MetadataDelta { base, end, batches } = delta;
        let batches = JournalBatches { base, end, bytes: batches.into() };
        let input = match self.links.controller.append_journal(generation, batches).await {
            Ok(end) => {
                self.metadata_came();
                Input::JournalApplied { end }
            }
            Err(error) => metadata_failed(&error),
        };
        self.inputs.push_back(input);
    }

    async fn apply_snapshot(&mut self, part: MetadataSnapshot) {
        let Some(generation) = self.generation else { return };
        let JournalPosition { end, generations } = part.position;
        let part = SnapshotPart {
            position: chronik_metadata::JournalPosition { end, generations },
            part: part.part,
            is_last: part.last,
            bytes: part.records.into(),
        };
        match self.links.controller.install_snapshot(generation, part).await {
            Ok(Some(end)) => {
                self.metadata_came();
                self.inputs.push_back(Input::JournalApplied { end });
            }
            Ok(None) => {}
            Err(error) => self.inputs.push_back(metadata_failed(&error)),
        }
    }

    fn metadata_came(&self) {
        if let Some(peer) = &self.peer {
            peer.metadata_came();
        }
    }

    // ---- partitions -----------------------------------------------------------------------------------------------

    /// The partition; opened anew where its log went offline, as after a full disk.
    fn find_online(&self, id: TopicIdPartition) -> Option<Arc<Partition>> {
        let partition = self.links.replicas.find(id)?;
        if partition.is_offline() {
            return Some(tasks::aside(|| self.links.replicas.reopen(id)).unwrap_or(partition));
        }
        Some(partition)
    }

    /// The checkpoint before a cut, which must be about the log that is about to be cut.
    fn checkpoint(&self, partition: &Arc<Partition>) -> Result<(), FollowError> {
        Ok(self.links.replicas.write_checkpoint_to_cut(partition)?)
    }

    fn append(&mut self, head: &AppendHead, batches: &[u8]) {
        let links = &self.links;
        let Some(partition) = links.replicas.find(head.id) else { return self.unknown(head.id) };
        match partition.append_replicated(head, batches, links.clock.wall()) {
            Ok(Position { leader_epoch, log_end, durable_end }) => {
                let (bytes, records) = (batches.len(), head.end.get().saturating_sub(head.base.get()));
                links.metrics.replicated_bytes.inc_by(bytes as u64);
                links.metrics.replicated_records.inc_by(u64::try_from(records).unwrap_or(0));
                links.bytes_appended.replicated(bytes);
                self.lines.add(head.id, head.base, head.end, bytes, links.clock.now());
                if let Some(peer) = &self.peer {
                    peer.batches(bytes);
                    peer.partition(head.id, head.high_watermark.max(log_end), log_end);
                }
                self.inputs.push_back(Input::Advanced { id: head.id, leader_epoch, log_end, durable_end });
            }
            Err(error) => self.inputs.push_back(refused(head.id, &error)),
        }
    }

    /// The leader's high watermark was told.
    fn note(&self, id: TopicIdPartition, high_watermark: Offset) {
        if let Some((peer, partition)) = self.peer.as_ref().zip(self.links.replicas.find(id)) {
            let log_end = partition.position().log_end;
            peer.partition(id, high_watermark.max(log_end), log_end);
        }
    }

    fn unknown(&mut self, id: TopicIdPartition) {
        let detail: Arc<str> = format!("{id} is not served here").into();
        self.inputs.push_back(Input::Failed { id: Some(id), reason: Reason::Storage, detail });
    }

    fn answer(&mut self, id: TopicIdPartition, answer: Result<Attached, FollowError>) {
        let input = match answer {
            Ok(attached) => Input::Attached(attached),
            Err(error) => refused(id, &error),
        };
        self.inputs.push_back(input);
    }
}

fn advanced(partition: &Arc<Partition>) -> Input {
    let Position { leader_epoch, log_end, durable_end } = partition.position();
    Input::Advanced { id: partition.id(), leader_epoch, log_end, durable_end }
}

fn failed(reason: Reason, detail: &str) -> Input {
    Input::Failed { id: None, reason, detail: detail.into() }
}

fn refused(id: TopicIdPartition, error: &FollowError) -> Input {
    if error.reason() == Reason::Storage {
        tracing::error!(%id, %error, "a partition cannot be replicated for now");
    }
    Input::Failed { id: Some(id), reason: error.reason(), detail: error.to_string().into() }
}

fn metadata_failed(error: &MetadataError) -> Input {
    let reason = match error {
        MetadataError::JournalFailed(_) => Reason::Storage,
        MetadataError::OtherCluster { .. } => Reason::WrongCluster,
        MetadataError::Stopped => Reason::Closing,
        _ => Reason::Metadata,
    };
    tracing::error!(%error, "metadata of the leader cannot be taken");
    failed(reason, &error.to_string())
}

async fn moved(subscription: Option<&Subscription>) {
    match subscription {
        Some(subscription) => subscription.moved().await,
        None => std::future::pending().await,
    }
}
