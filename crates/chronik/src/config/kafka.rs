//! The settings that are the broker's: Kafka's keys and Chronik's own.
//!
//! What keys there are and which values they take is the metadata room's knowledge. Here are the keys of Apache Kafka
//! whose place another setting of a node has, and the words for a key or value that is not accepted.

use chronik_metadata::config::{self as catalogue, ConfigError, Key};

use super::layer::Given;
use super::names;
use super::suggest::nearest;
use crate::problem::Problem;

/// Keys of Apache Kafka with what says the same to Chronik.
const REPLACED: &[(&str, &str)] = &[
    ("listeners", "use --listen HOST:PORT (chronik.listen)"),
    ("port", "use --listen HOST:PORT (chronik.listen)"),
    ("host.name", "use --listen HOST:PORT (chronik.listen)"),
    ("advertised.listeners", "use --advertise HOST:PORT (chronik.advertise)"),
    ("advertised.host.name", "use --advertise HOST:PORT (chronik.advertise)"),
    ("advertised.port", "use --advertise HOST:PORT (chronik.advertise)"),
    ("log.dir", "use --data-dir DIR (chronik.data.dir)"),
    ("log.dirs", "use --data-dir DIR (chronik.data.dir)"),
    ("metadata.log.dir", "use --data-dir DIR (chronik.data.dir): the metadata lies in it, too"),
    ("broker.id", "use --node-id N (node.id)"),
    ("process.roles", "leave it out: a node is broker and controller"),
    ("controller.quorum.voters", "leave it out: a single node is its own controller"),
    ("controller.quorum.bootstrap.servers", "leave it out: a single node is its own controller"),
    ("controller.listener.names", "leave it out: a single node is its own controller"),
    ("ssl.keystore.type", TLS_OWN),
    ("ssl.keystore.location", TLS_OWN),
    ("ssl.keystore.key", TLS_OWN),
    ("ssl.keystore.certificate.chain", TLS_OWN),
    ("ssl.keystore.password", TLS_PASSWORD),
    ("ssl.key.password", TLS_PASSWORD),
    ("ssl.truststore.type", TLS_CLIENTS),
    ("ssl.truststore.location", TLS_CLIENTS),
    ("ssl.truststore.certificates", TLS_CLIENTS),
    ("ssl.truststore.password", TLS_PASSWORD),
    ("ssl.client.auth", TLS_CLIENTS),
    ("ssl.protocol", TLS_CHOICE),
    ("ssl.enabled.protocols", TLS_CHOICE),
    ("ssl.cipher.suites", TLS_CHOICE),
    ("zookeeper.connect", "leave it out: there is no ZooKeeper"),
];

const TLS_OWN: &str = "use --tls-cert FILE and --tls-key FILE, both PEM (chronik.tls.cert, chronik.tls.key); both may name a file with chain and key, as Kafka's PEM keystores are";
const TLS_CLIENTS: &str =
    "use --tls-client-ca FILE (chronik.tls.client.ca): clients must then show a certificate of an authority in it";
const TLS_PASSWORD: &str = "leave it out: TLS files are PEM, the private key is not encrypted";
const TLS_CHOICE: &str = "leave it out: clients use TLS 1.3 or 1.2 with the cipher suites that are sound";

/// Every key a broker can be given.
pub(crate) fn keys() -> impl Iterator<Item = &'static str> + Clone {
    accepted().map(|key| key.name)
}

/// Checks key and value.
pub(crate) fn check(key: &str, given: &Given) -> Result<(), Problem> {
    let Given { value, origin } = given;
    if let Some((_, instead)) = REPLACED.iter().find(|(replaced, _)| *replaced == key) {
        let what = format!("{key} ({origin}) is a setting of Apache Kafka that Chronik does not have");
        return Err(Problem::new(what, *instead));
    }
    let Some(known) = accepted().find(|known| known.name == key) else {
        return Err(Problem::new(format!("there is no setting {key} ({origin})"), what_was_meant(key)));
    };
    known.parse(value).map(|_| ()).map_err(|error| {
        let next = match error {
            ConfigError::InvalidValue { reason, .. } => reason,
            other => other.to_string(),
        };
        Problem::new(format!("{key} ({origin}) cannot be \"{value}\""), next)
    })
}

/// The broker's keys without those that are the node's own or replaced.
fn accepted() -> impl Iterator<Item = &'static Key> + Clone {
    catalogue::broker_keys().iter().filter(|key| !is_replaced(key.name) && key.name != names::NODE_ID)
}

/// Whether the broker shows the key to tools, settable or not.
pub(crate) fn is_known(key: &str) -> bool {
    catalogue::broker_keys().iter().any(|known| known.name == key)
}

fn is_replaced(key: &str) -> bool {
    REPLACED.iter().any(|(replaced, _)| *replaced == key)
}

fn what_was_meant(key: &str) -> String {
    let of_topics = catalogue::topic_keys().iter().find(|topic_key| topic_key.name == key);
    if let Some(synonym) = of_topics.and_then(|topic_key| topic_key.synonyms.first()) {
        return format!("it is a setting of topics; what all topics of a broker start from is {}", synonym.name);
    }
    let flags = names::NODE_KEYS.iter().filter_map(|(_, flag)| *flag);
    let node_keys = names::NODE_KEYS.iter().map(|(key, _)| *key);
    let flag_names = flags.map(|flag| flag.trim_start_matches('-'));
    match nearest(key, keys().chain(node_keys).chain(flag_names)) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "Chronik takes Kafka's broker settings by their names in Kafka's documentation".to_owned(),
    }
}
