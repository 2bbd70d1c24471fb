//! `chronik produce`: the lines of standard input, one record each.
//!
//! Lines are gathered into batches while there is input to read, and sent as soon as there is none. Memory is bounded:
//! a few blocks of input, one line, and one batch for each partition.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use bytes::{Buf as _, Bytes, BytesMut};
use chronik_client::{Acks, ClientError, ProducerIdentity};
use chronik_model::{PartitionIndex, Sequence};
use chronik_record::{BatchBuilder, BuildError, Compression, TimestampType};
use chronik_wire::ErrorCode;
use tokio::sync::mpsc;

use super::{Session, Stop, now, say};
use crate::cli::Produce;
use crate::problem::Problem;

/// Bytes read from standard input at a time, and how many such blocks wait.
const BLOCK_BYTES: usize = 256 * 1024;
const BLOCKS_MAX: usize = 4;
/// Bytes of one line; more than any broker takes by default.
const LINE_BYTES_MAX: usize = 100 << 20;
/// Bytes of keys and values in one batch, below Kafka's default `max.message.bytes` with all that comes around them.
const BATCH_BYTES: usize = 768 * 1024;
/// Records in one batch: short lines, too, leave room for what comes around them.
const BATCH_RECORDS: usize = 8 * 1024;

pub(crate) async fn run(command: Produce, variables: &[(String, String)]) -> Result<(), Stop> {
    let mut session = Session::open(&command.bootstrap, variables).await?;
    let topic = match session.client.topic_on_demand(&command.topic).await {
        Ok(topic) => topic,
        Err(error) => return Err(session.explain(&error).into()),
    };
    let partitioner = Partitioner::new(topic.partitions.keys().copied().collect(), command.partition);
    let identity = match command.acks {
        // Without an answer from all in-sync replicas nothing is sent twice, so nothing needs to be recognised.
        Acks::None | Acks::Leader => None,
        Acks::All => match session.client.init_producer().await {
            Ok(identity) => Some(identity),
            Err(error) => return Err(session.explain(&error).into()),
        },
    };
    let mut sender = Sender {
        session,
        topic: command.topic,
        acks: command.acks,
        compression: command.compression,
        identity,
        sequences: BTreeMap::new(),
        sent: 0,
    };
    let outcome = send_all(&mut sender, partitioner, command.key_separator.as_deref()).await;
    let records = if sender.sent == 1 { "record" } else { "records" };
    say(&format!("{} {records} written to {}", sender.sent, sender.topic));
    outcome
}

async fn send_all(sender: &mut Sender, mut partitioner: Partitioner, separator: Option<&str>) -> Result<(), Stop> {
    let mut input = read_input();
    let mut splitter = Splitter::new(LINE_BYTES_MAX);
    let mut pending: BTreeMap<PartitionIndex, Pending> = BTreeMap::new();
    let mut line_number: u64 = 0;
    loop {
        let block = match input.try_recv() {
            Ok(block) => Some(block),
            Err(mpsc::error::TryRecvError::Disconnected) => None,
            Err(mpsc::error::TryRecvError::Empty) => {
                sender.send_pending(&mut pending).await?;
                partitioner.rotate();
                input.recv().await
            }
        };
        let last = block.is_none();
        match block {
            Some(Ok(block)) => splitter.push(&block),
            Some(Err(error)) => {
                sender.send_pending(&mut pending).await?;
                return Err(Problem::new(
                    format!("cannot read standard input: {error}"),
                    "what was read before is written; check where the input comes from",
                )
                .into());
            }
            None => {}
        }
        while let Some(line) = splitter.next_line(last)? {
            line_number += 1;
            let record = match record_of(line, separator, line_number) {
                Ok(record) => record,
                Err(problem) => {
                    sender.send_pending(&mut pending).await?;
                    return Err(problem.into());
                }
            };
            let partition = partitioner.partition(record.key.as_deref());
            let batch = pending.entry(partition).or_default();
            batch.bytes = batch.bytes.saturating_add(record.bytes());
            batch.records.push(record);
            if batch.bytes >= BATCH_BYTES || batch.records.len() >= BATCH_RECORDS {
                sender.send_pending(&mut pending).await?;
                partitioner.rotate();
            }
        }
        if last {
            return sender.send_pending(&mut pending).await;
        }
    }
}

