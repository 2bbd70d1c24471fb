//! Fetch responses with holes: everything but the records is encoded here, and each partition's records are a hole of known
//! length that the caller fills, from a file without passing through memory where it can.
//!
//! The frame's size is known before the first record is read, so a hole must be filled with exactly its length. A response
//! is byte-identical to what the generated `FetchResponse` would give with the records inside; a test keeps it so.

use bytes::Bytes;
use chronik_model::Uuid;

use crate::codec::{EncodeError, Message as _, Writer};
use crate::frame::SIZE_BYTES;
use crate::messages::ResponseHeader;
use crate::messages::fetch_response::{AbortedTransaction, EpochEndOffset, LeaderIdAndEpoch, NodeEndpoint};
use crate::{ApiKey, ErrorCode};

/// A fetch response of version 4 to 18.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Response {
    /// Correlation id of the request.
    pub correlation_id: i32,
    /// Milliseconds the request was throttled.
    pub throttle_time_ms: i32,
    /// Error of the whole response, sent from version 7 on.
    pub error_code: ErrorCode,
    /// Fetch session, 0 for none, sent from version 7 on.
    pub session_id: i32,
    /// Topics in the order they are sent.
    pub topics: Vec<Topic>,
    /// Endpoints of the leaders named in the partitions, sent from version 16 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic of a response.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Topic {
    /// Name, sent up to version 12.
    pub name: String,
    /// Id, sent from version 13 on.
    pub topic_id: Uuid,
    /// Partitions in the order they are sent.
    pub partitions: Vec<Partition>,
}

/// One partition of a response.
#[derive(Debug, Clone, PartialEq)]
pub struct Partition {
    /// Partition index.
    pub index: i32,
    /// Error of this partition.
    pub error_code: ErrorCode,
    /// High watermark, exclusive; -1 with an error.
    pub high_watermark: i64,
    /// Last stable offset, exclusive; -1 if unknown.
    pub last_stable_offset: i64,
    /// First offset of the log, inclusive; -1 if unknown. Sent from version 5 on.
    pub log_start_offset: i64,
    /// Where the client's log departs from the leader's, sent from version 12 on.
    pub diverging_epoch: Option<EpochEndOffset>,
    /// Leader to go to instead, sent from version 12 on.
    pub current_leader: Option<LeaderIdAndEpoch>,
    /// Aborted transactions in the range of the records; null unless only committed records were asked for.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// Replica to read from instead, -1 for none. Sent from version 11 on, where another value is an error before.
    pub preferred_read_replica: i32,
    /// Bytes of records; `None` sends null.
    pub records_len: Option<usize>,
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            index: 0,
            error_code: ErrorCode::None,
            high_watermark: 0,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            aborted_transactions: None,
            preferred_read_replica: -1,
            records_len: None,
        }
    }
}

/// A stretch of the frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Bytes to send as they are.
    Bytes(Bytes),
    /// Room for one partition's records.
    Records {
        /// Number of the partition in the order of the response, counted over all topics from 0.
        token: usize,
        /// Exact number of bytes to send here, never 0.
        len: usize,
    },
}

/// A response ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The whole frame in order, size prefix first.
    pub parts: Vec<Part>,
    /// Bytes of the whole frame: size prefix, header, body, and all holes.
    pub len: usize,
}

/// Where a hole lies among the bytes that were written.
struct Hole {
    position: usize,
    token: usize,
    len: usize,
}

impl Response {
    /// Encodes all but the records.
    pub fn encode(&self, version: i16) -> Result<Encoded, EncodeError> {
        if !ApiKey::Fetch.valid_versions().contains(&version) {
            return Err(EncodeError::unsupported("FetchResponse", version));
        }
        let partition_count: usize = self.topics.iter().map(|topic| topic.partitions.len()).sum();
        let mut w = Writer::with_capacity(64 + 64 * partition_count);
        let mut holes = Vec::with_capacity(partition_count);
        w.i32(0);
        self.write(&mut w, version, &mut holes)?;

        let mut len = w.len();
        for hole in &holes {
            // A sum beyond `usize` is certainly beyond a frame.
            len = len.saturating_add(hole.len);
        }
        let too_long = EncodeError::TooLong { field: "frame", len };
        w.patch_i32(0, i32::try_from(len - SIZE_BYTES).map_err(|_| too_long)?);

        let bytes = w.into_bytes();
        let mut parts = Vec::with_capacity(2 * holes.len() + 1);
        let mut start = 0;
        for Hole { position, token, len } in holes {
            // Two holes never touch: between them are at least index and error of the later one.
            parts.push(Part::Bytes(bytes.slice(start..position)));
            parts.push(Part::Records { token, len });
            start = position;
        }
        if start < bytes.len() {
            parts.push(Part::Bytes(bytes.slice(start..)));
        }
        Ok(Encoded { parts, len })
    }

