//! A shard with named clients, a log in memory and virtual time, that writes down the whole conversation.
//!
//! Appends are committed at once unless the scene holds commits back. The fixed end of every member id made by the shard
//! is shown as `#n`, and `@n` is the time in milliseconds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use chronik_coordinator::codec::{GroupMetadataValue, Key, OffsetCommitValue};
use chronik_coordinator::message::*;
use chronik_coordinator::{AppendToken, Config, CoordinatorRecord, Effect, GroupError, GroupShard, Now, ReplyToken};
use chronik_model::{Instant, LeaderEpoch, Offset, Timestamp, TopicId, Uuid};

pub(crate) const GROUP: &str = "g";

/// Wall time at the scene's start.
pub(crate) const EPOCH_MS: i64 = 1_700_000_000_000;

pub(crate) struct Client {
    pub(crate) request: JoinRequest,
    pub(crate) generation: i32,
}

pub(crate) struct Scene {
    pub(crate) shard: GroupShard,
    pub(crate) clients: BTreeMap<String, Client>,
    pub(crate) log: Vec<CoordinatorRecord>,
    pub(crate) hold_commits: bool,
    config: Config,
    now: Duration,
    next_token: u64,
    waiting: BTreeMap<ReplyToken, String>,
    held: Vec<(AppendToken, ReplyToken, Response)>,
    uncommitted: Vec<AppendToken>,
    out: String,
}

pub(crate) fn config() -> Config {
    Config { initial_rebalance_delay: Duration::from_secs(3), ..Config::default() }
}

pub(crate) fn ids() -> Box<dyn FnMut() -> Uuid + Send> {
    let mut next = 0u8;
    Box::new(move || {
        next += 1;
        let mut bytes = [0; 16];
        bytes[15] = next;
        Uuid::from_bytes(bytes)
    })
}

impl Scene {
    /// A loaded shard without groups.
    pub(crate) fn new(config: Config) -> Self {
        let mut scene = Self {
            shard: GroupShard::new(config.clone(), ids()),
            clients: BTreeMap::new(),
            log: Vec::new(),
            hold_commits: false,
            config,
            now: Duration::ZERO,
            next_token: 0,
            waiting: BTreeMap::new(),
            held: Vec::new(),
            uncommitted: Vec::new(),
            out: String::new(),
        };
        let mut effects = Vec::new();
        scene.shard.loaded(scene.now(), &mut effects);
        scene.carry_out(effects);
        scene
    }

    /// A client that offers `range`, speaks `consumer` and is subscribed to the topic `t`.
    pub(crate) fn client(&mut self, name: &str) -> &mut Client {
        self.clients.entry(name.to_owned()).or_insert_with(|| Client {
            request: JoinRequest {
                group_id: GROUP.to_owned(),
                client_id: name.to_owned(),
                client_host: "/10.0.0.1".to_owned(),
                session_timeout: Duration::from_secs(10),
                rebalance_timeout: Some(Duration::from_secs(60)),
                protocol_type: "consumer".to_owned(),
                protocols: vec![protocol("range", &subscription("t"))],
                ..JoinRequest::default()
            },
            generation: NO_GENERATION,
        })
    }

    pub(crate) fn now(&self) -> Now {
        let wall = Timestamp::from_millis(EPOCH_MS + i64::try_from(self.now.as_millis()).unwrap());
        Now { monotonic: Instant::since_origin(self.now), wall }
    }

    fn token(&mut self, name: &str) -> ReplyToken {
        self.next_token += 1;
        let token = ReplyToken(self.next_token);
        self.waiting.insert(token, name.to_owned());
        token
    }

