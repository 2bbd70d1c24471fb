//! What one node says of topics and partitions, asked directly: a client would go to the node that metadata names.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use chronik_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use chronik_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use chronik_wire::messages::metadata_request::MetadataRequestTopic;
use chronik_wire::messages::metadata_response::MetadataResponsePartition;
use chronik_wire::messages::{FetchRequest, FetchResponse, ListOffsetsRequest, MetadataRequest, MetadataResponse};

use crate::raw::Connection;
use crate::wait;

const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

/// A ListOffsets request for one partition.
fn list_offsets(topic: &str, partition: i32, timestamp: i64) -> ListOffsetsRequest {
    let partitions = vec![ListOffsetsPartition { partition_index: partition, current_leader_epoch: -1, timestamp }];
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic { name: topic.to_owned(), partitions }],
        ..Default::default()
    }
}

/// The offset a node tells, or its error code.
fn offset(connection: &mut Connection, topic: &str, partition: i32, timestamp: i64) -> Result<i64, i16> {
    let told = connection.ask(5, &list_offsets(topic, partition, timestamp));
    let told = &told.topics[0].partitions[0];
    if told.error_code == 0 { Ok(told.offset) } else { Err(told.error_code) }
}

/// Log start and high watermark of a partition on this very node; its error code where it does not tell.
pub fn bounds(address: &str, topic: &str, partition: i32) -> Result<(i64, i64), i16> {
    let mut connection = Connection::open(address);
    let start = offset(&mut connection, topic, partition, EARLIEST)?;
    Ok((start, offset(&mut connection, topic, partition, LATEST)?))
}

/// Waits until a node tells these bounds of a partition.
pub fn wait_for_bounds(address: &str, topic: &str, partition: i32, expected: (i64, i64), bound: Duration) {
    let mut last = Err(0);
    let started = std::time::Instant::now();
    wait::until_true("bounds of a partition", bound * 2, || {
        last = bounds(address, topic, partition);
        let what = format!("{topic}-{partition} at {address}: {last:?}");
        assert!(last == Ok(expected) || started.elapsed() < bound, "{what}, not {expected:?} within {bound:?}");
        last == Ok(expected)
    });
}

/// A fetch of one partition, answered at once.
pub fn fetch_request(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let partitions = vec![FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 50_000_000,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        ..Default::default()
    }];
    FetchRequest {
        replica_id: -1,
        max_bytes: 50_000_000,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: topic.to_owned(), partitions, ..Default::default() }],
        ..Default::default()
    }
}

/// What this very node gives a consumer at an offset.
pub fn fetch(address: &str, topic: &str, partition: i32, offset: i64) -> FetchResponse {
    Connection::open(address).ask(12, &fetch_request(topic, partition, offset))
}

/// Every byte of a partition that this very node gives consumers.
pub fn read_all(address: &str, topic: &str, partition: i32) -> Vec<u8> {
    let (start, end) = bounds(address, topic, partition).expect("it tells its bounds");
    let mut connection = Connection::open(address);
    let (mut next, mut all) = (start, Vec::new());
    while next < end {
        let fetched = connection.ask(12, &fetch_request(topic, partition, next));
        let fetched = &fetched.responses[0].partitions[0];
        assert_eq!(fetched.error_code, 0, "{topic}-{partition} offset {next} at {address}");
        let records = fetched.records.clone().unwrap_or_default();
        assert!(!records.is_empty(), "{topic}-{partition} offset {next} at {address}: nothing, it ends at {end}");
        next = end_of(&records);
        all.extend_from_slice(&records);
    }
    all
}

/// The offset behind the last of whole batches.
pub fn end_of(mut batches: &[u8]) -> i64 {
    let mut end = 0;
    while let Some((header, _)) = batches.split_first_chunk::<61>() {
        let base = i64::from_be_bytes(*header.first_chunk().expect("eight bytes"));
        let length = usize::try_from(int_at(header, 8)).expect("a length");
        end = base + i64::from(int_at(header, 23)) + 1;
        batches = batches.get(12 + length..).expect("whole batches");
    }
    assert!(batches.is_empty(), "bytes behind the last batch");
    end
}

