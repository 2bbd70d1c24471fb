//! The controller's journal on a link: what the follower has is continued where it is the beginning of the leader's,
//! and replaced by an image where it is not.
//!
//! One part is on its way at a time; the next goes out when the follower has it durable and applied.

use chronik_model::Offset;

use super::Effect;
use super::agree::{Agreement, common_end};
use crate::message::{Frame, JournalPosition, MetadataDelta, MetadataSnapshot};

/// Bytes of journal asked for at once; one batch may be larger.
const READ_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Journal {
    start: Offset,
    position: JournalPosition,
    /// What was sent, exclusive end; none before the follower's journal agrees with this one.
    sent: Option<Offset>,
    acked: Offset,
    /// A read or a snapshot is under way.
    busy: bool,
    /// What was sent when the streams were last looked at.
    seen: Option<Offset>,
}

impl Journal {
    pub(super) fn new(start: Offset, position: JournalPosition) -> Self {
        Self { start, position, sent: None, acked: Offset::ZERO, busy: false, seen: None }
    }

    /// What was sent, exclusive end.
    pub(super) fn sent(&self) -> Option<Offset> {
        self.sent
    }

    pub(super) fn moved(&mut self, start: Offset, position: JournalPosition) {
        (self.start, self.position) = (start, position);
    }

    /// The follower has told where its journal ends.
    pub(super) fn begin(&mut self, follower: &JournalPosition, effects: &mut Vec<Effect>) {
        let end = follower.end;
        let (own, theirs) = (&self.position, &follower.generations);
        let agrees = end == Offset::ZERO || common_end(&own.generations, own.end, theirs, end) == Agreement::Until(end);
        if agrees && end >= self.start {
            (self.sent, self.acked) = (Some(end), end);
            effects.push(Effect::JournalAcked { end });
        } else {
            self.busy = true;
            effects.push(Effect::ReadSnapshot);
        }
    }

    /// Asks for what comes next; true where more was sent since the last call.
    pub(super) fn pump(&mut self, effects: &mut Vec<Effect>) -> bool {
        let Some(sent) = self.sent else { return false };
        if !self.busy && self.acked >= sent && sent < self.position.end {
            self.busy = true;
            effects.push(Effect::ReadJournal { from: sent, bytes_max: READ_BYTES });
        }
        self.seen.replace(sent) != Some(sent)
    }

    pub(super) fn read(&mut self, delta: MetadataDelta, effects: &mut Vec<Effect>) {
        if self.busy && self.sent == Some(delta.base) {
            (self.busy, self.sent) = (false, Some(delta.end));
            effects.push(Effect::Send(Frame::MetadataDelta(delta)));
        }
    }

    pub(super) fn snapshot(&mut self, part: MetadataSnapshot, effects: &mut Vec<Effect>) {
        if !self.busy {
            return;
        }
        if part.last {
            (self.busy, self.sent) = (false, Some(part.position.end));
            // Only what is acknowledged from here on counts.
            self.acked = Offset::ZERO;
        } else {
            self.sent = None;
        }
        effects.push(Effect::Send(Frame::MetadataSnapshot(part)));
    }

    pub(super) fn acked(&mut self, end: Offset, effects: &mut Vec<Effect>) -> Result<(), String> {
        match self.sent {
            // Of the journal that a snapshot is about to replace.
            None => Ok(()),
            Some(sent) if end > sent => Err(format!("journal acknowledged up to {end}, sent up to {sent}")),
            Some(_) if end > self.acked => {
                self.acked = end;
                effects.push(Effect::JournalAcked { end });
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }
}
