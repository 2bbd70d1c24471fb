//! What a controller is made of, and why it cannot be.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use chronik_log::fs::Fs;
use chronik_metadata::config::StaticConfig;
use chronik_metadata::{ApplyError, ImageListener, ReplicationMode};
use chronik_model::{NodeId, Timestamp, Uuid};

use crate::error::{ClaimError, JournalError};

/// What a controller is made of.
pub struct Setup {
    /// Where the journal lies.
    pub fs: Arc<dyn Fs>,
    /// The journal's directory, made if it is not there.
    pub dir: PathBuf,
    /// This node.
    pub node_id: NodeId,
    /// The cluster, recorded in a journal that is new and does not follow another.
    pub cluster_id: Uuid,
    /// Whether the node takes what others decide. Otherwise it decides itself, unless it led before and knows who replaced
    /// it: then it is fenced.
    pub follows: bool,
    /// What others are told of the node when it is promoted.
    pub advertised: Advertised,
    /// The settings of this process.
    pub static_config: Arc<StaticConfig>,
    /// The wall clock.
    pub clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// Random ids, for topics.
    pub ids: Box<dyn FnMut() -> Uuid + Send>,
    /// Carries out what changes.
    pub listener: Arc<dyn ImageListener>,
}

/// A node as others are told of it once it leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertised {
    /// Address that clients are told.
    pub host: String,
    /// Port that clients are told.
    pub port: u16,
    /// Its rack, where it has one.
    pub rack: Option<String>,
    /// What acknowledgements wait for where it leads.
    pub mode: ReplicationMode,
}

/// The controller cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal is of another cluster than the data directory.
    #[error("the metadata journal does not belong to this data directory: {0}")]
    Cluster(#[from] ApplyError),
    /// The worker's thread could not be started.
    #[error("the controller's thread cannot be started: {0}")]
    Thread(#[source] io::Error),
}

impl From<ClaimError> for OpenError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Journal(error) => Self::Journal(error),
            ClaimError::Cluster(error) => Self::Cluster(error),
        }
    }
}
