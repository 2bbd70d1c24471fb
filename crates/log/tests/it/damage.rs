//! Flipped bits, cut and scrambled files: noticed or harmless, never served, never a panic.

use std::path::{Path, PathBuf};

use chronik_log::fs::{Fs, MemFs, OpenMode};
use chronik_log::{Log, LogConfig, ReadBound, dump};
use chronik_model::LeaderEpoch;

use crate::support::*;

fn sample(config: &LogConfig) -> (MemFs, Batches, chronik_log::Checkpoint) {
    let fs = disk();
    let mut log = create(&fs, config.clone());
    for tag in 0..24 {
        let leader_epoch = LeaderEpoch::new((tag / 8) as i32);
        let count = 1 + (tag % 3) as usize;
        if tag % 5 == 0 {
            let next = log.producers().first().map_or(0, |producer| producer.last_sequence.get() + 1);
            log.append(&idempotent(5, 0, next, count), leader_epoch, at(0)).unwrap();
        } else {
            log.append(&batch(tag, count), leader_epoch, at(0)).unwrap();
        }
    }
    let batches = read_all(&log, o(0), 1 << 20).0;
    log.set_high_watermark(log.log_end());
    let checkpoint = log.close_cleanly().unwrap();
    (fs, batches, checkpoint)
}

/// Opens a damaged copy and checks that whatever it serves was written. Returns what it serves.
fn survives(
    fs: &MemFs,
    config: &LogConfig,
    written: &Batches,
    from: Option<chronik_log::Checkpoint>,
    context: &str,
) -> (Log, Batches) {
    let (log, _) = open(fs, config.clone(), from, false);
    let (batches, _) = read_all(&log, log.log_start(), 600);
    for found in &batches {
        assert!(written.contains(found), "{context}: serves a batch at {} that was never written", found.0.base_offset);
    }
    (log, batches)
}

#[test]
fn every_flipped_bit_in_a_segment_is_noticed_by_a_scan_and_costs_at_most_its_batch() {
    let config = LogConfig { segment_bytes: 900, ..small() };
    let (fs, written, _) = sample(&config);
    let segments: Vec<_> =
        fs.files().into_iter().filter(|(path, _)| path.extension() == Some("log".as_ref())).collect();
    assert!(segments.len() > 2);
    for (number, (path, bytes)) in segments.iter().enumerate() {
        for position in 0..bytes.len() as u64 {
            let fs = fs.duplicate();
            fs.flip(path, position, (position % 8) as u8);
            let context = format!("segment {number} position {position}");
            let (log, batches) = survives(&fs, &config, &written, None, &context);
            let lost = written.len() - batches.len();
            assert!(lost == 1, "{context}: lost {lost} batches, damage {:?}", log.damage());
        }
    }
}

#[test]
fn every_flipped_bit_in_a_sealed_segment_is_noticed_by_verification() {
    let config = LogConfig { segment_bytes: 900, ..small() };
    let (fs, _, _) = sample(&config);
    let path = Path::new(DIR).join("wal_3_0.log");
    assert!(dump::walk(&fs, &path, |_| {}).unwrap().is_sound());
    assert_eq!(dump::walk(&fs, &path, |_| {}).unwrap().sum_fits, Some(true));
    for bit in 0..fs.file_len(&path).unwrap() * 8 {
        let fs = fs.duplicate();
        fs.flip(&path, bit / 8, (bit % 8) as u8);
        assert!(!dump::walk(&fs, &path, |_| {}).unwrap().is_sound(), "bit {bit}");
    }
}

