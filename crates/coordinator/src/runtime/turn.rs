//! One input's view of a shard: the time, the timers, and where records and replies go. Groups change themselves
//! through it, and never see other groups.

use std::time::Duration;

use bytes::Bytes;
use chronik_model::{Instant, Timestamp, Uuid};

use super::timer::{TimerKey, Timers};
use super::{Config, CoordinatorRecord, Counters, Effect};
use crate::codec::CodecError;
use crate::message::Response;

/// Names a request towards the shell, which chose it; the shell finds the connection by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyToken(pub u64);

/// Names an append of a shard. Tokens grow by one from 1 with every append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct AppendToken(pub u64);

/// The two clocks at an input: the monotonic one measures time-outs, the wall clock goes into records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For time-outs; must not go back between inputs.
    pub monotonic: Instant,
    /// For records; may jump.
    pub wall: Timestamp,
}

/// Which appends there are and how far they are committed: `committed <= last`.
#[derive(Debug, Default)]
pub(crate) struct Appends {
    pub(crate) last: AppendToken,
    pub(crate) committed: AppendToken,
}

pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a Config,
    pub(crate) timers: &'a mut Timers,
    pub(crate) appends: &'a mut Appends,
    pub(crate) ids: &'a mut (dyn FnMut() -> Uuid + Send),
    pub(crate) counters: &'a mut Counters,
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    pub(crate) fn schedule(&mut self, key: TimerKey, delay: Duration) {
        self.timers.schedule(self.now.monotonic, key, delay);
    }

    /// Emits one append, which the shell makes one record batch of.
    pub(crate) fn append(&mut self, records: Vec<CoordinatorRecord>) -> AppendToken {
        let token = AppendToken(self.appends.last.0 + 1);
        self.appends.last = token;
        self.counters.appends += 1;
        self.counters.records += records.len() as u64;
        self.effects.push(Effect::Append { token, records });
        token
    }

    /// Emits records that need not stand together, in as many appends as their size asks for. The last one's token.
    pub(crate) fn append_split(&mut self, records: Vec<CoordinatorRecord>) -> Option<AppendToken> {
        let mut last = None;
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        for record in records {
            let bytes = record.size_bytes();
            if !batch.is_empty() && batch_bytes + bytes > self.config.append_bytes_max {
                last = Some(self.append(std::mem::take(&mut batch)));
                batch_bytes = 0;
            }
            batch_bytes += bytes;
            batch.push(record);
        }
        if !batch.is_empty() {
            last = Some(self.append(batch));
        }
        last
    }

    /// Whether the records fit one append.
    pub(crate) fn fits(&self, records: &[CoordinatorRecord]) -> bool {
        records.iter().map(CoordinatorRecord::size_bytes).sum::<usize>() <= self.config.append_bytes_max
    }

    pub(crate) fn is_committed(&self, token: AppendToken) -> bool {
        token <= self.appends.committed
    }

    pub(crate) fn reply(&mut self, token: ReplyToken, response: Response) {
        self.effects.push(Effect::Reply { token, response, after: None });
    }

    /// Emits a reply that leaves once `append` is committed; at once where it already is.
    pub(crate) fn reply_after(&mut self, token: ReplyToken, response: Response, append: AppendToken) {
        let after = Some(append).filter(|append| !self.is_committed(*append));
        self.effects.push(Effect::Reply { token, response, after });
    }
}

impl CoordinatorRecord {
    pub(crate) fn new(
        key: Result<Bytes, CodecError>,
        value: Option<Result<Bytes, CodecError>>,
    ) -> Result<Self, CodecError> {
        Ok(Self { key: key?, value: value.transpose()? })
    }

    /// What the record takes in a batch, with room for its framing.
    pub(crate) fn size_bytes(&self) -> usize {
        const FRAMING_BYTES_MAX: usize = 24;
        FRAMING_BYTES_MAX + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}
