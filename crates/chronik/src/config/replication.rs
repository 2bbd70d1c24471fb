//! Whom a node sends its log to, whose it receives, and what they have to prove.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chronik_metadata::ReplicationMode;
use chronik_net::{TlsError, TlsFiles};

use super::address::{HostPort, parse_host_port};
use super::layer::Given;
use super::{described, names};
use crate::problem::Problem;

/// `replication.heartbeat.interval.ms` where nobody set it.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// More would be closed as silent before the next heartbeat is late.
const HEARTBEAT_MAX_MS: u64 = 30_000;
/// Followers of one node.
const FOLLOWERS_MAX: usize = 32;

/// The replication settings of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replication {
    /// Receivers to dial.
    pub(crate) followers: Vec<HostPort>,
    /// Where leaders dial; with it the node follows.
    pub(crate) receiver: Option<HostPort>,
    /// What acks=all waits for.
    pub(crate) mode: ReplicationMode,
    /// What both ends of a link must know.
    pub(crate) secret: Option<Secret>,
    /// Certificates of the links.
    pub(crate) tls: TlsFiles,
    /// Time between two heartbeats.
    pub(crate) heartbeat: Duration,
    /// A follower further behind is not ready.
    pub(crate) ready_lag_max: Option<Duration>,
}

/// Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Replication {
    pub(super) fn resolve(
        settings: &mut BTreeMap<String, Given>,
        read_file: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, Problem> {
        let followers = match settings.remove(names::FOLLOWERS) {
            Some(given) => followers(&given.value, &described(names::FOLLOWERS, &given.origin))?,
            None => Vec::new(),
        };
        let receiver = match settings.remove(names::WAL_RECEIVER) {
            Some(given) if given.value.trim().is_empty() => None,
            Some(given) => {
                let what = described(names::WAL_RECEIVER, &given.origin);
                Some(parse_host_port(given.value.trim(), &what, "0.0.0.0:15432")?)
            }
            None => None,
        };
        let mode = match settings.remove(names::REPLICATION_MODE) {
            None => ReplicationMode::Async,
            Some(given) => match given.value.as_str() {
                "async" => ReplicationMode::Async,
                "sync" => ReplicationMode::Sync,
                other => {
                    let what = described(names::REPLICATION_MODE, &given.origin);
                    return Err(Problem::new(
                        format!("{what} is \"{other}\""),
                        "write async, where the leader alone acknowledges, or sync, where every in-sync replica does",
                    ));
                }
            },
        };
        let heartbeat = match settings.remove(names::HEARTBEAT) {
            Some(given) => {
                let what = described(names::HEARTBEAT, &given.origin);
                millis(&given.value, &what, Some(HEARTBEAT_MAX_MS))?
            }
            None => HEARTBEAT,
        };
        let ready_lag_max = match settings.remove(names::READY_LAG) {
            Some(given) => Some(millis(&given.value, &described(names::READY_LAG, &given.origin), None)?),
            None => None,
        };
        let secret = secret(settings.remove(names::SECRET), settings.remove(names::SECRET_FILE), read_file)?;
        let tls = tls(settings)?;
        let check = |checked: Result<(), TlsError>| {
            checked.map_err(|error| {
                Problem::new(
                    format!("links cannot be encrypted: {error}"),
                    "CHRONIK_REPLICATION_TLS_CERT and _KEY are what this node shows, _CA is what it checks others with; a node \
                     that receives needs the first two, one that sends the last",
                )
            })
        };
        if !tls.is_empty() && receiver.is_some() {
            check(tls.check_server())?;
        }
        if !tls.is_empty() && !followers.is_empty() {
            check(tls.check_client())?;
        }
        Ok(Self { followers, receiver, mode, secret, tls, heartbeat, ready_lag_max })
    }
}

fn tls(settings: &mut BTreeMap<String, Given>) -> Result<TlsFiles, Problem> {
    let mut path = |key: &str| settings.remove(key).map(|given| PathBuf::from(given.value));
    let (certificate, key, authorities) =
        (path(names::LINK_TLS_CERT), path(names::LINK_TLS_KEY), path(names::LINK_TLS_CA));
    let own = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (certificate, _) => {
            let (there, missing) = match certificate {
                Some(_) => ("CERT", "KEY"),
                None => ("KEY", "CERT"),
            };
            return Err(Problem::new(
                format!("CHRONIK_REPLICATION_TLS_{there} is given without CHRONIK_REPLICATION_TLS_{missing}"),
                "a certificate and its private key go together",
            ));
        }
    };
    Ok(TlsFiles { own, authorities })
}

fn followers(text: &str, what: &str) -> Result<Vec<HostPort>, Problem> {
    let mut followers: Vec<HostPort> = Vec::new();
    if text.trim().is_empty() {
        return Ok(followers);
    }
    for entry in text.split(',').map(str::trim) {
        let of = format!("the entry \"{entry}\" of {what}");
        let address = parse_host_port(entry, &of, "localhost:15432,10.0.0.2:15432")?;
        if address.port == 0 {
            return Err(Problem::new(format!("{of} has the port 0"), "name the port that the follower receives on"));
        }
        let is_same = |known: &HostPort| known.port == address.port && known.host.eq_ignore_ascii_case(&address.host);
        if followers.iter().any(is_same) {
            return Err(Problem::new(format!("{of} is there twice"), "name each follower once"));
        }
        followers.push(address);
    }
    if followers.len() > FOLLOWERS_MAX {
        return Err(Problem::new(
            format!("{what} names {} followers", followers.len()),
            format!("name {FOLLOWERS_MAX} at the most, and let followers feed further ones"),
        ));
    }
    Ok(followers)
}

