//! A leader, a follower, and a link whose bytes go through the codec. Everything said is written to a transcript.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chronik_log::fs::{Fs, MemFs, OpenMode};
use chronik_log::{Checkpoint, Log, LogConfig};
use chronik_model::{
    Generation, Instant, LeaderEpoch, NodeId, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition, Uuid,
};
use chronik_record::{BatchBuilder, Compression, ProducedBatch, TimestampType};
use chronik_replication::frame::{self, Decoder, Limits};
use chronik_replication::isr::Assignment;
use chronik_replication::link::sender::{self, Sender};
use chronik_replication::link::{Reason, Time, Timing, receiver, receiver::Receiver};
use chronik_replication::message::*;
use chronik_replication::{Acks, Durability, Effect, Mode, Position, Replica, Settings};

pub(crate) const LEADER: NodeId = NodeId::new(1);
pub(crate) const FOLLOWER: NodeId = NodeId::new(2);
pub(crate) const SESSION: u64 = 7;
pub(crate) const DIR: &str = "/data/wal/t/0";

pub(crate) fn o(offset: i64) -> Offset {
    Offset::new(offset)
}

pub(crate) fn epoch(leader_epoch: i32) -> LeaderEpoch {
    LeaderEpoch::new(leader_epoch)
}

pub(crate) fn at(secs: u64) -> Time {
    Time { now: Instant::since_origin(Duration::from_secs(secs)), wall: Timestamp::from_millis(1_000_000) }
}

pub(crate) fn id() -> TopicIdPartition {
    TopicIdPartition::new(TopicId(Uuid::from_bytes([9; 16])), PartitionIndex::new(0))
}

pub(crate) fn config() -> LogConfig {
    LogConfig { segment_bytes: 1000, index_interval_bytes: 150, retention_ms: None, ..LogConfig::default() }
}

pub(crate) fn settings(mode: Mode) -> Settings {
    Settings { durability: Durability::Fsync, mode, min_insync_replicas: 1, lag_time_max: Duration::from_secs(30) }
}

/// One record whose value tells which batch it is.
pub(crate) fn batch(tag: u64) -> ProducedBatch {
    let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, Timestamp::from_millis(1000));
    let value = format!("value {tag} {}", "x".repeat(usize::try_from(tag % 41).unwrap()));
    builder.append(Timestamp::from_millis(1000), None, Some(value.as_bytes()), &[]);
    builder.build().unwrap()
}

/// A node with one replica.
pub(crate) struct Node {
    pub(crate) fs: MemFs,
    pub(crate) replica: Replica<u64>,
    pub(crate) effects: Vec<Effect<u64>>,
}

fn disk() -> MemFs {
    let fs = MemFs::new();
    fs.create_dir_all(std::path::Path::new("/data/wal/t")).unwrap();
    fs.sync_all(std::path::Path::new("/")).unwrap();
    fs
}

fn tp() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn new_log(fs: &MemFs) -> Log {
    Log::create(Arc::new(fs.clone()), PathBuf::from(DIR), tp(), config(), true).unwrap()
}

pub(crate) fn assignment(leader_epoch: i32, isr: &[NodeId]) -> Assignment {
    Assignment {
        node_id: LEADER,
        leader_epoch: epoch(leader_epoch),
        partition_epoch: 0,
        replicas: vec![LEADER, FOLLOWER],
        isr: isr.to_vec(),
    }
}

impl Node {
    pub(crate) fn leader(leader_epoch: i32, mode: Mode) -> Self {
        let (fs, mut effects) = (disk(), Vec::new());
        let assignment = assignment(leader_epoch, &[LEADER]);
        let replica = Replica::lead_assigned(new_log(&fs), assignment, settings(mode), at(0).now, &mut effects);
        Self { fs, replica, effects }
    }

    pub(crate) fn follower() -> Self {
        let fs = disk();
        let replica = Replica::follow(new_log(&fs), epoch(0), settings(Mode::Async));
        Self { fs, replica, effects: Vec::new() }
    }

