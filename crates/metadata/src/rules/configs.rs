//! Changes configurations. Of one resource either everything is taken or nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::Decision;
use super::error::{InvalidConfig, RequestError, RuleError};
use super::topic_name::validate_topic_name;
use crate::command::{AlteredConfigs, ConfigAlteration, ConfigOperation, Configs, Operation, Outcome, ReplacedConfigs};
use crate::config::{
    ConfigError, Kind, StaticConfig, find_key, validate, validate_client_metrics, validate_group, validate_topic,
};
use crate::image::{ConfigResource, Image, ResourceKind};
use crate::record::Record;

/// IncrementalAlterConfigs.
pub(super) fn alter(image: &Image, resources: Vec<ConfigAlteration>, fixed: &StaticConfig) -> Decision {
    let twice = named_twice(resources.iter().map(|asked| &asked.resource));
    let mut records = Vec::new();
    let mut results = Vec::new();
    for ConfigAlteration { resource, operations } in resources {
        let result = if twice.contains(&resource) {
            Err(RequestError::DuplicateResource.into())
        } else {
            altered(image, &resource, &operations, fixed)
        };
        let result = result.map(|configs| difference(image, &resource, &configs, &mut records));
        results.push(AlteredConfigs { resource, result });
    }
    Decision { records, outcome: Outcome::ConfigsAltered(results) }
}

/// AlterConfigs.
pub(super) fn replace(image: &Image, resources: Vec<ReplacedConfigs>, fixed: &StaticConfig) -> Decision {
    let twice = named_twice(resources.iter().map(|asked| &asked.resource));
    let mut records = Vec::new();
    let mut results = Vec::new();
    for ReplacedConfigs { resource, configs } in resources {
        let result = if twice.contains(&resource) {
            Err(RequestError::DuplicateResource.into())
        } else {
            replaced(image, &resource, configs, fixed)
        };
        let result = result.map(|configs| difference(image, &resource, &configs, &mut records));
        results.push(AlteredConfigs { resource, result });
    }
    Decision { records, outcome: Outcome::ConfigsAltered(results) }
}

fn named_twice<'a>(resources: impl Iterator<Item = &'a ConfigResource>) -> BTreeSet<ConfigResource> {
    let mut seen = BTreeSet::new();
    resources.filter(|resource| !seen.insert(*resource)).cloned().collect()
}

/// Records that make the resource's configuration the one given.
fn difference(image: &Image, resource: &ConfigResource, wanted: &Configs, records: &mut Vec<Record>) {
    let current = image.configs(resource);
    let mut record = |key: &str, value: Option<&str>| {
        records.push(Record::ConfigChanged {
            resource: resource.clone(),
            key: key.to_owned(),
            value: value.map(str::to_owned),
        });
    };
    for (key, value) in wanted {
        if current.get(key) != Some(value) {
            record(key, Some(value));
        }
    }
    for key in current.keys() {
        if !wanted.contains_key(key) {
            record(key, None);
        }
    }
}

fn altered(
    image: &Image,
    resource: &ConfigResource,
    operations: &[ConfigOperation],
    fixed: &StaticConfig,
) -> Result<Configs, RuleError> {
    let keys = operations.iter().map(|operation| &operation.key);
    check_request(
        keys,
        operations
            .iter()
            .filter(|operation| operation.operation != Operation::Delete && operation.value.is_none())
            .map(|operation| &operation.key),
    )?;
    check_kind(resource, fixed)?;
    let current = image.configs(resource);
    let mut configs = current.clone();
    for operation in operations {
        let value = operation.value.as_deref().unwrap_or_default();
        match operation.operation {
            Operation::Set => {
                configs.insert(operation.key.clone(), value.to_owned());
            }
            Operation::Delete => {
                configs.remove(&operation.key);
            }
            Operation::Append | Operation::Subtract => {
                let list = changed_list(resource, operation, value, &configs)?;
                configs.insert(operation.key.clone(), list);
            }
        }
    }
    check_configs(image, resource, &configs, fixed)?;
    Ok(configs)
}

fn replaced(
    image: &Image,
    resource: &ConfigResource,
    configs: Vec<(String, Option<String>)>,
    fixed: &StaticConfig,
) -> Result<Configs, RuleError> {
    let without_value = configs.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key);
    check_request(configs.iter().map(|(key, _)| key), without_value)?;
    check_kind(resource, fixed)?;
    let configs: Configs = configs.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect();
    check_configs(image, resource, &configs, fixed)?;
    Ok(configs)
}

