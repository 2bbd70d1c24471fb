//! Nothing that moves is lost on a link, whoever had its place before.

use std::path::PathBuf;

use chronik_log::fs::MemFs;
use chronik_log::{Log, LogConfig};
use chronik_metadata::config::{BrokerSettings, StaticConfig};
use chronik_model::{Instant, LeaderEpoch, NodeId, Offset, Timestamp, TopicPartition};
use chronik_record::{BatchBuilder, Compression, TimestampType};
use chronik_replication::isr::Assignment;
use chronik_replication::message::TopicIdPartition;

use super::*;
use crate::replica::partition::{Beginning, Shared};
use crate::settings::PartitionSettings;

fn partition(shared: &Arc<Shared>) -> Arc<Partition> {
    let name = TopicPartition::new("t", 0);
    let log = Log::create(Arc::new(MemFs::new()), PathBuf::from("/t/0"), name, LogConfig::default(), true).unwrap();
    let image = chronik_metadata::Image::default();
    let fixed = StaticConfig::new(NodeId::new(1), std::collections::BTreeMap::new()).unwrap();
    let topic = chronik_metadata::Topic { id: Default::default(), name: "t".into(), partitions: Vec::new() };
    let settings = PartitionSettings::resolve(&image, &topic, &fixed, &BrokerSettings::resolve(&image, &fixed));
    let beginning = Beginning::Lead(Assignment::alone(NodeId::new(1), LeaderEpoch::ZERO));
    let (id, shared) = (TopicIdPartition::default(), Arc::clone(shared));
    Partition::begin(id, log, beginning, Offset::ZERO, settings, shared, Instant::ORIGIN)
}

fn append(partition: &Arc<Partition>) {
    let now = Timestamp::from_millis(1000);
    let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, now);
    builder.append(now, None, Some(b"value"), &[]);
    partition.append(&builder.build().unwrap(), now, false).unwrap();
}

#[test]
fn a_partition_that_moves_is_listed_once_until_it_is_looked_at() {
    let shared = Arc::new(Shared::default());
    let partition = partition(&shared);
    append(&partition);
    let (one, other) = (shared.feed.subscribe().unwrap(), shared.feed.subscribe().unwrap());
    assert!(one.next().is_none(), "what moved before is listed by whoever subscribes");
    append(&partition);
    append(&partition);
    for subscription in [&one, &other] {
        assert!(Arc::ptr_eq(&subscription.next().unwrap(), &partition));
        assert!(subscription.next().is_none());
    }
    append(&partition);
    assert!(one.next().is_some());
}

#[test]
fn what_was_listed_for_a_link_that_ended_is_listed_again_for_the_next_one_in_its_place() {
    let shared = Arc::new(Shared::default());
    let partition = partition(&shared);
    let ended = shared.feed.subscribe().unwrap();
    append(&partition);
    drop(ended);
    let next = shared.feed.subscribe().unwrap();
    append(&partition);
    assert!(next.next().is_some());
}

#[test]
fn there_are_as_many_places_as_bits_and_they_are_given_again() {
    let shared = Arc::new(Shared::default());
    let all: Vec<_> = std::iter::from_fn(|| shared.feed.subscribe()).collect();
    assert_eq!(all.len(), SUBSCRIPTIONS_MAX);
    drop(all);
    assert!(shared.feed.is_empty() && shared.feed.subscribe().is_some());
}
