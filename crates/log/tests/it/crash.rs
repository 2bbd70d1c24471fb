//! The machine stops, the disk fills or fails at every single call of a workload, and once more during recovery. What was
//! flushed is there, what is served was written, offsets have no holes but reported ones.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chronik_log::fs::{Fault, Fs, MemFs};
use chronik_log::{Checkpoint, Log, LogConfig, checkpoint};
use chronik_model::{LeaderEpoch, Offset};

use crate::support::*;

const DATA: &str = "/data";

/// What a log may and must hold.
#[derive(Clone, Default)]
struct Expected {
    /// Bytes that were handed to an append at an offset, by base offset.
    written: BTreeMap<Offset, Vec<u8>>,
    /// Everything below was flushed, exclusive.
    flushed: Offset,
    log_start: Offset,
    /// Ranges that a recovery found damaged when they were not flushed yet.
    damaged: Vec<(Offset, Offset)>,
    next_tag: u64,
}

/// One life of a process: appends, flushes, checkpoints, retention, until the plan ends or the disk fails.
fn live(fs: &MemFs, log: &mut Log, expected: &mut Expected, random: &mut Random, steps: u64) {
    for _ in 0..steps {
        match random.below(12) {
            0..=6 => {
                let tag = expected.next_tag;
                expected.next_tag += 1;
                let count = 1 + (tag % 4) as i32;
                let produced = if tag.is_multiple_of(3) {
                    // Sequences follow from what the producer has in the log, as a client's would.
                    let last = log.producers().first().map_or(-1, |producer| producer.last_sequence.get());
                    idempotent(7, 0, last + 1, count as usize)
                } else {
                    batch(tag, count as usize)
                };
                let leader_epoch = log.reader().latest_epoch().unwrap_or(EPOCH);
                let leader_epoch = LeaderEpoch::new(leader_epoch.get() + i32::from(tag.is_multiple_of(17)));
                let end = log.log_end();
                expected.written.insert(end, stored(&produced, end, leader_epoch));
                if log.append(&produced, leader_epoch, at(0)).is_err() {
                    return;
                }
            }
            7..=9 => {
                if log.flush().is_err() {
                    return;
                }
                expected.flushed = log.durable_end();
                log.set_high_watermark(log.durable_end());
            }
            10 => {
                let Ok(at) = log.checkpoint() else { return };
                if checkpoint::write(fs, Path::new(DATA), [(&tp(), &at)]).is_err() {
                    return;
                }
                assert!(at.recovery_point <= expected.flushed);
            }
            _ => {
                let high_watermark = log.high_watermark().get();
                if high_watermark > 40 {
                    let wanted = o(high_watermark - 40);
                    let Ok(log_start) = log.delete_records_before(wanted) else { return };
                    // May or may not survive, like any log start that no checkpoint holds.
                    expected.log_start = expected.log_start.max(log_start);
                    if log.apply_retention(at(0)).is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn read_checkpoint(fs: &MemFs) -> Option<Checkpoint> {
    checkpoint::read(fs, Path::new(DATA)).unwrap().and_then(|all| all.get(&tp()).copied())
}

/// Opens after a crash and checks the log against what is expected, which then takes what was found as given.
fn reopen(fs: &MemFs, config: &LogConfig, expected: &mut Expected, context: &str) -> Log {
    let from = read_checkpoint(fs);
    let (mut log, recovered) = open(fs, config.clone(), from, false);
    assert!(log.log_start() <= expected.log_start.max(Offset::ZERO), "{context}: log start {}", log.log_start());
    assert!(log.log_end() >= expected.flushed, "{context}: ends at {} before {}", log.log_end(), expected.flushed);
    let (batches, damaged) = read_all(&log, log.log_start(), 700);
    for (header, bytes) in &batches {
        assert_eq!(
            expected.written.get(&header.base_offset),
            Some(bytes),
            "{context}: offset {} was never written so",
            header.base_offset
        );
    }
    for (from, to) in damaged {
        let known = expected.damaged.iter().any(|range| range.0 <= from && to <= range.1);
        assert!(known || from >= expected.flushed, "{context}: flushed {from}..{to} is damaged: {recovered:?}");
        expected.damaged.push((from, to));
    }
    if recovered.needs_sync {
        fs.sync_all(Path::new(DATA)).unwrap();
        log.synced_all();
    }
    expected.flushed = log.durable_end();
    expected.log_start = log.log_start();
    expected.written.retain(|offset, _| *offset < log.log_end());
    log.set_high_watermark(log.durable_end());
    log
}

fn prepared(config: &LogConfig) -> (MemFs, Log) {
    let fs = disk();
    let log = create(&fs, config.clone());
    (fs, log)
}

/// Runs one life with a fault at one call, a crash, a second life, a second crash. Returns how many calls a life makes.
fn round(seed: u64, fault_at: Option<(u64, Fault)>, config: &LogConfig) -> u64 {
    let context = format!("seed {seed} fault {fault_at:?}");
    let (fs, mut log) = prepared(config);
    let mut random = Random(seed);
    let mut expected = Expected::default();
    let calls_before = fs.calls();
    if let Some((call, fault)) = fault_at {
        fs.fail_at(call, fault);
    }
    live(&fs, &mut log, &mut expected, &mut random, 60);
    let calls = fs.calls() - calls_before;
    drop(log);
    fs.crash(seed.wrapping_mul(31) ^ fault_at.map_or(0, |(call, _)| call));

    let mut log = reopen(&fs, config, &mut expected, &format!("{context} first"));
    live(&fs, &mut log, &mut expected, &mut random, 30);
    drop(log);
    fs.crash(seed ^ 77);
    let log = reopen(&fs, config, &mut expected, &format!("{context} second"));
    drop(log);
    calls
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 1500, ..small() }
}

#[test]
fn a_power_cut_at_every_call_loses_nothing_flushed() {
    for seed in 0..3 {
        let calls = round(seed, None, &config());
        for call in 0..calls {
            round(seed, Some((call, Fault::PowerCut)), &config());
        }
    }
}

#[test]
fn a_full_or_failing_disk_at_every_call_loses_nothing_flushed() {
    for seed in 100..102 {
        let calls = round(seed, None, &config());
        for call in 0..calls {
            round(seed, Some((call, Fault::NoSpace)), &config());
            round(seed, Some((call, Fault::Io)), &config());
        }
    }
}

#[test]
fn many_crashes_of_one_log_lose_nothing_flushed() {
    for seed in 0..40 {
        let (fs, mut log) = prepared(&config());
        let mut random = Random(seed);
        let mut expected = Expected::default();
        for life in 0..6 {
            if random.below(2) == 0 {
                fs.fail_at(random.below(80), Fault::PowerCut);
            }
            live(&fs, &mut log, &mut expected, &mut random, 40);
            fs.crash(seed * 100 + life);
            log = reopen(&fs, &config(), &mut expected, &format!("seed {seed} life {life}"));
        }
    }
}

#[test]
fn a_power_cut_during_recovery_changes_nothing() {
    for seed in 0..8 {
        for call in 0..12 {
            let (fs, mut log) = prepared(&config());
            let mut random = Random(seed);
            let mut expected = Expected::default();
            live(&fs, &mut log, &mut expected, &mut random, 50);
            fs.crash(seed);
            fs.fail_at(call, Fault::PowerCut);
            let opened = Log::open(
                Arc::new(fs.clone()),
                DIR.into(),
                tp(),
                config(),
                read_checkpoint(&fs.duplicate()),
                false,
                at(5000),
            );
            drop(opened);
            fs.crash(seed + 1000);
            reopen(&fs, &config(), &mut expected, &format!("seed {seed} call {call}"));
        }
    }
}

#[test]
fn a_sync_that_fails_is_not_repeated_until_it_succeeds() {
    for seed in 0..20 {
        let (fs, mut log) = prepared(&config());
        append(&mut log, 1, 2);
        log.flush().unwrap();
        let durable = log.durable_end();
        append(&mut log, 2, 2);
        // The disk drops the pages and reports success the next time.
        fs.fail_at(0, Fault::Io);
        assert!(log.flush().is_err());
        assert!(log.flush().is_err());
        assert_eq!(log.durable_end(), durable);
        fs.crash(seed);
        let mut expected = Expected { flushed: durable, ..Expected::default() };
        expected.written.insert(o(0), stored(&batch(1, 2), o(0), EPOCH));
        expected.written.insert(o(2), stored(&batch(2, 2), o(2), EPOCH));
        reopen(&fs, &config(), &mut expected, "sticky");
    }
}

#[test]
fn a_power_cut_without_any_flush_tears_the_last_segment_alone() {
    for seed in 0..100 {
        let fs = disk();
        let mut log = create(&fs, config());
        let mut tag = 0;
        while log.segments_count() < 4 {
            append(&mut log, tag, 3);
            tag += 1;
        }
        drop(log);
        fs.crash(seed);
        let (_log, recovered) = open(&fs, config(), None, false);
        let base = |file: &Path| -> Option<i64> {
            file.file_name()?.to_str()?.strip_suffix(".log")?.rsplit('_').next()?.parse().ok()
        };
        let last = fs.files().iter().filter_map(|(file, _)| base(file)).max().unwrap();
        for damage in &recovered.damage {
            assert_eq!(base(&damage.file), Some(last), "seed {seed}: {damage} in a segment that was rolled");
        }
    }
}

#[test]
fn a_restart_after_a_failed_sync_counts_on_the_disk_not_on_the_cache() {
    for seed in 0..20 {
        let (fs, mut log) = prepared(&config());
        append(&mut log, 1, 2);
        log.flush().unwrap();
        let (checkpoint, durable) = (log.checkpoint().unwrap(), log.durable_end());
        append(&mut log, 2, 2);
        fs.fail_at(0, Fault::Io);
        assert!(log.flush().is_err());
        drop(log);
        // Only the process ends: the pages that the disk did not take are still in memory, and clean.
        let from = (seed % 2 == 0).then_some(checkpoint);
        let (mut log, recovered) = open(&fs, config(), from, false);
        assert_eq!(log.log_end(), durable, "seed {seed}: {recovered:?}");
        let offset = append(&mut log, 3, 1);
        log.flush().unwrap();
        let durable = log.durable_end();
        drop(log);
        fs.crash(seed);
        let (log, _) = open(&fs, config(), from, false);
        assert_eq!((log.log_end(), offset), (durable, o(2)), "seed {seed}");
        assert_eq!(read_all(&log, o(0), 1000).0.len(), 2);
    }
}
