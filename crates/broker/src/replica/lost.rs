//! Holes that a power cut left in logs of the page cache: a log that is replicated is cut there, since what lies behind one
//! can be sent to nobody. A log of one node keeps what it has, and its readers pass over the hole.

use std::path::Path;

use chronik_log::dir::{DataDir, DirError};
use chronik_log::{Log, LogError};
use chronik_model::{Offset, TopicId};

use super::host::Lines;

const REASON: &str = "it lies behind what a power cut took";

/// Cuts every log that has a hole, keeping the rest aside. A checkpoint that vouches for nothing behind the cuts comes first.
pub(super) fn cut_where_lost<'a>(
    dir: &DataDir,
    known: &Lines,
    logs: impl Iterator<Item = (&'a mut Log, TopicId)>,
) -> Result<(), DirError> {
    let mut with_holes: Vec<(&mut Log, TopicId, Offset)> =
        logs.filter_map(|(log, id)| log.first_lost().map(|lost| (log, id, lost))).collect();
    if with_holes.is_empty() {
        return Ok(());
    }
    let mut lines = known.clone();
    with_holes.retain_mut(|(log, id, lost)| {
        let prepared = log.prepare_cut(*lost).and_then(|_| log.checkpoint());
        match prepared {
            Ok(line) => {
                let line = chronik_log::Checkpoint { topic_id: Some(*id), ..line };
                lines.insert(log.topic_partition().clone(), line);
                true
            }
            Err(error) => {
                failed(log, &error);
                false
            }
        }
    });
    dir.write_checkpoint(&lines)?;
    for (log, _, lost) in with_holes {
        let log_start = log.log_start();
        let cut = if lost < log_start {
            log.reset_to(log_start, Some(REASON)).map(|_| None)
        } else {
            log.cut_aside(lost, REASON)
        };
        match cut {
            Ok(kept) => {
                let kept = kept.as_ref().map_or(Path::new("-"), |cut| cut.file.as_path());
                tracing::warn!(
                    partition = %log.topic_partition(), from = %lost, kept = %kept.display(),
                    "records were not synced when the power went, the log is cut there and the rest kept in a file"
                );
            }
            Err(error) => failed(log, &error),
        }
    }
    Ok(())
}

fn failed(log: &Log, error: &LogError) {
    tracing::error!(partition = %log.topic_partition(), %error, "log cannot be cut where a power cut left a hole");
}
