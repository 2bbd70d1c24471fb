//! Consumer groups: members share partitions, take over, come back, and continue where they committed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chronik_e2e::broker::{Broker, steady_port};
use chronik_e2e::{clients, wait};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

const BOUND: Duration = Duration::from_secs(60);

pub(crate) type Seen = Arc<Mutex<BTreeMap<(i32, i64), u32>>>;

/// A member that polls in a thread of its own, notes what it got and commits it.
pub(crate) struct Member {
    consumer: Arc<BaseConsumer>,
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Member {
    pub(crate) fn join(bootstrap: &str, group: &str, topic: &str, settings: &[(&str, &str)], seen: &Seen) -> Self {
        let mut config = clients::group_member(bootstrap, group);
        config.set("enable.auto.commit", "false").set("heartbeat.interval.ms", "300").set("fetch.wait.max.ms", "100");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        let consumer: Arc<BaseConsumer> = Arc::new(config.create().unwrap());
        consumer.subscribe(&[topic]).unwrap();
        let end = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (consumer, end, seen) = (consumer.clone(), end.clone(), seen.clone());
            move || {
                while !end.load(Ordering::Relaxed) {
                    let Some(polled) = consumer.poll(Duration::from_millis(50)) else { continue };
                    // The broker may be away for a moment; what counts is what was seen in the end.
                    let Ok(message) = polled else { continue };
                    *seen.lock().unwrap().entry((message.partition(), message.offset())).or_default() += 1;
                    consumer.commit_message(&message, CommitMode::Sync).ok();
                }
            }
        });
        Self { consumer, end, thread: Some(thread) }
    }

    fn partitions(&self) -> BTreeSet<i32> {
        let assignment = self.consumer.assignment().unwrap();
        assignment.elements().iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition).collect()
    }

    pub(crate) fn leave(mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.consumer.unsubscribe();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn produce(bootstrap: &str, topic: &str, partitions: i32, each: i64) {
    let producer: BaseProducer = clients::config(bootstrap).create().unwrap();
    for number in 0..each {
        for partition in 0..partitions {
            let value = format!("{partition}/{number}");
            let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(&value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(BOUND).unwrap();
}

pub(crate) fn all_of(partitions: i32, from: i64, to: i64) -> BTreeSet<(i32, i64)> {
    (0..partitions).flat_map(|partition| (from..to).map(move |offset| (partition, offset))).collect()
}

pub(crate) fn wait_for_all(seen: &Seen, wanted: &BTreeSet<(i32, i64)>) {
    wait::until_true("every record seen by the group", BOUND, || {
        let seen = seen.lock().unwrap();
        wanted.iter().all(|at| seen.contains_key(at))
    });
}

pub(crate) fn shared(members: &[&Member], partitions: i32) {
    wait::until_true("partitions shared out", BOUND, || {
        let owned: Vec<BTreeSet<i32>> = members.iter().map(|member| member.partitions()).collect();
        let total: usize = owned.iter().map(BTreeSet::len).sum();
        let union: BTreeSet<i32> = owned.iter().flatten().copied().collect();
        owned.iter().all(|one| !one.is_empty()) && total == union.len() && union == (0..partitions).collect()
    });
}

fn members_share_and_take_over(assignor: &str) {
    let broker = Broker::fresh();
    let topic = format!("shared-{assignor}");
    clients::create_topic(broker.bootstrap(), &topic, 6, &[]);
    produce(broker.bootstrap(), &topic, 6, 50);
    let seen = Seen::default();
    let settings = [("partition.assignment.strategy", assignor)];
    let join = || Member::join(broker.bootstrap(), &format!("group-{assignor}"), &topic, &settings, &seen);
    let first = join();
    shared(&[&first], 6);
    let second = join();
    shared(&[&first, &second], 6);
    let third = join();
    shared(&[&first, &second, &third], 6);
    produce(broker.bootstrap(), &topic, 6, 50);
    wait_for_all(&seen, &all_of(6, 0, 100));
    second.leave();
    shared(&[&first, &third], 6);
    produce(broker.bootstrap(), &topic, 6, 50);
    wait_for_all(&seen, &all_of(6, 0, 150));
    first.leave();
    third.leave();
    // Nothing is left for a member that comes later.
    let late = Seen::default();
    let fourth = Member::join(broker.bootstrap(), &format!("group-{assignor}"), &topic, &settings, &late);
    shared(&[&fourth], 6);
    produce(broker.bootstrap(), &topic, 6, 1);
    wait_for_all(&late, &all_of(6, 150, 151));
    let again: Vec<_> = late.lock().unwrap().keys().filter(|(_, offset)| *offset < 150).copied().collect();
    assert_eq!(again, [], "committed records came again");
    fourth.leave();
}

#[test]
fn members_share_partitions_and_take_over_with_range() {
    members_share_and_take_over("range");
}

#[test]
fn members_share_partitions_and_take_over_with_cooperative_sticky() {
    members_share_and_take_over("cooperative-sticky");
}

#[test]
fn static_member_that_returns_in_time_keeps_its_partitions_and_moves_nobody() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "static", 4, &[]);
    let seen = Seen::default();
    let join = |instance: &str| {
        let settings = [
            ("group.instance.id", instance),
            ("session.timeout.ms", "30000"),
            ("partition.assignment.strategy", "range"),
        ];
        Member::join(broker.bootstrap(), "static-group", "static", &settings, &seen)
    };
    let (first, second) = (join("one"), join("two"));
    shared(&[&first, &second], 4);
    let (of_first, of_second) = (first.partitions(), second.partitions());
    // A static member's client does not leave the group when it closes.
    second.end.store(true, Ordering::Relaxed);
    drop(second);
    let second = join("two");
    wait::until_true("the old assignment", BOUND, || second.partitions() == of_second);
    assert_eq!(first.partitions(), of_first);
    produce(broker.bootstrap(), "static", 4, 20);
    wait_for_all(&seen, &all_of(4, 0, 20));
}

#[test]
fn group_continues_where_it_committed_after_kill_and_restart() {
    let port = steady_port();
    let mut broker = Broker::fresh_with(|setup| setup.listen(&format!("127.0.0.1:{port}")));
    for words in ["torn", "truncat", "recover", "unclean"] {
        broker.expect_log(words);
    }
    clients::create_topic(broker.bootstrap(), "kept", 4, &[]);
    let seen = Seen::default();
    let first = Member::join(broker.bootstrap(), "kept-group", "kept", &[], &seen);
    let second = Member::join(broker.bootstrap(), "kept-group", "kept", &[], &seen);
    shared(&[&first, &second], 4);
    let mut end = 0;
    for round in 0..5 {
        produce(broker.bootstrap(), "kept", 4, 25);
        end += 25;
        wait_for_all(&seen, &all_of(4, 0, end));
        if round % 2 == 0 {
            broker.kill();
        } else {
            assert!(broker.stop().success());
        }
        broker.start();
    }
    produce(broker.bootstrap(), "kept", 4, 25);
    wait_for_all(&seen, &all_of(4, 0, end + 25));
    // Commits are synchronous, one a record: at most the record in hand at a kill comes again, for each member.
    let again: u32 = seen.lock().unwrap().values().map(|times| times - 1).sum();
    assert!(again <= 2 * 5, "{again} records came again");
    first.leave();
    second.leave();
    let late = Seen::default();
    let third = Member::join(broker.bootstrap(), "kept-group", "kept", &[], &late);
    shared(&[&third], 4);
    produce(broker.bootstrap(), "kept", 4, 1);
    wait_for_all(&late, &all_of(4, end + 25, end + 26));
    third.leave();
}

#[test]
fn member_whose_process_dies_is_replaced_after_its_session() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "dying", 2, &[]);
    // The session of a raw member that never sends a heartbeat.
    let dead = crate::walk::join_group(broker.bootstrap(), "dying-group", "dying", 6_000);
    assert!(dead.generation_id > 0);
    let seen = Seen::default();
    let living = Member::join(broker.bootstrap(), "dying-group", "dying", &[], &seen);
    shared(&[&living], 2);
    living.leave();
}

