//! Whom the log is streamed to and from whom it is received (WAL streaming), as somebody wrote it.
//!
//! Only the words are understood here; what they cause is the broker's. A secret is never shown, in no message and no `Debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::address::{HostPort, parse_host_port};
use super::layer::Given;
use super::{described, names};
use crate::problem::Problem;

/// How often each side says that it lives.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// Shorter ones would cost more than they tell; longer ones would not keep a quiet link open.
const HEARTBEAT_MS: std::ops::RangeInclusive<u64> = 100..=30_000;
/// A secret shorter than this is guessed.
const SECRET_BYTES_MIN: usize = 8;
const FOLLOWERS_EXAMPLE: &str = "replica-1.example.org:15432,10.0.0.7:15432";
const RECEIVER_EXAMPLE: &str = "0.0.0.0:15432";

/// WAL streaming of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replication {
    /// Where followers receive; in the order given, each once.
    pub(crate) followers: Vec<HostPort>,
    /// Where this node receives; it is a follower then.
    pub(crate) receiver: Option<HostPort>,
    /// Whether acknowledgements wait for followers.
    pub(crate) mode: Mode,
    /// What both ends of a connection must know.
    pub(crate) secret: Option<Secret>,
    /// How often each side says that it lives.
    pub(crate) heartbeat_interval: Duration,
}

impl Default for Replication {
    fn default() -> Self {
        Self {
            followers: Vec::new(),
            receiver: None,
            mode: Mode::Async,
            secret: None,
            heartbeat_interval: HEARTBEAT_INTERVAL,
        }
    }
}

/// What an acknowledgement waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The leader alone.
    Async,
    /// Every in-sync replica.
    Sync,
}

/// A shared secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The secret itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(...)")
    }
}

/// Takes the settings of replication out of `settings`.
pub(super) fn resolve(
    settings: &mut BTreeMap<String, Given>,
    read_file: impl Fn(&Path) -> io::Result<String>,
) -> Result<Replication, Problem> {
    let followers = match settings.remove(names::REPLICATION_FOLLOWERS) {
        Some(given) => followers(&given)?,
        None => Vec::new(),
    };
    let receiver = match settings.remove(names::WAL_RECEIVER_ADDR) {
        Some(given) if given.value.trim().is_empty() => None,
        Some(given) => {
            let what = described(names::WAL_RECEIVER_ADDR, &given.origin);
            Some(parse_host_port(given.value.trim(), &what, RECEIVER_EXAMPLE)?)
        }
        None => None,
    };
    let mode = match settings.remove(names::REPLICATION_MODE) {
        Some(given) => mode(&given)?,
        None => Mode::Async,
    };
    let heartbeat_interval = match settings.remove(names::REPLICATION_HEARTBEAT) {
        Some(given) => heartbeat(&given)?,
        None => HEARTBEAT_INTERVAL,
    };
    let secret = secret(settings, read_file)?;
    Ok(Replication { followers, receiver, mode, secret, heartbeat_interval })
}

fn followers(given: &Given) -> Result<Vec<HostPort>, Problem> {
    let what = described(names::REPLICATION_FOLLOWERS, &given.origin);
    if given.value.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut followers = Vec::new();
    for (number, entry) in (1..).zip(given.value.split(',')) {
        let entry = entry.trim();
        let problem = |why: &str| {
            Problem::new(
                format!("entry {number} of {what}, \"{entry}\", {why}"),
                format!("write HOST:PORT for each follower, separated by commas, for example {FOLLOWERS_EXAMPLE}"),
            )
        };
        if entry.is_empty() {
            return Err(problem("is empty"));
        }
        let follower = parse_host_port(entry, &format!("entry {number} of {what}"), FOLLOWERS_EXAMPLE)?;
        if follower.port == 0 {
            return Err(problem("has port 0, to which nobody can connect"));
        }
        if followers.contains(&follower) {
            return Err(problem("is there twice"));
        }
        followers.push(follower);
    }
    Ok(followers)
}

fn mode(given: &Given) -> Result<Mode, Problem> {
    match given.value.trim() {
        "async" => Ok(Mode::Async),
        "sync" => Ok(Mode::Sync),
        other => Err(Problem::new(
            format!("{} is \"{other}\", which is no mode", described(names::REPLICATION_MODE, &given.origin)),
            "write async, where acks=all means this node, or sync, where it means every in-sync replica",
        )),
    }
}

fn heartbeat(given: &Given) -> Result<Duration, Problem> {
    match given.value.trim().parse::<u64>() {
        Ok(ms) if HEARTBEAT_MS.contains(&ms) => Ok(Duration::from_millis(ms)),
        _ => Err(Problem::new(
            format!(
                "{} is \"{}\", which is no usable interval",
                described(names::REPLICATION_HEARTBEAT, &given.origin),
                given.value
            ),
            format!("write milliseconds from {} to {}", HEARTBEAT_MS.start(), HEARTBEAT_MS.end()),
        )),
    }
}

