//! The names a setting goes by: its key, its flag, its environment variable.
//!
//! Settings of the node itself are listed here; the broker's keys with their values belong to `kafka`. An environment
//! variable is the key in upper case with underscores for dots, without the leading `chronik.`, behind `CHRONIK_`.

pub(crate) const DATA_DIR: &str = "chronik.data.dir";
pub(crate) const LISTEN: &str = "chronik.listen";
pub(crate) const BIND: &str = "chronik.bind";
pub(crate) const KAFKA_PORT: &str = "chronik.kafka.port";
pub(crate) const ADVERTISE: &str = "chronik.advertise";
pub(crate) const ADVERTISED_ADDR: &str = "chronik.advertised.addr";
pub(crate) const ADVERTISED_PORT: &str = "chronik.advertised.port";
pub(crate) const HTTP: &str = "chronik.http";
pub(crate) const NODE_ID: &str = "node.id";
pub(crate) const LOG: &str = "chronik.log";
pub(crate) const FOLLOWERS: &str = "chronik.replication.followers";
pub(crate) const WAL_RECEIVER: &str = "chronik.wal.receiver.addr";
pub(crate) const REPLICATION_MODE: &str = "chronik.replication.mode";
pub(crate) const SECRET: &str = "chronik.replication.secret";
pub(crate) const SECRET_FILE: &str = "chronik.replication.secret.file";
pub(crate) const LINK_TLS_CERT: &str = "chronik.replication.tls.cert";
pub(crate) const LINK_TLS_KEY: &str = "chronik.replication.tls.key";
pub(crate) const LINK_TLS_CA: &str = "chronik.replication.tls.ca";
pub(crate) const TLS_CERT: &str = "chronik.tls.cert";
pub(crate) const TLS_KEY: &str = "chronik.tls.key";
pub(crate) const TLS_CLIENT_CA: &str = "chronik.tls.client.ca";
pub(crate) const TLS_CA: &str = "chronik.tls.ca";
pub(crate) const HEARTBEAT: &str = "replication.heartbeat.interval.ms";
pub(crate) const READY_LAG: &str = "chronik.replication.ready.lag.max.ms";

/// The variable that names the configuration file.
pub(crate) const CONFIG_VARIABLE: &str = "CHRONIK_CONFIG";
/// The variable that names the broker for the client commands.
pub(crate) const BOOTSTRAP_VARIABLE: &str = "CHRONIK_BOOTSTRAP";
/// The variables that name authorities, certificate and key for the client commands; a node has them too.
pub(crate) const TLS_VARIABLES: [&str; 3] = ["CHRONIK_TLS_CA", "CHRONIK_TLS_CERT", "CHRONIK_TLS_KEY"];

/// Keys of the node with the flag that gives them.
pub(crate) const NODE_KEYS: &[(&str, Option<&str>)] = &[
    (DATA_DIR, Some("--data-dir")),
    (LISTEN, Some("--listen")),
    (BIND, None),
    (KAFKA_PORT, None),
    (ADVERTISE, Some("--advertise")),
    (ADVERTISED_ADDR, None),
    (ADVERTISED_PORT, None),
    (HTTP, Some("--http")),
    (NODE_ID, Some("--node-id")),
    (LOG, None),
    (FOLLOWERS, Some("--replicate-to")),
    (WAL_RECEIVER, Some("--wal-receiver")),
    (REPLICATION_MODE, Some("--replication-mode")),
    (SECRET, None),
    (SECRET_FILE, None),
    (LINK_TLS_CERT, None),
    (LINK_TLS_KEY, None),
    (LINK_TLS_CA, None),
    (HEARTBEAT, None),
    (READY_LAG, None),
    (TLS_CERT, Some("--tls-cert")),
    (TLS_KEY, Some("--tls-key")),
    (TLS_CLIENT_CA, Some("--tls-client-ca")),
    (TLS_CA, None),
];

/// Variables with Chronik's prefix that are no settings of a node.
const OTHER_VARIABLES: &[&str] = &[CONFIG_VARIABLE, BOOTSTRAP_VARIABLE, "CHRONIK_BIN"];
/// The key a name in a file or after `--set` stands for: a flag's name without its dashes is understood too.
pub(crate) fn canonical(name: &str) -> &str {
    let is_flag = |flag: &str| flag.trim_start_matches('-').bytes().eq(name.bytes().map(dashed));
    NODE_KEYS.iter().find(|(_, flag)| flag.is_some_and(is_flag)).map_or(name, |(key, _)| key)
}

fn dashed(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte }
}

/// What every variable of Chronik begins with.
pub(crate) const VARIABLE_PREFIX: &str = "CHRONIK_";

/// The environment variable of a key.
pub(crate) fn variable(key: &str) -> String {
    let key = key.strip_prefix("chronik.").unwrap_or(key);
    format!("{VARIABLE_PREFIX}{}", key.to_ascii_uppercase().replace(['.', '-'], "_"))
}

/// Whether a variable with Chronik's prefix is meant for something else than a node's settings.
pub(crate) fn is_other_variable(variable: &str) -> bool {
    OTHER_VARIABLES.contains(&variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_node_are_the_documented_ones() {
        let variables: Vec<String> = NODE_KEYS.iter().map(|(key, _)| variable(key)).collect();
        assert_eq!(
            variables,
            [
                "CHRONIK_DATA_DIR",
                "CHRONIK_LISTEN",
                "CHRONIK_BIND",
                "CHRONIK_KAFKA_PORT",
                "CHRONIK_ADVERTISE",
                "CHRONIK_ADVERTISED_ADDR",
                "CHRONIK_ADVERTISED_PORT",
                "CHRONIK_HTTP",
                "CHRONIK_NODE_ID",
                "CHRONIK_LOG",
                "CHRONIK_REPLICATION_FOLLOWERS",
                "CHRONIK_WAL_RECEIVER_ADDR",
                "CHRONIK_REPLICATION_MODE",
                "CHRONIK_REPLICATION_SECRET",
                "CHRONIK_REPLICATION_SECRET_FILE",
                "CHRONIK_REPLICATION_TLS_CERT",
                "CHRONIK_REPLICATION_TLS_KEY",
                "CHRONIK_REPLICATION_TLS_CA",
                "CHRONIK_REPLICATION_HEARTBEAT_INTERVAL_MS",
                "CHRONIK_REPLICATION_READY_LAG_MAX_MS",
                "CHRONIK_TLS_CERT",
                "CHRONIK_TLS_KEY",
                "CHRONIK_TLS_CLIENT_CA",
                "CHRONIK_TLS_CA",
            ]
        );
        assert_eq!(variable("log.retention.ms"), "CHRONIK_LOG_RETENTION_MS");
    }

    #[test]
    fn flag_names_lead_to_their_keys_and_other_names_stay() {
        assert_eq!(canonical("data-dir"), DATA_DIR);
        assert_eq!(canonical("data_dir"), DATA_DIR);
        assert_eq!(canonical("http"), HTTP);
        assert_eq!(canonical("log.retention.ms"), "log.retention.ms");
    }
}
