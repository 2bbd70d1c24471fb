//! One request at a time: decide a command on the image, write its records, apply them, let the listener act, answer.
//!
//! Commands that wait together share one sync and one image; each still is a batch of its own, decided on everything
//! decided before it. What a leader sent is in `following`, who leads in `leading`.

use std::sync::Arc;

use chronik_metadata::config::StaticConfig;
use chronik_metadata::{
    Builder, Command, ControllerError, FollowError, ImageListener, JournalBatches, KnownLeader, Leadership, Outcome,
    Role, SnapshotPart, decide,
};
use chronik_model::{Generation, Offset, Timestamp, Uuid};
use tokio::sync::{mpsc, oneshot};

use crate::error::JournalError;
use crate::following::Incoming;
use crate::journal::Journal;
use crate::published::Shared;
use crate::setup::Advertised;

/// Requests that are taken at once; commands among them share a sync.
const GROUP_REQUESTS_MAX: usize = 64;

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<T>;

/// What is asked of the worker.
pub(crate) enum Request {
    Command(Submission),
    Follow { cluster_id: Uuid, leader: KnownLeader, reply: Reply<Result<(), FollowError>> },
    Append { generation: Generation, batches: JournalBatches, reply: Reply<Result<Offset, FollowError>> },
    Install { generation: Generation, part: SnapshotPart, reply: Reply<Result<Option<Offset>, FollowError>> },
    Promote { reply: Reply<Result<Leadership, ControllerError>> },
    Fenced { by: KnownLeader, reply: Reply<Result<(), ControllerError>> },
}

/// A command with the place for its answer.
pub(crate) struct Submission {
    pub(crate) command: Command,
    pub(crate) reply: Reply<Result<Outcome, ControllerError>>,
}

/// Owner of the journal.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) journal: Journal,
    /// Who leads, as the journal's directory says beside the journal.
    pub(crate) noted: Option<KnownLeader>,
    pub(crate) cluster_id: Uuid,
    pub(crate) advertised: Advertised,
    pub(crate) static_config: Arc<StaticConfig>,
    pub(crate) ids: Box<dyn FnMut() -> Uuid + Send>,
    pub(crate) listener: Arc<dyn ImageListener>,
    pub(crate) requests: mpsc::Receiver<Request>,
    /// A snapshot of which parts are still to come.
    pub(crate) incoming: Option<Incoming>,
    /// Why nothing is decided any more: after a failed write nobody knows what the journal holds.
    pub(crate) failed: Option<Arc<str>>,
    /// Whether that was a full disk, after which the journal holds what it did before.
    pub(crate) was_full: bool,
}

impl Worker {
    /// Carries out what is asked until nobody can ask any more.
    pub(crate) fn run(mut self) {
        let mut waiting = Vec::with_capacity(GROUP_REQUESTS_MAX);
        let mut group = Vec::with_capacity(GROUP_REQUESTS_MAX);
        while self.requests.blocking_recv_many(&mut waiting, GROUP_REQUESTS_MAX) > 0 {
            for request in waiting.drain(..) {
                match request {
                    Request::Command(submission) => group.push(submission),
                    other => {
                        self.carry_out(&mut group);
                        self.answer(other);
                    }
                }
            }
            self.carry_out(&mut group);
        }
        if self.failed.is_none()
            && let Err(error) = self.journal.close()
        {
            tracing::error!(%error, "metadata journal cannot be closed cleanly");
        }
    }

    /// Whoever asked may be gone; what was asked is carried out all the same.
    fn answer(&mut self, request: Request) {
        match request {
            Request::Command(submission) => self.carry_out(&mut vec![submission]),
            Request::Follow { cluster_id, leader, reply } => drop(reply.send(self.follow(cluster_id, leader))),
            Request::Append { generation, batches, reply } => {
                drop(reply.send(self.append_journal(generation, &batches)));
            }
            Request::Install { generation, part, reply } => {
                drop(reply.send(self.install_snapshot(generation, part)));
            }
            Request::Promote { reply } => drop(reply.send(self.promote())),
            Request::Fenced { by, reply } => drop(reply.send(self.fenced(by))),
        }
    }

