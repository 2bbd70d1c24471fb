//! The flags of `chronik bench`, named as in Kafka's performance tools where those have them.

use std::time::Duration;

use chronik_client::AnsweredAcks;
use chronik_record::Compression;
use clap::{Args, Subcommand, value_parser};

use super::{Begin, Bootstrap, from};

/// Largest value of a record and size of a batch in bytes; brokers take less unless told otherwise.
const BYTES_MAX: i64 = 64 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Write records and measure how fast they are acknowledged
    Produce(BenchProduce),
    /// Read records and measure how fast they come
    Consume(BenchConsume),
    /// Write at a fixed rate and measure how long records take to a consumer
    EndToEnd(BenchEndToEnd),
}

#[derive(Debug, Args)]
pub(crate) struct BenchProduce {
    /// Topic to write to; created where it is missing
    pub(crate) topic: String,
    /// Records that are due each second, however fast earlier ones are acknowledged; latency counts from when a record is
    /// due. With -1, as many as the requests in flight allow; latency counts from sending
    #[arg(long, value_name = "RECORDS_PER_S", default_value = "-1", value_parser = throughput, allow_hyphen_values = true)]
    pub(crate) throughput: Throughput,
    /// How long a record that is due waits for others to fill its batch
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = duration)]
    pub(crate) linger: Duration,
    /// Connections to write on, at least one for each leader
    #[arg(long, value_name = "N", default_value = "1", value_parser = count(1_000))]
    pub(crate) connections: usize,
    #[command(flatten)]
    pub(crate) load: BenchLoad,
}

#[derive(Debug, Args)]
pub(crate) struct BenchEndToEnd {
    /// Topic to write and read; created where it is missing
    pub(crate) topic: String,
    /// Records that are due each second
    #[arg(long, value_name = "RECORDS_PER_S", default_value = "100", value_parser = value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) throughput: u64,
    /// How long a record that is due waits for others to fill its batch
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = duration)]
    pub(crate) linger: Duration,
    #[command(flatten)]
    pub(crate) load: BenchLoad,
}

/// What is written, how much of it, and where to.
#[derive(Debug, Args)]
#[group(id = "extent", required = true, multiple = true, args = ["num_records", "duration"])]
pub(crate) struct BenchLoad {
    /// Partitions of a topic that is created, at least so many of one that is there [default: the broker's num.partitions]
    #[arg(long, value_name = "N", value_parser = value_parser!(i32).range(1..))]
    pub(crate) partitions: Option<i32>,
    /// Likewise, replicas of each partition [default: the broker's default.replication.factor]
    #[arg(long, value_name = "N", value_parser = value_parser!(i16).range(1..))]
    pub(crate) replication_factor: Option<i16>,
    /// Records to write after the warm-up
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) num_records: Option<u64>,
    /// Time to write for after the warm-up, as in 30s, 500ms or 2m; with --num-records whichever ends first
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    pub(crate) duration: Option<Duration>,
    /// Time to write for before anything is measured
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(crate) warm_up: Duration,
    /// Bytes of each record's value
    #[arg(long, value_name = "BYTES", default_value = "1024", value_parser = bytes(16))]
    pub(crate) record_size: usize,
    /// Wait for the leader (1), or until the records are safe on all in-sync replicas (all), as an idempotent producer
    #[arg(long, value_name = "1|all", default_value = "all", value_parser = acks, allow_hyphen_values = true)]
    pub(crate) acks: AnsweredAcks,
    /// Bytes of a full batch before compression; a larger record is a batch of its own
    #[arg(long, value_name = "BYTES", default_value = "16384", value_parser = bytes(1))]
    pub(crate) batch_size: usize,
    /// Codec of the batches: none, gzip, snappy, lz4 or zstd
    #[arg(long, value_name = "CODEC", default_value = "none")]
    pub(crate) compression: Compression,
    /// Requests in flight on each connection, a batch each
    #[arg(long, value_name = "N", default_value = "5", value_parser = count(10_000))]
    pub(crate) in_flight: usize,
    /// Do not read back what was acknowledged
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Print the figures as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) bootstrap: Bootstrap,
}

#[derive(Debug, Args)]
pub(crate) struct BenchConsume {
    /// Topic to read
    pub(crate) topic: String,
    /// Where to begin: start, end, or an offset
    #[arg(long, value_name = "start|end|OFFSET", default_value = "start", value_parser = from, allow_hyphen_values = true)]
    pub(crate) from: Begin,
    /// Records to read after the warm-up, or some more, as fetches bring them [default: to the end the topic has at the start]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) num_records: Option<u64>,
    /// Time to read for after the warm-up, as in 30s
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    pub(crate) duration: Option<Duration>,
    /// Time to read for before anything is measured
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(crate) warm_up: Duration,
    /// Bytes of one partition in one answer
    #[arg(long, value_name = "BYTES", default_value = "1048576", value_parser = value_parser!(i32).range(1..=1 << 30))]
    pub(crate) fetch_size: i32,
    /// Longest time without a record
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = positive_duration)]
    pub(crate) timeout: Duration,
    /// Connections to read on, at least one for each leader and at most one for each partition
    #[arg(long, value_name = "N", default_value = "1", value_parser = count(1_000))]
    pub(crate) connections: usize,
    /// Print the figures as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) bootstrap: Bootstrap,
}

