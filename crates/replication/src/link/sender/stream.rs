//! One partition on a link: attached, brought to agree, sent.

use std::collections::VecDeque;
use std::time::Duration;

use chronik_model::{Instant, LeaderEpoch, Offset};

use super::agree::{Agreement, common_end, is_cut_short};
use super::{Bounds, Effect, PartitionState};
use crate::message::{Attach, Attached, Frame, PartitionAck, Reset, ResetCause, Tail, TopicIdPartition, Truncate};

/// After this long a partition that could not be read or taken is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The follower may not know the partition yet.
    Waiting,
    /// An attach, truncate or reset was sent; the follower says what it has.
    Agreeing,
    /// The logs seem to agree; the last batch is compared.
    Comparing {
        /// The follower's log end, exclusive.
        log_end: Offset,
        /// Its durable end, exclusive.
        durable_end: Offset,
        /// Its log start, inclusive.
        log_start: Offset,
        /// Its last batch.
        tail: Tail,
    },
    /// The logs agree: data flows.
    Streaming,
    /// It could not be read here or taken there.
    Blocked(Instant),
}

/// Bounds that a follower was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    high_watermark: Offset,
    log_start: Offset,
    /// Whether it was told that the only segment holds nothing.
    is_emptied: bool,
}

/// What a sender knows of a partition.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) state: PartitionState,
    pub(super) stage: Stage,
    /// What was sent, exclusive end.
    pub(super) next: Offset,
    /// The follower's log end, exclusive.
    pub(super) acked: Offset,
    /// The follower's durable end, exclusive.
    pub(super) durable: Offset,
    /// Ends and sizes of the frames that were sent and are not acknowledged.
    pub(super) in_flight: VecDeque<(Offset, usize)>,
    /// Listed among those that have something to be read.
    pub(super) queued: bool,
    /// The bounds that the follower was told.
    told: Option<Told>,
    /// The log end the follower must come below, after a truncation.
    below: Option<Offset>,
    /// How many offsets before a differing batch the next cut goes; grows with each.
    back: i64,
}

impl Stream {
    pub(super) fn new(state: PartitionState) -> Self {
        Self {
            state,
            stage: Stage::Waiting,
            next: Offset::ZERO,
            acked: Offset::ZERO,
            durable: Offset::ZERO,
            in_flight: VecDeque::new(),
            queued: false,
            told: None,
            below: None,
            back: 0,
        }
    }

    /// Sends the attach where the follower has been sent the metadata that knows the partition; false where it has not.
    pub(super) fn attach_if_known(&mut self, journal_sent: Option<Offset>, effects: &mut Vec<Effect>) -> bool {
        if self.stage != Stage::Waiting {
            return true;
        }
        if journal_sent.is_none_or(|sent| sent < self.state.journal_end) {
            return false;
        }
        let state = &self.state;
        effects.push(Effect::Send(Frame::Attach(Attach {
            id: state.id,
            topic: std::sync::Arc::clone(&state.topic),
            leader_epoch: state.leader_epoch,
            log_start: state.bounds.log_start,
            first_segment: state.bounds.first_segment,
            high_watermark: state.bounds.high_watermark,
            epochs: state.epochs.clone(),
        })));
        (self.stage, self.told, self.below, self.back) = (Stage::Agreeing, None, None, 0);
        true
    }

