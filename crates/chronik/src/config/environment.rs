//! The environment as a layer of settings.
//!
//! Takes the variables as an argument: only `main` reads the process environment. A variable with Chronik's prefix that
//! is nearly a setting is a slip and an error. Any other is somebody else's: a service named "chronik" makes Kubernetes
//! give every container variables such as `CHRONIK_SERVICE_HOST`. Those are left alone and named in the log.

use super::layer::{Layer, Origin};
use super::{names, suggest};
use crate::problem::Problem;

/// What the environment says.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    pub(crate) settings: Layer,
    /// Variables with Chronik's prefix that mean nothing to a node.
    pub(crate) ignored: Vec<String>,
}

/// Gathers the settings among `variables`. `broker_keys` are the keys that are not the node's own.
pub(crate) fn gather<'a>(
    variables: &[(String, String)],
    broker_keys: impl Iterator<Item = &'a str> + Clone,
) -> Result<Environment, Problem> {
    let keys = names::NODE_KEYS.iter().map(|(key, _)| *key).chain(broker_keys);
    let mut environment = Environment::default();
    for (variable, value) in variables {
        let Some(name) = variable.strip_prefix(names::VARIABLE_PREFIX) else { continue };
        if names::is_other_variable(variable) {
            continue;
        }
        if let Some(key) = keys.clone().find(|key| names::variable(key) == *variable) {
            environment.settings.give(key, value, Origin::Environment(variable.clone()))?;
            continue;
        }
        let known: Vec<String> = keys.clone().map(names::variable).collect();
        // Without the prefix, which is alike in all of them and would make all of them near.
        let known = known.iter().filter_map(|known| known.strip_prefix(names::VARIABLE_PREFIX));
        match suggest::nearest(name, known) {
            Some(meant) => {
                return Err(Problem::new(
                    format!("the environment variable {variable} is no setting of Chronik"),
                    format!("did you mean {}{meant}? if not, unset it or give it another name", names::VARIABLE_PREFIX),
                ));
            }
            None => environment.ignored.push(variable.clone()),
        }
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Settings = Vec<(String, String)>;

    fn gathered(variables: &[(&str, &str)]) -> Result<(Settings, Vec<String>), String> {
        let variables: Vec<_> = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let gathered = gather(&variables, ["log.retention.ms", "chronik.durability"].into_iter());
        let Environment { settings, ignored } = gathered.map_err(|problem| problem.to_string())?;
        Ok((settings.into_settings().into_iter().map(|(key, given)| (key, given.value)).collect(), ignored))
    }

    #[test]
    fn every_key_has_a_variable() {
        let (settings, ignored) = gathered(&[
            ("PATH", "/bin"),
            ("CHRONIK_BIN", "/usr/bin/chronik"),
            ("CHRONIK_BOOTSTRAP", "x:1"),
            ("CHRONIK_LOG_RETENTION_MS", "5"),
            ("CHRONIK_DURABILITY", "fsync"),
            ("CHRONIK_NODE_ID", "3"),
        ])
        .unwrap();
        let expected = [("chronik.durability", "fsync"), ("log.retention.ms", "5"), ("node.id", "3")];
        assert_eq!(settings, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert!(ignored.is_empty());
    }

    #[test]
    fn a_mistyped_variable_is_an_error_that_names_the_one_meant() {
        for (mistyped, meant) in [
            ("CHRONIK_LOG_RETENTION_MZ", "CHRONIK_LOG_RETENTION_MS"),
            ("CHRONIK_DATADIR", "CHRONIK_DATA_DIR"),
            ("CHRONIK_DATA_DIRR", "CHRONIK_DATA_DIR"),
            ("CHRONIK_LISTENS", "CHRONIK_LISTEN"),
        ] {
            let problem = gathered(&[(mistyped, "x")]).unwrap_err();
            assert!(problem.contains(mistyped) && problem.contains(&format!("did you mean {meant}?")), "{problem}");
        }
    }

    #[test]
    fn variables_of_others_are_left_alone_and_named() {
        let others = ["CHRONIK_SERVICE_HOST", "CHRONIK_PORT_9092_TCP", "CHRONIK_SEED", "CHRONIK_PORT"];
        let (settings, ignored) = gathered(&others.map(|name| (name, "x"))).unwrap();
        assert!(settings.is_empty());
        assert_eq!(ignored, others);
    }
}
