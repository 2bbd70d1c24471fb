//! What a visitor sees first: the top folder and the pages a newcomer reads.

use std::collections::BTreeSet;
use std::path::Component;

use xtask::repository::{ROOT_NAMES, files, root};

#[test]
fn the_top_folder_holds_only_listed_names() {
    let found: BTreeSet<String> = files()
        .unwrap()
        .iter()
        .filter_map(|file| match file.components().next() {
            Some(Component::Normal(name)) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .filter(|name| !name.starts_with('.'))
        .collect();
    let extra: Vec<&String> = found.iter().filter(|name| !ROOT_NAMES.contains(&name.as_str())).collect();
    assert!(extra.is_empty(), "no place in the top folder for {extra:?}");
}

#[test]
fn the_pages_a_newcomer_reads_are_there() {
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"] {
        let text = std::fs::read_to_string(root().unwrap().join(page)).unwrap();
        assert!(text.lines().count() > 5, "{page} is empty");
    }
}

#[test]
fn results_of_benches_are_whole_and_no_tries() {
    let root = root().unwrap();
    let files = files().unwrap();
    for rounds in files.iter().filter(|file| file.starts_with("bench/results") && file.ends_with("rounds.jsonl")) {
        let text = std::fs::read_to_string(root.join(rounds)).unwrap();
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap_or_default()).unwrap();
        assert_eq!(first["run"]["quick"], false, "{} is a try", rounds.display());
        assert!(!first["run"]["commit"].as_str().unwrap().ends_with("-changed"), "{}: of no commit", rounds.display());
        assert!(files.contains(&rounds.with_file_name("README.md")), "{}: nobody can read it", rounds.display());
    }
}

#[test]
fn go_modules_come_with_their_checksums() {
    let files = files().unwrap();
    let modules: Vec<_> = files.iter().filter(|file| file.file_name().is_some_and(|name| name == "go.mod")).collect();
    assert!(!modules.is_empty());
    for module in modules {
        assert!(files.contains(&module.with_file_name("go.sum")), "{} has no go.sum", module.display());
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = root().unwrap();
    let mut dead = Vec::new();
    for (page, text) in xtask::repository::texts("md").unwrap() {
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            if !root.join(page.parent().unwrap()).join(target).exists() {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "\n{}", dead.join("\n"));
}
