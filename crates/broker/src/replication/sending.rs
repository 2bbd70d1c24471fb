//! The end of a link that has the records: dials a follower for ever, and carries out what the sender core asks for.
//!
//! What a follower lacks is read from its position in the log; nothing is queued but positions. The order of effects is
//! the core's: each is carried out before the next, and answers wait in one queue.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chronik_metadata::{Command, JournalReadError, Outcome, ReplicationMode};
use chronik_model::{LeaderEpoch, NodeId, Offset};
use chronik_net::{Stream, TlsError, split_host_and_port};
use chronik_replication::Position;
use chronik_replication::frame::{self, Limits};
use chronik_replication::link::sender::{self, Config, Effect, Input, Sender};
use chronik_replication::link::{Pulse, Reason};
use chronik_replication::message::{Frame, JournalPosition, MetadataDelta, MetadataSnapshot, TopicIdPartition};
use tokio::time::timeout;

use super::back_off::BackOff;
use super::links::{Links, Term, as_known, nonce};
use super::metrics::cause_name;
use super::peer::{Peer, State};
use super::wire::{Turn, Wire};
use crate::replica::{Partition, Subscription, segment_part};
use crate::tasks::{self, Shutdown};

/// A link that stood for so long was a good one: the next attempt follows soon.
const GOOD: Duration = Duration::from_secs(1);
/// How long a connection may take to be made.
const DIAL_MAX: Duration = Duration::from_secs(10);
/// In *async* mode nobody waits for a follower, so appends gather this long before they are sent: fewer, longer writes, and producers
/// are answered first.
const GATHERING: Duration = Duration::from_millis(1);
/// Partitions that are looked at before the socket is again.
const MOVED_MAX: usize = 1024;
/// Bytes of a part of an image.
const SNAPSHOT_PART_BYTES: usize = 256 * 1024;
/// What a frame's head has beside the journal's batches, at the most.
const DELTA_HEAD_BYTES: usize = 64;

/// Sends to the follower at an address until the shutdown.
pub(super) async fn keep_sending(links: Arc<Links>, address: Arc<str>, mut shutdown: Shutdown) {
    let peer = links.follower(&address);
    let mut back_off = BackOff::default();
    // The number given to a follower that has not come back with it.
    let mut given = None;
    let mut version = links.controller.journal().version;
    let mut role = links.replicas.role();
    loop {
        let Some(term) = links.term() else {
            // Nothing to be sent before this node leads, or has what its leader has.
            tokio::select! {
                status = links.controller.journal_moved(version) => version = status.version,
                changed = role.changed() => if changed.is_err() { return },
                () = shutdown.raised() => return,
            }
            continue;
        };
        tracing::info!("Attempting to connect to follower: {address}");
        peer.entered(State::Connecting);
        let dialled = tokio::select! {
            dialled = timeout(DIAL_MAX, links.settings.dial(&address)) => dialled,
            () = shutdown.raised() => return,
        };
        let timed_out = |_| Err(TlsError::Handshake(std::io::ErrorKind::TimedOut.into()));
        match dialled.unwrap_or_else(timed_out) {
            Ok(stream) => {
                peer.entered(State::Handshake);
                let began = links.clock.now();
                let ended = run(&links, &peer, term, given, stream, &mut shutdown).await;
                given = ended.given;
                if ended.comes_back || links.clock.now().saturating_since(began) >= GOOD {
                    back_off.reset();
                }
            }
            Err(error) => {
                tracing::warn!("Failed to connect to follower {address}: {error}");
                peer.failed(error.to_string());
            }
        }
        peer.entered(State::Waiting);
        tokio::select! {
            () = tokio::time::sleep(back_off.next()) => {}
            () = shutdown.raised() => return,
        }
    }
}

/// A connection while it stands.
struct Link<'a> {
    links: &'a Arc<Links>,
    peer: &'a Peer,
    term: Term,
    session: u64,
    core: Sender,
    wire: Wire,
    subscription: Subscription,
    /// The partitions that the core was told of, each with its leader epoch then.
    told: HashMap<TopicIdPartition, (Arc<Partition>, LeaderEpoch)>,
    inputs: VecDeque<Input>,
    /// The follower, once the handshake is complete.
    node_id: Option<NodeId>,
    /// The number that was given to the follower at this address, which has not come back with it.
    given: Option<NodeId>,
    /// It was given on this connection.
    just_given: bool,
    /// How far the follower has the journal, exclusive.
    journal_acked: Option<Offset>,
    is_over: bool,
    comes_back: bool,
}