#[test]
fn every_flipped_bit_in_a_derived_file_is_noticed_or_harmless() {
    let config = LogConfig { segment_bytes: 900, ..small() };
    let (fs, written, checkpoint) = sample(&config);
    let (clean, _) = open(&fs.duplicate(), config.clone(), Some(checkpoint), true);
    let epochs = clean.leader_epochs();
    let producers = clean.producers();
    let wanted: Vec<_> =
        (990..1030).map(|ms| clean.reader().offset_for_timestamp(at(ms), ReadBound::LogEnd).unwrap()).collect();
    let newest = clean.reader().max_timestamp().unwrap();
    drop(clean);
    for (path, bytes) in fs.files().into_iter().filter(|(path, _)| path.extension() != Some("log".as_ref())) {
        // Two bits of each byte, in turn all eight.
        for bit in (0..bytes.len() as u64).flat_map(|byte| [byte * 8 + byte % 8, byte * 8 + (byte + 5) % 8]) {
            let fs = fs.duplicate();
            fs.flip(&path, bit / 8, (bit % 8) as u8);
            let context = format!("{} bit {bit}", path.display());
            let (log, batches) = survives(&fs, &config, &written, Some(checkpoint), &context);
            assert_eq!(batches, written, "{context}");
            assert_eq!((log.leader_epochs(), log.producers()), (epochs.clone(), producers.clone()), "{context}");
            let reader = log.reader();
            for (ms, wanted) in (990..1030).zip(&wanted) {
                let found = reader.offset_for_timestamp(at(ms), ReadBound::LogEnd).unwrap();
                assert_eq!(found, *wanted, "{context}: timestamp {ms}");
            }
            assert_eq!(reader.max_timestamp().unwrap(), newest, "{context}");
            for (header, _) in &written {
                let slice = reader.read(header.last_offset(), ReadBound::LogEnd, 1, true).unwrap();
                assert_eq!(slice.base_offset, header.base_offset, "{context}");
            }
        }
    }
}

#[test]
fn damage_is_remembered_when_the_recovery_point_has_passed_it() {
    let config = LogConfig { segment_bytes: 1 << 20, ..small() };
    let (fs, written, _) = sample(&config);
    let path = Path::new(DIR).join("wal_3_0.log");
    fs.flip(&path, 700, 3);
    let (mut log, recovered) = open(&fs, config.clone(), None, false);
    assert_eq!(recovered.damage.len(), 1);
    let lost = (recovered.damage[0].offset, recovered.damage[0].offset_end);
    log.append(&batch(500, 2), LeaderEpoch::new(2), at(0)).unwrap();
    let checkpoint = log.close_cleanly().unwrap();
    assert_eq!(checkpoint.recovery_point, log.log_end());
    drop(log);
    let (log, recovered) = open(&fs, config, Some(checkpoint), true);
    assert_eq!(recovered.scanned_bytes, 0);
    let (batches, damaged) = read_all(&log, o(0), 1 << 20);
    assert_eq!(damaged, [lost]);
    assert_eq!(batches.len(), written.len());
    assert_eq!(log.damage().len(), 1);
}

#[test]
fn an_end_inside_of_damage_hides_nothing_before_it() {
    let config = LogConfig { segment_bytes: 900, ..small() };
    let (fs, written, _) = sample(&config);
    for (number, (header, _)) in written.iter().enumerate().skip(1) {
        let fs = fs.duplicate();
        let (log, _) = open(&fs, config.clone(), None, false);
        let region = log.reader().read_replica(header.base_offset, log.log_end(), 1).unwrap();
        drop(log);
        fs.flip(&Path::new(DIR).join(format!("wal_3_{}.log", region.segment)), region.slice.position + 30, 0);
        let (log, _) = open(&fs, config.clone(), None, false);
        let before = &written[number - 1].0;
        for end in header.base_offset.get()..=header.last_offset().get() {
            let end = o(end.min(log.log_end().get()));
            let read = log.reader().read_replica(before.base_offset, end, 1 << 20).unwrap();
            assert_eq!(
                (read.slice.len, read.end),
                (before.size_bytes(), header.base_offset),
                "batch {number} end {end}"
            );
        }
    }
}

