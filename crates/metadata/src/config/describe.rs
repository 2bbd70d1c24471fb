//! Answers what DescribeConfigs asks: every key of a resource, its value, and where the value comes from.

use super::key::{self, Key};
use super::layers::{self, Layers};
use super::{StaticConfig, broker, client_metrics, group, topic};
use crate::image::{ConfigMap, ConfigResource, Image, ResourceKind};
use crate::rules::{RequestError, RuleError, validate_topic_name};

/// Where a value comes from, by its code in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set for the topic.
    Topic,
    /// Set for the broker while it runs.
    DynamicBroker,
    /// Set for all brokers while they run.
    DynamicDefaultBroker,
    /// What the node was started with.
    StaticBroker,
    /// Nobody set it.
    Default,
    /// Set for the subscription.
    ClientMetrics,
    /// Set for the group.
    Group,
}

impl ConfigSource {
    /// The code in the protocol.
    pub const fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicDefaultBroker => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
            Self::ClientMetrics => 7,
            Self::Group => 8,
        }
    }
}

/// One key of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConfig {
    /// The key.
    pub name: &'static str,
    /// Its value; `None` where there is none or it is a secret.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether nobody set it.
    pub is_default: bool,
    /// Whether it cannot be changed while the broker runs.
    pub read_only: bool,
    /// Whether its value is a secret.
    pub sensitive: bool,
    /// Everything that was given for it, the value that counts first.
    pub synonyms: Vec<DescribedSynonym>,
    /// Its type.
    pub kind: key::Kind,
    /// What it does.
    pub documentation: &'static str,
}

/// A value given for a key, under this or another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedSynonym {
    /// The name.
    pub name: &'static str,
    /// The value; `None` where it is a secret.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: ConfigSource,
}

/// Every key of a resource that is there, by name.
///
/// # Errors
/// There is no such resource, or it cannot be asked for here.
pub fn describe(
    resource: &ConfigResource,
    image: &Image,
    fixed: &StaticConfig,
) -> Result<Vec<DescribedConfig>, RuleError> {
    let own = image.configs(resource);
    let layers = Layers::new(image, fixed);
    match resource.kind {
        ResourceKind::Topic => {
            validate_topic_name(&resource.name)?;
            if image.topic(&resource.name).is_none() {
                return Err(RuleError::UnknownTopic);
            }
            Ok(topic_configs(own, &layers))
        }
        ResourceKind::Broker if resource.name.is_empty() => Ok(own
            .keys()
            .filter_map(|name| key::find(broker::KEYS, name))
            .map(|key| broker_config(key, &layers, Some(ConfigSource::DynamicDefaultBroker)))
            .collect()),
        ResourceKind::Broker => {
            own_number(&resource.name, fixed, true)?;
            let shown = broker::KEYS.iter().filter(|key| !key.internal);
            Ok(shown.map(|key| broker_config(key, &layers, None)).collect())
        }
        // The levels of log lines are set at the start; there are no loggers to be changed one by one.
        ResourceKind::BrokerLogger => {
            own_number(&resource.name, fixed, false)?;
            Ok(Vec::new())
        }
        ResourceKind::Group if resource.name.is_empty() => Err(RequestError::EmptyGroupName.into()),
        ResourceKind::Group => Ok(group::KEYS.iter().map(|key| group_config(key, own, &layers)).collect()),
        ResourceKind::ClientMetrics if resource.name.is_empty() => Err(RequestError::EmptySubscriptionName.into()),
        ResourceKind::ClientMetrics => Ok(client_metrics::KEYS
            .iter()
            .map(|key| {
                let source =
                    if own.contains_key(key.name) { ConfigSource::ClientMetrics } else { ConfigSource::Default };
                let text = own.get(key.name).map(String::as_str).or(key.default);
                described(key, text.map(str::to_owned), source, false, Vec::new())
            })
            .collect()),
    }
}

/// What a topic with these overrides would have, as CreateTopics tells.
pub fn effective_topic_configs(overrides: &ConfigMap, image: &Image, fixed: &StaticConfig) -> Vec<DescribedConfig> {
    topic_configs(overrides, &Layers::new(image, fixed))
}

