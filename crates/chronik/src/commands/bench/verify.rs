//! Reading back what a run was told is there. Without that, a figure says how fast answers came, not how fast data went in.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_client::{FetchLimits, OffsetAt};
use chronik_model::Offset;
use tokio::sync::watch;
use tokio::time::timeout;

use super::super::{Session, Stop};
use super::Clock;
use super::check::{Comparison, Fault, Walk, values};
use super::content::Content;
use super::ledger::Ledger;
use super::plan;
use super::progress::Progress;
use super::reading::{Positions, Reader};
use super::report::Verified;
use crate::problem::Problem;

const LIMITS: FetchLimits =
    FetchLimits { wait_max: Duration::from_millis(500), bytes_max: 16 << 20, partition_bytes_max: 2 << 20 };

/// Longest time for the next record to become readable.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Reads what `ledger` says was acknowledged, and whatever lies between and behind it up to the end each partition has now,
/// and compares every record with what was sent.
pub(crate) async fn read_back(
    session: &mut Session,
    topic: &str,
    content: &Content,
    ledger: Ledger,
    progress: &mut Progress,
    stop: &mut watch::Receiver<bool>,
) -> Result<Verified, Stop> {
    let (acknowledged, batches) = (ledger.records(), ledger.batches());
    let named = |partition, fault: Fault| not_there(format!("partition {topic}-{partition}: {fault}"));
    let mut comparisons = BTreeMap::new();
    let (mut positions, mut ends) = (Positions::new(), Positions::new());
    for (partition, ranges) in ledger.into_sorted() {
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { continue };
        let (begin, end) = (first.base_offset, last.end());
        let readable = session.client.offset(topic, partition, OffsetAt::End).await;
        let readable = readable.map_err(|error| session.explain(&error))?.unwrap_or(Offset::ZERO);
        positions.insert(partition, begin);
        ends.insert(partition, end.max(readable));
        let comparison = Comparison::new(content, ranges).map_err(|fault| named(partition, fault))?;
        comparisons.insert(partition, (Walk::from(begin), comparison));
    }
    let leaders = session.client.leaders(topic).await.map_err(|error| session.explain(&error))?;
    let clock = Clock::start();
    // After a run that was interrupted there is less to read; another signal then ends the process.
    let interruptible = !*stop.borrow();
    for share in plan::reading(&leaders, 1) {
        let reader = Reader::connect(session, topic, &share, clock, LIMITS, &positions, Some(&ends)).await;
        let mut reader = reader.map_err(|error| session.explain(&error))?;
        let mut progressed_at = clock.now();
        loop {
            let answer = tokio::select! {
                answer = timeout(IDLE_MAX, reader.next()) => answer,
                Ok(_) = stop.wait_for(|stop| *stop), if interruptible => return Err(interrupted().into()),
            };
            let answer = match answer {
                Ok(Ok(Some(answer))) => answer,
                Ok(Ok(None)) | Err(_) => break,
                Ok(Err(error)) if error.is_offset_out_of_range() => {
                    let what = "records that were acknowledged are no longer there: the partition begins behind them";
                    return Err(not_there(format!("topic {topic}: {what}")).into());
                }
                Ok(Err(error)) => return Err(session.explain(&error).into()),
            };
            for fetched in &answer.fetched {
                let Some((walk, comparison)) = comparisons.get_mut(&fetched.partition) else { continue };
                let before = walk.next();
                let compared = walk.take(&fetched.records, |header, batch| {
                    values(header, batch, content.record_bytes(), |offset, value| comparison.take(offset, value))
                });
                compared.map_err(|fault| named(fetched.partition, fault))?;
                if walk.next() > before {
                    progressed_at = answer.received_at;
                }
            }
            if answer.received_at.saturating_sub(progressed_at) >= IDLE_MAX {
                break;
            }
            let done = comparisons.values().map(|(_, comparison)| comparison.records()).sum::<u64>();
            progress.say_if_due(|| format!("reading back: {done} of {acknowledged} records"));
        }
    }
    let mut records: u64 = 0;
    for (partition, (_, comparison)) in comparisons {
        records = records.saturating_add(comparison.finish().map_err(|fault| named(partition, fault))?);
    }
    Ok(Verified { records, batches })
}

fn not_there(what: String) -> Problem {
    Problem::new(
        what,
        "no figure is given, as what was acknowledged is not all there. Did retention or somebody delete records during the \
         run? if not, `chronik log verify` on the broker's data directory tells more",
    )
}

fn interrupted() -> Problem {
    Problem::new(
        "interrupted before all of it was read back, so no figure is given",
        "let it finish, or measure with --no-verify",
    )
}
