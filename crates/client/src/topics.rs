//! Creating and deleting topics.

use chronik_model::TopicId;
use chronik_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use chronik_wire::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use chronik_wire::{ApiKey, ErrorCode, Uuid};

use crate::client::{Client, Target};
use crate::error::ClientError;
use crate::metadata::is_unknown_topic;
use crate::retry::Retry;

/// A topic to create.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions; `None` leaves it to the broker.
    pub partitions: Option<i32>,
    /// Number of replicas; `None` leaves it to the broker.
    pub replication_factor: Option<i16>,
    /// Settings of the topic, by key.
    pub configs: Vec<(String, String)>,
}

impl Client {
    /// Creates a topic. When this returns, it can be written and read.
    pub async fn create_topic(&mut self, topic: &NewTopic) -> Result<TopicId, ClientError> {
        let mut retry = Retry::new(self.options.retry_max);
        let mut perhaps_done = false;
        loop {
            match self.create_topic_once(topic).await {
                // The answer to an earlier attempt got lost, and that attempt created it.
                Err(ClientError::Refused { code: ErrorCode::TopicAlreadyExists, .. }) if perhaps_done => {
                    return Ok(self.topic(&topic.name).await?.id);
                }
                Err(error) if error.retryable() && retry.pause().await => perhaps_done |= error.outcome_unknown(),
                done => return done,
            }
        }
    }

    async fn create_topic_once(&mut self, topic: &NewTopic) -> Result<TopicId, ClientError> {
        let configs = topic.configs.iter();
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: topic.name.clone(),
                num_partitions: topic.partitions.unwrap_or(-1),
                replication_factor: topic.replication_factor.unwrap_or(-1),
                assignments: Vec::new(),
                configs: configs
                    .map(|(name, value)| CreatableTopicConfig { name: name.clone(), value: Some(value.clone()) })
                    .collect(),
            }],
            timeout_ms: self.request_max_ms(),
            validate_only: false,
        };
        let response = self.send(Target::Controller, request).await?;
        let Some(answer) = response.topics.into_iter().next() else {
            return Err(self.missing(ApiKey::CreateTopics));
        };
        ClientError::check(answer.error_code, answer.error_message.as_deref(), || format!("topic {}", topic.name))?;
        self.forget_topic(&topic.name);
        Ok(TopicId(answer.topic_id))
    }

    /// Deletes a topic with its records.
    pub async fn delete_topic(&mut self, name: &str) -> Result<(), ClientError> {
        let mut retry = Retry::new(self.options.retry_max);
        let mut perhaps_done = false;
        loop {
            match self.delete_topic_once(name).await {
                Err(error) if is_unknown_topic(&error) && perhaps_done => return Ok(()),
                Err(error) if is_unknown_topic(&error) => return Err(ClientError::NoSuchTopic(name.to_owned())),
                Err(error) if error.retryable() && retry.pause().await => perhaps_done |= error.outcome_unknown(),
                done => return done,
            }
        }
    }

    async fn delete_topic_once(&mut self, name: &str) -> Result<(), ClientError> {
        let timeout_ms = self.request_max_ms();
        let by_name = |version| {
            if version >= 6 {
                let topics = vec![DeleteTopicState { name: Some(name.to_owned()), topic_id: Uuid::ZERO }];
                DeleteTopicsRequest { topics, timeout_ms, ..DeleteTopicsRequest::default() }
            } else {
                let topic_names = vec![name.to_owned()];
                DeleteTopicsRequest { topic_names, timeout_ms, ..DeleteTopicsRequest::default() }
            }
        };
        let response = self.send_as(Target::Controller, by_name).await?;
        let Some(answer) = response.responses.into_iter().next() else {
            return Err(self.missing(ApiKey::DeleteTopics));
        };
        self.forget_topic(name);
        ClientError::check(answer.error_code, answer.error_message.as_deref(), || format!("topic {name}"))
    }

    fn request_max_ms(&self) -> i32 {
        i32::try_from(self.options.request_max.as_millis()).unwrap_or(i32::MAX)
    }

    fn missing(&self, api: ApiKey) -> ClientError {
        match self.address(Target::Controller) {
            Ok(address) => ClientError::incomplete(&address, api, "the topic is missing"),
            Err(error) => error,
        }
    }
}
