//! The data directory's small files: `checkpoint`, which tells recovery where each partition's verified and durable
//! part ends; `checkpoint-page-cache`, which tells where the written part ended, for as long as the page cache that holds
//! it lives; and `clean-stop`, present only between a clean stop and the next start.
//!
//! Checkpoints are text with a checksum line, replaced as one step. One that cannot be read costs time, never data:
//! without any everything is scanned.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_model::{Offset, TopicId, TopicPartition};

use crate::fs::{Durability, Fs, read_small_file, replace_file};
use crate::segment::remove_if_there;

/// The checkpoint's name in the data directory.
pub const CHECKPOINT_FILE: &str = "checkpoint";
/// The name of the checkpoint that a reboot makes void.
pub const PAGE_CACHE_FILE: &str = "checkpoint-page-cache";
/// The clean-stop marker's name in the data directory.
pub const CLEAN_STOP_FILE: &str = "clean-stop";
const CHECKPOINT_HEAD: &str = "chronik-checkpoint 1";
const PAGE_CACHE_HEAD: &str = "chronik-page-cache-checkpoint 1";
const CLEAN_STOP_TEXT: &[u8] = b"clean\n";

/// Where the recovery of one log may begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryPoints {
    /// Below it everything is durable.
    pub durable: Option<Checkpoint>,
    /// Below it everything was written, to the page cache that there still is.
    pub written: Option<Checkpoint>,
}

/// Where the recovery of every log may begin, as the process before left it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoints {
    /// Below these everything is durable.
    pub durable: BTreeMap<TopicPartition, Checkpoint>,
    /// Below these everything was written, to the page cache that there still is.
    pub written: BTreeMap<TopicPartition, Checkpoint>,
}

impl Checkpoints {
    /// What is known of one partition's log; lines that `is_about` refuses are about another one.
    pub fn of(&self, partition: &TopicPartition, is_about: impl Fn(&Checkpoint) -> bool) -> RecoveryPoints {
        let find = |lines: &BTreeMap<TopicPartition, Checkpoint>| lines.get(partition).copied().filter(&is_about);
        RecoveryPoints { durable: find(&self.durable), written: find(&self.written) }
    }
}

impl RecoveryPoints {
    /// Whether there was something in the log that must be there. Of one without, a power cut may have taken the names.
    pub fn is_known(&self) -> bool {
        let mut lines = self.durable.iter().chain(&self.written);
        lines.any(|line| line.recovery_point > Offset::ZERO)
    }
}

impl From<Option<Checkpoint>> for RecoveryPoints {
    fn from(durable: Option<Checkpoint>) -> Self {
        Self { durable, written: None }
    }
}

/// What recovery needs to know of one partition. Everything below `recovery_point` is verified, and durable or, in a
/// checkpoint of the page cache, written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The topic the line is about: a later topic of the same name has another id. `None` where the log is no topic's, and
    /// in a line of a build that did not write it.
    pub topic_id: Option<TopicId>,
    /// First offset that may be served, inclusive.
    pub log_start: Offset,
    /// End of the durable, verified part, exclusive.
    pub recovery_point: Offset,
    /// High watermark, exclusive.
    pub high_watermark: Offset,
    /// Base offset of the segment that holds the recovery point.
    pub segment: Offset,
    /// The recovery point's position in that segment.
    pub position: u64,
    /// The chained checksum of that segment's batch heads below `position`.
    pub heads_sum: u32,
    /// The offset a producer snapshot was taken at; `None` where no producer was known at the recovery point.
    pub producer_snapshot: Option<Offset>,
}

/// Reads all partitions' checkpoints; `None` where the file is missing or damaged.
pub fn read(fs: &dyn Fs, data_dir: &Path) -> io::Result<Option<BTreeMap<TopicPartition, Checkpoint>>> {
    Ok(read_small_file(fs, &data_dir.join(CHECKPOINT_FILE))?.and_then(|bytes| decode(&bytes, CHECKPOINT_HEAD)))
}

/// Replaces all partitions' checkpoints; durable when it returns.
pub fn write<'a>(
    fs: &dyn Fs,
    data_dir: &Path,
    partitions: impl IntoIterator<Item = (&'a TopicPartition, &'a Checkpoint)>,
) -> io::Result<()> {
    replace_file(fs, &data_dir.join(CHECKPOINT_FILE), &encode(CHECKPOINT_HEAD, partitions), Durability::Durable)
}

