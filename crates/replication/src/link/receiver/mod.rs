//! The end of a link that follows: it was dialled, checks who dials and what comes, and has it written.
//!
//! A frame that it cannot accept is answered with a reason and closes the link; nothing of it reaches a disk. Invariant,
//! see [`Receiver::check_invariants`]: batches are passed on only for an attached partition, in its leader epoch, and
//! exactly where what was passed on before them ends.

mod handshake;
mod io;

pub use io::{Config, Effect, Input};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use chronik_model::{Instant, LeaderEpoch, Offset};

use super::clock::Clock;
use super::{Reason, Time};
use crate::message::{
    Ack, AppendHead, Attach, Attached, Fenced, Frame, Hello, JournalPosition, MetadataDelta, MetadataSnapshot,
    NONCE_BYTES, PartitionAck, PartitionRefused, Progress, Refused, Reset, TopicIdPartition, Truncate,
};

/// Partitions in one ack at the most: the frame stays below the limit of its head.
const ACKS_MAX: usize = 20_000;

/// How far the handshake has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// The connection does not stand yet.
    Idle,
    /// The hello is awaited.
    Listening([u8; NONCE_BYTES]),
    /// The sender's proof is awaited.
    Challenged(Hello, [u8; NONCE_BYTES]),
    /// The welcome is awaited.
    Agreed(Hello),
    /// Data flows.
    Open,
    Closed,
}

/// What a receiver knows of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Follow {
    leader_epoch: LeaderEpoch,
    stage: Stage,
    log_end: Offset,
    durable_end: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The replica is asked what it has.
    Answering,
    /// What was passed on ends here, exclusive.
    Ready(Offset),
    /// Its disk has failed: what comes is dropped until it is attached anew.
    Failed,
}

/// The state machine.
#[derive(Debug)]
pub struct Receiver {
    config: Config,
    phase: Phase,
    clock: Clock,
    /// The end of the journal that was passed on, exclusive.
    journal_end: Offset,
    /// The end of the journal that is applied, exclusive; none where it was acknowledged.
    journal_unacked: Option<Offset>,
    journal_applied: Offset,
    /// The number of the snapshot's next part, and what the snapshot stands for.
    snapshot: Option<(u32, JournalPosition)>,
    follows: BTreeMap<TopicIdPartition, Follow>,
    /// Partitions whose progress was not acknowledged.
    unacked: BTreeSet<TopicIdPartition>,
}

/// A frame was not accepted.
struct Rejected(Reason, String);

type Accepted = Result<(), Rejected>;

fn reject<T>(reason: Reason, detail: impl Into<String>) -> Result<T, Rejected> {
    Err(Rejected(reason, detail.into()))
}

impl Receiver {
    /// A receiver whose connection was accepted.
    pub fn new(config: Config) -> Self {
        Self {
            phase: Phase::Idle,
            clock: Clock::new(config.timing, Instant::ORIGIN),
            journal_end: config.journal.end,
            journal_unacked: None,
            journal_applied: config.journal.end,
            snapshot: None,
            follows: BTreeMap::new(),
            unacked: BTreeSet::new(),
            config,
        }
    }

    // ---- getters --------------------------------------------------------------------------------------------------

    /// When to give [`Input::Tick`]; none before the connection stands and once the link is over.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Idle | Phase::Closed => None,
            Phase::Open => Some(self.clock.deadline(true)),
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

    /// When the sender last said anything.
    pub fn last_heard(&self) -> Instant {
        self.clock.last_heard()
    }

    /// How many partitions are attached.
    pub fn attached(&self) -> usize {
        self.follows.values().filter(|follow| matches!(follow.stage, Stage::Ready(_))).count()
    }

    // ---- inputs ---------------------------------------------------------------------------------------------------