fn own_number(name: &str, fixed: &StaticConfig, or_empty: bool) -> Result<(), RequestError> {
    if name.is_empty() {
        return Err(RequestError::EmptyBrokerId);
    }
    let received = || name.to_owned();
    let id: i32 = name.parse().map_err(|_| RequestError::BrokerIdNotAnInteger { received: received() })?;
    if id == fixed.node_id().get() {
        return Ok(());
    }
    let expected = fixed.node_id();
    Err(RequestError::OtherBroker { expected, or_empty, received: received() })
}

fn topic_configs(overrides: &ConfigMap, layers: &Layers<'_>) -> Vec<DescribedConfig> {
    let shown = topic::KEYS.iter().filter(|key| !key.internal || overrides.contains_key(key.name));
    shown
        .map(|key| {
            let value = shown_value(key, overrides, layers);
            let mut synonyms = key.synonyms.first().map_or_else(Vec::new, |first| of_broker(first.name, layers));
            if overrides.contains_key(key.name) {
                synonyms.insert(0, synonym(key, value.clone(), ConfigSource::Topic));
            }
            let source = synonyms.first().map_or(ConfigSource::Default, |first| first.source);
            described(key, value, source, false, synonyms)
        })
        .collect()
}

fn group_config(key: &'static Key, own: &ConfigMap, layers: &Layers<'_>) -> DescribedConfig {
    let value = shown_value(key, own, layers);
    let mut synonyms = match key.synonyms.first() {
        Some(first) => of_broker(first.name, layers),
        None => vec![synonym(key, key.default.map(str::to_owned), ConfigSource::Default)],
    };
    if own.contains_key(key.name) {
        synonyms.insert(0, synonym(key, value.clone(), ConfigSource::Group));
    }
    let source = synonyms.first().map_or(ConfigSource::Default, |first| first.source);
    described(key, value, source, false, synonyms)
}

fn broker_config(key: &'static Key, layers: &Layers<'_>, only: Option<ConfigSource>) -> DescribedConfig {
    let mut synonyms = of_broker(key.name, layers);
    let value = match only {
        Some(source) => {
            synonyms.retain(|synonym| synonym.source == source);
            synonyms.first().and_then(|synonym| synonym.value.clone())
        }
        None => layers.broker(key).map(|value| value.text()).filter(|_| !key.sensitive()),
    };
    let source = synonyms.first().map_or(ConfigSource::Default, |first| first.source);
    described(key, value, source, key.read_only(), synonyms)
}

fn shown_value(key: &Key, overrides: &ConfigMap, layers: &Layers<'_>) -> Option<String> {
    layers.value(overrides, key).map(|value| value.text()).filter(|_| !key.sensitive())
}

/// What was given for a broker key under any of its names: layer by layer, in each the names in their order, from the
/// first one under the name asked for. What stands before it counts for the value, but is not told; Kafka has it so.
fn of_broker(name: &'static str, layers: &Layers<'_>) -> Vec<DescribedSynonym> {
    const ORDER: [ConfigSource; 4] = [
        ConfigSource::DynamicBroker,
        ConfigSource::DynamicDefaultBroker,
        ConfigSource::StaticBroker,
        ConfigSource::Default,
    ];
    let alone = [name];
    let keys: Vec<&'static Key> =
        layers::family(name, &alone).iter().filter_map(|name| key::find(broker::KEYS, name)).collect();
    let mut found = Vec::new();
    for source in ORDER {
        for key in &keys {
            let given = layers.of(key).filter(|(given, _)| *given == source);
            found.extend(given.map(|(_, text)| synonym(key, Some(text.to_owned()), source)));
        }
    }
    let skip = found.iter().position(|synonym| synonym.name == name).unwrap_or(found.len());
    found.split_off(skip)
}

fn synonym(key: &'static Key, value: Option<String>, source: ConfigSource) -> DescribedSynonym {
    DescribedSynonym { name: key.name, value: value.filter(|_| !key.sensitive()), source }
}

fn described(
    key: &'static Key,
    value: Option<String>,
    source: ConfigSource,
    read_only: bool,
    synonyms: Vec<DescribedSynonym>,
) -> DescribedConfig {
    DescribedConfig {
        name: key.name,
        value,
        source,
        is_default: source == ConfigSource::Default,
        read_only,
        sensitive: key.sensitive(),
        synonyms,
        kind: key.kind,
        documentation: key.doc,
    }
}
