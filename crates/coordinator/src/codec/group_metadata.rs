//! `GroupMetadataValue`, versions 0 to 4: a classic group's generation with its members and their assignments.
//!
//! Written as version 3, which is what Kafka 4.3 writes; version 4 is read.

use bytes::Bytes;
use chronik_model::Timestamp;

use super::field::{CodecError, Reader, Writer};

const RECORD: &str = "GroupMetadataValue";
const VERSION_LATEST: i16 = 4;
const VERSION_WRITTEN: i16 = 3;

/// The fewest bytes one member takes in any version; bounds what a count may ask for.
const MEMBER_BYTES_MIN: usize = 15;

/// A generation of a classic group as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadataValue {
    /// What the members speak (`consumer`, `connect`); empty for a group nobody has joined yet.
    pub protocol_type: String,
    /// The generation.
    pub generation: i32,
    /// The protocol chosen for it; none where the group is empty.
    pub protocol_name: Option<String>,
    /// The member that assigns; none where the group is empty.
    pub leader: Option<String>,
    /// When the group got into its state; [`Timestamp::NONE`] in versions 0 and 1.
    pub state_timestamp: Timestamp,
    /// The members.
    pub members: Vec<MemberMetadata>,
}

/// One member of a [`GroupMetadataValue`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetadata {
    /// The id the coordinator gave the member.
    pub member_id: String,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<String>,
    /// The client's `client.id`.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// How long a rebalance waits for the member, in milliseconds; the session timeout in version 0.
    pub rebalance_timeout_ms: i32,
    /// How long the member may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// The member's metadata for the protocol chosen.
    pub subscription: Bytes,
    /// What the leader assigned to the member.
    pub assignment: Bytes,
}

impl GroupMetadataValue {
    /// Reads a value of any version Kafka knows.
    ///
    /// # Errors
    /// The version is unknown, or the bytes do not follow it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16("version")?;
        if !(0..=VERSION_LATEST).contains(&version) {
            return Err(CodecError::UnknownVersion { record: RECORD, version });
        }
        let flexible = version >= 4;
        let protocol_type = string(&mut reader, flexible, "protocol type")?;
        let generation = reader.i32("generation")?;
        let protocol_name = nullable_string(&mut reader, flexible, "protocol")?;
        let leader = nullable_string(&mut reader, flexible, "leader")?;
        let state_timestamp =
            if version >= 2 { Timestamp::from_millis(reader.i64("current state timestamp")?) } else { Timestamp::NONE };
        let count = if flexible {
            reader.compact_count("members", MEMBER_BYTES_MIN)?
        } else {
            reader.count("members", MEMBER_BYTES_MIN)?
        };
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            members.push(MemberMetadata::read(&mut reader, version)?);
        }
        if flexible {
            reader.tagged_fields(|_, _| Ok(()))?;
        }
        reader.finish()?;
        Ok(Self { protocol_type, generation, protocol_name, leader, state_timestamp, members })
    }

    /// Writes the value in the version Kafka 4.3 writes.
    ///
    /// # Errors
    /// A string or byte field does not fit its length field.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let members_bytes: usize = self.members.iter().map(|m| 120 + m.subscription.len() + m.assignment.len()).sum();
        let mut writer = Writer::with_capacity(64 + members_bytes);
        writer.i16(VERSION_WRITTEN);
        writer.string("protocol type", &self.protocol_type)?;
        writer.i32(self.generation);
        writer.nullable_string("protocol", self.protocol_name.as_deref())?;
        writer.nullable_string("leader", self.leader.as_deref())?;
        writer.i64(self.state_timestamp.millis());
        writer.count("members", self.members.len())?;
        for member in &self.members {
            writer.string("member id", &member.member_id)?;
            writer.nullable_string("group instance id", member.instance_id.as_deref())?;
            writer.string("client id", &member.client_id)?;
            writer.string("client host", &member.client_host)?;
            writer.i32(member.rebalance_timeout_ms);
            writer.i32(member.session_timeout_ms);
            writer.byte_string("subscription", &member.subscription)?;
            writer.byte_string("assignment", &member.assignment)?;
        }
        Ok(writer.finish())
    }
}

impl MemberMetadata {
    fn read(reader: &mut Reader<'_>, version: i16) -> Result<Self, CodecError> {
        let flexible = version >= 4;
        let member_id = string(reader, flexible, "member id")?;
        let instance_id = if version >= 3 { nullable_string(reader, flexible, "group instance id")? } else { None };
        let client_id = string(reader, flexible, "client id")?;
        let client_host = string(reader, flexible, "client host")?;
        let rebalance_timeout_ms = if version >= 1 { reader.i32("rebalance timeout")? } else { -1 };
        let session_timeout_ms = reader.i32("session timeout")?;
        let rebalance_timeout_ms = if rebalance_timeout_ms == -1 { session_timeout_ms } else { rebalance_timeout_ms };
        let subscription = byte_string(reader, flexible, "subscription")?;
        let assignment = byte_string(reader, flexible, "assignment")?;
        if flexible {
            reader.tagged_fields(|_, _| Ok(()))?;
        }
        Ok(Self {
            member_id,
            instance_id,
            client_id,
            client_host,
            rebalance_timeout_ms,
            session_timeout_ms,
            subscription,
            assignment,
        })
    }
}

fn string(reader: &mut Reader<'_>, flexible: bool, field: &'static str) -> Result<String, CodecError> {
    if flexible { reader.compact_string(field) } else { reader.string(field) }
}

fn nullable_string(reader: &mut Reader<'_>, flexible: bool, field: &'static str) -> Result<Option<String>, CodecError> {
    if flexible { reader.compact_nullable_string(field) } else { reader.nullable_string(field) }
}

fn byte_string(reader: &mut Reader<'_>, flexible: bool, field: &'static str) -> Result<Bytes, CodecError> {
    if flexible { reader.compact_bytes(field) } else { reader.bytes(field) }
}
