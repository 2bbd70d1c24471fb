//! Runs the group coordinator's shards: one for each partition of `__consumer_offsets`. Those of partitions that are led
//! elsewhere are read only, and look at their copy of the log when they are asked.
//!
//! A shard decides under its lock, and what it decided is appended under the same lock, so that the log has the order of
//! the decisions. An answer that depends on an append leaves when the append is committed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use chronik_coordinator::{
    AppendToken, Config, CoordinatorRecord, Effect, GroupError, GroupShard, Now, Replayed, ReplyToken, Response,
    partition_for,
};
use chronik_log::ReadBound;
use chronik_metadata::ControllerClient;
use chronik_model::{Instant, LeaderEpoch, Offset, Timestamp, TopicId, Uuid};
use chronik_record::{BatchBuilder, BatchHeader, Caps, Compression, HEADER_BYTES, TimestampType};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::replica::Partition;
use crate::tasks::{self, Shutdown};

/// Kafka's topic for groups and offsets.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Bytes of the log read at once while a shard loads.
const LOAD_BYTES: usize = 1024 * 1024;
/// How long an answer waits for its append to be committed (`offsets.commit.timeout.ms`).
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// With nothing due the ticker sleeps this long at the most.
const TICK_MAX: Duration = Duration::from_secs(3600);

/// A shard's answer and the offset whose commit it waits for.
type Reply = (Response, Option<Offset>);

/// The shards of this broker, by partition of the offsets topic.
pub(crate) struct CoordinatorHost {
    shared: Arc<Shared>,
    /// By partition of the offsets topic, all of them: a group belongs to its partition whether that is served or not. `None`
    /// where it is not.
    shards: ArcSwap<Vec<Option<Arc<Shard>>>>,
    /// Held while the shards are replaced.
    replacing: Mutex<()>,
}

/// What all shards use.
struct Shared {
    clock: Clock,
    controller: Arc<dyn ControllerClient>,
    metrics: Arc<Metrics>,
    sooner: Notify,
}

struct Shard {
    /// Itself, for the task that loads it again.
    this: Weak<Shard>,
    shared: Arc<Shared>,
    partition: Arc<Partition>,
    /// The partition is led elsewhere.
    follows: bool,
    config: Mutex<Config>,
    state: Mutex<State>,
}

struct State {
    shard: GroupShard,
    /// Requests that wait for a reply; each is answered or refused by the shard.
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
    last_token: u64,
    /// Appends not known to be committed, with their exclusive ends.
    uncommitted: VecDeque<(AppendToken, Offset)>,
    /// When the ticker wakes for this shard.
    wake_at: Option<Instant>,
    /// How far a shard that follows has replayed its log, exclusive, and in which leader epoch.
    replayed: Option<(LeaderEpoch, Offset)>,
}

impl CoordinatorHost {
    pub(crate) fn new(clock: Clock, controller: Arc<dyn ControllerClient>, metrics: Arc<Metrics>) -> Self {
        let shared = Shared { clock, controller, metrics, sooner: Notify::new() };
        Self { shared: Arc::new(shared), shards: ArcSwap::default(), replacing: Mutex::new(()) }
    }

    /// Whether the offsets topic is known here.
    pub(crate) fn is_ready(&self) -> bool {
        !self.shards.load().is_empty()
    }

    /// Takes over the partitions of the offsets topic, `None` for one that is not served, and loads their groups in the
    /// background. Until a shard is loaded its requests get COORDINATOR_LOAD_IN_PROGRESS.
    pub(crate) fn take_over(&self, partitions: Vec<Option<Arc<Partition>>>, config: &Config) {
        let replacing = self.replacing.lock();
        let shards = self.replace(partitions, config, false);
        drop(replacing);
        tasks::spawn_essential("group loading", async move {
            let load_all = move || shards.iter().flatten().for_each(|shard| shard.load());
            if let Err(error) = tokio::task::spawn_blocking(load_all).await {
                tracing::error!(%error, "groups cannot be loaded");
            }
        });
    }

