//! The disk fails or the machine stops at any call of a follower: what it answered is there afterwards, nothing but what
//! its leaders decided is, and it goes on from there.

use std::sync::Arc;

use chronik_log::fs::{Fault, MemFs};
use chronik_metadata::{
    ControllerClient as _, Image, JournalBatches, KnownLeader, ReplicatedController as _, SnapshotPart,
};
use chronik_model::Generation;

use crate::following::large;
use crate::pair::{Node, wait};
use crate::support::{CLUSTER, create};

/// One request, and all that must be durable of it once it is answered.
#[derive(Clone)]
enum Step {
    Follow(KnownLeader),
    Append(Generation, JournalBatches),
    Install(Generation, SnapshotPart),
    Promote,
}

impl Step {
    fn is_taken(&self, node: &Node) -> bool {
        let controller = &node.controller;
        match self.clone() {
            Self::Follow(leader) => wait(controller.follow(CLUSTER, leader)).is_ok(),
            Self::Append(generation, batches) => wait(controller.append_journal(generation, batches)).is_ok(),
            Self::Install(generation, part) => wait(controller.install_snapshot(generation, part)).is_ok(),
            Self::Promote => wait(controller.promote()).is_ok(),
        }
    }
}

/// What `follower`, which has nothing yet, has to take to have the leader's journal.
fn appends(follower: &Node, leader: &Node, steps: &mut Vec<Step>) {
    let mut from = follower.end();
    while from < leader.end() {
        let batches = leader.controller.read_journal(from, 300).unwrap();
        from = batches.end;
        steps.push(Step::Append(leader.generation(), batches));
    }
}

/// A leader is followed; another that never had the end of it is promoted, followed by its image and journal; and the
/// follower is promoted itself.
fn script(is_large: bool) -> Vec<Step> {
    let (first, second, blank) = (Node::leader(1), Node::follower(2), Node::follower(3));
    let mut steps = vec![Step::Follow(first.known())];
    for name in ["a", "b"] {
        first.run(create(name));
    }
    second.catch_up(&first);
    first.run(create("lost"));
    if is_large {
        (0..3).for_each(|round| drop(first.run(large(round))));
    }
    appends(&blank, &first, &mut steps);
    second.promote();
    second.run(create("won"));
    steps.push(Step::Follow(second.known()));
    let snapshot = second.controller.snapshot(1000).unwrap();
    let count = snapshot.parts.len();
    assert!(count > 1);
    for (part, bytes) in (0_u32..).zip(snapshot.parts) {
        let is_last = part as usize + 1 == count;
        let part = SnapshotPart { position: snapshot.position.clone(), part, is_last, bytes };
        steps.push(Step::Install(second.generation(), part));
    }
    let copy = Node::follower(3);
    copy.follow(&second).unwrap();
    copy.take_snapshot(&second, 1 << 20).unwrap();
    second.run(create("more"));
    if is_large {
        (3..6).for_each(|round| drop(second.run(large(round))));
    }
    appends(&copy, &second, &mut steps);
    steps.push(Step::Promote);
    steps
}

/// Takes steps until one fails; gives how many were taken.
fn take(node: &Node, steps: &[Step]) -> usize {
    steps.iter().take_while(|step| step.is_taken(node)).count()
}

/// The images that there are before the first step and after each.
fn images(steps: &[Step]) -> Vec<Arc<Image>> {
    let node = Node::follower(3);
    let mut images = vec![node.controller.image()];
    for step in steps {
        assert!(step.is_taken(&node));
        images.push(node.controller.image());
    }
    images
}

fn check(fs: Arc<MemFs>, steps: &[Step], images: &[Arc<Image>], answered: usize, what: &str) {
    let node = Node::open(3, fs, true).unwrap_or_else(|error| panic!("{what}: {error}"));
    let image = node.controller.image();
    image.check_invariants();
    let is =
        |number: usize| images.get(number).is_some_and(|known| *image == **known && image.offset() == known.offset());
    // The step that was not answered is there as a whole or not at all.
    let mut next = [answered, answered + 1].into_iter().find(|number| is(*number));
    let at = next.get_or_insert_with(|| panic!("{what}: after {answered} steps: {image:?}"));
    let heard = steps.get(..answered).unwrap().iter().filter_map(|step| match step {
        Step::Follow(leader) => Some(leader.generation),
        _ => None,
    });
    assert!(node.controller.journal().generation >= heard.max().unwrap_or(Generation::ZERO), "{what}");
    // Parts of a snapshot that is not whole are sent anew.
    while matches!(steps.get(*at), Some(Step::Install(_, part)) if part.part > 0) {
        *at -= 1;
    }
    let rest = steps.get(*at..).unwrap();
    // A link of a new run begins with a handshake; that of the next leader may have been kept without an answer.
    let mut leaders = steps.get(..*at).unwrap().iter().filter(|step| matches!(step, Step::Follow(_)));
    let follows = !matches!(rest.first(), None | Some(Step::Follow(_)));
    if let Some(leader) = leaders.next_back().filter(|_| follows) {
        assert!(leader.is_taken(&node), "{what}");
    }
    assert_eq!(take(&node, rest), rest.len(), "{what}");
    let end = images.last().unwrap();
    assert!(*node.controller.image() == **end, "{what}");
    let node = node.reopened(false);
    assert!(*node.controller.image() == **end, "{what}");
    node.run(create("after"));
}

