//! `chronik serve`: the configuration, the log lines, and the runtime a node runs on.

use std::time::Instant;

use tokio::runtime;
use tracing::info;

use crate::cli::Serve;
use crate::config;
use crate::problem::Problem;
use crate::{logging, node, open_files};

/// Runs a node until it is told to stop. `started` is when the process began.
pub(crate) fn run(args: Serve, variables: &[(String, String)], started: Instant) -> Result<(), Problem> {
    let config = config::load(&args, variables, |path| std::fs::read_to_string(path))?;
    logging::start(&config.log).map_err(|error| {
        Problem::new(format!("cannot write log lines: {error}"), "this is a defect of chronik; please report it")
    })?;
    for variable in &config.ignored_variables {
        info!(variable, "environment variable is no setting, ignored");
    }
    open_files::raise_limit();
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Problem::new(format!("cannot start: {error}"), "the system may be out of memory, threads or open files")
    })?;
    runtime.block_on(node::run(config, started))
}
