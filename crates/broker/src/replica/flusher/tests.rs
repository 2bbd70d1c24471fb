//! That one thread at a time syncs, whoever asks for it.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chronik_log::fs::{DirEntry, File, Fs, MemFs, OpenMode};
use chronik_log::{Log, LogConfig};
use chronik_model::{LeaderEpoch, NodeId, Timestamp, TopicPartition, Uuid};
use chronik_record::{BatchBuilder, Compression, TimestampType};

use super::*;
use crate::settings::PartitionSettings;

/// Notices two syncs of files at the same time.
#[derive(Debug, Default)]
struct Watch {
    syncing: AtomicUsize,
    together: AtomicBool,
}

#[derive(Debug)]
struct WatchedFs(MemFs, Arc<Watch>);

#[derive(Debug)]
struct WatchedFile(Arc<dyn File>, Arc<Watch>);

impl File for WatchedFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(buf, position)
    }
    fn write_at_vectored(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.0.write_at_vectored(slices, position)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.1.syncing.fetch_add(1, Ordering::SeqCst) > 0 {
            self.1.together.store(true, Ordering::SeqCst);
        }
        (0..50).for_each(|_| std::thread::yield_now());
        let outcome = self.0.sync_data();
        self.1.syncing.fetch_sub(1, Ordering::SeqCst);
        outcome
    }
    fn sync_file_system(&self) -> io::Result<()> {
        self.0.sync_file_system()
    }
    fn drop_cached(&self, from: u64) -> io::Result<()> {
        self.0.drop_cached(from)
    }
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_fd()
    }
}

impl Fs for WatchedFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(WatchedFile(self.0.open(path, mode)?, Arc::clone(&self.1))))
    }
    fn lock(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.0.lock(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir_all(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.read_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(path)
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.0.sync_all(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }
    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.0.file_len(path)
    }
    fn device(&self, path: &Path) -> io::Result<u64> {
        self.0.device(path)
    }
}

#[test]
fn two_threads_never_sync_at_the_same_time() {
    let watch = Arc::new(Watch::default());
    let fs: Arc<dyn Fs> = Arc::new(WatchedFs(MemFs::new(), Arc::clone(&watch)));
    let root = PathBuf::from("/data");
    let dir = Arc::new(DataDir::open(Arc::clone(&fs), root, NodeId::new(1), Uuid::from_random([1; 16])).unwrap());
    let queue = Arc::new(FlushQueue::default());
    let metrics = Arc::new(Metrics::register(&mut prometheus_client::registry::Registry::default()));
    let flusher = start(Arc::clone(&queue), Arc::clone(&dir), metrics).unwrap();
    let name = TopicPartition::new("t", 0);
    let log = Log::create(fs, dir.partition_dir(&name), name.clone(), LogConfig::default(), true).unwrap();
    let fixed = chronik_metadata::config::StaticConfig::new(NodeId::new(1), std::collections::BTreeMap::new()).unwrap();
    let topic = chronik_metadata::Topic { id: Default::default(), name: "t".into(), partitions: Vec::new() };
    let settings = PartitionSettings::resolve(
        &chronik_metadata::Image::default(),
        &topic,
        &fixed,
        std::time::Duration::from_secs(1),
    );
    let partition = Partition::lead(name, LeaderEpoch::ZERO, log, settings, Arc::clone(&queue));
    let now = Timestamp::from_millis(1000);
    let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, now);
    builder.append(now, None, Some(b"value"), &[]);
    let batch = builder.build().unwrap();
    for _ in 0..200 {
        partition.append(&batch, now, false).unwrap();
        queue.round().flush(&VecDeque::from([Arc::clone(&partition)]), &dir);
    }
    queue.stop();
    flusher.join().unwrap();
    assert!(!watch.together.load(Ordering::SeqCst), "the thread that did not get the error would acknowledge");
}
