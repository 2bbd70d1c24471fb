//! Many members that come, go, pause and die, commits that take their time, and shards that fail: in virtual time, from
//! a seed, with what must always hold checked at every step.
//!
//! Checked: every request is answered exactly once; a generation's protocol is one that all its members offer; an
//! assignment a member is told of stands in the committed log; a fresh shard that replays the log has the same groups
//! and offsets; and once members stop coming and going, the group settles with all of them and stays so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use chronik_coordinator::codec::{GroupMetadataValue, Key};
use chronik_coordinator::message::*;
use chronik_coordinator::{
    AppendToken, Config, CoordinatorRecord, Effect, GroupError, GroupShard, GroupState, Now, ReplyToken,
};
use chronik_model::{Instant, Timestamp, TopicId, Uuid};

use crate::scene::{EPOCH_MS, commit_request, protocol, subscription};

const GROUPS: u64 = 3;
const AGENTS: usize = 24;
const CHURN_MS: u64 = 8 * 60_000;
const SETTLE_MS: u64 = 4 * 60_000;
const QUIET_MS: u64 = 3 * 60_000;

/// SplitMix64.
#[derive(Clone)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The process is not there.
    Gone,
    /// Will join at the next wake.
    Out,
    Joining(ReplyToken),
    /// Has joined and will sync at the next wake.
    Joined,
    Syncing(ReplyToken),
    Running,
}

struct Agent {
    request: JoinRequest,
    phase: Phase,
    generation: i32,
    /// What the leader hands out at its sync.
    to_assign: Vec<SyncAssignment>,
    paused_until: u64,
    /// The only wake that counts.
    wake: u64,
    committed: i64,
}

enum Event {
    Wake(usize, u64),
    Deliver(ReplyToken, Response),
    CommitOldest,
    Loaded,
    Chaos,
    Tick,
}

#[derive(Clone, Copy)]
struct Asked {
    agent: Option<usize>,
}

struct World {
    rng: Rng,
    now_ms: u64,
    shard: GroupShard,
    agents: Vec<Agent>,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    next_tick: u64,
    next_token: u64,
    asked: BTreeMap<ReplyToken, Asked>,
    committed: Vec<CoordinatorRecord>,
    uncommitted: VecDeque<(AppendToken, Vec<CoordinatorRecord>)>,
    held: Vec<(AppendToken, ReplyToken, Response)>,
    loading: bool,
    /// Metadata by protocol name each member id was last seen to offer.
    offers: BTreeMap<String, BTreeSet<String>>,
    churning: bool,
    changes: u64,
    stable_generations: u64,
    crashes: u64,
    transcript: u64,
}

fn config() -> Config {
    Config { initial_rebalance_delay: Duration::from_millis(500), ..Config::default() }
}

