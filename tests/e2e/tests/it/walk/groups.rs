//! Visits to the APIs of consumer groups.

use chronik_e2e::raw::{Connection, assert_code, assert_none};
use chronik_e2e::wait;
use chronik_wire::messages::join_group_request::JoinGroupRequestProtocol;
use chronik_wire::messages::leave_group_request::MemberIdentity;
use chronik_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use chronik_wire::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use chronik_wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use chronik_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use chronik_wire::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    SyncGroupRequest,
};
use chronik_wire::{ErrorCode, Uuid};

use super::{World, subscription, unique};

const BOUND: std::time::Duration = std::time::Duration::from_secs(30);

/// A group whose coordinator is ready: it answers "loading" or "not available" for a moment after its topic was created.
fn ready_group(world: &World, what: &str) -> String {
    let group = unique(what);
    wait::until_true("a coordinator", BOUND, || {
        let request = FindCoordinatorRequest { key: group.clone(), key_type: 0, ..Default::default() };
        world.connect().ask(3, &request).error_code == 0
    });
    wait::until_true("a loaded coordinator", BOUND, || {
        let request = DescribeGroupsRequest { groups: vec![group.clone()], ..Default::default() };
        world.connect().ask(5, &request).groups[0].error_code == 0
    });
    group
}

fn join_request(world: &World, group: &str, version: i16) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: if version >= 1 { 10_000 } else { -1 },
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: subscription(&world.topic).into(),
        }],
        ..Default::default()
    }
}

/// A stable group of one member: its id, member id and generation.
fn stable(world: &World, what: &str) -> (String, String, i32) {
    let group = ready_group(world, what);
    let mut connection = world.connect();
    let joined = connection.ask(3, &join_request(world, &group, 3));
    assert_none(joined.error_code, "join");
    let assignment =
        SyncGroupRequestAssignment { member_id: joined.member_id.clone(), assignment: b"assigned".to_vec().into() };
    let request = SyncGroupRequest {
        group_id: group.clone(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: vec![assignment],
        ..Default::default()
    };
    assert_none(connection.ask(3, &request).error_code, "sync");
    (group, joined.member_id, joined.generation_id)
}

/// A group without members in which an offset was committed for partition 0: 2, with metadata.
fn committed(world: &World, what: &str) -> String {
    let group = ready_group(world, what);
    commit(world, &mut world.connect(), 9, &group, 2);
    group
}

fn commit(world: &World, connection: &mut Connection, version: i16, group: &str, offset: i64) {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_leader_epoch: -1,
        committed_metadata: Some("noted".to_owned()),
    };
    let mut topic =
        OffsetCommitRequestTopic { name: world.topic.clone(), partitions: vec![partition], ..Default::default() };
    if version >= 10 {
        (topic.name, topic.topic_id) = (String::new(), world.topic_id);
    }
    let request = OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: -1,
        retention_time_ms: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let response = connection.ask(version, &request);
    let topic = &response.topics[0];
    if version >= 10 {
        assert_eq!(topic.topic_id, world.topic_id);
    } else {
        assert_eq!(topic.name, world.topic);
    }
    assert_none(topic.partitions[0].error_code, "commit");
}

pub(super) fn find_coordinator(world: &World, connection: &mut Connection, version: i16) {
    let group = ready_group(world, "find");
    if version >= 4 {
        let keys = vec![group.clone(), format!("{group}-2")];
        let response =
            connection.ask(version, &FindCoordinatorRequest { coordinator_keys: keys.clone(), ..Default::default() });
        assert_eq!(response.coordinators.iter().map(|found| found.key.clone()).collect::<Vec<_>>(), keys);
        for found in &response.coordinators {
            assert_none(found.error_code, "find coordinator");
            assert_eq!(format!("{}:{}", found.host, found.port), world.bootstrap);
            assert_eq!(found.node_id, world.node_id);
        }
    } else {
        let response = connection.ask(version, &FindCoordinatorRequest { key: group, ..Default::default() });
        assert_none(response.error_code, "find coordinator");
        assert_eq!(format!("{}:{}", response.host, response.port), world.bootstrap);
        assert_eq!(response.node_id, world.node_id);
    }
}

