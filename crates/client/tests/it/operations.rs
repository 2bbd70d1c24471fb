//! Topics, produce, fetch and offsets, with their retries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chronik_client::{Acks, Client, ClientError, FetchLimits, NewTopic, OffsetAt, Options, ProducerIdentity, Target};
use chronik_model::{Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId};
use chronik_wire::messages::create_topics_response::{CreatableTopicResult, CreateTopicsResponse};
use chronik_wire::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use chronik_wire::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use chronik_wire::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use chronik_wire::messages::produce_response::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use chronik_wire::messages::{DescribeClusterRequest, ProduceRequest};
use chronik_wire::{ApiKey, ErrorCode, RequestBody, Uuid};

use crate::fake::{Fake, Reply, TOPIC_ID, api_versions, metadata};

const BATCH: Bytes = Bytes::from_static(b"a record batch");
const IDENTITY: ProducerIdentity = ProducerIdentity { id: ProducerId::new(5), epoch: ProducerEpoch::new(0) };
const LIMITS: FetchLimits =
    FetchLimits { wait_max: Duration::from_millis(500), bytes_max: 1 << 20, partition_bytes_max: 1 << 20 };

fn partition(index: i32) -> PartitionIndex {
    PartitionIndex::new(index)
}

fn produced(code: ErrorCode, base_offset: i64) -> ProduceResponse {
    let answer =
        PartitionProduceResponse { error_code: code as i16, base_offset, ..PartitionProduceResponse::default() };
    let topic = TopicProduceResponse { partition_responses: vec![answer], ..TopicProduceResponse::default() };
    ProduceResponse { responses: vec![topic], ..ProduceResponse::default() }
}

/// A fake with a topic `t` of two partitions, serving versions up to `max`, that answers the rest with `script`.
async fn fake_with_topic(
    max: impl Fn(ApiKey) -> i16 + Send + 'static,
    mut script: impl FnMut(i16, RequestBody) -> Reply + Send + 'static,
) -> Fake {
    let fake = Fake::start().await;
    let port = fake.port();
    fake.on(move |version, request| match request {
        RequestBody::ApiVersions(_) => api_versions(&max).into(),
        RequestBody::Metadata(request) => metadata(port, &request, 2).into(),
        request => script(version, request),
    });
    fake
}

fn newest(key: ApiKey) -> i16 {
    *key.valid_versions().end()
}

#[tokio::test]
async fn a_batch_goes_to_its_partition_by_id_or_by_name_as_the_version_has_it() {
    for max in [12, 13] {
        let versions = move |key| if key == ApiKey::Produce { max } else { newest(key) };
        let fake = fake_with_topic(versions, move |version, request| {
            let RequestBody::Produce(ProduceRequest { acks, topic_data, .. }) = request else { panic!("{request:?}") };
            assert_eq!((version, acks), (max, -1));
            let [topic] = &topic_data[..] else { panic!("one topic") };
            let expected = if max == 13 { ("", TOPIC_ID) } else { ("t", Uuid::ZERO) };
            assert_eq!((topic.name.as_str(), topic.topic_id), expected);
            assert_eq!((topic.partition_data[0].index, topic.partition_data[0].records.clone()), (1, Some(BATCH)));
            produced(ErrorCode::None, 42).into()
        })
        .await;
        let mut client = Client::connect(&fake.address).await.unwrap();
        let offset = client.produce("t", partition(1), BATCH, Acks::All, None).await.unwrap();
        assert_eq!(offset, Some(Offset::new(42)));
    }
}

#[tokio::test]
async fn a_leader_that_moved_is_looked_up_again() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let fake = fake_with_topic(newest, move |_, _| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => produced(ErrorCode::NotLeaderOrFollower, -1).into(),
        1 => Reply::HangUp,
        _ => produced(ErrorCode::None, 7).into(),
    })
    .await;
    let mut client = Client::connect(&fake.address).await.unwrap();
    let offset = client.produce("t", partition(0), BATCH, Acks::All, Some(IDENTITY)).await.unwrap();
    assert_eq!((offset, attempts.load(Ordering::SeqCst)), (Some(Offset::new(7)), 3));
}

#[tokio::test]
async fn a_batch_without_identity_is_not_sent_twice_where_the_first_may_be_stored() {
    for outcome_unknown in [true, false] {
        let attempts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&attempts);
        let fake = fake_with_topic(newest, move |_, _| match counted.fetch_add(1, Ordering::SeqCst) {
            0 if outcome_unknown => Reply::HangUp,
            0 => produced(ErrorCode::NotEnoughReplicas, -1).into(),
            _ => produced(ErrorCode::None, 7).into(),
        })
        .await;
        let mut client = Client::connect(&fake.address).await.unwrap();
        let result = client.produce("t", partition(0), BATCH, Acks::All, None).await;
        if outcome_unknown {
            assert!(matches!(result, Err(ClientError::Disconnected { .. })), "{result:?}");
            assert_eq!(attempts.load(Ordering::SeqCst), 1);
        } else {
            assert_eq!(result.unwrap(), Some(Offset::new(7)));
        }
    }
}

