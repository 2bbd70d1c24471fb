//! The follower's end of the links: accepts whoever dials, and carries out what the receiver core asks for.

use std::sync::Arc;

use chronik_model::{NodeId, Offset};
use chronik_replication::Position;
use chronik_replication::frame::Limits;
use chronik_replication::link::Reason;
use chronik_replication::link::receiver::{Config, Effect, Input, Receiver};
use chronik_replication::message::{Attach, Attached, Fenced, NONCE_BYTES, Progress, TopicIdPartition};

use super::process::{PAYLOAD_BYTES_MAX, Process, Refusal, Work};
use super::wire::Wire;
use super::{CLUSTER_ID, Context, time, wall};
use crate::journal::Journal;
use crate::mutation::{Mutation, add_left};
use crate::network::End;

/// A connection that was accepted.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) wire: Wire,
    pub(super) receiver: Receiver,
}

impl Process {
    /// Somebody dialled.
    pub(super) fn accepted(&mut self, end: End, journal: &Journal, cx: &mut Context<'_>) {
        let config = Config {
            cluster_id: Some(CLUSTER_ID),
            node_id: self.id,
            generation: journal.generation(),
            leader_id: journal.leader(),
            leader_advertised: advertised(journal.leader()),
            leads: self.leads,
            advertised: advertised(self.id),
            rack: "".into(),
            secret: None,
            timing: cx.timing(),
            journal: journal.position(),
        };
        self.incoming.insert(end, Incoming { wire: Wire::new(end), receiver: Receiver::new(config) });
        let mut nonce = [0; NONCE_BYTES];
        nonce.fill_with(|| cx.random.below(256) as u8);
        self.work.push_back(Work::In(end, Input::Connected { nonce }));
    }

    /// An accepted connection is gone.
    pub(super) fn hung_up(&mut self, end: End) {
        let Some(incoming) = self.incoming.get(&end) else { return };
        if let Err(error) = incoming.wire.decoder.end() {
            self.work.push_back(Work::In(end, Input::Malformed(error)));
        }
        self.work.push_back(Work::In(end, Input::Disconnected));
        self.work.push_back(Work::HungUp(end));
    }

    /// Tells every receiver that this node leads now.
    pub(super) fn tell_promoted(&mut self, journal: &Journal) {
        let fenced = Fenced { generation: journal.generation(), leader_id: self.id, advertised: advertised(self.id) };
        for end in self.incoming.keys() {
            self.work.push_back(Work::In(*end, Input::Promoted(fenced.clone())));
        }
    }

    /// Gives a receiver core an input and carries out what follows.
    pub(super) fn receiver_input(&mut self, end: End, input: Input, journal: &mut Journal, cx: &mut Context<'_>) {
        let Some(incoming) = self.incoming.get_mut(&end) else { return };
        let mut effects = Vec::new();
        incoming.receiver.handle(input, time(cx.now()), &mut effects);
        for effect in effects {
            self.receiver_effect(end, effect, journal, cx);
        }
        self.pump_incoming(end, cx);
    }

    pub(super) fn pump_incoming(&mut self, end: End, cx: &mut Context<'_>) {
        if let Some(incoming) = self.incoming.get_mut(&end) {
            incoming.wire.pump(cx);
        }
    }

