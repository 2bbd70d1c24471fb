//! Group commits through the sync journal: what it made durable is there after any end of a process or a machine, and
//! what was cut does not come back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_log::dir::{DataDir, DirError};
use chronik_log::fs::{Fault, Fs, MemFs, OpenMode};
use chronik_log::{Checkpoint, CommitError, Log, LogConfig, SyncJournal, SyncJournalLimits};
use chronik_model::{LeaderEpoch, NodeId, Offset, TopicId, TopicPartition, Uuid};

use crate::support::*;

const LOGS: i32 = 3;
/// From how many segments on a release syncs the file system.
const SYNC_ALL_FROM: usize = 3;
const LIMITS: SyncJournalLimits =
    SyncJournalLimits { file_bytes: 24 << 10, record_bytes: 8 << 10, entry_bytes: 1 << 10 };

fn topic_id() -> TopicId {
    TopicId(Uuid::from_random([9; 16]))
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 4000, sync_on_roll: true, ..small() }
}

/// What a broker does with its logs, in one thread.
struct Host {
    dir: DataDir,
    logs: Vec<Log>,
    journal: SyncJournal,
    lines: BTreeMap<TopicPartition, Checkpoint>,
}

/// Stands for any error of the disk: the machine is about to stop.
#[derive(Debug)]
struct Failed;

impl Host {
    fn start(fs: &MemFs) -> Result<Self, Failed> {
        let shared: Arc<dyn Fs> = Arc::new(fs.clone());
        let dir = DataDir::open(Arc::clone(&shared), "/data".into(), NodeId::new(1), Uuid::from_random([1; 16]));
        let dir = dir.map_err(|_| Failed)?;
        assert_eq!(dir.replayed().damage, []);
        let clean = dir.take_clean_stop().map_err(|_| Failed)?;
        let known = dir.read_checkpoints().map_err(|_| Failed)?;
        if dir.topic_id("t").map_err(|_| Failed)?.is_none() {
            dir.write_topic_id("t", topic_id()).map_err(|_| Failed)?;
        }
        let mut logs = Vec::new();
        for index in 0..LOGS {
            let name = TopicPartition::new("t", index);
            let (fs, path) = (Arc::clone(&shared), dir.partition_dir(&name));
            let log = if shared.exists(&path).map_err(|_| Failed)? {
                let of = known.of(&name, |_| true);
                let (log, found) = Log::open(fs, path, name, config(), of, clean, at(5000)).map_err(|_| Failed)?;
                assert!(!clean || found.scanned_bytes == 0);
                log
            } else {
                Log::create(fs, path, name, config(), false).map_err(|_| Failed)?
            };
            log.check_invariants();
            logs.push(log);
        }
        dir.sync_all().map_err(|_| Failed)?;
        logs.iter_mut().for_each(Log::synced_all);
        let journal = dir.sync_journal(LIMITS);
        Ok(Self { dir, logs, journal, lines: known.durable })
    }

    /// One group commit.
    fn commit(&mut self) -> Result<(), Failed> {
        let jobs: Vec<_> = (0..).zip(&self.logs).filter_map(|(at, log)| Some((at, log.flush_job()?))).collect();
        let (mut journaled, mut direct) = (Vec::new(), Vec::new());
        for (at, job) in jobs {
            let taken = self.journal.add(topic_id(), self.logs[at].topic_partition(), &job);
            if taken { &mut journaled } else { &mut direct }.push((at, job));
        }
        match self.journal.commit() {
            Ok(_) => journaled.into_iter().for_each(|(at, job)| self.logs[at].flushed(job.journaled())),
            Err(CommitError::Write(_)) => direct.extend(journaled),
            Err(CommitError::Sync(_)) => return Err(Failed),
        }
        for (at, job) in direct {
            job.run().map_err(|_| Failed)?;
            self.logs[at].flushed(job);
        }
        Ok(())
    }

