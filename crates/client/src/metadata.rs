//! Brokers, topics and leaders, as a broker describes them.

use std::collections::{BTreeMap, HashMap};

use chronik_model::{LeaderEpoch, NodeId, PartitionIndex, TopicId};
use chronik_wire::messages::MetadataRequest;
use chronik_wire::messages::metadata_request::MetadataRequestTopic;
use chronik_wire::messages::metadata_response::{MetadataResponse, MetadataResponseBroker, MetadataResponseTopic};
use chronik_wire::{ErrorCode, Uuid};

use crate::client::{Client, Target};
use crate::error::ClientError;
use crate::retry::Retry;

/// Topics remembered; past that the memory starts anew.
const TOPICS_MAX: usize = 10_000;

/// Longest time to wait for a topic that asking for it creates.
const CREATION_MAX: std::time::Duration = std::time::Duration::from_secs(3);

/// What the client remembers of the cluster. It may be out of date; a broker that is asked for what it does not lead
/// says so, and the client looks again.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) addresses: HashMap<NodeId, String>,
    pub(crate) controller: Option<NodeId>,
    topics: HashMap<String, TopicInfo>,
}

/// A topic of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its id; zero where the broker has none.
    pub id: TopicId,
    /// Whether it belongs to the cluster itself.
    pub internal: bool,
    /// Its partitions by number.
    pub partitions: BTreeMap<PartitionIndex, PartitionInfo>,
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionInfo {
    /// The broker that leads it, if one does.
    pub leader: Option<NodeId>,
    /// The number of that leader.
    pub leader_epoch: LeaderEpoch,
    /// The brokers that keep it.
    pub replicas: Vec<NodeId>,
    /// Those of them that are in sync.
    pub isr: Vec<NodeId>,
}

impl Client {
    /// Describes one topic; never creates it.
    pub async fn topic(&mut self, name: &str) -> Result<TopicInfo, ClientError> {
        if let Some(known) = self.metadata.topics.get(name) {
            return Ok(known.clone());
        }
        self.look_up(name).await
    }

    /// Describes one topic, having the broker create it where it is missing and the broker creates topics on demand
    /// (`auto.create.topics.enable`).
    pub async fn topic_on_demand(&mut self, name: &str) -> Result<TopicInfo, ClientError> {
        let mut retry = Retry::new(self.options.retry_max.min(CREATION_MAX));
        loop {
            match self.topic(name).await {
                Err(ClientError::NoSuchTopic(_)) => {}
                described => return described,
            }
            self.ask_metadata(Some(name), true).await?;
            match self.topic(name).await {
                Err(ClientError::NoSuchTopic(_)) if retry.pause().await => {}
                described => return described,
            }
        }
    }

    /// The partitions of a topic by the broker that leads them, waiting a while for those that have no leader yet.
    pub async fn leaders(&mut self, topic: &str) -> Result<BTreeMap<NodeId, Vec<PartitionIndex>>, ClientError> {
        let mut retry = Retry::new(self.options.retry_max);
        loop {
            let info = self.topic(topic).await?;
            let mut leaders: BTreeMap<NodeId, Vec<PartitionIndex>> = BTreeMap::new();
            let mut leaderless = None;
            for (&index, partition) in &info.partitions {
                match partition.leader {
                    Some(node) => leaders.entry(node).or_default().push(index),
                    None => leaderless = Some(index),
                }
            }
            let Some(partition) = leaderless else { return Ok(leaders) };
            if !retry.pause().await {
                let subject = format!("partition {topic}-{partition}");
                return Err(ClientError::Refused { subject, code: ErrorCode::LeaderNotAvailable, message: None });
            }
            self.forget_topic(topic);
        }
    }

