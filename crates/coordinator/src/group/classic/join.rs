//! JoinGroup: who gets in, under which id, and whether that makes the group rebalance.

use std::sync::Arc;

use bytes::Bytes;
use chronik_model::Uuid;

use super::member::Member;
use super::{ClassicGroup, shortened};
use crate::message::{JoinMember, JoinProtocol, JoinRequest, JoinResponse, Response, SyncResponse};
use crate::runtime::{ReplyToken, TimerKey, Turn};
use crate::{GroupError, GroupState};

impl ClassicGroup {
    pub(crate) fn join(&mut self, turn: &mut Turn<'_>, mut request: JoinRequest, token: ReplyToken) {
        keep_first_of_each_name(&mut request.protocols);
        if !self.accepts(turn, &request.member_id) {
            let member_id = Arc::from(request.member_id.as_str());
            self.remove_member(turn, &member_id);
            return refuse(turn, token, GroupError::GroupMaxSizeReached, "");
        }
        if !self.supports(&request.protocol_type, &request.protocols) {
            return refuse(turn, token, GroupError::InconsistentGroupProtocol, &request.member_id);
        }
        if request.member_id.is_empty() {
            self.join_without_id(turn, request, token);
        } else if self.pending_join.contains(request.member_id.as_str()) {
            if request.instance_id.is_some() {
                // Ids are given out to dynamic members alone.
                return refuse(turn, token, GroupError::UnknownMemberId, &request.member_id);
            }
            let member_id = Arc::from(request.member_id.as_str());
            self.add_member(turn, request, member_id, token);
        } else {
            self.rejoin(turn, request, token);
        }
    }

