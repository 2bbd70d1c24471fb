//! The APIs served, one file each: decode, do, encode.
//!
//! [`SERVED`] is the one list of APIs and versions; ApiVersions advertises it and [`start`] serves it.

mod admin;
mod api_versions;
mod authorized_operations;
mod configs;
mod describe_quorum;
mod fetch;
mod group_offsets;
mod groups;
mod init_producer_id;
mod list_offsets;
mod log_dirs;
mod metadata;
mod offset_for_leader_epoch;
mod produce;
mod producers;
mod records;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use chronik_net::{Frame, MemoryPermit, Part};
use chronik_wire::messages::RequestHeader;
use chronik_wire::{ApiKey, DecodeError, Reader, Request, frame};

use crate::connection::Peer;
use crate::server::Broker;

/// An API with the versions served, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedApi {
    /// The API.
    pub key: ApiKey,
    /// Lowest version advertised.
    pub min: i16,
    /// Highest version advertised.
    pub max: i16,
}

const fn api(key: ApiKey, min: i16, max: i16) -> ServedApi {
    ServedApi { key, min, max }
}

/// Every API served, by key.
pub const SERVED: &[ServedApi] = &[
    // Versions 0 to 2 are advertised for the sake of old librdkafka, and closed on, as Apache Kafka 4 does (KIP-896).
    api(ApiKey::Produce, 0, 13),
    api(ApiKey::Fetch, 4, 18),
    api(ApiKey::ListOffsets, 1, 11),
    api(ApiKey::Metadata, 0, 13),
    api(ApiKey::OffsetCommit, 2, 10),
    api(ApiKey::OffsetFetch, 1, 10),
    api(ApiKey::FindCoordinator, 0, 6),
    api(ApiKey::JoinGroup, 0, 9),
    api(ApiKey::Heartbeat, 0, 4),
    api(ApiKey::LeaveGroup, 0, 5),
    api(ApiKey::SyncGroup, 0, 5),
    api(ApiKey::DescribeGroups, 0, 6),
    api(ApiKey::ListGroups, 0, 5),
    api(ApiKey::ApiVersions, 0, 4),
    api(ApiKey::CreateTopics, 2, 7),
    api(ApiKey::DeleteTopics, 1, 6),
    api(ApiKey::DeleteRecords, 0, 2),
    api(ApiKey::InitProducerId, 0, 5),
    api(ApiKey::OffsetForLeaderEpoch, 2, 4),
    api(ApiKey::DescribeConfigs, 1, 4),
    api(ApiKey::AlterConfigs, 0, 2),
    api(ApiKey::DescribeLogDirs, 1, 5),
    api(ApiKey::CreatePartitions, 0, 3),
    api(ApiKey::DeleteGroups, 0, 2),
    api(ApiKey::IncrementalAlterConfigs, 0, 1),
    api(ApiKey::OffsetDelete, 0, 0),
    api(ApiKey::DescribeQuorum, 0, 2),
    api(ApiKey::DescribeCluster, 0, 2),
    api(ApiKey::DescribeProducers, 0, 0),
    api(ApiKey::UnregisterBroker, 0, 0),
    api(ApiKey::ListConfigResources, 0, 1),
    api(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// What goes back to the client.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A whole frame.
    Bytes(Bytes),
    /// A frame in pieces.
    Parts(Vec<Part>),
    /// No answer, as for produce with acks=0.
    Nothing,
    /// The connection is closed.
    Close,
}

/// An answer that takes time.
pub(crate) type Later = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// How far a request has come when [`start`] returns.
pub(crate) enum Started {
    /// It is answered.
    Done(Answer),
    /// Its work is done and its answer waits for a commit; the next request may start.
    Committing(Later),
    /// It must end before the next request starts.
    Running(Later),
}

/// A request on its way through a handler.
pub(crate) struct Call {
    pub(crate) broker: Arc<Broker>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) header: RequestHeader,
    pub(crate) reader: Reader,
    /// Keeps the request's bytes charged for as long as something may hold slices of them.
    pub(crate) permit: MemoryPermit,
}

