//! What leader and follower tell each other: the nouns that frames carry. How they lie in bytes is `frame`'s business,
//! when they are sent is `link`'s.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chronik_model::{Generation, LeaderEpoch, NodeId, Offset, PartitionIndex, Timestamp, TopicId, Uuid};

/// How many entries of an epoch history are sent at the most; the latest ones are.
pub const HISTORY_MAX: usize = 512;
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;
/// Bytes of a proof (HMAC-SHA-256).
pub const PROOF_BYTES: usize = 32;

/// A partition by its topic's identity: a topic deleted and made again under the same name is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TopicIdPartition {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number.
    pub partition: PartitionIndex,
}

impl TopicIdPartition {
    /// Joins a topic's identity and a partition's number.
    pub const fn new(topic_id: TopicId, partition: PartitionIndex) -> Self {
        Self { topic_id, partition }
    }
}

impl fmt::Display for TopicIdPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

/// Which leader epoch began where, rising in both fields. For a journal the epochs are its generations.
pub type EpochHistory = Vec<(LeaderEpoch, Offset)>;

/// The first frame, from the node that dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest protocol version it speaks.
    pub version_min: u8,
    /// Highest protocol version it speaks.
    pub version_max: u8,
    /// The cluster.
    pub cluster_id: Uuid,
    /// The node that dials.
    pub node_id: NodeId,
    /// The node that leads in `generation`: the dialling one, unless it is itself a follower that feeds others.
    pub leader_id: NodeId,
    /// Its generation.
    pub generation: Generation,
    /// What it can do beyond the version; unknown bits are ignored.
    pub features: u64,
    /// Where clients reach it, `host:port`.
    pub advertised: Arc<str>,
    /// Random bytes for the proof of a shared secret.
    pub nonce: [u8; NONCE_BYTES],
}

/// A receiver with a shared secret proves that it has it, and asks for the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Random bytes for the other side's proof.
    pub nonce: [u8; NONCE_BYTES],
    /// The receiver's proof, over both nonces and the hello.
    pub proof: [u8; PROOF_BYTES],
}

/// Where a journal, or the copy of one, ends and which generations wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JournalPosition {
    /// The end, exclusive.
    pub end: Offset,
    /// Its generations.
    pub generations: EpochHistory,
}

/// The receiver agrees to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloAck {
    /// The version both use from now on.
    pub version: u8,
    /// Its cluster; none before it has met its first leader.
    pub cluster_id: Option<Uuid>,
    /// Its node; [`NodeId::NONE`] where the leader is to give it one.
    pub node_id: NodeId,
    /// The highest generation it knows.
    pub generation: Generation,
    /// What it can do beyond the version.
    pub features: u64,
    /// Where clients reach it, `host:port`.
    pub advertised: Arc<str>,
    /// The rack it stands in (KIP-392); empty where it has none.
    pub rack: Arc<str>,
    /// How far its copy of the journal goes.
    pub journal: JournalPosition,
}

/// The dialling node has agreed as well; data follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The receiver's node, which it keeps.
    pub node_id: NodeId,
}

/// A part of the journal as it lies on the leader's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataDelta {
    /// Offset of the first record, inclusive.
    pub base: Offset,
    /// Offset behind the last record, exclusive.
    pub end: Offset,
    /// Whole record batches.
    pub batches: Bytes,
}

/// A part of an image, which as a whole replaces the follower's image and journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataSnapshot {
    /// What the whole image stands for.
    pub position: JournalPosition,
    /// The part's number, counted from 0.
    pub part: u32,
    /// Whether no part follows.
    pub last: bool,
    /// Records in the journal's own encoding.
    pub records: Bytes,
}

/// The leader wants to send a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// The partition.
    pub id: TopicIdPartition,
    /// Its topic's name.
    pub topic: Arc<str>,
    /// Its leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// The leader's log start, inclusive.
    pub log_start: Offset,
    /// Base offset of the leader's first segment.
    pub first_segment: Offset,
    /// The leader's high watermark, exclusive.
    pub high_watermark: Offset,
    /// The leader's epochs, the latest ones.
    pub epochs: EpochHistory,
}

/// The last batch of a log. Two logs with the same one are the same up to its end: a checksum alone would not tell, since a
/// producer that retries can have the same records appended at the same offset by two leaders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Its base offset.
    pub base: Offset,
    /// Its checksum.
    pub crc: u32,
    /// The leader epoch it was appended in.
    pub leader_epoch: LeaderEpoch,
}

