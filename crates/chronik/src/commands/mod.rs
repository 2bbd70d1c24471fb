//! One file per command, and what they share: standard output, and the client's errors in words.
//!
//! Standard output carries data and nothing else; what is said to the person goes to standard error.

pub(crate) mod bench;
pub(crate) mod consume;
mod http;
pub(crate) mod log;
pub(crate) mod produce;
pub(crate) mod promote;
pub(crate) mod replication;
pub(crate) mod serve;
mod table;
pub(crate) mod topic;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use chronik_client::{Client, ClientError, Options};
use chronik_model::Timestamp;
use chronik_net::TlsFiles;
use chronik_wire::ErrorCode;

use crate::cli::Bootstrap;
use crate::config::{BOOTSTRAP_VARIABLE, TLS_VARIABLES, parse_host_port};
use crate::problem::Problem;

const BOOTSTRAP_DEFAULT: &str = "127.0.0.1:9092";

/// Why a command ends before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Something is wrong.
    Problem(Problem),
    /// Nobody reads standard output any more, as under `head`: that is no failure.
    OutputClosed,
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<io::Error> for Stop {
    /// An error of writing to standard output.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Problem::new(format!("cannot write to standard output: {error}"), "check where the output goes").into()
    }
}

/// The time that records are stamped with.
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// The address of the broker to talk to: the flag, the environment, the default.
pub(crate) fn bootstrap_address(flag: &Bootstrap, variables: &[(String, String)]) -> Result<String, Problem> {
    let variable = || variables.iter().find(|(name, _)| name == BOOTSTRAP_VARIABLE).map(|(_, value)| value);
    let (text, what) = match (&flag.bootstrap, variable()) {
        (Some(text), _) => (text.as_str(), "--bootstrap"),
        (None, Some(text)) => (text.as_str(), BOOTSTRAP_VARIABLE),
        (None, None) => (BOOTSTRAP_DEFAULT, "the broker's address"),
    };
    Ok(parse_host_port(text, what, BOOTSTRAP_DEFAULT)?.to_string())
}

