//! A slice of a segment as the network sends it: out of the file, where it has a descriptor.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use chronik_log::LogSlice;
use chronik_log::fs::File;
use chronik_model::Offset;
use chronik_net::{FileSlice, Part, SendFile};

use super::partition::Partition;

/// A segment's file as the network sends from it.
struct SegmentFile {
    partition: Arc<Partition>,
    base_offset: Offset,
    file: Arc<dyn File>,
}

impl SendFile for SegmentFile {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_fd()
    }

    fn name(&self) -> String {
        format!("segment of {} with the batch at offset {}", self.partition.name(), self.base_offset)
    }
}

/// The slice as a part of what is sent.
pub(crate) fn segment_part(partition: &Arc<Partition>, slice: LogSlice) -> io::Result<Part> {
    let LogSlice { file, position, len, base_offset } = slice;
    if file.as_fd().is_some() {
        let file = SegmentFile { partition: Arc::clone(partition), base_offset, file };
        return Ok(Part::File(FileSlice { file: Arc::new(file), position, len }));
    }
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, position)?;
    Ok(Part::Bytes(bytes.into()))
}
