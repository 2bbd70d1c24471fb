//! `chronik replication verify`: two running nodes are asked for the same records, and what comes is compared.
//!
//! Each node is asked for what it has itself, whoever leads. Compared is what both have and serve: from the later log start
//! to the lower high watermark. That one of them has more is lag and no difference. A few MiB of each node are held at a
//! time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use chronik_client::{ClientError, FetchLimits, OffsetAt, Options, Target, TopicInfo};
use chronik_model::{Offset, PartitionIndex};
use serde::Serialize;

use super::super::table::{counted, shown};
use super::super::{Session, Stop, bootstrap_address, print, tls_files};
use super::compare::{Alike, Difference, compare, stuck};
use crate::cli::ReplicationVerify;
use crate::config::parse_host_port;
use crate::problem::Problem;

const LIMITS: FetchLimits =
    FetchLimits { wait_max: Duration::from_millis(500), bytes_max: 4 << 20, partition_bytes_max: 4 << 20 };
/// Longest time to go on asking a node that is busy with something else.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often a partition is begun again because records were deleted that were about to be compared.
const BEGINNINGS_MAX: u32 = 5;

pub(super) async fn run(command: ReplicationVerify, variables: &[(String, String)]) -> Result<(), Stop> {
    let here = bootstrap_address(&command.bootstrap, variables)?;
    let there = parse_host_port(&command.against, "--against", "127.0.0.1:9093")?.to_string();
    let tls = tls_files(&command.bootstrap, variables)?;
    let options = || Options { retry_max: RETRY_MAX, tls: tls.clone(), ..Options::default() };
    let mut nodes = Nodes {
        here: Session::connect(here, options()).await?,
        there: Session::connect(there, options()).await?,
        topic: command.topic,
    };
    let report = verified(&mut nodes, |line| if command.json { Ok(()) } else { print(&line) }).await?;
    if command.json {
        let text = serde_json::to_string(&report).map_err(std::io::Error::from)?;
        print(&(text + "\n"))?;
    }
    match report.differences {
        0 => Ok(()),
        count => Err(Problem::new(
            format!("{} between {} and {}", counted(count, "difference"), report.here, report.there),
            "the lines that do not begin with \"same\" say where; `chronik log verify` on each node tells damaged files",
        )
        .into()),
    }
}

/// The two nodes, and which topic of them is compared; all where that is not said.
struct Nodes {
    here: Session,
    there: Session,
    topic: Option<String>,
}

/// What was found.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Report {
    here: String,
    there: String,
    /// Partitions that are not the same, and topics and partitions that only one node has.
    differences: u64,
    partitions: Vec<PartitionReport>,
    only_on_one: Vec<OnlyOnOne>,
}

/// A topic, or a partition of one, that only one node has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct OnlyOnOne {
    topic: String,
    partition: Option<i32>,
    node: String,
}

/// What was found of one partition. Offsets are exclusive ends but for `from` and the log starts.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct PartitionReport {
    topic: String,
    partition: i32,
    /// The first offset that was compared.
    from: i64,
    /// The end of what was found to be the same.
    to: i64,
    batches: u64,
    bytes: u64,
    /// Of these bytes, in hexadecimal digits.
    crc32c: String,
    log_start_here: i64,
    log_start_there: i64,
    high_watermark_here: i64,
    high_watermark_there: i64,
    difference: Option<DifferenceReport>,
}

/// Where the nodes first differ, and what each has there.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct DifferenceReport {
    offset: i64,
    here: String,
    there: String,
}

/// The offsets of one node's replica: the first kept, and the high watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    log_start: Offset,
    high_watermark: Offset,
}

/// Why a partition cannot be compared on.
enum Broken {
    /// At least one node refuses: what each says. `deleted` where the offset asked for is not kept any more.
    Refused { here: String, there: String, deleted: bool },
    /// A node does not answer any more.
    Stopped(Problem),
}

impl From<Problem> for Broken {
    fn from(problem: Problem) -> Self {
        Self::Stopped(problem)
    }
}

