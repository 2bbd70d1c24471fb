//! Requests in any order from clients that keep no rules: whatever they say, each is answered once, what must hold
//! between inputs holds, and the log says what the shard says.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use chronik_coordinator::message::*;
use chronik_coordinator::{
    AppendToken, Config, CoordinatorRecord, Effect, GroupError, GroupShard, GroupState, Now, ReplyToken,
};
use chronik_model::{Instant, Timestamp, TopicId};
use proptest::prelude::*;

use crate::scene::{EPOCH_MS, commit_request, ids, subscription};

#[derive(Clone, Debug)]
enum Step {
    Join { who: Who, protocols: Vec<u8>, protocol_type: u8, known_id: bool, skip: bool, timeouts: (u8, u8) },
    Sync { who: Who, generation: i32, protocol_type: u8, assigns: bool },
    Heartbeat { who: Who, generation: i32 },
    Leave { whos: Vec<Who> },
    Commit { who: Who, generation: i32, topic: u8, metadata: usize, retention: bool },
    Fetch { group: u8, all: bool },
    DeleteGroups { groups: Vec<u8> },
    DeleteOffsets { group: u8, topic: u8 },
    TopicDeleted { topic: u8 },
    Wait { ms: u64 },
    Commits,
    Restart { fails: bool },
}

/// A client as it presents itself: `member` picks from the ids seen so far, or none, or one that was never given out.
#[derive(Clone, Copy, Debug)]
struct Who {
    group: u8,
    member: u8,
    instance: u8,
}

fn who() -> impl Strategy<Value = Who> {
    (0u8..2, 0u8..12, 0u8..6).prop_map(|(group, member, instance)| Who { group, member, instance })
}

fn step() -> impl Strategy<Value = Step> {
    let timeouts = (0u8..4, 0u8..4);
    let protocols = proptest::collection::vec(0u8..4, 0..4);
    prop_oneof![
        8 => (who(), protocols, 0u8..8, any::<bool>(), any::<bool>(), timeouts).prop_map(
            |(who, protocols, protocol_type, known_id, skip, timeouts)| Step::Join {
                who, protocols, protocol_type, known_id, skip, timeouts
            }
        ),
        6 => (who(), -1i32..4, 0u8..8, any::<bool>())
            .prop_map(|(who, generation, protocol_type, assigns)| Step::Sync { who, generation, protocol_type, assigns }),
        2 => (who(), -1i32..4).prop_map(|(who, generation)| Step::Heartbeat { who, generation }),
        2 => proptest::collection::vec(who(), 0..3).prop_map(|whos| Step::Leave { whos }),
        2 => (who(), -1i32..4, 0u8..3, 0usize..40, any::<bool>()).prop_map(
            |(who, generation, topic, metadata, retention)| Step::Commit { who, generation, topic, metadata, retention }
        ),
        1 => (0u8..3, any::<bool>()).prop_map(|(group, all)| Step::Fetch { group, all }),
        1 => proptest::collection::vec(0u8..3, 0..3).prop_map(|groups| Step::DeleteGroups { groups }),
        1 => (0u8..3, 0u8..3).prop_map(|(group, topic)| Step::DeleteOffsets { group, topic }),
        1 => (0u8..3).prop_map(|topic| Step::TopicDeleted { topic }),
        4 => prop_oneof![0u64..20, 0u64..20_000, 0u64..1_200_000].prop_map(|ms| Step::Wait { ms }),
        3 => Just(Step::Commits),
        1 => any::<bool>().prop_map(|fails| Step::Restart { fails }),
    ]
}

fn config() -> Config {
    Config {
        group_size_max: 4,
        pending_members_max: 2,
        offset_metadata_max: 30,
        append_bytes_max: 400,
        offsets_retention: Duration::from_secs(3_600),
        ..Config::default()
    }
}

struct World {
    shard: GroupShard,
    now: Duration,
    asked: u64,
    waiting: BTreeSet<ReplyToken>,
    held: Vec<(AppendToken, ReplyToken)>,
    uncommitted: Vec<AppendToken>,
    log: Vec<CoordinatorRecord>,
    member_ids: Vec<String>,
}

impl World {
    fn now(&self) -> Now {
        let wall = Timestamp::from_millis(EPOCH_MS + i64::try_from(self.now.as_millis()).unwrap());
        Now { monotonic: Instant::since_origin(self.now), wall }
    }

    fn ask(&mut self, input: impl FnOnce(&mut GroupShard, Now, ReplyToken, &mut Vec<Effect>)) {
        self.asked += 1;
        let token = ReplyToken(self.asked);
        self.waiting.insert(token);
        self.run(|shard, now, effects| input(shard, now, token, effects));
    }

