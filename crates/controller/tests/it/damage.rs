//! A damaged journal is refused and left as it is, with the place of the damage.

use std::path::Path;
use std::sync::Arc;

use chronik_log::fs::{Fs, MemFs};
use chronik_log::{Log, LogConfig};
use chronik_metadata::ReplicatedController as _;
use chronik_model::{LeaderEpoch, Timestamp, TopicPartition};
use chronik_record::{BatchBuilder, Compression, TimestampType};

use crate::pair::{Node, known, wait};
use crate::support::{create, dir, message, open, register, submit};

fn with_topics(fs: &Arc<MemFs>) -> Arc<dyn Fs> {
    let disk = Arc::clone(fs) as Arc<dyn Fs>;
    let controller = open(&disk).unwrap();
    submit(&controller, register()).unwrap();
    for number in 0..20 {
        submit(&controller, create(&format!("t{number}"))).unwrap();
    }
    disk
}

fn size(fs: &MemFs, file: &Path) -> u64 {
    fs.files().iter().find(|(path, _)| path == file).unwrap().1.len() as u64
}

#[test]
fn a_flipped_bit_anywhere_is_refused_with_the_file() {
    let segment = dir().join("wal_0_0.log");
    let whole = Arc::new(MemFs::new());
    with_topics(&whole);
    let size = size(&whole, &segment);
    for position in (0..size).step_by(61).chain([size - 1]) {
        let fs = Arc::new(whole.duplicate());
        fs.flip(&segment, position, 3);
        let before = fs.files();
        match open(&(Arc::clone(&fs) as Arc<dyn Fs>)) {
            Err(error) => {
                let error = message(error);
                assert!(error.contains("/data/metadata"), "position {position}: {error}");
                let after = fs.files();
                let bytes = |files: &[(std::path::PathBuf, Vec<u8>)]| {
                    files.iter().find(|(path, _)| *path == segment).unwrap().1.clone()
                };
                assert_eq!(bytes(&before), bytes(&after), "position {position}: the journal was changed");
            }
            Ok(_) => panic!("position {position} of {size} was flipped and nobody saw"),
        }
    }
}

#[test]
fn a_damaged_snapshot_is_refused_with_the_position() {
    let fs = Arc::new(MemFs::new());
    let disk = with_topics(&fs);
    let controller = open(&disk).unwrap();
    // Enough bytes for a snapshot.
    let topics = (0..7000).map(|n| chronik_metadata::NewTopic::with_defaults(format!("many-{n}"))).collect();
    submit(&controller, chronik_metadata::Command::CreateTopics { topics, validate_only: false }).unwrap();
    let topics = (0..7000).map(|n| chronik_metadata::NewTopic::with_defaults(format!("more-{n}"))).collect();
    submit(&controller, chronik_metadata::Command::CreateTopics { topics, validate_only: false }).unwrap();
    drop(controller);
    let snapshot = dir().join("image");
    let size = size(&fs, &snapshot);
    for position in (70..size).step_by(usize::try_from(size / 3).unwrap()) {
        let fs = Arc::new(fs.duplicate());
        fs.flip(&snapshot, position, 1);
        let error = message(open(&(Arc::clone(&fs) as Arc<dyn Fs>)).unwrap_err());
        assert!(error.contains("/data/metadata/image is damaged at position"), "{position}: {error}");
    }
}

#[test]
fn records_below_the_snapshot_that_are_gone_are_not_missed_and_others_are() {
    let fs = Arc::new(MemFs::new());
    let disk = with_topics(&fs);
    disk.remove_file(&dir().join("wal_0_0.log")).unwrap();
    let error = message(open(&disk).unwrap_err());
    assert!(error.contains("/data/metadata"), "{error}");
}

#[test]
fn what_a_later_build_wrote_is_refused() {
    for (json, expected) in [
        (&br#"{"version":9,"record":{"type":"x"}}"#[..], "version 9, this build knows up to 1"),
        (br#"{"version":1,"record":{"type":"shared_journal"}}"#, "unknown variant `shared_journal`"),
        (br#"{"version":1,"record":{"type":"topic_removed","id":"BwcHBwcHBwcHBwcHBwcHBw"}}"#, "which does not exist"),
    ] {
        let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
        let name = TopicPartition::new("__cluster_metadata", 0);
        let now = Timestamp::from_millis(1);
        let mut log = Log::create(Arc::clone(&fs), dir(), name, LogConfig::default(), true).unwrap();
        let mut batch = BatchBuilder::new(Compression::None, TimestampType::Create, now);
        batch.append(now, None, Some(json), &[]);
        log.append(&batch.build().unwrap(), LeaderEpoch::new(1), now).unwrap();
        log.flush().unwrap();
        drop(log);
        let error = message(open(&fs).unwrap_err());
        assert!(error.contains(expected) && error.contains("/data/metadata/wal_0_0.log at offset 0"), "{error}");
    }
}

#[test]
fn a_flipped_bit_of_what_only_a_node_with_others_has_is_refused_with_the_file() {
    let leader = Node::leader(1);
    leader.run(create("a"));
    wait(leader.controller.fenced(known(2, 5000))).unwrap();
    let Node { fs, controller, .. } = leader;
    drop(controller);
    for (name, step) in [("leader", 1), ("wal_0_0.log", 3)] {
        let file = dir().join(name);
        for position in (0..size(&fs, &file)).step_by(step) {
            // Base offset and leader epoch lie outside of a batch's checksum, and mean nothing in the note.
            if name == "leader" && (position < 8 || (12..16).contains(&position)) {
                continue;
            }
            let damaged = Arc::new(fs.duplicate());
            damaged.flip(&file, position, 2);
            match Node::open(1, damaged, false) {
                Err(error) => {
                    let error = message(error);
                    assert!(error.contains("/data/metadata"), "{name} at {position}: {error}");
                }
                Ok(_) => panic!("position {position} of {name} was flipped and nobody saw"),
            }
        }
    }
}
