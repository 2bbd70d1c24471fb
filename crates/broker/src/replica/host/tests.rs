//! Topics that come, go and come again over a disk that stops in between: whose files, whose checkpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chronik_log::fs::{Fault, MemFs};
use chronik_log::{AppendError, LogError, ReadBound};
use chronik_metadata::{Builder, Partition as PartitionState, Record};
use chronik_model::{LeaderEpoch, NodeId, Offset, Timestamp, Uuid};
use chronik_record::{BatchBuilder, Compression, ProducedBatch, TimestampType};
use chronik_replication::ProduceError;

use super::*;

const NODE: NodeId = NodeId::new(1);
const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn id(byte: u8) -> TopicId {
    TopicId(Uuid::from_random([byte; 16]))
}

fn created(byte: u8, name: &str, partitions: usize) -> Record {
    let partition = PartitionState {
        leader: NODE,
        leader_epoch: LeaderEpoch::ZERO,
        partition_epoch: 0,
        replicas: vec![NODE],
        isr: vec![NODE],
    };
    Record::TopicCreated {
        id: id(byte),
        name: name.into(),
        partitions: vec![partition; partitions],
        configs: BTreeMap::new(),
    }
}

fn removed(byte: u8) -> Record {
    Record::TopicRemoved { id: id(byte) }
}

fn batch(records: usize, value: &str) -> ProducedBatch {
    let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, NOW);
    for _ in 0..records {
        builder.append(NOW, None, Some(value.as_bytes()), &[]);
    }
    builder.build().unwrap()
}

fn data_dir(fs: &MemFs) -> DataDir {
    DataDir::open(Arc::new(fs.clone()), PathBuf::from("/data"), NODE, Uuid::from_random([1; 16])).unwrap()
}

/// The durable checkpoint.
fn on_file(fs: &MemFs) -> Lines {
    chronik_log::checkpoint::read(fs, Path::new("/data")).unwrap().unwrap()
}

/// A broker's partitions over a disk in memory; what was committed outlives it.
struct Broker {
    host: Arc<ReplicaHost>,
    flusher: Option<JoinHandle<()>>,
    image: Arc<Image>,
}

impl Broker {
    /// Starts on what is on the disk, for an image.
    fn start(fs: &MemFs, image: &Arc<Image>) -> Self {
        let shared: Arc<dyn Fs> = Arc::new(fs.clone());
        let dir = data_dir(fs);
        let metrics = Arc::new(Metrics::register(&mut prometheus_client::registry::Registry::default()));
        let fixed = Arc::new(StaticConfig::new(NODE, BTreeMap::new()).unwrap());
        let (host, flusher) = ReplicaHost::start(shared, Arc::new(dir), fixed, Clock::new(), metrics).unwrap();
        let checkpoints = host.dir.read_checkpoints().unwrap();
        let clean = host.dir.take_clean_stop().unwrap();
        host.open_all(image, &Role::Leading, &checkpoints, clean).unwrap();
        Self { host, flusher: Some(flusher), image: Arc::clone(image) }
    }

    /// Commits records in one group, as the controller does.
    fn commit(&mut self, records: &[Record]) {
        let (image, delta) = self.next(records);
        self.image = image;
        self.host.apply(&self.image, &delta);
    }

    fn next(&self, records: &[Record]) -> (Arc<Image>, Delta) {
        let mut builder = Builder::new(&self.image);
        for record in records {
            builder.apply(record).unwrap();
        }
        let (image, delta) = builder.finish(Offset::ZERO);
        (Arc::new(image), delta)
    }

    fn partition(&self, topic: &str) -> Arc<Partition> {
        self.host.by_name(topic, 0).unwrap()
    }

    /// As it is done from time to time.
    fn checkpoint(&self) {
        self.host.sync_unsynced();
        self.host.write_checkpoints().unwrap();
    }

    /// Appends and waits until it is durable.
    fn produce(&self, topic: &str, records: usize, value: &str) {
        let partition = self.partition(topic);
        let (_, committed) = partition.append(&batch(records, value), NOW, true).unwrap();
        if let super::super::Committed::Later(receiver) = committed {
            receiver.blocking_recv().unwrap().unwrap();
        }
    }

