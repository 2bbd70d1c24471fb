//! What a node is told: defaults, the configuration file, the environment and the flags, each over the one before.
//!
//! Pure: environment, flags and the way to read a file come in as arguments. What a broker's key means and which values
//! it takes is `chronik-metadata`'s knowledge; the settings of the node itself are resolved here.

mod address;
mod environment;
mod file;
mod kafka;
mod layer;
mod names;
mod replication;
mod suggest;
mod tls;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use chronik_model::NodeId;

pub(crate) use self::address::{HostPort, is_wildcard, parse_host_port};
use self::environment::Environment;
use self::layer::{Given, Layer, Origin};
pub(crate) use self::names::{BOOTSTRAP_VARIABLE, TLS_VARIABLES};
pub(crate) use self::replication::Replication;
pub(crate) use self::tls::ClientTls;
use crate::cli::Serve;
use crate::logging;
use crate::problem::Problem;

/// Everything a node needs to know before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeConfig {
    /// Where everything is kept.
    pub(crate) data_dir: PathBuf,
    /// Where to listen for clients; port 0 lets the system choose.
    pub(crate) listen: HostPort,
    /// What clients are told to connect to.
    pub(crate) advertise: Advertise,
    /// Where metrics and health are served.
    pub(crate) http: Http,
    /// The number of this node in its cluster, where it was given one.
    pub(crate) node_id: Option<NodeId>,
    /// Whom it sends its log to, and whose it receives.
    pub(crate) replication: Replication,
    /// TLS between clients and brokers.
    pub(crate) tls: ClientTls,
    /// Which log lines are written, as in `info` or `warn,chronik_broker=debug`.
    pub(crate) log: String,
    /// The broker's settings by Kafka's or Chronik's key; only those given, all valid.
    pub(crate) broker: BTreeMap<String, String>,
    /// Environment variables with Chronik's prefix that mean nothing to a node.
    pub(crate) ignored_variables: Vec<String>,
}

impl NodeConfig {
    /// The broker's settings with those that Kafka's tools read and Chronik derives from the node's own.
    pub(crate) fn broker_with_places(&self, bound: &HostPort, advertised: &HostPort) -> BTreeMap<String, String> {
        let mut values = self.broker.clone();
        let protocol = if self.tls.listener.is_some() { "SSL" } else { "PLAINTEXT" };
        for (key, value) in [
            ("listeners", format!("{protocol}://{bound}")),
            ("advertised.listeners", format!("{protocol}://{advertised}")),
            ("log.dir", self.data_dir.display().to_string()),
            ("log.dirs", self.data_dir.display().to_string()),
        ] {
            if kafka::is_known(key) {
                values.insert(key.to_owned(), value);
            }
        }
        values
    }
}

/// The address clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advertise {
    /// Never a wildcard.
    pub(crate) host: String,
    /// `None`: the port listened on.
    pub(crate) port: Option<u16>,
}

impl Advertise {
    /// The address clients are told by a node that listens on `bound_port`.
    pub(crate) fn address(&self, bound_port: u16) -> HostPort {
        HostPort::new(self.host.clone(), self.port.unwrap_or(bound_port))
    }
}

/// Where metrics and health are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Http {
    /// Nowhere.
    Off,
    /// At the address somebody named, or not at all.
    Named(HostPort),
    /// From this address on, at the next free port.
    Default(HostPort),
}

/// Resolves a node's configuration. `variables` is the environment, `read_file` reads the configuration file.
pub(crate) fn load(
    flags: &Serve,
    variables: &[(String, String)],
    read_file: impl Fn(&Path) -> io::Result<String>,
) -> Result<NodeConfig, Problem> {
    let named_by_variable =
        || variables.iter().find(|(name, _)| name == names::CONFIG_VARIABLE).map(|(_, value)| value);
    let config_file = flags.config.clone().or_else(|| named_by_variable().map(PathBuf::from));
    let file = match &config_file {
        Some(path) => file::parse(path, &read_file(path).map_err(|e| unreadable(path, &e))?)?,
        None => Layer::default(),
    };
    let Environment { settings: environment, ignored } = environment::gather(variables, kafka::keys())?;
    let mut settings = BTreeMap::new();
    for layer in [file, environment, flag_layer(flags)?] {
        merge(&mut settings, layer)?;
    }
    let mut config = resolve(settings, read_file)?;
    config.ignored_variables = ignored;
    Ok(config)
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let next = match error.kind() {
        io::ErrorKind::NotFound => "give --config the path of an existing file, or leave it out",
        io::ErrorKind::InvalidData => "save it as UTF-8 text",
        _ => "make it readable for the user that runs chronik",
    };
    Problem::new(format!("cannot read the configuration file {}: {error}", path.display()), next)
}

