//! Producers and consumers as the broker's clients behave: they keep to the node they think leads, wait for an answer as
//! long as their time-out says, and go on elsewhere when it does not come.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_model::{NodeId, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp};
use chronik_record::{BatchBuilder, Compression, ProducedBatch, TimestampType};
use chronik_replication::Acks;

use crate::plan::Plan;
use crate::random::Random;

/// How long a producer waits for an answer.
pub const PATIENCE: Duration = Duration::from_millis(1_500);

/// What a node says to a produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is where the acks asked for.
    Done,
    /// Ask another node.
    NotLeader,
    /// Not appended, or appended and not known to be committed; the same again later.
    TryAgain,
    /// The producer's sequence does not continue: it starts over under another id.
    OutOfSequence,
}

/// A batch that is on its way, or waits to be sent again.
#[derive(Clone, Debug)]
pub struct Sending {
    /// Its number in the history.
    pub number: usize,
    /// The batch.
    pub batch: ProducedBatch,
    /// Its partition.
    pub partition: PartitionIndex,
    /// The present attempt.
    pub token: Option<u64>,
}

/// A producer with one batch at a time.
#[derive(Debug)]
pub struct Producer {
    /// Whether sending again must not append again.
    pub idempotent: bool,
    /// What it waits for; none is `acks=0`.
    pub acks: Option<Acks>,
    /// The node it thinks leads.
    pub target: NodeId,
    /// The batch under way.
    pub sending: Option<Sending>,
    producer_id: i64,
    sequences: BTreeMap<PartitionIndex, Sequence>,
}

/// All clients of a run.
#[derive(Debug)]
pub struct Clients {
    /// The producers.
    pub producers: Vec<Producer>,
    /// The node each consumer reads from.
    pub consumers: Vec<NodeId>,
    next_token: u64,
    next_producer_id: i64,
    values: u64,
}

impl Clients {
    /// The clients of a plan.
    pub fn new(plan: &Plan, random: &mut Random) -> Self {
        let first = NodeId::new(1);
        let producers = (0..plan.producers).map(|number| {
            let idempotent = random.below(3) != 0;
            let acks = match random.below(6) {
                0 if !idempotent => None,
                1 if !idempotent => Some(Acks::Leader),
                _ => Some(Acks::All),
            };
            let producer_id = i64::from(number) + 1;
            Producer { idempotent, acks, target: first, sending: None, producer_id, sequences: BTreeMap::new() }
        });
        let producers = producers.collect();
        let nodes = u64::from(plan.nodes);
        let consumers = (0..plan.consumers).map(|_| NodeId::new(random.between(1, nodes) as i32)).collect();
        Self { producers, consumers, next_token: 0, next_producer_id: 1_000, values: 0 }
    }

    /// A token that no attempt had before.
    pub fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// The producer and the batch of an attempt.
    pub fn of_token(&self, token: u64) -> Option<(usize, &Sending)> {
        self.producers.iter().enumerate().find_map(|(at, producer)| {
            producer.sending.as_ref().filter(|sending| sending.token == Some(token)).map(|sending| (at, sending))
        })
    }

    /// A producer makes its next batch, of values that no other batch of the run has.
    pub fn next_batch(&mut self, at: usize, now: Timestamp, partitions: i32, random: &mut Random) -> Option<Sending> {
        let producer = self.producers.get_mut(at)?;
        let partition = PartitionIndex::new(random.below(u64::from(partitions.unsigned_abs())) as i32);
        let count = random.between(1, 4);
        let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, now);
        if producer.idempotent {
            let sequence = *producer.sequences.entry(partition).or_insert(Sequence::new(0));
            builder = builder.producer(ProducerId::new(producer.producer_id), ProducerEpoch::new(0), sequence);
            producer.sequences.insert(partition, sequence.advanced_by(count as u32));
        }
        for _ in 0..count {
            self.values += 1;
            let padding = random.below(60) as usize;
            let value = format!("{:>width$}", self.values, width = 8 + padding);
            builder.append(now, None, Some(value.as_bytes()), &[]);
        }
        let batch = builder.build().ok()?;
        Some(Sending { number: 0, batch, partition, token: None })
    }

    /// A producer gives up its identity: what it sends next continues nothing.
    pub fn start_over(&mut self, at: usize) {
        if let Some(producer) = self.producers.get_mut(at) {
            self.next_producer_id += 1;
            producer.producer_id = self.next_producer_id;
            producer.sequences.clear();
            producer.sending = None;
        }
    }
}
