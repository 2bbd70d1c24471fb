//! The join phase: how it begins, whom it waits for, and the generation it ends in.

use std::sync::Arc;
use std::time::Duration;

use super::ClassicGroup;
use crate::message::{Response, SyncResponse};
use crate::runtime::{Effect, TimerKey, Turn};
use crate::{GroupError, GroupState};

/// A join phase that nobody came to is looked at again no sooner, whatever rebalance timeout its members ask for.
const RETRY_DELAY_MIN: Duration = Duration::from_secs(1);

impl ClassicGroup {
    /// Begins a rebalance, or, where one is under way, ends its join phase if nobody is waited for.
    pub(super) fn rebalance_or_complete_join(&mut self, turn: &mut Turn<'_>, reason: String) {
        match self.state {
            GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable => {
                self.prepare_rebalance(turn, reason);
            }
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(turn),
            GroupState::Dead => {}
        }
    }

    pub(super) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>, reason: String) {
        if self.state == GroupState::CompletingRebalance {
            self.reset_assignments(turn, GroupError::RebalanceInProgress);
        }
        self.pending_sync.clear();
        turn.timers.cancel(&TimerKey::Sync(Arc::clone(&self.id)));

        let is_first = self.state == GroupState::Empty;
        self.transition(turn, GroupState::PreparingRebalance);
        turn.effects.push(self.changed(reason));
        if is_first {
            // Consumers tend to start together: a group that was empty waits a little for the others.
            self.joined_in_delay = false;
            self.initial_delay = turn.config.initial_rebalance_delay;
            self.initial_delay_left = self.rebalance_timeout().saturating_sub(self.initial_delay);
            turn.schedule(TimerKey::Join(Arc::clone(&self.id)), self.initial_delay);
        } else if self.has_all_members_joined() {
            self.complete_join(turn);
        } else {
            turn.schedule(TimerKey::Join(Arc::clone(&self.id)), self.rebalance_timeout());
        }
    }

    /// Ends the join phase if everybody is there. The first one has its delay instead.
    pub(super) fn complete_join_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        if self.is_preparing() && self.previous_state != GroupState::Empty && self.has_all_members_joined() {
            self.complete_join(turn);
        }
    }

    /// The join timer: the time of a join phase is over, or the delay of a first one.
    pub(crate) fn on_join_timer(&mut self, turn: &mut Turn<'_>) {
        if !self.is_preparing() {
            return;
        }
        let is_first = self.previous_state == GroupState::Empty;
        if is_first && self.joined_in_delay && !self.initial_delay_left.is_zero() {
            self.joined_in_delay = false;
            let delay = turn.config.initial_rebalance_delay.min(self.initial_delay_left);
            self.initial_delay_left = self.initial_delay_left.saturating_sub(self.initial_delay);
            self.initial_delay = delay;
            turn.schedule(TimerKey::Join(Arc::clone(&self.id)), delay);
        } else {
            self.complete_join(turn);
        }
    }

    /// Ends the join phase: dynamic members that did not join are gone, the others are the next generation.
    pub(super) fn complete_join(&mut self, turn: &mut Turn<'_>) {
        turn.timers.cancel(&TimerKey::Join(Arc::clone(&self.id)));
        let missing = self.members.values().filter(|member| member.awaiting_join.is_none());
        let missing: Vec<_> =
            missing.filter(|member| member.instance_id.is_none()).map(|member| Arc::clone(&member.id)).collect();
        for member_id in &missing {
            self.remove_member(turn, member_id);
        }
        if !self.members.is_empty() && !self.lead_by_a_joined_member() {
            // Only static members are left and none has joined. They stay until their sessions end.
            let delay = self.rebalance_timeout().max(RETRY_DELAY_MIN);
            turn.schedule(TimerKey::Join(Arc::clone(&self.id)), delay);
            return;
        }

        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.pending_sync.clear();
        if self.members.is_empty() {
            self.protocol_name = None;
            self.subscribed_topics = self.compute_subscribed_topics();
            self.transition(turn, GroupState::Empty);
            turn.effects.push(self.changed("nobody joined".to_owned()));
            if let Ok(record) = self.record() {
                self.last_append = turn.append(vec![record]);
            }
            return;
        }
        self.protocol_name = self.select_protocol();
        self.subscribed_topics = self.compute_subscribed_topics();
        self.transition(turn, GroupState::CompletingRebalance);
        turn.effects.push(self.changed("join phase is over".to_owned()));
        let member_ids: Vec<_> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let response = self.joined(&member_id, self.members_for(self.is_leader(&member_id)), false);
            self.answer_join(turn, &member_id, response);
            self.renew_session(turn, &member_id);
            if let Some(member) = self.members.get_mut(&member_id) {
                member.is_new = false;
            }
            self.pending_sync.insert(member_id);
        }
        turn.schedule(TimerKey::Sync(Arc::clone(&self.id)), self.rebalance_timeout());
    }

    /// The leader must be one who takes part. False where nobody does.
    fn lead_by_a_joined_member(&mut self) -> bool {
        let has_joined = |id: &Arc<str>| self.members.get(id).is_some_and(|member| member.awaiting_join.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let Some(joined) = self.members.keys().find(|id| has_joined(id)).cloned() else { return false };
        self.leader = Some(joined);
        true
    }

    /// Takes the assignments back and tells whoever waits for one.
    pub(super) fn reset_assignments(&mut self, turn: &mut Turn<'_>, error: GroupError) {
        let mut waiting = Vec::new();
        for member in self.members.values_mut() {
            member.assignment.clear();
            if let Some(token) = member.awaiting_sync.take() {
                waiting.push((Arc::clone(&member.id), token));
            }
        }
        for (member_id, token) in waiting {
            turn.reply(token, Response::Sync(SyncResponse::refused(error)));
            self.renew_session(turn, &member_id);
        }
    }

    pub(super) fn changed(&self, reason: String) -> Effect {
        Effect::StateChanged {
            group_id: Arc::clone(&self.id),
            state: self.state,
            generation: self.generation,
            members: self.members.len(),
            reason,
        }
    }

    /// What the log of the process is told of a group that is taken out.
    pub(crate) fn died(&self, reason: String) -> Effect {
        let group_id = Arc::clone(&self.id);
        Effect::StateChanged { group_id, state: GroupState::Dead, generation: self.generation, members: 0, reason }
    }
}
