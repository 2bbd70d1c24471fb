//! Starts, stops and re-configures partitions as the metadata says, and finds them for the handlers.
//!
//! Only a committed removal deletes files. A partition that the metadata does not know is left alone and named in the
//! log, and one whose files are missing although a checkpoint says that there was something in them is not served, rather
//! than begun anew. The names of a new partition's files are durable with its first flush: until then a power cut may take
//! them, and the next start makes them again.

mod checkpoints;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use chronik_log::dir::{DataDir, DirError, SYNC_ALL_MIN};
use chronik_log::fs::Fs;
use chronik_log::{Checkpoint, Checkpoints, Log, LogError, Recovered, RecoveryPoints};
use chronik_metadata::config::{BrokerSettings, StaticConfig};
use chronik_metadata::{Delta, Image, ImageListener, Role, Topic};
use chronik_model::{NodeId, Offset, PartitionIndex, TopicId, TopicPartition, Uuid};
use chronik_replication::Durability;
use chronik_replication::isr::Assignment;
use chronik_replication::message::TopicIdPartition;
use chronik_wire::ErrorCode;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::feed::Feed;
use super::flusher;
use super::isr::IsrQueue;
use super::lost::cut_where_lost;
use super::partition::{Beginning, Partition, Shared};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::settings::PartitionSettings;

/// Logs are opened and made, and topics' ids synced, by this many threads at once.
const OPEN_THREADS: usize = 4;
/// A few are not worth a thread.
const THREADS_FROM: usize = 16;

/// Checkpoints of partitions.
pub(super) type Lines = BTreeMap<TopicPartition, Checkpoint>;

/// The partitions of this broker.
#[derive(Debug)]
pub struct ReplicaHost {
    fs: Arc<dyn Fs>,
    dir: Arc<DataDir>,
    static_config: Arc<StaticConfig>,
    clock: Clock,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    registry: ArcSwap<Registry>,
    /// The metadata that the partitions follow. Held while they are changed, so that they are changed by one at a time.
    image: Mutex<Arc<Image>>,
    /// Whether this node leads; told after the partitions have taken their part.
    role: watch::Sender<Role>,
    settings: ArcSwap<BrokerSettings>,
    /// The lines on file. Held while others are cut and written, so that an older one never replaces a newer one.
    checkpoints: Mutex<Lines>,
    /// Removed topics whose files could not be set aside; they stay pending until the next start.
    unstaged: Mutex<HashSet<TopicId>>,
    /// Told when topics were removed and their files wait to be deleted.
    pub(super) removed: Notify,
}

#[derive(Debug, Default)]
struct Registry {
    by_id: BTreeMap<TopicId, Arc<TopicReplicas>>,
    by_name: BTreeMap<Arc<str>, Arc<TopicReplicas>>,
}

#[derive(Debug)]
struct TopicReplicas {
    id: TopicId,
    name: Arc<str>,
    /// By index; `None` where the partition cannot be served.
    partitions: Vec<Option<Arc<Partition>>>,
}

/// What opening all logs found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opened {
    /// Topics in the image.
    pub topics: usize,
    /// Partitions served.
    pub partitions: usize,
    /// Bytes that recovery verified.
    pub scanned_bytes: u64,
}

/// The partitions cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory failed.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// A thread that opened logs panicked.
    #[error("a thread that opened logs has panicked")]
    Panicked,
}

/// The partitions cannot be closed cleanly; the next start verifies what was written last.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// A log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The data directory failed.
    #[error(transparent)]
    Dir(#[from] DirError),
}

impl ReplicaHost {
    /// A host without partitions, with its flusher running.
    ///
    /// # Errors
    /// The flusher's thread could not be started.
    pub fn start(
        fs: Arc<dyn Fs>,
        dir: Arc<DataDir>,
        static_config: Arc<StaticConfig>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Arc<Self>, JoinHandle<()>)> {
        let shared = Arc::new(Shared::default());
        let flusher = flusher::start(Arc::clone(&shared.flush_queue), Arc::clone(&dir), Arc::clone(&metrics))?;
        let settings = ArcSwap::from_pointee(BrokerSettings::resolve(&Image::default(), &static_config));
        let host = Self {
            fs,
            dir,
            static_config,
            clock,
            metrics,
            shared,
            registry: ArcSwap::default(),
            image: Mutex::default(),
            role: watch::Sender::new(Role::Leading),
            settings,
            checkpoints: Mutex::default(),
            unstaged: Mutex::default(),
            removed: Notify::new(),
        };
        Ok((Arc::new(host), flusher))
    }