/// Reads standard input on a thread of its own, a bounded number of blocks ahead.
fn read_input() -> mpsc::Receiver<io::Result<Bytes>> {
    let (blocks, input) = mpsc::channel(BLOCKS_MAX);
    // Reading a terminal or a pipe cannot be cancelled; a runtime's own thread would hold up the end of the process.
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; BLOCK_BYTES];
        loop {
            let block = match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = block.is_err();
            if blocks.blocking_send(block).is_err() || failed {
                return;
            }
        }
    });
    input
}

/// Cuts input into lines.
#[derive(Debug)]
struct Splitter {
    line_bytes_max: usize,
    buffer: BytesMut,
    /// Bytes at the head of the buffer that hold no line end.
    searched: usize,
}

impl Splitter {
    fn new(line_bytes_max: usize) -> Self {
        Self { line_bytes_max, buffer: BytesMut::new(), searched: 0 }
    }

    fn push(&mut self, block: &[u8]) {
        self.buffer.extend_from_slice(block);
    }

    /// The next line without its end. The last line needs none.
    fn next_line(&mut self, input_ended: bool) -> Result<Option<Bytes>, Problem> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        if let Some(found) = unsearched.iter().position(|&b| b == b'\n') {
            let line = self.buffer.split_to(self.searched + found).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            return Ok(Some(line));
        }
        self.searched = self.buffer.len();
        if self.searched > self.line_bytes_max {
            return Err(Problem::new(
                format!("a line is longer than {} bytes", self.line_bytes_max),
                "split it: every line becomes one record",
            ));
        }
        if input_ended && !self.buffer.is_empty() {
            self.searched = 0;
            return Ok(Some(self.buffer.split().freeze()));
        }
        Ok(None)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    key: Option<Bytes>,
    value: Bytes,
}

impl Line {
    fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len).saturating_add(self.value.len())
    }
}

fn record_of(line: Bytes, separator: Option<&str>, line_number: u64) -> Result<Line, Problem> {
    let Some(separator) = separator.filter(|separator| !separator.is_empty()) else {
        return Ok(Line { key: None, value: line });
    };
    let found = line.windows(separator.len()).position(|window| window == separator.as_bytes());
    let Some(found) = found else {
        return Err(Problem::new(
            format!("line {line_number} has no key: it does not contain \"{separator}\""),
            "the lines before it are written; correct it, or leave out --key-separator",
        ));
    };
    Ok(Line { key: Some(line.slice(..found)), value: line.slice(found + separator.len()..) })
}

/// Chooses partitions as Kafka's own producers do: by the key's hash, and without a key the same one for a whole batch.
#[derive(Debug)]
struct Partitioner {
    partitions: Vec<PartitionIndex>,
    fixed: Option<PartitionIndex>,
    turn: usize,
}

impl Partitioner {
    fn new(partitions: Vec<PartitionIndex>, fixed: Option<i32>) -> Self {
        Self { partitions, fixed: fixed.map(PartitionIndex::new), turn: 0 }
    }

    fn partition(&self, key: Option<&[u8]>) -> PartitionIndex {
        let count = self.partitions.len().max(1);
        let place = match key {
            Some(key) => murmur2(key) as usize & 0x7fff_ffff,
            None => self.turn,
        };
        let chosen = self.partitions.get(place % count).copied();
        self.fixed.or(chosen).unwrap_or_default()
    }

    fn rotate(&mut self) {
        self.turn = self.turn.wrapping_add(1);
    }
}

