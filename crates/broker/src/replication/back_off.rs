//! How long to wait between two attempts: longer each time, never the same for two nodes.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct BackOff {
    attempts: u32,
}

impl BackOff {
    /// The next pause: between half of and a whole step, which doubles from 100 ms to 10 s.
    pub(super) fn next(&mut self) -> Duration {
        let step = SHORTEST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        let half = step / 2;
        let jitter = RandomState::new().hash_one(self.attempts) % 1024;
        half + half.mul_f64(jitter as f64 / 1024.0)
    }

    /// An attempt has succeeded.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_a_tenth_of_a_second_to_ten_seconds_for_ever() {
        let mut back_off = BackOff::default();
        for attempt in 0..1000 {
            let pause = back_off.next();
            let step = SHORTEST.saturating_mul(1 << attempt.min(16)).min(LONGEST);
            assert!(pause >= step / 2 && pause <= step, "{pause:?} at attempt {attempt}");
        }
        back_off.reset();
        assert!(back_off.next() <= SHORTEST);
    }
}
