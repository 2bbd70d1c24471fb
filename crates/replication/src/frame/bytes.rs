//! Checked reads and writes of big-endian values. A read that does not fit says which field it was.

use std::sync::Arc;

use ::bytes::Bytes;
use chronik_model::{Generation, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId, Uuid};

use super::Error;
use crate::message::{EpochHistory, HISTORY_MAX, TopicIdPartition};

/// Reads values off the front of a slice.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Error::Malformed { what })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        self.take(N, what)?.try_into().map_err(|_| Error::Malformed { what })
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, Error> {
        self.array(what).map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, Error> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, Error> {
        self.array(what).map(u64::from_be_bytes)
    }

    pub(super) fn i32(&mut self, what: &'static str) -> Result<i32, Error> {
        self.array(what).map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self, what: &'static str) -> Result<i64, Error> {
        self.array(what).map(i64::from_be_bytes)
    }

    pub(super) fn bool(&mut self, what: &'static str) -> Result<bool, Error> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::Malformed { what }),
        }
    }

    pub(super) fn uuid(&mut self, what: &'static str) -> Result<Uuid, Error> {
        self.array(what).map(Uuid::from_bytes)
    }

    /// An offset, never negative.
    pub(super) fn offset(&mut self, what: &'static str) -> Result<Offset, Error> {
        let offset = Offset::new(self.i64(what)?);
        if offset < Offset::ZERO { Err(Error::Malformed { what }) } else { Ok(offset) }
    }

    /// A leader epoch, never negative.
    pub(super) fn leader_epoch(&mut self) -> Result<LeaderEpoch, Error> {
        let leader_epoch = LeaderEpoch::new(self.i32("leader epoch")?);
        if leader_epoch < LeaderEpoch::ZERO {
            return Err(Error::Malformed { what: "leader epoch" });
        }
        Ok(leader_epoch)
    }

    pub(super) fn generation(&mut self) -> Result<Generation, Error> {
        let generation = Generation::new(self.i32("generation")?);
        if generation < Generation::ZERO { Err(Error::Malformed { what: "generation" }) } else { Ok(generation) }
    }

    pub(super) fn node_id(&mut self, what: &'static str) -> Result<NodeId, Error> {
        let node_id = NodeId::new(self.i32(what)?);
        if node_id < NodeId::NONE { Err(Error::Malformed { what }) } else { Ok(node_id) }
    }

    pub(super) fn id(&mut self) -> Result<TopicIdPartition, Error> {
        let topic_id = TopicId(self.uuid("topic id")?);
        let partition = PartitionIndex::new(self.i32("partition")?);
        if partition < PartitionIndex::new(0) {
            return Err(Error::Malformed { what: "partition" });
        }
        Ok(TopicIdPartition { topic_id, partition })
    }

    /// A text with a length of two bytes, at most `max` bytes long.
    pub(super) fn text(&mut self, max: usize, what: &'static str) -> Result<Arc<str>, Error> {
        let len = usize::from(self.u16(what)?);
        if len > max {
            return Err(Error::Malformed { what });
        }
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes).map(Arc::from).map_err(|_| Error::Malformed { what })
    }

    /// An epoch history: rising in both fields.
    pub(super) fn history(&mut self, what: &'static str) -> Result<EpochHistory, Error> {
        let count = usize::from(self.u16(what)?);
        if count > HISTORY_MAX || count.saturating_mul(12) > self.rest.len() {
            return Err(Error::Malformed { what });
        }
        let mut history = EpochHistory::with_capacity(count);
        for _ in 0..count {
            let entry = (self.leader_epoch()?, self.offset(what)?);
            if history.last().is_some_and(|last: &(LeaderEpoch, Offset)| last.0 >= entry.0 || last.1 >= entry.1) {
                return Err(Error::Malformed { what });
            }
            history.push(entry);
        }
        Ok(history)
    }

    /// How many entries of at least `entry_bytes` follow: a count that the bytes left cannot hold is refused.
    pub(super) fn count(&mut self, entry_bytes: usize, what: &'static str) -> Result<usize, Error> {
        let count = usize::try_from(self.u32(what)?).unwrap_or(usize::MAX);
        if count.saturating_mul(entry_bytes) > self.rest.len() {
            return Err(Error::Malformed { what });
        }
        Ok(count)
    }

    /// All that is left, as a part of the frame it lies in.
    pub(super) fn rest(&mut self, frame: &Bytes) -> Bytes {
        let rest = std::mem::take(&mut self.rest);
        frame.slice_ref(rest)
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(Error::Malformed { what: "bytes behind the last field" }) }
    }
}

/// Appends values to a buffer.
pub(super) trait Write {
    fn int<const N: usize>(&mut self, bytes: [u8; N]);
    fn text(&mut self, text: &str, max: usize);
    fn history(&mut self, history: &[(LeaderEpoch, Offset)]);
    fn offset(&mut self, offset: Offset);
    fn leader_epoch(&mut self, leader_epoch: LeaderEpoch);
    fn id(&mut self, id: TopicIdPartition);
}

impl Write for Vec<u8> {
    fn int<const N: usize>(&mut self, bytes: [u8; N]) {
        self.extend_from_slice(&bytes);
    }

    /// A text longer than the peer takes is cut at a character.
    fn text(&mut self, text: &str, max: usize) {
        let mut end = text.len().min(max);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = text.get(..end).unwrap_or_default();
        self.int(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
        self.extend_from_slice(text.as_bytes());
    }

    /// The latest entries of a history.
    fn history(&mut self, history: &[(LeaderEpoch, Offset)]) {
        let history = history.get(history.len().saturating_sub(HISTORY_MAX)..).unwrap_or_default();
        self.int(u16::try_from(history.len()).unwrap_or(0).to_be_bytes());
        for (leader_epoch, start) in history {
            self.leader_epoch(*leader_epoch);
            self.offset(*start);
        }
    }

    fn offset(&mut self, offset: Offset) {
        self.int(offset.get().to_be_bytes());
    }

    fn leader_epoch(&mut self, leader_epoch: LeaderEpoch) {
        self.int(leader_epoch.get().to_be_bytes());
    }

    fn id(&mut self, id: TopicIdPartition) {
        self.extend_from_slice(id.topic_id.0.as_bytes());
        self.int(id.partition.get().to_be_bytes());
    }
}
