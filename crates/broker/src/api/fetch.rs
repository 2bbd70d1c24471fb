//! Fetch, versions 4 to 18 (KIP-74, KIP-98, KIP-227, KIP-320, KIP-392, KIP-516, KIP-951).
//!
//! A response names file ranges; the records go from the page cache to the socket. A fetch that finds too little waits
//! for its partitions to grow and is woken by the append.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use chronik_log::{LogSlice, ReadBound, ReadError};
use chronik_model::{LeaderEpoch, NodeId, Offset};
use chronik_net::Part;
use chronik_wire::fetch_response::{self, Partition as PartitionResponse, Response, Topic as TopicResponse};
use chronik_wire::messages::fetch_response::EpochEndOffset;
use chronik_wire::messages::{FetchRequest, FetchResponse};
use chronik_wire::{DecodeError, ErrorCode, Message as _};
use tokio::time::Instant;

use super::{Answer, Call, Started};
use crate::error_code;
use crate::fetch_session::{PARTITIONS_MAX, Participation, Saying, TopicKey, Wanted};
use crate::replica::{Partition, Registration, segment_part};

/// Replica id of a consumer.
const CONSUMER: i32 = -1;
/// Replica id of a tool that may read beyond the high watermark.
const DEBUGGING_CONSUMER: i32 = -2;

/// The limits of one fetch.
struct Bounds {
    bound: ReadBound,
    max_bytes: usize,
    committed_only: bool,
    /// Followers in the consumer's rack, where that is not this broker's: what they have they are to be asked for.
    nearer: Vec<NodeId>,
}

/// What was found for one partition.
struct Found {
    response: PartitionResponse,
    slice: Option<LogSlice>,
}

/// A fetch under way.
struct Fetch {
    call: Call,
    participation: Participation,
    wanted: Vec<Wanted>,
    partitions: Vec<Result<Arc<Partition>, ErrorCode>>,
    bounds: Bounds,
    min_bytes: usize,
}

pub(super) fn start(mut call: Call) -> Result<Started, DecodeError> {
    let version = call.version();
    let request = FetchRequest::decode(&mut call.reader, version)?;
    let replica_id = if version >= 15 { request.replica_state.replica_id } else { request.replica_id };
    let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
    let bounds = Bounds {
        bound: match (replica_id, request.isolation_level) {
            (DEBUGGING_CONSUMER, _) => ReadBound::LogEnd,
            (_, 1) => ReadBound::LastStable,
            _ => ReadBound::HighWatermark,
        },
        max_bytes: usize::try_from(request.max_bytes).unwrap_or(0).min(call.broker.settings().fetch_max_bytes),
        committed_only: request.isolation_level == 1,
        nearer: if version >= 11 { call.broker.followers_in_rack(&request.rack_id) } else { Vec::new() },
    };
    let begun = call.broker.sessions.begin(request, version >= 13, call.broker.clock.now());
    let (participation, wanted) = match begun {
        Ok(begun) => begun,
        Err(code) => {
            let response = FetchResponse { error_code: code.code(), ..Default::default() };
            return Ok(Started::Done(call.answer::<FetchRequest>(&response)));
        }
    };
    let partitions = wanted.iter().map(|wanted| lookup(&call, wanted, replica_id)).collect();
    let mut fetch = Fetch { call, participation, wanted, partitions, bounds, min_bytes };
    let seen = fetch.changes();
    let found = fetch.read();
    if max_wait.is_zero() || fetch.wanted.len() > PARTITIONS_MAX || fetch.is_enough(&found) {
        return Ok(Started::Done(fetch.respond(found)));
    }
    let deadline = Instant::now() + max_wait;
    // What is wanted was copied out of the request: whoever waits costs no request memory.
    fetch.call.release_memory();
    Ok(Started::Running(Box::pin(fetch.wait(seen, deadline))))
}

