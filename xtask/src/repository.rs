//! The files of this checkout: where it is and what belongs to it.
//!
//! A file belongs to the repository when git tracks it or would offer to add it; build output and data never do.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Names the repository's top folder may hold. Anything else needs a place inside one of these.
pub const ROOT_NAMES: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "bench",
    "clippy.toml",
    "crates",
    "deny.toml",
    "docs",
    "fuzz",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "tests",
    "xtask",
];

/// The top folder of the checkout.
pub fn root() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
    Ok(root.to_owned())
}

/// Every file of the repository, relative to its top folder, sorted.
pub fn files() -> anyhow::Result<Vec<PathBuf>> {
    let root = root()?;
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(&root)
        .output()
        .context("cannot run git")?;
    ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let mut files: Vec<PathBuf> = String::from_utf8(listed.stdout)?
        .split_terminator('\0')
        .map(PathBuf::from)
        .filter(|file| root.join(file).is_file())
        .collect();
    files.sort();
    ensure!(!files.is_empty(), "git lists no file in {}", root.display());
    Ok(files)
}

/// The files whose name ends in `.extension`, with their text.
pub fn texts(extension: &str) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let root = root()?;
    files()?
        .into_iter()
        .filter(|file| file.extension().is_some_and(|found| found == extension))
        .map(|file| {
            let text = std::fs::read_to_string(root.join(&file)).with_context(|| file.display().to_string())?;
            Ok((file, text))
        })
        .collect()
}
