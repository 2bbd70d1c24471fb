//! A leader and its followers: who leads in what, who holds and who is in sync, as transcripts.

use chronik_model::{Generation, LeaderEpoch, PartitionIndex};

use super::*;
use crate::command::IsrChange;
use crate::leader::ReplicationMode;
use crate::rules::{IsrError, RegistrationError};

const ONE: i32 = 1;

fn lead(node: i32, mode: ReplicationMode, clean_stop: bool, above: i32) -> Command {
    let (node_id, above) = (NodeId::new(node), Generation::new(above));
    Command::Lead { node_id, mode, is_replicated: true, clean_stop, above }
}

fn promote(node: i32, above: i32) -> Command {
    let (node_id, above, mode) = (NodeId::new(node), Generation::new(above), ReplicationMode::Sync);
    Command::Promote { node_id, host: format!("h{node}"), port: 1, rack: None, mode, above }
}

fn follower(node: i32) -> Command {
    Command::RegisterFollower { node_id: NodeId::new(node), host: format!("h{node}"), port: 1, rack: None }
}

/// A change of partition 0 of the topic with that id byte, to what the partition is now where nothing else is said.
fn isr(cluster: &Cluster, id: u8, nodes: &[i32]) -> IsrChange {
    let topic_id = TopicId(Uuid::from_bytes([id; 16]));
    let now = cluster.image.topic_by_id(topic_id).map(|topic| topic.partitions[0].clone());
    IsrChange {
        topic_id,
        partition: PartitionIndex::new(0),
        isr: nodes.iter().copied().map(NodeId::new).collect(),
        leader_epoch: now.as_ref().map_or(LeaderEpoch::ZERO, |now| now.leader_epoch),
        partition_epoch: now.map_or(0, |now| now.partition_epoch),
    }
}

fn alter(node: i32, changes: Vec<IsrChange>) -> Command {
    Command::AlterIsr { node_id: NodeId::new(node), changes }
}

/// Generation, leader and leader epoch; brokers, a fenced one in brackets; partition 0 of each topic.
fn state(image: &Image) -> String {
    let nodes = |ids: &[NodeId]| ids.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    let brokers = image.brokers().values().map(|broker| match broker.is_fenced {
        true => format!("({})", broker.node_id),
        false => broker.node_id.to_string(),
    });
    let brokers = brokers.collect::<Vec<_>>().join(" ");
    let (generation, leader, epoch) = (image.generation(), image.leader(), image.leader_epoch());
    let mut text = format!("generation {generation} leader {leader} epoch {epoch} brokers {brokers}");
    for topic in image.topics() {
        let partition = &topic.partitions[0];
        let (leader, epoch, version) = (partition.leader, partition.leader_epoch, partition.partition_epoch);
        let (replicas, isr) = (nodes(&partition.replicas), nodes(&partition.isr));
        text += &format!("; {} {leader}@{epoch} v{version} {replicas} in sync {isr}", topic.name);
    }
    text
}

/// Node 1 leads t1 in a mode, and nodes 2 and 3 follow it.
fn led(mode: ReplicationMode) -> Cluster {
    let mut cluster = cluster();
    for command in [lead(ONE, mode, true, 0), follower(2), follower(3)] {
        cluster.run(command);
    }
    cluster
}

fn transcript(cluster: &mut Cluster, commands: Vec<Command>, expected: Expect) {
    let mut text = String::new();
    for command in commands {
        cluster.run(command);
        text += &state(&cluster.image);
        text.push('\n');
    }
    expected.assert_eq(&text);
}

