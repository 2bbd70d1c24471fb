//! No descriptor is left for a while: calls fail, the log stays online, and nothing is wrong afterwards.

use chronik_log::fs::MemFs;
use chronik_log::{AppendError, Log, LogConfig, LogError, ReadBound};
use chronik_model::LeaderEpoch;

use crate::support::*;

/// Appends batch after batch while files can and cannot be opened, as the seed decides.
fn strained(fs: &MemFs, log: &mut Log, seed: u64) -> Vec<Vec<u8>> {
    let mut random = Random(seed);
    let (mut written, mut refused) = (Vec::new(), 0);
    for tag in 0..400 {
        fs.set_out_of_files(random.below(2) == 0);
        let leader_epoch = LeaderEpoch::new((tag / 50) as i32);
        let produced = batch(tag, 1 + (tag % 3) as usize);
        match log.append(&produced, leader_epoch, at(0)) {
            Ok(appended) => written.push(stored(&produced, appended.base_offset, leader_epoch)),
            Err(AppendError::Io { .. }) => refused += 1,
            Err(error) => panic!("{tag}: {error}"),
        }
        if random.below(10) == 0 {
            match random.below(3) {
                0 => assert!(matches!(log.flush(), Ok(()) | Err(LogError::Io { .. }))),
                1 => assert!(matches!(log.checkpoint(), Ok(_) | Err(LogError::Io { .. }))),
                _ => drop(log.reader().offset_for_timestamp(at(1200), ReadBound::LogEnd)),
            }
        }
        assert_eq!(log.offline(), None, "{tag}");
    }
    fs.set_out_of_files(false);
    assert!(refused > 10 && written.len() > 100, "{refused} refused, {} written", written.len());
    written
}

#[test]
fn a_log_without_descriptors_refuses_and_goes_on_when_there_are_some() {
    for seed in 0..20 {
        let fs = disk();
        let config = LogConfig { segment_bytes: 1500, ..small() };
        let mut log = create(&fs, config.clone());
        let written = strained(&fs, &mut log, seed);
        let bytes = |log: &Log| read_all(log, o(0), 700).0.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
        assert_eq!(bytes(&log), written, "seed {seed}");
        let newest = log.reader().max_timestamp().unwrap();
        let checkpoint = log.close_cleanly().unwrap();
        drop(log);
        fs.crash(seed);
        let (log, recovered) = open(&fs, config, Some(checkpoint), false);
        assert!(recovered.damage.is_empty() && recovered.truncated_bytes == 0, "seed {seed}: {recovered:?}");
        assert_eq!((bytes(&log), log.reader().max_timestamp().unwrap()), (written, newest), "seed {seed}");
    }
}

#[test]
fn an_index_that_cannot_be_written_for_want_of_descriptors_is_completed_later() {
    let fs = disk();
    let config = LogConfig { segment_bytes: 1 << 20, index_interval_bytes: 1, ..small() };
    let mut log = create(&fs, config);
    let mut refused = 0;
    append(&mut log, 0, 1);
    fs.set_out_of_files(true);
    for tag in 1..600 {
        // The table in memory is full after some entries and must go to its file.
        refused += u64::from(log.append(&batch(tag, 1), EPOCH, at(0)).is_err());
    }
    fs.set_out_of_files(false);
    assert!(refused > 100 && log.offline().is_none(), "{refused} refused");
    let before = log.log_end();
    assert_eq!(append(&mut log, 700, 1), before);
    assert_eq!(read_all(&log, o(0), 500).0.len() as i64, before.get() + 1);
    let reader = log.reader();
    for offset in 0..before.get() {
        assert_eq!(reader.read(o(offset), ReadBound::LogEnd, 1, true).unwrap().base_offset, o(offset));
    }
}

#[test]
fn a_log_that_is_half_cut_for_want_of_descriptors_goes_offline() {
    let fs = disk();
    let config = LogConfig { segment_bytes: 1500, ..small() };
    let mut log = create(&fs, config.clone());
    for tag in 0..40 {
        append(&mut log, tag, 2);
    }
    let (batches, end) = (read_all(&log, o(0), 700).0, log.log_end());
    log.close_cleanly().unwrap();
    drop(log);
    let (mut log, _) = open(&fs, config.clone(), None, false);
    fs.set_out_of_files(true);
    // Nothing is changed where nothing can be opened.
    assert!(log.truncate_to(o(10)).is_err());
    assert!(log.prepare_cut(o(10)).is_err());
    assert_eq!((log.offline(), log.log_end()), (None, end));
    fs.set_out_of_files(false);
    // The file that is cut is open, and those that follow from its tail cannot be written.
    append(&mut log, 41, 2);
    let to = append(&mut log, 42, 2);
    fs.set_out_of_files(true);
    assert!(log.truncate_to(to).is_err());
    assert!(log.offline().is_some() && !log.sync_failed(), "{:?}", log.offline());
    drop(log);
    fs.set_out_of_files(false);
    let (log, recovered) = open(&fs, config, None, false);
    assert_eq!(recovered.damage, []);
    let left = read_all(&log, o(0), 700).0;
    assert!(left.len() >= 5 && left.iter().zip(&batches).all(|(left, before)| left.1 == before.1));
    log.check_invariants();
}