/// What the follower has of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The partition.
    pub id: TopicIdPartition,
    /// The attachment's leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// Its log start, inclusive.
    pub log_start: Offset,
    /// Its log end, exclusive.
    pub log_end: Offset,
    /// The end of what is on its stable storage, exclusive.
    pub durable_end: Offset,
    /// Its last batch; none where the log is empty, or damaged.
    pub tail: Option<Tail>,
    /// The first offset that it has lost to damage, inclusive; the leader has it cut there and sends the rest again.
    pub damaged: Option<Offset>,
    /// Its epochs, the latest ones.
    pub epochs: EpochHistory,
}

/// The follower's log goes on differently from `to` on: it cuts there and answers [`Attached`] anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncate {
    /// The partition.
    pub id: TopicIdPartition,
    /// The attachment's leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// The new log end, exclusive.
    pub to: Offset,
}

/// Why a follower begins its log anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResetCause {
    /// It holds nothing, and the leader's log begins elsewhere.
    Empty,
    /// Retention has removed what it needs next.
    Retention,
    /// It shares no leader epoch with the leader. What it has is kept aside.
    Diverged,
    /// It is damaged at its beginning. What it has is kept aside.
    Damaged,
}

/// The follower drops its log, begins it at `to` and answers [`Attached`] anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The partition.
    pub id: TopicIdPartition,
    /// The attachment's leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// Base offset of the first segment.
    pub to: Offset,
    /// Why.
    pub cause: ResetCause,
}

/// What comes before the batches of an append frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendHead {
    /// The partition.
    pub id: TopicIdPartition,
    /// The attachment's leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// Base offset of the segment that holds all of the batches.
    pub segment: Offset,
    /// Offset of the first record, inclusive.
    pub base: Offset,
    /// Offset behind the last record, exclusive.
    pub end: Offset,
    /// The leader's high watermark, exclusive.
    pub high_watermark: Offset,
    /// The leader's log start, inclusive.
    pub log_start: Offset,
}

/// The leader's bounds moved without data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The partition.
    pub id: TopicIdPartition,
    /// The attachment's leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// The leader's high watermark, exclusive.
    pub high_watermark: Offset,
    /// The leader's log start, inclusive.
    pub log_start: Offset,
    /// Where the leader's first segment begins: at its log end once all that it held was removed.
    pub first_segment: Offset,
}

/// The leader sends nothing more of a partition: its topic is deleted, or it is about to be attached anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detach {
    /// The partition.
    pub id: TopicIdPartition,
}

/// The follower cannot take a partition for now; the link and the other partitions go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRefused {
    /// The partition.
    pub id: TopicIdPartition,
    /// The attachment's leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// Why.
    pub reason: crate::link::Reason,
    /// The values, for people.
    pub detail: Arc<str>,
}

/// How far a follower has come with one partition. Cumulative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionAck {
    /// The partition.
    pub id: TopicIdPartition,
    /// The attachment's leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// Its log end, exclusive.
    pub log_end: Offset,
    /// The end of what is on its stable storage, exclusive.
    pub durable_end: Offset,
}

/// How far a follower has come.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ack {
    /// The end of its journal, applied and durable, exclusive.
    pub journal_end: Offset,
    /// The partitions that moved.
    pub partitions: Vec<PartitionAck>,
}

/// A sign of life, with clocks for lag and round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Heartbeat {
    /// The sender's wall clock.
    pub wall: Timestamp,
    /// The sender's monotonic clock in microseconds, for it alone to understand.
    pub clock_us: u64,
    /// The `clock_us` of the peer's last heartbeat, 0 where none came.
    pub echo_us: u64,
    /// How long ago that one came.
    pub held_us: u64,
}

/// The peer's generation is old: somebody else leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fenced {
    /// The generation that replaced it.
    pub generation: Generation,
    /// The node that leads in it; [`NodeId::NONE`] where that is not known.
    pub leader_id: NodeId,
    /// Where clients reach that node; empty where that is not known.
    pub advertised: Arc<str>,
}

/// The peer cannot go on, and closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: crate::link::Reason,
    /// The values, for people.
    pub detail: Arc<str>,
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the message of its name")]
pub enum Frame {
    Hello(Hello),
    Challenge(Challenge),
    /// The dialling node's proof, over both nonces and its hello.
    Proof([u8; PROOF_BYTES]),
    HelloAck(HelloAck),
    Welcome(Welcome),
    Refused(Refused),
    Fenced(Fenced),
    Heartbeat(Heartbeat),
    MetadataSnapshot(MetadataSnapshot),
    MetadataDelta(MetadataDelta),
    Attach(Attach),
    Attached(Attached),
    Truncate(Truncate),
    Reset(Reset),
    /// Whole batches of one segment. A leader sends them out of the file; see [`crate::frame::encode_append`].
    Append(AppendHead, Bytes),
    Progress(Progress),
    Detach(Detach),
    PartitionRefused(PartitionRefused),
    Ack(Ack),
}
