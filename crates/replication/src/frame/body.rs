//! The head of each kind of frame, field by field. Fields have no padding and no optional parts; see
//! `docs/internals/replication.md` for the same in tables.

use std::sync::Arc;

use ::bytes::Bytes;
use chronik_model::{LeaderEpoch, Offset, Timestamp, Uuid};

use super::bytes::{Reader, Write};
use super::{Error, Kind};
use crate::link::Reason;
use crate::message::{
    Ack, AppendHead, Attach, Attached, Challenge, Detach, Fenced, Frame, Heartbeat, Hello, HelloAck, JournalPosition,
    MetadataDelta, MetadataSnapshot, PartitionAck, PartitionRefused, Progress, Refused, Reset, ResetCause, Tail,
    Truncate, Welcome,
};

/// Bytes of an append frame's head.
pub(super) const APPEND_HEAD_BYTES: usize = 20 + 4 + 5 * 8;
/// Longest topic name.
const TOPIC_BYTES_MAX: usize = 249;
/// Longest advertised address.
const ADDRESS_BYTES_MAX: usize = 512;
/// Longest name of a rack.
const RACK_BYTES_MAX: usize = 255;
/// Longest explanation.
const DETAIL_BYTES_MAX: usize = 1024;
/// Bytes of one partition in an ack.
const PARTITION_ACK_BYTES: usize = 20 + 4 + 2 * 8;

pub(super) fn encode(frame: &Frame, out: &mut Vec<u8>) {
    match frame {
        Frame::Hello(hello) => {
            out.int([hello.version_min, hello.version_max]);
            out.int(*hello.cluster_id.as_bytes());
            out.int(hello.node_id.get().to_be_bytes());
            out.int(hello.leader_id.get().to_be_bytes());
            out.int(hello.generation.get().to_be_bytes());
            out.int(hello.features.to_be_bytes());
            out.int(hello.nonce);
            out.text(&hello.advertised, ADDRESS_BYTES_MAX);
        }
        Frame::Challenge(challenge) => {
            out.int(challenge.nonce);
            out.int(challenge.proof);
        }
        Frame::Proof(proof) => out.int(*proof),
        Frame::HelloAck(ack) => {
            out.int([ack.version]);
            out.int(*ack.cluster_id.unwrap_or(Uuid::ZERO).as_bytes());
            out.int(ack.node_id.get().to_be_bytes());
            out.int(ack.generation.get().to_be_bytes());
            out.int(ack.features.to_be_bytes());
            encode_position(&ack.journal, out);
            out.text(&ack.advertised, ADDRESS_BYTES_MAX);
            out.text(&ack.rack, RACK_BYTES_MAX);
        }
        Frame::Welcome(welcome) => out.int(welcome.node_id.get().to_be_bytes()),
        Frame::Refused(refused) => {
            out.int(refused.reason.code().to_be_bytes());
            out.text(&refused.detail, DETAIL_BYTES_MAX);
        }
        Frame::Fenced(fenced) => {
            out.int(fenced.generation.get().to_be_bytes());
            out.int(fenced.leader_id.get().to_be_bytes());
            out.text(&fenced.advertised, ADDRESS_BYTES_MAX);
        }
        Frame::Heartbeat(heartbeat) => {
            out.int(heartbeat.wall.millis().to_be_bytes());
            out.int(heartbeat.clock_us.to_be_bytes());
            out.int(heartbeat.echo_us.to_be_bytes());
            out.int(heartbeat.held_us.to_be_bytes());
        }
        Frame::MetadataSnapshot(snapshot) => {
            encode_position(&snapshot.position, out);
            out.int(snapshot.part.to_be_bytes());
            out.int([u8::from(snapshot.last)]);
            out.extend_from_slice(&snapshot.records);
        }
        Frame::MetadataDelta(delta) => {
            out.offset(delta.base);
            out.offset(delta.end);
            out.extend_from_slice(&delta.batches);
        }
        Frame::Attach(attach) => {
            out.id(attach.id);
            out.leader_epoch(attach.leader_epoch);
            out.offset(attach.log_start);
            out.offset(attach.first_segment);
            out.offset(attach.high_watermark);
            out.history(&attach.epochs);
            out.text(&attach.topic, TOPIC_BYTES_MAX);
        }
        Frame::Attached(attached) => {
            out.id(attached.id);
            out.leader_epoch(attached.leader_epoch);
            out.offset(attached.log_start);
            out.offset(attached.log_end);
            out.offset(attached.durable_end);
            // Without a last batch its place holds what no batch has.
            out.offset(attached.tail.map_or(Offset::UNKNOWN, |tail| tail.base));
            out.int(attached.tail.map_or(0, |tail| tail.crc).to_be_bytes());
            out.leader_epoch(attached.tail.map_or(LeaderEpoch::ZERO, |tail| tail.leader_epoch));
            out.offset(attached.damaged.unwrap_or(Offset::UNKNOWN));
            out.history(&attached.epochs);
        }
        Frame::Truncate(truncate) => {
            out.id(truncate.id);
            out.leader_epoch(truncate.leader_epoch);
            out.offset(truncate.to);
        }
        Frame::Reset(reset) => {
            out.id(reset.id);
            out.leader_epoch(reset.leader_epoch);
            out.offset(reset.to);
            out.int([match reset.cause {
                ResetCause::Empty => 0,
                ResetCause::Retention => 1,
                ResetCause::Diverged => 2,
                ResetCause::Damaged => 3,
            }]);
        }
        Frame::Append(head, _) => encode_append(head, out),
        Frame::Progress(progress) => {
            out.id(progress.id);
            out.leader_epoch(progress.leader_epoch);
            out.offset(progress.high_watermark);
            out.offset(progress.log_start);
            out.offset(progress.first_segment);
        }
        Frame::Detach(detach) => out.id(detach.id),
        Frame::PartitionRefused(refused) => {
            out.id(refused.id);
            out.leader_epoch(refused.leader_epoch);
            out.int(refused.reason.code().to_be_bytes());
            out.text(&refused.detail, DETAIL_BYTES_MAX);
        }
        Frame::Ack(ack) => {
            out.offset(ack.journal_end);
            out.int(u32::try_from(ack.partitions.len()).unwrap_or(u32::MAX).to_be_bytes());
            for partition in &ack.partitions {
                out.id(partition.id);
                out.leader_epoch(partition.leader_epoch);
                out.offset(partition.log_end);
                out.offset(partition.durable_end);
            }
        }
    }
}

