//! A running process: its replicas, its links, and the work that one event leads to.
//!
//! Effects are carried out in the order they come, answers wait in one queue. Nothing in here outlives the process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chronik_log::dir::DataDir;
use chronik_log::fs::Fs;
use chronik_log::{Log, LogConfig};
use chronik_model::{Generation, Instant, LeaderEpoch, NodeId, PartitionIndex, TopicPartition};
use chronik_replication::isr::Proposal;
use chronik_replication::link::{Reason, receiver, sender};
use chronik_replication::message::{Frame, TopicIdPartition};
use chronik_replication::{Durability, Effect, FollowError, Mode, Replica, Settings};

use super::group_commit::GroupCommit;
use super::incoming::Incoming;
use super::outgoing::Outgoing;
use super::slot::Slot;
use super::{CLUSTER_ID, Context, Node, Outcome, TOPIC, Wants, partition_id, time, wall};
use crate::journal::Journal;
use crate::mutation::{Mutation, cut_damage, hide_divergence};
use crate::network::{Arrival, End};
use crate::plan::{self, Plan};
use crate::sight::Sight;
use crate::world::Event;

/// Batches of an append frame that a receiver takes.
pub(super) const PAYLOAD_BYTES_MAX: u32 = 1 << 20;
/// Steps of work after one event. A core that never comes to rest is broken.
const STEPS_MAX: u32 = 100_000;

/// Why a replica did not do what its leader asked for.
pub(super) type Refusal = (Reason, String);

/// What is still to be done for the present event.
#[derive(Debug)]
pub(super) enum Work {
    Out(NodeId, sender::Input),
    In(End, receiver::Input),
    /// Cut one more frame out of what a follower, or a leader, has sent.
    DecodeOut(NodeId),
    DecodeIn(End),
    /// The connection is gone, and everything that came on it was handled.
    Gone(NodeId),
    HungUp(End),
    /// Somebody leads in a higher generation.
    StepDown(Generation, NodeId),
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    pub(super) id: NodeId,
    pub(super) run: u32,
    dir: DataDir,
    commits: GroupCommit,
    pub(super) leads: bool,
    /// It was told to lead and may not: it serves nobody until an operator starts it again.
    fenced: bool,
    /// The generation it leads in or follows.
    pub(super) generation: i32,
    replicas: Vec<NodeId>,
    pub(super) slots: Vec<Slot>,
    pub(super) outgoing: BTreeMap<NodeId, Outgoing>,
    pub(super) incoming: BTreeMap<End, Incoming>,
    pub(super) following: Option<End>,
    pub(super) work: VecDeque<Work>,
    tick_at: Option<Instant>,
}

