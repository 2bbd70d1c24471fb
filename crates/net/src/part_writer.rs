//! Writes responses: bytes gathered into few calls, file slices straight from the page cache.
//!
//! Pages of a slice that are not in memory are brought in on the blocking pool, so that a reader of old data never
//! stalls the thread that serves other connections.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Most buffers handed to the kernel at once.
const GATHER_MAX: usize = 16;
/// A slice is sent, and looked up in the page cache, in steps of this size.
const STEP_BYTES: usize = 256 * 1024;
/// Up to here file slices are copied and leave with the bytes around them in one call, which costs less than handing
/// over their pages call by call.
const SMALL_BYTES_MAX: usize = 32 * 1024;
/// Room for bringing in cold pages.
const PAGE_IN_BYTES: usize = 128 * 1024;

/// An open file that the kernel can send from.
pub trait SendFile: Send + Sync {
    /// The file's descriptor, open for reading; `None` for a file that lives elsewhere, which cannot be sent.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// What an operator knows it by.
    fn name(&self) -> String;
}

/// Why parts could not be written. Part of the frame may have left, so the connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The connection failed, or its peer does not read: nothing for an operator.
    #[error(transparent)]
    Peer(io::Error),
    /// The file does not give what it should hold: a failing disk, or a file cut behind the broker's back.
    #[error("{file} cannot be read at position {position}")]
    File {
        /// [`SendFile::name`].
        file: String,
        /// First byte of the range that failed, in the file.
        position: u64,
        /// The cause.
        source: io::Error,
    },
}

/// A range of a file that goes out with `sendfile`.
#[derive(Clone)]
pub struct FileSlice {
    /// The open file.
    pub file: Arc<dyn SendFile>,
    /// First byte of the range.
    pub position: u64,
    /// Length of the range in bytes.
    pub len: usize,
}

impl FileSlice {
    fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        self.file.descriptor().ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "file without a descriptor"))
    }

    /// Fills `buffer` from `skip` bytes behind the slice's beginning on, off the threads that serve connections.
    pub(crate) async fn read_at(&self, skip: usize, mut buffer: Vec<u8>) -> Result<Vec<u8>, WriteError> {
        let position = self.position.saturating_add(skip as u64);
        let slice = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let file = slice.descriptor()?;
            let mut done = 0;
            while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
                match rustix::io::pread(file, rest, position.saturating_add(done as u64)) {
                    Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                    Ok(count) => done += count,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(buffer)
        });
        let read = read.await.map_err(io::Error::other).and_then(|read| read);
        read.map_err(|error| self.failed(position, error))
    }

    /// Reads what is in memory into the beginning of `room`, from `skip` bytes behind the slice's beginning on; `None` where
    /// the first byte is not. Up to `warm_to` bytes behind the beginning the pages were brought in and are believed to be there.
    pub(crate) fn read_resident(
        &self,
        skip: usize,
        room: &mut [u8],
        warm_to: usize,
    ) -> Result<Option<usize>, WriteError> {
        let position = self.position.saturating_add(skip as u64);
        let failed = |error| self.failed(position, error);
        let file = self.descriptor().map_err(failed)?;
        let is_warm = skip < warm_to;
        let wanted = room.len().min((if is_warm { warm_to.min(self.len) } else { self.len }).saturating_sub(skip));
        let room = room.get_mut(..wanted).unwrap_or_default();
        loop {
            let read = if is_warm {
                rustix::io::pread(file, &mut *room, position)
            } else {
                let mut buffer = [io::IoSliceMut::new(room)];
                rustix::io::preadv2(file, &mut buffer, position, ReadWriteFlags::NOWAIT)
            };
            let read = match read {
                // A file system without NOWAIT cannot tell, and may stall.
                Err(Errno::OPNOTSUPP) => rustix::io::pread(file, &mut *room, position),
                read => read,
            };
            return match read {
                Ok(0) => Err(failed(io::Error::new(io::ErrorKind::UnexpectedEof, SHORT))),
                Ok(count) => Ok(Some(count)),
                Err(Errno::AGAIN) => Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => Err(failed(error.into())),
            };
        }
    }

    /// Brings the step that begins `skip` bytes behind the slice's beginning into memory, and says where it ends, likewise.
    pub(crate) async fn warm(&self, skip: usize) -> Result<usize, WriteError> {
        let from = self.position.saturating_add(skip as u64);
        let step = STEP_BYTES.min(self.len.saturating_sub(skip));
        page_in(self, from, from.saturating_add(step as u64)).await.map_err(|error| self.failed(from, error))?;
        Ok(skip + step)
    }

    fn failed(&self, position: u64, source: io::Error) -> WriteError {
        WriteError::File { file: self.file.name(), position, source }
    }
}