    /// Opens every partition of the image, in the role that the node begins in. What recovery read is synced before anything
    /// is served.
    ///
    /// # Errors
    /// The file system failed in a way that concerns all partitions.
    pub fn open_all(
        &self,
        image: &Arc<Image>,
        role: &Role,
        checkpoints: &Checkpoints,
        clean: bool,
    ) -> Result<Opened, OpenError> {
        let mut current = self.image.lock();
        *current = Arc::clone(image);
        self.role.send_replace(role.clone());
        self.settings.store(Arc::new(BrokerSettings::resolve(image, &self.static_config)));
        self.checkpoints.lock().clone_from(&checkpoints.durable);
        self.stage_interrupted_deletions(image);
        let topics: Vec<&Arc<Topic>> = image.topics().collect();
        let claimed = in_threads(&topics, |topic| {
            let mut indexes = (0..).zip(&topic.partitions).map(|(index, _)| index);
            let is_known = |index| known(checkpoints, topic, index).is_known();
            self.claim(topic, !indexes.all(is_known))
        })?;
        let work: Vec<(&Topic, bool, i32)> = topics
            .iter()
            .zip(claimed)
            .flat_map(|(topic, claimed)| (0..).zip(&topic.partitions).map(move |(i, _)| (topic.as_ref(), claimed, i)))
            .collect();
        let mut results: Vec<Option<(Log, Recovered)>> =
            in_threads(
                &work,
                |(topic, claimed, index)| {
                    if *claimed { self.open(image, topic, *index, checkpoints, clean) } else { None }
                },
            )?;
        if image.leader() != NodeId::NONE {
            let logs = results
                .iter_mut()
                .zip(&work)
                .filter_map(|(result, (topic, ..))| Some((&mut result.as_mut()?.0, topic.id)));
            cut_where_lost(&self.dir, &checkpoints.durable, logs)?;
        }
        self.sync_recovered(image, &work, &mut results)?;
        let mut opened = Opened { topics: topics.len(), ..Opened::default() };
        let mut registry = Registry::default();
        let mut results = results.into_iter();
        for topic in topics {
            let partitions = (0..)
                .zip(&topic.partitions)
                .map(|(index, _)| {
                    let (log, recovered) = results.next().flatten()?;
                    opened.partitions += 1;
                    opened.scanned_bytes += recovered.scanned_bytes;
                    self.metrics.damaged_ranges.inc_by(i64::try_from(recovered.damage.len()).unwrap_or(i64::MAX));
                    self.begin(image, topic, index, log)
                })
                .collect();
            registry.insert(topic, partitions);
        }
        self.metrics.recovered_bytes.set(i64::try_from(opened.scanned_bytes).unwrap_or(i64::MAX));
        self.publish(registry);
        Ok(opened)
    }

    /// Makes what a crash left in the page cache durable, where a partition counts only durable bytes.
    fn sync_recovered(
        &self,
        image: &Image,
        work: &[(&Topic, bool, i32)],
        results: &mut [Option<(Log, Recovered)>],
    ) -> Result<(), OpenError> {
        let mut unsynced: Vec<&mut Log> = results
            .iter_mut()
            .zip(work)
            .filter_map(|(result, (topic, ..))| Some((result.as_mut()?, topic)))
            .filter(|((_, recovered), _)| recovered.needs_sync)
            .filter(|(_, topic)| self.partition_settings(image, topic).replica.durability == Durability::Fsync)
            .map(|((log, _), _)| log)
            .collect();
        if unsynced.len() >= SYNC_ALL_MIN {
            self.dir.sync_all()?;
            unsynced.iter_mut().for_each(|log| log.synced_all());
            return Ok(());
        }
        for log in unsynced {
            if let Err(error) = log.flush() {
                tracing::error!(partition = %log.topic_partition(), %error, "recovered log cannot be synced");
                self.dir.forget_written()?;
            }
        }
        Ok(())
    }

