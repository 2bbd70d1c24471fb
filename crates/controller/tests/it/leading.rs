//! Promotion, fencing, and an old leader's way back: who leads is never in doubt, also after a crash.

use chronik_metadata::{
    Command, ControllerClient as _, ControllerError, FollowError, Outcome, ReplicatedController as _, Role,
};
use chronik_model::{Generation, NodeId};

use crate::pair::{Node, Told, known, wait};
use crate::support::{create, is_created, submit};

fn refuses(node: &Node, by: &chronik_metadata::KnownLeader) {
    assert_eq!(*node.controller.role(), Role::Fenced { by: by.clone() });
    let refused = submit(&node.controller, create("z"));
    assert_eq!(refused, Err(ControllerError::NotLeader { leader: Some(by.clone()) }));
}

#[test]
fn a_promoted_follower_decides_in_a_generation_of_its_own() {
    let (old, follower) = (Node::leader(1), Node::follower(2));
    old.run(create("a"));
    follower.catch_up(&old);
    follower.told();
    let promoted = follower.promote();
    assert!(promoted.generation > old.generation());
    let image = follower.controller.image();
    assert_eq!(image.leader(), NodeId::new(2));
    assert!(image.leader_epoch() > old.controller.image().leader_epoch());
    assert_eq!(image.known_leader(), Some(promoted.clone()), "its address is known");
    // The image first, so that whoever hears of the role finds its partitions led.
    let told = [Told::Image { topics: vec!["a".to_owned()], removed: 0 }, Told::Role(Role::Leading)];
    assert_eq!(follower.told(), told);
    assert!(is_created(&follower.run(create("b"))));
    // Once more changes nothing.
    assert_eq!(follower.promote(), promoted);
    assert!(matches!(follower.follow(&old), Err(FollowError::Leads { .. })));
    // It leads as well when it starts again, and others follow it from where they were.
    let follower = follower.reopened(false);
    assert_eq!(*follower.controller.role(), Role::Leading);
    let third = Node::follower(3);
    third.catch_up(&old);
    third.catch_up(&follower);
    assert_eq!(third.controller.journal().position.generations.len(), 3);
}

#[test]
fn a_node_that_never_met_a_leader_can_be_promoted() {
    let node = Node::follower(2);
    let promoted = node.promote();
    assert!(is_created(&node.run(create("a"))));
    let node = node.reopened(false);
    assert_eq!((node.topics(), node.known()), (vec!["a".to_owned()], promoted));
    Node::follower(3).catch_up(&node);
}

#[test]
fn a_follower_that_starts_without_a_leader_leads_as_it_did_before() {
    let (leader, follower) = (Node::leader(1), Node::follower(2));
    leader.run(create("a"));
    follower.catch_up(&leader);
    let alone = follower.reopened(false);
    assert_eq!(*alone.controller.role(), Role::Leading);
    alone.lead();
    assert!(alone.generation() > leader.generation());
    assert!(is_created(&alone.run(create("b"))));
}

#[test]
fn a_fenced_leader_decides_nothing_more_and_remembers_by_whom() {
    let (old, new) = (Node::leader(1), Node::follower(2));
    old.run(create("a"));
    new.catch_up(&old);
    let by = new.promote();
    old.told();
    wait(old.controller.fenced(by.clone())).unwrap();
    assert_eq!(old.told(), [Told::Role(Role::Fenced { by: by.clone() })]);
    refuses(&old, &by);
    assert!(matches!(old.follow(&new), Err(FollowError::Fenced { .. })), "its logs are not cut yet");
    // An older one says nothing new; a later one does.
    wait(old.controller.fenced(known(3, 1))).unwrap();
    refuses(&old, &by);
    let later = known(3, by.generation.get() + 1000);
    wait(old.controller.fenced(later.clone())).unwrap();
    old.fs.crash(7);
    let old = old.reopened(false);
    refuses(&old, &later);
    // Only when somebody says so, it leads again, above all.
    let again = old.promote();
    assert!(again.generation > later.generation);
    assert!(is_created(&old.run(create("b"))));
}

#[test]
fn a_promotion_is_above_every_generation_that_was_heard_of() {
    let (leader, follower) = (Node::leader(1), Node::follower(2));
    follower.catch_up(&leader);
    wait(follower.controller.fenced(known(3, 7000))).unwrap();
    assert_eq!(*follower.controller.role(), Role::Following { leader: Some(known(3, 7000)) });
    let follower = follower.reopened(true);
    assert_eq!(follower.controller.journal().generation, Generation::new(7000));
    assert!(follower.promote().generation > Generation::new(7000));
    let (last, refused) = (Node::follower(4), known(3, (1 << 21) - 1));
    wait(last.controller.fenced(refused)).unwrap();
    let promoted = wait(last.controller.promote());
    assert!(matches!(promoted, Err(ControllerError::GenerationsExhausted { .. })), "{promoted:?}");
    assert!(!last.controller.role().leads());
}

#[test]
fn an_old_leader_comes_back_with_what_the_new_one_has() {
    let (old, new) = (Node::leader(1), Node::follower(2));
    old.run(create("both"));
    new.catch_up(&old);
    old.run(create("lost"));
    new.promote();
    new.run(create("won"));
    let old = old.reopened(true);
    assert_eq!(*old.controller.role(), Role::Following { leader: None });
    old.follow(&new).unwrap();
    // Its journal went another way; the image is what it takes.
    old.take_snapshot(&new, 500).unwrap();
    old.is_copy_of(&new);
    let topics = vec!["both".to_owned(), "won".to_owned()];
    assert_eq!(old.told().last(), Some(&Told::Image { topics, removed: 1 }));
    let outcome =
        new.run(Command::RegisterFollower { node_id: NodeId::new(1), host: "h1".to_owned(), port: 9092, rack: None });
    assert!(matches!(outcome, Outcome::FollowerRegistered(Ok(_))));
    old.catch_up(&new);
    old.reopened(true).is_copy_of(&new);
}

#[test]
fn whoever_was_followed_is_refused_by_a_journal_that_continues_another() {
    let (old, new) = (Node::leader(1), Node::follower(2));
    new.catch_up(&old);
    old.run(create("lost"));
    new.promote();
    new.run(create("won"));
    // Offsets alone would fit.
    let old = old.reopened(true);
    old.follow(&new).unwrap();
    let taken = old.take_journal(&new, 1 << 20);
    assert!(taken.is_err(), "{taken:?}");
}
