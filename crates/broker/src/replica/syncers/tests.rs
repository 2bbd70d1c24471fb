//! That several files are synced at once, and each partition hears of its own sync.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chronik_model::Offset;

use super::*;
use crate::hooked_fs::{Hooks, hooked};
use crate::replica::Committed;
use crate::replica::flusher::FlushQueue;
use crate::replica::flusher::tests::{batch, data_dir, partition};

/// Far more than a thread needs to wake.
const BOUND: Duration = Duration::from_secs(20);

/// Once armed, holds each sync up until another one has come, or fails the first.
#[derive(Debug, Default)]
struct Meeting {
    armed: AtomicBool,
    fails_first: AtomicBool,
    syncing: Mutex<usize>,
    came: Condvar,
}

impl Hooks for Meeting {
    fn sync(&self, _: &Path, sync: &dyn Fn() -> io::Result<()>) -> io::Result<()> {
        if self.fails_first.swap(false, Ordering::SeqCst) {
            return Err(io::Error::other("the disk is gone"));
        }
        if self.armed.load(Ordering::SeqCst) {
            let mut syncing = self.syncing.lock();
            *syncing += 1;
            self.came.notify_all();
            while *syncing < 2 {
                assert!(!self.came.wait_for(&mut syncing, BOUND).timed_out(), "one file is synced after the other");
            }
        }
        sync()
    }
}

#[test]
fn files_of_several_partitions_are_synced_at_once() {
    let meeting = Arc::new(Meeting::default());
    let fs = hooked(&meeting);
    let dir = data_dir(&fs);
    let queue = Arc::new(FlushQueue::default());
    let syncers = Arc::new(Syncers::default());
    let threads = syncers.start(&dir).unwrap();
    let partitions: Vec<_> = (0..6).map(|index| partition(&fs, &dir, &queue, index)).collect();
    let (batch, now) = batch();
    meeting.armed.store(true, Ordering::SeqCst);
    for partition in &partitions {
        partition.append(&batch, now, false).unwrap();
    }
    syncers.run(partitions.iter().map(|p| (Arc::clone(p), p.take_flush_job().unwrap())).collect(), &dir);
    for partition in &partitions {
        assert_eq!(partition.position().durable_end, Offset::new(1), "it was told before the call returned");
    }
    syncers.stop();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_failed_sync_is_told_to_its_own_partition_alone() {
    let meeting = Arc::new(Meeting::default());
    let fs = hooked(&meeting);
    let dir = data_dir(&fs);
    let queue = Arc::new(FlushQueue::default());
    let syncers = Arc::new(Syncers::default());
    let partitions: Vec<_> = (0..3).map(|index| partition(&fs, &dir, &queue, index)).collect();
    let (batch, now) = batch();
    let waiting: Vec<_> = partitions.iter().map(|p| p.append(&batch, now, true).unwrap().1).collect();
    meeting.fails_first.store(true, Ordering::SeqCst);
    // Without threads of its own the caller does it all, in order.
    syncers.run(partitions.iter().map(|p| (Arc::clone(p), p.take_flush_job().unwrap())).collect(), &dir);
    let outcomes: Vec<_> = waiting
        .into_iter()
        .map(|committed| match committed {
            Committed::Later(mut receiver) => receiver.try_recv().unwrap().is_ok(),
            Committed::Now => panic!("nothing is durable before it is synced"),
        })
        .collect();
    assert_eq!(outcomes, [false, true, true]);
    assert!(partitions[0].is_offline() && !partitions[1].is_offline());
}
