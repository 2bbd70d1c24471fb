//! Waiting between attempts, for a bounded time in all.

use std::time::Duration;

use tokio::time::Instant;

const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The attempts at one operation.
#[derive(Debug)]
pub(crate) struct Retry {
    until: Instant,
    pause: Duration,
}

impl Retry {
    /// Attempts for at most `total` from now on.
    pub(crate) fn new(total: Duration) -> Self {
        Self { until: Instant::now() + total, pause: PAUSE_FIRST }
    }

    /// Waits before another attempt; false, at once, where the time is up.
    pub(crate) async fn pause(&mut self) -> bool {
        let next = Instant::now() + self.pause;
        if next > self.until {
            return false;
        }
        tokio::time::sleep_until(next).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}
