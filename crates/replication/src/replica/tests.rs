//! A replica that leads alone, over an in-memory disk.

use std::path::PathBuf;
use std::sync::Arc;

use chronik_log::fs::{Fault, Fs, MemFs};
use chronik_model::TopicPartition;
use chronik_record::{BatchBuilder, Compression, TimestampType};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn replica(fs: &Arc<MemFs>, durability: Durability) -> Replica<u32> {
    let fs: Arc<dyn Fs> = Arc::clone(fs) as Arc<dyn Fs>;
    let dir = PathBuf::from("/data/wal/t/0");
    let log = Log::create(fs, dir, TopicPartition::new("t", 0), LogConfig::default(), true).unwrap();
    Replica::lead(log, LeaderEpoch::ZERO, durability)
}

fn batch(records: usize) -> ProducedBatch {
    let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, NOW);
    for _ in 0..records {
        builder.append(NOW, Some(b"key"), Some(b"value"), &[]);
    }
    builder.build().unwrap()
}

fn flush(replica: &mut Replica<u32>, effects: &mut Vec<Effect<u32>>) {
    let job = replica.flush_job().unwrap();
    let outcome = job.run();
    replica.flushed(job, outcome, effects);
}

fn acknowledged(effects: &[Effect<u32>]) -> Vec<u32> {
    effects.iter().filter_map(|e| if let Effect::Acknowledged(token) = e { Some(*token) } else { None }).collect()
}

#[test]
fn with_fsync_the_high_watermark_waits_for_the_flush() {
    let fs = Arc::new(MemFs::new());
    let mut replica = replica(&fs, Durability::Fsync);
    let mut effects = Vec::new();
    let appended = replica.append(&batch(3), Acks::All, NOW, &mut effects).unwrap();
    replica.await_committed(appended.next_offset, 7, &mut effects);
    assert!(matches!(effects.as_slice(), [Effect::FlushWanted]), "{effects:?}");
    assert_eq!(replica.high_watermark(), Offset::ZERO);
    effects.clear();
    flush(&mut replica, &mut effects);
    assert_eq!((acknowledged(&effects), replica.high_watermark()), (vec![7], Offset::new(3)));
    assert!(matches!(effects.last(), Some(Effect::HighWatermarkMoved(to)) if *to == Offset::new(3)));
}

#[test]
fn with_page_cache_an_append_is_committed_at_once() {
    let fs = Arc::new(MemFs::new());
    let mut replica = replica(&fs, Durability::PageCache);
    let mut effects = Vec::new();
    let appended = replica.append(&batch(2), Acks::All, NOW, &mut effects).unwrap();
    replica.await_committed(appended.next_offset, 1, &mut effects);
    assert_eq!((acknowledged(&effects), replica.parked()), (vec![1], 0));
}

#[test]
fn a_flush_covers_only_what_was_written_when_it_was_cut() {
    let fs = Arc::new(MemFs::new());
    let mut replica = replica(&fs, Durability::Fsync);
    let mut effects = Vec::new();
    let first = replica.append(&batch(1), Acks::All, NOW, &mut effects).unwrap();
    replica.await_committed(first.next_offset, 1, &mut effects);
    let job = replica.flush_job().unwrap();
    let second = replica.append(&batch(1), Acks::All, NOW, &mut effects).unwrap();
    replica.await_committed(second.next_offset, 2, &mut effects);
    let outcome = job.run();
    replica.flushed(job, outcome, &mut effects);
    assert_eq!((acknowledged(&effects), replica.parked()), (vec![1], 1));
    flush(&mut replica, &mut effects);
    assert_eq!(acknowledged(&effects), [1, 2]);
}

#[test]
fn a_failed_sync_refuses_everything_parked_and_is_never_tried_again() {
    let fs = Arc::new(MemFs::new());
    let mut replica = replica(&fs, Durability::Fsync);
    let mut effects = Vec::new();
    let appended = replica.append(&batch(1), Acks::All, NOW, &mut effects).unwrap();
    replica.await_committed(appended.next_offset, 9, &mut effects);
    fs.fail_at(0, Fault::Io);
    let job = replica.flush_job().unwrap();
    let outcome = job.run();
    assert!(outcome.is_err(), "the fault was injected");
    effects.clear();
    replica.flushed(job, outcome, &mut effects);
    assert!(matches!(effects.as_slice(), [Effect::Refused(9, Unacknowledged::Offline)]), "{effects:?}");
    fs.heal();
    assert!(replica.flush_job().is_none());
    assert!(replica.append(&batch(1), Acks::All, NOW, &mut effects).is_err());
    effects.clear();
    replica.await_committed(appended.next_offset, 10, &mut effects);
    assert!(matches!(effects.as_slice(), [Effect::Refused(10, Unacknowledged::Offline)]), "{effects:?}");
    assert_eq!(replica.high_watermark(), Offset::ZERO);
}

#[test]
fn maintenance_that_takes_the_log_offline_refuses_what_waits() {
    let fs = Arc::new(MemFs::new());
    let mut replica = replica(&fs, Durability::Fsync);
    let mut effects = Vec::new();
    let appended = replica.append(&batch(1), Acks::All, NOW, &mut effects).unwrap();
    replica.await_committed(appended.next_offset, 4, &mut effects);
    effects.clear();
    replica.settle(&mut effects);
    assert!(effects.is_empty(), "{effects:?}");
    fs.fail_at(0, Fault::Io);
    assert!(replica.log_mut().close_cleanly().is_err());
    replica.settle(&mut effects);
    assert!(matches!(effects.as_slice(), [Effect::Refused(4, Unacknowledged::Offline)]), "{effects:?}");
}

#[test]
fn a_closed_replica_refuses_what_waits_and_what_comes() {
    let fs = Arc::new(MemFs::new());
    let mut replica = replica(&fs, Durability::Fsync);
    let mut effects = Vec::new();
    let appended = replica.append(&batch(1), Acks::All, NOW, &mut effects).unwrap();
    replica.await_committed(appended.next_offset, 1, &mut effects);
    effects.clear();
    replica.close(&mut effects);
    replica.await_committed(appended.next_offset, 2, &mut effects);
    let refused = [Unacknowledged::Closed; 2];
    let causes: Vec<_> =
        effects.iter().filter_map(|e| if let Effect::Refused(_, cause) = e { Some(*cause) } else { None }).collect();
    assert_eq!(causes, refused);
}

#[test]
fn a_change_to_page_cache_commits_what_is_written() {
    let fs = Arc::new(MemFs::new());
    let mut replica = replica(&fs, Durability::Fsync);
    let mut effects = Vec::new();
    let appended = replica.append(&batch(4), Acks::All, NOW, &mut effects).unwrap();
    replica.await_committed(appended.next_offset, 5, &mut effects);
    effects.clear();
    replica.reconfigure(LogConfig::default(), Durability::PageCache, &mut effects);
    assert_eq!((acknowledged(&effects), replica.high_watermark()), (vec![5], Offset::new(4)));
}
