//! What producers send is what consumers get: every codec, keys, headers, nulls, large values, timestamps.

use std::time::Duration;

use chronik_e2e::broker::Broker;
use chronik_e2e::clients::{self, Received};
use chronik_e2e::seed::Random;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

const BOUND: Duration = Duration::from_secs(60);
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

fn producer(bootstrap: &str, settings: &[(&str, &str)]) -> BaseProducer {
    let mut config = clients::config(bootstrap);
    config.set("message.max.bytes", "2000000");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().unwrap()
}

fn send(producer: &BaseProducer, topic: &str, record: &Received) {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &record.headers {
        headers = headers.insert(Header { key, value: value.as_ref() });
    }
    let mut base: BaseRecord<'_, [u8], [u8]> =
        BaseRecord::to(topic).partition(record.partition).timestamp(record.timestamp.unwrap()).headers(headers);
    if let Some(key) = &record.key {
        base = base.key(key);
    }
    if let Some(value) = &record.value {
        base = base.payload(value);
    }
    producer.send(base).map_err(|(error, _)| error).unwrap();
}

/// Records with every peculiarity, offsets and timestamps set as they should come back.
fn peculiar(random: &mut Random) -> Vec<Received> {
    let some = |text: &str| Some(text.as_bytes().to_vec());
    let header = |key: &str, value: Option<&str>| (key.to_owned(), value.map(|text| text.as_bytes().to_vec()));
    let contents = [
        (some("key"), some("value"), vec![]),
        (None, some("no key"), vec![]),
        (some("no value"), None, vec![]),
        (None, None, vec![]),
        (some(""), some(""), vec![]),
        (
            some("headers"),
            some("v"),
            vec![header("a", Some("1")), header("a", Some("2")), header("", Some("")), header("null", None)],
        ),
        (some("text"), some(&"all work and no play ".repeat(2_000)), vec![]),
        (Some(random.bytes(300)), Some(random.bytes(50_000)), vec![]),
        (some("1 MB"), Some(random.bytes(1_000_000)), vec![]),
    ];
    let records = contents.into_iter().zip(0..).map(|((key, value, headers), offset)| Received {
        partition: 0,
        offset,
        timestamp: Some(1_600_000_000_000 + offset * 1_000),
        key,
        value,
        headers,
    });
    records.collect()
}

#[test]
fn records_of_every_codec_come_back_as_they_were_also_after_a_restart() {
    let mut random = Random::for_test("codecs");
    let mut broker = Broker::fresh();
    let mut sent = Vec::new();
    for codec in CODECS {
        clients::create_topic(broker.bootstrap(), codec, 1, &[("max.message.bytes", "2000000")]);
        let records = peculiar(&mut random);
        let producer = producer(broker.bootstrap(), &[("compression.type", codec), ("linger.ms", "20")]);
        for record in &records {
            send(&producer, codec, record);
        }
        producer.flush(BOUND).unwrap();
        assert_eq!(producer.in_flight_count(), 0);
        assert_eq!(clients::read_all(broker.bootstrap(), codec, 1), records, "{codec}");
        sent.push((codec, records));
    }
    if std::env::var_os("CHRONIK_E2E_BOOTSTRAP").is_none() {
        assert!(broker.stop().success());
        broker.start();
    }
    for (codec, records) in sent {
        assert_eq!(clients::read_all(broker.bootstrap(), codec, 1), records, "{codec} after a restart");
    }
}

#[test]
fn topic_codec_recompresses_and_content_stays() {
    let mut random = Random::for_test("topic codec");
    let broker = Broker::fresh();
    for codec in CODECS {
        let topic = format!("stored-as-{codec}");
        let stored = if codec == "none" { "uncompressed" } else { codec };
        clients::create_topic(
            broker.bootstrap(),
            &topic,
            1,
            &[("compression.type", stored), ("max.message.bytes", "2000000")],
        );
        let records = peculiar(&mut random);
        // From a codec that is not the topic's.
        let producer =
            producer(broker.bootstrap(), &[("compression.type", if codec == "lz4" { "gzip" } else { "lz4" })]);
        records.iter().for_each(|record| send(&producer, &topic, record));
        producer.flush(BOUND).unwrap();
        assert_eq!(clients::read_all(broker.bootstrap(), &topic, 1), records, "{codec}");
    }
}

