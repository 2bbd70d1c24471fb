//! What a seed decides before a run begins: size, mode, limits, clients and which faults may happen. Each seed allows only
//! some of the faults, so that rare combinations get runs of their own.

use std::fmt;
use std::time::Duration;

use crate::mutation::Mutation;
use crate::network::Behaviour;
use crate::random::Random;

/// Whether followers take part in commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The leader alone commits.
    Async,
    /// Every in-sync replica commits.
    Sync,
}

/// A fault, or an operator's action, that may happen at a random time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process dies; what it wrote stays in the page cache.
    Kill,
    /// A machine loses its power, and what was not synced.
    PowerCut,
    /// All machines lose their power at once.
    PowerCutAll,
    /// A process stops without dying.
    Pause,
    /// A connection is reset.
    Reset,
    /// The ways between two nodes are cut, one or both of them.
    Cut,
    /// A node is cut off from all others.
    Isolate,
    /// Everything on the network becomes slow.
    Slow,
    /// An operator promotes a follower that is in sync after its leader died.
    Failover,
    /// An operator promotes a follower though its leader may be alive.
    Takeover,
    /// An operator promotes any follower, in sync or not.
    UncleanTakeover,
    /// Records are deleted and segments go while followers catch up.
    Retention,
    /// A disk is full: a write fails, its replica is offline until the next start.
    DiskFull,
    /// A call to a disk fails, whichever it is.
    IoError,
    /// A sync fails, and what it should have written is lost.
    SyncError,
    /// A process stops in order and starts again.
    CleanRestart,
    /// A bit of a follower's sealed bytes changes while it is down.
    BitFlip,
}

impl Fault {
    const ALL: [Self; 17] = [
        Self::Kill,
        Self::PowerCut,
        Self::PowerCutAll,
        Self::Pause,
        Self::Reset,
        Self::Cut,
        Self::Isolate,
        Self::Slow,
        Self::Failover,
        Self::Takeover,
        Self::UncleanTakeover,
        Self::Retention,
        Self::DiskFull,
        Self::IoError,
        Self::SyncError,
        Self::CleanRestart,
        Self::BitFlip,
    ];
}

/// Everything a run needs to know beforehand.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Leader and followers.
    pub nodes: u8,
    /// Partitions, all of one topic.
    pub partitions: i32,
    /// Whether followers take part in commits.
    pub mode: Mode,
    /// Whether only durable bytes count.
    pub fsync: bool,
    /// Whether small appends become durable through the sync journal.
    pub journal: bool,
    /// `min.insync.replicas`.
    pub min_insync: usize,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max: Duration,
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// Silence that closes a connection.
    pub silence: Duration,
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// Payload of an append frame.
    pub append_bytes_max: u32,
    /// Bytes sent and not acknowledged per follower.
    pub window_bytes: u64,
    /// How long a sync takes at most, in milliseconds.
    pub sync_ms: u64,
    /// The network.
    pub network: Behaviour,
    /// Producers.
    pub producers: u32,
    /// Consumers.
    pub consumers: u32,
    /// Longest pause of a producer between two batches, in milliseconds.
    pub produce_ms: u64,
    /// Longest time between two faults, in milliseconds.
    pub fault_ms: u64,
    /// The faults of this run.
    pub faults: Vec<Fault>,
    /// The bug put back on purpose.
    pub mutation: Option<Mutation>,
    /// How long faults go on.
    pub safety: Duration,
    /// How long everything may take to settle afterwards.
    pub liveness: Duration,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed, "plan");
        let nodes = [2, 2, 3, 3, 3, 4].get(random.below(6) as usize).copied().unwrap_or(3);
        let mode = if random.one_in(3) { Mode::Async } else { Mode::Sync };
        let fsync = !random.one_in(3);
        let min_insync = if random.one_in(2) { 1 } else { random.between(1, u64::from(nodes)) as usize };
        let slow = random.one_in(4);
        let share = random.between(2, 4);
        let mut faults: Vec<Fault> = Fault::ALL.into_iter().filter(|_| random.below(4) < share - 1).collect();
        if faults.is_empty() {
            faults.push(Fault::Kill);
        }
        let heartbeat = Duration::from_millis(random.between(200, 2_000));
        Self {
            seed,
            nodes,
            partitions: random.between(1, 2) as i32,
            mode,
            fsync,
            journal: !Random::new(seed, "journal").one_in(4),
            min_insync,
            lag_time_max: Duration::from_millis(random.between(500, 5_000)),
            heartbeat,
            silence: heartbeat * 6,
            segment_bytes: random.between(400, 6_000) as u32,
            append_bytes_max: random.between(100, 8_000) as u32,
            window_bytes: random.between(300, 20_000),
            sync_ms: random.between(0, 30),
            network: Behaviour {
                delay_ms: if slow { (20, 300) } else { (0, random.between(1, 20)) },
                capacity_bytes: random.between(256, 32_768) as usize,
                pieces_max: random.between(1, 4),
            },
            producers: random.between(1, 3) as u32,
            consumers: random.between(1, 3) as u32,
            produce_ms: random.between(50, 600),
            fault_ms: random.between(800, 6_000),
            faults,
            mutation: None,
            safety: Duration::from_secs(random.between(10, 40)),
            liveness: Duration::from_secs(60),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} nodes, {} partitions, {:?}, {}, min.insync {}, segments {}, frames {}, window {}, faults {:?}",
            self.seed,
            self.nodes,
            self.partitions,
            self.mode,
            match (self.fsync, self.journal) {
                (true, true) => "fsync by journal",
                (true, false) => "fsync",
                (false, _) => "page-cache",
            },
            self.min_insync,
            self.segment_bytes,
            self.append_bytes_max,
            self.window_bytes,
            self.faults
        )
    }
}
