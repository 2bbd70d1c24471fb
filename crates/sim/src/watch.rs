//! The observer: after every event it looks at the replicas of the node that acted, keeps its own copy of their logs, and
//! asks every checker.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chronik_log::{LogReader, ReadError};
use chronik_model::{LeaderEpoch, NodeId, Offset};

use crate::check::committed::{Committed, IN_SYNC};
use crate::check::history::{Acknowledged, History};
use crate::check::leadership::Leadership;
use crate::check::matching::Matching;
use crate::check::producers;
use crate::check::recovery::Durability;
use crate::check::watermark::Watermarks;
use crate::ledger::{Batch, Ledger};
use crate::sight::{Role, Sight, Violation, hold};

/// I5: an answer came before enough replicas had the batch.
pub const ACK: &str = "acks-all-means-on-min-insync-replicas";
/// Rule 2: a deposed leader got an answer out that its successor does not have.
pub const DEPOSED_ACK: &str = "deposed-leader-acknowledges-nothing";
/// A replica cannot be read.
pub const READABLE: &str = "log-is-readable";

/// What counts as committed in this run.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Whether followers take part.
    pub sync: bool,
    /// Whether only durable bytes count.
    pub fsync: bool,
    /// `min.insync.replicas`.
    pub min_insync: usize,
    /// How many nodes there are.
    pub nodes: usize,
}

/// Everything known of one partition.
#[derive(Debug)]
pub struct Watch {
    terms: Terms,
    /// Who led when.
    pub leadership: Leadership,
    /// What was committed.
    pub committed: Committed,
    /// What clients did.
    pub history: History,
    matching: Matching,
    watermarks: Watermarks,
    durability: Durability,
    ledgers: BTreeMap<NodeId, Ledger>,
    /// The highest log end of each node, crashes or not.
    ends: BTreeMap<NodeId, Offset>,
    /// Who was in sync with the leader seen last.
    isr: Vec<NodeId>,
    /// Each node's watermark as it was shown last.
    shown: BTreeMap<NodeId, Offset>,
    /// How far each node's watermark was found to cover committed batches of the lineage it is in.
    verified: BTreeMap<NodeId, Offset>,
    /// The first damaged offset that each node's log knew of before the present event.
    damaged: BTreeMap<NodeId, Offset>,
    /// Ranges in which a leader was damaged: it did not know what a producer had sent there.
    forgotten: BTreeSet<(Offset, Offset)>,
    /// Batches polled that the newest generation had not committed.
    polled_aside: BTreeSet<(Offset, u32)>,
}