    /// What a consumer of the whole partition gets: log start, log end, and the values' text in between.
    fn consumed(&self, topic: &str) -> (i64, i64, String) {
        let reader = self.partition(topic).reader().clone();
        let bounds = reader.bounds();
        let (mut from, mut text) = (bounds.log_start, String::new());
        while from < bounds.high_watermark {
            let slice = reader.read(from, ReadBound::HighWatermark, 1, true).unwrap();
            let bytes = slice.read().unwrap();
            let header = chronik_record::BatchHeader::read(&bytes).unwrap();
            let mut records = chronik_record::records(&bytes, &chronik_record::Caps::default()).unwrap();
            while let Some(record) = records.next_record().unwrap() {
                text.push_str(std::str::from_utf8(record.value.bytes().unwrap()).unwrap());
            }
            from = header.next_offset();
        }
        (bounds.log_start.get(), bounds.log_end.get(), text)
    }

    /// Ends as a killed process does: nothing more is written.
    fn kill(mut self) {
        self.host.shared.flush_queue.stop();
        self.flusher.take().unwrap().join().unwrap();
    }

    fn stop(mut self) -> Result<(), CloseError> {
        let closed = self.host.close_all();
        self.flusher.take().unwrap().join().unwrap();
        closed
    }
}

fn empty() -> Arc<Image> {
    Arc::new(Image::default())
}

#[test]
fn an_index_outside_of_the_topic_is_unknown() {
    let topic = TopicReplicas { id: TopicId::ZERO, name: "t".into(), partitions: vec![None] };
    for index in [-1, 1, i32::MAX, i32::MIN] {
        assert_eq!(topic.partition(index).unwrap_err(), ErrorCode::UnknownTopicOrPartition);
    }
    assert_eq!(topic.partition(0).unwrap_err(), ErrorCode::KafkaStorageError);
}

#[test]
fn a_checkpoint_of_an_earlier_topic_says_nothing_about_its_successor() {
    for (old, new) in [(3, 20), (20, 3)] {
        let fs = MemFs::new();
        let mut broker = Broker::start(&fs, &empty());
        broker.commit(&[created(1, "t", 1)]);
        (0..old).for_each(|_| broker.produce("t", 7, "A"));
        broker.checkpoint();
        broker.commit(&[removed(1)]);
        broker.commit(&[created(2, "t", 1)]);
        (0..new).for_each(|_| broker.produce("t", 1, "B"));
        let image = Arc::clone(&broker.image);
        broker.kill();
        let broker = Broker::start(&fs, &image);
        assert_eq!(broker.consumed("t"), (0, new, "B".repeat(usize::try_from(new).unwrap())));
        broker.kill();
    }
}

#[test]
fn files_of_a_topic_whose_removal_was_committed_are_not_opened_as_its_successor() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[created(1, "t", 2)]);
    broker.produce("t", 5, "A");
    broker.checkpoint();
    // The process dies when the records are durable and nothing is done about them yet.
    let (image, _) = broker.next(&[removed(1), created(2, "t", 1)]);
    broker.kill();
    for _ in 0..2 {
        let broker = Broker::start(&fs, &image);
        assert_eq!(broker.consumed("t").0, 0);
        assert!(!broker.consumed("t").2.contains('A'));
        broker.produce("t", 1, "B");
        broker.kill();
    }
    assert_eq!(Broker::start(&fs, &image).consumed("t").2, "BB");
}

#[test]
fn files_of_an_unknown_topic_are_left_alone() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[created(1, "t", 1)]);
    broker.produce("t", 5, "A");
    broker.stop().unwrap();
    let before = fs.file_len(&PathBuf::from("/data/wal/t/0/wal_0_0.log")).unwrap();
    let image = Arc::new(Image::default().apply(&created(2, "t", 1)).unwrap());
    let broker = Broker::start(&fs, &image);
    assert_eq!(broker.host.by_name("t", 0).unwrap_err(), ErrorCode::KafkaStorageError);
    assert_eq!(fs.file_len(&PathBuf::from("/data/wal/t/0/wal_0_0.log")).unwrap(), before);
}

