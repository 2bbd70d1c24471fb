//! What the command line tells a person when something is wrong: what happened, and what to do next.
//!
//! Every failure that reaches the terminal is one of these; the libraries' errors are turned into them at the place
//! that knows which setting or command the person used.

use std::fmt;

/// One failure in two sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    what: String,
    next: String,
}

impl Problem {
    /// `what` happened, and what to do `next`. Neither ends with a full stop.
    pub(crate) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.what, self.next)
    }
}

impl std::error::Error for Problem {}
