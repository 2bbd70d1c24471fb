//! One run: nodes, network, clients, faults and the observer, driven event by event from a plan.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use chronik_model::{Instant, LeaderEpoch, NodeId, Offset, PartitionIndex};
use chronik_replication::isr::Proposal;

use crate::clients::{Answer, Clients};
use crate::network::{End, Network};
use crate::node::{Context, Node, Outcome, Wants};
use crate::plan::{Mode, Plan};
use crate::random::Random;
use crate::schedule::Schedule;
use crate::sight::Violation;
use crate::trace::Trace;
use crate::watch::{Terms, Watch};

/// Control frames that one link may have waiting.
const CONTROL_BYTES: usize = 16 << 10;

/// What happens at one moment.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields are named for what they are")]
pub enum Event {
    /// The network tries to deliver.
    Deliver(End),
    /// A deadline of a process.
    Tick { node: NodeId, run: u32, at: Instant },
    /// A process dials.
    Dial { node: NodeId, run: u32, to: NodeId },
    /// A process has waited long enough for somebody to answer.
    DialTimeout { node: NodeId, run: u32, to: NodeId },
    /// A sync ends.
    Flushed { node: NodeId, run: u32, partition: PartitionIndex },
    /// A proposal reaches the controller.
    IsrProposed { node: NodeId, run: u32, partition: PartitionIndex, proposal: Proposal },
    /// Checkpoints and retention.
    Maintain { node: NodeId },
    /// A producer sends, for the first time or again.
    Produce { producer: usize },
    /// A produce reaches a node.
    ProduceArrives { node: NodeId, token: u64 },
    /// An answer reaches a producer.
    Answered { token: u64, answer: Answer },
    /// A producer has waited long enough.
    ProduceTimeout { token: u64 },
    /// A consumer polls.
    Poll { consumer: usize },
    /// A fault, or an operator.
    Fault,
    /// A machine starts, or a process on it.
    Start { node: NodeId },
    /// A stopped process goes on.
    Resume { node: NodeId, run: u32 },
    /// The network is well again.
    Heal,
    /// An operator promotes.
    Promote { unclean: bool },
}

/// One run.
#[derive(Debug)]
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) schedule: Schedule<Event>,
    pub(crate) network: Network,
    pub(crate) nodes: Vec<Node>,
    pub(crate) clients: Clients,
    pub(crate) watches: Vec<Watch>,
    pub(crate) trace: Trace,
    pub(crate) random: Random,
    pub(crate) faults_random: Random,
    pub(crate) outcomes: VecDeque<(NodeId, Outcome)>,
    /// Nodes that came back with less than they had, and have not caught up since.
    pub(crate) lost: BTreeSet<NodeId>,
    /// Nodes whose log has a range that cannot be served.
    pub(crate) damaged: BTreeSet<NodeId>,
    /// The generation of every leader epoch there was.
    pub(crate) generations: BTreeMap<LeaderEpoch, u64>,
    pub(crate) faulting: bool,
    pub(crate) producing: bool,
    pub(crate) counts: Counts,
}

/// What happened in a run, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Faults.
    pub faults: u64,
    /// Promotions.
    pub promotions: u64,
    /// Committed batches that promotions lost, as their mode allows.
    pub lost: u64,
    /// Batches acknowledged.
    pub acknowledged: u64,
    /// Batches polled.
    pub polled: u64,
    /// Nodes that ended with a damaged range: the leader's, where every node has one.
    pub damaged: u64,
}

impl Counts {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        let Self { events, faults, promotions, lost, acknowledged, polled, damaged } = other;
        self.events += events;
        self.faults += faults;
        self.promotions += promotions;
        self.lost += lost;
        self.acknowledged += acknowledged;
        self.polled += polled;
        self.damaged += damaged;
    }
}