pub(super) fn encode_append(head: &AppendHead, out: &mut Vec<u8>) {
    out.id(head.id);
    out.leader_epoch(head.leader_epoch);
    out.offset(head.segment);
    out.offset(head.base);
    out.offset(head.end);
    out.offset(head.high_watermark);
    out.offset(head.log_start);
}

fn encode_position(position: &JournalPosition, out: &mut Vec<u8>) {
    out.offset(position.end);
    out.history(&position.generations);
}

fn decode_position(reader: &mut Reader<'_>) -> Result<JournalPosition, Error> {
    Ok(JournalPosition { end: reader.offset("journal end")?, generations: reader.history("generations")? })
}

/// Reads a head whose checksum was found right.
pub(super) fn decode(kind: Kind, head: &Bytes, payload: Bytes) -> Result<Frame, Error> {
    let reader = &mut Reader::new(head);
    let frame = match kind {
        Kind::Hello => Frame::Hello(Hello {
            version_min: reader.u8("version")?,
            version_max: reader.u8("version")?,
            cluster_id: reader.uuid("cluster id")?,
            node_id: reader.node_id("node id")?,
            leader_id: reader.node_id("leader id")?,
            generation: reader.generation()?,
            features: reader.u64("features")?,
            nonce: reader.array("nonce")?,
            advertised: reader.text(ADDRESS_BYTES_MAX, "advertised address")?,
        }),
        Kind::Challenge => Frame::Challenge(Challenge { nonce: reader.array("nonce")?, proof: reader.array("proof")? }),
        Kind::Proof => Frame::Proof(reader.array("proof")?),
        Kind::HelloAck => Frame::HelloAck(HelloAck {
            version: reader.u8("version")?,
            cluster_id: Some(reader.uuid("cluster id")?).filter(|id| *id != Uuid::ZERO),
            node_id: reader.node_id("node id")?,
            generation: reader.generation()?,
            features: reader.u64("features")?,
            journal: decode_position(reader)?,
            advertised: reader.text(ADDRESS_BYTES_MAX, "advertised address")?,
            rack: reader.text(RACK_BYTES_MAX, "rack")?,
        }),
        Kind::Welcome => Frame::Welcome(Welcome { node_id: reader.node_id("node id")? }),
        Kind::Refused => Frame::Refused(Refused {
            reason: Reason::from_code(reader.u16("reason")?),
            detail: reader.text(DETAIL_BYTES_MAX, "detail")?,
        }),
        Kind::Fenced => Frame::Fenced(Fenced {
            generation: reader.generation()?,
            leader_id: reader.node_id("leader id")?,
            advertised: reader.text(ADDRESS_BYTES_MAX, "advertised address")?,
        }),
        Kind::Heartbeat => Frame::Heartbeat(Heartbeat {
            wall: Timestamp::from_millis(reader.i64("wall clock")?),
            clock_us: reader.u64("clock")?,
            echo_us: reader.u64("echo")?,
            held_us: reader.u64("held")?,
        }),
        Kind::MetadataSnapshot => Frame::MetadataSnapshot(MetadataSnapshot {
            position: decode_position(reader)?,
            part: reader.u32("part")?,
            last: reader.bool("last")?,
            records: reader.rest(head),
        }),
        Kind::MetadataDelta => {
            let (base, end) = (reader.offset("journal base")?, reader.offset("journal end")?);
            if base >= end {
                return Err(Error::Malformed { what: "journal end" });
            }
            Frame::MetadataDelta(MetadataDelta { base, end, batches: reader.rest(head) })
        }
        Kind::Attach => Frame::Attach(Attach {
            id: reader.id()?,
            leader_epoch: reader.leader_epoch()?,
            log_start: reader.offset("log start")?,
            first_segment: reader.offset("first segment")?,
            high_watermark: reader.offset("high watermark")?,
            epochs: reader.history("epochs")?,
            topic: decode_topic(reader)?,
        }),
        Kind::Attached => Frame::Attached(Attached {
            id: reader.id()?,
            leader_epoch: reader.leader_epoch()?,
            log_start: reader.offset("log start")?,
            log_end: reader.offset("log end")?,
            durable_end: reader.offset("durable end")?,
            tail: decode_tail(reader)?,
            damaged: decode_damaged(reader)?,
            epochs: reader.history("epochs")?,
        }),
        Kind::Truncate => Frame::Truncate(Truncate {
            id: reader.id()?,
            leader_epoch: reader.leader_epoch()?,
            to: reader.offset("log end")?,
        }),
        Kind::Reset => Frame::Reset(Reset {
            id: reader.id()?,
            leader_epoch: reader.leader_epoch()?,
            to: reader.offset("first segment")?,
            cause: match reader.u8("cause")? {
                0 => ResetCause::Empty,
                1 => ResetCause::Retention,
                2 => ResetCause::Diverged,
                3 => ResetCause::Damaged,
                _ => return Err(Error::Malformed { what: "cause" }),
            },
        }),
        Kind::Append => {
            let head = AppendHead {
                id: reader.id()?,
                leader_epoch: reader.leader_epoch()?,
                segment: reader.offset("segment")?,
                base: reader.offset("base offset")?,
                end: reader.offset("end offset")?,
                high_watermark: reader.offset("high watermark")?,
                log_start: reader.offset("log start")?,
            };
            if head.segment > head.base || head.base >= head.end || payload.is_empty() {
                return Err(Error::Malformed { what: "range" });
            }
            reader.end()?;
            return Ok(Frame::Append(head, payload));
        }
        Kind::Progress => Frame::Progress(Progress {
            id: reader.id()?,
            leader_epoch: reader.leader_epoch()?,
            high_watermark: reader.offset("high watermark")?,
            log_start: reader.offset("log start")?,
            first_segment: reader.offset("first segment")?,
        }),
        Kind::Detach => Frame::Detach(Detach { id: reader.id()? }),
        Kind::PartitionRefused => Frame::PartitionRefused(PartitionRefused {
            id: reader.id()?,
            leader_epoch: reader.leader_epoch()?,
            reason: Reason::from_code(reader.u16("reason")?),
            detail: reader.text(DETAIL_BYTES_MAX, "detail")?,
        }),
        Kind::Ack => {
            let journal_end = reader.offset("journal end")?;
            let count = reader.count(PARTITION_ACK_BYTES, "partitions")?;
            let mut partitions = Vec::with_capacity(count);
            for _ in 0..count {
                partitions.push(PartitionAck {
                    id: reader.id()?,
                    leader_epoch: reader.leader_epoch()?,
                    log_end: reader.offset("log end")?,
                    durable_end: reader.offset("durable end")?,
                });
            }
            Frame::Ack(Ack { journal_end, partitions })
        }
    };
    reader.end()?;
    Ok(frame)
}