    /// Sets aside what topics left behind whose removal was committed and then interrupted. A name may have a topic again.
    fn stage_interrupted_deletions(&self, image: &Image) {
        for removed in image.deletions_pending() {
            match self.dir.topic_id(&removed.name) {
                Ok(Some(id)) if id != removed.id => {}
                // Who does not say is the topic's that has the name.
                Ok(None) if image.topic(&removed.name).is_some() => {}
                Ok(_) => self.stage_deletion(&removed.name, removed.id),
                Err(error) => {
                    self.unstaged.lock().insert(removed.id);
                    tracing::error!(topic = %removed.name, %error, "files of a deleted topic cannot be set aside");
                }
            }
        }
    }

    /// Whether the directory of the topic's name may be used for it; where nobody has it, it becomes the topic's. `make`
    /// where it is to be made if there is none.
    fn claim(&self, topic: &Topic, make: bool) -> bool {
        let error = match self.dir.topic_id(&topic.name) {
            Ok(Some(id)) if id == topic.id => return true,
            Ok(Some(id)) => {
                tracing::error!(topic = %topic.name, id = %topic.id, found = %id, "files of another topic are in the way, the topic is not served");
                return false;
            }
            Ok(None) if make || self.fs.exists(&self.dir.topic_dir(&topic.name)).unwrap_or(false) => {
                match self.dir.write_topic_id(&topic.name, topic.id) {
                    Ok(()) => return true,
                    // A directory of a build that did not write ids: the next start tries again.
                    Err(error) if !make => {
                        tracing::warn!(topic = %topic.name, %error, "topic id cannot be written");
                        return true;
                    }
                    Err(error) => error,
                }
            }
            // Nothing is there and nothing is to be made: each partition says what is missing.
            Ok(None) => return true,
            Err(error) => error,
        };
        tracing::error!(topic = %topic.name, %error, "topic's directory cannot be used, the topic is not served");
        false
    }

    fn open(
        &self,
        image: &Image,
        topic: &Topic,
        index: i32,
        checkpoints: &Checkpoints,
        clean: bool,
    ) -> Option<(Log, Recovered)> {
        let name = TopicPartition::new(Arc::clone(&topic.name), index);
        let path = self.dir.partition_dir(&name);
        let config = self.partition_settings(image, topic).log;
        let known = known(checkpoints, topic, index);
        let exists = self.fs.exists(&path).unwrap_or(true);
        let opened = match exists {
            false if known.is_known() => {
                tracing::error!(partition = %name, path = %path.display(), "files are missing, the partition is not served");
                return None;
            }
            // The topic was committed and the process died before its files were made, or a power cut took them.
            false if known == RecoveryPoints::default() => {
                Log::create(Arc::clone(&self.fs), path, name.clone(), config, false)
                    .map(|log| (log, Recovered { needs_sync: true, ..Recovered::default() }))
                    .map_err(|error| error.to_string())
            }
            _ => Log::open(Arc::clone(&self.fs), path, name.clone(), config, known, clean, self.clock.wall())
                .map_err(|error| error.to_string()),
        };
        match opened {
            Ok((log, recovered)) => {
                if recovered.truncated_bytes > 0 {
                    tracing::warn!(
                        partition = %name, bytes = recovered.truncated_bytes,
                        "torn tail cut: the last write before the crash was not complete"
                    );
                }
                for lost in &recovered.lost {
                    tracing::warn!(
                        partition = %name, lost = ?lost,
                        "records were not synced when the power went, consumers pass over their offsets"
                    );
                }
                for damage in &recovered.damage {
                    tracing::error!(partition = %name, damage = ?damage, "log is damaged, the range is not served");
                }
                Some((log, recovered))
            }
            Err(error) => {
                tracing::error!(partition = %name, error, "log cannot be opened, the partition is not served");
                None
            }
        }
    }

    /// A partition on its log, in the part that this node has.
    fn begin(&self, image: &Image, topic: &Topic, index: i32, log: Log) -> Option<Arc<Partition>> {
        let assigned = usize::try_from(index).ok().and_then(|at| topic.partitions.get(at))?;
        let beginning = if self.leads(assigned) {
            Beginning::Lead(self.assignment(assigned))
        } else {
            Beginning::Follow(assigned.leader_epoch)
        };
        Some(Partition::begin(
            TopicIdPartition::new(topic.id, PartitionIndex::new(index)),
            log,
            beginning,
            image.offset(),
            self.partition_settings(image, topic),
            Arc::clone(&self.shared),
            self.clock.now(),
        ))
    }

