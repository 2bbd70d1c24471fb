//! The one place where the broker reads clocks; everything below gets time as an argument.

use std::time::{Instant as StdInstant, SystemTime, UNIX_EPOCH};

use chronik_model::{Instant, Timestamp};

/// A monotonic clock and the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: StdInstant,
}

impl Clock {
    /// A clock whose monotonic origin is now.
    #[expect(clippy::new_without_default, reason = "reading the clock is not a default value")]
    pub fn new() -> Self {
        Self { origin: StdInstant::now() }
    }

    /// Monotonic time since this clock was made.
    pub fn now(&self) -> Instant {
        Instant::since_origin(self.origin.elapsed())
    }

    /// Milliseconds since the Unix epoch.
    pub fn wall(&self) -> Timestamp {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
        Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    /// When the runtime's clock reads `at`.
    pub fn deadline(&self, at: Instant) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.origin + at.elapsed())
    }
}
