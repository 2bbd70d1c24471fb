//! The summary of a run: for a person, and as one JSON object with the same figures.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::meter::{Latencies, Tally};

/// What was measured. Field names and units are documented in `docs/operating/measuring.md`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) mode: &'static str,
    pub(crate) topic: String,
    pub(crate) topic_created: bool,
    pub(crate) partitions: usize,
    pub(crate) replication_factor: usize,
    pub(crate) connections: usize,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) load: Option<Load>,
    pub(crate) ended: Ended,
    pub(crate) warm_up_s: f64,
    #[serde(flatten)]
    pub(crate) figures: Figures,
    pub(crate) latency_from: From,
    pub(crate) latency_ms: Percentiles,
    /// Of an end-to-end run: until the acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ack_latency_ms: Option<Percentiles>,
    pub(crate) client_cpu_s: f64,
    pub(crate) verified: Option<Verified>,
}

/// What a run sent, and how.
#[derive(Debug, Serialize)]
pub(crate) struct Load {
    #[serde(rename = "loop")]
    pub(crate) kind: Kind,
    /// Of an open loop.
    pub(crate) target_records_per_s: Option<u64>,
    pub(crate) record_bytes: usize,
    pub(crate) acks: &'static str,
    pub(crate) idempotent: bool,
    pub(crate) compression: &'static str,
    pub(crate) batch_bytes_max: usize,
    /// Of an open loop.
    pub(crate) linger_ms: Option<f64>,
    pub(crate) in_flight_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Open,
    Closed,
}

/// Why the run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ended {
    /// It did all that was asked for.
    Complete,
    /// A signal came.
    Interrupted,
    /// More acknowledgements cannot be remembered for reading back.
    LedgerFull,
}

impl Ended {
    pub(crate) fn of(interrupted: bool, ledger_full: bool) -> Self {
        match (interrupted, ledger_full) {
            (true, _) => Self::Interrupted,
            (false, true) => Self::LedgerFull,
            (false, false) => Self::Complete,
        }
    }
}

/// What a latency is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum From {
    /// The instant a record was due.
    Due,
    /// The instant its batch was sent.
    Sent,
    /// The instant a fetch was asked for.
    Fetch,
}

/// Counts over the measured time.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    elapsed_s: f64,
    records: u64,
    batches: u64,
    bytes: u64,
    records_per_s: f64,
    bytes_per_s: f64,
    mb_per_s: f64,
}

impl Figures {
    pub(crate) fn new(tally: &Tally, elapsed: Duration) -> Self {
        let bytes_per_s = per_second(tally.bytes, elapsed);
        Self {
            elapsed_s: seconds(elapsed),
            records: tally.records,
            batches: tally.batches,
            bytes: tally.bytes,
            records_per_s: rounded(per_second(tally.records, elapsed), 1),
            bytes_per_s: rounded(bytes_per_s, 1),
            mb_per_s: rounded(bytes_per_s / 1e6, 3),
        }
    }
}

/// Latencies in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Percentiles {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

impl Percentiles {
    pub(crate) fn new(latencies: &Latencies) -> Self {
        let ms = |latency: Duration| rounded(latency.as_secs_f64() * 1e3, 3);
        Self {
            mean: ms(latencies.mean()),
            p50: ms(latencies.quantile(0.5)),
            p90: ms(latencies.quantile(0.9)),
            p99: ms(latencies.quantile(0.99)),
            p99_9: ms(latencies.quantile(0.999)),
            max: ms(latencies.max()),
        }
    }
}

/// What was read back and found right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Verified {
    pub(crate) records: u64,
    pub(crate) batches: u64,
}

