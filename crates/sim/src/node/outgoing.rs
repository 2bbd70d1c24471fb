//! The leader's end of the links: dials each follower for ever, and carries out what the sender core asks for.

use std::time::Duration;

use chronik_model::NodeId;
use chronik_replication::Position;
use chronik_replication::frame::{self, Limits};
use chronik_replication::link::Reason;
use chronik_replication::link::sender::{self, Config, Effect, Input, Sender};
use chronik_replication::message::{Frame, NONCE_BYTES};

use super::process::{PAYLOAD_BYTES_MAX, Process, Work};
use super::wire::Wire;
use super::{CLUSTER_ID, Context, time};
use crate::journal::Journal;
use crate::mutation::{Mutation, add_left};
use crate::network::End;
use crate::world::Event;

/// Back-off between two attempts, in milliseconds.
const BACK_OFF_MS: (u64, u64) = (20, 1_000);

/// The link to one follower, and the attempts to have one.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) dialling: Option<End>,
    pub(super) link: Option<Link>,
    failures: u32,
}

/// A connection that stands.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) wire: Wire,
    pub(super) sender: Sender,
}

impl Outgoing {
    pub(super) fn owns(&self, end: End) -> bool {
        self.dialling == Some(end) || self.link.as_ref().is_some_and(|link| link.wire.end == end)
    }
}

impl Process {
    /// Dials a follower, unless there is a connection or an attempt already.
    pub fn dial(&mut self, to: NodeId, cx: &mut Context<'_>) {
        let Some(outgoing) = self.outgoing.get_mut(&to).filter(|_| self.leads) else { return };
        if outgoing.dialling.is_none() && outgoing.link.is_none() {
            outgoing.dialling = Some(cx.on_network(|network, now, due| network.dial(self.id, to, now, due)));
            // An attempt that nobody answers is given up.
            let patience = cx.plan.silence;
            cx.schedule.after(patience, Event::DialTimeout { node: self.id, run: self.run, to });
        }
    }

    /// Gives up an attempt that was not answered.
    pub fn dial_timeout(&mut self, to: NodeId, cx: &mut Context<'_>) {
        let end = self.outgoing.get_mut(&to).and_then(|outgoing| outgoing.dialling.take());
        if let Some(end) = end {
            cx.on_network(|network, now, due| network.close(end, now, due));
            self.dial_later(to, cx);
        }
    }

    /// Plans the next attempt, later after each failure.
    pub(super) fn dial_later(&mut self, to: NodeId, cx: &mut Context<'_>) {
        let Some(outgoing) = self.outgoing.get_mut(&to) else { return };
        outgoing.failures = (outgoing.failures + 1).min(6);
        let (shortest, longest) = BACK_OFF_MS;
        let longest = (shortest << outgoing.failures).min(longest);
        let delay = Duration::from_millis(cx.random.between(longest / 2, longest));
        cx.schedule.after(delay, Event::Dial { node: self.id, run: self.run, to });
    }

    /// A dialled connection stands.
    pub(super) fn connected(&mut self, to: NodeId, end: End, journal: &Journal, cx: &mut Context<'_>) {
        let Some(outgoing) = self.outgoing.get_mut(&to) else { return };
        let config = Config {
            cluster_id: CLUSTER_ID,
            node_id: self.id,
            leader_id: self.id,
            generation: journal.generation(),
            advertised: format!("node-{}:9092", self.id).into(),
            secret: None,
            timing: cx.timing(),
            append_bytes_max: cx.plan.append_bytes_max as usize,
            window_bytes: cx.plan.window_bytes as usize,
            window_frames: Config::WINDOW_FRAMES,
            journal_start: journal.start(),
            journal: journal.position(),
        };
        outgoing.dialling = None;
        outgoing.link = Some(Link { wire: Wire::new(end), sender: Sender::new(config) });
        let mut nonce = [0; NONCE_BYTES];
        nonce.fill_with(|| cx.random.below(256) as u8);
        self.work.push_back(Work::Out(to, Input::Connected { nonce }));
        for slot in &self.slots {
            let mut state = slot.replica.partition_state(slot.id, journal.position().end);
            add_left(&mut state.epochs, &slot.left);
            self.work.push_back(Work::Out(to, Input::Partition(state)));
        }
    }

