//! `chronik log`: what segment files hold, and whether all of it is sound.
//!
//! Files are only read. A segment that a broker appends to meanwhile may end in the middle of a batch: that shows as a torn
//! tail and is gone when asked again.

use std::fs::FileType;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chronik_log::dump::{Entry, Summary, walk};
use chronik_log::fs::RealFs;
use chronik_record::{BatchHeader, TimestampType};

use super::Stop;
use crate::cli::{Log, LogFiles};
use crate::problem::Problem;

/// Ending of a segment's name.
const SEGMENT_ENDING: &str = ".log";

pub(crate) fn run(command: Log) -> Result<(), Stop> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let damaged = match command {
        Log::Dump(LogFiles { paths }) => each_segment(&paths, |path| dump(path, &mut out))?,
        Log::Verify(LogFiles { paths }) => each_segment(&paths, |path| verify(path, &mut out))?,
    };
    out.flush()?;
    match damaged {
        0 => Ok(()),
        count => Err(Problem::new(
            format!("{count} {} damaged", if count == 1 { "file is" } else { "files are" }),
            "the lines above name positions and reasons; docs/operating/durability.md tells what a broker does with them",
        )
        .into()),
    }
}

/// Reads every segment below the paths, in order, and counts those that are not sound.
fn each_segment(paths: &[PathBuf], mut read: impl FnMut(&Path) -> Result<Summary, Stop>) -> Result<usize, Stop> {
    let mut damaged = 0;
    for path in paths {
        for segment in segments_below(path)? {
            damaged += usize::from(!read(&segment)?.is_sound());
        }
    }
    Ok(damaged)
}

/// The file itself, or the segments in a folder and those below it, by name.
fn segments_below(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let failed = |error| unreadable(path, &error);
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let (mut folders, mut segments) = (vec![path.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))? {
            let entry = entry.map_err(|error| unreadable(&folder, &error))?;
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind: FileType| kind.is_dir()) {
                folders.push(path);
            } else if is_segment(&path) {
                segments.push(path);
            }
        }
    }
    if segments.is_empty() {
        return Err(Problem::new(
            format!("there are no segments below {}", path.display()),
            "name a segment file, a partition's folder or a data directory",
        ));
    }
    segments.sort();
    Ok(segments)
}

fn is_segment(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("wal_") && name.ends_with(SEGMENT_ENDING))
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    Problem::new(format!("cannot read {}: {error}", path.display()), "check the path and who may read it")
}

fn dump(path: &Path, out: &mut impl Write) -> Result<Summary, Stop> {
    writeln!(out, "file={}", path.display())?;
    let mut unwritten = None;
    let summary = walk(&RealFs, path, |entry| {
        let written = writeln!(out, "  {}", described(&entry));
        unwritten = unwritten.take().or(written.err());
    });
    if let Some(error) = unwritten {
        return Err(error.into());
    }
    let summary = summary.map_err(|error| unreadable(path, &error))?;
    writeln!(out, "  {}", in_short(&summary))?;
    Ok(summary)
}

fn verify(path: &Path, out: &mut impl Write) -> Result<Summary, Stop> {
    let mut found = Vec::new();
    let summary = walk(&RealFs, path, |entry| {
        if !matches!(entry, Entry::Batch { .. }) {
            found.push(described(&entry));
        }
    });
    let summary = summary.map_err(|error| unreadable(path, &error))?;
    let verdict = if summary.is_sound() { "sound" } else { "DAMAGED" };
    writeln!(out, "{verdict} file={} {}", path.display(), in_short(&summary))?;
    for line in found {
        writeln!(out, "  {line}")?;
    }
    Ok(summary)
}

fn described(entry: &Entry) -> String {
    match entry {
        Entry::Batch { position, header } => batch(*position, header),
        Entry::Damage { position, position_end, reason } => {
            format!("damage position={position} bytes={} reason={reason}", position_end.saturating_sub(*position))
        }
        Entry::TornTail { position, size, reason } => {
            format!("torn-tail position={position} bytes={} reason={reason}", size.saturating_sub(*position))
        }
    }
}

