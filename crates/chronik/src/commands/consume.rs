//! `chronik consume`: records to standard output, one line each.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

use chronik_client::{Client, ClientError, FetchLimits, Fetched, OffsetAt};
use chronik_model::{Offset, PartitionIndex};
use chronik_record::{BatchHeader, Caps, Field, records};

use super::{Session, Stop, say};
use crate::cli::{Begin, Consume};
use crate::problem::Problem;

const LIMITS: FetchLimits =
    FetchLimits { wait_max: Duration::from_secs(5), bytes_max: 8 << 20, partition_bytes_max: 1 << 20 };

/// Records are shown whole up to the largest that a frame of Kafka's default size can hold.
const RECORD_BYTES_MAX: usize = 100 << 20;

pub(crate) async fn run(command: Consume, variables: &[(String, String)]) -> Result<(), Stop> {
    let mut session = Session::open(&command.bootstrap, variables).await?;
    let mut out = BufWriter::new(io::stdout().lock());
    let caps = Caps { record_bytes_max: RECORD_BYTES_MAX, ..Caps::default() };
    let mut lines = Lines { out: &mut out, print_key: command.print_key, left: command.max_messages, caps };
    let (mut positions, ends) = match begin(&mut session.client, &command).await {
        Ok(begun) => begun,
        Err(error) => return Err(session.explain(&error).into()),
    };
    loop {
        if let Some(ends) = &ends {
            positions.retain(|partition, position| ends.get(partition).is_some_and(|end| *position < *end));
        }
        if positions.is_empty() || lines.left == Some(0) {
            return Ok(());
        }
        let fetched = match session.client.fetch(&command.topic, &positions, LIMITS).await {
            Ok(fetched) => fetched,
            Err(error) if error.is_offset_out_of_range() => {
                say("records were deleted before they were read; going on with the first ones kept");
                match clamp(&mut session.client, &command.topic, &mut positions).await {
                    Ok(()) => continue,
                    Err(error) => return Err(session.explain(&error).into()),
                }
            }
            Err(error) => return Err(session.explain(&error).into()),
        };
        for fetched in &fetched {
            let end = ends.as_ref().and_then(|ends| ends.get(&fetched.partition));
            if let Some(position) = positions.get_mut(&fetched.partition) {
                *position = lines.write(&command.topic, fetched, *position, end.copied())?;
            }
        }
        // Between two fetches everything fetched is visible, also to a reader at the other end of a pipe.
        lines.out.flush()?;
    }
}

type Positions = BTreeMap<PartitionIndex, Offset>;

/// Where each partition begins, and where it ends if the command is to stop there.
async fn begin(client: &mut Client, command: &Consume) -> Result<(Positions, Option<Positions>), ClientError> {
    let topic = client.topic(&command.topic).await?;
    let partitions: Vec<PartitionIndex> = match command.partition {
        Some(index) => vec![PartitionIndex::new(index)],
        None => topic.partitions.keys().copied().collect(),
    };
    let mut positions = Positions::new();
    let mut ends = Positions::new();
    for partition in partitions {
        let start = client.offset(&command.topic, partition, OffsetAt::Start).await?.unwrap_or(Offset::ZERO);
        let end = client.offset(&command.topic, partition, OffsetAt::End).await?.unwrap_or(start);
        let position = match command.from {
            Begin::Start => start,
            Begin::End => end,
            Begin::Offset(offset) => {
                let within = Offset::new(offset).clamp(start, end.max(start));
                if within.get() != offset {
                    say(&format!("partition {partition} holds offsets {start} to {end}; beginning at {within}"));
                }
                within
            }
        };
        positions.insert(partition, position);
        ends.insert(partition, end);
    }
    Ok((positions, command.exit_at_end.then_some(ends)))
}

/// Moves positions that are no longer, or not yet, in their partition to the nearest that is.
async fn clamp(client: &mut Client, topic: &str, positions: &mut Positions) -> Result<(), ClientError> {
    for (&partition, position) in positions.iter_mut() {
        let start = client.offset(topic, partition, OffsetAt::Start).await?.unwrap_or(Offset::ZERO);
        let end = client.offset(topic, partition, OffsetAt::End).await?.unwrap_or(start);
        *position = (*position).clamp(start, end.max(start));
    }
    Ok(())
}

/// Standard output, and how records become lines of it.
struct Lines<'a, W: Write> {
    out: &'a mut W,
    print_key: bool,
    /// Records that may still be written.
    left: Option<u64>,
    caps: Caps,
}

impl<W: Write> Lines<'_, W> {
    /// Writes the records at `position` and after, before `end` (exclusive), and returns the next position.
    fn write(
        &mut self,
        topic: &str,
        fetched: &Fetched,
        mut position: Offset,
        end: Option<Offset>,
    ) -> Result<Offset, Stop> {
        let damaged = |at: Offset, error: &dyn std::fmt::Display| {
            Problem::new(
                format!("partition {topic}-{} has an unreadable batch at offset {at}: {error}", fetched.partition),
                "--from OFFSET with a later offset goes on behind it",
            )
        };
        let mut rest: &[u8] = &fetched.records;
        // A broker may cut the last batch short; the next fetch brings it whole.
        while let Ok(header) = BatchHeader::read(rest)
            && let Some((batch, after)) = rest.split_at_checked(header.size_bytes())
        {
            rest = after;
            if header.next_offset() <= position {
                continue;
            }
            if header.attributes.is_control() {
                position = header.next_offset();
                continue;
            }
            let mut records = records(batch, &self.caps).map_err(|error| damaged(header.base_offset, &error))?;
            while let Some(record) = records.next_record().map_err(|error| damaged(header.base_offset, &error))? {
                if record.offset < position {
                    continue;
                }
                if self.left == Some(0) || end.is_some_and(|end| record.offset >= end) {
                    return Ok(record.offset);
                }
                if self.print_key {
                    write_field(self.out, record.key)?;
                    self.out.write_all(b"\t")?;
                }
                write_field(self.out, record.value)?;
                self.out.write_all(b"\n")?;
                self.left = self.left.map(|left| left.saturating_sub(1));
                position = record.offset.next();
            }
            position = header.next_offset();
        }
        Ok(position)
    }
}