fn decode_tail(reader: &mut Reader<'_>) -> Result<Option<Tail>, Error> {
    let (base, crc) = (Offset::new(reader.i64("tail")?), reader.u32("tail checksum")?);
    let leader_epoch = reader.leader_epoch()?;
    match base {
        Offset::UNKNOWN if crc == 0 && leader_epoch == LeaderEpoch::ZERO => Ok(None),
        base if base >= Offset::ZERO => Ok(Some(Tail { base, crc, leader_epoch })),
        _ => Err(Error::Malformed { what: "tail" }),
    }
}

fn decode_damaged(reader: &mut Reader<'_>) -> Result<Option<Offset>, Error> {
    match Offset::new(reader.i64("damaged")?) {
        Offset::UNKNOWN => Ok(None),
        damaged if damaged >= Offset::ZERO => Ok(Some(damaged)),
        _ => Err(Error::Malformed { what: "damaged" }),
    }
}

/// A topic's name becomes the name of a directory, so it is checked as such.
fn decode_topic(reader: &mut Reader<'_>) -> Result<Arc<str>, Error> {
    let what = "topic";
    let topic = reader.text(TOPIC_BYTES_MAX, what)?;
    let fits = topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if topic.is_empty() || &*topic == "." || &*topic == ".." || !fits {
        return Err(Error::Malformed { what });
    }
    Ok(topic)
}
