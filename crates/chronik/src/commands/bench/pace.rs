//! Which records a lane sends when: at the instants an open loop makes them due, or as fast as a closed loop lets it.
//!
//! A lane is one connection's share of a run. Records of a run are numbered from 0; lane `place` of `lanes` has every
//! `lanes`-th number, from `place` on. Time is an argument, counted from the start of the run.

use std::time::Duration;

/// When the records of an open loop are due: evenly, the first at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    records_per_s: u64,
}

const NANOS_PER_S: u128 = 1_000_000_000;

impl Schedule {
    /// `records_per_s` is at least 1.
    pub(crate) fn new(records_per_s: u64) -> Self {
        Self { records_per_s: records_per_s.max(1) }
    }

    pub(crate) fn records_per_s(self) -> u64 {
        self.records_per_s
    }

    /// When the record with this number is due.
    pub(crate) fn due(self, number: u64) -> Duration {
        let nanos = u128::from(number) * NANOS_PER_S / u128::from(self.records_per_s);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The first number that is not due before `at`: as many records are.
    pub(crate) fn due_before(self, at: Duration) -> u64 {
        let number = (at.as_nanos() * u128::from(self.records_per_s)).div_ceil(NANOS_PER_S);
        u64::try_from(number).unwrap_or(u64::MAX)
    }

    /// How many records are due at `now` or earlier.
    pub(crate) fn due_by(self, now: Duration) -> u64 {
        self.due_before(now.saturating_add(Duration::from_nanos(1)))
    }
}

/// How much a run sends after the warm-up; whichever is reached first ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Time before anything is measured.
    pub(crate) warm_up: Duration,
    /// Time that is measured.
    pub(crate) duration: Option<Duration>,
    /// Records that are measured.
    pub(crate) records: Option<u64>,
}

impl Extent {
    fn end(self) -> Option<Duration> {
        self.duration.map(|duration| self.warm_up.saturating_add(duration))
    }

    /// How many records of a schedule the run has, warm-up included.
    fn scheduled(self, schedule: Schedule) -> u64 {
        let by_time = self.end().map_or(u64::MAX, |end| schedule.due_before(end));
        let by_count =
            self.records.map_or(u64::MAX, |records| schedule.due_before(self.warm_up).saturating_add(records));
        by_time.min(by_count)
    }
}

/// Where a lane stands among those of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Counted from 0, less than `lanes`.
    pub(crate) place: u64,
    /// At least 1.
    pub(crate) lanes: u64,
}

impl Place {
    /// How many of the first `count` numbers are this lane's.
    fn share(self, count: u64) -> u64 {
        count.saturating_sub(self.place).div_ceil(self.lanes)
    }

    /// The number of this lane's record that has `index` before it.
    fn number(self, index: u64) -> u64 {
        index.saturating_mul(self.lanes).saturating_add(self.place)
    }
}

/// Numbers of consecutive records of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first number.
    pub(crate) first: u64,
    /// From one number to the next.
    pub(crate) step: u64,
    /// How many there are.
    pub(crate) count: u64,
}

impl Span {
    pub(crate) fn numbers(self) -> impl Iterator<Item = u64> {
        (0..self.count).map(move |index| self.number(index))
    }

    /// The number of the record that has `index` before it; also of the one that would follow the last.
    pub(crate) fn number(self, index: u64) -> u64 {
        self.first.saturating_add(self.step.saturating_mul(index))
    }
}

/// What a lane has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send these as one batch, now.
    Send(Span),
    /// Nothing until then.
    WaitUntil(Duration),
    /// Nothing any more.
    Done,
}

/// What decides that a batch is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loop {
    /// The clock: records are due whether earlier ones are acknowledged or not.
    Open {
        /// When they are due.
        schedule: Schedule,
        /// How long a record waits for others to fill its batch (`linger.ms`).
        linger: Duration,
    },
    /// The acknowledgement of an earlier one: whenever there is room in flight.
    Closed,
}