    /// The connection to a follower is gone.
    pub(super) fn disconnected(&mut self, to: NodeId, cx: &mut Context<'_>) {
        let Some(outgoing) = self.outgoing.get_mut(&to) else { return };
        outgoing.dialling = None;
        match &outgoing.link {
            Some(link) => {
                if let Err(error) = link.wire.decoder.end() {
                    self.work.push_back(Work::Out(to, Input::Malformed(error)));
                }
                self.work.push_back(Work::Out(to, Input::Disconnected));
                self.work.push_back(Work::Gone(to));
            }
            None => self.dial_later(to, cx),
        }
    }

    /// The link to a follower is over; the next attempt follows.
    pub(super) fn drop_link(&mut self, to: NodeId, cx: &mut Context<'_>) {
        let link = self.outgoing.get_mut(&to).and_then(|outgoing| outgoing.link.take());
        if let Some(link) = link {
            let session = link.wire.end.connection.0;
            link.wire.close(cx);
            self.slots.iter_mut().for_each(|slot| slot.replica.follower_detached(to, session));
            self.dial_later(to, cx);
        }
    }

    /// Ends every link and every attempt: this node does not lead any more, or leads in another generation.
    pub(super) fn drop_links(&mut self, reason: Reason, cx: &mut Context<'_>) {
        for (to, outgoing) in std::mem::take(&mut self.outgoing) {
            if let Some(end) = outgoing.dialling {
                cx.on_network(|network, now, due| network.close(end, now, due));
            }
            if let Some(mut link) = outgoing.link {
                let mut effects = Vec::new();
                link.sender.handle(Input::Close(reason), time(cx.now()), &mut effects);
                for effect in effects {
                    if let Effect::Send(frame) = effect {
                        link.wire.send(&frame);
                    }
                }
                let session = link.wire.end.connection.0;
                link.wire.close(cx);
                self.slots.iter_mut().for_each(|slot| slot.replica.follower_detached(to, session));
            }
        }
    }

    /// Gives the sender core an input and carries out what follows.
    pub(super) fn sender_input(&mut self, to: NodeId, input: Input, journal: &mut Journal, cx: &mut Context<'_>) {
        let Some(link) = self.outgoing.get_mut(&to).and_then(|outgoing| outgoing.link.as_mut()) else { return };
        let mut effects = Vec::new();
        link.sender.handle(input, time(cx.now()), &mut effects);
        for effect in effects {
            self.sender_effect(to, effect, journal, cx);
        }
        self.pump_outgoing(to, cx);
    }

    pub(super) fn pump_outgoing(&mut self, to: NodeId, cx: &mut Context<'_>) {
        let Some(link) = self.outgoing.get_mut(&to).and_then(|outgoing| outgoing.link.as_mut()) else { return };
        link.wire.pump(cx);
    }