async fn verified(nodes: &mut Nodes, mut tell: impl FnMut(String) -> std::io::Result<()>) -> Result<Report, Stop> {
    let (topics_here, topics_there) = nodes.topics().await?;
    let mut report = Report {
        here: nodes.here.address().to_owned(),
        there: nodes.there.address().to_owned(),
        differences: 0,
        partitions: Vec::new(),
        only_on_one: only_on_one(nodes, &topics_here, &topics_there),
    };
    if topics_here.is_empty()
        && topics_there.is_empty()
        && let Some(name) = &nodes.topic
    {
        return Err(Problem::new(
            format!("neither node has a topic {name}"),
            "`chronik topic list` shows those there are",
        )
        .into());
    }
    for (name, here) in &topics_here {
        let Some(there) = topics_there.get(name) else { continue };
        for &partition in here.partitions.keys().filter(|partition| there.partitions.contains_key(partition)) {
            let compared = nodes.partition(here, there, partition).await?;
            tell(described(&compared, &report))?;
            report.differences += u64::from(compared.difference.is_some());
            report.partitions.push(compared);
        }
    }
    if !report.only_on_one.is_empty() {
        // What was made or deleted a moment before the first look is on both or none by now.
        let (topics_here, topics_there) = nodes.topics().await?;
        let still: BTreeSet<OnlyOnOne> = only_on_one(nodes, &topics_here, &topics_there).into_iter().collect();
        report.only_on_one.retain(|only| still.contains(only));
    }
    for OnlyOnOne { topic, partition, node } in &report.only_on_one {
        report.differences += 1;
        let partition = partition.map_or_else(String::new, |partition| format!(" partition={partition}"));
        tell(format!("ONLY-ON {node} topic={}{partition}\n", shown(topic)))?;
    }
    tell(in_short(&report))?;
    Ok(report)
}

type Topics = BTreeMap<String, TopicInfo>;

fn only_on_one(nodes: &Nodes, here: &Topics, there: &Topics) -> Vec<OnlyOnOne> {
    let mut found = Vec::new();
    for (node, has, other) in [(&nodes.here, here, there), (&nodes.there, there, here)] {
        for (name, topic) in has {
            let only =
                |partition: Option<i32>| OnlyOnOne { topic: name.clone(), partition, node: node.address().to_owned() };
            match other.get(name) {
                None => found.push(only(None)),
                Some(other) => {
                    let missing = topic.partitions.keys().filter(|partition| !other.partitions.contains_key(partition));
                    found.extend(missing.map(|partition| only(Some(partition.get()))));
                }
            }
        }
    }
    found
}

impl Nodes {
    /// The topics that each node knows, those of the cluster itself included.
    async fn topics(&mut self) -> Result<(Topics, Topics), Problem> {
        let wanted = self.topic.clone();
        let by_name = |topics: Vec<TopicInfo>| -> Topics {
            let topics = topics.into_iter().filter(|topic| wanted.as_ref().is_none_or(|wanted| *wanted == topic.name));
            topics.map(|topic| (topic.name.clone(), topic)).collect()
        };
        let (here, there) = tokio::join!(self.here.client.all_topics(), self.there.client.all_topics());
        Ok((
            by_name(here.map_err(|error| self.here.explain(&error))?),
            by_name(there.map_err(|error| self.there.explain(&error))?),
        ))
    }

    async fn partition(
        &mut self,
        here: &TopicInfo,
        there: &TopicInfo,
        partition: PartitionIndex,
    ) -> Result<PartitionReport, Problem> {
        let mut report = PartitionReport {
            topic: here.name.clone(),
            partition: partition.get(),
            from: 0,
            to: 0,
            batches: 0,
            bytes: 0,
            crc32c: "00000000".to_owned(),
            log_start_here: -1,
            log_start_there: -1,
            high_watermark_here: -1,
            high_watermark_there: -1,
            difference: None,
        };
        if here.id != there.id {
            let (here, there) = (format!("topic-id={}", here.id), format!("topic-id={}", there.id));
            report.difference = Some(DifferenceReport { offset: 0, here, there });
            return Ok(report);
        }
        for beginnings_left in (0..BEGINNINGS_MAX).rev() {
            match self.once(here, there, partition, &mut report).await {
                Ok(()) => return Ok(report),
                Err(Broken::Stopped(problem)) => return Err(problem),
                Err(Broken::Refused { deleted: true, .. }) if beginnings_left > 0 => {}
                Err(Broken::Refused { here, there, .. }) => {
                    report.difference = Some(DifferenceReport { offset: report.to, here, there });
                    return Ok(report);
                }
            }
        }
        Ok(report)
    }

    /// Compares what both serve at this moment.
    async fn once(
        &mut self,
        here: &TopicInfo,
        there: &TopicInfo,
        partition: PartitionIndex,
        report: &mut PartitionReport,
    ) -> Result<(), Broken> {
        let both = tokio::join!(
            bounds(&mut self.here, &here.name, partition),
            bounds(&mut self.there, &there.name, partition),
        );
        let (bounds_here, bounds_there) = self.answered(both)?;
        report.log_start_here = bounds_here.log_start.get();
        report.log_start_there = bounds_there.log_start.get();
        report.high_watermark_here = bounds_here.high_watermark.get();
        report.high_watermark_there = bounds_there.high_watermark.get();
        let from = bounds_here.log_start.max(bounds_there.log_start);
        let end = bounds_here.high_watermark.min(bounds_there.high_watermark);
        let mut alike = Alike::from(from);
        report.from = from.get();
        let compared = self.range(here, there, partition, end, &mut alike).await;
        report.to = alike.next.get();
        report.batches = alike.batches;
        report.bytes = alike.bytes;
        report.crc32c = format!("{:08x}", alike.crc32c);
        report.difference = compared?.map(|Difference { offset, here, there }| DifferenceReport {
            offset: offset.get(),
            here: here.to_string(),
            there: there.to_string(),
        });
        Ok(())
    }

