//! Shards over a disk that stops to answer while groups are loaded, and partitions that are not served.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chronik_coordinator::message::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitTopic, OffsetFetchRequest, OffsetFetchTopic,
};
use chronik_log::dir::DataDir;
use chronik_metadata::config::StaticConfig;
use chronik_metadata::{
    Builder, Command, ControllerError, Image, ImageListener as _, Partition as PartitionState, QuorumStatus, Record,
    Submitted,
};
use chronik_model::{LeaderEpoch, NodeId};
use parking_lot::Condvar;

use super::*;
use crate::hooked_fs::{Hooks, hooked};
use crate::replica::ReplicaHost;

const NODE: NodeId = NodeId::new(1);
const BOUND: Duration = Duration::from_secs(60);

/// Holds reads up while it is closed.
#[derive(Debug, Default)]
struct Gate {
    /// Whether it is closed, and how many reads wait.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn set_closed(&self, closed: bool) {
        self.state.lock().0 = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock();
        state.1 += 1;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |(closed, _)| *closed);
        state.1 -= 1;
    }

    /// Returns when this many reads wait.
    fn await_waiting(&self, reads: usize) {
        let mut state = self.state.lock();
        let over = self.changed.wait_while_for(&mut state, |(_, waiting)| *waiting < reads, BOUND);
        assert!(!over.timed_out(), "{} of {reads} reads wait", state.1);
    }
}

impl Hooks for Gate {
    fn before_read(&self) {
        self.pass();
    }
}

/// A controller that is never asked to change anything.
struct Still(Arc<Image>);

impl ControllerClient for Still {
    fn image(&self) -> Arc<Image> {
        Arc::clone(&self.0)
    }
    fn submit(&self, _: Command) -> Submitted<'_> {
        Box::pin(std::future::ready(Err(ControllerError::Stopped)))
    }
    fn quorum(&self) -> QuorumStatus {
        QuorumStatus { leader: NODE, leader_epoch: LeaderEpoch::ZERO, high_watermark: Offset::ZERO, voters: Vec::new() }
    }
}

/// A broker's groups over two partitions of the offsets topic.
struct Scene {
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    replicas: Arc<ReplicaHost>,
    groups: Arc<CoordinatorHost>,
}

impl Drop for Scene {
    /// A test that fails leaves nobody waiting.
    fn drop(&mut self) {
        self.gate.set_closed(false);
    }
}

impl Scene {
    fn new() -> Self {
        let gate = Arc::new(Gate::default());
        let fs = hooked(&gate);
        let dir = DataDir::open(Arc::clone(&fs), PathBuf::from("/data"), NODE, Uuid::from_random([1; 16])).unwrap();
        let metrics = Arc::new(Metrics::register(&mut prometheus_client::registry::Registry::default()));
        let fixed = Arc::new(StaticConfig::new(NODE, BTreeMap::new()).unwrap());
        let clock = Clock::new();
        let (replicas, _flusher) = ReplicaHost::start(fs, Arc::new(dir), fixed, clock, Arc::clone(&metrics)).unwrap();
        let partition = PartitionState {
            leader: NODE,
            leader_epoch: LeaderEpoch::ZERO,
            partition_epoch: 0,
            replicas: vec![NODE],
            isr: vec![NODE],
        };
        let empty = Image::default();
        let mut builder = Builder::new(&empty);
        for (byte, name) in [(1, OFFSETS_TOPIC), (2, "t")] {
            let created = Record::TopicCreated {
                id: TopicId(Uuid::from_random([byte; 16])),
                name: name.into(),
                partitions: vec![partition.clone(); 2],
                configs: BTreeMap::new(),
            };
            builder.apply(&created).unwrap();
        }
        let (image, delta) = builder.finish(Offset::ZERO);
        let image = Arc::new(image);
        replicas.apply(&image, &delta);
        let groups = Arc::new(CoordinatorHost::new(clock, Arc::new(Still(image)), Arc::clone(&metrics)));
        Self { gate, metrics, replicas, groups }
    }

    fn take_over(&self) {
        self.groups.take_over(self.replicas.of_topic(OFFSETS_TOPIC), &Config::default());
    }

