//! The codec: golden bytes, round trips, and bytes that are no frames.

use std::fmt::Write as _;

use ::bytes::Bytes;
use chronik_model::{Generation, LeaderEpoch, NodeId, Offset, PartitionIndex, Timestamp, TopicId, Uuid};
use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::link::Reason;
use crate::message::*;

const LIMITS: Limits = Limits::open(1 << 20);

fn decode(bytes: &[u8]) -> Result<Vec<Frame>, Error> {
    let mut decoder = Decoder::new(LIMITS);
    decoder.feed(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        frames.push(frame);
    }
    decoder.end()?;
    Ok(frames)
}

fn id() -> TopicIdPartition {
    TopicIdPartition::new(TopicId(Uuid::from_bytes([0xaa; 16])), PartitionIndex::new(2))
}

fn head() -> AppendHead {
    AppendHead {
        id: id(),
        leader_epoch: LeaderEpoch::new(3),
        segment: Offset::new(4),
        base: Offset::new(5),
        end: Offset::new(6),
        high_watermark: Offset::new(7),
        log_start: Offset::new(1),
    }
}

#[test]
fn bytes_of_frames_are_as_documented() {
    let frames = [
        Frame::Welcome(Welcome { node_id: NodeId::new(7) }),
        Frame::Append(head(), Bytes::from_static(b"batches")),
        Frame::Ack(Ack {
            journal_end: Offset::new(9),
            partitions: vec![PartitionAck {
                id: id(),
                leader_epoch: LeaderEpoch::new(3),
                log_end: Offset::new(6),
                durable_end: Offset::new(5),
            }],
        }),
        Frame::Refused(Refused { reason: Reason::Gap, detail: "gap".into() }),
    ];
    let mut text = String::new();
    for frame in &frames {
        let bytes = to_bytes(frame);
        let hex = |from: usize, to: usize| -> String {
            bytes[from..to.min(bytes.len())].iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let _ = writeln!(text, "{}", frame.kind().name());
        let _ = writeln!(
            text,
            "  magic {} version {} kind {} flags {} head {} payload {} crc {}",
            hex(0, 4),
            hex(4, 5),
            hex(5, 6),
            hex(6, 8),
            hex(8, 12),
            hex(12, 16),
            hex(16, 20)
        );
        let _ = writeln!(text, "  {}", hex(20, usize::MAX));
    }
    expect![[r#"
        welcome
          magic 43484e4b version 01 kind 05 flags 0000 head 00000004 payload 00000000 crc 31ae9c18
          00000007
        append
          magic 43484e4b version 01 kind 24 flags 0000 head 00000040 payload 00000007 crc 79318a46
          aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000002000000030000000000000004000000000000000500000000000000060000000000000007000000000000000162617463686573
        ack
          magic 43484e4b version 01 kind 27 flags 0000 head 00000034 payload 00000000 crc d3727e9a
          000000000000000900000001aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa000000020000000300000000000000060000000000000005
        refused
          magic 43484e4b version 01 kind 06 flags 0000 head 00000007 payload 00000000 crc fe05320c
          00170003676170
    "#]].assert_eq(&text);
}

#[test]
fn the_head_of_an_append_frame_can_be_sent_before_its_batches() {
    let mut bytes = encode_append(&head(), 7);
    bytes.extend_from_slice(b"batches");
    assert_eq!(bytes, to_bytes(&Frame::Append(head(), Bytes::from_static(b"batches"))));
}

#[test]
fn each_wrong_field_has_its_error() {
    let good = to_bytes(&Frame::Append(head(), Bytes::from_static(b"batches")));
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        decode(&bytes).unwrap_err()
    };
    assert_eq!(with(0, 0), Error::Magic { found: 0x0048_4e4b });
    assert_eq!(with(4, 2), Error::Version { found: 2 });
    assert_eq!(with(5, 99), Error::Kind { found: 99 });
    assert_eq!(with(6, 1), Error::Flags { found: 0x0100 });
    assert_eq!(with(8, 1), Error::TooLong { what: "head", bytes: 0x0100_0040, max: Limits::HEAD_BYTES_MAX });
    assert_eq!(with(12, 1), Error::TooLong { what: "payload", bytes: 0x0100_0007, max: 1 << 20 });
    assert!(matches!(with(16, 0xff), Error::Checksum { .. }));
    assert!(matches!(with(30, 0xff), Error::Checksum { .. }));
    assert_eq!(decode(&good[..good.len() - 3]).unwrap_err(), Error::Truncated { missing: 3 });
    assert_eq!(decode(&good[..7]).unwrap_err(), Error::Truncated { missing: 13 });
}

#[test]
fn only_append_frames_have_a_payload_and_none_has_before_the_handshake() {
    let mut bytes = to_bytes(&Frame::Detach(Detach { id: id() }));
    bytes[15] = 1;
    assert_eq!(decode(&bytes).unwrap_err(), Error::TooLong { what: "payload", bytes: 1, max: 0 });
    let mut decoder = Decoder::new(Limits::HANDSHAKE);
    decoder.feed(&to_bytes(&Frame::Append(head(), Bytes::from_static(b"batches"))));
    assert_eq!(decoder.next_frame().unwrap_err(), Error::TooLong { what: "payload", bytes: 7, max: 0 });
}

#[test]
fn a_count_that_the_bytes_cannot_hold_allocates_nothing() {
    let mut ack = to_bytes(&Frame::Ack(Ack::default()));
    ack[28..32].copy_from_slice(&u32::MAX.to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&ack[..16]), &ack[20..]);
    ack[16..20].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(decode(&ack).unwrap_err(), Error::Malformed { what: "partitions" });
}

#[test]
fn a_decoder_that_failed_stays_failed_and_holds_nothing() {
    let mut decoder = Decoder::new(LIMITS);
    decoder.feed(&[0; 64]);
    let error = decoder.next_frame().unwrap_err();
    decoder.feed(&to_bytes(&Frame::Detach(Detach { id: id() })));
    assert_eq!(decoder.next_frame().unwrap_err(), error);
}

#[test]
fn a_topic_that_is_a_path_is_malformed() {
    for topic in ["", ".", "..", "a/b", "a\0b", "t\u{e4}"] {
        let attach = Attach {
            id: id(),
            topic: topic.into(),
            leader_epoch: LeaderEpoch::ZERO,
            log_start: Offset::ZERO,
            first_segment: Offset::ZERO,
            high_watermark: Offset::ZERO,
            epochs: Vec::new(),
        };
        assert_eq!(decode(&to_bytes(&Frame::Attach(attach))).unwrap_err(), Error::Malformed { what: "topic" });
    }
}

#[test]
fn a_history_that_does_not_rise_is_malformed() {
    for entries in [[(1, 5), (1, 6)], [(2, 5), (1, 6)], [(1, 5), (2, 5)]] {
        let generations = entries.iter().map(|(e, o)| (LeaderEpoch::new(*e), Offset::new(*o))).collect();
        let position = JournalPosition { end: Offset::new(9), generations };
        let snapshot = MetadataSnapshot { position, part: 0, last: true, records: Bytes::new() };
        let error = decode(&to_bytes(&Frame::MetadataSnapshot(snapshot))).unwrap_err();
        assert_eq!(error, Error::Malformed { what: "generations" });
    }
}

#[test]
fn long_texts_and_histories_are_cut_to_what_the_peer_takes() {
    let detail = "\u{e4}".repeat(2000);
    let frames = decode(&to_bytes(&Frame::Refused(Refused { reason: Reason::Gap, detail: detail.into() }))).unwrap();
    assert!(matches!(&frames[..], [Frame::Refused(refused)] if refused.detail.len() == 1024));
    let epochs: EpochHistory = (0..2000).map(|n| (LeaderEpoch::new(n), Offset::new(i64::from(n)))).collect();
    let attached = Attached {
        id: id(),
        leader_epoch: LeaderEpoch::ZERO,
        log_start: Offset::ZERO,
        log_end: Offset::new(5000),
        durable_end: Offset::new(5000),
        tail: None,
        damaged: None,
        epochs: epochs.clone(),
    };
    let frames = decode(&to_bytes(&Frame::Attached(attached))).unwrap();
    let [Frame::Attached(read)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!(read.epochs, epochs[epochs.len() - HISTORY_MAX..]);
}

// ---- properties ------------------------------------------------------------------------------------------------------

fn offsets() -> impl Strategy<Value = Offset> {
    prop_oneof![0..1000_i64, any::<i64>().prop_map(|n| n & i64::MAX)].prop_map(Offset::new)
}

fn leader_epochs() -> impl Strategy<Value = LeaderEpoch> {
    (0..i32::MAX).prop_map(LeaderEpoch::new)
}

fn ids() -> impl Strategy<Value = TopicIdPartition> {
    (any::<[u8; 16]>(), 0..i32::MAX).prop_map(|(topic, partition)| {
        TopicIdPartition::new(TopicId(Uuid::from_bytes(topic)), PartitionIndex::new(partition))
    })
}

fn histories() -> impl Strategy<Value = EpochHistory> {
    proptest::collection::btree_map(0..1000_i32, 1..1000_i64, 0..20).prop_map(|steps| {
        let mut start = 0;
        steps
            .into_iter()
            .map(|(leader_epoch, step)| {
                start += step;
                (LeaderEpoch::new(leader_epoch), Offset::new(start))
            })
            .collect()
    })
}

fn payloads() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 1..200).prop_map(Bytes::from)
}

