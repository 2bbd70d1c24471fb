//! Random operations on a log and on a list that does the same the obvious way.

use chronik_log::{AppendError, Checkpoint, Log, LogConfig, ReadBound};
use chronik_model::{LeaderEpoch, Offset};
use proptest::prelude::*;

use crate::support::*;

#[derive(Clone, Debug)]
enum Step {
    Append { count: usize },
    AppendIdempotent { producer: i64, gap: bool, repeat: bool },
    Flush,
    Checkpoint,
    Advance { back: i64 },
    DeleteRecords { back: i64 },
    Retention { bytes: u64 },
    Read { from: i64, max_bytes: usize },
    Truncate { back: i64 },
    Reopen { clean: bool },
    NewLeader,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..6usize).prop_map(|count| Step::Append { count }),
        4 => (0..3i64, any::<bool>(), any::<bool>())
            .prop_map(|(producer, gap, repeat)| Step::AppendIdempotent { producer, gap, repeat }),
        2 => Just(Step::Flush),
        1 => Just(Step::Checkpoint),
        3 => (0..10i64).prop_map(|back| Step::Advance { back }),
        1 => (0..30i64).prop_map(|back| Step::DeleteRecords { back }),
        1 => (0..6000u64).prop_map(|bytes| Step::Retention { bytes }),
        6 => (0..300i64, 1..5000usize).prop_map(|(from, max_bytes)| Step::Read { from, max_bytes }),
        1 => (0..20i64).prop_map(|back| Step::Truncate { back }),
        1 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
        1 => Just(Step::NewLeader),
    ]
}

/// The obvious log: a list of batches.
#[derive(Default)]
struct Model {
    batches: Vec<(Offset, Offset, Vec<u8>)>,
    log_start: Offset,
    log_end: Offset,
    high_watermark: Offset,
    leader_epoch: LeaderEpoch,
    sequences: [i32; 3],
}

impl Model {
    fn push(&mut self, produced: &chronik_record::ProducedBatch) {
        let base = self.log_end;
        self.log_end = o(base.get() + i64::from(produced.header().last_offset_delta) + 1);
        self.batches.push((base, self.log_end, stored(produced, base, self.leader_epoch)));
    }

    /// What a read must return: whole batches from the one holding `from`, below the bound, within the size.
    fn read(&self, from: Offset, end: Offset, max_bytes: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (_, next, batch) in self.batches.iter().filter(|(_, next, _)| *next > from) {
            if *next > end || (!bytes.is_empty() && bytes.len() + batch.len() > max_bytes) {
                break;
            }
            bytes.extend_from_slice(batch);
        }
        bytes
    }
}