#[test]
fn log_append_time_replaces_the_clients_timestamps() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "stamped", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let producer = producer(broker.bootstrap(), &[]);
    let before = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    for record in peculiar(&mut Random::for_test("stamped")).iter().take(3) {
        send(&producer, "stamped", record);
    }
    producer.flush(BOUND).unwrap();
    let after = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let read = clients::read_all(broker.bootstrap(), "stamped", 1);
    assert_eq!(read.len(), 3);
    assert!(read.iter().all(|record| record.timestamp.is_some_and(|at| (before..=after).contains(&at))), "{read:?}");
}

#[test]
fn offsets_are_found_by_time() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "timed", 1, &[]);
    let producer = producer(broker.bootstrap(), &[("linger.ms", "0")]);
    let records = peculiar(&mut Random::for_test("timed"));
    for record in records.iter().take(8) {
        send(&producer, "timed", record);
        producer.flush(BOUND).unwrap();
    }
    let consumer: BaseConsumer = clients::config(broker.bootstrap()).create().unwrap();
    let at = |millis: i64| {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset("timed", 0, Offset::Offset(millis)).unwrap();
        consumer.offsets_for_times(asked, BOUND).unwrap().elements()[0].offset()
    };
    assert_eq!(at(0), Offset::Offset(0));
    assert_eq!(at(1_600_000_003_000), Offset::Offset(3));
    assert_eq!(at(1_600_000_003_001), Offset::Offset(4));
    assert_eq!(at(1_600_000_099_000), Offset::End);
}

#[test]
fn record_above_the_limit_is_refused_and_the_next_one_takes_its_offset() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "small", 1, &[("max.message.bytes", "20000")]);
    let config = clients::config(broker.bootstrap());
    let producer: BaseProducer<Outcomes> = config.create_with_context(Outcomes::default()).unwrap();
    for size in [10_000, 30_000, 10_000] {
        let value = Random::from_parts(&[size]).bytes(usize::try_from(size).unwrap());
        producer
            .send(BaseRecord::<(), [u8]>::to("small").partition(0).payload(&value))
            .map_err(|(error, _)| error)
            .unwrap();
        producer.flush(BOUND).unwrap();
    }
    let outcomes = producer.context().0.lock().unwrap().clone();
    assert_eq!(outcomes, [Ok(0), Err(RDKafkaErrorCode::MessageSizeTooLarge), Ok(1)]);
}

#[derive(Default)]
struct Outcomes(std::sync::Mutex<Vec<Result<i64, RDKafkaErrorCode>>>);

impl rdkafka::ClientContext for Outcomes {}

impl rdkafka::producer::ProducerContext for Outcomes {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::producer::DeliveryResult<'_>, (): ()) {
        let outcome = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap()),
        };
        self.0.lock().unwrap().push(outcome);
    }
}

#[test]
fn unknown_topic_is_created_for_a_producer_where_that_is_on_and_refused_where_not() {
    let create =
        |on: &str| Broker::fresh_with(|setup| setup.set("auto.create.topics.enable", on).set("num.partitions", "3"));
    let broker = create("true");
    let sender = producer(broker.bootstrap(), &[]);
    sender.send(BaseRecord::<(), str>::to("made").payload("x")).map_err(|(error, _)| error).unwrap();
    sender.flush(BOUND).unwrap();
    assert_eq!(clients::read_all(broker.bootstrap(), "made", 3).len(), 1);

    let broker = create("false");
    let config = clients::config(broker.bootstrap()).set("message.timeout.ms", "3000").clone();
    let sender: BaseProducer<DefaultProducerContext> = config.create().unwrap();
    let metadata = sender.client().fetch_metadata(Some("made"), BOUND).unwrap();
    let error = metadata.topics()[0].error().map(RDKafkaErrorCode::from);
    assert_eq!(error, Some(RDKafkaErrorCode::UnknownTopicOrPartition));
    let consumer: BaseConsumer = config.create().unwrap();
    let refused = consumer.fetch_watermarks("made", 0, Duration::from_secs(5)).unwrap_err();
    assert!(matches!(refused, KafkaError::MetadataFetch(_)), "{refused}");
}
