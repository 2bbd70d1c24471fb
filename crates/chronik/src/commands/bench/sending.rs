//! One lane at work: builds the batches that its pace asks for, keeps them in flight, and notes what is acknowledged.
//!
//! A batch is built once and nothing is allocated for a record. Nothing is sent again: the first error ends the run.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chronik_client::{AnsweredAcks, ClientError, ProducePipeline, Produced, ProducerIdentity};
use chronik_model::{PartitionIndex, Sequence};
use chronik_record::{BatchBuilder, BuildError, Compression, HEADER_BYTES, TimestampType};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::{Session, now};
use super::alarm::Alarm;
use super::content::Content;
use super::ledger::{Ledger, RANGES_MAX};
use super::meter::Meter;
use super::pace::{Extent, Lane, Loop, Next, Place, Span};
use super::plan::Share;
use super::report::{Kind, Load};
use super::{Clock, joined};
use crate::cli::BenchLoad;

/// How all lanes of a run send.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) topic: String,
    pub(crate) content: Content,
    pub(crate) kind: Loop,
    pub(crate) extent: Extent,
    pub(crate) acks: AnsweredAcks,
    pub(crate) compression: Compression,
    /// Bytes of a batch before compression (`batch.size`).
    pub(crate) batch_bytes: usize,
    pub(crate) in_flight_max: usize,
}

impl Settings {
    pub(crate) fn new(topic: &str, kind: Loop, load: &BenchLoad, run: u64) -> Self {
        Self {
            topic: topic.to_owned(),
            content: Content::new(run, load.record_size),
            kind,
            extent: Extent { warm_up: load.warm_up, duration: load.duration, records: load.num_records },
            acks: load.acks,
            compression: load.compression,
            batch_bytes: load.batch_size,
            in_flight_max: load.in_flight,
        }
    }

    /// The settings as the summary has them.
    pub(crate) fn described(&self) -> Load {
        let (kind, target_records_per_s, linger) = match self.kind {
            Loop::Open { schedule, linger } => (Kind::Open, Some(schedule.records_per_s()), Some(linger)),
            Loop::Closed => (Kind::Closed, None, None),
        };
        Load {
            kind,
            target_records_per_s,
            record_bytes: self.content.record_bytes(),
            acks: match self.acks {
                AnsweredAcks::Leader => "1",
                AnsweredAcks::All => "all",
            },
            idempotent: self.acks == AnsweredAcks::All,
            compression: self.compression.name(),
            batch_bytes_max: self.batch_bytes,
            linger_ms: linger.map(|linger| linger.as_secs_f64() * 1e3),
            in_flight_max: self.in_flight_max,
        }
    }

    /// How many records a batch has when it is full; one, where a record is larger than a batch should be.
    fn batch_records(&self) -> usize {
        (self.batch_bytes.saturating_sub(HEADER_BYTES) / self.record_bytes_on_the_wire()).max(1)
    }

    /// A record with what surrounds its value: two lengths, and at most eight bytes of other fields.
    fn record_bytes_on_the_wire(&self) -> usize {
        let bytes = self.content.record_bytes();
        let length = match bytes {
            0..64 => 1,
            64..8_192 => 2,
            8_192..1_048_576 => 3,
            _ => 4,
        };
        bytes.saturating_add(2 * length).saturating_add(8)
    }
}

/// Why a lane ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("records do not make a batch: {0}")]
    Build(#[from] BuildError),
    #[error("a timer failed: {0}")]
    Timer(#[from] io::Error),
}

/// What a lane leaves.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) ledger: Ledger,
    /// The lane ended because its ledger is full.
    pub(crate) full: bool,
}

/// One connection that writes to some partitions of one broker.
pub(crate) struct Sender {
    settings: Arc<Settings>,
    pipeline: ProducePipeline,
    lane: Lane,
    alarm: Alarm,
    /// The partitions written to in turn, a batch each, and the sequence of the next record there.
    partitions: Vec<(PartitionIndex, Sequence)>,
    turn: usize,
    identity: Option<ProducerIdentity>,
    in_flight: VecDeque<InFlight>,
    ledger: Ledger,
    ranges_max: usize,
    /// The value being built.
    value: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    span: Span,
    sent_at: Duration,
}

/// Connects a sender for each share. With `acks=all` each is an idempotent producer, as Kafka's own is.
pub(crate) async fn connect(
    session: &mut Session,
    settings: &Arc<Settings>,
    shares: &[Share],
) -> Result<Vec<Sender>, SendError> {
    let lanes = u64::try_from(shares.len()).unwrap_or(u64::MAX).max(1);
    let mut senders = Vec::with_capacity(shares.len());
    for (place, share) in (0..).zip(shares) {
        let client = &mut session.client;
        let identity = match settings.acks {
            AnsweredAcks::All => Some(client.init_producer().await?),
            AnsweredAcks::Leader => None,
        };
        let pipeline =
            client.produce_pipeline(&settings.topic, share.leader, settings.acks, settings.in_flight_max).await?;
        let batch_records = u64::try_from(settings.batch_records()).unwrap_or(u64::MAX);
        senders.push(Sender {
            settings: Arc::clone(settings),
            pipeline,
            lane: Lane::new(Place { place, lanes }, settings.kind, settings.extent, batch_records),
            alarm: Alarm::new()?,
            partitions: share.partitions.iter().map(|&partition| (partition, Sequence::new(0))).collect(),
            turn: 0,
            identity,
            in_flight: VecDeque::new(),
            ledger: Ledger::default(),
            ranges_max: RANGES_MAX / shares.len().max(1),
            value: Vec::new(),
        });
    }
    Ok(senders)
}