/// How a connection ended.
struct Ended {
    /// The number that was given to a follower which has not come back with it.
    given: Option<NodeId>,
    /// The follower said that it closes: it begins anew, as after it was given its number.
    comes_back: bool,
}

/// Runs a connection to its end.
async fn run(
    links: &Arc<Links>,
    peer: &Peer,
    term: Term,
    given: Option<NodeId>,
    stream: Stream,
    shutdown: &mut Shutdown,
) -> Ended {
    let Ok(nonce) = nonce() else {
        tracing::error!("the system gives no random numbers, no link is opened");
        return Ended { given, comes_back: false };
    };
    let Some(subscription) = links.replicas.feed().subscribe() else {
        tracing::error!(follower = %peer.address, "too many links");
        return Ended { given, comes_back: false };
    };
    let status = links.controller.journal();
    let core = Sender::new(Config {
        cluster_id: links.cluster_id,
        node_id: links.node_id(),
        leader_id: term.leader_id,
        generation: term.generation,
        advertised: Arc::clone(&links.settings.advertised),
        secret: links.settings.secret.clone(),
        timing: links.settings.timing(),
        append_bytes_max: Config::APPEND_BYTES_MAX,
        window_bytes: Config::WINDOW_BYTES,
        window_frames: Config::WINDOW_FRAMES,
        journal_start: status.start,
        journal: position(&status.position),
    });
    subscription.list_all(links.replicas.all());
    let mut link = Link {
        links,
        peer,
        term,
        session: links.next_session(),
        core,
        wire: Wire::new(stream),
        subscription,
        told: HashMap::new(),
        inputs: VecDeque::from([Input::Connected { nonce }]),
        node_id: None,
        given,
        just_given: false,
        journal_acked: None,
        is_over: false,
        comes_back: false,
    };
    link.keep(status.version, shutdown).await;
    let Link { wire, node_id, given, session, told, comes_back, .. } = link;
    peer.counted(wire.sent_bytes(), wire.received_bytes(), links.clock.now());
    if let Some(node_id) = node_id {
        told.values().for_each(|(partition, _)| partition.follower_detached(node_id, session));
        if term.leader_id == links.node_id() && links.controller.role().leads() {
            // A node that steps down or stops has nobody to tell.
            let _ = links.controller.submit(Command::FenceFollower { node_id }).await;
        }
    }
    wire.close().await;
    Ended { given, comes_back }
}

