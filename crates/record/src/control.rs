//! Control batches: one record each, written by brokers, skipped by clients, taking offsets all the same.

use chronik_model::{ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::{BatchBuilder, BuildError, Compression, ProducedBatch, Record, TimestampType};

const KEY_VERSION: i16 = 0;
const MARKER_VERSION: i16 = 0;

/// What a control record says; the number in its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlType {
    /// A transaction was aborted.
    Abort,
    /// A transaction was committed.
    Commit,
    /// A quorum has another leader.
    LeaderChange,
    /// A snapshot begins.
    SnapshotHeader,
    /// A snapshot ends.
    SnapshotFooter,
    /// The quorum's protocol version.
    KraftVersion,
    /// The quorum's voters.
    KraftVoters,
    /// A type this version does not know; readers skip it.
    Unknown(i16),
}

impl ControlType {
    /// The type by its number.
    pub fn from_id(id: i16) -> Self {
        match id {
            0 => Self::Abort,
            1 => Self::Commit,
            2 => Self::LeaderChange,
            3 => Self::SnapshotHeader,
            4 => Self::SnapshotFooter,
            5 => Self::KraftVersion,
            6 => Self::KraftVoters,
            other => Self::Unknown(other),
        }
    }

    /// Reads the type from the key of a control record; `None` where the key is cut or its version negative.
    pub fn read(key: &[u8]) -> Option<Self> {
        let (version, rest) = key.split_first_chunk()?;
        let (id, _) = rest.split_first_chunk()?;
        // Later versions may append fields.
        (i16::from_be_bytes(*version) >= KEY_VERSION).then(|| Self::from_id(i16::from_be_bytes(*id)))
    }
}

/// The end of a producer's transaction in a partition (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// Whether the transaction was committed; otherwise it was aborted.
    pub committed: bool,
    /// The epoch of the transaction coordinator that decided.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// Reads the marker out of a control record; `None` where the record is not one.
    pub fn read(record: &Record<'_>) -> Option<Self> {
        let committed = match ControlType::read(record.key.bytes()?)? {
            ControlType::Commit => true,
            ControlType::Abort => false,
            _ => return None,
        };
        let (version, rest) = record.value.bytes()?.split_first_chunk()?;
        let (coordinator_epoch, _) = rest.split_first_chunk()?;
        let coordinator_epoch = i32::from_be_bytes(*coordinator_epoch);
        (i16::from_be_bytes(*version) >= MARKER_VERSION).then_some(Self { committed, coordinator_epoch })
    }

    /// The control batch with this marker for the transaction of a producer.
    pub fn to_batch(
        self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        now: Timestamp,
    ) -> Result<ProducedBatch, BuildError> {
        let mut key = Vec::with_capacity(4);
        key.extend(KEY_VERSION.to_be_bytes());
        key.extend(i16::from(self.committed).to_be_bytes());
        let mut value = Vec::with_capacity(6);
        value.extend(MARKER_VERSION.to_be_bytes());
        value.extend(self.coordinator_epoch.to_be_bytes());
        let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, now)
            .producer(producer_id, producer_epoch, Sequence::NONE)
            .transactional()
            .control();
        builder.append(now, Some(&key), Some(&value), &[]);
        builder.build()
    }
}

/// The first record of a control batch gives its type; `None` where `batch` is not a readable control batch.
pub fn control_type(batch: &[u8]) -> Option<ControlType> {
    let mut records = crate::records(batch, &crate::Caps::default()).ok()?;
    if !records.header().attributes.is_control() {
        return None;
    }
    let record = records.next_record().ok()??;
    ControlType::read(record.key.bytes()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Caps;

    #[test]
    fn marker_reads_back_from_its_batch() {
        for committed in [true, false] {
            let marker = EndTxnMarker { committed, coordinator_epoch: 7 };
            let batch = marker.to_batch(ProducerId::new(3), ProducerEpoch::new(2), Timestamp::from_millis(5)).unwrap();
            assert!(batch.header().attributes.is_control() && batch.header().attributes.is_transactional());
            let mut records = crate::records(batch.bytes(), &Caps::default()).unwrap();
            assert_eq!(EndTxnMarker::read(&records.next_record().unwrap().unwrap()), Some(marker));
            let expected = if committed { ControlType::Commit } else { ControlType::Abort };
            assert_eq!(control_type(batch.bytes()), Some(expected));
        }
    }

    #[test]
    fn key_of_a_later_version_still_names_its_type() {
        assert_eq!(ControlType::read(&[0, 1, 0, 1, 9, 9]), Some(ControlType::Commit));
        assert_eq!(ControlType::read(&[0, 0, 0, 42]), Some(ControlType::Unknown(42)));
        assert_eq!(ControlType::read(&[0xff, 0xff, 0, 1]), None);
        assert_eq!(ControlType::read(&[0, 0, 0]), None);
    }
}