/// Runs all senders to their ends; the first error ends them all.
pub(crate) async fn run_all(
    senders: Vec<Sender>,
    clock: Clock,
    meter: Arc<Meter>,
    stop: watch::Receiver<bool>,
) -> Result<Sent, SendError> {
    let mut running = JoinSet::new();
    for sender in senders {
        running.spawn(sender.run(clock, Arc::clone(&meter), stop.clone()));
    }
    let mut all = Sent { ledger: Ledger::default(), full: false };
    while let Some(ended) = running.join_next().await {
        let sent = joined(ended)?;
        all.ledger.merge(sent.ledger);
        all.full |= sent.full;
    }
    Ok(all)
}

impl Sender {
    /// Sends until the lane is done or `stop` says so, and waits for all acknowledgements.
    async fn run(
        mut self,
        clock: Clock,
        meter: Arc<Meter>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Sent, SendError> {
        let mut stopped = false;
        let mut full = false;
        loop {
            let now = clock.now();
            let mut wake = None;
            if self.pipeline.has_room() {
                match self.lane.next(now) {
                    Next::Send(span) => self.send(span, now)?,
                    Next::WaitUntil(at) => wake = Some(at.saturating_sub(now)),
                    Next::Done if self.in_flight.is_empty() => return Ok(Sent { ledger: self.ledger, full }),
                    Next::Done => wake = Some(Duration::MAX),
                }
            } else {
                wake = Some(Duration::MAX);
            }
            let alarm = &mut self.alarm;
            let woken = async {
                match wake {
                    // More can be sent at once: just look whether an answer is there.
                    None => Ok(()),
                    Some(Duration::MAX) => std::future::pending().await,
                    Some(wait) => alarm.after(wait).await,
                }
            };
            tokio::select! {
                biased;
                produced = self.pipeline.answer() => {
                    let produced = produced?;
                    self.acknowledge(produced, clock.now(), &meter);
                    if self.ledger.ranges() >= self.ranges_max && !full {
                        full = true;
                        self.lane.stop();
                    }
                }
                told = stop.wait_for(|stop| *stop), if !stopped => {
                    // Nobody can tell any more where the other end is gone; the run goes on to its end.
                    stopped = true;
                    if told.is_ok() {
                        self.lane.stop();
                    }
                }
                woken = woken => woken?,
            }
        }
    }

    fn send(&mut self, span: Span, now: Duration) -> Result<(), SendError> {
        let Some((partition, sequence)) = self.partitions.get(self.turn).copied() else { return Ok(()) };
        let batch = self.batch(span, sequence)?;
        let following = sequence.advanced_by(u32::try_from(span.count).unwrap_or(u32::MAX));
        if let Some(place) = self.partitions.get_mut(self.turn) {
            *place = (partition, following);
        }
        self.turn = self.turn.saturating_add(1) % self.partitions.len().max(1);
        // There is room: `run` has looked.
        self.pipeline.push(partition, batch)?;
        self.in_flight.push_back(InFlight { span, sent_at: now });
        Ok(())
    }

    fn batch(&mut self, span: Span, sequence: Sequence) -> Result<Bytes, BuildError> {
        let settings = &self.settings;
        let records = usize::try_from(span.count).unwrap_or(usize::MAX);
        let now = now();
        let mut builder = BatchBuilder::new(settings.compression, TimestampType::Create, now)
            .reserve(records.saturating_mul(settings.record_bytes_on_the_wire()));
        if let Some(identity) = self.identity {
            builder = builder.producer(identity.id, identity.epoch, sequence);
        }
        for number in span.numbers() {
            settings.content.write(number, &mut self.value);
            builder.append(now, None, Some(&self.value), &[]);
        }
        Ok(builder.build()?.bytes().clone())
    }

    fn acknowledge(&mut self, produced: Produced, now: Duration, meter: &Meter) {
        let Some(InFlight { span, sent_at }) = self.in_flight.pop_front() else { return };
        self.ledger.acknowledge(produced.partition, produced.base_offset, span);
        let record_bytes = u64::try_from(self.settings.content.record_bytes()).unwrap_or(u64::MAX);
        match self.settings.kind {
            Loop::Open { schedule, .. } => meter.due(now, schedule, span, 1, record_bytes),
            Loop::Closed => {
                meter.done(now, sent_at, span.count, 1, span.count.saturating_mul(record_bytes), span.count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chronik_model::Timestamp;

    use super::*;

    fn settings(record_bytes: usize, batch_bytes: usize) -> Settings {
        Settings {
            topic: "t".to_owned(),
            content: Content::new(1, record_bytes),
            kind: Loop::Closed,
            extent: Extent { warm_up: Duration::ZERO, duration: None, records: Some(1) },
            acks: AnsweredAcks::All,
            compression: Compression::None,
            batch_bytes,
            in_flight_max: 1,
        }
    }

    #[test]
    fn a_full_batch_is_not_larger_than_asked_for_but_has_a_record() {
        for record_bytes in [16, 63, 64, 100, 1_000, 8_191, 8_192, 100_000, 1_048_576] {
            for batch_bytes in [1, 16_384, 1_000_000] {
                let settings = settings(record_bytes, batch_bytes);
                let count = settings.batch_records();
                let mut builder =
                    BatchBuilder::new(Compression::None, TimestampType::Create, Timestamp::from_millis(1));
                let mut value = Vec::new();
                for number in 0..count {
                    settings.content.write(u64::try_from(number).unwrap(), &mut value);
                    builder.append(Timestamp::from_millis(1), None, Some(&value), &[]);
                }
                let size = builder.size_bytes();
                assert!(count == 1 || size <= batch_bytes, "{record_bytes}, {batch_bytes}: {size}");
                let full = size + record_bytes >= batch_bytes / 10 * 9;
                assert!(full, "{record_bytes}, {batch_bytes}: {size}");
            }
        }
    }
}
