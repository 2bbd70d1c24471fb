//! The `chronik` command: a broker, and enough of a client to try it.
//!
//! The process's arguments and environment are read here and nowhere else.

mod cli;
mod commands;
mod config;
mod data_dir;
mod door;
mod listeners;
mod logging;
mod node;
mod open_files;
mod problem;
mod signals;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;
use clap::error::ErrorKind;
use tokio::runtime;

use crate::cli::{Cli, Command};
use crate::commands::{Stop, bench, consume, log, produce, promote, replication, say, serve, topic};
use crate::problem::Problem;

fn main() -> ExitCode {
    let started = Instant::now();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help that was asked for goes to standard output, everything else to standard error.
            let _ = error.print();
            let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked_for { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    match run(cli, started) {
        Ok(()) | Err(Stop::OutputClosed) => ExitCode::SUCCESS,
        Err(Stop::Problem(problem)) => {
            say(&format!("error: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, started: Instant) -> Result<(), Stop> {
    let variables = environment()?;
    match cli.command {
        Command::Serve(args) => Ok(serve::run(args, &variables, started)?),
        Command::Topic(command) => client_runtime()?.block_on(topic::run(command, &variables)),
        Command::Produce(command) => client_runtime()?.block_on(produce::run(command, &variables)),
        Command::Consume(command) => client_runtime()?.block_on(consume::run(command, &variables)),
        Command::Bench(command) => bench::run(command, &variables),
        Command::Log(command) => log::run(command),
        Command::Replication(command) => client_runtime()?.block_on(replication::run(command, &variables)),
        Command::Promote(command) => client_runtime()?.block_on(promote::run(command)),
    }
}

/// The variables with Chronik's prefix.
fn environment() -> Result<Vec<(String, String)>, Problem> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("CHRONIK_")) else { continue };
        let Some(value) = value.to_str() else {
            return Err(Problem::new(
                format!("the environment variable {name} is not UTF-8"),
                "set it again, or unset it",
            ));
        };
        variables.push((name.to_owned(), value.to_owned()));
    }
    Ok(variables)
}

fn client_runtime() -> Result<runtime::Runtime, Problem> {
    runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Problem::new(format!("cannot start: {error}"), "the system may be out of memory, threads or open files")
    })
}
