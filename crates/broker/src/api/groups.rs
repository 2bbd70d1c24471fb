//! The group APIs but for offsets: FindCoordinator (KIP-699), JoinGroup, SyncGroup, Heartbeat, LeaveGroup, ListGroups,
//! DescribeGroups, DeleteGroups. The decisions are the coordinator's; here they get their shape on the wire.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chronik_coordinator::message::{self, DescribedGroup, JoinProtocol, LeaveMember, SyncAssignment};
use chronik_coordinator::{GroupError, Response};
use chronik_wire::ErrorCode;
use chronik_wire::messages::delete_groups_response::DeletableGroupResult;
use chronik_wire::messages::describe_groups_response::{DescribedGroup as DescribedRow, DescribedGroupMember};
use chronik_wire::messages::find_coordinator_response::Coordinator;
use chronik_wire::messages::join_group_response::JoinGroupResponseMember;
use chronik_wire::messages::leave_group_response::MemberResponse;
use chronik_wire::messages::list_groups_response::ListedGroup;
use chronik_wire::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, SyncGroupRequest, SyncGroupResponse,
};

use super::Call;
use super::authorized_operations::{self, NOT_ASKED};
use crate::error_code::{group, group_or_none};

const KEY_TYPE_GROUP: i8 = 0;
const KEY_TYPE_TRANSACTION: i8 = 1;
const KEY_TYPE_SHARE: i8 = 2;
/// The version of FindCoordinator that knows share groups.
const SHARE_SINCE: i16 = 6;

const UNAVAILABLE: (ErrorCode, &str) = (ErrorCode::CoordinatorNotAvailable, "The coordinator is not available.");

/// A shard answered a request with the answer to another one: our mistake, told as such.
const MISMATCH: GroupError = GroupError::UnknownServerError;

pub(super) fn millis(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

pub(super) async fn find_coordinator(call: Arc<Call>, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let outcome = match request.key_type {
        // Whoever leads makes what is missing.
        KEY_TYPE_GROUP if call.broker.controller_id() != call.broker.this_node().node_id => Ok(()),
        KEY_TYPE_GROUP => call.broker.ensure_offsets_topic().await.map_err(|code| (code, code.message())),
        KEY_TYPE_TRANSACTION => Err((ErrorCode::UnsupportedVersion, "This broker does not serve transactions.")),
        KEY_TYPE_SHARE if call.version() < SHARE_SINCE => {
            Err((ErrorCode::InvalidRequest, ErrorCode::InvalidRequest.message()))
        }
        KEY_TYPE_SHARE => Err((ErrorCode::UnsupportedVersion, "This broker does not serve share groups.")),
        _ => Err((ErrorCode::InvalidRequest, "Unknown coordinator type.")),
    };
    let coordinator = call.broker.controller_id();
    let known = call.broker.brokers_for_clients().into_iter().find(|(node_id, ..)| *node_id == coordinator);
    let (code, message, node_id, host, port) = match outcome.and_then(|()| known.ok_or(UNAVAILABLE)) {
        Ok((node_id, host, port, _)) => (ErrorCode::None, None, node_id.get(), host, i32::from(port)),
        Err((code, message)) => (code, Some(message.to_owned()), -1, String::new(), -1),
    };
    if call.version() <= 3 {
        return FindCoordinatorResponse {
            error_code: code.code(),
            // Apache Kafka names the success, too.
            error_message: message.or_else(|| Some(ErrorCode::None.name().to_owned())),
            node_id,
            host,
            port,
            ..Default::default()
        };
    }
    let coordinators = request
        .coordinator_keys
        .into_iter()
        .map(|key| Coordinator {
            key,
            node_id,
            host: host.clone(),
            port,
            error_code: code.code(),
            error_message: message.clone(),
        })
        .collect();
    FindCoordinatorResponse { coordinators, ..Default::default() }
}

/// Bytes of their own: a slice kept in a group would keep the whole request in memory.
fn owned(slice: &Bytes) -> Bytes {
    Bytes::copy_from_slice(slice)
}

/// A JoinGroup without its request.
pub(super) fn take_join(call: &Call, request: JoinGroupRequest) -> message::JoinRequest {
    let version = call.version();
    message::JoinRequest {
        group_id: request.group_id,
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        client_id: call.client_id().to_owned(),
        client_host: format!("/{}", call.peer.address.ip()),
        session_timeout: millis(request.session_timeout_ms),
        rebalance_timeout: (version >= 1).then(|| millis(request.rebalance_timeout_ms)),
        protocol_type: request.protocol_type,
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| JoinProtocol { name: protocol.name, metadata: owned(&protocol.metadata) })
            .collect(),
        reason: request.reason,
        member_id_required: version >= 4,
        skip_assignment_supported: version >= 9,
    }
}

