//! Whether two streams of record batches are the same, and where they first are not.
//!
//! Bytes only: where they come from is not known here. Batches are compared whole, prefix included, since a replica has its
//! leader's very bytes; the checksum that comes out is over all of them and can be compared with another run's.

use std::fmt;

use bytes::Bytes;
use chronik_model::Offset;
use chronik_record::{BatchHeader, HeaderError, crc_is_valid};

/// What was found to be the same, from the beginning on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alike {
    /// One past the last record compared; the beginning where there was none.
    pub(super) next: Offset,
    pub(super) batches: u64,
    pub(super) bytes: u64,
    /// CRC-32C of these bytes.
    pub(super) crc32c: u32,
}

impl Alike {
    pub(super) fn from(beginning: Offset) -> Self {
        Self { next: beginning, batches: 0, bytes: 0, crc32c: 0 }
    }
}

/// What one side has where the two are not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Head {
    Batch {
        header: BatchHeader,
        /// CRC-32C of all its bytes, those included that the batch's own checksum leaves out.
        crc32c: u32,
        /// Whether the batch's own checksum fits: where it does not on one side, that side is damaged.
        sound: bool,
    },
    /// Bytes that are no batch, or one that cannot come here.
    Unreadable(String),
    /// No batch, though the high watermark is further on.
    Nothing,
}

/// The first batch that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// Everything before this is the same.
    pub(super) offset: Offset,
    pub(super) here: Head,
    pub(super) there: Head,
}

/// Compares batch by batch what both sides begin with, as far as both are whole and begin below `end`, and takes off what
/// is the same.
pub(super) fn compare(here: &mut Bytes, there: &mut Bytes, end: Offset, alike: &mut Alike) -> Option<Difference> {
    while alike.next < end {
        let (first_here, first_there) = match (First::of(here, alike.next), First::of(there, alike.next)) {
            (First::Cut(_), _) | (_, First::Cut(_)) => return None,
            firsts => firsts,
        };
        match (&first_here, &first_there) {
            (First::Batch(header, batch), First::Batch(_, other)) if batch == other => {
                alike.next = header.next_offset();
                alike.batches += 1;
                alike.bytes += batch.len() as u64;
                alike.crc32c = crc32c::crc32c_append(alike.crc32c, batch);
                *here = here.slice(batch.len()..);
                *there = there.slice(other.len()..);
            }
            _ => {
                return Some(Difference { offset: alike.next, here: first_here.head(), there: first_there.head() });
            }
        }
    }
    None
}

/// What both sides have where at least one of them, asked for `alike.next`, came with no whole batch.
pub(super) fn stuck(here: &Bytes, there: &Bytes, alike: &Alike) -> Difference {
    let (here, there) = (First::of(here, alike.next), First::of(there, alike.next));
    Difference { offset: alike.next, here: here.head(), there: there.head() }
}

/// What bytes begin with.
enum First {
    Batch(BatchHeader, Bytes),
    Unreadable(String),
    /// So many bytes of a batch, or none.
    Cut(usize),
}

impl First {
    /// `next` is the offset that the batch must hold.
    fn of(bytes: &Bytes, next: Offset) -> Self {
        match BatchHeader::read(bytes) {
            Err(HeaderError::TooShort { available }) => Self::Cut(available),
            Err(error) => Self::Unreadable(error.to_string()),
            Ok(header) if header.size_bytes() > bytes.len() => Self::Cut(bytes.len()),
            Ok(header) if header.next_offset() <= next => {
                Self::Unreadable(format!("batch at offset {} lies before offset {next}", header.base_offset))
            }
            Ok(header) => {
                let batch = bytes.slice(..header.size_bytes());
                Self::Batch(header, batch)
            }
        }
    }

    fn head(self) -> Head {
        match self {
            Self::Batch(header, batch) => {
                Head::Batch { header, crc32c: crc32c::crc32c(&batch), sound: crc_is_valid(&batch) }
            }
            Self::Unreadable(reason) => Head::Unreadable(reason),
            Self::Cut(0) => Head::Nothing,
            Self::Cut(bytes) => Head::Unreadable(format!("only {bytes} bytes of a batch")),
        }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch { header, crc32c, sound } => write!(
                f,
                "batch base-offset={} last-offset={} bytes={} records={} leader-epoch={} crc={:08x} crc32c={crc32c:08x} \
                 sound={sound}",
                header.base_offset,
                header.last_offset(),
                header.size_bytes(),
                header.records_count,
                header.partition_leader_epoch,
                header.crc
            ),
            Self::Unreadable(reason) => write!(f, "unreadable reason={reason}"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use chronik_model::{LeaderEpoch, Timestamp};
    use chronik_record::{BatchBuilder, Compression, PREFIX_BYTES, TimestampType, prefix};

    use super::*;

    /// A batch of these values in leader epoch 0, from `base_offset` on.
    fn batch(base_offset: i64, values: &[&str]) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, Timestamp::from_millis(1));
        for value in values {
            builder.append(Timestamp::from_millis(1), None, Some(value.as_bytes()), &[]);
        }
        let built = builder.build().unwrap();
        let mut bytes = BytesMut::from(&built.bytes()[..]);
        let head = prefix(Offset::new(base_offset), built.header().batch_length, LeaderEpoch::ZERO);
        bytes[..PREFIX_BYTES].copy_from_slice(&head);
        bytes.freeze()
    }

