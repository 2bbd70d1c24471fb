//! The only source of chance: splitmix64 from a seed, the same on every machine.
//!
//! What the network, the disks, the clients and the plan draw comes from separate streams, so that one more draw in one
//! of them does not change the others.

use std::time::Duration;

/// A stream of numbers that a seed and a label determine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed for one purpose.
    pub fn new(seed: u64, label: &str) -> Self {
        let mut stream = Self(seed);
        for byte in label.bytes() {
            stream.0 = stream.next().wrapping_add(u64::from(byte));
        }
        stream
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "an endless stream is not an iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end` (exclusive); 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    /// A number in `[from, to]`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    /// True once in `count` times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// A duration in `[from_ms, to_ms]`, in microseconds' steps.
    pub fn millis(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_micros(self.between(from_ms * 1_000, to_ms * 1_000))
    }

    /// One of the items; `None` where there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let at = self.below(items.len() as u64);
        items.get(usize::try_from(at).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_differ_by_label_and_repeat() {
        let numbers = |label| {
            let mut stream = Random::new(7, label);
            [stream.next(), stream.next()]
        };
        assert_eq!(numbers("network"), numbers("network"));
        assert_ne!(numbers("network"), numbers("disk"));
    }
}
