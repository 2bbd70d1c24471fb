//! Where the binary under test is: `CHRONIK_BIN`, else the release build of this checkout, built if it is not there.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

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

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(path());
    // What this process was told is not meant for the command.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CHRONIK_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs one of its commands to the end.
pub fn run(args: &[&str]) -> Output {
    command(args).output().expect("the binary runs")
}

/// Starts one of its commands; what it writes waits for whoever waits for its end.
pub fn spawn(args: &[&str]) -> Child {
    command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs")
}

/// The figures in JSON of a run that must succeed.
pub fn figures(output: &Output) -> Value {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

/// What a run that must fail says; it writes nothing on standard output.
pub fn refusal(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
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