pub(super) async fn join(call: Arc<Call>, join: message::JoinRequest) -> JoinGroupResponse {
    let version = call.version();
    let group_id = join.group_id.clone();
    let member_id = join.member_id.clone();
    let joined =
        call.broker.groups.call(&group_id, |shard, now, token, effects| shard.join(now, join, token, effects)).await;
    match joined {
        Ok(Response::Join(joined)) => JoinGroupResponse {
            error_code: group_or_none(joined.error).code(),
            generation_id: joined.generation,
            // Null came with version 7.
            protocol_type: joined.protocol_type,
            protocol_name: joined.protocol_name.or_else(|| (version < 7).then(String::new)),
            leader: joined.leader,
            skip_assignment: joined.skip_assignment,
            member_id: joined.member_id,
            members: joined
                .members
                .into_iter()
                .map(|member| JoinGroupResponseMember {
                    member_id: member.member_id,
                    group_instance_id: member.instance_id,
                    metadata: member.metadata,
                })
                .collect(),
            ..Default::default()
        },
        other => JoinGroupResponse {
            error_code: group(other.err().unwrap_or(MISMATCH)).code(),
            generation_id: -1,
            protocol_name: (version < 7).then(String::new),
            member_id,
            ..Default::default()
        },
    }
}

/// A SyncGroup without its request.
pub(super) fn take_sync(_: &Call, request: SyncGroupRequest) -> message::SyncRequest {
    message::SyncRequest {
        group_id: request.group_id,
        generation: request.generation_id,
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        protocol_type: request.protocol_type,
        protocol_name: request.protocol_name,
        assignments: request
            .assignments
            .into_iter()
            .map(|assigned| SyncAssignment { member_id: assigned.member_id, assignment: owned(&assigned.assignment) })
            .collect(),
    }
}

pub(super) async fn sync(call: Arc<Call>, sync: message::SyncRequest) -> SyncGroupResponse {
    let group_id = sync.group_id.clone();
    let synced =
        call.broker.groups.call(&group_id, |shard, now, token, effects| shard.sync(now, sync, token, effects)).await;
    match synced {
        Ok(Response::Sync(synced)) => SyncGroupResponse {
            error_code: group_or_none(synced.error).code(),
            protocol_type: synced.protocol_type,
            protocol_name: synced.protocol_name,
            assignment: synced.assignment,
            ..Default::default()
        },
        other => SyncGroupResponse { error_code: group(other.err().unwrap_or(MISMATCH)).code(), ..Default::default() },
    }
}

pub(super) async fn heartbeat(call: Arc<Call>, request: HeartbeatRequest) -> HeartbeatResponse {
    let beat = message::HeartbeatRequest {
        group_id: request.group_id,
        generation: request.generation_id,
        member_id: request.member_id,
        instance_id: request.group_instance_id,
    };
    let heard = call
        .broker
        .groups
        .call(&beat.group_id.clone(), |shard, now, token, effects| shard.heartbeat(now, &beat, token, effects))
        .await;
    let code = match heard {
        Ok(Response::Heartbeat(response)) => group_or_none(response.error),
        other => group(other.err().unwrap_or(MISMATCH)),
    };
    HeartbeatResponse { error_code: code.code(), ..Default::default() }
}