pub(super) fn join_group(world: &World, connection: &mut Connection, version: i16) {
    let group = ready_group(world, "join");
    let mut request = join_request(world, &group, version);
    let mut joined = connection.ask(version, &request);
    if version >= 4 {
        assert_code(joined.error_code, ErrorCode::MemberIdRequired, "the first join");
        assert!(!joined.member_id.is_empty());
        request.member_id = joined.member_id.clone();
        joined = connection.ask(version, &request);
    }
    assert_none(joined.error_code, "join");
    assert_eq!(joined.generation_id, 1);
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].metadata[..], subscription(&world.topic)[..]);
    if version >= 7 {
        assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    }
    let mut stranger = join_request(world, &group, version);
    stranger.member_id = "nobody".to_owned();
    assert_code(connection.ask(version, &stranger).error_code, ErrorCode::UnknownMemberId, "an unknown member");
    let mut hasty = join_request(world, &group, version);
    hasty.session_timeout_ms = 1;
    assert_code(connection.ask(version, &hasty).error_code, ErrorCode::InvalidSessionTimeout, "a short session");
    let empty = join_request(world, "", version);
    assert_code(connection.ask(version, &empty).error_code, ErrorCode::InvalidGroupId, "no group");
}

pub(super) fn sync_group(world: &World, connection: &mut Connection, version: i16) {
    let group = ready_group(world, "sync");
    let joined = connection.ask(3, &join_request(world, &group, 3));
    assert_none(joined.error_code, "join");
    let assignment =
        SyncGroupRequestAssignment { member_id: joined.member_id.clone(), assignment: b"assigned".to_vec().into() };
    let mut request = SyncGroupRequest {
        group_id: group,
        generation_id: joined.generation_id,
        member_id: joined.member_id,
        assignments: vec![assignment],
        ..Default::default()
    };
    if version >= 5 {
        (request.protocol_type, request.protocol_name) = (Some("consumer".to_owned()), Some("range".to_owned()));
    }
    let answer = connection.ask(version, &request);
    assert_none(answer.error_code, "sync");
    assert_eq!(answer.assignment[..], b"assigned"[..]);
    if version >= 5 {
        assert_eq!(answer.protocol_name.as_deref(), Some("range"));
    }
    request.generation_id += 1;
    assert_code(connection.ask(version, &request).error_code, ErrorCode::IllegalGeneration, "another generation");
}

pub(super) fn heartbeat(world: &World, connection: &mut Connection, version: i16) {
    let (group_id, member_id, generation_id) = stable(world, "heartbeat");
    let mut request = HeartbeatRequest { group_id, generation_id, member_id, group_instance_id: None };
    assert_none(connection.ask(version, &request).error_code, "heartbeat");
    request.generation_id = 99;
    assert_code(connection.ask(version, &request).error_code, ErrorCode::IllegalGeneration, "generation 99");
    request.member_id = "nobody".to_owned();
    assert_code(connection.ask(version, &request).error_code, ErrorCode::UnknownMemberId, "an unknown member");
}

pub(super) fn leave_group(world: &World, connection: &mut Connection, version: i16) {
    let (group_id, member_id, _) = stable(world, "leave");
    let mut request = LeaveGroupRequest { group_id, ..Default::default() };
    if version >= 3 {
        request.members = vec![MemberIdentity { member_id: member_id.clone(), ..Default::default() }];
    } else {
        request.member_id.clone_from(&member_id);
    }
    let left = connection.ask(version, &request);
    assert_none(left.error_code, "leave");
    if version >= 3 {
        assert_eq!(left.members[0].member_id, member_id);
        assert_none(left.members[0].error_code, "leave");
    }
    let again = connection.ask(version, &request);
    let code = if version >= 3 { again.members[0].error_code } else { again.error_code };
    assert_code(code, ErrorCode::UnknownMemberId, "leaving twice");
}

pub(super) fn offset_commit(world: &World, connection: &mut Connection, version: i16) {
    let group = ready_group(world, "commit");
    commit(world, connection, version, &group, 3);
    let request = OffsetFetchRequest {
        group_id: group,
        topics: Some(vec![OffsetFetchRequestTopic { name: world.topic.clone(), partition_indexes: vec![0] }]),
        ..Default::default()
    };
    assert_eq!(connection.ask(5, &request).topics[0].partitions[0].committed_offset, 3);
}