/// Commits offset 1 of partition 0 for each group; those that could be committed.
fn commit_each(bootstrap: &str, topic: &str, groups: &[String]) -> BTreeSet<String> {
    let commit = |group: &&String| {
        let consumer: BaseConsumer = clients::group_member(bootstrap, group).create().unwrap();
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, 0, Offset::Offset(1)).unwrap();
        consumer.commit(&offsets, CommitMode::Sync).is_ok()
    };
    groups.iter().filter(commit).cloned().collect()
}

/// The groups that have committed offset 1, and those that are told so or that there is none, rather than an error.
fn committed_and_answered(bootstrap: &str, topic: &str, groups: &[String]) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut committed, mut answered) = (BTreeSet::new(), BTreeSet::new());
    for group in groups {
        let mut config = clients::group_member(bootstrap, group);
        config.set("socket.timeout.ms", "3000");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, 0);
        let Ok(found) = consumer.committed_offsets(asked, Duration::from_secs(3)) else { continue };
        answered.insert(group.clone());
        if found.elements()[0].offset() == Offset::Offset(1) {
            committed.insert(group.clone());
        }
    }
    (committed, answered)
}

#[test]
fn offsets_of_a_topic_made_again_are_not_those_of_the_old_one() {
    let mut broker = Broker::fresh();
    for words in ["torn", "recover", "unclean"] {
        broker.expect_log(words);
    }
    let groups = vec!["reader".to_owned()];
    for round in 0..2 {
        clients::create_topic(broker.bootstrap(), "again", 1, &[]);
        produce(broker.bootstrap(), "again", 1, 3);
        assert_eq!(committed_and_answered(broker.bootstrap(), "again", &groups).0.len(), 0, "round {round}");
        assert_eq!(commit_each(broker.bootstrap(), "again", &groups).len(), 1);
        clients::delete_topic(broker.bootstrap(), "again");
        broker.kill();
        broker.start();
    }
}