impl World {
    /// The world of a plan, with the first node leading. `all` keeps the whole trace.
    pub fn new(plan: Plan, all: bool) -> Self {
        let seed = plan.seed;
        let mut random = Random::new(seed, "world");
        let terms = Terms {
            sync: plan.mode == Mode::Sync,
            fsync: plan.fsync,
            min_insync: plan.min_insync.min(usize::from(plan.nodes)).max(1),
            nodes: usize::from(plan.nodes),
        };
        let watches = (0..plan.partitions).map(|_| Watch::new(terms)).collect();
        let nodes = (1..=i32::from(plan.nodes))
            .map(|id| Node::new(NodeId::new(id), if id == 1 { Wants::Lead } else { Wants::Follow }))
            .collect();
        let mut world = Self {
            schedule: Schedule::new(),
            network: Network::new(plan.network.clone(), Random::new(seed, "network")),
            nodes,
            clients: Clients::new(&plan, &mut random),
            watches,
            trace: Trace::new(all),
            random,
            faults_random: Random::new(seed, "faults"),
            outcomes: VecDeque::new(),
            lost: BTreeSet::new(),
            damaged: BTreeSet::new(),
            generations: BTreeMap::new(),
            faulting: true,
            producing: true,
            counts: Counts::default(),
            plan,
        };
        for id in 1..=i32::from(world.plan.nodes) {
            let node = NodeId::new(id);
            let delay = world.random.millis(0, 300);
            world.schedule.after(delay, Event::Start { node });
            world.schedule.after(Duration::from_millis(700), Event::Maintain { node });
        }
        for producer in 0..world.clients.producers.len() {
            world.schedule.after(Duration::from_millis(100), Event::Produce { producer });
        }
        for consumer in 0..world.clients.consumers.len() {
            world.schedule.after(Duration::from_millis(200), Event::Poll { consumer });
        }
        world.schedule.after(Duration::from_millis(1_500), Event::Fault);
        world
    }

    /// Runs to a moment.
    ///
    /// # Errors
    /// A rule does not hold.
    pub fn run_until(&mut self, end: Instant) -> Result<(), Violation> {
        while let Some(event) = self.schedule.take_before(end) {
            self.counts.events += 1;
            self.handle(event)?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Deliver(to) => self.deliver(to)?,
            Event::Tick { node, run, at } => self.on_run(node, run, |process, _, cx| process.tick(at, cx))?,
            Event::Dial { node, run, to } => self.on_run(node, run, |process, _, cx| process.dial(to, cx))?,
            Event::DialTimeout { node, run, to } => {
                self.on_run(node, run, |process, _, cx| process.dial_timeout(to, cx))?;
            }
            Event::Flushed { node, run, partition } => {
                self.on_run(node, run, |process, _, cx| process.flushed(partition, cx))?;
            }
            Event::IsrProposed { node, run, partition, proposal } => {
                self.on_run(node, run, |process, journal, cx| process.decide_isr(partition, &proposal, journal, cx))?
            }
            Event::Maintain { node } => self.maintain(node)?,
            Event::Produce { producer } => self.produce(producer),
            Event::ProduceArrives { node, token } => self.produce_arrives(node, token)?,
            Event::Answered { token, answer } => self.answered(token, answer),
            Event::ProduceTimeout { token } => self.produce_timeout(token),
            Event::Poll { consumer } => self.poll(consumer)?,
            Event::Fault => self.fault()?,
            Event::Start { node } => self.start(node)?,
            Event::Resume { node, run } => self.resume(node, run),
            Event::Heal => self.heal(),
            Event::Promote { unclean } => self.promote(unclean)?,
        }
        self.hear_outcomes()
    }

    /// The node with a number.
    pub(crate) fn node(&mut self, id: NodeId) -> Option<&mut Node> {
        usize::try_from(id.get() - 1).ok().and_then(|at| self.nodes.get_mut(at))
    }

    pub(crate) fn peers(&self, of: NodeId) -> Vec<NodeId> {
        self.nodes.iter().map(|node| node.id).filter(|id| *id != of).collect()
    }

