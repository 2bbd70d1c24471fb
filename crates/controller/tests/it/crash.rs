//! The disk fails or the machine stops at any call: what was answered is there afterwards, and nothing that was not asked.

use std::collections::BTreeSet;
use std::sync::Arc;

use chronik_log::fs::{Fault, Fs, MemFs};
use chronik_metadata::{
    Command, ConfigAlteration, ConfigOperation, ConfigResource, ControllerClient as _, Operation, ResourceKind,
};

use crate::support::{create, is_created, names, open, register, submit};

/// Large enough that a few of them lead to a snapshot.
fn large_change(round: usize) -> Command {
    Command::AlterConfigs {
        resources: vec![ConfigAlteration {
            resource: ConfigResource::new(ResourceKind::ClientMetrics, "m"),
            operations: vec![ConfigOperation {
                key: "metrics".to_owned(),
                operation: Operation::Set,
                value: Some(format!("{}{round}", "x".repeat(900_000))),
            }],
        }],
        validate_only: false,
    }
}

struct Run {
    answered: BTreeSet<String>,
    asked: BTreeSet<String>,
    producer_ids: i64,
}

/// Carries out a script until the first failure; with large changes a snapshot is written on the way.
fn run(fs: &Arc<dyn Fs>, large: bool) -> Run {
    let mut run = Run { answered: BTreeSet::new(), asked: BTreeSet::new(), producer_ids: 0 };
    let Ok(controller) = open(fs) else { return run };
    if submit(&controller, register()).is_err() {
        return run;
    }
    for round in 0..4 {
        let name = format!("t{round}");
        run.asked.insert(name.clone());
        match submit(&controller, create(&name)) {
            Ok(outcome) if is_created(&outcome) => run.answered.insert(name),
            _ => return run,
        };
        if large && submit(&controller, large_change(round)).is_err() {
            return run;
        }
        match submit(&controller, Command::AllocateProducerIds) {
            Ok(_) => run.producer_ids += 1000,
            Err(_) => return run,
        }
        // Refused answers after a failure are the only ones there are.
        assert_eq!(names(&controller.image()).len(), run.answered.len());
    }
    run
}

fn check(fs: &Arc<dyn Fs>, run: &Run, what: &str) {
    let controller = open(fs).unwrap_or_else(|error| panic!("{what}: {error}"));
    let image = controller.image();
    image.check_invariants();
    let found: BTreeSet<String> = names(&image).into_iter().collect();
    assert!(run.answered.is_subset(&found), "{what}: answered {:?}, found {found:?}", run.answered);
    assert!(found.is_subset(&run.asked), "{what}: asked {:?}, found {found:?}", run.asked);
    assert!(image.next_producer_id() >= run.producer_ids, "{what}: producer ids would be given twice");
    // And it goes on.
    submit(&controller, register()).unwrap();
    assert!(is_created(&submit(&controller, create("after")).unwrap()), "{what}");
    drop(controller);
    assert!(names(&open(fs).unwrap().image()).contains(&"after".to_owned()), "{what}");
}

fn fail_every(step: usize, large: bool) {
    let calls = {
        let fs = Arc::new(MemFs::new());
        let run = run(&(Arc::clone(&fs) as Arc<dyn Fs>), large);
        assert_eq!(run.answered.len(), 4);
        fs.calls()
    };
    assert!(calls > 20, "{calls} calls");
    for fault in [Fault::NoSpace, Fault::Io, Fault::PowerCut] {
        for call in (0..calls).step_by(step) {
            let fs = Arc::new(MemFs::new());
            fs.fail_at(call, fault);
            let disk = Arc::clone(&fs) as Arc<dyn Fs>;
            let run = run(&disk, large);
            fs.crash(call);
            check(&disk, &run, &format!("{fault:?} at call {call}, crash seed {call}"));
        }
    }
}

#[test]
fn nothing_answered_is_lost_whichever_call_fails() {
    fail_every(1, false);
}

/// A sample of the calls: each round writes megabytes.
#[test]
fn nothing_answered_is_lost_when_calls_around_a_snapshot_fail() {
    fail_every(13, true);
}

#[test]
fn a_crash_after_the_script_loses_nothing() {
    for seed in 0..24 {
        let fs = Arc::new(MemFs::new());
        let disk = Arc::clone(&fs) as Arc<dyn Fs>;
        let run = run(&disk, seed % 8 == 0);
        fs.crash(seed);
        check(&disk, &run, &format!("crash seed {seed}"));
    }
}