impl Call {
    pub(crate) fn version(&self) -> i16 {
        self.header.request_api_version
    }

    pub(crate) fn client_id(&self) -> &str {
        self.header.client_id.as_deref().unwrap_or_default()
    }

    fn decode<R: Request>(&mut self) -> Result<R, DecodeError> {
        R::decode(&mut self.reader, self.header.request_api_version)
    }

    /// Gives the request's memory back: nothing holds slices of it any more.
    fn release_memory(&mut self) {
        self.reader = Reader::new(Bytes::new());
        self.permit = MemoryPermit::default();
    }

    /// The response as a frame. A response that its own version cannot express is our mistake; the connection ends.
    pub(crate) fn answer<R: Request>(&self, response: &R::Response) -> Answer {
        match frame::response::<R>(self.version(), self.header.correlation_id, response) {
            Ok(bytes) => Answer::Bytes(bytes),
            Err(error) => {
                let api = R::KEY.name();
                tracing::error!(api, version = self.version(), %error, "response cannot be encoded");
                Answer::Close
            }
        }
    }
}

/// Starts a request. Malformed requests and those outside of [`SERVED`] close the connection, as Apache Kafka does;
/// only an ApiVersions of an unknown version is answered.
pub(crate) fn start(broker: &Arc<Broker>, peer: &Arc<Peer>, frame: Frame) -> Started {
    broker.metrics.bytes_received(frame.body.len());
    match decode_header(frame.body) {
        Ok((key, header, reader)) => {
            broker.metrics.request(key);
            let version = header.request_api_version;
            let permit = frame.permit;
            let call = Call { broker: Arc::clone(broker), peer: Arc::clone(peer), header, reader, permit };
            match dispatch(key, call) {
                Ok(started) => started,
                Err(error) => {
                    broker.metrics.requests_malformed.inc();
                    tracing::debug!(peer = %peer.address, api = key.name(), version, %error, "malformed request");
                    Started::Done(Answer::Close)
                }
            }
        }
        Err(refusal) => {
            broker.metrics.requests_malformed.inc();
            match refusal {
                Refusal::ApiVersionsVersion { correlation_id } => {
                    Started::Done(api_versions::unsupported_version(correlation_id))
                }
                Refusal::Unserved { key, version } => {
                    tracing::debug!(peer = %peer.address, key, version, "request of an api or version not served");
                    Started::Done(Answer::Close)
                }
                Refusal::Malformed(error) => {
                    tracing::debug!(peer = %peer.address, %error, "malformed request header");
                    Started::Done(Answer::Close)
                }
            }
        }
    }
}

enum Refusal {
    ApiVersionsVersion { correlation_id: i32 },
    Unserved { key: i16, version: i16 },
    Malformed(DecodeError),
}

fn decode_header(body: Bytes) -> Result<(ApiKey, RequestHeader, Reader), Refusal> {
    let peek = frame::peek(&body).map_err(Refusal::Malformed)?;
    let unserved = || Refusal::Unserved { key: peek.api_key, version: peek.api_version };
    let key = ApiKey::from_i16(peek.api_key).ok_or_else(unserved)?;
    let served = SERVED.iter().find(|served| served.key == key).ok_or_else(unserved)?;
    if !(served.min..=served.max).contains(&peek.api_version) || !key.valid_versions().contains(&peek.api_version) {
        return Err(match key {
            ApiKey::ApiVersions => Refusal::ApiVersionsVersion { correlation_id: peek.correlation_id },
            _ => unserved(),
        });
    }
    let mut reader = Reader::new(body);
    let header = frame::request_header(key, peek.api_version, &mut reader).map_err(Refusal::Malformed)?;
    Ok((key, header, reader))
}

/// A handler that answers at once.
fn now<R: Request>(mut call: Call, handle: impl FnOnce(&Call, R) -> R::Response) -> Result<Started, DecodeError> {
    let request = call.decode::<R>()?;
    let response = handle(&call, request);
    Ok(Started::Done(call.answer::<R>(&response)))
}

