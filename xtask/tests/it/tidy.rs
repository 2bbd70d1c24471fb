//! Every file of the repository against the rules of `xtask::tidy`.

use std::os::unix::fs::PermissionsExt as _;

use xtask::repository::{files, root, texts};
use xtask::tidy;

fn none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn rust_sources_are_tidy() {
    none(texts("rs").unwrap().iter().flat_map(|(path, text)| tidy::rust(path, text)).collect());
}

#[test]
fn no_file_has_leftovers_or_private_places() {
    let root = root().unwrap();
    let mut found = Vec::new();
    for file in files().unwrap() {
        // Binary files (fuzz corpora, golden bytes) have no text to read.
        if let Ok(text) = std::fs::read_to_string(root.join(&file)) {
            found.extend(tidy::text(&file, &text));
        }
    }
    none(found);
}

#[test]
fn scripts_are_tidy_and_can_be_started() {
    let root = root().unwrap();
    let mut found = Vec::new();
    for file in files().unwrap() {
        let Ok(text) = std::fs::read_to_string(root.join(&file)) else { continue };
        let started = text.starts_with("#!/");
        if started || file.extension().is_some_and(|extension| ["py", "go"].iter().any(|known| extension == *known)) {
            found.extend(tidy::script(&file, &text));
        }
        if started && std::fs::metadata(root.join(&file)).unwrap().permissions().mode() & 0o111 == 0 {
            found.push(format!("{}: has an interpreter and is not executable", file.display()));
        }
    }
    none(found);
}

#[test]
fn lock_files_name_packages_and_not_places() {
    let root = root().unwrap();
    let names = ["Cargo.lock", "package-lock.json", "go.mod", "requirements.txt"];
    let locks: Vec<_> = files()
        .unwrap()
        .into_iter()
        .filter(|file| file.file_name().is_some_and(|name| names.iter().any(|lock| name == *lock)))
        .collect();
    assert!(locks.iter().any(|lock| lock.ends_with("Cargo.lock")));
    none(locks.iter().flat_map(|lock| tidy::lock(lock, &std::fs::read_to_string(root.join(lock)).unwrap())).collect());
}
