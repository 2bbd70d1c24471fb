//! That one thread at a time syncs, whoever asks for it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chronik_log::fs::Fs;
use chronik_log::{Log, LogConfig};
use chronik_metadata::config::BrokerSettings;
use chronik_model::{LeaderEpoch, NodeId, Offset, Timestamp, TopicPartition, Uuid};
use chronik_record::{BatchBuilder, Compression, ProducedBatch, TimestampType};
use chronik_replication::isr::Assignment;
use chronik_replication::message::TopicIdPartition;

use super::*;
use crate::hooked_fs::{Hooks, hooked};
use crate::replica::partition::{Beginning, Shared};
use crate::settings::PartitionSettings;

/// Notices two syncs of segments at the same time.
#[derive(Debug, Default)]
struct Watch {
    syncing: AtomicUsize,
    together: AtomicBool,
}

impl Hooks for Watch {
    fn sync(&self, path: &Path, sync: &dyn Fn() -> io::Result<()>) -> io::Result<()> {
        if path.extension().is_none_or(|end| end != "log") {
            return sync();
        }
        if self.syncing.fetch_add(1, Ordering::SeqCst) > 0 {
            self.together.store(true, Ordering::SeqCst);
        }
        (0..50).for_each(|_| std::thread::yield_now());
        let outcome = sync();
        self.syncing.fetch_sub(1, Ordering::SeqCst);
        outcome
    }
}

pub(in crate::replica) fn data_dir(fs: &Arc<dyn Fs>) -> Arc<DataDir> {
    let root = PathBuf::from("/data");
    Arc::new(DataDir::open(Arc::clone(fs), root, NodeId::new(1), Uuid::from_random([1; 16])).unwrap())
}

/// Partition `index` of the topic `t`, led, with an empty log.
pub(in crate::replica) fn partition(
    fs: &Arc<dyn Fs>,
    dir: &DataDir,
    queue: &Arc<FlushQueue>,
    index: i32,
) -> Arc<Partition> {
    let name = TopicPartition::new("t", index);
    let log = Log::create(Arc::clone(fs), dir.partition_dir(&name), name, LogConfig::default(), true).unwrap();
    let fixed = chronik_metadata::config::StaticConfig::new(NodeId::new(1), std::collections::BTreeMap::new()).unwrap();
    let topic = chronik_metadata::Topic { id: Default::default(), name: "t".into(), partitions: Vec::new() };
    let image = chronik_metadata::Image::default();
    let settings = PartitionSettings::resolve(&image, &topic, &fixed, &BrokerSettings::resolve(&image, &fixed));
    Partition::begin(
        TopicIdPartition::new(Default::default(), chronik_model::PartitionIndex::new(index)),
        log,
        Beginning::Lead(Assignment::alone(NodeId::new(1), LeaderEpoch::ZERO)),
        Offset::ZERO,
        settings,
        Arc::new(Shared { flush_queue: Arc::clone(queue), ..Shared::default() }),
        chronik_model::Instant::ORIGIN,
    )
}

/// A batch of one record, and when it is appended.
pub(in crate::replica) fn batch() -> (ProducedBatch, Timestamp) {
    let now = Timestamp::from_millis(1000);
    let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, now);
    builder.append(now, None, Some(b"value"), &[]);
    (builder.build().unwrap(), now)
}

#[test]
fn partition_that_is_listed_twice_is_synced_by_one_thread() {
    let watch = Arc::new(Watch::default());
    let fs = hooked(&watch);
    let dir = data_dir(&fs);
    let queue = Arc::new(FlushQueue::default());
    let others = queue.syncers().start(&dir).unwrap();
    let partition = partition(&fs, &dir, &queue, 0);
    let (batch, now) = batch();
    for _ in 0..200 {
        partition.append(&batch, now, false).unwrap();
        queue.round().flush(&VecDeque::from([Arc::clone(&partition), Arc::clone(&partition)]), &dir);
    }
    queue.syncers().stop();
    others.into_iter().for_each(|other| other.join().unwrap());
    assert!(!watch.together.load(Ordering::SeqCst), "the thread that did not get the error would acknowledge");
}

#[test]
fn two_threads_never_sync_at_the_same_time() {
    let watch = Arc::new(Watch::default());
    let fs = hooked(&watch);
    let dir = data_dir(&fs);
    let queue = Arc::new(FlushQueue::default());
    let metrics = Arc::new(Metrics::register(&mut prometheus_client::registry::Registry::default()));
    let flusher = start(Arc::clone(&queue), Arc::clone(&dir), metrics).unwrap();
    let partition = partition(&fs, &dir, &queue, 0);
    let (batch, now) = batch();
    for _ in 0..200 {
        partition.append(&batch, now, false).unwrap();
        queue.round().flush(&VecDeque::from([Arc::clone(&partition)]), &dir);
    }
    queue.stop();
    flusher.join().unwrap();
    assert!(!watch.together.load(Ordering::SeqCst), "the thread that did not get the error would acknowledge");
}