#[test]
fn damage_in_bytes_that_are_gone_does_not_stain_those_that_follow() {
    let fs = disk();
    let mut log = create(&fs, small());
    (0..8).for_each(|tag| {
        append(&mut log, tag, 2);
    });
    log.close_cleanly().unwrap();
    drop(log);
    let path = Path::new(DIR).join("wal_3_0.log");
    fs.flip(&path, 100, 0);
    let (log, recovered) = open(&fs, small(), None, false);
    assert_eq!(recovered.damage.len(), 1);
    drop(log);
    // Nothing of it was durable: the power went, and the file came back empty.
    fs.open(&path, OpenMode::Write).unwrap().set_len(0).unwrap();
    let (mut log, recovered) = open(&fs, small(), None, false);
    assert_eq!((recovered.damage, log.log_end()), (vec![], o(0)));
    (0..8).for_each(|tag| {
        append(&mut log, tag, 2);
    });
    assert_eq!((log.damage(), read_all(&log, o(0), 1 << 20).0.len()), (vec![], 8));
    let checkpoint = log.close_cleanly().unwrap();
    drop(log);
    let (log, recovered) = open(&fs, small(), Some(checkpoint), true);
    assert_eq!((recovered.damage, log.damage(), read_all(&log, o(0), 1 << 20).0.len()), (vec![], vec![], 8));
}

#[test]
fn what_is_on_file_of_a_segment_that_is_gone_does_not_stain_the_next_of_its_name() {
    let side = |base: i64| Path::new(DIR).join(format!("wal_3_{base}.damage"));
    let fs = disk();
    let mut log = create(&fs, small());
    while log.segments_count() < 2 {
        append(&mut log, 40, 2);
    }
    let second = log.active_segment().get();
    while log.segments_count() < 3 {
        append(&mut log, 40, 2);
    }
    log.close_cleanly().unwrap();
    drop(log);
    fs.flip(&Path::new(DIR).join(format!("wal_3_{second}.log")), 100, 0);
    drop(open(&fs, small(), None, false));
    let text = chronik_log::fs::read_small_file(&fs, &side(second)).unwrap().unwrap();
    for with_a_start_between in [false, true] {
        // A cut took the segment, and a power cut brought the name of its side file back.
        let fs = disk();
        let mut log = create(&fs, small());
        if with_a_start_between {
            drop(log);
            fs.open(&side(second), OpenMode::Create).unwrap().write_all_at(&text, 0).unwrap();
            log = open(&fs, small(), None, false).0;
            assert!(!fs.exists(&side(second)).unwrap());
        } else {
            fs.open(&side(second), OpenMode::Create).unwrap().write_all_at(&text, 0).unwrap();
        }
        while log.segments_count() < 3 {
            append(&mut log, 40, 2);
        }
        let checkpoint = log.close_cleanly().unwrap();
        drop(log);
        let (log, recovered) = open(&fs, small(), Some(checkpoint), true);
        assert_eq!((recovered.damage, log.damage()), (vec![], vec![]));
        assert_eq!(read_all(&log, o(0), 1 << 20).1, []);
    }
}

#[test]
fn damage_in_the_last_batch_is_a_torn_tail_only_behind_the_recovery_point() {
    let config = LogConfig { segment_bytes: 1 << 20, ..small() };
    let (fs, written, checkpoint) = sample(&config);
    let path = Path::new(DIR).join("wal_3_0.log");
    let size = fs.file_len(&path).unwrap();
    fs.flip(&path, size - 1, 0);
    let scanned = fs.duplicate();
    let (log, recovered) = open(&scanned, config.clone(), None, false);
    let last = written.last().unwrap().0.base_offset;
    assert_eq!((log.log_end(), recovered.damage.len()), (last, 0));
    assert!(recovered.truncated_bytes > 0);
    // The checkpoint vouches for the bytes, so they are neither scanned nor cut.
    let (log, recovered) = open(&fs, config, Some(checkpoint), false);
    assert_eq!((log.log_end(), recovered.truncated_bytes), (checkpoint.recovery_point, 0));
}

