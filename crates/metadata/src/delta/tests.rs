//! Two whole images compared, against what the records between them say.

use chronik_model::{Generation, LeaderEpoch, NodeId, Offset, Uuid};

use super::*;
use crate::image::{Builder, Partition};
use crate::leader::ReplicationMode;
use crate::record::Record;

fn id(byte: u8) -> TopicId {
    TopicId(Uuid::from_bytes([byte; 16]))
}

fn partition() -> Partition {
    let one = NodeId::new(1);
    Partition { leader: one, leader_epoch: LeaderEpoch::ZERO, partition_epoch: 0, replicas: vec![one], isr: vec![one] }
}

fn created(byte: u8, name: &str, count: usize) -> Record {
    Record::TopicCreated {
        id: id(byte),
        name: name.into(),
        partitions: vec![partition(); count],
        configs: [("retention.ms".to_owned(), "5".to_owned())].into(),
    }
}

fn configured(resource: ConfigResource, value: &str) -> Record {
    Record::ConfigChanged { resource, key: "k".to_owned(), value: Some(value.to_owned()) }
}

fn broker(node: i32) -> Record {
    Record::BrokerRegistered {
        node_id: NodeId::new(node),
        host: "h".to_owned(),
        port: 1,
        rack: None,
        broker_epoch: i64::from(node),
    }
}

fn led() -> Record {
    Record::Led {
        generation: Generation::new(257),
        node_id: NodeId::new(1),
        leader_epoch: LeaderEpoch::new(1000),
        mode: ReplicationMode::Async,
        keeps_isr: false,
    }
}

/// The image with the records, and what the builder says became different.
fn after(image: &Image, records: &[Record]) -> (Image, Delta) {
    let mut builder = Builder::new(image);
    records.iter().for_each(|record| builder.apply(record).unwrap());
    builder.finish(Offset::ZERO)
}

/// Two topics, `a` with one partition and `b` with two.
fn base() -> Image {
    let records = [broker(1), created(1, "a", 1), created(2, "b", 2)];
    after(&Image::default(), &records).0
}

#[test]
fn an_image_against_the_one_before_gives_what_its_records_gave() {
    let group = ConfigResource::new(ResourceKind::Group, "g");
    let changed = Partition { isr: vec![NodeId::new(1)], partition_epoch: 4, ..partition() };
    let cases: Vec<Vec<Record>> = vec![
        vec![],
        vec![broker(2)],
        vec![broker(2), Record::BrokerFenced { node_id: NodeId::new(2) }],
        vec![created(3, "c", 2)],
        vec![created(3, "c", 2), configured(ConfigResource::topic("c"), "1")],
        vec![Record::TopicRemoved { id: id(1) }],
        vec![Record::TopicRemoved { id: id(1) }, created(3, "a", 1)],
        vec![created(3, "c", 1), Record::TopicRemoved { id: id(3) }],
        vec![Record::PartitionsAdded { id: id(1), first: 1, partitions: vec![partition()] }],
        vec![Record::PartitionChanged { id: id(2), index: 1, partition: changed }],
        vec![configured(ConfigResource::topic("a"), "1")],
        vec![configured(group.clone(), "1"), configured(ConfigResource::new(ResourceKind::Broker, ""), "1")],
        vec![led()],
        vec![led(), broker(2), Record::ReplicaAdded { node_id: NodeId::new(2) }],
    ];
    for records in cases {
        let (image, expected) = after(&base(), &records);
        let mut found = Delta::between(&base(), &image);
        // Leading fences no broker but others; there are none here.
        if image == base() {
            assert!(found.is_empty(), "{records:?}");
        }
        // A record that changes the leader or fences may leave every broker as it was.
        found.brokers_changed |= expected.brokers_changed;
        assert!(std::mem::take(&mut found.is_replacement) && !expected.is_replacement());
        assert_eq!(found, expected, "{records:?}");
    }
}

#[test]
fn a_name_that_stands_for_another_topic_is_one_gone_and_one_begun() {
    let other = after(&Image::default(), &[broker(1), created(9, "a", 3), created(2, "b", 2)]).0;
    let delta = Delta::between(&base(), &other);
    assert_eq!(delta.topics_created().collect::<Vec<_>>(), [id(9)]);
    let removed: Vec<_> = delta.topics_removed().map(|removed| removed.id).collect();
    assert_eq!(removed, [id(1)]);
    assert_eq!(delta.partitions_changed().count() + delta.topics_reconfigured().count(), 0);
}

#[test]
fn partitions_that_the_leader_never_had_are_gone() {
    let other = after(&Image::default(), &[broker(1), created(1, "a", 1), created(2, "b", 1)]).0;
    let delta = Delta::between(&base(), &other);
    assert_eq!(delta.topics_shrunk().collect::<Vec<_>>(), [id(2)]);
    let back = Delta::between(&other, &base());
    assert_eq!(back.topics_grown().collect::<Vec<_>>(), [id(2)]);
}

#[test]
fn what_is_configured_no_more_is_reconfigured() {
    let broker_default = ConfigResource::new(ResourceKind::Broker, "");
    let (configured, _) =
        after(&base(), &[configured(ConfigResource::topic("a"), "1"), configured(broker_default, "1")]);
    let delta = Delta::between(&configured, &base());
    assert_eq!(delta.topics_reconfigured().collect::<Vec<_>>(), [id(1)]);
    assert!(delta.broker_configs_changed());
}

#[test]
fn files_that_are_to_go_are_told_of_once() {
    let (pending, _) = after(&base(), &[Record::DeletionPending { id: id(7), name: "z".into() }]);
    assert_eq!(Delta::between(&base(), &pending).topics_removed().count(), 1);
    assert!(Delta::between(&pending, &pending).is_empty());
    // That they are gone on the leader says nothing about this node's own.
    assert!(Delta::between(&pending, &base()).is_empty());
}