/// One connection's share of a run.
#[derive(Debug)]
pub(crate) struct Lane {
    place: Place,
    kind: Loop,
    extent: Extent,
    /// Most records in a batch, at least 1.
    batch_records: u64,
    /// Own records that were sent.
    sent: u64,
    /// Own records that were sent after the warm-up of a closed loop.
    measured: u64,
    stopped: bool,
}

impl Lane {
    pub(crate) fn new(place: Place, kind: Loop, extent: Extent, batch_records: u64) -> Self {
        Self { place, kind, extent, batch_records: batch_records.max(1), sent: 0, measured: 0, stopped: false }
    }

    /// Sends nothing any more.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// What to do at `now`, given that there is room in flight. Whoever is told to send has taken the records.
    pub(crate) fn next(&mut self, now: Duration) -> Next {
        if self.stopped {
            return Next::Done;
        }
        match self.kind {
            Loop::Open { schedule, linger } => self.next_due(now, schedule, linger),
            Loop::Closed => self.next_at_once(now),
        }
    }

    fn next_due(&mut self, now: Duration, schedule: Schedule, linger: Duration) -> Next {
        let total = self.place.share(self.extent.scheduled(schedule));
        if self.sent >= total {
            return Next::Done;
        }
        let due = self.place.share(schedule.due_by(now)).min(total);
        let waiting = due.saturating_sub(self.sent);
        if waiting >= self.batch_records {
            return Next::Send(self.take(self.batch_records));
        }
        let due_at = |index| schedule.due(self.place.number(index));
        // A batch goes when its first record has waited long enough, and when it is full or nothing follows.
        let last = self.sent.saturating_add(self.batch_records).min(total).saturating_sub(1);
        let at = due_at(self.sent).saturating_add(linger).min(due_at(last));
        if at <= now && waiting > 0 { Next::Send(self.take(waiting)) } else { Next::WaitUntil(at) }
    }

    fn next_at_once(&mut self, now: Duration) -> Next {
        if self.extent.end().is_some_and(|end| now >= end) {
            return Next::Done;
        }
        if now < self.extent.warm_up {
            return Next::Send(self.take(self.batch_records));
        }
        let quota = self.extent.records.map_or(u64::MAX, |records| self.place.share(records));
        let count = self.batch_records.min(quota.saturating_sub(self.measured));
        if count == 0 {
            return Next::Done;
        }
        self.measured = self.measured.saturating_add(count);
        Next::Send(self.take(count))
    }