    fn receiver_effect(&mut self, end: End, effect: Effect, journal: &mut Journal, cx: &mut Context<'_>) {
        let Some(incoming) = self.incoming.get_mut(&end) else { return };
        match effect {
            Effect::Send(frame) => {
                cx.trace.line(cx.schedule.now(), format_args!("{}< {:?}", self.id, frame));
                incoming.wire.send(&frame);
            }
            Effect::Adopt { .. } | Effect::Pulse(_) => {}
            Effect::Established { leader_id, generation, .. } => {
                incoming.wire.decoder.set_limits(Limits::open(PAYLOAD_BYTES_MAX));
                journal.heard(generation, leader_id);
                let known = Fenced { generation, leader_id, advertised: advertised(leader_id) };
                for other in self.incoming.keys().filter(|other| **other != end) {
                    self.work.push_back(Work::In(*other, Input::Generation(known.clone())));
                }
                if let Some(old) = self.following.replace(end).filter(|old| *old != end) {
                    self.work.push_back(Work::In(old, Input::Close(Reason::Replaced)));
                }
                self.generation = generation.get();
            }
            Effect::ApplyDelta(delta) => {
                let answer = match journal.append(&delta) {
                    Some(end) => Input::JournalApplied { end },
                    None => failed(Reason::Metadata, "the journal does not continue"),
                };
                self.work.push_back(Work::In(end, answer));
            }
            Effect::ApplySnapshot(snapshot) => {
                let answer = match journal.install(&snapshot) {
                    Some(end) => Input::JournalApplied { end },
                    None => failed(Reason::Metadata, "the image makes no sense"),
                };
                self.work.push_back(Work::In(end, answer));
            }
            Effect::Attach(attach) => {
                let mutation = cx.plan.mutation;
                let answer = self.follow(attach.id, cx, |slot, effects| {
                    let mut answer = slot.replica.attach(&attach);
                    if mutation == Some(Mutation::WatermarkBeforeCut) {
                        let Attach { id, leader_epoch, high_watermark, log_start, first_segment, .. } = attach;
                        let progress = Progress { id, leader_epoch, high_watermark, log_start, first_segment };
                        let _ = slot.replica.progress(&progress, effects);
                    }
                    if mutation == Some(Mutation::EpochsForgotten)
                        && !slot.fetched
                        && let Ok(answer) = &mut answer
                    {
                        answer.epochs.clear();
                    }
                    if let Ok(answer) = &mut answer {
                        add_left(&mut answer.epochs, &slot.left);
                    }
                    answer
                });
                let answer = match answer {
                    Ok(Attached { damaged: Some(offset), .. }) if mutation == Some(Mutation::DamageStays) => {
                        Err((Reason::Storage, format!("damaged at {offset}")))
                    }
                    answer => answer,
                };
                self.answer(end, attach.id, answer);
            }
            Effect::Truncate(mut truncate) => {
                if cx.plan.mutation == Some(Mutation::CutAll)
                    && let Some(slot) = self.slot(truncate.id)
                {
                    truncate.to = slot.replica.log().log_start();
                }
                self.deafen(truncate.id, cx);
                self.leave_epochs(truncate.id, truncate.to, cx);
                let prepared = self.follow(truncate.id, cx, |slot, _| slot.replica.prepare_truncate(&truncate));
                let answer = prepared.and_then(|()| self.checkpoint_before_cut()).and_then(|()| {
                    self.follow(truncate.id, cx, |slot, effects| slot.replica.truncate(&truncate, effects))
                });
                self.answer(end, truncate.id, answer);
            }
            Effect::Reset(reset) => {
                self.deafen(reset.id, cx);
                let prepared = self.follow(reset.id, cx, |slot, _| slot.replica.prepare_reset(&reset));
                let log_start = self.slot(reset.id).map_or(Offset::ZERO, |slot| slot.replica.log().log_start());
                let answer = prepared
                    .and_then(|()| self.checkpoint_before_cut())
                    .and_then(|()| self.follow(reset.id, cx, |slot, effects| slot.replica.reset(&reset, effects)))
                    .and_then(|attached| {
                        // What comes now must not lie before the log start that is on file.
                        if reset.to < log_start {
                            self.checkpoint_before_cut().map(|()| attached)
                        } else {
                            Ok(attached)
                        }
                    });
                self.answer(end, reset.id, answer);
            }
            Effect::Append { mut head, batches } => {
                if self.slot(head.id).is_some_and(|slot| slot.deaf) {
                    head.high_watermark = Offset::ZERO;
                }
                let now = wall(cx.now());
                let outcome = self.follow(head.id, cx, |slot, effects| {
                    let appended = slot.replica.append_replicated(&head, &batches, now, effects);
                    if appended.is_ok() {
                        slot.heard = head.leader_epoch;
                        slot.fetched = true;
                    }
                    appended
                });
                match outcome {
                    Ok(_) => self.tell_advanced(end, head.id),
                    Err(refusal) => self.work.push_back(Work::In(end, failed_with(head.id, refusal))),
                }
            }
            Effect::Progress(progress) if self.slot(progress.id).is_some_and(|slot| slot.deaf) => {}
            Effect::Progress(progress) => {
                let outcome = self.follow(progress.id, cx, |slot, effects| {
                    let told = slot.replica.progress(&progress, effects);
                    slot.heard = if told.is_ok() { progress.leader_epoch } else { slot.heard };
                    told
                });
                if let Err(refusal) = outcome {
                    self.work.push_back(Work::In(end, failed_with(progress.id, refusal)));
                }
            }
            Effect::Detach(_) => {}
            Effect::Superseded(fenced) => {
                self.work.push_front(Work::StepDown(fenced.generation, fenced.leader_id));
            }
            Effect::Close { reason, detail, by_peer } => {
                cx.trace.line(
                    cx.schedule.now(),
                    format_args!("{} closes an accepted link: {reason} {detail} by_peer={by_peer}", self.id),
                );
                self.drop_incoming(end, cx);
            }
        }
    }

    /// M8: nothing is heard of high watermarks after a cut.
    fn deafen(&mut self, id: TopicIdPartition, cx: &Context<'_>) {
        if cx.plan.mutation == Some(Mutation::WatermarkStuck)
            && let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id)
        {
            slot.deaf = true;
        }
    }

    /// M4: what a cut should take out of the history stays in it.
    fn leave_epochs(&mut self, id: TopicIdPartition, to: Offset, cx: &Context<'_>) {
        if cx.plan.mutation == Some(Mutation::EpochsLeft)
            && let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id)
        {
            let epochs = slot.replica.log().leader_epochs();
            slot.left.extend(epochs.entries().iter().filter(|entry| entry.1 >= to));
        }
    }

    pub(super) fn drop_incoming(&mut self, end: End, cx: &mut Context<'_>) {
        if let Some(incoming) = self.incoming.remove(&end) {
            incoming.wire.close(cx);
        }
        if self.following == Some(end) {
            self.following = None;
        }
    }

    /// Tells the receiver how far a partition has come.
    pub(super) fn tell_advanced(&mut self, end: End, id: TopicIdPartition) {
        if let Some(slot) = self.slot(id) {
            let Position { leader_epoch, log_end, durable_end } = slot.replica.position();
            self.work.push_back(Work::In(end, Input::Advanced { id, leader_epoch, log_end, durable_end }));
        }
    }

    fn answer(&mut self, end: End, id: TopicIdPartition, answer: Result<Attached, Refusal>) {
        let input = match answer {
            Ok(attached) => Input::Attached(attached),
            Err(refusal) => failed_with(id, refusal),
        };
        self.work.push_back(Work::In(end, input));
    }
}

fn advertised(node: NodeId) -> Arc<str> {
    if node == NodeId::NONE { "".into() } else { format!("node-{node}:9092").into() }
}

fn failed(reason: Reason, detail: &str) -> Input {
    Input::Failed { id: None, reason, detail: detail.into() }
}

fn failed_with(id: TopicIdPartition, (reason, detail): Refusal) -> Input {
    Input::Failed { id: Some(id), reason, detail: detail.into() }
}
