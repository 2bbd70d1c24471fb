//! The end of a link that has the records: it dialled, brings the follower's metadata and logs to agree with its own, and
//! then sends what the follower lacks, from the follower's position in the log.
//!
//! It holds positions, never records: it asks for a region of a segment and has that sent. Invariants, see
//! [`Sender::check_invariants`]: per partition `acked <= next <= end`, and what was sent and is not acknowledged stays
//! within the window, but for one frame.

mod agree;
mod handshake;
mod io;
mod journal;
mod stream;

pub use io::{Bounds, Config, Effect, Input, PartitionState, ReadFailure, compare_tail, read};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use chronik_log::ReplicaSlice;
use chronik_model::{Instant, Offset};

use self::journal::Journal;
use self::stream::{Stage, Stream};
use super::clock::Clock;
use super::{Reason, Time};
use crate::message::{
    Ack, AppendHead, Detach, Frame, Hello, HelloAck, PartitionAck, PartitionRefused, Progress, Refused,
    TopicIdPartition,
};

/// How far the handshake has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// The connection does not stand yet.
    Idle,
    /// The hello was sent.
    Greeting(Hello),
    /// The proof was sent.
    Proven,
    /// The follower waits for its node id.
    Naming,
    /// Data flows.
    Open,
    Closed,
}

/// The state machine.
#[derive(Debug)]
pub struct Sender {
    config: Config,
    phase: Phase,
    clock: Clock,
    /// The follower's answer, from the handshake on.
    follower: Option<HelloAck>,
    journal: Journal,
    streams: BTreeMap<TopicIdPartition, Stream>,
    /// Streams that changed since they were last looked at.
    touched: BTreeSet<TopicIdPartition>,
    /// Streams that are blocked, and perhaps some that are not any more.
    blocked: BTreeSet<TopicIdPartition>,
    /// Streams that wait for more of the journal to be sent.
    waiting: BTreeSet<TopicIdPartition>,
    /// Streams that have something to be read, each once.
    ready: VecDeque<TopicIdPartition>,
    /// The read that is under way: one at a time, so that partitions take turns.
    reading: Option<(TopicIdPartition, Offset)>,
    in_flight_bytes: usize,
    in_flight_frames: usize,
}

impl Sender {
    /// A sender whose connection does not stand yet.
    pub fn new(config: Config) -> Self {
        let journal = Journal::new(config.journal_start, config.journal.clone());
        Self {
            clock: Clock::new(config.timing, Instant::ORIGIN),
            config,
            phase: Phase::Idle,
            follower: None,
            journal,
            streams: BTreeMap::new(),
            touched: BTreeSet::new(),
            blocked: BTreeSet::new(),
            waiting: BTreeSet::new(),
            ready: VecDeque::new(),
            reading: None,
            in_flight_bytes: 0,
            in_flight_frames: 0,
        }
    }

    // ---- getters --------------------------------------------------------------------------------------------------

