//! Style that a compiler does not see, as rules over the text of a file.
//!
//! Each rule is a function from a path and its text to complaints. What the compiler or clippy can see is their job.

use std::path::Path;

/// A source file longer than this holds a second noun.
pub const LINES_MAX: usize = 1_000;

/// Folders whose sources are generated and may be as long as their schema asks.
const GENERATED: &[&str] = &["crates/wire/src/messages/"];

/// Names that say nothing about what lives behind them.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "manager", "managers", "common", "misc"];

/// Endings of type names for which a better noun exists.
const EMPTY_ENDINGS: &[&str] = &["Manager", "Helper", "Helpers", "Util", "Utils"];

/// The one place that may put a thread to sleep: the harness' bounded wait for an observable fact.
const MAY_SLEEP: &[&str] = &["tests/e2e/src/wait.rs"];

// Put together here, so that this file does not break its own rule.
const LEFTOVERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("HA", "CK")];
const SILENCED: &[&str] = &[concat!("#[ign", "ore"), concat!("#[should_", "panic")];
const SLEEPS: &[&str] = &[concat!("thread::sl", "eep("), concat!("time::sl", "eep(")];
const PRIVATE_PLACES: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

fn is_generated(path: &str) -> bool {
    GENERATED.iter().any(|folder| path.starts_with(folder))
}

/// Every rule for a Rust source.
pub fn rust(path: &Path, text: &str) -> Vec<String> {
    let path = path.to_string_lossy();
    let mut found = Vec::new();
    let mut complain = |line: usize, what: String| found.push(format!("{path}:{line}: {what}"));
    if !text.starts_with("//!") {
        complain(1, "does not open with `//!` saying what lives here".to_owned());
    }
    let lines = text.lines().count();
    if lines > LINES_MAX && !is_generated(&path) {
        complain(lines, format!("{lines} lines; look for the second noun"));
    }
    let stem = path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs")).unwrap_or_default();
    let parents = path.split('/').rev().skip(1);
    for name in std::iter::once(stem).chain(parents) {
        if EMPTY_NAMES.contains(&name) {
            complain(1, format!("`{name}` says nothing; name the thing"));
        }
    }
    let in_tests = path.contains("tests/");
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        let code = line.trim_start();
        for silenced in SILENCED {
            if code.starts_with(silenced) {
                complain(number, format!("`{silenced}`: assert what is true today instead"));
            }
        }
        if let Some(name) = declared(code, &["mod "]).filter(|name| EMPTY_NAMES.contains(name)) {
            complain(number, format!("module `{name}` says nothing; name the thing"));
        }
        let kind = declared(code, &["struct ", "enum ", "trait ", "type "]);
        if let Some(name) = kind.filter(|name| EMPTY_ENDINGS.iter().any(|ending| name.ends_with(ending))) {
            complain(number, format!("`{name}`: look for the noun"));
        }
        for sleep in SLEEPS.iter().filter(|sleep| code.contains(**sleep)) {
            let thread = sleep.starts_with("thread");
            if (thread || in_tests) && !MAY_SLEEP.contains(&path.as_ref()) {
                complain(number, "sleeps; wait for an observable fact with a bound".to_owned());
            }
        }
    }
    found
}

/// Every rule for a script or a source in another language.
pub fn script(path: &Path, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines <= LINES_MAX {
        return Vec::new();
    }
    vec![format!("{}:{lines}: {lines} lines; look for the second noun", path.display())]
}

/// The name this line declares with one of `keywords`, if it does.
fn declared<'a>(code: &'a str, keywords: &[&str]) -> Option<&'a str> {
    let code = match code.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) if rest.starts_with(' ') => rest.trim_start(),
        _ => code,
    };
    let rest = keywords.iter().find_map(|keyword| code.strip_prefix(keyword))?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    rest.get(..end).filter(|name| !name.is_empty())
}

/// Rules for any text file: nothing left over, nothing that is true on one machine only.
pub fn text(path: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        for leftover in LEFTOVERS.iter().filter(|leftover| has_word(line, leftover)) {
            found.push(format!("{}:{number}: `{leftover}`: do it, or file it", path.display()));
        }
        for place in PRIVATE_PLACES.iter().filter(|place| names_place(line, place)) {
            found.push(format!("{}:{number}: `{place}` exists on one machine only", path.display()));
        }
    }
    found
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let joins = |c: char| c.is_alphanumeric() || c == '_';
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(joins) && !after.is_some_and(joins)
    })
}

