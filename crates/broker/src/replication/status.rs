//! What an operator is told of replication, as the admin API has it in JSON. Read by `chronik replication status` and
//! `chronik promote`.

use serde::{Deserialize, Serialize};

/// Replication of one node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationStatus {
    /// This node.
    pub node_id: i32,
    /// The cluster's id.
    pub cluster_id: String,
    /// `leader`, `follower`, or `fenced`: it led, and another node replaced it.
    pub role: String,
    /// `async` or `sync`.
    pub mode: String,
    /// The highest generation known; 0 where no node ever had followers.
    pub generation: i32,
    /// The leader epoch of every partition; 0 where no node ever had followers.
    pub leader_epoch: i32,
    /// The other node that leads, where one is known.
    pub leader: Option<LeaderStatus>,
    /// The link on which this node is sent what its leader has; none where it receives nothing.
    pub receiver: Option<LinkStatus>,
    /// The links on which this node sends, by address.
    pub followers: Vec<LinkStatus>,
}

/// A leader elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderStatus {
    /// Its number.
    pub node_id: i32,
    /// The generation it leads in.
    pub generation: i32,
    /// Where clients reach it, `host:port`; empty where that is not known.
    pub address: String,
}

/// One link. Lag is that of the follower behind the node that sends, in both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The address dialled, or the peer's where it dialled.
    pub address: String,
    /// The node at the other end, once it was met.
    pub node_id: Option<i32>,
    /// `connecting`, `waiting` (before the next attempt), `handshake`, `catching up`, or `streaming`.
    pub state: String,
    /// How long it has been in that state, in milliseconds.
    pub state_ms: u64,
    /// Why the last connection ended or could not be made.
    pub last_error: Option<String>,
    /// Records that the follower lacks, of all partitions: all there are, of one that was not met since this node's start.
    pub lag_records: u64,
    /// Bytes that the follower lacks, of all partitions.
    pub lag_bytes: u64,
    /// How long the follower has not had everything, in milliseconds; 0 where it has. `null` where that is not known, as of
    /// one that was not met since this node's start.
    pub lag_ms: Option<u64>,
    /// Time since the peer last said anything, in milliseconds.
    pub last_heard_ms: Option<u64>,
    /// Round trip of the last heartbeat, in microseconds.
    pub round_trip_us: Option<u64>,
    /// Connections after the first one.
    pub reconnects: u64,
    /// Bytes of frames sent, over all connections.
    pub sent_bytes: u64,
    /// Bytes of frames received, over all connections.
    pub received_bytes: u64,
    /// Bytes of record batches in the last second or so.
    pub bytes_per_second: u64,
    /// The most that the follower lacked since it last had everything, in bytes; `null` where it has.
    pub catch_up_bytes: Option<u64>,
    /// When the follower has everything at this pace, in milliseconds; `null` where it has, or nothing moves.
    pub caught_up_in_ms: Option<u64>,
    /// Each partition, by topic and number.
    pub partitions: Vec<PartitionStatus>,
}

/// One partition on a link. Offsets are exclusive ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// Whether the logs agree and data flows.
    pub attached: bool,
    /// Whether the follower is in the ISR.
    pub in_sync: bool,
    /// The end of what there is to be sent; on a follower as it was last told.
    pub end: i64,
    /// The end of what was sent; on a follower its log end.
    pub sent: i64,
    /// The follower's log end.
    pub log_end: i64,
    /// The follower's durable end.
    pub durable_end: i64,
    /// High watermark of this node.
    pub high_watermark: i64,
    /// Bytes that the follower lacks.
    pub lag_bytes: u64,
    /// How long the follower has not had everything of it, in milliseconds; 0 where it has.
    pub lag_ms: u64,
}

/// What came of a promotion, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionAnswer {
    /// Whether this node leads now.
    pub promoted: bool,
    /// Whether it was only asked what would happen.
    pub dry_run: bool,
    /// Why it was not promoted, where it was not.
    pub refused: Option<String>,
    /// The generation it leads in, or would take at the least.
    pub generation: i32,
    /// The leader epoch of every partition.
    pub leader_epoch: i32,
    /// From the request to the first moment at which writes are taken, in milliseconds.
    pub took_ms: u64,
    /// Whether it is known that the old leader had nothing beyond what is here.
    pub caught_up: bool,
    /// What this node has of each partition, and what the old leader is known to have had beyond it.
    pub partitions: Vec<PromotedPartition>,
}

/// A partition of a promoted node. Offsets are exclusive ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotedPartition {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// The log end here.
    pub log_end: i64,
    /// The old leader's log end as it was last heard of; `null` where it never was.
    pub old_leader_end: Option<i64>,
    /// Records from `log_end` on that the old leader is known to have had and that are not here.
    pub lost_records: u64,
}