#[test]
fn groups_go_on_after_their_topic_was_deleted() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "read", 1, &[]);
    produce(broker.bootstrap(), "read", 1, 3);
    let groups = vec!["one".to_owned(), "two".to_owned()];
    assert_eq!(commit_each(broker.bootstrap(), "read", &groups).len(), 2);
    clients::delete_topic(broker.bootstrap(), "__consumer_offsets");
    let (committed, answered) = committed_and_answered(broker.bootstrap(), "read", &groups);
    assert_eq!((committed.len(), answered.len()), (0, 2));
    assert_eq!(commit_each(broker.bootstrap(), "read", &groups).len(), 2);
    assert_eq!(committed_and_answered(broker.bootstrap(), "read", &groups).0.len(), 2);
}

/// A broker that was stopped after each of some groups had committed.
fn stopped_with_groups() -> (Broker, Vec<String>) {
    let mut broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "read", 1, &[]);
    produce(broker.bootstrap(), "read", 1, 3);
    let groups: Vec<String> = (0..12).map(|number| format!("group-{number}")).collect();
    assert_eq!(commit_each(broker.bootstrap(), "read", &groups).len(), groups.len());
    assert!(broker.stop().success());
    (broker, groups)
}

/// A partition of the offsets topic that holds a group, and its segment.
fn partition_with_groups(broker: &Broker) -> (i32, PathBuf) {
    let segment = |partition: i32| {
        broker.partition_folder("__consumer_offsets", partition).join(format!("wal_{partition}_0.log"))
    };
    let holds = |partition: &i32| std::fs::metadata(segment(*partition)).is_ok_and(|file| file.len() > 0);
    let partition = (0..50).find(holds).expect("a partition that holds a group");
    (partition, segment(partition))
}

#[test]
fn a_partition_of_the_offsets_topic_that_is_missing_leaves_the_groups_of_the_others_where_they_were() {
    let (mut broker, groups) = stopped_with_groups();
    let (partition, _) = partition_with_groups(&broker);
    let folder = broker.partition_folder("__consumer_offsets", partition);
    let away = folder.with_extension("away");
    std::fs::rename(&folder, &away).unwrap();
    broker.start();
    broker.expect_log("files are missing");
    let (committed, answered) = committed_and_answered(broker.bootstrap(), "read", &groups);
    assert_eq!(committed, answered, "no group is told another offset than the one it committed");
    assert!(committed.len() < groups.len(), "the missing partition's groups are refused");
    assert!(!committed.is_empty(), "the other partitions' groups go on");
    assert!(broker.stop().success());
    std::fs::rename(&away, &folder).unwrap();
    broker.start();
    assert_eq!(committed_and_answered(broker.bootstrap(), "read", &groups).0.len(), groups.len());
}

#[test]
fn damage_in_one_partition_of_the_offsets_topic_leaves_the_groups_of_the_others_where_they_were() {
    let (mut broker, groups) = stopped_with_groups();
    let (_, segment) = partition_with_groups(&broker);
    let sound = std::fs::read(&segment).unwrap();
    let mut flipped = sound.clone();
    let last = flipped.len() - 3;
    flipped[last] ^= 0x10;
    std::fs::write(&segment, flipped).unwrap();
    broker.start();
    for words in ["groups cannot be loaded", "checksum mismatch"] {
        broker.expect_log(words);
    }
    let (committed, answered) = committed_and_answered(broker.bootstrap(), "read", &groups);
    assert_eq!(committed, answered, "no group is told another offset than the one it committed");
    assert!(committed.len() < groups.len(), "the damaged partition's groups are refused");
    assert!(!committed.is_empty(), "the other partitions' groups go on");
    assert!(broker.stop().success());
    std::fs::write(&segment, sound).unwrap();
    broker.start();
    assert_eq!(committed_and_answered(broker.bootstrap(), "read", &groups).0.len(), groups.len());
}
