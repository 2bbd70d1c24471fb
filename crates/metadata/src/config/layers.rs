//! The layers that a value is looked up in, and the order of looking.

use super::StaticConfig;
use super::broker;
use super::describe::ConfigSource;
use super::key::{self, Key};
use super::value::Value;
use crate::image::{ConfigMap, ConfigResource, Image};

/// The layers below a topic's or a group's own configuration, the winning one first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layers<'a> {
    own: &'a ConfigMap,
    all_brokers: &'a ConfigMap,
    started_with: &'a StaticConfig,
}

impl<'a> Layers<'a> {
    pub(super) fn new(image: &'a Image, started_with: &'a StaticConfig) -> Self {
        Self {
            own: image.configs(&ConfigResource::broker(started_with.node_id())),
            all_brokers: image.configs(&ConfigResource::default_broker()),
            started_with,
        }
    }

    /// What the layers say about a broker key, the winning one first, its default last.
    pub(super) fn of(&self, key: &Key) -> impl Iterator<Item = (ConfigSource, &'a str)> {
        let (own, all, started) = (self.own, self.all_brokers, self.started_with);
        [
            (ConfigSource::DynamicBroker, own.get(key.name).map(String::as_str)),
            (ConfigSource::DynamicDefaultBroker, all.get(key.name).map(String::as_str)),
            (ConfigSource::StaticBroker, started.get(key.name)),
            (ConfigSource::Default, key.default),
        ]
        .into_iter()
        .filter_map(|(source, text)| text.map(|text| (source, text)))
    }

    /// The value that counts for a broker key. One that is not valid, as it can be after a key became stricter, is
    /// passed over.
    pub(super) fn broker(&self, key: &Key) -> Option<Value> {
        self.of(key).find_map(|(_, text)| key.parse(text).ok())
    }

    /// The value that counts for a topic's or group's key.
    pub(super) fn value(&self, overrides: &ConfigMap, key: &Key) -> Option<Value> {
        let own = overrides.get(key.name).and_then(|text| key.parse(text).ok());
        own.or_else(|| self.inherited(key)).or_else(|| key.default.and_then(|text| key.parse(text).ok()))
    }

    fn inherited(&self, key: &Key) -> Option<Value> {
        key.synonyms.iter().find_map(|synonym| {
            let value = self.broker(key::find(broker::KEYS, synonym.name)?)?;
            Some(match value {
                // A negative time is none, in whatever unit.
                Value::Integer(number) if synonym.factor != 1 || is_time(key) => {
                    Value::Integer(if number < 0 { -1 } else { number.saturating_mul(synonym.factor) })
                }
                other => other,
            })
        })
    }
}

fn is_time(key: &Key) -> bool {
    key.name == "retention.ms"
}

/// The names under which a broker key can be given, the first one set counts.
pub(super) fn family<'a>(name: &'a str, alone: &'a [&'a str; 1]) -> &'a [&'a str] {
    broker::FAMILIES.iter().find(|family| family.contains(&name)).map_or(alone.as_slice(), |family| family)
}
