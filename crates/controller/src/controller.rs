//! The handle: opens the controller, takes commands, shows the image.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use chronik_log::fs::Fs;
use chronik_metadata::config::StaticConfig;
use chronik_metadata::{
    ApplyError, Command, ControllerClient, ControllerError, Image, ImageListener, QuorumStatus, Submitted, VoterStatus,
};
use chronik_model::{LeaderEpoch, NodeId, Timestamp, Uuid};
use tokio::sync::{mpsc, oneshot};

use crate::journal::{ClaimError, Journal, JournalError};
use crate::worker::{Submission, Worker};

/// The epoch of the quorum's leader; a quorum of one never elects another.
const LEADER_EPOCH: LeaderEpoch = LeaderEpoch::new(1);
/// Commands that may wait for the worker; who submits more waits in turn.
const QUEUE_COMMANDS_MAX: usize = 256;

/// What a controller is made of.
pub struct Setup {
    /// Where the journal lies.
    pub fs: Arc<dyn Fs>,
    /// The journal's directory, made if it is not there.
    pub dir: PathBuf,
    /// This node.
    pub node_id: NodeId,
    /// The cluster, recorded in a journal that is new.
    pub cluster_id: Uuid,
    /// The settings of this process.
    pub static_config: Arc<StaticConfig>,
    /// The wall clock.
    pub clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// Random ids, for topics.
    pub ids: Box<dyn FnMut() -> Uuid + Send>,
    /// Carries out what changes.
    pub listener: Arc<dyn ImageListener>,
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

/// The controller of this node. Dropping it carries out what was submitted, closes the journal and waits for both.
pub struct Controller {
    shared: Arc<Shared>,
    queue: Option<mpsc::Sender<Submission>>,
    worker: Option<JoinHandle<()>>,
}

/// What the handle and the worker both see.
pub(crate) struct Shared {
    pub(crate) node_id: NodeId,
    pub(crate) image: ArcSwap<Image>,
    pub(crate) clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller").field("node_id", &self.shared.node_id).finish_non_exhaustive()
    }
}

impl Controller {
    /// Replays the journal. The listener is not told: whoever opens starts from [`ControllerClient::image`].
    ///
    /// # Errors
    /// The journal is damaged, is of another cluster or of a later format, or the disk fails.
    pub fn open(setup: Setup) -> Result<Self, OpenError> {
        let now = (setup.clock)();
        let (mut journal, image) = Journal::open(setup.fs, setup.dir, LEADER_EPOCH, now)?;
        let image = journal.claim(image, setup.cluster_id, now)?;
        let shared =
            Arc::new(Shared { node_id: setup.node_id, image: ArcSwap::from_pointee(image), clock: setup.clock });
        let (queue, submissions) = mpsc::channel(QUEUE_COMMANDS_MAX);
        let worker =
            Worker::new(Arc::clone(&shared), journal, setup.static_config, setup.ids, setup.listener, submissions);
        let worker = std::thread::Builder::new()
            .name("controller".to_owned())
            .spawn(move || worker.run())
            .map_err(OpenError::Thread)?;
        Ok(Self { shared, queue: Some(queue), worker: Some(worker) })
    }
}

impl ControllerClient for Controller {
    fn image(&self) -> Arc<Image> {
        self.shared.image.load_full()
    }

    fn submit(&self, command: Command) -> Submitted<'_> {
        Box::pin(async move {
            let queue = self.queue.as_ref().ok_or(ControllerError::Stopped)?;
            let (reply, answer) = oneshot::channel();
            queue.send(Submission { command, reply }).await.map_err(|_| ControllerError::Stopped)?;
            answer.await.map_err(|_| ControllerError::Stopped)?
        })
    }

    fn quorum(&self) -> QuorumStatus {
        let end = self.shared.image.load().offset();
        let now = (self.shared.clock)();
        QuorumStatus {
            leader: self.shared.node_id,
            leader_epoch: LEADER_EPOCH,
            high_watermark: end,
            voters: vec![VoterStatus {
                node_id: self.shared.node_id,
                log_end: end,
                last_fetch: now,
                last_caught_up: now,
            }],
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // Without a sender the worker ends once its queue is empty.
        self.queue = None;
        if let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            tracing::error!("the controller's thread had failed");
        }
    }
}
