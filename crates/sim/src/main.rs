//! The command line: `run --seed N [--trace]` replays one seed, `run --seeds A..B` runs many and says how fast.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chronik_sim::mutation::Mutation;
use chronik_sim::run::{Report, first_to_find, run};
use chronik_sim::world::Counts;

const USAGE: &str = "usage: chronik-sim run (--seed N [--trace] | --seeds A..B|N [--threads N] [--keep-going]) | mutations [NAME] [SEEDS]";

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to people")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["run", "--seed", seed, rest @ ..] => {
            let Ok(seed) = seed.parse() else { return usage() };
            let all = rest.contains(&"--trace");
            let report = run(seed, all);
            if all {
                report.lines.iter().for_each(|line| println!("{line}"));
            }
            println!("{}", report.plan);
            println!("{report}");
            if report.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        ["run", "--seeds", seeds, rest @ ..] => {
            let (seeds, threads) = (range(seeds), threads(rest));
            let (Some(seeds), Some(threads)) = (seeds, threads) else { return usage() };
            many(seeds, threads, rest.contains(&"--keep-going"))
        }
        ["mutations", rest @ ..] => {
            let name = rest.iter().copied().find(|name| name.parse::<Mutation>().is_ok());
            let most = rest.iter().find_map(|most| most.parse().ok());
            mutations(name, most.unwrap_or(2_000))
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::FAILURE
        }
    }
}

/// `A..B`, or `N` for the first ones.
fn range(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..").unwrap_or(("0", text));
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// `--threads N`; without it as many as there are processors.
fn threads(arguments: &[&str]) -> Option<usize> {
    match arguments.iter().position(|argument| *argument == "--threads") {
        Some(at) => arguments.get(at + 1)?.parse().ok().filter(|threads| *threads > 0),
        None => Some(std::thread::available_parallelism().map_or(1, usize::from)),
    }
}

#[expect(clippy::print_stderr, reason = "a command line talks to people")]
fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::FAILURE
}

/// Says for each bug put back, or for one of them, how many seeds it takes to find it.
#[expect(clippy::print_stdout, reason = "a command line talks to people")]
fn mutations(name: Option<&str>, most: u64) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let mut code = ExitCode::SUCCESS;
    for (mutation, number, _) in Mutation::ALL.iter().filter(|known| name.is_none_or(|name| name == known.1)) {
        match first_to_find(*mutation, 0..most) {
            Some((seed, violation)) => {
                println!("{number} {mutation:?}: {} seeds: {violation}", seed + 1);
            }
            None => {
                println!("{number} {mutation:?}: not found in {most} seeds");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// Runs seeds on several threads, each run on one of them.
#[expect(clippy::print_stdout, reason = "a command line talks to people")]
#[expect(clippy::disallowed_methods, reason = "how long runs take is measured outside of them")]
fn many(seeds: Range<u64>, threads: usize, keep_going: bool) -> ExitCode {
    let began = std::time::Instant::now();
    // A core's assertion is reported with its seed; the default hook would only repeat it.
    std::panic::set_hook(Box::new(|_| {}));
    let (next, stopped) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stopped.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let report = run(seed, false);
                    if let Some(violation) = &report.violation {
                        if keep_going {
                            println!("seed {seed}: {violation}");
                        } else if !stopped.swap(true, Ordering::Relaxed) {
                            println!("{report}");
                        }
                    }
                    if let Ok(mut sum) = sum.lock() {
                        sum.add(seed, &report);
                    }
                }
            });
        }
    });
    let Ok(mut sum) = sum.into_inner() else { return ExitCode::FAILURE };
    sum.failed.sort_unstable();
    let seconds = began.elapsed().as_secs_f64().max(0.001);
    println!(
        "{seconds:.1} s, {:.0} seeds/s, {:.0} simulated s/s; failed: {:?}",
        sum.runs as f64 / seconds,
        sum.simulated.as_secs_f64() / seconds,
        sum.failed,
    );
    let Counts { events, faults, promotions, lost, acknowledged, polled, damaged } = sum.counts;
    println!(
        "{events} events, {faults} faults, {promotions} promotions that lost {lost} batches, {acknowledged} batches acknowledged, {polled} polled, {damaged} nodes damaged at the end"
    );
    // `.ci/test` counts this line.
    println!("{} passed, {} failed", sum.runs - sum.failed.len() as u64, sum.failed.len());
    if sum.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What became of many runs.
#[derive(Debug, Default)]
struct Sum {
    runs: u64,
    failed: Vec<u64>,
    simulated: Duration,
    counts: Counts,
}

impl Sum {
    fn add(&mut self, seed: u64, report: &Report) {
        self.runs += 1;
        self.simulated += report.simulated;
        self.counts.add(&report.counts);
        if report.violation.is_some() {
            self.failed.push(seed);
        }
    }
}
