//! Rules from the outside: commands on an image, answers as text; and that records build what decisions promised.

use std::collections::BTreeMap;

use chronik_model::{NodeId, TopicId, Uuid};
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::decide;
use crate::command::{
    Command, ConfigAlteration, ConfigOperation, NewPartitions, NewTopic, Operation, Outcome, ReplacedConfigs, TopicRef,
};
use crate::config::{StaticConfig, describe};
use crate::image::{Builder, ConfigResource, Image, ResourceKind};

mod replication;

struct Cluster {
    image: Image,
    fixed: StaticConfig,
    next_id: u8,
}

fn cluster_with(fixed: &[(&str, &str)]) -> Cluster {
    let values: BTreeMap<String, String> =
        fixed.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let fixed = StaticConfig::new(NodeId::new(1), values).unwrap();
    let mut cluster = Cluster { image: Image::default(), fixed, next_id: 0 };
    cluster.run(Command::RegisterBroker { node_id: NodeId::new(1), host: "h".to_owned(), port: 9092, rack: None });
    cluster
}

fn cluster() -> Cluster {
    let mut cluster = cluster_with(&[]);
    cluster.run(create(&[topic("t1", 1, 1)]));
    cluster
}

impl Cluster {
    /// Decides, applies, and checks that the image is what its own records build.
    fn run(&mut self, command: Command) -> Outcome {
        let mut ids = || {
            self.next_id += 1;
            Uuid::from_bytes([self.next_id; 16])
        };
        let decision = decide(&self.image, command, &self.fixed, &mut ids);
        let mut builder = Builder::new(&self.image);
        for record in &decision.records {
            let json = record.to_json().unwrap();
            builder.apply(&crate::Record::from_json(&json).unwrap()).unwrap();
        }
        let end = self.image.offset().checked_add(decision.records.len() as i64).unwrap();
        self.image = builder.finish(end).0;
        self.image.check_invariants();
        let mut again = Builder::new(&Image::default());
        self.image.to_records().iter().for_each(|record| again.apply(record).unwrap());
        assert!(again.finish(end).0 == self.image, "a snapshot builds another image");
        decision.outcome
    }
}

fn topic(name: &str, num_partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic { num_partitions, replication_factor, ..NewTopic::with_defaults(name) }
}

fn create(topics: &[NewTopic]) -> Command {
    Command::CreateTopics { topics: topics.to_vec(), validate_only: false }
}

fn show(outcome: Outcome) -> String {
    let line = |name: String, error: Option<String>| format!("{name}: {}\n", error.unwrap_or_else(|| "ok".to_owned()));
    let text = |result: Result<(), super::RuleError>| result.err().map(|error| error.to_string());
    match outcome {
        Outcome::TopicsCreated(topics) => {
            topics.into_iter().map(|topic| line(topic.name, text(topic.result.map(|_| ())))).collect()
        }
        Outcome::TopicsDeleted(topics) => {
            topics.into_iter().map(|topic| line(format!("{:?} {}", topic.name, topic.id), text(topic.result))).collect()
        }
        Outcome::PartitionsCreated(topics) => {
            topics.into_iter().map(|topic| line(topic.name, text(topic.result))).collect()
        }
        Outcome::ConfigsAltered(resources) => {
            resources.into_iter().map(|altered| line(altered.resource.to_string(), text(altered.result))).collect()
        }
        other => format!("{other:?}\n"),
    }
}

fn check(cluster: &mut Cluster, commands: Vec<Command>, expected: Expect) {
    expected.assert_eq(&commands.into_iter().map(|command| show(cluster.run(command))).collect::<String>());
}