    fn carry_out(&mut self, group: &mut Vec<Submission>) {
        if group.is_empty() {
            return;
        }
        let role = self.shared.role();
        if !role.leads() {
            for Submission { reply, .. } in group.drain(..) {
                let _ = reply.send(Err(not_leader(&role)));
            }
            return;
        }
        let now = (self.shared.clock)();
        let image = self.shared.image();
        let mut builder = Builder::new(&image);
        let mut changes = false;
        let mut answers = Vec::with_capacity(group.len());
        for Submission { command, reply } in group.drain(..) {
            let decided = self.decide(&mut builder, command, now);
            let result = decided.map(|(outcome, changed)| {
                changes |= changed;
                outcome
            });
            answers.push((reply, result));
        }
        if changes && self.failed.is_none() {
            match self.journal.sync() {
                Ok(()) => self.publish(builder),
                Err(error) => self.fail(&error),
            }
        }
        for (reply, result) in answers {
            // Nothing is answered as done that might not be in the journal.
            let _ = reply.send(self.online().and(result));
        }
        if changes && self.failed.is_none() {
            self.compact(now);
        }
    }

    /// Decides one command and writes its records, which are not durable yet. Tells whether there are any.
    pub(crate) fn decide(
        &mut self,
        builder: &mut Builder,
        command: Command,
        now: Timestamp,
    ) -> Result<(Outcome, bool), ControllerError> {
        self.online()?;
        let decision = decide(builder.image(), command, &self.static_config, &mut *self.ids);
        if decision.records.is_empty() {
            return Ok((decision.outcome, false));
        }
        // Applied before it is written, and to a copy: records that contradict the image must neither get into the
        // journal nor leave half of themselves in the image.
        let mut next = builder.clone();
        for record in &decision.records {
            next.apply(record).map_err(|error| {
                tracing::error!(%error, "a decision contradicts the metadata and is dropped");
                ControllerError::JournalFailed { reason: error.to_string().into() }
            })?;
        }
        if let Err(error) = self.journal.append(&decision.records, next.image().generation(), now) {
            if error.is_refusal() {
                tracing::warn!(%error, "a decision is too large and is dropped");
            } else {
                self.fail(&error);
            }
            return Err(ControllerError::JournalFailed { reason: error.to_string().into() });
        }
        *builder = next;
        Ok((decision.outcome, true))
    }

    /// Has the listener carry out what became different, then lets everybody see it.
    pub(crate) fn publish(&mut self, builder: Builder) {
        let (image, delta) = builder.finish(self.journal.end());
        let image = Arc::new(image);
        // Carried out before it is seen: a topic in the image has its partitions.
        self.listener.apply(&image, &delta);
        self.shared.publish(Arc::clone(&image), &self.journal, self.highest_with(&image));
    }

    pub(crate) fn compact(&mut self, now: Timestamp) {
        let image = self.shared.image();
        match self.journal.compact(&image, now) {
            Ok(true) => self.shared.publish(Arc::clone(&image), &self.journal, self.highest_with(&image)),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "metadata snapshot cannot be written, the journal grows"),
        }
    }

    pub(crate) fn fail(&mut self, error: &JournalError) {
        tracing::error!(%error, "metadata cannot be written");
        self.was_full = error.is_full_disk();
        self.failed = Some(error.to_string().into());
    }

    pub(crate) fn online(&self) -> Result<(), ControllerError> {
        match &self.failed {
            Some(reason) => Err(ControllerError::JournalFailed { reason: Arc::clone(reason) }),
            None => Ok(()),
        }
    }
}

pub(crate) fn not_leader(role: &Role) -> ControllerError {
    ControllerError::NotLeader { leader: role.leader_elsewhere().cloned() }
}
