//! Bytes captured from Apache Kafka: each request and response is read and written back to the same bytes.
//!
//! `golden/run` takes them anew. A file holds one API, a line "VERSION REQUEST RESPONSE" in hex, headers included.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use chronik_wire::fetch_response::{self, Part};
use chronik_wire::messages::{FetchResponse, ProduceRequest, RequestHeader, ResponseHeader};
use chronik_wire::produce::ProduceRequestView;
use chronik_wire::{ApiKey, ErrorCode, Message as _, Reader, RequestBody, ResponseBody, Writer, frame};

struct Exchange {
    key: ApiKey,
    version: i16,
    request: Bytes,
    response: Bytes,
}

/// Every captured exchange.
#[expect(clippy::disallowed_methods, reason = "the captured bytes are files of the test, too many to name each")]
fn exchanges() -> Vec<Exchange> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden");
    let mut exchanges = Vec::new();
    for key in ApiKey::ALL {
        let Ok(text) = std::fs::read_to_string(dir.join(format!("{}.txt", key.name()))) else { continue };
        for line in text.lines() {
            let [version, request, response] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            exchanges.push(Exchange {
                key: *key,
                version: version.parse().unwrap(),
                request: unhex(request),
                response: unhex(response),
            });
        }
    }
    exchanges
}

fn unhex(text: &str) -> Bytes {
    assert!(text.len().is_multiple_of(2));
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn requests_are_written_back_as_kafka_wrote_them() {
    for Exchange { key, version, request, .. } in exchanges() {
        let context = format!("{} version {version}", key.name());
        let peek = frame::peek(&request).unwrap();
        assert_eq!((peek.api_key, peek.api_version), (key.as_i16(), version), "{context}");
        let mut r = Reader::new(request.clone());
        let header = frame::request_header(key, version, &mut r).unwrap();
        assert_eq!(header.client_id.as_deref(), Some("golden"), "{context}");
        let body = RequestBody::decode(key, &mut r, version).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(r.remaining(), 0, "{context}: {body:?}");

        let mut w = Writer::new();
        RequestHeader::encode(&header, &mut w, key.request_header_version(version)).unwrap();
        body.encode(&mut w, version).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(w.into_bytes(), request, "{context}: {body:?}");
    }
}

#[test]
fn responses_are_written_back_as_kafka_wrote_them() {
    for Exchange { key, version, request, response } in exchanges() {
        let context = format!("{} version {version}", key.name());
        let mut r = Reader::new(response.clone());
        let header = ResponseHeader::decode(&mut r, key.response_header_version(version)).unwrap();
        assert_eq!(header.correlation_id, frame::peek(&request).unwrap().correlation_id, "{context}");
        let body = ResponseBody::decode(key, &mut r, version).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(r.remaining(), 0, "{context}: {body:?}");

        let frame = frame::response_body(version, header.correlation_id, &body);
        let frame = frame.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(frame.slice(frame::SIZE_BYTES..), response, "{context}: {body:?}");
    }
}

#[test]
fn produce_view_reads_kafkas_requests() {
    for Exchange { version, request, .. } in exchanges().into_iter().filter(|exchange| exchange.key == ApiKey::Produce)
    {
        let body = |request: Bytes| {
            let mut r = Reader::new(request);
            frame::request_header(ApiKey::Produce, version, &mut r).unwrap();
            r
        };
        let whole = ProduceRequest::decode(&mut body(request.clone()), version).unwrap();
        let view = ProduceRequestView::decode(&mut body(request), version).unwrap();
        let expected: Vec<_> = whole
            .topic_data
            .iter()
            .flat_map(|topic| topic.partition_data.iter().map(move |data| (topic, data)))
            .map(|(topic, data)| (topic.name.clone(), topic.topic_id, data.index, data.records.clone()))
            .collect();
        let seen: Vec<_> = view
            .partitions
            .iter()
            .map(|partition| (view.topic(partition).unwrap(), partition))
            .map(|(topic, data)| (topic.name.clone(), topic.topic_id, data.index, data.records.clone()))
            .collect();
        assert_eq!(seen.len(), 4);
        assert_eq!(seen, expected, "version {version}");
        assert_eq!((view.acks, view.timeout_ms), (whole.acks, whole.timeout_ms));
    }
}

#[test]
fn fetch_encoder_with_holes_writes_kafkas_responses() {
    for Exchange { version, response, .. } in exchanges().into_iter().filter(|exchange| exchange.key == ApiKey::Fetch) {
        let mut r = Reader::new(response.clone());
        let header = ResponseHeader::decode(&mut r, ApiKey::Fetch.response_header_version(version)).unwrap();
        let body = FetchResponse::decode(&mut r, version).unwrap();
        let mut records = Vec::new();
        let topics = body.responses.iter().map(|topic| fetch_response::Topic {
            name: topic.topic.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| {
                    records.push(partition.records.clone().unwrap());
                    fetch_response::Partition {
                        index: partition.partition_index,
                        error_code: ErrorCode::from_code(partition.error_code).unwrap(),
                        high_watermark: partition.high_watermark,
                        last_stable_offset: partition.last_stable_offset,
                        log_start_offset: partition.log_start_offset,
                        diverging_epoch: Some(partition.diverging_epoch.clone()),
                        current_leader: Some(partition.current_leader.clone()),
                        aborted_transactions: partition.aborted_transactions.clone(),
                        preferred_read_replica: partition.preferred_read_replica,
                        records_len: partition.records.as_ref().map(Bytes::len),
                    }
                })
                .collect(),
        });
        let topics = topics.collect();
        let encoded = fetch_response::Response {
            correlation_id: header.correlation_id,
            throttle_time_ms: body.throttle_time_ms,
            error_code: ErrorCode::from_code(body.error_code).unwrap(),
            session_id: body.session_id,
            topics,
            node_endpoints: body.node_endpoints.clone(),
        }
        .encode(version)
        .unwrap();
        let mut frame = Vec::new();
        for part in &encoded.parts {
            match part {
                Part::Bytes(bytes) => frame.extend_from_slice(bytes),
                Part::Records { token, len } => {
                    assert_eq!(records[*token].len(), *len);
                    frame.extend_from_slice(&records[*token]);
                }
            }
        }
        assert_eq!(encoded.len, frame.len());
        assert_eq!(frame[frame::SIZE_BYTES..], response, "version {version}");
    }
}

/// The APIs whose every stable version must be there.
const COMPLETE: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::DescribeTopicPartitions,
    ApiKey::DescribeCluster,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::CreatePartitions,
    ApiKey::DeleteRecords,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::ListConfigResources,
    ApiKey::DescribeLogDirs,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeProducers,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::SyncGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::ListGroups,
    ApiKey::DescribeGroups,
    ApiKey::DeleteGroups,
    ApiKey::OffsetDelete,
    ApiKey::DescribeQuorum,
];

#[test]
fn golden_bytes_cover_every_version_of_the_served_apis() {
    let mut versions: BTreeMap<ApiKey, BTreeSet<i16>> = BTreeMap::new();
    for exchange in exchanges() {
        versions.entry(exchange.key).or_default().insert(exchange.version);
    }
    for key in COMPLETE {
        let valid = key.valid_versions();
        let last = valid.end() - i16::from(key.latest_version_unstable());
        let expected: BTreeSet<i16> = (*valid.start()..=last).collect();
        assert_eq!(versions.get(key), Some(&expected), "{}", key.name());
    }
}
