//! The end of a run that wrote, whatever it measured: what was acknowledged is read back, then the figures are printed.

use std::time::Duration;

use tokio::sync::watch;

use super::super::{Session, Stop};
use super::meter::Meter;
use super::progress::Progress;
use super::report::{Ended, Figures, From, Percentiles, Report, seconds};
use super::sending::{Sent, Settings};
use super::topic::Found;
use super::verify::read_back;
use super::{nothing_measured, print_report};
use crate::cli::BenchLoad;

/// What is known of a run that wrote beside what it wrote.
pub(crate) struct Written<'a> {
    pub(crate) mode: &'static str,
    pub(crate) topic: String,
    pub(crate) found: Found,
    pub(crate) load: &'a BenchLoad,
    pub(crate) settings: &'a Settings,
    pub(crate) connections: usize,
    /// What the figures come from.
    pub(crate) measured: &'a Meter,
    pub(crate) latency_from: From,
    /// The acknowledgements, where they are not what is measured.
    pub(crate) acknowledged: Option<&'a Meter>,
    pub(crate) client_cpu: Duration,
}

impl Written<'_> {
    /// Verifies what was sent, unless it is not to be, and prints the report.
    pub(crate) async fn conclude(
        self,
        session: &mut Session,
        sent: Sent,
        mut progress: Progress,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), Stop> {
        let Self { topic, load, settings, .. } = self;
        let ended = Ended::of(*stop.borrow(), sent.full);
        let (tally, elapsed) = self.measured.measured();
        if tally.records == 0 {
            return Err(nothing_measured(stop, "no record was due after the warm-up").into());
        }
        let verified = if load.no_verify {
            None
        } else {
            Some(read_back(session, &topic, &settings.content, sent.ledger, &mut progress, stop).await?)
        };
        drop(progress);
        let report = Report {
            mode: self.mode,
            topic,
            topic_created: self.found.created,
            partitions: self.found.partitions,
            replication_factor: self.found.replication_factor,
            connections: self.connections,
            load: Some(settings.described()),
            ended,
            warm_up_s: seconds(load.warm_up),
            figures: Figures::new(&tally, elapsed),
            latency_from: self.latency_from,
            latency_ms: Percentiles::new(&tally.latencies),
            ack_latency_ms: self.acknowledged.map(|meter| Percentiles::new(&meter.measured().0.latencies)),
            client_cpu_s: seconds(self.client_cpu),
            verified,
        };
        print_report(&report, load.json)
    }
}
