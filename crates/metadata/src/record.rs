//! The facts that the metadata is made of, and their text in the journal.
//!
//! A record is JSON under a version. What this build does not know, a type, a field or a version, is an error and never
//! skipped: an image that lacks a fact is a wrong image.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_model::{Generation, LeaderEpoch, NodeId, TopicId, Uuid};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::image::{ConfigResource, Partition};
use crate::leader::ReplicationMode;

/// The version that records are written with.
pub const RECORD_VERSION: u16 = 1;

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// The cluster that the journal belongs to; its first record.
    Cluster {
        /// The cluster's id.
        #[serde(with = "as_text")]
        id: Uuid,
    },
    /// A broker came up, once more or for the first time.
    BrokerRegistered {
        /// Its number.
        #[serde(with = "as_node")]
        node_id: NodeId,
        /// Address that clients are told.
        host: String,
        /// Port that clients are told.
        port: u16,
        /// Its rack, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rack: Option<String>,
        /// Fences what an earlier run of the broker still says.
        broker_epoch: i64,
    },
    /// A topic was created.
    TopicCreated {
        /// Its id.
        #[serde(with = "as_topic_id")]
        id: TopicId,
        /// Its name.
        name: Arc<str>,
        /// Its partitions, from 0 on.
        partitions: Vec<Partition>,
        /// Its own configuration.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        configs: BTreeMap<String, String>,
    },
    /// A topic got more partitions.
    PartitionsAdded {
        /// The topic.
        #[serde(with = "as_topic_id")]
        id: TopicId,
        /// Number of the first one added.
        first: usize,
        /// The partitions added.
        partitions: Vec<Partition>,
    },
    /// A partition has other replicas in sync, or another leader.
    PartitionChanged {
        /// The topic.
        #[serde(with = "as_topic_id")]
        id: TopicId,
        /// The partition's number.
        index: usize,
        /// How it is now.
        partition: Partition,
    },
    /// A topic was removed; its files are still to be deleted.
    TopicRemoved {
        /// The topic.
        #[serde(with = "as_topic_id")]
        id: TopicId,
    },
    /// The files of a removed topic are gone.
    TopicFilesDeleted {
        /// The topic.
        #[serde(with = "as_topic_id")]
        id: TopicId,
    },
    /// Topic whose files are still to be deleted, as a snapshot has it.
    DeletionPending {
        /// The topic.
        #[serde(with = "as_topic_id")]
        id: TopicId,
        /// Its name.
        name: Arc<str>,
    },
    /// A configuration key was set or, with `None`, taken back.
    ConfigChanged {
        /// What is configured.
        resource: ConfigResource,
        /// The key.
        key: String,
        /// The value as it was given.
        value: Option<String>,
    },
    /// Producer ids below `next` have been handed out.
    ProducerIdsAllocated {
        /// The first producer id not handed out.
        next: i64,
    },
    /// A node leads every partition from now on, as the first of its replicas. Every other broker is fenced.
    Led {
        /// The generation, in which this record and those after it are written.
        #[serde(with = "as_generation")]
        generation: Generation,
        /// The node.
        #[serde(with = "as_node")]
        node_id: NodeId,
        /// The leader epoch of every partition.
        #[serde(with = "as_leader_epoch")]
        leader_epoch: LeaderEpoch,
        /// What acknowledgements wait for.
        mode: ReplicationMode,
        /// Whether the replicas in sync stay so; otherwise the node alone is.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keeps_isr: bool,
    },
    /// A broker is a replica of every partition from now on, in sync with none.
    ReplicaAdded {
        /// The broker.
        #[serde(with = "as_node")]
        node_id: NodeId,
    },
    /// A broker's connection is gone.
    BrokerFenced {
        /// The broker.
        #[serde(with = "as_node")]
        node_id: NodeId,
    },
    /// A broker is no more, and no replica of any partition.
    BrokerUnregistered {
        /// The broker.
        #[serde(with = "as_node")]
        node_id: NodeId,
    },
    /// Node ids below `next` are taken or were given to followers.
    NodeIdsAllocated {
        /// The first one to look at.
        #[serde(with = "as_node")]
        next: NodeId,
    },
}