    /// A follower whose log holds batches as they would be led: (leader epoch, tag), one record each.
    pub(crate) fn follower_with(batches: &[(i32, u64)]) -> Self {
        let fs = disk();
        let mut log = new_log(&fs);
        for (leader_epoch, tag) in batches {
            log.append(&batch(*tag), epoch(*leader_epoch), at(0).wall).unwrap();
        }
        log.flush().unwrap();
        let replica = Replica::follow(log, epoch(0), settings(Mode::Async));
        Self { fs, replica, effects: Vec::new() }
    }

    /// A leader in `leader_epoch` whose log holds batches of earlier ones.
    pub(crate) fn leader_with(leader_epoch: i32, batches: &[(i32, u64)]) -> Self {
        let mut node = Self::follower_with(batches);
        let assignment = assignment(leader_epoch, &[LEADER]);
        assert!(node.replica.become_leader(assignment, at(0).now, &mut node.effects));
        node
    }

    pub(crate) fn produce(&mut self, tag: u64) {
        self.replica.append(&batch(tag), Acks::Leader, at(0).wall, &mut self.effects).unwrap();
    }

    pub(crate) fn produce_all(&mut self, tags: std::ops::Range<u64>) {
        tags.for_each(|tag| self.produce(tag));
        self.flush();
    }

    pub(crate) fn flush(&mut self) {
        if let Some(job) = self.replica.flush_job() {
            let outcome = job.run();
            self.replica.flushed(job, outcome, &mut self.effects);
        }
    }

    /// The process starts again; nothing is lost on the way.
    pub(crate) fn reopen(&mut self, from: Option<Checkpoint>) {
        self.fs.sync_all(std::path::Path::new("/")).unwrap();
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        let (mut log, _) = Log::open(fs, PathBuf::from(DIR), tp(), config(), from, false, at(0).wall).unwrap();
        log.flush().unwrap();
        let leader_epoch = self.replica.leader_epoch();
        self.replica = Replica::follow(log, leader_epoch, settings(Mode::Async));
    }

    /// The power goes, and comes back: what was not synced is lost.
    pub(crate) fn crash(&mut self, from: Option<Checkpoint>, leader_epoch: i32) {
        self.fs.crash(1);
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        let (mut log, _) = Log::open(fs, PathBuf::from(DIR), tp(), config(), from, false, at(0).wall).unwrap();
        assert_eq!(log.damage(), []);
        log.flush().unwrap();
        self.replica = Replica::follow(log, epoch(leader_epoch), settings(Mode::Async));
    }

    /// Every byte of the log with the segment it is in.
    pub(crate) fn segments(&self) -> Vec<(String, Vec<u8>)> {
        let dir = std::path::Path::new(DIR);
        let names = self.fs.read_dir(dir).unwrap().into_iter().map(|entry| entry.name);
        names
            .filter(|name| name.ends_with(".log"))
            .map(|name| {
                let file = self.fs.open(&dir.join(&name), OpenMode::Read).unwrap();
                let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
                file.read_exact_at(&mut bytes, 0).unwrap();
                (name, bytes)
            })
            .collect()
    }

    /// The names of the files with cut tails.
    pub(crate) fn cuts(&self) -> Vec<PathBuf> {
        let dir = std::path::Path::new(DIR);
        let names = self.fs.read_dir(dir).unwrap().into_iter().map(|entry| entry.name);
        names.filter(|name| name.ends_with(".cut")).map(|name| dir.join(name)).collect()
    }

    pub(crate) fn bytes_below(&self, end: Offset) -> Vec<u8> {
        let reader = self.replica.log().reader();
        let (mut bytes, mut from) = (Vec::new(), self.replica.log().log_start());
        while from < end {
            let region = reader.read_replica(from, end, 1 << 20).unwrap();
            bytes.extend(region.slice.read().unwrap());
            from = region.end;
        }
        bytes
    }
}

/// What a sender and a receiver are made of.
pub(crate) fn sender_config() -> sender::Config {
    sender::Config {
        cluster_id: Uuid::from_bytes([5; 16]),
        node_id: LEADER,
        leader_id: LEADER,
        generation: Generation::new(1),
        advertised: "leader:9092".into(),
        secret: None,
        timing: Timing::default(),
        append_bytes_max: 400,
        window_bytes: 2000,
        window_frames: 100,
        journal_start: o(0),
        journal: JournalPosition::default(),
    }
}