    /// When to give [`Input::Tick`]; none before the connection stands and once the link is over.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Idle | Phase::Closed => None,
            Phase::Open => {
                let retries = self.blocked.iter().filter_map(|id| self.streams.get(id)?.retry_at());
                Some(retries.fold(self.clock.deadline(true), Instant::min))
            }
            _ => Some(self.clock.deadline(false)),
        }
    }

    /// Whether the handshake is complete.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the link is over.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Bytes came, perhaps not yet a whole frame: over a slow link one takes longer than a silence may.
    pub fn heard(&mut self, now: Instant) {
        self.clock.heard(now);
    }

    /// When the follower last said anything.
    pub fn last_heard(&self) -> Instant {
        self.clock.last_heard()
    }

    /// Bytes of batches sent and not acknowledged.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// What was sent and acknowledged of every partition.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionProgress> + '_ {
        self.streams.iter().map(|(id, stream)| PartitionProgress {
            id: *id,
            attached: stream.stage == Stage::Streaming,
            sent: stream.next,
            log_end: stream.acked,
            durable_end: stream.durable,
            end: stream.state.bounds.end,
        })
    }

    // ---- inputs ---------------------------------------------------------------------------------------------------

    /// Takes an input.
    pub fn handle(&mut self, input: Input, time: Time, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Closed {
            return;
        }
        match input {
            Input::Connected { nonce } => self.greet(nonce, time, effects),
            Input::Frame(frame) => {
                self.clock.heard(time.now);
                self.frame(frame, time, effects);
            }
            Input::Malformed(error) => self.refuse((&error).into(), &error.to_string(), effects),
            Input::Disconnected => self.close(Reason::Closing, "the connection is gone".into(), false, effects),
            Input::NodeIdAssigned(node_id) if self.phase == Phase::Naming => self.welcome(node_id, effects),
            Input::NodeIdAssigned(_) => {}
            Input::Journal { start, position } => self.journal.moved(start, position),
            Input::JournalRead(delta) => self.journal.read(delta, effects),
            Input::SnapshotRead(part) => self.journal.snapshot(part, effects),
            Input::Partition(state) => self.partition(state, effects),
            Input::Moved { id, bounds } => self.moved(id, bounds, effects),
            Input::Removed(id) => self.removed(id, effects),
            Input::Read { id, from, outcome } => self.was_read(id, from, outcome, time, effects),
            Input::TailCompared { id, end, same } => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.tail_compared(end, same, time.now, effects);
                    self.touched.insert(id);
                }
            }
            Input::Tick => self.tick(time, effects),
            Input::Close(reason) => self.refuse(reason, "", effects),
        }
        self.pump(effects);
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
    }

    fn tick(&mut self, time: Time, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Idle | Phase::Closed => return,
            Phase::Open => {}
            _ if self.clock.handshake_is_over(time.now) => {
                return self.refuse(Reason::HandshakeTimeout, "the handshake took too long", effects);
            }
            _ => {}
        }
        if self.clock.is_silent(time.now) {
            return self.refuse(Reason::Silence, "nothing came", effects);
        }
        if self.phase == Phase::Open {
            if let Some(heartbeat) = self.clock.beat(time) {
                effects.push(Effect::Send(Frame::Heartbeat(heartbeat)));
            }
            for id in std::mem::take(&mut self.blocked) {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.retry(time.now);
                    self.touched.insert(id);
                }
            }
        }
    }

    fn frame(&mut self, frame: Frame, time: Time, effects: &mut Vec<Effect>) {
        match (&self.phase, frame) {
            (Phase::Idle, _) => self.refuse(Reason::Unexpected, "a frame before the hello", effects),
            (_, Frame::Refused(refused)) => self.close(refused.reason, refused.detail, true, effects),
            (_, Frame::Fenced(fenced)) => self.fenced(fenced, effects),
            (Phase::Greeting(hello), Frame::Challenge(challenge)) => {
                let hello = hello.clone();
                self.prove(&hello, &challenge, effects);
            }
            (Phase::Greeting(_), Frame::HelloAck(_)) if self.config.secret.is_some() => {
                self.refuse(Reason::NotAuthenticated, "the receiver does not prove that it has the secret", effects);
            }
            (Phase::Greeting(_) | Phase::Proven, Frame::HelloAck(ack)) => self.greeted(ack, effects),
            (Phase::Open, Frame::Heartbeat(heartbeat)) => {
                effects.push(Effect::Pulse(self.clock.pulse(&heartbeat, time.now)));
            }
            (Phase::Open, Frame::Attached(attached)) => {
                self.touched.insert(attached.id);
                let agreed = match self.streams.get_mut(&attached.id) {
                    Some(stream) => stream.attached(attached, time.now, effects),
                    // Removed meanwhile.
                    None => Ok(()),
                };
                if let Err(detail) = agreed {
                    self.refuse(Reason::Diverged, &detail, effects);
                }
            }
            (Phase::Open, Frame::Ack(ack)) => self.acked(&ack, effects),
            (Phase::Open, Frame::PartitionRefused(refused)) => self.partition_refused(refused, time.now, effects),
            (_, frame) => {
                let detail = format!("{} has no place here", frame.kind().name());
                self.refuse(Reason::Unexpected, &detail, effects);
            }
        }
    }

    // ---- partitions -----------------------------------------------------------------------------------------------

    fn partition(&mut self, state: PartitionState, effects: &mut Vec<Effect>) {
        let id = state.id;
        let known = self.streams.get(&id).map(|stream| stream.state.leader_epoch);
        if known.is_some_and(|known| known > state.leader_epoch) {
            return;
        }
        if known == Some(state.leader_epoch) {
            self.moved(id, state.bounds, effects);
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.state = state;
            }
        } else {
            self.forget_in_flight(id);
            self.streams.insert(id, Stream::new(state));
        }
        self.touched.insert(id);
    }

    fn moved(&mut self, id: TopicIdPartition, bounds: Bounds, effects: &mut Vec<Effect>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.stage == Stage::Streaming && bounds.end < stream.next {
            let detail = format!("{id} ends at {} and was sent up to {}", bounds.end, stream.next);
            return self.refuse(Reason::Diverged, &detail, effects);
        }
        stream.state.bounds = bounds;
        self.touched.insert(id);
    }

    fn removed(&mut self, id: TopicIdPartition, effects: &mut Vec<Effect>) {
        self.forget_in_flight(id);
        self.waiting.remove(&id);
        if let Some(stream) = self.streams.remove(&id)
            && stream.stage != Stage::Waiting
            && self.phase == Phase::Open
        {
            effects.push(Effect::Send(Frame::Detach(Detach { id })));
        }
    }

    fn partition_refused(&mut self, refused: PartitionRefused, now: Instant, effects: &mut Vec<Effect>) {
        let PartitionRefused { id, leader_epoch, reason, detail } = refused;
        let current = self.streams.get(&id).is_some_and(|stream| stream.state.leader_epoch == leader_epoch);
        if current {
            self.forget_in_flight(id);
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.block(now);
            }
            self.touched.insert(id);
            effects.push(Effect::PartitionRefused { id, reason, detail });
        }
    }

    /// What was sent of a partition will not be acknowledged any more.
    fn forget_in_flight(&mut self, id: TopicIdPartition) {
        if let Some(stream) = self.streams.get_mut(&id) {
            let (frames, bytes) = stream.forget_in_flight();
            self.in_flight_frames = self.in_flight_frames.saturating_sub(frames);
            self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        }
    }

    fn acked(&mut self, ack: &Ack, effects: &mut Vec<Effect>) {
        if let Err(detail) = self.journal.acked(ack.journal_end, effects) {
            return self.refuse(Reason::BadOffset, &detail, effects);
        }
        for partition in &ack.partitions {
            if let Err(detail) = self.partition_acked(partition, effects) {
                return self.refuse(Reason::BadOffset, &detail, effects);
            }
        }
    }

    fn partition_acked(&mut self, ack: &PartitionAck, effects: &mut Vec<Effect>) -> Result<(), String> {
        let Some(stream) = self.streams.get_mut(&ack.id) else { return Ok(()) };
        if stream.stage != Stage::Streaming || ack.leader_epoch != stream.state.leader_epoch {
            // Of an attachment that is over.
            return Ok(());
        }
        let (frames, bytes) = stream.acked(ack)?;
        self.in_flight_frames = self.in_flight_frames.saturating_sub(frames);
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        effects.push(Effect::Acked {
            id: ack.id,
            leader_epoch: ack.leader_epoch,
            log_end: stream.acked,
            durable_end: stream.durable,
        });
        Ok(())
    }

    // ---- data -----------------------------------------------------------------------------------------------------

    fn was_read(
        &mut self,
        id: TopicIdPartition,
        from: Offset,
        outcome: Result<ReplicaSlice, ReadFailure>,
        time: Time,
        effects: &mut Vec<Effect>,
    ) {
        if self.reading.take_if(|reading| *reading == (id, from)).is_none() {
            return;
        }
        self.touched.insert(id);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.stage != Stage::Streaming || stream.next != from {
            return;
        }
        match outcome {
            Ok(region) if region.slice.len == 0 => {
                // What the bounds promise is not there to be read.
                stream.block(time.now);
                self.forget_in_flight(id);
                effects.push(Effect::Unreadable { id, from, detail: "nothing to be read".into() });
            }
            Ok(region) if region.slice.base_offset != from || region.end <= from => {
                stream.block(time.now);
                self.forget_in_flight(id);
                effects.push(Effect::Unreadable { id, from, detail: "the offset is inside a batch".into() });
            }
            Ok(region) => {
                let bytes = region.slice.len;
                let head = AppendHead {
                    id,
                    leader_epoch: stream.state.leader_epoch,
                    segment: region.segment,
                    base: from,
                    end: region.end,
                    high_watermark: stream.state.bounds.high_watermark,
                    log_start: stream.state.bounds.log_start,
                };
                stream.sent(region.end, bytes);
                self.in_flight_frames += 1;
                self.in_flight_bytes += bytes;
                effects.push(Effect::SendAppend { head, slice: region.slice });
            }
            Err(ReadFailure::Removed { first_segment }) => {
                stream.reset_to(first_segment, effects);
                self.forget_in_flight(id);
            }
            Err(ReadFailure::Unreadable(detail)) => {
                stream.block(time.now);
                self.forget_in_flight(id);
                effects.push(Effect::Unreadable { id, from, detail });
            }
        }
    }

    /// Does what can be done now: metadata first, then attachments, then data as far as the window goes.
    fn pump(&mut self, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Open {
            return;
        }
        if self.journal.pump(effects) {
            self.touched.append(&mut self.waiting);
        }
        while let Some(id) = self.touched.pop_first() {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            if stream.retry_at().is_some() {
                self.blocked.insert(id);
            } else if !stream.attach_if_known(self.journal.sent(), effects) {
                self.waiting.insert(id);
            } else if stream.has_data() {
                if !std::mem::replace(&mut stream.queued, true) {
                    self.ready.push_back(id);
                }
            } else if let Some(Bounds { high_watermark, log_start, first_segment, .. }) = stream.untold() {
                let leader_epoch = stream.state.leader_epoch;
                let progress = Progress { id, leader_epoch, high_watermark, log_start, first_segment };
                effects.push(Effect::Send(Frame::Progress(progress)));
            }
        }
        while self.reading.is_none()
            && self.in_flight_bytes < self.config.window_bytes
            && self.in_flight_frames < self.config.window_frames
        {
            let Some(id) = self.ready.pop_front() else { return };
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.queued = false;
            if stream.has_data() {
                self.reading = Some((id, stream.next));
                let bytes_max = self.config.append_bytes_max;
                effects.push(Effect::Read { id, from: stream.next, end: stream.state.bounds.end, bytes_max });
            }
        }
    }

    // ---- end ------------------------------------------------------------------------------------------------------

    fn refuse(&mut self, reason: Reason, detail: &str, effects: &mut Vec<Effect>) {
        let detail: Arc<str> = detail.into();
        if self.phase != Phase::Idle {
            effects.push(Effect::Send(Frame::Refused(Refused { reason, detail: Arc::clone(&detail) })));
        }
        self.close(reason, detail, false, effects);
    }

    fn close(&mut self, reason: Reason, detail: Arc<str>, by_peer: bool, effects: &mut Vec<Effect>) {
        self.phase = Phase::Closed;
        self.ready.clear();
        self.touched.clear();
        self.reading = None;
        effects.push(Effect::Close { reason, detail, by_peer });
    }

    /// Asserts what always holds. Looks at every partition.
    pub fn check_invariants(&self) {
        let (mut bytes, mut frames) = (0, 0);
        for (id, stream) in &self.streams {
            stream.check_invariants(*id);
            assert!(
                self.phase != Phase::Open || stream.retry_at().is_none() || self.blocked.contains(id),
                "{id} is blocked and will not be tried again"
            );
            bytes += stream.in_flight.iter().map(|(_, bytes)| bytes).sum::<usize>();
            frames += stream.in_flight.len();
        }
        assert!(
            bytes == self.in_flight_bytes && frames == self.in_flight_frames,
            "in flight: {bytes} bytes in {frames} frames, counted {} in {}",
            self.in_flight_bytes,
            self.in_flight_frames
        );
        assert!(
            self.in_flight_frames <= self.config.window_frames,
            "{frames} frames in flight, {} allowed",
            self.config.window_frames
        );
    }
}

/// How far a follower has come with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionProgress {
    /// The partition.
    pub id: TopicIdPartition,
    /// Whether the logs agree and data flows.
    pub attached: bool,
    /// What was sent, exclusive end.
    pub sent: Offset,
    /// The follower's log end, exclusive.
    pub log_end: Offset,
    /// The follower's durable end, exclusive.
    pub durable_end: Offset,
    /// What there is to be sent, exclusive end.
    pub end: Offset,
}