    fn write(&self, w: &mut Writer, version: i16, holes: &mut Vec<Hole>) -> Result<(), EncodeError> {
        let flexible = ApiKey::Fetch.is_flexible(version);
        let header = ResponseHeader { correlation_id: self.correlation_id };
        header.encode(w, ApiKey::Fetch.response_header_version(version))?;
        w.i32(self.throttle_time_ms);
        if version >= 7 {
            w.i16(self.error_code.code());
            w.i32(self.session_id);
        } else if self.session_id != 0 {
            return Err(EncodeError::absent("session_id", version));
        }
        let mut token = 0;
        w.array(flexible, "responses", &self.topics, |w, topic| {
            if version >= 13 {
                w.uuid(topic.topic_id);
            } else {
                w.string(flexible, "topic", &topic.name)?;
            }
            w.array(flexible, "partitions", &topic.partitions, |w, partition| {
                if let Some(len) = partition.write(w, version)? {
                    holes.push(Hole { position: w.len(), token, len });
                }
                token += 1;
                partition.write_tags(w, version)
            })?;
            if flexible {
                w.uvarint(0);
            }
            Ok(())
        })?;
        if !self.node_endpoints.is_empty() && version < 16 {
            return Err(EncodeError::absent("node_endpoints", version));
        }
        if !flexible {
            return Ok(());
        }
        w.uvarint(u32::from(!self.node_endpoints.is_empty()));
        if self.node_endpoints.is_empty() {
            return Ok(());
        }
        w.tagged(0, |w| w.array(true, "node_endpoints", &self.node_endpoints, |w, node| node.encode(w, version)))
    }
}

impl Partition {
    /// Writes what comes before the records; returns the length of the hole that follows, if there is one.
    fn write(&self, w: &mut Writer, version: i16) -> Result<Option<usize>, EncodeError> {
        let flexible = ApiKey::Fetch.is_flexible(version);
        w.i32(self.index);
        w.i16(self.error_code.code());
        w.i64(self.high_watermark);
        w.i64(self.last_stable_offset);
        if version >= 5 {
            w.i64(self.log_start_offset);
        }
        let aborted = self.aborted_transactions.as_deref();
        w.nullable_array(flexible, "aborted_transactions", aborted, |w, aborted| aborted.encode(w, version))?;
        if version >= 11 {
            w.i32(self.preferred_read_replica);
        } else if self.preferred_read_replica != -1 {
            return Err(EncodeError::absent("preferred_read_replica", version));
        }
        match self.records_len {
            Some(len) => w.length(flexible, "records", len)?,
            None => w.null(flexible),
        }
        Ok(self.records_len.filter(|len| *len > 0))
    }

    /// Writes what comes after the records.
    fn write_tags(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        // A structure of defaults is what an absent tag means.
        let diverging_epoch = self.diverging_epoch.as_ref().filter(|epoch| **epoch != EpochEndOffset::default());
        let current_leader = self.current_leader.as_ref().filter(|leader| **leader != LeaderIdAndEpoch::default());
        if !ApiKey::Fetch.is_flexible(version) {
            return match (diverging_epoch, current_leader) {
                (Some(_), _) => Err(EncodeError::absent("diverging_epoch", version)),
                (None, Some(_)) => Err(EncodeError::absent("current_leader", version)),
                (None, None) => Ok(()),
            };
        }
        w.uvarint(u32::from(diverging_epoch.is_some()) + u32::from(current_leader.is_some()));
        if let Some(epoch) = diverging_epoch {
            w.tagged(0, |w| epoch.encode(w, version))?;
        }
        if let Some(leader) = current_leader {
            w.tagged(1, |w| leader.encode(w, version))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