pub(crate) fn receiver_config() -> receiver::Config {
    receiver::Config {
        cluster_id: Some(Uuid::from_bytes([5; 16])),
        node_id: FOLLOWER,
        generation: Generation::new(0),
        leader_id: NodeId::NONE,
        leader_advertised: "".into(),
        leads: false,
        advertised: "follower:9092".into(),
        rack: "".into(),
        secret: None,
        timing: Timing::default(),
        journal: JournalPosition::default(),
    }
}

/// A link between two nodes.
pub(crate) struct Link {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    pub(crate) to_receiver: VecDeque<Vec<u8>>,
    pub(crate) to_sender: VecDeque<Vec<u8>>,
    receiver_decoder: Decoder,
    sender_decoder: Decoder,
    pub(crate) transcript: String,
    pub(crate) sender_closed: Option<Reason>,
    pub(crate) receiver_closed: Option<Reason>,
    pub(crate) fenced: Option<Fenced>,
    pub(crate) adopted: Option<(Uuid, NodeId)>,
    pub(crate) resets: Vec<(Offset, Offset, ResetCause)>,
    /// Whether the follower syncs and acknowledges.
    pub(crate) follower_syncs: bool,
    pub(crate) time: Time,
}

impl Link {
    pub(crate) fn new(sender: sender::Config, receiver: receiver::Config) -> Self {
        Self {
            sender: Sender::new(sender),
            receiver: Receiver::new(receiver),
            to_receiver: VecDeque::new(),
            to_sender: VecDeque::new(),
            receiver_decoder: Decoder::new(Limits::open(1 << 20)),
            sender_decoder: Decoder::new(Limits::open(0)),
            transcript: String::new(),
            sender_closed: None,
            receiver_closed: None,
            fenced: None,
            adopted: None,
            resets: Vec::new(),
            follower_syncs: true,
            time: at(0),
        }
    }

    /// A link that has brought the two logs to agree and has sent everything.
    pub(crate) fn connected(leader: &mut Node, follower: &mut Node) -> Self {
        let mut link = Self::new(sender_config(), receiver_config());
        link.connect(leader, follower);
        link
    }

    pub(crate) fn connect(&mut self, leader: &mut Node, follower: &mut Node) {
        self.start(leader, follower);
        self.run(leader, follower);
    }

    pub(crate) fn start(&mut self, leader: &mut Node, follower: &mut Node) {
        self.tell_receiver(receiver::Input::Connected { nonce: [2; 32] }, follower);
        self.tell_sender(sender::Input::Connected { nonce: [1; 32] }, leader);
        let state = leader.replica.partition_state(id(), o(0));
        self.tell_sender(sender::Input::Partition(state), leader);
    }

    /// Sends and answers until nobody has anything to say.
    pub(crate) fn run(&mut self, leader: &mut Node, follower: &mut Node) {
        while self.step(leader, follower) {}
    }

    /// Delivers one frame; false where there is none.
    pub(crate) fn step(&mut self, leader: &mut Node, follower: &mut Node) -> bool {
        let bounds = leader.replica.bounds();
        self.tell_sender(sender::Input::Moved { id: id(), bounds }, leader);
        if let Some(bytes) = self.to_receiver.pop_front() {
            self.deliver_to_receiver(&bytes, follower);
            return true;
        }
        if self.follower_syncs {
            follower.flush();
            self.tell_receiver(advanced(follower), follower);
            self.tell_receiver(receiver::Input::Settled, follower);
        }
        match self.to_sender.pop_front() {
            Some(bytes) => self.deliver_to_sender(&bytes, leader),
            None => return !self.to_receiver.is_empty(),
        }
        true
    }

    pub(crate) fn deliver_to_receiver(&mut self, bytes: &[u8], follower: &mut Node) {
        self.receiver_decoder.feed(bytes);
        loop {
            match self.receiver_decoder.next_frame() {
                Ok(Some(frame)) => self.tell_receiver(receiver::Input::Frame(frame), follower),
                Ok(None) => return,
                Err(error) => return self.tell_receiver(receiver::Input::Malformed(error), follower),
            }
        }
    }

