//! Entry of the repository's own commands: `cargo run -p xtask -- COMMAND`.
//!
//! Commands write generated files; checks are tests of this crate.

mod schema;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

const USAGE: &str = "usage: xtask wire-messages --schemas DIR";

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["wire-messages", "--schemas", dir] => schema::generate(Path::new(dir), &workspace_root()?),
        _ => bail!(USAGE),
    }
}

fn workspace_root() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent directory")?;
    Ok(root.to_owned())
}
