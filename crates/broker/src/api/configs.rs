//! DescribeConfigs 1 to 4 (KIP-133, KIP-226, KIP-569), AlterConfigs 0 to 2, IncrementalAlterConfigs 0 to 1 (KIP-339),
//! ListConfigResources 0 to 1 (KIP-1000, KIP-1142).

use std::collections::BTreeSet;
use std::sync::Arc;

use chronik_metadata::config::{self, DescribedConfig};
use chronik_metadata::{
    Command, ConfigAlteration, ConfigOperation, ConfigResource, Operation, Outcome, ReplacedConfigs, RequestError,
    ResourceKind, RuleError,
};
use chronik_wire::ErrorCode;
use chronik_wire::messages::alter_configs_response::AlterConfigsResourceResponse as ReplacedRow;
use chronik_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use chronik_wire::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as AlteredRow;
use chronik_wire::messages::list_config_resources_response::ConfigResource as ResourceRow;
use chronik_wire::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, ListConfigResourcesRequest,
    ListConfigResourcesResponse,
};

use super::Call;
use super::admin::undecided;
use crate::error_code;

/// A resource by its wire names, with what became of it.
type Row = (i8, String, Result<(), (ErrorCode, String)>);

fn resource(code: i8, name: &str) -> Result<ConfigResource, RuleError> {
    let kind = ResourceKind::from_code(code).ok_or(RequestError::UnknownResourceType { code })?;
    Ok(ConfigResource::new(kind, name))
}

fn refused(error: &RuleError) -> (ErrorCode, String) {
    (error_code::rule(error), error.to_string())
}

pub(super) fn describe(call: &Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let image = call.broker.image();
    let fixed = call.broker.replicas.static_config();
    let results = request
        .resources
        .into_iter()
        .map(|asked| {
            let described = resource(asked.resource_type, &asked.resource_name)
                .and_then(|resource| config::describe(&resource, &image, fixed));
            let mut result = DescribeConfigsResult {
                resource_type: asked.resource_type,
                resource_name: asked.resource_name,
                ..Default::default()
            };
            match described {
                Ok(configs) => {
                    let wanted: Option<BTreeSet<String>> = asked.configuration_keys.map(BTreeSet::from_iter);
                    result.configs = configs
                        .into_iter()
                        .filter(|config| wanted.as_ref().is_none_or(|wanted| wanted.contains(config.name)))
                        .map(|config| described_row(config, request.include_synonyms, request.include_documentation))
                        .collect();
                }
                Err(error) => {
                    let (code, message) = refused(&error);
                    result.error_code = code.code();
                    // That a topic is not known needs no further words, as in Apache Kafka.
                    let is_unknown = code == ErrorCode::UnknownTopicOrPartition;
                    result.error_message = Some(if is_unknown { String::new() } else { message });
                }
            }
            result
        })
        .collect();
    DescribeConfigsResponse { results, ..Default::default() }
}

fn described_row(config: DescribedConfig, with_synonyms: bool, with_text: bool) -> DescribeConfigsResourceResult {
    let synonyms = if with_synonyms { config.synonyms } else { Vec::new() };
    DescribeConfigsResourceResult {
        name: config.name.to_owned(),
        value: config.value,
        read_only: config.read_only,
        config_source: config.source.code(),
        is_sensitive: config.sensitive,
        synonyms: synonyms
            .into_iter()
            .map(|synonym| DescribeConfigsSynonym {
                name: synonym.name.to_owned(),
                value: synonym.value,
                source: synonym.source.code(),
            })
            .collect(),
        config_type: config.kind.code(),
        documentation: with_text.then(|| config.documentation.to_owned()),
    }
}

pub(super) async fn incremental_alter(
    call: Arc<Call>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let validate_only = request.validate_only;
    let asked = request
        .resources
        .into_iter()
        .map(|asked| {
            let alteration = resource(asked.resource_type, &asked.resource_name).and_then(|resource| {
                let operations = asked
                    .configs
                    .into_iter()
                    .map(|config| {
                        let code = config.config_operation;
                        let operation = Operation::from_code(code).ok_or(RequestError::UnknownOperation { code })?;
                        Ok(ConfigOperation { key: config.name, operation, value: config.value })
                    })
                    .collect::<Result<Vec<_>, RuleError>>()?;
                Ok(ConfigAlteration { resource, operations })
            });
            (asked.resource_type, asked.resource_name, alteration)
        })
        .collect();
    let rows = change(&call, asked, |resources| Command::AlterConfigs { resources, validate_only }).await;
    let responses = rows
        .into_iter()
        .map(|(resource_type, resource_name, result)| {
            let (error_code, error_message) = on_the_wire(result);
            AlteredRow { error_code, error_message, resource_type, resource_name }
        })
        .collect();
    IncrementalAlterConfigsResponse { responses, ..Default::default() }
}