/// Reads how far partitions were written into a page cache; `None` where that one is gone, or nobody wrote it down.
pub fn read_written(
    fs: &dyn Fs,
    data_dir: &Path,
    page_cache: &str,
) -> io::Result<Option<BTreeMap<TopicPartition, Checkpoint>>> {
    let bytes = read_small_file(fs, &data_dir.join(PAGE_CACHE_FILE))?;
    Ok(bytes.and_then(|bytes| decode(&bytes, &page_cache_head(page_cache))))
}

/// Writes down how far partitions are written into a page cache. Not synced: it is void when that one is gone.
pub fn write_written<'a>(
    fs: &dyn Fs,
    data_dir: &Path,
    page_cache: &str,
    partitions: impl IntoIterator<Item = (&'a TopicPartition, &'a Checkpoint)>,
) -> io::Result<()> {
    let bytes = encode(&page_cache_head(page_cache), partitions);
    replace_file(fs, &data_dir.join(PAGE_CACHE_FILE), &bytes, Durability::Visible)
}

/// Lets the next recovery begin at the durable checkpoint.
pub fn forget_written(fs: &dyn Fs, data_dir: &Path) -> io::Result<()> {
    remove_if_there(fs, &data_dir.join(PAGE_CACHE_FILE))
}

fn page_cache_head(page_cache: &str) -> String {
    format!("{PAGE_CACHE_HEAD} {page_cache}")
}

/// Says that the stop was clean; durable when it returns. The checkpoint must have been written before.
pub fn mark_clean_stop(fs: &dyn Fs, data_dir: &Path) -> io::Result<()> {
    replace_file(fs, &clean_stop(data_dir), CLEAN_STOP_TEXT, Durability::Durable)
}

/// Whether the last stop was clean. The marker is gone, durably, when this returns: a crash from now on is not clean.
pub fn take_clean_stop(fs: &dyn Fs, data_dir: &Path) -> io::Result<bool> {
    let path = clean_stop(data_dir);
    let Some(text) = read_small_file(fs, &path)? else { return Ok(false) };
    fs.remove_file(&path)?;
    fs.sync_dir(data_dir)?;
    Ok(text == CLEAN_STOP_TEXT)
}

fn clean_stop(data_dir: &Path) -> PathBuf {
    data_dir.join(CLEAN_STOP_FILE)
}

fn encode<'a>(head: &str, partitions: impl IntoIterator<Item = (&'a TopicPartition, &'a Checkpoint)>) -> Vec<u8> {
    let mut text = format!("{head}\n");
    for (tp, at) in partitions {
        let snapshot = at.producer_snapshot.map_or(-1, Offset::get);
        let _ = write!(
            text,
            "{} {} {} {} {} {} {} {:08x} {}",
            tp.topic,
            tp.partition,
            at.log_start,
            at.recovery_point,
            at.high_watermark,
            at.segment,
            at.position,
            at.heads_sum,
            snapshot
        );
        if let Some(id) = at.topic_id {
            let _ = write!(text, " {id}");
        }
        text.push('\n');
    }
    with_checksum(text)
}

fn decode(bytes: &[u8], head: &str) -> Option<BTreeMap<TopicPartition, Checkpoint>> {
    let mut lines = checked_text(bytes)?.lines();
    if lines.next()? != head {
        return None;
    }
    let mut partitions = BTreeMap::new();
    for line in lines {
        let mut fields = line.split(' ');
        let mut next = || fields.next();
        let topic: Arc<str> = next()?.into();
        let tp = TopicPartition::new(topic, next()?.parse().ok()?);
        let mut checkpoint = Checkpoint {
            topic_id: None,
            log_start: Offset::new(next()?.parse().ok()?),
            recovery_point: Offset::new(next()?.parse().ok()?),
            high_watermark: Offset::new(next()?.parse().ok()?),
            segment: Offset::new(next()?.parse().ok()?),
            position: next()?.parse().ok()?,
            heads_sum: u32::from_str_radix(next()?, 16).ok()?,
            producer_snapshot: Some(Offset::new(next()?.parse().ok()?)).filter(|offset| *offset >= Offset::ZERO),
        };
        if let Some(id) = next() {
            checkpoint.topic_id = Some(TopicId(id.parse().ok()?));
        }
        partitions.insert(tp, checkpoint);
    }
    Some(partitions)
}

/// Appends the checksum line that [`checked_text`] verifies.
pub(crate) fn with_checksum(mut text: String) -> Vec<u8> {
    let crc = crc32c::crc32c(text.as_bytes());
    let _ = writeln!(text, "crc32c {crc:08x}");
    text.into_bytes()
}