#[test]
fn directories_without_ids_are_taken_once_and_get_them() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[created(1, "t", 1)]);
    broker.produce("t", 5, "A");
    let image = Arc::clone(&broker.image);
    broker.stop().unwrap();
    // As a build leaves it that knows no ids.
    fs.remove_file(&PathBuf::from("/data/wal/t/topic-id")).unwrap();
    let checkpoints = on_file(&fs);
    let stripped: Lines =
        checkpoints.into_iter().map(|(name, at)| (name, Checkpoint { topic_id: None, ..at })).collect();
    chronik_log::checkpoint::write(&fs, std::path::Path::new("/data"), &stripped).unwrap();
    let broker = Broker::start(&fs, &image);
    assert_eq!(broker.consumed("t"), (0, 5, "AAAAA".to_owned()));
    assert_eq!(broker.host.dir.topic_id("t").unwrap(), Some(id(1)));
    broker.stop().unwrap();
    let checkpoints = on_file(&fs);
    assert!(checkpoints.values().all(|at| at.topic_id == Some(id(1))));
}

#[test]
fn a_partition_of_a_deleted_topic_touches_nothing_of_its_successor() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[created(1, "t", 1)]);
    broker.produce("t", 5, "A");
    let old = broker.partition("t");
    broker.commit(&[removed(1), created(2, "t", 1)]);
    broker.produce("t", 3, "B");
    let before = fs.files();
    let far = Timestamp::from_millis(i64::MAX);
    assert!(matches!(old.with_log(|log| log.apply_retention(far)), Err(LogError::Offline(_))));
    assert!(matches!(old.checkpoint(), Err(LogError::Offline(_))));
    assert!(old.with_log(|log| log.close_cleanly()).is_err());
    assert!(matches!(old.append(&batch(1, "C"), NOW, true), Err(ProduceError::Append(AppendError::Closed))));
    assert!(old.reader().read(Offset::ZERO, ReadBound::LogEnd, 1, true).is_err());
    assert!(old.reader().offset_for_timestamp(NOW, ReadBound::LogEnd).is_err());
    assert_eq!(fs.files(), before);
    assert_eq!(broker.consumed("t"), (0, 3, "BBB".to_owned()));
    broker.stop().unwrap();
}

#[test]
fn a_partition_that_cannot_be_opened_keeps_its_checkpoint() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[created(1, "t", 1), created(2, "u", 1)]);
    broker.produce("t", 5, "A");
    let image = Arc::clone(&broker.image);
    broker.stop().unwrap();
    // The file system of `wal/t` is not mounted, for two starts and one clean stop.
    let (there, away) = (PathBuf::from("/data/wal/t"), PathBuf::from("/data/wal/away~"));
    fs.rename(&there, &away).unwrap();
    for _ in 0..2 {
        let broker = Broker::start(&fs, &image);
        assert_eq!(broker.host.by_name("t", 0).unwrap_err(), ErrorCode::KafkaStorageError);
        assert!(!fs.exists(&there).unwrap(), "nothing is begun in its place");
        broker.stop().unwrap();
    }
    fs.rename(&away, &there).unwrap();
    let broker = Broker::start(&fs, &image);
    assert_eq!(broker.consumed("t"), (0, 5, "AAAAA".to_owned()));
    broker.stop().unwrap();
}

#[test]
fn a_partition_that_went_offline_keeps_its_checkpoint_and_its_log_start() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[created(1, "t", 1)]);
    (0..5).for_each(|_| broker.produce("t", 2, "A"));
    broker.partition("t").with_log(|log| log.delete_records_before(Offset::new(4))).unwrap();
    broker.checkpoint();
    broker.partition("t").with_log(|log| log.delete_records_before(Offset::new(6))).unwrap();
    broker.partition("t").with_log(|log| log.fail(&io::Error::other("as a failed sync does")));
    broker.checkpoint();
    let image = Arc::clone(&broker.image);
    assert!(broker.stop().is_err());
    assert!(!fs.exists(&PathBuf::from("/data/clean-stop")).unwrap());
    // What the last line vouches for is damage where it is broken, not a torn tail.
    let path = PathBuf::from("/data/wal/t/0/wal_0_0.log");
    let half = fs.file_len(&path).unwrap() / 2;
    fs.open(&path, chronik_log::fs::OpenMode::Write).unwrap().set_len(half).unwrap();
    let broker = Broker::start(&fs, &image);
    let bounds = broker.partition("t").reader().bounds();
    assert_eq!((bounds.log_start, bounds.log_end), (Offset::new(6), Offset::new(10)));
    broker.stop().unwrap();
}