impl Watch {
    /// Nothing has happened yet.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            leadership: Leadership::default(),
            committed: Committed::default(),
            history: History::default(),
            matching: Matching::default(),
            watermarks: Watermarks::default(),
            durability: Durability::default(),
            ledgers: BTreeMap::new(),
            ends: BTreeMap::new(),
            isr: Vec::new(),
            shown: BTreeMap::new(),
            verified: BTreeMap::new(),
            damaged: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            polled_aside: BTreeSet::new(),
        }
    }

    /// A node's log as last seen.
    pub fn ledger(&self, node: NodeId) -> Option<&Ledger> {
        self.ledgers.get(&node)
    }

    /// What a node showed last.
    pub fn last(&self, node: NodeId) -> Option<&Sight> {
        self.watermarks.last(node)
    }

    /// Looks at a replica after an event. `isr` is what its node knows of the in-sync replicas.
    pub fn see(
        &mut self,
        sight: &Sight,
        reader: &LogReader,
        epochs: &[(LeaderEpoch, Offset)],
        isr: &[NodeId],
    ) -> Result<(), Violation> {
        let before = self.watermarks.last(sight.node).copied();
        if before.is_none_or(|before| before.generation != sight.generation) {
            self.lower(sight.node, self.committed.base_end(sight.generation));
        }
        let shown = self.shown.insert(sight.node, sight.high_watermark);
        let fresh_run = before.is_none_or(|before| before.run != sight.run);
        let ledger = self.ledgers.entry(sight.node).or_default();
        let news = match ledger.refresh(reader, epochs) {
            Ok(news) => news,
            // An offline log serves nobody, which is what its observer sees as well. A cut that failed half way was to be.
            Err(ReadError::Offline) => {
                self.durability.see(sight.node, sight.log_start, sight.durable_end);
                return Ok(());
            }
            Err(error) => return Err(Violation { rule: READABLE, what: format!("{sight}: {error}") }),
        };
        let Some(ledger) = self.ledgers.get(&sight.node) else { return Ok(()) };
        self.leadership.see(sight)?;
        self.watermarks.see(sight)?;
        let damage = reader.damage();
        self.durability.damaged(sight.node, &damage)?;
        if sight.role == Role::Leader {
            self.forgotten.extend(damage.iter().map(|range| (range.offset, range.offset_end)));
        }
        let damaged_end = damage.iter().map(|damage| damage.offset_end).max();
        let damaged_from = damage.iter().map(|damage| damage.offset).min();
        let was_damaged_from = self.damaged.remove(&sight.node).filter(|_| !fresh_run);
        self.damaged.extend(damaged_from.map(|offset| (sight.node, offset)));
        let dense_from = sight.log_start.max(damaged_end.unwrap_or(Offset::ZERO));
        self.matching.added(sight.node, dense_from, &news.added, ledger)?;
        let leader = self.committed.leader(sight.generation).filter(|leader| {
            let last = self.watermarks.last(*leader);
            last.is_some_and(|last| last.role == Role::Leader && last.leader_epoch == sight.leader_epoch)
        });
        let leader_start = leader.and_then(|leader| self.watermarks.last(leader)).map(|last| last.log_start);
        if let Some(leader) = leader.and_then(|leader| self.ledgers.get(&leader)) {
            let of_epoch = |batch: &Batch| batch.leader_epoch == sight.leader_epoch;
            let added: Vec<Batch> = news.added.iter().copied().filter(of_epoch).collect();
            self.matching.follows(sight, &added, leader)?;
            if let Some(before) = before.filter(|_| !fresh_run) {
                // What is known of offsets below a log start is only remembered.
                let from = before.log_start.max(leader_start.unwrap_or(Offset::ZERO));
                // From known damage on a follower cuts everything and gets it again.
                let repaired = |batch: &Batch| was_damaged_from.is_some_and(|damaged| batch.next_offset > damaged);
                let needless = |batch: &Batch| batch.base_offset >= from && !repaired(batch);
                let cut: Vec<Batch> = news.cut.iter().copied().filter(needless).collect();
                self.matching.cuts(sight, &cut, leader)?;
            }
        }
        if fresh_run {
            if !self.terms.fsync {
                self.durability.forget_start(sight.node);
            }
            self.durability.recovered(sight.node, sight.log_end)?;
        }
        self.durability.see(sight.node, sight.log_start, sight.durable_end);
        let end = self.ends.entry(sight.node).or_default();
        *end = sight.log_end.max(*end);
        match sight.role {
            // A damaged range was reported; its batches cannot be looked at.
            Role::Leader => {
                self.leads(sight, isr, damaged_end.is_none() && (fresh_run || !news.cut.is_empty()))?;
            }
            // A watermark that does not move says nothing new: it may be of another history still.
            Role::Follower if shown.is_some_and(|shown| sight.high_watermark > shown) && !fresh_run => {
                let verified = self.verified.entry(sight.node).or_default();
                // What is still under way of a leader that has lost what its durability allows is of a history that is gone.
                if self.terms.fsync || sight.heard != 0 {
                    self.committed.follows(sight, *verified, ledger)?;
                }
                *verified = sight.high_watermark;
            }
            Role::Follower => {}
            Role::Nobody => {}
        }
        Ok(())
    }

    fn leads(&mut self, sight: &Sight, isr: &[NodeId], look_closely: bool) -> Result<(), Violation> {
        let Some(ledger) = self.ledgers.get(&sight.node) else { return Ok(()) };
        let newest = self.committed.newest() == sight.generation;
        let moved = sight.high_watermark > self.committed.end(sight.generation);
        self.committed.leads(sight, ledger)?;
        if look_closely {
            self.committed.complete(sight.node, sight.generation, sight.log_start, ledger)?;
        }
        let joined: Vec<NodeId> = isr.iter().copied().filter(|replica| !self.isr.contains(replica)).collect();
        self.isr = isr.to_vec();
        if self.terms.sync && newest {
            // Everybody when something more is committed, and whoever joins.
            let looked_at = if moved { isr } else { &joined };
            for replica in looked_at.iter().filter(|replica| **replica != sight.node) {
                let has = if self.terms.fsync { self.durability.end(*replica) } else { self.highest(*replica) };
                self.committed.in_sync(sight, *replica, has)?;
            }
        }
        if self.terms.fsync {
            let durable = self.durability.end(sight.node);
            let covers = durable >= sight.high_watermark || sight.high_watermark == sight.log_start;
            hold!(IN_SYNC, covers, "{sight}, but only up to {durable} is durable");
        }
        Ok(())
    }

    fn lower(&mut self, node: NodeId, to: Offset) {
        self.watermarks.lower(node, to);
        let verified = self.verified.entry(node).or_default();
        *verified = to.min(*verified);
    }

    fn highest(&self, node: NodeId) -> Offset {
        self.ends.get(&node).copied().unwrap_or(Offset::ZERO)
    }

    /// A bit of a node's file was changed, and its checkpoint is gone.
    pub fn flipped(&mut self, node: NodeId, file: PathBuf, position: u64) {
        self.durability.flip(node, file, position);
        self.durability.forget_start(node);
    }

    /// Whether a bit was changed there.
    pub fn is_flipped(&self, node: NodeId, file: &Path, position: u64) -> bool {
        self.durability.is_flipped(node, file, position)
    }

    /// A leader started again and its log ends at `log_end`: with `page-cache` durability what it lost is forgiven.
    pub fn restarted(&mut self, generation: u64, log_end: Offset) {
        if !self.terms.fsync && self.committed.end(generation) > log_end {
            self.committed.forgive(generation, log_end);
            let nodes: Vec<NodeId> = self.ledgers.keys().copied().collect();
            for node in nodes {
                self.lower(node, log_end);
            }
        }
    }

    /// A follower became a leader. `clean` says that it was in sync with the newest leader. Returns how many committed
    /// batches the promotion loses.
    pub fn promoted(&mut self, before: &Sight, after: &Sight, clean: bool) -> Result<usize, Violation> {
        self.leadership.promoted((before.generation, before.leader_epoch), (after.generation, after.leader_epoch))?;
        let ledger = self.ledgers.entry(after.node).or_default();
        self.committed.promoted(after, before.heard, clean, ledger)
    }

    /// A producer with acks=all hears that its batch is committed by `leader`.
    pub fn acknowledged(&mut self, number: usize, leader: &Sight, batch: &Batch, all: bool) -> Result<(), Violation> {
        let newest = self.committed.newest();
        let leads = leader.generation == newest;
        if all {
            hold!(ACK, leader.high_watermark >= batch.next_offset, "{leader} acknowledged {batch:?}");
            let count = self.ledgers.iter().filter(|(node, ledger)| {
                let end = if self.terms.fsync { self.durability.end(**node) } else { self.highest(**node) };
                end >= batch.next_offset && (!self.terms.fsync || ledger.at(batch.base_offset) == Some(batch))
            });
            let needed = if self.terms.sync { self.terms.min_insync } else { 1 };
            let count = count.count();
            hold!(ACK, count >= needed, "{leader} acknowledged {batch:?} which {count} replicas have, not {needed}");
            if !leads && self.terms.sync && self.terms.min_insync == self.terms.nodes {
                let successor = self.committed.leader(newest).and_then(|leader| self.ledgers.get(&leader));
                let has = successor.and_then(|ledger| ledger.at(batch.base_offset)) == Some(batch);
                hold!(DEPOSED_ACK, has, "{leader} acknowledged {batch:?} after generation {newest} had begun");
            }
        }
        let survives = all && leads;
        self.history.acknowledge(number, Acknowledged { base_offset: batch.base_offset, survives });
        Ok(())
    }

    /// A consumer got batches.
    pub fn polled(&mut self, consumer: u32, batches: &[Batch]) -> Result<(), Violation> {
        // Who follows a deposed leader, or has not cut its tail yet, serves what the newest history does not have.
        let aside = batches.iter().filter(|batch| !self.committed.has(batch));
        self.polled_aside.extend(aside.map(|batch| (batch.base_offset, batch.crc)));
        self.history.poll(consumer, batches)
    }

    /// The end of a run: the history against the log of the leader, and no log with a batch twice.
    pub fn judge(&self, leader: NodeId, log_start: Offset) -> Result<(), Violation> {
        let is_forgotten = |offset: Offset| self.forgotten.iter().any(|range| (range.0..range.1).contains(&offset));
        for (node, ledger) in &self.ledgers {
            let start = self.watermarks.last(*node).map_or(Offset::ZERO, |last| last.log_start);
            producers::no_duplicates(*node, start, ledger, is_forgotten)?;
        }
        let Some(log) = self.ledgers.get(&leader) else { return Ok(()) };
        self.history.judge(
            log,
            log_start,
            |base_offset, crc| self.committed.is_lost(base_offset, crc),
            |batch| {
                let key = (batch.base_offset, batch.crc);
                self.polled_aside.contains(&key) || self.committed.is_lost(key.0, key.1)
            },
            is_forgotten,
        )
    }
}