    /// What has been said since the last call.
    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.out, "@{} {line}", self.now.as_millis()).unwrap();
    }

    pub(crate) fn join(&mut self, name: &str) {
        self.say(&format!("{name} joins"));
        let request = self.client(name).request.clone();
        let (now, token, mut effects) = (self.now(), self.token(name), Vec::new());
        self.shard.join(now, request, token, &mut effects);
        self.carry_out(effects);
    }

    pub(crate) fn sync(&mut self, name: &str, assignments: &[(&str, &str)]) {
        self.say(&format!("{name} syncs {assignments:?}"));
        let assignments = assignments
            .iter()
            .map(|(member, assignment)| SyncAssignment {
                member_id: self.clients[*member].request.member_id.clone(),
                assignment: Bytes::copy_from_slice(assignment.as_bytes()),
            })
            .collect();
        let client = &self.clients[name];
        let request = SyncRequest {
            group_id: GROUP.to_owned(),
            generation: client.generation,
            member_id: client.request.member_id.clone(),
            instance_id: client.request.instance_id.clone(),
            protocol_type: Some("consumer".to_owned()),
            protocol_name: None,
            assignments,
        };
        self.sync_with(name, request);
    }

    pub(crate) fn sync_with(&mut self, name: &str, request: SyncRequest) {
        let (now, token, mut effects) = (self.now(), self.token(name), Vec::new());
        self.shard.sync(now, request, token, &mut effects);
        self.carry_out(effects);
    }

    pub(crate) fn heartbeat(&mut self, name: &str) {
        self.say(&format!("{name} beats"));
        let client = &self.clients[name];
        let request = HeartbeatRequest {
            group_id: GROUP.to_owned(),
            generation: client.generation,
            member_id: client.request.member_id.clone(),
            instance_id: client.request.instance_id.clone(),
        };
        let (now, token, mut effects) = (self.now(), self.token(name), Vec::new());
        self.shard.heartbeat(now, &request, token, &mut effects);
        self.carry_out(effects);
    }

    pub(crate) fn leave(&mut self, name: &str) {
        let member_id = self.clients[name].request.member_id.clone();
        self.leave_all(name, &[(&member_id, None)]);
    }

    pub(crate) fn leave_all(&mut self, name: &str, members: &[(&str, Option<&str>)]) {
        self.say(&format!("{name}: leave {}", shorten(&format!("{members:?}"))));
        let members = members.iter().map(|(member_id, instance_id)| LeaveMember {
            member_id: (*member_id).to_owned(),
            instance_id: instance_id.map(str::to_owned),
            reason: None,
        });
        let request = LeaveRequest { group_id: GROUP.to_owned(), members: members.collect() };
        let (now, token, mut effects) = (self.now(), self.token(name), Vec::new());
        self.shard.leave(now, request, token, &mut effects);
        self.carry_out(effects);
    }

    /// A commit of a member for partitions of the topic `t`.
    pub(crate) fn commit(&mut self, name: &str, offsets: &[(i32, i64)]) {
        let client = &self.clients[name];
        let request = OffsetCommitRequest {
            generation: client.generation,
            member_id: client.request.member_id.clone(),
            instance_id: client.request.instance_id.clone(),
            ..commit_request(GROUP, "t", offsets)
        };
        self.commit_with(name, request);
    }

    pub(crate) fn commit_with(&mut self, name: &str, request: OffsetCommitRequest) {
        self.say(&format!("{name} commits"));
        let (now, token, mut effects) = (self.now(), self.token(name), Vec::new());
        self.shard.commit_offsets(now, request, token, &mut effects);
        self.carry_out(effects);
    }

    pub(crate) fn fetch(&mut self, group_id: &str, topics: Option<Vec<OffsetFetchTopic>>) {
        self.say(&format!("fetch {group_id}"));
        let request = OffsetFetchRequest { group_id: group_id.to_owned(), topics, require_stable: true };
        let (token, mut effects) = (self.token("admin"), Vec::new());
        self.shard.fetch_offsets(request, token, &mut effects);
        self.carry_out(effects);
    }

    pub(crate) fn delete_groups(&mut self, group_ids: &[&str]) {
        self.say(&format!("delete groups {group_ids:?}"));
        let group_ids = group_ids.iter().map(|id| (*id).to_owned()).collect();
        let (now, token, mut effects) = (self.now(), self.token("admin"), Vec::new());
        self.shard.delete_groups(now, group_ids, token, &mut effects);
        self.carry_out(effects);
    }

    pub(crate) fn delete_offsets(&mut self, group_id: &str, topic: &str, partitions: &[i32]) {
        self.say(&format!("delete offsets of {topic} {partitions:?} in {group_id}"));
        let topics = vec![(topic.to_owned(), partitions.to_vec())];
        let request = OffsetDeleteRequest { group_id: group_id.to_owned(), topics };
        let (now, token, mut effects) = (self.now(), self.token("admin"), Vec::new());
        self.shard.delete_offsets(now, request, token, &mut effects);
        self.carry_out(effects);
    }

    pub(crate) fn delete_topics(&mut self, topics: &[&str]) {
        let topics: Vec<_> = topics.iter().map(|topic| (*topic, TopicId::ZERO)).collect();
        self.delete_topics_with(&topics);
    }

    pub(crate) fn delete_topics_with(&mut self, topics: &[(&str, TopicId)]) {
        let names: Vec<_> = topics.iter().map(|(topic, _)| topic).collect();
        self.say(&format!("topics {names:?} are deleted"));
        let (now, mut effects) = (self.now(), Vec::new());
        self.shard.on_topics_deleted(now, topics, &mut effects);
        self.carry_out(effects);
    }

    /// What a shell does after loading: only these topics exist.
    pub(crate) fn retain_topics(&mut self, topics: &[(&str, TopicId)]) {
        self.say("topics that are gone are looked for");
        let (now, mut effects) = (self.now(), Vec::new());
        let exists =
            |name: &str, id| topics.iter().any(|topic| topic.0 == name && (id == TopicId::ZERO || id == topic.1));
        self.shard.retain_topics(now, exists, &mut effects);
        self.carry_out(effects);
    }

    /// Lets time pass, with every deadline kept to the millisecond.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.shard.deadline().filter(|deadline| deadline.elapsed() <= end) {
            self.now = deadline.elapsed().max(self.now);
            let (now, mut effects) = (self.now(), Vec::new());
            self.shard.tick(now, &mut effects);
            if !effects.is_empty() {
                self.say("tick");
            }
            self.carry_out(effects);
        }
        self.now = end;
    }

    pub(crate) fn wait_ms(&mut self, millis: u64) {
        self.wait(Duration::from_millis(millis));
    }

    /// The held appends are committed.
    pub(crate) fn commit_appends(&mut self) {
        self.say("appends are committed");
        for append in std::mem::take(&mut self.uncommitted) {
            self.shard.append_committed(append);
            self.release(append);
        }
    }

    /// The oldest held append fails, and with it what was behind it.
    pub(crate) fn fail_appends(&mut self) {
        self.say("appends fail");
        let append = self.uncommitted[0];
        self.uncommitted.clear();
        let (now, mut effects) = (self.now(), Vec::new());
        self.shard.append_failed(now, append, GroupError::NotCoordinator, &mut effects);
        self.carry_out(effects);
        for (_, token, response) in std::mem::take(&mut self.held) {
            self.answer(token, response.refused(GroupError::NotCoordinator));
        }
    }

    /// Another shard takes over from the log.
    pub(crate) fn restart(&mut self) {
        self.say("restart");
        let mut effects = Vec::new();
        self.shard.unload(self.now(), GroupError::NotCoordinator, &mut effects);
        self.carry_out(effects);
        self.shard = GroupShard::new(self.config.clone(), ids());
        for record in &self.log {
            self.shard.replay(&record.key, record.value.as_deref()).unwrap();
        }
        let mut effects = Vec::new();
        self.shard.loaded(self.now(), &mut effects);
        self.carry_out(effects);
    }

    /// Requests that have no answer yet.
    pub(crate) fn unanswered(&self) -> Vec<&str> {
        self.waiting.values().map(String::as_str).collect()
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Append { token, records } => {
                    for record in &records {
                        self.out.push_str(&format!("    append {}: {}\n", token.0, show_record(record)));
                    }
                    if self.hold_commits {
                        self.uncommitted.push(token);
                    } else {
                        self.shard.append_committed(token);
                    }
                    self.log.extend(records);
                }
                Effect::Reply { token, response, after } => match after {
                    Some(append) if self.uncommitted.contains(&append) => {
                        self.out.push_str(&format!("    (a reply waits for append {})\n", append.0));
                        self.held.push((append, token, response));
                    }
                    _ => self.answer(token, response),
                },
                Effect::StateChanged { group_id, state, generation, members, reason } => {
                    let line =
                        format!("    {group_id} is {state}, generation {generation}, {members} members: {reason}\n");
                    self.out.push_str(&shorten(&line));
                }
            }
        }
        self.shard.check_invariants();
    }

    fn release(&mut self, append: AppendToken) {
        let (released, held) = std::mem::take(&mut self.held).into_iter().partition(|(after, _, _)| *after <= append);
        self.held = held;
        for (_, token, response) in released {
            self.answer(token, response);
        }
    }

    fn answer(&mut self, token: ReplyToken, response: Response) {
        let name = self.waiting.remove(&token).expect("each request is answered once");
        if let (Response::Join(response), Some(client)) = (&response, self.clients.get_mut(&name)) {
            let learns_id = matches!(response.error, None | Some(GroupError::MemberIdRequired));
            if learns_id {
                client.request.member_id.clone_from(&response.member_id);
                client.generation = response.generation;
            }
        }
        self.out.push_str(&shorten(&format!("  {name} <- {}\n", show(&response))));
    }
}

