//! What was sent, what was acknowledged, and whether that is what a reader finds.
//!
//! Every record can be made again from the run's seed, its producer and its number, so a reader compares bytes without anybody having
//! kept them. Unknown outcomes may be there or not, but never twice and never out of order.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::clients::{self, Received};
use crate::seed::Random;

/// Identity of a record: its producer, and its number among that producer's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// Number of the producer.
    pub producer: u32,
    /// Number of the record, counted from 0 by its producer.
    pub number: u64,
}

const ID_BYTES: usize = 12;

/// The shape of a run's records.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// What all content derives from.
    pub seed: u64,
    /// Number of partitions that records are spread over.
    pub partitions: i32,
    /// Most bytes a value has beside its identity.
    pub value_bytes_max: u64,
}

impl Shape {
    /// The partition that gets this record.
    pub fn partition(&self, id: Id) -> i32 {
        let mut random = Random::from_parts(&[self.seed, id.producer.into(), id.number, 1]);
        i32::try_from(random.between(0, self.partitions.unsigned_abs().into())).expect("a partition")
    }

    /// The record's value.
    pub fn value(&self, id: Id) -> Vec<u8> {
        let mut random = Random::from_parts(&[self.seed, id.producer.into(), id.number, 2]);
        let length = random.between(0, self.value_bytes_max + 1);
        let mut value = id.producer.to_be_bytes().to_vec();
        value.extend(id.number.to_be_bytes());
        value.extend(random.bytes(usize::try_from(length).expect("a length")));
        value
    }

    fn id(value: &[u8]) -> Option<Id> {
        let (producer, rest) = value.split_first_chunk::<4>()?;
        let number = rest.first_chunk::<8>()?;
        debug_assert_eq!(producer.len() + number.len(), ID_BYTES);
        Some(Id { producer: u32::from_be_bytes(*producer), number: u64::from_be_bytes(*number) })
    }
}

/// The outcomes a run saw.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Acknowledged records with their offset, which a client may not know: a repeat can be answered without one.
    acknowledged: HashMap<Id, Option<i64>>,
    unknown: HashSet<Id>,
    sent: BTreeMap<u32, u64>,
}

impl Ledger {
    /// A producer has sent its records below `count`.
    pub fn sent(&mut self, producer: u32, count: u64) {
        self.sent.insert(producer, count);
    }

    /// A record was acknowledged.
    pub fn acknowledged(&mut self, id: Id, offset: i64) {
        let again = self.acknowledged.insert(id, (offset >= 0).then_some(offset));
        assert!(again.is_none(), "{id:?} was acknowledged twice");
    }

    /// A record's outcome is not known to its producer.
    pub fn unknown(&mut self, id: Id) {
        self.unknown.insert(id);
    }

    /// Number of records acknowledged.
    pub fn count(&self) -> usize {
        self.acknowledged.len()
    }

    /// The highest acknowledged offset of each partition.
    pub fn highest(&self, shape: Shape) -> BTreeMap<i32, i64> {
        let mut highest = BTreeMap::new();
        for (id, offset) in &self.acknowledged {
            let entry = highest.entry(shape.partition(*id)).or_insert(-1);
            *entry = offset.unwrap_or(-1).max(*entry);
        }
        highest
    }

    /// Number of records whose outcome their producer does not know.
    pub fn count_unknown(&self) -> usize {
        self.unknown.len()
    }

    /// Reads the topic through and panics unless every acknowledged record is there, once, in its producer's order, byte for byte,
    /// at its offset, and nothing else is but what was sent.
    pub fn check(&self, bootstrap: &str, topic: &str, shape: Shape) {
        let mut found: HashMap<Id, i64> = HashMap::new();
        let mut last_number: HashMap<(u32, i32), u64> = HashMap::new();
        let mut next_offset: HashMap<i32, i64> = HashMap::new();
        let mut wrong: Vec<String> = Vec::new();
        clients::read_through(bootstrap, topic, shape.partitions, |received| {
            let Received { partition, offset, value, .. } = received;
            let at = format!("{topic}-{partition} offset {offset}");
            let expected = next_offset.insert(partition, offset + 1).unwrap_or(0);
            if offset != expected {
                wrong.push(format!("{at}: offset {expected} should follow"));
            }
            let value = value.unwrap_or_default();
            let Some(id) =
                Shape::id(&value).filter(|id| self.sent.get(&id.producer).is_some_and(|sent| id.number < *sent))
            else {
                return wrong.push(format!("{at}: nobody sent this: {} bytes", value.len()));
            };
            if value != shape.value(id) || partition != shape.partition(id) {
                wrong.push(format!("{at}: {id:?} is not what was sent"));
            }
            if let Some(first) = found.insert(id, offset) {
                wrong.push(format!("{at}: {id:?} is there twice, also at {first}"));
            }
            if let Some(before) =
                last_number.insert((id.producer, partition), id.number).filter(|last| *last >= id.number)
            {
                wrong.push(format!("{at}: {id:?} comes after its successor {before}"));
            }
        });
        let mut lost = 0;
        for (id, offset) in &self.acknowledged {
            match (found.get(id), offset) {
                (None, _) => {
                    lost += 1;
                    wrong.push(format!(
                        "lost: {id:?}, acknowledged at {}-{} offset {offset:?}",
                        topic,
                        shape.partition(*id)
                    ));
                }
                (Some(there), Some(told)) if there != told => {
                    wrong.push(format!("{id:?} was acknowledged at offset {told} and is at {there}"));
                }
                _ => {}
            }
        }
        let shown = &wrong[..wrong.len().min(20)];
        assert!(
            wrong.is_empty(),
            "{} of {} acknowledged records are lost; {} complaints in {} records, among them\n{}",
            lost,
            self.acknowledged.len(),
            wrong.len(),
            found.len(),
            shown.join("\n")
        );
    }
}
