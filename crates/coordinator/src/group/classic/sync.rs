//! SyncGroup: the leader hands in what it assigned, the others fetch it, and whoever does neither is removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::ClassicGroup;
use crate::message::{Response, SyncRequest, SyncResponse};
use crate::runtime::{AppendToken, ReplyToken, TimerKey, Turn};
use crate::{GroupError, GroupState};

impl ClassicGroup {
    pub(crate) fn sync(&mut self, turn: &mut Turn<'_>, request: SyncRequest, token: ReplyToken) {
        if let Err(error) = self.check_sync(&request) {
            return turn.reply(token, Response::Sync(SyncResponse::refused(error)));
        }
        self.pending_sync.remove(request.member_id.as_str());
        if self.pending_sync.is_empty() && self.state == GroupState::Stable {
            turn.timers.cancel(&TimerKey::Sync(Arc::clone(&self.id)));
        }
        match self.state {
            GroupState::CompletingRebalance => {
                self.set_awaiting_sync(turn, &request.member_id, token);
                if self.is_leader(&request.member_id) {
                    self.assign(turn, request);
                }
            }
            _ => self.give_assignment(turn, &request.member_id, token),
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        if self.state == GroupState::Empty {
            return Err(GroupError::UnknownMemberId);
        }
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol_name, &self.protocol_name)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        if self.is_preparing() {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    fn set_awaiting_sync(&mut self, turn: &mut Turn<'_>, member_id: &str, token: ReplyToken) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        if let Some(superseded) = member.awaiting_sync.replace(token) {
            let response = SyncResponse::refused(GroupError::RebalanceInProgress);
            turn.reply(superseded, Response::Sync(response));
        }
    }

    /// The leader's assignment makes the generation stable. Members it does not name get nothing.
    fn assign(&mut self, turn: &mut Turn<'_>, request: SyncRequest) {
        let mut assignments: BTreeMap<String, Bytes> =
            request.assignments.into_iter().map(|given| (given.member_id, given.assignment)).collect();
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&*member.id).unwrap_or_default();
        }
        // The record carries the time of the transition it makes.
        self.state_since = Some(turn.now.wall);
        let record = self.record().ok().filter(|record| turn.fits(std::slice::from_ref(record)));
        let Some(record) = record else {
            self.reset_assignments(turn, GroupError::UnknownServerError);
            return self.prepare_rebalance(turn, "the assignment is too large to be stored".to_owned());
        };
        self.transition(turn, GroupState::Stable);
        turn.counters.rebalances += 1;
        turn.effects.push(self.changed(format!("leader assigned: {}", request.member_id)));
        let append = turn.append(vec![record]);
        self.last_append = append;
        let waiting: Vec<_> = self
            .members
            .values_mut()
            .filter_map(|member| member.awaiting_sync.take().map(|token| (Arc::clone(&member.id), token)))
            .collect();
        for (member_id, token) in waiting {
            self.give_assignment(turn, &member_id, token);
        }
        if self.pending_sync.is_empty() {
            turn.timers.cancel(&TimerKey::Sync(Arc::clone(&self.id)));
        }
    }

    /// Answers with the assignment once it is committed. The session runs anew, since the wait was not the member's.
    fn give_assignment(&mut self, turn: &mut Turn<'_>, member_id: &str, token: ReplyToken) {
        let append = self.last_append;
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.awaiting_append = Some(append).filter(|append: &AppendToken| !turn.is_committed(*append));
        let response = SyncResponse {
            error: None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: member.assignment.clone(),
        };
        turn.reply_after(token, Response::Sync(response), append);
        self.renew_session(turn, member_id);
    }

    /// The sync timer: members that have joined the generation but not synced are gone, the leader among them.
    pub(crate) fn on_sync_timer(&mut self, turn: &mut Turn<'_>) {
        if self.pending_sync.is_empty() || !matches!(self.state, GroupState::CompletingRebalance | GroupState::Stable) {
            return;
        }
        let missing = std::mem::take(&mut self.pending_sync);
        for member_id in &missing {
            self.remove_member(turn, member_id);
        }
        let names: Vec<&str> = missing.iter().map(|id| &**id).collect();
        self.prepare_rebalance(turn, format!("members did not sync: {}", names.join(", ")));
    }
}

/// Only two names can differ; who names nothing agrees.
fn differs(named: &Option<String>, actual: &Option<String>) -> bool {
    matches!((named, actual), (Some(named), Some(actual)) if named != actual)
}
