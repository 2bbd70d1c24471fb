//! Waiting: for something one can see, within a bound. The only file that may put a thread to sleep.

use std::time::{Duration, Instant};

/// How often a fact is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks until there is something to see, and panics with `what` when `bound` has passed without it.
pub fn until<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(started.elapsed() < bound, "{what}: not within {bound:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Like [`until`], for a condition.
pub fn until_true(what: &str, bound: Duration, mut look: impl FnMut() -> bool) {
    until(what, bound, || look().then_some(()));
}

/// Lets time pass whose content is then measured, such as CPU used while idle. Never a way to wait for something.
pub fn window(length: Duration) {
    std::thread::sleep(length);
}
