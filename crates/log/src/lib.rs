//! One partition's write-ahead log: segments, indexes, recovery, retention, and the `Fs` seam.
//!
//! A log is a directory of segment files that hold record batches exactly as on the wire, and derived files that can each
//! be deleted and are rebuilt. It is synchronous and has one writer; readers resolve offsets to file regions beside it.
//! Clocks, threads and scheduling of flushes are the caller's. What the logs of a data directory share is little: its lock
//! and identity, checkpoints, and the sync journal that makes small appends of many logs durable at once.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod checkpoint;
mod config;
mod damage;
pub mod dir;
pub mod dump;
mod flush;
mod follower;
pub mod fs;
mod high_watermark;
mod index;
mod leader_epoch;
mod log;
mod producer_state;
mod reader;
mod recovery;
mod retention;
mod scan;
mod segment;
mod sync_journal;
mod topic_id;
mod truncation;

pub use checkpoint::{Checkpoint, Checkpoints, RecoveryPoints};
pub use config::LogConfig;
pub use damage::Damage;
pub use flush::FlushJob;
pub use follower::Cut;
pub use leader_epoch::History as LeaderEpochs;
pub use log::{AppendError, Appended, Log, LogError, ReplicateError};
pub use producer_state::ProducerEntry;
pub use reader::{Bounds, LogReader, LogSlice, ReadBound, ReadError, ReplicaSlice, TimestampAndOffset};
pub use recovery::{Recovered, RecoveryError};
pub use retention::DeletedSegment;
pub use scan::Reason;
pub use sync_journal::{CommitError, Preparation, Prepared, Release, Replayed, SyncJournal, SyncJournalLimits};