    /// Compares up to `end`, as far as the two are the same.
    async fn range(
        &mut self,
        here: &TopicInfo,
        there: &TopicInfo,
        partition: PartitionIndex,
        end: Offset,
        alike: &mut Alike,
    ) -> Result<Option<Difference>, Broken> {
        while alike.next < end {
            let both = tokio::join!(
                self.here.client.fetch_replica(Target::Bootstrap, here, partition, alike.next, LIMITS),
                self.there.client.fetch_replica(Target::Bootstrap, there, partition, alike.next, LIMITS),
            );
            let (here, there) = self.answered(both)?;
            let (mut here, mut there): (Bytes, Bytes) = (here.records, there.records);
            let before = alike.next;
            let difference = compare(&mut here, &mut there, end, alike);
            if difference.is_some() {
                return Ok(difference);
            }
            // A batch that one of them sent in part comes whole with the next fetch, which begins with it.
            if alike.next == before {
                return Ok(Some(stuck(&here, &there, alike)));
            }
        }
        Ok(None)
    }

    /// What both answered. A refusal is what a node says of its own replica; any other error ends the command.
    fn answered<T>(&self, both: (Result<T, ClientError>, Result<T, ClientError>)) -> Result<(T, T), Broken> {
        let mut deleted = true;
        let mut words = |session: &Session, error: Option<ClientError>| match error {
            None => Ok("served".to_owned()),
            Some(error @ ClientError::Refused { .. }) => {
                deleted &= error.is_offset_out_of_range();
                Ok(format!("refused reason={error}"))
            }
            Some(error) => Err(session.explain(&error)),
        };
        match both {
            (Ok(here), Ok(there)) => Ok((here, there)),
            (here, there) => {
                let (here, there) = (words(&self.here, here.err())?, words(&self.there, there.err())?);
                Err(Broken::Refused { here, there, deleted })
            }
        }
    }
}

async fn bounds(session: &mut Session, topic: &str, partition: PartitionIndex) -> Result<Bounds, ClientError> {
    let client = &mut session.client;
    let log_start = client.replica_offset(Target::Bootstrap, topic, partition, OffsetAt::Start).await?;
    let log_start = log_start.unwrap_or(Offset::ZERO);
    let high_watermark = client.replica_offset(Target::Bootstrap, topic, partition, OffsetAt::End).await?;
    Ok(Bounds { log_start, high_watermark: high_watermark.unwrap_or(log_start) })
}

/// A line for the partition, and one for each side where they differ; every line stands for itself under `grep`.
fn described(compared: &PartitionReport, report: &Report) -> String {
    let name = format!("topic={} partition={}", shown(&compared.topic), compared.partition);
    let PartitionReport { from, to, batches, bytes, crc32c, .. } = compared;
    let verdict = if compared.difference.is_some() { "DIFFERENT" } else { "same" };
    let lag = lag(compared).map_or_else(String::new, |(records, is_here)| {
        format!(" lag={records} behind={}", if is_here { &report.here } else { &report.there })
    });
    let mut text =
        format!("{verdict} {name} from={from} to={to} batches={batches} bytes={bytes} crc32c={crc32c}{lag}\n");
    if let Some(DifferenceReport { offset, here, there }) = &compared.difference {
        for (node, what) in [(&report.here, here), (&report.there, there)] {
            text += &format!("  {name} first-difference={offset} node={node} {}\n", shown(what));
        }
    }
    text
}

/// Records by which one of the two is behind, and whether it is the one here.
fn lag(compared: &PartitionReport) -> Option<(u64, bool)> {
    let (here, there) = (compared.high_watermark_here, compared.high_watermark_there);
    (here != there && here >= 0 && there >= 0).then(|| (here.abs_diff(there), here < there))
}

fn in_short(report: &Report) -> String {
    let sum = |count: fn(&PartitionReport) -> u64| report.partitions.iter().map(count).fold(0, u64::saturating_add);
    format!(
        "here={} there={} partitions={} batches={} bytes={} lag={} differences={}\n",
        report.here,
        report.there,
        report.partitions.len(),
        sum(|partition| partition.batches),
        sum(|partition| partition.bytes),
        sum(|partition| lag(partition).map_or(0, |(records, _)| records)),
        report.differences
    )
}