    /// Takes an input.
    pub fn handle(&mut self, input: Input, time: Time, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Closed {
            return;
        }
        match input {
            Input::Connected { nonce } if self.phase == Phase::Idle => {
                self.clock = Clock::new(self.config.timing, time.now);
                self.phase = Phase::Listening(nonce);
            }
            Input::Connected { .. } => {}
            Input::Frame(frame) => {
                self.clock.heard(time.now);
                if let Err(Rejected(reason, detail)) = self.frame(frame, time, effects) {
                    self.refuse(reason, detail.into(), effects);
                }
            }
            Input::Malformed(error) => self.refuse((&error).into(), error.to_string().into(), effects),
            Input::Disconnected => self.close(Reason::Closing, "the connection is gone".into(), false, effects),
            Input::JournalApplied { end } => {
                self.journal_applied = end;
                self.journal_unacked = Some(end);
            }
            Input::Attached(attached) => self.attached_to(attached, effects),
            Input::Advanced { id, leader_epoch, log_end, durable_end } => {
                self.advanced(id, leader_epoch, log_end, durable_end);
            }
            Input::Failed { id, reason, detail } => self.failed(id, reason, detail, effects),
            Input::Settled => self.acknowledge(effects),
            Input::Tick => self.tick(time, effects),
            Input::Promoted(fenced) => self.fence(fenced, effects),
            Input::Generation(known) => self.learned(known, effects),
            Input::Close(reason) => self.refuse(reason, "".into(), effects),
        }
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
    }

    fn tick(&mut self, time: Time, effects: &mut Vec<Effect>) {
        let handshake = !matches!(self.phase, Phase::Idle | Phase::Open | Phase::Closed);
        if handshake && self.clock.handshake_is_over(time.now) {
            return self.refuse(Reason::HandshakeTimeout, "the handshake took too long".into(), effects);
        }
        if self.phase != Phase::Idle && self.clock.is_silent(time.now) {
            return self.refuse(Reason::Silence, "nothing came".into(), effects);
        }
        if self.phase == Phase::Open
            && let Some(heartbeat) = self.clock.beat(time)
        {
            effects.push(Effect::Send(Frame::Heartbeat(heartbeat)));
        }
    }

    fn frame(&mut self, frame: Frame, time: Time, effects: &mut Vec<Effect>) -> Accepted {
        match (&self.phase, frame) {
            (_, Frame::Refused(refused)) => {
                self.close(refused.reason, refused.detail, true, effects);
                Ok(())
            }
            (Phase::Listening(nonce), Frame::Hello(hello)) => {
                let nonce = *nonce;
                self.greeted(hello, nonce, effects)
            }
            (Phase::Challenged(hello, nonce), Frame::Proof(proof)) => {
                let (hello, nonce) = (hello.clone(), *nonce);
                self.proven(hello, nonce, proof, effects)
            }
            (Phase::Agreed(hello), Frame::Welcome(welcome)) => {
                let hello = hello.clone();
                self.welcomed(&hello, welcome, effects)
            }
            (Phase::Open, Frame::Heartbeat(heartbeat)) => {
                effects.push(Effect::Pulse(self.clock.pulse(&heartbeat, time.now)));
                Ok(())
            }
            (Phase::Open, Frame::MetadataDelta(delta)) => self.delta(delta, effects),
            (Phase::Open, Frame::MetadataSnapshot(part)) => self.snapshot(part, effects),
            (Phase::Open, Frame::Attach(attach)) => self.attach(attach, effects),
            (Phase::Open, Frame::Truncate(truncate)) => self.truncate(truncate, effects),
            (Phase::Open, Frame::Reset(reset)) => self.reset(reset, effects),
            (Phase::Open, Frame::Append(head, batches)) => self.append(head, batches, effects),
            (Phase::Open, Frame::Progress(progress)) => self.progress(progress, effects),
            (Phase::Open, Frame::Detach(detach)) => {
                self.unacked.remove(&detach.id);
                if self.follows.remove(&detach.id).is_some() {
                    effects.push(Effect::Detach(detach.id));
                }
                Ok(())
            }
            (_, frame) => reject(Reason::Unexpected, format!("{} has no place here", frame.kind().name())),
        }
    }

    // ---- metadata -------------------------------------------------------------------------------------------------

    fn delta(&mut self, delta: MetadataDelta, effects: &mut Vec<Effect>) -> Accepted {
        if self.snapshot.is_some() || delta.base != self.journal_end {
            let detail = format!("journal from {} on, it ends at {}", delta.base, self.journal_end);
            return reject(Reason::Metadata, detail);
        }
        self.journal_end = delta.end;
        effects.push(Effect::ApplyDelta(delta));
        Ok(())
    }

