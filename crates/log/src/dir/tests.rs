//! Who may use a data directory, and that a refusal changes nothing.

use super::*;
use crate::fs::{Fault, MemFs, OpenMode, RealFs};

const NODE: NodeId = NodeId::new(1);

fn cluster(byte: u8) -> Uuid {
    Uuid::from_random([byte; 16])
}

fn every() -> Vec<(Arc<dyn Fs>, PathBuf, Option<tempfile::TempDir>)> {
    let real = tempfile::tempdir().unwrap();
    let root = real.path().join("data");
    let mem = MemFs::new();
    vec![(Arc::new(mem), PathBuf::from("/data"), None), (Arc::new(RealFs), root, Some(real))]
}

fn open(fs: &Arc<dyn Fs>, root: &Path) -> Result<DataDir, DirError> {
    DataDir::open(Arc::clone(fs), root.to_owned(), NODE, cluster(1))
}

#[test]
fn identity_is_given_once_and_kept() {
    for (fs, root, _guard) in every() {
        let dir = open(&fs, &root).unwrap();
        assert!(dir.created());
        assert_eq!((dir.cluster_id(), dir.node_id()), (cluster(1), NODE));
        drop(dir);
        let dir = DataDir::open(Arc::clone(&fs), root, NODE, cluster(2)).unwrap();
        assert!(!dir.created());
        assert_eq!(dir.cluster_id(), cluster(1));
    }
}

#[test]
fn identity_is_read_without_taking_or_making_the_directory() {
    for (fs, root, _guard) in every() {
        assert_eq!(DataDir::identity(&*fs, &root).unwrap(), None);
        assert!(!fs.exists(&root).unwrap());
        let _held = open(&fs, &root).unwrap();
        let expected = Identity { version: FORMAT_VERSION, cluster_id: cluster(1), node_id: NODE };
        assert_eq!(DataDir::identity(&*fs, &root).unwrap(), Some(expected));
    }
}

#[test]
fn a_directory_in_use_is_refused() {
    for (fs, root, _guard) in every() {
        let held = open(&fs, &root).unwrap();
        assert!(matches!(open(&fs, &root), Err(DirError::InUse { .. })));
        drop(held);
        open(&fs, &root).unwrap();
    }
}

#[test]
fn a_foreign_newer_or_damaged_directory_is_left_as_it_is() {
    let meta = |version: u32, node: i32| format!("version={version}\ncluster.id={}\nnode.id={node}\n", cluster(1));
    type Check = fn(&DirError) -> bool;
    let cases: [(String, Check); 5] = [
        (meta(FORMAT_VERSION + 1, 1), |error| matches!(error, DirError::NewerFormat { found: 3, known: 2, .. })),
        (meta(1, 7), |error| matches!(error, DirError::OtherNode { .. })),
        ("version=1\nnode.id=1\n".to_owned(), |error| matches!(error, DirError::BadIdentity { .. })),
        ("nonsense".to_owned(), |error| matches!(error, DirError::BadIdentity { .. })),
        (String::new(), |error| matches!(error, DirError::BadIdentity { .. })),
    ];
    for (text, expected) in cases {
        let mem = MemFs::new();
        mem.create_dir_all(Path::new("/data")).unwrap();
        mem.open(Path::new("/data/meta.properties"), OpenMode::Create)
            .unwrap()
            .write_all_at(text.as_bytes(), 0)
            .unwrap();
        let before = mem.files();
        let fs: Arc<dyn Fs> = Arc::new(mem.clone());
        let error = open(&fs, Path::new("/data")).unwrap_err();
        assert!(expected(&error), "{error}");
        assert_eq!(mem.files(), before);
    }
}

#[test]
fn a_full_or_failing_disk_is_named_and_a_later_start_succeeds() {
    for fault in [Fault::NoSpace, Fault::Io] {
        for call in 0..12 {
            let mem = MemFs::new();
            let fs: Arc<dyn Fs> = Arc::new(mem.clone());
            mem.fail_at(call, fault);
            if let Err(error) = open(&fs, Path::new("/data")) {
                assert!(matches!(error, DirError::Io { .. }), "{error}");
                assert!(error.to_string().contains(" / ") || error.to_string().contains("/data"), "{error}");
            }
            mem.heal();
            open(&fs, Path::new("/data")).unwrap();
        }
    }
}

