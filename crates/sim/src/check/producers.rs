//! I8: one log holds a sequence of one producer id and epoch once.

use std::collections::BTreeMap;

use chronik_model::{NodeId, Offset, ProducerEpoch, ProducerId, Sequence};

use crate::ledger::Ledger;
use crate::sight::{Violation, hold};

/// A batch was appended twice.
pub const ONCE: &str = "no-duplicate-sequence";

/// Looks at a whole log from its start on. `is_forgotten` says of an offset whether a leader was damaged there: what it could
/// not read it did not know when it was sent again.
pub fn no_duplicates(
    node: NodeId,
    log_start: Offset,
    ledger: &Ledger,
    is_forgotten: impl Fn(Offset) -> bool,
) -> Result<(), Violation> {
    let mut seen: BTreeMap<(ProducerId, ProducerEpoch, Sequence), Offset> = BTreeMap::new();
    let known = ledger.range(log_start, ledger.log_end()).filter(|batch| !is_forgotten(batch.base_offset));
    for batch in known {
        let Some(producer) = batch.producer else { continue };
        let first = *seen.entry(producer).or_insert(batch.base_offset);
        hold!(ONCE, first == batch.base_offset, "node {node} has {producer:?} at {first} and {}", batch.base_offset);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::matching::tests::batch;
    use crate::ledger::Batch;

    #[test]
    fn a_sequence_that_stands_twice_is_found() {
        let producer = Some((ProducerId::new(1), ProducerEpoch::new(0), Sequence::new(3)));
        let log = [Batch { producer, ..batch(0, 0, 1) }, batch(1, 0, 2), Batch { producer, ..batch(2, 0, 1) }];
        let node = NodeId::new(1);
        let check = |log: &[Batch], forgotten: Option<i64>| {
            let is_forgotten = |offset| forgotten.is_some_and(|at| offset == Offset::new(at));
            no_duplicates(node, Offset::ZERO, &Ledger::of(log.iter().copied()), is_forgotten)
        };
        assert!(check(&log[..2], None).is_ok());
        assert_eq!(check(&log, None).unwrap_err().rule, ONCE);
        assert_eq!(check(&log, Some(1)).unwrap_err().rule, ONCE);
        assert!(check(&log, Some(0)).is_ok());
    }
}
