//! `chronik bench end-to-end`: how long a record takes from the instant it is due to the instant a consumer has it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chronik_client::{FetchLimits, OffsetAt};
use chronik_model::{Offset, PartitionIndex};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::{Session, Stop};
use super::check::{Walk, values};
use super::consume::ReadError;
use super::meter::Meter;
use super::pace::{Loop, Schedule, Span};
use super::progress::Progress;
use super::reading::{Positions, Reader};
use super::report::From;
use super::sending::{SendError, Sent, Settings, connect, run_all};
use super::topic::find_or_create;
use super::written::Written;
use super::{Clock, explain, explain_sending, joined, plan, run_number, stop_on_signal, watched};
use crate::cli::BenchEndToEnd;
use crate::problem::Problem;

const LIMITS: FetchLimits =
    FetchLimits { wait_max: Duration::from_millis(500), bytes_max: 50 << 20, partition_bytes_max: 1 << 20 };

/// Longest time for the consumer to have what is acknowledged.
const ARRIVAL_MAX: Duration = Duration::from_secs(30);

pub(crate) async fn run(command: BenchEndToEnd, variables: &[(String, String)]) -> Result<(), Stop> {
    let BenchEndToEnd { topic, throughput, linger, load } = command;
    let mut stop = stop_on_signal()?;
    let mut session = Session::open(&load.bootstrap, variables).await?;
    let found = find_or_create(&mut session, &topic, load.partitions, load.replication_factor).await?;
    let leaders = session.client.leaders(&topic).await.map_err(|error| explain(&session, &error))?;
    let shares = plan::writing(&leaders, 1);
    let schedule = Schedule::new(throughput);
    let settings = Arc::new(Settings::new(&topic, Loop::Open { schedule, linger }, &load, run_number()?));
    let mut ends = Positions::new();
    for &partition in shares.iter().flat_map(|share| &share.partitions) {
        let end = session.client.offset(&topic, partition, OffsetAt::End).await;
        ends.insert(partition, end.map_err(|error| explain(&session, &error))?.unwrap_or(Offset::ZERO));
    }
    let senders = connect(&mut session, &settings, &shares).await;
    let senders = senders.map_err(|error| explain_sending(&session, &error))?;

    let (received, acknowledged) = (Arc::new(Meter::new(load.warm_up)), Arc::new(Meter::new(load.warm_up)));
    let arrived = Arc::new(watch::Sender::new(0));
    let clock = Clock::start();
    let mut consumers = JoinSet::new();
    for share in plan::reading(&leaders, 1) {
        let reader = Reader::connect(&mut session, &topic, &share, clock, LIMITS, &ends, None).await;
        let consumer = Consumer {
            reader: reader.map_err(|error| explain(&session, &error))?,
            settings: Arc::clone(&settings),
            schedule,
            walks: share.partitions.iter().filter_map(|p| Some((*p, Walk::from(*ends.get(p)?)))).collect(),
            meter: Arc::clone(&received),
            arrived: Arc::clone(&arrived),
        };
        consumers.spawn(consumer.run());
    }
    let mut progress = Progress::new();
    let sending = run_all(senders, clock, Arc::clone(&acknowledged), stop.clone());
    let carried = carry(sending, consumers, arrived.subscribe());
    let (carried, client_cpu) = watched(carried, &received, clock, load.warm_up, &mut progress).await;
    let sent = carried.map_err(|error| error.explain(&session, &topic))?;

    let run = Written {
        mode: "end-to-end",
        topic,
        found,
        load: &load,
        settings: &settings,
        connections: shares.len(),
        measured: &received,
        latency_from: From::Due,
        acknowledged: Some(&acknowledged),
        client_cpu,
    };
    run.conclude(&mut session, sent, progress, &mut stop).await
}

/// Why records did not get from one end to the other.
enum CarryError {
    Send(SendError),
    Read(ReadError),
    /// The consumer has fewer records than were acknowledged.
    Lost {
        acknowledged: u64,
        received: u64,
    },
}

impl CarryError {
    fn explain(&self, session: &Session, topic: &str) -> Problem {
        match self {
            Self::Send(error) => explain_sending(session, error),
            Self::Read(error) => error.explain(session, topic),
            Self::Lost { acknowledged, received } => Problem::new(
                format!("{acknowledged} records were acknowledged, and {received} of them reached the consumer"),
                format!(
                    "no figure is given; the rest did not come within {ARRIVAL_MAX:?}, the broker's log may say why"
                ),
            ),
        }
    }
}

/// Sends all, and waits until the consumers have all that was acknowledged.
async fn carry(
    sending: impl Future<Output = Result<Sent, SendError>>,
    mut consumers: JoinSet<Result<Infallible, ReadError>>,
    mut arrived: watch::Receiver<u64>,
) -> Result<Sent, CarryError> {
    let sent = tokio::select! {
        sent = sending => sent.map_err(CarryError::Send)?,
        Some(failed) = consumers.join_next() => return Err(CarryError::Read(failure(joined(failed)))),
    };
    let acknowledged = sent.ledger.records();
    let all = timeout(ARRIVAL_MAX, arrived.wait_for(|arrived| *arrived >= acknowledged));
    let in_time = tokio::select! {
        all = all => all.is_ok(),
        Some(failed) = consumers.join_next() => return Err(CarryError::Read(failure(joined(failed)))),
    };
    if in_time { Ok(sent) } else { Err(CarryError::Lost { acknowledged, received: *arrived.borrow() }) }
}

fn failure(ended: Result<Infallible, ReadError>) -> ReadError {
    match ended {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

/// One connection that reads what the run writes.
struct Consumer {
    reader: Reader,
    settings: Arc<Settings>,
    schedule: Schedule,
    walks: std::collections::BTreeMap<PartitionIndex, Walk>,
    meter: Arc<Meter>,
    /// How many records of the run have come, over all consumers.
    arrived: Arc<watch::Sender<u64>>,
}

impl Consumer {
    /// Reads until it is dropped.
    async fn run(mut self) -> Result<Infallible, ReadError> {
        let content = &self.settings.content;
        let record_bytes = u64::try_from(content.record_bytes()).unwrap_or(u64::MAX);
        // Without ends a reader never comes to one.
        loop {
            let Some(answer) = self.reader.next().await? else { return std::future::pending().await };
            let mut count: u64 = 0;
            for fetched in &answer.fetched {
                let Some(walk) = self.walks.get_mut(&fetched.partition) else { continue };
                let taken = walk.take(&fetched.records, |header, batch| {
                    let mut batches = 1;
                    values(header, batch, content.record_bytes(), |offset, value| {
                        let Some(number) = content.number(value) else { return Ok(()) };
                        content.check(offset, number, value)?;
                        let span = Span { first: number, step: 1, count: 1 };
                        self.meter.due(
                            answer.received_at,
                            self.schedule,
                            span,
                            std::mem::take(&mut batches),
                            record_bytes,
                        );
                        count = count.saturating_add(1);
                        Ok(())
                    })
                });
                taken.map_err(|fault| ReadError::Fault { partition: fetched.partition, fault })?;
            }
            self.arrived.send_modify(|arrived| *arrived = arrived.saturating_add(count));
        }
    }
}
