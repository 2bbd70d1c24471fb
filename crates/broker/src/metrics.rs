//! What the broker counts. Names follow Kafka's nouns in Prometheus form, the unit last.
//!
//! Label values: `api` is Kafka's name of the API, `error` its name of the error code.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chronik_net::Part;
use chronik_wire::{ApiKey, ErrorCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::api::SERVED;
use crate::replication;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiLabel {
    api: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabel {
    error: &'static str,
}

/// The counters of one broker.
#[derive(Debug)]
pub struct Metrics {
    /// One counter an API served, in the order of the table, so that counting looks nothing up.
    requests: Vec<(ApiKey, Counter)>,
    produce_errors: Family<ErrorLabel, Counter>,
    pub(crate) requests_malformed: Counter,
    received_bytes: Counter,
    sent_bytes: Counter,
    appended_records: Counter,
    appended_bytes: Counter,
    appended_batches: Counter,
    pub(crate) batches_refused: Counter,
    pub(crate) connections_closed_for_cause: Counter,
    pub(crate) tls_handshakes_failed: Counter,
    pub(crate) connections: Gauge,
    pub(crate) connections_refused: Gauge,
    pub(crate) request_memory_bytes: Gauge,
    pub(crate) fetch_sessions: Gauge,
    pub(crate) topics: Gauge,
    pub(crate) partitions: Gauge,
    pub(crate) partitions_offline: Gauge,
    pub(crate) log_bytes: Gauge,
    pub(crate) groups: Gauge,
    pub(crate) recovered_bytes: Gauge,
    pub(crate) damaged_ranges: Gauge,
    pub(crate) segments_deleted: Counter,
    pub(crate) flush_seconds: Histogram,
    pub(crate) sync_journal_bytes: Counter,
    pub(crate) sync_journal_releases: Counter,
    pub(crate) replication: Arc<replication::Metrics>,
    /// Bytes appended since the last checkpoint; not exported.
    uncheckpointed_bytes: AtomicU64,
}

impl Metrics {
    /// Makes the counters and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let requests_by_api = Family::<ApiLabel, Counter>::default();
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let bytes = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register_with_unit(name, help, Unit::Bytes, counter.clone());
            counter
        };
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let produce_errors = Family::default();
        let flush_seconds = Histogram::new(exponential_buckets(0.000_1, 2.0, 16));
        let r = registry;
        r.register("chronik_network_requests", "Requests received, by API", requests_by_api.clone());
        r.register(
            "chronik_produce_errors",
            "Partitions of produce requests answered with an error",
            produce_errors.clone(),
        );
        r.register_with_unit("chronik_log_flush", "Time of one group commit", Unit::Seconds, flush_seconds.clone());
        Self {
            requests: SERVED
                .iter()
                .map(|api| (api.key, requests_by_api.get_or_create(&ApiLabel { api: api.key.name() }).clone()))
                .collect(),
            produce_errors,
            requests_malformed: counter(r, "chronik_network_requests_malformed", "Requests that could not be read"),
            received_bytes: bytes(r, "chronik_network_received", "Request bytes received"),
            sent_bytes: bytes(r, "chronik_network_sent", "Response bytes sent"),
            appended_records: counter(r, "chronik_log_appended_records", "Records appended by producers and groups"),
            appended_bytes: bytes(r, "chronik_log_appended", "Record batch bytes appended by producers and groups"),
            appended_batches: counter(
                r,
                "chronik_log_appended_batches",
                "Record batches appended by producers and groups",
            ),
            batches_refused: counter(r, "chronik_log_batches_refused", "Record batches that failed validation"),
            connections_closed_for_cause: counter(
                r,
                "chronik_network_connections_closed_for_cause",
                "Connections closed for a bad size, a slow request or idleness",
            ),
            tls_handshakes_failed: counter(
                r,
                "chronik_network_tls_handshakes_failed",
                "Connections of clients that ended in the TLS handshake",
            ),
            connections: gauge(r, "chronik_network_connections", "Open client connections"),
            connections_refused: gauge(r, "chronik_network_connections_refused", "Connections refused by a limit"),
            request_memory_bytes: gauge(r, "chronik_network_request_memory_bytes", "Memory of requests in flight"),
            fetch_sessions: gauge(r, "chronik_fetch_sessions", "Incremental fetch sessions"),
            topics: gauge(r, "chronik_topics", "Topics"),
            partitions: gauge(r, "chronik_partitions", "Partitions served"),
            partitions_offline: gauge(r, "chronik_partitions_offline", "Partitions whose log failed"),
            log_bytes: gauge(r, "chronik_log_size_bytes", "Bytes of all segments"),
            groups: gauge(r, "chronik_groups", "Consumer groups"),
            recovered_bytes: gauge(r, "chronik_log_recovery_scanned_bytes", "Bytes verified by the last start"),
            damaged_ranges: gauge(r, "chronik_log_damaged_ranges", "Ranges that recovery found damaged"),
            segments_deleted: counter(r, "chronik_log_segments_deleted", "Segments deleted by retention"),
            flush_seconds,
            sync_journal_bytes: bytes(
                r,
                "chronik_log_sync_journal_written",
                "Bytes that group commits wrote to the sync journal",
            ),
            sync_journal_releases: counter(
                r,
                "chronik_log_sync_journal_releases",
                "Times that segments were synced to free a file of the sync journal",
            ),
            replication: Arc::new(replication::Metrics::register(r)),
            uncheckpointed_bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn request(&self, key: ApiKey) {
        if let Some((_, counter)) = self.requests.iter().find(|(api, _)| *api == key) {
            counter.inc();
        }
    }

    pub(crate) fn produce_failed(&self, code: ErrorCode) {
        self.produce_errors.get_or_create(&ErrorLabel { error: code.name() }).inc();
    }

    pub(crate) fn bytes_received(&self, bytes: usize) {
        self.received_bytes.inc_by(bytes as u64);
    }

    pub(crate) fn bytes_sent(&self, parts: &[Part]) {
        self.sent_bytes.inc_by(parts.iter().map(|part| part.len() as u64).sum());
    }

    pub(crate) fn batch_appended(&self, records: i32, bytes: usize) {
        self.appended_batches.inc();
        self.appended_records.inc_by(u64::try_from(records).unwrap_or(0));
        self.appended_bytes.inc_by(bytes as u64);
        self.uncheckpointed_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A leader's batches were appended.
    pub(crate) fn replicated(&self, bytes: usize) {
        self.uncheckpointed_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn uncheckpointed_bytes(&self) -> u64 {
        self.uncheckpointed_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn checkpointed(&self, bytes: u64) {
        self.uncheckpointed_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