/// A record in the journal cannot be understood.
#[derive(Debug, Error)]
pub enum RecordError {
    /// It is of a later format.
    #[error("metadata record has version {found}, this build knows up to {RECORD_VERSION}")]
    Version {
        /// The version found.
        found: u16,
    },
    /// It is not a record that this build knows.
    #[error("metadata record is not one this build knows: {0}")]
    Json(#[from] serde_json::Error),
}

#[derive(Serialize)]
struct Written<'a> {
    version: u16,
    record: &'a Record,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    version: u16,
    record: serde_json::Value,
}

impl Record {
    /// The record as it stands in the journal.
    ///
    /// # Errors
    /// None that can happen with these types; serialisation is fallible in general.
    pub fn to_json(&self) -> Result<Vec<u8>, RecordError> {
        Ok(serde_json::to_vec(&Written { version: RECORD_VERSION, record: self })?)
    }

    /// Reads a record of the journal.
    ///
    /// # Errors
    /// Version, type or a field is not known to this build, or the bytes are not JSON.
    pub fn from_json(bytes: &[u8]) -> Result<Self, RecordError> {
        let read: Read = serde_json::from_slice(bytes)?;
        if read.version > RECORD_VERSION {
            return Err(RecordError::Version { found: read.version });
        }
        Ok(serde_json::from_value(read.record)?)
    }
}

mod as_text {
    use chronik_model::Uuid;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

mod as_topic_id {
    use chronik_model::TopicId;
    use serde::{Deserializer, Serializer};

    use super::as_text;