pub(crate) fn protocol(name: &str, metadata: &[u8]) -> JoinProtocol {
    JoinProtocol { name: name.to_owned(), metadata: Bytes::copy_from_slice(metadata) }
}

/// A consumer's subscription to one topic.
pub(crate) fn subscription(topic: &str) -> Vec<u8> {
    let length = u8::try_from(topic.len()).unwrap();
    [&[0, 0, 0, 0, 0, 1, 0, length][..], topic.as_bytes(), &[0xff; 4]].concat()
}

/// A commit from outside any group.
pub(crate) fn commit_request(group_id: &str, topic: &str, offsets: &[(i32, i64)]) -> OffsetCommitRequest {
    let partition = |(partition, offset): &(i32, i64)| OffsetCommitPartition {
        partition: *partition,
        offset: Offset::new(*offset),
        leader_epoch: LeaderEpoch::new(5),
        metadata: None,
    };
    let partitions = offsets.iter().map(partition).collect();
    OffsetCommitRequest {
        group_id: group_id.to_owned(),
        generation: NO_GENERATION,
        topics: vec![OffsetCommitTopic { name: topic.to_owned(), partitions, ..OffsetCommitTopic::default() }],
        group_id_not_found_supported: true,
        ..OffsetCommitRequest::default()
    }
}

