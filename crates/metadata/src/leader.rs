//! Who leads the node set, in which generation, and what an acknowledgement waits for there.
//!
//! Nothing here decides; `rules::leadership` does. A [`KnownLeader`] may be known before any record of it is, since a
//! handshake tells of it first.

use std::fmt;
use std::sync::Arc;

use chronik_model::{Generation, LeaderEpoch, NodeId};
use serde::{Deserialize, Serialize};

use crate::record::{RECORD_VERSION, RecordError, as_generation, as_node};

/// What an acknowledgement of all replicas waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicationMode {
    /// The leader alone, which is the only replica in sync.
    #[default]
    Async,
    /// Every replica in sync.
    Sync,
}

/// A leader as others are told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownLeader {
    /// Its number.
    #[serde(with = "as_node")]
    pub node_id: NodeId,
    /// The generation it leads in.
    #[serde(with = "as_generation")]
    pub generation: Generation,
    /// Address that clients are told; empty where it is not known.
    pub host: Arc<str>,
    /// Port that clients are told.
    pub port: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<L> {
    version: u16,
    leader: L,
}

impl KnownLeader {
    /// The leader as text, for a file.
    ///
    /// # Errors
    /// None that can happen with these types; serialisation is fallible in general.
    pub fn to_json(&self) -> Result<Vec<u8>, RecordError> {
        Ok(serde_json::to_vec(&Written { version: RECORD_VERSION, leader: self })?)
    }

    /// Reads what [`KnownLeader::to_json`] wrote.
    ///
    /// # Errors
    /// Version or a field is not known to this build, or the bytes are not JSON.
    pub fn from_json(bytes: &[u8]) -> Result<Self, RecordError> {
        let written: Written<Self> = serde_json::from_slice(bytes)?;
        if written.version > RECORD_VERSION {
            return Err(RecordError::Version { found: written.version });
        }
        Ok(written.leader)
    }
}

impl fmt::Display for KnownLeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} in generation {}", self.node_id, self.generation)?;
        if self.host.is_empty() { Ok(()) } else { write!(f, " at {}:{}", self.host, self.port) }
    }
}

/// What a node's controller does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It decides.
    Leading,
    /// It takes what a leader decided.
    Following {
        /// The leader; none before the first one was met.
        leader: Option<KnownLeader>,
    },
    /// It led and was replaced. It decides nothing and takes nothing until it is promoted or started again.
    Fenced {
        /// Who replaced it.
        by: KnownLeader,
    },
}

impl Role {
    /// Whether commands are decided here.
    pub fn leads(&self) -> bool {
        matches!(self, Self::Leading)
    }

    /// The other node that leads, where one is known.
    pub fn leader_elsewhere(&self) -> Option<&KnownLeader> {
        match self {
            Self::Leading => None,
            Self::Following { leader } => leader.as_ref(),
            Self::Fenced { by } => Some(by),
        }
    }
}

/// In which generation and leader epoch a node leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The generation.
    pub generation: Generation,
    /// The leader epoch of every partition.
    pub leader_epoch: LeaderEpoch,
}