fn flag_layer(flags: &Serve) -> Result<Layer, Problem> {
    let mut layer = Layer::default();
    let values = [
        (names::DATA_DIR, "--data-dir", &flags.data_dir),
        (names::LISTEN, "--listen", &flags.listen),
        (names::ADVERTISE, "--advertise", &flags.advertise),
        (names::HTTP, "--http", &flags.http),
        (names::NODE_ID, "--node-id", &flags.node_id),
        (names::FOLLOWERS, "--replicate-to", &flags.replicate_to),
        (names::WAL_RECEIVER, "--wal-receiver", &flags.wal_receiver),
        (names::REPLICATION_MODE, "--replication-mode", &flags.replication_mode),
        (names::TLS_CERT, "--tls-cert", &flags.tls_cert),
        (names::TLS_KEY, "--tls-key", &flags.tls_key),
        (names::TLS_CLIENT_CA, "--tls-client-ca", &flags.tls_client_ca),
    ];
    for (key, flag, value) in values {
        if let Some(value) = value {
            layer.give(key, value, Origin::Flag(flag))?;
        }
    }
    for text in &flags.set {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            Problem::new(
                format!("--set {text} has no value"),
                "write --set KEY=VALUE, as in --set log.retention.ms=86400000",
            )
        })?;
        layer.give(names::canonical(key.trim()), value.trim(), Origin::Set)?;
    }
    Ok(layer)
}

/// Puts a layer over the settings below it. An address is taken apart into host and port first, so that a layer may
/// replace one of the two.
fn merge(settings: &mut BTreeMap<String, Given>, layer: Layer) -> Result<(), Problem> {
    let mut parts = Layer::default();
    let mut advertise_in_one = false;
    for (key, given) in layer.into_settings() {
        match key.as_str() {
            names::LISTEN => {
                let address = parse_host_port(&given.value, &described(&key, &given.origin), "127.0.0.1:9092")?;
                parts.give(names::BIND, address.host, given.origin.clone())?;
                parts.give(names::KAFKA_PORT, address.port.to_string(), given.origin)?;
            }
            names::ADVERTISE | names::ADVERTISED_ADDR => {
                advertise_in_one |= key == names::ADVERTISE;
                let what = described(&key, &given.origin);
                let (host, port) = address::parse_host_and_maybe_port(&given.value, &what, "kafka.example.org:9092")?;
                parts.give(names::ADVERTISED_ADDR, host, given.origin.clone())?;
                if let Some(port) = port {
                    parts.give(names::ADVERTISED_PORT, port.to_string(), given.origin)?;
                }
            }
            _ => parts.give(&key, given.value, given.origin)?,
        }
    }
    if advertise_in_one {
        // A whole address replaces a whole address: the port of a lower layer does not shine through.
        settings.remove(names::ADVERTISED_PORT);
    }
    settings.extend(parts.into_settings());
    Ok(())
}

/// How to call a setting in a message: by the flag or variable that gave it, else by its key.
fn described(key: &str, origin: &Origin) -> String {
    match origin {
        Origin::Flag(flag) => (*flag).to_owned(),
        Origin::Environment(variable) => variable.clone(),
        Origin::File { .. } | Origin::Set => format!("{key} ({origin})"),
    }
}

