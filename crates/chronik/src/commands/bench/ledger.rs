//! What was acknowledged: which records lie at which offsets.
//!
//! Neighbours are kept as one range, so a connection that has a partition of its own needs one entry for it. Others need one
//! for each batch; their number is bounded.

use std::collections::BTreeMap;

use chronik_model::{Offset, PartitionIndex};

use super::pace::Span;

/// Ranges a run keeps at most, 32 bytes each.
pub(crate) const RANGES_MAX: usize = 8_000_000;

/// Records that lie one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    /// The offset of the first record.
    pub(crate) base_offset: Offset,
    /// Their numbers, in the order of their offsets.
    pub(crate) span: Span,
}

impl Range {
    /// The offset after the last record, exclusive.
    pub(crate) fn end(&self) -> Offset {
        offset_after(self.base_offset, self.span.count)
    }
}

/// The offset `count` records further.
pub(crate) fn offset_after(offset: Offset, count: u64) -> Offset {
    Offset::new(offset.get().saturating_add(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// The acknowledged records of a lane, or of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    partitions: BTreeMap<PartitionIndex, Vec<Range>>,
    ranges: usize,
    records: u64,
    batches: u64,
}

impl Ledger {
    /// Notes a batch that was acknowledged.
    pub(crate) fn acknowledge(&mut self, partition: PartitionIndex, base_offset: Offset, span: Span) {
        self.records = self.records.saturating_add(span.count);
        self.batches = self.batches.saturating_add(1);
        let ranges = self.partitions.entry(partition).or_default();
        if let Some(last) = ranges.last_mut()
            && last.end() == base_offset
            && last.span.step == span.step
            && last.span.number(last.span.count) == span.first
        {
            last.span.count = last.span.count.saturating_add(span.count);
            return;
        }
        ranges.push(Range { base_offset, span });
        self.ranges = self.ranges.saturating_add(1);
    }

    /// Adds what another lane has.
    pub(crate) fn merge(&mut self, other: Self) {
        for (partition, mut ranges) in other.partitions {
            self.partitions.entry(partition).or_default().append(&mut ranges);
        }
        self.ranges = self.ranges.saturating_add(other.ranges);
        self.records = self.records.saturating_add(other.records);
        self.batches = self.batches.saturating_add(other.batches);
    }

    /// Entries kept, for the bound of [`RANGES_MAX`].
    pub(crate) fn ranges(&self) -> usize {
        self.ranges
    }

    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    pub(crate) fn batches(&self) -> u64 {
        self.batches
    }

    /// The ranges of each partition in the order of their offsets.
    pub(crate) fn into_sorted(self) -> BTreeMap<PartitionIndex, Vec<Range>> {
        let mut partitions = self.partitions;
        for ranges in partitions.values_mut() {
            ranges.sort_unstable_by_key(|range| range.base_offset);
        }
        partitions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITION: PartitionIndex = PartitionIndex::new(0);

    fn span(first: u64, step: u64, count: u64) -> Span {
        Span { first, step, count }
    }

    #[test]
    fn neighbours_become_one_range_and_others_do_not() {
        let mut ledger = Ledger::default();
        ledger.acknowledge(PARTITION, Offset::new(10), span(1, 2, 5));
        ledger.acknowledge(PARTITION, Offset::new(15), span(11, 2, 3));
        // A gap in the offsets, then one in the numbers.
        ledger.acknowledge(PARTITION, Offset::new(20), span(17, 2, 1));
        ledger.acknowledge(PARTITION, Offset::new(21), span(23, 2, 1));
        assert_eq!((ledger.ranges(), ledger.records(), ledger.batches()), (3, 10, 4));
        let range = |base_offset, span| Range { base_offset: Offset::new(base_offset), span };
        let expected = vec![range(10, span(1, 2, 8)), range(20, span(17, 2, 1)), range(21, span(23, 2, 1))];
        assert_eq!(ledger.into_sorted(), BTreeMap::from([(PARTITION, expected)]));
    }

    #[test]
    fn lanes_that_share_a_partition_are_put_in_the_order_of_offsets() {
        let mut ledger = Ledger::default();
        ledger.acknowledge(PARTITION, Offset::new(4), span(0, 2, 4));
        let mut other = Ledger::default();
        other.acknowledge(PARTITION, Offset::new(0), span(1, 2, 4));
        ledger.merge(other);
        assert_eq!((ledger.ranges(), ledger.records(), ledger.batches()), (2, 8, 2));
        let offsets: Vec<i64> = ledger.into_sorted()[&PARTITION].iter().map(|range| range.base_offset.get()).collect();
        assert_eq!(offsets, [0, 4]);
    }
}