    /// Reads the partitions of the offsets topic that are led elsewhere, unless it does already.
    pub(crate) fn follow(&self, partitions: Vec<Option<Arc<Partition>>>, config: &Config) {
        let _one_at_a_time = self.replacing.lock();
        // Whoever asks may not have heard of a promotion.
        if partitions.iter().flatten().any(|partition| partition.standing().leads) {
            return;
        }
        let shards = self.shards.load();
        let is_same = |(shard, partition): (&Option<Arc<Shard>>, &Option<Arc<Partition>>)| match (shard, partition) {
            (Some(shard), Some(partition)) => shard.follows && Arc::ptr_eq(&shard.partition, partition),
            (None, None) => true,
            _ => false,
        };
        if shards.len() != partitions.len() || !shards.iter().zip(&partitions).all(is_same) {
            self.replace(partitions, config, true);
        }
    }

    fn replace(
        &self,
        partitions: Vec<Option<Arc<Partition>>>,
        config: &Config,
        follows: bool,
    ) -> Vec<Option<Arc<Shard>>> {
        let shard = |partition| {
            let state = State {
                shard: GroupShard::new(config.clone(), Box::new(random_id)),
                waiting: HashMap::new(),
                last_token: 0,
                uncommitted: VecDeque::new(),
                wake_at: None,
                replayed: None,
            };
            Arc::new_cyclic(|this| Shard {
                this: Weak::clone(this),
                shared: Arc::clone(&self.shared),
                partition,
                follows,
                config: Mutex::new(config.clone()),
                state: Mutex::new(state),
            })
        };
        let shards: Vec<Option<Arc<Shard>>> = partitions.into_iter().map(|partition| partition.map(shard)).collect();
        unload(&self.shards.swap(Arc::new(shards.clone())), GroupError::NotCoordinator);
        shards
    }

    /// The offsets topic is gone, and with it every group.
    pub(crate) fn give_up(&self) {
        unload(&self.shards.swap(Arc::default()), GroupError::NotCoordinator);
    }

    /// Gives every shard new settings.
    pub(crate) fn reconfigure(&self, config: &Config) {
        for shard in self.shards.load().iter().flatten() {
            *shard.config.lock() = config.clone();
            shard.state.lock().shard.reconfigure(config.clone());
        }
    }

    /// Runs one request of a group in its shard, and waits for the answer.
    pub(crate) async fn call(
        &self,
        group_id: &str,
        input: impl FnOnce(&mut GroupShard, Now, ReplyToken, &mut Vec<Effect>),
    ) -> Result<Response, GroupError> {
        let shard = self.shard(group_id)?;
        shard.catch_up();
        let receiver = shard.start(input);
        let (response, commit) = receiver.await.map_err(|_| GroupError::NotCoordinator)?;
        let Some(end) = commit else { return Ok(response) };
        match tokio::time::timeout(COMMIT_TIMEOUT, shard.partition.await_committed(end).wait()).await {
            Ok(Ok(())) => Ok(response),
            Ok(Err(_)) => Ok(response.refused(GroupError::NotCoordinator)),
            Err(_) => Ok(response.refused(GroupError::CoordinatorNotAvailable)),
        }
    }

    /// Looks at the shard of a group.
    pub(crate) fn look<R>(&self, group_id: &str, look: impl FnOnce(&GroupShard) -> R) -> Result<R, GroupError> {
        let shard = self.shard(group_id)?;
        shard.catch_up();
        Ok(look(&shard.state.lock().shard))
    }

    /// Looks at every shard in turn.
    pub(crate) fn look_at_all<R>(&self, mut look: impl FnMut(&GroupShard) -> R) -> Vec<R> {
        let shards = self.shards.load();
        let caught_up = shards.iter().flatten().inspect(|shard| shard.catch_up());
        caught_up.map(|shard| look(&shard.state.lock().shard)).collect()
    }