fn lookup(call: &Call, wanted: &Wanted, replica_id: i32) -> Result<Arc<Partition>, ErrorCode> {
    if replica_id != CONSUMER && replica_id != DEBUGGING_CONSUMER {
        // Not one of the partition's replicas.
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    if call.broker.is_fenced() {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    match &wanted.topic {
        TopicKey::Id(id) => call.broker.replicas.by_id(*id, wanted.partition),
        TopicKey::Name(name) => call.broker.replicas.by_name(name, wanted.partition),
    }
}

impl Fetch {
    /// Reads every partition once, within the limits of the whole response.
    fn read(&self) -> Vec<Found> {
        let mut left = self.bounds.max_bytes;
        let mut first = true;
        let is_fenced = self.call.broker.is_fenced();
        let mut all = Vec::with_capacity(self.wanted.len());
        for (wanted, partition) in self.wanted.iter().zip(&self.partitions) {
            let found = match partition {
                Ok(_) if is_fenced => Err(ErrorCode::NotLeaderOrFollower),
                Ok(partition) => read_partition(partition, wanted, &self.bounds, left, first),
                Err(code) => Err(*code),
            };
            let found = found.unwrap_or_else(|code| Found {
                response: PartitionResponse {
                    index: wanted.partition,
                    error_code: code,
                    high_watermark: -1,
                    // An empty list rather than none with what is not known, as in Apache Kafka.
                    aborted_transactions: is_unknown(code).then(Vec::new),
                    records_len: Some(0),
                    ..Default::default()
                },
                slice: None,
            });
            if let Some(slice) = &found.slice {
                left = left.saturating_sub(slice.len);
                first &= slice.len == 0;
            }
            all.push(found);
        }
        all
    }

    fn is_enough(&self, found: &[Found]) -> bool {
        let bytes: usize = found.iter().filter_map(|found| Some(found.slice.as_ref()?.len)).sum();
        let must_respond = |found: &Found| {
            let response = &found.response;
            response.error_code != ErrorCode::None
                || response.diverging_epoch.is_some()
                || response.preferred_read_replica >= 0
        };
        self.wanted.is_empty() || bytes >= self.min_bytes || found.iter().any(must_respond)
    }

    /// How often the partitions have changed, all together.
    fn changes(&self) -> u64 {
        self.partitions.iter().flatten().fold(0, |sum, partition| sum.wrapping_add(partition.changes()))
    }

    /// Waits for enough, after a look that the partitions had changed so often before.
    async fn wait(self, seen: u64, deadline: Instant) -> Answer {
        let waiter = Arc::clone(&self.call.peer.waiter);
        let registrations: Vec<Registration> =
            self.partitions.iter().flatten().map(|partition| partition.register(&waiter)).collect();
        let mut changed = self.changes() != seen;
        let found = loop {
            if changed {
                let found = self.read();
                if self.is_enough(&found) {
                    break found;
                }
            }
            // Whoever runs the connection polls it again when the broker stops.
            let is_over = poll_fn(|cx| {
                if waiter.poll_woken(cx).is_ready() {
                    return Poll::Ready(false);
                }
                if self.call.broker.shutdown.is_raised() {
                    return Poll::Ready(true);
                }
                self.call.peer.alarm.lock().poll(cx, deadline).map(|()| true)
            });
            if is_over.await {
                break self.read();
            }
            changed = true;
        };
        drop(registrations);
        self.respond(found)
    }

    fn respond(self, found: Vec<Found>) -> Answer {
        let sayings: Vec<Saying> = found.iter().map(Found::saying).collect();
        let named = self.call.broker.sessions.finish(&self.participation, &sayings);
        let mut response = Response {
            correlation_id: self.call.header.correlation_id,
            session_id: self.participation.session_id(),
            ..Default::default()
        };
        let mut slices = Vec::with_capacity(found.len());
        let mut previous: Option<&TopicKey> = None;
        let partitions = self.wanted.iter().zip(&self.partitions);
        for (((wanted, partition), found), _) in partitions.zip(found).zip(named).filter(|(_, named)| *named) {
            if previous != Some(&wanted.topic) {
                previous = Some(&wanted.topic);
                let topic = match &wanted.topic {
                    TopicKey::Id(id) => TopicResponse { topic_id: id.0, ..Default::default() },
                    TopicKey::Name(name) => TopicResponse { name: name.to_string(), ..Default::default() },
                };
                response.topics.push(topic);
            }
            if let Some(topic) = response.topics.last_mut() {
                topic.partitions.push(found.response);
                let read = partition.as_ref().ok().zip(found.slice);
                slices.push(read.map(|(partition, slice)| (Arc::clone(partition), slice)));
            }
        }
        match response.encode(self.call.version()) {
            Ok(encoded) => match fill(encoded.parts, &mut slices) {
                Ok(parts) => Answer::Parts(parts),
                Err(error) => {
                    tracing::error!(%error, "records of a fetch cannot be read");
                    Answer::Close
                }
            },
            Err(error) => {
                tracing::error!(%error, "fetch response cannot be encoded");
                Answer::Close
            }
        }
    }
}

fn is_unknown(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)
}

impl Found {
    fn saying(&self) -> Saying {
        let is_error = self.response.error_code != ErrorCode::None;
        Saying {
            high_watermark: self.response.high_watermark,
            log_start: self.response.log_start_offset,
            has_records: self.slice.as_ref().is_some_and(|slice| slice.len > 0),
            must_respond: is_error
                || self.response.diverging_epoch.is_some()
                || self.response.preferred_read_replica >= 0,
            is_error,
        }
    }
}

fn read_partition(
    partition: &Partition,
    wanted: &Wanted,
    bounds: &Bounds,
    left: usize,
    first: bool,
) -> Result<Found, ErrorCode> {
    let standing = partition.standing();
    error_code::check_leader_epoch(wanted.current_leader_epoch, standing.leader_epoch)?;
    if !standing.is_readable {
        // A later leader leads, and has not said yet how far the log is committed.
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    let reader = partition.reader();
    let view = reader.bounds();
    let mut response = PartitionResponse {
        index: wanted.partition,
        high_watermark: view.high_watermark.get(),
        last_stable_offset: view.last_stable.get(),
        log_start_offset: view.log_start.get(),
        // No transactions, so none was aborted.
        aborted_transactions: bounds.committed_only.then(Vec::new),
        records_len: Some(0),
        ..Default::default()
    };
    let from = Offset::new(wanted.fetch_offset);
    if wanted.last_fetched_epoch >= 0 {
        let (epoch, end) = reader
            .end_offset_for_epoch(LeaderEpoch::new(wanted.last_fetched_epoch))
            .ok_or(ErrorCode::OffsetOutOfRange)?;
        if epoch.get() < wanted.last_fetched_epoch || end < from {
            response.diverging_epoch = Some(EpochEndOffset { epoch: epoch.get(), end_offset: end.get() });
            return Ok(Found { response, slice: None });
        }
    }
    if standing.leads && view.log_start <= from {
        let has_it = |node_id: &&NodeId| {
            partition.follower(**node_id).is_some_and(|follower| follower.attached && follower.log_end >= from)
        };
        if let Some(nearer) = bounds.nearer.iter().find(has_it) {
            response.preferred_read_replica = nearer.get();
            return Ok(Found { response, slice: None });
        }
    }
    let partition_max = usize::try_from(wanted.max_bytes).unwrap_or(0);
    if !standing.leads && from > view.log_end {
        // The leader may have it: a consumer that came from there must not begin anew.
        return Err(ErrorCode::OffsetNotAvailable);
    }
    let slice = reader.read(from, bounds.bound, partition_max.min(left), first).map_err(|error| {
        if let ReadError::Damaged(_) | ReadError::Io { .. } = &error {
            tracing::error!(partition = %partition.name(), %error, "fetch refused");
        }
        error_code::read(&error)
    })?;
    if partition.standing() != standing {
        // It was cut, or changed its part, while it was read.
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    response.records_len = Some(slice.len);
    Ok(Found { response, slice: Some(slice) })
}

/// Puts file ranges into the holes of the encoded response.
fn fill(
    parts: Vec<fetch_response::Part>,
    slices: &mut [Option<(Arc<Partition>, LogSlice)>],
) -> std::io::Result<Vec<Part>> {
    let mut filled = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            fetch_response::Part::Bytes(bytes) => filled.push(Part::Bytes(bytes)),
            fetch_response::Part::Records { token, len } => {
                let slice = slices.get_mut(token).and_then(Option::take).filter(|(_, slice)| slice.len == len);
                let (partition, slice) = slice.ok_or_else(|| std::io::Error::other("hole without records"))?;
                filled.push(segment_part(&partition, slice)?);
            }
        }
    }
    Ok(filled)
}
