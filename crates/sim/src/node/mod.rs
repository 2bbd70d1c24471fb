//! One node: a disk and a journal that outlive its processes, and the shell around the cores of the running one.
//!
//! The shell does what the broker does with the same cores: carries out effects in their order, answers them, syncs in
//! groups, writes checkpoints. It decides nothing that the cores decide. Who promotes, restarts or breaks it is the
//! world's business.

mod group_commit;
mod incoming;
mod outgoing;
mod process;
mod slot;
mod wire;

use std::collections::VecDeque;
use std::time::Duration;

use chronik_log::fs::MemFs;
use chronik_model::{Instant, NodeId, PartitionIndex, Timestamp, TopicId, Uuid};
use chronik_replication::link::{Time, Timing};
use chronik_replication::message::TopicIdPartition;

pub use process::Process;
pub use slot::Slot;

use crate::journal::Journal;
use crate::network::{Due, End, Network};
use crate::plan::Plan;
use crate::random::Random;
use crate::schedule::Schedule;
use crate::trace::Trace;
use crate::world::Event;

/// The cluster of every run.
pub const CLUSTER_ID: Uuid = Uuid::from_random([7; 16]);
/// The topic of every run.
pub const TOPIC: &str = "t";
/// Wall-clock time at the origin of virtual time.
pub const EPOCH_MS: i64 = 1_700_000_000_000;

/// A partition of the one topic.
pub fn partition_id(partition: PartitionIndex) -> TopicIdPartition {
    TopicIdPartition::new(TopicId(Uuid::from_random([9; 16])), partition)
}

/// Both clocks at one moment.
pub fn time(now: Instant) -> Time {
    Time { now, wall: wall(now) }
}

/// The wall clock at one moment.
pub fn wall(now: Instant) -> Timestamp {
    Timestamp::from_millis(EPOCH_MS + i64::try_from(now.elapsed().as_millis()).unwrap_or(0))
}

/// What the operator started a node as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// With followers and without a receiver address.
    Lead,
    /// With a receiver address.
    Follow,
}

/// What a node's process tells the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A produce with this token is committed.
    Acknowledged(u64),
    /// A produce with this token was appended and will not be acknowledged.
    Refused(u64),
    /// It met a higher generation and does not lead any more.
    Fenced(i32),
    /// Its disk failed; it serves nothing more until it is started again.
    Broken(String),
}

/// What a node needs of the world for one event.
pub struct Context<'a> {
    /// The network.
    pub network: &'a mut Network,
    /// What happens later.
    pub schedule: &'a mut Schedule<Event>,
    /// Chance, for delays of disks and of dialling.
    pub random: &'a mut Random,
    /// What happened.
    pub trace: &'a mut Trace,
    /// The plan.
    pub plan: &'a Plan,
    /// What the world is to hear.
    pub outcomes: &'a mut VecDeque<(NodeId, Outcome)>,
}

impl Context<'_> {
    /// Does something with the network and plans the deliveries that follow.
    pub fn on_network<T>(&mut self, act: impl FnOnce(&mut Network, Instant, &mut Vec<Due>) -> T) -> T {
        let mut due = Vec::new();
        let result = act(self.network, self.schedule.now(), &mut due);
        for Due { at, to } in due {
            self.schedule.at(at, Event::Deliver(to));
        }
        result
    }

    fn now(&self) -> Instant {
        self.schedule.now()
    }

    fn timing(&self) -> Timing {
        Timing {
            handshake: self.plan.silence.max(Duration::from_secs(3)),
            heartbeat: self.plan.heartbeat,
            silence: self.plan.silence,
        }
    }
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Its disk.
    pub disk: MemFs,
    /// Its journal, durable as it is.
    pub journal: Journal,
    /// What the operator starts it as.
    pub wants: Wants,
    /// How many processes it has had.
    pub run: u32,
    /// The running one.
    pub process: Option<Process>,
    /// The machine has power.
    pub powered: bool,
    /// The process is stopped and not dead.
    pub paused: bool,
}

impl Node {
    /// A machine with an empty disk.
    pub fn new(id: NodeId, wants: Wants) -> Self {
        Self {
            id,
            disk: MemFs::new(),
            journal: Journal::new(),
            wants,
            run: 0,
            process: None,
            powered: true,
            paused: false,
        }
    }

    /// Whether it takes writes.
    pub fn leads(&self) -> bool {
        self.process.as_ref().is_some_and(Process::leads)
    }

    /// Whether a process runs, stopped or not.
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Starts a process. `others` are the nodes it feeds where it leads.
    pub fn start(&mut self, others: &[NodeId], cx: &mut Context<'_>) {
        self.run += 1;
        match Process::start(self, others, cx) {
            Ok(process) => {
                self.process = Some(process);
                cx.network.listen(self.id, true);
            }
            Err(why) => cx.outcomes.push_back((self.id, Outcome::Broken(why))),
        }
    }

    /// An event for the running process; nothing where it is another run's.
    pub fn with_process(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Process, &mut Journal, &mut Context<'_>),
    ) {
        if let Some(process) = &mut self.process {
            act(process, &mut self.journal, cx);
            process.work_off(&mut self.journal, cx);
            process.plan_tick(cx);
        }
    }

    /// Whether this end belongs to the running process.
    pub fn owns(&self, end: End) -> bool {
        self.process.as_ref().is_some_and(|process| process.owns(end))
    }
}
