//! Kafka's error codes: number, name, whether clients retry, and the default text that tools show.
//!
//! Which condition gets which code is decided in the broker.

macro_rules! error_codes {
    ($($(#[$attribute:meta])* $variant:ident = $code:literal, $name:literal, $retriable:literal, $message:literal;)*) => {
        /// An error code of Kafka's protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(#[doc = $message] $(#[$attribute])* $variant = $code,)*
        }

        impl ErrorCode {
            /// All codes, ascending.
            pub const ALL: &'static [ErrorCode] = &[$(Self::$variant,)*];

            /// The error with this code on the wire.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Kafka's name of the error.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Whether Kafka's clients retry a request that failed so.
            pub const fn retriable(self) -> bool {
                match self {
                    $(Self::$variant => $retriable,)*
                }
            }

            /// A sentence for people.
            pub const fn message(self) -> &'static str {
                match self {
                    $(Self::$variant => $message,)*
                }
            }
        }
    };
}

error_codes! {
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", false, "The server failed in an unexpected way while handling the request.";
    #[default]
    None = 0, "NONE", false, "NONE";
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", false, "The requested offset lies outside the range of offsets the server keeps.";
    CorruptMessage = 2, "CORRUPT_MESSAGE", true, "The message failed its CRC check, has an invalid size, has no key on a compacted topic, or is damaged otherwise.";
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", true, "This server does not host this topic-partition.";
    InvalidFetchSize = 4, "INVALID_FETCH_SIZE", false, "The requested fetch size is not valid.";
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", true, "The topic-partition has no leader at the moment: an election is under way.";
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", true, "The broker is not the leader, or not a replica, of the topic-partition.";
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", true, "The request timed out.";
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", false, "The broker is not available.";
    ReplicaNotAvailable = 9, "REPLICA_NOT_AVAILABLE", true, "The replica of the topic-partition is not available on this broker.";
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", false, "The request holds a message larger than the server accepts.";
    StaleControllerEpoch = 11, "STALE_CONTROLLER_EPOCH", false, "The controller has moved to another broker.";
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", false, "The metadata of the offset commit is too large.";
    NetworkException = 13, "NETWORK_EXCEPTION", true, "The server disconnected before it answered.";
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", true, "The coordinator is still loading and cannot handle requests yet.";
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", true, "The coordinator is not available.";
    NotCoordinator = 16, "NOT_COORDINATOR", true, "This broker is not the right coordinator.";
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", false, "The topic of the request is not valid.";
    RecordListTooLarge = 18, "RECORD_LIST_TOO_LARGE", false, "The request holds a batch larger than a segment of the log may be.";
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", true, "Too few replicas are in sync: messages are rejected.";
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", true, "The messages are in the log, but on fewer in-sync replicas than required.";
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", false, "The produce request has an invalid value of acks.";
    IllegalGeneration = 22, "ILLEGAL_GENERATION", false, "The generation id of the group is not the current one.";
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", false, "The member's protocols do not fit those of the group, or its protocol type or list is empty.";
    InvalidGroupId = 24, "INVALID_GROUP_ID", false, "The group id is not valid.";
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", false, "The coordinator does not know this member.";
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", false, "The session timeout is outside the bounds group.min.session.timeout.ms and group.max.session.timeout.ms of the broker.";
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", false, "The group is rebalancing: the member has to join again.";
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", false, "The size of the offset commit is not valid.";
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", false, "Not authorized for the topic.";
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED", false, "Not authorized for the group.";
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", false, "Not authorized for the cluster.";
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", false, "The timestamp of the message is outside the accepted range.";
    UnsupportedSaslMechanism = 33, "UNSUPPORTED_SASL_MECHANISM", false, "The broker does not support this SASL mechanism.";
    IllegalSaslState = 34, "ILLEGAL_SASL_STATE", false, "The request does not fit the current state of SASL.";
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", false, "This version of the API is not supported.";
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", false, "A topic of this name exists already.";
    InvalidPartitions = 37, "INVALID_PARTITIONS", false, "The number of partitions is below 1.";
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", false, "The replication factor is below 1 or above the number of available brokers.";
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", false, "The replica assignment is not valid.";
    InvalidConfig = 40, "INVALID_CONFIG", false, "The configuration is not valid.";
    NotController = 41, "NOT_CONTROLLER", true, "This is not the controller of the cluster.";
    InvalidRequest = 42, "INVALID_REQUEST", false, "The request is malformed or was sent to an incompatible broker; the broker's log may say more.";
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", false, "The message format on the broker does not support the request.";
    PolicyViolation = 44, "POLICY_VIOLATION", false, "The request violates a configured policy.";
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", false, "The sequence number of the batch does not follow the last one.";
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", false, "The sequence number of the batch was used already.";
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", false, "The producer used an old epoch.";
    InvalidTxnState = 48, "INVALID_TXN_STATE", false, "The operation does not fit the state of the producer's transaction.";
    InvalidProducerIdMapping = 49, "INVALID_PRODUCER_ID_MAPPING", false, "The producer id is not the one assigned to the transactional id.";
    InvalidTransactionTimeout = 50, "INVALID_TRANSACTION_TIMEOUT", false, "The transaction timeout is above transaction.max.timeout.ms of the broker.";
    ConcurrentTransactions = 51, "CONCURRENT_TRANSACTIONS", true, "Another operation on the same transaction is still going on.";
    TransactionCoordinatorFenced = 52, "TRANSACTION_COORDINATOR_FENCED", false, "The transaction coordinator that sent the marker is no longer in charge of the producer.";
    TransactionalIdAuthorizationFailed = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", false, "Not authorized for the transactional id.";
    SecurityDisabled = 54, "SECURITY_DISABLED", false, "Security features are disabled.";
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED", false, "The broker did not try this operation, because another one of the request failed.";
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", true, "The log on disk could not be read or written.";
    LogDirNotFound = 57, "LOG_DIR_NOT_FOUND", false, "The log directory is not one of the broker's.";
    SaslAuthenticationFailed = 58, "SASL_AUTHENTICATION_FAILED", false, "SASL authentication failed.";
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", false, "The broker knows nothing of this producer id, perhaps because its records have expired.";
    ReassignmentInProgress = 60, "REASSIGNMENT_IN_PROGRESS", false, "A reassignment of the partition is under way.";
    DelegationTokenAuthDisabled = 61, "DELEGATION_TOKEN_AUTH_DISABLED", false, "Delegation tokens are not enabled.";
    DelegationTokenNotFound = 62, "DELEGATION_TOKEN_NOT_FOUND", false, "The server does not know this delegation token.";
    DelegationTokenOwnerMismatch = 63, "DELEGATION_TOKEN_OWNER_MISMATCH", false, "The principal is neither owner nor renewer of the delegation token.";
    DelegationTokenRequestNotAllowed = 64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", false, "Delegation token requests are not allowed on this kind of connection.";
    DelegationTokenAuthorizationFailed = 65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", false, "Not authorized for the delegation token.";
    DelegationTokenExpired = 66, "DELEGATION_TOKEN_EXPIRED", false, "The delegation token has expired.";
    InvalidPrincipalType = 67, "INVALID_PRINCIPAL_TYPE", false, "The principal type is not supported.";
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", false, "The group is not empty.";
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", false, "The group id does not exist.";
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND", true, "The fetch session does not exist.";
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", true, "The epoch of the fetch session is not valid.";
    ListenerNotFound = 72, "LISTENER_NOT_FOUND", true, "The leader has no listener of the name the metadata request came in on.";
    TopicDeletionDisabled = 73, "TOPIC_DELETION_DISABLED", false, "Deletion of topics is disabled.";
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", true, "The leader epoch of the request is older than the broker's.";
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", true, "The leader epoch of the request is newer than the broker's.";
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", false, "The client does not support the compression of the partition.";
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", false, "The broker epoch has changed.";
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", true, "The high watermark has not caught up since the last election, so offsets could go backwards.";
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", false, "The member needs a member id before it can enter the group.";
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", true, "The preferred leader is not available.";
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", false, "The group has its maximum number of members.";
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", false, "Another member with the same group.instance.id and a different member id has joined.";
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", true, "No replica that may become leader is available.";
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", true, "The topic-partition needs no election.";
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", false, "No reassignment of the partition is under way.";
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", false, "The group is subscribed to the topic, so its offsets cannot be deleted.";
    InvalidRecord = 87, "INVALID_RECORD", false, "A record failed the broker's validation and was rejected.";
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", true, "Some offset commits are not stable yet.";
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", true, "The quota is exceeded.";
    ProducerFenced = 90, "PRODUCER_FENCED", false, "A newer producer with the same transactional id has fenced this one.";
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND", false, "The request refers to a resource that does not exist.";
    DuplicateResource = 92, "DUPLICATE_RESOURCE", false, "The request refers to the same resource twice.";
    UnacceptableCredential = 93, "UNACCEPTABLE_CREDENTIAL", false, "The credential does not meet the requirements.";
    InconsistentVoterSet = 94, "INCONSISTENT_VOTER_SET", false, "Sender or recipient of the request is not among the expected voters.";
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", false, "The version of the update is not valid.";
    FeatureUpdateFailed = 96, "FEATURE_UPDATE_FAILED", false, "The finalized features could not be updated because of an unexpected server error.";
    PrincipalDeserializationFailure = 97, "PRINCIPAL_DESERIALIZATION_FAILURE", false, "The principal of a forwarded request could not be read, which points to the security setup of the brokers.";
    SnapshotNotFound = 98, "SNAPSHOT_NOT_FOUND", false, "The requested snapshot was not found.";
    PositionOutOfRange = 99, "POSITION_OUT_OF_RANGE", false, "The requested position lies outside the snapshot.";
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", true, "This server does not host this topic id.";
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", false, "The broker id is in use already.";
    BrokerIdNotRegistered = 102, "BROKER_ID_NOT_REGISTERED", false, "The broker id is not registered.";
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", true, "The topic id of the log is not the one in the request.";
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", false, "The cluster id of the request is not the one of the server.";
    TransactionalIdNotFound = 105, "TRANSACTIONAL_ID_NOT_FOUND", false, "The transactional id does not exist.";
    FetchSessionTopicIdError = 106, "FETCH_SESSION_TOPIC_ID_ERROR", true, "The fetch session mixes requests with and without topic ids.";
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", false, "The new ISR holds a replica that may not be in it.";
    NewLeaderElected = 108, "NEW_LEADER_ELECTED", false, "The partition was altered, but its leader has changed.";
    OffsetMovedToTieredStorage = 109, "OFFSET_MOVED_TO_TIERED_STORAGE", false, "The requested offset has moved to tiered storage.";
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", false, "The coordinator has fenced this member epoch: the member must give up its partitions and join again.";
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", false, "Another member of the group still uses the instance id and has to leave first.";
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", false, "The group does not support the assignor or its versions.";
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", false, "The member epoch is stale: the member must learn the current one by a heartbeat and retry.";
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE", false, "The request went to an endpoint of the wrong type.";
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE", false, "This type of endpoint is not supported.";
    UnknownControllerId = 116, "UNKNOWN_CONTROLLER_ID", false, "The controller id is not known.";
    UnknownSubscriptionId = 117, "UNKNOWN_SUBSCRIPTION_ID", false, "The subscription id of the pushed telemetry is invalid or outdated.";
    TelemetryTooLarge = 118, "TELEMETRY_TOO_LARGE", false, "The pushed telemetry is larger than the broker accepts.";
    InvalidRegistration = 119, "INVALID_REGISTRATION", false, "The controller takes the broker's registration for invalid.";
    TransactionAbortable = 120, "TRANSACTION_ABORTABLE", false, "The transaction met an error; abort it to go on with this transactional id.";
    InvalidRecordState = 121, "INVALID_RECORD_STATE", false, "The state of the record does not allow its delivery to be acknowledged.";
    ShareSessionNotFound = 122, "SHARE_SESSION_NOT_FOUND", true, "The share session does not exist.";
    InvalidShareSessionEpoch = 123, "INVALID_SHARE_SESSION_EPOCH", true, "The epoch of the share session is not valid.";
    FencedStateEpoch = 124, "FENCED_STATE_EPOCH", false, "The state epoch of the share group is not the one of the share coordinator.";
    InvalidVoterKey = 125, "INVALID_VOTER_KEY", false, "The voter key is not the one of the receiving replica.";
    DuplicateVoter = 126, "DUPLICATE_VOTER", false, "The voter is in the set of voters already.";
    VoterNotFound = 127, "VOTER_NOT_FOUND", false, "The voter is not in the set of voters.";
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", false, "The regular expression is not valid.";
    RebootstrapRequired = 129, "REBOOTSTRAP_REQUIRED", false, "The client's metadata is stale: it should bootstrap anew.";
    StreamsInvalidTopology = 130, "STREAMS_INVALID_TOPOLOGY", false, "The topology is not valid.";
    StreamsInvalidTopologyEpoch = 131, "STREAMS_INVALID_TOPOLOGY_EPOCH", false, "The epoch of the topology is not valid.";
    StreamsTopologyFenced = 132, "STREAMS_TOPOLOGY_FENCED", false, "The epoch of the topology is outdated.";
    ShareSessionLimitReached = 133, "SHARE_SESSION_LIMIT_REACHED", true, "The limit of share sessions is reached.";
}

impl ErrorCode {
    /// The code on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dense_from_minus_one_and_map_back() {
        for (error, code) in ErrorCode::ALL.iter().zip(-1..) {
            assert_eq!(error.code(), code);
            assert_eq!(ErrorCode::from_code(code), Some(*error));
        }
        assert_eq!(ErrorCode::ALL.len(), 135);
        assert_eq!(ErrorCode::from_code(134), None);
        assert_eq!(ErrorCode::from_code(-2), None);
    }

    #[test]
    fn names_are_the_variants_in_capitals() {
        for error in ErrorCode::ALL {
            let mut name = String::new();
            for c in format!("{error:?}").chars() {
                if c.is_ascii_uppercase() && !name.is_empty() {
                    name.push('_');
                }
                name.push(c.to_ascii_uppercase());
            }
            assert_eq!(error.name(), name);
        }
    }

    #[test]
    fn default_is_no_error() {
        assert_eq!(ErrorCode::default(), ErrorCode::None);
        assert_eq!(ErrorCode::default().code(), 0);
    }
}