    pub(super) fn serialize<S: Serializer>(id: &TopicId, serializer: S) -> Result<S::Ok, S::Error> {
        as_text::serialize(&id.0, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TopicId, D::Error> {
        as_text::deserialize(deserializer).map(TopicId)
    }
}

pub(crate) mod as_node {
    use chronik_model::NodeId;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(id: &NodeId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(id.get())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NodeId, D::Error> {
        i32::deserialize(deserializer).map(NodeId::new)
    }
}

pub(crate) mod as_nodes {
    use chronik_model::NodeId;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(ids: &[NodeId], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ids.iter().map(|id| id.get()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NodeId>, D::Error> {
        Ok(Vec::<i32>::deserialize(deserializer)?.into_iter().map(NodeId::new).collect())
    }
}

pub(crate) mod as_generation {
    use chronik_model::Generation;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(generation: &Generation, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(generation.get())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Generation, D::Error> {
        i32::deserialize(deserializer).map(Generation::new)
    }
}

pub(crate) mod as_leader_epoch {
    use chronik_model::LeaderEpoch;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(epoch: &LeaderEpoch, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(epoch.get())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LeaderEpoch, D::Error> {
        i32::deserialize(deserializer).map(LeaderEpoch::new)
    }
}

#[cfg(test)]
mod tests {
    use chronik_model::LeaderEpoch;
    use expect_test::expect;

    use super::*;

    fn partition() -> Partition {
        Partition {
            leader: NodeId::new(1),
            leader_epoch: LeaderEpoch::ZERO,
            partition_epoch: 0,
            replicas: vec![NodeId::new(1)],
            isr: vec![NodeId::new(1)],
        }
    }

    #[test]
    fn records_stand_in_the_journal_as_versioned_json() {
        let id = TopicId(Uuid::from_bytes([7; 16]));
        let records = [
            Record::Cluster { id: Uuid::from_bytes([9; 16]) },
            Record::BrokerRegistered {
                node_id: NodeId::new(1),
                host: "h".to_owned(),
                port: 9092,
                rack: None,
                broker_epoch: 5,
            },
            Record::TopicCreated {
                id,
                name: "t".into(),
                partitions: vec![partition()],
                configs: BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]),
            },
            Record::PartitionsAdded { id, first: 1, partitions: vec![partition()] },
            Record::PartitionChanged { id, index: 0, partition: partition() },
            Record::ConfigChanged { resource: ConfigResource::topic("t"), key: "retention.ms".to_owned(), value: None },
            Record::TopicRemoved { id },
            Record::DeletionPending { id, name: "t".into() },
            Record::TopicFilesDeleted { id },
            Record::ProducerIdsAllocated { next: 1000 },
        ];
        let mut text = String::new();
        for record in &records {
            let bytes = record.to_json().unwrap();
            assert_eq!(&Record::from_json(&bytes).unwrap(), record);
            text += std::str::from_utf8(&bytes).unwrap();
            text.push('\n');
        }
        expect![[r#"
            {"version":1,"record":{"type":"cluster","id":"CQkJCQkJCQkJCQkJCQkJCQ"}}
            {"version":1,"record":{"type":"broker_registered","node_id":1,"host":"h","port":9092,"broker_epoch":5}}
            {"version":1,"record":{"type":"topic_created","id":"BwcHBwcHBwcHBwcHBwcHBw","name":"t","partitions":[{"leader":1,"leader_epoch":0,"partition_epoch":0,"replicas":[1],"isr":[1]}],"configs":{"retention.ms":"5"}}}
            {"version":1,"record":{"type":"partitions_added","id":"BwcHBwcHBwcHBwcHBwcHBw","first":1,"partitions":[{"leader":1,"leader_epoch":0,"partition_epoch":0,"replicas":[1],"isr":[1]}]}}
            {"version":1,"record":{"type":"partition_changed","id":"BwcHBwcHBwcHBwcHBwcHBw","index":0,"partition":{"leader":1,"leader_epoch":0,"partition_epoch":0,"replicas":[1],"isr":[1]}}}
            {"version":1,"record":{"type":"config_changed","resource":{"kind":"topic","name":"t"},"key":"retention.ms","value":null}}
            {"version":1,"record":{"type":"topic_removed","id":"BwcHBwcHBwcHBwcHBwcHBw"}}
            {"version":1,"record":{"type":"deletion_pending","id":"BwcHBwcHBwcHBwcHBwcHBw","name":"t"}}
            {"version":1,"record":{"type":"topic_files_deleted","id":"BwcHBwcHBwcHBwcHBwcHBw"}}
            {"version":1,"record":{"type":"producer_ids_allocated","next":1000}}
        "#]].assert_eq(&text);
    }

    #[test]
    fn what_a_later_build_wrote_is_refused_and_not_skipped() {
        let mut text = String::new();
        for json in [
            r#"{"version":2,"record":{"type":"anything"}}"#,
            r#"{"version":1,"record":{"type":"streams_topology"}}"#,
            r#"{"version":1,"record":{"type":"producer_ids_allocated","next":5,"shard":1}}"#,
            r#"{"version":1,"record":{"type":"producer_ids_allocated"}}"#,
            r#"{"version":1,"record":{"type":"producer_ids_allocated","next":5},"extra":1}"#,
            "nonsense",
        ] {
            text += &format!("{}\n", Record::from_json(json.as_bytes()).unwrap_err());
        }
        expect![[r#"
            metadata record has version 2, this build knows up to 1
            metadata record is not one this build knows: unknown variant `streams_topology`, expected one of `cluster`, `broker_registered`, `topic_created`, `partitions_added`, `partition_changed`, `topic_removed`, `topic_files_deleted`, `deletion_pending`, `config_changed`, `producer_ids_allocated`, `led`, `replica_added`, `broker_fenced`, `broker_unregistered`, `node_ids_allocated`
            metadata record is not one this build knows: unknown field `shard`, expected `next`
            metadata record is not one this build knows: missing field `next`
            metadata record is not one this build knows: unknown field `extra`, expected `version` or `record` at line 1 column 72
            metadata record is not one this build knows: expected ident at line 1 column 2
        "#]].assert_eq(&text);
    }
}