fn int_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(*bytes[at..].first_chunk().expect("four bytes"))
}

/// Metadata of a topic, or of all, as this very node tells it.
pub fn metadata(address: &str, topic: Option<&str>) -> MetadataResponse {
    let topics = topic.map(|name| vec![MetadataRequestTopic { name: Some(name.to_owned()), ..Default::default() }]);
    Connection::open(address)
        .ask(12, &MetadataRequest { topics, allow_auto_topic_creation: false, ..Default::default() })
}

/// Metadata of a partition, as this very node tells it; `None` where it knows none.
pub fn try_partition(address: &str, topic: &str, partition: i32) -> Option<MetadataResponsePartition> {
    let told = metadata(address, Some(topic));
    told.topics.into_iter().flat_map(|topic| topic.partitions).find(|found| found.partition_index == partition)
}

/// Like [`try_partition`], of a partition that must be there.
pub fn partition(address: &str, topic: &str, partition: i32) -> MetadataResponsePartition {
    try_partition(address, topic, partition).unwrap_or_else(|| panic!("no {topic}-{partition} at {address}"))
}

/// Watches what a node tells consumers of a topic: log start and high watermark of a partition never go back, over restarts too.
#[derive(Debug)]
pub struct Watch {
    end: Arc<AtomicBool>,
    steps_back: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<u64>>,
}

impl Watch {
    /// Begins to watch.
    pub fn start(address: &str, topic: &str, partitions: i32) -> Self {
        let (end, steps_back) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<String>>>::default());
        let (address, topic) = (address.to_owned(), topic.to_owned());
        let thread = std::thread::spawn({
            let (end, steps_back) = (Arc::clone(&end), Arc::clone(&steps_back));
            move || {
                let (mut connection, mut highest, mut looks) = (None, BTreeMap::new(), 0);
                wait::until_true("the end of the test", Duration::from_secs(3_600), || {
                    for partition in 0..partitions {
                        for timestamp in [EARLIEST, LATEST] {
                            let Some(told) = try_offset(&mut connection, &address, &topic, partition, timestamp) else {
                                continue;
                            };
                            looks += 1;
                            let before = highest.entry((partition, timestamp)).or_insert(told);
                            if told < *before {
                                let what = if timestamp == EARLIEST { "log start" } else { "high watermark" };
                                let step =
                                    format!("{what} of {topic}-{partition} at {address} from {before} to {told}");
                                steps_back.lock().expect("nobody panics with it").push(step);
                            }
                            *before = told;
                        }
                    }
                    end.load(Ordering::Relaxed)
                });
                looks
            }
        });
        Self { end, steps_back, thread: Some(thread) }
    }

    /// Ends it; panics where something went back, or where nothing was ever seen.
    pub fn finish(mut self) {
        self.end.store(true, Ordering::Relaxed);
        let looks = self.thread.take().expect("it runs").join().expect("it ends normally");
        let steps_back = self.steps_back.lock().expect("nobody panics with it");
        assert!(steps_back.is_empty(), "went back: {}", steps_back[..steps_back.len().min(10)].join("; "));
        assert!(looks > 0, "nothing was ever told");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

/// The offset a node tells, where it can be reached and tells one.
fn try_offset(
    connection: &mut Option<Connection>,
    address: &str,
    topic: &str,
    partition: i32,
    timestamp: i64,
) -> Option<i64> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => Connection::try_open(address).ok()?,
    };
    open.set_read_bound(Duration::from_secs(5));
    let told = open.try_ask(5, &list_offsets(topic, partition, timestamp)).ok().flatten()?;
    *connection = Some(open);
    let told = told.topics.first()?.partitions.first()?;
    (told.error_code == 0).then_some(told.offset)
}
