//! Tables, sizes and times for a person's terminal.
//!
//! What goes into a cell may come from another node: control characters, which would steer the terminal, are replaced.

use std::fmt::Write as _;

/// A column's heading, and to which side its cells stand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Column {
    /// To the left.
    Text(&'static str),
    /// To the right.
    Number(&'static str),
}

/// Rows of cells under their headings.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    columns: [Column; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(columns: [Column; N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| shown(&cell)));
    }

    /// The lines; a column is as wide as its widest cell.
    pub(crate) fn text(&self) -> String {
        let heading = self.columns.map(|column| match column {
            Column::Text(heading) | Column::Number(heading) => heading.to_owned(),
        });
        let mut widths = [0; N];
        for row in self.rows.iter().chain([&heading]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        for row in [&heading].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for ((cell, column), width) in row.iter().zip(&self.columns).zip(widths) {
                // Writing to a string cannot fail.
                let _ = match column {
                    Column::Text(_) => write!(line, "{cell:<width$}  "),
                    Column::Number(_) => write!(line, "{cell:>width$}  "),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Stands where a value is not known or does not apply.
pub(crate) const NOTHING: &str = "-";

/// The text without anything that steers a terminal.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// `512 B`, `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    let (unit, scale) = match count {
        0..1024 => return format!("{count} B"),
        0x400..0x10_0000 => ("KiB", 10),
        0x10_0000..0x4000_0000 => ("MiB", 20),
        _ => ("GiB", 30),
    };
    let tenths = (u128::from(count) * 10) >> scale;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// `0 s`, `312 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn time(ms: u64) -> String {
    let (seconds, minutes, hours, days) = (ms / 1_000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    match ms {
        0 => "0 s".to_owned(),
        1..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{seconds}.{} s", ms % 1_000 / 100),
        60_000..3_600_000 => format!("{minutes} min {} s", seconds % 60),
        3_600_000..86_400_000 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// The value in words, or [`NOTHING`].
pub(crate) fn or_nothing<T>(value: Option<T>, words: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| NOTHING.to_owned(), words)
}

/// `1 record`, `2 records`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells_and_numbers_stand_to_the_right() {
        let mut table = Table::new([Column::Text("ADDRESS"), Column::Number("NODE"), Column::Number("LAG")]);
        table.row(["10.0.0.1:1".to_owned(), "7".to_owned(), "1.5 MiB".to_owned()]);
        table.row(["a:22222".to_owned(), NOTHING.to_owned(), "0 B".to_owned()]);
        table.row(["\u{1b}[2J".to_owned(), "12".to_owned(), "12 B".to_owned()]);
        expect![[r#"
            ADDRESS     NODE      LAG
            10.0.0.1:1     7  1.5 MiB
            a:22222        -      0 B
            �[2J          12     12 B
        "#]]
        .assert_eq(&table.text());
    }

    #[test]
    fn sizes_and_times_have_two_or_three_digits() {
        for (count, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
        for (ms, expected) in [
            (0, "0 s"),
            (999, "999 ms"),
            (4_250, "4.2 s"),
            (200_000, "3 min 20 s"),
            (7_500_000, "2 h 5 min"),
            (273_600_000, "3 d 4 h"),
            (u64::MAX, "213503982334 d 14 h"),
        ] {
            assert_eq!(time(ms), expected);
        }
    }
}
