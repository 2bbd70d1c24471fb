//! A follower has what its leader decided, by parts of the journal or by an image, and takes nothing else.

use std::sync::Arc;

use chronik_metadata::{
    Command, ConfigAlteration, ConfigOperation, ConfigResource, ControllerClient as _, ControllerError, FollowError,
    JournalBatches, JournalReadError, KnownLeader, Operation, ReplicatedController as _, ResourceKind, Role,
    SnapshotPart, TopicRef,
};
use chronik_model::{Generation, NodeId, Offset, Uuid};

use crate::pair::{Node, Taking, Told, known, wait};
use crate::support::{CLUSTER, create, submit};

fn register(node: i32) -> Command {
    Command::RegisterFollower { node_id: NodeId::new(node), host: format!("h{node}"), port: 9092, rack: None }
}

/// Large enough that a few of them lead to a compaction.
pub(crate) fn large(round: usize) -> Command {
    Command::AlterConfigs {
        resources: vec![ConfigAlteration {
            resource: ConfigResource::new(ResourceKind::ClientMetrics, "m"),
            operations: vec![ConfigOperation {
                key: "metrics".to_owned(),
                operation: Operation::Set,
                value: Some(format!("{}{round}", "x".repeat(900_000))),
            }],
        }],
        validate_only: false,
    }
}

#[test]
fn a_follower_has_what_its_leader_decided() {
    let leader = Node::leader(1);
    leader.run(create("a"));
    let follower = Node::follower(2);
    assert_eq!(*follower.controller.role(), Role::Following { leader: None });
    follower.catch_up(&leader);
    let told = follower.told();
    assert_eq!(told.first(), Some(&Told::Role(Role::Following { leader: Some(leader.known()) })));
    assert_eq!(told.last(), Some(&Told::Image { topics: vec!["a".to_owned()], removed: 0 }));
    leader.run(register(2));
    leader.run(create("b"));
    leader.run(Command::DeleteTopics { topics: vec![TopicRef::by_name("a")] });
    follower.catch_up(&leader);
    assert_eq!(follower.told().last(), Some(&Told::Image { topics: vec!["b".to_owned()], removed: 1 }));
    let follower = follower.reopened(true);
    follower.is_copy_of(&leader);
    assert_eq!(*follower.controller.role(), Role::Following { leader: Some(leader.known()) });
    leader.run(create("c"));
    follower.catch_up(&leader);
}

#[test]
fn a_follower_decides_nothing_and_says_who_does() {
    let (leader, follower) = (Node::leader(1), Node::follower(2));
    let refused = submit(&follower.controller, create("a"));
    assert_eq!(refused, Err(ControllerError::NotLeader { leader: None }));
    follower.catch_up(&leader);
    let refused = submit(&follower.controller, create("a"));
    assert_eq!(refused, Err(ControllerError::NotLeader { leader: Some(leader.known()) }));
    assert_eq!(follower.controller.quorum().leader, NodeId::new(1));
    follower.is_copy_of(&leader);
}

#[test]
fn an_image_takes_the_place_of_what_is_no_longer_in_the_journal() {
    let leader = Node::leader(1);
    leader.run(create("a"));
    let early = Node::follower(2);
    early.catch_up(&leader);
    for round in 0..30 {
        leader.run(large(round));
    }
    leader.run(create("b"));
    assert!(leader.controller.journal().start > early.end(), "compacted");
    let read = early.take_journal(&leader, 300);
    assert!(matches!(read, Err(Taking::Read(JournalReadError::OutOfRange { .. }))), "{read:?}");
    for follower in [early, Node::follower(3)] {
        follower.follow(&leader).unwrap();
        follower.take_snapshot(&leader, 100_000).unwrap();
        follower.is_copy_of(&leader);
        assert_eq!(follower.told().last(), Some(&Told::Image { topics: leader.topics(), removed: 0 }));
        let follower = follower.reopened(true);
        follower.is_copy_of(&leader);
        leader.run(create(&format!("c{}", follower.id)));
        follower.catch_up(&leader);
        let follower = follower.reopened(true);
        follower.is_copy_of(&leader);
        // It feeds others like the leader itself.
        let further = Node::follower(9);
        further.follow(&leader).unwrap();
        further.take_snapshot(&follower, 1 << 20).unwrap();
        further.is_copy_of(&leader);
    }
    // The generations outlive what they wrote.
    let before = leader.controller.journal();
    assert_eq!(before.position.generations.len(), 2, "none, then one");
    assert_eq!(leader.reopened(false).controller.journal().position, before.position);
}

