//! What a follower does: it says what it has, cuts what its leader does not have, and takes what its leader sends.
//!
//! Nothing is written before all of it was checked. The high watermark is the leader's word, as far as the own log goes;
//! only a cut for a later leader goes below it.

use chronik_log::{LogError, ReadError, ReplicateError};
use chronik_model::{LeaderEpoch, Offset, Timestamp};
use chronik_record::BatchHeader;

use crate::link::Reason;
use crate::message::{AppendHead, Attach, Attached, Progress, Reset, ResetCause, Tail, TopicIdPartition, Truncate};
use crate::replica::{Effect, Position, Replica, Role};

/// A follower did not do what its leader asked for. Nothing changed, unless the disk failed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// This replica leads.
    #[error("this replica leads in epoch {leader_epoch}")]
    Leads {
        /// Its epoch.
        leader_epoch: LeaderEpoch,
    },
    /// The leader is an old one.
    #[error("leader epoch {found}, this replica knows {current}")]
    StaleLeaderEpoch {
        /// The epoch it knows.
        current: LeaderEpoch,
        /// The one sent.
        found: LeaderEpoch,
    },
    /// Nothing was agreed on in this leader epoch.
    #[error("not attached in leader epoch {found}")]
    NotAttached {
        /// The one sent.
        found: LeaderEpoch,
    },
    /// Batches that begin behind the log end.
    #[error("batches from {found} on, the log ends at {log_end}")]
    Gap {
        /// Log end, exclusive.
        log_end: Offset,
        /// Their first offset.
        found: Offset,
    },
    /// Batches that begin before the log end.
    #[error("batches from {found} on, the log ends at {log_end}")]
    Overlap {
        /// Log end, exclusive.
        log_end: Offset,
        /// Their first offset.
        found: Offset,
    },
    /// Batches that end elsewhere than their frame says.
    #[error("batches end at {found}, their frame says {announced}")]
    WrongEnd {
        /// The frame's, exclusive.
        announced: Offset,
        /// Theirs, exclusive.
        found: Offset,
    },
    /// A cut below what the leader of this very epoch said was committed.
    #[error("cut at {to}, in leader epoch {leader_epoch} everything below {high_watermark} was committed")]
    BelowHighWatermark {
        /// Where to cut.
        to: Offset,
        /// High watermark, exclusive.
        high_watermark: Offset,
        /// The epoch.
        leader_epoch: LeaderEpoch,
    },
    /// The log does not take the batches.
    #[error(transparent)]
    Replicate(#[from] ReplicateError),
    /// The log cannot be changed so.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl FollowError {
    /// What the leader is told.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Leads { .. } => Reason::IsLeader,
            Self::StaleLeaderEpoch { .. } => Reason::StaleLeaderEpoch,
            Self::NotAttached { .. } => Reason::NotAttached,
            Self::Gap { .. } => Reason::Gap,
            Self::Overlap { .. } => Reason::Overlap,
            Self::WrongEnd { .. } => Reason::CorruptBatch,
            Self::BelowHighWatermark { .. } => Reason::BelowHighWatermark,
            Self::Replicate(error) => match error {
                ReplicateError::NotContiguous { .. } | ReplicateError::Corrupt { .. } => Reason::CorruptBatch,
                ReplicateError::LeaderEpoch { .. } => Reason::BatchLeaderEpoch,
                ReplicateError::Segment { .. } => Reason::WrongSegment,
                ReplicateError::Append(_) => Reason::Storage,
            },
            Self::Log(LogError::OffsetOutOfRange { .. }) => Reason::BadOffset,
            Self::Log(LogError::Offline(_) | LogError::Io { .. } | LogError::Read(_)) | Self::Read(_) => {
                Reason::Storage
            }
        }
    }
}