fn run(steps: Vec<Step>) {
    let fs = disk();
    let mut config = small();
    let mut log = create(&fs, config.clone());
    let mut model = Model::default();
    let mut checkpoint: Option<Checkpoint> = None;
    let mut tag = 0;
    for step in steps {
        match step {
            Step::Append { count } => {
                tag += 1;
                let produced = batch(tag, count);
                let appended = log.append(&produced, model.leader_epoch, at(0)).unwrap();
                assert_eq!(appended.base_offset, model.log_end);
                model.push(&produced);
            }
            Step::AppendIdempotent { producer, gap, repeat } => {
                let known = &mut model.sequences[producer as usize];
                let sequence = if repeat && *known > 0 { *known - 2 } else { *known + i32::from(gap && *known > 0) };
                let produced = idempotent(producer, 0, sequence, 2);
                let outcome = log.append(&produced, model.leader_epoch, at(0));
                if sequence == *known {
                    assert_eq!(outcome.unwrap().base_offset, model.log_end);
                    *known += 2;
                    model.push(&produced);
                } else if sequence < *known {
                    assert!(outcome.unwrap().duplicate);
                } else {
                    assert!(matches!(outcome, Err(AppendError::OutOfOrderSequence { .. })));
                }
            }
            Step::Flush => {
                log.flush().unwrap();
                assert_eq!(log.durable_end(), model.log_end);
            }
            Step::Checkpoint => checkpoint = Some(log.checkpoint().unwrap()),
            Step::Advance { back } => {
                let wanted = o(model.log_end.get() - back);
                log.set_high_watermark(wanted);
                model.high_watermark = model.high_watermark.max(wanted);
                assert_eq!(log.high_watermark(), model.high_watermark);
            }
            Step::DeleteRecords { back } => {
                let wanted = o(model.high_watermark.get() - back).max(Offset::ZERO);
                model.log_start = model.log_start.max(wanted);
                assert_eq!(log.delete_records_before(wanted).unwrap(), model.log_start);
                checkpoint = Some(log.checkpoint().unwrap());
            }
            Step::Retention { bytes } => {
                config = LogConfig { retention_bytes: Some(bytes), ..config };
                log.reconfigure(config.clone());
                log.apply_retention(at(0)).unwrap();
                assert!(log.log_start() >= model.log_start && log.log_start() <= model.high_watermark);
                model.log_start = log.log_start();
            }
            Step::Read { from, max_bytes } => {
                let from = o(from % (model.log_end.get() + 2));
                for (bound, end) in
                    [(ReadBound::LogEnd, model.log_end), (ReadBound::HighWatermark, model.high_watermark)]
                {
                    match log.reader().read(from, bound, max_bytes, true) {
                        Ok(slice) => {
                            let expected = if from < end { model.read(from, end, max_bytes) } else { Vec::new() };
                            let found = slice.read().unwrap();
                            // A slice ends at the latest where its segment does.
                            assert!(expected.starts_with(&found), "read {from} {bound:?} {max_bytes}");
                            assert_eq!(found.is_empty(), expected.is_empty(), "read {from} {bound:?} {max_bytes}");
                        }
                        Err(_) => assert!(from < model.log_start || from > model.log_end),
                    }
                }
            }
            Step::Truncate { back } => {
                let wanted = o(model.log_end.get() - back).max(model.high_watermark).max(model.log_start);
                let kept: Vec<_> = model.batches.iter().filter(|(_, next, _)| *next <= wanted).cloned().collect();
                let end =
                    if wanted == model.log_end { wanted } else { kept.last().map_or(Offset::ZERO, |kept| kept.1) };
                if end < model.high_watermark || end < model.log_start {
                    continue;
                }
                assert_eq!(log.truncate_to(wanted).unwrap(), end);
                model.batches = kept;
                model.log_end = end;
                for producer in 0..3 {
                    let entry = log.producers().into_iter().find(|entry| entry.producer_id.get() == producer);
                    model.sequences[producer as usize] = entry.map_or(0, |entry| entry.last_sequence.get() + 1);
                }
                checkpoint = Some(log.checkpoint().unwrap());
            }
            Step::Reopen { clean } => {
                if clean {
                    checkpoint = Some(log.close_cleanly().unwrap());
                }
                drop(log);
                let (reopened, recovered) = open(&fs, config.clone(), checkpoint, clean);
                log = reopened;
                assert!(recovered.damage.is_empty() && recovered.truncated_bytes == 0, "{recovered:?}");
                log.set_high_watermark(model.high_watermark);
                // A log start that no checkpoint holds may fall back to the first segment's.
                assert!(log.log_start() <= model.log_start);
                log.delete_records_before(model.log_start).unwrap();
            }
            Step::NewLeader => model.leader_epoch = LeaderEpoch::new(model.leader_epoch.get() + 1),
        }
        log.check_invariants();
        assert_eq!((log.log_start(), log.log_end()), (model.log_start, model.log_end));
        let producers: Vec<_> =
            log.producers().iter().map(|p| (p.producer_id.get(), p.last_sequence.get() + 1)).collect();
        for (producer, next) in producers {
            assert_eq!(next, model.sequences[producer as usize]);
        }
    }
    check_whole(&log, &model);
}

fn check_whole(log: &Log, model: &Model) {
    let (batches, damaged) = read_all(log, log.log_start(), 900);
    assert!(damaged.is_empty());
    let expected: Vec<_> = model
        .batches
        .iter()
        .filter(|(_, next, _)| *next > model.log_start)
        .map(|(_, _, bytes)| bytes.clone())
        .collect();
    assert_eq!(batches.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_log_behaves_like_a_list_of_batches(steps in prop::collection::vec(step(), 1..150)) {
        run(steps);
    }
}
