//! What clients did and what they were told, and the anomalies that Jepsen's Kafka workload names: lost-write,
//! inconsistent-offsets, duplicate, nonmonotonic-poll, poll-skip, unseen.
//!
//! A send ends as acknowledged at an offset, as failed, or as unknown; unknown allows anything but a duplicate of an
//! idempotent producer. An acknowledgement that promised less than survival (acks=1, a deposed leader) may be lost.

use std::collections::BTreeMap;

use chronik_model::Offset;

use crate::ledger::{Batch, Ledger};
use crate::sight::{Violation, hold};

/// An acknowledged batch is not where it was acknowledged.
pub const LOST_WRITE: &str = "lost-write";
/// Two clients saw different batches at one offset of one leader epoch.
pub const INCONSISTENT: &str = "inconsistent-offsets";
/// One batch of an idempotent producer stands at two offsets.
pub const DUPLICATE: &str = "duplicate";
/// A consumer went back.
pub const NONMONOTONIC: &str = "nonmonotonic-poll";
/// A consumer was led past offsets that are there.
pub const SKIP: &str = "poll-skip";
/// A batch that was polled is in no log at the end.
pub const UNSEEN: &str = "unseen";

/// One batch that a producer sent, by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its checksum, which no other batch of the run has.
    pub crc: u32,
    /// Whether sending it again must not append it again.
    pub idempotent: bool,
    /// Where it was acknowledged.
    pub acknowledged: Option<Acknowledged>,
}

/// An acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Whether it must survive whatever the mode allows.
    pub survives: bool,
}

/// All clients' operations.
#[derive(Debug, Default)]
pub struct History {
    sent: Vec<Sent>,
    positions: BTreeMap<u32, Offset>,
    polled: BTreeMap<(Offset, i32), Batch>,
}

impl History {
    /// A producer sends a batch; returns its number.
    pub fn send(&mut self, crc: u32, idempotent: bool) -> usize {
        self.sent.push(Sent { crc, idempotent, acknowledged: None });
        self.sent.len() - 1
    }

    /// A producer hears where its batch is.
    pub fn acknowledge(&mut self, number: usize, acknowledged: Acknowledged) {
        if let Some(sent) = self.sent.get_mut(number) {
            sent.acknowledged = Some(acknowledged);
        }
    }

    /// How many batches were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.sent.iter().filter(|sent| sent.acknowledged.is_some()).count()
    }

    /// A consumer begins anew at an offset: its own decision, or what an out-of-range answer tells it.
    pub fn seek(&mut self, consumer: u32, to: Offset) {
        self.positions.insert(consumer, to);
    }

    /// Where a consumer reads next.
    pub fn position(&self, consumer: u32) -> Offset {
        self.positions.get(&consumer).copied().unwrap_or(Offset::ZERO)
    }

    /// A consumer got batches from its position on.
    pub fn poll(&mut self, consumer: u32, batches: &[Batch]) -> Result<(), Violation> {
        let mut position = self.position(consumer);
        for batch in batches {
            hold!(NONMONOTONIC, batch.next_offset > position, "consumer {consumer} at {position} got {batch:?}");
            hold!(SKIP, batch.base_offset <= position, "consumer {consumer} at {position} got {batch:?}");
            position = batch.next_offset;
            let known = *self.polled.entry((batch.base_offset, batch.leader_epoch.get())).or_insert(*batch);
            hold!(INCONSISTENT, known == *batch, "consumer {consumer} got {batch:?}, another got {known:?}");
        }
        self.positions.insert(consumer, position);
        Ok(())
    }

    /// Compares everything with the log as it is at the end. `excused` says of a batch whether its loss was allowed,
    /// `may_vanish` whether it was polled aside of the log, `is_forgotten` of an offset whether a leader was damaged there.
    pub fn judge(
        &self,
        log: &Ledger,
        log_start: Offset,
        excused: impl Fn(Offset, u32) -> bool,
        may_vanish: impl Fn(&Batch) -> bool,
        is_forgotten: impl Fn(Offset) -> bool,
    ) -> Result<(), Violation> {
        let mut places: BTreeMap<u32, Vec<Offset>> = BTreeMap::new();
        for batch in log.range(log_start, log.log_end()) {
            places.entry(batch.crc).or_default().push(batch.base_offset);
        }
        for (number, sent) in self.sent.iter().enumerate() {
            let at = places.get(&sent.crc).map_or(&[][..], Vec::as_slice);
            if sent.idempotent {
                let known = at.iter().filter(|offset| !is_forgotten(**offset));
                hold!(DUPLICATE, known.count() <= 1, "batch {number} stands at {at:?}");
            }
            let Some(told) = sent.acknowledged.filter(|told| told.survives && told.base_offset >= log_start) else {
                continue;
            };
            hold!(
                LOST_WRITE,
                at.contains(&told.base_offset) || excused(told.base_offset, sent.crc),
                "batch {number} was acknowledged at {}, the log has it at {at:?}",
                told.base_offset
            );
        }
        for batch in self.polled.values().filter(|batch| batch.base_offset >= log_start) {
            let there = log.at(batch.base_offset) == Some(batch);
            hold!(UNSEEN, there || may_vanish(batch), "{batch:?} was polled and is not in the log");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::matching::tests::batch;

    const LOG: [fn() -> Batch; 2] = [|| batch(0, 0, 1), || batch(1, 0, 2)];

    fn judge(history: &History, log: &[Batch]) -> Result<(), Violation> {
        history.judge(&Ledger::of(log.iter().copied()), Offset::ZERO, |_, _| false, |_| false, |_| false)
    }

    fn acknowledged(crc: u32, at: i64) -> History {
        let mut history = History::default();
        let number = history.send(crc, true);
        history.acknowledge(number, Acknowledged { base_offset: Offset::new(at), survives: true });
        history
    }

    #[test]
    fn a_lost_write_is_found() {
        let log = LOG.map(|batch| batch());
        assert_eq!(judge(&acknowledged(2, 1), &log), Ok(()));
        assert_eq!(judge(&acknowledged(2, 1), &log[..1]).unwrap_err().rule, LOST_WRITE);
        assert_eq!(judge(&acknowledged(2, 0), &log).unwrap_err().rule, LOST_WRITE);
    }

    #[test]
    fn a_duplicate_is_found() {
        let log = [batch(0, 0, 2), batch(1, 0, 2)];
        assert_eq!(judge(&acknowledged(2, 1), &log).unwrap_err().rule, DUPLICATE);
    }

    #[test]
    fn a_consumer_that_goes_back_or_skips_is_found() {
        let poll = |from, got| {
            let mut history = History::default();
            history.seek(1, Offset::new(from));
            history.poll(1, &[got])
        };
        assert_eq!(poll(1, batch(1, 0, 2)), Ok(()));
        assert_eq!(poll(2, batch(1, 0, 2)).unwrap_err().rule, NONMONOTONIC);
        assert_eq!(poll(0, batch(1, 0, 2)).unwrap_err().rule, SKIP);
    }

    #[test]
    fn different_batches_at_one_offset_are_found() {
        let mut history = History::default();
        history.poll(1, &[batch(0, 0, 1)]).unwrap();
        assert_eq!(history.poll(2, &[batch(0, 0, 7)]).unwrap_err().rule, INCONSISTENT);
    }

    #[test]
    fn a_polled_batch_that_vanished_is_found() {
        let mut history = History::default();
        history.poll(1, &[batch(0, 0, 1), batch(1, 0, 2)]).unwrap();
        assert_eq!(judge(&history, &LOG.map(|batch| batch())[..1]).unwrap_err().rule, UNSEEN);
    }
}