/// What a follower knows beside its log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Following {
    /// The leader epoch that was agreed on with the leader.
    pub(crate) attached: Option<LeaderEpoch>,
    /// The leader's high watermark as it was last told, exclusive.
    pub(crate) told: Offset,
    /// The leader's log start as it was last told, inclusive.
    pub(crate) log_start: Offset,
    /// Where the leader's first segment begins, as it was last told.
    pub(crate) first_segment: Offset,
    /// The leader epoch in which the high watermark was learned.
    pub(crate) told_in: LeaderEpoch,
    /// Whether the leader has said how far the log is committed, since the news of a later leader or the last cut.
    pub(crate) spoken: bool,
    /// The highest high watermark before a cut, exclusive: consumers have seen it.
    pub(crate) seen: Offset,
    /// What the own log says of the high watermark may be older than what consumers were served before a crash.
    pub(crate) unsettled: bool,
    /// Serves what it has although the leader could not be asked.
    pub(crate) alone: bool,
    /// The first damaged offset that the leader was told.
    pub(crate) damaged: Option<Offset>,
}

impl Following {
    pub(crate) fn new(told_in: LeaderEpoch) -> Self {
        Self {
            attached: None,
            told: Offset::ZERO,
            log_start: Offset::ZERO,
            first_segment: Offset::ZERO,
            told_in,
            spoken: true,
            seen: Offset::ZERO,
            unsettled: false,
            alone: false,
            damaged: None,
        }
    }

    /// Whether consumers may be served: not between the news of a later leader and its first word, nor below what they
    /// have seen, as far as the leader still has that.
    pub(crate) fn is_readable(&self, high_watermark: Offset) -> bool {
        self.spoken && !self.unsettled && high_watermark >= self.seen.min(self.told)
    }
}

impl<T> Replica<T> {
    /// The process before this one did not stop cleanly: its consumers may have been served more than is known here, so
    /// nobody is served before the leader has spoken, or [`Replica::serve_alone`]. For a replica that follows.
    pub fn unsettle(&mut self) {
        let log_end = self.log.log_end();
        if let Role::Follower(following) = &mut self.role {
            (following.unsettled, following.seen) = (true, following.seen.max(log_end));
        }
    }

    /// The leader cannot be asked how far the log was committed: consumers are served what is known here.
    pub fn serve_alone(&mut self) {
        let high_watermark = self.high_watermark;
        if let Role::Follower(following) = &mut self.role
            && following.unsettled
        {
            (following.unsettled, following.alone, following.seen) = (false, true, high_watermark);
        }
    }