pub(super) async fn alter(call: Arc<Call>, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let validate_only = request.validate_only;
    let asked = request
        .resources
        .into_iter()
        .map(|asked| {
            let configs = asked.configs.into_iter().map(|config| (config.name, config.value)).collect();
            let replaced = resource(asked.resource_type, &asked.resource_name)
                .map(|resource| ReplacedConfigs { resource, configs });
            (asked.resource_type, asked.resource_name, replaced)
        })
        .collect();
    let rows = change(&call, asked, |resources| Command::ReplaceConfigs { resources, validate_only }).await;
    let responses = rows
        .into_iter()
        .map(|(resource_type, resource_name, result)| {
            let (error_code, error_message) = on_the_wire(result);
            ReplacedRow { error_code, error_message, resource_type, resource_name }
        })
        .collect();
    AlterConfigsResponse { responses, ..Default::default() }
}

fn on_the_wire(result: Result<(), (ErrorCode, String)>) -> (i16, Option<String>) {
    match result {
        Ok(()) => (ErrorCode::None.code(), None),
        Err((code, message)) => (code.code(), Some(message)),
    }
}

/// Submits what can be understood, and gives every resource its outcome in the order asked.
async fn change<T>(
    call: &Call,
    asked: Vec<(i8, String, Result<T, RuleError>)>,
    command: impl FnOnce(Vec<T>) -> Command,
) -> Vec<Row> {
    let mut understood = Vec::new();
    let rows: Vec<(i8, String, Option<RuleError>)> = asked
        .into_iter()
        .map(|(kind, name, parsed)| match parsed {
            Ok(resource) => {
                understood.push(resource);
                (kind, name, None)
            }
            Err(error) => (kind, name, Some(error)),
        })
        .collect();
    let outcome = if understood.is_empty() {
        Ok(Outcome::ConfigsAltered(Vec::new()))
    } else {
        call.broker.controller.submit(command(understood)).await
    };
    call.broker.settings_changed();
    let (mut altered, undecided) = match outcome {
        Ok(Outcome::ConfigsAltered(altered)) => (altered.into_iter(), None),
        other => (Vec::new().into_iter(), Some(undecided(other))),
    };
    rows.into_iter()
        .map(|(kind, name, refusal)| {
            let result = match (refusal, &undecided) {
                (Some(error), _) => Err(refused(&error)),
                (None, Some(undecided)) => Err(undecided.clone()),
                (None, None) => match altered.next() {
                    Some(altered) => altered.result.map_err(|error| refused(&error)),
                    None => Err((ErrorCode::UnknownServerError, "No outcome.".to_owned())),
                },
            };
            (kind, name, result)
        })
        .collect()
}

pub(super) fn list_resources(call: &Call, request: ListConfigResourcesRequest) -> ListConfigResourcesResponse {
    let image = call.broker.image();
    // Version 0 is ListClientMetricsResources.
    let kinds: Vec<i8> = match (call.version(), request.resource_types.is_empty()) {
        (0, _) => vec![ResourceKind::ClientMetrics.code()],
        (_, true) => [
            ResourceKind::Topic,
            ResourceKind::Broker,
            ResourceKind::BrokerLogger,
            ResourceKind::ClientMetrics,
            ResourceKind::Group,
        ]
        .map(ResourceKind::code)
        .to_vec(),
        (_, false) => request.resource_types,
    };
    let mut config_resources = Vec::new();
    for code in kinds {
        let Some(kind) = ResourceKind::from_code(code) else {
            return ListConfigResourcesResponse {
                error_code: ErrorCode::UnsupportedVersion.code(),
                ..Default::default()
            };
        };
        let names: Vec<String> = match kind {
            ResourceKind::Topic => image.topics().map(|topic| topic.name.to_string()).collect(),
            ResourceKind::Broker | ResourceKind::BrokerLogger => {
                image.brokers().keys().map(ToString::to_string).collect()
            }
            ResourceKind::ClientMetrics | ResourceKind::Group => {
                image.configured(kind).map(|resource| resource.name.to_string()).collect()
            }
        };
        config_resources
            .extend(names.into_iter().map(|resource_name| ResourceRow { resource_name, resource_type: code }));
    }
    ListConfigResourcesResponse { config_resources, ..Default::default() }
}