pub(super) async fn leave(call: Arc<Call>, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let version = call.version();
    let group_id = request.group_id.clone();
    let members = if version <= 2 {
        vec![LeaveMember { member_id: request.member_id, ..Default::default() }]
    } else {
        request
            .members
            .into_iter()
            .map(|member| LeaveMember {
                member_id: member.member_id,
                instance_id: member.group_instance_id,
                reason: member.reason,
            })
            .collect()
    };
    let leave = message::LeaveRequest { group_id: request.group_id, members };
    let left =
        call.broker.groups.call(&group_id, |shard, now, token, effects| shard.leave(now, leave, token, effects)).await;
    let (error, members) = match left {
        Ok(Response::Leave(response)) => (response.error, response.members),
        other => (Some(other.err().unwrap_or(MISMATCH)), Vec::new()),
    };
    if version <= 2 {
        let error = error.or_else(|| members.first().and_then(|member| member.error));
        return LeaveGroupResponse { error_code: group_or_none(error).code(), ..Default::default() };
    }
    LeaveGroupResponse {
        error_code: group_or_none(error).code(),
        members: members
            .into_iter()
            .map(|member| MemberResponse {
                member_id: member.member_id,
                group_instance_id: member.instance_id,
                error_code: group_or_none(member.error).code(),
            })
            .collect(),
        ..Default::default()
    }
}

pub(super) fn list(call: &Call, request: ListGroupsRequest) -> ListGroupsResponse {
    let (states, types) = (request.states_filter, request.types_filter);
    if call.broker.is_fenced() {
        return ListGroupsResponse { error_code: ErrorCode::NotCoordinator.code(), ..Default::default() };
    }
    let mut groups = Vec::new();
    call.broker.look_at_groups();
    for listed in call.broker.groups.look_at_all(|shard| shard.list(&states, &types)) {
        match listed {
            Ok(listed) => groups.extend(listed.into_iter().map(|listed| ListedGroup {
                group_id: listed.group_id,
                protocol_type: listed.protocol_type,
                group_state: listed.state.name().to_owned(),
                group_type: "classic".to_owned(),
            })),
            Err(GroupError::NotCoordinator) => {}
            Err(error) => return ListGroupsResponse { error_code: group(error).code(), ..Default::default() },
        }
    }
    ListGroupsResponse { groups, ..Default::default() }
}

pub(super) fn describe(call: &Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let authorized = if request.include_authorized_operations { authorized_operations::GROUP } else { NOT_ASKED };
    call.broker.look_at_groups();
    let groups = request
        .groups
        .into_iter()
        .map(|group_id| {
            let described = call
                .broker
                .groups
                .look(&group_id, |shard| shard.describe(&[&group_id]))
                .and_then(|described| described)
                .and_then(|mut groups| groups.pop().ok_or(MISMATCH));
            match described {
                Ok(described) => described_row(described, call.version(), authorized),
                Err(error) => DescribedRow {
                    error_code: group(error).code(),
                    group_id,
                    authorized_operations: NOT_ASKED,
                    ..Default::default()
                },
            }
        })
        .collect();
    DescribeGroupsResponse { groups, ..Default::default() }
}

fn described_row(described: DescribedGroup, version: i16, authorized_operations: i32) -> DescribedRow {
    // Before version 6 a missing group was only told by its state (KIP-1043).
    let error = described.error.filter(|error| version >= 6 || *error != GroupError::GroupIdNotFound);
    let error_message = error.map(|_| format!("Group {} not found.", described.group_id));
    DescribedRow {
        error_code: group_or_none(error).code(),
        error_message,
        group_id: described.group_id,
        group_state: described.state.name().to_owned(),
        protocol_type: described.protocol_type,
        protocol_data: described.protocol_name,
        members: described
            .members
            .into_iter()
            .map(|member| DescribedGroupMember {
                member_id: member.member_id,
                group_instance_id: member.instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                member_metadata: member.metadata,
                member_assignment: member.assignment,
            })
            .collect(),
        authorized_operations,
    }
}

pub(super) async fn delete(call: Arc<Call>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = BTreeMap::new();
    for group_id in request.groups_names {
        let asked = vec![group_id.clone()];
        let deleted = call
            .broker
            .groups
            .call(&group_id, |shard, now, token, effects| shard.delete_groups(now, asked, token, effects))
            .await;
        let error = match deleted {
            Ok(Response::DeleteGroups(response)) => match response.groups.into_iter().next() {
                Some((_, error)) => error,
                None => Some(MISMATCH),
            },
            other => Some(other.err().unwrap_or(MISMATCH)),
        };
        results.insert(group_id, group_or_none(error).code());
    }
    let results =
        results.into_iter().map(|(group_id, error_code)| DeletableGroupResult { group_id, error_code }).collect();
    DeleteGroupsResponse { results, ..Default::default() }
}