#[test]
fn a_follower_keeps_its_own_journal_short() {
    let (leader, follower) = (Node::leader(1), Node::follower(2));
    for round in 0..30 {
        leader.run(large(round));
        follower.follow(&leader).unwrap();
        follower.take_journal(&leader, 1 << 20).unwrap();
    }
    assert!(follower.controller.journal().start > Offset::ZERO);
    follower.is_copy_of(&leader);
    let stored: usize = follower.fs.files().iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(stored < 20 * 1024 * 1024, "27 MB came, {stored} bytes are kept");
    follower.reopened(true).is_copy_of(&leader);
}

#[test]
fn whoever_waits_hears_that_the_journal_moved() {
    let leader = Node::leader(1);
    let before = leader.controller.journal();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let moved = runtime.block_on(async {
        let moved = leader.controller.journal_moved(before.version);
        let (moved, _) = tokio::join!(moved, leader.controller.submit(create("a")));
        moved
    });
    assert!(moved.version > before.version && moved.position.end > before.position.end);
    // Also what is known by hearsay only.
    wait(leader.controller.fenced(known(2, 5000))).unwrap();
    let after = wait(leader.controller.journal_moved(moved.version));
    assert_eq!((after.generation, &after.position), (Generation::new(5000), &moved.position));
}