    async fn commit(&self, group_id: &str, offset: i64) -> Result<Response, GroupError> {
        let partition = OffsetCommitPartition {
            partition: 0,
            offset: Offset::new(offset),
            leader_epoch: LeaderEpoch::NONE,
            metadata: None,
        };
        let request = OffsetCommitRequest {
            group_id: group_id.to_owned(),
            generation: -1,
            topics: vec![OffsetCommitTopic { name: "t".to_owned(), partitions: vec![partition], ..Default::default() }],
            ..Default::default()
        };
        self.groups
            .call(group_id, |shard, now, token, effects| shard.commit_offsets(now, request, token, effects))
            .await
    }

    /// The group's offset of partition 0 of `t`, or why it is not told.
    async fn offset(&self, group_id: &str) -> Result<i64, GroupError> {
        let request = OffsetFetchRequest {
            group_id: group_id.to_owned(),
            topics: Some(vec![OffsetFetchTopic { name: "t".to_owned(), partitions: vec![0], ..Default::default() }]),
            require_stable: true,
        };
        let fetch = self.groups.call(group_id, |shard, _, token, effects| shard.fetch_offsets(request, token, effects));
        match tokio::time::timeout(BOUND, fetch).await.expect("an answer")? {
            Response::OffsetFetch(fetched) => match fetched.error {
                Some(error) => Err(error),
                None => Ok(fetched.topics[0].partitions[0].offset.get()),
            },
            other => panic!("not what was asked for: {other:?}"),
        }
    }

    /// The same once the group is loaded.
    async fn offset_when_loaded(&self, group_id: &str) -> Result<i64, GroupError> {
        let loaded = async {
            loop {
                match self.offset(group_id).await {
                    Err(GroupError::CoordinatorLoadInProgress) => tokio::task::yield_now().await,
                    told => return told,
                }
            }
        };
        tokio::time::timeout(BOUND, loaded).await.expect("groups are loaded")
    }
}

/// A group whose partition, of two, is this one.
fn group_of(partition: i32) -> String {
    (0..).map(|number| format!("group-{number}")).find(|group| partition_for(group, 2) == partition).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_groups_are_loaded_requests_are_answered_and_a_stop_ends_the_load() {
    let scene = Scene::new();
    scene.take_over();
    let group = group_of(0);
    assert_eq!(scene.offset_when_loaded(&group).await, Ok(-1));
    scene.commit(&group, 5).await.unwrap();

    scene.gate.set_closed(true);
    scene.take_over();
    scene.gate.await_waiting(1);
    let shards = scene.groups.shards.load_full();
    let shard = shards[0].clone().unwrap();
    let loading = std::thread::spawn(move || shard.load());
    scene.gate.await_waiting(2);
    // As the timers and the gauges do; a thread of its own, because it would wait for ever.
    let (groups, (looked, look)) = (Arc::clone(&scene.groups), std::sync::mpsc::channel());
    std::thread::spawn(move || looked.send(groups.look_at_all(GroupShard::is_loading)));
    assert_eq!(look.recv_timeout(BOUND), Ok(vec![true, true]), "the load holds its shard");
    assert_eq!(scene.offset(&group).await, Err(GroupError::CoordinatorLoadInProgress));
    scene.groups.stop();
    scene.gate.set_closed(false);
    loading.join().expect("a stop is no surprise");
    assert_eq!(scene.offset(&group).await, Err(GroupError::CoordinatorNotAvailable));

    scene.take_over();
    assert_eq!(scene.offset_when_loaded(&group).await, Ok(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_not_served_moves_no_group() {
    let scene = Scene::new();
    scene.take_over();
    let (first, second) = (group_of(0), group_of(1));
    for (group, offset) in [(&first, 5), (&second, 6)] {
        assert_eq!(scene.offset_when_loaded(group).await, Ok(-1));
        scene.commit(group, offset).await.unwrap();
    }
    let mut partitions = scene.replicas.of_topic(OFFSETS_TOPIC);
    partitions[0] = None;
    scene.groups.take_over(partitions, &Config::default());
    assert_eq!(scene.offset_when_loaded(&first).await, Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(scene.offset_when_loaded(&second).await, Ok(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_groups_append_makes_a_checkpoint_due() {
    let scene = Scene::new();
    scene.take_over();
    let group = group_of(0);
    assert_eq!(scene.offset_when_loaded(&group).await, Ok(-1));
    assert_eq!(scene.metrics.uncheckpointed_bytes(), 0);
    scene.commit(&group, 5).await.unwrap();
    assert!(scene.metrics.uncheckpointed_bytes() > 0);
}