fn ids(seed: u64) -> Box<dyn FnMut() -> Uuid + Send> {
    let mut rng = Rng(seed);
    Box::new(move || {
        let bytes = [rng.next().to_be_bytes(), rng.next().to_be_bytes()].concat();
        Uuid::from_random(bytes.try_into().unwrap())
    })
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let agents = (0..AGENTS).map(|number| agent(number, &mut rng)).collect();
        let mut world = Self {
            shard: GroupShard::new(config(), ids(rng.next())),
            rng,
            now_ms: 0,
            agents,
            events: BTreeMap::new(),
            next_event: 0,
            next_tick: 0,
            next_token: 0,
            asked: BTreeMap::new(),
            committed: Vec::new(),
            uncommitted: VecDeque::new(),
            held: Vec::new(),
            loading: true,
            offers: BTreeMap::new(),
            churning: true,
            changes: 0,
            stable_generations: 0,
            crashes: 0,
            transcript: 0,
        };
        world.after(10, Event::Loaded);
        world.after(20, Event::Chaos);
        for agent in 0..AGENTS {
            let delay = world.rng.below(20_000);
            world.wake(agent, delay);
        }
        world
    }

    fn now(&self) -> Now {
        Now {
            monotonic: Instant::since_origin(Duration::from_millis(self.now_ms)),
            wall: Timestamp::from_millis(EPOCH_MS + i64::try_from(self.now_ms).unwrap()),
        }
    }

    fn after(&mut self, delay_ms: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((self.now_ms + delay_ms, self.next_event), event);
    }

    fn wake(&mut self, agent: usize, delay_ms: u64) {
        self.agents[agent].wake += 1;
        let wake = self.agents[agent].wake;
        self.after(delay_ms, Event::Wake(agent, wake));
    }

    fn token(&mut self, agent: Option<usize>) -> ReplyToken {
        self.next_token += 1;
        let token = ReplyToken(self.next_token);
        self.asked.insert(token, Asked { agent });
        token
    }

    fn run_until(&mut self, end_ms: u64) {
        while let Some((&(at, number), _)) = self.events.first_key_value() {
            if at > end_ms {
                break;
            }
            let event = self.events.remove(&(at, number)).unwrap();
            self.now_ms = at;
            self.handle(event);
        }
        self.now_ms = end_ms;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Wake(agent, wake) if wake == self.agents[agent].wake => self.act(agent),
            Event::Wake(..) => {}
            Event::Deliver(token, response) => self.deliver(token, response),
            Event::CommitOldest => self.commit_oldest(),
            Event::Loaded => {
                for record in self.committed.clone() {
                    self.shard.replay(&record.key, record.value.as_deref()).unwrap();
                }
                self.loading = false;
                self.with_shard(|shard, now, effects| shard.loaded(now, effects));
            }
            Event::Tick => self.with_shard(|shard, now, effects| shard.tick(now, effects)),
            Event::Chaos if self.churning => {
                self.chaos();
                let delay = 200 + self.rng.below(2_000);
                self.after(delay, Event::Chaos);
            }
            Event::Chaos => {}
        }
    }

    fn with_shard(&mut self, input: impl FnOnce(&mut GroupShard, Now, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        let now = self.now();
        input(&mut self.shard, now, &mut effects);
        for effect in effects {
            self.note(&format!("{} {effect:?}", self.now_ms));
            match effect {
                Effect::Append { token, records } => {
                    assert!(!records.is_empty(), "an append of nothing");
                    self.check_protocols(&records);
                    self.uncommitted.push_back((token, records));
                    let delay = 1 + self.rng.below(200);
                    self.after(delay, Event::CommitOldest);
                }
                Effect::Reply { token, response, after } => match after {
                    Some(append) => {
                        let is_pending = self.uncommitted.iter().any(|(pending, _)| *pending == append);
                        assert!(is_pending, "a reply waits for {append:?}, which is not on its way");
                        self.held.push((append, token, response));
                    }
                    None => self.send(token, response),
                },
                Effect::StateChanged { state, .. } => {
                    self.changes += 1;
                    self.stable_generations += u64::from(state == GroupState::Stable);
                }
            }
        }
        self.shard.check_invariants();
        if let Some(deadline) = self.shard.deadline() {
            let at = u64::try_from(deadline.elapsed().as_millis()).unwrap();
            if at < self.next_tick || self.next_tick <= self.now_ms {
                self.next_tick = at;
                self.after(at.saturating_sub(self.now_ms), Event::Tick);
            }
        }
    }

    fn note(&mut self, line: &str) {
        for byte in line.bytes() {
            self.transcript = (self.transcript ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn send(&mut self, token: ReplyToken, response: Response) {
        assert!(self.asked.contains_key(&token), "{token:?} is answered twice: {response:?}");
        if let Response::Sync(sync) = &response {
            self.check_assignment(sync);
        }
        let asked = self.asked.remove(&token).unwrap();
        let Some(agent) = asked.agent else { return };
        let is_awaited = match self.agents[agent].phase {
            Phase::Joining(awaited) | Phase::Syncing(awaited) => awaited == token,
            _ => matches!(response, Response::Heartbeat(_)),
        };
        if is_awaited {
            self.asked.insert(ReplyToken(token.0 | 1 << 63), asked);
            let delay = 1 + self.rng.below(50);
            self.after(delay, Event::Deliver(token, response));
        }
    }

    fn commit_oldest(&mut self) {
        let Some((append, records)) = self.uncommitted.pop_front() else { return };
        self.committed.extend(records);
        self.shard.append_committed(append);
        let (released, held) = std::mem::take(&mut self.held).into_iter().partition(|(after, _, _)| *after <= append);
        self.held = held;
        for (_, token, response) in released {
            self.send(token, response);
        }
    }

    /// The shard is lost; the log keeps some of what was on its way.
    fn crash(&mut self) {
        self.crashes += 1;
        let now = self.now();
        let mut effects = Vec::new();
        match self.uncommitted.front() {
            Some((append, _)) => {
                self.shard.append_failed(now, *append, GroupError::CoordinatorNotAvailable, &mut effects);
            }
            None => self.shard.unload(now, GroupError::NotCoordinator, &mut effects),
        }
        for effect in effects {
            let Effect::Reply { token, response, after: None } = effect else { panic!("{effect:?} of a dead shard") };
            self.send(token, response);
        }
        for (_, token, response) in std::mem::take(&mut self.held) {
            self.send(token, response.refused(GroupError::NotCoordinator));
        }
        let kept = self.rng.index(self.uncommitted.len() + 1);
        for (_, records) in std::mem::take(&mut self.uncommitted).into_iter().take(kept) {
            self.committed.extend(records);
        }
        self.shard = GroupShard::new(config(), ids(self.rng.next()));
        self.loading = true;
        let delay = 1 + self.rng.below(3_000);
        self.after(delay, Event::Loaded);
    }

    fn chaos(&mut self) {
        let agent = self.rng.index(AGENTS);
        let is_there = self.agents[agent].phase != Phase::Gone;
        match self.rng.below(20) {
            // Another process in place of the one before, which nobody hears of.
            0..=5 if !is_there => self.start(agent),
            0..=2 => self.agents[agent].phase = Phase::Gone,
            3 => self.start(agent),
            4..=5 if is_there => {
                let client = &self.agents[agent].request;
                let member = LeaveMember {
                    member_id: client.member_id.clone(),
                    instance_id: client.instance_id.clone(),
                    reason: None,
                };
                let request = LeaveRequest { group_id: client.group_id.clone(), members: vec![member] };
                self.agents[agent].phase = Phase::Gone;
                let token = self.token(None);
                self.with_shard(|shard, now, effects| shard.leave(now, request, token, effects));
            }
            6..=8 => self.agents[agent].paused_until = self.now_ms + self.rng.below(40_000),
            9..=11 if self.agents[agent].phase == Phase::Running => {
                if self.rng.below(2) == 0 {
                    self.agents[agent].request.protocols = offer(&mut self.rng);
                }
                self.agents[agent].phase = Phase::Out;
                self.wake(agent, 1);
            }
            12 if !self.loading => self.crash(),
            13 => {
                let (group_ids, token) = (vec![self.any_group()], self.token(None));
                self.with_shard(|shard, now, effects| shard.delete_groups(now, group_ids, token, effects));
            }
            14 => {
                let topics = vec![(format!("t{}", self.rng.below(4)), vec![0, 1, 2, 3])];
                let request = OffsetDeleteRequest { group_id: self.any_group(), topics };
                let token = self.token(None);
                self.with_shard(|shard, now, effects| shard.delete_offsets(now, request, token, effects));
            }
            15 => {
                let topics = [(format!("t{}", self.rng.below(4)), TopicId::ZERO)];
                self.with_shard(|shard, now, effects| shard.on_topics_deleted(now, &topics, effects));
            }
            16 => {
                let request = commit_request(&format!("simple-{}", self.rng.below(3)), "t1", &[(0, 5)]);
                let token = self.token(None);
                self.with_shard(|shard, now, effects| shard.commit_offsets(now, request, token, effects));
            }
            17 => {
                let request =
                    OffsetFetchRequest { group_id: self.any_group(), topics: None, ..OffsetFetchRequest::default() };
                let token = self.token(None);
                self.with_shard(|shard, _, effects| shard.fetch_offsets(request, token, effects));
            }
            18 => self.check_replay(),
            _ => {}
        }
    }

    fn any_group(&mut self) -> String {
        match self.rng.below(2) {
            0 => format!("group-{}", self.rng.below(GROUPS)),
            _ => format!("simple-{}", self.rng.below(3)),
        }
    }

    /// Starts the agent's process anew, without the id the one before had.
    fn start(&mut self, agent: usize) {
        self.agents[agent].request.member_id.clear();
        self.agents[agent].phase = Phase::Out;
        self.agents[agent].paused_until = 0;
        let delay = self.rng.below(1_000);
        self.wake(agent, delay);
    }

    fn act(&mut self, number: usize) {
        let agent = &mut self.agents[number];
        if agent.phase != Phase::Gone && agent.paused_until > self.now_ms {
            let delay = agent.paused_until - self.now_ms;
            return self.wake(number, delay);
        }
        match agent.phase {
            Phase::Gone => {}
            // No answer came for longer than a client waits: it asks again.
            Phase::Out | Phase::Joining(_) => {
                let request = agent.request.clone();
                if !request.member_id.is_empty() {
                    let names = request.protocols.iter().map(|offered| offered.name.clone());
                    self.offers.insert(request.member_id.clone(), names.collect());
                }
                let token = self.token(Some(number));
                self.agents[number].phase = Phase::Joining(token);
                self.wake(number, 45_000);
                self.with_shard(|shard, now, effects| shard.join(now, request, token, effects));
            }
            Phase::Joined | Phase::Syncing(_) => {
                let request = SyncRequest {
                    group_id: agent.request.group_id.clone(),
                    generation: agent.generation,
                    member_id: agent.request.member_id.clone(),
                    instance_id: agent.request.instance_id.clone(),
                    protocol_type: Some("consumer".to_owned()),
                    protocol_name: None,
                    assignments: agent.to_assign.clone(),
                };
                let token = self.token(Some(number));
                self.agents[number].phase = Phase::Syncing(token);
                self.wake(number, 45_000);
                self.with_shard(|shard, now, effects| shard.sync(now, request, token, effects));
            }
            Phase::Running => {
                self.wake(number, 3_000);
                let agent = &mut self.agents[number];
                let request = HeartbeatRequest {
                    group_id: agent.request.group_id.clone(),
                    generation: agent.generation,
                    member_id: agent.request.member_id.clone(),
                    instance_id: agent.request.instance_id.clone(),
                };
                agent.committed += 1;
                let topic = format!("t{}", agent.committed % 4);
                let commit = OffsetCommitRequest {
                    generation: agent.generation,
                    member_id: agent.request.member_id.clone(),
                    instance_id: agent.request.instance_id.clone(),
                    ..commit_request(&agent.request.group_id, &topic, &[(0, agent.committed)])
                };
                let (beat, committed) = (self.token(Some(number)), self.token(None));
                self.with_shard(|shard, now, effects| {
                    shard.heartbeat(now, &request, beat, effects);
                    shard.commit_offsets(now, commit, committed, effects);
                });
            }
        }
    }

    fn deliver(&mut self, token: ReplyToken, response: Response) {
        let asked = self.asked.remove(&ReplyToken(token.0 | 1 << 63)).unwrap();
        let number = asked.agent.unwrap();
        let phase = self.agents[number].phase;
        let error = match (response, phase) {
            (Response::Join(join), Phase::Joining(awaited)) if awaited == token => match join.error {
                None => return self.joined(number, join),
                Some(GroupError::MemberIdRequired) => {
                    self.agents[number].request.member_id = join.member_id;
                    GroupError::RebalanceInProgress
                }
                Some(error) => error,
            },
            (Response::Sync(sync), Phase::Syncing(awaited)) if awaited == token => match sync.error {
                None => {
                    self.agents[number].phase = Phase::Running;
                    let delay = self.rng.below(3_000);
                    return self.wake(number, delay);
                }
                Some(error) => error,
            },
            (Response::Heartbeat(heartbeat), Phase::Running) => match heartbeat.error {
                None => return,
                Some(error) if error.retryable() => return,
                Some(error) => error,
            },
            _ => return,
        };
        match error {
            GroupError::UnknownMemberId | GroupError::IllegalGeneration => {
                self.agents[number].request.member_id.clear();
                self.agents[number].phase = Phase::Out;
            }
            GroupError::FencedInstanceId => self.agents[number].phase = Phase::Gone,
            GroupError::RebalanceInProgress => self.agents[number].phase = Phase::Out,
            error => {
                assert!(error.retryable(), "{error:?} is no answer to what members do");
                // A sync that went to a coordinator which is gone starts over.
                self.agents[number].phase = Phase::Out;
            }
        }
        let delay = 1 + self.rng.below(500);
        self.wake(number, delay);
    }

    fn joined(&mut self, number: usize, join: JoinResponse) {
        let agent = &mut self.agents[number];
        let chosen = join.protocol_name.as_deref().unwrap();
        let is_offered = agent.request.protocols.iter().any(|offered| offered.name == chosen);
        assert!(is_offered, "{} joined under {chosen}, which it does not offer", join.member_id);
        let names = agent.request.protocols.iter().map(|offered| offered.name.clone()).collect();
        self.offers.insert(join.member_id.clone(), names);
        agent.request.member_id.clone_from(&join.member_id);
        agent.generation = join.generation;
        agent.phase = Phase::Joined;
        agent.to_assign.clear();
        if join.leader == join.member_id && !join.skip_assignment {
            assert!(join.members.iter().any(|member| member.member_id == join.member_id), "a leader without itself");
            let nonce = self.rng.next();
            for (share, member) in join.members.iter().enumerate() {
                let assignment = Bytes::from(format!("{} {nonce} {share}", join.generation));
                agent.to_assign.push(SyncAssignment { member_id: member.member_id.clone(), assignment });
            }
        } else if !join.skip_assignment {
            assert!(join.members.is_empty(), "a follower is told of the others");
        }
        let delay = 1 + self.rng.below(2_000);
        self.wake(number, delay);
    }

    /// What a member is told stands in the committed log, under the generation it was assigned in.
    fn check_assignment(&self, sync: &SyncResponse) {
        if sync.error.is_some() || sync.assignment.is_empty() {
            return;
        }
        let generation: i32 =
            std::str::from_utf8(&sync.assignment).unwrap().split(' ').next().unwrap().parse().unwrap();
        let stands = self.committed.iter().rev().filter_map(as_group).any(|group| {
            group.generation == generation && group.members.iter().any(|member| member.assignment == sync.assignment)
        });
        assert!(stands, "assignment {:?} was told but is not in the log", sync.assignment);
    }

    /// The protocol of a generation is offered by all its members, and no two have the same share.
    fn check_protocols(&self, records: &[CoordinatorRecord]) {
        for group in records.iter().filter_map(as_group) {
            let mut shares = BTreeSet::new();
            for member in &group.members {
                let chosen = group.protocol_name.as_ref().unwrap();
                if let Some(offered) = self.offers.get(&member.member_id) {
                    assert!(offered.contains(chosen), "{} does not offer {chosen}", member.member_id);
                }
                assert!(!member.subscription.is_empty(), "{} has no metadata for {chosen}", member.member_id);
                let is_first = member.assignment.is_empty() || shares.insert(member.assignment.clone());
                assert!(is_first, "{:?} is assigned twice", member.assignment);
            }
        }
    }

    /// A fresh shard that replays what this one has appended is the same.
    fn check_replay(&self) {
        if self.loading {
            return;
        }
        let mut other = GroupShard::new(config(), ids(0));
        for record in self.committed.iter().chain(self.uncommitted.iter().flat_map(|(_, records)| records)) {
            other.replay(&record.key, record.value.as_deref()).unwrap();
        }
        other.loaded(self.now(), &mut Vec::new());
        other.check_invariants();
        let listed = |shard: &GroupShard| {
            let groups = shard.list::<&str>(&[], &[]).unwrap();
            groups.into_iter().map(|group| group.group_id).collect::<Vec<_>>()
        };
        assert_eq!(listed(&self.shard), listed(&other), "the log has other groups");
        for group_id in listed(&other) {
            let describe = |shard: &GroupShard| shard.describe(&[&group_id]).unwrap();
            let fetch = |shard: &GroupShard| {
                let mut effects = Vec::new();
                let request = OffsetFetchRequest { group_id: group_id.clone(), ..OffsetFetchRequest::default() };
                shard.fetch_offsets(request, ReplyToken(0), &mut effects);
                let Some(Effect::Reply { response, .. }) = effects.pop() else { panic!("a fetch without answer") };
                response
            };
            assert_eq!(fetch(&self.shard), fetch(&other), "the log has other offsets of {group_id}");
            let described = describe(&self.shard);
            if matches!(described[0].state, GroupState::Stable | GroupState::Empty) {
                assert_eq!(described, describe(&other), "the log has another {group_id}");
            }
        }
    }

    /// Everybody who is there is a member of its stable group, and nobody else is.
    fn check_settled(&self) {
        for group in 0..GROUPS {
            let group_id = format!("group-{group}");
            let there = self.agents.iter().filter(|agent| agent.request.group_id == group_id);
            let there: BTreeSet<_> = there
                .filter(|agent| agent.phase != Phase::Gone)
                .map(|agent| {
                    assert_eq!(agent.phase, Phase::Running, "{} does not get in", agent.request.client_id);
                    agent.request.member_id.clone()
                })
                .collect();
            let described = self.shard.describe(&[&group_id]).unwrap().remove(0);
            let members: BTreeSet<_> = described.members.into_iter().map(|member| member.member_id).collect();
            assert_eq!(members, there, "{group_id} has other members");
            if !there.is_empty() {
                assert_eq!(described.state, GroupState::Stable, "{group_id}");
            }
        }
    }
}

fn as_group(record: &CoordinatorRecord) -> Option<GroupMetadataValue> {
    match Key::decode(&record.key).unwrap() {
        Key::GroupMetadata { .. } => Some(GroupMetadataValue::decode(record.value.as_ref()?).unwrap()),
        _ => None,
    }
}

fn offer(rng: &mut Rng) -> Vec<JoinProtocol> {
    let metadata = [&subscription(&format!("t{}", rng.below(4)))[..], &rng.next().to_be_bytes()].concat();
    // A restarted coordinator knows of each member only the protocol in use, so all members must offer the same ones for
    // any of them to get in at any time. What only one of them offers is never chosen.
    let mut names = vec!["range".to_owned(), "sticky".to_owned(), format!("own-{}", rng.next())];
    if rng.below(2) == 0 {
        names.swap(0, 1);
    }
    names.into_iter().map(|name| protocol(&name, &metadata)).collect()
}

fn agent(number: usize, rng: &mut Rng) -> Agent {
    let request = JoinRequest {
        group_id: format!("group-{}", rng.below(GROUPS)),
        client_id: format!("client-{number}"),
        client_host: "/10.0.0.1".to_owned(),
        instance_id: (rng.below(3) == 0).then(|| format!("instance-{number}")),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Some(Duration::from_millis(5_000 + rng.below(25_000))),
        protocol_type: "consumer".to_owned(),
        protocols: offer(rng),
        member_id_required: rng.below(4) != 0,
        skip_assignment_supported: rng.below(2) == 0,
        ..JoinRequest::default()
    };
    Agent {
        request,
        phase: Phase::Out,
        generation: NO_GENERATION,
        to_assign: Vec::new(),
        paused_until: 0,
        wake: 0,
        committed: 0,
    }
}

/// Says which seed failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation failed with seed {}", self.0);
        }
    }
}