#[test]
fn partitions_are_listed_and_leftovers_of_deletions_removed() {
    for (fs, root, _guard) in every() {
        let dir = open(&fs, &root).unwrap();
        for (topic, partition) in [("a", 0), ("a", 10), ("a", 2), ("b.c", 0)] {
            fs.create_dir_all(&dir.partition_dir(&TopicPartition::new(topic, partition))).unwrap();
        }
        fs.create_dir_all(&dir.topic_dir("a").join("01")).unwrap();
        let listed =
            |dir: &DataDir| -> Vec<String> { dir.partitions().unwrap().iter().map(|tp| tp.to_string()).collect() };
        assert_eq!(listed(&dir), ["a-0", "a-2", "a-10", "b.c-0"]);
        let id = TopicId(cluster(9));
        let staged = dir.stage_topic_deletion("a", id).unwrap().unwrap();
        assert_eq!(listed(&dir), ["b.c-0"]);
        assert_eq!(dir.stage_topic_deletion("a", id).unwrap(), Some(staged.clone()));
        let other = dir.stage_topic_deletion("b.c", TopicId(cluster(8))).unwrap().unwrap();
        dir.remove(&other).unwrap();
        dir.remove(&other).unwrap();
        assert_eq!(dir.remove_leftovers().unwrap(), 1);
        assert!(!fs.exists(&staged).unwrap());
        assert_eq!(dir.stage_topic_deletion("a", id).unwrap(), None);
    }
}

#[test]
fn no_topic_is_taken_for_a_leftover_and_the_longest_name_can_be_staged() {
    let fs = Arc::new(MemFs::new());
    let dir = DataDir::open(fs.clone(), "/d".into(), NodeId::new(1), cluster(1)).unwrap();
    let longest = "x".repeat(249);
    let names = ["a-delete", "a.deleted", "deleted", &longest];
    for name in names {
        fs.create_dir_all(&dir.partition_dir(&TopicPartition::new(name, 0))).unwrap();
    }
    assert_eq!(dir.remove_leftovers().unwrap(), 0);
    assert_eq!(dir.partitions().unwrap().len(), names.len());
    let staged = dir.stage_topic_deletion(&longest, TopicId(cluster(7))).unwrap().unwrap();
    assert!(staged.file_name().unwrap().len() <= 255, "file systems take no longer name");
    assert_eq!(dir.remove_leftovers().unwrap(), 1);
    assert_eq!(dir.partitions().unwrap().len(), names.len() - 1);
}

#[test]
fn a_staged_deletion_survives_a_crash_at_any_call() {
    for call in 0..8 {
        for seed in 0..20 {
            let mem = MemFs::new();
            let fs: Arc<dyn Fs> = Arc::new(mem.clone());
            let dir = open(&fs, Path::new("/data")).unwrap();
            fs.create_dir_all(&dir.partition_dir(&TopicPartition::new("a", 0))).unwrap();
            fs.sync_all(Path::new("/")).unwrap();
            mem.fail_at(call, Fault::PowerCut);
            let staged = dir.stage_topic_deletion("a", TopicId(cluster(3)));
            if let Ok(Some(staged)) = &staged {
                let _ = dir.remove(staged);
            }
            drop(dir);
            mem.crash(seed);
            let dir = open(&fs, Path::new("/data")).unwrap();
            assert!(staged.is_err() || dir.partitions().unwrap().is_empty());
            dir.remove_leftovers().unwrap();
            assert_eq!(dir.list(&dir.wal_dir()).unwrap().len(), dir.partitions().unwrap().len());
        }
    }
}

#[test]
fn a_sync_of_the_file_system_that_failed_once_never_succeeds_again() {
    let mem = MemFs::new();
    let fs: Arc<dyn Fs> = Arc::new(mem.clone());
    let dir = open(&fs, Path::new("/data")).unwrap();
    dir.sync_all().unwrap();
    let file = fs.open(&dir.wal_dir().join("f"), OpenMode::Create).unwrap();
    file.write_all_at(b"lost", 0).unwrap();
    mem.fail_at(0, Fault::Io);
    dir.sync_all().unwrap_err();
    mem.heal();
    // The system has told its error and would call this one a success.
    let error = dir.sync_all().unwrap_err();
    assert!(error.to_string().contains("an earlier sync failed"), "{error}");
}