/// The frame announced these bytes, so the connection cannot be saved.
const SHORT: &str = "file is shorter than the range to send";

impl fmt::Debug for FileSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileSlice({}+{})", self.position, self.len)
    }
}

/// A piece of a response.
#[derive(Clone, Debug)]
pub enum Part {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes in a file.
    File(FileSlice),
}

impl Part {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(slice) => slice.len,
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Writes all `parts` in order and leaves the vector empty. `stall_max` bounds the time without progress: a peer that
/// does not read is given up then.
pub async fn write_parts(stream: &TcpStream, parts: &mut Vec<Part>, stall_max: Duration) -> Result<(), WriteError> {
    parts.retain(|part| !part.is_empty());
    send_small(stream, parts).map_err(WriteError::Peer)?;
    let mut next = 0;
    while let Some(part) = parts.get(next) {
        match part {
            Part::Bytes(_) => {
                let run = parts.iter().skip(next).take_while(|part| matches!(part, Part::Bytes(_))).count();
                let more = parts.len() > next + run;
                if let Some(bytes) = parts.get_mut(next..next + run) {
                    write_bytes(stream, bytes, more, stall_max).await.map_err(WriteError::Peer)?;
                }
                next += run;
            }
            Part::File(slice) => {
                send_file(stream, slice, stall_max).await?;
                next += 1;
            }
        }
    }
    parts.clear();
    Ok(())
}

/// Sends parts with small slices in one call, as far as the socket takes them, and leaves what it does not. The copy of
/// the slices ends here: a peer that reads slowly holds none.
fn send_small(stream: &TcpStream, parts: &mut Vec<Part>) -> io::Result<()> {
    let slices = parts.iter().filter(|part| matches!(part, Part::File(_)));
    let copied = slices.fold(0usize, |sum, part| sum.saturating_add(part.len()));
    if !(1..=SMALL_BYTES_MAX).contains(&copied) || parts.len() > GATHER_MAX {
        return Ok(());
    }
    let Some(copy) = copy_resident(parts, copied) else { return Ok(()) };
    let mut rest = copy.as_slice();
    let mut gathered = [IoSlice::new(&[]); GATHER_MAX];
    for (slot, part) in gathered.iter_mut().zip(parts.iter()) {
        *slot = IoSlice::new(match part {
            Part::Bytes(bytes) => bytes,
            Part::File(slice) => rest.split_off(..slice.len).unwrap_or_default(),
        });
    }
    let gathered = gathered.get(..parts.len()).unwrap_or_default();
    let sent = stream.try_io(Interest::WRITABLE, || {
        let mut no_control = rustix::net::SendAncillaryBuffer::default();
        Ok(rustix::net::sendmsg(stream, gathered, &mut no_control, SendFlags::NOSIGNAL)?)
    });
    match sent {
        Ok(sent) => {
            skip(parts, sent);
            Ok(())
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What the slices among `parts` hold, `len` bytes in all, if every byte of it is in memory and there.
fn copy_resident(parts: &[Part], len: usize) -> Option<Vec<u8>> {
    let mut copy = vec![0; len];
    let mut room = copy.as_mut_slice();
    for part in parts {
        if let Part::File(slice) = part {
            // What is wrong with a file is told by whoever sends it.
            let read = slice.read_resident(0, room.split_off_mut(..slice.len)?, 0).ok().flatten();
            read.filter(|count| *count == slice.len)?;
        }
    }
    Some(copy)
}

/// Takes the first `sent` bytes from the parts.
fn skip(parts: &mut Vec<Part>, mut sent: usize) {
    let whole = parts.iter().take_while(|part| {
        let is_whole = part.len() <= sent;
        sent -= if is_whole { part.len() } else { 0 };
        is_whole
    });
    let whole = whole.count();
    parts.drain(..whole);
    match parts.first_mut() {
        Some(Part::Bytes(bytes)) => bytes.advance(sent),
        Some(Part::File(slice)) => {
            slice.position = slice.position.saturating_add(sent as u64);
            slice.len -= sent;
        }
        None => {}
    }
}

async fn write_bytes(stream: &TcpStream, parts: &mut [Part], more: bool, stall_max: Duration) -> io::Result<()> {
    let mut done = 0;
    while done < parts.len() {
        let sent = {
            let mut slices = [IoSlice::new(&[]); GATHER_MAX];
            let mut count = 0;
            for (slot, part) in slices.iter_mut().zip(parts.iter().skip(done)) {
                if let Part::Bytes(bytes) = part {
                    *slot = IoSlice::new(bytes);
                }
                count += 1;
            }
            // Without MORE the header of a fetch response would leave as a packet of its own.
            let flags = if more { SendFlags::MORE | SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL };
            let gathered = slices.get(..count).unwrap_or_default();
            progress(stream, stall_max, || {
                let mut no_control = rustix::net::SendAncillaryBuffer::default();
                Ok(rustix::net::sendmsg(stream, gathered, &mut no_control, flags)?)
            })
            .await?
        };
        let mut left = sent;
        while let Some(Part::Bytes(bytes)) = parts.get_mut(done) {
            if left < bytes.len() {
                bytes.advance(left);
                break;
            }
            left -= bytes.len();
            done += 1;
        }
    }
    Ok(())
}

async fn send_file(stream: &TcpStream, slice: &FileSlice, stall_max: Duration) -> Result<(), WriteError> {
    let mut position = slice.position;
    let end = slice.position.saturating_add(slice.len as u64);
    let mut checked_to = position;
    while position < end {
        let step_end = end.min(position.saturating_add(STEP_BYTES as u64));
        if checked_to < step_end {
            let descriptor = slice.descriptor().map_err(|error| slice.failed(position, error))?;
            if !resident(descriptor, position, step_end) {
                page_in(slice, position, step_end).await.map_err(|error| slice.failed(position, error))?;
            }
            checked_to = step_end;
        }
        let count = usize::try_from(step_end - position).unwrap_or(STEP_BYTES);
        let sent = progress(stream, stall_max, || {
            let mut from = position;
            Ok(rustix::fs::sendfile(stream, slice.descriptor()?, Some(&mut from), count)?)
        })
        .await
        .map_err(|error| if is_of_file(&error) { slice.failed(position, error) } else { WriteError::Peer(error) })?;
        if sent == 0 {
            let short = io::Error::new(io::ErrorKind::UnexpectedEof, SHORT);
            return Err(slice.failed(position, short));
        }
        position += sent as u64;
        if position < end {
            // A peer that takes whatever it is sent must not keep the thread from the others.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Whether a failed `sendfile` is the file's doing: a socket fails with none of these.
fn is_of_file(error: &io::Error) -> bool {
    let of_file = [Errno::IO, Errno::INVAL, Errno::NXIO, Errno::OVERFLOW, Errno::STALE, Errno::UCLEAN];
    Errno::from_io_error(error).is_some_and(|errno| of_file.contains(&errno))
}

/// Tries `attempt` until it is not blocked, for `stall_max` at the most.
pub(crate) async fn progress(
    stream: &TcpStream,
    stall_max: Duration,
    mut attempt: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    // Most writes succeed at once; only a full socket buffer costs a timer.
    match stream.try_io(Interest::WRITABLE, &mut attempt) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
        done => return done,
    }
    match tokio::time::timeout(stall_max, stream.async_io(Interest::WRITABLE, attempt)).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "peer does not read its responses")),
    }
}

/// Whether the first and the last page of the range are in memory. Between them the kernel's read-ahead has been, or
/// the sampling errs towards a short stall.
fn resident(file: BorrowedFd<'_>, from: u64, to: u64) -> bool {
    let mut byte = [0u8; 1];
    [from, to.saturating_sub(1)].into_iter().all(|position| {
        let mut buffer = [io::IoSliceMut::new(&mut byte)];
        let read = rustix::io::preadv2(file, &mut buffer, position, ReadWriteFlags::NOWAIT);
        // A file system without NOWAIT cannot tell; it is asked to send and may stall.
        !matches!(read, Err(Errno::AGAIN))
    })
}

async fn page_in(slice: &FileSlice, from: u64, to: u64) -> io::Result<()> {
    let slice = slice.clone();
    let read_through = move || {
        let file = slice.descriptor()?;
        let mut scratch = vec![0u8; PAGE_IN_BYTES];
        let mut position = from;
        while position < to {
            match rustix::io::pread(file, &mut scratch, position) {
                Ok(0) => break,
                Ok(count) => position += count as u64,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    };
    tokio::task::spawn_blocking(read_through).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::io::AsyncReadExt as _;

    use std::os::fd::AsFd as _;

    use super::*;

    impl SendFile for std::fs::File {
        fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            Some(self.as_fd())
        }

        fn name(&self) -> String {
            "a test's file".to_owned()
        }
    }

    #[tokio::test]
    async fn bytes_and_file_slices_arrive_in_order() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = listener.accept().await.unwrap().0;
        let content: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let file: Arc<dyn SendFile> = Arc::new(file);
        let slice = |position: u64, len| Part::File(FileSlice { file: Arc::clone(&file), position, len });
        let mut parts = vec![Part::Bytes(Bytes::from_static(b"head")), slice(1000, 2_000_000), slice(7, 0)];
        parts.extend((0..40u8).map(|i| Part::Bytes(Bytes::copy_from_slice(&[i; 3]))));
        parts.push(slice(0, 5));
        let mut expected = b"head".to_vec();
        expected.extend_from_slice(&content[1000..2_001_000]);
        (0..40u8).for_each(|i| expected.extend_from_slice(&[i; 3]));
        expected.extend_from_slice(&content[..5]);
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            got
        });
        write_parts(&server, &mut parts, Duration::from_secs(5)).await.unwrap();
        drop(server);
        assert!(reading.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn small_slices_arrive_in_order_where_the_socket_takes_some_of_them() {
        let (server, mut client) = connected().await;
        socket2::SockRef::from(&server).set_send_buffer_size(4096).unwrap();
        let content: Vec<u8> = (0..20_000u32).map(|i| (i % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let file: Arc<dyn SendFile> = Arc::new(file);
        let mut expected = Vec::new();
        for _ in 0..200 {
            expected.extend_from_slice(b"head");
            expected.extend_from_slice(&content[7..19_000]);
            expected.extend_from_slice(b"between");
            expected.extend_from_slice(&content[..5]);
        }
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            got
        });
        for _ in 0..200 {
            let slice = |position: u64, len| Part::File(FileSlice { file: Arc::clone(&file), position, len });
            let (head, between) = (Bytes::from_static(b"head"), Bytes::from_static(b"between"));
            let mut parts = vec![Part::Bytes(head), slice(7, 18_993), Part::Bytes(between), slice(0, 5)];
            write_parts(&server, &mut parts, Duration::from_secs(60)).await.unwrap();
            assert!(parts.is_empty());
        }
        drop(server);
        assert!(reading.await.unwrap() == expected);
    }

    #[test]
    fn what_is_left_begins_behind_what_was_sent() {
        let file: Arc<dyn SendFile> = Arc::new(tempfile::tempfile().unwrap());
        let parts = [
            Part::Bytes(Bytes::from_static(b"abc")),
            Part::File(FileSlice { file: Arc::clone(&file), position: 100, len: 4 }),
            Part::Bytes(Bytes::from_static(b"xy")),
        ];
        let describe = |part: &Part| match part {
            Part::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Part::File(slice) => format!("{}+{}", slice.position, slice.len),
        };
        let left = |sent| {
            let mut parts = parts.to_vec();
            skip(&mut parts, sent);
            parts.iter().map(describe).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(left(0), "abc 100+4 xy");
        assert_eq!(left(2), "c 100+4 xy");
        assert_eq!(left(3), "100+4 xy");
        assert_eq!(left(6), "103+1 xy");
        assert_eq!(left(7), "xy");
        assert_eq!(left(8), "y");
        assert_eq!(left(9), "");
    }

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    /// Where the file is to blame: the position and the cause.
    async fn file_failure(file: std::fs::File, position: u64, len: usize) -> (u64, io::Error) {
        let (server, _client) = connected().await;
        let mut parts = vec![Part::File(FileSlice { file: Arc::new(file), position, len })];
        match write_parts(&server, &mut parts, Duration::from_secs(5)).await.unwrap_err() {
            WriteError::File { position, source, .. } => (position, source),
            WriteError::Peer(error) => panic!("the peer is blamed: {error}"),
        }
    }

    #[tokio::test]
    async fn a_slice_beyond_the_file_is_the_files_error_where_it_ends() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 1000]).unwrap();
        let (position, error) = file_failure(file, 100, 2000).await;
        assert_eq!((position, error.kind()), (1000, io::ErrorKind::UnexpectedEof));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_to_blame_and_not_the_peer() {
        // Nothing is mapped at its start, so that reading there fails.
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        assert_eq!(file_failure(memory, 4096, 10).await.0, 4096);
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_to_blame_and_not_the_file() {
        let (server, client) = connected().await;
        drop(client);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 1 << 20]).unwrap();
        let file: Arc<dyn SendFile> = Arc::new(file);
        let slice = Part::File(FileSlice { file, position: 0, len: 1 << 20 });
        let mut parts = vec![slice; 64];
        let error = write_parts(&server, &mut parts, Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, WriteError::Peer(_)), "{error}");
    }
}