impl Process {
    pub(super) fn start(node: &mut Node, others: &[NodeId], cx: &mut Context<'_>) -> Result<Self, String> {
        let fs: Arc<dyn Fs> = Arc::new(node.disk.clone());
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let dir = DataDir::open(Arc::clone(&fs), "/data".into(), node.id, CLUSTER_ID).map_err(|e| text(&e))?;
        let clean = dir.take_clean_stop().map_err(|e| text(&e))?;
        let checkpoints = dir.read_checkpoints().map_err(|e| text(&e))?;
        let mut logs = Vec::new();
        let mut needs_sync = false;
        for index in 0..cx.plan.partitions {
            let tp = TopicPartition::new(TOPIC, index);
            let (path, config) = (dir.partition_dir(&tp), log_config(cx.plan));
            let known = checkpoints.of(&tp, |_| true);
            if cx.plan.mutation == Some(Mutation::DataWithoutMetadata) && cx.random.one_in(4) {
                let _ = fs.remove_dir_all(&path);
            }
            let exists = fs.exists(&path).map_err(|e| text(&e))?;
            let log = if exists || known.is_known() {
                let open = || {
                    let (path, tp, config) = (path.clone(), tp.clone(), config.clone());
                    Log::open(Arc::clone(&fs), path, tp, config, known, clean, wall(cx.schedule.now()))
                };
                let (mut log, mut found) = open().map_err(|e| text(&e))?;
                if cx.plan.mutation == Some(Mutation::DamageIsTail) && !found.damage.is_empty() {
                    cut_damage(&*fs, &log);
                    let path = path.clone();
                    let again = Log::open(Arc::clone(&fs), path, tp, config, None, false, wall(cx.now()));
                    (log, found) = again.map_err(|e| text(&e))?;
                }
                if !found.damage.is_empty() {
                    cx.trace.line(cx.now(), format_args!("{} finds damage {:?}", node.id, found.damage));
                }
                needs_sync |= found.needs_sync;
                log
            } else {
                needs_sync = true;
                Log::create(Arc::clone(&fs), path, tp, config, false).map_err(|e| text(&e))?
            };
            logs.push(log);
        }
        cut_where_lost(&dir, &mut logs)?;
        if needs_sync && cx.plan.fsync {
            // The broker does either, depending on how many logs there are.
            if cx.random.one_in(2) {
                dir.sync_all().map_err(|e| text(&e))?;
                logs.iter_mut().for_each(Log::synced_all);
            } else {
                logs.iter_mut().try_for_each(Log::flush).map_err(|e| text(&e))?;
            }
        }
        let journal = &mut node.journal;
        let replicas: Vec<NodeId> = (1..=i32::from(cx.plan.nodes)).map(NodeId::new).collect();
        let may_lead = journal.leader() == node.id || journal.leader() == NodeId::NONE;
        let leads = node.wants == Wants::Lead && may_lead;
        if leads {
            if journal.leader() == NodeId::NONE {
                journal.promote(node.id);
            } else if cx.plan.mutation != Some(Mutation::EpochKept) {
                journal.lead_again();
            }
        }
        let mut process = Self {
            id: node.id,
            run: node.run,
            commits: GroupCommit::new(&dir, cx.plan),
            dir,
            leads,
            fenced: node.wants == Wants::Lead && !may_lead,
            generation: journal.generation().get(),
            replicas,
            slots: Vec::new(),
            outgoing: BTreeMap::new(),
            incoming: BTreeMap::new(),
            following: None,
            work: VecDeque::new(),
            tick_at: None,
        };
        for (index, mut log) in (0..).zip(logs) {
            if !leads && cx.plan.mutation == Some(Mutation::TruncateToHighWatermark) {
                let _ = log.truncate_to(log.high_watermark());
            }
            let partition = PartitionIndex::new(index);
            let mut effects = Vec::new();
            let replica = if leads {
                let assignment = journal.assignment(partition, &process.replicas);
                Replica::lead_assigned(log, assignment, settings(cx.plan), cx.now(), &mut effects)
            } else {
                Replica::follow(log, journal.leader_epoch(), settings(cx.plan))
            };
            process.slots.push(Slot::new(partition_id(partition), replica));
            process.carry_out(process.slots.len() - 1, effects, cx);
        }
        if leads {
            process.feed(others, cx);
        }
        process.plan_tick(cx);
        Ok(process)
    }

