//! The controller's journal as it travels to other nodes: where it stands, parts of it, and images in its place.
//!
//! Bytes are the journal's own record batches; who reads and writes them is behind
//! [`ReplicatedController`](crate::ReplicatedController). The epochs of a journal are its generations.

use std::sync::Arc;

use chronik_model::{Generation, LeaderEpoch, Offset, Uuid};
use thiserror::Error;

use crate::leader::KnownLeader;

/// Where a journal ends and which generations wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalPosition {
    /// The end, exclusive. Everything before is durable and applied.
    pub end: Offset,
    /// Generation and first offset, rising in both; the latest 512.
    pub generations: Vec<(LeaderEpoch, Offset)>,
}

/// A journal at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalStatus {
    /// Raised at every change, also where the end stays.
    pub version: u64,
    /// The first offset that can be read, inclusive.
    pub start: Offset,
    /// Where it ends.
    pub position: JournalPosition,
    /// The highest generation this node knows, be it only by hearsay.
    pub generation: Generation,
}

/// A part of a journal: whole record batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalBatches {
    /// Offset of the first record, inclusive.
    pub base: Offset,
    /// Offset behind the last record, exclusive.
    pub end: Offset,
    /// The batches.
    pub bytes: Vec<u8>,
}

/// An image in parts, which as a whole replaces a follower's image and journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSnapshot {
    /// What it stands for.
    pub position: JournalPosition,
    /// One part at least. Where one ends and the next begins means nothing.
    pub parts: Vec<Vec<u8>>,
}

/// A part of a [`JournalSnapshot`] on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPart {
    /// What the whole snapshot stands for.
    pub position: JournalPosition,
    /// The part's number, counted from 0; part 0 begins anew.
    pub part: u32,
    /// Whether no part follows.
    pub is_last: bool,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A journal cannot be read for a follower.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JournalReadError {
    /// A snapshot took the place of the offset, or it is not there yet.
    #[error("the metadata journal holds offsets {start} to {end} exclusive, {offset} was asked for")]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The first one there, inclusive.
        start: Offset,
        /// The end, exclusive.
        end: Offset,
    },
    /// The disk failed, or the image is larger than a snapshot may be.
    #[error("the metadata journal cannot be read: {0}")]
    Unreadable(Arc<str>),
}

/// What a leader sent cannot be taken. Nothing has changed, except where the disk failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FollowError {
    /// The controller has stopped.
    #[error("the controller has stopped")]
    Stopped,
    /// This node leads itself.
    #[error("this node leads in generation {generation}")]
    Leads {
        /// Its generation.
        generation: Generation,
    },
    /// A later generation is known.
    #[error("{leader} leads, not generation {found}")]
    Stale {
        /// Who leads.
        leader: KnownLeader,
        /// The generation that was offered.
        found: Generation,
    },
    /// Two nodes lead in one generation.
    #[error("{leader} leads, and another node says the same of itself")]
    OtherLeader {
        /// Who was known first.
        leader: KnownLeader,
    },
    /// This node led and was replaced: its logs are not yet what a follower's must be, which a start as one sees to.
    #[error("this node led until {by} replaced it, and follows once it is started again as a receiver")]
    Fenced {
        /// Who replaced it.
        by: KnownLeader,
    },
    /// Another cluster.
    #[error("metadata of cluster {found} for a node of cluster {expected}")]
    OtherCluster {
        /// This node's.
        expected: Uuid,
        /// The one sent.
        found: Uuid,
    },
    /// It does not continue what is there.
    #[error("metadata from offset {found} on, the journal ends at {end}")]
    NotContiguous {
        /// The journal's end, exclusive.
        end: Offset,
        /// The offset sent.
        found: Offset,
    },
    /// It cannot be understood, or contradicts what is there.
    #[error("metadata that cannot be applied: {0}")]
    Invalid(Arc<str>),
    /// The disk failed; the controller takes nothing more.
    #[error("the metadata journal cannot be written: {0}")]
    JournalFailed(Arc<str>),
}