fn check_request<'a>(
    keys: impl Iterator<Item = &'a String>,
    without_value: impl Iterator<Item = &'a String>,
) -> Result<(), RequestError> {
    let mut seen = BTreeSet::new();
    for key in keys {
        if !seen.insert(key) {
            return Err(RequestError::DuplicateKeys);
        }
    }
    let keys: Vec<String> = without_value.cloned().collect();
    if keys.is_empty() { Ok(()) } else { Err(RequestError::NullValues { keys }) }
}

fn check_kind(resource: &ConfigResource, fixed: &StaticConfig) -> Result<(), RequestError> {
    match resource.kind {
        ResourceKind::BrokerLogger => Err(RequestError::LogLevels),
        ResourceKind::Broker if !resource.name.is_empty() => {
            let received = || resource.name.to_string();
            let id: i32 =
                resource.name.parse().map_err(|_| RequestError::BrokerIdNotAnInteger { received: received() })?;
            let expected = fixed.node_id();
            if id == expected.get() && *resource.name == *expected.to_string() {
                Ok(())
            } else {
                Err(RequestError::OtherBroker { expected, or_empty: false, received: received() })
            }
        }
        _ => Ok(()),
    }
}

/// The list with parts added that are not in it, or with parts taken out; without a value of the resource's own the
/// key's default is what it begins with.
fn changed_list(
    resource: &ConfigResource,
    operation: &ConfigOperation,
    value: &str,
    configs: &BTreeMap<String, String>,
) -> Result<String, InvalidConfig> {
    let not_a_list = || InvalidConfig::NotAList { operation: operation.operation.name(), key: operation.key.clone() };
    let key = find_key(resource.kind, &operation.key).filter(|key| key.kind == Kind::List).ok_or_else(not_a_list)?;
    let current = configs.get(&operation.key).map(String::as_str).or(key.default).unwrap_or_default();
    let parts = |text: &str| {
        text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect::<Vec<_>>()
    };
    let mut list = parts(current);
    for part in parts(value) {
        match operation.operation {
            Operation::Subtract => list.retain(|present| *present != part),
            _ if list.contains(&part) => {}
            _ => list.push(part),
        }
    }
    Ok(list.join(","))
}

/// Whether the resource can have all of these.
fn check_configs(
    image: &Image,
    resource: &ConfigResource,
    configs: &Configs,
    fixed: &StaticConfig,
) -> Result<(), RuleError> {
    match resource.kind {
        ResourceKind::Topic => {
            if resource.name.is_empty() {
                return Err(RequestError::DefaultTopic.into());
            }
            validate_topic_name(&resource.name)?;
            validate_topic(configs, image, fixed)?;
            match image.topic(&resource.name) {
                Some(_) => Ok(()),
                None => Err(RuleError::UnknownConfigTopic { name: resource.name.to_string() }),
            }
        }
        ResourceKind::Broker => check_broker(configs),
        ResourceKind::Group if resource.name.is_empty() => Err(RequestError::DefaultGroup.into()),
        ResourceKind::Group => Ok(validate_group(configs, image, fixed)?),
        ResourceKind::ClientMetrics if resource.name.is_empty() => Err(RequestError::DefaultSubscription.into()),
        ResourceKind::ClientMetrics => Ok(validate_client_metrics(configs)?),
        ResourceKind::BrokerLogger => Err(RequestError::LogLevels.into()),
    }
}

/// A broker's keys must be known and changeable; what Kafka makes of a bad value is INVALID_REQUEST.
fn check_broker(configs: &Configs) -> Result<(), RuleError> {
    let mut read_only = Vec::new();
    for name in configs.keys() {
        match find_key(ResourceKind::Broker, name) {
            None => return Err(ConfigError::UnknownKey { resource: "broker", name: name.clone() }.into()),
            Some(key) if key.read_only() => read_only.push(name.clone()),
            Some(_) => {}
        }
    }
    if !read_only.is_empty() {
        return Err(RequestError::ReadOnly { keys: read_only }.into());
    }
    for (name, value) in configs {
        validate(ResourceKind::Broker, name, value).map_err(RequestError::Config)?;
    }
    Ok(())
}
