//! Who leads: this node from a promotion on, and no more once another one leads in a higher generation.

use chronik_metadata::{
    Builder, Command, ControllerError, Image, KnownLeader, Leadership, LeadershipError, Outcome, Role,
};
use chronik_model::{Generation, Uuid};

use crate::error::{ClaimError, JournalError};
use crate::known_leader;
use crate::worker::Worker;

impl Worker {
    /// The highest generation that this node knows, be it only by hearsay.
    pub(crate) fn highest(&self) -> Generation {
        self.highest_with(&self.shared.image())
    }

    pub(crate) fn highest_with(&self, image: &Image) -> Generation {
        let noted = self.noted.as_ref().map_or(Generation::ZERO, |leader| leader.generation);
        image.generation().max(noted)
    }

    /// Who leads in the highest generation that this node knows.
    pub(crate) fn known(&self) -> Option<KnownLeader> {
        known_leader::later(self.shared.image().known_leader(), self.noted.clone())
    }

    /// Keeps durably who leads, unless that is known as it is.
    pub(crate) fn note(&mut self, leader: &KnownLeader) -> Result<(), JournalError> {
        if self.noted.as_ref() == Some(leader) {
            return Ok(());
        }
        // Known from here on even where it cannot be kept: what was heard does not become wrong.
        self.noted = Some(leader.clone());
        let written = self.journal.note_leader(leader, (self.shared.clock)());
        // The status tells the highest generation.
        self.shared.publish(self.shared.image(), &self.journal, self.highest());
        written
    }

    pub(crate) fn promote(&mut self) -> Result<Leadership, ControllerError> {
        let image = self.shared.image();
        if self.shared.role().leads() {
            return Ok(Leadership { generation: image.generation(), leader_epoch: image.leader_epoch() });
        }
        self.online()?;
        self.incoming = None;
        let now = (self.shared.clock)();
        let mut base = Image::clone(&image);
        if image.cluster_id() == Uuid::ZERO {
            // It never met a leader: its journal is still to say whose it is.
            base = self.journal.claim(base, self.cluster_id, now).map_err(|error| {
                let ClaimError::Journal(error) = error else {
                    return ControllerError::JournalFailed { reason: error.to_string().into() };
                };
                self.fail(&error);
                ControllerError::JournalFailed { reason: error.to_string().into() }
            })?;
        }
        let mut builder = Builder::new(&base);
        let advertised = self.advertised.clone();
        let command = Command::Promote {
            node_id: self.shared.node_id,
            host: advertised.host,
            port: advertised.port,
            rack: advertised.rack,
            mode: advertised.mode,
            above: self.highest(),
        };
        let (outcome, _) = self.decide(&mut builder, command, now)?;
        let leadership = match outcome {
            Outcome::Leads(Ok(Some(leadership))) => leadership,
            Outcome::Leads(Err(LeadershipError::GenerationsExhausted { highest })) => {
                return Err(ControllerError::GenerationsExhausted { highest });
            }
            // The rule for promotions gives no other outcome.
            other => return Err(ControllerError::JournalFailed { reason: format!("promoted to {other:?}").into() }),
        };
        if let Err(error) = self.journal.sync() {
            self.fail(&error);
        }
        self.online()?;
        self.publish(builder);
        // Whoever hears of it sees it.
        self.take_role(Role::Leading);
        self.compact(now);
        Ok(leadership)
    }

    pub(crate) fn fenced(&mut self, by: KnownLeader) -> Result<(), ControllerError> {
        if by.generation <= self.highest() {
            return Ok(());
        }
        // Before the disk is asked: nothing more may be decided, even where the note of it cannot be written.
        self.take_role(match &*self.shared.role() {
            Role::Leading | Role::Fenced { .. } => Role::Fenced { by: by.clone() },
            Role::Following { .. } => Role::Following { leader: Some(by.clone()) },
        });
        self.incoming = None;
        if let Err(error) = self.note(&by) {
            self.fail(&error);
        }
        self.online()
    }

    /// Takes a role, and has the listener take its part in it.
    pub(crate) fn take_role(&mut self, role: Role) {
        self.shared.set_role(role.clone());
        self.listener.role_changed(&self.shared.image(), &role);
    }
}