fn frames() -> impl Strategy<Value = Frame> {
    let text = || "[a-z0-9:.-]{0,40}".prop_map(std::sync::Arc::<str>::from);
    let nodes = || (-1..i32::MAX).prop_map(NodeId::new);
    let generations = || (0..i32::MAX).prop_map(Generation::new);
    let positions = || (offsets(), histories()).prop_map(|(end, generations)| JournalPosition { end, generations });
    let reasons = || (0..Reason::ALL.len()).prop_map(|at| Reason::ALL[at]);
    let hello = (any::<([u8; 2], [u8; 16], u64, [u8; 32])>(), nodes(), nodes(), generations(), text()).prop_map(
        |((versions, cluster, features, nonce), node_id, leader_id, generation, advertised)| {
            Frame::Hello(Hello {
                version_min: versions[0],
                version_max: versions[1],
                cluster_id: Uuid::from_bytes(cluster),
                node_id,
                leader_id,
                generation,
                features,
                advertised,
                nonce,
            })
        },
    );
    let hello_ack = (any::<(u8, Option<u8>, u64)>(), nodes(), generations(), positions(), text(), "[a-z]{0,9}")
        .prop_map(|((version, cluster, features), node_id, generation, journal, advertised, rack)| {
            Frame::HelloAck(HelloAck {
                version,
                cluster_id: cluster.map(|byte| Uuid::from_bytes([byte | 1; 16])),
                node_id,
                generation,
                features,
                advertised,
                rack: rack.into(),
                journal,
            })
        });
    let attach = (ids(), "[a-zA-Z0-9_-]{1,249}", leader_epochs(), offsets(), offsets(), offsets(), histories())
        .prop_map(|(id, topic, leader_epoch, log_start, first_segment, high_watermark, epochs)| {
            let topic = topic.into();
            Frame::Attach(Attach { id, topic, leader_epoch, log_start, first_segment, high_watermark, epochs })
        });
    let tail =
        proptest::option::of((offsets(), any::<u32>(), leader_epochs()).prop_map(|(base, crc, leader_epoch)| Tail {
            base,
            crc,
            leader_epoch,
        }));
    let damaged = proptest::option::of(offsets());
    let attached = (ids(), leader_epochs(), offsets(), offsets(), offsets(), tail, damaged, histories()).prop_map(
        |(id, leader_epoch, log_start, log_end, durable_end, tail, damaged, epochs)| {
            Frame::Attached(Attached { id, leader_epoch, log_start, log_end, durable_end, tail, damaged, epochs })
        },
    );
    let append = (ids(), leader_epochs(), 0..1000_i64, 0..1000_i64, 1..1000_i64, offsets(), offsets(), payloads())
        .prop_map(|(id, leader_epoch, segment, base, len, high_watermark, log_start, batches)| {
            let (base, end) = (segment + base, segment + base + len);
            let [segment, base, end] = [segment, base, end].map(Offset::new);
            Frame::Append(AppendHead { id, leader_epoch, segment, base, end, high_watermark, log_start }, batches)
        });
    let partition = (ids(), leader_epochs(), offsets(), offsets())
        .prop_map(|(id, leader_epoch, log_end, durable_end)| PartitionAck { id, leader_epoch, log_end, durable_end });
    let ack = (offsets(), proptest::collection::vec(partition, 0..20))
        .prop_map(|(journal_end, partitions)| Frame::Ack(Ack { journal_end, partitions }));
    let cause = (0..4_usize).prop_map(|number| {
        [ResetCause::Empty, ResetCause::Retention, ResetCause::Diverged, ResetCause::Damaged][number]
    });
    prop_oneof![
        hello,
        any::<([u8; 32], [u8; 32])>().prop_map(|(nonce, proof)| Frame::Challenge(Challenge { nonce, proof })),
        any::<[u8; 32]>().prop_map(Frame::Proof),
        hello_ack,
        nodes().prop_map(|node_id| Frame::Welcome(Welcome { node_id })),
        (reasons(), text()).prop_map(|(reason, detail)| Frame::Refused(Refused { reason, detail })),
        (generations(), nodes(), text()).prop_map(|(generation, leader_id, advertised)| Frame::Fenced(Fenced {
            generation,
            leader_id,
            advertised
        })),
        any::<(i64, u64, u64, u64)>().prop_map(|(wall, clock_us, echo_us, held_us)| {
            Frame::Heartbeat(Heartbeat { wall: Timestamp::from_millis(wall), clock_us, echo_us, held_us })
        }),
        (positions(), any::<(u32, bool)>(), payloads()).prop_map(|(position, (part, last), records)| {
            Frame::MetadataSnapshot(MetadataSnapshot { position, part, last, records })
        }),
        (0..1000_i64, 1..1000_i64, payloads()).prop_map(|(base, len, batches)| {
            Frame::MetadataDelta(MetadataDelta { base: Offset::new(base), end: Offset::new(base + len), batches })
        }),
        attach,
        attached,
        (ids(), leader_epochs(), offsets()).prop_map(|(id, leader_epoch, to)| Frame::Truncate(Truncate {
            id,
            leader_epoch,
            to
        })),
        (ids(), leader_epochs(), offsets(), cause).prop_map(|(id, leader_epoch, to, cause)| Frame::Reset(Reset {
            id,
            leader_epoch,
            to,
            cause
        })),
        append,
        (ids(), leader_epochs(), offsets(), offsets(), offsets()).prop_map(
            |(id, leader_epoch, high_watermark, log_start, first_segment)| {
                Frame::Progress(Progress { id, leader_epoch, high_watermark, log_start, first_segment })
            }
        ),
        ids().prop_map(|id| Frame::Detach(Detach { id })),
        (ids(), leader_epochs(), reasons(), text()).prop_map(|(id, leader_epoch, reason, detail)| {
            Frame::PartitionRefused(PartitionRefused { id, leader_epoch, reason, detail })
        }),
        ack,
    ]
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded_however_the_stream_is_cut(
        frames in proptest::collection::vec(frames(), 1..6),
        cuts in proptest::collection::vec(1..50_usize, 1..200),
    ) {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| encode(frame, &mut bytes));
        let mut decoder = Decoder::new(LIMITS);
        let (mut read, mut rest) = (Vec::new(), bytes.as_slice());
        for cut in cuts.iter().cycle() {
            let (part, after) = rest.split_at((*cut).min(rest.len()));
            decoder.feed(part);
            while let Some(frame) = decoder.next_frame().unwrap() {
                read.push(frame);
            }
            rest = after;
            if rest.is_empty() {
                break;
            }
            prop_assert!(decoder.wanted() > 0);
        }
        prop_assert_eq!(decoder.end(), Ok(()));
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn a_flipped_bit_before_the_payload_is_noticed(frame in frames(), at in any::<prop::sample::Index>()) {
        let mut bytes = to_bytes(&frame);
        let payload = if let Frame::Append(_, batches) = &frame { batches.len() } else { 0 };
        let bit = at.index((bytes.len() - payload) * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), sound in any::<bool>()) {
        if sound && bytes.len() >= HEADER_BYTES {
            // With a fitting header the head itself is reached.
            let kind = Kind::ALL[usize::from(bytes[5]) % Kind::ALL.len()];
            let head = u32::try_from(bytes.len() - HEADER_BYTES).unwrap();
            bytes[..4].copy_from_slice(&MAGIC.to_be_bytes());
            bytes[4..8].copy_from_slice(&[VERSION, kind.code(), 0, 0]);
            bytes[8..12].copy_from_slice(&head.to_be_bytes());
            bytes[12..16].copy_from_slice(&[0; 4]);
            let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), &bytes[20..]);
            bytes[16..20].copy_from_slice(&crc.to_be_bytes());
        }
        if let Ok(frames) = decode(&bytes) {
            let mut again = Vec::new();
            frames.iter().for_each(|frame| encode(frame, &mut again));
            prop_assert_eq!(again, bytes);
        }
    }
}