    fn take(&mut self, count: u64) -> Span {
        let span = Span { first: self.place.number(self.sent), step: self.place.lanes, count };
        self.sent = self.sent.saturating_add(count);
        span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Place = Place { place: 0, lanes: 1 };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn records(count: u64) -> Extent {
        Extent { warm_up: Duration::ZERO, duration: None, records: Some(count) }
    }

    fn open(records_per_s: u64, linger: Duration) -> Loop {
        Loop::Open { schedule: Schedule::new(records_per_s), linger }
    }

    fn send(first: u64, step: u64, count: u64) -> Next {
        Next::Send(Span { first, step, count })
    }

    #[test]
    fn what_is_due_and_when_it_is_due_agree() {
        for records_per_s in [1, 3, 7, 1_000, 999_983, 1_000_000_000] {
            let schedule = Schedule::new(records_per_s);
            for number in [0, 1, 2, 6, 1_000, 123_456_789] {
                let due = schedule.due(number);
                assert!(schedule.due_by(due + Duration::from_nanos(1)) > number, "{records_per_s}: {number}");
                assert!(schedule.due_before(due) <= number, "{records_per_s}: {number}");
            }
            assert_eq!(schedule.due_before(Duration::from_secs(10)), records_per_s * 10);
        }
    }

    #[test]
    fn without_linger_each_record_goes_when_it_is_due() {
        let mut lane = Lane::new(ALONE, open(1_000, Duration::ZERO), records(3), 100);
        assert_eq!(lane.next(ms(0)), send(0, 1, 1));
        assert_eq!(lane.next(ms(0)), Next::WaitUntil(ms(1)));
        assert_eq!(lane.next(ms(1)), send(1, 1, 1));
        assert_eq!(lane.next(ms(2)), send(2, 1, 1));
        assert_eq!(lane.next(ms(2)), Next::Done);
    }

    #[test]
    fn what_became_due_while_nothing_could_be_sent_goes_in_full_batches_and_is_not_left_out() {
        let mut lane = Lane::new(ALONE, open(1_000, Duration::ZERO), records(25), 10);
        // The lane was held up for a long time: all of it is due.
        assert_eq!(lane.next(ms(5_000)), send(0, 1, 10));
        assert_eq!(lane.next(ms(5_000)), send(10, 1, 10));
        assert_eq!(lane.next(ms(5_000)), send(20, 1, 5));
        assert_eq!(lane.next(ms(5_000)), Next::Done);
    }

    #[test]
    fn a_batch_waits_for_its_linger_or_until_it_is_full_or_nothing_follows() {
        let mut lane = Lane::new(ALONE, open(1_000, ms(5)), records(10), 100);
        assert_eq!(lane.next(ms(0)), Next::WaitUntil(ms(5)));
        assert_eq!(lane.next(ms(5)), send(0, 1, 6));
        // The last is due before the linger of the seventh has passed.
        assert_eq!(lane.next(ms(6)), Next::WaitUntil(ms(9)));
        assert_eq!(lane.next(ms(9)), send(6, 1, 4));
        let mut lane = Lane::new(ALONE, open(1_000, ms(50)), records(100), 4);
        assert_eq!(lane.next(ms(0)), Next::WaitUntil(ms(3)));
        assert_eq!(lane.next(ms(3)), send(0, 1, 4));
    }

    #[test]
    fn lanes_share_one_schedule_and_leave_no_number_out() {
        let mut sent = Vec::new();
        for place in 0..3 {
            let mut lane = Lane::new(Place { place, lanes: 3 }, open(1_000, Duration::ZERO), records(10), 100);
            assert_eq!(lane.next(ms(0)), if place == 0 { send(0, 3, 1) } else { Next::WaitUntil(ms(place)) });
            while let Next::Send(span) = lane.next(ms(100)) {
                sent.extend(span.numbers());
            }
        }
        sent.push(0);
        sent.sort_unstable();
        assert_eq!(sent, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn an_open_loop_ends_with_what_was_due_in_time_however_late_it_is_sent() {
        let extent = Extent { warm_up: ms(500), duration: Some(ms(1_500)), records: None };
        let mut lane = Lane::new(ALONE, open(100, Duration::ZERO), extent, 1_000);
        assert_eq!(lane.next(ms(60_000)), send(0, 1, 200));
        assert_eq!(lane.next(ms(60_000)), Next::Done);
        let extent = Extent { records: Some(7), ..extent };
        let mut lane = Lane::new(ALONE, open(100, Duration::ZERO), extent, 1_000);
        assert_eq!(lane.next(ms(60_000)), send(0, 1, 57));
    }

    #[test]
    fn a_closed_loop_always_has_a_full_batch_and_counts_after_the_warm_up() {
        let extent = Extent { warm_up: ms(10), duration: Some(ms(90)), records: Some(5) };
        let mut lane = Lane::new(ALONE, Loop::Closed, extent, 4);
        assert_eq!(lane.next(ms(0)), send(0, 1, 4));
        assert_eq!(lane.next(ms(9)), send(4, 1, 4));
        assert_eq!(lane.next(ms(10)), send(8, 1, 4));
        assert_eq!(lane.next(ms(11)), send(12, 1, 1));
        assert_eq!(lane.next(ms(11)), Next::Done);
        let mut lane = Lane::new(ALONE, Loop::Closed, Extent { records: None, ..extent }, 4);
        assert_eq!(lane.next(ms(99)), send(0, 1, 4));
        assert_eq!(lane.next(ms(100)), Next::Done);
    }

    #[test]
    fn a_stopped_lane_sends_nothing() {
        for kind in [Loop::Closed, open(1_000, Duration::ZERO)] {
            let mut lane = Lane::new(ALONE, kind, records(10), 1);
            lane.stop();
            assert_eq!(lane.next(ms(5)), Next::Done);
        }
    }
}