impl Report {
    /// One line with the figures as JSON.
    pub(crate) fn json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// The figures for a person.
    pub(crate) fn text(&self) -> String {
        let Self { figures, topic, partitions, replication_factor, .. } = self;
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<12} {value}");
        };
        let made = if self.topic_created { ", created for this run" } else { "" };
        line(
            self.mode,
            &format!("topic {topic}, {partitions} partitions, replication factor {replication_factor}{made}"),
        );
        line("load", &self.load_in_words());
        if let Some(load) = &self.load {
            let idempotent = if load.idempotent { ", idempotent" } else { "" };
            let linger = load.linger_ms.map_or_else(String::new, |linger| format!(", linger {linger} ms"));
            line(
                "records",
                &format!(
                    "{} of {} bytes in {} batches; acks {}{idempotent}, compression {}, batches up to {} bytes{linger}",
                    figures.records,
                    load.record_bytes,
                    figures.batches,
                    load.acks,
                    load.compression,
                    load.batch_bytes_max
                ),
            );
        } else {
            line("records", &format!("{} in {} batches, {} bytes", figures.records, figures.batches, figures.bytes));
        }
        let warm_up =
            if self.warm_up_s > 0.0 { format!(", after {} s of warm-up", self.warm_up_s) } else { String::new() };
        line("time", &format!("{:.3} s{warm_up}", figures.elapsed_s));
        line("throughput", &format!("{:.1} records/s, {:.3} MB/s", figures.records_per_s, figures.mb_per_s));
        let ended = match self.ended {
            Ended::Complete => None,
            Ended::Interrupted => Some("early, by a signal".to_owned()),
            Ended::LedgerFull => Some(
                "early: more batches cannot be remembered for reading back; --no-verify or a larger --batch-size goes further"
                    .to_owned(),
            ),
        };
        if let Some(load) = &self.load
            && let Some(target) = load.target_records_per_s
            && self.ended == Ended::Complete
            && self.is_behind(target)
        {
            line(
                "behind",
                &format!("{target} records/s were due; latencies have the time that records waited to be sent"),
            );
        }
        line("latency ms", &in_words(&self.latency_ms, self.latency_from));
        if let Some(acknowledged) = &self.ack_latency_ms {
            line("ack ms", &in_words(acknowledged, self.latency_from));
        }
        let share = if figures.elapsed_s > 0.0 { self.client_cpu_s / figures.elapsed_s * 100.0 } else { 0.0 };
        line("client cpu", &format!("{:.3} s, {share:.0} % of one processor", self.client_cpu_s));
        if let Some(ended) = ended {
            line("ended", &ended);
        }
        let verified = match (&self.load, self.verified) {
            (None, Some(Verified { batches, .. })) => {
                format!("CRC-32C of {batches} batches, and that offsets have no gap")
            }
            (_, Some(Verified { records, batches })) => {
                format!("{records} records in {batches} batches read back: offsets, CRC-32C and contents are right")
            }
            (_, None) => "nothing (--no-verify): what was acknowledged was not read back".to_owned(),
        };
        line("verified", &verified);
        text
    }

    fn load_in_words(&self) -> String {
        let connections = if self.connections == 1 { "connection" } else { "connections" };
        let connections = format!("{} {connections}", self.connections);
        match &self.load {
            Some(Load { kind: Kind::Closed, in_flight_max, .. }) => {
                format!("closed loop: as fast as {connections} with {in_flight_max} requests in flight allow")
            }
            Some(Load { target_records_per_s, in_flight_max, .. }) => format!(
                "open loop: {} records/s due, on {connections} with up to {in_flight_max} requests in flight",
                target_records_per_s.unwrap_or(0)
            ),
            None => format!("as fast as {connections} read"),
        }
    }

    /// Whether the run took notably longer than its schedule.
    fn is_behind(&self, target: u64) -> bool {
        let scheduled = self.figures.records as f64 / target as f64;
        self.figures.elapsed_s > scheduled * 1.02 + 0.5
    }
}

fn in_words(percentiles: &Percentiles, from: From) -> String {
    let Percentiles { p50, p90, p99, p99_9, max, .. } = percentiles;
    let from = match from {
        From::Due => "from when a record was due",
        From::Sent => "from when its batch was sent",
        From::Fetch => "of a fetch, waiting for records included",
    };
    format!("p50 {p50:.3}  p90 {p90:.3}  p99 {p99:.3}  p99.9 {p99_9:.3}  max {max:.3}  ({from})")
}

/// `count` over `time`, a second.
pub(crate) fn per_second(count: u64, time: Duration) -> f64 {
    let time = time.as_secs_f64();
    if time > 0.0 { count as f64 / time } else { 0.0 }
}

pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1e3)
}