    /// Whether this node leads a partition. A journal that is being copied may say so of an earlier time.
    fn leads(&self, assigned: &chronik_metadata::Partition) -> bool {
        self.role.borrow().leads() && assigned.leader == self.dir.node_id()
    }

    fn assignment(&self, assigned: &chronik_metadata::Partition) -> Assignment {
        Assignment {
            node_id: self.dir.node_id(),
            leader_epoch: assigned.leader_epoch,
            partition_epoch: assigned.partition_epoch,
            replicas: assigned.replicas.clone(),
            isr: assigned.isr.clone(),
        }
    }

    /// Gives a partition the part that the metadata now says this node has in it.
    fn take_part(&self, partition: &Arc<Partition>, assigned: &chronik_metadata::Partition, known_since: Offset) {
        if self.leads(assigned) {
            partition.lead(self.assignment(assigned), known_since, self.clock.now());
        } else if !self.role.borrow().leads() && assigned.leader != self.dir.node_id() {
            partition.follow(assigned.leader_epoch, known_since);
        }
    }

    fn partition_settings(&self, image: &Image, topic: &Topic) -> PartitionSettings {
        PartitionSettings::resolve(image, topic, &self.static_config, &self.settings.load())
    }

    /// Opens a partition anew whose log went offline in a write, as on a full disk: what recovery finds is what there is. `None`
    /// where it cannot be opened, is not offline, or went offline in a sync, of which nobody knows what it left.
    pub(crate) fn reopen(&self, id: TopicIdPartition) -> Option<Arc<Partition>> {
        let image = Arc::clone(&self.image.lock());
        let topic = image.topic_by_id(id.topic_id)?;
        let index = id.partition.get();
        let known = self.find(id)?;
        if !known.is_offline() || known.sync_failed() {
            return None;
        }
        // The other one is done with its files, once a sync that is under way is over.
        known.give_up();
        if let Err(error) = self.sync_in_place() {
            tracing::error!(partition = %known.name(), %error, "partition cannot be opened again");
            return None;
        }
        let mut checkpoints = Checkpoints::default();
        {
            // Recovery may cut what was said to be written.
            let on_file = self.checkpoints.lock();
            if let Err(error) = self.dir.forget_written() {
                tracing::error!(partition = %known.name(), %error, "partition cannot be opened again");
                return None;
            }
            checkpoints.durable.clone_from(&on_file);
        }
        let (mut log, recovered) = self.open(&image, topic, index, &checkpoints, false)?;
        if let Err(error) = cut_where_lost(&self.dir, &checkpoints.durable, std::iter::once((&mut log, topic.id))) {
            tracing::error!(partition = %known.name(), %error, "checkpoint cannot be written");
            return None;
        }
        if recovered.needs_sync
            && let Err(error) = log.flush()
        {
            tracing::error!(partition = %known.name(), %error, "recovered log cannot be synced");
        }
        let current = self.image.lock();
        let topic = current.topic_by_id(id.topic_id)?;
        if self.find(id).is_none_or(|now| !Arc::ptr_eq(&now, &known)) {
            return None;
        }
        let partition = self.begin(&current, topic, index, log)?;
        let mut registry = self.registry.load().copy();
        let mut partitions = registry.remove(topic.id)?.partitions.clone();
        *partitions.get_mut(usize::try_from(index).ok()?)? = Some(Arc::clone(&partition));
        registry.insert(topic, partitions);
        self.publish(registry);
        tracing::info!(partition = %partition.name(), log_end = %partition.position().log_end, "partition opened again");
        self.shared.feed.push(&partition);
        Some(partition)
    }

    /// The partition, or the error that a client gets which names it by topic name.
    pub(crate) fn by_name(&self, topic: &str, index: i32) -> Result<Arc<Partition>, ErrorCode> {
        let registry = self.registry.load();
        let topic = registry.by_name.get(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        topic.partition(index)
    }

    /// The partition, or the error that a client gets which names it by topic id.
    pub(crate) fn by_id(&self, topic: TopicId, index: i32) -> Result<Arc<Partition>, ErrorCode> {
        let registry = self.registry.load();
        let topic = registry.by_id.get(&topic).ok_or(ErrorCode::UnknownTopicId)?;
        topic.partition(index)
    }

    /// The partition, whatever part this node has in it.
    pub(crate) fn find(&self, id: TopicIdPartition) -> Option<Arc<Partition>> {
        let registry = self.registry.load();
        let index = usize::try_from(id.partition.get()).ok()?;
        registry.by_id.get(&id.topic_id)?.partitions.get(index)?.clone()
    }

    /// Every partition served, by topic name and index.
    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        let registry = self.registry.load();
        registry.by_name.values().flat_map(|topic| topic.partitions.iter().flatten().cloned()).collect()
    }