    /// The follower says what it has.
    pub(super) fn attached(
        &mut self,
        attached: Attached,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        if self.stage != Stage::Agreeing || attached.leader_epoch != self.state.leader_epoch {
            // Of an attachment that is over.
            return Ok(());
        }
        let Attached { id, log_start, log_end, durable_end, tail, damaged, epochs, .. } = attached;
        if durable_end > log_end || log_start > log_end {
            return Err(format!("{id}: the follower's offsets are out of order"));
        }
        if let Some(below) = self.below.take().filter(|below| log_end >= *below) {
            return Err(format!("{id}: the follower did not cut its log below {below}, it ends at {log_end}"));
        }
        let bounds = self.state.bounds;
        if let Some(damaged) = damaged {
            if damaged >= log_end {
                return Err(format!("{id}: the follower is damaged at {damaged}, it ends at {log_end}"));
            }
            // What lies behind is compared when it is the end of the log.
            if damaged > log_start.max(bounds.first_segment) {
                self.truncate(log_end, damaged, effects);
            } else {
                self.reset(log_end, bounds.first_segment, ResetCause::Damaged, effects);
            }
            return Ok(());
        }
        let Some(tail) = tail else {
            // Of batches that are gone it may know a later epoch than the next ones have, and would refuse them.
            let takes_next =
                epochs.last().is_none_or(|latest| self.epoch_at(log_end).is_some_and(|next| latest.0 <= next));
            if log_end == bounds.first_segment && takes_next {
                self.stream(log_end, durable_end, effects);
            } else {
                self.reset(log_end, bounds.first_segment, ResetCause::Empty, effects);
            }
            return Ok(());
        };
        let common = common_end(&self.state.epochs, bounds.end, &epochs, log_end);
        let parts = match common {
            Agreement::Until(end) => end,
            Agreement::None => log_start,
        };
        let damaged =
            self.state.damaged.iter().any(|(from, to)| (*from..*to).contains(&parts) && bounds.log_start < *to);
        if damaged && parts < log_end && bounds.first_segment < log_end {
            // What this log has lost there, its epochs included, the follower may have.
            self.block(now);
            let detail = "the logs part where this one is damaged".into();
            effects.push(Effect::Unreadable { id, from: parts, detail });
            return Ok(());
        }
        match common {
            Agreement::Until(end) if end < log_end && end >= log_start => self.truncate(log_end, end, effects),
            Agreement::Until(end) if end < log_end => {
                self.reset(log_end, bounds.first_segment, ResetCause::Diverged, effects);
            }
            // What agrees, and retention has removed what comes next.
            Agreement::Until(_) if log_end < bounds.first_segment => {
                self.reset(log_end, bounds.first_segment, ResetCause::Retention, effects);
            }
            Agreement::Until(_) if log_end == bounds.first_segment => self.stream(log_end, durable_end, effects),
            Agreement::Until(_) => {
                self.stage = Stage::Comparing { log_end, durable_end, log_start, tail };
                effects.push(Effect::CompareTail { id, end: log_end, tail });
            }
            Agreement::None if log_end < bounds.first_segment => {
                self.reset(log_end, bounds.first_segment, ResetCause::Retention, effects);
            }
            // Older epochs of the follower were not sent: they are with the next answer.
            Agreement::None if is_cut_short(&epochs, log_start) => {
                let to = epochs.first().map_or(log_start, |first| first.1);
                self.truncate(log_end, to, effects);
            }
            Agreement::None => self.reset(log_end, bounds.first_segment, ResetCause::Diverged, effects),
        }
        Ok(())
    }

    /// The last batch was compared. Where it differs although the epochs agree, one node has led twice in one epoch: the
    /// cut goes back batch by batch, then in growing steps.
    pub(super) fn tail_compared(&mut self, end: Offset, same: Option<bool>, now: Instant, effects: &mut Vec<Effect>) {
        let Stage::Comparing { log_end, durable_end, log_start, tail } = self.stage else { return };
        if log_end != end {
            return;
        }
        match same {
            Some(true) => self.stream(log_end, durable_end, effects),
            Some(false) => {
                let to = tail.base.checked_add(-self.back).unwrap_or(Offset::ZERO);
                self.back = (self.back * 2).max(1);
                if to > log_start.max(self.state.bounds.first_segment) {
                    self.truncate(log_end, to, effects);
                } else {
                    self.reset(log_end, self.state.bounds.first_segment, ResetCause::Diverged, effects);
                }
            }
            None => {
                self.block(now);
                let detail = "the batch before it cannot be compared".into();
                effects.push(Effect::Unreadable { id: self.state.id, from: log_end, detail });
            }
        }
    }

