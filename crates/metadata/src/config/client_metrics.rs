//! The keys of a client metrics subscription (resource type 16, KIP-714).

use super::key::{Key, Kind, key};

/// By name.
pub(super) const KEYS: &[Key] = &[
    key(
        "interval.ms",
        Kind::Int,
        "300000",
        "How often clients of the subscription push their metrics, in milliseconds from 100 to one hour.",
    ),
    key(
        "match",
        Kind::List,
        "",
        "Which clients the subscription is for: `name=pattern` for client_id, client_instance_id, client_software_name, client_software_version, client_source_address and client_source_port.",
    ),
    key("metrics", Kind::List, "", "Prefixes of the metrics asked for; `*` is all."),
];

/// What a client can be recognised by.
pub(super) const MATCHABLE: &[&str] = &[
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];