fn fail_every(step: usize, is_large: bool) {
    let steps = script(is_large);
    let images = images(&steps);
    let calls = {
        let node = Node::follower(3);
        assert_eq!(take(&node, &steps), steps.len());
        let Node { fs, controller, .. } = node;
        drop(controller);
        fs.calls()
    };
    assert!(calls > 50, "{calls} calls");
    for fault in [Fault::NoSpace, Fault::Io, Fault::PowerCut] {
        for call in (0..calls).step_by(step) {
            let fs = Arc::new(MemFs::new());
            fs.fail_at(call, fault);
            let answered = Node::open(3, Arc::clone(&fs), true).map_or(0, |node| take(&node, &steps));
            fs.crash(call);
            check(fs, &steps, &images, answered, &format!("{fault:?} at call {call}, crash seed {call}"));
        }
    }
}

#[test]
fn nothing_answered_is_lost_whichever_call_of_a_follower_fails() {
    fail_every(1, false);
}

/// A sample of the calls: with so much a follower compacts its journal.
#[test]
fn nothing_answered_is_lost_when_calls_around_a_compaction_fail() {
    fail_every(9, true);
}

#[test]
fn a_fenced_leader_stays_fenced_whichever_call_fails() {
    let prepared = || {
        let node = Node::leader(1);
        node.run(create("a"));
        let Node { fs, controller, .. } = node;
        drop(controller);
        fs
    };
    let by = crate::pair::known(2, 5000);
    let (from, calls) = {
        let node = Node::open(1, prepared(), false).unwrap();
        let from = node.fs.calls();
        wait(node.controller.fenced(by.clone())).unwrap();
        (from, node.fs.calls())
    };
    assert!(calls > from);
    for fault in [Fault::NoSpace, Fault::Io, Fault::PowerCut] {
        for call in from..calls {
            let node = Node::open(1, prepared(), false).unwrap();
            node.fs.fail_at(call, fault);
            let answer = wait(node.controller.fenced(by.clone()));
            // Whatever the disk says: from here on nothing is decided.
            assert!(crate::support::submit(&node.controller, create("z")).is_err());
            assert!(!node.controller.role().leads());
            node.fs.crash(call);
            let again = Node::open(1, Arc::clone(&node.fs), false).unwrap();
            assert_eq!(again.topics(), ["a"]);
            assert!(answer.is_err() || !again.controller.role().leads(), "{fault:?} at call {call}");
        }
    }
    for seed in 0..24 {
        let node = Node::open(1, prepared(), false).unwrap();
        wait(node.controller.fenced(by.clone())).unwrap();
        node.fs.crash(seed);
        assert!(!node.reopened(false).controller.role().leads(), "crash seed {seed}");
    }
}

#[test]
fn a_followers_full_disk_stops_it_only_until_there_is_room() {
    let leader = Node::leader(1);
    leader.run(create("a"));
    let prepared = || {
        let follower = Node::follower(2);
        follower.catch_up(&leader);
        follower
    };
    let calls = {
        let before = prepared();
        let from = before.fs.calls();
        leader.run(create("b"));
        before.take_journal(&leader, 1 << 20).unwrap();
        before.fs.calls() - from
    };
    let mut mended = 0;
    for call in 0..calls {
        let follower = prepared();
        // What the prepared one has not seen.
        leader.run(create(&format!("c{call}")));
        follower.fs.fail_at(call, Fault::NoSpace);
        let stopped = follower.take_journal(&leader, 1 << 20).is_err();
        follower.fs.heal();
        if follower.follow(&leader).is_ok() {
            mended += u32::from(stopped);
            follower.take_journal(&leader, 1 << 20).unwrap();
            follower.is_copy_of(&leader);
        }
        follower.fs.crash(call);
        let again = follower.reopened(true);
        again.catch_up(&leader);
    }
    assert!(mended > 0, "none of {calls} calls was one that a full disk may fail");
}