    /// Splits off a node and what it needs for one event.
    pub(crate) fn with_node<T>(&mut self, id: NodeId, act: impl FnOnce(&mut Node, &mut Context<'_>) -> T) -> Option<T> {
        let at = usize::try_from(id.get() - 1).ok()?;
        let node = self.nodes.get_mut(at)?;
        let mut cx = Context {
            network: &mut self.network,
            schedule: &mut self.schedule,
            random: &mut self.random,
            trace: &mut self.trace,
            plan: &self.plan,
            outcomes: &mut self.outcomes,
        };
        Some(act(node, &mut cx))
    }

    fn on_run(
        &mut self,
        id: NodeId,
        run: u32,
        act: impl FnOnce(&mut crate::node::Process, &mut crate::journal::Journal, &mut Context<'_>),
    ) -> Result<(), Violation> {
        let current = self.node(id).is_some_and(|node| node.run == run && node.is_up());
        if !current {
            return Ok(());
        }
        self.with_node(id, |node, cx| node.with_process(cx, act));
        self.observe(id)
    }

    fn deliver(&mut self, to: End) -> Result<(), Violation> {
        let mut due = Vec::new();
        let now = self.schedule.now();
        let receiver = self.network.node(to);
        let sender_end = End { connection: to.connection, side: to.side.other() };
        let sender = self.network.node(sender_end);
        let arrival = self.network.deliver(to, now, &mut due);
        for due in due {
            self.schedule.at(due.at, Event::Deliver(due.to));
        }
        let (Some(arrival), Some(receiver), Some(sender)) = (arrival, receiver, sender) else { return Ok(()) };
        self.with_node(receiver, |node, cx| {
            node.with_process(cx, |process, journal, cx| process.arrived(arrival, journal, cx));
        });
        self.observe(receiver)?;
        // The buffers have room for more, unless the sender stands still.
        let writes = self.node(sender).is_some_and(|node| node.owns(sender_end) && !node.paused);
        if writes {
            self.with_node(sender, |node, cx| node.with_process(cx, |process, _, cx| process.pump(sender_end, cx)));
            self.observe(sender)?;
        }
        Ok(())
    }

    /// Looks at the replicas of a node that acted.
    pub(crate) fn observe(&mut self, id: NodeId) -> Result<(), Violation> {
        let Some(node) = usize::try_from(id.get() - 1).ok().and_then(|at| self.nodes.get(at)) else { return Ok(()) };
        let Some(process) = &node.process else { return Ok(()) };
        let mut caught_up = true;
        let mut damaged = false;
        for (slot, sight) in process.sights(&self.generations) {
            let at = usize::try_from(slot.partition().get()).unwrap_or(0);
            let Some(watch) = self.watches.get_mut(at) else { continue };
            let log = slot.replica.log();
            watch.see(&sight, &log.reader(), log.leader_epochs().entries(), &node.journal.isr(slot.partition()))?;
            damaged |= !log.damage().is_empty();
            caught_up &= sight.log_end >= watch.committed.end(watch.committed.newest());
        }
        if caught_up {
            self.lost.remove(&id);
        }
        if damaged {
            self.damaged.insert(id)
        } else {
            self.damaged.remove(&id)
        };
        // I12: a link holds no more than its window and a few control frames.
        let bound =
            (self.plan.window_bytes as usize + self.plan.append_bytes_max as usize + CONTROL_BYTES) * self.nodes.len();
        let queued = process.queued_bytes();
        if queued > bound {
            let what = format!("node {id} has {queued} bytes queued for its followers, {bound} allowed");
            return Err(Violation { rule: "queues-stay-within-bounds", what });
        }
        Ok(())
    }

    fn maintain(&mut self, id: NodeId) -> Result<(), Violation> {
        let delay = self.random.millis(300, 2_500);
        self.schedule.after(delay, Event::Maintain { node: id });
        let paused = self.node(id).is_none_or(|node| node.paused);
        if paused {
            return Ok(());
        }
        // A log that does not wait for syncs is synced from time to time, as the broker does it.
        let durable = self.plan.fsync || self.random.one_in(3);
        let sync = !self.plan.fsync && self.random.one_in(2);
        self.with_node(id, |node, cx| {
            node.with_process(cx, |process, _, cx| {
                let written = if !durable {
                    process.write_written()
                } else if sync {
                    process.sync().and_then(|()| process.write_checkpoint()).and_then(|()| process.write_written())
                } else {
                    process.write_checkpoint()
                };
                if let Err(why) = written {
                    cx.outcomes.push_back((id, Outcome::Broken(why)));
                }
                process.forget(None, cx);
            });
        });
        self.observe(id)
    }

    pub(crate) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.line(self.schedule.now(), what);
    }

    /// The leader of the highest generation.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let watch = self.watches.first()?;
        watch.committed.leader(watch.committed.newest())
    }

    /// Log start of a partition on a node as last seen.
    pub(crate) fn log_start(&self, partition: usize, node: NodeId) -> Offset {
        let last = self.watches.get(partition).and_then(|watch| watch.last(node));
        last.map_or(Offset::ZERO, |last| last.log_start)
    }
}
