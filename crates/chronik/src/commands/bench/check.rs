//! Whether what is read is what was written: batches whole and gapless, every acknowledged record there, once, byte for byte.
//!
//! Pure functions of bytes; fetching them is in `reading`.

use std::collections::VecDeque;

use chronik_model::Offset;
use chronik_record::{BatchHeader, Caps, HeaderError, RecordsError, crc_is_valid, records};
use thiserror::Error;

use super::content::Content;
use super::ledger::{Range, offset_after};

/// What is wrong with the records of a partition.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    /// The bytes at this offset are no record batch.
    #[error("there is no record batch at offset {offset}: {source}")]
    NoBatch { offset: Offset, source: HeaderError },
    /// A batch's checksum does not agree with its bytes.
    #[error("the batch at offset {offset} is damaged: its CRC-32C is wrong")]
    Crc { offset: Offset },
    /// A batch's records cannot be read.
    #[error("the batch at offset {offset} is unreadable: {source}")]
    Unreadable { offset: Offset, source: RecordsError },
    /// A batch does not begin where the one before ends.
    #[error("offset {found} follows where offset {expected} should")]
    Gap { expected: Offset, found: Offset },
    /// Two batches were acknowledged with the same offset.
    #[error("offset {offset} was acknowledged for two records")]
    AcknowledgedTwice { offset: Offset },
    /// There is another record than the one acknowledged.
    #[error("offset {offset} holds {} where record {expected} of this run was acknowledged", described(*found))]
    Record { offset: Offset, expected: u64, found: Option<u64> },
    /// A record of this run lies where none was acknowledged.
    #[error("offset {offset} holds record {number} of this run, which was not acknowledged there: a duplicate")]
    Duplicate { offset: Offset, number: u64 },
    /// A record's bytes are not those that were sent.
    #[error("record {number} of this run, at offset {offset}, differs from what was sent from byte {position} on")]
    Content { offset: Offset, number: u64, position: usize },
    /// An acknowledged record is not there.
    #[error("record {number} of this run was acknowledged with offset {offset}, and is not there")]
    Missing { offset: Offset, number: u64 },
}

impl PartialEq for Fault {
    /// Compared by what they say: the sources have no equality of their own.
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.to_string() == other.to_string()
    }
}

fn described(found: Option<u64>) -> String {
    found.map_or_else(|| "a record that is not of this run".to_owned(), |number| format!("record {number}"))
}

/// Walks the batches of one partition as fetches bring them, and holds them to their order and checksums.
#[derive(Debug)]
pub(crate) struct Walk {
    /// Where the next batch begins; the first may begin before it.
    next: Offset,
    begun: bool,
}

impl Walk {
    pub(crate) fn from(offset: Offset) -> Self {
        Self { next: offset, begun: false }
    }

    /// Where the next batch begins.
    pub(crate) fn next(&self) -> Offset {
        self.next
    }

    /// Gives each whole batch of `fetched` to `each`, once its place and checksum are found right.
    pub(crate) fn take(
        &mut self,
        fetched: &[u8],
        mut each: impl FnMut(&BatchHeader, &[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut rest = fetched;
        while let Some((header, batch)) = first_batch(&mut rest, self.next)? {
            let offset = header.base_offset;
            let in_place =
                if self.begun { offset == self.next } else { offset <= self.next && self.next < header.next_offset() };
            if !in_place {
                return Err(Fault::Gap { expected: self.next, found: offset });
            }
            if !crc_is_valid(batch) {
                return Err(Fault::Crc { offset });
            }
            self.begun = true;
            self.next = header.next_offset();
            each(&header, batch)?;
        }
        Ok(())
    }
}

/// The offset behind the whole batches of `fetched`, by their headers alone; `position` where there is none.
pub(crate) fn offset_behind(fetched: &[u8], position: Offset) -> Offset {
    let mut rest = fetched;
    let mut behind = position;
    while let Ok(Some((header, _))) = first_batch(&mut rest, position) {
        behind = behind.max(header.next_offset());
    }
    behind
}

/// Takes the first batch off `rest`; `None` where the rest is empty or the beginning of one, which the next fetch brings
/// whole.
fn first_batch<'a>(rest: &mut &'a [u8], offset: Offset) -> Result<Option<(BatchHeader, &'a [u8])>, Fault> {
    let header = match BatchHeader::read(rest) {
        Ok(header) => header,
        Err(HeaderError::TooShort { .. }) => return Ok(None),
        Err(source) => return Err(Fault::NoBatch { offset, source }),
    };
    let Some((batch, after)) = rest.split_at_checked(header.size_bytes()) else { return Ok(None) };
    *rest = after;
    Ok(Some((header, batch)))
}

/// Gives each record of a batch to `each`, by offset and value; a null value is an empty one.
pub(crate) fn values(
    header: &BatchHeader,
    batch: &[u8],
    record_bytes_max: usize,
    mut each: impl FnMut(Offset, &[u8]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let unreadable = |source| Fault::Unreadable { offset: header.base_offset, source };
    // Room for what surrounds the value.
    let caps = Caps { record_bytes_max: record_bytes_max.saturating_add(1 << 10), ..Caps::default() };
    let mut records = records(batch, &caps).map_err(unreadable)?;
    while let Some(record) = records.next_record().map_err(unreadable)? {
        each(record.offset, record.value.bytes().unwrap_or_default())?;
    }
    Ok(())
}

/// Compares the records of one partition, in the order of their offsets, with what was acknowledged.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    content: &'a Content,
    /// In the order of their offsets, not overlapping; the first may be compared in part.
    expected: VecDeque<Range>,
    /// Records of the first range that were found.
    found: u64,
    /// Records found in all.
    records: u64,
}

impl<'a> Comparison<'a> {
    /// `acknowledged` is in the order of offsets.
    pub(crate) fn new(content: &'a Content, acknowledged: Vec<Range>) -> Result<Self, Fault> {
        for pair in acknowledged.windows(2) {
            if let [earlier, later] = pair
                && later.base_offset < earlier.end()
            {
                return Err(Fault::AcknowledgedTwice { offset: later.base_offset });
            }
        }
        Ok(Self { content, expected: acknowledged.into(), found: 0, records: 0 })
    }

    /// Acknowledged records found so far.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Takes the record at `offset`.
    pub(crate) fn take(&mut self, offset: Offset, value: &[u8]) -> Result<(), Fault> {
        let expected = self.expected.front().filter(|range| range.base_offset <= offset);
        let Some(range) = expected else {
            return match self.content.number(value) {
                Some(number) => Err(Fault::Duplicate { offset, number }),
                None => Ok(()),
            };
        };
        let number = range.span.number(self.found);
        let due = offset_after(range.base_offset, self.found);
        if due != offset {
            return Err(Fault::Missing { offset: due, number });
        }
        self.content.check(offset, number, value)?;
        self.found = self.found.saturating_add(1);
        self.records = self.records.saturating_add(1);
        if self.found >= range.span.count {
            self.expected.pop_front();
            self.found = 0;
        }
        Ok(())
    }

    /// Whether all that was acknowledged has been found, at the end of what could be read.
    pub(crate) fn finish(self) -> Result<u64, Fault> {
        match self.expected.front() {
            Some(range) => Err(Fault::Missing {
                offset: offset_after(range.base_offset, self.found),
                number: range.span.number(self.found),
            }),
            None => Ok(self.records),
        }
    }
}

#[cfg(test)]
mod tests;
