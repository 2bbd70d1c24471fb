//! What goes into a sender and what comes out of it. The state machine is beside it.

use std::sync::Arc;

use chronik_log::{LogReader, LogSlice, ReadError, ReplicaSlice};
use chronik_model::{Generation, LeaderEpoch, NodeId, Offset, Uuid};

use crate::frame;
use crate::link::{Pulse, Reason, Secret, Timing};
use crate::message::{
    AppendHead, EpochHistory, Fenced, Frame, JournalPosition, MetadataDelta, MetadataSnapshot, NONCE_BYTES, ResetCause,
    Tail, TopicIdPartition,
};

/// What a sender is from its construction on.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster.
    pub cluster_id: Uuid,
    /// This node.
    pub node_id: NodeId,
    /// The node that leads in `generation`: this one, or the one it follows itself.
    pub leader_id: NodeId,
    /// The generation it sends in. A node whose generation changes closes its links and dials anew.
    pub generation: Generation,
    /// Where clients reach this node.
    pub advertised: Arc<str>,
    /// The shared secret; with one, a receiver that does not prove that it has it too is refused.
    pub secret: Option<Secret>,
    /// How long things may take.
    pub timing: Timing,
    /// Bytes of batches in one append frame; a larger single batch is sent alone.
    pub append_bytes_max: usize,
    /// Bytes sent and not acknowledged.
    pub window_bytes: usize,
    /// Append frames sent and not acknowledged.
    pub window_frames: usize,
    /// The journal: first offset still there, and position.
    pub journal_start: Offset,
    /// Where the journal ends, and its generations.
    pub journal: JournalPosition,
}

impl Config {
    /// Default of [`Config::append_bytes_max`].
    pub const APPEND_BYTES_MAX: usize = 1 << 20;
    /// Default of [`Config::window_bytes`].
    pub const WINDOW_BYTES: usize = 8 << 20;
    /// Default of [`Config::window_frames`].
    pub const WINDOW_FRAMES: usize = 1024;
}

/// A partition as the sending node has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// The partition.
    pub id: TopicIdPartition,
    /// Its topic's name.
    pub topic: Arc<str>,
    /// Its leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// The journal's end, exclusive, from which on a follower knows the partition in this leader epoch.
    pub journal_end: Offset,
    /// Its leader epochs.
    pub epochs: EpochHistory,
    /// Its damaged ranges, exclusive ends: its epochs may lack those that began there.
    pub damaged: Vec<(Offset, Offset)>,
    /// Its bounds.
    pub bounds: Bounds,
}

/// How far a partition goes on the sending node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Log start, inclusive.
    pub log_start: Offset,
    /// Base offset of the first segment, at or below the log start.
    pub first_segment: Offset,
    /// High watermark, exclusive.
    pub high_watermark: Offset,
    /// How far it may be sent, exclusive: a leader's log end, or the high watermark of a follower that feeds others.
    pub end: Offset,
}

/// Why a region could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// Retention removed the offset.
    Removed {
        /// Base offset of the first segment still there.
        first_segment: Offset,
    },
    /// The range is damaged, the log offline, or the disk failed. The partition is tried again later.
    Unreadable(Arc<str>),
}

/// Carries out an [`Effect::Read`].
///
/// # Errors
/// The range is not there, or cannot be read.
pub fn read(reader: &LogReader, from: Offset, end: Offset, bytes_max: usize) -> Result<ReplicaSlice, ReadFailure> {
    reader.read_replica(from, end, bytes_max).map_err(|error| match error {
        ReadError::OutOfRange { log_start, .. } if from < log_start => {
            ReadFailure::Removed { first_segment: log_start }
        }
        error => ReadFailure::Unreadable(error.to_string().into()),
    })
}

/// Carries out an [`Effect::CompareTail`]; none where the log cannot be read.
pub fn compare_tail(reader: &LogReader, end: Offset, tail: Tail) -> Option<bool> {
    let found = reader.batch_before(end).ok()?;
    Some(found.is_some_and(|header| {
        let Tail { base, crc, leader_epoch } = tail;
        header.base_offset == base && header.crc == crc && header.partition_leader_epoch == leader_epoch
    }))
}

