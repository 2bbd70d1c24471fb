//! The hot paths whose instructions are counted: what a broker does for every request, batch and frame.
//!
//! A path is prepared once, then done again and again; only the doing is counted. It must do the same each time, so
//! nothing here depends on a clock, on chance or on another thread.

#![expect(clippy::expect_used, reason = "a path that cannot be prepared has nothing to count")]

use std::hint::black_box;
use std::io::Write as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chronik_log::{Log, ReadBound};
use chronik_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TopicId, TopicPartition, Uuid};
use chronik_net::{FrameLimits, FrameReader, MemoryBudget};
use chronik_record::{BatchBuilder, Compression, ProducePolicy, ProducedBatch, TimestampType, validate_produced};
use chronik_replication::frame::{Decoder, Limits, encode_append, to_bytes};
use chronik_replication::message::{Ack, AppendHead, Frame, PartitionAck, TopicIdPartition};
use chronik_wire::fetch_response::{Partition, Response, Topic};
use chronik_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use chronik_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use chronik_wire::messages::{FetchRequest, ProduceRequest};
use chronik_wire::produce::ProduceRequestView;
use chronik_wire::{ApiKey, Message as _, Reader, frame};

use crate::{NOW, log_with};

const TOPIC: Uuid = Uuid::from_bytes([7; 16]);
const PRODUCE_VERSION: i16 = 13;
const FETCH_VERSION: i16 = 17;
/// Batches in the log that is looked up in: an index of four thousand bytes in its file, and some in memory.
const BATCHES: usize = 4_000;
const RECORDS_PER_BATCH: i64 = 10;

/// One doing of a path.
pub type Work = Box<dyn FnMut()>;

/// A hot path.
pub struct HotPath {
    /// Its name in the baseline.
    pub name: &'static str,
    /// Makes what the path needs.
    pub prepare: fn() -> Work,
}

/// Every hot path, in the order in which requests meet them.
pub const HOT_PATHS: &[HotPath] = &[
    HotPath { name: "frame.read.16k", prepare: read_frame },
    HotPath { name: "produce.decode", prepare: decode_produce },
    HotPath { name: "validate.1-record", prepare: || validate(records(1, 100, Compression::None)) },
    HotPath { name: "validate.64k", prepare: || validate(records(63, 1024, Compression::None)) },
    HotPath { name: "validate.64k.lz4", prepare: || validate(records(63, 1024, Compression::Lz4)) },
    HotPath { name: "producer-state.repeat", prepare: repeat },
    HotPath { name: "append.1-record", prepare: || append(&records(1, 100, Compression::None)) },
    HotPath { name: "append.64k", prepare: || append(&records(63, 1024, Compression::None)) },
    HotPath { name: "fetch.decode.1", prepare: || decode_fetch(1) },
    HotPath { name: "fetch.decode.100", prepare: || decode_fetch(100) },
    HotPath { name: "index.any-offset", prepare: look_up },
    HotPath { name: "index.next-batch", prepare: look_further },
    HotPath { name: "fetch.encode.1", prepare: || encode_fetch(1) },
    HotPath { name: "fetch.encode.1000", prepare: || encode_fetch(1000) },
    HotPath { name: "replication.append.encode", prepare: encode_replicated },
    HotPath { name: "replication.append.decode", prepare: || decode_replicated(&appended()) },
    HotPath { name: "replication.ack.encode.100", prepare: encode_ack },
    HotPath { name: "replication.ack.decode.100", prepare: || decode_replicated(&acknowledged()) },
];

/// A batch of `count` records of `size` bytes that compress somewhat, as text does.
fn records(count: usize, size: usize, compression: Compression) -> ProducedBatch {
    built(count, size, BatchBuilder::new(compression, TimestampType::Create, NOW))
}

fn built(count: usize, size: usize, mut builder: BatchBuilder) -> ProducedBatch {
    let mut state = 1_u32;
    for _ in 0..count {
        let mut letter = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + u8::try_from(state >> 28).unwrap_or(0)
        };
        let value: Vec<u8> = std::iter::repeat_with(&mut letter).take(size).collect();
        builder.append(NOW, Some(b"key"), Some(&value), &[]);
    }
    builder.build().expect("records that fit")
}