/// A topic whose writes are left to the page cache.
fn unsynced(byte: u8) -> Record {
    let mut record = created(byte, "t", 1);
    if let Record::TopicCreated { configs, .. } = &mut record {
        configs.insert("chronik.durability".into(), "page-cache".into());
    }
    record
}

#[test]
fn a_power_cut_may_take_the_files_of_a_partition_that_nothing_was_synced_in_and_the_next_start_makes_them() {
    let mut taken = 0;
    for seed in 0..40 {
        let fs = MemFs::new();
        let mut broker = Broker::start(&fs, &empty());
        broker.commit(&[unsynced(1), created(2, "u", 1)]);
        broker.produce("t", 2, "A");
        broker.host.write_checkpoints().unwrap();
        assert_eq!(on_file(&fs)[&TopicPartition::new("t", 0)].high_watermark, Offset::new(2));
        let image = Arc::clone(&broker.image);
        broker.kill();
        fs.crash(seed);
        taken += usize::from(!fs.exists(&PathBuf::from("/data/wal/t/0")).unwrap());
        let broker = Broker::start(&fs, &image);
        assert!(broker.consumed("t").1 <= 2, "seed {seed}");
        broker.produce("u", 1, "U");
        broker.kill();
        fs.crash(seed);
        assert_eq!(Broker::start(&fs, &image).consumed("u"), (0, 1, "U".to_owned()), "seed {seed}");
    }
    assert!(taken > 0);
}

#[test]
fn records_that_were_deleted_before_they_were_synced_stay_deleted_and_their_offsets_taken() {
    for seed in 0..60 {
        let fs = MemFs::new();
        let mut broker = Broker::start(&fs, &empty());
        broker.commit(&[unsynced(1)]);
        (0..5).for_each(|_| broker.produce("t", 2, "A"));
        let start = broker.partition("t").with_log(|log| log.delete_records_before(Offset::new(7))).unwrap();
        assert_eq!(start, Offset::new(7));
        broker.host.write_checkpoints().unwrap();
        let image = Arc::clone(&broker.image);
        broker.kill();
        fs.crash(seed);
        for _ in 0..2 {
            let broker = Broker::start(&fs, &image);
            let bounds = broker.partition("t").reader().bounds();
            assert_eq!(bounds.log_start, start, "seed {seed}");
            assert!(bounds.log_end >= start && bounds.log_end <= Offset::new(10), "seed {seed}: {bounds:?}");
            broker.kill();
        }
        let broker = Broker::start(&fs, &image);
        broker.produce("t", 1, "B");
        assert!(broker.consumed("t").2.ends_with('B'), "seed {seed}");
        broker.stop().unwrap();
    }
}

#[test]
fn missing_files_are_made_again_only_where_nothing_was_durable_in_them() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[created(1, "t", 1), created(2, "u", 1)]);
    broker.produce("u", 1, "U");
    broker.host.write_checkpoints().unwrap();
    let image = Arc::clone(&broker.image);
    broker.kill();
    for topic in ["t", "u"] {
        fs.remove_dir_all(&PathBuf::from(format!("/data/wal/{topic}"))).unwrap();
    }
    let broker = Broker::start(&fs, &image);
    assert_eq!(broker.consumed("t").1, 0);
    assert!(broker.host.by_name("u", 0).is_err());
    broker.kill();
}

#[test]
fn after_the_end_of_the_process_what_was_written_is_not_read_again() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[unsynced(1)]);
    (0..50).for_each(|_| broker.produce("t", 2, "A"));
    broker.host.write_checkpoints().unwrap();
    let image = Arc::clone(&broker.image);
    broker.kill();
    let broker = Broker::start(&fs, &image);
    assert_eq!(broker.host.metrics.recovered_bytes.get(), 0);
    assert_eq!(broker.consumed("t"), (0, 100, "A".repeat(100)));
    broker.kill();
    // The page cache is gone, and what was not synced may be.
    fs.crash(7);
    let broker = Broker::start(&fs, &image);
    assert!(broker.consumed("t").1 <= 100);
    broker.stop().unwrap();
}