    /// The partitions of a topic by index, `None` for one that cannot be served; empty where there is no such topic.
    pub(crate) fn of_topic(&self, topic: &str) -> Vec<Option<Arc<Partition>>> {
        self.registry.load().by_name.get(topic).map_or_else(Vec::new, |topic| topic.partitions.clone())
    }

    /// Tells links which partitions have moved.
    pub(crate) fn feed(&self) -> &Arc<Feed> {
        &self.shared.feed
    }

    /// Proposed changes of ISRs.
    pub(crate) fn isr_queue(&self) -> &Arc<IsrQueue> {
        &self.shared.isr_queue
    }

    /// The role of this node, told after its partitions have taken their part.
    pub(crate) fn role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    /// The cluster.
    pub(crate) fn cluster_id(&self) -> Uuid {
        self.dir.cluster_id()
    }

    /// This node.
    pub(crate) fn node_id(&self) -> NodeId {
        self.dir.node_id()
    }

    /// The broker's settings as they are now.
    pub(crate) fn settings(&self) -> Arc<BrokerSettings> {
        self.settings.load_full()
    }

    pub(crate) fn static_config(&self) -> &StaticConfig {
        &self.static_config
    }

    /// The data directory.
    pub(crate) fn root(&self) -> &Path {
        self.dir.root()
    }

    /// Removes the files of removed topics. Blocks.
    pub(super) fn remove_leftovers(&self) -> Result<(), DirError> {
        self.dir.remove_leftovers().map(drop)
    }

    /// Removes the files of removed topics, and tells whether those of `topic` are among them. Blocks.
    pub(super) fn delete_files(&self, topic: TopicId) -> Result<bool, DirError> {
        self.remove_leftovers()?;
        Ok(!self.unstaged.lock().contains(&topic))
    }

    /// Has the files of removed topics deleted. Told once more when the image shows the removal: whoever looked before has
    /// not seen it.
    pub(crate) fn look_for_removed(&self) {
        self.removed.notify_one();
    }

    /// Frees the name of a removed topic. Where that fails the removal stays pending, and the next start tries again.
    fn stage_deletion(&self, topic: &str, id: TopicId) {
        if let Err(error) = self.dir.stage_topic_deletion(topic, id) {
            self.unstaged.lock().insert(id);
            tracing::error!(topic, %error, "files of a deleted topic cannot be set aside");
        }
    }

    /// Keeps the files of a topic that only this node had, and that nobody deleted.
    fn keep_aside(&self, topic: &str, id: TopicId) {
        match self.sync_in_place().and_then(|()| self.dir.keep_topic_aside(topic, id)) {
            Ok(Some(kept)) => {
                tracing::warn!(topic, kept = %kept.display(), "the leader does not have this topic, its files are kept aside");
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(topic, %error, "files of a topic that the leader does not have cannot be set aside")
            }
        }
    }

    /// Makes it durable whose the directories of new topics are, before there is anything in them: the sync journal may have
    /// bytes of an earlier topic of the name.
    fn sync_claims(&self, topics: &[(&Topic, bool)]) {
        let claimed: Vec<&Topic> = topics.iter().filter(|(_, claimed)| *claimed).map(|(topic, _)| *topic).collect();
        let synced = in_threads(&claimed, |topic| self.dir.sync_topic_id(&topic.name));
        if let Err(error) = synced.and_then(|synced| Ok(synced.into_iter().collect::<Result<(), _>>()?)) {
            tracing::error!(%error, "ids of new topics cannot be synced");
        }
    }

    /// Makes the partitions of a topic from index `from` on; `None` for one that cannot be served, as none can where the
    /// directory is not `claimed`.
    fn create(&self, image: &Image, topic: &Topic, from: usize, claimed: bool) -> Vec<Option<Arc<Partition>>> {
        let indexes: Vec<i32> = (0..).zip(&topic.partitions).skip(from).map(|(index, _)| index).collect();
        let none = || indexes.iter().map(|_| None).collect();
        if !claimed {
            return none();
        }
        let create = |index: &i32| self.create_one(image, topic, *index);
        in_threads(&indexes, create).unwrap_or_else(|error| {
            tracing::error!(topic = %topic.name, %error, "partitions cannot be created");
            none()
        })
    }