    /// Forgets the offsets of deleted topics, once the image has shown them gone.
    pub(crate) fn topics_deleted(&self, topics: &[(String, TopicId)]) {
        for shard in self.shards.load().iter().flatten() {
            shard.run(|shard, now, effects| shard.on_topics_deleted(now, topics, effects));
        }
    }

    /// Lets time pass in the shards until the shutdown.
    pub(crate) async fn keep_time(self: Arc<Self>, mut shutdown: Shutdown) {
        loop {
            let now = self.shared.clock.now();
            let mut next = now + TICK_MAX;
            for shard in self.shards.load().iter().flatten() {
                if let Some(deadline) = shard.tick_if_due(now) {
                    next = next.min(deadline);
                }
            }
            tokio::select! {
                () = tokio::time::sleep_until(self.shared.clock.deadline(next)) => {}
                () = self.shared.sooner.notified() => {}
                () = shutdown.raised() => return,
            }
        }
    }

    /// Refuses everything that waits: the broker stops.
    pub(crate) fn stop(&self) {
        unload(&self.shards.load(), GroupError::CoordinatorNotAvailable);
    }

    fn shard(&self, group_id: &str) -> Result<Arc<Shard>, GroupError> {
        let shards = self.shards.load();
        let count = i32::try_from(shards.len()).unwrap_or(i32::MAX);
        if count == 0 {
            return Err(GroupError::NotCoordinator);
        }
        let index = usize::try_from(partition_for(group_id, count)).unwrap_or(0);
        shards.get(index).cloned().flatten().ok_or(GroupError::CoordinatorNotAvailable)
    }
}

fn unload(shards: &[Option<Arc<Shard>>], error: GroupError) {
    for shard in shards.iter().flatten() {
        shard.run(|shard, now, effects| shard.unload(now, error, effects));
    }
}

