//! Requests that clients send to any broker, and that only the leader can serve: passed on to it.

use std::time::Duration;

use chronik_client::{Client, ClientError, Options, Target};
use chronik_net::host_and_port;
use chronik_wire::messages::metadata_request::MetadataRequestTopic;
use chronik_wire::messages::{InitProducerIdRequest, MetadataRequest};
use chronik_wire::{ErrorCode, Request};

use crate::server::Broker;

/// The client id of what was passed on once, and is not passed on again: two brokers may each think that the other leads.
pub(crate) const FORWARDED: &str = "chronik-forwarded";

const DIAL_MAX: Duration = Duration::from_secs(2);
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// An answer of the leader is small.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The leader did not do what it was to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForwardError {
    /// None is known, or it cannot be reached. Other brokers may reach it.
    NoLeader,
    /// It says no.
    Refused(ErrorCode),
}

/// A producer id of the leader's.
pub(crate) async fn init_producer_id(broker: &Broker) -> Result<i64, ForwardError> {
    let request =
        InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: i32::MAX, ..Default::default() };
    let response = ask(broker, request).await?;
    match ErrorCode::from_code(response.error_code) {
        Some(ErrorCode::None) => Ok(response.producer_id),
        code => Err(ForwardError::Refused(code.unwrap_or(ErrorCode::UnknownServerError))),
    }
}

/// Has the leader create topics that a client asked for. They are here once the leader's metadata has come.
pub(crate) async fn create_automatically(broker: &Broker, names: &[String]) {
    let topics = names.iter().map(|name| MetadataRequestTopic { name: Some(name.clone()), ..Default::default() });
    let request = MetadataRequest {
        topics: Some(topics.collect()),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    };
    // The client asks again either way.
    let _ = ask(broker, request).await;
}

async fn ask<R: Request>(broker: &Broker, request: R) -> Result<R::Response, ForwardError> {
    let leader = broker.controller_id();
    let leader = broker.brokers_for_clients().into_iter().find(|(node_id, ..)| *node_id == leader);
    let Some((node_id, host, port, _)) = leader else { return Err(ForwardError::NoLeader) };
    if node_id == broker.this_node().node_id {
        // It is not heard of.
        return Err(ForwardError::NoLeader);
    }
    let address = host_and_port(&host, port);
    let options = Options {
        client_id: FORWARDED.to_owned(),
        dial_max: DIAL_MAX,
        request_max: ANSWER_MAX,
        response_bytes_max: ANSWER_BYTES_MAX,
        tls: broker.tls_to_brokers.clone(),
        ..Options::default()
    };
    let asked: Result<R::Response, ClientError> = async {
        let mut client = Client::connect_with(&address, options).await?;
        client.send(Target::Bootstrap, request).await
    }
    .await;
    asked.map_err(|error| {
        tracing::debug!(leader = %address, %error, "the leader cannot be asked");
        ForwardError::NoLeader
    })
}