    /// The leader epoch that the batch at an offset of this log has, or will have; `None` below what is known.
    fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let state = &self.state;
        if offset >= state.bounds.end {
            return Some(state.leader_epoch);
        }
        let begun = state.epochs.iter().rev().find(|(_, start)| *start <= offset);
        begun.map(|(leader_epoch, _)| *leader_epoch)
    }

    fn stream(&mut self, log_end: Offset, durable_end: Offset, effects: &mut Vec<Effect>) {
        self.stage = Stage::Streaming;
        (self.next, self.acked, self.durable, self.told) = (log_end, log_end, durable_end, None);
        let (id, leader_epoch) = (self.state.id, self.state.leader_epoch);
        effects.push(Effect::Attached { id, leader_epoch, log_end, durable_end });
    }

    fn truncate(&mut self, from: Offset, to: Offset, effects: &mut Vec<Effect>) {
        let (id, leader_epoch) = (self.state.id, self.state.leader_epoch);
        (self.stage, self.below) = (Stage::Agreeing, Some(from));
        effects.push(Effect::Truncating { id, from, to });
        effects.push(Effect::Send(Frame::Truncate(Truncate { id, leader_epoch, to })));
    }

    fn reset(&mut self, from: Offset, to: Offset, cause: ResetCause, effects: &mut Vec<Effect>) {
        let (id, leader_epoch) = (self.state.id, self.state.leader_epoch);
        self.stage = Stage::Agreeing;
        effects.push(Effect::Resetting { id, from, to, cause });
        effects.push(Effect::Send(Frame::Reset(Reset { id, leader_epoch, to, cause })));
    }

    /// Retention removed what comes next while data was flowing.
    pub(super) fn reset_to(&mut self, first_segment: Offset, effects: &mut Vec<Effect>) {
        self.state.bounds.first_segment = self.state.bounds.first_segment.max(first_segment);
        self.reset(self.next, self.state.bounds.first_segment, ResetCause::Retention, effects);
    }

    pub(super) fn block(&mut self, now: Instant) {
        self.stage = Stage::Blocked(now + RETRY);
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        if let Stage::Blocked(until) = self.stage { Some(until) } else { None }
    }

    /// A partition that was blocked for long enough is attached anew, since the follower may have closed it meanwhile.
    pub(super) fn retry(&mut self, now: Instant) {
        if self.retry_at().is_some_and(|until| now >= until) {
            self.stage = Stage::Waiting;
        }
    }

    pub(super) fn has_data(&self) -> bool {
        self.stage == Stage::Streaming && self.next < self.state.bounds.end
    }

    /// The bounds that the follower has not been told, now told.
    pub(super) fn untold(&mut self) -> Option<Bounds> {
        let bounds = self.state.bounds;
        let Bounds { high_watermark, log_start, first_segment, end } = bounds;
        let told = Told { high_watermark, log_start, is_emptied: first_segment == end };
        if self.stage != Stage::Streaming || self.told == Some(told) {
            return None;
        }
        self.told = Some(told);
        Some(bounds)
    }

    pub(super) fn sent(&mut self, end: Offset, bytes: usize) {
        self.next = end;
        self.in_flight.push_back((end, bytes));
        let Bounds { high_watermark, log_start, .. } = self.state.bounds;
        self.told = Some(Told { high_watermark, log_start, is_emptied: false });
    }

    /// Takes an acknowledgement; returns how many frames and bytes it is of.
    pub(super) fn acked(&mut self, ack: &PartitionAck) -> Result<(usize, usize), String> {
        if ack.log_end > self.next || ack.log_end < self.acked || ack.durable_end > ack.log_end {
            return Err(format!(
                "{}: acknowledged {} and durable {}, sent {} and acknowledged {} before",
                ack.id, ack.log_end, ack.durable_end, self.next, self.acked
            ));
        }
        self.acked = ack.log_end;
        self.durable = self.durable.max(ack.durable_end);
        let (mut frames, mut bytes) = (0, 0);
        while let Some((_, size)) = self.in_flight.pop_front_if(|(end, _)| *end <= ack.log_end) {
            frames += 1;
            bytes += size;
        }
        Ok((frames, bytes))
    }

    pub(super) fn forget_in_flight(&mut self) -> (usize, usize) {
        let bytes = self.in_flight.iter().map(|(_, bytes)| bytes).sum();
        let frames = self.in_flight.len();
        self.in_flight.clear();
        (frames, bytes)
    }

    pub(super) fn check_invariants(&self, id: TopicIdPartition) {
        if self.stage == Stage::Streaming {
            let end = self.state.bounds.end;
            assert!(
                self.acked <= self.next && self.next <= end && self.durable <= self.acked,
                "{id}: durable {} acked {} next {} end {end}",
                self.durable,
                self.acked,
                self.next
            );
        }
        assert!(
            self.stage == Stage::Streaming || self.in_flight.is_empty(),
            "{id}: frames in flight in {:?}",
            self.stage
        );
    }
}
