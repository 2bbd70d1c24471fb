//! The configuration file: TOML whose tables are flattened to dotted keys.
//!
//! `log.retention.ms = 1`, `"log.retention.ms" = 1` and `[log.retention]` with `ms = 1` are the same setting.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::layer::{Layer, Origin};
use super::names;
use crate::problem::Problem;

/// Reads the text of a configuration file.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Layer, Problem> {
    let table = DeTable::parse(text).map_err(|e| {
        let line = e.span().map_or(1, |span| line_of(text, span.start));
        Problem::new(
            format!("{} line {line} is not TOML: {}", path.display(), e.message()),
            "write one setting a line, as in: log.retention.ms = 86400000",
        )
    })?;
    let mut layer = Layer::default();
    flatten(path, text, "", table.get_ref(), &mut layer)?;
    Ok(layer)
}

fn flatten(path: &Path, text: &str, prefix: &str, table: &DeTable<'_>, layer: &mut Layer) -> Result<(), Problem> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
        let origin = Origin::File { path: path.to_owned(), line: line_of(text, name.span().start) };
        match value.get_ref() {
            DeValue::Table(inner) => flatten(path, text, &key, inner, layer)?,
            other => {
                let value = scalar(other).ok_or_else(|| {
                    Problem::new(
                        format!("{key} in {origin} is a {}", other.type_str()),
                        "write a string, a number, true or false, or a list of those",
                    )
                })?;
                layer.give(names::canonical(&key), value, origin)?;
            }
        }
    }
    Ok(())
}

/// The value as Kafka would write it; lists are joined by commas.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        DeValue::Array(items) => {
            let items: Option<Vec<String>> = items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::Array(_) => None,
                    item => scalar(item),
                })
                .collect();
            items.map(|items| items.join(","))
        }
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

/// The line, counted from 1, in which the byte at `position` stands.
fn line_of(text: &str, position: usize) -> usize {
    1 + text.bytes().take(position).filter(|&b| b == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Vec<(String, String)> {
        let layer = parse(Path::new("node.toml"), text).unwrap();
        layer.into_settings().into_iter().map(|(key, given)| (key, given.value)).collect()
    }

    #[test]
    fn dotted_quoted_and_nested_keys_are_the_same_setting() {
        let expected = vec![("log.retention.ms".to_owned(), "5".to_owned())];
        assert_eq!(settings("log.retention.ms = 5"), expected);
        assert_eq!(settings("\"log.retention.ms\" = 5"), expected);
        assert_eq!(settings("[log.retention]\nms = \"5\""), expected);
        assert_eq!(settings("[log]\nretention = { ms = 0x5 }"), expected);
    }

    #[test]
    fn numbers_booleans_and_lists_take_kafkas_spelling() {
        let text = "a.b = 1_000\nc = true\nd = [\"x\", \"y\"]\ne = 0.25\nf = -1";
        let expected = [("a.b", "1000"), ("c", "true"), ("d", "x,y"), ("e", "0.25"), ("f", "-1")];
        let expected: Vec<_> = expected.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        assert_eq!(settings(text), expected);
    }

    #[test]
    fn flag_names_are_understood_as_keys() {
        let expected = vec![
            ("chronik.data.dir".to_owned(), "/srv".to_owned()),
            ("chronik.listen".to_owned(), "a:1".to_owned()),
            ("node.id".to_owned(), "7".to_owned()),
        ];
        assert_eq!(settings("data-dir = \"/srv\"\nlisten = \"a:1\"\nnode-id = 7"), expected);
        assert_eq!(settings("data_dir = \"/srv\"\n[chronik]\nlisten = \"a:1\"\n[node]\nid = 7"), expected);
    }

    #[test]
    fn mistakes_name_the_line() {
        for (text, expected) in [
            ("a = 1\nb = \n", "node.toml line 2 is not TOML"),
            ("\n\na.b = 2026-01-01", "a.b in node.toml line 3 is a"),
            ("a = [[1]]", "a in node.toml line 1 is a"),
            ("listen = \"a:1\"\nchronik.listen = \"b:1\"", "node.toml line 2"),
        ] {
            let problem = parse(Path::new("node.toml"), text).unwrap_err().to_string();
            assert!(problem.contains(expected), "{text:?}: {problem}");
        }
    }
}