/// Whether the line has an absolute path that starts with `place`.
fn names_place(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '/' | '~' | '$'))
    })
}

/// Rules for a lock file: packages come from the public registry by name, whatever mirror the machine uses.
pub fn lock(path: &Path, text: &str) -> Vec<String> {
    const CRATES: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        let wrong = match name {
            "Cargo.lock" => line.starts_with("source = ") && line != CRATES,
            "package-lock.json" => line.starts_with("\"resolved\""),
            "go.mod" => line.starts_with("replace"),
            _ => {
                line.contains("://") || line.starts_with("-i ") || line.starts_with("--") && !line.starts_with("--hash")
            }
        };
        if wrong {
            found.push(format!("{}:{number}: names a place instead of a package: {line}", path.display()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> usize {
        rust(Path::new(path), text).len()
    }

    #[test]
    fn a_tidy_file_draws_no_complaint() {
        assert_eq!(complaints("crates/log/src/index.rs", "//! The offset index.\n\npub struct Index;\n"), 0);
    }

    #[test]
    fn each_untidy_thing_draws_one_complaint() {
        assert_eq!(complaints("crates/log/src/index.rs", "pub struct Index;\n"), 1);
        assert_eq!(complaints("crates/log/src/utils.rs", "//! Things.\n"), 1);
        assert_eq!(complaints("crates/log/src/helpers/a.rs", "//! Things.\n"), 1);
        assert_eq!(complaints("crates/log/src/lib.rs", "//! Log.\npub(crate) mod common;\n"), 1);
        assert_eq!(complaints("crates/log/src/lib.rs", "//! Log.\npub struct LogManager {\n}\n"), 1);
        for silenced in SILENCED {
            assert_eq!(complaints("crates/log/src/lib.rs", &format!("//! Log.\n    {silenced}]\n")), 1);
        }
        for sleep in SLEEPS {
            assert_eq!(complaints("tests/e2e/tests/it/a.rs", &format!("//! A.\nstd::{sleep}d);\n")), 1);
        }
    }

    #[test]
    fn only_generated_sources_may_be_long() {
        let long = format!("//! Long.\n{}", "//\n".repeat(LINES_MAX));
        assert_eq!(complaints("crates/log/src/lib.rs", &long), 1);
        assert_eq!(complaints("crates/wire/src/messages/fetch_request.rs", &long), 0);
    }

    #[test]
    fn a_long_script_draws_one_complaint() {
        assert_eq!(script(Path::new("bench/table"), &"#\n".repeat(LINES_MAX)).len(), 0);
        assert_eq!(script(Path::new("bench/table"), &"#\n".repeat(LINES_MAX + 1)).len(), 1);
    }

    #[test]
    fn leftovers_and_private_places_are_found_as_words_only() {
        let path = Path::new("README.md");
        for leftover in LEFTOVERS {
            assert_eq!(text(path, &format!("// {leftover} later")).len(), 1, "{leftover}");
            assert_eq!(text(path, &format!("A{leftover}LIST")).len(), 0, "{leftover}");
        }
        for place in PRIVATE_PLACES {
            assert_eq!(text(path, &format!("see {place}x")).len(), 1);
            assert_eq!(text(path, &format!("see target{place}x")).len(), 0);
        }
    }

    #[test]
    fn a_lock_file_that_names_a_mirror_is_found() {
        let line = "source = \"registry+https://mirror.example/index\"";
        assert_eq!(lock(Path::new("Cargo.lock"), line).len(), 1);
        assert_eq!(
            lock(
                Path::new("Cargo.lock"),
                &line.replace("mirror.example/index", "github.com/rust-lang/crates.io-index")
            )
            .len(),
            0
        );
        assert_eq!(lock(Path::new("a/package-lock.json"), "  \"resolved\": \"https://x\"").len(), 1);
        assert_eq!(lock(Path::new("a/requirements.txt"), "--index-url x").len(), 1);
    }
}
