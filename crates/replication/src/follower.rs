//! What a follower knows beside its log, and why it does not take what it is sent.

use chronik_log::{LogError, ReadError, ReplicateError};
use chronik_model::{LeaderEpoch, Offset};
use chronik_record::BatchHeader;

use crate::link::Reason;

/// A follower did not do what its leader asked for. Nothing changed, unless the disk failed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// This replica leads.
    #[error("this replica leads in epoch {leader_epoch}")]
    Leads {
        /// Its epoch.
        leader_epoch: LeaderEpoch,
    },
    /// The leader is an old one.
    #[error("leader epoch {found}, this replica knows {current}")]
    StaleLeaderEpoch {
        /// The epoch it knows.
        current: LeaderEpoch,
        /// The one sent.
        found: LeaderEpoch,
    },
    /// Nothing was agreed on in this leader epoch.
    #[error("not attached in leader epoch {found}")]
    NotAttached {
        /// The one sent.
        found: LeaderEpoch,
    },
    /// Batches that begin behind the log end.
    #[error("batches from {found} on, the log ends at {log_end}")]
    Gap {
        /// Log end, exclusive.
        log_end: Offset,
        /// Their first offset.
        found: Offset,
    },
    /// Batches that begin before the log end.
    #[error("batches from {found} on, the log ends at {log_end}")]
    Overlap {
        /// Log end, exclusive.
        log_end: Offset,
        /// Their first offset.
        found: Offset,
    },
    /// Batches that end elsewhere than their frame says.
    #[error("batches end at {found}, their frame says {announced}")]
    WrongEnd {
        /// The frame's, exclusive.
        announced: Offset,
        /// Theirs, exclusive.
        found: Offset,
    },
    /// A cut below what the leader of this very epoch said was committed.
    #[error("cut at {to}, in leader epoch {leader_epoch} everything below {high_watermark} was committed")]
    BelowHighWatermark {
        /// Where to cut.
        to: Offset,
        /// High watermark, exclusive.
        high_watermark: Offset,
        /// The epoch.
        leader_epoch: LeaderEpoch,
    },
    /// The log does not take the batches.
    #[error(transparent)]
    Replicate(#[from] ReplicateError),
    /// The log cannot be changed so.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl FollowError {
    /// What the leader is told.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Leads { .. } => Reason::IsLeader,
            Self::StaleLeaderEpoch { .. } => Reason::StaleLeaderEpoch,
            Self::NotAttached { .. } => Reason::NotAttached,
            Self::Gap { .. } => Reason::Gap,
            Self::Overlap { .. } => Reason::Overlap,
            Self::WrongEnd { .. } => Reason::CorruptBatch,
            Self::BelowHighWatermark { .. } => Reason::BelowHighWatermark,
            Self::Replicate(error) => match error {
                ReplicateError::NotContiguous { .. } | ReplicateError::Corrupt { .. } => Reason::CorruptBatch,
                ReplicateError::LeaderEpoch { .. } => Reason::BatchLeaderEpoch,
                ReplicateError::Segment { .. } => Reason::WrongSegment,
                ReplicateError::Append(_) => Reason::Storage,
            },
            Self::Log(LogError::OffsetOutOfRange { .. }) => Reason::BadOffset,
            Self::Log(LogError::Offline(_) | LogError::Io { .. } | LogError::Read(_)) | Self::Read(_) => {
                Reason::Storage
            }
        }
    }
}

/// What a follower knows beside its log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Following {
    /// The leader epoch that was agreed on with the leader.
    pub(crate) attached: Option<LeaderEpoch>,
    /// The leader's high watermark as it was last told, exclusive.
    pub(crate) told: Offset,
    /// The leader's log start as it was last told, inclusive.
    pub(crate) log_start: Offset,
    /// The leader epoch in which the high watermark was learned.
    pub(crate) told_in: LeaderEpoch,
    /// Whether consumers may be served: not between a cut below the high watermark and the new leader's first word.
    pub(crate) readable: bool,
}

impl Following {
    pub(crate) fn new(told_in: LeaderEpoch) -> Self {
        Self { attached: None, told: Offset::ZERO, log_start: Offset::ZERO, told_in, readable: true }
    }
}

/// The offset behind the last batch of a frame, as far as headers tell; the log checks the rest.
pub(crate) fn end_of(batches: &[u8]) -> Result<Offset, ReplicateError> {
    let (mut position, mut end) = (0, Offset::UNKNOWN);
    while let Some(rest) = batches.get(position..).filter(|rest| !rest.is_empty()) {
        let corrupt = |reason| ReplicateError::Corrupt { position, reason };
        let header = BatchHeader::read(rest).map_err(|error| corrupt(error.into()))?;
        end = header.next_offset();
        position += header.size_bytes();
    }
    Ok(end)
}