#[test]
fn after_a_sync_of_what_was_written_the_next_start_reads_what_came_since_and_syncs_nothing() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[unsynced(1), created(2, "u", 1)]);
    broker.produce("t", 2, "A");
    broker.produce("u", 1, "U");
    broker.host.sync_unsynced();
    broker.host.write_checkpoints().unwrap();
    let end = |topic: &str| on_file(&fs)[&TopicPartition::new(topic, 0)].recovery_point;
    assert_eq!((end("t"), end("u")), (Offset::new(2), Offset::new(1)));
    let size = broker.partition("t").with_log(|log| log.size_bytes());
    broker.produce("t", 2, "B");
    let since = broker.partition("t").with_log(|log| log.size_bytes()) - size;
    let image = Arc::clone(&broker.image);
    broker.kill();
    fs.fail_sync_at(0);
    let broker = Broker::start(&fs, &image);
    assert_eq!(broker.host.metrics.recovered_bytes.get().cast_unsigned(), since);
    assert_eq!(broker.consumed("t"), (0, 4, "AABB".to_owned()));
    broker.kill();
}

#[test]
fn a_sync_of_what_was_written_that_fails_takes_its_partition_offline_and_back_what_was_said_of_the_page_cache() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[unsynced(1)]);
    broker.produce("t", 2, "A");
    broker.host.write_checkpoints().unwrap();
    fs.fail_sync_at(0);
    broker.host.sync_unsynced();
    assert!(broker.partition("t").is_offline());
    assert!(!fs.exists(&PathBuf::from("/data/checkpoint-page-cache")).unwrap());
    broker.kill();
}

#[test]
fn after_a_sync_that_fails_beside_a_checkpoint_nobody_trusts_the_page_cache() {
    for _ in 0..300 {
        let fs = MemFs::new();
        let mut broker = Broker::start(&fs, &empty());
        broker.commit(&[unsynced(1)]);
        broker.produce("t", 2, "A");
        broker.checkpoint();
        broker.produce("t", 2, "B");
        fs.fail_sync_at(0);
        std::thread::scope(|scope| {
            scope.spawn(|| broker.host.write_checkpoints().unwrap());
            scope.spawn(|| broker.host.sync_unsynced());
        });
        assert!(broker.partition("t").is_offline());
        assert_eq!(broker.host.dir.read_checkpoints().unwrap().written, Lines::new());
        broker.kill();
    }
}

#[test]
fn a_checkpoint_is_replaced_when_only_the_log_start_has_moved() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[created(1, "t", 1)]);
    broker.produce("t", 2, "A");
    broker.host.write_checkpoints().unwrap();
    broker.partition("t").with_log(|log| log.delete_records_before(Offset::new(1))).unwrap();
    broker.host.write_checkpoints().unwrap();
    assert_eq!(on_file(&fs)[&TopicPartition::new("t", 0)].log_start, Offset::new(1));
    broker.stop().unwrap();
}

#[test]
fn a_durable_checkpoint_takes_back_what_was_said_of_the_page_cache() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[unsynced(1)]);
    broker.produce("t", 2, "A");
    let file = PathBuf::from("/data/checkpoint-page-cache");
    broker.host.write_checkpoints().unwrap();
    assert!(fs.exists(&file).unwrap());
    broker.host.write_checkpoint_to_cut(&broker.partition("t")).unwrap();
    assert!(!fs.exists(&file).unwrap());
    assert_eq!(broker.partition("t").with_log(|log| log.durable_end()), Offset::new(2));
    broker.stop().unwrap();
}

