//! Why the journal cannot be used: what failed, in which file, at which offset.

use std::path::PathBuf;

use chronik_log::{AppendError, Damage, LogError, ReadError, RecoveryError, ReplicateError};
use chronik_metadata::{ApplyError, RecordError};
use chronik_model::Offset;
use chronik_record::BuildError;

use crate::journal::DECISION_BYTES_MAX;

/// The journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk failed.
    #[error("cannot access {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The log cannot be opened.
    #[error("metadata journal: {0}")]
    Recovery(#[from] RecoveryError),
    /// A part of the log was written once and cannot be read any more.
    #[error("metadata journal is damaged: {0}; restore the file from a backup, nothing was changed")]
    Damaged(Damage),
    /// Records that were committed once are not in the log any more.
    #[error(
        "metadata journal {} is damaged: it holds offsets {log_start} to {log_end} exclusive, the snapshot goes on at \
         {wanted}; restore the directory from a backup, nothing was changed",
        dir.display()
    )]
    Missing {
        /// The journal's directory.
        dir: PathBuf,
        /// First offset in the log, inclusive.
        log_start: Offset,
        /// End of the log, exclusive.
        log_end: Offset,
        /// First offset that is not in the snapshot.
        wanted: Offset,
    },
    /// The log refused a change.
    #[error("metadata journal: {0}")]
    Log(#[from] LogError),
    /// The log cannot be read.
    #[error("metadata journal: {0}")]
    Read(#[from] ReadError),
    /// The log refused an append.
    #[error("metadata journal: {0}")]
    Append(#[from] AppendError),
    /// A batch cannot be read.
    #[error(
        "metadata journal {} is damaged at offset {offset}: {reason}; restore the file from a backup, nothing was changed",
        file.display()
    )]
    Batch {
        /// The segment.
        file: PathBuf,
        /// Offset of the batch.
        offset: Offset,
        /// What is wrong.
        reason: String,
    },
    /// A record cannot be understood.
    #[error("metadata journal {} at offset {offset}: {source}", file.display())]
    Record {
        /// The segment.
        file: PathBuf,
        /// The record's offset.
        offset: Offset,
        /// What is wrong.
        source: RecordError,
    },
    /// A record contradicts those before it.
    #[error("metadata journal {} at offset {offset}: {source}", file.display())]
    Contradiction {
        /// The segment.
        file: PathBuf,
        /// The record's offset.
        offset: Offset,
        /// What is wrong.
        source: ApplyError,
    },
    /// The snapshot cannot be read.
    #[error(
        "metadata snapshot {} is damaged at position {position}: {reason}; restore the file from a backup, nothing was \
         changed",
        file.display()
    )]
    Snapshot {
        /// The file.
        file: PathBuf,
        /// Where its batch begins.
        position: usize,
        /// What is wrong.
        reason: String,
    },
    /// The snapshot would be larger than can be read back.
    #[error("metadata snapshot of {size_bytes} bytes is larger than {limit_bytes}")]
    SnapshotTooLarge {
        /// Its size.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The note of who leads cannot be read.
    #[error("{} is damaged: {reason}; restore the file from a backup, nothing was changed", file.display())]
    KnownLeader {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The log refused a leader's batches.
    #[error("metadata journal: {0}")]
    Replicate(#[from] ReplicateError),
    /// A record cannot be written.
    #[error("metadata record cannot be written: {0}")]
    Encode(#[from] RecordError),
    /// The records of one decision do not make a batch.
    #[error("metadata records cannot be put into a batch: {0}")]
    Build(#[from] BuildError),
    /// The records of one decision are too many.
    #[error("the change needs {size_bytes} bytes of metadata, more than {DECISION_BYTES_MAX} at once are refused")]
    DecisionTooLarge {
        /// Their size.
        size_bytes: usize,
    },
}

impl JournalError {
    /// Whether the disk was full. A write that failed so left nothing that recovery would not cut.
    pub(crate) fn is_full_disk(&self) -> bool {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = next {
            if let Some(io_error) = error.downcast_ref::<std::io::Error>() {
                return matches!(io_error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
            }
            next = error.source();
        }
        false
    }

    /// Whether the journal is as it was: nothing of what was to be written has been.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Encode(_) | Self::Build(_) | Self::DecisionTooLarge { .. })
    }
}

/// The journal is of another cluster, or the cluster cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Cluster(#[from] ApplyError),
}