    fn create_one(&self, image: &Image, topic: &Topic, index: i32) -> Option<Arc<Partition>> {
        let name = TopicPartition::new(Arc::clone(&topic.name), index);
        let path: PathBuf = self.dir.partition_dir(&name);
        let config = self.partition_settings(image, topic).log;
        if self.fs.exists(&path).unwrap_or(true) {
            if !self.role.borrow().leads() {
                // This node led once and grew the topic alone: its leader says what of it stays.
                let (log, _) = self.open(image, topic, index, &Checkpoints::default(), false)?;
                return self.begin(image, topic, index, log);
            }
            tracing::error!(
                partition = %name, path = %path.display(),
                "files of something else are in the way, the partition is not served"
            );
            return None;
        }
        match Log::create(Arc::clone(&self.fs), path, name.clone(), config, false) {
            Ok(log) => self.begin(image, topic, index, log),
            Err(error) => {
                tracing::error!(partition = %name, %error, "log cannot be created, the partition is not served");
                None
            }
        }
    }

    fn publish(&self, registry: Registry) {
        self.metrics.topics.set(i64::try_from(registry.by_name.len()).unwrap_or(i64::MAX));
        let partitions = registry.by_name.values().map(|topic| topic.partitions.len()).sum::<usize>();
        self.metrics.partitions.set(i64::try_from(partitions).unwrap_or(i64::MAX));
        self.registry.store(Arc::new(registry));
    }
}

/// What the checkpoints say of a partition of this topic, not of an earlier one that had its name. Lines of builds that did
/// not write ids are taken as the topic's.
fn known(checkpoints: &Checkpoints, topic: &Topic, index: i32) -> RecoveryPoints {
    checkpoints.of(&TopicPartition::new(Arc::clone(&topic.name), index), |line| is_about(line, topic.id))
}

fn is_about(line: &Checkpoint, topic: TopicId) -> bool {
    line.topic_id.is_none_or(|id| id == topic)
}

/// Does some of the work in each of a few threads, or a little of it in this one; the results are in the order of the items.
fn in_threads<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Result<Vec<R>, OpenError> {
    if items.len() < THREADS_FROM {
        return Ok(items.iter().map(work).collect());
    }
    let chunk = items.len().div_ceil(OPEN_THREADS);
    let work = &work;
    let results: Vec<R> = std::thread::scope(|scope| {
        let parts = items.chunks(chunk);
        let threads: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|_| Vec::new())).collect()
    });
    if results.len() == items.len() { Ok(results) } else { Err(OpenError::Panicked) }
}