    fn attend(&mut self) -> Result<(), Failed> {
        if let Some(wanted) = self.journal.wanted() {
            self.journal.prepared(wanted.run()).map_err(|_| Failed)?;
        }
        if let Some(release) = self.journal.full() {
            release.run(&self.dir, SYNC_ALL_FROM).map_err(|_| Failed)?;
            self.journal.released(&release).map_err(|_| Failed)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Failed> {
        let release = self.journal.everything();
        release.run(&self.dir, SYNC_ALL_FROM).map_err(|_| Failed)?;
        self.journal.synced(&release);
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), Failed> {
        self.sync()?;
        self.journal.renew().map_err(|_| Failed)?;
        for log in &mut self.logs {
            log.released();
            let line = log.checkpoint().map_err(|_| Failed)?;
            assert_eq!(line.recovery_point, log.durable_end());
            self.lines.insert(log.topic_partition().clone(), line);
        }
        self.dir.write_checkpoint(&self.lines).map_err(|_| Failed)
    }

    fn stop(mut self) -> Result<(), Failed> {
        self.sync()?;
        self.journal.close().map_err(|_| Failed)?;
        for log in &mut self.logs {
            log.released();
            self.lines.insert(log.topic_partition().clone(), log.close_cleanly().map_err(|_| Failed)?);
        }
        self.dir.write_checkpoint(&self.lines).map_err(|_| Failed)?;
        self.dir.mark_clean_stop().map_err(|_| Failed)
    }
}

/// What one log must have.
#[derive(Clone, Debug, Default)]
struct Model {
    epoch: i32,
    batches: Vec<(Offset, Vec<u8>)>,
    /// Acknowledged up to here, exclusive.
    acked: Offset,
    /// Offsets that a power cut tore before they were acknowledged, and that stay taken.
    torn: Vec<(Offset, Offset)>,
}

impl Model {
    fn holds(&self, log: &Log) -> Result<(), String> {
        let (found, damaged) = read_all(log, log.log_start(), 700);
        let expected: Vec<_> = self.batches.iter().filter(|(offset, _)| *offset >= log.log_start()).collect();
        let end = log.log_end();
        if end < self.acked {
            return Err(format!("ends at {end}, acknowledged up to {}", self.acked));
        }
        let known = |from: Offset| self.torn.iter().any(|torn| torn.0 <= from && from < torn.1);
        if let Some((from, to)) = damaged.iter().find(|(from, _)| *from < self.acked && !known(*from)) {
            return Err(format!("damaged from {from} to {to}, acknowledged up to {}", self.acked));
        }
        for (header, bytes) in &found {
            if !expected.iter().any(|(offset, expected)| *offset == header.base_offset && expected == bytes) {
                return Err(format!("has a batch at {} that it should not have", header.base_offset));
            }
        }
        let acked = expected.iter().filter(|(offset, _)| *offset < self.acked).count();
        let there = found.iter().filter(|(header, _)| header.base_offset < self.acked).count();
        if acked != there { Err(format!("has {there} batches of {acked}")) } else { Ok(()) }
    }
}

fn append_to(log: &mut Log, model: &mut Model, tag: u64, count: usize) -> Result<(), Failed> {
    let batch = batch(tag, count);
    let epoch = LeaderEpoch::new(model.epoch);
    // What fails may be there all the same.
    let base_offset = log.log_end();
    model.batches.push((base_offset, stored(&batch, base_offset, epoch)));
    log.append(&batch, epoch, at(2000)).map(drop).map_err(|_| Failed)
}

#[derive(Default)]
struct Seen {
    journaled: u64,
    replayed: u64,
    cuts: u64,
    clean: u64,
    refilled: u64,
}

/// One life.
fn live(host: &mut Host, models: &mut [Model], random: &mut Random, seen: &mut Seen) -> Result<(), Failed> {
    for _ in 0..random.below(120) {
        let at = random.below(LOGS as u64) as usize;
        match random.below(24) {
            0 => host.checkpoint()?,
            1..4 => {
                seen.refilled += u64::from(host.journal.is_full());
                host.attend()?;
            }
            4..12 => {
                let before: Vec<_> = host.logs.iter().map(|log| log.recovery_point()).collect();
                host.commit()?;
                for ((log, model), before) in host.logs.iter().zip(models.iter_mut()).zip(before) {
                    model.acked = log.durable_end();
                    assert_eq!(model.acked, log.log_end());
                    seen.journaled += u64::from(log.recovery_point() == before && model.acked > before);
                }
            }
            12 => {
                // A follower cuts what its leader does not have, as it is done in the broker.
                let log = &mut host.logs[at];
                let (from, to) = (log.log_start().get(), log.log_end().get());
                let wanted = o(from + random.below((to - from + 1) as u64) as i64);
                let end = log.prepare_cut(wanted).map_err(|_| Failed)?;
                let model = &mut models[at];
                model.acked = model.acked.min(end);
                host.checkpoint()?;
                host.logs[at].cut_aside(wanted, "test").map_err(|_| Failed)?;
                let model = &mut models[at];
                model.batches.retain(|(offset, _)| *offset < end);
                model.epoch += i32::from(random.below(2) == 0);
                seen.cuts += 1;
            }
            13 if random.below(3) == 0 => {
                let log = &mut host.logs[at];
                log.prepare_cut(log.first_segment()).map_err(|_| Failed)?;
                models[at].acked = Offset::ZERO;
                host.checkpoint()?;
                let base = random.below(3) as i64 * 20;
                host.logs[at].reset_to(o(base), None).map_err(|_| Failed)?;
                let epoch = models[at].epoch;
                models[at] = Model { epoch, acked: o(base), ..Model::default() };
                host.checkpoint()?;
                seen.cuts += 1;
            }
            _ => {
                let count = 1 + random.below(5) as usize;
                append_to(&mut host.logs[at], &mut models[at], random.below(60), count)?;
            }
        }
    }
    Ok(())
}

#[test]
fn no_end_takes_what_was_acknowledged_or_brings_back_what_was_cut() {
    let mut seen = Seen::default();
    for seed in 0..400 {
        let fs = MemFs::new();
        let mut random = Random(seed);
        let mut models = vec![Model::default(); LOGS as usize];
        for life in 0..6 {
            let context = format!("seed {seed} life {life}");
            // Now and then the machine stops in the middle of the start.
            if life > 0 && random.below(4) == 0 {
                fs.fail_at(random.below(12), Fault::PowerCut);
                drop(Host::start(&fs).ok());
                fs.crash(random.next());
            }
            let Ok(mut host) = Host::start(&fs) else { panic!("{context}: cannot start") };
            seen.replayed += host.dir.replayed().records;
            for (log, model) in host.logs.iter().zip(&mut models) {
                model.holds(log).unwrap_or_else(|what| panic!("{context}: {} {what}", log.topic_partition()));
                // What came back without having been acknowledged counts from now on.
                model.acked = log.durable_end();
                model.torn = log.damage().iter().map(|damage| (damage.offset, damage.offset_end)).collect();
                let is_torn = |offset: Offset| model.torn.iter().any(|torn| torn.0 <= offset && offset < torn.1);
                model.batches.retain(|(offset, _)| *offset < model.acked && !is_torn(*offset));
            }
            if random.below(2) == 0 {
                fs.fail_at(random.below(150), Fault::PowerCut);
            }
            match live(&mut host, &mut models, &mut random, &mut seen) {
                // In the middle of a cut it was made or it was not: below it everything is there either way.
                Err(Failed) => {
                    drop(host);
                    fs.crash(random.next());
                }
                Ok(()) => match random.below(4) {
                    0 if host.stop().is_ok() => {
                        seen.clean += 1;
                        assert!(!fs.exists(Path::new("/data/wal/sync-journal~0")).unwrap());
                        for model in &mut models {
                            model.acked = model.batches.last().map_or(model.acked, |last| last.0);
                        }
                        fs.heal();
                    }
                    1 => fs.heal(),
                    _ => fs.crash(random.next()),
                },
            }
        }
    }
    // It was all there to be seen.
    assert!(seen.journaled > 2_000 && seen.replayed > 200, "{} {}", seen.journaled, seen.replayed);
    assert!(
        seen.cuts > 200 && seen.clean > 100 && seen.refilled > 50,
        "{} {} {}",
        seen.cuts,
        seen.clean,
        seen.refilled
    );
}

/// A host whose journal is open, with one batch committed through it.
fn journaling(fs: &MemFs) -> (Host, Vec<Model>) {
    let mut host = Host::start(fs).unwrap();
    let mut models = vec![Model::default(); LOGS as usize];
    for tag in 0..4 {
        append_to(&mut host.logs[0], &mut models[0], tag, 2).unwrap();
        host.commit().unwrap();
        host.attend().unwrap();
    }
    models[0].acked = host.logs[0].log_end();
    assert!(host.logs[0].recovery_point() < host.logs[0].durable_end(), "nothing went through the journal");
    (host, models)
}

fn segment() -> PathBuf {
    PathBuf::from("/data/wal/t/0/wal_0_0.log")
}

#[test]
fn records_go_back_to_the_place_they_had() {
    let fs = MemFs::new();
    let (host, models) = journaling(&fs);
    drop(host);
    // A power cut at its worst: the file is there, and nothing in it that was not synced.
    fs.open(&segment(), OpenMode::Write).unwrap().set_len(0).unwrap();
    fs.heal();
    let host = Host::start(&fs).unwrap();
    assert!(host.dir.replayed().records > 0);
    assert_eq!(host.dir.replayed().segments.iter().collect::<Vec<_>>(), [&segment()]);
    // The first two batches were synced in place, so they are not in the journal.
    let file = fs.open(&segment(), OpenMode::Read).unwrap();
    let mut position = 0;
    for (number, (_, bytes)) in models[0].batches.iter().enumerate() {
        let mut found = vec![0; bytes.len()];
        file.read_exact_at(&mut found, position).unwrap();
        assert_eq!(&found == bytes, number >= 2);
        position += bytes.len() as u64;
    }
}

#[test]
fn another_topic_of_the_name_and_a_segment_that_is_gone_get_nothing() {
    for gone in [false, true] {
        let fs = MemFs::new();
        let (host, _) = journaling(&fs);
        if gone {
            drop(host);
            fs.remove_file(&segment()).unwrap();
        } else {
            host.dir.write_topic_id("t", TopicId(Uuid::from_random([8; 16]))).unwrap();
            drop(host);
        }
        fs.heal();
        let shared: Arc<dyn Fs> = Arc::new(fs.clone());
        let dir = DataDir::open(shared, "/data".into(), NodeId::new(1), Uuid::from_random([1; 16])).unwrap();
        assert!(dir.replayed().records > 0);
        assert_eq!(dir.replayed().bytes, 0);
        assert_eq!(fs.exists(&segment()).unwrap(), !gone);
    }
}

#[test]
fn a_damaged_record_is_reported_and_those_behind_it_are_replayed() {
    let fs = MemFs::new();
    let (host, _) = journaling(&fs);
    drop(host);
    let path = PathBuf::from("/data/wal/sync-journal~0");
    fs.flip(&path, 60, 2);
    fs.heal();
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let dir = DataDir::open(shared, "/data".into(), NodeId::new(1), Uuid::from_random([1; 16])).unwrap();
    assert_eq!(dir.replayed().damage, [(path, 0)]);
    assert_eq!(dir.replayed().records, 1);
}

#[test]
fn nothing_starts_where_nobody_can_tell_what_counts() {
    let fs = MemFs::new();
    let (host, _) = journaling(&fs);
    drop(host);
    let path = PathBuf::from("/data/wal/sync-journal~fillings");
    fs.flip(&path, 30, 2);
    fs.heal();
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let opened = DataDir::open(shared, "/data".into(), NodeId::new(1), Uuid::from_random([1; 16]));
    match opened {
        Err(DirError::BadSyncJournal { path: named }) => assert_eq!(named, path),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_journal_that_cannot_be_written_leaves_the_syncs_to_the_segments() {
    let fs = MemFs::new();
    let (mut host, mut models) = journaling(&fs);
    append_to(&mut host.logs[0], &mut models[0], 9, 1).unwrap();
    fs.fail_at(0, Fault::NoSpace);
    host.commit().unwrap();
    assert_eq!(host.logs[0].recovery_point(), host.logs[0].log_end());
    // Until a checkpoint, then it is tried again.
    for round in 0..3 {
        host.attend().unwrap();
        append_to(&mut host.logs[0], &mut models[0], 10 + round, 1).unwrap();
        host.commit().unwrap();
        assert_eq!(host.logs[0].recovery_point(), host.logs[0].log_end());
    }
    host.checkpoint().unwrap();
    for round in 0..2 {
        append_to(&mut host.logs[0], &mut models[0], 20 + round, 1).unwrap();
        host.commit().unwrap();
        host.attend().unwrap();
    }
    append_to(&mut host.logs[0], &mut models[0], 30, 1).unwrap();
    host.commit().unwrap();
    assert!(host.logs[0].recovery_point() < host.logs[0].durable_end());
}

#[test]
fn large_appends_and_new_files_are_synced_where_they_lie() {
    let fs = MemFs::new();
    let (mut host, mut models) = journaling(&fs);
    // More than an entry may have.
    for tag in 0..8 {
        append_to(&mut host.logs[1], &mut models[1], 60 + tag, 5).unwrap();
    }
    host.commit().unwrap();
    assert_eq!(host.logs[1].recovery_point(), host.logs[1].log_end());
    // A segment that was begun.
    let segments = host.logs[0].segments_count();
    while host.logs[0].segments_count() == segments {
        append_to(&mut host.logs[0], &mut models[0], 50, 4).unwrap();
    }
    host.commit().unwrap();
    assert_eq!(host.logs[0].recovery_point(), host.logs[0].log_end());
}

#[test]
fn nothing_is_added_to_what_may_not_count() {
    for call in 0..6 {
        for seed in 0..20 {
            let fs = MemFs::new();
            let (mut host, mut models) = journaling(&fs);
            host.sync().unwrap();
            fs.fail_at(call, Fault::Io);
            let renewed = host.journal.renew();
            fs.heal();
            for tag in 20..23 {
                append_to(&mut host.logs[0], &mut models[0], tag, 1).unwrap();
                host.commit().unwrap();
                models[0].acked = host.logs[0].durable_end();
            }
            assert_eq!(models[0].acked, host.logs[0].log_end());
            drop(host);
            fs.crash(seed);
            let host = Host::start(&fs).unwrap();
            let held = models[0].holds(&host.logs[0]);
            held.unwrap_or_else(|what| panic!("call {call} seed {seed}, renewed {}: {what}", renewed.is_ok()));
        }
    }
}

#[test]
fn nothing_is_forgotten_while_somebody_else_syncs_it() {
    let fs = MemFs::new();
    let (mut host, mut models) = journaling(&fs);
    // Given out, and not synced yet.
    let under_way = host.journal.everything();
    assert!(host.journal.renew().is_err());
    assert_eq!(host.journal.everything().partitions().count(), 1);
    // What is added meanwhile is not covered.
    append_to(&mut host.logs[0], &mut models[0], 9, 1).unwrap();
    host.commit().unwrap();
    under_way.run(&host.dir, SYNC_ALL_FROM).unwrap();
    host.journal.synced(&under_way);
    assert!(host.journal.renew().is_err());
    host.checkpoint().unwrap();
}

#[test]
fn while_both_files_wait_to_be_released_nothing_waits_for_them() {
    let fs = MemFs::new();
    let (mut host, mut models) = journaling(&fs);
    for tag in 0..40 {
        append_to(&mut host.logs[2], &mut models[2], tag, 1).unwrap();
        host.commit().unwrap();
        models[2].acked = host.logs[2].durable_end();
        assert_eq!(models[2].acked, host.logs[2].log_end());
    }
    assert!(host.journal.is_full());
    assert_eq!(host.logs[2].recovery_point(), host.logs[2].log_end());
    drop(host);
    fs.crash(3);
    let host = Host::start(&fs).unwrap();
    models[2].holds(&host.logs[2]).unwrap();
}

#[test]
fn numbers_that_are_given_again_find_no_record_of_the_earlier_ones() {
    let fs = MemFs::new();
    let (host, _) = journaling(&fs);
    drop(host);
    fs.heal();
    // As it is done where the file is damaged.
    fs.remove_file(Path::new("/data/wal/sync-journal~fillings")).unwrap();
    let mut host = Host::start(&fs).unwrap();
    assert_eq!(host.dir.replayed().records, 0);
    let mut model = Model { epoch: 1, ..Model::default() };
    for tag in 0..2 {
        append_to(&mut host.logs[0], &mut model, tag, 2).unwrap();
        host.commit().unwrap();
    }
    host.attend().unwrap();
    for slot in 0..2 {
        let path = PathBuf::from(format!("/data/wal/sync-journal~{slot}"));
        let mut found = vec![1; LIMITS.file_bytes as usize];
        fs.open(&path, OpenMode::Read).unwrap().read_exact_at(&mut found, 0).unwrap();
        assert!(found.iter().all(|byte| *byte == 0), "{slot}");
    }
}

#[test]
fn a_journal_whose_sync_failed_is_not_used_again() {
    let fs = MemFs::new();
    let (mut host, mut models) = journaling(&fs);
    while !host.journal.is_full() {
        append_to(&mut host.logs[0], &mut models[0], 9, 2).unwrap();
        host.commit().unwrap();
    }
    let release = host.journal.full().unwrap();
    append_to(&mut host.logs[0], &mut models[0], 9, 2).unwrap();
    fs.fail_sync_at(0);
    assert!(host.commit().is_err());
    release.run(&host.dir, SYNC_ALL_FROM).unwrap();
    // That it is free cannot be written down either.
    fs.fail_at(0, Fault::Io);
    assert!(host.journal.released(&release).is_err());
    fs.heal();
    host.sync().unwrap();
    host.journal.renew().unwrap();
    for tag in 0..3 {
        append_to(&mut host.logs[1], &mut models[1], tag, 2).unwrap();
        host.commit().unwrap();
        assert!(!host.journal.is_wanted());
    }
}
