//! Controllers of one cluster over in-memory disks; what goes from one to the other is carried by hand.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chronik_controller::{Advertised, Controller, OpenError, Setup};
use chronik_log::fs::{Fs, MemFs};
use chronik_metadata::config::StaticConfig;
use chronik_metadata::{
    Command, ControllerClient as _, Delta, FollowError, Image, ImageListener, JournalReadError, KnownLeader, Outcome,
    ReplicatedController as _, ReplicationMode, Role, SnapshotPart,
};
use chronik_model::{Generation, NodeId, Offset, Timestamp, Uuid};

use crate::support::{CLUSTER, dir, names, submit};

/// What a listener was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Image { topics: Vec<String>, removed: usize },
    Role(Role),
}

/// Remembers what it was told, in order.
#[derive(Default)]
pub(crate) struct Ears(Mutex<Vec<Told>>);

impl ImageListener for Ears {
    fn apply(&self, image: &Arc<Image>, delta: &Delta) {
        image.check_invariants();
        self.0.lock().unwrap().push(Told::Image { topics: names(image), removed: delta.topics_removed().count() });
    }

    fn role_changed(&self, _image: &Arc<Image>, role: &Role) {
        self.0.lock().unwrap().push(Told::Role(role.clone()));
    }
}

pub(crate) struct Node {
    pub(crate) id: i32,
    pub(crate) fs: Arc<MemFs>,
    pub(crate) controller: Controller,
    ears: Arc<Ears>,
}

/// Waits outside of any runtime, not for ever.
pub(crate) fn wait<T>(answer: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), answer).await.expect("an answer") })
}

impl Node {
    pub(crate) fn open(id: i32, fs: Arc<MemFs>, follows: bool) -> Result<Self, OpenError> {
        Self::open_in(CLUSTER, id, fs, follows)
    }

    pub(crate) fn open_in(cluster_id: Uuid, id: i32, fs: Arc<MemFs>, follows: bool) -> Result<Self, OpenError> {
        let ears = Arc::new(Ears::default());
        let node_id = NodeId::new(id);
        // Ids that differ between openings, as random ones do.
        let mut next = fs.calls() << 16;
        let controller = Controller::open(Setup {
            fs: Arc::clone(&fs) as Arc<dyn Fs>,
            dir: dir(),
            node_id,
            cluster_id,
            follows,
            advertised: advertised(id),
            static_config: Arc::new(StaticConfig::new(node_id, BTreeMap::new()).unwrap()),
            clock: Box::new(|| Timestamp::from_millis(1_000)),
            ids: Box::new(move || {
                next += 1;
                let mut bytes = [u8::try_from(id).unwrap(); 16];
                bytes[8..].copy_from_slice(&next.to_be_bytes());
                Uuid::from_random(bytes)
            }),
            listener: Arc::clone(&ears) as Arc<dyn ImageListener>,
        })?;
        Ok(Self { id, fs, controller, ears })
    }

    /// A node that leads and is registered.
    pub(crate) fn leader(id: i32) -> Self {
        let node = Self::open(id, Arc::default(), false).unwrap();
        node.lead();
        node
    }

    /// A node with an empty disk that is to follow.
    pub(crate) fn follower(id: i32) -> Self {
        Self::open(id, Arc::default(), true).unwrap()
    }

    pub(crate) fn lead(&self) {
        let (node_id, above) = (NodeId::new(self.id), self.controller.journal().generation);
        let mode = ReplicationMode::Async;
        let led = self.run(Command::Lead { node_id, mode, is_replicated: true, clean_stop: false, above });
        assert!(matches!(led, Outcome::Leads(Ok(Some(_)))), "{led:?}");
        let Advertised { host, port, rack, .. } = advertised(self.id);
        self.run(Command::RegisterBroker { node_id, host, port, rack });
    }

    pub(crate) fn run(&self, command: Command) -> Outcome {
        submit(&self.controller, command).unwrap()
    }

    /// Closes and opens again.
    pub(crate) fn reopened(self, follows: bool) -> Self {
        let Self { id, fs, controller, .. } = self;
        drop(controller);
        Self::open(id, fs, follows).unwrap()
    }

    /// The node as it tells others that it leads.
    pub(crate) fn known(&self) -> KnownLeader {
        known(self.id, self.generation().get())
    }

    pub(crate) fn generation(&self) -> Generation {
        self.controller.image().generation()
    }

    pub(crate) fn end(&self) -> Offset {
        self.controller.journal().position.end
    }

    pub(crate) fn topics(&self) -> Vec<String> {
        names(&self.controller.image())
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        std::mem::take(&mut self.ears.0.lock().unwrap())
    }

    pub(crate) fn promote(&self) -> KnownLeader {
        let leadership = wait(self.controller.promote()).unwrap();
        assert_eq!(leadership.generation, self.generation());
        self.known()
    }

    pub(crate) fn follow(&self, leader: &Self) -> Result<(), FollowError> {
        wait(self.controller.follow(CLUSTER, leader.known()))
    }

    /// Takes what the leader's journal has behind this one's end.
    pub(crate) fn take_journal(&self, leader: &Self, bytes_max: usize) -> Result<(), Taking> {
        loop {
            let batches = leader.controller.read_journal(self.end(), bytes_max).map_err(Taking::Read)?;
            if batches.bytes.is_empty() {
                return Ok(());
            }
            let (base, end) = (batches.base, batches.end);
            let taken = wait(self.controller.append_journal(leader.generation(), batches));
            assert_eq!(taken.map_err(Taking::Follow)?, end);
            assert!(end > base && self.end() == end);
        }
    }

    /// Takes the leader's image in place of everything.
    pub(crate) fn take_snapshot(&self, leader: &Self, part_bytes_max: usize) -> Result<(), Taking> {
        let snapshot = leader.controller.snapshot(part_bytes_max).map_err(Taking::Read)?;
        let count = snapshot.parts.len();
        for (part, bytes) in (0_u32..).zip(snapshot.parts) {
            assert!(bytes.len() <= part_bytes_max);
            let is_last = part as usize + 1 == count;
            let part = SnapshotPart { position: snapshot.position.clone(), part, is_last, bytes };
            let taken = wait(self.controller.install_snapshot(leader.generation(), part)).map_err(Taking::Follow)?;
            assert_eq!(taken, is_last.then_some(snapshot.position.end));
        }
        Ok(())
    }

    /// Follows the leader from an end that is the beginning of its journal.
    pub(crate) fn catch_up(&self, leader: &Self) {
        self.follow(leader).unwrap();
        self.take_journal(leader, 300).unwrap();
        self.is_copy_of(leader);
    }

    pub(crate) fn is_copy_of(&self, leader: &Self) {
        let (mine, theirs) = (self.controller.image(), leader.controller.image());
        mine.check_invariants();
        assert!(*mine == *theirs, "{mine:?}\n{theirs:?}");
        assert_eq!(mine.offset(), theirs.offset());
        assert_eq!(self.controller.journal().position, leader.controller.journal().position);
    }
}

/// Why a part could not be taken.
#[derive(Debug)]
pub(crate) enum Taking {
    Read(JournalReadError),
    Follow(FollowError),
}

pub(crate) fn known(id: i32, generation: i32) -> KnownLeader {
    let Advertised { host, port, .. } = advertised(id);
    KnownLeader { node_id: NodeId::new(id), generation: Generation::new(generation), host: host.into(), port }
}

fn advertised(id: i32) -> Advertised {
    Advertised { host: format!("h{id}"), port: 9092, rack: None, mode: ReplicationMode::Async }
}