/// How many records are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Throughput {
    /// A closed loop: a batch for each acknowledgement.
    Unlimited,
    /// An open loop.
    PerSecond(u64),
}

fn throughput(text: &str) -> Result<Throughput, String> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(Throughput::Unlimited),
        Ok(records @ 1..=1_000_000_000) => Ok(Throughput::PerSecond(records.unsigned_abs())),
        _ => Err("write records per second, from 1 to 1000000000, or -1 for as many as go".to_owned()),
    }
}

fn acks(text: &str) -> Result<AnsweredAcks, String> {
    match text {
        "1" => Ok(AnsweredAcks::Leader),
        "all" | "-1" => Ok(AnsweredAcks::All),
        "0" => Err("write 1 or all: without acknowledgements nothing is known to be there".to_owned()),
        _ => Err("write 1 or all".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = number.parse::<u64>().ok().zip(scale).and_then(|(number, scale)| number.checked_mul(scale));
    let day = 24 * 3_600_000;
    match millis {
        Some(millis) if millis <= 7 * day => Ok(Duration::from_millis(millis)),
        _ => Err("write a time of at most 168h with its unit: 500ms, 30s, 2m or 1h".to_owned()),
    }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(Duration::ZERO) => Err("write a time above zero".to_owned()),
        parsed => parsed,
    }
}

fn count(max: i64) -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser as _;
    value_parser!(i64).range(1..=max).map(|count| usize::try_from(count).unwrap_or(1))
}

fn bytes(min: i64) -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser as _;
    value_parser!(i64).range(min..=BYTES_MAX).map(|bytes| usize::try_from(bytes).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command};
    use super::*;

    fn parse(line: &str) -> Result<Bench, String> {
        match Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command) {
            Ok(Command::Bench(bench)) => Ok(bench),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_rate_makes_an_open_loop_and_none_a_closed_one() {
        for (flag, expected) in [("", Throughput::Unlimited), ("--throughput -1", Throughput::Unlimited)] {
            let Ok(Bench::Produce(produce)) = parse(&format!("chronik bench produce t --num-records 5 {flag}")) else {
                panic!("{flag}")
            };
            assert_eq!((produce.throughput, produce.load.num_records), (expected, Some(5)));
        }
        let line = "chronik bench produce t --throughput 1000 --duration 2m --linger 7ms --acks 1 --record-size 16";
        let Ok(Bench::Produce(produce)) = parse(line) else { panic!("{line}") };
        assert_eq!((produce.throughput, produce.linger), (Throughput::PerSecond(1_000), Duration::from_millis(7)));
        assert_eq!((produce.load.duration, produce.load.acks), (Some(Duration::from_secs(120)), AnsweredAcks::Leader));
        let line = "chronik bench end-to-end t --duration 500ms --warm-up 1s";
        let Ok(Bench::EndToEnd(run)) = parse(line) else { panic!("{line}") };
        assert_eq!((run.throughput, run.linger, run.load.warm_up), (100, Duration::ZERO, Duration::from_secs(1)));
    }

    #[test]
    fn consuming_needs_no_extent() {
        let Ok(Bench::Consume(consume)) = parse("chronik bench consume t") else { panic!("it parses") };
        assert_eq!((consume.from, consume.num_records, consume.duration), (Begin::Start, None, None));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (line, expected) in [
            ("produce t", "--num-records <N>|--duration <TIME>"),
            ("produce t --num-records 1 --throughput 0", "from 1 to 1000000000, or -1"),
            ("produce t --num-records 1 --acks 0", "without acknowledgements nothing is known"),
            ("produce t --num-records 1 --record-size 15", "16.."),
            ("produce t --num-records 1 --in-flight 0", "1..=10000"),
            ("produce t --duration 30", "with its unit"),
            ("produce t --duration 0s", "above zero"),
            ("produce t --duration 99999999h", "at most 168h"),
            ("end-to-end t --duration 1s --throughput -1", "-1"),
            ("consume t --from middle", "start, end or an offset"),
        ] {
            let message = parse(&format!("chronik bench {line}")).unwrap_err();
            assert!(message.contains(expected), "{line}: {message}");
        }
    }
}
