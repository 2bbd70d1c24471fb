//! The records of `__consumer_offsets` in Kafka's own schemas, so that Kafka's tools can print them and a log written by
//! Kafka can be loaded. What the records mean for a group is decided in `group`; the batch around them is not made here.
//!
//! A key is a 16-bit record type followed by fields; a value is a 16-bit version followed by fields; no value is a
//! tombstone. Invariant: a decoder never panics, never allocates more than its input justifies, and refuses what it
//! does not understand completely, except that bytes after a known key are refused while unknown tagged fields of a
//! value are skipped, as Kafka's KIP-915 asks for.

mod consumer_protocol;
mod field;
mod group_metadata;
mod offset_commit;

use bytes::Bytes;

pub use consumer_protocol::subscribed_topics;
pub use field::CodecError;
pub use group_metadata::{GroupMetadataValue, MemberMetadata};
pub use offset_commit::OffsetCommitValue;

use field::{Reader, Writer};

/// A string longer than this does not fit a field with a 16-bit length.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

const TYPE_OFFSET_COMMIT_LEGACY: i16 = 0;
const TYPE_OFFSET_COMMIT: i16 = 1;
const TYPE_GROUP_METADATA: i16 = 2;

/// What a record is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A committed offset; record types 0 and 1.
    OffsetCommit {
        /// The group that committed.
        group_id: String,
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: i32,
    },
    /// A classic group with its members; record type 2.
    GroupMetadata {
        /// The group.
        group_id: String,
    },
    /// A record type this coordinator does not keep (the KIP-848 family and others); its fields are not read.
    Other(i16),
}

impl Key {
    /// Reads a record's key.
    ///
    /// # Errors
    /// The bytes are cut short, hold a negative length or invalid UTF-8, or go on after the last field.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let key = match reader.i16("record type")? {
            TYPE_OFFSET_COMMIT_LEGACY | TYPE_OFFSET_COMMIT => Self::OffsetCommit {
                group_id: reader.string("group")?,
                topic: reader.string("topic")?,
                partition: reader.i32("partition")?,
            },
            TYPE_GROUP_METADATA => Self::GroupMetadata { group_id: reader.string("group")? },
            other => return Ok(Self::Other(other)),
        };
        reader.finish()?;
        Ok(key)
    }

    /// Writes a record's key. [`Key::Other`] is written as its type alone.
    ///
    /// # Errors
    /// A string is longer than [`STRING_BYTES_MAX`].
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        match self {
            Self::OffsetCommit { group_id, topic, partition } => offset_commit_key(group_id, topic, *partition),
            Self::GroupMetadata { group_id } => group_metadata_key(group_id),
            Self::Other(record_type) => {
                let mut writer = Writer::with_capacity(2);
                writer.i16(*record_type);
                Ok(writer.finish())
            }
        }
    }
}

/// The key of a committed offset, without building a [`Key`] first.
///
/// # Errors
/// A string is longer than [`STRING_BYTES_MAX`].
pub fn offset_commit_key(group_id: &str, topic: &str, partition: i32) -> Result<Bytes, CodecError> {
    let mut writer = Writer::with_capacity(10 + group_id.len() + topic.len());
    writer.i16(TYPE_OFFSET_COMMIT);
    writer.string("group", group_id)?;
    writer.string("topic", topic)?;
    writer.i32(partition);
    Ok(writer.finish())
}

/// The key of a classic group, without building a [`Key`] first.
///
/// # Errors
/// The group id is longer than [`STRING_BYTES_MAX`].
pub fn group_metadata_key(group_id: &str) -> Result<Bytes, CodecError> {
    let mut writer = Writer::with_capacity(4 + group_id.len());
    writer.i16(TYPE_GROUP_METADATA);
    writer.string("group", group_id)?;
    Ok(writer.finish())
}

#[cfg(test)]
mod tests;
