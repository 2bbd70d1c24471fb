//! The one map from what went wrong to Kafka's error codes. Exhaustive: a new error does not compile until its code is
//! chosen here.

use chronik_coordinator::GroupError;
use chronik_log::{AppendError, LogError, ReadError};
use chronik_metadata::{ControllerError, RegistrationError, RuleError};
use chronik_model::LeaderEpoch;
use chronik_record::{InvalidBatch, InvalidKind};
use chronik_replication::{ProduceError, Unacknowledged};
use chronik_wire::ErrorCode;

/// A batch that failed validation.
pub(crate) fn invalid_batch(invalid: &InvalidBatch) -> ErrorCode {
    match invalid.kind() {
        InvalidKind::Corrupt => ErrorCode::CorruptMessage,
        InvalidKind::InvalidRecord => ErrorCode::InvalidRecord,
        InvalidKind::TooLarge => ErrorCode::MessageTooLarge,
        InvalidKind::InvalidTimestamp => ErrorCode::InvalidTimestamp,
        InvalidKind::UnsupportedFormat => ErrorCode::UnsupportedForMessageFormat,
        InvalidKind::UnsupportedCompression => ErrorCode::UnsupportedCompressionType,
    }
}

/// An append that the log refused.
fn append(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::InvalidTxnState { .. } => ErrorCode::InvalidTxnState,
        AppendError::TooLargeForSegment { .. } => ErrorCode::RecordListTooLarge,
        AppendError::StaleLeaderEpoch { .. } | AppendError::Closed => ErrorCode::NotLeaderOrFollower,
        AppendError::OffsetsExhausted { .. } | AppendError::Offline(_) | AppendError::Io { .. } => {
            ErrorCode::KafkaStorageError
        }
    }
}

/// A batch that the replica refused. Clients retry elsewhere, or once more replicas are in sync.
pub(crate) fn produce(error: &ProduceError) -> ErrorCode {
    match error {
        ProduceError::NotLeader => ErrorCode::NotLeaderOrFollower,
        ProduceError::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
        ProduceError::Append(error) => append(error),
    }
}

/// An append that was accepted and will not be acknowledged.
pub(crate) fn unacknowledged(cause: Unacknowledged) -> ErrorCode {
    match cause {
        Unacknowledged::Offline => ErrorCode::KafkaStorageError,
        Unacknowledged::Closed | Unacknowledged::NotLeader => ErrorCode::NotLeaderOrFollower,
        Unacknowledged::NotEnoughReplicas => ErrorCode::NotEnoughReplicasAfterAppend,
    }
}

/// A read that the log refused.
pub(crate) fn read(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        // Clients retry it, and a replica elsewhere may have the range.
        ReadError::Damaged(_) | ReadError::Offline | ReadError::Io { .. } => ErrorCode::KafkaStorageError,
    }
}

/// A change of a log that failed.
pub(crate) fn log(error: &LogError) -> ErrorCode {
    match error {
        LogError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        LogError::Offline(_) | LogError::Io { .. } => ErrorCode::KafkaStorageError,
        LogError::Read(error) => read(error),
    }
}

/// A group request that was refused.
pub(crate) fn group(error: GroupError) -> ErrorCode {
    match error {
        GroupError::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
        GroupError::CoordinatorLoadInProgress => ErrorCode::CoordinatorLoadInProgress,
        GroupError::NotCoordinator => ErrorCode::NotCoordinator,
        GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
        GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        GroupError::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
        GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
        GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
        GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
        GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
        GroupError::GroupIdNotFound => ErrorCode::GroupIdNotFound,
        GroupError::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        GroupError::InvalidCommitOffsetSize => ErrorCode::InvalidCommitOffsetSize,
        GroupError::InvalidTopic => ErrorCode::InvalidTopicException,
        GroupError::InvalidRequest => ErrorCode::InvalidRequest,
        GroupError::UnknownServerError => ErrorCode::UnknownServerError,
    }
}

/// The outcome of a group request that has no error where all is well.
pub(crate) fn group_or_none(error: Option<GroupError>) -> ErrorCode {
    error.map_or(ErrorCode::None, group)
}

/// A change of the metadata that the rules refuse.
pub(crate) fn rule(error: &RuleError) -> ErrorCode {
    match error {
        RuleError::InvalidTopicName(_) => ErrorCode::InvalidTopicException,
        RuleError::TopicAlreadyExists { .. } => ErrorCode::TopicAlreadyExists,
        RuleError::UnknownTopic | RuleError::UnknownConfigTopic { .. } => ErrorCode::UnknownTopicOrPartition,
        RuleError::UnknownTopicId => ErrorCode::UnknownTopicId,
        RuleError::TopicDeletionDisabled => ErrorCode::TopicDeletionDisabled,
        RuleError::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
        RuleError::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
        RuleError::InvalidReplicaAssignment(_) => ErrorCode::InvalidReplicaAssignment,
        RuleError::InvalidConfig(_) => ErrorCode::InvalidConfig,
        RuleError::InvalidRequest(_) => ErrorCode::InvalidRequest,
        RuleError::TooManyPartitions => ErrorCode::PolicyViolation,
    }
}

/// A registration that the rules refuse.
pub(crate) fn registration(error: &RegistrationError) -> ErrorCode {
    match error {
        RegistrationError::NoLeader | RegistrationError::UnknownBroker { .. } => ErrorCode::BrokerIdNotRegistered,
        RegistrationError::IsLeader { .. } | RegistrationError::Negative { .. } => ErrorCode::InvalidRequest,
        RegistrationError::Indistinct { .. } => ErrorCode::DuplicateBrokerRegistration,
        RegistrationError::NodeIdsExhausted => ErrorCode::UnknownServerError,
    }
}

/// A change of the metadata that nobody could decide on.
pub(crate) fn controller(error: &ControllerError) -> ErrorCode {
    match error {
        ControllerError::Stopped => ErrorCode::NotController,
        // Retriable, and true: the time to answer is over.
        ControllerError::Busy { .. } => ErrorCode::RequestTimedOut,
        ControllerError::JournalFailed { .. } => ErrorCode::KafkaStorageError,
        // Retriable: clients look for the controller again.
        ControllerError::NotLeader { .. } => ErrorCode::NotController,
        // No request of a client leads to it.
        ControllerError::GenerationsExhausted { .. } => ErrorCode::UnknownServerError,
    }
}

/// Compares the epoch that a client believes in with the leader's (KIP-320); -1 does not compare.
pub(crate) fn check_leader_epoch(asked: i32, current: LeaderEpoch) -> Result<(), ErrorCode> {
    match asked {
        _ if asked < 0 || asked == current.get() => Ok(()),
        _ if asked < current.get() => Err(ErrorCode::FencedLeaderEpoch),
        _ => Err(ErrorCode::UnknownLeaderEpoch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_epochs_are_fenced_and_newer_ones_unknown() {
        let current = LeaderEpoch::new(4);
        assert_eq!(check_leader_epoch(-1, current), Ok(()));
        assert_eq!(check_leader_epoch(4, current), Ok(()));
        assert_eq!(check_leader_epoch(3, current), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(check_leader_epoch(5, current), Err(ErrorCode::UnknownLeaderEpoch));
    }
}