    fn snapshot(&mut self, part: MetadataSnapshot, effects: &mut Vec<Effect>) -> Accepted {
        let fits = match &self.snapshot {
            None => part.part == 0,
            Some((next, position)) => part.part == *next && part.position == *position,
        };
        if !fits {
            return reject(Reason::Metadata, format!("part {} of a snapshot has no place here", part.part));
        }
        if part.last {
            self.snapshot = None;
            self.journal_end = part.position.end;
            // What was applied before belongs to the journal that goes.
            self.journal_unacked = None;
        } else {
            self.snapshot = Some((part.part.saturating_add(1), part.position.clone()));
        }
        effects.push(Effect::ApplySnapshot(part));
        Ok(())
    }

    // ---- partitions -----------------------------------------------------------------------------------------------

    fn attach(&mut self, attach: Attach, effects: &mut Vec<Effect>) -> Accepted {
        if let Some(follow) = self.follows.get(&attach.id).filter(|follow| follow.leader_epoch > attach.leader_epoch) {
            return reject(Reason::StaleLeaderEpoch, stale(attach.id, follow.leader_epoch, attach.leader_epoch));
        }
        let follow = Follow {
            leader_epoch: attach.leader_epoch,
            stage: Stage::Answering,
            log_end: Offset::ZERO,
            durable_end: Offset::ZERO,
        };
        self.unacked.remove(&attach.id);
        self.follows.insert(attach.id, follow);
        effects.push(Effect::Attach(attach));
        Ok(())
    }

    fn truncate(&mut self, truncate: Truncate, effects: &mut Vec<Effect>) -> Accepted {
        let Some((follow, end)) = self.ready(truncate.id, truncate.leader_epoch)? else { return Ok(()) };
        if truncate.to >= end {
            return reject(
                Reason::BadOffset,
                format!("{} is to be cut at {}, it ends at {end}", truncate.id, truncate.to),
            );
        }
        follow.stage = Stage::Answering;
        self.unacked.remove(&truncate.id);
        effects.push(Effect::Truncate(truncate));
        Ok(())
    }

    fn reset(&mut self, reset: Reset, effects: &mut Vec<Effect>) -> Accepted {
        let Some((follow, _)) = self.ready(reset.id, reset.leader_epoch)? else { return Ok(()) };
        follow.stage = Stage::Answering;
        self.unacked.remove(&reset.id);
        effects.push(Effect::Reset(reset));
        Ok(())
    }

    fn append(&mut self, head: AppendHead, batches: Bytes, effects: &mut Vec<Effect>) -> Accepted {
        let Some((follow, end)) = self.ready(head.id, head.leader_epoch)? else { return Ok(()) };
        if head.base != end {
            let reason = if head.base > end { Reason::Gap } else { Reason::Overlap };
            return reject(reason, format!("{} from {} on, it ends at {end}", head.id, head.base));
        }
        follow.stage = Stage::Ready(head.end);
        effects.push(Effect::Append { head, batches });
        Ok(())
    }

    fn progress(&mut self, progress: Progress, effects: &mut Vec<Effect>) -> Accepted {
        if self.ready(progress.id, progress.leader_epoch)?.is_some() {
            effects.push(Effect::Progress(progress));
        }
        Ok(())
    }

    /// The partition with the end of what was passed on; `None` where its disk has failed and what comes is dropped.
    fn ready(
        &mut self,
        id: TopicIdPartition,
        leader_epoch: LeaderEpoch,
    ) -> Result<Option<(&mut Follow, Offset)>, Rejected> {
        let Some(follow) = self.follows.get_mut(&id) else {
            return reject(Reason::NotAttached, format!("{id} is not attached"));
        };
        if leader_epoch < follow.leader_epoch {
            return reject(Reason::StaleLeaderEpoch, stale(id, follow.leader_epoch, leader_epoch));
        }
        match follow.stage {
            _ if leader_epoch > follow.leader_epoch => {
                reject(Reason::NotAttached, format!("{id} is not attached in leader epoch {leader_epoch}"))
            }
            Stage::Ready(end) => Ok(Some((follow, end))),
            Stage::Failed => Ok(None),
            Stage::Answering => reject(Reason::NotAttached, format!("{id} has not answered yet")),
        }
    }

    fn attached_to(&mut self, attached: Attached, effects: &mut Vec<Effect>) {
        let Some(follow) = self.follows.get_mut(&attached.id) else { return };
        if follow.stage != Stage::Answering || follow.leader_epoch != attached.leader_epoch {
            return;
        }
        follow.stage = Stage::Ready(attached.log_end);
        (follow.log_end, follow.durable_end) = (attached.log_end, attached.durable_end);
        effects.push(Effect::Send(Frame::Attached(attached)));
    }

