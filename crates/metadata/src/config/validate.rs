//! Whether configurations can be taken: each value by itself, and all of a resource together.

use super::key::{Key, Kind};
use super::layers::Layers;
use super::value::{ConfigError, Value};
use super::{StaticConfig, client_metrics, find_key, group, key, topic};
use crate::image::{ConfigMap, Image, ResourceKind};

/// Whether the key exists for the kind of resource and takes the value.
///
/// # Errors
/// It does not.
pub fn validate(kind: ResourceKind, name: &str, value: &str) -> Result<(), ConfigError> {
    let unknown = || ConfigError::UnknownKey { resource: kind.word(), name: name.to_owned() };
    find_key(kind, name).ok_or_else(unknown)?.parse(value).map(|_| ())
}

/// Whether a topic can have all of these, with the broker's values for what is not among them.
pub(crate) fn validate_topic(configs: &ConfigMap, image: &Image, fixed: &StaticConfig) -> Result<(), ConfigError> {
    // All names first: a mistyped key is reported before a bad value, as Kafka does.
    for name in configs.keys() {
        if key::find(topic::KEYS, name).is_none() {
            return Err(ConfigError::UnknownKey { resource: "topic", name: name.clone() });
        }
    }
    for (name, value) in configs {
        validate(ResourceKind::Topic, name, value)?;
    }
    let layers = Layers::new(image, fixed);
    let (smaller, larger) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
    let number = |name: &str| integer(&layers, configs, key::find(topic::KEYS, name));
    if let (Some(smaller_value), Some(larger_value)) = (number(smaller), number(larger))
        && smaller_value > larger_value
    {
        return Err(ConfigError::Conflict { smaller, smaller_value, larger, larger_value });
    }
    let tiered = configs.get("remote.storage.enable").is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
    if tiered { Err(ConfigError::TieredStorageDisabled) } else { Ok(()) }
}

/// Whether a group can have all of these within the broker's bounds.
pub(crate) fn validate_group(configs: &ConfigMap, image: &Image, fixed: &StaticConfig) -> Result<(), ConfigError> {
    for name in configs.keys() {
        if key::find(group::KEYS, name).is_none() {
            return Err(ConfigError::UnknownKey { resource: "group", name: name.clone() });
        }
    }
    for (name, value) in configs {
        validate(ResourceKind::Group, name, value)?;
    }
    let layers = Layers::new(image, fixed);
    let of_group = |name: &str| {
        // Only what the group sets itself is held against the bounds.
        configs.contains_key(name).then(|| integer(&layers, configs, key::find(group::KEYS, name))).flatten()
    };
    let of_broker = |name: &str| match find_key(ResourceKind::Broker, name).and_then(|key| layers.broker(key)) {
        Some(Value::Integer(number)) => Some(number),
        _ => None,
    };
    for &(name, least, most) in group::BOUNDS {
        let Some(value) = of_group(name) else { continue };
        if of_broker(least).is_some_and(|bound| value < bound) {
            return Err(ConfigError::OutsideBound { name, relation: "greater than or equal to", bound: least });
        }
        if of_broker(most).is_some_and(|bound| value > bound) {
            return Err(ConfigError::OutsideBound { name, relation: "less than or equal to", bound: most });
        }
    }
    for &(session, heartbeat) in group::SESSIONS {
        let effective = |name: &str| integer(&layers, configs, key::find(group::KEYS, name));
        if let (Some(timeout), Some(interval)) = (effective(session), effective(heartbeat))
            && timeout <= interval
        {
            return Err(ConfigError::OutsideBound { name: session, relation: "greater than", bound: heartbeat });
        }
    }
    Ok(())
}

/// Whether a client metrics subscription can have all of these.
pub(crate) fn validate_client_metrics(configs: &ConfigMap) -> Result<(), ConfigError> {
    for (name, text) in configs {
        let unknown = || ConfigError::UnknownClientMetricsKey { name: name.clone() };
        let key = key::find(client_metrics::KEYS, name).ok_or_else(unknown)?;
        match (key.kind, key.parse(text)?) {
            (Kind::Int, Value::Integer(value)) if !(100..=3_600_000).contains(&value) => {
                return Err(ConfigError::MetricsInterval { value });
            }
            (Kind::List, Value::List(patterns)) if key.name == "match" => {
                for pattern in patterns {
                    if !is_client_pattern(&pattern) {
                        return Err(ConfigError::ClientPattern { pattern });
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn integer(layers: &Layers<'_>, configs: &ConfigMap, key: Option<&'static Key>) -> Option<i64> {
    match layers.value(configs, key?) {
        Some(Value::Integer(number)) => Some(number),
        _ => None,
    }
}

/// `name=pattern` with a name that a client has and a pattern whose brackets close.
fn is_client_pattern(text: &str) -> bool {
    let Some((name, pattern)) = text.split_once('=') else {
        return false;
    };
    let known = client_metrics::MATCHABLE.contains(&name.trim());
    known && !pattern.trim().is_empty() && !pattern.contains('=') && brackets_close(pattern.trim())
}

fn brackets_close(pattern: &str) -> bool {
    let mut open = 0_u32;
    let mut in_class = false;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            // An escape stands before a character.
            '\\' if characters.next().is_none() => return false,
            '\\' => {}
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => open += 1,
            ')' if !in_class => match open.checked_sub(1) {
                Some(left) => open = left,
                None => return false,
            },
            _ => {}
        }
    }
    open == 0 && !in_class
}