#[test]
fn topics_are_created_under_kafkas_rules() {
    let assigned = |assignments: &[(i32, &[i32])]| NewTopic {
        assignments: assignments
            .iter()
            .map(|(partition, nodes)| (*partition, nodes.iter().copied().map(NodeId::new).collect()))
            .collect(),
        ..NewTopic::with_defaults("t2")
    };
    let configured = |key: &str, value: Option<&str>| NewTopic {
        configs: vec![(key.to_owned(), value.map(str::to_owned))],
        ..NewTopic::with_defaults("t3")
    };
    let commands = [
        topic("", 1, 1),
        topic(".", 1, 1),
        topic("a b", 1, 1),
        topic("a.b", 1, 1),
        topic("a_b", 1, 1),
        topic("t1", 1, 1),
        topic("t2", 0, 1),
        topic("t2", -2, 1),
        topic("t2", 1, 0),
        topic("t2", 1, 2),
        topic("t2", 10_001, 1),
        topic("__cluster_metadata", 1, 1),
        assigned(&[(0, &[1]), (2, &[1])]),
        assigned(&[(0, &[7])]),
        assigned(&[(0, &[])]),
        assigned(&[(0, &[1, 1])]),
        assigned(&[(0, &[1]), (0, &[1])]),
        NewTopic { num_partitions: 1, ..assigned(&[(0, &[1])]) },
        NewTopic { replication_factor: 1, ..assigned(&[(0, &[1])]) },
        configured("nosuch", Some("1")),
        configured("segment.bytes", Some("1")),
        configured("retention.ms", None),
        assigned(&[(1, &[1]), (0, &[1])]),
        configured("retention.ms", Some("5")),
        NewTopic::with_defaults("__consumer_offsets"),
    ];
    let mut commands: Vec<Command> = commands.into_iter().map(|topic| create(&[topic])).collect();
    commands.push(create(&[topic("x", 1, 1), topic("x", 2, 1), topic("y", 1, 1)]));
    commands.push(create(&[topic("p.q", 1, 1), topic("p_q", 1, 1)]));
    check(
        &mut cluster(),
        commands,
        expect![[r#"
        : Topic name is invalid: the empty string is not allowed
        .: Topic name is invalid: '.' is not allowed
        a b: Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'
        a.b: ok
        a_b: Topic 'a_b' collides with existing topic: a.b
        t1: Topic 't1' already exists.
        t2: Number of partitions was set to an invalid non-positive value.
        t2: Number of partitions was set to an invalid non-positive value.
        t2: Replication factor must be larger than 0, or -1 to use the default value.
        t2: Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached because only 1 broker(s) are registered or some brokers have all their log directories cordoned.
        t2: Excessively large number of partitions per request.
        __cluster_metadata: Creation of internal topic __cluster_metadata is prohibited.
        t2: partitions should be a consecutive 0-based integer sequence
        t2: The manual partition assignment includes broker 7, but no such broker is registered.
        t2: The manual partition assignment includes an empty replica list.
        t2: The manual partition assignment includes the broker 1 more than once.
        t2: Found multiple manual partition assignments for partition 0
        t2: A manual partition assignment was specified, but numPartitions was not set to -1.
        t2: A manual partition assignment was specified, but replication factor was not set to -1.
        t3: Unknown topic config name: nosuch
        t3: Invalid value 1 for configuration segment.bytes: Value must be at least 1048576
        t3: Null value not supported for topic configs: retention.ms
        t2: ok
        t3: ok
        __consumer_offsets: ok
        x: Duplicate topic name.
        y: ok
        p.q: ok
        p_q: Topic 'p_q' collides with existing topic: p.q
    "#]],
    );
}

#[test]
fn topics_are_deleted_by_name_or_id() {
    let id = TopicId(Uuid::from_bytes([1; 16]));
    let unknown = TopicId(Uuid::from_bytes([99; 16]));
    let delete = |topics: &[TopicRef]| Command::DeleteTopics { topics: topics.to_vec() };
    let commands = vec![
        delete(&[TopicRef::by_name("none"), TopicRef::by_id(unknown), TopicRef { name: None, id: TopicId::ZERO }]),
        delete(&[TopicRef { name: Some("t1".to_owned()), id }]),
        delete(&[TopicRef::by_name("t1"), TopicRef::by_name("t1")]),
        delete(&[TopicRef::by_name("t1"), TopicRef::by_id(id)]),
        delete(&[TopicRef::by_id(id)]),
        delete(&[TopicRef::by_name("t1")]),
        create(&[topic("t1", 2, 1)]),
        Command::TopicDeleted { id },
        Command::TopicDeleted { id },
    ];
    check(
        &mut cluster(),
        commands,
        expect![[r#"
        Some("none") AAAAAAAAAAAAAAAAAAAAAA: This server does not host this topic-partition.
        None Y2NjY2NjY2NjY2NjY2NjYw: This server does not host this topic ID.
        None AAAAAAAAAAAAAAAAAAAAAA: Neither topic name nor id were specified.
        Some("t1") AQEBAQEBAQEBAQEBAQEBAQ: You may not specify both topic name and topic id.
        Some("t1") AAAAAAAAAAAAAAAAAAAAAA: Duplicate topic name.
        Some("t1") AAAAAAAAAAAAAAAAAAAAAA: The provided topic name maps to an ID that was already supplied.
        None AQEBAQEBAQEBAQEBAQEBAQ: The provided topic name maps to an ID that was already supplied.
        Some("t1") AQEBAQEBAQEBAQEBAQEBAQ: ok
        Some("t1") AAAAAAAAAAAAAAAAAAAAAA: This server does not host this topic-partition.
        t1: ok
        DeletionRecorded
        DeletionRecorded
    "#]],
    );
    let mut disabled = cluster_with(&[("delete.topic.enable", "false")]);
    check(
        &mut disabled,
        vec![delete(&[TopicRef::by_name("t1")])],
        expect![[r#"
        Some("t1") AAAAAAAAAAAAAAAAAAAAAA: Topic deletion is disabled.
    "#]],
    );
}

#[test]
fn partitions_only_grow() {
    let grow = |count: i32, assignments: Option<Vec<Vec<NodeId>>>| Command::CreatePartitions {
        topics: vec![NewPartitions { name: "t1".to_owned(), count, assignments }],
        validate_only: false,
    };
    let one = NodeId::new(1);
    let commands = vec![
        grow(1, None),
        grow(0, None),
        grow(-1, None),
        grow(3, Some(vec![vec![one]])),
        grow(2, Some(vec![vec![NodeId::new(9)]])),
        grow(2, Some(vec![vec![]])),
        grow(10_002, None),
        grow(3, None),
        grow(4, Some(vec![vec![one]])),
        grow(3, None),
    ];
    let mut cluster = cluster();
    check(
        &mut cluster,
        commands,
        expect![[r#"
        t1: Topic already has 1 partition(s).
        t1: The topic t1 currently has 1 partition(s); 0 would not be an increase.
        t1: The topic t1 currently has 1 partition(s); -1 would not be an increase.
        t1: Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.
        t1: The manual partition assignment includes broker 9, but no such broker is registered.
        t1: The manual partition assignment includes an empty replica list.
        t1: Excessively large number of partitions per request.
        t1: ok
        t1: ok
        t1: The topic t1 currently has 4 partition(s); 3 would not be an increase.
    "#]],
    );
    assert_eq!(cluster.image.topic("t1").unwrap().partitions.len(), 4);
}

fn alter(resource: ConfigResource, key: &str, operation: Operation, value: &str) -> Command {
    let operation = ConfigOperation { key: key.to_owned(), operation, value: Some(value.to_owned()) };
    let resources = vec![ConfigAlteration { resource, operations: vec![operation] }];
    Command::AlterConfigs { resources, validate_only: false }
}

#[test]
fn configurations_change_under_kafkas_rules() {
    use Operation::{Append, Delete, Set, Subtract};
    let t1 = || ConfigResource::topic("t1");
    let own = || ConfigResource::broker(NodeId::new(1));
    let all = ConfigResource::default_broker;
    let group = || ConfigResource::group("g");
    let metrics = || ConfigResource::new(ResourceKind::ClientMetrics, "m");
    let commands = vec![
        alter(t1(), "nosuch", Set, "1"),
        alter(t1(), "nosuch", Delete, ""),
        alter(t1(), "retention.ms", Set, "-2"),
        alter(t1(), "retention.ms", Append, "5"),
        alter(t1(), "cleanup.policy", Append, "compact"),
        alter(t1(), "cleanup.policy", Subtract, "delete"),
        alter(t1(), "remote.storage.enable", Set, "true"),
        alter(t1(), "min.compaction.lag.ms", Set, "100"),
        alter(t1(), "max.compaction.lag.ms", Set, "50"),
        alter(ConfigResource::topic("none"), "retention.ms", Set, "5"),
        alter(ConfigResource::topic(""), "retention.ms", Set, "5"),
        alter(own(), "num.partitions", Set, "3"),
        alter(all(), "log.retention.ms", Set, "1000"),
        alter(all(), "log.retention.ms", Set, "abc"),
        alter(own(), "nosuch", Set, "3"),
        alter(ConfigResource::new(ResourceKind::Broker, "2"), "log.retention.ms", Set, "1"),
        alter(ConfigResource::new(ResourceKind::Broker, "x"), "log.retention.ms", Set, "1"),
        alter(group(), "consumer.session.timeout.ms", Set, "1"),
        alter(group(), "consumer.session.timeout.ms", Set, "50000"),
        alter(group(), "nosuch", Set, "1"),
        alter(ConfigResource::group(""), "consumer.session.timeout.ms", Set, "50000"),
        alter(metrics(), "interval.ms", Set, "10"),
        alter(metrics(), "match", Set, "client_id=["),
        alter(metrics(), "match", Set, "client_id=.*"),
        alter(ConfigResource::new(ResourceKind::BrokerLogger, "1"), "root", Set, "DEBUG"),
        Command::ReplaceConfigs {
            resources: vec![ReplacedConfigs {
                resource: t1(),
                configs: vec![("retention.ms".to_owned(), Some("7".to_owned()))],
            }],
            validate_only: false,
        },
    ];
    let mut cluster = cluster();
    check(
        &mut cluster,
        commands,
        expect![[r#"
        topic 't1': Unknown topic config name: nosuch
        topic 't1': ok
        topic 't1': Invalid value -2 for configuration retention.ms: Value must be at least -1
        topic 't1': Can't APPEND to key retention.ms because its type is not LIST.
        topic 't1': ok
        topic 't1': ok
        topic 't1': Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.
        topic 't1': ok
        topic 't1': conflict topic config setting min.compaction.lag.ms (100) > max.compaction.lag.ms (50)
        topic 'none': The topic 'none' does not exist.
        topic '': Default topic resources are not allowed.
        broker '1': Cannot update these configs dynamically: [num.partitions]
        broker '': ok
        broker '': Invalid value abc for configuration log.retention.ms: Not a number of type LONG
        broker '1': Unknown broker config name: nosuch
        broker '2': Unexpected broker id, expected 1, but received 2
        broker 'x': Broker id must be an integer, but it is: x
        group 'g': consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms
        group 'g': ok
        group 'g': Unknown group config name: nosuch
        group '': Default group resources are not allowed.
        client metrics 'm': Invalid value 10 for interval.ms, interval must be between 100 and 3600000 (1 hour)
        client metrics 'm': Illegal client matching pattern: client_id=[
        client metrics 'm': ok
        broker logger '1': Log levels are set when the broker is started and cannot be changed.
        topic 't1': ok
    "#]],
    );
    assert_eq!(*cluster.image.configs(&t1()), BTreeMap::from([("retention.ms".to_owned(), "7".to_owned())]));
}

#[test]
fn a_value_is_told_with_everything_that_was_given_for_it() {
    let mut cluster = cluster_with(&[("log.retention.minutes", "5"), ("message.max.bytes", "2000")]);
    cluster.run(create(&[topic("t1", 1, 1)]));
    let t1 = ConfigResource::topic("t1");
    let tell = |cluster: &Cluster| {
        let mut out = String::new();
        for config in describe(&t1, &cluster.image, &cluster.fixed).unwrap() {
            if ["retention.ms", "max.message.bytes", "preallocate", "remote.storage.enable"].contains(&config.name) {
                out += &format!("{}={:?} {:?}", config.name, config.value.unwrap_or_default(), config.source);
                for synonym in config.synonyms {
                    out += &format!(" {:?}:{}={}", synonym.source, synonym.name, synonym.value.unwrap_or_default());
                }
                out.push('\n');
            }
        }
        out
    };
    expect![[r#"
        max.message.bytes="2000" StaticBroker StaticBroker:message.max.bytes=2000 Default:message.max.bytes=1048588
        preallocate="false" Default Default:log.preallocate=false
        remote.storage.enable="false" Default
        retention.ms="300000" Default
    "#]]
    .assert_eq(&tell(&cluster));
    cluster.run(alter(ConfigResource::topic("t1"), "retention.ms", Operation::Set, " 9 "));
    cluster.run(alter(ConfigResource::default_broker(), "log.retention.ms", Operation::Set, "1000"));
    cluster.run(alter(ConfigResource::broker(NodeId::new(1)), "message.max.bytes", Operation::Set, "3000"));
    expect![[r#"
        max.message.bytes="3000" DynamicBroker DynamicBroker:message.max.bytes=3000 StaticBroker:message.max.bytes=2000 Default:message.max.bytes=1048588
        preallocate="false" Default Default:log.preallocate=false
        remote.storage.enable="false" Default
        retention.ms="9" Topic Topic:retention.ms=9 DynamicDefaultBroker:log.retention.ms=1000 StaticBroker:log.retention.minutes=5 Default:log.retention.hours=168
    "#]].assert_eq(&tell(&cluster));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_commands_leave_an_image_that_its_records_build(steps in prop::collection::vec((0_u8..6, 0_u8..6), 0..60)) {
        let mut cluster = cluster_with(&[]);
        for (what, which) in steps {
            let name = ["a", "b.c", "b_c", "d", "e-f", "."][usize::from(which)];
            cluster.run(match what {
                0 | 1 => create(&[topic(name, i32::from(which), 1)]),
                2 => Command::DeleteTopics { topics: vec![TopicRef::by_name(name)] },
                3 => Command::CreatePartitions {
                    topics: vec![NewPartitions { name: name.to_owned(), count: 4, assignments: None }],
                    validate_only: which % 2 == 0,
                },
                4 => alter(ConfigResource::topic(name), "retention.ms", Operation::Set, &which.to_string()),
                _ => match cluster.image.deletions_pending().next().map(|removed| removed.id) {
                    Some(id) => Command::TopicDeleted { id },
                    None => Command::AllocateProducerIds,
                },
            });
        }
    }
}