fn write_field(out: &mut impl Write, field: Field<'_>) -> io::Result<()> {
    match field {
        Field::Null => out.write_all(b"null"),
        Field::Bytes(bytes) => out.write_all(bytes),
        Field::Skipped { bytes } => write!(out, "<{bytes} bytes, too large to show>"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use chronik_model::{LeaderEpoch, Timestamp};
    use chronik_record::{BatchBuilder, Compression, PREFIX_BYTES, TimestampType, prefix};

    use super::*;

    fn batch(base_offset: i64, records: &[(Option<&str>, Option<&str>)], control: bool) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::Zstd, TimestampType::Create, Timestamp::from_millis(1));
        if control {
            builder = builder.control();
        }
        for (key, value) in records {
            builder.append(Timestamp::from_millis(1), key.map(str::as_bytes), value.map(str::as_bytes), &[]);
        }
        let built = builder.build().unwrap();
        let mut bytes = BytesMut::from(&built.bytes()[..]);
        let head = prefix(Offset::new(base_offset), built.header().batch_length, LeaderEpoch::ZERO);
        bytes[..PREFIX_BYTES].copy_from_slice(&head);
        bytes.freeze()
    }

    fn written(
        bytes: &[Bytes],
        position: i64,
        end: Option<i64>,
        print_key: bool,
        left: Option<u64>,
    ) -> (String, i64, Option<u64>) {
        let fetched = Fetched {
            partition: PartitionIndex::new(0),
            records: bytes.concat().into(),
            high_watermark: Offset::ZERO,
            log_start: Offset::ZERO,
        };
        let mut out = Vec::new();
        let mut lines = Lines { out: &mut out, print_key, left, caps: Caps::default() };
        let next = lines.write("t", &fetched, Offset::new(position), end.map(Offset::new)).unwrap();
        let left = lines.left;
        (String::from_utf8(out).unwrap(), next.get(), left)
    }

    #[test]
    fn records_before_the_position_and_from_the_end_on_are_not_written() {
        let batches = [
            batch(0, &[(None, Some("a")), (None, Some("b"))], false),
            batch(2, &[(None, Some("c")), (None, Some("d"))], false),
        ];
        assert_eq!(written(&batches, 0, None, false, None), ("a\nb\nc\nd\n".to_owned(), 4, None));
        assert_eq!(written(&batches, 1, Some(3), false, None), ("b\nc\n".to_owned(), 3, None));
        assert_eq!(written(&batches, 2, None, false, Some(1)), ("c\n".to_owned(), 3, Some(0)));
        assert_eq!(written(&[], 7, None, false, None), (String::new(), 7, None));
    }

    #[test]
    fn keys_and_nulls_are_written_as_asked() {
        let batches = [batch(0, &[(Some("k"), Some("v")), (None, None), (Some(""), Some(""))], false)];
        assert_eq!(written(&batches, 0, None, true, None).0, "k\tv\nnull\tnull\n\t\n");
        assert_eq!(written(&batches, 0, None, false, None).0, "v\nnull\n\n");
    }

    #[test]
    fn control_batches_and_gaps_are_passed_over() {
        let batches = [batch(3, &[(Some("x"), Some("y"))], true), batch(9, &[(None, Some("a"))], false)];
        assert_eq!(written(&batches, 0, None, false, None), ("a\n".to_owned(), 10, None));
        assert_eq!(written(&batches[..1], 0, None, false, None), (String::new(), 4, None));
    }

    #[test]
    fn a_batch_cut_short_is_left_for_the_next_fetch() {
        let whole = batch(0, &[(None, Some("a"))], false);
        let cut = batch(1, &[(None, Some("b"))], false);
        for kept in [0, 11, 60, cut.len() - 1] {
            let batches = [whole.clone(), cut.slice(..kept)];
            assert_eq!(written(&batches, 0, None, false, None), ("a\n".to_owned(), 1, None), "{kept}");
        }
    }

    #[test]
    fn an_unreadable_batch_is_named_with_its_offset() {
        let mut bytes = batch(5, &[(None, Some("a"))], false).to_vec();
        bytes.truncate(bytes.len() - 1);
        bytes.push(0xff);
        let length = bytes.len();
        bytes[61..length].fill(0xff);
        let fetched = Fetched {
            partition: PartitionIndex::new(2),
            records: bytes.into(),
            high_watermark: Offset::ZERO,
            log_start: Offset::ZERO,
        };
        let mut lines = Lines { out: &mut Vec::new(), print_key: false, left: None, caps: Caps::default() };
        let Err(Stop::Problem(problem)) = lines.write("t", &fetched, Offset::ZERO, None) else {
            panic!("damage is told")
        };
        assert!(problem.to_string().contains("partition t-2 has an unreadable batch at offset 5"), "{problem}");
    }
}