#[test]
fn a_batch_inside_a_record_does_not_pass_for_one_of_the_log() {
    // The value holds a whole batch whose offset would continue the log.
    let inner = stored(&batch(1, 2), o(2), LeaderEpoch::ZERO);
    let mut builder = chronik_record::BatchBuilder::new(
        chronik_record::Compression::None,
        chronik_record::TimestampType::Create,
        at(1000),
    );
    builder.append(at(1000), None, Some(&inner), &[]);
    let outer = builder.build().unwrap();
    let fs = disk();
    let mut log = create(&fs, LogConfig::default());
    append(&mut log, 0, 1);
    let position = log.size_bytes();
    log.append(&outer, EPOCH, at(0)).unwrap();
    let after = batch(3, 1);
    log.append(&after, EPOCH, at(0)).unwrap();
    drop(log);
    let path = Path::new(DIR).join("wal_3_0.log");
    fs.flip(&path, position + 25, 1);
    let (log, recovered) = open(&fs, LogConfig::default(), None, false);
    assert_eq!(recovered.damage.len(), 1);
    assert_eq!((recovered.damage[0].offset, recovered.damage[0].offset_end), (o(1), o(2)));
    let (batches, _) = read_all(&log, o(0), 1 << 20);
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[1].1, stored(&after, o(2), EPOCH));
}

#[test]
fn recovery_from_cut_and_scrambled_files_never_panics_and_serves_only_what_was_written() {
    let config = LogConfig { segment_bytes: 900, ..small() };
    let (fs, written, checkpoint) = sample(&config);
    let paths: Vec<PathBuf> = fs.files().into_iter().map(|(path, _)| path).collect();
    for seed in 0..400 {
        let mut random = Random(seed);
        let fs = fs.duplicate();
        for _ in 0..1 + random.below(4) {
            let path = &paths[random.below(paths.len() as u64) as usize];
            let Ok(file) = fs.open(path, OpenMode::Write) else { continue };
            let size = file.len().unwrap();
            let at = random.below(size + 1);
            match random.below(4) {
                0 => file.set_len(at).unwrap(),
                1 => file.write_all_at(&random.next().to_be_bytes(), at).unwrap(),
                2 => file.write_all_at(&[0; 100], at).unwrap(),
                _ => fs.flip(path, at, random.below(8) as u8),
            }
        }
        for from in [None, Some(checkpoint)] {
            let copy = fs.duplicate();
            // With a checkpoint the bytes it vouches for are not read, so only their headers are sure to be right.
            let (mut log, recovered) = open(&copy, config.clone(), from, false);
            if from.is_none() {
                drop(log);
                log = survives(&fs.duplicate(), &config, &written, None, &format!("seed {seed}: {recovered:?}")).0;
            } else {
                let mut next = log.log_start();
                while next < log.log_end() {
                    match log.reader().read(next, ReadBound::LogEnd, 600, true) {
                        Ok(slice) if slice.len > 0 => {
                            let bytes = slice.read().unwrap();
                            let Ok(header) = chronik_record::BatchHeader::read(&bytes) else { break };
                            next = header.next_offset().max(next.next());
                        }
                        _ => next = next.next(),
                    }
                }
            }
            for ms in [0, 1005, 1020, 5000] {
                let _ = log.reader().offset_for_timestamp(at(ms), ReadBound::LogEnd);
            }
            let _ = log.reader().max_timestamp();
            let end = log.log_end();
            let leader_epoch = log.reader().latest_epoch().unwrap_or(EPOCH);
            assert_eq!(log.append(&batch(900, 1), leader_epoch, at(0)).unwrap().base_offset, end, "seed {seed}");
        }
    }
}

