//! How many instructions each hot path took when somebody last looked, and what has changed since.
//!
//! The file is a flat piece of TOML, `name = instructions`, that is read and written here and nowhere else. Growth and
//! shrinking beyond the tolerance both count: an improvement that nobody writes down hides the regression after it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, bail};

const TOLERANCE: &str = "tolerance_percent";
const HEAD: &str = "\
# Instructions of each hot path, counted by valgrind; see CONTRIBUTING.md. Written by

#     cargo run --release -p chronik-bench-micro --bin instruction-counts -- --accept

# Counted on x86-64 with AVX2. A count may differ by the tolerance, in either direction, before anybody is told.
";

/// The counts that are expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// How far a count may be from its line, in percent of the line, inclusive.
    pub tolerance_percent: u64,
    /// Instructions of one doing, by the path's name.
    pub instructions: BTreeMap<String, u64>,
}

/// A path whose count is not what the baseline says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path.
    pub name: String,
    /// The baseline's count; none where it has no line.
    pub expected: Option<u64>,
    /// The count; none where the path is gone.
    pub found: Option<u64>,
}

impl Baseline {
    /// Reads a baseline.
    ///
    /// # Errors
    /// A line is no `name = number`, names something twice, or there is no tolerance.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let mut instructions = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || line.starts_with('[') {
                continue;
            }
            let (name, value) = line.split_once('=').with_context(|| format!("line {}: {line}", number + 1))?;
            let name = name.trim().trim_matches('"').to_owned();
            let value =
                value.trim().replace('_', "").parse().with_context(|| format!("line {}: {line}", number + 1))?;
            if instructions.insert(name.clone(), value).is_some() {
                bail!("line {}: {name} once more", number + 1);
            }
        }
        let tolerance_percent = instructions.remove(TOLERANCE).with_context(|| format!("no line {TOLERANCE}"))?;
        Ok(Self { tolerance_percent, instructions })
    }

    /// The file's text.
    pub fn write(&self) -> String {
        let mut text = format!("{HEAD}{TOLERANCE} = {}\n\n[instructions]\n", self.tolerance_percent);
        for (name, count) in &self.instructions {
            let _ = writeln!(text, "\"{name}\" = {count}");
        }
        text
    }

    /// Where these counts leave the baseline. With `all` they are those of every path there is, so a line without a
    /// count is a change as well.
    pub fn changes(&self, counts: &BTreeMap<String, u64>, all: bool) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, &found) in counts {
            let expected = self.instructions.get(name).copied();
            if expected.is_none_or(|expected| self.is_beyond(expected, found)) {
                changes.push(Change { name: name.clone(), expected, found: Some(found) });
            }
        }
        if all {
            let gone = self.instructions.iter().filter(|(name, _)| !counts.contains_key(*name));
            changes.extend(gone.map(|(name, &count)| Change {
                name: name.clone(),
                expected: Some(count),
                found: None,
            }));
        }
        changes
    }

    fn is_beyond(&self, expected: u64, found: u64) -> bool {
        found.abs_diff(expected).saturating_mul(100) > expected.saturating_mul(self.tolerance_percent)
    }
}

/// A count beside its expectation, as one line of a table.
pub fn line(name: &str, expected: Option<u64>, found: Option<u64>) -> String {
    let number = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let change = match (expected, found) {
        (Some(expected), Some(found)) if expected > 0 => {
            let tenths = (i128::from(found) - i128::from(expected)) * 1000 / i128::from(expected);
            format!("{}{}.{} %", if tenths < 0 { '-' } else { '+' }, tenths.abs() / 10, tenths.abs() % 10)
        }
        (None, _) => "no line".to_owned(),
        _ => "no path".to_owned(),
    };
    format!("{name:<30}{:>14}{:>14}{change:>12}", number(expected), number(found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::HOT_PATHS;

    fn counts(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
        of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn baseline(of: &[(&str, u64)]) -> Baseline {
        Baseline { tolerance_percent: 5, instructions: counts(of) }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let baseline = baseline(&[("append.64k", 12_345), ("fetch", 1)]);
        assert_eq!(Baseline::read(&baseline.write()).unwrap(), baseline);
    }

    #[test]
    fn a_baseline_without_sense_is_refused() {
        for text in ["", "a = 1", "tolerance_percent = 5\na", "tolerance_percent = 5\na = x", "a = 1\na = 2"] {
            assert!(Baseline::read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn counts_within_the_tolerance_are_no_change_in_either_direction() {
        let baseline = baseline(&[("a", 1000)]);
        let changed = |found| !baseline.changes(&counts(&[("a", found)]), true).is_empty();
        assert_eq!([949, 950, 1000, 1050, 1051].map(changed), [true, false, false, false, true]);
    }

    #[test]
    fn paths_without_a_line_and_lines_without_a_path_are_changes() {
        let baseline = baseline(&[("gone", 7), ("kept", 7)]);
        let found = counts(&[("kept", 7), ("made", 9)]);
        let made = Change { name: "made".to_owned(), expected: None, found: Some(9) };
        let gone = Change { name: "gone".to_owned(), expected: Some(7), found: None };
        assert_eq!(baseline.changes(&found, true), [made.clone(), gone]);
        assert_eq!(baseline.changes(&found, false), [made]);
    }

    #[test]
    fn the_committed_baseline_has_a_line_for_every_path_and_no_other() {
        let baseline = Baseline::read(include_str!("../instructions.toml")).unwrap();
        let mut names: Vec<&str> = HOT_PATHS.iter().map(|path| path.name).collect();
        names.sort_unstable();
        assert_eq!(baseline.instructions.keys().collect::<Vec<_>>(), names);
    }

    #[test]
    fn lines_tell_how_far_a_count_is_off() {
        assert!(line("a", Some(1000), Some(1234)).ends_with("+23.4 %"));
        assert!(line("a", Some(1000), Some(999)).ends_with("-0.1 %"));
        assert!(line("a", None, Some(1)).ends_with("no line"));
        assert!(line("a", Some(1), None).ends_with("no path"));
    }
}