pub(crate) fn fetch_topic(name: &str, partitions: &[i32]) -> Vec<OffsetFetchTopic> {
    vec![OffsetFetchTopic { name: name.to_owned(), partitions: partitions.to_vec(), ..OffsetFetchTopic::default() }]
}

fn shorten(text: &str) -> String {
    text.replace("00000000-0000-0000-0000-0000000000", "#").replace("#0", "#")
}

fn show(response: &Response) -> String {
    match response {
        Response::Join(JoinResponse { error: Some(error), member_id, .. }) => format!("join: {error:?} {member_id:?}"),
        Response::Join(join) => {
            let members: Vec<&str> = join.members.iter().map(|member| member.member_id.as_str()).collect();
            let name = join.protocol_name.as_deref().unwrap_or("-");
            let skip = if join.skip_assignment { ", skips assignment" } else { "" };
            let JoinResponse { generation, leader, member_id, .. } = join;
            format!(
                "join: {member_id} in generation {generation} of {name}, leader {leader}{skip}, members {members:?}"
            )
        }
        Response::Sync(SyncResponse { error: Some(error), .. }) => format!("sync: {error:?}"),
        Response::Sync(sync) => format!("sync: {:?}", sync.assignment),
        Response::Heartbeat(heartbeat) => format!("heartbeat: {:?}", heartbeat.error),
        Response::Leave(LeaveResponse { error: Some(error), .. }) => format!("leave: {error:?}"),
        Response::Leave(leave) => {
            let member = |member: &LeaveMemberResponse| match member.error {
                None => "left".to_owned(),
                Some(error) => format!("{error:?}"),
            };
            format!("leave: {}", leave.members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        Response::OffsetCommit(commit) => format!("commit: {}", show_topics(&commit.topics)),
        Response::OffsetFetch(OffsetFetchResponse { error: Some(error), .. }) => format!("fetch: {error:?}"),
        Response::OffsetFetch(fetch) => {
            let mut text = "fetch:".to_owned();
            for topic in &fetch.topics {
                for at in &topic.partitions {
                    write!(text, " {}-{}={}@{}", topic.name, at.partition, at.offset, at.leader_epoch).unwrap();
                    if !at.metadata.is_empty() {
                        write!(text, "{:?}", at.metadata).unwrap();
                    }
                }
            }
            text
        }
        Response::DeleteGroups(delete) => format!("delete groups: {:?}", delete.groups),
        Response::OffsetDelete(OffsetDeleteResponse { error: Some(error), .. }) => format!("delete offsets: {error:?}"),
        Response::OffsetDelete(delete) => format!("delete offsets: {}", show_topics(&delete.topics)),
    }
}

fn show_topics(topics: &[TopicResult]) -> String {
    let mut parts = Vec::new();
    for topic in topics {
        for result in &topic.partitions {
            let outcome = result.error.map_or("ok".to_owned(), |error| format!("{error:?}"));
            parts.push(format!("{}-{} {outcome}", topic.name, result.partition));
        }
    }
    parts.join(", ")
}

fn show_record(record: &CoordinatorRecord) -> String {
    let key = match Key::decode(&record.key).unwrap() {
        Key::OffsetCommit { group_id, topic, partition } => format!("offset of {topic}-{partition} in {group_id}"),
        Key::GroupMetadata { group_id } => format!("group {group_id}"),
        Key::Other(other) => format!("record type {other}"),
    };
    let Some(value) = &record.value else { return format!("{key} is gone") };
    if key.starts_with("offset") {
        let value = OffsetCommitValue::decode(value).unwrap();
        return format!("{key} = {}", value.offset);
    }
    let value = GroupMetadataValue::decode(value).unwrap();
    let members: Vec<_> =
        value.members.iter().map(|member| format!("{}={:?}", member.member_id, member.assignment)).collect();
    let generation = value.generation;
    shorten(&format!("{key} generation {generation} of {:?} {members:?}", value.protocol_name))
}