/// The text before the checksum line, where that line is exactly what it must be.
pub(crate) fn checked_text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let body_end = text.strip_suffix('\n')?.rfind('\n')? + 1;
    let (body, line) = text.split_at_checked(body_end)?;
    (line == format!("crc32c {:08x}\n", crc32c::crc32c(body.as_bytes()))).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::MemFs;

    fn sample() -> BTreeMap<TopicPartition, Checkpoint> {
        let at = |n: i64| Checkpoint {
            topic_id: (n > 0).then(|| TopicId(chronik_model::Uuid::from_random([9; 16]))),
            log_start: Offset::new(n),
            recovery_point: Offset::new(n + 10),
            high_watermark: Offset::new(n + 9),
            segment: Offset::new(n),
            position: 77,
            heads_sum: 0xabcd,
            producer_snapshot: (n > 0).then(|| Offset::new(n + 10)),
        };
        [(TopicPartition::new("a", 0), at(0)), (TopicPartition::new("b.c-d_e", 12), at(5))].into()
    }

    #[test]
    fn what_is_written_is_read_and_survives_a_crash() {
        let fs = MemFs::new();
        let dir = Path::new("/data");
        fs.create_dir_all(dir).unwrap();
        fs.sync_all(dir).unwrap();
        assert_eq!(read(&fs, dir).unwrap(), None);
        write(&fs, dir, &sample()).unwrap();
        fs.crash(1);
        assert_eq!(read(&fs, dir).unwrap(), Some(sample()));
    }

    #[test]
    fn what_was_written_counts_for_as_long_as_its_page_cache_lives() {
        let fs = MemFs::new();
        let dir = Path::new("/data");
        fs.create_dir_all(dir).unwrap();
        let page_cache = |fs: &MemFs| fs.page_cache(dir).unwrap().unwrap();
        write_written(&fs, dir, &page_cache(&fs), &sample()).unwrap();
        assert_eq!(read_written(&fs, dir, &page_cache(&fs)).unwrap(), Some(sample()));
        assert_eq!(read(&fs, dir).unwrap(), None);
        fs.sync_all(dir).unwrap();
        fs.crash(1);
        assert_eq!(read_written(&fs, dir, &page_cache(&fs)).unwrap(), None);
        write_written(&fs, dir, &page_cache(&fs), &sample()).unwrap();
        forget_written(&fs, dir).unwrap();
        forget_written(&fs, dir).unwrap();
        assert_eq!(read_written(&fs, dir, &page_cache(&fs)).unwrap(), None);
    }

    #[test]
    fn any_flipped_bit_makes_the_checkpoint_unreadable() {
        let bytes = encode(CHECKPOINT_HEAD, &sample());
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert_eq!(decode(&flipped, CHECKPOINT_HEAD), None, "bit {at}");
        }
    }

    #[test]
    fn a_line_without_a_topic_id_is_read() {
        let text = "chronik-checkpoint 1\nt 0 1 9 8 1 77 0000abcd -1\n";
        let read = decode(&with_checksum(text.to_owned()), CHECKPOINT_HEAD).unwrap();
        let at = read.get(&TopicPartition::new("t", 0)).unwrap();
        assert_eq!((at.topic_id, at.recovery_point, at.producer_snapshot), (None, Offset::new(9), None));
    }

    #[test]
    fn clean_stop_is_taken_once() {
        let fs = MemFs::new();
        let dir = Path::new("/data");
        fs.create_dir_all(dir).unwrap();
        fs.sync_all(dir).unwrap();
        assert!(!take_clean_stop(&fs, dir).unwrap());
        mark_clean_stop(&fs, dir).unwrap();
        fs.crash(3);
        assert!(take_clean_stop(&fs, dir).unwrap());
        fs.crash(4);
        assert!(!take_clean_stop(&fs, dir).unwrap());
    }

    #[test]
    fn a_replaced_checkpoint_is_the_old_or_the_new_one_after_a_crash_at_any_call() {
        for call in 0..6 {
            for seed in 0..50 {
                let fs = MemFs::new();
                let dir = Path::new("/data");
                fs.create_dir_all(dir).unwrap();
                fs.sync_all(dir).unwrap();
                let old = sample();
                write(&fs, dir, &old).unwrap();
                let mut new = old.clone();
                new.remove(&TopicPartition::new("a", 0));
                fs.fail_at(call, crate::fs::Fault::PowerCut);
                let written = write(&fs, dir, &new).is_ok();
                fs.crash(seed);
                let found = read(&fs, dir).unwrap().unwrap();
                assert!(found == new || (!written && found == old), "call {call} seed {seed}");
            }
        }
    }
}