fn millis(text: &str, what: &str, most: Option<u64>) -> Result<Duration, Problem> {
    match text.trim().parse::<u64>() {
        Ok(millis) if millis > 0 && most.is_none_or(|most| millis <= most) => Ok(Duration::from_millis(millis)),
        _ => Err(Problem::new(
            format!("{what} is \"{text}\", which is no such time"),
            match most {
                Some(most) => format!("write milliseconds from 1 to {most}"),
                None => "write milliseconds, 1 or more".to_owned(),
            },
        )),
    }
}

fn secret(
    given: Option<Given>,
    file: Option<Given>,
    read_file: impl Fn(&Path) -> io::Result<String>,
) -> Result<Option<Secret>, Problem> {
    match (given, file) {
        (Some(_), Some(_)) => Err(Problem::new(
            "the replication secret is given twice, as CHRONIK_REPLICATION_SECRET and CHRONIK_REPLICATION_SECRET_FILE",
            "leave one of the two out",
        )),
        (Some(given), None) => {
            let what = described(names::SECRET, &given.origin);
            not_empty(given.value, &what)
        }
        (None, Some(file)) => {
            let what = described(names::SECRET_FILE, &file.origin);
            let path = Path::new(&file.value);
            let text = read_file(path).map_err(|error| {
                Problem::new(
                    format!("{what} names {}, which cannot be read: {error}", path.display()),
                    "name a text file that the user who runs chronik may read",
                )
            })?;
            not_empty(text.trim_end_matches(['\n', '\r']).to_owned(), &what)
        }
        (None, None) => Ok(None),
    }
}

fn not_empty(secret: String, what: &str) -> Result<Option<Secret>, Problem> {
    if secret.is_empty() {
        return Err(Problem::new(format!("{what} is empty"), "give a secret, or leave the setting out"));
    }
    Ok(Some(Secret(secret)))
}

#[cfg(test)]
mod tests {
    use super::super::layer::Origin;
    use super::*;

    fn resolved(settings: &[(&str, &str)]) -> Result<Replication, String> {
        let mut given: BTreeMap<String, Given> = settings
            .iter()
            .map(|(key, value)| (key.to_string(), Given { value: value.to_string(), origin: Origin::Set }))
            .collect();
        let read = |path: &Path| match path.to_str() {
            Some("s3cret") => Ok("hush\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let replication = Replication::resolve(&mut given, read).map_err(|problem| problem.to_string())?;
        assert!(given.is_empty(), "{given:?}");
        Ok(replication)
    }

    #[test]
    fn followers_are_a_list_with_blanks_and_nothing_is_off() {
        let replication = resolved(&[(names::FOLLOWERS, " localhost:15432 , [::1]:1,b:2 ")]).unwrap();
        let shown: Vec<String> = replication.followers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["localhost:15432", "[::1]:1", "b:2"]);
        assert_eq!(resolved(&[(names::FOLLOWERS, "  ")]).unwrap().followers, []);
        assert_eq!(resolved(&[(names::WAL_RECEIVER, "")]).unwrap().receiver, None);
        assert_eq!(resolved(&[]).unwrap().heartbeat, HEARTBEAT);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (key, value, words) in [
            (names::FOLLOWERS, "a:1,b", "the entry \"b\""),
            (names::FOLLOWERS, "a:1,,b:2", "the entry \"\""),
            (names::FOLLOWERS, "a:1,A:1", "the entry \"A:1\""),
            (names::FOLLOWERS, "a:0", "the entry \"a:0\""),
            (names::FOLLOWERS, "a:70000", "70000"),
            (names::WAL_RECEIVER, "15432", "15432"),
            (names::REPLICATION_MODE, "fast", "\"fast\""),
            (names::HEARTBEAT, "60000", "from 1 to 30000"),
            (names::READY_LAG, "0", "\"0\""),
            (names::SECRET, "", "is empty"),
            (names::SECRET_FILE, "nowhere", "nowhere"),
            (names::LINK_TLS_CERT, "c.pem", "without CHRONIK_REPLICATION_TLS_KEY"),
        ] {
            let problem = resolved(&[(key, value)]).unwrap_err();
            assert!(problem.contains(words), "{key}={value}: {problem}");
        }
        assert!(resolved(&[(names::SECRET, "a"), (names::SECRET_FILE, "s3cret")]).unwrap_err().contains("twice"));
    }

    #[test]
    fn secrets_come_from_files_without_their_line_end_and_are_not_shown() {
        let replication = resolved(&[(names::SECRET_FILE, "s3cret")]).unwrap();
        assert_eq!(replication.secret, Some(Secret("hush".to_owned())));
        assert!(!format!("{replication:?}").contains("hush"));
    }
}