/// A handler that may wait.
fn later<R, F>(mut call: Call, handle: impl FnOnce(Arc<Call>, R) -> F) -> Result<Started, DecodeError>
where
    R: Request,
    R::Response: Send,
    F: Future<Output = R::Response> + Send + 'static,
{
    let request = call.decode::<R>()?;
    Ok(running::<R, F>(call, |call| handle(call, request)))
}

/// A handler that may wait for other clients, as long as these ask it to. What it needs is copied out of the request by
/// `take`, and the request's memory serves others meanwhile.
fn detached<R, T, F>(
    mut call: Call,
    take: impl FnOnce(&Call, R) -> T,
    handle: impl FnOnce(Arc<Call>, T) -> F,
) -> Result<Started, DecodeError>
where
    R: Request,
    R::Response: Send,
    F: Future<Output = R::Response> + Send + 'static,
{
    let request = call.decode::<R>()?;
    let taken = take(&call, request);
    call.release_memory();
    Ok(running::<R, F>(call, |call| handle(call, taken)))
}

/// Runs a handler that waits, and answers with what it gives.
fn running<R, F>(mut call: Call, handle: impl FnOnce(Arc<Call>) -> F) -> Started
where
    R: Request,
    R::Response: Send,
    F: Future<Output = R::Response> + Send + 'static,
{
    // The frame's bytes are not needed while the handler waits.
    call.reader = Reader::new(Bytes::new());
    let call = Arc::new(call);
    let running = handle(Arc::clone(&call));
    Started::Running(Box::pin(async move {
        let response = running.await;
        call.answer::<R>(&response)
    }))
}

fn dispatch(key: ApiKey, call: Call) -> Result<Started, DecodeError> {
    match key {
        ApiKey::Produce => produce::start(call),
        ApiKey::Fetch => fetch::start(call),
        ApiKey::ListOffsets => later(call, list_offsets::handle),
        ApiKey::Metadata => later(call, metadata::handle),
        ApiKey::DescribeTopicPartitions => now(call, metadata::describe_topic_partitions),
        ApiKey::DescribeCluster => now(call, metadata::describe_cluster),
        ApiKey::ApiVersions => now(call, api_versions::handle),
        ApiKey::CreateTopics => later(call, admin::create_topics),
        ApiKey::DeleteTopics => later(call, admin::delete_topics),
        ApiKey::CreatePartitions => later(call, admin::create_partitions),
        ApiKey::DeleteRecords => later(call, records::delete_records),
        ApiKey::UnregisterBroker => later(call, admin::unregister_broker),
        ApiKey::DescribeConfigs => now(call, configs::describe),
        ApiKey::AlterConfigs => later(call, configs::alter),
        ApiKey::IncrementalAlterConfigs => later(call, configs::incremental_alter),
        ApiKey::ListConfigResources => now(call, configs::list_resources),
        ApiKey::DescribeLogDirs => later(call, log_dirs::handle),
        ApiKey::InitProducerId => init_producer_id::start(call),
        ApiKey::OffsetForLeaderEpoch => now(call, offset_for_leader_epoch::handle),
        ApiKey::DescribeProducers => now(call, producers::describe),
        ApiKey::DescribeQuorum => now(call, describe_quorum::handle),
        ApiKey::FindCoordinator => later(call, groups::find_coordinator),
        ApiKey::JoinGroup => detached(call, groups::take_join, groups::join),
        ApiKey::SyncGroup => detached(call, groups::take_sync, groups::sync),
        ApiKey::Heartbeat => later(call, groups::heartbeat),
        ApiKey::LeaveGroup => later(call, groups::leave),
        ApiKey::OffsetCommit => later(call, group_offsets::commit),
        ApiKey::OffsetFetch => later(call, group_offsets::fetch),
        ApiKey::ListGroups => now(call, groups::list),
        ApiKey::DescribeGroups => now(call, groups::describe),
        ApiKey::DeleteGroups => later(call, groups::delete),
        ApiKey::OffsetDelete => later(call, group_offsets::delete),
        // Not in the table, so `decode_header` has refused it.
        _ => Ok(Started::Done(Answer::Close)),
    }
}