#[tokio::test]
async fn a_duplicate_is_stored_and_a_refusal_carries_kafkas_code() {
    let mut codes = [ErrorCode::DuplicateSequenceNumber, ErrorCode::MessageTooLarge].into_iter();
    let fake = fake_with_topic(newest, move |_, _| produced(codes.next().unwrap(), -1).into()).await;
    let mut client = Client::connect(&fake.address).await.unwrap();
    assert_eq!(client.produce("t", partition(0), BATCH, Acks::All, Some(IDENTITY)).await.unwrap(), None);
    let error = client.produce("t", partition(0), BATCH, Acks::All, Some(IDENTITY)).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { code: ErrorCode::MessageTooLarge, .. }), "{error:?}");
    assert!(error.to_string().contains("partition t-0"), "{error}");
}

#[tokio::test]
async fn without_acks_nothing_is_awaited_and_the_connection_stays_usable() {
    let fake = fake_with_topic(newest, |_, request| match request {
        RequestBody::Produce(request) => {
            assert_eq!(request.acks, 0);
            Reply::Nothing
        }
        _ => chronik_wire::messages::DescribeClusterResponse::default().into(),
    })
    .await;
    let mut client = Client::connect(&fake.address).await.unwrap();
    assert_eq!(client.produce("t", partition(0), BATCH, Acks::None, None).await.unwrap(), None);
    client.send(Target::Bootstrap, DescribeClusterRequest::default()).await.unwrap();
}

#[tokio::test]
async fn retrying_ends_when_its_time_is_up() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let fake = fake_with_topic(newest, move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        produced(ErrorCode::NotEnoughReplicas, -1).into()
    })
    .await;
    let options = Options { retry_max: Duration::from_millis(100), ..Options::default() };
    let mut client = Client::connect_with(&fake.address, options).await.unwrap();
    let error = client.produce("t", partition(0), BATCH, Acks::All, None).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { code: ErrorCode::NotEnoughReplicas, .. }), "{error:?}");
    assert!((2..10).contains(&attempts.load(Ordering::SeqCst)), "{attempts:?}");
}

#[tokio::test]
async fn unknown_topics_and_partitions_are_told_at_once() {
    let fake = fake_with_topic(newest, |_, request| panic!("{request:?}")).await;
    let mut client = Client::connect(&fake.address).await.unwrap();
    let error = client.topic("missing").await.unwrap_err();
    assert!(matches!(&error, ClientError::NoSuchTopic(name) if name == "missing"), "{error:?}");
    let error = client.produce("t", partition(2), BATCH, Acks::All, Some(IDENTITY)).await.unwrap_err();
    assert!(error.to_string().contains("the topic has 2 partitions"), "{error}");
    let topics = client.all_topics().await.unwrap();
    assert_eq!(
        topics.iter().map(|topic| (topic.name.as_str(), topic.partitions.len())).collect::<Vec<_>>(),
        [("t", 2)]
    );
}

#[tokio::test]
async fn a_topic_is_created_by_asking_for_it_only_where_that_is_meant() {
    let fake = Fake::start().await;
    let port = fake.port();
    let mut asked = Vec::new();
    let (sender, creations) = std::sync::mpsc::channel();
    fake.on(move |_, request| match request {
        RequestBody::ApiVersions(_) => api_versions(newest).into(),
        RequestBody::Metadata(request) => {
            sender.send(request.allow_auto_topic_creation).unwrap();
            asked.push(request.allow_auto_topic_creation);
            let mut answer = metadata(port, &request, 1);
            // The topic is there a little after it was asked for.
            if asked.iter().filter(|&&create| create).count() < 2 {
                answer.topics[0].error_code = ErrorCode::UnknownTopicOrPartition as i16;
            }
            answer.into()
        }
        request => panic!("{request:?}"),
    });
    let mut client = Client::connect(&fake.address).await.unwrap();
    assert!(matches!(client.topic("t").await, Err(ClientError::NoSuchTopic(_))));
    assert_eq!(client.topic_on_demand("t").await.unwrap().partitions.len(), 1);
    assert_eq!(creations.try_iter().collect::<Vec<_>>(), [false, false, true, false, false, true, false]);
}

