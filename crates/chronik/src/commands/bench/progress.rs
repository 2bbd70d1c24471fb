//! A line a second about the run, on standard error; on a terminal each takes the place of the one before.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::super::say;
use super::meter::Tally;
use super::report::{milliseconds, per_second};

/// How often there is a line.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// Where the lines go.
#[derive(Debug)]
pub(crate) struct Progress {
    in_place: bool,
    /// A line stands on the terminal without its end.
    open: bool,
    last: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { in_place: io::stderr().is_terminal(), open: false, last: Instant::now() }
    }

    /// The time since the last line, which ends now.
    pub(crate) fn interval(&mut self) -> Duration {
        let now = Instant::now();
        let interval = now.duration_since(self.last);
        self.last = now;
        interval
    }

    pub(crate) fn say(&mut self, line: &str) {
        if self.in_place {
            // That nobody listens must not stop the work.
            let _ = write!(io::stderr(), "\r\x1b[K{line}").and_then(|()| io::stderr().flush());
            self.open = true;
        } else {
            say(line);
        }
    }

    /// Says what `line` makes, where the last line is a second old.
    pub(crate) fn say_if_due(&mut self, line: impl FnOnce() -> String) {
        if self.last.elapsed() >= EVERY {
            self.interval();
            self.say(&line());
        }
    }

    /// Leaves the line for what is said next.
    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = write!(io::stderr(), "\r\x1b[K").and_then(|()| io::stderr().flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

/// What happened in `interval`.
pub(crate) fn line(tally: &Tally, interval: Duration, warming_up: bool) -> String {
    let latencies = &tally.latencies;
    let mut line = if warming_up { "warm-up: ".to_owned() } else { String::new() };
    line += &format!(
        "{} records, {:.1} records/s, {:.2} MB/s",
        tally.records,
        per_second(tally.records, interval),
        per_second(tally.bytes, interval) / 1e6
    );
    if !latencies.is_empty() {
        line += &format!(
            ", latency ms: p50 {}, p99 {}, max {}",
            milliseconds(latencies.quantile(0.5)),
            milliseconds(latencies.quantile(0.99)),
            milliseconds(latencies.max())
        );
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::meter::Meter;
    use super::*;

    #[test]
    fn a_line_tells_of_its_interval_only() {
        let meter = Meter::new(Duration::ZERO);
        meter.done(Duration::from_millis(3), Duration::from_millis(1), 500, 1, 50_000, 500);
        let first = line(&meter.take_interval(), Duration::from_millis(500), true);
        assert_eq!(
            first,
            "warm-up: 500 records, 1000.0 records/s, 0.10 MB/s, latency ms: p50 2.000, p99 2.000, max 2.000"
        );
        let second = line(&meter.take_interval(), Duration::from_secs(1), false);
        assert_eq!(second, "0 records, 0.0 records/s, 0.00 MB/s");
    }
}