    fn sender_effect(&mut self, to: NodeId, effect: Effect, journal: &mut Journal, cx: &mut Context<'_>) {
        let Some(outgoing) = self.outgoing.get_mut(&to) else { return };
        let Some(link) = &mut outgoing.link else { return };
        match effect {
            Effect::Send(Frame::Progress(_))
                if cx.plan.mutation == Some(Mutation::QueueDrops) && cx.random.one_in(4) => {}
            Effect::Send(frame) => {
                cx.trace.line(cx.schedule.now(), format_args!("{}>{to} {:?}", self.id, frame));
                link.wire.send(&frame);
            }
            Effect::SendAppend { head, slice } => match slice.read() {
                Ok(bytes) => {
                    cx.trace.line(
                        cx.schedule.now(),
                        format_args!(
                            "{}>{to} Append {} e{} segment={} [{}, {}) hw={} start={}",
                            self.id,
                            head.id.partition,
                            head.leader_epoch,
                            head.segment,
                            head.base,
                            head.end,
                            head.high_watermark,
                            head.log_start
                        ),
                    );
                    link.wire.send_bytes(&frame::encode_append(&head, bytes.len()));
                    link.wire.send_bytes(&bytes);
                }
                Err(_) => self.work.push_back(Work::Out(to, Input::Close(Reason::Storage))),
            },
            Effect::AssignNodeId => self.work.push_back(Work::Out(to, Input::NodeIdAssigned(to))),
            Effect::Established { .. } => {
                outgoing.failures = 0;
                link.wire.decoder.set_limits(Limits::open(PAYLOAD_BYTES_MAX));
            }
            Effect::ReadJournal { from, bytes_max } => {
                let answer = match journal.read(from, bytes_max) {
                    Some(delta) => Input::JournalRead(delta),
                    None => Input::SnapshotRead(journal.snapshot()),
                };
                self.work.push_back(Work::Out(to, answer));
            }
            Effect::ReadSnapshot => self.work.push_back(Work::Out(to, Input::SnapshotRead(journal.snapshot()))),
            Effect::Pulse(_) => {}
            Effect::JournalAcked { end } => {
                let ids: Vec<_> = self.slots.iter().map(|slot| slot.id).collect();
                for id in ids {
                    self.on_slot(id, cx, |slot, effects| slot.replica.journal_acked(to, end, effects));
                }
            }
            Effect::Read { id, from, end, bytes_max } => {
                if let Some(slot) = self.slot(id) {
                    let outcome = sender::read(&slot.replica.log().reader(), from, end, bytes_max);
                    self.work.push_back(Work::Out(to, Input::Read { id, from, outcome }));
                }
            }
            Effect::CompareTail { id, end, tail } => {
                if let Some(slot) = self.slot(id) {
                    let same = sender::compare_tail(&slot.replica.log().reader(), end, tail);
                    self.work.push_back(Work::Out(to, Input::TailCompared { id, end, same }));
                }
            }
            Effect::Attached { id, leader_epoch, log_end, durable_end } => {
                let (session, now) = (link.wire.end.connection.0, cx.now());
                let follower = Position { leader_epoch, log_end, durable_end };
                self.on_slot(id, cx, |slot, effects| {
                    slot.replica.follower_attached(to, session, follower, now, effects);
                });
            }
            Effect::Acked { id, leader_epoch, log_end, durable_end } => {
                let (session, now) = (link.wire.end.connection.0, cx.now());
                let nodes = i32::from(cx.plan.nodes);
                let forged = cx.plan.mutation == Some(Mutation::ForgedIdentity);
                let credited = if forged { NodeId::new(to.get() % nodes + 1) } else { to };
                let session = if forged { self.session_of(credited).unwrap_or(session) } else { session };
                let follower = Position { leader_epoch, log_end, durable_end };
                self.on_slot(id, cx, |slot, effects| {
                    slot.replica.acked(credited, session, follower, now, effects);
                });
            }
            Effect::Truncating { id, from, to: end } => {
                cx.trace.line(
                    cx.schedule.now(),
                    format_args!("{} has {to} cut {} from {from} to {end}", self.id, id.partition),
                );
            }
            Effect::Resetting { id, from, to: begin, cause } => {
                cx.trace.line(
                    cx.schedule.now(),
                    format_args!("{} has {to} reset {} from {from} to {begin}: {cause:?}", self.id, id.partition),
                );
            }
            Effect::PartitionRefused { id, reason, detail } => {
                cx.trace.line(
                    cx.schedule.now(),
                    format_args!("{} is refused {} by {to}: {reason} {detail}", self.id, id.partition),
                );
            }
            Effect::Unreadable { id, from, detail } => {
                cx.trace.line(
                    cx.schedule.now(),
                    format_args!("{} cannot read {} at {from}: {detail}", self.id, id.partition),
                );
            }
            Effect::Fenced(fenced) => {
                let (generation, leader) = (fenced.generation, fenced.leader_id);
                self.work.push_front(Work::StepDown(generation, leader));
            }
            Effect::Close { reason, detail, by_peer } => {
                cx.trace.line(
                    cx.schedule.now(),
                    format_args!("{} closes the link to {to}: {reason} {detail} by_peer={by_peer}", self.id),
                );
                self.drop_link(to, cx);
            }
        }
    }

    fn session_of(&self, to: NodeId) -> Option<u64> {
        self.outgoing.get(&to)?.link.as_ref().map(|link| link.wire.end.connection.0)
    }

    /// Tells every sender that a partition's bounds moved.
    pub(super) fn tell_moved(&mut self, at: usize) {
        let Some(slot) = self.slots.get(at) else { return };
        let (id, bounds) = (slot.id, slot.replica.bounds());
        for (to, outgoing) in &self.outgoing {
            if outgoing.link.is_some() {
                self.work.push_back(Work::Out(*to, Input::Moved { id, bounds }));
            }
        }
    }

    /// Tells every sender that the journal moved.
    pub(super) fn tell_journal(&mut self, journal: &Journal) {
        for (to, outgoing) in &self.outgoing {
            if outgoing.link.is_some() {
                let input = Input::Journal { start: journal.start(), position: journal.position() };
                self.work.push_back(Work::Out(*to, input));
            }
        }
    }

    /// Bytes that wait in this node's buffers towards followers.
    pub fn queued_bytes(&self) -> usize {
        self.outgoing.values().filter_map(|outgoing| outgoing.link.as_ref()).map(|link| link.wire.queued()).sum()
    }
}
