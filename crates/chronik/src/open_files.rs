//! The limit on open files: a broker holds one for every connection and several for every partition.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// Raises the soft limit to the hard one.
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => debug!(from = current, to = maximum, "raised the limit on open files"),
        Err(error) => warn!(limit = current, %error, "cannot raise the limit on open files"),
    }
}

/// How many connections may be open, of all the files the limit allows: a quarter is kept for logs and the rest, so that a
/// crowd of clients cannot stop the broker from opening its own files.
pub(crate) fn for_connections() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit - limit / 4).unwrap_or(usize::MAX)
}
