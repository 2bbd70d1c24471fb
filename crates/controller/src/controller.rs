//! The handle: opens the controller, takes commands and what leaders send, shows the image and the journal.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;

use chronik_metadata::{
    Answer, ApplyError, Command, ControllerClient, ControllerError, FollowError, Image, JournalBatches,
    JournalReadError, JournalSnapshot, JournalStatus, KnownLeader, Leadership, QuorumStatus, ReplicatedController,
    Role, SnapshotPart, Submitted, VoterStatus,
};
use chronik_model::{Generation, NodeId, Offset, Uuid};
use tokio::sync::{mpsc, oneshot};

use crate::journal::{Journal, epoch_of};
use crate::known_leader;
use crate::published::Shared;
use crate::setup::{OpenError, Setup};
use crate::worker::{Reply, Request, Submission, Worker};

/// Requests that may wait for the worker; who asks more waits in turn.
const QUEUE_REQUESTS_MAX: usize = 256;

/// The controller of this node. Dropping it carries out what was asked, closes the journal and waits for both.
pub struct Controller {
    shared: Arc<Shared>,
    queue: Option<mpsc::Sender<Request>>,
    worker: Option<JoinHandle<()>>,
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller").field("node_id", &self.shared.node_id).finish_non_exhaustive()
    }
}

impl Controller {
    /// Replays the journal. The listener is not told: whoever opens starts from [`ControllerClient::image`] and
    /// [`ControllerClient::role`].
    ///
    /// # Errors
    /// The journal is damaged, is of another cluster or of a later format, or the disk fails.
    pub fn open(setup: Setup) -> Result<Self, OpenError> {
        let now = (setup.clock)();
        let noted = known_leader::read(setup.fs.as_ref(), &setup.dir)?;
        let (mut journal, mut image) = Journal::open(setup.fs, setup.dir, now)?;
        if !setup.follows {
            image = journal.claim(image, setup.cluster_id, now)?;
        } else if ![Uuid::ZERO, setup.cluster_id].contains(&image.cluster_id()) {
            // A journal that is new takes its first record from the leader, as all others.
            let (expected, found) = (image.cluster_id(), setup.cluster_id);
            return Err(ApplyError::OtherCluster { expected, found }.into());
        }
        let role = first_role(setup.node_id, setup.follows, &image, noted.as_ref());
        let generation = noted.as_ref().map_or(Generation::ZERO, |leader| leader.generation).max(image.generation());
        let shared = Arc::new(Shared::new(setup.node_id, setup.clock, image, &journal, generation, role));
        let (queue, requests) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let worker = Worker {
            shared: Arc::clone(&shared),
            journal,
            noted,
            cluster_id: setup.cluster_id,
            advertised: setup.advertised,
            static_config: setup.static_config,
            ids: setup.ids,
            listener: setup.listener,
            requests,
            incoming: None,
            failed: None,
            was_full: false,
        };
        let worker = std::thread::Builder::new()
            .name("controller".to_owned())
            .spawn(move || worker.run())
            .map_err(OpenError::Thread)?;
        Ok(Self { shared, queue: Some(queue), worker: Some(worker) })
    }

    /// The worker's answer; none where it has stopped.
    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Option<T> {
        let queue = self.queue.as_ref()?;
        let (reply, answer) = oneshot::channel();
        queue.send(request(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// The role that a node starts in. One that led and was told who replaced it does not lead again by itself: the other
/// one would have to give way to it.
fn first_role(node_id: NodeId, follows: bool, image: &Image, noted: Option<&KnownLeader>) -> Role {
    let known = known_leader::later(image.known_leader(), noted.cloned());
    let other = known.filter(|leader| leader.node_id != node_id);
    match other {
        other if follows => Role::Following { leader: other },
        Some(by) if image.leader() == node_id => Role::Fenced { by },
        _ => Role::Leading,
    }
}

impl ControllerClient for Controller {
    fn image(&self) -> Arc<Image> {
        self.shared.image()
    }

    fn submit(&self, command: Command) -> Submitted<'_> {
        Box::pin(async move {
            let answer = self.ask(|reply| Request::Command(Submission { command, reply })).await;
            answer.unwrap_or(Err(ControllerError::Stopped))
        })
    }

    fn quorum(&self) -> QuorumStatus {
        let image = self.shared.image();
        let end = image.offset();
        let now = (self.shared.clock)();
        let leader = self.role().leader_elsewhere().map_or(self.shared.node_id, |leader| leader.node_id);
        QuorumStatus {
            leader,
            leader_epoch: epoch_of(image.generation()),
            high_watermark: end,
            voters: vec![VoterStatus { node_id: leader, log_end: end, last_fetch: now, last_caught_up: now }],
        }
    }

    fn role(&self) -> Arc<Role> {
        self.shared.role()
    }
}

impl ReplicatedController for Controller {
    fn journal(&self) -> Arc<JournalStatus> {
        self.shared.status()
    }

    fn journal_moved(&self, version: u64) -> Answer<'_, Arc<JournalStatus>> {
        Box::pin(self.shared.moved(version))
    }

    fn read_journal(&self, from: Offset, bytes_max: usize) -> Result<JournalBatches, JournalReadError> {
        self.shared.read_journal(from, bytes_max)
    }

    fn snapshot(&self, part_bytes_max: usize) -> Result<JournalSnapshot, JournalReadError> {
        self.shared.snapshot(part_bytes_max)
    }

    fn follow(&self, cluster_id: Uuid, leader: KnownLeader) -> Answer<'_, Result<(), FollowError>> {
        Box::pin(async move {
            let answer = self.ask(|reply| Request::Follow { cluster_id, leader, reply }).await;
            answer.unwrap_or(Err(FollowError::Stopped))
        })
    }

    fn append_journal(
        &self,
        generation: Generation,
        batches: JournalBatches,
    ) -> Answer<'_, Result<Offset, FollowError>> {
        Box::pin(async move {
            let answer = self.ask(|reply| Request::Append { generation, batches, reply }).await;
            answer.unwrap_or(Err(FollowError::Stopped))
        })
    }

    fn install_snapshot(
        &self,
        generation: Generation,
        part: SnapshotPart,
    ) -> Answer<'_, Result<Option<Offset>, FollowError>> {
        Box::pin(async move {
            let answer = self.ask(|reply| Request::Install { generation, part, reply }).await;
            answer.unwrap_or(Err(FollowError::Stopped))
        })
    }

    fn promote(&self) -> Answer<'_, Result<Leadership, ControllerError>> {
        Box::pin(async move {
            let answer = self.ask(|reply| Request::Promote { reply }).await;
            answer.unwrap_or(Err(ControllerError::Stopped))
        })
    }

    fn fenced(&self, by: KnownLeader) -> Answer<'_, Result<(), ControllerError>> {
        Box::pin(async move {
            let answer = self.ask(|reply| Request::Fenced { by, reply }).await;
            answer.unwrap_or(Err(ControllerError::Stopped))
        })
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
