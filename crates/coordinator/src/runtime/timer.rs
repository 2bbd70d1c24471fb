//! What a shard waits for, ordered by time. Nothing fires by itself: the shard asks for what is due in `tick`.
//!
//! Invariant: `by_time` and `by_key` hold the same timers; a key has one timer at most, and scheduling replaces it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chronik_model::Instant;

/// A timer never fires in the turn that sets it, so a time-out of zero cannot make `tick` spin.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// What a timer is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    /// Expired offsets and forgotten groups are looked for.
    Cleanup,
    /// The join phase of a group ends, or its first one is looked at again.
    Join(Arc<str>),
    /// Members of a group that have not synced are removed.
    Sync(Arc<str>),
    /// A member, or a member id given out (KIP-394), was silent for its session timeout.
    Session(Arc<str>, Arc<str>),
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Instant, TimerKey)>,
    by_key: BTreeMap<TimerKey, Instant>,
}

impl Timers {
    pub(crate) fn schedule(&mut self, now: Instant, key: TimerKey, delay: Duration) {
        let at = now + delay.max(DELAY_MIN);
        if let Some(previous) = self.by_key.insert(key.clone(), at) {
            self.by_time.remove(&(previous, key.clone()));
        }
        self.by_time.insert((at, key));
    }

    pub(crate) fn cancel(&mut self, key: &TimerKey) {
        if let Some(at) = self.by_key.remove(key) {
            self.by_time.remove(&(at, key.clone()));
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<TimerKey> {
        if self.deadline()? > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    pub(crate) fn clear(&mut self) {
        self.by_time.clear();
        self.by_key.clear();
    }

    pub(crate) fn contains(&self, key: &TimerKey) -> bool {
        self.by_key.contains_key(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &TimerKey> {
        self.by_key.keys()
    }

    pub(crate) fn check_invariants(&self) {
        assert_eq!(self.by_time.len(), self.by_key.len(), "timers by time and by key differ");
        for (at, key) in &self.by_time {
            assert_eq!(self.by_key.get(key), Some(at), "timer {key:?} is kept twice");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::since_origin(Duration::from_millis(millis))
    }

    #[test]
    fn a_timer_scheduled_again_fires_once_at_the_later_time() {
        let mut timers = Timers::default();
        timers.schedule(at(0), TimerKey::Cleanup, Duration::from_millis(5));
        timers.schedule(at(0), TimerKey::Cleanup, Duration::from_millis(9));
        timers.check_invariants();
        assert_eq!(timers.pop_due(at(8)), None);
        assert_eq!(timers.deadline(), Some(at(9)));
        assert_eq!(timers.pop_due(at(9)), Some(TimerKey::Cleanup));
        assert_eq!(timers.pop_due(at(99)), None);
    }

    #[test]
    fn a_timer_of_no_delay_is_not_due_at_once() {
        let mut timers = Timers::default();
        timers.schedule(at(3), TimerKey::Cleanup, Duration::ZERO);
        assert_eq!(timers.pop_due(at(3)), None);
        assert_eq!(timers.pop_due(at(4)), Some(TimerKey::Cleanup));
    }
}