    /// Describes all topics by name.
    pub async fn all_topics(&mut self) -> Result<Vec<TopicInfo>, ClientError> {
        let response = self.ask_metadata(None, false).await?;
        let mut topics = Vec::with_capacity(response.topics.len());
        for topic in response.topics {
            topics.push(topic_info(topic, "")?);
        }
        topics.sort_by(|a: &TopicInfo, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Forgets what is known of a topic, so that the next use asks a broker.
    pub fn forget_topic(&mut self, name: &str) {
        self.metadata.topics.remove(name);
    }

    /// Where requests for a partition go, looking at the metadata where that is not known.
    pub(crate) async fn leader(&mut self, topic: &str, partition: PartitionIndex) -> Result<Leader, ClientError> {
        let info = self.topic(topic).await?;
        let subject = || format!("partition {topic}-{partition}");
        let Some(found) = info.partitions.get(&partition) else {
            let message = Some(format!("the topic has {} partitions, counted from 0", info.partitions.len()));
            // Partitions are only ever added, and the description is of this moment: asking again would not help.
            return Err(ClientError::Refused { subject: subject(), code: ErrorCode::InvalidPartitions, message });
        };
        match found.leader {
            Some(node) => Ok(Leader { node, epoch: found.leader_epoch, topic_id: info.id }),
            None => {
                Err(ClientError::Refused { subject: subject(), code: ErrorCode::LeaderNotAvailable, message: None })
            }
        }
    }

    async fn look_up(&mut self, name: &str) -> Result<TopicInfo, ClientError> {
        let mut retry = Retry::new(self.options.retry_max);
        loop {
            let looked_up = match self.ask_metadata(Some(name), false).await {
                Ok(response) => match response.topics.into_iter().find(|topic| topic.name.as_deref() == Some(name)) {
                    Some(topic) => topic_info(topic, name),
                    None => {
                        let address = self.address(Target::Bootstrap)?;
                        Err(ClientError::incomplete(&address, chronik_wire::ApiKey::Metadata, "the topic is missing"))
                    }
                },
                Err(error) => Err(error),
            };
            match looked_up {
                Ok(info) => {
                    if self.metadata.topics.len() >= TOPICS_MAX {
                        self.metadata.topics.clear();
                    }
                    self.metadata.topics.insert(name.to_owned(), info.clone());
                    return Ok(info);
                }
                // The code is retriable for clients that create topics by asking for them; this one does not.
                Err(error) if is_unknown_topic(&error) => return Err(ClientError::NoSuchTopic(name.to_owned())),
                Err(error) if error.retryable() && retry.pause().await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks for one topic, or for all, and remembers the brokers.
    async fn ask_metadata(&mut self, topic: Option<&str>, create: bool) -> Result<MetadataResponse, ClientError> {
        let topics = topic.map(|name| vec![MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some(name.to_owned()) }]);
        let request = MetadataRequest { topics, allow_auto_topic_creation: create, ..MetadataRequest::default() };
        let response = self.send(Target::Bootstrap, request).await?;
        ClientError::check(response.error_code, None, || "metadata".to_owned())?;
        let controller = NodeId::new(response.controller_id);
        self.metadata.controller = (controller != NodeId::NONE).then_some(controller);
        self.metadata.addresses =
            response.brokers.iter().map(|broker| (NodeId::new(broker.node_id), broker_address(broker))).collect();
        Ok(response)
    }
}

/// The leader of a partition, and what requests to it carry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leader {
    pub(crate) node: NodeId,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) topic_id: TopicId,
}

pub(crate) fn is_unknown_topic(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { code: ErrorCode::UnknownTopicOrPartition, .. })
}

fn broker_address(broker: &MetadataResponseBroker) -> String {
    if broker.host.contains(':') {
        format!("[{}]:{}", broker.host, broker.port)
    } else {
        format!("{}:{}", broker.host, broker.port)
    }
}

fn topic_info(topic: MetadataResponseTopic, asked_for: &str) -> Result<TopicInfo, ClientError> {
    let name = topic.name.unwrap_or_else(|| asked_for.to_owned());
    ClientError::check(topic.error_code, None, || format!("topic {name}"))?;
    let nodes = |ids: Vec<i32>| ids.into_iter().map(NodeId::new).collect();
    let partitions = topic
        .partitions
        .into_iter()
        .map(|partition| {
            let leader = NodeId::new(partition.leader_id);
            let info = PartitionInfo {
                leader: (leader != NodeId::NONE).then_some(leader),
                leader_epoch: LeaderEpoch::new(partition.leader_epoch),
                replicas: nodes(partition.replica_nodes),
                isr: nodes(partition.isr_nodes),
            };
            (PartitionIndex::new(partition.partition_index), info)
        })
        .collect();
    Ok(TopicInfo { name, id: TopicId(topic.topic_id), internal: topic.is_internal, partitions })
}
