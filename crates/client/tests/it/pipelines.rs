//! Several requests in flight on one connection.

use std::collections::BTreeMap;

use bytes::Bytes;
use chronik_client::{AnsweredAcks, Client, ClientError, FetchLimits, ProducePipeline, Produced};
use chronik_model::{NodeId, Offset, PartitionIndex};
use chronik_wire::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use chronik_wire::messages::produce_response::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use chronik_wire::{ApiKey, ErrorCode, RequestBody, frame};

use crate::fake::{Fake, Reply, TOPIC_ID, api_versions, metadata};

const BATCH: Bytes = Bytes::from_static(b"a record batch");
const LIMITS: FetchLimits =
    FetchLimits { wait_max: std::time::Duration::ZERO, bytes_max: 1 << 20, partition_bytes_max: 1 << 20 };

/// A fake that gives each produce or fetch request, counted from 0, to `script`.
async fn fake(mut script: impl FnMut(usize, RequestBody) -> Reply + Send + 'static) -> Fake {
    let fake = Fake::start().await;
    let port = fake.port();
    let mut count = 0;
    fake.on(move |_, request| match request {
        RequestBody::ApiVersions(_) => api_versions(|key| *key.valid_versions().end()).into(),
        RequestBody::Metadata(request) => metadata(port, &request, 2).into(),
        request => {
            count += 1;
            script(count - 1, request)
        }
    });
    fake
}

async fn open(fake: &Fake, in_flight_max: usize) -> ProducePipeline {
    let mut client = Client::connect(&fake.address).await.unwrap();
    client.produce_pipeline("t", NodeId::new(1), AnsweredAcks::All, in_flight_max).await.unwrap()
}

fn partition(index: i32) -> PartitionIndex {
    PartitionIndex::new(index)
}

/// The answer to the produce request with this place on its connection, as it stands on the wire. Before it only the
/// versions were agreed on.
fn answer(place: i32, code: ErrorCode, base_offset: i64) -> Vec<u8> {
    let answer =
        PartitionProduceResponse { error_code: code as i16, base_offset, ..PartitionProduceResponse::default() };
    let topic = TopicProduceResponse { partition_responses: vec![answer], ..TopicProduceResponse::default() };
    let body = ProduceResponse { responses: vec![topic], ..ProduceResponse::default() };
    let version = *ApiKey::Produce.valid_versions().end();
    frame::response_body(version, place + 2, &body.into()).unwrap().to_vec()
}

#[tokio::test]
async fn batches_go_out_before_earlier_ones_are_acknowledged() {
    let fake = fake(|place, request| {
        let RequestBody::Produce(request) = request else { panic!("{request:?}") };
        let topic = &request.topic_data[0];
        assert_eq!((request.acks, topic.topic_id), (-1, TOPIC_ID));
        assert_eq!(topic.partition_data[0].records, Some(BATCH));
        // Nobody is answered until all three are there.
        if place < 2 {
            return Reply::Nothing;
        }
        Reply::Raw((0..3).flat_map(|place| answer(place, ErrorCode::None, i64::from(place) * 10)).collect())
    })
    .await;
    let mut pipeline = open(&fake, 3).await;
    for index in [0, 1, 0] {
        assert!(pipeline.push(partition(index), BATCH).unwrap());
    }
    assert!(!pipeline.has_room());
    assert!(!pipeline.push(partition(0), BATCH).unwrap(), "a full pipeline takes no more");
    for (index, base_offset) in [(0, 0), (1, 10), (0, 20)] {
        let expected = Produced { partition: partition(index), base_offset: Offset::new(base_offset) };
        assert_eq!(pipeline.answer().await.unwrap(), expected);
    }
    assert_eq!(pipeline.in_flight(), 0);
}

#[tokio::test]
async fn waiting_that_is_left_loses_nothing() {
    // Half of the first answer comes at once, the other half with the second.
    let fake = fake(|place, _| {
        let first = answer(0, ErrorCode::None, 5);
        let (head, tail) = first.split_at(first.len() / 2);
        Reply::Raw(if place == 0 { head.to_vec() } else { [tail, &answer(1, ErrorCode::None, 6)].concat() })
    })
    .await;
    let mut pipeline = open(&fake, 2).await;
    assert!(pipeline.push(partition(0), BATCH).unwrap());
    for _ in 0..100 {
        tokio::select! {
            biased;
            answer = pipeline.answer() => panic!("half an answer is none: {answer:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    assert!(pipeline.push(partition(0), BATCH).unwrap());
    for expected in [5, 6] {
        assert_eq!(pipeline.answer().await.unwrap().base_offset, Offset::new(expected));
    }
}

#[tokio::test]
async fn what_goes_wrong_is_told() {
    type Script = fn(usize, RequestBody) -> Reply;
    type Expected = fn(&ClientError) -> bool;
    let cases: [(Script, Expected); 3] = [
        (
            |_, _| Reply::Raw(answer(0, ErrorCode::NotEnoughReplicas, -1)),
            |error| matches!(error, ClientError::Refused { code: ErrorCode::NotEnoughReplicas, .. }),
        ),
        (|_, _| Reply::Raw(answer(1, ErrorCode::None, 0)), |error| matches!(error, ClientError::Garbled { .. })),
        (|_, _| Reply::HangUp, |error| matches!(error, ClientError::Disconnected { .. })),
    ];
    for (script, expected) in cases {
        let fake = fake(script).await;
        let mut pipeline = open(&fake, 1).await;
        assert!(pipeline.push(partition(0), BATCH).unwrap());
        let error = pipeline.answer().await.unwrap_err();
        assert!(expected(&error), "{error:?}");
    }
}

#[tokio::test]
async fn the_next_fetch_is_asked_before_the_last_one_is_answered() {
    let fake = fake(|place, request| {
        let RequestBody::Fetch(request) = request else { panic!("{request:?}") };
        let asked = &request.topics[0].partitions[0];
        assert_eq!((asked.partition, asked.fetch_offset), (1, i64::try_from(place).unwrap()));
        if place == 0 {
            return Reply::Nothing;
        }
        let data = PartitionData { partition_index: 1, records: Some(BATCH), ..PartitionData::default() };
        let topic = FetchableTopicResponse { partitions: vec![data], ..FetchableTopicResponse::default() };
        let body = FetchResponse { responses: vec![topic], ..FetchResponse::default() };
        let version = *ApiKey::Fetch.valid_versions().end();
        let answer = |place| frame::response_body(version, place, &body.clone().into()).unwrap();
        Reply::Raw([answer(2), answer(3)].concat())
    })
    .await;
    let mut client = Client::connect(&fake.address).await.unwrap();
    let mut pipeline = client.fetch_pipeline("t", NodeId::new(1), LIMITS, 2).await.unwrap();
    for offset in 0..2 {
        assert!(pipeline.push(&BTreeMap::from([(partition(1), Offset::new(offset))])).unwrap());
    }
    for _ in 0..2 {
        let fetched = pipeline.answer().await.unwrap();
        assert_eq!((fetched[0].partition, fetched[0].records.clone()), (partition(1), BATCH));
    }
}

#[tokio::test]
async fn partitions_are_grouped_by_leader() {
    let fake = fake(|_, request| panic!("{request:?}")).await;
    let mut client = Client::connect(&fake.address).await.unwrap();
    let leaders = client.leaders("t").await.unwrap();
    assert_eq!(leaders, BTreeMap::from([(NodeId::new(1), vec![partition(0), partition(1)])]));
}