fn resolve(
    mut settings: BTreeMap<String, Given>,
    read_file: impl Fn(&Path) -> io::Result<String>,
) -> Result<NodeConfig, Problem> {
    let data_dir = match settings.remove(names::DATA_DIR) {
        Some(given) if given.value.is_empty() => {
            let what = described(names::DATA_DIR, &given.origin);
            return Err(Problem::new(format!("{what} is empty"), "name a directory, as in --data-dir ./data"));
        }
        Some(given) => PathBuf::from(given.value),
        None => PathBuf::from("./data"),
    };
    let listen = listen(&mut settings)?;
    let advertise = advertise(&mut settings, &listen)?;
    let http = http(&mut settings)?;
    let node_id = match settings.remove(names::NODE_ID) {
        Some(given) => Some(node_id(&given)?),
        None => None,
    };
    let replication = Replication::resolve(&mut settings, read_file)?;
    let tls = ClientTls::resolve(&mut settings, &replication.tls)?;
    let log = match settings.remove(names::LOG) {
        Some(given) => {
            logging::check(&given.value, &described(names::LOG, &given.origin))?;
            given.value
        }
        None => logging::DEFAULT.to_owned(),
    };
    let mut broker = BTreeMap::new();
    for (key, given) in settings {
        kafka::check(&key, &given)?;
        broker.insert(key, given.value);
    }
    let ignored_variables = Vec::new();
    Ok(NodeConfig { data_dir, listen, advertise, http, node_id, replication, tls, log, broker, ignored_variables })
}

fn listen(settings: &mut BTreeMap<String, Given>) -> Result<HostPort, Problem> {
    let host = match settings.remove(names::BIND) {
        Some(given) => {
            let what = described(names::BIND, &given.origin);
            let bare_ipv6 = given.value.parse::<std::net::Ipv6Addr>().is_ok();
            if bare_ipv6 {
                given.value
            } else {
                match address::parse_host_and_maybe_port(&given.value, &what, "127.0.0.1:9092")? {
                    (host, None) => host,
                    (_, Some(_)) => {
                        return Err(Problem::new(
                            format!("{what} is \"{}\", which has a port", given.value),
                            "give host and port together as --listen HOST:PORT, or the port as CHRONIK_KAFKA_PORT",
                        ));
                    }
                }
            }
        }
        None => "127.0.0.1".to_owned(),
    };
    let port = match settings.remove(names::KAFKA_PORT) {
        Some(given) => address::parse_port(&given.value, &described(names::KAFKA_PORT, &given.origin))?,
        None => 9092,
    };
    Ok(HostPort::new(host, port))
}

fn advertise(settings: &mut BTreeMap<String, Given>, listen: &HostPort) -> Result<Advertise, Problem> {
    let port = match settings.remove(names::ADVERTISED_PORT) {
        Some(given) => {
            let what = described(names::ADVERTISED_PORT, &given.origin);
            match address::parse_port(&given.value, &what)? {
                0 => {
                    return Err(Problem::new(
                        format!("{what} gives clients the port 0"),
                        "name the port clients connect to, or leave it out for the port listened on",
                    ));
                }
                port => Some(port),
            }
        }
        None => None,
    };
    match settings.remove(names::ADVERTISED_ADDR) {
        Some(given) if is_wildcard(&given.value) => Err(Problem::new(
            format!(
                "{} is \"{}\", to which no client can connect",
                described(names::ADVERTISED_ADDR, &given.origin),
                given.value
            ),
            "name a host or address that clients reach, as in --advertise kafka.example.org:9092",
        )),
        Some(given) => Ok(Advertise { host: given.value, port }),
        None if is_wildcard(&listen.host) => Err(Problem::new(
            format!("listening on {listen} needs an address to tell clients"),
            format!(
                "add --advertise HOST:PORT (CHRONIK_ADVERTISE), for example --advertise localhost:{}",
                shown_port(listen)
            ),
        )),
        None => Ok(Advertise { host: listen.host.clone(), port }),
    }
}

fn shown_port(listen: &HostPort) -> u16 {
    if listen.port == 0 { 9092 } else { listen.port }
}

fn http(settings: &mut BTreeMap<String, Given>) -> Result<Http, Problem> {
    match settings.remove(names::HTTP) {
        None => Ok(Http::Default(HostPort::new("127.0.0.1", 6092))),
        Some(given) if given.value == "off" => Ok(Http::Off),
        Some(given) => {
            let what = described(names::HTTP, &given.origin);
            let address = parse_host_port(&given.value, &what, "127.0.0.1:6092, or off")?;
            Ok(Http::Named(address))
        }
    }
}

fn node_id(given: &Given) -> Result<NodeId, Problem> {
    match given.value.parse::<i32>() {
        Ok(id) if id >= 0 => Ok(NodeId::new(id)),
        _ => Err(Problem::new(
            format!("{} is \"{}\", which is no node id", described(names::NODE_ID, &given.origin), given.value),
            format!("write a whole number from 0 to {}", i32::MAX),
        )),
    }
}

#[cfg(test)]
mod tests;
