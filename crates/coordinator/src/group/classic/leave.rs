//! How members stay and go: Heartbeat, LeaveGroup, and sessions that end in silence.

use std::sync::Arc;

use super::{ClassicGroup, shortened};
use crate::message::{HeartbeatRequest, LeaveMember, LeaveMemberResponse};
use crate::runtime::{TimerKey, Turn};
use crate::{GroupError, GroupState};

impl ClassicGroup {
    pub(crate) fn heartbeat(&mut self, turn: &mut Turn<'_>, request: &HeartbeatRequest) -> Result<(), GroupError> {
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        self.renew_session(turn, &request.member_id);
        match self.state {
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMemberId),
        }
    }

    /// Lets members go, then rebalances what is left once.
    pub(crate) fn leave(&mut self, turn: &mut Turn<'_>, members: Vec<LeaveMember>) -> Vec<LeaveMemberResponse> {
        let mut gone = Vec::new();
        let mut responses = Vec::with_capacity(members.len());
        for member in members {
            let error = self.leave_one(turn, &member, &mut gone).err();
            let LeaveMember { member_id, instance_id, reason: _ } = member;
            responses.push(LeaveMemberResponse { member_id, instance_id, error });
        }
        if !gone.is_empty() {
            let reason = format!("members leave: {}", gone.join(", "));
            match self.state {
                GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(turn, reason),
                GroupState::PreparingRebalance => self.complete_join_if_all_joined(turn),
                GroupState::Empty | GroupState::Dead => {}
            }
        }
        responses
    }

    fn leave_one(
        &mut self,
        turn: &mut Turn<'_>,
        leaving: &LeaveMember,
        gone: &mut Vec<String>,
    ) -> Result<(), GroupError> {
        let member_id = if leaving.member_id.is_empty() {
            // An admin names a static member by its instance.
            let instance_id = leaving.instance_id.as_deref().ok_or(GroupError::UnknownMemberId)?;
            Arc::clone(self.static_members.get(instance_id).ok_or(GroupError::UnknownMemberId)?)
        } else {
            if !self.pending_join.contains(leaving.member_id.as_str()) {
                self.check_member(&leaving.member_id, leaving.instance_id.as_deref())?;
            }
            Arc::from(leaving.member_id.as_str())
        };
        self.remove_member(turn, &member_id);
        gone.push(match leaving.reason.as_deref() {
            None | Some("") => member_id.to_string(),
            Some(reason) => format!("{member_id} ({})", shortened(reason)),
        });
        Ok(())
    }

    /// A session timer: nothing was heard of the member for its session timeout.
    pub(crate) fn on_session_timer(&mut self, turn: &mut Turn<'_>, member_id: &Arc<str>) {
        if self.pending_join.remove(member_id) {
            if self.is_preparing() && self.has_all_members_joined() {
                self.complete_join(turn);
            }
            return;
        }
        let Some(member) = self.members.get(member_id) else { return };
        if !member.is_new {
            if member.awaiting_join.is_some() || member.awaiting_sync.is_some() {
                // The member cannot speak while its request waits; the answer starts its session anew.
                return;
            }
            if member.awaiting_append.is_some_and(|append| !turn.is_committed(append)) {
                let key = TimerKey::Session(Arc::clone(&self.id), Arc::clone(member_id));
                return turn.schedule(key, member.session_timeout);
            }
        }
        self.remove_member(turn, member_id);
        turn.counters.sessions_expired += 1;
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance(turn, format!("session of member expired: {member_id}"));
            }
            GroupState::PreparingRebalance if self.has_all_members_joined() => self.complete_join(turn),
            GroupState::PreparingRebalance | GroupState::Empty | GroupState::Dead => {}
        }
    }
}