    fn advanced(&mut self, id: TopicIdPartition, leader_epoch: LeaderEpoch, log_end: Offset, durable_end: Offset) {
        let Some(follow) = self.follows.get_mut(&id) else { return };
        let Stage::Ready(passed) = follow.stage else { return };
        if follow.leader_epoch != leader_epoch || log_end > passed {
            return;
        }
        let ends = (log_end.max(follow.log_end), durable_end.max(follow.durable_end).min(log_end.max(follow.log_end)));
        if ends != (follow.log_end, follow.durable_end) {
            (follow.log_end, follow.durable_end) = ends;
            self.unacked.insert(id);
        }
    }

    fn failed(&mut self, id: Option<TopicIdPartition>, reason: Reason, detail: Arc<str>, effects: &mut Vec<Effect>) {
        let follow = id.filter(|_| reason == Reason::Storage).and_then(|id| Some((id, self.follows.get_mut(&id)?)));
        let Some((id, follow)) = follow else { return self.refuse(reason, detail, effects) };
        follow.stage = Stage::Failed;
        let leader_epoch = follow.leader_epoch;
        self.unacked.remove(&id);
        effects.push(Effect::Send(Frame::PartitionRefused(PartitionRefused { id, leader_epoch, reason, detail })));
    }

    fn acknowledge(&mut self, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Open || (self.unacked.is_empty() && self.journal_unacked.is_none()) {
            return;
        }
        self.journal_unacked = None;
        let unacked = std::mem::take(&mut self.unacked);
        let mut partitions: Vec<PartitionAck> = unacked
            .into_iter()
            .filter_map(|id| {
                let follow = self.follows.get(&id)?;
                let Follow { leader_epoch, log_end, durable_end, .. } = *follow;
                Some(PartitionAck { id, leader_epoch, log_end, durable_end })
            })
            .collect();
        loop {
            let rest = partitions.split_off(partitions.len().min(ACKS_MAX));
            effects.push(Effect::Send(Frame::Ack(Ack { journal_end: self.journal_applied, partitions })));
            if rest.is_empty() {
                return;
            }
            partitions = rest;
        }
    }

    // ---- end ------------------------------------------------------------------------------------------------------

    fn fence(&mut self, fenced: Fenced, effects: &mut Vec<Effect>) {
        let detail = format!("generation {} leads", fenced.generation);
        // Who has not proven itself is not told who leads.
        let unproven =
            self.config.secret.is_some() && matches!(self.phase, Phase::Listening(_) | Phase::Challenged(..));
        if self.phase != Phase::Idle && !unproven {
            effects.push(Effect::Send(Frame::Fenced(fenced)));
        }
        self.close(Reason::Fenced, detail.into(), false, effects);
    }

    fn refuse(&mut self, reason: Reason, detail: Arc<str>, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Idle {
            effects.push(Effect::Send(Frame::Refused(Refused { reason, detail: Arc::clone(&detail) })));
        }
        self.close(reason, detail, false, effects);
    }

    fn close(&mut self, reason: Reason, detail: Arc<str>, by_peer: bool, effects: &mut Vec<Effect>) {
        self.phase = Phase::Closed;
        effects.push(Effect::Close { reason, detail, by_peer });
    }

    /// Asserts what always holds. Looks at every partition.
    pub fn check_invariants(&self) {
        for (id, follow) in &self.follows {
            if let Stage::Ready(passed) = follow.stage {
                assert!(
                    follow.durable_end <= follow.log_end && follow.log_end <= passed,
                    "{id}: durable {} log end {} passed on {passed}",
                    follow.durable_end,
                    follow.log_end
                );
            }
        }
        assert!(
            self.phase == Phase::Open || self.phase == Phase::Closed || self.follows.is_empty(),
            "partitions are followed before the handshake is complete"
        );
        for id in &self.unacked {
            assert!(
                self.follows.get(id).is_some_and(|follow| matches!(follow.stage, Stage::Ready(_))),
                "{id} is to be acknowledged and not attached"
            );
        }
    }
}

fn stale(id: TopicIdPartition, current: LeaderEpoch, found: LeaderEpoch) -> String {
    format!("{id} is in leader epoch {current}, not {found}")
}
