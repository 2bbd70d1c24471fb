//! Which leader epoch began at which offset (KIP-101, KIP-279, KIP-320), and its file beside the segments.
//!
//! Entries rise strictly in both fields. The file is derived: it can be deleted and is rebuilt from the batches. Nothing
//! here decides when to truncate a log.

use std::fmt::Write as _;

use chronik_model::{LeaderEpoch, Offset};

/// The file's name in the partition's directory.
pub(crate) const FILE: &str = "leader-epoch-checkpoint";

/// The history of a partition's leader epochs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl History {
    /// The latest leader epoch.
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| entry.0)
    }

    /// Every epoch with its first offset, in rising order.
    pub fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// Notes that a leader epoch begins at an offset. Returns whether that changed anything; later entries that contradict
    /// it go.
    pub fn assign(&mut self, leader_epoch: LeaderEpoch, start: Offset) -> bool {
        if self.latest() == Some(leader_epoch) {
            return false;
        }
        let keep = self.entries.partition_point(|entry| entry.0 < leader_epoch && entry.1 < start);
        if self.entries.get(keep) == Some(&(leader_epoch, start)) && keep + 1 == self.entries.len() {
            return false;
        }
        self.entries.truncate(keep);
        self.entries.push((leader_epoch, start));
        true
    }

    /// The largest epoch not above `wanted` with its end offset (exclusive), given the log end; `None` where `wanted` is
    /// above every known epoch or nothing is known.
    pub fn end_offset_for(&self, wanted: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        if wanted < LeaderEpoch::ZERO {
            return None;
        }
        if self.latest() == Some(wanted) {
            return Some((wanted, log_end));
        }
        let higher = self.entries.partition_point(|entry| entry.0 <= wanted);
        let (_, end) = *self.entries.get(higher)?;
        let floor = higher.checked_sub(1).and_then(|at| self.entries.get(at)).map_or(wanted, |entry| entry.0);
        Some((floor, end))
    }

    /// The epoch an offset was written in.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|entry| entry.1 <= offset);
        after.checked_sub(1).and_then(|at| self.entries.get(at)).map(|entry| entry.0)
    }

    /// Forgets epochs that begin at or after a new log end.
    pub fn truncate_from_end(&mut self, log_end: Offset) -> bool {
        let keep = self.entries.partition_point(|entry| entry.1 < log_end);
        let changed = keep < self.entries.len();
        self.entries.truncate(keep);
        changed
    }

    /// Forgets epochs that end before a new log start; the one that holds it begins there.
    pub fn truncate_from_start(&mut self, log_start: Offset) -> bool {
        let gone = self.entries.partition_point(|entry| entry.1 <= log_start);
        let Some(last) = gone.checked_sub(1) else { return false };
        let changed = last > 0 || self.entries.first().is_some_and(|entry| entry.1 < log_start);
        self.entries.drain(..last);
        if let Some(first) = self.entries.first_mut() {
            first.1 = log_start;
        }
        changed
    }

    /// The file's text.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut text = format!("0\n{}\n", self.entries.len());
        for (leader_epoch, start) in &self.entries {
            let _ = writeln!(text, "{leader_epoch} {start}");
        }
        crate::checkpoint::with_checksum(text)
    }

    /// Reads the file's text; `None` where it is damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let body = crate::checkpoint::checked_text(bytes)?;
        let mut lines = body.lines();
        if lines.next()? != "0" {
            return None;
        }
        let count: usize = lines.next()?.parse().ok()?;
        let mut history = Self::default();
        for line in lines {
            let (leader_epoch, start) = line.split_once(' ')?;
            let entry = (LeaderEpoch::new(leader_epoch.parse().ok()?), Offset::new(start.parse().ok()?));
            if history.entries.last().is_some_and(|last| last.0 >= entry.0 || last.1 >= entry.1) {
                return None;
            }
            history.entries.push(entry);
        }
        (history.entries.len() == count).then_some(history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(entries: &[(i32, i64)]) -> History {
        let mut history = History::default();
        for (leader_epoch, start) in entries {
            history.assign(LeaderEpoch::new(*leader_epoch), Offset::new(*start));
        }
        history
    }

    fn end(history: &History, wanted: i32) -> Option<(i32, i64)> {
        history.end_offset_for(LeaderEpoch::new(wanted), Offset::new(50)).map(|(e, o)| (e.get(), o.get()))
    }

    #[test]
    fn end_offset_of_an_epoch_is_where_the_next_one_begins() {
        let history = history(&[(2, 0), (4, 10), (7, 30)]);
        assert_eq!(end(&history, 7), Some((7, 50)));
        assert_eq!(end(&history, 4), Some((4, 30)));
        assert_eq!(end(&history, 5), Some((4, 30)));
        assert_eq!(end(&history, 3), Some((2, 10)));
        assert_eq!(end(&history, 1), Some((1, 0)));
        assert_eq!(end(&history, 8), None);
        assert_eq!(end(&history, -1), None);
        assert_eq!(end(&History::default(), 0), None);
    }

    #[test]
    fn assigning_drops_entries_that_contradict() {
        let mut history = history(&[(2, 0), (4, 10), (7, 30)]);
        assert!(!history.assign(LeaderEpoch::new(7), Offset::new(40)));
        assert!(history.assign(LeaderEpoch::new(8), Offset::new(10)));
        assert_eq!(history.entries(), [(LeaderEpoch::new(2), Offset::ZERO), (LeaderEpoch::new(8), Offset::new(10))]);
    }

    #[test]
    fn truncation_keeps_the_epoch_that_holds_the_new_start() {
        let mut cut = history(&[(2, 0), (4, 10), (7, 30)]);
        assert!(cut.truncate_from_start(Offset::new(15)));
        assert_eq!(cut, history(&[(4, 15), (7, 30)]));
        assert!(!cut.truncate_from_start(Offset::new(15)));
        assert!(cut.truncate_from_end(Offset::new(30)));
        assert_eq!(cut, history(&[(4, 15)]));
        assert_eq!(cut.epoch_of(Offset::new(14)), None);
        assert_eq!(cut.epoch_of(Offset::new(20)), Some(LeaderEpoch::new(4)));
    }

    #[test]
    fn text_round_trips_and_any_flipped_bit_is_noticed() {
        let history = history(&[(0, 0), (3, 1000)]);
        let text = history.encode();
        assert_eq!(History::decode(&text), Some(history));
        for at in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert_eq!(History::decode(&flipped), None, "bit {at}");
        }
    }
}