fn run(seed: u64) -> World {
    let seed = Seed(seed);
    let mut world = World::new(seed.0);
    world.run_until(CHURN_MS);
    world.churning = false;
    world.run_until(CHURN_MS + SETTLE_MS);
    world.check_settled();
    world.check_replay();
    let changes = world.changes;
    world.run_until(CHURN_MS + SETTLE_MS + QUIET_MS);
    assert_eq!(world.changes, changes, "groups go on rebalancing though nobody comes or goes");
    world.check_settled();
    world.check_replay();
    let in_flight = world.asked.keys().filter(|token| token.0 >> 63 == 0).count();
    let on_its_way: BTreeSet<_> = world.held.iter().map(|(_, token, _)| *token).collect();
    assert_eq!(in_flight, on_its_way.len(), "requests were never answered");
    world
}

#[test]
fn groups_survive_members_that_come_and_go_and_settle_when_they_stop() {
    let (mut crashes, mut stable) = (0, 0);
    for seed in 0..10 {
        let world = run(seed);
        crashes += world.crashes;
        stable += world.stable_generations;
    }
    assert!(
        crashes > 100 && stable > 500,
        "the simulation has become too quiet: {crashes} crashes, {stable} generations"
    );
}

#[test]
fn a_seed_always_gives_the_same_run() {
    assert_eq!(run(7).transcript, run(7).transcript);
    assert_ne!(run(7).transcript, run(8).transcript);
}
