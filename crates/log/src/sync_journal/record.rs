//! What one group commit leaves in the journal, byte by byte. No IO here.
//!
//! ```text
//! 0   4  "CHSJ"
//! 4   4  CRC-32C of everything behind it
//! 8   4  length of the record, this head included
//! 12  4  number of entries
//! 16  8  the filling of the file that it belongs to
//! 24  8  where in the file it begins
//! 32     entries, each: topic id (16), partition (4), base offset of the segment (8), position in it (8), length of the
//!        bytes (4), length of the topic's name (2), the name, the bytes
//! ```
//!
//! Numbers are big-endian. A record begins at a multiple of [`ALIGNMENT`], so that writing one never touches a block that has
//! part of another.

use chronik_model::{Offset, PartitionIndex, TopicId, Uuid};

/// Records begin at multiples of this, in bytes.
pub(super) const ALIGNMENT: usize = 4096;
/// Bytes before a record's entries.
pub(super) const HEAD_BYTES: usize = 32;
/// Bytes of an entry before its name.
const ENTRY_HEAD_BYTES: usize = 42;
const MAGIC: [u8; 4] = *b"CHSJ";

/// Some bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) topic_id: TopicId,
    pub(super) topic: &'a str,
    pub(super) partition: PartitionIndex,
    /// Base offset of the segment.
    pub(super) segment: Offset,
    /// Where in the segment's file the bytes lie.
    pub(super) position: u64,
    pub(super) bytes: &'a [u8],
}

/// A record that is being put together.
#[derive(Debug, Default)]
pub(super) struct Builder {
    bytes: Vec<u8>,
    entries: u32,
}

impl Builder {
    /// How long the record would be on file with one more entry.
    pub(super) fn len_with(&self, topic: &str, bytes: usize) -> u64 {
        let len = self.bytes.len().max(HEAD_BYTES) + ENTRY_HEAD_BYTES + topic.len() + bytes;
        len.next_multiple_of(ALIGNMENT) as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Begins a new record; what was put together is dropped, its memory is kept.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.entries = 0;
    }

