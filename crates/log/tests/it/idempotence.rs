//! Idempotent producers across appends, restarts and crashes.

use chronik_log::{AppendError, LogConfig};
use chronik_model::Sequence;

use crate::support::*;

#[test]
fn a_repeated_batch_of_the_last_five_gets_its_old_offset() {
    let fs = disk();
    let mut log = create(&fs, small());
    for number in 0..7 {
        append(&mut log, number, 1);
        log.append(&idempotent(1, 0, number as i32 * 2, 2), EPOCH, at(0)).unwrap();
    }
    let end = log.log_end();
    for number in 2..7 {
        let repeated = log.append(&idempotent(1, 0, number * 2, 2), EPOCH, at(0)).unwrap();
        assert!(repeated.duplicate);
        assert_eq!(repeated.base_offset, o(i64::from(number) * 3 + 1));
        assert_eq!(repeated.next_offset, o(i64::from(number) * 3 + 3));
    }
    for number in 0..2 {
        let error = log.append(&idempotent(1, 0, number * 2, 2), EPOCH, at(0)).unwrap_err();
        assert!(matches!(error, AppendError::OutOfOrderSequence { .. }), "{error}");
    }
    assert_eq!(log.log_end(), end);
}

#[test]
fn a_gap_is_refused_and_changes_nothing() {
    let fs = disk();
    let mut log = create(&fs, small());
    log.append(&idempotent(1, 0, 0, 2), EPOCH, at(0)).unwrap();
    let error = log.append(&idempotent(1, 0, 3, 2), EPOCH, at(0)).unwrap_err();
    let AppendError::OutOfOrderSequence { expected, found, .. } = error else { panic!("{error}") };
    assert_eq!((expected, found), (Sequence::new(2), Sequence::new(3)));
    assert_eq!(log.append(&idempotent(1, 0, 2, 2), EPOCH, at(0)).unwrap().base_offset, o(2));
}

#[test]
fn epochs_fence_and_a_new_one_begins_at_zero() {
    let fs = disk();
    let mut log = create(&fs, small());
    log.append(&idempotent(1, 3, 0, 2), EPOCH, at(0)).unwrap();
    let error = log.append(&idempotent(1, 2, 2, 2), EPOCH, at(0)).unwrap_err();
    assert!(matches!(error, AppendError::InvalidProducerEpoch { .. }));
    let error = log.append(&idempotent(1, 4, 2, 2), EPOCH, at(0)).unwrap_err();
    assert!(matches!(error, AppendError::OutOfOrderSequence { .. }));
    log.append(&idempotent(1, 4, 0, 2), EPOCH, at(0)).unwrap();
}

#[test]
fn an_unknown_producer_begins_anywhere_and_sequences_wrap() {
    let fs = disk();
    let mut log = create(&fs, small());
    log.append(&idempotent(1, 0, i32::MAX - 1, 2), EPOCH, at(0)).unwrap();
    log.append(&idempotent(1, 0, 0, 3), EPOCH, at(0)).unwrap();
    // A batch that wraps inside.
    log.append(&idempotent(2, 0, i32::MAX - 1, 4), EPOCH, at(0)).unwrap();
    log.append(&idempotent(2, 0, 2, 1), EPOCH, at(0)).unwrap();
    assert!(log.append(&idempotent(2, 0, i32::MAX - 1, 4), EPOCH, at(0)).unwrap().duplicate);
}

#[test]
fn producers_expire_by_the_time_of_their_last_batch() {
    let fs = disk();
    let mut log = create(&fs, LogConfig { producer_id_expiration: std::time::Duration::from_millis(500), ..small() });
    log.append(&idempotent(1, 0, 0, 1), EPOCH, at(0)).unwrap();
    log.expire_producers(at(1499));
    assert_eq!(log.producers().len(), 1);
    log.expire_producers(at(1500));
    assert_eq!(log.producers().len(), 0);
    log.append(&idempotent(1, 0, 77, 1), EPOCH, at(0)).unwrap();
}

