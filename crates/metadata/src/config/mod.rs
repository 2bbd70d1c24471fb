//! Configuration: which keys there are, what they mean, and which value counts where several are given.
//!
//! A value of a topic wins over what was set for the broker, that over the default set for all brokers, that over what
//! the node was started with, and that over the key's default. Where a key can be set under several names, the names'
//! order decides first.

mod broker;
mod client_metrics;
mod describe;
mod group;
mod key;
mod layers;
mod reference;
mod settings;
mod suggest;
mod topic;
mod validate;
mod value;

use std::collections::BTreeMap;

use chronik_model::NodeId;

pub use self::describe::{ConfigSource, DescribedConfig, DescribedSynonym, describe, effective_topic_configs};
pub use self::key::{Dynamic, Importance, Key, Kind, Synonym, Valid};
pub use self::reference::reference_page;
pub use self::settings::{BrokerSettings, CompressionType, Durability, GroupSettings, TimestampType, TopicSettings};
pub use self::suggest::suggestion;
pub use self::validate::validate;
pub(crate) use self::validate::{validate_client_metrics, validate_group, validate_topic};
pub use self::value::{ConfigError, Value};
use crate::image::ResourceKind;

/// The keys of a topic, by name.
pub fn topic_keys() -> &'static [Key] {
    topic::KEYS
}

/// The keys of a broker, by name.
pub fn broker_keys() -> &'static [Key] {
    broker::KEYS
}

/// The keys of a group, by name.
pub fn group_keys() -> &'static [Key] {
    group::KEYS
}

/// The keys of a client metrics subscription, by name.
pub fn client_metrics_keys() -> &'static [Key] {
    client_metrics::KEYS
}

/// The key of that name for a kind of resource.
pub fn find_key(kind: ResourceKind, name: &str) -> Option<&'static Key> {
    match kind {
        ResourceKind::Topic => key::find(topic::KEYS, name),
        ResourceKind::Broker => key::find(broker::KEYS, name),
        ResourceKind::Group => key::find(group::KEYS, name),
        ResourceKind::ClientMetrics => key::find(client_metrics::KEYS, name),
        ResourceKind::BrokerLogger => None,
    }
}

/// What the node was started with: the broker's keys that somebody gave in the file, the environment or as flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticConfig {
    node_id: NodeId,
    values: BTreeMap<String, String>,
}

impl StaticConfig {
    /// Checks and keeps the values given. The node's number is added under `node.id` and `broker.id`.
    ///
    /// # Errors
    /// A key is not known or a value is not valid.
    pub fn new(node_id: NodeId, mut values: BTreeMap<String, String>) -> Result<Self, ConfigError> {
        for (name, value) in &values {
            validate(ResourceKind::Broker, name, value)?;
        }
        for name in ["node.id", "broker.id"] {
            values.insert(name.to_owned(), node_id.to_string());
        }
        Ok(Self { node_id, values })
    }

    /// The node's number.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The value given for a key.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_defaults_are_valid() {
        for table in [topic::KEYS, broker::KEYS, group::KEYS, client_metrics::KEYS] {
            for pair in table.windows(2) {
                assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
            }
            for key in table {
                if let Some(default) = key.default {
                    assert_eq!(key.parse(default).unwrap().text(), default, "{}", key.name);
                }
                assert!(key.doc.ends_with('.'), "{}", key.name);
                for synonym in key.synonyms {
                    let broker = key::find(broker::KEYS, synonym.name).unwrap();
                    let same_default = synonym.factor != 1 || broker.default.is_none() || broker.default == key.default;
                    assert!(same_default, "{} and {}", key.name, synonym.name);
                }
            }
        }
        for name in broker::FAMILIES.iter().flat_map(|family| family.iter()) {
            assert!(key::find(broker::KEYS, name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_node_cannot_be_started_with_what_is_not_valid() {
        let with = |name: &str, value: &str| {
            StaticConfig::new(NodeId::new(4), BTreeMap::from([(name.to_owned(), value.to_owned())]))
        };
        assert_eq!(with("num.partitions", "3").unwrap().get("broker.id"), Some("4"));
        assert_eq!(
            with("num.partitions", "0").unwrap_err().to_string(),
            "Invalid value 0 for configuration num.partitions: Value must be at least 1"
        );
        assert_eq!(with("num.partition", "1").unwrap_err().to_string(), "Unknown broker config name: num.partition");
    }
}