#[test]
fn after_a_failed_sync_the_next_start_counts_on_the_disk() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[unsynced(1)]);
    broker.produce("t", 2, "A");
    broker.checkpoint();
    (0..5).for_each(|_| broker.produce("t", 2, "A"));
    broker.host.write_checkpoints().unwrap();
    fs.fail_sync_at(0);
    broker.host.sync_unsynced();
    assert!(broker.partition("t").is_offline());
    broker.host.write_checkpoints().unwrap();
    let image = Arc::clone(&broker.image);
    broker.kill();
    let broker = Broker::start(&fs, &image);
    assert_eq!(broker.consumed("t").1, 2, "the disk has no more of it");
    broker.stop().unwrap();
}

#[test]
fn a_flush_that_can_open_nothing_acknowledges_by_a_sync_of_the_file_system() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[created(1, "t", 1)]);
    broker.produce("t", 1, "A");
    let partition = broker.partition("t");
    let round = broker.host.shared.flush_queue.round();
    partition.with_log(|log| {
        let config = chronik_log::LogConfig { segment_bytes: 100, ..log.config().clone() };
        log.reconfigure(config);
    });
    // Rolls: the directory waits for a sync, too.
    let (_, committed) = partition.append(&batch(1, "B"), NOW, true).unwrap();
    assert_eq!(partition.with_log(|log| log.segments_count()), 2);
    fs.set_out_of_files(true);
    drop(round);
    let super::super::Committed::Later(receiver) = committed else { panic!("acknowledged before any sync") };
    receiver.blocking_recv().unwrap().unwrap();
    // The next one would roll as well: refused, and nothing is lost by it.
    assert!(partition.append(&batch(1, "C"), NOW, true).is_err());
    fs.set_out_of_files(false);
    broker.produce("t", 1, "D");
    fs.crash(1);
    let image = Arc::clone(&broker.image);
    drop(partition);
    broker.kill();
    assert_eq!(Broker::start(&fs, &image).consumed("t"), (0, 3, "ABD".to_owned()));
}

#[test]
fn no_power_cut_leaves_files_of_a_new_topic_without_its_id() {
    for call in 0..60 {
        for seed in 0..4 {
            let fs = MemFs::new();
            let mut broker = Broker::start(&fs, &empty());
            broker.commit(&[created(1, "t", 1)]);
            broker.produce("t", 1, "A");
            broker.commit(&[removed(1)]);
            fs.fail_at(call, Fault::PowerCut);
            broker.commit(&[created(2, "t", 2)]);
            broker.kill();
            fs.crash(seed);
            let dir = data_dir(&fs);
            let segment = PathBuf::from("/data/wal/t/0/wal_0_0.log");
            if fs.exists(&segment).unwrap() {
                assert_eq!(dir.topic_id("t").unwrap(), Some(id(2)), "call {call} seed {seed}");
            }
        }
    }
}

#[test]
fn recovery_does_not_look_at_what_the_sync_journal_had_at_a_checkpoint() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[created(1, "t", 1)]);
    let partition = broker.partition("t");
    let is_journaled = || partition.with_log(|log| log.recovery_point() < log.durable_end());
    while !is_journaled() {
        broker.produce("t", 1, "A");
    }
    broker.host.write_checkpoints().unwrap();
    assert_eq!(on_file(&fs)[&TopicPartition::new("t", 0)].recovery_point, partition.position().log_end);
    // Nothing has moved since: the durable checkpoint stays as it is.
    let calls = fs.calls();
    broker.host.write_checkpoints().unwrap();
    let written = fs.calls() - calls;
    broker.produce("t", 1, "A");
    let calls = fs.calls();
    broker.host.write_checkpoints().unwrap();
    assert!(written < fs.calls() - calls, "{written}");
    drop(partition);
    broker.stop().unwrap();
}

#[test]
fn no_log_is_cut_that_keeps_an_earlier_checkpoint() {
    let fs = MemFs::new();
    let mut broker = Broker::start(&fs, &empty());
    broker.commit(&[created(1, "t", 1), created(2, "u", 1)]);
    broker.produce("t", 5, "A");
    broker.host.write_checkpoint_to_cut(&broker.partition("t")).unwrap();
    broker.partition("u").with_log(|log| log.fail(&io::Error::other("as a failed sync does")));
    broker.host.write_checkpoint_to_cut(&broker.partition("t")).unwrap();
    assert!(broker.host.write_checkpoint_to_cut(&broker.partition("u")).is_err());
    assert!(broker.stop().is_err());
}