#[test]
fn damage_in_a_batch_of_more_records_than_bytes_costs_that_batch_alone() {
    // Equal records shrink to less than a byte each.
    let mut builder = chronik_record::BatchBuilder::new(
        chronik_record::Compression::Zstd,
        chronik_record::TimestampType::Create,
        at(1000),
    );
    for _ in 0..20_000 {
        builder.append(at(1000), None, None, &[]);
    }
    let dense = builder.build().unwrap();
    assert!(dense.bytes().len() < 20_000, "{} bytes", dense.bytes().len());
    let fs = disk();
    let mut log = create(&fs, LogConfig::default());
    append(&mut log, 0, 1);
    let position = log.size_bytes();
    log.append(&dense, EPOCH, at(0)).unwrap();
    append(&mut log, 1, 1);
    append(&mut log, 2, 1);
    let (end, size) = (log.log_end(), log.size_bytes());
    drop(log);
    let path = Path::new(DIR).join("wal_3_0.log");
    // The payload, the length, and the number of records of the damaged batch.
    for (byte, bit) in [(70, 0), (10, 0), (25, 3)] {
        let fs = fs.duplicate();
        fs.flip(&path, position + byte, bit);
        let (log, recovered) = open(&fs, LogConfig::default(), None, false);
        assert_eq!((log.log_end(), log.size_bytes(), recovered.truncated_bytes), (end, size, 0), "byte {byte}");
        assert_eq!(recovered.damage.len(), 1, "byte {byte}");
        assert_eq!((recovered.damage[0].offset, recovered.damage[0].offset_end), (o(1), o(20_001)));
    }
}

#[test]
fn bytes_that_look_like_batches_all_over_cost_themselves_and_not_the_log() {
    // Headers whose checksums are wrong, each of which claims all that follows.
    let mut value = Vec::new();
    let header = stored(&batch(1, 1), o(2), EPOCH)[..61].to_vec();
    let (count, claimed) = (6_000_u32, 400_000_u32);
    for number in 0..count {
        let mut header = header.clone();
        let length = claimed.saturating_sub(number * 61).max(100);
        header[8..12].copy_from_slice(&length.to_be_bytes());
        value.extend_from_slice(&header);
    }
    value.resize(usize::try_from(claimed).unwrap() + 1000, 0);
    let fs = disk();
    let config = LogConfig::default();
    let mut log = create(&fs, config.clone());
    append(&mut log, 0, 1);
    log.flush().unwrap();
    let checkpoint = log.checkpoint().unwrap();
    let position = log.size_bytes();
    let mut builder = chronik_record::BatchBuilder::new(
        chronik_record::Compression::None,
        chronik_record::TimestampType::Create,
        at(1000),
    );
    builder.append(at(1000), None, Some(&value), &[]);
    log.append(&builder.build().unwrap(), EPOCH, at(0)).unwrap();
    append(&mut log, 1, 1);
    let size = log.size_bytes();
    drop(log);
    let path = Path::new(DIR).join("wal_3_0.log");
    // The length of the batch that holds them is broken: where the next one begins cannot be read any more.
    fs.flip(&path, position + 8, 6);
    for from in [Some(checkpoint), None] {
        let fs = fs.duplicate();
        let (mut log, recovered) = open(&fs, config.clone(), from, false);
        assert_eq!((recovered.damage.len(), recovered.truncated_bytes), (1, 0), "{recovered:?}");
        assert_eq!(fs.file_len(&path).unwrap(), size);
        let end = log.log_end();
        assert!(end > o(2) && recovered.damage[0].offset == o(1) && recovered.damage[0].offset_end == end);
        assert_eq!(append(&mut log, 2, 1), end);
        let checkpoint = log.close_cleanly().unwrap();
        drop(log);
        let (log, _) = open(&fs, config.clone(), Some(checkpoint), true);
        let (batches, damaged) = read_all(&log, o(0), 1 << 20);
        assert_eq!((batches.len(), damaged), (2, vec![(o(1), end)]));
    }
}
