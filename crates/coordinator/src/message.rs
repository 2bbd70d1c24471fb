//! Requests and responses of a shard as plain data. How they stand on the wire, and what a version of an API leaves
//! out, is the broker's.

use std::time::Duration;

use bytes::Bytes;
use chronik_model::{LeaderEpoch, Offset, TopicId};

use crate::{GroupError, GroupState};

/// A generation no group has: requests of clients outside a group, and responses without one.
pub const NO_GENERATION: i32 = -1;

/// JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JoinRequest {
    /// The group.
    pub group_id: String,
    /// The member's id; empty where it has none yet.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The client id of the request's header.
    pub client_id: String,
    /// The client's address as Kafka prints it, with a leading slash.
    pub client_host: String,
    /// How long the member may be silent.
    pub session_timeout: Duration,
    /// How long a rebalance waits for the member; none (version 0) means as long as the session timeout.
    pub rebalance_timeout: Option<Duration>,
    /// What the member speaks: `consumer`, `connect` ...
    pub protocol_type: String,
    /// What the member offers, the most liked first.
    pub protocols: Vec<JoinProtocol>,
    /// Why the member joins (version 8 on).
    pub reason: Option<String>,
    /// Version 4 on: the client understands MEMBER_ID_REQUIRED (KIP-394).
    pub member_id_required: bool,
    /// Version 9 on: the client understands `skip_assignment` (KIP-814).
    pub skip_assignment_supported: bool,
}

/// A protocol a member offers with its metadata for it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JoinProtocol {
    /// The protocol's name: `range`, `cooperative-sticky` ...
    pub name: String,
    /// Opaque but for the topics of a consumer's subscription.
    pub metadata: Bytes,
}

/// Answer to [`JoinRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinResponse {
    /// Why the member did not join. With [`GroupError::MemberIdRequired`], `member_id` is the id to join with.
    pub error: Option<GroupError>,
    /// The generation joined; [`NO_GENERATION`] with an error.
    pub generation: i32,
    /// The group's protocol type; for versions that cannot say null, empty.
    pub protocol_type: Option<String>,
    /// The protocol chosen; for versions that cannot say null, empty.
    pub protocol_name: Option<String>,
    /// The member that assigns; empty with an error.
    pub leader: String,
    /// The leader must not assign again: it only came back (KIP-814).
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: String,
    /// All members with their metadata, for the leader alone.
    pub members: Vec<JoinMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinMember {
    /// The member's id.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// Its metadata for the protocol chosen.
    pub metadata: Bytes,
}

/// SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SyncRequest {
    /// The group.
    pub group_id: String,
    /// The generation joined.
    pub generation: i32,
    /// The member.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Version 5 on: what the member believes the protocol type to be.
    pub protocol_type: Option<String>,
    /// Version 5 on: what the member believes the protocol to be.
    pub protocol_name: Option<String>,
    /// What the leader assigns; empty from the others.
    pub assignments: Vec<SyncAssignment>,
}

/// What the leader assigns to a member.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SyncAssignment {
    /// The member.
    pub member_id: String,
    /// Opaque.
    pub assignment: Bytes,
}

/// Answer to [`SyncRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncResponse {
    /// Why there is no assignment.
    pub error: Option<GroupError>,
    /// The group's protocol type; null with an error.
    pub protocol_type: Option<String>,
    /// The group's protocol; null with an error.
    pub protocol_name: Option<String>,
    /// The member's assignment; empty with an error.
    pub assignment: Bytes,
}

/// Heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HeartbeatRequest {
    /// The group.
    pub group_id: String,
    /// The member's generation.
    pub generation: i32,
    /// The member.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
}

/// Answer to [`HeartbeatRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatResponse {
    /// What the member must know.
    pub error: Option<GroupError>,
}

/// LeaveGroup; versions below 3 name one member.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LeaveRequest {
    /// The group.
    pub group_id: String,
    /// Who leaves.
    pub members: Vec<LeaveMember>,
}

/// A member that leaves.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LeaveMember {
    /// The member's id; empty where an admin removes a static member by its instance id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Why it leaves (version 5 on).
    pub reason: Option<String>,
}

/// Answer to [`LeaveRequest`]; versions below 3 give the only member's error as the response's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveResponse {
    /// Why nobody was looked at.
    pub error: Option<GroupError>,
    /// One for each member of the request, in its order.
    pub members: Vec<LeaveMemberResponse>,
}

