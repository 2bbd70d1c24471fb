//! CreateTopics 2 to 7, DeleteTopics 1 to 6, CreatePartitions 0 to 3, UnregisterBroker 0: the controller decides, and when it has answered
//! the partitions are there or gone.

use std::sync::Arc;

use chronik_metadata::{Command, ControllerError, CreatedTopic, NewPartitions, NewTopic, Outcome, RuleError, TopicRef};
use chronik_model::{NodeId, TopicId};
use chronik_wire::ErrorCode;
use chronik_wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use chronik_wire::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use chronik_wire::messages::delete_topics_response::DeletableTopicResult;
use chronik_wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, UnregisterBrokerRequest, UnregisterBrokerResponse,
};

use super::Call;
use crate::error_code;

/// What a request gets when nobody could decide on it.
pub(super) fn undecided(outcome: Result<Outcome, ControllerError>) -> (ErrorCode, String) {
    match outcome {
        Err(error) => (error_code::controller(&error), error.to_string()),
        Ok(other) => {
            tracing::error!(?other, "the controller answered another command");
            (ErrorCode::UnknownServerError, ErrorCode::UnknownServerError.message().to_owned())
        }
    }
}

fn refusal(result: Result<(), RuleError>) -> (i16, Option<String>) {
    match result {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(error) => (error_code::rule(&error).code(), Some(error.to_string())),
    }
}

fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId::new).collect()
}

pub(super) async fn create_topics(call: Arc<Call>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let topics: Vec<NewTopic> = request
        .topics
        .into_iter()
        .map(|topic| NewTopic {
            name: topic.name,
            num_partitions: topic.num_partitions,
            replication_factor: topic.replication_factor,
            assignments: topic
                .assignments
                .into_iter()
                .map(|assigned| (assigned.partition_index, nodes(&assigned.broker_ids)))
                .collect(),
            configs: topic.configs.into_iter().map(|config| (config.name, config.value)).collect(),
        })
        .collect();
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let validate_only = request.validate_only;
    let outcome = call.broker.controller.submit(Command::CreateTopics { topics, validate_only }).await;
    let topics = match outcome {
        Ok(Outcome::TopicsCreated(created)) => created
            .into_iter()
            .map(|creation| match creation.result {
                Ok(created) => created_row(creation.name, created, validate_only),
                Err(error) => refused_row(creation.name, error_code::rule(&error), error.to_string()),
            })
            .collect(),
        other => {
            let (code, message) = undecided(other);
            names.into_iter().map(|name| refused_row(name, code, message.clone())).collect()
        }
    };
    CreateTopicsResponse { topics, ..Default::default() }
}

fn created_row(name: String, created: CreatedTopic, validate_only: bool) -> CreatableTopicResult {
    let configs = created
        .configs
        .iter()
        .map(|config| CreatableTopicConfigs {
            name: config.name.to_owned(),
            value: config.value.clone(),
            read_only: config.read_only,
            config_source: config.source.code(),
            is_sensitive: config.sensitive,
        })
        .collect();
    CreatableTopicResult {
        name,
        // A topic that was only looked at has no id.
        topic_id: if validate_only { TopicId::ZERO.0 } else { created.id.0 },
        error_code: ErrorCode::None.code(),
        error_message: None,
        num_partitions: created.num_partitions,
        replication_factor: created.replication_factor,
        configs: Some(configs),
        ..Default::default()
    }
}

fn refused_row(name: String, code: ErrorCode, message: String) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: code.code(),
        error_message: Some(message),
        num_partitions: -1,
        replication_factor: -1,
        configs: Some(Vec::new()),
        ..Default::default()
    }
}

pub(super) async fn delete_topics(call: Arc<Call>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let topics: Vec<TopicRef> = if call.version() >= 6 {
        request.topics.into_iter().map(|topic| TopicRef { name: topic.name, id: TopicId(topic.topic_id) }).collect()
    } else {
        request.topic_names.into_iter().map(TopicRef::by_name).collect()
    };
    let asked = topics.clone();
    let outcome = call.broker.delete_topics(topics).await;
    // Versions before 6 have no place for a topic without a name.
    let name = |name: Option<String>| if call.version() < 6 { Some(name.unwrap_or_default()) } else { name };
    let responses = match outcome {
        Ok(Outcome::TopicsDeleted(deleted)) => deleted
            .into_iter()
            .map(|topic| {
                let (error_code, error_message) = refusal(topic.result);
                DeletableTopicResult { name: name(topic.name), topic_id: topic.id.0, error_code, error_message }
            })
            .collect(),
        other => {
            let (code, message) = undecided(other);
            asked
                .into_iter()
                .map(|topic| DeletableTopicResult {
                    name: name(topic.name),
                    topic_id: topic.id.0,
                    error_code: code.code(),
                    error_message: Some(message.clone()),
                })
                .collect()
        }
    };
    DeleteTopicsResponse { responses, ..Default::default() }
}

pub(super) async fn create_partitions(call: Arc<Call>, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let topics: Vec<NewPartitions> = request
        .topics
        .into_iter()
        .map(|topic| NewPartitions {
            name: topic.name,
            count: topic.count,
            assignments: topic
                .assignments
                .map(|assignments| assignments.iter().map(|assigned| nodes(&assigned.broker_ids)).collect()),
        })
        .collect();
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let command = Command::CreatePartitions { topics, validate_only: request.validate_only };
    let results = match call.broker.controller.submit(command).await {
        Ok(Outcome::PartitionsCreated(grown)) => grown
            .into_iter()
            .map(|topic| {
                // That a topic is not known needs no further words, as in Apache Kafka.
                let is_unknown = topic.result == Err(RuleError::UnknownTopic);
                let (error_code, error_message) = refusal(topic.result);
                let error_message = error_message.filter(|_| !is_unknown);
                CreatePartitionsTopicResult { name: topic.name, error_code, error_message }
            })
            .collect(),
        other => {
            let (code, message) = undecided(other);
            let row = |name| CreatePartitionsTopicResult {
                name,
                error_code: code.code(),
                error_message: Some(message.clone()),
            };
            names.into_iter().map(row).collect()
        }
    };
    CreatePartitionsResponse { results, ..Default::default() }
}

/// UnregisterBroker (KIP-185, KIP-500): a follower that does not come back is no replica of anything any more.
pub(super) async fn unregister_broker(call: Arc<Call>, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse {
    let command = Command::UnregisterBroker { node_id: NodeId::new(request.broker_id) };
    let (code, message) = match call.broker.controller.submit(command).await {
        Ok(Outcome::BrokerUnregistered(Ok(()))) => (ErrorCode::None, None),
        Ok(Outcome::BrokerUnregistered(Err(error))) => (error_code::registration(&error), Some(error.to_string())),
        other => {
            let (code, message) = undecided(other);
            (code, Some(message))
        }
    };
    UnregisterBrokerResponse { error_code: code.code(), error_message: message, ..Default::default() }
}
