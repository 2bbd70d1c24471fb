//! What is counted while a run goes on: records, batches, bytes, latencies; in all, and since the last line of progress.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use super::pace::{Schedule, Span};

/// Latencies are counted in microseconds up to this one; longer ones count as this.
const LATENCY_MAX: Duration = Duration::from_secs(3_600);
/// Digits that a percentile keeps.
const DIGITS: u8 = 3;

/// Latencies of a run, to three digits, from a microsecond to an hour.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    fn new() -> Self {
        let micros = u64::try_from(LATENCY_MAX.as_micros()).unwrap_or(u64::MAX);
        let histogram = Histogram::new_with_bounds(1, micros, DIGITS);
        #[expect(clippy::expect_used, reason = "constant bounds, in the range the library takes")]
        Self(histogram.expect("bounds of a histogram"))
    }

    fn record(&mut self, latency: Duration, count: u64) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record_n(micros, count);
    }

    /// The latency that this share of the records, from 0 to 1, does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(share))
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }

    pub(crate) fn mean(&self) -> Duration {
        Duration::try_from_secs_f64(self.0.mean() / 1e6).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Counts over some time.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) records: u64,
    pub(crate) batches: u64,
    /// Bytes of keys and values where the tool wrote them, of whole batches where it only read them.
    pub(crate) bytes: u64,
    pub(crate) latencies: Latencies,
}

impl Tally {
    fn new() -> Self {
        Self { records: 0, batches: 0, bytes: 0, latencies: Latencies::new() }
    }

    fn reset(&mut self) {
        (self.records, self.batches, self.bytes) = (0, 0, 0);
        self.latencies.0.reset();
    }

    fn count(&mut self, records: u64, batches: u64, bytes: u64) {
        self.records = self.records.saturating_add(records);
        self.batches = self.batches.saturating_add(batches);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// The counts of a run. Every task of the run adds to them.
#[derive(Debug)]
pub(crate) struct Meter {
    warm_up: Duration,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    /// What happened after the warm-up.
    measured: Tally,
    interval: Tally,
    /// When the last of what is measured happened.
    last: Duration,
}

impl Meter {
    pub(crate) fn new(warm_up: Duration) -> Self {
        let counts = Counts { measured: Tally::new(), interval: Tally::new(), last: warm_up };
        Self { warm_up, counts: Mutex::new(counts) }
    }

    /// Counts records of an open loop that are done at `now`, each from the instant it was due.
    pub(crate) fn due(&self, now: Duration, schedule: Schedule, span: Span, batches: u64, record_bytes: u64) {
        let mut counts = self.lock();
        let mut measured: u64 = 0;
        for number in span.numbers() {
            let due = schedule.due(number);
            let latency = now.saturating_sub(due);
            counts.interval.latencies.record(latency, 1);
            if due >= self.warm_up {
                counts.measured.latencies.record(latency, 1);
                measured = measured.saturating_add(1);
            }
        }
        counts.interval.count(span.count, batches, span.count.saturating_mul(record_bytes));
        if measured > 0 {
            counts.measured.count(measured, batches, measured.saturating_mul(record_bytes));
            counts.last = now;
        }
    }

    /// Counts records that were asked for or sent at `since` and are done at `now`.
    pub(crate) fn done(&self, now: Duration, since: Duration, records: u64, batches: u64, bytes: u64, weight: u64) {
        let mut counts = self.lock();
        let latency = now.saturating_sub(since);
        counts.interval.latencies.record(latency, weight);
        counts.interval.count(records, batches, bytes);
        if since >= self.warm_up {
            counts.measured.latencies.record(latency, weight);
            counts.measured.count(records, batches, bytes);
            counts.last = now;
        }
    }

    /// What was counted since this was asked last.
    pub(crate) fn take_interval(&self) -> Tally {
        let mut counts = self.lock();
        let interval = counts.interval.clone();
        counts.interval.reset();
        interval
    }

    /// What was measured, and how long it took from the end of the warm-up to the last of it.
    pub(crate) fn measured(&self) -> (Tally, Duration) {
        let counts = self.lock();
        (counts.measured.clone(), counts.last.saturating_sub(self.warm_up))
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts stay usable after a panic elsewhere, which is told in any case.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// CPU time this process has used, user and system, on all processors.
pub(crate) fn cpu_time() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u32::try_from(used.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(used.tv_sec).unwrap_or(0), nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn latency_counts_from_when_each_record_was_due() {
        let meter = Meter::new(Duration::ZERO);
        // One a millisecond, held up until all 100 were due: the first waited for 100 ms, the last for one.
        let span = Span { first: 0, step: 1, count: 100 };
        meter.due(ms(100), Schedule::new(1_000), span, 1, 10);
        let (tally, elapsed) = meter.measured();
        assert_eq!((tally.records, tally.batches, tally.bytes, elapsed), (100, 1, 1_000, ms(100)));
        let latencies = &tally.latencies;
        for (found, millis) in [
            (latencies.quantile(0.5), 50),
            (latencies.quantile(0.99), 99),
            (latencies.max(), 100),
            (latencies.mean(), 50),
        ] {
            assert!(found >= ms(millis) && found < ms(millis + 1), "{found:?} and not {millis} ms");
        }
    }

    #[test]
    fn the_warm_up_shows_in_progress_and_is_not_measured() {
        let meter = Meter::new(ms(50));
        meter.due(ms(100), Schedule::new(1_000), Span { first: 0, step: 1, count: 60 }, 1, 10);
        meter.done(ms(45), ms(40), 7, 1, 70, 7);
        assert_eq!(meter.take_interval().records, 67);
        assert_eq!(meter.take_interval().records, 0);
        let (tally, elapsed) = meter.measured();
        assert_eq!((tally.records, tally.bytes, elapsed), (10, 100, ms(50)));
        meter.done(ms(160), ms(150), 5, 1, 50, 5);
        let (tally, elapsed) = meter.measured();
        assert_eq!((tally.records, tally.batches, elapsed), (15, 2, ms(110)));
    }

    #[test]
    fn latencies_beyond_the_range_count_as_its_end() {
        let meter = Meter::new(Duration::ZERO);
        meter.done(Duration::from_secs(100_000), Duration::ZERO, 1, 1, 1, 1);
        let (tally, _) = meter.measured();
        assert!(tally.latencies.max() >= LATENCY_MAX && tally.latencies.max() < LATENCY_MAX * 2);
        assert!(!tally.latencies.is_empty());
    }
}
