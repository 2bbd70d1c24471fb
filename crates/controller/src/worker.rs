//! One decision at a time: decide on the image, write the records, apply them, let the listener act, answer.
//!
//! Commands that wait together share one sync and one image; each still is a batch of its own, decided on everything
//! decided before it.

use std::sync::Arc;

use chronik_metadata::config::StaticConfig;
use chronik_metadata::{Builder, Command, ControllerError, ImageListener, Outcome, decide};
use chronik_model::{Timestamp, Uuid};
use tokio::sync::{mpsc, oneshot};

use crate::controller::Shared;
use crate::journal::Journal;

/// Commands that share a sync at most.
const GROUP_COMMANDS_MAX: usize = 64;

/// A command with the place for its answer.
pub(crate) struct Submission {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Result<Outcome, ControllerError>>,
}

/// Owner of the journal.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    journal: Journal,
    static_config: Arc<StaticConfig>,
    ids: Box<dyn FnMut() -> Uuid + Send>,
    listener: Arc<dyn ImageListener>,
    submissions: mpsc::Receiver<Submission>,
    /// Why nothing is decided any more: after a failed write nobody knows what the journal holds.
    failed: Option<Arc<str>>,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        journal: Journal,
        static_config: Arc<StaticConfig>,
        ids: Box<dyn FnMut() -> Uuid + Send>,
        listener: Arc<dyn ImageListener>,
        submissions: mpsc::Receiver<Submission>,
    ) -> Self {
        Self { shared, journal, static_config, ids, listener, submissions, failed: None }
    }

    /// Carries out what is submitted until nobody can submit any more.
    pub(crate) fn run(mut self) {
        let mut group = Vec::with_capacity(GROUP_COMMANDS_MAX);
        while self.submissions.blocking_recv_many(&mut group, GROUP_COMMANDS_MAX) > 0 {
            self.carry_out(&mut group);
        }
        if self.failed.is_none()
            && let Err(error) = self.journal.close()
        {
            tracing::error!(%error, "metadata journal cannot be closed cleanly");
        }
    }

    fn carry_out(&mut self, group: &mut Vec<Submission>) {
        let now = (self.shared.clock)();
        let image = self.shared.image.load_full();
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
                Err(error) => {
                    tracing::error!(%error, "metadata cannot be written");
                    self.failed = Some(error.to_string().into());
                }
            }
        }
        for (reply, result) in answers {
            // Nothing is answered as done that might not be in the journal.
            let result = match &self.failed {
                Some(reason) => Err(ControllerError::JournalFailed { reason: Arc::clone(reason) }),
                None => result,
            };
            // Whoever asked may be gone; the command is carried out all the same.
            let _ = reply.send(result);
        }
        if changes && self.failed.is_none() {
            self.compact(now);
        }
    }

    /// Decides one command and writes its records, which are not durable yet. Tells whether there are any.
    fn decide(
        &mut self,
        builder: &mut Builder,
        command: Command,
        now: Timestamp,
    ) -> Result<(Outcome, bool), ControllerError> {
        if let Some(reason) = &self.failed {
            return Err(ControllerError::JournalFailed { reason: Arc::clone(reason) });
        }
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
        if let Err(error) = self.journal.append(&decision.records, now) {
            let reason: Arc<str> = error.to_string().into();
            if error.is_refusal() {
                tracing::warn!(%error, "a decision is too large and is dropped");
            } else {
                tracing::error!(%error, "metadata cannot be written");
                self.failed = Some(Arc::clone(&reason));
            }
            return Err(ControllerError::JournalFailed { reason });
        }
        *builder = next;
        Ok((decision.outcome, true))
    }

    fn publish(&self, builder: Builder) {
        let (image, delta) = builder.finish(self.journal.end());
        let image = Arc::new(image);
        // Carried out before it is seen: a topic in the image has its partitions.
        self.listener.apply(&image, &delta);
        self.shared.image.store(image);
    }

    fn compact(&mut self, now: Timestamp) {
        let image = self.shared.image.load_full();
        if let Err(error) = self.journal.compact(&image, now) {
            tracing::error!(%error, "metadata snapshot cannot be written, the journal grows");
        }
    }
}