    /// Whether it takes writes.
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// Its replicas.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// What an observer sees of its replicas. `generations` says in which generation each leader epoch is: a replica
    /// belongs to the history of the leader it is attached to, whatever else its process has heard.
    pub fn sights<'a>(
        &'a self,
        generations: &'a BTreeMap<LeaderEpoch, u64>,
    ) -> impl Iterator<Item = (&'a Slot, Sight)> {
        self.slots.iter().map(|slot| (slot, slot.sight(self.id, self.run, generations, !self.fenced)))
    }

    pub(super) fn owns(&self, end: End) -> bool {
        self.incoming.contains_key(&end) || self.outgoing.values().any(|outgoing| outgoing.owns(end))
    }

    /// Begins to dial the nodes it feeds.
    fn feed(&mut self, others: &[NodeId], cx: &mut Context<'_>) {
        for to in others {
            self.outgoing.insert(*to, Outgoing::default());
            self.dial(*to, cx);
        }
    }

    /// An operator promotes it.
    pub fn promote(&mut self, others: &[NodeId], journal: &mut Journal, cx: &mut Context<'_>) {
        journal.promote(self.id);
        self.leads = true;
        self.fenced = false;
        self.generation = journal.generation().get();
        self.following = None;
        self.tell_promoted(journal);
        for at in 0..self.slots.len() {
            let mut effects = Vec::new();
            if let Some(slot) = self.slots.get_mut(at) {
                let assignment = journal.assignment(slot.partition(), &self.replicas);
                slot.replica.become_leader(assignment, cx.now(), &mut effects);
                slot.heard = slot.replica.leader_epoch();
            }
            self.carry_out(at, effects, cx);
        }
        self.feed(others, cx);
    }

    /// Something reached one of its ends.
    pub fn arrived(&mut self, arrival: Arrival, journal: &mut Journal, cx: &mut Context<'_>) {
        match arrival {
            Arrival::Accepted(end, _) => self.accepted(end, journal, cx),
            Arrival::Connected(end) => {
                if let Some(to) = self.dialled(end) {
                    self.connected(to, end, journal, cx);
                }
            }
            Arrival::Refused(end) | Arrival::Closed(end) => match self.dialled(end) {
                Some(to) => self.disconnected(to, cx),
                None => self.hung_up(end),
            },
            Arrival::Bytes(end, bytes) => {
                if let Some(to) = self.dialled(end) {
                    if let Some(link) = self.outgoing.get_mut(&to).and_then(|outgoing| outgoing.link.as_mut()) {
                        link.wire.decoder.feed(&bytes);
                        link.sender.heard(cx.now());
                        self.work.push_back(Work::DecodeOut(to));
                    }
                } else if let Some(incoming) = self.incoming.get_mut(&end) {
                    incoming.wire.decoder.feed(&bytes);
                    incoming.receiver.heard(cx.now());
                    self.work.push_back(Work::DecodeIn(end));
                }
            }
        }
    }

    fn dialled(&self, end: End) -> Option<NodeId> {
        self.outgoing.iter().find(|(_, outgoing)| outgoing.owns(end)).map(|(to, _)| *to)
    }

    /// The network may take more of what waits.
    pub fn pump(&mut self, end: End, cx: &mut Context<'_>) {
        match self.dialled(end) {
            Some(to) => self.pump_outgoing(to, cx),
            None => self.pump_incoming(end, cx),
        }
    }

    /// Does everything that the present event leads to.
    pub(super) fn work_off(&mut self, journal: &mut Journal, cx: &mut Context<'_>) {
        let mut steps = 0;
        while let Some(work) = self.work.pop_front() {
            steps += 1;
            assert!(steps < STEPS_MAX, "node {} does not come to rest: {work:?}", self.id);
            match work {
                Work::Out(to, mut input) => {
                    if let sender::Input::Frame(Frame::Attached(attached)) = &mut input
                        && cx.plan.mutation == Some(Mutation::DivergenceHidden)
                        && let Some(slot) = self.slot(attached.id)
                    {
                        hide_divergence(attached, slot.replica.log());
                    }
                    self.sender_input(to, input, journal, cx);
                }
                Work::In(end, input) => self.receiver_input(end, input, journal, cx),
                Work::DecodeOut(to) => {
                    let Some(link) = self.outgoing.get_mut(&to).and_then(|outgoing| outgoing.link.as_mut()) else {
                        continue;
                    };
                    match link.wire.decoder.next_frame() {
                        Ok(None) => {}
                        Ok(Some(frame)) => {
                            self.work.push_back(Work::Out(to, sender::Input::Frame(frame)));
                            self.work.push_back(Work::DecodeOut(to));
                        }
                        Err(error) => self.work.push_back(Work::Out(to, sender::Input::Malformed(error))),
                    }
                }
                Work::DecodeIn(end) => {
                    let Some(incoming) = self.incoming.get_mut(&end) else { continue };
                    match incoming.wire.decoder.next_frame() {
                        Ok(None) => self.work.push_back(Work::In(end, receiver::Input::Settled)),
                        Ok(Some(frame)) => {
                            self.work.push_back(Work::In(end, receiver::Input::Frame(frame)));
                            self.work.push_back(Work::DecodeIn(end));
                        }
                        Err(error) => self.work.push_back(Work::In(end, receiver::Input::Malformed(error))),
                    }
                }
                Work::Gone(to) => self.drop_link(to, cx),
                Work::HungUp(end) => self.drop_incoming(end, cx),
                Work::StepDown(generation, leader) => self.step_down(generation, leader, journal, cx),
            }
        }
    }

    fn step_down(&mut self, generation: Generation, leader: NodeId, journal: &mut Journal, cx: &mut Context<'_>) {
        journal.heard(generation, leader);
        if !self.leads || generation.get() <= self.generation {
            return;
        }
        self.leads = false;
        self.fenced = true;
        for at in 0..self.slots.len() {
            let mut effects = Vec::new();
            if let Some(slot) = self.slots.get_mut(at) {
                slot.replica.step_down(&mut effects);
            }
            self.carry_out(at, effects, cx);
        }
        self.drop_links(Reason::Fenced, cx);
        cx.outcomes.push_back((self.id, Outcome::Fenced(generation.get())));
    }

    // ---- replicas -------------------------------------------------------------------------------------------------

    pub(super) fn slot(&self, id: TopicIdPartition) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.id == id)
    }

    /// Does something with a replica and carries out what follows.
    pub fn on_slot<R>(
        &mut self,
        id: TopicIdPartition,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Slot, &mut Vec<Effect<u64>>) -> R,
    ) -> Option<R> {
        let at = self.slots.iter().position(|slot| slot.id == id)?;
        let slot = self.slots.get_mut(at)?;
        let before = slot.replica.bounds();
        let mut effects = Vec::new();
        let result = act(slot, &mut effects);
        slot.replica.check_invariants();
        slot.replica.log().check_invariants();
        let moved = slot.replica.bounds() != before;
        self.carry_out(at, effects, cx);
        if moved {
            self.tell_moved(at);
        }
        Some(result)
    }

    /// As [`Process::on_slot`], for what a leader asks a follower.
    pub(super) fn follow<R>(
        &mut self,
        id: TopicIdPartition,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Slot, &mut Vec<Effect<u64>>) -> Result<R, FollowError>,
    ) -> Result<R, Refusal> {
        match self.on_slot(id, cx, act) {
            None => Err((Reason::UnknownPartition, format!("{id}"))),
            Some(Ok(result)) => Ok(result),
            Some(Err(error)) => {
                let refusal = (error.reason(), error.to_string());
                let offline = self.slot(id).is_some_and(|slot| slot.replica.log().offline().is_some());
                if offline {
                    cx.outcomes.push_back((self.id, Outcome::Broken(refusal.1.clone())));
                }
                Err(refusal)
            }
        }
    }

    fn carry_out(&mut self, at: usize, effects: Vec<Effect<u64>>, cx: &mut Context<'_>) {
        for effect in effects {
            let Some(slot) = self.slots.get_mut(at) else { return };
            match effect {
                Effect::Acknowledged(token) => cx.outcomes.push_back((self.id, Outcome::Acknowledged(token))),
                Effect::Refused(token, _) => cx.outcomes.push_back((self.id, Outcome::Refused(token))),
                Effect::HighWatermarkMoved(to) => {
                    cx.trace.line(cx.schedule.now(), format_args!("{} {} hw={to}", self.id, slot.partition()));
                }
                Effect::FlushWanted => slot.begin_flush(self.id, self.run, cx),
                Effect::AlterIsr(proposal) => {
                    let delay = cx.random.millis(0, 30);
                    let partition = slot.partition();
                    cx.trace.line(cx.schedule.now(), format_args!("{} {partition} proposes {proposal:?}", self.id));
                    cx.schedule.after(delay, Event::IsrProposed { node: self.id, run: self.run, partition, proposal });
                }
                Effect::TailCut(cut) => {
                    cx.trace.line(cx.schedule.now(), format_args!("{} {} {cut:?}", self.id, slot.partition()));
                }
            }
        }
    }

    /// A proposed change of the ISR reaches the controller. Some are refused, as when it is busy.
    pub fn decide_isr(
        &mut self,
        partition: PartitionIndex,
        proposal: &Proposal,
        journal: &mut Journal,
        cx: &mut Context<'_>,
    ) {
        let accepted = self.leads && !cx.random.one_in(8) && journal.alter_isr(partition, proposal);
        let now = cx.now();
        if accepted && cx.plan.mutation == Some(Mutation::IsrTooEarly) {
            let isr = self.replicas.clone();
            let partition_epoch = proposal.partition_epoch + 1;
            journal.alter_isr(partition, &Proposal { isr, partition_epoch, ..proposal.clone() });
        }
        let assignment = journal.assignment(partition, &self.replicas);
        let journal_end = journal.position().end;
        cx.trace.line(now, format_args!("{} {partition} isr {:?} accepted={accepted}", self.id, assignment.isr));
        let refused = proposal.partition_epoch;
        let unheard = cx.plan.mutation == Some(Mutation::IsrUnheard);
        self.on_slot(partition_id(partition), cx, |slot, effects| {
            if accepted && unheard {
                slot.replica.assign(assignment, now, effects);
            } else if accepted {
                slot.replica.assign_in_journal(assignment, journal_end, now, effects);
            } else {
                slot.replica.isr_refused(refused, now, effects);
            }
        });
        if accepted {
            self.tell_journal(journal);
        }
    }

    /// A sync has ended.
    pub fn flushed(&mut self, partition: PartitionIndex, cx: &mut Context<'_>) {
        let id = partition_id(partition);
        let (node, run) = (self.id, self.run);
        let retried = cx.plan.mutation == Some(Mutation::SyncRetried);
        let mut commits = std::mem::take(&mut self.commits);
        self.on_slot(id, cx, |slot, effects| slot.end_flush(retried, &mut commits, effects));
        self.commits = commits;
        if let Err(error) = self.commits.attend(&self.dir, &mut self.slots, cx.random) {
            cx.outcomes.push_back((node, Outcome::Broken(error.to_string())));
            return;
        }
        let at = self.slots.iter().position(|slot| slot.id == id);
        if let Some(slot) = at.and_then(|at| self.slots.get_mut(at)) {
            if let Some(why) = slot.replica.log().offline() {
                cx.outcomes.push_back((node, Outcome::Broken(why.to_owned())));
                return;
            }
            slot.begin_flush(node, run, cx);
        }
        if let Some(end) = self.following {
            self.tell_advanced(end, id);
            self.work.push_back(Work::In(end, receiver::Input::Settled));
        }
    }

    // ---- time and disk --------------------------------------------------------------------------------------------

    /// The deadline that was planned has come.
    pub fn tick(&mut self, at: Instant, cx: &mut Context<'_>) {
        if self.tick_at != Some(at) {
            return;
        }
        self.tick_at = None;
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= at);
        for (to, outgoing) in &self.outgoing {
            if outgoing.link.as_ref().is_some_and(|link| due(link.sender.deadline())) {
                self.work.push_back(Work::Out(*to, sender::Input::Tick));
            }
        }
        for (end, incoming) in &self.incoming {
            if due(incoming.receiver.deadline()) {
                self.work.push_back(Work::In(*end, receiver::Input::Tick));
            }
        }
        let ids: Vec<_> = self.slots.iter().filter(|slot| due(slot.replica.deadline())).map(|slot| slot.id).collect();
        for id in ids {
            self.on_slot(id, cx, |slot, effects| slot.replica.tick(at, effects));
        }
    }

    pub(super) fn plan_tick(&mut self, cx: &mut Context<'_>) {
        let senders = self.outgoing.values().filter_map(|outgoing| outgoing.link.as_ref()?.sender.deadline());
        let receivers = self.incoming.values().filter_map(|incoming| incoming.receiver.deadline());
        let replicas = self.slots.iter().filter_map(|slot| slot.replica.deadline());
        let Some(next) = senders.chain(receivers).chain(replicas).min() else { return };
        let next = next.max(cx.now());
        if self.tick_at.is_none_or(|planned| next < planned) {
            self.tick_at = Some(next);
            cx.schedule.at(next, Event::Tick { node: self.id, run: self.run, at: next });
        }
    }

    /// Writes the checkpoint of all replicas.
    ///
    /// # Errors
    /// The disk failed.
    pub fn write_checkpoint(&mut self) -> Result<(), String> {
        self.commits.empty(false, &self.dir, &mut self.slots).map_err(|error| error.to_string())?;
        let mut checkpoints = BTreeMap::new();
        for slot in &mut self.slots {
            let name = slot.replica.log().topic_partition().clone();
            checkpoints.insert(name, slot.replica.log_mut().checkpoint().map_err(|error| error.to_string())?);
        }
        self.dir.write_checkpoint(&checkpoints).map_err(|error| error.to_string())
    }

    /// Syncs the logs of all replicas.
    ///
    /// # Errors
    /// The disk failed.
    pub fn sync(&mut self) -> Result<(), String> {
        let mut synced = Ok(());
        for slot in &mut self.slots {
            synced = synced.and(slot.replica.log_mut().flush().map_err(|error| error.to_string()));
        }
        if synced.is_err() {
            self.dir.forget_written().map_err(|error| error.to_string())?;
        }
        synced
    }

    /// Writes down how far all replicas are written, as long as the page cache lives.
    ///
    /// # Errors
    /// The disk failed.
    pub fn write_written(&mut self) -> Result<(), String> {
        let mut written = BTreeMap::new();
        for slot in &mut self.slots {
            let line = slot.replica.log_mut().written_checkpoint().map_err(|error| error.to_string())?;
            written.extend(line.map(|line| (slot.replica.log().topic_partition().clone(), line)));
        }
        self.dir.write_written(&written).map_err(|error| error.to_string())
    }

    pub(super) fn checkpoint_before_cut(&mut self) -> Result<(), Refusal> {
        self.write_checkpoint().map_err(|error| (Reason::Storage, error))
    }

    /// Retention, as it runs from time to time: a leader deletes up to `keep` records before its high watermark.
    pub fn forget(&mut self, keep: Option<i64>, cx: &mut Context<'_>) {
        let now = wall(cx.now());
        for at in 0..self.slots.len() {
            let Some(id) = self.slots.get(at).map(|slot| slot.id) else { return };
            let leads = self.leads;
            self.on_slot(id, cx, |slot, _| {
                if let Some(keep) = keep.filter(|_| leads) {
                    let to = slot.replica.high_watermark().get() - keep;
                    let log = slot.replica.log_mut();
                    if to > log.log_start().get() {
                        let _ = log.delete_records_before(chronik_model::Offset::new(to));
                    }
                }
                let _ = slot.replica.apply_retention(now);
            });
            if let Some(slot) = self.slots.get(at)
                && slot.replica.log().offline().is_some()
            {
                cx.outcomes.push_back((self.id, Outcome::Broken("retention".to_owned())));
            }
        }
    }

    /// Stops in order: links say good-bye, everything is durable, the next start reads nothing.
    pub fn stop_cleanly(&mut self, cx: &mut Context<'_>) {
        self.drop_links(Reason::Closing, cx);
        let emptied = self.commits.empty(true, &self.dir, &mut self.slots);
        let mut checkpoints = BTreeMap::new();
        for slot in &mut self.slots {
            let name = slot.replica.log().topic_partition().clone();
            if let Ok(checkpoint) = slot.replica.log_mut().close_cleanly() {
                checkpoints.insert(name, checkpoint);
            }
        }
        if emptied.is_err() || checkpoints.len() < self.slots.len() {
            let _ = self.dir.forget_written();
        } else if self.dir.write_checkpoint(&checkpoints).is_ok() {
            let _ = self.dir.mark_clean_stop();
        }
    }

    /// Time for the cores, as their links get it.
    pub fn time(cx: &Context<'_>) -> chronik_replication::link::Time {
        time(cx.now())
    }
}

