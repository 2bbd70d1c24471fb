//! The encoder with holes against the generated one, in every version.

use bytes::Bytes;

use super::*;
use crate::frame;
use crate::messages::fetch_response::{FetchableTopicResponse, PartitionData, SnapshotId};
use crate::messages::{FetchRequest, FetchResponse};

const RECORDS: [Option<&[u8]>; 4] = [Some(b"first batch"), None, Some(b""), Some(&[7; 300])];

/// A response that uses all a version can carry; its records are `RECORDS`, by token.
fn response(version: i16) -> Response {
    let flexible = version >= 12;
    let leader = flexible.then_some(LeaderIdAndEpoch { leader_id: 3, leader_epoch: 9 });
    let diverging = flexible.then_some(EpochEndOffset { epoch: 4, end_offset: 1000 });
    let aborted = vec![
        AbortedTransaction { producer_id: 11, first_offset: 5 },
        AbortedTransaction { producer_id: 12, first_offset: 6 },
    ];
    let partition = |token: usize| Partition {
        index: 10 + token as i32,
        high_watermark: 1 << 40,
        last_stable_offset: 77,
        log_start_offset: if version >= 5 { 2 } else { -1 },
        records_len: RECORDS[token].map(<[u8]>::len),
        ..Partition::default()
    };
    let topic = |name: &str, id: u8, partitions| Topic {
        name: name.to_owned(),
        topic_id: Uuid::from_bytes([id; 16]),
        partitions,
    };
    Response {
        correlation_id: 99,
        throttle_time_ms: 0,
        error_code: if version >= 7 { ErrorCode::FetchSessionIdNotFound } else { ErrorCode::None },
        session_id: if version >= 7 { 1234 } else { 0 },
        topics: vec![
            topic(
                "a",
                1,
                vec![
                    Partition { aborted_transactions: Some(aborted), ..partition(0) },
                    Partition {
                        error_code: ErrorCode::NotLeaderOrFollower,
                        current_leader: leader.clone(),
                        diverging_epoch: diverging,
                        ..partition(1)
                    },
                ],
            ),
            topic("empty", 2, vec![]),
            topic(
                "c",
                3,
                vec![
                    Partition {
                        aborted_transactions: Some(vec![]),
                        preferred_read_replica: if version >= 11 { 2 } else { -1 },
                        ..partition(2)
                    },
                    Partition { current_leader: leader, ..partition(3) },
                ],
            ),
        ],
        node_endpoints: match version >= 16 {
            true => vec![NodeEndpoint { node_id: 3, host: "h".into(), port: 9092, rack: Some("r".into()) }],
            false => vec![],
        },
    }
}

/// The same content as the generated message.
fn generated(response: &Response, version: i16) -> FetchResponse {
    let mut records = RECORDS.iter().map(|records| records.map(Bytes::from_static));
    let responses = response.topics.iter().map(|topic| FetchableTopicResponse {
        topic: if version <= 12 { topic.name.clone() } else { String::new() },
        topic_id: if version >= 13 { topic.topic_id } else { Uuid::ZERO },
        partitions: topic
            .partitions
            .iter()
            .map(|partition| PartitionData {
                partition_index: partition.index,
                error_code: partition.error_code.code(),
                high_watermark: partition.high_watermark,
                last_stable_offset: partition.last_stable_offset,
                log_start_offset: partition.log_start_offset,
                diverging_epoch: partition.diverging_epoch.clone().unwrap_or_default(),
                current_leader: partition.current_leader.clone().unwrap_or_default(),
                snapshot_id: SnapshotId::default(),
                aborted_transactions: partition.aborted_transactions.clone(),
                preferred_read_replica: partition.preferred_read_replica,
                records: records.next().unwrap(),
            })
            .collect(),
    });
    FetchResponse {
        throttle_time_ms: response.throttle_time_ms,
        error_code: response.error_code.code(),
        session_id: response.session_id,
        responses: responses.collect(),
        node_endpoints: response.node_endpoints.clone(),
    }
}

fn fill(encoded: &Encoded) -> Vec<u8> {
    let mut frame = Vec::new();
    for part in &encoded.parts {
        match part {
            Part::Bytes(bytes) => frame.extend_from_slice(bytes),
            Part::Records { token, len } => {
                let records = RECORDS[*token].unwrap();
                assert_eq!(records.len(), *len);
                frame.extend_from_slice(records);
            }
        }
    }
    frame
}

#[test]
fn filled_response_equals_the_generated_encoding() {
    for version in ApiKey::Fetch.valid_versions() {
        let response = response(version);
        let encoded = response.encode(version).unwrap();
        let frame = fill(&encoded);
        assert_eq!(encoded.len, frame.len());
        let expected = frame::response::<FetchRequest>(version, 99, &generated(&response, version)).unwrap();
        assert_eq!(frame, expected, "version {version}");
    }
}

#[test]
fn response_without_topics_is_one_part() {
    for version in ApiKey::Fetch.valid_versions() {
        let encoded = Response { correlation_id: 1, ..Default::default() }.encode(version).unwrap();
        let expected = frame::response::<FetchRequest>(version, 1, &FetchResponse::default()).unwrap();
        assert_eq!(encoded.parts, [Part::Bytes(expected)]);
    }
}

#[test]
fn default_leader_and_epoch_are_not_sent() {
    let mut response = response(18);
    let without = response.encode(18).unwrap();
    response.topics[0].partitions[0].current_leader = Some(LeaderIdAndEpoch::default());
    response.topics[0].partitions[0].diverging_epoch = Some(EpochEndOffset::default());
    assert_eq!(response.encode(18).unwrap(), without);
}

#[test]
fn what_a_version_cannot_carry_is_an_error() {
    let absent = |version, change: fn(&mut Response), field| {
        let mut response = response(version);
        change(&mut response);
        assert_eq!(response.encode(version), Err(EncodeError::AbsentField { field, version }));
        let expected = frame::response::<FetchRequest>(version, 99, &generated(&response, version));
        assert_eq!(expected, Err(EncodeError::AbsentField { field, version }), "the generated encoder agrees");
    };
    absent(6, |r| r.session_id = 1, "session_id");
    absent(10, |r| r.topics[0].partitions[0].preferred_read_replica = 1, "preferred_read_replica");
    absent(
        11,
        |r| r.topics[0].partitions[0].current_leader = Some(LeaderIdAndEpoch { leader_id: 1, leader_epoch: 1 }),
        "current_leader",
    );
    absent(
        11,
        |r| r.topics[0].partitions[0].diverging_epoch = Some(EpochEndOffset { epoch: 1, end_offset: 1 }),
        "diverging_epoch",
    );
    absent(15, |r| r.node_endpoints = vec![NodeEndpoint::default()], "node_endpoints");
    absent(4, |r| r.node_endpoints = vec![NodeEndpoint::default()], "node_endpoints");
    assert!(matches!(response(4).encode(3), Err(EncodeError::UnsupportedVersion { .. })));
    assert!(matches!(response(18).encode(19), Err(EncodeError::UnsupportedVersion { .. })));
}

#[test]
fn holes_beyond_a_frame_are_an_error() {
    for len in [i32::MAX as usize - 50, usize::MAX] {
        let mut response = response(18);
        response.topics[0].partitions[0].records_len = Some(len);
        assert!(matches!(response.encode(18), Err(EncodeError::TooLong { .. })), "{len}");
    }
}
