//! A follower's high watermark, kept beside its segments: after a crash of the process consumers are served no less than
//! they were before it.
//!
//! The file is one small record that is written in place whenever the watermark moves, and never synced: a power cut may
//! leave an older one, or half of one, which is then no help and no harm. It counts only where the log still has batches
//! of the leader epoch that it was written in, and never beyond their end: up to there a log is a prefix of that epoch's
//! leader's, so what was committed of it is committed still.

use std::io;
use std::path::Path;
use std::sync::Arc;

use chronik_model::{LeaderEpoch, Offset};

use crate::fs::{File, Fs, OpenMode, read_small_file};
use crate::leader_epoch::History;
use crate::log::Log;
use crate::segment::remove_if_there;

/// Its name in the partition's directory.
pub(crate) const FILE: &str = "high-watermark";
/// Leader epoch (4), high watermark (8), CRC-32C of both (4); big endian.
const BYTES: usize = 16;

/// Where a log keeps its high watermark.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Whether it is kept at all.
    wanted: bool,
    /// Opened at the first write, held from then on.
    file: Option<Arc<dyn File>>,
}

/// What the file in `dir` says of a log with this history and end, exclusive; `None` where it says nothing of it.
pub(crate) fn read(fs: &dyn Fs, dir: &Path, epochs: &History, log_end: Offset) -> io::Result<Option<Offset>> {
    let kept = read_small_file(fs, &dir.join(FILE))?.and_then(|bytes| decode(&bytes));
    Ok(kept.and_then(|(leader_epoch, high_watermark)| {
        let (found, end) = epochs.end_offset_for(leader_epoch, log_end)?;
        (found == leader_epoch).then(|| high_watermark.min(end))
    }))
}

fn decode(bytes: &[u8]) -> Option<(LeaderEpoch, Offset)> {
    let (leader_epoch, rest) = bytes.split_first_chunk::<4>()?;
    let (offset, _) = rest.split_first_chunk::<8>()?;
    let leader_epoch = LeaderEpoch::new(i32::from_be_bytes(*leader_epoch));
    let high_watermark = Offset::new(i64::from_be_bytes(*offset));
    (bytes == encode(leader_epoch, high_watermark)).then_some((leader_epoch, high_watermark))
}

fn encode(latest: LeaderEpoch, high_watermark: Offset) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..4].copy_from_slice(&latest.get().to_be_bytes());
    bytes[4..12].copy_from_slice(&high_watermark.get().to_be_bytes());
    let crc = crc32c::crc32c(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

impl Log {
    /// Whether the high watermark is kept in a file whenever it moves. A leader needs none: it commits anew what it has.
    pub fn keep_high_watermark(&mut self, wanted: bool) {
        self.kept_high_watermark = Kept { wanted, file: None };
    }

    /// The log begins anew: what was written down is of another one.
    pub(crate) fn forget_high_watermark(&mut self) -> io::Result<()> {
        self.kept_high_watermark.file = None;
        let place = &self.shared.place;
        remove_if_there(&*place.fs, &place.dir.join(FILE))
    }

    /// Writes the high watermark down where it is kept.
    ///
    /// That it cannot be written, as on a full disk, is no error: the next start then knows an older one.
    pub(crate) fn write_high_watermark(&mut self) {
        if !self.kept_high_watermark.wanted {
            return;
        }
        let (latest, high_watermark) = {
            let view = self.shared.view.read();
            (view.epochs.latest(), view.high_watermark)
        };
        let Some(latest) = latest else { return };
        if self.kept_high_watermark.file.is_none() {
            let place = &self.shared.place;
            self.kept_high_watermark.file = place.fs.open(&place.dir.join(FILE), OpenMode::Create).ok();
        }
        if let Some(file) = &self.kept_high_watermark.file
            && file.write_all_at(&encode(latest, high_watermark), 0).is_err()
        {
            self.kept_high_watermark.file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_whole_counts() {
        let (latest, high_watermark) = (LeaderEpoch::new(7), Offset::new(1 << 40));
        let bytes = encode(latest, high_watermark);
        assert_eq!(decode(&bytes), Some((latest, high_watermark)));
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "{len} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
    }
}
