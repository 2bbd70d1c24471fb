//! `chronik bench consume`: how fast record batches come back, each held to its checksum and its place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chronik_client::{ClientError, FetchLimits, OffsetAt};
use chronik_model::{Offset, PartitionIndex};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::{Session, Stop};
use super::check::{Fault, Walk};
use super::meter::Meter;
use super::pace::Extent;
use super::progress::Progress;
use super::reading::{Positions, Reader};
use super::report::{Ended, Figures, From, Percentiles, Report, Verified, seconds};
use super::topic::Found;
use super::{Clock, explain, joined, nothing_measured, plan, print_report, stop_on_signal, watched};
use crate::cli::{Begin, BenchConsume};
use crate::problem::Problem;

/// Bytes of one answer, as in Kafka's consumer (`fetch.max.bytes`).
const BYTES_MAX: i32 = 50 << 20;

pub(crate) async fn run(command: BenchConsume, variables: &[(String, String)]) -> Result<(), Stop> {
    let BenchConsume { topic, from, num_records, duration, warm_up, fetch_size, timeout, connections, json, bootstrap } =
        command;
    let stop = stop_on_signal()?;
    let mut session = Session::open(&bootstrap, variables).await?;
    let leaders = session.client.leaders(&topic).await.map_err(|error| explain(&session, &error))?;
    let described = session.client.topic(&topic).await.map_err(|error| explain(&session, &error))?;
    let found = Found::of(&described, false);
    let partitions: Vec<PartitionIndex> = described.partitions.keys().copied().collect();
    let (positions, ends) =
        begin(&mut session, &topic, &partitions, from).await.map_err(|error| explain(&session, &error))?;
    // Without a number or a time, the run ends where the topic does now.
    let ends = (num_records.is_none() && duration.is_none()).then_some(ends);
    let limits =
        FetchLimits { wait_max: Duration::from_millis(500), bytes_max: BYTES_MAX, partition_bytes_max: fetch_size };
    let shares = plan::reading(&leaders, connections);
    let meter = Arc::new(Meter::new(warm_up));
    let counted = Arc::new(watch::Sender::new(0));
    let extent = Extent { warm_up, duration, records: num_records };
    let clock = Clock::start();
    let mut consumers = Vec::new();
    for share in &shares {
        let reader = Reader::connect(&mut session, &topic, share, clock, limits, &positions, ends.as_ref()).await;
        consumers.push(Consumer {
            reader: reader.map_err(|error| explain(&session, &error))?,
            walks: share.partitions.iter().filter_map(|p| Some((*p, Walk::from(*positions.get(p)?)))).collect(),
            extent,
            idle_max: timeout,
            meter: Arc::clone(&meter),
            counted: Arc::clone(&counted),
        });
    }
    let mut progress = Progress::new();
    let reading = run_all(consumers, clock, stop.clone());
    let (read, client_cpu) = watched(reading, &meter, clock, warm_up, &mut progress).await;
    drop(progress);
    let verified = read.map_err(|error| error.explain(&session, &topic))?;
    let (tally, elapsed) = meter.measured();
    if tally.records == 0 {
        return Err(nothing_measured(&stop, &format!("no record of topic {topic} came after the warm-up")).into());
    }
    let report = Report {
        mode: "consume",
        topic,
        topic_created: found.created,
        partitions: found.partitions,
        replication_factor: found.replication_factor,
        connections: shares.len(),
        load: None,
        ended: Ended::of(*stop.borrow(), false),
        warm_up_s: seconds(warm_up),
        figures: Figures::new(&tally, elapsed),
        latency_from: From::Fetch,
        latency_ms: Percentiles::new(&tally.latencies),
        ack_latency_ms: None,
        client_cpu_s: seconds(client_cpu),
        verified: Some(verified),
    };
    print_report(&report, json)
}

/// Where each partition is read from, and where it ends now.
async fn begin(
    session: &mut Session,
    topic: &str,
    partitions: &[PartitionIndex],
    from: Begin,
) -> Result<(Positions, Positions), ClientError> {
    let (mut positions, mut ends) = (Positions::new(), Positions::new());
    for &partition in partitions {
        let client = &mut session.client;
        let start = client.offset(topic, partition, OffsetAt::Start).await?.unwrap_or(Offset::ZERO);
        let end = client.offset(topic, partition, OffsetAt::End).await?.unwrap_or(start).max(start);
        let position = match from {
            Begin::Start => start,
            Begin::End => end,
            Begin::Offset(offset) => Offset::new(offset).clamp(start, end),
        };
        positions.insert(partition, position);
        ends.insert(partition, end);
    }
    Ok((positions, ends))
}