/// What became of a member that leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveMemberResponse {
    /// As in the request.
    pub member_id: String,
    /// As in the request.
    pub instance_id: Option<String>,
    /// Why the member did not leave.
    pub error: Option<GroupError>,
}

/// OffsetCommit. The broker has refused topics and partitions that do not exist before.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OffsetCommitRequest {
    /// The group; the empty one is accepted, as Kafka does for old clients.
    pub group_id: String,
    /// The member's generation; [`NO_GENERATION`] from a client that only stores offsets.
    pub generation: i32,
    /// The member; empty from a client that only stores offsets.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Versions 2 to 4: how long to keep the offsets, instead of `offsets.retention.minutes`.
    pub retention: Option<Duration>,
    /// Version 9 on: the client understands GROUP_ID_NOT_FOUND; others get ILLEGAL_GENERATION.
    pub group_id_not_found_supported: bool,
    /// What to commit.
    pub topics: Vec<OffsetCommitTopic>,
}

/// The offsets to commit for one topic.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OffsetCommitTopic {
    /// The topic's name.
    pub name: String,
    /// The topic's id; [`TopicId::ZERO`] where the broker does not know it.
    pub topic_id: TopicId,
    /// The partitions.
    pub partitions: Vec<OffsetCommitPartition>,
}

/// The offset to commit for one partition.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OffsetCommitPartition {
    /// The partition's number.
    pub partition: i32,
    /// The next offset the group wants to read.
    pub offset: Offset,
    /// The leader epoch of the last record read, or [`LeaderEpoch::NONE`].
    pub leader_epoch: LeaderEpoch,
    /// What to keep beside the offset; null is kept as empty.
    pub metadata: Option<String>,
}

/// Answer to [`OffsetCommitRequest`], in its order; an error of the whole request stands at every partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitResponse {
    /// One for each topic.
    pub topics: Vec<TopicResult>,
}

/// What became of a topic's partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicResult {
    /// As in the request.
    pub name: String,
    /// As in the request; [`TopicId::ZERO`] where requests name no ids.
    pub topic_id: TopicId,
    /// One for each partition.
    pub partitions: Vec<PartitionResult>,
}

/// What became of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionResult {
    /// The partition's number.
    pub partition: i32,
    /// Why nothing changed.
    pub error: Option<GroupError>,
}

/// OffsetFetch for one group; version 8 on asks for many groups, which may lie in several shards.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OffsetFetchRequest {
    /// The group; the empty one is accepted, as Kafka does for old clients.
    pub group_id: String,
    /// What to fetch; `None` is everything the group has.
    pub topics: Option<Vec<OffsetFetchTopic>>,
    /// Version 7 on: wait for open transactions. There are no transactional offsets, and every answer already waits
    /// for the commits before it, so this changes nothing.
    pub require_stable: bool,
}

/// The partitions of one topic to fetch.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OffsetFetchTopic {
    /// The topic's name.
    pub name: String,
    /// The topic's id; an offset committed under another id is not given. [`TopicId::ZERO`] accepts any.
    pub topic_id: TopicId,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Answer to [`OffsetFetchRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchResponse {
    /// The group.
    pub group_id: String,
    /// Why nothing is fetched.
    pub error: Option<GroupError>,
    /// In the request's order; where everything was asked for, by name.
    pub topics: Vec<FetchedTopic>,
}

/// The committed offsets of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTopic {
    /// The topic's name.
    pub name: String,
    /// As in the request; [`TopicId::ZERO`] where everything was asked for.
    pub topic_id: TopicId,
    /// The partitions.
    pub partitions: Vec<FetchedOffset>,
}

/// The committed offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The partition's number.
    pub partition: i32,
    /// The offset, or [`Offset::UNKNOWN`] where none is committed.
    pub offset: Offset,
    /// The leader epoch committed, or [`LeaderEpoch::NONE`].
    pub leader_epoch: LeaderEpoch,
    /// The metadata committed, or nothing.
    pub metadata: String,
}

/// Answer to DeleteGroups: each group with why it was not deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteGroupsResponse {
    /// In the request's order.
    pub groups: Vec<(String, Option<GroupError>)>,
}

/// OffsetDelete.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OffsetDeleteRequest {
    /// The group.
    pub group_id: String,
    /// Topics with the partitions whose offsets go.
    pub topics: Vec<(String, Vec<i32>)>,
}

/// Answer to [`OffsetDeleteRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetDeleteResponse {
    /// Why nothing was looked at.
    pub error: Option<GroupError>,
    /// In the request's order; empty with an error.
    pub topics: Vec<TopicResult>,
}

/// One group of DescribeGroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// The group.
    pub group_id: String,
    /// [`GroupError::GroupIdNotFound`] comes with state Dead; versions below 6 give the state alone.
    pub error: Option<GroupError>,
    /// The group's state.
    pub state: GroupState,
    /// The group's protocol type, or nothing.
    pub protocol_type: String,
    /// The protocol chosen; given in state Stable alone.
    pub protocol_name: String,
    /// The members.
    pub members: Vec<DescribedMember>,
}