impl Shard {
    fn start(
        &self,
        input: impl FnOnce(&mut GroupShard, Now, ReplyToken, &mut Vec<Effect>),
    ) -> oneshot::Receiver<Reply> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        state.last_token += 1;
        let token = state.last_token;
        state.waiting.insert(token, sender);
        self.run_locked(&mut state, |shard, now, effects| input(shard, now, ReplyToken(token), effects));
        receiver
    }

    fn run(&self, input: impl FnOnce(&mut GroupShard, Now, &mut Vec<Effect>)) {
        self.run_locked(&mut self.state.lock(), input);
    }

    fn run_locked(&self, state: &mut State, input: impl FnOnce(&mut GroupShard, Now, &mut Vec<Effect>)) {
        let clock = self.shared.clock;
        let now = Now { monotonic: clock.now(), wall: clock.wall() };
        let high_watermark = self.partition.reader().bounds().high_watermark;
        while let Some((token, _)) = state.uncommitted.front().copied().filter(|(_, end)| *end <= high_watermark) {
            state.shard.append_committed(token);
            state.uncommitted.pop_front();
        }
        let mut effects = Vec::new();
        input(&mut state.shard, now, &mut effects);
        let mut queue = VecDeque::from(effects);
        // The first append that failed: nothing behind it may be appended or answered as done.
        let mut failed: Option<AppendToken> = None;
        while let Some(effect) = queue.pop_front() {
            match effect {
                Effect::Append { .. } if failed.is_some() => {}
                Effect::Append { token, records } => match self.append(&records, now.wall) {
                    Ok(end) => state.uncommitted.push_back((token, end)),
                    Err(error) => {
                        tracing::error!(partition = %self.partition.name(), error, "group change cannot be stored");
                        failed = Some(token);
                        let mut refusals = Vec::new();
                        state.shard.append_failed(now, token, GroupError::NotCoordinator, &mut refusals);
                        queue.extend(refusals);
                    }
                },
                Effect::Reply { token, response, after } => {
                    let lost = after.zip(failed).is_some_and(|(after, failed)| after >= failed);
                    let response = if lost { response.refused(GroupError::NotCoordinator) } else { response };
                    let commit = after.filter(|_| !lost).and_then(|after| state.end_of(after));
                    if let Some(sender) = state.waiting.remove(&token.0) {
                        // A receiver that is gone belongs to a client that is gone.
                        let _ = sender.send((response, commit));
                    }
                }
                Effect::StateChanged { group_id, state, generation, members, reason } => {
                    tracing::info!(group = %group_id, %state, generation, members, reason, "group changed");
                }
            }
        }
        if failed.is_some() {
            self.reload(state);
        }
        let deadline = state.shard.deadline();
        let earlier = match (deadline, state.wake_at) {
            (Some(deadline), Some(wake_at)) => deadline < wake_at,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if earlier {
            state.wake_at = deadline;
            self.shared.sooner.notify_one();
        }
    }

    /// Takes over what the leader has done since the last look, where the partition is led elsewhere. What is committed
    /// counts; a later leader's log is read from its beginning.
    fn catch_up(&self) {
        if !self.follows {
            return;
        }
        let mut state = self.state.lock();
        let leader_epoch = self.partition.leader_epoch();
        let bounds = self.partition.reader().bounds();
        let known = state
            .replayed
            .filter(|(known, to)| *known == leader_epoch && *to <= bounds.high_watermark && *to >= bounds.log_start);
        let from = match known {
            Some((_, to)) if to == bounds.high_watermark => return,
            Some((_, to)) => to,
            None => {
                state.shard = GroupShard::new(self.config.lock().clone(), Box::new(random_id));
                state.shard.follow();
                bounds.log_start
            }
        };
        match tasks::aside(|| self.replay(&mut state.shard, from, bounds.high_watermark)) {
            Ok(_) => state.replayed = Some((leader_epoch, bounds.high_watermark)),
            Err(error) => {
                tracing::error!(partition = %self.partition.name(), error, "groups of the leader cannot be read");
                state.replayed = None;
            }
        }
    }

    /// Begins anew from the log, which alone knows what was stored. Where the log itself has failed, loading fails too
    /// and the groups stay refused.
    fn reload(&self, state: &mut State) {
        state.shard = GroupShard::new(self.config.lock().clone(), Box::new(random_id));
        state.uncommitted.clear();
        let Some(shard) = self.this.upgrade() else { return };
        tasks::spawn_essential("group reloading", async move {
            if let Err(error) = tokio::task::spawn_blocking(move || shard.load()).await {
                tracing::error!(%error, "groups cannot be loaded again");
            }
        });
    }

    /// Lets time pass if something is due, and tells when something will be.
    fn tick_if_due(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        if state.shard.deadline().is_some_and(|deadline| deadline <= now) {
            self.run_locked(&mut state, |shard, now, effects| shard.tick(now, effects));
        }
        state.wake_at = state.shard.deadline();
        state.wake_at
    }

    /// Appends the records as one batch and gives their exclusive end.
    fn append(&self, records: &[CoordinatorRecord], now: Timestamp) -> Result<Offset, String> {
        let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, now);
        for record in records {
            builder.append(now, Some(&record.key), record.value.as_deref(), &[]);
        }
        let batch = builder.build().map_err(|error| error.to_string())?;
        let (appended, _) = self.partition.append(&batch, now, false).map_err(|error| error.to_string())?;
        self.shared.metrics.batch_appended(batch.header().records_count, batch.bytes().len());
        Ok(appended.next_offset)
    }

    /// Replays the partition from its start to its end, then lets requests in. The lock is not held meanwhile: whoever
    /// asks is told that the groups are being loaded.
    fn load(&self) {
        if !self.state.lock().shard.is_loading() {
            return;
        }
        let started = self.shared.clock.now();
        let mut loaded = GroupShard::new(self.config.lock().clone(), Box::new(random_id));
        let bounds = self.partition.reader().bounds();
        let replayed = self.replay(&mut loaded, bounds.log_start, bounds.log_end);
        let mut state = self.state.lock();
        if !state.shard.is_loading() {
            // The broker stops, or the topic is gone.
            return;
        }
        match replayed {
            Ok(records) => {
                loaded.reconfigure(self.config.lock().clone());
                state.shard = loaded;
                // Topics may have been removed while nobody could tell the groups.
                let image = self.shared.controller.image();
                let exists = |topic: &str, id: TopicId| {
                    image.topic(topic).is_some_and(|topic| id == TopicId::ZERO || id == topic.id)
                };
                self.run_locked(&mut state, |shard, now, effects| {
                    shard.loaded(now, effects);
                    shard.retain_topics(now, exists, effects);
                });
                let took = self.shared.clock.now().saturating_since(started);
                if records > 0 {
                    tracing::info!(partition = %self.partition.name(), records, ?took, "groups loaded");
                }
            }
            Err(error) => {
                tracing::error!(partition = %self.partition.name(), error, "groups cannot be loaded, they are refused");
                self.run_locked(&mut state, |shard, now, effects| {
                    shard.unload(now, GroupError::CoordinatorNotAvailable, effects);
                });
            }
        }
    }

    /// Replays the records from `from` on, up to `to` (exclusive).
    fn replay(&self, shard: &mut GroupShard, from: Offset, to: Offset) -> Result<u64, String> {
        let reader = self.partition.reader();
        let (begin, mut from) = (from, from);
        let mut count = 0;
        while from < to {
            let slice = reader.read(from, ReadBound::LogEnd, LOAD_BYTES, true).map_err(|error| error.to_string())?;
            let mut chunk = vec![0; slice.len];
            slice.file.read_exact_at(&mut chunk, slice.position).map_err(|error| error.to_string())?;
            let mut rest = chunk.as_slice();
            let before = from;
            while rest.len() >= HEADER_BYTES {
                let header = BatchHeader::read(rest).map_err(|error| format!("at offset {from}: {error}"))?;
                // The last batch of a chunk may be cut; it comes whole with the next one.
                let Some((batch, behind)) = rest.split_at_checked(header.size_bytes()) else { break };
                if from >= to {
                    return Ok(count);
                }
                if header.next_offset() > from {
                    if header.base_offset < from && from > begin {
                        return Err(format!("batch at offset {} where {from} follows", header.base_offset));
                    }
                    count += replay_batch(shard, batch).map_err(|error| format!("batch at offset {from}: {error}"))?;
                    from = header.next_offset();
                }
                rest = behind;
            }
            if from == before {
                return Err(format!("no batch at offset {from}"));
            }
        }
        Ok(count)
    }
}

