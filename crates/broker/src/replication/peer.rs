//! What is known of the node at the other end of a link, across its connections: state, counts, lag.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chronik_model::{Instant, NodeId, Offset};
use chronik_replication::link::Pulse;
use chronik_replication::message::TopicIdPartition;
use parking_lot::Mutex;

use super::status::LinkStatus;
use crate::clock::Clock;

/// Bytes a second are counted over this time.
const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// Where a link stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Before the next attempt, or for somebody to dial.
    #[default]
    Waiting,
    /// The connection is being made.
    Connecting,
    /// The two ends introduce themselves.
    Handshake,
    /// Data flows.
    Open,
}

/// The node at the other end.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: Arc<str>,
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    node_id: Option<NodeId>,
    state: State,
    since: Instant,
    last_error: Option<Arc<str>>,
    connections: u64,
    last_heard: Option<Instant>,
    round_trip: Option<Duration>,
    /// Bytes over the connections before this one, and over this one: sent, received.
    bytes_before: (u64, u64),
    bytes: (u64, u64),
    /// Bytes of record batches over all connections.
    batch_bytes: u64,
    rate: Rate,
    lags: HashMap<TopicIdPartition, Lag>,
    /// The most bytes that were lacking since nothing was.
    lacked_bytes: u64,
    /// Metadata came on this connection: what the node knows is what its leader knew then.
    metadata_came: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    from: Option<(Instant, u64)>,
    per_second: u64,
}

/// How far a follower is behind with one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lag {
    /// The end of what there is, exclusive.
    pub(super) end: Offset,
    /// The end of what was sent, exclusive.
    pub(super) sent: Offset,
    /// The follower's log end, exclusive.
    pub(super) log_end: Offset,
    /// When the follower last had everything that there was at that time.
    caught_up: Instant,
    /// A moment, and the end of what there was then.
    mark: (Instant, Offset),
}

impl Peer {
    pub(super) fn new(address: &str, clock: Clock) -> Self {
        let known = Known { since: clock.now(), ..Known::default() };
        Self { address: address.into(), clock, known: Mutex::new(known) }
    }

    /// Takes over what was counted of another connection.
    pub(super) fn succeed(&self, before: &Self) {
        let before = before.known.lock();
        let mut known = self.known.lock();
        known.connections = before.connections;
        known.bytes_before = (before.bytes_before.0 + before.bytes.0, before.bytes_before.1 + before.bytes.1);
        known.batch_bytes = before.batch_bytes;
        known.last_error.clone_from(&before.last_error);
        if known.node_id == before.node_id {
            known.lags.clone_from(&before.lags);
        }
    }

    pub(super) fn entered(&self, state: State) {
        let mut known = self.known.lock();
        if known.state != state {
            (known.state, known.since) = (state, self.clock.now());
        }
        match state {
            State::Open => known.connections += 1,
            State::Waiting => {
                known.bytes_before.0 += known.bytes.0;
                known.bytes_before.1 += known.bytes.1;
                known.bytes = (0, 0);
                known.rate = Rate::default();
            }
            State::Connecting | State::Handshake => {}
        }
    }

    pub(super) fn met(&self, node_id: NodeId) {
        self.known.lock().node_id = Some(node_id);
    }

    pub(super) fn failed(&self, error: impl Into<Arc<str>>) {
        self.known.lock().last_error = Some(error.into());
    }

    pub(super) fn pulse(&self, pulse: &Pulse) {
        let mut known = self.known.lock();
        known.round_trip = pulse.round_trip.or(known.round_trip);
    }

    /// The connection's counts so far, and when the peer was last heard.
    pub(super) fn counted(&self, sent: u64, received: u64, last_heard: Instant) {
        let mut known = self.known.lock();
        known.bytes = (sent, received);
        known.last_heard = Some(last_heard);
        let now = self.clock.now();
        known.count_rate(now);
    }

    /// Bytes of record batches went over the link.
    pub(super) fn batches(&self, bytes: usize) {
        self.known.lock().batch_bytes += bytes as u64;
    }

    /// How far a partition goes, and how far the follower has it.
    pub(super) fn partition(&self, id: TopicIdPartition, end: Offset, log_end: Offset) {
        let now = self.clock.now();
        let mut known = self.known.lock();
        let lag = known.lags.entry(id).or_insert(Lag { end, sent: log_end, log_end, caught_up: now, mark: (now, end) });
        lag.sent = log_end;
        lag.moved(end, log_end, now);
    }

    /// There is more of a partition.
    pub(super) fn end_moved(&self, id: TopicIdPartition, end: Offset) {
        let now = self.clock.now();
        if let Some(lag) = self.known.lock().lags.get_mut(&id) {
            lag.moved(end, lag.log_end, now);
        }
    }

    /// Batches up to `end` were sent.
    pub(super) fn sent(&self, id: TopicIdPartition, end: Offset, bytes: usize) {
        let mut known = self.known.lock();
        known.batch_bytes += bytes as u64;
        if let Some(lag) = known.lags.get_mut(&id) {
            lag.sent = end;
        }
    }

    /// The follower has more of a partition.
    pub(super) fn acked(&self, id: TopicIdPartition, log_end: Offset) {
        let now = self.clock.now();
        if let Some(lag) = self.known.lock().lags.get_mut(&id) {
            lag.moved(lag.end, log_end, now);
        }
    }

