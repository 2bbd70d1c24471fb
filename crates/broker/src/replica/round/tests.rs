//! That small appends of many partitions share a sync, and what happens to them when one fails.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chronik_log::SyncJournalLimits;
use chronik_log::fs::Fs;
use chronik_model::{Instant, LeaderEpoch, NodeId, Offset, Uuid};
use chronik_replication::isr::Assignment;

use super::*;
use crate::hooked_fs::{Hooks, hooked};
use crate::replica::flusher::FlushQueue;
use crate::replica::flusher::tests::{batch, data_dir, partition};

const PARTITIONS: i32 = 5;

/// Counts syncs of files, and lets them fail.
#[derive(Debug, Default)]
struct Syncs {
    count: AtomicUsize,
    fail_next: AtomicBool,
}

impl Hooks for Syncs {
    fn sync(&self, _: &Path, sync: &dyn Fn() -> io::Result<()>) -> io::Result<()> {
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.fail_next.swap(false, Ordering::SeqCst) {
            return Err(io::Error::other("the disk is gone"));
        }
        sync()
    }
}

struct Broker {
    syncs: Arc<Syncs>,
    fs: Arc<dyn Fs>,
    dir: Arc<DataDir>,
    queue: Arc<FlushQueue>,
    partitions: VecDeque<Arc<Partition>>,
}

impl Broker {
    /// Partitions whose next appends go through the journal.
    fn journaling() -> Self {
        let syncs = Arc::new(Syncs::default());
        let fs = hooked(&syncs);
        let dir = data_dir(&fs);
        let queue = Arc::new(FlushQueue::default());
        let partitions = (0..PARTITIONS).map(|index| partition(&fs, &dir, &queue, index)).collect();
        let limits = SyncJournalLimits { file_bytes: 16 << 10, record_bytes: 4 << 10, ..SyncJournalLimits::default() };
        queue.round().use_journal(dir.sync_journal(limits));
        let broker = Self { syncs, fs, dir, queue, partitions };
        // The first batch of an epoch has more to sync than bytes, the second finds no journal.
        for _ in 0..2 {
            broker.append();
            broker.commit();
            assert!(broker.all_durable());
        }
        let wanted = broker.queue.round().wanted().unwrap();
        broker.queue.round().prepared(wanted.run());
        broker
    }

    fn append(&self) {
        let (batch, now) = batch();
        self.partitions.iter().for_each(|partition| drop(partition.append(&batch, now, false).unwrap()));
    }

    /// A group commit; returns how many files were synced.
    fn commit(&self) -> usize {
        let before = self.syncs.count.load(Ordering::SeqCst);
        self.queue.round().commit(&self.partitions, &self.dir);
        self.syncs.count.load(Ordering::SeqCst) - before
    }

    fn all_durable(&self) -> bool {
        self.partitions.iter().all(|partition| {
            let position = partition.position();
            position.durable_end == position.log_end
        })
    }

    /// What a process that comes after this one finds in the journal.
    fn left_in_journal(self) -> u64 {
        let Self { fs, dir, queue, partitions, .. } = self;
        drop((queue, partitions, dir));
        let dir = DataDir::open(fs, "/data".into(), NodeId::new(1), Uuid::from_random([1; 16])).unwrap();
        dir.replayed().records
    }
}

#[test]
fn small_appends_of_all_partitions_share_a_sync() {
    let broker = Broker::journaling();
    for _ in 0..3 {
        broker.append();
        assert!(!broker.all_durable());
        assert_eq!(broker.commit(), 1);
        assert!(broker.all_durable());
    }
    assert_eq!(broker.left_in_journal(), 3);
}

#[test]
fn a_round_says_how_much_it_wrote_to_the_journal() {
    let broker = Broker::journaling();
    assert_eq!(broker.queue.round().commit(&broker.partitions, &broker.dir), 0);
    broker.append();
    let written = broker.queue.round().commit(&broker.partitions, &broker.dir);
    assert!(written > PARTITIONS as usize * batch().0.bytes().len(), "{written}");
}