fn batch(position: u64, header: &BatchHeader) -> String {
    let attributes = header.attributes;
    let compression = attributes
        .compression()
        .map_or_else(|| format!("unknown({})", attributes.compression_id()), |codec| codec.to_string());
    let timestamp_type = match attributes.timestamp_type() {
        TimestampType::Create => "CreateTime",
        TimestampType::LogAppend => "LogAppendTime",
    };
    format!(
        "batch position={position} bytes={} base-offset={} last-offset={} records={} leader-epoch={} compression={compression} \
         {timestamp_type}={} producer-id={} producer-epoch={} base-sequence={} transactional={} control={} crc={:08x}",
        header.size_bytes(),
        header.base_offset,
        header.last_offset(),
        header.records_count,
        header.partition_leader_epoch,
        header.max_timestamp.millis(),
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        attributes.is_transactional(),
        attributes.is_control(),
        header.crc,
    )
}

fn in_short(summary: &Summary) -> String {
    let sum = match summary.sum_fits {
        Some(true) => "fits",
        Some(false) => "differs",
        None => "none",
    };
    format!("batches={} bytes={} damaged-ranges={} sum={sum}", summary.batches, summary.size, summary.damaged)
}

#[cfg(test)]
mod tests {
    use chronik_model::Timestamp;
    use chronik_record::{BatchBuilder, Compression};
    use tempfile::TempDir;

    use super::*;

    fn segment(folder: &TempDir) -> PathBuf {
        let mut builder = BatchBuilder::new(Compression::None, TimestampType::Create, Timestamp::from_millis(1_000));
        builder.append(Timestamp::from_millis(1_000), None, Some(b"value"), &[]);
        let path = folder.path().join("wal").join("t").join("0");
        std::fs::create_dir_all(&path).unwrap();
        let path = path.join("wal_0_0.log");
        std::fs::write(&path, builder.build().unwrap().bytes()).unwrap();
        std::fs::write(path.with_extension("index"), b"").unwrap();
        path
    }

    fn verified(path: &Path) -> (usize, String) {
        let mut out = Vec::new();
        let damaged = each_segment(&[path.to_owned()], |path| verify(path, &mut out)).unwrap();
        (damaged, String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_flipped_bit_of_a_batch_is_named_and_counted() {
        let folder = TempDir::new().unwrap();
        let path = segment(&folder);
        let (damaged, text) = verified(folder.path());
        assert_eq!(damaged, 0, "{text}");
        assert!(text.starts_with(&format!("sound file={} batches=1", path.display())), "{text}");
        let sound = std::fs::read(&path).unwrap();
        // The leader epoch, bytes 12 to 15, may be any in a segment's first batch: only its side file can tell.
        for at in (0..sound.len()).filter(|at| !(12..16).contains(at)) {
            for bit in 0..8 {
                let mut flipped = sound.clone();
                flipped[at] ^= 1 << bit;
                std::fs::write(&path, flipped).unwrap();
                let (damaged, text) = verified(&path);
                assert_eq!(damaged, 1, "byte {at} bit {bit}: {text}");
                assert!(text.contains(" position=0 ") && text.contains("reason="), "{text}");
            }
        }
    }

    #[test]
    fn a_dump_has_a_line_for_each_batch() {
        let folder = TempDir::new().unwrap();
        let mut out = Vec::new();
        assert!(dump(&segment(&folder), &mut out).unwrap().is_sound());
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("batch position=0 bytes=73 base-offset=0 last-offset=0 records=1"), "{text}");
        assert!(text.contains("CreateTime=1000"), "{text}");
    }

    #[test]
    fn a_folder_without_segments_says_what_to_name() {
        let folder = TempDir::new().unwrap();
        let problem = segments_below(folder.path()).unwrap_err().to_string();
        assert!(problem.contains("no segments below") && problem.contains("data directory"), "{problem}");
        assert!(segments_below(&folder.path().join("absent")).unwrap_err().to_string().contains("cannot read"));
    }
}