#[test]
fn state_survives_clean_stops_crashes_and_the_loss_of_its_snapshot() {
    for clean in [true, false] {
        for checkpointed in [true, false] {
            for lose_snapshot in [true, false] {
                let fs = disk();
                let mut log = create(&fs, small());
                let mut checkpoint = None;
                for number in 0..40 {
                    if number == 25 && checkpointed {
                        log.flush().unwrap();
                        checkpoint = Some(log.checkpoint().unwrap());
                    }
                    log.append(&idempotent(number % 3, 0, (number / 3) as i32 * 2, 2), EPOCH, at(0)).unwrap();
                    append(&mut log, number as u64, 1);
                }
                let producers = log.producers();
                if clean {
                    checkpoint = Some(log.close_cleanly().unwrap());
                }
                drop(log);
                for (path, _) in fs.files() {
                    if lose_snapshot && path.to_string_lossy().ends_with(".snapshot") {
                        chronik_log::fs::Fs::remove_file(&fs, &path).unwrap();
                    }
                }
                let (mut log, _) = open(&fs, small(), checkpoint, clean);
                assert_eq!(log.producers(), producers, "clean {clean} checkpoint {checkpointed} lost {lose_snapshot}");
                assert!(log.append(&idempotent(0, 0, 26, 2), EPOCH, at(0)).unwrap().duplicate);
                assert!(log.append(&idempotent(0, 0, 18, 2), EPOCH, at(0)).unwrap().duplicate);
                assert!(log.append(&idempotent(1, 0, 28, 2), EPOCH, at(0)).is_err());
            }
        }
    }
}

#[test]
fn deleting_the_records_of_a_producer_keeps_its_sequence() {
    let fs = disk();
    let mut log = create(&fs, small());
    log.append(&idempotent(1, 0, 0, 2), EPOCH, at(0)).unwrap();
    for tag in 0..60 {
        append(&mut log, tag, 2);
    }
    log.set_high_watermark(log.log_end());
    log.delete_records_before(o(100)).unwrap();
    log.apply_retention(at(0)).unwrap();
    assert!(log.append(&idempotent(1, 0, 5, 2), EPOCH, at(0)).is_err());
    assert!(log.append(&idempotent(1, 0, 0, 2), EPOCH, at(0)).unwrap().duplicate);
    let checkpoint = log.close_cleanly().unwrap();
    drop(log);
    let (mut log, _) = open(&fs, small(), Some(checkpoint), true);
    log.append(&idempotent(1, 0, 2, 2), EPOCH, at(0)).unwrap();
}

#[test]
fn a_snapshot_of_batches_that_a_crash_took_is_not_used_when_their_offsets_come_again() {
    let fs = disk();
    let config = LogConfig { segment_bytes: 600, ..small() };
    let mut log = create(&fs, config.clone());
    append(&mut log, 1, 1);
    log.flush().unwrap();
    let checkpoint = log.checkpoint().unwrap();
    // Rolling writes snapshots that know producer 4; then the batches and the later segments are lost.
    for number in 0..20 {
        log.append(&idempotent(4, 0, number, 1), EPOCH, at(0)).unwrap();
    }
    drop(log);
    for (path, _) in fs.files() {
        if path.extension() == Some("log".as_ref()) && !path.ends_with("wal_3_0.log") {
            chronik_log::fs::Fs::remove_file(&fs, &path).unwrap();
        }
    }
    let first = std::path::Path::new(DIR).join("wal_3_0.log");
    let file = chronik_log::fs::Fs::open(&fs, &first, chronik_log::fs::OpenMode::Write).unwrap();
    file.set_len(checkpoint.position).unwrap();
    let (mut log, _) = open(&fs, config.clone(), Some(checkpoint), false);
    assert_eq!((log.log_end(), log.producers().len()), (o(1), 0));
    for tag in 0..40 {
        append(&mut log, tag, 1);
    }
    let checkpoint = log.close_cleanly().unwrap();
    drop(log);
    for from in [Some(checkpoint), None] {
        let (log, _) = open(&fs, config.clone(), from, false);
        assert_eq!(log.producers(), []);
    }
}

#[test]
fn a_producer_whose_batches_retention_took_before_a_crash_is_still_known() {
    let fs = disk();
    let mut log = create(&fs, small());
    log.append(&idempotent(9, 0, 0, 2), EPOCH, at(0)).unwrap();
    let checkpoint = log.checkpoint().unwrap();
    let mut tag = 0;
    while log.segments_count() < 6 {
        append(&mut log, tag, 2);
        tag += 1;
    }
    log.flush().unwrap();
    log.set_high_watermark(log.log_end());
    log.reconfigure(chronik_log::LogConfig { retention_bytes: Some(6000), ..small() });
    assert!(!log.apply_retention(at(0)).unwrap().is_empty() && log.segments_count() > 3);
    drop(log);
    // The checkpoint is of before, and the snapshots that are kept are of after the first segment left.
    let (mut log, _) = open(&fs, small(), Some(checkpoint), false);
    assert!(log.append(&idempotent(9, 0, 0, 2), EPOCH, at(0)).unwrap().duplicate);
}
