//! Offsets and batches of the broker that is asked, whoever leads.

use bytes::Bytes;
use chronik_client::{Client, FetchLimits, OffsetAt, Target};
use chronik_model::{Offset, PartitionIndex};
use chronik_wire::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use chronik_wire::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use chronik_wire::{ErrorCode, RequestBody};

use crate::fake::{Fake, TOPIC_ID, api_versions, metadata};

const LIMITS: FetchLimits =
    FetchLimits { wait_max: std::time::Duration::ZERO, bytes_max: 1 << 20, partition_bytes_max: 1 << 20 };

/// A broker whose metadata names a leader that nobody can reach. The first request of each kind is refused for the moment.
async fn follower() -> Fake {
    let fake = Fake::start().await;
    let port = fake.port();
    let mut refusals = vec![ErrorCode::OffsetNotAvailable, ErrorCode::NotLeaderOrFollower];
    fake.on(move |_, request| match request {
        RequestBody::ApiVersions(_) => api_versions(|key| *key.valid_versions().end()).into(),
        RequestBody::Metadata(request) => {
            let mut answer = metadata(port, &request, 1);
            answer.topics[0].partitions[0].leader_id = 2;
            answer.into()
        }
        RequestBody::ListOffsets(request) => {
            let asked = &request.topics[0].partitions[0];
            assert_eq!((request.replica_id, asked.current_leader_epoch, asked.timestamp), (-1, -1, -1));
            let code = if refusals.len() == 2 { refusals.pop() } else { None };
            let answer = ListOffsetsPartitionResponse {
                error_code: code.unwrap_or_default() as i16,
                offset: 8,
                ..ListOffsetsPartitionResponse::default()
            };
            let topic = ListOffsetsTopicResponse { partitions: vec![answer], ..ListOffsetsTopicResponse::default() };
            ListOffsetsResponse { topics: vec![topic], ..ListOffsetsResponse::default() }.into()
        }
        RequestBody::Fetch(request) => {
            let topic = &request.topics[0];
            let asked = &topic.partitions[0];
            assert_eq!((request.replica_id, topic.topic_id), (-1, TOPIC_ID));
            assert_eq!((asked.partition, asked.fetch_offset, asked.current_leader_epoch), (0, 3, -1));
            let code = refusals.pop().unwrap_or_default();
            let answer = PartitionData {
                error_code: code as i16,
                high_watermark: 8,
                records: Some(Bytes::from_static(b"a record batch")),
                ..PartitionData::default()
            };
            let topic = FetchableTopicResponse { partitions: vec![answer], ..FetchableTopicResponse::default() };
            FetchResponse { responses: vec![topic], ..FetchResponse::default() }.into()
        }
        request => panic!("{request:?}"),
    });
    fake
}

#[tokio::test]
async fn the_broker_that_is_asked_answers_for_its_own_replica() {
    let fake = follower().await;
    let mut client = Client::connect(&fake.address).await.unwrap();
    let topic = client.topic("t").await.unwrap();
    let partition = PartitionIndex::new(0);
    let end = client.replica_offset(Target::Bootstrap, "t", partition, OffsetAt::End).await.unwrap();
    assert_eq!(end, Some(Offset::new(8)));
    let fetched = client.fetch_replica(Target::Bootstrap, &topic, partition, Offset::new(3), LIMITS).await.unwrap();
    assert_eq!((fetched.records, fetched.high_watermark), (Bytes::from_static(b"a record batch"), Offset::new(8)));
}
