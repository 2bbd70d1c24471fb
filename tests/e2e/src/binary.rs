//! Where the binary under test is: `CHRONIK_BIN`, else the release build of this checkout, built if it is not there.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The binary under test.
pub fn path() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| match std::env::var_os("CHRONIK_BIN") {
        Some(given) => {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two folders up");
            let given = root.join(given);
            assert!(given.is_file(), "CHRONIK_BIN={} is not there", given.display());
            given
        }
        None => build(),
    })
}

/// Runs one of its commands to the end.
pub fn run(args: &[&str]) -> Output {
    let mut command = Command::new(path());
    // What this process was told is not meant for the command.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CHRONIK_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).output().expect("the binary runs")
}

/// Like [`run`], and what it writes on standard output; panics when it fails.
pub fn output_of(args: &[&str]) -> String {
    let Output { status, stdout, stderr } = run(args);
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "chronik {args:?}: {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

fn build() -> PathBuf {
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", "-p", "chronik", "--message-format", "json-render-diagnostics"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "cargo build --release:\n{}", String::from_utf8_lossy(&built.stderr));
    let told = String::from_utf8(built.stdout).expect("cargo writes UTF-8");
    let path = told
        .lines()
        .rev()
        .filter_map(|line| line.split_once("\"executable\":\""))
        .find_map(|(_, rest)| rest.split_once('"').map(|(path, _)| PathBuf::from(path)));
    path.expect("cargo names the executable it built")
}