/// Where a power cut took a range that nobody had synced, the log ends: a replica has no holes.
fn cut_where_lost(dir: &DataDir, logs: &mut [Log]) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let lost: Vec<_> = logs.iter().map(Log::first_lost).collect();
    if lost.iter().all(Option::is_none) {
        return Ok(());
    }
    let mut checkpoints = BTreeMap::new();
    for (log, lost) in logs.iter_mut().zip(&lost) {
        if let Some(lost) = lost {
            log.prepare_cut(*lost).map_err(|e| text(&e))?;
        }
        checkpoints.insert(log.topic_partition().clone(), log.checkpoint().map_err(|e| text(&e))?);
    }
    dir.write_checkpoint(&checkpoints).map_err(|e| text(&e))?;
    let reason = "it lies behind what a power cut took";
    for (log, lost) in logs.iter_mut().zip(lost) {
        match lost {
            Some(lost) if lost < log.log_start() => {
                log.reset_to(log.log_start(), Some(reason)).map_err(|e| text(&e))?
            }
            Some(lost) => drop(log.cut_aside(lost, reason).map_err(|e| text(&e))?),
            None => {}
        }
    }
    Ok(())
}

fn log_config(plan: &Plan) -> LogConfig {
    LogConfig {
        segment_bytes: plan.segment_bytes,
        index_interval_bytes: 256,
        sync_on_roll: plan.fsync,
        ..LogConfig::default()
    }
}

fn settings(plan: &Plan) -> Settings {
    Settings {
        durability: if plan.fsync { Durability::Fsync } else { Durability::PageCache },
        mode: match plan.mode {
            plan::Mode::Async => Mode::Async,
            plan::Mode::Sync => Mode::Sync,
        },
        min_insync_replicas: plan.min_insync,
        lag_time_max: plan.lag_time_max,
    }
}
