//! What the links count. Label values: `peer` is the address dialled, or `leader` for the node that dials here; `reason` the names of
//! `link::Reason`; `cause` why a follower began its log anew.

use std::collections::HashSet;

use chronik_replication::link::Reason;
use chronik_replication::message::ResetCause;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PeerLabel {
    pub(super) peer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PartitionLabel {
    pub(super) peer: String,
    pub(super) topic: String,
    pub(super) partition: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

/// A gauge of seconds with fractions.
type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

/// The counters of the links.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(super) connected: Family<PeerLabel, Gauge>,
    pub(super) reconnects: Family<PeerLabel, Gauge>,
    pub(super) sent_bytes: Family<PeerLabel, Gauge>,
    pub(super) received_bytes: Family<PeerLabel, Gauge>,
    pub(super) round_trip_seconds: Family<PeerLabel, Seconds>,
    pub(super) lag_records: Family<PartitionLabel, Gauge>,
    pub(super) lag_bytes: Family<PartitionLabel, Gauge>,
    pub(super) lag_seconds: Family<PartitionLabel, Seconds>,
    pub(super) frames_sent: Counter,
    pub(super) frames_received: Counter,
    pub(super) replicated_records: Counter,
    pub(super) replicated_bytes: Counter,
    rejected: Family<ReasonLabel, Counter>,
    resets: Family<CauseLabel, Counter>,
    pub(super) truncations: Counter,
    /// Partitions whose lag is shown.
    pub(super) shown: Mutex<HashSet<PartitionLabel>>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        fn family<L, M>(registry: &mut Registry, name: &str, help: &str) -> Family<L, M>
        where
            L: Clone + std::hash::Hash + Eq + EncodeLabelSet + std::fmt::Debug + Send + Sync + 'static,
            M: prometheus_client::encoding::EncodeMetric
                + prometheus_client::metrics::TypedMetric
                + Default
                + std::fmt::Debug
                + Send
                + Sync
                + 'static,
            Family<L, M>: Clone,
        {
            let family = Family::default();
            registry.register(name, help, family.clone());
            family
        }
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let r = registry;
        let rejected: Family<ReasonLabel, Counter> =
            family(r, "chronik_replication_rejected_frames", "Frames that ended a link, by reason");
        for reason in Reason::ALL {
            let _ = rejected.get_or_create(&ReasonLabel { reason: reason.name() });
        }
        let resets: Family<CauseLabel, Counter> =
            family(r, "chronik_replication_resets", "Logs of followers that were begun anew, by cause");
        for cause in [ResetCause::Empty, ResetCause::Retention, ResetCause::Diverged, ResetCause::Damaged] {
            let _ = resets.get_or_create(&CauseLabel { cause: cause_name(cause) });
        }
        let replicated_bytes = Counter::default();
        r.register_with_unit(
            "chronik_replication_replicated",
            "Record batch bytes taken from a leader",
            Unit::Bytes,
            replicated_bytes.clone(),
        );
        Self {
            connected: family(r, "chronik_replication_connected", "Whether data flows on a link"),
            reconnects: family(r, "chronik_replication_reconnects", "Connections of a link after the first one"),
            sent_bytes: family(r, "chronik_replication_sent_bytes", "Bytes sent on a link"),
            received_bytes: family(r, "chronik_replication_received_bytes", "Bytes received on a link"),
            round_trip_seconds: family(
                r,
                "chronik_replication_heartbeat_round_trip_seconds",
                "Round trip of a link's last heartbeat",
            ),
            lag_records: family(r, "chronik_replication_lag_records", "Records that a follower lacks"),
            lag_bytes: family(r, "chronik_replication_lag_bytes", "Record batch bytes that a follower lacks"),
            lag_seconds: family(
                r,
                "chronik_replication_lag_seconds",
                "How long a follower has not had everything of a partition",
            ),
            frames_sent: counter(r, "chronik_replication_frames_sent", "Frames sent on all links"),
            frames_received: counter(r, "chronik_replication_frames_received", "Frames received on all links"),
            replicated_records: counter(r, "chronik_replication_replicated_records", "Records taken from a leader"),
            replicated_bytes,
            rejected,
            resets,
            truncations: counter(
                r,
                "chronik_replication_truncations",
                "Tails that followers of this node cut because it does not have them",
            ),
            shown: Mutex::default(),
        }
    }

    pub(super) fn rejected(&self, reason: Reason) {
        self.rejected.get_or_create(&ReasonLabel { reason: reason.name() }).inc();
    }

    pub(super) fn reset(&self, cause: ResetCause) {
        self.resets.get_or_create(&CauseLabel { cause: cause_name(cause) }).inc();
    }
}

pub(super) const fn cause_name(cause: ResetCause) -> &'static str {
    match cause {
        ResetCause::Empty => "empty",
        ResetCause::Retention => "retention",
        ResetCause::Diverged => "diverged",
        ResetCause::Damaged => "damaged",
    }
}
