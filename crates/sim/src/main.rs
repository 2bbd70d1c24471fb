//! The command line: `run --seed N [--trace]` replays one seed, `run --seeds A..B` runs many and says how fast.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use chronik_sim::mutation::Mutation;
use chronik_sim::run::{run, run_mutated};
use chronik_sim::world::Counts;

const USAGE: &str =
    "usage: chronik-sim run (--seed N [--trace] | --seeds A..B [--keep-going]) | chronik-sim mutations [SEEDS]";

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to people")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["run", "--seed", seed, rest @ ..] => {
            let Ok(seed) = seed.parse() else { return usage() };
            let all = rest.contains(&"--trace");
            let report = run(seed, all);
            if all && report.violation.is_none() {
                report.lines.iter().for_each(|line| println!("{line}"));
            }
            println!("{}", report.plan);
            println!("{report}");
            if report.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        ["run", "--seeds", range, rest @ ..] => {
            let Some((from, to)) = range.split_once("..") else { return usage() };
            let (Ok(from), Ok(to)) = (from.parse(), to.parse()) else { return usage() };
            many(from, to, rest.contains(&"--keep-going"))
        }
        ["mutations", rest @ ..] => mutations(rest.first().and_then(|most| most.parse().ok()).unwrap_or(2_000)),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "a command line talks to people")]
fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::FAILURE
}

/// Says for each bug put back how many seeds it takes to find it.
#[expect(clippy::print_stdout, reason = "a command line talks to people")]
fn mutations(most: u64) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let mut code = ExitCode::SUCCESS;
    for (mutation, name, within) in Mutation::ALL {
        let found = (0..most).find_map(|seed| Some((seed, run_mutated(seed, *mutation).violation?)));
        match found {
            Some((seed, violation)) => println!("{name} {mutation:?}: seed {seed} of {within}: {violation}"),
            None => {
                println!("{name} {mutation:?}: not found in {most} seeds");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

#[expect(clippy::print_stdout, reason = "a command line talks to people")]
#[expect(clippy::disallowed_methods, reason = "how long runs take is measured outside of them")]
fn many(from: u64, to: u64, keep_going: bool) -> ExitCode {
    let began = std::time::Instant::now();
    // A core's assertion is reported with its seed; the default hook would only repeat it.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut simulated, mut failed, mut done) = (Duration::ZERO, Vec::new(), 0_u64);
    let mut sum = [0_u64; 7];
    for seed in from..to {
        let report = run(seed, false);
        simulated += report.simulated;
        done += 1;
        let counts = report.counts;
        let Counts { events, faults, promotions, lost, acknowledged, polled, damaged } = counts;
        let numbers = [events, faults, promotions, lost, acknowledged, polled, damaged];
        sum.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
        if let Some(violation) = &report.violation {
            failed.push(seed);
            if keep_going {
                println!("seed {seed}: {violation}");
            } else {
                println!("{report}");
                break;
            }
        }
    }
    let took = began.elapsed();
    let seconds = took.as_secs_f64().max(0.001);
    println!(
        "{done} seeds in {seconds:.1} s, {:.0} seeds/s, {:.0} simulated s/s; {} violations {failed:?}",
        done as f64 / seconds,
        simulated.as_secs_f64() / seconds,
        failed.len(),
    );
    let [events, faults, promotions, lost, acknowledged, polled, damaged] = sum;
    println!(
        "{events} events, {faults} faults, {promotions} promotions that lost {lost} batches, {acknowledged} batches acknowledged, {polled} polled, {damaged} nodes damaged at the end"
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