    pub(super) fn forget(&self, id: &TopicIdPartition) {
        self.known.lock().lags.remove(id);
    }

    /// How far each partition is behind, and for how long.
    pub(super) fn lags(&self) -> Vec<(TopicIdPartition, Lag, Duration)> {
        let now = self.clock.now();
        let known = self.known.lock();
        known.lags.iter().map(|(id, lag)| (*id, *lag, lag.since(now))).collect()
    }

    /// So many bytes are lacking now; gives the most that were since nothing was.
    pub(super) fn lacks(&self, bytes: u64) -> Option<u64> {
        let mut known = self.known.lock();
        known.lacked_bytes = if bytes == 0 { 0 } else { known.lacked_bytes.max(bytes) };
        (bytes > 0).then_some(known.lacked_bytes)
    }

    pub(super) fn metadata_came(&self) {
        self.known.lock().metadata_came = true;
    }

    /// Whether metadata came on this connection, and the peer was heard within `patience`.
    pub(super) fn is_fresh(&self, patience: Duration) -> bool {
        let now = self.clock.now();
        let known = self.known.lock();
        let is_heard = known.last_heard.is_some_and(|heard| now.saturating_since(heard) <= patience);
        known.state == State::Open && known.metadata_came && is_heard
    }

    pub(super) fn node_id(&self) -> Option<NodeId> {
        self.known.lock().node_id
    }

    pub(super) fn is_open(&self) -> bool {
        self.known.lock().state == State::Open
    }

    pub(super) fn reconnects(&self) -> u64 {
        self.known.lock().connections.saturating_sub(1)
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.known.lock().round_trip
    }

    /// Bytes sent and received over all connections.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let known = self.known.lock();
        (known.bytes_before.0 + known.bytes.0, known.bytes_before.1 + known.bytes.1)
    }

    /// Everything but the partitions and what follows from them.
    pub(super) fn status(&self) -> LinkStatus {
        let now = self.clock.now();
        let mut known = self.known.lock();
        known.count_rate(now);
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        LinkStatus {
            address: self.address.to_string(),
            node_id: known.node_id.map(NodeId::get),
            state: match known.state {
                State::Waiting => "waiting",
                State::Connecting => "connecting",
                State::Handshake => "handshake",
                State::Open => "streaming",
            }
            .to_owned(),
            state_ms: millis(now.saturating_since(known.since)),
            last_error: known.last_error.as_deref().map(str::to_owned),
            last_heard_ms: known.last_heard.map(|heard| millis(now.saturating_since(heard))),
            round_trip_us: known.round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            reconnects: known.connections.saturating_sub(1),
            sent_bytes: known.bytes_before.0 + known.bytes.0,
            received_bytes: known.bytes_before.1 + known.bytes.1,
            bytes_per_second: known.rate.per_second,
            ..LinkStatus::default()
        }
    }
}

impl Known {
    fn count_rate(&mut self, now: Instant) {
        let (from, bytes) = *self.rate.from.get_or_insert((now, self.batch_bytes));
        let passed = now.saturating_since(from);
        if passed >= RATE_INTERVAL {
            let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
            self.rate.per_second = self.batch_bytes.saturating_sub(bytes).saturating_mul(1000) / millis;
            self.rate.from = Some((now, self.batch_bytes));
        }
    }
}

impl Lag {
    fn moved(&mut self, end: Offset, log_end: Offset, now: Instant) {
        if self.log_end >= self.end {
            // It had everything until now.
            (self.caught_up, self.mark) = (now, (now, end));
        }
        (self.end, self.log_end) = (end, log_end);
        if log_end >= end {
            (self.caught_up, self.mark) = (now, (now, end));
        } else if log_end >= self.mark.1 {
            (self.caught_up, self.mark) = (self.mark.0, (now, end));
        }
    }

    fn since(&self, now: Instant) -> Duration {
        if self.log_end >= self.end { Duration::ZERO } else { now.saturating_since(self.caught_up) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::since_origin(Duration::from_millis(millis))
    }

    #[test]
    fn lag_is_the_age_of_what_the_follower_had_last() {
        let o = Offset::new;
        let mut lag = Lag { end: o(10), sent: o(10), log_end: o(10), caught_up: at(0), mark: (at(0), o(10)) };
        assert_eq!(lag.since(at(1000)), Duration::ZERO);
        // Under steady load it never has everything, and is never far behind.
        for step in 1..=50_u64 {
            let end = o(10 + i64::try_from(step).unwrap());
            lag.moved(end, end.checked_add(-1).unwrap(), at(step * 10));
        }
        assert_eq!(lag.since(at(510)), Duration::from_millis(20));
        // It stops: the time grows.
        lag.moved(o(100), o(59), at(600));
        assert_eq!(lag.since(at(5_490)), Duration::from_secs(5));
        lag.moved(o(100), o(100), at(6_000));
        assert_eq!(lag.since(at(9_000)), Duration::ZERO);
        // What comes after a long rest is not older than it is.
        lag.moved(o(101), o(100), at(100_000));
        assert_eq!(lag.since(at(100_001)), Duration::from_millis(1));
    }
}