/// Why reading ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("partition {partition}: {fault}")]
    Fault { partition: PartitionIndex, fault: Fault },
    #[error("no record came for {idle_max:?}, after {records} records")]
    Idle { idle_max: Duration, records: u64 },
}

impl ReadError {
    /// The error in words.
    pub(crate) fn explain(&self, session: &Session, topic: &str) -> Problem {
        match self {
            Self::Client(error) if error.is_offset_out_of_range() => Problem::new(
                format!("topic {topic}: records were deleted before they were read"),
                "the topic's retention is shorter than the run: raise it, or read faster than it deletes",
            ),
            Self::Client(error) => explain(session, error),
            Self::Fault { fault: Fault::Gap { .. }, .. } => Problem::new(
                format!("topic {topic}: {self}"),
                "no figure is given. Compaction leaves such gaps: measure with a topic that is not compacted",
            ),
            Self::Fault { .. } => Problem::new(
                format!("topic {topic}: {self}"),
                "no figure is given; `chronik log verify` on the broker's data directory tells more",
            ),
            Self::Idle { .. } => Problem::new(
                format!("topic {topic}: {self}"),
                "ask for fewer with --num-records, wait longer with --timeout, or leave both out to read what is there",
            ),
        }
    }
}

/// One connection that reads some partitions.
struct Consumer {
    reader: Reader,
    walks: BTreeMap<PartitionIndex, Walk>,
    extent: Extent,
    idle_max: Duration,
    meter: Arc<Meter>,
    /// Records that are measured, over all consumers.
    counted: Arc<watch::Sender<u64>>,
}

/// Runs all consumers to their ends, and gives what they found right; the first error ends them all.
async fn run_all(consumers: Vec<Consumer>, clock: Clock, stop: watch::Receiver<bool>) -> Result<Verified, ReadError> {
    let mut running = JoinSet::new();
    for consumer in consumers {
        running.spawn(consumer.run(clock, stop.clone()));
    }
    let mut all = Verified { records: 0, batches: 0 };
    while let Some(ended) = running.join_next().await {
        let verified = joined(ended)?;
        all.records = all.records.saturating_add(verified.records);
        all.batches = all.batches.saturating_add(verified.batches);
    }
    Ok(all)
}

impl Consumer {
    async fn run(mut self, clock: Clock, mut stop: watch::Receiver<bool>) -> Result<Verified, ReadError> {
        let Extent { warm_up, duration, records } = self.extent;
        let mut counted = self.counted.subscribe();
        let mut verified = Verified { records: 0, batches: 0 };
        let mut last_at = clock.now();
        let over = async {
            tokio::select! {
                // A sender that is gone says that the process ends.
                _ = stop.wait_for(|stop| *stop) => {}
                _ = counted.wait_for(|count| records.is_some_and(|records| *count >= records)) => {}
                () = clock.until(duration.map_or(Duration::MAX, |duration| warm_up.saturating_add(duration))),
                    if duration.is_some() => {}
            }
        };
        tokio::pin!(over);
        loop {
            let answer = tokio::select! {
                biased;
                () = &mut over => return Ok(verified),
                answer = timeout(self.idle_max, self.reader.next()) => answer,
            };
            let Ok(answer) = answer else { return Err(self.idle(verified)) };
            let Some(answer) = answer? else { return Ok(verified) };
            let mut fresh = Verified { records: 0, batches: 0 };
            let mut bytes: u64 = 0;
            for fetched in &answer.fetched {
                let Some(walk) = self.walks.get_mut(&fetched.partition) else { continue };
                let taken = walk.take(&fetched.records, |header, batch| {
                    fresh.batches = fresh.batches.saturating_add(1);
                    fresh.records = fresh.records.saturating_add(u64::try_from(header.records_count).unwrap_or(0));
                    bytes = bytes.saturating_add(u64::try_from(batch.len()).unwrap_or(0));
                    Ok(())
                });
                taken.map_err(|fault| ReadError::Fault { partition: fetched.partition, fault })?;
            }
            if fresh.batches == 0 {
                // Over a fixed time it may be quiet; a number of records must come.
                if duration.is_none() && clock.now().saturating_sub(last_at) >= self.idle_max {
                    return Err(self.idle(verified));
                }
                continue;
            }
            last_at = answer.received_at;
            verified.records = verified.records.saturating_add(fresh.records);
            verified.batches = verified.batches.saturating_add(fresh.batches);
            self.meter.done(answer.received_at, answer.asked_at, fresh.records, fresh.batches, bytes, 1);
            if answer.asked_at >= warm_up {
                self.counted.send_modify(|count| *count = count.saturating_add(fresh.records));
            }
        }
    }

    fn idle(&self, verified: Verified) -> ReadError {
        ReadError::Idle { idle_max: self.idle_max, records: verified.records }
    }
}
