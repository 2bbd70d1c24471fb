//! Randomness that can be repeated: one seed per test, printed, taken back from `CHRONIK_SEED`.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small deterministic generator (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The seed of this run for the test `name`: `CHRONIK_SEED`, else the clock. It is printed.
    pub fn for_test(name: &str) -> Self {
        let given = std::env::var("CHRONIK_SEED").ok().map(|text| text.parse().expect("CHRONIK_SEED is a number"));
        let seed = given.unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").subsec_nanos().into()
        });
        eprintln!("{name}: CHRONIK_SEED={seed}");
        Self(seed)
    }

    /// A generator for one purpose, so that purposes do not disturb each other.
    pub fn from_parts(parts: &[u64]) -> Self {
        let mut mixed = Self(0x9e37_79b9);
        for part in parts {
            mixed.0 ^= *part;
            mixed.draw();
        }
        mixed
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` (inclusive) to `high` (exclusive).
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.draw() % (high - low)
    }

    /// This many random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.draw().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}