#[test]
fn only_the_latest_leader_is_followed() {
    let (leader, follower) = (Node::leader(1), Node::follower(3));
    follower.catch_up(&leader);
    let generation = leader.generation().get();
    let follow = |leader: KnownLeader| wait(follower.controller.follow(CLUSTER, leader));
    assert!(matches!(follow(known(2, generation)), Err(FollowError::OtherLeader { .. })));
    assert!(matches!(follow(known(3, 9000)), Err(FollowError::Invalid(_))), "itself");
    let other = Uuid::from_bytes([8; 16]);
    let found = wait(follower.controller.follow(other, known(2, 9000)));
    assert_eq!(found, Err(FollowError::OtherCluster { expected: CLUSTER, found: other }));
    assert_eq!(follow(known(2, 9000)), Ok(()));
    // Of the old one nothing more is taken, neither a word nor a byte, also after a crash.
    follower.fs.crash(1);
    let follower = follower.reopened(true);
    assert_eq!(follower.controller.journal().generation, Generation::new(9000));
    assert_eq!(
        follower.follow(&leader),
        Err(FollowError::Stale { leader: known(2, 9000), found: leader.generation() })
    );
    leader.run(create("a"));
    let taken = follower.take_journal(&leader, 1 << 20);
    assert!(matches!(taken, Err(Taking::Follow(FollowError::Stale { .. }))), "{taken:?}");
    let taken = follower.take_snapshot(&leader, 1 << 20);
    assert!(matches!(taken, Err(Taking::Follow(FollowError::Stale { .. }))), "{taken:?}");
    assert!(matches!(leader.follow(&follower), Err(FollowError::Leads { .. })));
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let (leader, follower) = (Node::leader(1), Node::follower(2));
    follower.catch_up(&leader);
    leader.run(create("a"));
    leader.run(create("b"));
    follower.told();
    let before = (follower.controller.journal(), follower.fs.files());
    let (base, generation) = (follower.end(), leader.generation());
    let good = leader.controller.read_journal(base, 1 << 20).unwrap();
    let append = |generation, batches| wait(follower.controller.append_journal(generation, batches));
    let flipped = (0..good.bytes.len()).map(|at| {
        let mut bytes = good.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        JournalBatches { bytes, ..good.clone() }
    });
    let cut = (1..good.bytes.len())
        .step_by(7)
        .map(|len| JournalBatches { bytes: good.bytes[..len].to_vec(), ..good.clone() });
    let twice = JournalBatches { bytes: [&good.bytes[..], &good.bytes[..]].concat(), ..good.clone() };
    let short = JournalBatches { end: Offset::new(good.end.get() - 1), ..good.clone() };
    for wrong in flipped.chain(cut).chain([twice, short]) {
        let refused = append(generation, wrong);
        assert!(matches!(refused, Err(FollowError::Invalid(_) | FollowError::OtherCluster { .. })), "{refused:?}");
    }
    let gap = JournalBatches { base: good.end, ..good.clone() };
    assert_eq!(append(generation, gap), Err(FollowError::NotContiguous { end: base, found: good.end }));
    let later = append(Generation::new(generation.get() + 1), good.clone());
    assert!(matches!(later, Err(FollowError::Invalid(_))), "nobody said to lead in it: {later:?}");

    let snapshot = leader.controller.snapshot(1 << 20).unwrap();
    let [whole] = &snapshot.parts[..] else { panic!("{} parts", snapshot.parts.len()) };
    let install = |part: SnapshotPart| wait(follower.controller.install_snapshot(generation, part));
    let part = |bytes: &[u8]| SnapshotPart {
        position: snapshot.position.clone(),
        part: 0,
        is_last: true,
        bytes: bytes.to_vec(),
    };
    let other = Node::follower(3);
    other.follow(&leader).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        // Base offset and leader epoch of a batch, which lie outside of its checksum, mean nothing in a snapshot.
        if wait(other.controller.install_snapshot(generation, part(&bytes))).is_ok() {
            other.is_copy_of(&leader);
        }
    }
    for len in (0..whole.len()).step_by(11) {
        assert!(matches!(install(part(&whole[..len])), Err(FollowError::Invalid(_))), "{len}");
    }
    assert!(install(SnapshotPart { part: 1, ..part(whole) }).is_err(), "no part 0 before it");
    assert!(install(SnapshotPart { is_last: false, ..part(&whole[..9]) }).unwrap().is_none());
    assert!(install(SnapshotPart { part: 2, ..part(&whole[9..]) }).is_err(), "part 1 is missing");

    let mut elsewhere = part(whole);
    elsewhere.position.end = Offset::new(elsewhere.position.end.get() + 1);
    assert!(matches!(install(elsewhere), Err(FollowError::Invalid(_))), "said to be up to another offset");
    let (head, tail) = whole.split_at(9);
    assert!(install(SnapshotPart { is_last: false, ..part(head) }).unwrap().is_none());
    follower.follow(&leader).unwrap();
    assert!(install(SnapshotPart { part: 1, ..part(tail) }).is_err(), "part 0 came over another link");

    assert_eq!((follower.controller.journal(), follower.fs.files()), before);
    assert_eq!(follower.told(), []);
    assert_eq!(append(generation, good.clone()), Ok(good.end));
    follower.is_copy_of(&leader);
}

#[test]
fn an_image_or_journal_of_another_cluster_is_refused() {
    let found = Uuid::from_bytes([8; 16]);
    let other = Node::open_in(found, 1, Arc::default(), false).unwrap();
    other.lead();
    let follower = Node::follower(2);
    let refused = Err(FollowError::OtherCluster { expected: CLUSTER, found });
    // Somebody says that it is this cluster, and sends another.
    assert_eq!(wait(follower.controller.follow(CLUSTER, other.known())), Ok(()));
    let before = follower.fs.files();
    let snapshot = other.controller.snapshot(1 << 20).unwrap();
    let bytes = snapshot.parts.concat();
    let part = SnapshotPart { position: snapshot.position, part: 0, is_last: true, bytes };
    assert_eq!(wait(follower.controller.install_snapshot(other.generation(), part)).map(drop), refused);
    let batches = other.controller.read_journal(Offset::ZERO, 1 << 20).unwrap();
    assert_eq!(wait(follower.controller.append_journal(other.generation(), batches)).map(drop), refused);
    assert_eq!(follower.fs.files(), before);
}
