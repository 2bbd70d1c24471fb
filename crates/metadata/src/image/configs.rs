//! What has been configured through the protocol, by resource.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use super::map::Map;

/// The kinds of things that can be configured, by their codes in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// A topic.
    Topic,
    /// A broker; the empty name is the default of all brokers.
    Broker,
    /// The log levels of a broker; never stored.
    BrokerLogger,
    /// A client metrics subscription.
    ClientMetrics,
    /// A group.
    Group,
}

impl ResourceKind {
    /// The kind of a code in the protocol.
    pub const fn from_code(code: i8) -> Option<Self> {
        match code {
            2 => Some(Self::Topic),
            4 => Some(Self::Broker),
            8 => Some(Self::BrokerLogger),
            16 => Some(Self::ClientMetrics),
            32 => Some(Self::Group),
            _ => None,
        }
    }

    /// The code in the protocol.
    pub const fn code(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::BrokerLogger => 8,
            Self::ClientMetrics => 16,
            Self::Group => 32,
        }
    }

    /// What messages call it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Broker => "broker",
            Self::BrokerLogger => "broker logger",
            Self::ClientMetrics => "client metrics",
            Self::Group => "group",
        }
    }
}

/// Something that can be configured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigResource {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its name: topic, broker number, subscription, group.
    pub name: Arc<str>,
}

impl ConfigResource {
    /// A resource of a kind.
    pub fn new(kind: ResourceKind, name: impl Into<Arc<str>>) -> Self {
        Self { kind, name: name.into() }
    }

    /// A topic.
    pub fn topic(name: impl Into<Arc<str>>) -> Self {
        Self::new(ResourceKind::Topic, name)
    }

    /// One broker.
    pub fn broker(node_id: chronik_model::NodeId) -> Self {
        Self::new(ResourceKind::Broker, node_id.to_string())
    }

    /// The default of all brokers.
    pub fn default_broker() -> Self {
        Self::new(ResourceKind::Broker, "")
    }

    /// A group.
    pub fn group(name: impl Into<Arc<str>>) -> Self {
        Self::new(ResourceKind::Group, name)
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}'", self.kind.word(), self.name)
    }
}

/// Keys and values of one resource, as they were given.
pub type ConfigMap = BTreeMap<String, String>;

static NOTHING: LazyLock<ConfigMap> = LazyLock::new(ConfigMap::new);

/// Resources with at least one key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Configs {
    by_resource: Map<ConfigResource, Arc<ConfigMap>>,
}

impl Configs {
    pub(crate) fn get(&self, resource: &ConfigResource) -> &ConfigMap {
        self.by_resource.get(resource).map_or(&*NOTHING, |configs| configs)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ConfigResource, &ConfigMap)> {
        self.by_resource.iter().map(|(resource, configs)| (resource, &**configs))
    }

    pub(crate) fn replace(&mut self, resource: ConfigResource, configs: ConfigMap) {
        if configs.is_empty() {
            self.by_resource.remove(&resource);
        } else {
            self.by_resource.insert(resource, Arc::new(configs));
        }
    }

    /// Sets or takes back one key; tells whether anything is different.
    pub(crate) fn change(&mut self, resource: &ConfigResource, key: &str, value: Option<&str>) -> bool {
        let before = self.get(resource);
        if before.get(key).map(String::as_str) == value {
            return false;
        }
        let mut configs = before.clone();
        match value {
            Some(value) => configs.insert(key.to_owned(), value.to_owned()),
            None => configs.remove(key),
        };
        self.replace(resource.clone(), configs);
        true
    }
}
