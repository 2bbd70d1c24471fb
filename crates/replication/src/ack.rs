//! Acknowledgements that wait until the high watermark has passed their records.

use std::collections::VecDeque;

use chronik_model::Offset;

/// Waiting tokens in the order of the offsets they wait for.
///
/// Appends come in log order, so a token nearly always goes to the back. A duplicate batch waits for an earlier end.
#[derive(Debug)]
pub(crate) struct Parked<T> {
    waiting: VecDeque<(Offset, T)>,
}

impl<T> Parked<T> {
    pub(crate) fn new() -> Self {
        Self { waiting: VecDeque::new() }
    }

    /// Parks `token` until the high watermark reaches `end` (exclusive).
    pub(crate) fn park(&mut self, end: Offset, token: T) {
        let at = self.waiting.partition_point(|(other, _)| *other <= end);
        self.waiting.insert(at, (end, token));
    }

    /// Hands out every token whose end the high watermark has reached, in offset order.
    pub(crate) fn release(&mut self, high_watermark: Offset, mut each: impl FnMut(T)) {
        while self.waiting.front().is_some_and(|(end, _)| *end <= high_watermark) {
            if let Some((_, token)) = self.waiting.pop_front() {
                each(token);
            }
        }
    }

    /// Hands out every token: none of them can be satisfied any more.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(T)) {
        self.waiting.drain(..).for_each(|(_, token)| each(token));
    }

    /// The end that the first token waits for.
    pub(crate) fn first_end(&self) -> Option<Offset> {
        self.waiting.front().map(|(end, _)| *end)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_leave_in_offset_order_once_the_high_watermark_reaches_their_end() {
        let mut parked = Parked::new();
        for (end, token) in [(5, 'a'), (9, 'c'), (7, 'b'), (9, 'd')] {
            parked.park(Offset::new(end), token);
        }
        let mut out = String::new();
        parked.release(Offset::new(4), |token| out.push(token));
        assert_eq!(out, "");
        parked.release(Offset::new(7), |token| out.push(token));
        assert_eq!(out, "ab");
        parked.release(Offset::new(100), |token| out.push(token));
        assert_eq!((out.as_str(), parked.len()), ("abcd", 0));
    }
}
