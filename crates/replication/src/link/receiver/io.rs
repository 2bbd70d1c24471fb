//! What goes into a receiver and what comes out of it. The state machine is beside it.

use std::sync::Arc;

use bytes::Bytes;
use chronik_model::{Generation, LeaderEpoch, NodeId, Offset, Uuid};

use crate::frame;
use crate::link::{Pulse, Reason, Secret, Timing};
use crate::message::{
    AppendHead, Attach, Attached, Fenced, Frame, JournalPosition, MetadataDelta, MetadataSnapshot, NONCE_BYTES,
    Progress, Reset, TopicIdPartition, Truncate,
};

/// What a receiver is from its construction on.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster; none before the node has met its first leader.
    pub cluster_id: Option<Uuid>,
    /// This node; [`NodeId::NONE`] where the leader is to give it one.
    pub node_id: NodeId,
    /// The highest generation this node knows.
    pub generation: Generation,
    /// The node that leads in it; [`NodeId::NONE`] where that is not known.
    pub leader_id: NodeId,
    /// Where clients reach the node that leads; empty where that is not known.
    pub leader_advertised: Arc<str>,
    /// Whether this node leads, and thus follows nobody.
    pub leads: bool,
    /// Where clients reach this node.
    pub advertised: Arc<str>,
    /// The rack this node stands in; empty where it has none.
    pub rack: Arc<str>,
    /// The shared secret; with one, a sender that does not prove that it has it too is refused.
    pub secret: Option<Secret>,
    /// How long things may take.
    pub timing: Timing,
    /// How far this node's copy of the journal goes.
    pub journal: JournalPosition,
}

/// What a receiver is told.
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
    /// The journal and the image are durable up to here: after [`Effect::ApplyDelta`] or the last [`Effect::ApplySnapshot`].
    JournalApplied {
        /// The end, exclusive.
        end: Offset,
    },
    /// The answer to [`Effect::Attach`], [`Effect::Truncate`] and [`Effect::Reset`].
    Attached(Attached),
    /// The log grew, or more of it is durable.
    Advanced {
        /// The partition.
        id: TopicIdPartition,
        /// The attachment's leader epoch.
        leader_epoch: LeaderEpoch,
        /// Log end, exclusive.
        log_end: Offset,
        /// Durable end, exclusive.
        durable_end: Offset,
    },
    /// An effect could not be carried out. Where it is a partition's disk that failed, the other partitions go on; any
    /// other reason ends the link.
    Failed {
        /// The partition; none where it was the journal.
        id: Option<TopicIdPartition>,
        /// Why; see `FollowError::reason`.
        reason: Reason,
        /// The values, for people.
        detail: Arc<str>,
    },
    /// Nothing more is at hand to be read from the socket, or a group commit is over: what has gathered is acknowledged.
    Settled,
    /// The deadline has come.
    Tick,
    /// This node leads now, in the generation that `Fenced` tells.
    Promoted(Fenced),
    /// This node has learned, on another connection, who leads in a generation. A link of an older one, or of another
    /// leader, ends; also one whose handshake began before.
    Generation(Fenced),
    /// The node stops, or another connection takes over.
    Close(Reason),
}

/// What a shell does for a receiver, in this order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a frame.
    Send(Frame),
    /// Keep the cluster id and the node id, durably: neither changes any more.
    Adopt {
        /// The cluster.
        cluster_id: Uuid,
        /// This node.
        node_id: NodeId,
    },
    /// The handshake is complete: frames may be as long as [`frame::Limits::open`] says. The generation is kept durably
    /// where it is higher than the one known.
    Established {
        /// The node at the other end.
        node_id: NodeId,
        /// The node that leads.
        leader_id: NodeId,
        /// Its generation.
        generation: Generation,
        /// Where clients reach the node at the other end.
        advertised: Arc<str>,
        /// The features both have.
        features: u64,
    },
    /// Append the batches to the journal, make them durable and apply them; then [`Input::JournalApplied`].
    ApplyDelta(MetadataDelta),
    /// Collect the parts; with the last one replace image and journal; then [`Input::JournalApplied`].
    ApplySnapshot(MetadataSnapshot),
    /// The replica's `attach`; then [`Input::Attached`].
    Attach(Attach),
    /// The replica's `prepare_truncate`, a checkpoint, and its `truncate`; then [`Input::Attached`].
    Truncate(Truncate),
    /// The replica's `prepare_reset`, a checkpoint, and its `reset`; then [`Input::Attached`].
    Reset(Reset),
    /// The replica's `append_replicated`; then [`Input::Advanced`].
    Append {
        /// What they are.
        head: AppendHead,
        /// Whole batches.
        batches: Bytes,
    },
    /// The replica's `progress`.
    Progress(Progress),
    /// The leader sends nothing more of the partition.
    Detach(TopicIdPartition),
    /// A heartbeat came.
    Pulse(Pulse),
    /// This node leads, and a node that leads in a higher generation has dialled: step down.
    Superseded(Fenced),
    /// The link is over: send what was queued, then close.
    Close {
        /// Why.
        reason: Reason,
        /// The values, for people.
        detail: Arc<str>,
        /// Whether the sender said so.
        by_peer: bool,
    },
}
