//! What happens next: events in virtual time, and among those of one instant in the order they were planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use chronik_model::Instant;

/// Planned events and the virtual clock. The clock moves only when an event is taken.
#[derive(Debug)]
pub struct Schedule<E> {
    now: Instant,
    heap: BinaryHeap<Planned<E>>,
    planned: u64,
}

#[derive(Debug)]
struct Planned<E> {
    at: Instant,
    number: u64,
    event: E,
}

impl<E> Schedule<E> {
    /// Nothing planned, at the origin of time.
    pub fn new() -> Self {
        Self { now: Instant::ORIGIN, heap: BinaryHeap::new(), planned: 0 }
    }

    /// Virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Plans an event; one for the past happens now, after what is already planned for now.
    pub fn at(&mut self, at: Instant, event: E) {
        self.planned += 1;
        self.heap.push(Planned { at: at.max(self.now), number: self.planned, event });
    }

    /// Plans an event `delay` from now.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.at(self.now + delay, event);
    }

    /// Takes the next event that is due before `end` and moves the clock to it. Without one the clock moves to `end`.
    pub fn take_before(&mut self, end: Instant) -> Option<E> {
        if self.heap.peek().is_none_or(|next| next.at >= end) {
            self.now = self.now.max(end);
            return None;
        }
        let next = self.heap.pop()?;
        self.now = next.at;
        Some(next.event)
    }
}

impl<E> Default for Schedule<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    /// The earliest is the greatest, for the heap.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_planned() {
        let mut schedule = Schedule::new();
        for (ms, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (3, 'b')] {
            schedule.after(Duration::from_millis(ms), event);
        }
        let end = Instant::since_origin(Duration::from_millis(5));
        let mut taken = String::new();
        while let Some(event) = schedule.take_before(end) {
            taken.push(event);
        }
        assert_eq!((taken.as_str(), schedule.now()), ("ab", end));
        while let Some(event) = schedule.take_before(end + Duration::from_millis(1)) {
            taken.push(event);
        }
        assert_eq!(taken, "abcd");
    }
}
