//! A stand-in for the controller: who leads, in which generation and leader epoch, and who is in sync, as a journal that
//! is durable with every entry and travels to followers like the real one.
//!
//! Its rules are the ones that the replication core relies on: a promotion takes a generation that no other node can
//! choose; a leader that starts again takes a new leader epoch; every leader epoch of a higher generation is above all those
//! of a lower one, however often its leader started; and a change of the ISR counts only from the leader of the present
//! leader epoch.

use std::collections::BTreeMap;

use bytes::Bytes;
use chronik_model::{Generation, LeaderEpoch, NodeId, Offset, PartitionIndex};
use chronik_replication::isr::{Assignment, Proposal};
use chronik_replication::message::{JournalPosition, MetadataDelta, MetadataSnapshot};

/// How many bits of a leader epoch count the starts of one leader.
const STARTS_BITS: u32 = 10;
/// How many bits of a generation, and of a leader epoch above the starts, say whose it is.
const NODE_BITS: u32 = 4;
const ENTRY_BYTES: usize = 34;
/// No cluster of a simulation has more nodes.
const ISR_MAX: usize = 4;

/// What an entry changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node leads from now on; it alone is in sync.
    Led {
        /// The node.
        leader: NodeId,
        /// Its epoch, of every partition.
        leader_epoch: LeaderEpoch,
    },
    /// The in-sync replicas of a partition.
    Isr {
        /// The partition.
        partition: PartitionIndex,
        /// Who is in sync.
        isr: Vec<NodeId>,
    },
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The generation it was written in.
    pub generation: Generation,
    /// What it changes.
    pub change: Change,
}

/// A node's copy of the journal, and what it amounts to.
#[derive(Clone, Debug)]
pub struct Journal {
    start: Offset,
    entries: Vec<Entry>,
    generations: Vec<(LeaderEpoch, Offset)>,
    generation: Generation,
    leader: NodeId,
    leader_epoch: LeaderEpoch,
    isr: BTreeMap<PartitionIndex, Vec<NodeId>>,
    /// How often each partition was changed under this leader epoch.
    changes: BTreeMap<PartitionIndex, i32>,
}

impl Journal {
    /// A journal that knows nothing.
    pub fn new() -> Self {
        Self {
            start: Offset::ZERO,
            entries: Vec::new(),
            generations: Vec::new(),
            generation: Generation::ZERO,
            leader: NodeId::NONE,
            leader_epoch: LeaderEpoch::NONE,
            isr: BTreeMap::new(),
            changes: BTreeMap::new(),
        }
    }

    /// The highest generation it knows.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Who leads in it.
    pub fn leader(&self) -> NodeId {
        self.leader
    }

    /// The leader epoch of every partition.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The in-sync replicas of a partition.
    pub fn isr(&self, partition: PartitionIndex) -> Vec<NodeId> {
        self.isr.get(&partition).cloned().unwrap_or_else(|| vec![self.leader])
    }

    /// First offset still there, inclusive.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// Where it ends.
    pub fn position(&self) -> JournalPosition {
        let end = Offset::new(self.start.get() + self.entries.len() as i64);
        JournalPosition { end, generations: self.generations.clone() }
    }

    /// A generation was heard of without its entries, at the handshake: it fences from now on.
    pub fn heard(&mut self, generation: Generation, leader: NodeId) {
        if generation > self.generation {
            self.generation = generation;
            self.leader = leader;
        }
    }

    /// Promotes `node`: the next generation that belongs to it, and the first leader epoch in it.
    pub fn promote(&mut self, node: NodeId) {
        let count = (self.generation.get() >> NODE_BITS) + 1;
        let generation = (count << NODE_BITS) | node.get();
        let leader_epoch = LeaderEpoch::new(generation << STARTS_BITS);
        self.push(Entry {
            generation: Generation::new(generation),
            change: Change::Led { leader: node, leader_epoch },
        });
    }

    /// The leader starts again: a new leader epoch, so that what its last run wrote and lost is told from what it writes.
    pub fn lead_again(&mut self) {
        let leader_epoch = LeaderEpoch::new(self.leader_epoch.get() + 1);
        self.push(Entry { generation: self.generation, change: Change::Led { leader: self.leader, leader_epoch } });
    }

    /// What a leader's replica is told of its partition.
    pub fn assignment(&self, partition: PartitionIndex, replicas: &[NodeId]) -> Assignment {
        Assignment {
            node_id: self.leader,
            leader_epoch: self.leader_epoch,
            partition_epoch: self.changes.get(&partition).copied().unwrap_or(0),
            replicas: replicas.to_vec(),
            isr: self.isr(partition),
        }
    }

    /// Changes the in-sync replicas as a leader proposes. Returns whether that counts.
    pub fn alter_isr(&mut self, partition: PartitionIndex, proposal: &Proposal) -> bool {
        let known = self.changes.get(&partition).copied().unwrap_or(0);
        let counts = proposal.leader_epoch == self.leader_epoch && proposal.partition_epoch == known;
        if counts {
            let change = Change::Isr { partition, isr: proposal.isr.clone() };
            self.push(Entry { generation: self.generation, change });
        }
        counts
    }

    /// Entries from an offset on, about `bytes_max` of them; none where it does not go back that far.
    pub fn read(&self, from: Offset, bytes_max: usize) -> Option<MetadataDelta> {
        let skip = usize::try_from(from.get() - self.start.get()).ok()?;
        let rest = self.entries.get(skip..)?;
        let count = rest.len().min((bytes_max / ENTRY_BYTES).max(1));
        let mut batches = Vec::new();
        rest.iter().take(count).for_each(|entry| encode(entry, &mut batches));
        Some(MetadataDelta { base: from, end: Offset::new(from.get() + count as i64), batches: batches.into() })
    }