#[test]
fn a_full_file_is_released_and_filled_anew() {
    let broker = Broker::journaling();
    let mut released = 0;
    for _ in 0..40 {
        broker.append();
        assert_eq!(broker.commit(), 1);
        let full = broker.queue.round().full();
        if let Some(full) = full {
            let outcome = full.run(&broker.dir, 100);
            assert!(broker.queue.round().released(&full, outcome, &broker.dir));
            released += 1;
        }
    }
    assert!(released > 5, "{released}");
    assert!(broker.left_in_journal() <= 8);
}

#[test]
fn nothing_is_left_in_an_emptied_journal() {
    let broker = Broker::journaling();
    broker.append();
    broker.commit();
    broker.queue.round().empty_journal(false, &broker.dir).unwrap();
    for partition in &broker.partitions {
        partition.with_log(|log| assert_eq!(log.recovery_point(), log.log_end()));
    }
    broker.append();
    assert_eq!(broker.commit(), 1, "it goes on");
    broker.queue.round().empty_journal(true, &broker.dir).unwrap();
    broker.append();
    assert_eq!(broker.commit(), PARTITIONS as usize, "it has ended");
    assert!(!broker.fs.exists(Path::new("/data/wal/sync-journal~0")).unwrap());
    assert_eq!(broker.left_in_journal(), 0);
}

#[test]
fn a_sync_of_the_journal_that_fails_takes_its_partitions_offline() {
    let broker = Broker::journaling();
    broker.append();
    broker.syncs.fail_next.store(true, Ordering::SeqCst);
    broker.commit();
    assert!(broker.partitions.iter().all(|partition| partition.is_offline() && partition.sync_failed()));
    assert!(!broker.all_durable());
}

#[test]
fn a_release_that_fails_takes_its_partitions_offline_and_keeps_what_the_journal_has() {
    let broker = Broker::journaling();
    broker.append();
    broker.commit();
    broker.syncs.fail_next.store(true, Ordering::SeqCst);
    assert!(broker.queue.round().empty_journal(false, &broker.dir).is_err());
    assert!(broker.partitions.iter().all(|partition| partition.is_offline()));
    // A sync that succeeds now proves nothing.
    assert!(broker.queue.round().empty_journal(false, &broker.dir).is_err());
    assert_eq!(broker.left_in_journal(), 1);
}

#[test]
fn what_the_journal_has_of_a_log_stays_after_a_sync_of_the_log_has_failed() {
    let broker = Broker::journaling();
    broker.append();
    broker.commit();
    // Too much for the journal: synced where it lies, and what was not synced before is lost with it.
    let partition = broker.partitions.front().unwrap();
    let (batch, now) = batch();
    (0..60).for_each(|_| drop(partition.append(&batch, now, false).unwrap()));
    broker.syncs.fail_next.store(true, Ordering::SeqCst);
    broker.commit();
    assert!(partition.sync_failed());
    assert!(broker.queue.round().empty_journal(false, &broker.dir).is_err());
    assert_eq!(broker.left_in_journal(), 1);
}

#[test]
fn a_log_that_is_given_up_while_its_files_are_synced_fails_no_other() {
    let broker = Broker::journaling();
    broker.append();
    broker.commit();
    let partition = broker.partitions.front().unwrap();
    // A new leader epoch: its file and the directory have to be synced as well.
    let assignment = Assignment::alone(NodeId::new(1), LeaderEpoch::new(1));
    partition.lead(assignment, Offset::ZERO, Instant::ORIGIN);
    let (batch, now) = batch();
    drop(partition.append(&batch, now, false).unwrap());
    let job = partition.take_flush_job().unwrap();
    assert!(job.syncs() >= 3, "{job:?}");
    partition.give_up();
    let outcome = job.run();
    partition.flushed(job, outcome);
    broker.queue.round().empty_journal(false, &broker.dir).unwrap();
    assert!(broker.partitions.iter().skip(1).all(|partition| !partition.is_offline()));
}
