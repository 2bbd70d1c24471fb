//! Bugs put back on purpose, to show that the checkers find them. The names are those of the list in the project's
//! verification plan.
//!
//! A mutation lives in the simulation's shell only: it changes what goes into a core or comes out of it, exactly as a wrong
//! core would behave for its neighbours. The cores that are shipped have no hook for it.

use std::fmt;
use std::str::FromStr;

use chronik_log::Log;
use chronik_log::fs::{Fs, OpenMode};
use chronik_model::{LeaderEpoch, Offset};
use chronik_replication::message::{Attached, EpochHistory};

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// M1: a follower that starts cuts its log to its high watermark (KIP-101).
    TruncateToHighWatermark,
    /// M2: the leader takes the follower's epochs for its own, so that no divergence is seen (KIP-279).
    DivergenceHidden,
    /// M3: replicas are taken into the ISR before they have what the epoch began with (KIP-320).
    IsrTooEarly,
    /// M4: epochs stay known that began where, or behind where, the log was cut (KAFKA-10706).
    EpochsLeft,
    /// M5: the leader's high watermark counts before the log was cut (KAFKA-14704).
    WatermarkBeforeCut,
    /// M6: a follower that got no data says that it knows no epoch (KAFKA-15510).
    EpochsForgotten,
    /// M7: a leader that starts again keeps its leader epoch (KAFKA-7164).
    EpochKept,
    /// M8: after a cut the high watermark is not raised any more (KAFKA-9491).
    WatermarkStuck,
    /// M8: a cut takes everything (KAFKA-7897).
    CutAll,
    /// M11: a failed sync is tried again and "succeeds".
    SyncRetried,
    /// M12: damage in the middle is taken for a torn tail.
    DamageIsTail,
    /// M13: a follower that meets a damaged batch of its own asks again, and again.
    DamageStays,
    /// M14: what one follower acknowledges is counted for another (CVE-2018-1288).
    ForgedIdentity,
    /// M17: data is deleted because the metadata looked absent.
    DataWithoutMetadata,
    /// M18: a full queue drops.
    QueueDrops,
    /// R9 of the replication rules: a change of the ISR counts although no follower has heard of it.
    IsrUnheard,
    /// J1: what the sync journal has of a log still counts when the log is cut.
    JournalKept,
    /// J2: a log's bytes leave the sync journal after a sync that succeeded, although one had failed before.
    ReleaseTrusted,
}

impl Mutation {
    /// All of them with their names and the number of seeds, from 0 on, within which each is found; none where no seed of
    /// the first thousands finds it, and only a test of the core does.
    pub const ALL: &[(Self, &str, Option<u64>)] = &[
        (Self::TruncateToHighWatermark, "M1", Some(100)),
        (Self::DivergenceHidden, "M2", Some(100)),
        (Self::IsrTooEarly, "M3", Some(100)),
        (Self::EpochsLeft, "M4", Some(100)),
        (Self::WatermarkBeforeCut, "M5", Some(100)),
        (Self::EpochsForgotten, "M6", Some(100)),
        (Self::EpochKept, "M7", Some(100)),
        (Self::WatermarkStuck, "M8", Some(100)),
        (Self::CutAll, "M8b", Some(100)),
        (Self::SyncRetried, "M11", Some(100)),
        (Self::DamageIsTail, "M12", Some(100)),
        (Self::DamageStays, "M13", Some(100)),
        (Self::ForgedIdentity, "M14", Some(100)),
        (Self::DataWithoutMetadata, "M17", Some(100)),
        (Self::QueueDrops, "M18", Some(100)),
        (Self::IsrUnheard, "R9", None),
        (Self::JournalKept, "J1", Some(100)),
        (Self::ReleaseTrusted, "J2", Some(100)),
    ];
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|known| known.0 == *self).map_or("", |known| known.1);
        f.write_str(name)
    }
}

impl FromStr for Mutation {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.iter().find(|known| known.1 == name).map(|known| known.0).ok_or(())
    }
}

/// M2: what the leader makes of a follower's answer.
pub(crate) fn hide_divergence(attached: &mut Attached, leader: &Log) {
    attached.epochs = leader.leader_epochs().entries().to_vec();
    attached.epochs.retain(|entry| entry.1 < attached.log_end);
    attached.tail = None;
}

/// M4: what a follower says it has, and what it tells as a leader.
pub(crate) fn add_left(epochs: &mut EpochHistory, left: &[(LeaderEpoch, Offset)]) {
    epochs
        .extend(left.iter().filter(|entry| epochs.iter().all(|known| known.0 != entry.0)).copied().collect::<Vec<_>>());
    epochs.sort_unstable();
}

/// M12: cuts a segment where damage was found, and forgets what lies behind it.
pub(crate) fn cut_damage(fs: &dyn Fs, log: &Log) {
    let Some(damage) = log.damage().into_iter().next() else { return };
    if let Ok(file) = fs.open(&damage.file, OpenMode::Write) {
        let _ = file.set_len(damage.position);
    }
    let Some(dir) = damage.file.parent() else { return };
    for entry in fs.read_dir(dir).unwrap_or_default() {
        let path = dir.join(&entry.name);
        let is_log = path.extension().is_some_and(|end| end == "log");
        let base = path.file_stem().and_then(|stem| stem.to_str()?.rsplit('_').next()?.parse::<i64>().ok());
        let behind = base.is_some_and(|base| base > damage.offset.get());
        if (is_log && behind) || path.extension().is_some_and(|end| end == "damage") {
            let _ = fs.remove_file(&path);
        }
    }
}
