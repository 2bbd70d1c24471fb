//! What was decided is there again; listeners hear first; snapshots keep the replay short.

use std::sync::Arc;

use chronik_controller::{Advertised, Controller, Setup};
use chronik_log::fs::{Fs, MemFs, RealFs};
use chronik_metadata::config::StaticConfig;
use chronik_metadata::{
    Command, ConfigAlteration, ConfigOperation, ConfigResource, ControllerClient as _, ControllerError, NewTopic,
    Operation, Outcome, ResourceKind, TopicRef,
};
use chronik_model::{NodeId, Timestamp, Uuid};

use crate::support::{CLUSTER, Heard, create, dir, is_created, names, open, open_in, register, submit};

fn alter(resource: ConfigResource, key: &str, value: String) -> Command {
    Command::AlterConfigs {
        resources: vec![ConfigAlteration {
            resource,
            operations: vec![ConfigOperation { key: key.to_owned(), operation: Operation::Set, value: Some(value) }],
        }],
        validate_only: false,
    }
}

fn subscription() -> ConfigResource {
    ConfigResource::new(ResourceKind::ClientMetrics, "m")
}

fn what_was_decided_is_there_again(fs: Arc<dyn Fs>, dir: std::path::PathBuf) {
    let controller = open_in(Arc::clone(&fs), dir.clone(), Arc::default()).unwrap();
    submit(&controller, register()).unwrap();
    assert!(is_created(&submit(&controller, create("a")).unwrap()));
    assert!(is_created(&submit(&controller, create("b")).unwrap()));
    submit(&controller, alter(ConfigResource::topic("a"), "retention.ms", "5".to_owned())).unwrap();
    submit(&controller, Command::DeleteTopics { topics: vec![TopicRef::by_name("b")] }).unwrap();
    assert_eq!(submit(&controller, Command::AllocateProducerIds).unwrap(), Outcome::ProducerIds(0..1000));
    let before = controller.image();
    drop(controller);

    let controller = open_in(fs, dir, Arc::default()).unwrap();
    let after = controller.image();
    assert_eq!(*after, *before);
    assert_eq!(after.offset(), before.offset());
    after.check_invariants();
    assert_eq!(names(&after), ["a"]);
    assert_eq!(after.deletions_pending().count(), 1);
    assert_eq!(submit(&controller, Command::AllocateProducerIds).unwrap(), Outcome::ProducerIds(1000..2000));
    assert_eq!(controller.quorum().high_watermark, controller.image().offset());
}

#[test]
fn a_reopened_journal_gives_the_same_image_in_memory() {
    what_was_decided_is_there_again(Arc::new(MemFs::new()), dir());
}

#[test]
fn a_reopened_journal_gives_the_same_image_on_disk() {
    let temporary = tempfile::tempdir().unwrap();
    what_was_decided_is_there_again(Arc::new(RealFs), temporary.path().join("metadata"));
}

#[test]
fn listeners_hear_of_an_image_before_the_command_is_answered() {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let heard = Arc::new(Heard::default());
    let controller = open_in(fs, dir(), Arc::clone(&heard)).unwrap();
    submit(&controller, register()).unwrap();
    for (count, name) in (2..).zip(["a", "b", "c"]) {
        submit(&controller, create(name)).unwrap();
        let heard = heard.0.lock().unwrap();
        assert_eq!(heard.len(), count);
        assert_eq!(*heard.last().unwrap(), names(&controller.image()));
    }
    // What changes nothing is not told.
    let refused = submit(&controller, create("a")).unwrap();
    assert!(!is_created(&refused));
    let validate_only = Command::CreateTopics { topics: vec![NewTopic::with_defaults("d")], validate_only: true };
    assert!(is_created(&submit(&controller, validate_only).unwrap()));
    assert_eq!(heard.0.lock().unwrap().len(), 4);
}