    /// Whether `group.max.size` leaves room. While members gather, those who came first count: a group that has
    /// become too large sheds the last to come.
    fn accepts(&self, turn: &Turn<'_>, member_id: &str) -> bool {
        let max = turn.config.group_size_max;
        let member = self.members.get(member_id);
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some()) || self.awaiting_join < max
            }
            GroupState::CompletingRebalance | GroupState::Stable => member.is_some() || self.members.len() < max,
        }
    }

    fn join_without_id(&mut self, turn: &mut Turn<'_>, request: JoinRequest, token: ReplyToken) {
        let stem = request.instance_id.as_ref().unwrap_or(&request.client_id);
        let member_id: Arc<str> = format!("{stem}-{}", Hyphenated((turn.ids)())).into();
        if self.members.contains_key(&member_id) || self.pending_join.contains(&member_id) {
            // Random ids do not meet, but two members under one id would be worse than a member that asks again.
            return refuse(turn, token, GroupError::CoordinatorNotAvailable, "");
        }
        if let Some(instance_id) = &request.instance_id {
            match self.static_members.get(instance_id.as_str()).cloned() {
                Some(held_by) => self.replace_static(turn, request, &held_by, member_id, token),
                None => self.add_member(turn, request, member_id, token),
            }
        } else if request.member_id_required {
            if self.pending_join.len() >= turn.config.pending_members_max {
                return refuse(turn, token, GroupError::CoordinatorNotAvailable, "");
            }
            let key = TimerKey::Session(Arc::clone(&self.id), Arc::clone(&member_id));
            turn.schedule(key, request.session_timeout);
            refuse(turn, token, GroupError::MemberIdRequired, &member_id);
            self.pending_join.insert(member_id);
        } else {
            self.add_member(turn, request, member_id, token);
        }
    }

    fn add_member(&mut self, turn: &mut Turn<'_>, request: JoinRequest, member_id: Arc<str>, token: ReplyToken) {
        let reason = why("member joins", &member_id, &request.reason);
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type);
        }
        if self.is_preparing() && self.previous_state == GroupState::Empty {
            self.joined_in_delay = true;
        }
        // A client that gives up while its first JoinGroup waits does not know its id and joins once more. Without
        // heartbeats to miss, only this time-out rids the group of what it left behind.
        let key = TimerKey::Session(Arc::clone(&self.id), Arc::clone(&member_id));
        turn.schedule(key, turn.config.new_member_join_timeout);
        self.insert_member(Member {
            id: member_id,
            instance_id: request.instance_id.map(Arc::from),
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout: request.session_timeout,
            rebalance_timeout: request.rebalance_timeout.unwrap_or(request.session_timeout),
            protocols: request.protocols,
            assignment: Bytes::new(),
            is_new: true,
            awaiting_join: Some(token),
            awaiting_sync: None,
            awaiting_append: None,
        });
        self.rebalance_or_complete_join(turn, reason);
    }

    /// A JoinGroup of a member that has its id.
    fn rejoin(&mut self, turn: &mut Turn<'_>, request: JoinRequest, token: ReplyToken) {
        if let Err(error) = self.check_member(&request.member_id, request.instance_id.as_deref()) {
            return refuse(turn, token, error, &request.member_id);
        }
        let Some(member) = self.members.get(request.member_id.as_str()) else {
            return refuse(turn, token, GroupError::UnknownMemberId, &request.member_id);
        };
        let unchanged = member.protocols == request.protocols;
        let is_leader = self.is_leader(&request.member_id);
        let what = match self.state {
            GroupState::PreparingRebalance => "member rejoins",
            // The member may have missed the answer to its first JoinGroup.
            GroupState::CompletingRebalance if unchanged => {
                let members = self.members_for(is_leader);
                let response = self.joined(&request.member_id, members, false);
                return turn.reply(token, Response::Join(response));
            }
            // A leader joins again to have partitions assigned anew, though nothing of its own has changed.
            GroupState::Stable if is_leader => "leader rejoins",
            GroupState::Stable if unchanged => {
                let response = self.joined(&request.member_id, Vec::new(), false);
                return turn.reply(token, Response::Join(response));
            }
            GroupState::CompletingRebalance | GroupState::Stable => "member changes its metadata",
            GroupState::Empty | GroupState::Dead => {
                return refuse(turn, token, GroupError::UnknownMemberId, &request.member_id);
            }
        };
        let reason = why(what, &request.member_id, &request.reason);
        let member_id = request.member_id.clone();
        self.update_member(turn, &member_id, request, token);
        self.rebalance_or_complete_join(turn, reason);
    }

    fn update_member(&mut self, turn: &mut Turn<'_>, member_id: &str, request: JoinRequest, token: ReplyToken) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.session_timeout = request.session_timeout;
        member.rebalance_timeout = request.rebalance_timeout.unwrap_or(request.session_timeout);
        let offered_now = request.protocols.clone();
        let offered_before = std::mem::replace(&mut member.protocols, request.protocols);
        self.count_offers(&offered_before, -1);
        self.count_offers(&offered_now, 1);
        self.set_awaiting_join(turn, member_id, token);
    }

    /// A static member came back without its id (KIP-345): it takes the place of the one that held the instance.
    fn replace_static(
        &mut self,
        turn: &mut Turn<'_>,
        request: JoinRequest,
        held_by: &Arc<str>,
        member_id: Arc<str>,
        token: ReplyToken,
    ) {
        let reason = why("static member returns", &member_id, &request.reason);
        let skip_assignment_supported = request.skip_assignment_supported;
        let leader_before = self.leader.clone();
        self.hand_over(turn, held_by, &member_id);
        self.update_member(turn, &member_id, request, token);
        self.renew_session(turn, &member_id);

        match self.state {
            GroupState::Stable => {
                // While the next generation would choose the same protocol the member only takes over the assignment.
                let record = self.record().ok().filter(|record| turn.fits(std::slice::from_ref(record)));
                let (true, Some(record)) = (self.select_protocol() == self.protocol_name, record) else {
                    return self.rebalance_or_complete_join(turn, reason);
                };
                let append = turn.append(vec![record]);
                self.last_append = append;
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.awaiting_append = Some(append);
                }
                let mut response = if skip_assignment_supported {
                    let is_leader = self.is_leader(&member_id);
                    self.joined(&member_id, self.members_for(is_leader), is_leader)
                } else {
                    self.joined(&member_id, Vec::new(), false)
                };
                if !skip_assignment_supported {
                    // A client that cannot be told to skip assigning is told that it does not lead.
                    response.leader = leader_before.as_deref().unwrap_or_default().to_owned();
                }
                if let Some(token) = self.take_awaiting_join(&member_id) {
                    turn.reply_after(token, Response::Join(response), append);
                }
            }
            // The leader may be assigning to the old id at this moment.
            GroupState::CompletingRebalance => self.prepare_rebalance(turn, reason),
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(turn),
            GroupState::Empty | GroupState::Dead => {}
        }
    }

    /// Puts a member under another id. Requests that wait under the old one are fenced.
    fn hand_over(&mut self, turn: &mut Turn<'_>, from: &Arc<str>, to: &Arc<str>) {
        self.answer_join(turn, from, JoinResponse::refused(GroupError::FencedInstanceId, &**from));
        self.answer_sync(turn, from, SyncResponse::refused(GroupError::FencedInstanceId));
        self.cancel_session(turn, from);
        let Some(mut member) = self.members.remove(from) else { return };
        member.id = Arc::clone(to);
        member.is_new = false;
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(Arc::clone(instance_id), Arc::clone(to));
        }
        self.members.insert(Arc::clone(to), member);
        if self.pending_sync.remove(from) {
            self.pending_sync.insert(Arc::clone(to));
        }
        if self.is_leader(from) {
            self.leader = Some(Arc::clone(to));
        }
    }

    /// All members with their metadata, for a leader.
    pub(super) fn members_for(&self, is_leader: bool) -> Vec<JoinMember> {
        let name = self.protocol_name.as_deref().unwrap_or_default();
        if is_leader { self.members.values().map(|member| member.as_joined(name)).collect() } else { Vec::new() }
    }

    /// The answer to a member of the current generation.
    pub(super) fn joined(&self, member_id: &str, members: Vec<JoinMember>, skip_assignment: bool) -> JoinResponse {
        JoinResponse {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.as_deref().unwrap_or_default().to_owned(),
            skip_assignment,
            member_id: member_id.to_owned(),
            members,
        }
    }
}

fn refuse(turn: &mut Turn<'_>, token: ReplyToken, error: GroupError, member_id: &str) {
    turn.reply(token, Response::Join(JoinResponse::refused(error, member_id)));
}

fn keep_first_of_each_name(protocols: &mut Vec<JoinProtocol>) {
    let mut seen = std::collections::BTreeSet::new();
    protocols.retain(|protocol| seen.insert(protocol.name.clone()));
}

fn why(what: &str, member_id: &str, reason: &Option<String>) -> String {
    match reason.as_deref() {
        None | Some("") => format!("{what}: {member_id}"),
        Some(reason) => format!("{what}: {member_id}, which says: {}", shortened(reason)),
    }
}

/// An id in the form Java prints, as Kafka's member ids end.
struct Hyphenated(Uuid);

impl std::fmt::Display for Hyphenated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, byte) in self.0.as_bytes().iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
