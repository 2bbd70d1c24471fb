//! Agreeing on versions, and peers that do not speak the protocol.

use std::time::Duration;

use chronik_client::{Client, ClientError, Options, Target};
use chronik_wire::messages::api_versions_response::ApiVersion;
use chronik_wire::messages::{ApiVersionsResponse, DescribeClusterRequest, DescribeClusterResponse};
use chronik_wire::{ApiKey, ErrorCode, RequestBody, frame};

use crate::fake::{Fake, Reply, api_versions};

/// The answer of a broker that knows ApiVersions up to `max` only, as it stands on the wire.
fn unsupported(correlation_id: i32, max: i16) -> Reply {
    let versions = ApiVersion { api_key: ApiKey::ApiVersions.as_i16(), max_version: max, ..ApiVersion::default() };
    let body = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion as i16,
        api_keys: vec![versions],
        ..ApiVersionsResponse::default()
    };
    Reply::Raw(frame::response_body(0, correlation_id, &body.into()).unwrap().to_vec())
}

#[tokio::test]
async fn an_older_broker_is_asked_again_in_its_version() {
    let fake = Fake::start().await;
    let (sender, asked) = std::sync::mpsc::channel();
    fake.on(move |version, request| {
        sender.send((request.key(), version)).unwrap();
        match request {
            RequestBody::ApiVersions(_) if version > 2 => unsupported(1, 2),
            RequestBody::ApiVersions(_) => api_versions(|_| 0).into(),
            _ => DescribeClusterResponse::default().into(),
        }
    });
    let mut client = Client::connect(&fake.address).await.unwrap();
    client.send(Target::Bootstrap, DescribeClusterRequest::default()).await.unwrap();
    let asked: Vec<_> = asked.try_iter().collect();
    assert_eq!(asked, [(ApiKey::ApiVersions, 4), (ApiKey::ApiVersions, 2), (ApiKey::DescribeCluster, 0)]);
}

#[tokio::test]
async fn a_broker_that_refuses_the_version_it_named_is_given_up() {
    let fake = Fake::start().await;
    let mut correlation_id = 0;
    fake.on(move |_, _| {
        correlation_id += 1;
        unsupported(correlation_id, 4)
    });
    let error = Client::connect(&fake.address).await.unwrap_err();
    assert!(matches!(error, ClientError::UnsupportedApi { .. }), "{error:?}");
}

#[tokio::test]
async fn an_api_the_broker_does_not_serve_is_not_sent() {
    let fake = Fake::start().await;
    fake.on(|_, request| match request {
        RequestBody::ApiVersions(_) => {
            let mut answer = api_versions(|key| *key.valid_versions().end());
            answer.api_keys.retain(|api| api.api_key != ApiKey::DescribeCluster.as_i16());
            answer.into()
        }
        _ => panic!("nothing else is sent"),
    });
    let mut client = Client::connect(&fake.address).await.unwrap();
    let error = client.send(Target::Bootstrap, DescribeClusterRequest::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::UnsupportedApi { api: "DescribeCluster", .. }), "{error:?}");
}

#[tokio::test]
async fn answers_that_break_the_protocol_are_errors() {
    let raw: [(&str, Vec<u8>); 5] = [
        ("frame size -1", vec![0xff, 0xff, 0xff, 0xff]),
        ("exceeds the limit", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("no header", vec![0, 0, 0, 2, 0, 0]),
        ("correlation id 9 instead of 1", vec![0, 0, 0, 6, 0, 0, 0, 9, 0, 0]),
        ("error_code", vec![0, 0, 0, 5, 0, 0, 0, 1, 0]),
    ];
    for (expected, bytes) in raw {
        let fake = Fake::start().await;
        fake.on(move |_, _| Reply::Raw(bytes.clone()));
        let error = Client::connect(&fake.address).await.unwrap_err();
        assert!(matches!(error, ClientError::Garbled { .. }), "{expected}: {error:?}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(!error.retryable());
    }
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let error = Client::connect(&address).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { answered_before: false, .. }), "{error:?}");
    assert!(!error.retryable());
}

#[tokio::test]
async fn a_broker_that_answered_before_and_is_gone_is_waited_for() {
    let fake = Fake::start().await;
    let options = Options { retry_max: Duration::ZERO, ..Options::default() };
    let mut client = Client::connect_with(&fake.address, options).await.unwrap();
    fake.on(|_, _| Reply::HangUp);
    let error = client.send(Target::Bootstrap, DescribeClusterRequest::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Disconnected { .. }), "{error:?}");
    fake.stop().await;
    let error = client.send(Target::Bootstrap, DescribeClusterRequest::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { answered_before: true, .. }), "{error:?}");
    assert!(error.retryable() && !error.outcome_unknown());
}

#[tokio::test]
async fn silence_ends_in_a_time_out() {
    let fake = Fake::start().await;
    fake.on(|_, _| Reply::Nothing);
    let options = Options { request_max: Duration::from_millis(20), ..Options::default() };
    let error = Client::connect_with(&fake.address, options).await.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { api: "ApiVersions", .. }), "{error:?}");
    assert!(error.outcome_unknown() && !error.retryable());
}