    /// Appends what [`Journal::read`] of another node gave. Returns the new end; none where it does not fit.
    pub fn append(&mut self, delta: &MetadataDelta) -> Option<Offset> {
        if delta.base != self.position().end {
            return None;
        }
        for entry in decode(&delta.batches)? {
            self.push(entry);
        }
        Some(self.position().end).filter(|end| *end == delta.end)
    }

    /// Everything in one part, to replace another node's journal.
    pub fn snapshot(&self) -> MetadataSnapshot {
        let mut records = Vec::new();
        let led = Change::Led { leader: self.leader, leader_epoch: self.leader_epoch };
        let isr = self.isr.iter().map(|(partition, isr)| Change::Isr { partition: *partition, isr: isr.clone() });
        for change in std::iter::once(led).chain(isr) {
            encode(&Entry { generation: self.generation, change }, &mut records);
        }
        MetadataSnapshot { position: self.position(), part: 0, last: true, records: records.into() }
    }

    /// Takes another node's snapshot in place of everything. Returns the new end; none where it makes no sense.
    pub fn install(&mut self, snapshot: &MetadataSnapshot) -> Option<Offset> {
        let mut next = Self::new();
        for entry in decode(&snapshot.records)? {
            next.push(entry);
        }
        next.start = snapshot.position.end;
        next.entries.clear();
        next.generations.clone_from(&snapshot.position.generations);
        next.heard(self.generation, self.leader);
        *self = next;
        Some(snapshot.position.end)
    }

    fn push(&mut self, entry: Entry) {
        let end = self.position().end;
        let epoch = LeaderEpoch::new(entry.generation.get());
        if self.generations.last().is_none_or(|last| last.0 < epoch) {
            self.generations.push((epoch, end));
        }
        match &entry.change {
            Change::Led { leader, leader_epoch } => {
                self.isr.clear();
                self.changes.clear();
                self.leader_epoch = *leader_epoch;
                if entry.generation >= self.generation {
                    self.leader = *leader;
                }
            }
            Change::Isr { partition, isr } => {
                self.isr.insert(*partition, isr.clone());
                *self.changes.entry(*partition).or_default() += 1;
            }
        }
        self.generation = self.generation.max(entry.generation);
        self.entries.push(entry);
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let mut words = [entry.generation.get(), 0, 0, 0, -1, -1, -1, -1];
    match &entry.change {
        Change::Led { leader, leader_epoch } => {
            words[2] = leader.get();
            words[3] = leader_epoch.get();
        }
        Change::Isr { partition, isr } => {
            words[1] = 1;
            words[2] = partition.get();
            for (word, node) in words[4..].iter_mut().zip(isr) {
                *word = node.get();
            }
        }
    }
    out.extend_from_slice(&[0, 0]);
    words.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
}

fn decode(bytes: &Bytes) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    for bytes in bytes.chunks(ENTRY_BYTES) {
        let mut words = [0_i32; 4 + ISR_MAX];
        let fields = bytes.get(2..)?.chunks_exact(4);
        if fields.len() != words.len() {
            return None;
        }
        for (word, field) in words.iter_mut().zip(fields) {
            *word = i32::from_be_bytes(field.try_into().ok()?);
        }
        let change = match words[1] {
            0 => Change::Led { leader: NodeId::new(words[2]), leader_epoch: LeaderEpoch::new(words[3]) },
            _ => Change::Isr {
                partition: PartitionIndex::new(words[2]),
                isr: words[4..].iter().filter(|node| **node >= 0).map(|node| NodeId::new(*node)).collect(),
            },
        };
        entries.push(Entry { generation: Generation::new(words[0]), change });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_by_deltas_or_by_snapshot_says_the_same() {
        let (one, partition) = (NodeId::new(1), PartitionIndex::new(0));
        let mut journal = Journal::new();
        journal.promote(one);
        let proposal = |journal: &Journal, other| {
            let assignment = journal.assignment(partition, &[]);
            let isr = vec![one, NodeId::new(other)];
            Proposal { isr, leader_epoch: assignment.leader_epoch, partition_epoch: assignment.partition_epoch }
        };
        let first = proposal(&journal, 2);
        assert!(journal.alter_isr(partition, &first));
        assert!(!journal.alter_isr(partition, &first), "it was decided on what is no more");
        journal.lead_again();
        let second = proposal(&journal, 3);
        assert!(journal.alter_isr(partition, &second));
        let mut copy = Journal::new();
        while copy.position() != journal.position() {
            let delta = journal.read(copy.position().end, 40).unwrap();
            assert_eq!(copy.append(&delta), Some(delta.end));
        }
        let mut installed = Journal::new();
        installed.install(&journal.snapshot()).unwrap();
        for copy in [copy, installed] {
            assert_eq!((copy.leader(), copy.isr(partition)), (one, vec![one, NodeId::new(3)]));
            assert_eq!(
                (copy.generation(), copy.leader_epoch(), copy.position()),
                (journal.generation(), journal.leader_epoch(), journal.position())
            );
        }
    }

    #[test]
    fn two_nodes_never_choose_the_same_numbers() {
        let mut one = Journal::new();
        one.promote(NodeId::new(1));
        let mut other = one.clone();
        let mut third = one.clone();
        other.promote(NodeId::new(2));
        third.promote(NodeId::new(3));
        assert_ne!(other.generation(), third.generation());
        assert_ne!(other.leader_epoch(), third.leader_epoch());
    }
}
