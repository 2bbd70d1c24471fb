//! `OffsetCommitValue`, versions 0 to 4: one committed offset.
//!
//! Written as version 4, or as version 1 where the commit asked for its own retention, which only that version carries.

use bytes::Bytes;
use chronik_model::{LeaderEpoch, Offset, Timestamp, TopicId};

use super::field::{CodecError, Reader, Writer};

const RECORD: &str = "OffsetCommitValue";
const VERSION_EXPIRE_TIMESTAMP: i16 = 1;
const VERSION_LATEST: i16 = 4;
const TAG_TOPIC_ID: usize = 0;

/// A committed offset as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitValue {
    /// The next offset the group wants to read.
    pub offset: Offset,
    /// The leader epoch of the last record read; [`LeaderEpoch::NONE`] where the client named none.
    pub leader_epoch: LeaderEpoch,
    /// What the client wants kept beside the offset.
    pub metadata: String,
    /// When the commit was decided.
    pub commit_timestamp: Timestamp,
    /// When the offset goes, where the commit asked for its own retention.
    pub expire_timestamp: Option<Timestamp>,
    /// The topic's id at the commit; [`TopicId::ZERO`] where it is not known.
    pub topic_id: TopicId,
}

impl OffsetCommitValue {
    /// Reads a value of any version Kafka has written.
    ///
    /// # Errors
    /// The version is unknown, or the bytes do not follow it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16("version")?;
        if !(0..=VERSION_LATEST).contains(&version) {
            return Err(CodecError::UnknownVersion { record: RECORD, version });
        }
        let offset = Offset::new(reader.i64("offset")?);
        let leader_epoch = if version >= 3 { LeaderEpoch::new(reader.i32("leader epoch")?) } else { LeaderEpoch::NONE };
        let metadata = if version >= 4 { reader.compact_string("metadata")? } else { reader.string("metadata")? };
        let commit_timestamp = Timestamp::from_millis(reader.i64("commit timestamp")?);
        let expire_timestamp = if version == VERSION_EXPIRE_TIMESTAMP {
            Some(Timestamp::from_millis(reader.i64("expire timestamp")?)).filter(|at| *at != Timestamp::NONE)
        } else {
            None
        };
        let mut topic_id = TopicId::ZERO;
        if version >= 4 {
            reader.tagged_fields(|tag, field| {
                if tag == TAG_TOPIC_ID {
                    topic_id = TopicId(field.uuid("topic id")?);
                    field.finish()?;
                }
                Ok(())
            })?;
        }
        reader.finish()?;
        Ok(Self { offset, leader_epoch, metadata, commit_timestamp, expire_timestamp, topic_id })
    }

    /// Writes the value in the version Kafka 4.3 writes. Version 1 drops the leader epoch and the topic id.
    ///
    /// # Errors
    /// The metadata does not fit the version's length field.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut writer = Writer::with_capacity(52 + self.metadata.len());
        if let Some(expire_timestamp) = self.expire_timestamp {
            writer.i16(VERSION_EXPIRE_TIMESTAMP);
            writer.i64(self.offset.get());
            writer.string("metadata", &self.metadata)?;
            writer.i64(self.commit_timestamp.millis());
            writer.i64(expire_timestamp.millis());
            return Ok(writer.finish());
        }
        writer.i16(VERSION_LATEST);
        writer.i64(self.offset.get());
        writer.i32(self.leader_epoch.get());
        writer.compact_string("metadata", &self.metadata)?;
        writer.i64(self.commit_timestamp.millis());
        if self.topic_id.is_zero() {
            writer.varint("tagged fields", 0)?;
        } else {
            writer.varint("tagged fields", 1)?;
            writer.varint("tag", TAG_TOPIC_ID)?;
            writer.varint("tagged field length", 16)?;
            writer.uuid(self.topic_id.0);
        }
        Ok(writer.finish())
    }
}