fn secret(
    settings: &mut BTreeMap<String, Given>,
    read_file: impl Fn(&Path) -> io::Result<String>,
) -> Result<Option<Secret>, Problem> {
    let (given, file) = (settings.remove(names::REPLICATION_SECRET), settings.remove(names::REPLICATION_SECRET_FILE));
    let (what, text) = match (given, file) {
        (None, None) => return Ok(None),
        (Some(given), None) => (described(names::REPLICATION_SECRET, &given.origin), given.value),
        (None, Some(file)) => {
            let text = read_file(Path::new(&file.value)).map_err(|error| {
                let what = described(names::REPLICATION_SECRET_FILE, &file.origin);
                Problem::new(
                    format!("the file {} that {what} names cannot be read: {error}", file.value),
                    "name a readable file that holds the secret and nothing else",
                )
            })?;
            (format!("the secret in {}", file.value), text.trim_end_matches(['\n', '\r']).to_owned())
        }
        (Some(_), Some(_)) => {
            return Err(Problem::new(
                "the replication secret is given twice, itself and as a file",
                "keep one of CHRONIK_REPLICATION_SECRET and CHRONIK_REPLICATION_SECRET_FILE",
            ));
        }
    };
    if text.len() < SECRET_BYTES_MIN {
        return Err(Problem::new(
            format!("{what} is shorter than {SECRET_BYTES_MIN} bytes"),
            "choose a longer one, for example from: openssl rand -hex 32",
        ));
    }
    Ok(Some(Secret(text)))
}

#[cfg(test)]
mod tests {
    use super::super::layer::Origin;
    use super::*;

    fn resolved(values: &[(&str, &str)]) -> Result<Replication, String> {
        let given = |value: &str| Given { value: value.to_owned(), origin: Origin::Set };
        let mut settings = values.iter().map(|(key, value)| (key.to_string(), given(value))).collect();
        let replication = resolve(&mut settings, |path| match path.to_str() {
            Some("/secret") => Ok("from-a-file\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        });
        assert!(replication.is_err() || settings.is_empty(), "{settings:?}");
        replication.map_err(|problem| problem.to_string())
    }

    #[test]
    fn nothing_given_is_no_replication() {
        for value in ["", "  "] {
            let off = [(names::REPLICATION_FOLLOWERS, value), (names::WAL_RECEIVER_ADDR, value)];
            assert_eq!(resolved(&off).unwrap(), Replication::default());
        }
        assert_eq!(resolved(&[]).unwrap(), Replication::default());
    }

    #[test]
    fn followers_are_a_list_with_blanks_trimmed() {
        let replication = resolved(&[(names::REPLICATION_FOLLOWERS, " a:1, [::1]:2 ,b.example.org:3")]).unwrap();
        let expected = [("a", 1), ("::1", 2), ("b.example.org", 3)].map(|(host, port)| HostPort::new(host, port));
        assert_eq!(replication.followers, expected);
    }

    #[test]
    fn the_entry_that_is_wrong_is_named() {
        for (list, words) in [
            ("a:1,,b:2", ["entry 2", "is empty"]),
            ("a:1,b", ["entry 2", "\"b\", which has no port"]),
            ("a:1,b:2,a:1", ["entry 3", "\"a:1\", is there twice"]),
            ("a:0", ["entry 1", "port 0"]),
            ("a:1,b:x", ["entry 2", "not a port"]),
            ("a:1,", ["entry 2", "is empty"]),
        ] {
            let problem = resolved(&[(names::REPLICATION_FOLLOWERS, list)]).unwrap_err();
            assert!(words.iter().all(|word| problem.contains(word)), "{list}: {problem}");
        }
    }

    #[test]
    fn mode_and_heartbeat_are_checked() {
        assert_eq!(resolved(&[(names::REPLICATION_MODE, "sync")]).unwrap().mode, Mode::Sync);
        assert!(resolved(&[(names::REPLICATION_MODE, "synch")]).unwrap_err().contains("write async"));
        let interval = resolved(&[(names::REPLICATION_HEARTBEAT, "250")]).unwrap().heartbeat_interval;
        assert_eq!(interval, Duration::from_millis(250));
        for wrong in ["0", "99", "30001", "soon", "-1"] {
            assert!(
                resolved(&[(names::REPLICATION_HEARTBEAT, wrong)]).unwrap_err().contains("milliseconds"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_secret_comes_from_one_place_and_is_never_shown() {
        let secret = |values| resolved(values).map(|replication| replication.secret);
        let from_file = secret(&[(names::REPLICATION_SECRET_FILE, "/secret")]).unwrap().unwrap();
        assert_eq!(from_file.reveal(), "from-a-file");
        assert_eq!(format!("{from_file:?}"), "Secret(...)");
        let twice = [(names::REPLICATION_SECRET, "hush-hush-hush"), (names::REPLICATION_SECRET_FILE, "/secret")];
        for (values, words) in [
            (&twice[..], "given twice"),
            (&[(names::REPLICATION_SECRET, "hush")], "shorter than"),
            (&[(names::REPLICATION_SECRET_FILE, "/absent")], "cannot be read"),
        ] {
            let problem = secret(values).unwrap_err();
            assert!(problem.contains(words) && !problem.contains("hush"), "{problem}");
        }
    }
}
