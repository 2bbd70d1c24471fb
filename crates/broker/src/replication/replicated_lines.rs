//! The log line for people of each range that was replicated. Under load ranges of a partition are put together, and few
//! lines are written, so that logging never limits replication.

use std::collections::HashMap;
use std::time::Duration;

use chronik_model::{Instant, Offset};
use chronik_replication::message::TopicIdPartition;

/// A range is told when nothing was added for so long.
const QUIET: Duration = Duration::from_millis(100);
/// A range is told after so long at the latest.
const AGE_MAX: Duration = Duration::from_secs(1);
/// Lines at a time; what is beyond them is told in one.
const LINES_MAX: usize = 50;

#[derive(Debug, Default)]
pub(super) struct ReplicatedLines {
    ranges: HashMap<TopicIdPartition, Range>,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    base: Offset,
    end: Offset,
    bytes: usize,
    began: Instant,
    grown: Instant,
}

impl ReplicatedLines {
    /// Batches were appended.
    pub(super) fn add(&mut self, id: TopicIdPartition, base: Offset, end: Offset, bytes: usize, now: Instant) {
        let range = self.ranges.entry(id).or_insert(Range { base, end: base, bytes: 0, began: now, grown: now });
        (range.end, range.bytes, range.grown) = (end, range.bytes + bytes, now);
    }

    /// When [`ReplicatedLines::due`] has something to say at the earliest, about.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        (!self.ranges.is_empty()).then(|| now + QUIET)
    }

    /// The lines to be written now. `name` gives a partition's name.
    pub(super) fn due(&mut self, now: Instant, name: impl Fn(TopicIdPartition) -> String) -> Vec<String> {
        let is_due =
            |range: &Range| now.saturating_since(range.grown) >= QUIET || now.saturating_since(range.began) >= AGE_MAX;
        let mut due: Vec<_> = self.ranges.extract_if(|_, range| is_due(range)).collect();
        due.sort_by_key(|(id, _)| *id);
        let rest = due.split_off(due.len().min(LINES_MAX));
        let mut lines: Vec<String> = due
            .into_iter()
            .map(|(id, range)| {
                format!(
                    "WAL✓ Replicated: {} offset {} ({} records, {} bytes)",
                    name(id),
                    range.base,
                    range.records(),
                    range.bytes
                )
            })
            .collect();
        if !rest.is_empty() {
            let records: i64 = rest.iter().map(|(_, range)| range.records()).sum();
            let bytes: usize = rest.iter().map(|(_, range)| range.bytes).sum();
            lines.push(format!("WAL✓ Replicated: {} more partitions ({records} records, {bytes} bytes)", rest.len()));
        }
        lines
    }
}

impl Range {
    fn records(&self) -> i64 {
        self.end.get().saturating_sub(self.base.get())
    }
}

#[cfg(test)]
mod tests {
    use chronik_model::{PartitionIndex, TopicId, Uuid};

    use super::*;

    fn id(partition: i32) -> TopicIdPartition {
        TopicIdPartition::new(TopicId(Uuid::from_bytes([1; 16])), PartitionIndex::new(partition))
    }

    fn at(millis: u64) -> Instant {
        Instant::since_origin(Duration::from_millis(millis))
    }

    fn name(id: TopicIdPartition) -> String {
        format!("t-{}", id.partition)
    }

    #[test]
    fn a_range_is_told_once_it_is_quiet_and_at_least_every_second() {
        let mut lines = ReplicatedLines::default();
        lines.add(id(0), Offset::new(0), Offset::new(3), 300, at(0));
        lines.add(id(0), Offset::new(3), Offset::new(4), 159, at(50));
        assert!(lines.due(at(120), name).is_empty());
        assert_eq!(lines.due(at(150), name), ["WAL✓ Replicated: t-0 offset 0 (4 records, 459 bytes)"]);
        assert_eq!(lines.deadline(at(150)), None);
        for step in 0..20 {
            let base = 4 + i64::try_from(step).unwrap();
            lines.add(id(0), Offset::new(base), Offset::new(base + 1), 10, at(1000 + step * 50));
        }
        assert_eq!(lines.due(at(2000), name), ["WAL✓ Replicated: t-0 offset 4 (20 records, 200 bytes)"]);
    }

    #[test]
    fn many_partitions_are_told_in_few_lines() {
        let mut lines = ReplicatedLines::default();
        for partition in 0..1000 {
            lines.add(id(partition), Offset::new(0), Offset::new(2), 100, at(0));
        }
        let due = lines.due(at(1000), name);
        assert_eq!(due.len(), LINES_MAX + 1);
        assert_eq!(due.last().unwrap(), "WAL✓ Replicated: 950 more partitions (1900 records, 95000 bytes)");
        assert!(lines.due(at(2000), name).is_empty());
    }
}
