//! Reading partitions of one broker: the next fetch is on its way while what the last one brought is looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_client::{ClientError, FetchLimits, FetchPipeline, Fetched};
use chronik_model::{Offset, PartitionIndex};

use super::super::Session;
use super::Clock;
use super::check::offset_behind;
use super::plan::Share;

pub(crate) type Positions = BTreeMap<PartitionIndex, Offset>;

/// What a fetch brought.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) fetched: Vec<Fetched>,
    /// When it was asked for.
    pub(crate) asked_at: Duration,
    /// When it was here.
    pub(crate) received_at: Duration,
}

/// A connection that reads some partitions, from their positions on.
pub(crate) struct Reader {
    pipeline: FetchPipeline,
    clock: Clock,
    positions: Positions,
    /// Where reading stops, exclusive; whole batches are read.
    ends: Option<Positions>,
    /// When the fetch on its way was asked for.
    asked_at: Option<Duration>,
}

impl Reader {
    /// Connects to the broker of `share`; of the positions and ends only those of its partitions count.
    pub(crate) async fn connect(
        session: &mut Session,
        topic: &str,
        share: &Share,
        clock: Clock,
        limits: FetchLimits,
        positions: &Positions,
        ends: Option<&Positions>,
    ) -> Result<Self, ClientError> {
        let pipeline = session.client.fetch_pipeline(topic, share.leader, limits, 1).await?;
        let own = |all: &Positions| {
            share.partitions.iter().filter_map(|partition| Some((*partition, *all.get(partition)?))).collect()
        };
        Ok(Self { pipeline, clock, positions: own(positions), ends: ends.map(own), asked_at: None })
    }

    /// What the next fetch brings, perhaps nothing; `None` when every partition was read to its end. May be left and begun
    /// again.
    pub(crate) async fn next(&mut self) -> Result<Option<Answer>, ClientError> {
        if self.asked_at.is_none() {
            self.ask()?;
        }
        let Some(asked_at) = self.asked_at else { return Ok(None) };
        let fetched = self.pipeline.answer().await?;
        let received_at = self.clock.now();
        self.asked_at = None;
        for fetched in &fetched {
            if let Some(position) = self.positions.get_mut(&fetched.partition) {
                *position = offset_behind(&fetched.records, *position);
            }
        }
        self.ask()?;
        Ok(Some(Answer { fetched, asked_at, received_at }))
    }

    fn ask(&mut self) -> Result<(), ClientError> {
        if let Some(ends) = &self.ends {
            self.positions.retain(|partition, position| ends.get(partition).is_some_and(|end| *position < *end));
        }
        if !self.positions.is_empty() && self.pipeline.push(&self.positions)? {
            self.asked_at = Some(self.clock.now());
        }
        Ok(())
    }
}
