//! Settings as somebody gave them: key, value, and where they stand, one layer for each place.
//!
//! What the keys mean and which layer wins is decided in `resolve`; here a layer is only gathered and checked for
//! contradicting itself.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::problem::Problem;

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A line, counted from 1, of the configuration file.
    File { path: PathBuf, line: usize },
    /// An environment variable.
    Environment(String),
    /// A flag of its own.
    Flag(&'static str),
    /// `--set KEY=VALUE`.
    Set,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Set => f.write_str("--set"),
        }
    }
}

/// A value with the place it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) value: String,
    pub(crate) origin: Origin,
}

/// The settings of one place, by key.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    settings: BTreeMap<String, Given>,
}

impl Layer {
    /// Adds a setting. The same key may stand twice only with the same value.
    pub(crate) fn give(&mut self, key: &str, value: impl Into<String>, origin: Origin) -> Result<(), Problem> {
        let given = Given { value: value.into(), origin };
        if let Some(other) = self.settings.get(key)
            && other.value != given.value
        {
            return Err(Problem::new(
                format!("{key} is \"{}\" in {} and \"{}\" in {}", other.value, other.origin, given.value, given.origin),
                "remove one of the two",
            ));
        }
        self.settings.insert(key.to_owned(), given);
        Ok(())
    }

    /// The settings by key.
    pub(crate) fn into_settings(self) -> BTreeMap<String, Given> {
        self.settings
    }
}