fn read_frame() -> Work {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut client, server) = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let client = std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        (client, chronik_net::Socket::from(listener.accept().await.expect("a connection").0))
    });
    let body = 16 * 1024_u32;
    let mut sent = body.to_be_bytes().to_vec();
    sent.resize(sent.len() + usize::try_from(body).unwrap_or(0), 7);
    let budget = MemoryBudget::new(1 << 20);
    let limits = FrameLimits { frame_bytes_max: 1 << 20, idle_max: Duration::from_secs(600), budget };
    let mut reader = FrameReader::new(limits);
    Box::new(move || {
        client.write_all(&sent).expect("a socket with room");
        let read = runtime.block_on(reader.next(&server)).expect("a connection that holds");
        black_box(read.expect("a frame"));
    })
}

fn decode_produce() -> Work {
    let records = records(15, 1024, Compression::None).bytes().clone();
    let partition_data = vec![PartitionProduceData { index: 3, records: Some(records) }];
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData { topic_id: TOPIC, partition_data, ..Default::default() }],
        ..Default::default()
    };
    let sent = frame::request(PRODUCE_VERSION, 7, Some("producer-1"), &request).expect("a request that fits");
    let sent = sent.slice(frame::SIZE_BYTES..);
    Box::new(move || {
        let mut reader = opened(black_box(&sent), ApiKey::Produce);
        black_box(ProduceRequestView::decode(&mut reader, PRODUCE_VERSION).expect("a produce request"));
    })
}

fn decode_fetch(partitions: i32) -> Work {
    let partition = |partition| FetchPartition {
        partition,
        fetch_offset: 1_000_000,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic_id: TOPIC,
            partitions: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let sent = frame::request(FETCH_VERSION, 7, Some("consumer-1"), &request).expect("a request that fits");
    let sent = sent.slice(frame::SIZE_BYTES..);
    Box::new(move || {
        let mut reader = opened(black_box(&sent), ApiKey::Fetch);
        black_box(FetchRequest::decode(&mut reader, FETCH_VERSION).expect("a fetch request"));
    })
}

/// A request's reader behind its header.
fn opened(sent: &Bytes, key: ApiKey) -> Reader {
    let seen = frame::peek(sent).expect("a header");
    let mut reader = Reader::new(sent.clone());
    black_box(frame::request_header(key, seen.api_version, &mut reader).expect("a header"));
    reader
}

fn validate(batch: ProducedBatch) -> Work {
    let policy = ProducePolicy::default();
    let bytes = batch.bytes().clone();
    Box::new(move || {
        black_box(validate_produced(black_box(bytes.clone()), &policy, NOW).expect("a valid batch"));
    })
}

fn empty_log() -> (tempfile::TempDir, Log) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = log_with(dir.path(), 0, &records(1, 100, Compression::None));
    (dir, log)
}

fn append(batch: &ProducedBatch) -> Work {
    let (dir, mut log) = empty_log();
    let batch = batch.clone();
    Box::new(move || {
        black_box(&dir);
        black_box(log.append(black_box(&batch), LeaderEpoch::ZERO, NOW).expect("an append"));
    })
}

/// What the log knows of its producers decides over a batch that one of a thousand sends again.
fn repeat() -> Work {
    let (dir, mut log) = empty_log();
    let by = |id| {
        let builder = BatchBuilder::new(Compression::None, TimestampType::Create, NOW);
        built(1, 100, builder.producer(ProducerId::new(id), ProducerEpoch::new(0), Sequence::new(0)))
    };
    for id in 0..1000 {
        log.append(&by(id), LeaderEpoch::ZERO, NOW).expect("an append");
    }
    let batch = by(617);
    Box::new(move || {
        black_box(&dir);
        let answer = log.append(black_box(&batch), LeaderEpoch::ZERO, NOW).expect("an append");
        assert!(answer.duplicate, "offset {}", answer.base_offset);
    })
}