impl ImageListener for ReplicaHost {
    fn apply(&self, image: &Arc<Image>, delta: &Delta) {
        let mut current = self.image.lock();
        let before = std::mem::replace(&mut *current, Arc::clone(image));
        // A leader that replaced an image of its own has removed what is gone; another one may never have had it.
        let same_leader = (before.generation(), before.leader()) == (image.generation(), image.leader());
        if delta.broker_configs_changed() {
            self.settings.store(Arc::new(BrokerSettings::resolve(image, &self.static_config)));
        }
        let mut registry = self.registry.load().copy();
        for removed in delta.topics_removed() {
            if let Some(topic) = registry.remove(removed.id) {
                // Before the name is free: whoever still holds a partition must not reach its successor's files.
                topic.partitions.iter().flatten().for_each(|partition| partition.give_up());
                let is_removed = !delta.is_replacement()
                    || same_leader
                    || image.deletions_pending().any(|pending| pending.id == removed.id);
                if is_removed {
                    self.stage_deletion(&topic.name, topic.id);
                } else {
                    self.keep_aside(&topic.name, topic.id);
                }
            }
            self.removed.notify_one();
        }
        let created: Vec<(&Topic, bool)> = delta
            .topics_created()
            .filter_map(|id| image.topic_by_id(id))
            .map(|topic| (topic.as_ref(), self.claim(topic, true)))
            .collect();
        self.sync_claims(&created);
        for (topic, claimed) in created {
            registry.insert(topic, self.create(image, topic, 0, claimed));
        }
        for topic in delta.topics_grown().filter_map(|id| image.topic_by_id(id)) {
            let mut partitions = registry.remove(topic.id).map(|t| t.partitions.clone()).unwrap_or_default();
            partitions.extend(self.create(image, topic, partitions.len(), self.claim(topic, true)));
            registry.insert(topic, partitions);
        }
        for topic in delta.topics_shrunk().filter_map(|id| image.topic_by_id(id)) {
            let mut partitions = registry.remove(topic.id).map(|t| t.partitions.clone()).unwrap_or_default();
            for gone in partitions.split_off(topic.partitions.len().min(partitions.len())).into_iter().flatten() {
                gone.give_up();
                match self.sync_in_place().and_then(|()| self.dir.keep_partition_aside(gone.name(), topic.id)) {
                    Ok(kept) => {
                        let kept = kept.as_deref().unwrap_or(Path::new("-")).display();
                        tracing::warn!(partition = %gone.name(), %kept, "the leader does not have this partition, its files are kept aside");
                    }
                    Err(error) => {
                        tracing::error!(partition = %gone.name(), %error, "files of a partition that the leader does not have cannot be set aside");
                    }
                }
            }
            registry.insert(topic, partitions);
        }
        // Who leads says what acknowledgements wait for.
        let reconfigured: Vec<TopicId> = if delta.broker_configs_changed() || delta.leader_changed() {
            registry.by_id.keys().copied().collect()
        } else {
            delta.topics_reconfigured().collect()
        };
        for topic in reconfigured.into_iter().filter_map(|id| image.topic_by_id(id)) {
            for partition in registry.by_id.get(&topic.id).iter().flat_map(|t| t.partitions.iter().flatten()) {
                partition.reconfigure(self.partition_settings(image, topic));
            }
        }
        for (topic, index) in delta.partitions_changed() {
            let assigned = image.topic_by_id(topic).and_then(|topic| topic.partitions.get(index));
            let partition = registry.by_id.get(&topic).and_then(|topic| topic.partitions.get(index)?.as_ref());
            if let Some((assigned, partition)) = assigned.zip(partition) {
                self.take_part(partition, assigned, image.offset());
            }
        }
        let appeared = delta.topics_created().chain(delta.topics_grown());
        let appeared: Vec<_> = appeared.filter_map(|id| registry.by_id.get(&id).map(Arc::clone)).collect();
        self.publish(registry);
        // After they can be found.
        appeared.iter().flat_map(|topic| topic.partitions.iter().flatten()).for_each(|p| self.shared.feed.push(p));
    }

    fn role_changed(&self, image: &Arc<Image>, role: &Role) {
        let mut current = self.image.lock();
        *current = Arc::clone(image);
        self.role.send_if_modified(|known| {
            *known = role.clone();
            false
        });
        for topic in image.topics() {
            let registry = self.registry.load();
            let Some(replicas) = registry.by_id.get(&topic.id) else { continue };
            for (partition, assigned) in replicas.partitions.iter().zip(&topic.partitions) {
                match partition {
                    Some(partition) if matches!(role, Role::Fenced { .. }) => partition.step_down(),
                    Some(partition) => self.take_part(partition, assigned, image.offset()),
                    None => {}
                }
            }
        }
        self.role.send_replace(role.clone());
    }
}

impl Registry {
    fn copy(&self) -> Self {
        Self { by_id: self.by_id.clone(), by_name: self.by_name.clone() }
    }

    fn insert(&mut self, topic: &Topic, partitions: Vec<Option<Arc<Partition>>>) {
        let replicas = Arc::new(TopicReplicas { id: topic.id, name: Arc::clone(&topic.name), partitions });
        self.by_id.insert(topic.id, Arc::clone(&replicas));
        self.by_name.insert(Arc::clone(&topic.name), replicas);
    }

    fn remove(&mut self, id: TopicId) -> Option<Arc<TopicReplicas>> {
        let topic = self.by_id.remove(&id)?;
        self.by_name.remove(&topic.name);
        Some(topic)
    }
}

impl TopicReplicas {
    fn partition(&self, index: i32) -> Result<Arc<Partition>, ErrorCode> {
        match usize::try_from(index).ok().and_then(|at| self.partitions.get(at)) {
            Some(Some(partition)) => Ok(Arc::clone(partition)),
            Some(None) => Err(ErrorCode::KafkaStorageError),
            None => Err(ErrorCode::UnknownTopicOrPartition),
        }
    }
}

#[cfg(test)]
mod tests;
