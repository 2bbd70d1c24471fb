//! Log lines to standard error.

use std::io::{self, IsTerminal as _};
use std::str::FromStr as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::problem::Problem;

/// What is written where nobody chose.
pub(crate) const DEFAULT: &str = "info";

/// Checks a filter as in `info` or `warn,chronik_broker=debug`; `what` names the setting that holds it.
pub(crate) fn check(filter: &str, what: &str) -> Result<(), Problem> {
    parse(filter).map(|_| ()).ok_or_else(|| {
        Problem::new(
            format!("{what} is \"{filter}\", which is no log filter"),
            "write off, error, warn, info, debug or trace, or a list as in warn,chronik_broker=debug",
        )
    })
}

/// Sends log lines to standard error from now on. Colours are for terminals only.
pub(crate) fn start(filter: &str) -> Result<(), TryInitError> {
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let targets = parse(filter).unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    tracing_subscriber::registry().with(targets).with(lines).try_init()
}

fn parse(filter: &str) -> Option<Targets> {
    // The library takes a lone word for a target, so a mistyped level would silence everything else; and it takes
    // nothing for a level.
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let is_plain = filter.split(',').all(|part| match part.split_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(part),
    });
    if !is_plain {
        return None;
    }
    Targets::from_str(filter).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_targets_are_filters_and_slips_are_not() {
        for filter in ["info", "OFF", "warn,chronik_broker=debug", "chronik_log=trace"] {
            assert!(check(filter, "CHRONIK_LOG").is_ok(), "{filter}");
        }
        for filter in ["inof", "", "warn,debgu", "info,", "chronik_log=", "=info", "a=b=c", "chronik_log=loud"] {
            let problem = check(filter, "CHRONIK_LOG").unwrap_err().to_string();
            assert!(problem.contains("CHRONIK_LOG is"), "{filter}: {problem}");
        }
    }
}