#[test]
fn commands_that_wait_together_are_each_decided_on_all_before() {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let controller = open(&fs).unwrap();
    submit(&controller, register()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let created = runtime.block_on(async {
        // Polled in turn until all are done, so that all of them are in the queue early.
        let mut waiting: Vec<_> =
            (0..200).map(|number| controller.submit(create(&format!("t{}", number % 100)))).collect();
        let mut created = 0;
        for submitted in &mut waiting {
            created += usize::from(is_created(&submitted.as_mut().await.unwrap()));
        }
        created
    });
    assert_eq!(created, 100, "each name is created once");
    assert_eq!(controller.image().topics_count(), 100);
    let before = controller.image();
    drop(controller);
    assert_eq!(*open(&fs).unwrap().image(), *before);
}

#[test]
fn a_command_that_nobody_waits_for_any_more_is_carried_out() {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let controller = open(&fs).unwrap();
    submit(&controller, register()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut submitted = controller.submit(create("a"));
        // Once polled it is in the queue; then the asker goes away.
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(submitted.as_mut().poll(context))).await;
        drop(polled);
    });
    // The queue is worked off in order.
    submit(&controller, create("b")).unwrap();
    assert_eq!(names(&controller.image()), ["a", "b"]);
}

#[test]
fn a_snapshot_takes_the_place_of_old_records() {
    let fs = Arc::new(MemFs::new());
    let dyn_fs: Arc<dyn Fs> = Arc::clone(&fs) as Arc<dyn Fs>;
    let controller = open(&dyn_fs).unwrap();
    submit(&controller, register()).unwrap();
    submit(&controller, create("a")).unwrap();
    let text = "x".repeat(900_000);
    for round in 0..30 {
        submit(&controller, alter(subscription(), "metrics", format!("{text}{round}"))).unwrap();
    }
    submit(&controller, create("b")).unwrap();
    let before = controller.image();
    drop(controller);
    let stored: usize = fs.files().iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(stored < 20 * 1024 * 1024, "27 MB were written, {stored} bytes are kept");
    assert!(fs.files().iter().any(|(path, _)| path.ends_with("image")));
    let controller = open(&dyn_fs).unwrap();
    assert_eq!(*controller.image(), *before);
    // Offsets go on where they were.
    assert_eq!(controller.image().offset(), before.offset());
    submit(&controller, create("c")).unwrap();
    let before = controller.image();
    drop(controller);
    assert_eq!(*open(&dyn_fs).unwrap().image(), *before);
}

#[test]
fn a_change_that_is_too_large_is_refused_and_nothing_else() {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let controller = open(&fs).unwrap();
    submit(&controller, register()).unwrap();
    submit(&controller, create("a")).unwrap();
    let refused = submit(&controller, alter(subscription(), "metrics", "x".repeat(9_000_000)));
    assert!(matches!(refused, Err(ControllerError::JournalFailed { .. })), "{refused:?}");
    assert!(is_created(&submit(&controller, create("b")).unwrap()));
    assert_eq!(names(&controller.image()), ["a", "b"]);
}

#[test]
fn a_journal_of_another_cluster_is_refused() {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    drop(open(&fs).unwrap());
    let other = Uuid::from_bytes([8; 16]);
    let setup = Setup {
        fs,
        dir: dir(),
        node_id: NodeId::new(1),
        cluster_id: other,
        follows: false,
        advertised: Advertised::default(),
        static_config: Arc::new(StaticConfig::new(NodeId::new(1), Default::default()).unwrap()),
        clock: Box::new(|| Timestamp::from_millis(0)),
        ids: Box::new(|| Uuid::ZERO),
        listener: Arc::new(Heard::default()),
    };
    let error = Controller::open(setup).unwrap_err().to_string();
    assert!(error.contains(&CLUSTER.to_string()) && error.contains(&other.to_string()), "{error}");
}

#[test]
fn ten_thousand_topics_are_created_and_read_back_without_square_growth() {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let controller = open(&fs).unwrap();
    submit(&controller, register()).unwrap();
    for thousand in 0..10 {
        let topics = (0..1000).map(|number| NewTopic::with_defaults(format!("t.{thousand}.{number}"))).collect();
        assert!(is_created(&submit(&controller, Command::CreateTopics { topics, validate_only: false }).unwrap()));
    }
    assert_eq!(controller.image().topics_count(), 10_000);
    let before = controller.image();
    drop(controller);
    let after = open(&fs).unwrap().image();
    after.check_invariants();
    assert_eq!(*after, *before);
}
