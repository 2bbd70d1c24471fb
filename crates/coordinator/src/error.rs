//! Why a group request is refused. One variant for one Kafka error; the codes live in the broker's map.

/// A refusal, named as Kafka names its error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum GroupError {
    /// The shard cannot answer at the moment; the client looks for the coordinator and tries again.
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    /// The shard still replays its log.
    #[error("the coordinator is loading its log")]
    CoordinatorLoadInProgress,
    /// The group is coordinated elsewhere, or the shard lost its log.
    #[error("this is not the group's coordinator")]
    NotCoordinator,
    /// The group id is empty where it must not be, or too long to be stored.
    #[error("the group id is invalid")]
    InvalidGroupId,
    /// The session timeout lies outside `group.min.session.timeout.ms` and `group.max.session.timeout.ms`.
    #[error("the session timeout is out of bounds")]
    InvalidSessionTimeout,
    /// The member shares no protocol with the group, or names another one than the group's.
    #[error("the member's protocols do not fit the group's")]
    InconsistentGroupProtocol,
    /// A member must join again with the id it just got (KIP-394).
    #[error("the member must join with the member id it was given")]
    MemberIdRequired,
    /// The group does not know the member.
    #[error("the member is unknown")]
    UnknownMemberId,
    /// The request belongs to another generation of the group.
    #[error("the generation is not the group's current one")]
    IllegalGeneration,
    /// The group rebalances; the member joins again.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// Another member took over the static member's instance id (KIP-345).
    #[error("another member has the instance id")]
    FencedInstanceId,
    /// The group has `group.max.size` members.
    #[error("the group is full")]
    GroupMaxSizeReached,
    /// The group still has members.
    #[error("the group is not empty")]
    NonEmptyGroup,
    /// There is no such group.
    #[error("the group does not exist")]
    GroupIdNotFound,
    /// Members of the group are subscribed to the topic.
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    /// The metadata of an offset commit is longer than `offset.metadata.max.bytes`.
    #[error("the metadata of the offset is too large")]
    OffsetMetadataTooLarge,
    /// The records of an offset commit do not fit into one batch.
    #[error("the offset commit is too large")]
    InvalidCommitOffsetSize,
    /// A topic's name is too long to be stored.
    #[error("the topic name is invalid")]
    InvalidTopic,
    /// A field of the request is too long to be stored.
    #[error("the request is invalid")]
    InvalidRequest,
    /// The group's records do not fit into one batch.
    #[error("the coordinator cannot store the group")]
    UnknownServerError,
}

impl GroupError {
    /// Whether Kafka's clients try the request again after this error without a change of their own.
    pub fn retryable(self) -> bool {
        match self {
            Self::CoordinatorNotAvailable | Self::CoordinatorLoadInProgress | Self::NotCoordinator => true,
            Self::InvalidGroupId
            | Self::InvalidSessionTimeout
            | Self::InconsistentGroupProtocol
            | Self::MemberIdRequired
            | Self::UnknownMemberId
            | Self::IllegalGeneration
            | Self::RebalanceInProgress
            | Self::FencedInstanceId
            | Self::GroupMaxSizeReached
            | Self::NonEmptyGroup
            | Self::GroupIdNotFound
            | Self::GroupSubscribedToTopic
            | Self::OffsetMetadataTooLarge
            | Self::InvalidCommitOffsetSize
            | Self::InvalidTopic
            | Self::InvalidRequest
            | Self::UnknownServerError => false,
        }
    }
}