/// What brokers are reached with under TLS: flags before the environment, and none without an authority to check them with.
pub(crate) fn tls_files(flag: &Bootstrap, variables: &[(String, String)]) -> Result<Option<TlsFiles>, Problem> {
    let [ca, cert, key] = TLS_VARIABLES.map(|variable| {
        let given = variables.iter().find(|(name, value)| name == variable && !value.is_empty());
        given.map(|(_, value)| PathBuf::from(value))
    });
    let own = match (&flag.tls_cert, &flag.tls_key) {
        (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
        _ => cert.zip(key),
    };
    let authorities = flag.tls_ca.clone().or(ca);
    if authorities.is_none() && flag.tls_cert.is_some() {
        return Err(Problem::new(
            "--tls-cert is given without authorities to check the broker with",
            "add --tls-ca FILE (CHRONIK_TLS_CA)",
        ));
    }
    Ok(authorities.map(|authorities| TlsFiles { own, authorities: Some(authorities) }))
}

/// A client and the address it was started with.
pub(crate) struct Session {
    pub(crate) client: Client,
    address: String,
}

impl Session {
    pub(crate) async fn open(flag: &Bootstrap, variables: &[(String, String)]) -> Result<Self, Problem> {
        let options = Options { tls: tls_files(flag, variables)?, ..Options::default() };
        Self::connect(bootstrap_address(flag, variables)?, options).await
    }

    /// Connects to the broker at `address`.
    pub(crate) async fn connect(address: String, options: Options) -> Result<Self, Problem> {
        match Client::connect_with(&address, options).await {
            Ok(client) => Ok(Self { client, address }),
            Err(error) => Err(explain(&error, &address)),
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A client's error in words.
    pub(crate) fn explain(&self, error: &ClientError) -> Problem {
        explain(error, &self.address)
    }
}

/// Writes to standard output, for whoever reads it to see at once.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Says something to the person. That nobody listens must not stop the work.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn explain(error: &ClientError, bootstrap: &str) -> Problem {
    let what = error.to_string();
    match error {
        ClientError::Unreachable { address, source, .. } if address == bootstrap => Problem::new(
            format!("no broker answers at {address}: {source}"),
            "is `chronik serve` running there? --bootstrap HOST:PORT or CHRONIK_BOOTSTRAP names another",
        ),
        ClientError::Unreachable { address, source, .. } => Problem::new(
            format!("the broker at {bootstrap} sends clients to {address}, which does not answer: {source}"),
            "start that broker with an --advertise address that is reachable from here",
        ),
        ClientError::NotEncrypted { .. } => Problem::new(
            what,
            "--tls-ca FILE (CHRONIK_TLS_CA) names the authority of the broker's certificate, which must name the host that is \
             connected to; without it the broker is spoken to in plain",
        ),
        ClientError::Disconnected { .. } => {
            Problem::new(what, "try again; if it happens again, the broker's log says why")
        }
        ClientError::TimedOut { .. } => Problem::new(what, "try again; the broker may be overloaded or stopped"),
        ClientError::Garbled { address, .. } => Problem::new(
            what,
            format!(
                "is {address} the Kafka port of a broker? the HTTP port is another one; if it uses TLS, add --tls-ca FILE"
            ),
        ),
        ClientError::UnsupportedApi { .. } => Problem::new(what, "use the chronik command of the broker's release"),
        ClientError::Unsendable(_) => Problem::new(what, "shorten the names and values given"),
        ClientError::NoSuchTopic(name) => Problem::new(
            what,
            format!("`chronik topic list` shows those there are, `chronik topic create {name}` makes it"),
        ),
        ClientError::NoSuchNode(_) => Problem::new(what, "try again when all brokers run"),
        ClientError::Refused { code, .. } => Problem::new(what, after_refusal(*code)),
    }
}

fn after_refusal(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::TopicAlreadyExists => "choose another name, or delete the topic first",
        ErrorCode::InvalidTopicException => {
            "use up to 249 letters, digits, dots, underscores and dashes; names of internal topics are taken"
        }
        ErrorCode::InvalidReplicationFactor => "ask for at most as many replicas as there are brokers",
        ErrorCode::InvalidPartitions => "choose another number",
        ErrorCode::InvalidConfig => "correct the --config that is named",
        ErrorCode::MessageTooLarge => "make the record smaller, or raise the topic's max.message.bytes",
        code if code.retriable() => "try again; the broker's log says more",
        _ => "the broker's log may say more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(flag: Option<&str>, variable: Option<&str>) -> Result<String, String> {
        let flag = Bootstrap { bootstrap: flag.map(str::to_owned), ..Bootstrap::default() };
        let variables: Vec<_> =
            variable.iter().map(|value| (BOOTSTRAP_VARIABLE.to_owned(), value.to_string())).collect();
        bootstrap_address(&flag, &variables).map_err(|problem| problem.to_string())
    }

    #[test]
    fn the_broker_is_named_by_flag_then_environment_then_default() {
        assert_eq!(address(Some("a:1"), Some("b:2")).unwrap(), "a:1");
        assert_eq!(address(None, Some("[::1]:2")).unwrap(), "[::1]:2");
        assert_eq!(address(None, None).unwrap(), "127.0.0.1:9092");
        let problem = address(None, Some("b")).unwrap_err();
        assert!(problem.contains("CHRONIK_BOOTSTRAP is \"b\""), "{problem}");
    }

    #[test]
    fn tls_is_spoken_where_there_is_an_authority_and_flags_win() {
        let variables =
            |names: &[&str]| names.iter().map(|name| (name.to_string(), format!("of {name}"))).collect::<Vec<_>>();
        let flags = Bootstrap { tls_ca: Some("ca".into()), ..Bootstrap::default() };
        assert_eq!(tls_files(&Bootstrap::default(), &variables(&["CHRONIK_TLS_CERT", "CHRONIK_TLS_KEY"])), Ok(None));
        let of_variables = tls_files(&Bootstrap::default(), &variables(&TLS_VARIABLES)).unwrap().unwrap();
        assert_eq!(of_variables.authorities, Some("of CHRONIK_TLS_CA".into()));
        assert_eq!(of_variables.own, Some(("of CHRONIK_TLS_CERT".into(), "of CHRONIK_TLS_KEY".into())));
        let of_flags = tls_files(&flags, &variables(&["CHRONIK_TLS_CA"])).unwrap().unwrap();
        assert_eq!(of_flags, TlsFiles { own: None, authorities: Some("ca".into()) });
        let own = Bootstrap { tls_cert: Some("c".into()), tls_key: Some("k".into()), ..Bootstrap::default() };
        assert!(tls_files(&own, &[]).unwrap_err().to_string().contains("add --tls-ca FILE"));
    }

    #[test]
    fn every_error_says_what_to_do_next() {
        let refused = |code| ClientError::Refused { subject: "topic t".to_owned(), code, message: None };
        let unreachable = |address: &str| ClientError::Unreachable {
            address: address.to_owned(),
            answered_before: false,
            source: io::ErrorKind::ConnectionRefused.into(),
        };
        for (error, expected) in [
            (unreachable("a:1"), "is `chronik serve` running there?"),
            (unreachable("0.0.0.0:1"), "--advertise"),
            (ClientError::NoSuchTopic("t".to_owned()), "`chronik topic create t`"),
            (refused(ErrorCode::TopicAlreadyExists), "choose another name"),
            (refused(ErrorCode::MessageTooLarge), "max.message.bytes"),
            (refused(ErrorCode::NotEnoughReplicas), "try again"),
            (refused(ErrorCode::KafkaStorageError), "try again"),
        ] {
            let problem = explain(&error, "a:1").to_string();
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert!(matches!(Stop::from(io::Error::from(io::ErrorKind::BrokenPipe)), Stop::OutputClosed));
        assert!(matches!(Stop::from(io::Error::from(io::ErrorKind::StorageFull)), Stop::Problem(_)));
    }
}
