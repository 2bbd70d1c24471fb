//! Counts the instructions of the hot paths and compares them with the baseline: a regression is seen on a machine whose
//! clock says nothing.
//!
//! Each path runs in a process of its own under valgrind, which counts what happens inside [`counted`] only. Without
//! valgrind, or without a symbol for `counted`, there is no count and that is an error, never a zero.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command that prints its table")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context as _, bail, ensure};
use chronik_bench_micro::baseline::{Baseline, line};
use chronik_bench_micro::paths::{HOT_PATHS, HotPath, Work};

const USAGE: &str = "usage: instruction-counts [--accept] [PATH...]
  without arguments   counts every hot path and fails where one left the baseline, bench/micro/instructions.toml
  PATH...             those whose names contain one of these
  --accept            writes the counts into the baseline";
/// Doings that are counted; their sum is divided by this.
const TIMES: u32 = 100;
/// Doings before, so that buffers have grown and tables are built.
const TIMES_BEFORE: u32 = 20;

fn main() -> anyhow::Result<ExitCode> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = args.as_slice()
        && flag == "--do"
    {
        let path = HOT_PATHS.iter().find(|path| path.name == name).context("no such path")?;
        let mut work = (path.prepare)();
        for _ in 0..TIMES_BEFORE {
            work();
        }
        counted(&mut work);
        return Ok(ExitCode::SUCCESS);
    }
    let accept = args.iter().any(|arg| arg == "--accept");
    args.retain(|arg| arg != "--accept");
    if args.iter().any(|arg| arg.starts_with('-')) {
        eprintln!("{USAGE}");
        return Ok(ExitCode::from(2));
    }
    let wanted = |path: &&HotPath| args.is_empty() || args.iter().any(|arg| path.name.contains(arg.as_str()));
    let paths: Vec<&HotPath> = HOT_PATHS.iter().filter(wanted).collect();
    ensure!(!paths.is_empty(), "no path is called so");
    let counts = count(&paths)?;
    report(&counts, args.is_empty(), accept)
}

/// What valgrind looks for by its name.
#[inline(never)]
fn counted(work: &mut Work) {
    for _ in 0..TIMES {
        work();
    }
}

/// Instructions of one doing of each of these paths.
fn count(paths: &[&HotPath]) -> anyhow::Result<BTreeMap<String, u64>> {
    let program = std::env::current_exe().context("this program has no file")?;
    let profiles = profiles()?;
    std::fs::create_dir_all(&profiles).with_context(|| profiles.display().to_string())?;
    let mut counts = BTreeMap::new();
    // How busy the machine is changes no count, so every processor has one to do.
    for some in paths.chunks(std::thread::available_parallelism().map_or(1, usize::from)) {
        let started: Vec<(&str, Child)> = some
            .iter()
            .map(|path| Ok((path.name, start(&program, path.name, &profiles)?)))
            .collect::<anyhow::Result<_>>()?;
        for (name, child) in started {
            let output = child.wait_with_output().context("valgrind")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{name}: {said}");
            counts.insert(name.to_owned(), collected(&said).with_context(|| format!("{name}: {said}"))?);
        }
    }
    Ok(counts)
}

/// Where valgrind leaves what it saw, beside this program.
fn profiles() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("this program has no file")?;
    Ok(program.with_extension("profiles"))
}

fn profile(profiles: &Path, name: &str) -> PathBuf {
    profiles.join(format!("{name}.callgrind"))
}

fn start(program: &Path, name: &str, profiles: &Path) -> anyhow::Result<Child> {
    Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*counted*"])
        .arg(format!("--callgrind-out-file={}", profile(profiles, name).display()))
        .arg(program)
        .args(["--do", name])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run valgrind; is it installed?")
}

/// Instructions of one doing, out of what valgrind says at its end.
fn collected(said: &str) -> anyhow::Result<u64> {
    let line = said.lines().find_map(|line| line.split_once("Collected :")).context("valgrind tells no count")?;
    let total: u64 = line.1.trim().parse().context("valgrind tells no count")?;
    if total == 0 {
        bail!("nothing was counted: is the program stripped?");
    }
    Ok(total / u64::from(TIMES))
}

/// Prints every count, and fails where the baseline is left, unless it is to be changed.
fn report(counts: &BTreeMap<String, u64>, all: bool, accept: bool) -> anyhow::Result<ExitCode> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let mut baseline = Baseline::read(&text).with_context(|| file.display().to_string())?;
    println!("{:<30}{:>14}{:>14}{:>12}", "path", "baseline", "now", "change");
    for (name, count) in counts {
        println!("{}", line(name, baseline.instructions.get(name).copied(), Some(*count)));
    }
    let changes = baseline.changes(counts, all);
    if accept {
        if all {
            baseline.instructions.clear();
        }
        baseline.instructions.extend(counts.clone());
        std::fs::write(&file, baseline.write()).with_context(|| file.display().to_string())?;
        println!("\nwritten to {}; say in the commit why it changed", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    let within = format!("{} % of the baseline", baseline.tolerance_percent);
    if changes.is_empty() {
        println!("\nevery count is within {within}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nnot within {within}:");
    for change in &changes {
        println!("{}", line(&change.name, change.expected, change.found));
    }
    let first = changes.first().map_or("NAME", |change| change.name.as_str());
    println!(
        "\nWhere it comes from: callgrind_annotate {}\n\
         Where it is meant, or an improvement: cargo run --release -p chronik-bench-micro --bin instruction-counts -- --accept\n\
         and commit bench/micro/instructions.toml with the change.",
        profile(&profiles()?, first).display()
    );
    Ok(ExitCode::FAILURE)
}
