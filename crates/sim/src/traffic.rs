//! What clients and nodes say to each other in a run: produces with their answers and time-outs, and polls.

use std::time::Duration;

use chronik_log::{ReadBound, ReadError};
use chronik_model::{NodeId, Offset};
use chronik_record::BatchHeader;
use chronik_replication::{Acks, ProduceError};

use crate::clients::{Answer, PATIENCE, Sending};
use crate::ledger::Batch;
use crate::node::{Outcome, partition_id, wall};
use crate::sight::{Role, Violation};
use crate::world::{Event, World};

impl World {
    /// A client's request or answer takes a moment.
    fn on_the_way(&mut self) -> Duration {
        let (from_ms, to_ms) = self.plan.network.delay_ms;
        self.random.millis(from_ms, to_ms)
    }

    pub(crate) fn produce(&mut self, at: usize) {
        let now = wall(self.schedule.now());
        let Some(producer) = self.clients.producers.get(at) else { return };
        let sending = match producer.sending.clone() {
            Some(sending) => sending,
            None if !self.producing => return,
            None => {
                let made = self.clients.next_batch(at, now, self.plan.partitions, &mut self.random);
                let Some(made) = made else { return };
                let idempotent = self.clients.producers.get(at).is_some_and(|producer| producer.idempotent);
                let partition = usize::try_from(made.partition.get()).unwrap_or(0);
                let number = self
                    .watches
                    .get_mut(partition)
                    .map_or(0, |watch| watch.history.send(made.batch.header().crc, idempotent));
                Sending { number, ..made }
            }
        };
        let token = self.clients.token();
        let delay = self.on_the_way();
        let Some(producer) = self.clients.producers.get_mut(at) else { return };
        let node = producer.target;
        producer.sending = Some(Sending { token: Some(token), ..sending });
        self.schedule.after(delay, Event::ProduceArrives { node, token });
        self.schedule.after(PATIENCE, Event::ProduceTimeout { token });
    }

    pub(crate) fn produce_arrives(&mut self, id: NodeId, token: u64) -> Result<(), Violation> {
        let Some((at, sending)) = self.clients.of_token(token) else { return Ok(()) };
        let (batch, partition) = (sending.batch.clone(), sending.partition);
        let acks = self.clients.producers.get(at).and_then(|producer| producer.acks);
        let reachable = self.node(id).is_some_and(|node| node.is_up() && !node.paused);
        if !reachable {
            return Ok(());
        }
        let now = wall(self.schedule.now());
        let mut answer = None;
        self.with_node(id, |node, cx| {
            node.with_process(cx, |process, _, cx| {
                if !process.leads() {
                    answer = Some(Answer::NotLeader);
                    return;
                }
                let outcome = process.on_slot(partition_id(partition), cx, |slot, effects| {
                    let replica = &mut slot.replica;
                    match replica.append(&batch, acks.unwrap_or(Acks::Leader), now, effects) {
                        Ok(appended) if acks == Some(Acks::All) => {
                            replica.await_committed(appended.next_offset, token, effects);
                            None
                        }
                        Ok(_) => Some(Answer::Done),
                        Err(ProduceError::NotLeader) => Some(Answer::NotLeader),
                        Err(ProduceError::NotEnoughReplicas { .. }) => Some(Answer::TryAgain),
                        Err(ProduceError::Append(error)) if error.retryable() => Some(Answer::TryAgain),
                        Err(ProduceError::Append(_)) => Some(Answer::OutOfSequence),
                    }
                });
                answer = outcome.flatten();
            });
        });
        let offline = self
            .node(id)
            .and_then(|node| node.process.as_ref())
            .is_some_and(|process| process.slots().iter().any(|slot| slot.replica.log().offline().is_some()));
        if offline {
            self.outcomes.push_back((id, Outcome::Broken("append".to_owned())));
        }
        self.observe(id)?;
        if answer == Some(Answer::Done) {
            self.acknowledge(id, token, false)?;
        }
        if let Some(answer) = answer {
            let delay = self.on_the_way();
            self.schedule.after(delay, Event::Answered { token, answer });
        }
        Ok(())
    }

    /// A node answers that a batch is where its acks asked for.
    pub(crate) fn acknowledge(&mut self, id: NodeId, token: u64, all: bool) -> Result<(), Violation> {
        let Some((_, sending)) = self.clients.of_token(token) else { return Ok(()) };
        let (number, crc, partition) = (sending.number, sending.batch.header().crc, sending.partition);
        let Some(watch) = usize::try_from(partition.get()).ok().and_then(|at| self.watches.get_mut(at)) else {
            return Ok(());
        };
        let batch = watch.ledger(id).and_then(|ledger| ledger.iter().rev().find(|batch| batch.crc == crc)).copied();
        if let (Some(batch), Some(sight)) = (batch, watch.last(id).copied()) {
            watch.acknowledged(number, &sight, &batch, all)?;
            self.counts.acknowledged += 1;
        }
        Ok(())
    }

