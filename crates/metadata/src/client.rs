//! How changes of the metadata are asked for, and how others hear of them.
//!
//! The line is drawn at commitment: when [`ControllerClient::submit`] answers, the change is durable, in the image, and
//! seen by every listener.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use chronik_model::{Generation, LeaderEpoch, NodeId, Offset, Timestamp, Uuid};
use thiserror::Error;

use crate::command::{Command, Outcome};
use crate::delta::Delta;
use crate::image::Image;
use crate::journal::{FollowError, JournalBatches, JournalReadError, JournalSnapshot, JournalStatus, SnapshotPart};
use crate::leader::{KnownLeader, Leadership, Role};

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

    /// Whether commands are decided here.
    fn role(&self) -> Arc<Role> {
        Arc::new(Role::Leading)
    }
}

/// The answer of a request to a [`ReplicatedController`], to be awaited. What was asked is carried out even if it is not.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A controller whose journal goes to other nodes, or comes from one. Requests are carried out in the order they were
/// first polled in, commands among them.
pub trait ReplicatedController: ControllerClient {
    /// Where the journal stands. Everything in it is durable, applied and told to the listener.
    fn journal(&self) -> Arc<JournalStatus>;

    /// The journal's status as soon as its version is another one than `version`.
    fn journal_moved(&self, version: u64) -> Answer<'_, Arc<JournalStatus>>;

    /// Whole batches from an offset on that begins one, about `bytes_max` of them, one at the least where there is one.
    /// Blocks for the disk.
    ///
    /// # Errors
    /// The offset is not there any more, which is no failure: a snapshot takes its place.
    fn read_journal(&self, from: Offset, bytes_max: usize) -> Result<JournalBatches, JournalReadError>;

    /// The image in parts of `part_bytes_max` bytes at the most. Works for some time where there are many topics.
    ///
    /// # Errors
    /// The image is larger than a follower takes.
    fn snapshot(&self, part_bytes_max: usize) -> Result<JournalSnapshot, JournalReadError>;

    /// A handshake told who leads. From the answer on, also after a crash, no lower generation is followed.
    fn follow(&self, cluster_id: Uuid, leader: KnownLeader) -> Answer<'_, Result<(), FollowError>>;

    /// Takes a part of the leader's journal; the answer is the new end, durable, applied and told to the listener.
    /// `generation` is the one that the link was opened in.
    fn append_journal(
        &self,
        generation: Generation,
        batches: JournalBatches,
    ) -> Answer<'_, Result<Offset, FollowError>>;

    /// Takes a part of a snapshot; the answer to the last one is the new end, with which image and journal are replaced.
    fn install_snapshot(
        &self,
        generation: Generation,
        part: SnapshotPart,
    ) -> Answer<'_, Result<Option<Offset>, FollowError>>;

    /// Makes this node the leader, in a generation above every one it knows. The listener hears of the image, then of the
    /// role, before the answer. A node that leads already answers with what it leads in.
    fn promote(&self) -> Answer<'_, Result<Leadership, ControllerError>>;

    /// Another node leads in a higher generation: from the answer on, also after a crash, nothing is decided here. Ignored
    /// where this node knows of a higher generation itself.
    fn fenced(&self, by: KnownLeader) -> Answer<'_, Result<(), ControllerError>>;
}

/// Hears of every new image, in their order, each before the commands that led to it are answered. Called from the
/// controller's own thread; the next change waits until it returns. It must not wait for a command of its own.
pub trait ImageListener: Send + Sync {
    /// `delta` is what became different since the image before.
    fn apply(&self, image: &Arc<Image>, delta: &Delta);

    /// The node leads, follows another leader, or was fenced. Not called for the role it starts in.
    fn role_changed(&self, _image: &Arc<Image>, _role: &Role) {}
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
    /// Another node decides.
    #[error("this node does not lead{}", .leader.as_ref().map_or_else(String::new, |leader| format!(", {leader} does")))]
    NotLeader {
        /// Which, where that is known.
        leader: Option<KnownLeader>,
    },
    /// No generation is left above the known ones.
    #[error("no generation is left above {highest}")]
    GenerationsExhausted {
        /// The highest one known.
        highest: Generation,
    },
}

impl ControllerError {
    /// Whether the same command may succeed later.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }
}