#[test]
fn a_follower_holds_everything_and_is_in_sync_with_nothing() {
    transcript(
        &mut cluster(),
        vec![
            lead(ONE, ReplicationMode::Async, true, 0),
            follower(2),
            Command::FenceFollower { node_id: NodeId::new(2) },
            follower(2),
            create(&[topic("t2", 2, -1)]),
            follower(3),
            Command::FenceFollower { node_id: NodeId::new(ONE) },
            Command::UnregisterBroker { node_id: NodeId::new(2) },
            create(&[topic("t3", 1, 1)]),
        ],
        expect![[r#"
            generation 257 leader 1 epoch 263168 brokers 1; t1 1@263168 v1 1 in sync 1
            generation 257 leader 1 epoch 263168 brokers 1 2; t1 1@263168 v2 1,2 in sync 1
            generation 257 leader 1 epoch 263168 brokers 1 (2); t1 1@263168 v2 1,2 in sync 1
            generation 257 leader 1 epoch 263168 brokers 1 2; t1 1@263168 v2 1,2 in sync 1
            generation 257 leader 1 epoch 263168 brokers 1 2; t1 1@263168 v2 1,2 in sync 1; t2 1@263168 v0 1,2 in sync 1
            generation 257 leader 1 epoch 263168 brokers 1 2 3; t1 1@263168 v3 1,2,3 in sync 1; t2 1@263168 v1 1,2,3 in sync 1
            generation 257 leader 1 epoch 263168 brokers 1 2 3; t1 1@263168 v3 1,2,3 in sync 1; t2 1@263168 v1 1,2,3 in sync 1
            generation 257 leader 1 epoch 263168 brokers 1 3; t1 1@263168 v4 1,3 in sync 1; t2 1@263168 v2 1,3 in sync 1
            generation 257 leader 1 epoch 263168 brokers 1 3; t1 1@263168 v4 1,3 in sync 1; t2 1@263168 v2 1,3 in sync 1; t3 1@263168 v0 1,3 in sync 1
        "#]],
    );
}

#[test]
fn in_sync_mode_a_connected_follower_is_in_sync_with_what_is_begun() {
    let mut cluster = led(ReplicationMode::Sync);
    transcript(
        &mut cluster,
        vec![
            create(&[topic("t2", 1, -1)]),
            Command::FenceFollower { node_id: NodeId::new(2) },
            create(&[topic("t3", 1, -1)]),
        ],
        expect![[r#"
            generation 257 leader 1 epoch 263168 brokers 1 2 3; t1 1@263168 v3 1,2,3 in sync 1; t2 1@263168 v0 1,2,3 in sync 1,2,3
            generation 257 leader 1 epoch 263168 brokers 1 (2) 3; t1 1@263168 v3 1,2,3 in sync 1; t2 1@263168 v0 1,2,3 in sync 1,2,3
            generation 257 leader 1 epoch 263168 brokers 1 (2) 3; t1 1@263168 v3 1,2,3 in sync 1; t2 1@263168 v0 1,2,3 in sync 1,2,3; t3 1@263168 v0 1,2,3 in sync 1,3
        "#]],
    );
}

#[test]
fn a_factor_above_the_nodes_is_refused_and_any_other_is_all_of_them() {
    let mut cluster = led(ReplicationMode::Async);
    let four = create(&[topic("t2", 1, 4)]);
    check(
        &mut cluster,
        vec![four],
        expect![[r#"
            t2: Unable to replicate the partition 4 time(s): The target replication factor of 4 cannot be reached because only 3 broker(s) are registered or some brokers have all their log directories cordoned.
        "#]],
    );
    for factor in [-1, 1, 2, 3] {
        let name = format!("f{factor}");
        let Outcome::TopicsCreated(created) = cluster.run(create(&[topic(&name, 2, factor)])) else { panic!() };
        assert_eq!(created[0].result.as_ref().unwrap().replication_factor, 3, "{factor}");
        let partitions = &cluster.image.topic(&name).unwrap().partitions;
        assert!(partitions.iter().all(|partition| partition.replicas.len() == 3 && partition.isr.len() == 1));
    }
    let grow = NewPartitions { name: "f1".to_owned(), count: 3, assignments: None };
    cluster.run(Command::CreatePartitions { topics: vec![grow], validate_only: false });
    assert_eq!(cluster.image.topic("f1").unwrap().partitions[2].replicas.len(), 3);
}

#[test]
fn a_promotion_takes_a_generation_of_its_own_and_every_partition() {
    let mut cluster = led(ReplicationMode::Async);
    transcript(
        &mut cluster,
        vec![promote(2, 0), promote(3, 0), follower(2), follower(ONE), promote(ONE, 5000)],
        expect![[r#"
            generation 514 leader 2 epoch 526336 brokers (1) 2 (3); t1 2@526336 v4 2,1,3 in sync 2
            generation 771 leader 3 epoch 789504 brokers (1) (2) 3; t1 3@789504 v5 3,2,1 in sync 3
            generation 771 leader 3 epoch 789504 brokers (1) 2 3; t1 3@789504 v5 3,2,1 in sync 3
            generation 771 leader 3 epoch 789504 brokers 1 2 3; t1 3@789504 v5 3,2,1 in sync 3
            generation 5121 leader 1 epoch 5243904 brokers 1 (2) (3); t1 1@5243904 v6 1,3,2 in sync 1
        "#]],
    );
    // Two nodes that know the same never choose the same numbers.
    let (mut other, mut third) = (led(ReplicationMode::Async), led(ReplicationMode::Async));
    other.run(promote(2, 0));
    third.run(promote(3, 0));
    assert_ne!(other.image.generation(), third.image.generation());
    assert_ne!(other.image.leader_epoch(), third.image.leader_epoch());
    let refused = cluster.run(promote(ONE, i32::MAX));
    assert!(matches!(refused, Outcome::Leads(Err(_))), "{refused:?}");
}

#[test]
fn a_leader_that_starts_again_has_another_epoch_unless_it_stopped_cleanly() {
    let mut cluster = led(ReplicationMode::Sync);
    let change = isr(&cluster, 1, &[1, 2]);
    cluster.run(alter(ONE, vec![change]));
    transcript(
        &mut cluster,
        vec![
            lead(ONE, ReplicationMode::Sync, true, 0),
            lead(ONE, ReplicationMode::Sync, false, 0),
            // In another mode an acknowledgement means something else.
            lead(ONE, ReplicationMode::Async, true, 0),
            // A generation was heard of that another node leads in.
            lead(ONE, ReplicationMode::Async, true, 600),
        ],
        expect![[r#"
            generation 257 leader 1 epoch 263168 brokers 1 2 3; t1 1@263168 v4 1,2,3 in sync 1,2
            generation 257 leader 1 epoch 263169 brokers 1 (2) (3); t1 1@263169 v5 1,2,3 in sync 1,2
            generation 257 leader 1 epoch 263170 brokers 1 (2) (3); t1 1@263170 v6 1,2,3 in sync 1
            generation 769 leader 1 epoch 787456 brokers 1 (2) (3); t1 1@787456 v7 1,2,3 in sync 1
        "#]],
    );
    for _ in 0..1100 {
        let before = cluster.image.leader_epoch();
        cluster.run(lead(ONE, ReplicationMode::Async, false, 0));
        assert!(cluster.image.leader_epoch() > before);
    }
    assert_eq!(cluster.image.generation(), Generation::new(1025), "too many starts for one generation");
}

#[test]
fn a_node_without_followers_leads_without_a_generation() {
    let mut cluster = cluster();
    let alone = Command::Lead {
        node_id: NodeId::new(ONE),
        mode: ReplicationMode::Async,
        is_replicated: false,
        clean_stop: false,
        above: Generation::ZERO,
    };
    assert_eq!(cluster.run(alone), Outcome::Leads(Ok(None)));
    assert_eq!(cluster.image.generation(), Generation::ZERO);
    let refused = cluster.run(follower(2));
    assert_eq!(refused, Outcome::FollowerRegistered(Err(RegistrationError::NoLeader)));
}

#[test]
fn an_isr_changes_in_its_leader_epoch_and_partition_epoch_only() {
    let mut cluster = led(ReplicationMode::Sync);
    let good = isr(&cluster, 1, &[2, 1]);
    let stale_epoch = IsrChange { leader_epoch: LeaderEpoch::new(good.leader_epoch.get() - 1), ..good.clone() };
    let later_epoch = IsrChange { leader_epoch: LeaderEpoch::new(good.leader_epoch.get() + 1), ..good.clone() };
    let stale_partition = IsrChange { partition_epoch: good.partition_epoch - 1, ..good.clone() };
    let unknown_partition = IsrChange { partition: PartitionIndex::new(1), ..good.clone() };
    let negative = IsrChange { partition: PartitionIndex::new(-1), ..good.clone() };
    cluster.run(Command::FenceFollower { node_id: NodeId::new(3) });
    let before = cluster.image.clone();
    let mut text = String::new();
    for (node, change) in [
        (2, good.clone()),
        (ONE, stale_epoch),
        (ONE, later_epoch),
        (ONE, stale_partition),
        (ONE, unknown_partition),
        (ONE, negative),
        (ONE, isr(&cluster, 9, &[1])),
        (ONE, isr(&cluster, 1, &[])),
        (ONE, isr(&cluster, 1, &[2])),
        (ONE, isr(&cluster, 1, &[1, 1])),
        (ONE, isr(&cluster, 1, &[1, 7])),
        (ONE, isr(&cluster, 1, &[1, 3])),
    ] {
        let Outcome::IsrAltered(altered) = cluster.run(alter(node, vec![change])) else { panic!() };
        text += &format!("{}\n", altered[0].result.as_ref().unwrap_err());
        assert!(cluster.image == before);
    }
    expect![[r#"
        node 1 leads the partition
        leader epoch 263167, the partition is in 263168
        leader epoch 263169, the partition is in 263168
        partition epoch 2, the partition is in 3
        the partition does not exist
        the partition does not exist
        the partition does not exist
        [] is no set of replicas with their leader
        [NodeId(2)] is no set of replicas with their leader
        [NodeId(1), NodeId(1)] is no set of replicas with their leader
        [NodeId(1), NodeId(7)] is no set of replicas with their leader
        broker 3 is not connected
    "#]]
    .assert_eq(&text);
    // Of two changes of one partition the second is made to what is no more.
    let Outcome::IsrAltered(altered) = cluster.run(alter(ONE, vec![good.clone(), good.clone()])) else { panic!() };
    let changed = altered[0].result.as_ref().unwrap();
    assert_eq!(changed.isr, [NodeId::new(1), NodeId::new(2)]);
    assert!(matches!(altered[1].result, Err(IsrError::PartitionEpoch { .. })));
    assert_eq!(changed.partition_epoch, good.partition_epoch + 1);
    // What is so already costs no partition epoch.
    let same = isr(&cluster, 1, &[1, 2]);
    let Outcome::IsrAltered(altered) = cluster.run(alter(ONE, vec![same])) else { panic!() };
    assert_eq!(altered[0].result.as_ref().unwrap(), changed);
    // Out of the ISR a broker gets whether it is connected or not.
    cluster.run(Command::FenceFollower { node_id: NodeId::new(2) });
    let shrunk = isr(&cluster, 1, &[1]);
    let Outcome::IsrAltered(altered) = cluster.run(alter(ONE, vec![shrunk])) else { panic!() };
    assert_eq!(altered[0].result.as_ref().unwrap().isr, [NodeId::new(1)]);
}

#[test]
fn a_node_id_is_given_once_and_can_be_told_from_every_other() {
    let mut cluster = led(ReplicationMode::Async);
    let mut next = || match cluster.run(Command::AllocateNodeId) {
        Outcome::NodeId(Ok(id)) => id.get(),
        other => panic!("{other:?}"),
    };
    assert_eq!((next(), next()), (4, 5));
    let errors = |outcome| match outcome {
        Outcome::FollowerRegistered(Err(error)) => format!("{error}\n"),
        other => format!("{other:?}\n"),
    };
    let text: String = [1, -1, 257, 258, 4].map(|node| errors(cluster.run(follower(node)))).concat();
    expect![[r#"
        node id 1 is the leader's
        node id -1 is negative
        node id 257 cannot be told from 1: they must differ in their remainder by 256
        node id 258 cannot be told from 2: they must differ in their remainder by 256
        FollowerRegistered(Ok(9))
    "#]]
    .assert_eq(&text);
    // Ids that cannot be told from those in use are passed over.
    cluster.run(follower(255));
    for expected in [256, 261, 262] {
        assert_eq!(cluster.run(Command::AllocateNodeId), Outcome::NodeId(Ok(NodeId::new(expected))));
    }
}

#[test]
fn a_broker_that_is_gone_for_good_can_be_told_from_the_leader() {
    let mut cluster = led(ReplicationMode::Async);
    let unregister = |node| Command::UnregisterBroker { node_id: NodeId::new(node) };
    let refused = cluster.run(unregister(ONE));
    assert!(matches!(refused, Outcome::BrokerUnregistered(Err(RegistrationError::IsLeader { .. }))));
    assert!(matches!(
        cluster.run(unregister(9)),
        Outcome::BrokerUnregistered(Err(RegistrationError::UnknownBroker { .. }))
    ));
    assert_eq!(cluster.run(unregister(3)), Outcome::BrokerUnregistered(Ok(())));
    assert!(cluster.image.topics().all(|topic| topic.replication_factor() == 2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// `run` checks the image, and that a snapshot of it builds the same.
    #[test]
    fn no_epoch_goes_back_and_every_image_is_whole(steps in prop::collection::vec((0_u8..10, 1_i32..5, 1_i32..5), 0..80)) {
        let mut cluster = cluster();
        for (step, node, other) in steps {
            let before = cluster.image.clone();
            let sync = ReplicationMode::Sync;
            let command = match step {
                0 => lead(node, sync, other == 1, 0),
                1 => promote(node, other * 300),
                2 | 3 => follower(node),
                4 => Command::FenceFollower { node_id: NodeId::new(node) },
                5 => Command::UnregisterBroker { node_id: NodeId::new(node) },
                6 | 7 => {
                    let id = cluster.image.topics().next().map_or(0, |topic| topic.id.0.as_bytes()[0]);
                    let change = isr(&cluster, id, &[]);
                    alter(before.leader().get(), vec![IsrChange { isr: vec![NodeId::new(node), NodeId::new(other)], ..change }])
                }
                8 => create(&[topic(&format!("n{other}"), node, -1)]),
                _ => {
                    let count = node * other;
                    let grown = NewPartitions { name: format!("n{other}"), count, assignments: None };
                    Command::CreatePartitions { topics: vec![grown], validate_only: false }
                }
            };
            cluster.run(command);
            let after = &cluster.image;
            prop_assert!(after.generation() >= before.generation() && after.leader_epoch() >= before.leader_epoch());
            if (after.leader(), before.leader_epoch()) != (before.leader(), after.leader_epoch()) {
                prop_assert!(after.leader_epoch() > before.leader_epoch());
            }
            for topic in before.topics() {
                let now = after.topic_by_id(topic.id).unwrap();
                for (then, now) in topic.partitions.iter().zip(&now.partitions) {
                    prop_assert!(now.leader_epoch >= then.leader_epoch && now.partition_epoch >= then.partition_epoch);
                    prop_assert!(now == then || now.partition_epoch > then.partition_epoch, "{now:?} {then:?}");
                }
            }
            let delta = crate::delta::Delta::between(&before, after);
            prop_assert_eq!(delta.is_empty(), *after == before || after.next_node_id() != before.next_node_id());
        }
    }
}