impl Link<'_> {
    async fn keep(&mut self, mut version: u64, shutdown: &mut Shutdown) {
        let mut role = self.links.replicas.role();
        let mut gathered_at = None;
        loop {
            self.work_off().await;
            if self.is_over {
                return;
            }
            self.peer.counted(self.wire.sent_bytes(), self.wire.received_bytes(), self.core.last_heard());
            let deadline = self.core.deadline().map(|at| self.links.clock.deadline(at));
            let is_behind = self.wire.is_behind();
            tokio::select! {
                turn = self.wire.turn() => match turn {
                    Ok(Turn::Received) => {
                        self.core.heard(self.links.clock.now());
                        self.decode();
                    }
                    Ok(Turn::Written) => self.look_at_moved(),
                    Ok(Turn::Ended) => {
                        if let Err(error) = self.wire.end() {
                            self.inputs.push_back(Input::Malformed(error));
                        }
                        self.inputs.push_back(Input::Disconnected);
                    }
                    Err(error) => {
                        self.peer.failed(error.to_string());
                        if let chronik_net::WriteError::File { .. } = error {
                            tracing::error!(follower = %self.peer.address, %error, "a segment cannot be sent");
                        }
                        self.inputs.push_back(Input::Disconnected);
                    }
                },
                () = self.subscription.moved(), if !is_behind && gathered_at.is_none() => {
                    if self.links.controller.image().mode() == ReplicationMode::Async {
                        gathered_at = Some(tokio::time::Instant::now() + GATHERING);
                    } else {
                        self.look_at_moved();
                    }
                }
                () = at(gathered_at), if gathered_at.is_some() => {
                    gathered_at = None;
                    self.look_at_moved();
                }
                status = self.links.controller.journal_moved(version) => {
                    version = status.version;
                    self.journal_moved(status.start, position(&status.position));
                }
                changed = role.changed() => match changed {
                    Ok(()) if self.links.term() == Some(self.term) => {}
                    _ => self.inputs.push_back(Input::Close(Reason::Closing)),
                },
                () = at(deadline) => self.inputs.push_back(Input::Tick),
                () = shutdown.raised() => self.inputs.push_back(Input::Close(Reason::Closing)),
            }
        }
    }

    fn journal_moved(&mut self, start: Offset, position: JournalPosition) {
        if self.links.term() == Some(self.term) {
            self.inputs.push_back(Input::Journal { start, position });
        } else {
            self.inputs.push_back(Input::Close(Reason::Closing));
        }
    }

    fn decode(&mut self) {
        loop {
            match self.wire.next_frame() {
                Ok(Some(frame)) => {
                    self.links.metrics.frames_received.inc();
                    self.inputs.push_back(Input::Frame(frame));
                }
                Ok(None) => return,
                Err(error) => return self.inputs.push_back(Input::Malformed(error)),
            }
        }
    }

    /// Tells the core of partitions that have moved; of no more than the peer takes.
    fn look_at_moved(&mut self) {
        for _ in 0..MOVED_MAX {
            let Some(partition) = self.subscription.next() else { return };
            let id = partition.id();
            let known = self.told.get(&id).filter(|(known, _)| Arc::ptr_eq(known, &partition));
            if partition.is_closed() {
                if known.is_some() {
                    self.told.remove(&id);
                    self.peer.forget(&id);
                    self.inputs.push_back(Input::Removed(id));
                }
                continue;
            }
            // What follows itself and knows too little of the high watermark would have others cut what is committed.
            if self.term.leader_id != self.links.node_id() && !partition.standing().is_settled {
                continue;
            }
            let (leader_epoch, bounds) = partition.bounds();
            match known {
                Some((_, known)) if *known == leader_epoch => {
                    self.inputs.push_back(Input::Moved { id, bounds });
                }
                _ => {
                    let state = partition.state();
                    if let Some((node_id, end)) = self.node_id.zip(self.journal_acked) {
                        partition.journal_acked(node_id, end);
                    }
                    self.told.insert(id, (partition, state.leader_epoch));
                    self.inputs.push_back(Input::Partition(state));
                }
            }
        }
        // The rest has its turn after the socket.
        self.subscription.again();
    }

    /// Gives the core everything that waits for it, and carries out what follows.
    async fn work_off(&mut self) {
        let mut effects = Vec::new();
        while let Some(input) = self.inputs.pop_front() {
            if let Input::Moved { id, bounds } = &input {
                self.peer.end_moved(*id, bounds.end);
            }
            self.core.handle(input, self.links.time(), &mut effects);
            for effect in effects.drain(..) {
                self.carry_out(effect).await;
                if self.is_over {
                    return;
                }
            }
        }
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send(frame) => self.send(&frame),
            Effect::SendAppend { head, slice } => {
                let bytes = slice.len;
                let part = self.told.get(&head.id).map(|(partition, _)| segment_part(partition, slice));
                match part {
                    Some(Ok(part)) => {
                        self.links.metrics.frames_sent.inc();
                        self.peer.sent(head.id, head.end, bytes);
                        self.wire.send_append(frame::encode_append(&head, bytes), part);
                    }
                    Some(Err(error)) => {
                        tracing::error!(id = %head.id, %error, "a segment cannot be read for a follower");
                        self.inputs.push_back(Input::Close(Reason::Storage));
                    }
                    None => self.inputs.push_back(Input::Close(Reason::Storage)),
                }
            }
            Effect::AssignNodeId => match self.assign_node_id().await {
                Some(node_id) => self.inputs.push_back(Input::NodeIdAssigned(node_id)),
                None => self.inputs.push_back(Input::Close(Reason::Metadata)),
            },
            Effect::Established { node_id, advertised, rack, .. } => {
                self.established(node_id, &advertised, &rack).await;
            }
            Effect::ReadJournal { from, bytes_max } => self.read_journal(from, bytes_max),
            Effect::ReadSnapshot => self.read_snapshot(),
            Effect::JournalAcked { end } => {
                self.journal_acked = Some(end);
                if let Some(node_id) = self.node_id {
                    self.told.values().for_each(|(partition, _)| partition.journal_acked(node_id, end));
                }
            }
            Effect::Read { id, from, end, bytes_max } => {
                if let Some((partition, _)) = self.told.get(&id) {
                    let outcome = sender::read(partition.reader(), from, end, bytes_max);
                    self.inputs.push_back(Input::Read { id, from, outcome });
                }
            }
            Effect::CompareTail { id, end, tail } => {
                if let Some((partition, _)) = self.told.get(&id) {
                    let same = sender::compare_tail(partition.reader(), end, tail);
                    self.inputs.push_back(Input::TailCompared { id, end, same });
                }
            }
            Effect::Attached { id, leader_epoch, log_end, durable_end } => {
                if let Some(((partition, _), node_id)) = self.told.get(&id).zip(self.node_id) {
                    let position = Position { leader_epoch, log_end, durable_end };
                    partition.follower_attached(node_id, self.session, position, self.links.clock.now());
                    self.peer.partition(id, partition.bounds().1.end, log_end);
                }
            }
            Effect::Acked { id, leader_epoch, log_end, durable_end } => {
                if let Some(((partition, _), node_id)) = self.told.get(&id).zip(self.node_id) {
                    let position = Position { leader_epoch, log_end, durable_end };
                    partition.acked(node_id, self.session, position, self.links.clock.now());
                    self.peer.acked(id, log_end);
                }
            }
            Effect::Truncating { id, from, to } => {
                self.links.metrics.truncations.inc();
                let partition = self.name(id);
                tracing::warn!(follower = %self.peer.address, partition, %from, %to, "the follower cuts a tail that is not here");
            }
            Effect::Resetting { id, from, to, cause } => {
                self.links.metrics.reset(cause);
                let (partition, cause) = (self.name(id), cause_name(cause));
                if cause == "empty" {
                    tracing::debug!(follower = %self.peer.address, partition, %from, %to, "the follower begins where the log does");
                } else {
                    tracing::warn!(
                        follower = %self.peer.address, partition, %from, %to, cause,
                        "the follower begins its log anew at the log start"
                    );
                }
            }
            Effect::PartitionRefused { id, reason, detail } => {
                let partition = self.name(id);
                tracing::warn!(follower = %self.peer.address, partition, %reason, %detail, "the follower cannot take a partition for now");
            }
            Effect::Unreadable { id, from, detail } => {
                let partition = self.name(id);
                tracing::error!(follower = %self.peer.address, partition, %from, %detail, "a partition cannot be read for a follower");
            }
            Effect::Pulse(pulse) => self.pulse(&pulse),
            Effect::Fenced(fenced) => {
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

    fn send(&mut self, frame: &Frame) {
        self.links.metrics.frames_sent.inc();
        self.wire.send(frame);
    }

    fn name(&self, id: TopicIdPartition) -> String {
        self.told.get(&id).map_or_else(|| id.to_string(), |(partition, _)| partition.name().to_string())
    }

    fn pulse(&self, pulse: &Pulse) {
        self.peer.pulse(pulse);
    }

    fn close(&mut self, reason: Reason, detail: &str, by_peer: bool) {
        self.is_over = true;
        self.comes_back = by_peer && reason == Reason::Closing;
        let address = &self.peer.address;
        match reason {
            Reason::Closing | Reason::Replaced => {
                tracing::info!(follower = %address, %reason, detail, by_peer, "link to the follower ended");
            }
            Reason::Silence => {
                tracing::warn!(follower = %address, "No data received for {}s, closing connection", super::links::SILENCE.as_secs());
            }
            _ => tracing::warn!(follower = %address, %reason, detail, by_peer, "link to the follower ended"),
        }
        if !by_peer && !matches!(reason, Reason::Closing | Reason::Replaced | Reason::Silence | Reason::Fenced) {
            self.links.metrics.rejected(reason);
        }
        self.peer.failed(if detail.is_empty() { reason.to_string() } else { format!("{reason}: {detail}") });
    }

    /// A number for a follower that has none: the controller's to give, where this node leads. One that follows itself takes
    /// one at random that no node has: what it gives must be none that its leader gives meanwhile.
    async fn assign_node_id(&mut self) -> Option<NodeId> {
        self.just_given = true;
        if self.given.is_none() {
            self.given = self.new_node_id().await;
        }
        self.given
    }

    async fn new_node_id(&mut self) -> Option<NodeId> {
        if self.term.leader_id != self.links.node_id() {
            let image = self.links.controller.image();
            let random = || u16::from_be_bytes(nonce().ok()?[..2].try_into().ok()?).checked_add(10_000);
            return std::iter::repeat_with(random)
                .take(1000)
                .flatten()
                .map(|id| NodeId::new(i32::from(id)))
                .find(|id| !image.brokers().keys().any(|known| (known.get() - id.get()) % 256 == 0));
        }
        match self.links.controller.submit(Command::AllocateNodeId).await {
            Ok(Outcome::NodeId(Ok(node_id))) => Some(node_id),
            outcome => {
                tracing::error!(?outcome, "a follower cannot be given a node id");
                None
            }
        }
    }

    async fn established(&mut self, node_id: NodeId, advertised: &str, rack: &str) {
        // Nothing was given on this connection: it has kept its number.
        self.given = self.given.filter(|given| *given == node_id && self.just_given);
        let others = self.links.followers().into_iter().filter(|peer| peer.address != self.peer.address);
        if let Some(other) = others.filter(|peer| peer.is_open() && peer.node_id() == Some(node_id)).last() {
            tracing::error!(follower = %self.peer.address, %node_id, other = %other.address, "two addresses lead to one follower, name one of them");
            return self.inputs.push_front(Input::Close(Reason::SameNode));
        }
        if self.term.leader_id == self.links.node_id() {
            let (host, port) = split_host_and_port(advertised).unwrap_or(("", 0));
            let rack = Some(rack.to_owned()).filter(|rack| !rack.is_empty());
            let command = Command::RegisterFollower { node_id, host: host.to_owned(), port, rack };
            match self.links.controller.submit(command).await {
                Ok(Outcome::FollowerRegistered(Ok(_))) => {}
                outcome => {
                    tracing::error!(follower = %self.peer.address, %node_id, ?outcome, "the follower cannot be registered");
                    self.inputs.push_front(Input::Close(Reason::Metadata));
                    return;
                }
            }
        }
        self.node_id = Some(node_id);
        // A follower sends no batches.
        self.wire.open(Limits::open(0));
        self.peer.met(node_id);
        self.peer.entered(State::Open);
        tracing::info!(%node_id, "Connected to follower: {}", self.peer.address);
        let status = self.links.controller.journal();
        self.inputs.push_back(Input::Journal { start: status.start, position: position(&status.position) });
    }

    // ---- metadata -------------------------------------------------------------------------------------------------

    fn read_journal(&mut self, from: Offset, bytes_max: usize) {
        match tasks::aside(|| self.links.controller.read_journal(from, bytes_max)) {
            Ok(read) if read.bytes.len() + DELTA_HEAD_BYTES <= Limits::HEAD_BYTES_MAX as usize => {
                let batches = Bytes::from(read.bytes);
                self.inputs.push_back(Input::JournalRead(MetadataDelta { base: read.base, end: read.end, batches }));
            }
            Ok(_) | Err(JournalReadError::OutOfRange { .. }) => self.read_snapshot(),
            Err(error) => self.unreadable_metadata(&error),
        }
    }

    fn read_snapshot(&mut self) {
        match tasks::aside(|| self.links.controller.snapshot(SNAPSHOT_PART_BYTES)) {
            Ok(snapshot) => {
                let stands_for = position(&snapshot.position);
                let count = snapshot.parts.len();
                for (number, records) in snapshot.parts.into_iter().enumerate() {
                    self.inputs.push_back(Input::SnapshotRead(MetadataSnapshot {
                        position: stands_for.clone(),
                        part: u32::try_from(number).unwrap_or(u32::MAX),
                        last: number + 1 == count,
                        records: records.into(),
                    }));
                }
            }
            Err(error) => self.unreadable_metadata(&error),
        }
    }

    fn unreadable_metadata(&mut self, error: &JournalReadError) {
        tracing::error!(follower = %self.peer.address, %error, "metadata cannot be read for a follower");
        self.inputs.push_back(Input::Close(Reason::Metadata));
    }
}

fn position(known: &chronik_metadata::JournalPosition) -> JournalPosition {
    JournalPosition { end: known.end, generations: known.generations.clone() }
}

/// Returns at a time; never without one. May be cancelled.
pub(super) async fn at(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