pub(super) fn offset_fetch(world: &World, connection: &mut Connection, version: i16) {
    let group = committed(world, "fetch");
    let partitions: Vec<(i32, i64, Option<String>, i16)>;
    if version >= 8 {
        let mut topic =
            OffsetFetchRequestTopics { name: world.topic.clone(), topic_id: Uuid::ZERO, partition_indexes: vec![0, 1] };
        if version >= 10 {
            (topic.name, topic.topic_id) = (String::new(), world.topic_id);
        }
        let asked = OffsetFetchRequestGroup {
            group_id: group.clone(),
            member_id: None,
            member_epoch: -1,
            topics: Some(vec![topic]),
        };
        let response = connection.ask(version, &OffsetFetchRequest { groups: vec![asked], ..Default::default() });
        assert_none(response.groups[0].error_code, "offset fetch");
        let found = &response.groups[0].topics[0].partitions;
        partitions =
            found.iter().map(|p| (p.partition_index, p.committed_offset, p.metadata.clone(), p.error_code)).collect();
    } else {
        let topics = Some(vec![OffsetFetchRequestTopic { name: world.topic.clone(), partition_indexes: vec![0, 1] }]);
        let response =
            connection.ask(version, &OffsetFetchRequest { group_id: group.clone(), topics, ..Default::default() });
        assert_none(response.error_code, "offset fetch");
        let found = &response.topics[0].partitions;
        partitions =
            found.iter().map(|p| (p.partition_index, p.committed_offset, p.metadata.clone(), p.error_code)).collect();
    }
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(partitions, [(0, 2, text("noted"), 0), (1, -1, text(""), 0)]);
    if (2..8).contains(&version) {
        let all = connection.ask(version, &OffsetFetchRequest { group_id: group, topics: None, ..Default::default() });
        assert_eq!(all.topics.len(), 1);
        assert_eq!(all.topics[0].partitions.len(), 1);
    }
}

pub(super) fn offset_delete(world: &World, connection: &mut Connection, version: i16) {
    let group = committed(world, "delete-offset");
    let topics = vec![OffsetDeleteRequestTopic {
        name: world.topic.clone(),
        partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
    }];
    let response = connection.ask(version, &OffsetDeleteRequest { group_id: group, topics });
    assert_none(response.error_code, "offset delete");
    assert_none(response.topics[0].partitions[0].error_code, "offset delete");
}

pub(super) fn list_groups(world: &World, connection: &mut Connection, version: i16) {
    let (busy, ..) = stable(world, "list-stable");
    let empty = committed(world, "list-empty");
    let response = connection.ask(version, &ListGroupsRequest::default());
    assert_none(response.error_code, "list groups");
    let found = |id: &str| response.groups.iter().find(|group| group.group_id == id).expect("the group is listed");
    assert_eq!(found(&busy).protocol_type, "consumer");
    assert_eq!(found(&empty).protocol_type, "");
    if version >= 4 {
        assert_eq!((found(&busy).group_state.as_str(), found(&empty).group_state.as_str()), ("Stable", "Empty"));
        let filter = ListGroupsRequest { states_filter: vec!["Stable".to_owned()], ..Default::default() };
        let filtered = connection.ask(version, &filter).groups;
        assert!(filtered.iter().any(|group| group.group_id == busy));
        assert!(filtered.iter().all(|group| group.group_id != empty));
    }
    if version >= 5 {
        assert_eq!(found(&busy).group_type, "classic");
        let filter = ListGroupsRequest { types_filter: vec!["consumer".to_owned()], ..Default::default() };
        assert!(connection.ask(version, &filter).groups.iter().all(|group| group.group_id != busy));
    }
}

pub(super) fn describe_groups(world: &World, connection: &mut Connection, version: i16) {
    let (group, member, _) = stable(world, "describe");
    let nobody = unique("nobody");
    let request = DescribeGroupsRequest { groups: vec![group.clone(), nobody.clone()], ..Default::default() };
    let response = connection.ask(version, &request);
    let described = |id: &str| response.groups.iter().find(|found| found.group_id == id).expect("an answer");
    let found = described(&group);
    assert_none(found.error_code, "describe groups");
    assert_eq!(found.group_state, "Stable");
    assert_eq!((found.protocol_type.as_str(), found.protocol_data.as_str()), ("consumer", "range"));
    assert_eq!(found.members[0].member_id, member);
    assert_eq!(found.members[0].client_id, "chronik-e2e");
    assert_eq!(found.members[0].member_metadata[..], subscription(&world.topic)[..]);
    assert_eq!(found.members[0].member_assignment[..], b"assigned"[..]);
    assert_eq!(described(&nobody).group_state, "Dead");
    let expected = if version >= 6 { ErrorCode::GroupIdNotFound } else { ErrorCode::None };
    assert_code(described(&nobody).error_code, expected, "an unknown group");
}

pub(super) fn delete_groups(world: &World, connection: &mut Connection, version: i16) {
    let (busy, ..) = stable(world, "delete-stable");
    let empty = committed(world, "delete-empty");
    let nobody = unique("nobody");
    let request = DeleteGroupsRequest { groups_names: vec![busy.clone(), empty.clone(), nobody.clone()] };
    let response = connection.ask(version, &request);
    let code = |id: &str| response.results.iter().find(|result| result.group_id == id).expect("an answer").error_code;
    assert_code(code(&busy), ErrorCode::NonEmptyGroup, "a group with a member");
    assert_none(code(&empty), "an empty group");
    assert_code(code(&nobody), ErrorCode::GroupIdNotFound, "an unknown group");
}