    pub(crate) fn answered(&mut self, token: u64, answer: Answer) {
        let Some((at, _)) = self.clients.of_token(token) else { return };
        match answer {
            Answer::Done => {
                if let Some(producer) = self.clients.producers.get_mut(at) {
                    producer.sending = None;
                }
                let delay = self.random.millis(0, self.plan.produce_ms);
                self.schedule.after(delay, Event::Produce { producer: at });
            }
            Answer::NotLeader => self.send_again(at, true, 200),
            Answer::TryAgain => self.send_again(at, false, 400),
            Answer::OutOfSequence => {
                self.clients.start_over(at);
                self.send_again(at, false, 400);
            }
        }
    }

    pub(crate) fn produce_timeout(&mut self, token: u64) {
        let Some((at, _)) = self.clients.of_token(token) else { return };
        let forgets = self.clients.producers.get(at).is_some_and(|producer| !producer.idempotent);
        if forgets {
            // Whether it was appended is not known, and sending it again could append it twice.
            if let Some(producer) = self.clients.producers.get_mut(at) {
                producer.sending = None;
            }
        }
        self.send_again(at, true, 200);
    }

    fn send_again(&mut self, at: usize, elsewhere: bool, within_ms: u64) {
        let nodes = u64::from(self.plan.nodes);
        let other = NodeId::new(self.random.between(1, nodes) as i32);
        let Some(producer) = self.clients.producers.get_mut(at) else { return };
        if elsewhere {
            producer.target = other;
        }
        if let Some(sending) = &mut producer.sending {
            sending.token = None;
        }
        let delay = self.random.millis(10, within_ms);
        self.schedule.after(delay, Event::Produce { producer: at });
    }

    pub(crate) fn poll(&mut self, at: usize) -> Result<(), Violation> {
        let delay = self.random.millis(30, 400);
        self.schedule.after(delay, Event::Poll { consumer: at });
        let nodes = u64::from(self.plan.nodes);
        if self.random.one_in(12) {
            let other = NodeId::new(self.random.between(1, nodes) as i32);
            if let Some(consumer) = self.clients.consumers.get_mut(at) {
                *consumer = other;
            }
        }
        let Some(id) = self.clients.consumers.get(at).copied() else { return Ok(()) };
        for partition in 0..self.watches.len() {
            self.poll_partition(at, id, partition)?;
        }
        Ok(())
    }

    fn poll_partition(&mut self, at: usize, id: NodeId, partition: usize) -> Result<(), Violation> {
        let consumer = u32::try_from(at).unwrap_or(0);
        let Some(node) = usize::try_from(id.get() - 1).ok().and_then(|at| self.nodes.get(at)) else { return Ok(()) };
        let Some(process) = node.process.as_ref().filter(|_| !node.paused) else { return Ok(()) };
        let Some((slot, _)) =
            process.sights(&self.generations).nth(partition).filter(|(_, sight)| sight.role != Role::Nobody)
        else {
            return Ok(());
        };
        let Some(watch) = self.watches.get_mut(partition) else { return Ok(()) };
        let position = watch.history.position(consumer);
        let reader = slot.replica.log().reader();
        let slice = match reader.read(position, ReadBound::HighWatermark, 2_000, true) {
            Ok(slice) => slice,
            Err(ReadError::OutOfRange { log_start, .. }) if position < log_start => {
                watch.history.seek(consumer, log_start);
                return Ok(());
            }
            // It waits until the node has come as far as another one had.
            Err(_) => return Ok(()),
        };
        let Ok(bytes) = slice.read() else { return Ok(()) };
        let (mut rest, mut batches) = (bytes.as_slice(), Vec::new());
        while let Ok(header) = BatchHeader::read(rest) {
            rest = rest.get(header.size_bytes()..).unwrap_or_default();
            batches.push(Batch::of(&header));
        }
        self.counts.polled += batches.len() as u64;
        watch.polled(consumer, &batches)
    }

    /// A consumer whose position lies in what was lost begins where the log of the new history ends.
    pub(crate) fn seek_lost(&mut self, partition: usize, to: Offset) {
        let Some(watch) = self.watches.get_mut(partition) else { return };
        for consumer in 0..u32::try_from(self.clients.consumers.len()).unwrap_or(0) {
            if watch.history.position(consumer) > to {
                watch.history.seek(consumer, to);
            }
        }
    }
}
