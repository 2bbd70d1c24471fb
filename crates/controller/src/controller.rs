//! One decision at a time: decide on the image, write the records, apply them, let the listener act, answer.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use chronik_log::fs::Fs;
use chronik_metadata::config::StaticConfig;
use chronik_metadata::{
    ApplyError, Command, ControllerClient, ControllerError, Delta, Image, ImageListener, Outcome, QuorumStatus, Record,
    Submitted, VoterStatus, decide,
};
use chronik_model::{LeaderEpoch, NodeId, Timestamp, Uuid};
use tokio::sync::Mutex;

use crate::journal::{Journal, JournalError};

/// The epoch of the quorum's leader; a quorum of one never elects another.
const LEADER_EPOCH: LeaderEpoch = LeaderEpoch::new(1);

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
    #[error("{0}")]
    Cluster(#[from] ApplyError),
}

/// The controller of this node.
pub struct Controller {
    shared: Arc<Shared>,
    state: Arc<Mutex<State>>,
}

struct Shared {
    node_id: NodeId,
    image: ArcSwap<Image>,
    static_config: Arc<StaticConfig>,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    listener: Arc<dyn ImageListener>,
}

struct State {
    journal: Journal,
    ids: Box<dyn FnMut() -> Uuid + Send>,
    /// Why nothing is decided any more: after a failed write nobody knows what the journal holds.
    failed: Option<Arc<str>>,
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
        let (mut journal, mut image) = Journal::open(setup.fs, setup.dir, LEADER_EPOCH, now)?;
        let cluster = [Record::Cluster { id: setup.cluster_id }];
        // Also where it is recorded already: applying it again finds a journal of another cluster.
        let (with_cluster, _) = journal.apply(&image, &cluster)?;
        if image.cluster_id() != setup.cluster_id {
            journal.append(&cluster, now)?;
            image = with_cluster;
        }
        let shared = Shared {
            node_id: setup.node_id,
            image: ArcSwap::from_pointee(image),
            static_config: setup.static_config,
            clock: setup.clock,
            listener: setup.listener,
        };
        let state = State { journal, ids: setup.ids, failed: None };
        Ok(Self { shared: Arc::new(shared), state: Arc::new(Mutex::new(state)) })
    }
}

impl ControllerClient for Controller {
    fn image(&self) -> Arc<Image> {
        self.shared.image.load_full()
    }

    fn submit(&self, command: Command) -> Submitted<'_> {
        Box::pin(async move {
            // Waiting here and not on a thread: any number of commands may queue up.
            let mut state = Arc::clone(&self.state).lock_owned().await;
            let shared = Arc::clone(&self.shared);
            // A command that has begun ends, also when whoever asked for it is gone.
            let done = tokio::task::spawn_blocking(move || shared.carry_out(&mut state, command)).await;
            done.unwrap_or_else(|panic| {
                tracing::error!(%panic, "a decision of the controller failed");
                Err(ControllerError::Stopped)
            })
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

impl Shared {
    fn carry_out(&self, state: &mut State, command: Command) -> Result<Outcome, ControllerError> {
        if let Some(reason) = &state.failed {
            return Err(ControllerError::JournalFailed { reason: Arc::clone(reason) });
        }
        let now = (self.clock)();
        let image = self.image.load_full();
        let decision = decide(&image, command, &self.static_config, &mut *state.ids);
        if decision.records.is_empty() {
            return Ok(decision.outcome);
        }
        // Applied before it is written: records that contradict the image must never get into the journal.
        let (image, delta) = state.journal.apply(&image, &decision.records).map_err(|error| {
            tracing::error!(%error, "a decision contradicts the metadata and is dropped");
            ControllerError::JournalFailed { reason: error.to_string().into() }
        })?;
        if let Err(error) = state.journal.append(&decision.records, now) {
            let reason: Arc<str> = error.to_string().into();
            // A decision too large for a batch was not written; anything else may have been.
            if !matches!(error, JournalError::Build(_) | JournalError::Encode(_)) {
                state.failed = Some(Arc::clone(&reason));
            }
            tracing::error!(%error, "metadata cannot be written");
            return Err(ControllerError::JournalFailed { reason });
        }
        self.publish(image, &delta);
        if let Err(error) = state.journal.compact(&self.image.load(), now) {
            tracing::error!(%error, "metadata snapshot cannot be written, the journal grows");
        }
        Ok(decision.outcome)
    }

    fn publish(&self, image: Image, delta: &Delta) {
        let image = Arc::new(image);
        // Carried out before it is seen: a topic in the image has its partitions.
        self.listener.apply(&image, delta);
        self.image.store(image);
    }
}