    /// Adds an entry of `len` bytes, which `read` fills in.
    pub(super) fn add<E>(
        &mut self,
        entry: Entry<'_>,
        len: u32,
        read: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.bytes.is_empty() {
            self.bytes.resize(HEAD_BYTES, 0);
        }
        let before = self.bytes.len();
        self.bytes.extend_from_slice(entry.topic_id.0.as_bytes());
        self.bytes.extend_from_slice(&entry.partition.get().to_be_bytes());
        self.bytes.extend_from_slice(&entry.segment.get().to_be_bytes());
        self.bytes.extend_from_slice(&entry.position.to_be_bytes());
        self.bytes.extend_from_slice(&len.to_be_bytes());
        // Topic names have at most 249 characters.
        self.bytes.extend_from_slice(&u16::try_from(entry.topic.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.bytes.extend_from_slice(entry.topic.as_bytes());
        let from = self.bytes.len();
        self.bytes.resize(from + len as usize, 0);
        let filled = read(self.bytes.get_mut(from..).unwrap_or_default());
        match filled {
            Ok(()) => self.entries += 1,
            Err(_) => self.bytes.truncate(before),
        }
        filled
    }

    /// The record, for the place where it is to be written, with zeros up to the next multiple of [`ALIGNMENT`].
    pub(super) fn finish(&mut self, filling: u64, position: u64) -> &[u8] {
        let len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&len.to_be_bytes());
        head[12..16].copy_from_slice(&self.entries.to_be_bytes());
        head[16..24].copy_from_slice(&filling.to_be_bytes());
        head[24..].copy_from_slice(&position.to_be_bytes());
        if let Some(target) = self.bytes.first_chunk_mut::<HEAD_BYTES>() {
            *target = head;
        }
        let crc = crc32c::crc32c(self.bytes.get(8..).unwrap_or_default());
        if let Some(target) = self.bytes.get_mut(4..8) {
            target.copy_from_slice(&crc.to_be_bytes());
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        &self.bytes
    }
}

/// The length that a record's head claims; `None` where it is not the head of a record of this filling at this position.
pub(super) fn claimed_len(head: &[u8; HEAD_BYTES], filling: u64, position: u64) -> Option<usize> {
    let mut fields = Fields(head);
    let is_ours = fields.take::<4>()? == MAGIC;
    fields.take::<4>()?;
    let len = fields.u32()? as usize;
    fields.u32()?;
    let is_ours = is_ours && fields.u64()? == filling && fields.u64()? == position;
    (is_ours && len >= HEAD_BYTES).then_some(len)
}

/// The entries of a whole record; `None` where it is not what was written.
pub(super) fn parse(record: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut fields = Fields(record);
    fields.take::<4>()?;
    let crc = fields.u32()?;
    if crc32c::crc32c(fields.0) != crc {
        return None;
    }
    fields.u32()?;
    let count = fields.u32()?;
    fields.take::<16>()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let topic_id = TopicId(Uuid::from_bytes(fields.take::<16>()?));
        let partition = PartitionIndex::new(fields.u32()?.cast_signed());
        let segment = Offset::new(fields.u64()?.cast_signed());
        let position = fields.u64()?;
        let (len, name_len) = (fields.u32()? as usize, u16::from_be_bytes(fields.take::<2>()?));
        let topic = std::str::from_utf8(fields.slice(usize::from(name_len))?).ok()?;
        entries.push(Entry { topic_id, topic, partition, segment, position, bytes: fields.slice(len)? });
    }
    fields.0.is_empty().then_some(entries)
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(slice)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.slice(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(topic: &'a str, bytes: &'a [u8]) -> Entry<'a> {
        Entry {
            topic_id: TopicId(Uuid::from_random([7; 16])),
            topic,
            partition: PartitionIndex::new(3),
            segment: Offset::new(1_000),
            position: 77,
            bytes,
        }
    }

    fn finish(builder: &mut Builder) -> Vec<u8> {
        let padded = builder.finish(1, 0);
        padded[..claimed_len(padded.first_chunk().unwrap(), 1, 0).unwrap()].to_owned()
    }

    fn add(builder: &mut Builder, entry: Entry<'_>) {
        let len = u32::try_from(entry.bytes.len()).unwrap();
        builder
            .add(entry, len, |target| {
                target.copy_from_slice(entry.bytes);
                Ok::<_, ()>(())
            })
            .unwrap();
    }

    #[test]
    fn what_is_written_is_read() {
        let mut builder = Builder::default();
        assert!(builder.is_empty());
        let entries = [entry("a", b"one"), entry("b.c-d_e", &[]), entry("x", &[9; 10_000])];
        let mut len = HEAD_BYTES;
        for entry in entries {
            let padded = builder.len_with(entry.topic, entry.bytes.len());
            add(&mut builder, entry);
            len += ENTRY_HEAD_BYTES + entry.topic.len() + entry.bytes.len();
            assert_eq!(padded, len.next_multiple_of(ALIGNMENT) as u64);
        }
        let padded = builder.finish(5, 8192).to_owned();
        assert_eq!(padded.len(), len.next_multiple_of(ALIGNMENT));
        let (record, rest) = padded.split_at(len);
        assert!(rest.iter().all(|byte| *byte == 0));
        let head = record.first_chunk().unwrap();
        assert_eq!(claimed_len(head, 5, 8192), Some(len));
        assert_eq!(claimed_len(head, 4, 8192), None);
        assert_eq!(claimed_len(head, 5, 4096), None);
        assert_eq!(parse(record).unwrap(), entries);
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_not_there() {
        let mut builder = Builder::default();
        add(&mut builder, entry("a", b"one"));
        assert_eq!(builder.add(entry("b", b""), 5, |_| Err("no")), Err("no"));
        add(&mut builder, entry("c", b"three"));
        let record = finish(&mut builder);
        let topics: Vec<_> = parse(&record).unwrap().iter().map(|entry| entry.topic.to_owned()).collect();
        assert_eq!(topics, ["a", "c"]);
    }

    #[test]
    fn any_flipped_bit_and_any_cut_make_a_record_unreadable() {
        let mut builder = Builder::default();
        add(&mut builder, entry("topic", b"some bytes"));
        add(&mut builder, entry("t", b"more"));
        let record = finish(&mut builder);
        for bit in 32..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&flipped), None, "bit {bit}");
        }
        for len in 0..record.len() {
            assert_eq!(parse(&record[..len]), None, "length {len}");
        }
    }
}
