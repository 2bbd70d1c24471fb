//! How changes of the metadata are asked for, and how others hear of them.
//!
//! The line is drawn at commitment: when [`ControllerClient::submit`] answers, the change is durable, in the image, and
//! seen by every listener.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use chronik_model::{LeaderEpoch, NodeId, Offset, Timestamp};
use thiserror::Error;

use crate::command::{Command, Outcome};
use crate::delta::Delta;
use crate::image::Image;

/// The answer of [`ControllerClient::submit`], to be awaited.
pub type Submitted<'a> = Pin<Box<dyn Future<Output = Result<Outcome, ControllerError>> + Send + 'a>>;

/// Orders changes of the metadata.
pub trait ControllerClient: Send + Sync {
    /// The metadata as it is now.
    fn image(&self) -> Arc<Image>;

    /// Has a command decided, made durable and applied. What was submitted is carried out even if the answer is not
    /// awaited. Refusals are in the outcome; an error says that nobody could decide.
    fn submit(&self, command: Command) -> Submitted<'_>;

    /// Who orders the changes and how far each voter is.
    fn quorum(&self) -> QuorumStatus;
}

/// Hears of every new image, in their order, each before the commands that led to it are answered. Called from the
/// controller's own thread; the next change waits until it returns. It must not wait for a command of its own.
pub trait ImageListener: Send + Sync {
    /// `delta` is what became different since the image before.
    fn apply(&self, image: &Arc<Image>, delta: &Delta);
}

/// The voters that order the changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumStatus {
    /// Who orders now.
    pub leader: NodeId,
    /// Since which change of leader.
    pub leader_epoch: LeaderEpoch,
    /// End of what is committed, exclusive.
    pub high_watermark: Offset,
    /// The voters.
    pub voters: Vec<VoterStatus>,
}

/// One voter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterStatus {
    /// The voter.
    pub node_id: NodeId,
    /// End of its journal, exclusive.
    pub log_end: Offset,
    /// When it was last heard of; the leader hears itself now.
    pub last_fetch: Timestamp,
    /// When it last had everything.
    pub last_caught_up: Timestamp,
}

/// Nobody could decide on a command.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ControllerError {
    /// The controller has stopped.
    #[error("the controller has stopped")]
    Stopped,
    /// Too many commands are waiting.
    #[error("{waiting} commands are waiting for the controller")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// The journal could not be written; the controller decides nothing more.
    #[error("the metadata journal cannot be written: {reason}")]
    JournalFailed {
        /// What happened.
        reason: Arc<str>,
    },
}

impl ControllerError {
    /// Whether the same command may succeed later.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }
}
