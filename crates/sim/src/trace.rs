//! What happened: a running hash of every line, and the last lines in words.
//!
//! Two runs of one seed are the same run exactly when their hashes are equal. Lines are written by value only: no
//! address, no hash order and no wall clock may appear in one.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

use chronik_model::Instant;

/// How many lines a failure shows.
const LINES_KEPT: usize = 60;

/// The record of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    count: u64,
    last: VecDeque<String>,
    sink: Option<Vec<String>>,
}

impl Trace {
    /// An empty record. With `all` every line is kept, else the last ones.
    pub fn new(all: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, count: 0, last: VecDeque::new(), sink: all.then(Vec::new) }
    }

    /// Adds a line.
    pub fn line(&mut self, now: Instant, what: fmt::Arguments<'_>) {
        let mut line =
            if self.last.len() == LINES_KEPT { self.last.pop_front().unwrap_or_default() } else { String::new() };
        line.clear();
        let micros = now.elapsed().as_micros();
        // Writing to a string cannot fail.
        let _ = write!(line, "{:>4}.{:06} {what}", micros / 1_000_000, micros % 1_000_000);
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.count += 1;
        if let Some(sink) = &mut self.sink {
            sink.push(line.clone());
        }
        self.last.push_back(line);
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many lines were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The lines kept, oldest first.
    pub fn lines(&self) -> Vec<String> {
        match &self.sink {
            Some(all) => all.clone(),
            None => self.last.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_order_and_only_the_last_lines_are_kept() {
        let mut forth = Trace::new(false);
        let mut back = Trace::new(false);
        for number in 0..100 {
            forth.line(Instant::ORIGIN, format_args!("{number}"));
            back.line(Instant::ORIGIN, format_args!("{}", 99 - number));
        }
        assert_ne!(forth.hash(), back.hash());
        let lines = forth.lines();
        assert_eq!((lines.len(), lines.last().map(String::as_str)), (LINES_KEPT, Some("   0.000000 99")));
    }
}