    fn deliver_to_sender(&mut self, bytes: &[u8], leader: &mut Node) {
        self.sender_decoder.feed(bytes);
        while let Some(frame) = self.sender_decoder.next_frame().unwrap() {
            self.tell_sender(sender::Input::Frame(frame), leader);
        }
    }

    pub(crate) fn tell_sender(&mut self, input: sender::Input, leader: &mut Node) {
        let mut effects = Vec::new();
        self.sender.handle(input, self.time, &mut effects);
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            let answer = self.sender_effect(effect, leader);
            let mut more = Vec::new();
            answer.into_iter().for_each(|answer| self.sender.handle(answer, self.time, &mut more));
            effects.extend(more);
        }
    }

    fn sender_effect(&mut self, effect: sender::Effect, leader: &mut Node) -> Option<sender::Input> {
        let reader = leader.replica.log().reader();
        let now = self.time.now;
        match effect {
            sender::Effect::Send(frame) => {
                self.say("->", &frame);
                self.to_receiver.push_back(frame::to_bytes(&frame));
            }
            sender::Effect::SendAppend { head, slice } => {
                let mut bytes = frame::encode_append(&head, slice.len);
                bytes.extend(slice.read().unwrap());
                let AppendHead { segment, base, end, high_watermark, .. } = head;
                let _ = writeln!(self.transcript, "-> append [{base}, {end}) in segment {segment} hw {high_watermark}");
                self.to_receiver.push_back(bytes);
            }
            sender::Effect::Read { id, from, end, bytes_max } => {
                let outcome = sender::read(&reader, from, end, bytes_max);
                return Some(sender::Input::Read { id, from, outcome });
            }
            sender::Effect::CompareTail { id, end, tail } => {
                let same = sender::compare_tail(&reader, end, tail);
                return Some(sender::Input::TailCompared { id, end, same });
            }
            sender::Effect::Attached { leader_epoch, log_end, durable_end, .. } => {
                let position = Position { leader_epoch, log_end, durable_end };
                let counts = leader.replica.follower_attached(FOLLOWER, SESSION, position, now, &mut leader.effects);
                assert!(counts || !leader.replica.leads());
            }
            sender::Effect::Acked { leader_epoch, log_end, durable_end, .. } => {
                let position = Position { leader_epoch, log_end, durable_end };
                let counts = leader.replica.acked(FOLLOWER, SESSION, position, now, &mut leader.effects);
                assert!(counts || !leader.replica.leads());
            }
            sender::Effect::AssignNodeId => return Some(sender::Input::NodeIdAssigned(NodeId::new(30))),
            sender::Effect::Resetting { from, to, cause, .. } => self.resets.push((from, to, cause)),
            sender::Effect::Fenced(fenced) => self.fenced = Some(fenced),
            sender::Effect::Close { reason, .. } => self.sender_closed = Some(reason),
            sender::Effect::Unreadable { from, detail, .. } => {
                let _ = writeln!(self.transcript, "   unreadable at {from}: {detail}");
            }
            _ => {}
        }
        None
    }

    pub(crate) fn tell_receiver(&mut self, input: receiver::Input, follower: &mut Node) {
        let mut effects = Vec::new();
        self.receiver.handle(input, self.time, &mut effects);
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            let answer = self.receiver_effect(effect, follower);
            let mut more = Vec::new();
            answer.into_iter().for_each(|answer| self.receiver.handle(answer, self.time, &mut more));
            effects.extend(more);
        }
    }

    fn receiver_effect(&mut self, effect: receiver::Effect, follower: &mut Node) -> Option<receiver::Input> {
        let (replica, effects) = (&mut follower.replica, &mut follower.effects);
        let failed = |error: &chronik_replication::FollowError| receiver::Input::Failed {
            id: Some(id()),
            reason: error.reason(),
            detail: error.to_string().into(),
        };
        let attached = match effect {
            receiver::Effect::Send(frame) => {
                self.say("<-", &frame);
                self.to_sender.push_back(frame::to_bytes(&frame));
                return None;
            }
            receiver::Effect::Attach(attach) => replica.attach(&attach),
            receiver::Effect::Truncate(truncate) => replica
                .prepare_truncate(&truncate)
                .and_then(|()| Ok(replica.log_mut().checkpoint()?))
                .and_then(|_| replica.truncate(&truncate, effects)),
            receiver::Effect::Reset(reset) => replica
                .prepare_reset(&reset)
                .and_then(|()| Ok(replica.log_mut().checkpoint()?))
                .and_then(|_| replica.reset(&reset, effects)),
            receiver::Effect::Append { head, batches } => {
                let outcome = replica.append_replicated(&head, &batches, self.time.wall, effects);
                return Some(outcome.map_or_else(|error| failed(&error), |_| advanced(follower)));
            }
            receiver::Effect::Progress(progress) => {
                return replica.progress(&progress, effects).err().map(|error| failed(&error));
            }
            receiver::Effect::Close { reason, .. } => {
                self.receiver_closed = Some(reason);
                return None;
            }
            receiver::Effect::Adopt { cluster_id, node_id } => {
                self.adopted = Some((cluster_id, node_id));
                return None;
            }
            _ => return None,
        };
        Some(attached.map_or_else(|error| failed(&error), receiver::Input::Attached))
    }

    fn say(&mut self, arrow: &str, frame: &Frame) {
        let text = match frame {
            Frame::Attach(attach) => {
                let Attach { leader_epoch, log_start, first_segment, high_watermark, epochs, .. } = attach;
                let epochs = history(epochs);
                format!(
                    "attach epoch {leader_epoch} start {log_start} first segment {first_segment} hw {high_watermark} epochs {epochs}"
                )
            }
            Frame::Attached(attached) => {
                let Attached { log_start, log_end, durable_end, tail, epochs, .. } = attached;
                let tail = tail.map_or("none".to_owned(), |tail| tail.base.to_string());
                format!(
                    "attached [{log_start}, {log_end}) durable {durable_end} tail {tail} epochs {}",
                    history(epochs)
                )
            }
            Frame::Truncate(truncate) => format!("truncate to {}", truncate.to),
            Frame::Reset(reset) => format!("reset to {} ({:?})", reset.to, reset.cause),
            Frame::Progress(progress) => {
                format!("progress hw {} start {}", progress.high_watermark, progress.log_start)
            }
            Frame::Ack(ack) => {
                let acks: Vec<_> = ack
                    .partitions
                    .iter()
                    .map(|ack| format!("log end {} durable {}", ack.log_end, ack.durable_end))
                    .collect();
                format!("ack journal {} {}", ack.journal_end, acks.join("; "))
            }
            Frame::Refused(refused) => format!("refused {}: {}", refused.reason, refused.detail),
            other => other.kind().name().to_owned(),
        };
        let _ = writeln!(self.transcript, "{arrow} {text}");
    }
}

pub(crate) fn advanced(node: &Node) -> receiver::Input {
    let Position { leader_epoch, log_end, durable_end } = node.replica.position();
    receiver::Input::Advanced { id: id(), leader_epoch, log_end, durable_end }
}

fn history(epochs: &[(LeaderEpoch, Offset)]) -> String {
    let entries: Vec<_> = epochs.iter().map(|(leader_epoch, start)| format!("{leader_epoch}@{start}")).collect();
    format!("[{}]", entries.join(" "))
}

/// The follower has what the leader has, in the same files.
pub(crate) fn assert_identical(leader: &Node, follower: &Node) {
    assert_eq!(follower.replica.log().log_end(), leader.replica.log().log_end());
    assert_eq!(follower.replica.log().leader_epochs(), leader.replica.log().leader_epochs());
    let (ours, theirs) = (leader.segments(), follower.segments());
    let names = |segments: &[(String, Vec<u8>)]| segments.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&theirs), names(&ours));
    assert!(ours == theirs, "segments of the same name differ");
    follower.replica.check_invariants();
    leader.replica.check_invariants();
}