/// Seconds to a microsecond.
pub(crate) fn seconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64(), 6)
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::meter::Meter;
    use super::*;

    fn tally() -> (Tally, Duration) {
        let meter = Meter::new(Duration::from_secs(2));
        for millis in 1..=1_000 {
            let sent = Duration::from_secs(2);
            meter.done(sent + Duration::from_millis(millis), sent, 10, 1, 1_000, 10);
        }
        meter.measured()
    }

    fn load(kind: Kind) -> Load {
        Load {
            kind,
            target_records_per_s: (kind == Kind::Open).then_some(50_000),
            record_bytes: 100,
            acks: "all",
            idempotent: true,
            compression: "none",
            batch_bytes_max: 16_384,
            linger_ms: (kind == Kind::Open).then_some(5.0),
            in_flight_max: 5,
        }
    }

    fn report(load: Option<Load>) -> Report {
        let (tally, elapsed) = tally();
        Report {
            mode: "produce",
            topic: "t".to_owned(),
            topic_created: false,
            partitions: 3,
            replication_factor: 1,
            connections: 1,
            load,
            ended: Ended::Complete,
            warm_up_s: 2.0,
            figures: Figures::new(&tally, elapsed),
            latency_from: From::Sent,
            latency_ms: Percentiles::new(&tally.latencies),
            ack_latency_ms: None,
            client_cpu_s: 0.25,
            verified: Some(Verified { records: 12_000, batches: 1_200 }),
        }
    }

    fn check(text: &str, expected: &Expect) {
        expected.assert_eq(text);
    }

    #[test]
    fn a_closed_loop_is_told() {
        check(
            &report(Some(load(Kind::Closed))).text(),
            &expect![[r#"
            produce      topic t, 3 partitions, replication factor 1
            load         closed loop: as fast as 1 connection with 5 requests in flight allow
            records      10000 of 100 bytes in 1000 batches; acks all, idempotent, compression none, batches up to 16384 bytes
            time         1.000 s, after 2 s of warm-up
            throughput   10000.0 records/s, 1.000 MB/s
            latency ms   p50 500.223  p90 900.095  p99 990.207  p99.9 999.423  max 1000.447  (from when its batch was sent)
            client cpu   0.250 s, 25 % of one processor
            verified     12000 records in 1200 batches read back: offsets, CRC-32C and contents are right
        "#]],
        );
    }

    #[test]
    fn an_open_loop_that_was_not_kept_and_not_verified_is_told() {
        let report = Report {
            latency_from: From::Due,
            ack_latency_ms: Some(Percentiles::new(&tally().0.latencies)),
            verified: None,
            topic_created: true,
            connections: 2,
            ..report(Some(load(Kind::Open)))
        };
        check(
            &report.text(),
            &expect![[r#"
            produce      topic t, 3 partitions, replication factor 1, created for this run
            load         open loop: 50000 records/s due, on 2 connections with up to 5 requests in flight
            records      10000 of 100 bytes in 1000 batches; acks all, idempotent, compression none, batches up to 16384 bytes, linger 5 ms
            time         1.000 s, after 2 s of warm-up
            throughput   10000.0 records/s, 1.000 MB/s
            behind       50000 records/s were due; latencies have the time that records waited to be sent
            latency ms   p50 500.223  p90 900.095  p99 990.207  p99.9 999.423  max 1000.447  (from when a record was due)
            ack ms       p50 500.223  p90 900.095  p99 990.207  p99.9 999.423  max 1000.447  (from when a record was due)
            client cpu   0.250 s, 25 % of one processor
            verified     nothing (--no-verify): what was acknowledged was not read back
        "#]],
        );
    }

    #[test]
    fn what_was_only_read_is_told() {
        let report = Report {
            mode: "consume",
            latency_from: From::Fetch,
            ended: Ended::Interrupted,
            warm_up_s: 0.0,
            ..report(None)
        };
        check(
            &report.text(),
            &expect![[r#"
            consume      topic t, 3 partitions, replication factor 1
            load         as fast as 1 connection read
            records      10000 in 1000 batches, 1000000 bytes
            time         1.000 s
            throughput   10000.0 records/s, 1.000 MB/s
            latency ms   p50 500.223  p90 900.095  p99 990.207  p99.9 999.423  max 1000.447  (of a fetch, waiting for records included)
            client cpu   0.250 s, 25 % of one processor
            ended        early, by a signal
            verified     CRC-32C of 1200 batches, and that offsets have no gap
        "#]],
        );
    }

    #[test]
    fn json_has_the_figures_with_units_in_their_names() {
        check(
            &report(Some(load(Kind::Open))).json().unwrap(),
            &expect![[r#"
            {"mode":"produce","topic":"t","topic_created":false,"partitions":3,"replication_factor":1,"connections":1,"loop":"open","target_records_per_s":50000,"record_bytes":100,"acks":"all","idempotent":true,"compression":"none","batch_bytes_max":16384,"linger_ms":5.0,"in_flight_max":5,"ended":"complete","warm_up_s":2.0,"elapsed_s":1.0,"records":10000,"batches":1000,"bytes":1000000,"records_per_s":10000.0,"bytes_per_s":1000000.0,"mb_per_s":1.0,"latency_from":"sent","latency_ms":{"mean":500.505,"p50":500.223,"p90":900.095,"p99":990.207,"p99_9":999.423,"max":1000.447},"client_cpu_s":0.25,"verified":{"records":12000,"batches":1200}}
        "#]],
        );
    }
}