#[test]
fn a_failed_sync_of_the_file_system_leaves_nothing_that_vouches_for_the_page_cache() {
    let mem = MemFs::new();
    let fs: Arc<dyn Fs> = Arc::new(mem.clone());
    let dir = open(&fs, Path::new("/data")).unwrap();
    let file = Path::new("/data/checkpoint-page-cache");
    dir.write_written([]).unwrap();
    dir.sync_all().unwrap();
    assert!(fs.exists(file).unwrap());
    mem.fail_sync_at(0);
    dir.sync_all().unwrap_err();
    assert!(!fs.exists(file).unwrap());
}

#[test]
fn a_new_directory_survives_a_crash_with_all_that_was_made_above_it() {
    for seed in 0..100 {
        let mem = MemFs::new();
        let fs: Arc<dyn Fs> = Arc::new(mem.clone());
        let root = Path::new("/srv/of/chronik/data");
        drop(open(&fs, root).unwrap());
        mem.crash(seed);
        assert!(!open(&fs, root).unwrap().created(), "seed {seed}");
    }
}

#[test]
fn a_relative_directory_is_made_where_the_process_is() {
    let mem = MemFs::new();
    let above = above(&mem, Path::new("some/data"));
    assert_eq!(above, [(Path::new("some"), true), (Path::new("."), true)]);
}

#[test]
fn a_sync_reaches_logs_on_a_file_system_of_their_own() {
    for seed in 0..50 {
        let mem = MemFs::new();
        let fs: Arc<dyn Fs> = Arc::new(mem.clone());
        mem.create_dir_all(Path::new("/data/wal")).unwrap();
        mem.mount(Path::new("/data/wal"));
        let dir = open(&fs, Path::new("/data")).unwrap();
        let path = dir.partition_dir(&TopicPartition::new("a", 0)).join("f");
        fs.create_dir_all(path.parent().unwrap()).unwrap();
        fs.open(&path, OpenMode::Create).unwrap().write_all_at(b"acknowledged", 0).unwrap();
        dir.sync_all().unwrap();
        assert_eq!(dir.partitions().unwrap().len(), 1);
        drop(dir);
        mem.crash(seed);
        assert_eq!(read_small_file(&mem, &path).unwrap().unwrap(), b"acknowledged", "seed {seed}");
    }
}

#[test]
fn a_directory_of_the_format_before_is_taken_into_this_one() {
    for (fs, root, _guard) in every() {
        drop(open(&fs, &root).unwrap());
        let meta = root.join("meta.properties");
        let text = String::from_utf8(read_small_file(&*fs, &meta).unwrap().unwrap()).unwrap();
        let older = text.replace("version=2", "version=1");
        replace_file(&*fs, &meta, older.as_bytes(), Durability::Durable).unwrap();
        assert_eq!(DataDir::identity(&*fs, &root).unwrap().unwrap().version, 1);
        assert_eq!(open(&fs, &root).unwrap().cluster_id(), cluster(1));
        assert_eq!(read_small_file(&*fs, &meta).unwrap().unwrap(), text.as_bytes());
    }
}

#[test]
fn a_topic_id_that_was_synced_survives_a_power_cut() {
    for seed in 0..20 {
        let mem = MemFs::new();
        let fs: Arc<dyn Fs> = Arc::new(mem.clone());
        let dir = open(&fs, Path::new("/data")).unwrap();
        let id = TopicId(cluster(9));
        dir.write_topic_id("t", id).unwrap();
        dir.sync_topic_id("t").unwrap();
        fs.create_dir_all(&dir.partition_dir(&TopicPartition::new("t", 0))).unwrap();
        drop(dir);
        mem.crash(seed);
        let dir = open(&fs, Path::new("/data")).unwrap();
        let is_there = fs.exists(&dir.topic_dir("t")).unwrap();
        assert_eq!(dir.topic_id("t").unwrap(), is_there.then_some(id), "seed {seed}");
    }
}