    /// Whether others may be fed from this replica. One that follows and serves less than it once did would have them
    /// cut what is committed.
    pub fn is_settled(&self) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(following) => following.is_readable(self.high_watermark) && !following.alone,
        }
    }

    /// The leader wants to send: tells it what is here.
    ///
    /// # Errors
    /// This replica leads, knows a later leader, or its log cannot be read.
    pub fn attach(&mut self, attach: &Attach) -> Result<Attached, FollowError> {
        self.online()?;
        let (high_watermark, is_later) = (self.high_watermark, attach.leader_epoch > self.leader_epoch);
        let following = self.following(attach.leader_epoch)?;
        following.attached = Some(attach.leader_epoch);
        following.spoken &= following.told_in >= attach.leader_epoch;
        if is_later {
            // Nothing more is believed of what an earlier leader said.
            following.told = high_watermark;
        }
        // One that was prepared for another agreement.
        self.log.abandon_cut();
        self.leader_epoch = attach.leader_epoch;
        self.attached(attach.id)
    }

    /// First half of a cut: call it, write a checkpoint, call [`Replica::truncate`]. Nothing may be appended in between.
    ///
    /// # Errors
    /// As [`Replica::truncate`].
    pub fn prepare_truncate(&mut self, truncate: &Truncate) -> Result<(), FollowError> {
        self.check_truncate(truncate)?;
        let prepared = self.log.prepare_cut(truncate.to);
        self.lowered();
        prepared?;
        Ok(())
    }

    /// Cuts what the leader does not have, and keeps it in a file.
    ///
    /// # Errors
    /// The leader is not the one attached to, or contradicts what it said was committed; or the disk failed.
    pub fn truncate(&mut self, truncate: &Truncate, effects: &mut Vec<Effect<T>>) -> Result<Attached, FollowError> {
        self.check_truncate(truncate)?;
        let reason = if self.repairs(truncate.to) {
            format!("damaged, the leader of epoch {} sends it again", truncate.leader_epoch)
        } else {
            format!("the leader of epoch {} does not have it", truncate.leader_epoch)
        };
        let cut = self.log.cut_aside(truncate.to, &reason);
        // A disk that fails halfway has changed the log's bounds as well.
        self.lowered();
        effects.extend(cut?.map(Effect::TailCut));
        self.want_flush(effects);
        self.attached(truncate.id)
    }

    /// First half of a new beginning: call it, write a checkpoint, call [`Replica::reset`].
    ///
    /// # Errors
    /// As [`Replica::reset`].
    pub fn prepare_reset(&mut self, reset: &Reset) -> Result<(), FollowError> {
        self.online()?;
        self.agreed(reset.leader_epoch)?;
        let prepared = self.log.prepare_cut(self.log.first_segment());
        self.lowered();
        prepared?;
        Ok(())
    }

    /// Drops the log and begins it anew where the leader's begins.
    ///
    /// # Errors
    /// The leader is not the one attached to, or the disk failed.
    pub fn reset(&mut self, reset: &Reset, effects: &mut Vec<Effect<T>>) -> Result<Attached, FollowError> {
        self.online()?;
        self.agreed(reset.leader_epoch)?;
        let reason = match reset.cause {
            ResetCause::Empty | ResetCause::Retention => None,
            ResetCause::Diverged => Some(format!("it shares nothing with the leader of epoch {}", reset.leader_epoch)),
            ResetCause::Damaged => Some(format!("damaged, the leader of epoch {} sends it again", reset.leader_epoch)),
        };
        let outcome = self.log.reset_to(reset.to, reason.as_deref());
        // Also where the disk failed half way: what is left of the log is what counts.
        self.lowered();
        outcome?;
        self.want_flush(effects);
        self.attached(reset.id)
    }

    /// Appends what the leader sent, exactly as it is.
    ///
    /// # Errors
    /// Nothing was appended, unless the disk failed; the replica is offline then.
    pub fn append_replicated(
        &mut self,
        head: &AppendHead,
        batches: &[u8],
        now: Timestamp,
        effects: &mut Vec<Effect<T>>,
    ) -> Result<Position, FollowError> {
        self.agreed(head.leader_epoch)?;
        let (log_end, found) = (self.log.log_end(), head.base);
        if found > log_end {
            return Err(FollowError::Gap { log_end, found });
        }
        if found < log_end {
            return Err(FollowError::Overlap { log_end, found });
        }
        let (announced, found) = (head.end, end_of(batches)?);
        if announced != found {
            return Err(FollowError::WrongEnd { announced, found });
        }
        self.log.append_replicated_in(head.segment, batches, head.leader_epoch, now)?;
        self.told(head.high_watermark, head.log_start, effects)?;
        self.want_flush(effects);
        Ok(self.position())
    }

    /// The leader's bounds moved.
    ///
    /// # Errors
    /// The leader is not the one attached to, or the disk failed.
    pub fn progress(&mut self, progress: &Progress, effects: &mut Vec<Effect<T>>) -> Result<(), FollowError> {
        self.agreed(progress.leader_epoch)?;
        if let Role::Follower(following) = &mut self.role {
            following.first_segment = progress.first_segment;
        }
        self.told(progress.high_watermark, progress.log_start, effects)
    }

    fn told(
        &mut self,
        high_watermark: Offset,
        log_start: Offset,
        effects: &mut Vec<Effect<T>>,
    ) -> Result<(), FollowError> {
        let leader_epoch = self.leader_epoch;
        if let Role::Follower(following) = &mut self.role {
            following.told =
                if following.told_in == leader_epoch { following.told.max(high_watermark) } else { high_watermark };
            following.told_in = leader_epoch;
            following.log_start = log_start;
            following.spoken = true;
            (following.unsettled, following.alone) = (false, false);
        }
        self.advance(effects);
        self.follow_log_start()?;
        self.check_invariants();
        Ok(())
    }

    /// Takes over the leader's log start. What lies above the own high watermark waits for that to pass.
    pub(crate) fn follow_log_start(&mut self) -> Result<(), LogError> {
        if let Role::Follower(following) = &self.role {
            let log_start = following.log_start.min(self.high_watermark);
            if log_start > self.log.log_start() {
                self.log.delete_records_before(log_start)?;
            }
            // The leader's retention took all that there was.
            if following.first_segment == self.log.log_end() && self.log.log_start() == self.log.log_end() {
                self.log.end_segment()?;
            }
        }
        Ok(())
    }

    fn online(&self) -> Result<(), FollowError> {
        match self.log.offline() {
            None => Ok(()),
            Some(cause) => Err(LogError::Offline(cause.into()).into()),
        }
    }

    /// The follower's part, where it may follow in `leader_epoch`.
    fn following(&mut self, found: LeaderEpoch) -> Result<&mut Following, FollowError> {
        let current = self.leader_epoch;
        match &mut self.role {
            Role::Leader(_) => Err(FollowError::Leads { leader_epoch: current }),
            Role::Follower(_) if found < current => Err(FollowError::StaleLeaderEpoch { current, found }),
            Role::Follower(following) => Ok(following),
        }
    }

    /// Whether the leader of this epoch was attached to.
    fn agreed(&mut self, found: LeaderEpoch) -> Result<(), FollowError> {
        if self.following(found)?.attached == Some(found) { Ok(()) } else { Err(FollowError::NotAttached { found }) }
    }

    fn check_truncate(&mut self, truncate: &Truncate) -> Result<(), FollowError> {
        self.online()?;
        self.agreed(truncate.leader_epoch)?;
        let (high_watermark, leader_epoch) = (self.high_watermark, truncate.leader_epoch);
        let repairs = self.repairs(truncate.to);
        if truncate.to < high_watermark && !repairs && self.following(leader_epoch)?.told_in >= leader_epoch {
            return Err(FollowError::BelowHighWatermark { to: truncate.to, high_watermark, leader_epoch });
        }
        Ok(())
    }

    /// Whether a cut there only removes what is damaged, and what lies behind that.
    fn repairs(&self, to: Offset) -> bool {
        match &self.role {
            Role::Leader(_) => false,
            Role::Follower(following) => following.damaged.is_some_and(|damaged| damaged <= to),
        }
    }

    /// Takes over the high watermark of a log that was cut.
    fn lowered(&mut self) {
        let high_watermark = self.log.high_watermark();
        if let Role::Follower(following) = &mut self.role {
            if high_watermark < self.high_watermark {
                following.seen = following.seen.max(self.high_watermark);
            }
            following.told = following.told.min(high_watermark);
            following.spoken &= high_watermark == self.high_watermark;
        }
        self.high_watermark = high_watermark;
        self.check_invariants();
    }

    fn attached(&mut self, id: TopicIdPartition) -> Result<Attached, FollowError> {
        let log_end = self.log.log_end();
        let mut damaged = self.log.first_damaged();
        let tail = match self.log.reader().batch_before(log_end) {
            Ok(tail) => tail.filter(|_| damaged.is_none()),
            Err(ReadError::Damaged(found)) => {
                damaged = Some(damaged.map_or(found.offset, |damaged| damaged.min(found.offset)));
                None
            }
            Err(error) => return Err(error.into()),
        };
        if let Role::Follower(following) = &mut self.role {
            following.damaged = damaged;
        }
        Ok(Attached {
            id,
            leader_epoch: self.leader_epoch,
            log_start: self.log.log_start(),
            log_end,
            durable_end: self.log.durable_end(),
            tail: tail.map(|header| Tail {
                base: header.base_offset,
                crc: header.crc,
                leader_epoch: header.partition_leader_epoch,
            }),
            damaged,
            epochs: self.log.leader_epochs().entries().to_vec(),
        })
    }
}

/// The offset behind the last batch of a frame, as far as headers tell; the log checks the rest.
fn end_of(batches: &[u8]) -> Result<Offset, ReplicateError> {
    let (mut position, mut end) = (0, Offset::UNKNOWN);
    while let Some(rest) = batches.get(position..).filter(|rest| !rest.is_empty()) {
        let corrupt = |reason| ReplicateError::Corrupt { position, reason };
        let header = BatchHeader::read(rest).map_err(|error| corrupt(error.into()))?;
        end = header.next_offset();
        position += header.size_bytes();
    }
    Ok(end)
}