/// One member of a [`DescribedGroup`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// The member's id.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// Its metadata for the protocol chosen; given in state Stable alone.
    pub metadata: Bytes,
    /// What the leader assigned last.
    pub assignment: Bytes,
}

/// One group of ListGroups. All are of type `classic`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group_id: String,
    /// Its protocol type; empty for a group that only stores offsets.
    pub protocol_type: String,
    /// Its state.
    pub state: GroupState,
}

/// An answer of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To JoinGroup.
    Join(JoinResponse),
    /// To SyncGroup.
    Sync(SyncResponse),
    /// To Heartbeat.
    Heartbeat(HeartbeatResponse),
    /// To LeaveGroup.
    Leave(LeaveResponse),
    /// To OffsetCommit.
    OffsetCommit(OffsetCommitResponse),
    /// To OffsetFetch.
    OffsetFetch(OffsetFetchResponse),
    /// To DeleteGroups.
    DeleteGroups(DeleteGroupsResponse),
    /// To OffsetDelete.
    OffsetDelete(OffsetDeleteResponse),
}

impl Response {
    /// The same answer as a refusal: what the shell sends in place of a reply whose append failed.
    pub fn refused(self, error: GroupError) -> Self {
        match self {
            Self::Join(response) => Self::Join(JoinResponse::refused(error, response.member_id)),
            Self::Sync(_) => Self::Sync(SyncResponse::refused(error)),
            Self::Heartbeat(_) => Self::Heartbeat(HeartbeatResponse { error: Some(error) }),
            Self::Leave(_) => Self::Leave(LeaveResponse { error: Some(error), members: Vec::new() }),
            Self::OffsetCommit(mut response) => {
                for topic in &mut response.topics {
                    topic.partitions.iter_mut().for_each(|partition| partition.error = Some(error));
                }
                Self::OffsetCommit(response)
            }
            Self::OffsetFetch(response) => Self::OffsetFetch(OffsetFetchResponse::refused(error, response.group_id)),
            Self::DeleteGroups(mut response) => {
                response.groups.iter_mut().for_each(|(_, outcome)| *outcome = Some(error));
                Self::DeleteGroups(response)
            }
            Self::OffsetDelete(_) => {
                Self::OffsetDelete(OffsetDeleteResponse { error: Some(error), topics: Vec::new() })
            }
        }
    }
}

impl JoinProtocol {
    pub(crate) fn size_bytes(&self) -> usize {
        self.name.len().saturating_add(self.metadata.len())
    }
}

impl JoinResponse {
    pub(crate) fn refused(error: GroupError, member_id: impl Into<String>) -> Self {
        Self {
            error: Some(error),
            generation: NO_GENERATION,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.into(),
            members: Vec::new(),
        }
    }
}

impl SyncResponse {
    pub(crate) fn refused(error: GroupError) -> Self {
        Self { error: Some(error), protocol_type: None, protocol_name: None, assignment: Bytes::new() }
    }
}

impl OffsetFetchResponse {
    pub(crate) fn refused(error: GroupError, group_id: String) -> Self {
        Self { group_id, error: Some(error), topics: Vec::new() }
    }
}

impl OffsetCommitRequest {
    pub(crate) fn refused(&self, error: GroupError) -> OffsetCommitResponse {
        let partition =
            |partition: &OffsetCommitPartition| PartitionResult { partition: partition.partition, error: Some(error) };
        let topic = |topic: &OffsetCommitTopic| TopicResult {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic.partitions.iter().map(partition).collect(),
        };
        OffsetCommitResponse { topics: self.topics.iter().map(topic).collect() }
    }
}