    fn run(&mut self, input: impl FnOnce(&mut GroupShard, Now, &mut Vec<Effect>)) {
        let (now, mut effects) = (self.now(), Vec::new());
        input(&mut self.shard, now, &mut effects);
        for effect in effects {
            match effect {
                Effect::Append { token, records } => {
                    self.uncommitted.push(token);
                    self.log.extend(records);
                }
                Effect::Reply { token, response, after } => {
                    if let Response::Join(join) = &response
                        && !join.member_id.is_empty()
                        && !self.member_ids.contains(&join.member_id)
                    {
                        self.member_ids.push(join.member_id.clone());
                    }
                    assert!(self.waiting.remove(&token), "{token:?} is answered twice");
                    if let Some(append) = after {
                        assert!(self.uncommitted.contains(&append), "{token:?} waits for {append:?}, which is not due");
                        self.held.push((append, token));
                    }
                }
                Effect::StateChanged { .. } => {}
            }
        }
        self.shard.check_invariants();
    }

    fn member_id(&self, who: Who) -> String {
        let from_the_last = usize::from(who.member);
        match who.member {
            0 => String::new(),
            1 => "never-given-out".to_owned(),
            _ => self.member_ids.iter().rev().nth(from_the_last - 2).cloned().unwrap_or_default(),
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        let mut ticks = 0;
        while let Some(deadline) = self.shard.deadline().filter(|deadline| deadline.elapsed() <= end) {
            self.now = deadline.elapsed().max(self.now);
            self.run(|shard, now, effects| shard.tick(now, effects));
            ticks += 1;
            assert!(ticks < 5_000, "time does not pass");
        }
        self.now = end;
    }

    /// Another shard from the log; where the append fails, the log is cut by nothing, as its fate is not known.
    fn restart(&mut self, fails: bool) {
        match self.uncommitted.first().copied() {
            Some(append) if fails => self.run(|shard, now, effects| {
                shard.append_failed(now, append, GroupError::CoordinatorNotAvailable, effects);
            }),
            _ => self.run(|shard, now, effects| shard.unload(now, GroupError::NotCoordinator, effects)),
        }
        assert!(self.waiting.is_empty(), "a shard went away without answering {:?}", self.waiting);
        self.uncommitted.clear();
        self.held.clear();
        self.shard = self.replayed();
        self.run(GroupShard::loaded);
    }

    fn replayed(&self) -> GroupShard {
        let mut shard = GroupShard::new(config(), ids());
        for record in &self.log {
            shard.replay(&record.key, record.value.as_deref()).unwrap();
        }
        shard
    }

    fn check_log(&self) {
        let mut other = self.replayed();
        other.loaded(self.now(), &mut Vec::new());
        let listed = |shard: &GroupShard| shard.list::<&str>(&[], &[]).unwrap();
        let ids = |shard: &GroupShard| listed(shard).into_iter().map(|group| group.group_id).collect::<Vec<_>>();
        assert_eq!(ids(&self.shard), ids(&other));
        assert_eq!(self.shard.stats().offsets, other.stats().offsets);
        for group in listed(&self.shard) {
            if matches!(group.state, GroupState::Stable | GroupState::Empty) {
                assert_eq!(self.shard.describe(&[&group.group_id]), other.describe(&[&group.group_id]));
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join { who, protocols, protocol_type, known_id, skip, timeouts } => {
                let offered = |number: &u8| JoinProtocol {
                    name: format!("p{number}"),
                    metadata: if *number == 3 { Bytes::from_static(b"?") } else { subscription("t1").into() },
                };
                let seconds = [1, 6, 10, 1_800];
                let request = JoinRequest {
                    group_id: group(who.group),
                    member_id: self.member_id(who),
                    instance_id: instance(who),
                    client_id: "c".to_owned(),
                    client_host: "/h".to_owned(),
                    session_timeout: Duration::from_secs(seconds[usize::from(timeouts.0)]),
                    rebalance_timeout: (timeouts.1 > 0).then(|| Duration::from_secs(u64::from(timeouts.1 - 1) * 30)),
                    protocol_type: type_name(protocol_type),
                    protocols: protocols.iter().map(offered).collect(),
                    reason: None,
                    member_id_required: known_id,
                    skip_assignment_supported: skip,
                };
                self.ask(|shard, now, token, effects| shard.join(now, request, token, effects));
            }
            Step::Sync { who, generation, protocol_type, assigns } => {
                let assign = |member_id: &String| SyncAssignment {
                    member_id: member_id.clone(),
                    assignment: Bytes::from(vec![7; member_id.len() * 2]),
                };
                let request = SyncRequest {
                    group_id: group(who.group),
                    generation,
                    member_id: self.member_id(who),
                    instance_id: instance(who),
                    protocol_type: Some(type_name(protocol_type)),
                    protocol_name: None,
                    assignments: if assigns { self.member_ids.iter().map(assign).collect() } else { Vec::new() },
                };
                self.ask(|shard, now, token, effects| shard.sync(now, request, token, effects));
            }
            Step::Heartbeat { who, generation } => {
                let (member_id, instance_id) = (self.member_id(who), instance(who));
                let request = HeartbeatRequest { group_id: group(who.group), generation, member_id, instance_id };
                self.ask(|shard, now, token, effects| shard.heartbeat(now, &request, token, effects));
            }
            Step::Leave { whos } => {
                let member = |who: &Who| LeaveMember {
                    member_id: self.member_id(*who),
                    instance_id: instance(*who),
                    reason: None,
                };
                let group_id = group(whos.first().map_or(0, |who| who.group));
                let request = LeaveRequest { group_id, members: whos.iter().map(member).collect() };
                self.ask(|shard, now, token, effects| shard.leave(now, request, token, effects));
            }
            Step::Commit { who, generation, topic, metadata, retention } => {
                let mut request = OffsetCommitRequest {
                    generation,
                    member_id: self.member_id(who),
                    instance_id: instance(who),
                    retention: retention.then_some(Duration::from_secs(60)),
                    ..commit_request(&group(who.group), &format!("t{topic}"), &[(0, 1), (1, 2)])
                };
                request.topics[0].partitions[0].metadata = Some("m".repeat(metadata));
                self.ask(|shard, now, token, effects| shard.commit_offsets(now, request, token, effects));
            }
            Step::Fetch { group: number, all } => {
                let topic = OffsetFetchTopic { name: "t1".to_owned(), partitions: vec![0, 9], ..Default::default() };
                let topics = (!all).then(|| vec![topic]);
                let request = OffsetFetchRequest { group_id: group(number), topics, require_stable: all };
                self.ask(|shard, _, token, effects| shard.fetch_offsets(request, token, effects));
            }
            Step::DeleteGroups { groups } => {
                let groups = groups.into_iter().map(group).collect();
                self.ask(|shard, now, token, effects| shard.delete_groups(now, groups, token, effects));
            }
            Step::DeleteOffsets { group: number, topic } => {
                let topics = vec![(format!("t{topic}"), vec![0, 1, 2])];
                let request = OffsetDeleteRequest { group_id: group(number), topics };
                self.ask(|shard, now, token, effects| shard.delete_offsets(now, request, token, effects));
            }
            Step::TopicDeleted { topic } => {
                self.run(|shard, now, effects| {
                    shard.on_topics_deleted(now, &[(format!("t{topic}"), TopicId::ZERO)], effects)
                });
            }
            Step::Wait { ms } => self.wait(Duration::from_millis(ms)),
            Step::Commits => {
                for append in std::mem::take(&mut self.uncommitted) {
                    self.shard.append_committed(append);
                }
                self.held.clear();
            }
            Step::Restart { fails } => self.restart(fails),
        }
    }
}

fn group(number: u8) -> String {
    ["g", "h", ""][usize::from(number)].to_owned()
}

fn type_name(number: u8) -> String {
    match number {
        0 => String::new(),
        1 => "connect".to_owned(),
        _ => "consumer".to_owned(),
    }
}

fn instance(who: Who) -> Option<String> {
    (who.instance < 2).then(|| format!("i{}", who.instance))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_shard_stands_any_conversation(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World {
            shard: GroupShard::new(config(), ids()),
            now: Duration::ZERO,
            asked: 0,
            waiting: BTreeSet::new(),
            held: Vec::new(),
            uncommitted: Vec::new(),
            log: Vec::new(),
            member_ids: Vec::new(),
        };
        world.run(GroupShard::loaded);
        for step in steps {
            world.step(step);
        }
        world.check_log();
        world.restart(false);
        world.wait(Duration::from_secs(4 * 3_600));
        prop_assert_eq!(world.shard.stats().members, 0, "silent members stay");
        prop_assert_eq!(world.shard.stats().offsets, 0, "offsets nobody needs stay");
        prop_assert!(world.shard.stats().groups.is_empty(), "forgotten groups stay");
    }
}
