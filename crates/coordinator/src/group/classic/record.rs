//! A classic group to and from its record.

use std::sync::Arc;

use chronik_model::Timestamp;

use super::ClassicGroup;
use super::member::Member;
use crate::GroupState;
use crate::codec::{self, CodecError, GroupMetadataValue};
use crate::runtime::{CoordinatorRecord, TimerKey, Turn};

impl ClassicGroup {
    /// The group as it stands.
    pub(crate) fn record(&self) -> Result<CoordinatorRecord, CodecError> {
        let protocol_name = self.protocol_name.as_deref().unwrap_or_default();
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.as_deref().map(str::to_owned),
            state_timestamp: self.state_since.unwrap_or(Timestamp::NONE),
            members: self.members.values().map(|member| member.as_record(protocol_name)).collect(),
        };
        CoordinatorRecord::new(codec::group_metadata_key(&self.id), Some(value.encode()))
    }

    /// A group nobody has joined: how a group stands in the log before its first generation.
    pub(crate) fn first_record(&self) -> Result<CoordinatorRecord, CodecError> {
        let value = GroupMetadataValue {
            protocol_type: String::new(),
            generation: 0,
            protocol_name: None,
            leader: None,
            state_timestamp: self.state_since.unwrap_or(Timestamp::NONE),
            members: Vec::new(),
        };
        CoordinatorRecord::new(codec::group_metadata_key(&self.id), Some(value.encode()))
    }

    pub(crate) fn tombstone(&self) -> Result<CoordinatorRecord, CodecError> {
        CoordinatorRecord::new(codec::group_metadata_key(&self.id), None)
    }

    /// The group a record says there is: stable where it has members, as records are written when they are assigned.
    pub(crate) fn from_record(id: Arc<str>, value: GroupMetadataValue) -> Self {
        let since = Some(value.state_timestamp).filter(|since| *since != Timestamp::NONE);
        let mut group = Self::new(id, since);
        group.protocol_type = Some(value.protocol_type).filter(|protocol_type| !protocol_type.is_empty());
        group.generation = value.generation;
        for member in value.members {
            let member = Member::from_record(member, value.protocol_name.as_deref());
            // Another record of the same id or instance cannot come from a coordinator; the first one stays.
            let instance_taken = member.instance_id.as_ref().is_some_and(|id| group.static_members.contains_key(id));
            if !instance_taken && !group.members.contains_key(&member.id) {
                group.insert_member(member);
            }
        }
        if !group.members.is_empty() {
            group.state = GroupState::Stable;
            group.protocol_name = Some(value.protocol_name.unwrap_or_default());
            let leader = value.leader.and_then(|leader| group.members.get_key_value(leader.as_str()));
            if let Some((leader, _)) = leader {
                group.leader = Some(Arc::clone(leader));
            }
        }
        group.subscribed_topics = group.compute_subscribed_topics();
        group
    }

    /// After a load the members have a whole session to find the coordinator. A group that has outgrown
    /// `group.max.size` rebalances.
    pub(crate) fn loaded(&mut self, turn: &mut Turn<'_>) {
        let member_ids: Vec<_> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            self.renew_session(turn, &member_id);
        }
        if self.members.len() > turn.config.group_size_max {
            self.prepare_rebalance(turn, "the loaded group is over its size limit".to_owned());
        }
    }

    /// Drops every timer of a group that goes away.
    pub(crate) fn cancel_timers(&self, turn: &mut Turn<'_>) {
        for member_id in self.members.keys().chain(&self.pending_join) {
            self.cancel_session(turn, member_id);
        }
        turn.timers.cancel(&TimerKey::Join(Arc::clone(&self.id)));
        turn.timers.cancel(&TimerKey::Sync(Arc::clone(&self.id)));
    }
}