fn filled_log() -> (tempfile::TempDir, Log) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = log_with(dir.path(), BATCHES, &records(10, 100, Compression::None));
    assert_eq!(log.log_end().get() % RECORDS_PER_BATCH, 0, "batches have other sizes");
    (dir, log)
}

fn look_up() -> Work {
    let (dir, log) = filled_log();
    let (reader, end) = (log.reader(), log.log_end().get());
    let mut offset = 0;
    Box::new(move || {
        black_box((&dir, &log));
        // A step that visits the offsets in no useful order.
        offset = (offset + 7_919_993) % end;
        let from = Offset::new(black_box(offset));
        black_box(reader.read(from, ReadBound::LogEnd, 1 << 20, true).expect("an offset of the log"));
    })
}

/// A consumer that reads batch after batch.
fn look_further() -> Work {
    let (dir, log) = filled_log();
    let (reader, end) = (log.reader(), log.log_end().get());
    let mut next = 0;
    Box::new(move || {
        black_box((&dir, &log));
        let from = Offset::new(black_box(next));
        black_box(reader.read(from, ReadBound::LogEnd, 1, true).expect("an offset of the log"));
        next = (next + RECORDS_PER_BATCH) % end;
    })
}

fn encode_fetch(partitions: i32) -> Work {
    let response = Response {
        correlation_id: 7,
        topics: vec![Topic {
            topic_id: TOPIC,
            partitions: (0..partitions)
                .map(|index| Partition { index, records_len: Some(16 << 10), ..Partition::default() })
                .collect(),
            ..Topic::default()
        }],
        ..Response::default()
    };
    Box::new(move || {
        black_box(black_box(&response).encode(FETCH_VERSION).expect("a response that fits"));
    })
}

fn partition(number: i32) -> TopicIdPartition {
    TopicIdPartition::new(TopicId(TOPIC), TopicPartition::new("bench", number).partition)
}

fn append_head() -> AppendHead {
    AppendHead {
        id: partition(3),
        leader_epoch: LeaderEpoch::ZERO,
        segment: Offset::ZERO,
        base: Offset::new(1_000_000),
        end: Offset::new(1_000_063),
        high_watermark: Offset::new(1_000_000),
        log_start: Offset::ZERO,
    }
}

fn appended() -> Frame {
    Frame::Append(append_head(), records(63, 1024, Compression::None).bytes().clone())
}

fn acknowledged() -> Frame {
    let one = |number| PartitionAck {
        id: partition(number),
        leader_epoch: LeaderEpoch::ZERO,
        log_end: Offset::new(1_000_063),
        durable_end: Offset::new(1_000_063),
    };
    Frame::Ack(Ack { journal_end: Offset::new(12), partitions: (0..100).map(one).collect() })
}

fn encode_replicated() -> Work {
    let head = append_head();
    Box::new(move || {
        black_box(encode_append(black_box(&head), 64 << 10));
    })
}

fn encode_ack() -> Work {
    let sent = acknowledged();
    Box::new(move || {
        black_box(to_bytes(black_box(&sent)));
    })
}

fn decode_replicated(sent: &Frame) -> Work {
    let sent = to_bytes(sent);
    let mut decoder = Decoder::new(Limits::open(1 << 20));
    Box::new(move || {
        let room: &mut BytesMut = decoder.room(sent.len());
        room.extend_from_slice(black_box(&sent));
        black_box(decoder.next_frame().expect("a sound frame").expect("a whole frame"));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_can_be_done_more_than_once() {
        for path in HOT_PATHS {
            let mut work = (path.prepare)();
            work();
            work();
        }
    }

    #[test]
    fn names_are_used_once() {
        for (index, path) in HOT_PATHS.iter().enumerate() {
            assert!(HOT_PATHS.iter().skip(index + 1).all(|other| other.name != path.name), "{}", path.name);
        }
    }
}
