//! Loading: a shard becomes what its log says, record by record.

use std::sync::Arc;

use super::{GroupShard, Now, Phase, TimerKey, Turn, split};
use crate::Effect;
use crate::codec::{CodecError, GroupMetadataValue, Key, OffsetCommitValue};
use crate::group::{ClassicGroup, Group, Offsets};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// The shard changed, or was already as the record says.
    Applied,
    /// The record is of a type this coordinator does not keep; Kafka's number for it.
    Skipped(i16),
}

/// A record cannot be what it should be. The shard is unchanged: a shell that goes on serves as if the record had never
/// been written, so it says so in its log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The key cannot be read.
    #[error("malformed key: {0}")]
    Key(#[source] CodecError),
    /// The value cannot be read.
    #[error("malformed value of {key:?}: {error}")]
    Value {
        /// What the record is about.
        key: Key,
        /// What is wrong with it.
        #[source]
        error: CodecError,
    },
    /// The shard neither loads nor follows.
    #[error("the shard is not loading")]
    NotLoading,
}

impl GroupShard {
    /// Applies a record of the log; `value` is none for a tombstone. Records come in the order of their offsets.
    ///
    /// # Errors
    /// The record is malformed, or the shard is already loaded.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<Replayed, ReplayError> {
        if !matches!(self.phase, Phase::Loading | Phase::Following) {
            return Err(ReplayError::NotLoading);
        }
        match Key::decode(key).map_err(ReplayError::Key)? {
            Key::OffsetCommit { group_id, topic, partition } => {
                let decoded = value.map(OffsetCommitValue::decode).transpose();
                match decoded {
                    Ok(decoded) => self.replay_offset(group_id, topic, partition, decoded),
                    Err(error) => {
                        let key = Key::OffsetCommit { group_id, topic, partition };
                        return Err(ReplayError::Value { key, error });
                    }
                }
            }
            Key::GroupMetadata { group_id } => {
                let decoded = value.map(GroupMetadataValue::decode).transpose();
                match decoded {
                    Ok(decoded) => self.replay_group(group_id.into(), decoded),
                    Err(error) => return Err(ReplayError::Value { key: Key::GroupMetadata { group_id }, error }),
                }
            }
            Key::Other(record_type) => return Ok(Replayed::Skipped(record_type)),
        }
        Ok(Replayed::Applied)
    }

    /// The partition is led elsewhere, and what was replayed of its copy here may be told: groups and offsets are read, every
    /// other request is refused, and the replay goes on.
    pub fn follow(&mut self) {
        assert_eq!(self.phase, Phase::Loading, "a shard follows from its loading on");
        self.phase = Phase::Following;
    }

    /// The log is replayed to its end: requests are served from here on, and sessions begin.
    pub fn loaded(&mut self, now: Now, effects: &mut Vec<Effect>) {
        assert_eq!(self.phase, Phase::Loading, "a shard is loaded once");
        self.phase = Phase::Active;
        self.timers.schedule(now.monotonic, TimerKey::Cleanup, self.config.offsets_retention_check_interval);
        let (groups, mut turn) = split!(self, now, effects);
        for group in groups.values_mut() {
            group.classic.loaded(&mut turn);
        }
    }

    fn replay_offset(&mut self, group_id: String, topic: String, partition: i32, value: Option<OffsetCommitValue>) {
        match (self.groups.get_mut(group_id.as_str()), value) {
            (Some(group), Some(value)) => group.offsets.insert(topic, partition, value),
            (Some(group), None) => group.offsets.remove(&topic, partition),
            // Offsets of a group that has no record make it a simple group.
            (None, Some(value)) => {
                let group_id: Arc<str> = group_id.into();
                let classic = ClassicGroup::new(Arc::clone(&group_id), None);
                let mut offsets = Offsets::default();
                offsets.insert(topic, partition, value);
                self.groups.insert(group_id, Group { classic, offsets });
            }
            (None, None) => {}
        }
    }

    fn replay_group(&mut self, group_id: Arc<str>, value: Option<GroupMetadataValue>) {
        match value {
            Some(value) => {
                let classic = ClassicGroup::from_record(Arc::clone(&group_id), value);
                let offsets = self.groups.remove(&group_id).map(|group| group.offsets).unwrap_or_default();
                self.groups.insert(group_id, Group { classic, offsets });
            }
            None => {
                let Some(group) = self.groups.get_mut(&group_id) else { return };
                if group.offsets.is_empty() {
                    self.groups.remove(&group_id);
                } else {
                    group.classic = ClassicGroup::new(group_id, None);
                }
            }
        }
    }
}