#[tokio::test]
async fn a_fetch_names_every_position_and_brings_the_batches_as_they_are() {
    for max in [12, 18] {
        let versions = move |key| if key == ApiKey::Fetch { max } else { newest(key) };
        let fake = fake_with_topic(versions, move |_, request| {
            let RequestBody::Fetch(request) = request else { panic!("{request:?}") };
            assert_eq!((request.min_bytes, request.max_wait_ms, request.session_epoch), (1, 500, -1));
            let topic = &request.topics[0];
            let expected = if max >= 13 { ("", TOPIC_ID) } else { ("t", Uuid::ZERO) };
            assert_eq!((topic.topic.as_str(), topic.topic_id), expected);
            let asked = topic.partitions.iter().map(|p| (p.partition, p.fetch_offset, p.current_leader_epoch));
            let asked: Vec<_> = asked.collect();
            assert_eq!(asked, [(0, 10, 3), (1, 20, 3)]);
            let data = |partition_index, records| PartitionData {
                partition_index,
                high_watermark: 30,
                log_start_offset: 5,
                records,
                ..PartitionData::default()
            };
            let partitions = vec![data(0, Some(BATCH)), data(1, None)];
            let topic = FetchableTopicResponse { partitions, ..FetchableTopicResponse::default() };
            FetchResponse { responses: vec![topic], ..FetchResponse::default() }.into()
        })
        .await;
        let mut client = Client::connect(&fake.address).await.unwrap();
        let positions = BTreeMap::from([(partition(0), Offset::new(10)), (partition(1), Offset::new(20))]);
        let fetched = client.fetch("t", &positions, LIMITS).await.unwrap();
        assert_eq!(fetched[0].records, BATCH);
        assert_eq!((fetched[0].high_watermark, fetched[0].log_start), (Offset::new(30), Offset::new(5)));
        assert!(fetched[1].records.is_empty());
    }
}

#[tokio::test]
async fn an_offset_outside_the_partition_is_recognised() {
    let fake = fake_with_topic(newest, |_, _| {
        let error_code = ErrorCode::OffsetOutOfRange as i16;
        let partitions = vec![PartitionData { error_code, ..PartitionData::default() }];
        let topic = FetchableTopicResponse { partitions, ..FetchableTopicResponse::default() };
        FetchResponse { responses: vec![topic], ..FetchResponse::default() }.into()
    })
    .await;
    let mut client = Client::connect(&fake.address).await.unwrap();
    let positions = BTreeMap::from([(partition(0), Offset::new(10))]);
    let error = client.fetch("t", &positions, LIMITS).await.unwrap_err();
    assert!(error.is_offset_out_of_range(), "{error:?}");
}

#[tokio::test]
async fn offsets_are_asked_with_kafkas_sentinels() {
    let fake = fake_with_topic(newest, |_, request| {
        let RequestBody::ListOffsets(request) = request else { panic!("{request:?}") };
        let offset = match request.topics[0].partitions[0].timestamp {
            -2 => 3,
            -1 => 9,
            _ => -1,
        };
        let partitions = vec![ListOffsetsPartitionResponse { offset, ..ListOffsetsPartitionResponse::default() }];
        let topics = vec![ListOffsetsTopicResponse { name: "t".to_owned(), partitions }];
        ListOffsetsResponse { topics, ..ListOffsetsResponse::default() }.into()
    })
    .await;
    let mut client = Client::connect(&fake.address).await.unwrap();
    let time = chronik_model::Timestamp::from_millis(1);
    let expected = [(OffsetAt::Start, Some(3)), (OffsetAt::End, Some(9)), (OffsetAt::Time(time), None)];
    for (at, expected) in expected {
        assert_eq!(client.offset("t", partition(0), at).await.unwrap(), expected.map(Offset::new));
    }
}

#[tokio::test]
async fn a_topic_whose_creation_went_unanswered_counts_as_created() {
    let mut attempts = 0;
    let fake = fake_with_topic(newest, move |_, request| {
        let RequestBody::CreateTopics(request) = request else { panic!("{request:?}") };
        assert_eq!((request.topics[0].num_partitions, request.topics[0].replication_factor), (-1, -1));
        attempts += 1;
        if attempts == 1 {
            return Reply::HangUp;
        }
        let error_code = ErrorCode::TopicAlreadyExists as i16;
        let topics = vec![CreatableTopicResult { error_code, ..CreatableTopicResult::default() }];
        CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }.into()
    })
    .await;
    let mut client = Client::connect(&fake.address).await.unwrap();
    let topic = NewTopic { name: "t".to_owned(), ..NewTopic::default() };
    assert_eq!(client.create_topic(&topic).await.unwrap(), TopicId(TOPIC_ID));
    let error = client.create_topic(&topic).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { code: ErrorCode::TopicAlreadyExists, .. }), "{error:?}");
}

#[tokio::test]
async fn topics_are_deleted_by_name_in_every_version() {
    for max in [5, 6] {
        let versions = move |key| if key == ApiKey::DeleteTopics { max } else { newest(key) };
        let fake = fake_with_topic(versions, |_, request| {
            let RequestBody::DeleteTopics(request) = request else { panic!("{request:?}") };
            let named = request.topics.iter().filter_map(|topic| topic.name.clone());
            let named: Vec<String> = named.chain(request.topic_names.clone()).collect();
            let error_code = if named == ["t"] { ErrorCode::None } else { ErrorCode::UnknownTopicOrPartition };
            let result = DeletableTopicResult {
                name: named.first().cloned(),
                error_code: error_code as i16,
                ..DeletableTopicResult::default()
            };
            DeleteTopicsResponse { responses: vec![result], ..DeleteTopicsResponse::default() }.into()
        })
        .await;
        let mut client = Client::connect(&fake.address).await.unwrap();
        client.delete_topic("t").await.unwrap();
        let error = client.delete_topic("u").await.unwrap_err();
        assert!(matches!(&error, ClientError::NoSuchTopic(name) if name == "u"), "{error:?}");
    }
}
