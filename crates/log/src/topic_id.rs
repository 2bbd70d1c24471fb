//! The file that says whose a topic's directory is: names come again after a deletion, ids do not.
//!
//! Text with a checksum line, replaced as one step. It is compared before anything in the directory is opened.

use std::io;
use std::path::Path;

use chronik_model::TopicId;

use crate::checkpoint::{checked_text, with_checksum};
use crate::fs::{Durability, Fs, read_small_file, replace_file};

/// The file's name in the topic's directory.
pub(crate) const FILE: &str = "topic-id";
const HEAD: &str = "chronik-topic-id 1";

/// The id in a topic's directory; `None` where the file is missing or damaged: a power cut may leave it empty, and builds
/// before it did not write one.
pub(crate) fn read(fs: &dyn Fs, topic_dir: &Path) -> io::Result<Option<TopicId>> {
    match read_small_file(fs, &topic_dir.join(FILE)) {
        Ok(bytes) => Ok(bytes.and_then(|bytes| decode(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the id into a topic's directory; not synced.
pub(crate) fn write(fs: &dyn Fs, topic_dir: &Path, id: TopicId) -> io::Result<()> {
    replace_file(fs, &topic_dir.join(FILE), &with_checksum(format!("{HEAD}\n{id}\n")), Durability::Visible)
}

fn decode(bytes: &[u8]) -> Option<TopicId> {
    let mut lines = checked_text(bytes)?.lines();
    if lines.next()? != HEAD {
        return None;
    }
    Some(TopicId(lines.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use chronik_model::Uuid;

    use super::*;
    use crate::fs::{MemFs, OpenMode};

    #[test]
    fn what_is_written_is_read_and_any_flipped_bit_makes_it_unknown() {
        let fs = MemFs::new();
        let dir = Path::new("/wal/t");
        fs.create_dir_all(dir).unwrap();
        assert_eq!(read(&fs, dir).unwrap(), None);
        let id = TopicId(Uuid::from_random([7; 16]));
        write(&fs, dir, id).unwrap();
        assert_eq!(read(&fs, dir).unwrap(), Some(id));
        let path = dir.join(FILE);
        for bit in 0..fs.file_len(&path).unwrap() * 8 {
            let fs = fs.duplicate();
            fs.flip(&path, bit / 8, (bit % 8) as u8);
            assert_eq!(read(&fs, dir).unwrap(), None, "bit {bit}");
        }
        fs.open(&path, OpenMode::Truncate).unwrap();
        assert_eq!(read(&fs, dir).unwrap(), None);
    }
}
