//! Finds the key that somebody meant when they mistyped one.

use super::key::Key;

/// The name nearest to `typed` in the tables, where one is near enough to be meant.
pub fn suggestion(typed: &str, tables: &[&'static [Key]]) -> Option<&'static str> {
    let typed = typed.trim().to_ascii_lowercase();
    let near_enough = (typed.chars().count() / 4).clamp(1, 4);
    let mut best: Option<(usize, &'static str)> = None;
    for key in tables.iter().flat_map(|table| table.iter()) {
        let distance = distance(&typed, key.name);
        if distance <= near_enough && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, key.name));
        }
    }
    best.map(|(_, name)| name)
}

/// How many characters must be added, removed or changed to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let here = (diagonal + usize::from(from != *to)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = here;
            left = here;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::{broker_keys, topic_keys};
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, expected) in [("", "", 0), ("abc", "abc", 0), ("abc", "ab", 1), ("abc", "xbcd", 2), ("", "abc", 3)] {
            assert_eq!(distance(a, b), expected, "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let tables = [topic_keys(), broker_keys()];
        assert_eq!(suggestion("retention.mz", &tables), Some("retention.ms"));
        assert_eq!(suggestion("Log.Retention.Byte", &tables), Some("log.retention.bytes"));
        assert_eq!(suggestion("chronik.durabilty", &tables), Some("chronik.durability"));
        assert_eq!(suggestion("colour", &tables), None);
    }
}