    fn log() -> Vec<Bytes> {
        vec![batch(0, &["a", "b"]), batch(2, &["c"]), batch(3, &["d", "e", "f"]), batch(6, &["g"])]
    }

    fn joined(batches: &[Bytes]) -> Bytes {
        batches.concat().into()
    }

    fn compared(here: &Bytes, there: &Bytes, end: i64) -> (Alike, Option<Difference>) {
        let mut alike = Alike::from(Offset::ZERO);
        let compared = compare(&mut here.clone(), &mut there.clone(), Offset::new(end), &mut alike);
        (alike, compared)
    }

    #[test]
    fn the_same_bytes_are_the_same_wherever_each_side_is_cut() {
        let all = joined(&log());
        for cut_here in 0..=all.len() {
            for cut_there in [0, 1, 70, cut_here, all.len()] {
                let (mut here, mut there) = (all.slice(..cut_here), all.slice(..cut_there));
                let mut alike = Alike::from(Offset::ZERO);
                assert_eq!(compare(&mut here, &mut there, Offset::new(7), &mut alike), None);
                // What is not whole comes again with the next fetch, from the first batch that was not compared on.
                let taken = usize::try_from(alike.bytes).unwrap();
                assert_eq!((here.len() + taken, there.len() + taken), (cut_here, cut_there));
                let (mut here, mut there) = (all.slice(taken..), all.slice(taken..));
                assert_eq!(compare(&mut here, &mut there, Offset::new(7), &mut alike), None);
                assert_eq!((alike.next.get(), alike.batches, alike.bytes), (7, 4, all.len() as u64));
                assert_eq!(alike.crc32c, crc32c::crc32c(&all));
                assert!(here.is_empty() && there.is_empty());
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_found_in_the_batch_it_is_in() {
        let batches = log();
        let all = joined(&batches);
        let mut starts = Vec::new();
        let mut at = 0;
        for (batch, offset) in batches.iter().zip([0, 2, 3, 6]) {
            starts.push((at, offset));
            at += batch.len();
        }
        for at in 0..all.len() {
            for bit in 0..8 {
                let mut flipped = all.to_vec();
                flipped[at] ^= 1 << bit;
                let flipped = Bytes::from(flipped);
                let (position, offset) = *starts.iter().rfind(|(start, _)| *start <= at).unwrap();
                for (here, there) in [(&all, &flipped), (&flipped, &all)] {
                    let (alike, outcome) = compared(here, there, 7);
                    assert_eq!((alike.next.get(), alike.bytes), (offset, position as u64), "byte {at} bit {bit}");
                    // A length that reaches too far may as well be a batch that comes whole with the next fetch.
                    if let Some(difference) = outcome {
                        assert_eq!(difference.offset.get(), offset, "byte {at} bit {bit}");
                        assert_ne!(difference.here, difference.there);
                        // Base offset, length and leader epoch lie outside of a batch's own checksum.
                        let sound = |head: &Head| matches!(head, Head::Batch { sound: true, .. });
                        let told = sound(&difference.here) != sound(&difference.there);
                        assert!(told || at - position < PREFIX_BYTES, "byte {at} bit {bit}");
                    } else {
                        assert!((8..12).contains(&(at - position)), "byte {at} bit {bit}");
                        let (here, there) = (here.slice(position..), there.slice(position..));
                        let difference = stuck(&here, &there, &alike);
                        let is_part =
                            |head: &Head| matches!(head, Head::Unreadable(reason) if reason.contains("of a batch"));
                        assert!(is_part(&difference.here) != is_part(&difference.there));
                    }
                }
            }
        }
    }

    #[test]
    fn what_lies_at_or_behind_the_end_is_not_compared() {
        let (here, there) = (joined(&log()), joined(&[log()[0].clone(), batch(2, &["other"])]));
        let (alike, outcome) = compared(&here, &there, 2);
        assert_eq!((alike.next.get(), outcome), (2, None));
        let (_, outcome) = compared(&here, &there, 3);
        let Difference { offset, here, there } = outcome.unwrap();
        assert_eq!(offset.get(), 2);
        let (Head::Batch { header, crc32c, .. }, Head::Batch { header: other, .. }) = (&here, &there) else {
            panic!("{here} {there}")
        };
        assert_eq!(*crc32c, crc32c::crc32c(&log()[1]));
        assert_eq!((header.size_bytes(), other.size_bytes()), (log()[1].len(), log()[1].len() + 4));
        let shown = here.to_string();
        assert!(
            shown.starts_with("batch base-offset=2 last-offset=2 bytes=69 records=1 leader-epoch=0 crc="),
            "{shown}"
        );
    }

    #[test]
    fn the_same_records_in_other_batches_differ() {
        let (here, there) = (batch(0, &["a", "b"]), joined(&[batch(0, &["a"]), batch(1, &["b"])]));
        assert_eq!(compared(&here, &there, 2).1.unwrap().offset, Offset::ZERO);
    }

    #[test]
    fn a_batch_that_was_not_asked_for_is_no_progress() {
        let stale = batch(0, &["a"]);
        let mut alike = Alike::from(Offset::new(1));
        let difference = compare(&mut stale.clone(), &mut stale.clone(), Offset::new(2), &mut alike).unwrap();
        assert!(matches!(&difference.here, Head::Unreadable(reason) if reason.contains("before offset 1")));
    }
}