/// What a sender is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The connection stands. The nonce is random and used for nothing else.
    Connected {
        /// The nonce.
        nonce: [u8; NONCE_BYTES],
    },
    /// A frame came.
    Frame(Frame),
    /// Bytes came that are no frame, or the stream ended inside of one.
    Malformed(frame::Error),
    /// The connection is gone.
    Disconnected,
    /// The answer to [`Effect::AssignNodeId`].
    NodeIdAssigned(NodeId),
    /// The journal moved.
    Journal {
        /// Its first offset.
        start: Offset,
        /// Its position.
        position: JournalPosition,
    },
    /// The answer to [`Effect::ReadJournal`].
    JournalRead(MetadataDelta),
    /// The answer to [`Effect::ReadSnapshot`], part by part. Also the answer to [`Effect::ReadJournal`] where the journal
    /// no longer has the offset.
    SnapshotRead(MetadataSnapshot),
    /// A partition is there, or is there in another leader epoch.
    Partition(PartitionState),
    /// A partition's bounds moved.
    Moved {
        /// The partition.
        id: TopicIdPartition,
        /// Its bounds.
        bounds: Bounds,
    },
    /// A partition is gone.
    Removed(TopicIdPartition),
    /// The answer to [`Effect::Read`].
    Read {
        /// The partition.
        id: TopicIdPartition,
        /// The offset that was asked for.
        from: Offset,
        /// What was found, from that offset on; see [`read`].
        outcome: Result<ReplicaSlice, ReadFailure>,
    },
    /// The answer to [`Effect::CompareTail`].
    TailCompared {
        /// The partition.
        id: TopicIdPartition,
        /// The end that was asked for.
        end: Offset,
        /// Whether the batch that ends there is the follower's; none where it cannot be read. See [`compare_tail`].
        same: Option<bool>,
    },
    /// The deadline has come.
    Tick,
    /// The node stops, steps down or starts another generation.
    Close(Reason),
}

/// What a shell does for a sender.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a frame.
    Send(Frame),
    /// Send an append frame: [`frame::encode_append`], then the slice's bytes.
    SendAppend {
        /// The head.
        head: AppendHead,
        /// The batches.
        slice: LogSlice,
    },
    /// Give the follower a node id that no node has; answer [`Input::NodeIdAssigned`].
    AssignNodeId,
    /// The handshake is complete.
    Established {
        /// The follower's node.
        node_id: NodeId,
        /// Where clients reach it.
        advertised: Arc<str>,
        /// The rack it stands in; empty where it has none.
        rack: Arc<str>,
        /// The features both have.
        features: u64,
    },
    /// Read whole journal batches from an offset on; answer [`Input::JournalRead`]. Where the first one alone is larger than
    /// a head may be ([`frame::Limits::HEAD_BYTES_MAX`]), answer as [`Effect::ReadSnapshot`].
    ReadJournal {
        /// Where to begin, inclusive.
        from: Offset,
        /// About how many bytes.
        bytes_max: usize,
    },
    /// Make an image and give it in parts; answer [`Input::SnapshotRead`].
    ReadSnapshot,
    /// The follower has applied the journal up to here: the replicas' `journal_acked`.
    JournalAcked {
        /// The end, exclusive.
        end: Offset,
    },
    /// Read a region; answer [`Input::Read`].
    Read {
        /// The partition.
        id: TopicIdPartition,
        /// The first offset, which begins a batch.
        from: Offset,
        /// How far, exclusive.
        end: Offset,
        /// Bytes at the most, unless the first batch alone is larger.
        bytes_max: usize,
    },
    /// Compare the batch that ends at an offset with the follower's; answer [`Input::TailCompared`].
    CompareTail {
        /// The partition.
        id: TopicIdPartition,
        /// Where the batch ends, exclusive.
        end: Offset,
        /// The follower's batch.
        tail: Tail,
    },
    /// The logs agree up to the follower's end, and data follows: the replica's `follower_attached`.
    Attached {
        /// The partition.
        id: TopicIdPartition,
        /// The leader epoch.
        leader_epoch: LeaderEpoch,
        /// The follower's log end, exclusive.
        log_end: Offset,
        /// Its durable end, exclusive.
        durable_end: Offset,
    },
    /// The follower has come further: the replica's `acked`.
    Acked {
        /// The partition.
        id: TopicIdPartition,
        /// The leader epoch.
        leader_epoch: LeaderEpoch,
        /// The follower's log end, exclusive.
        log_end: Offset,
        /// Its durable end, exclusive.
        durable_end: Offset,
    },
    /// The follower cuts a tail that this node does not have: for the log and the metrics.
    Truncating {
        /// The partition.
        id: TopicIdPartition,
        /// The follower's log end, exclusive.
        from: Offset,
        /// The new one.
        to: Offset,
    },
    /// The follower begins its log anew: for the log and the metrics.
    Resetting {
        /// The partition.
        id: TopicIdPartition,
        /// The follower's log end, exclusive.
        from: Offset,
        /// Where it begins.
        to: Offset,
        /// Why.
        cause: ResetCause,
    },
    /// The follower cannot take a partition; it is offered again later. For the log and the metrics.
    PartitionRefused {
        /// The partition.
        id: TopicIdPartition,
        /// Why.
        reason: Reason,
        /// The values, for people.
        detail: Arc<str>,
    },
    /// A partition's range cannot be read here; it is tried again later. For the log and the metrics.
    Unreadable {
        /// The partition.
        id: TopicIdPartition,
        /// The offset.
        from: Offset,
        /// The values, for people.
        detail: Arc<str>,
    },
    /// A heartbeat came.
    Pulse(Pulse),
    /// Somebody else leads: step down before anything else. The link is closed next.
    Fenced(Fenced),
    /// The link is over: send what was queued, close, and detach all partitions from their replicas.
    Close {
        /// Why.
        reason: Reason,
        /// The values, for people.
        detail: Arc<str>,
        /// Whether the receiver said so.
        by_peer: bool,
    },
}
