//! librdkafka as producers and consumers, and the few administrative requests tests need, sent raw.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use chronik_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use chronik_wire::messages::{CreateTopicsRequest, DeleteTopicsRequest};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, Timestamp, TopicPartitionList};

use crate::raw::{Connection, assert_none};
use crate::wait;

/// Longest wait for a client to get what is there.
pub const CLIENT_BOUND: Duration = Duration::from_secs(60);

/// Longest wait for one answer about watermarks.
const WATERMARKS_BOUND: Duration = Duration::from_secs(5);

/// The configuration every librdkafka client here starts from.
pub fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config.set("broker.address.family", "v4");
    // A broker that was killed is back within a second; the default back-off would wait ten times as long.
    config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
    config
}

/// A consumer of a group, from the start where the group has no offset.
pub fn group_member(bootstrap: &str, group: &str) -> ClientConfig {
    let mut config = config(bootstrap);
    config.set("group.id", group).set("auto.offset.reset", "earliest").set("session.timeout.ms", "6000");
    config
}

/// Creates a topic, with configuration.
pub fn create_topic(bootstrap: &str, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let configs = configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig { name: (*name).to_owned(), value: Some((*value).to_owned()) })
        .collect();
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: 1,
        configs,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, validate_only: false };
    let mut connection = Connection::open(bootstrap);
    connection.set_read_bound(CLIENT_BOUND);
    let response = connection.ask(7, &request);
    assert_none(response.topics[0].error_code, &format!("creating {name}: {:?}", response.topics[0].error_message));
    if std::env::var_os("CHRONIK_E2E_BOOTSTRAP").is_some() {
        // Apache Kafka answers before the leaders are there; the broker under test must not.
        let consumer: BaseConsumer = config(bootstrap).create().expect("a consumer");
        wait::until_true("leaders of a new topic", CLIENT_BOUND, || {
            (0..partitions).all(|partition| consumer.fetch_watermarks(name, partition, CLIENT_BOUND).is_ok())
        });
    }
}

/// Deletes a topic.
pub fn delete_topic(bootstrap: &str, name: &str) {
    let request = DeleteTopicsRequest { topic_names: vec![name.to_owned()], timeout_ms: 60_000, ..Default::default() };
    let response = Connection::open(bootstrap).ask(5, &request);
    assert_none(response.responses[0].error_code, &format!("deleting {name}"));
}

/// A record as a consumer got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Partition it came from.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in milliseconds, whoever set it.
    pub timestamp: Option<i64>,
    /// Its key; `None` for null.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` for null.
    pub value: Option<Vec<u8>>,
    /// Its headers in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Received {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: match message.timestamp() {
                Timestamp::NotAvailable => None,
                Timestamp::CreateTime(millis) | Timestamp::LogAppendTime(millis) => Some(millis),
            },
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }
}

/// Log start and high watermark of a partition, as a client sees them.
pub fn watermarks(bootstrap: &str, topic: &str, partition: i32) -> (i64, i64) {
    let (_, bounds) = with_watermarks(&config(bootstrap), topic, partition..partition + 1);
    bounds[0]
}

/// A consumer, and log start and high watermark of these partitions as it sees them. This call of librdkafka waits for the leader
/// that it was told of first, also where that is gone by now: so it is asked anew.
fn with_watermarks(config: &ClientConfig, topic: &str, partitions: Range<i32>) -> (BaseConsumer, Vec<(i64, i64)>) {
    let mut last = None;
    let started = Instant::now();
    wait::until("watermarks", CLIENT_BOUND * 2, || {
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let asked: Result<Vec<_>, _> =
            partitions.clone().map(|partition| consumer.fetch_watermarks(topic, partition, WATERMARKS_BOUND)).collect();
        assert!(asked.is_ok() || started.elapsed() < CLIENT_BOUND, "{topic}: {asked:?}, before that {last:?}");
        asked.map(|bounds| (consumer, bounds)).map_err(|error| last = Some(error)).ok()
    })
}

/// Reads every partition from its start to the high watermark it has now, handing each record to `take`.
pub fn read_through(bootstrap: &str, topic: &str, partitions: i32, mut take: impl FnMut(Received)) {
    let mut config = config(bootstrap);
    config.set("group.id", "chronik-e2e-reader").set("enable.auto.commit", "false").set("auto.offset.reset", "error");
    config.set("check.crcs", "true").set("fetch.wait.max.ms", "50");
    let (consumer, bounds) = with_watermarks(&config, topic, 0..partitions);
    let mut assignment = TopicPartitionList::new();
    let mut left = BTreeMap::new();
    for (partition, (start, end)) in (0..partitions).zip(bounds) {
        if start < end {
            left.insert(partition, end);
            assignment.add_partition_offset(topic, partition, Offset::Offset(start)).expect("an offset");
        }
    }
    consumer.assign(&assignment).expect("assigned");
    let mut progress = Instant::now();
    while !left.is_empty() {
        match consumer.poll(Duration::from_millis(200)) {
            Some(message) => {
                let received = Received::from(&message.expect("a record"));
                progress = Instant::now();
                if left.get(&received.partition).is_some_and(|end| received.offset + 1 >= *end) {
                    left.remove(&received.partition);
                }
                take(received);
            }
            None => {
                assert!(progress.elapsed() < CLIENT_BOUND, "no record for {CLIENT_BOUND:?}; missing up to {left:?}")
            }
        }
    }
}

/// Everything in a topic, by partition and offset.
pub fn read_all(bootstrap: &str, topic: &str, partitions: i32) -> Vec<Received> {
    let mut all = Vec::new();
    read_through(bootstrap, topic, partitions, |received| all.push(received));
    all.sort_by_key(|received| (received.partition, received.offset));
    all
}