fn replay_batch(shard: &mut GroupShard, batch: &[u8]) -> Result<u64, String> {
    // Recovery verified only what lies behind its checkpoint; the disk may have changed the rest since.
    if !chronik_record::crc_is_valid(batch) {
        return Err("checksum mismatch".to_owned());
    }
    let mut records = chronik_record::records(batch, &Caps::default()).map_err(|error| error.to_string())?;
    let mut count = 0;
    while let Some(record) = records.next_record().map_err(|error| error.to_string())? {
        let Some(key) = record.key.bytes() else { continue };
        match shard.replay(key, record.value.bytes()) {
            Ok(Replayed::Applied) => count += 1,
            Ok(Replayed::Skipped(record_type)) => tracing::warn!(record_type, "record of an unknown type skipped"),
            // One unreadable record must not take the other groups of the partition with it.
            Err(error) => tracing::error!(offset = %record.offset, %error, "group record cannot be read, skipped"),
        }
    }
    Ok(count)
}

impl State {
    fn end_of(&self, token: AppendToken) -> Option<Offset> {
        self.uncommitted.iter().find(|(other, _)| *other == token).map(|(_, end)| *end)
    }
}

/// A random id for a member. Without randomness from the system the ids must still differ.
fn random_id() -> Uuid {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        use std::hash::{BuildHasher as _, RandomState};
        let hash = |salt: u64| RandomState::new().hash_one(salt).to_be_bytes();
        bytes = [hash(1), hash(2)].concat().try_into().unwrap_or(bytes);
    }
    Uuid::from_random(bytes)
}

#[cfg(test)]
mod tests;