/// The hash by which Kafka's producers place keys.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, tail) = data.as_chunks::<4>();
    for &word in words {
        let mut k = u32::from_le_bytes(word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (shift, &byte) in tail.iter().enumerate() {
        hash ^= u32::from(byte) << (8 * shift);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[derive(Debug, Default)]
struct Pending {
    records: Vec<Line>,
    bytes: usize,
}

struct Sender {
    session: Session,
    topic: String,
    acks: Acks,
    compression: Compression,
    identity: Option<ProducerIdentity>,
    /// The next sequence of each partition written to.
    sequences: BTreeMap<PartitionIndex, Sequence>,
    sent: u64,
}

impl Sender {
    async fn send_pending(&mut self, pending: &mut BTreeMap<PartitionIndex, Pending>) -> Result<(), Stop> {
        while let Some((partition, batch)) = pending.pop_first() {
            self.send(partition, &batch.records).await?;
        }
        Ok(())
    }

    /// Sends records as one batch, or as several where the topic takes only smaller ones.
    async fn send(&mut self, partition: PartitionIndex, records: &[Line]) -> Result<(), Stop> {
        let mut parts = vec![records];
        while let Some(records) = parts.pop() {
            let sequence = *self.sequences.entry(partition).or_insert(Sequence::new(0));
            let batch = self.batch(records, sequence).map_err(|error| {
                Problem::new(format!("records do not make a batch: {error}"), "try --compression none")
            })?;
            let produced = self.session.client.produce(&self.topic, partition, batch, self.acks, self.identity).await;
            match produced {
                Ok(_) => {
                    let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
                    self.sequences.insert(partition, sequence.advanced_by(count));
                    self.sent = self.sent.saturating_add(count.into());
                }
                // The refused batch took no sequence, so its halves begin with the same one.
                Err(ClientError::Refused { code: ErrorCode::MessageTooLarge, .. }) if records.len() > 1 => {
                    let (first, second) = records.split_at(records.len() / 2);
                    parts.push(second);
                    parts.push(first);
                }
                Err(error) => return Err(self.session.explain(&error).into()),
            }
        }
        Ok(())
    }

    fn batch(&self, records: &[Line], sequence: Sequence) -> Result<Bytes, BuildError> {
        let now = now();
        let mut builder = BatchBuilder::new(self.compression, TimestampType::Create, now);
        if let Some(identity) = self.identity {
            builder = builder.producer(identity.id, identity.epoch, sequence);
        }
        for line in records {
            builder.append(now, line.key.as_deref(), Some(&line.value), &[]);
        }
        Ok(builder.build()?.bytes().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(blocks: &[&str]) -> Vec<String> {
        let mut splitter = Splitter::new(100);
        let mut lines = Vec::new();
        for block in blocks {
            splitter.push(block.as_bytes());
            while let Some(line) = splitter.next_line(false).unwrap() {
                lines.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        while let Some(line) = splitter.next_line(true).unwrap() {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
        }
        lines
    }

    #[test]
    fn input_is_cut_at_line_ends_wherever_blocks_end() {
        assert_eq!(lines(&["a\nb\n"]), ["a", "b"]);
        assert_eq!(lines(&["a", "b\nc", "\n", "\nd"]), ["ab", "c", "", "d"]);
        assert!(lines(&[]).is_empty());
        assert!(lines(&[""]).is_empty());
    }

    #[test]
    fn a_line_beyond_the_limit_is_refused_before_it_is_whole() {
        let mut splitter = Splitter::new(5);
        splitter.push(b"xxxxx");
        assert_eq!(splitter.next_line(false).unwrap(), None);
        splitter.push(b"x");
        assert!(splitter.next_line(false).is_err());
    }

    #[test]
    fn keys_end_at_the_first_separator() {
        let record = |text: &'static str, separator| record_of(Bytes::from_static(text.as_bytes()), separator, 3);
        let line = |key: Option<&'static str>, value: &'static str| Line {
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            value: Bytes::from_static(value.as_bytes()),
        };
        assert_eq!(record("k:v:w", Some(":")).unwrap(), line(Some("k"), "v:w"));
        assert_eq!(record("::", Some(":")).unwrap(), line(Some(""), ":"));
        assert_eq!(record("k->v", Some("->")).unwrap(), line(Some("k"), "v"));
        assert_eq!(record("k:v", None).unwrap(), line(None, "k:v"));
        let problem = record("v", Some(":")).unwrap_err().to_string();
        assert!(problem.contains("line 3 has no key"), "{problem}");
    }

    #[test]
    fn keys_hash_as_in_kafkas_producers() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
    }

    #[test]
    fn a_key_stays_on_its_partition_and_keyless_batches_take_turns() {
        let mut partitioner = Partitioner::new((0..3).map(PartitionIndex::new).collect(), None);
        let of_key = partitioner.partition(Some(b"k"));
        let mut turns = Vec::new();
        for _ in 0..4 {
            turns.push(partitioner.partition(None).get());
            partitioner.rotate();
            assert_eq!(partitioner.partition(Some(b"k")), of_key);
        }
        assert_eq!(turns, [0, 1, 2, 0]);
        let fixed = Partitioner::new((0..3).map(PartitionIndex::new).collect(), Some(2));
        assert_eq!(fixed.partition(Some(b"k")).get(), 2);
    }
}
