//! `chronik bench`: how fast a broker takes records, gives them back, and carries them from one end to the other.
//!
//! A figure comes from data that is really there: what was acknowledged is read back and compared before anything is
//! printed. Time is that of one clock, which starts with the run.

mod alarm;
mod check;
mod consume;
mod content;
mod end_to_end;
mod ledger;
mod meter;
mod pace;
mod plan;
mod produce;
mod progress;
mod reading;
mod report;
mod sending;
mod topic;
mod verify;
mod written;

use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::time::{Duration, Instant};

use chronik_client::ClientError;
use chronik_wire::ErrorCode;
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::{MissedTickBehavior, interval_at};

use self::meter::{Meter, cpu_time};
use self::progress::Progress;
use self::report::Report;
use self::sending::SendError;
use super::{Session, Stop, print, say};
use crate::cli::Bench;
use crate::problem::Problem;
use crate::signals::Signals;

pub(crate) fn run(command: Bench, variables: &[(String, String)]) -> Result<(), Stop> {
    match command {
        Bench::Produce(command) => runtime(command.connections)?.block_on(produce::run(command, variables)),
        Bench::Consume(command) => runtime(command.connections)?.block_on(consume::run(command, variables)),
        Bench::EndToEnd(command) => runtime(1)?.block_on(end_to_end::run(command, variables)),
    }
}

/// As many threads as there is work for: one connection alone is served best by one thread.
fn runtime(connections: usize) -> Result<Runtime, Problem> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = match connections.min(processors) {
        0 | 1 => runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    builder.enable_all().build().map_err(|error| {
        Problem::new(format!("cannot start: {error}"), "the system may be out of memory, threads or open files")
    })
}

/// The time of a run, from its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Duration {
        self.0.elapsed()
    }

    /// Waits for a time of the run, to the millisecond.
    pub(crate) async fn until(self, time: Duration) {
        tokio::time::sleep(time.saturating_sub(self.now())).await;
    }
}

/// A number that no other run has, likely enough.
fn run_number() -> Result<u64, Problem> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Problem::new(format!("no random number: {error}"), "the system gives none; try again"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Becomes true at the first SIGINT or SIGTERM; a second one ends the process.
fn stop_on_signal() -> Result<watch::Receiver<bool>, Problem> {
    let signals = Signals::catch().map_err(|error| {
        Problem::new(format!("cannot catch signals: {error}"), "the system may be out of open files")
    })?;
    let (tell, told) = watch::channel(false);
    tokio::spawn(async move {
        signals.first().await;
        // On a terminal a line of progress stands there without its end.
        let line_end = if io::stderr().is_terminal() { "\n" } else { "" };
        say(&format!("{line_end}stopping, and waiting for what is on its way; a second signal stops at once"));
        tell.send_replace(true);
        // Whoever listens still must not take the end of this task for a signal.
        tell.closed().await;
    });
    Ok(told)
}

/// Runs `work`, with a line of progress a second, and gives the CPU time that this process used after the warm-up.
async fn watched<T>(
    work: impl Future<Output = T>,
    meter: &Meter,
    clock: Clock,
    warm_up: Duration,
    progress: &mut Progress,
) -> (T, Duration) {
    let mut work = pin!(work);
    let mut ticks = interval_at(tokio::time::Instant::now() + progress::EVERY, progress::EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut warmed_up = pin!(clock.until(warm_up));
    // The runtime's timers are too coarse for a run that is over in a moment.
    let mut used_before = warm_up.is_zero().then(cpu_time);
    progress.interval();
    loop {
        tokio::select! {
            done = &mut work => {
                let used = used_before.map_or(Duration::ZERO, |before| cpu_time().saturating_sub(before));
                progress.end();
                return (done, used);
            }
            () = &mut warmed_up, if used_before.is_none() => used_before = Some(cpu_time()),
            _ = ticks.tick() => {
                let interval = progress.interval();
                progress.say(&progress::line(&meter.take_interval(), interval, used_before.is_none()));
            }
        }
    }
}

/// What a task gave; its panic is this one's.
fn joined<T>(ended: Result<T, JoinError>) -> T {
    match ended {
        Ok(given) => given,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Tasks are cancelled by dropping the set they are in, and then nobody asks for what they gave.
            Err(error) => unreachable!("{error}"),
        },
    }
}

fn print_report(report: &Report, json: bool) -> Result<(), Stop> {
    if !json {
        print(&report.text())?;
        return Ok(());
    }
    let text = report
        .json()
        .map_err(|error| Problem::new(format!("the figures cannot be written as JSON: {error}"), "leave --json out"))?;
    print(&text)?;
    Ok(())
}

/// An error of sending in words.
fn explain_sending(session: &Session, error: &SendError) -> Problem {
    match error {
        SendError::Client(error) => explain(session, error),
        SendError::Build(_) => Problem::new(error.to_string(), "try a smaller --batch-size or --compression none"),
        SendError::Timer(_) => Problem::new(error.to_string(), "the system may be out of open files"),
    }
}

/// A client's error in words, with what to do next in a run that sends nothing twice.
fn explain(session: &Session, error: &ClientError) -> Problem {
    let next = match error {
        ClientError::Refused { code: ErrorCode::MessageTooLarge, .. } => {
            "use a smaller --batch-size and --record-size, or raise the topic's max.message.bytes"
        }
        ClientError::Refused {
            code: ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend, ..
        } => {
            "fewer replicas are in sync than the topic's min.insync.replicas: `chronik topic describe` lists them; \
             start the brokers that are missing, or measure with --acks 1"
        }
        ClientError::Refused { code: ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch, .. } => {
            "the leader of a partition has changed during the run: measure again when the cluster has settled"
        }
        ClientError::Disconnected { .. } => {
            "the broker closed the connection or ended during the run; its log says why"
        }
        error => return session.explain(error),
    };
    Problem::new(error.to_string(), next)
}

fn nothing_measured(stop: &watch::Receiver<bool>, why: &str) -> Problem {
    if *stop.borrow() {
        return Problem::new("interrupted before anything was measured", "let it run longer, or shorten --warm-up");
    }
    Problem::new(
        format!("nothing was measured: {why}"),
        "give a longer --duration or more --num-records, or a shorter --warm-up; `chronik bench produce` fills a topic",
    )
}
