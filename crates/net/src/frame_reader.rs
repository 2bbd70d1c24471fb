//! Reads length-prefixed frames from a socket.
//!
//! Invariant: memory follows the bytes received, not the size announced. A frame that stops coming, or that comes in
//! drops, ends the connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::budget::{MemoryBudget, MemoryPermit};

/// Length of the size prefix.
const PREFIX_BYTES: usize = 4;
/// What a connection reads at once, and the room it has before the budget is asked.
const READ_BYTES: usize = 64 * 1024;
/// Up to here the room for a frame is reserved at once: untouched pages cost nothing, and nothing is moved later.
const RESERVE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A quiet connection gives its buffer back after this.
const BUFFER_KEEP: Duration = Duration::from_secs(1);
/// In each such window an unfinished frame must grow by [`PROGRESS_BYTES_MIN`].
const PROGRESS_WINDOW: Duration = Duration::from_secs(20);
const PROGRESS_BYTES_MIN: usize = 16 * 1024;

/// Bounds for the frames of one connection.
#[derive(Clone, Debug)]
pub struct FrameLimits {
    /// Largest frame without its prefix (`socket.request.max.bytes`).
    pub frame_bytes_max: usize,
    /// A connection without any frame for this long is closed (`connections.max.idle.ms`).
    pub idle_max: Duration,
    /// What frames in flight are charged to.
    pub budget: Arc<MemoryBudget>,
}

/// One whole frame without its prefix. Its memory goes back to the budget when this is dropped.
#[derive(Debug)]
pub struct Frame {
    /// The frame's bytes; slices of it share the memory.
    pub body: Bytes,
    /// Keeps the bytes charged.
    pub permit: MemoryPermit,
}

/// Why no further frame comes.
#[derive(Debug, thiserror::Error)]
pub enum ReadFrameError {
    /// The size prefix is negative, zero or above the limit.
    #[error("frame of {announced} bytes announced, allowed are 1 to {limit}")]
    Size {
        /// The size in the prefix.
        announced: i32,
        /// The limit.
        limit: usize,
    },
    /// The peer closed in the middle of a frame.
    #[error("connection closed within a frame")]
    Truncated,
    /// An unfinished frame did not grow fast enough.
    #[error("frame came too slowly")]
    TooSlow,
    /// Nothing came for the idle time.
    #[error("connection was idle")]
    Idle,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Splits what a socket delivers into frames. [`FrameReader::next`] may be cancelled at any await without loss.
#[derive(Debug)]
pub struct FrameReader {
    limits: FrameLimits,
    buffer: BytesMut,
    permit: MemoryPermit,
    charged: usize,
    quiet_since: Option<Instant>,
    window: Option<Window>,
}

#[derive(Debug)]
struct Window {
    ends: Instant,
    received: usize,
}

impl FrameReader {
    /// A reader with nothing buffered.
    pub fn new(limits: FrameLimits) -> Self {
        let permit = MemoryPermit::default();
        Self { limits, buffer: BytesMut::new(), permit, charged: 0, quiet_since: None, window: None }
    }

    /// Whether a whole frame is buffered already.
    pub fn has_frame(&self) -> bool {
        matches!(self.announced(), Ok(Some(size)) if self.buffer.len() - PREFIX_BYTES >= size)
    }

    /// The next frame, or `None` when the peer closed between frames.
    pub async fn next(&mut self, stream: &TcpStream) -> Result<Option<Frame>, ReadFrameError> {
        loop {
            let missing = match self.announced()? {
                None => PREFIX_BYTES - self.buffer.len(),
                Some(size) => match size.checked_sub(self.buffer.len() - PREFIX_BYTES) {
                    None | Some(0) => return Ok(Some(self.split(size))),
                    Some(missing) => missing,
                },
            };
            self.make_room(missing).await;
            match stream.try_read_buf(&mut self.buffer) {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Err(ReadFrameError::Truncated),
                Ok(count) => self.received(count)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait(stream).await?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn announced(&self) -> Result<Option<usize>, ReadFrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let announced = i32::from_be_bytes(*prefix);
        let limit = self.limits.frame_bytes_max;
        match usize::try_from(announced) {
            Ok(size) if size > 0 && size <= limit => Ok(Some(size)),
            _ => Err(ReadFrameError::Size { announced, limit }),
        }
    }

    fn split(&mut self, size: usize) -> Frame {
        self.buffer.advance(PREFIX_BYTES);
        let body = self.buffer.split_to(size).freeze();
        self.charged = 0;
        self.quiet_since = None;
        self.window = None;
        Frame { body, permit: std::mem::take(&mut self.permit) }
    }

    /// Makes sure that some of the `missing` bytes can be read, charging the budget for what exceeds one read.
    async fn make_room(&mut self, missing: usize) {
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare >= missing.min(READ_BYTES) {
            return;
        }
        // Twice of what has come, so that the announced size alone is not believed for long.
        let trusted = self.buffer.len().max(RESERVE_BYTES_MAX);
        let room = missing.min(trusted).max(READ_BYTES);
        let wanted = self.buffer.len() + room;
        if wanted > READ_BYTES + self.charged {
            let more = wanted - READ_BYTES - self.charged;
            self.limits.budget.grow(&mut self.permit, more).await;
            self.charged += more;
        }
        self.buffer.reserve(room);
    }

    fn received(&mut self, count: usize) -> Result<(), ReadFrameError> {
        self.quiet_since = None;
        if let Some(window) = &mut self.window {
            window.received += count;
            let now = Instant::now();
            if now >= window.ends {
                if window.received < PROGRESS_BYTES_MIN && !self.has_frame() {
                    return Err(ReadFrameError::TooSlow);
                }
                self.window = Some(Window { ends: now + PROGRESS_WINDOW, received: 0 });
            }
        }
        Ok(())
    }

    /// Waits until the socket is readable, within the time that this state of the connection allows.
    async fn wait(&mut self, stream: &TcpStream) -> Result<(), ReadFrameError> {
        if !self.buffer.is_empty() {
            let window = self
                .window
                .get_or_insert_with(|| Window { ends: Instant::now() + PROGRESS_WINDOW, received: self.buffer.len() });
            return match timeout_at(window.ends, stream.readable()).await {
                Ok(ready) => Ok(ready?),
                Err(_) if window.received >= PROGRESS_BYTES_MIN => {
                    *window = Window { ends: Instant::now() + PROGRESS_WINDOW, received: 0 };
                    Ok(())
                }
                Err(_) => Err(ReadFrameError::TooSlow),
            };
        }
        let quiet_since = *self.quiet_since.get_or_insert_with(Instant::now);
        if self.buffer.capacity() > 0 {
            if let Ok(ready) = timeout_at(quiet_since + BUFFER_KEEP, stream.readable()).await {
                return Ok(ready?);
            }
            self.buffer = BytesMut::new();
            self.permit = MemoryPermit::default();
            self.charged = 0;
        }
        match timeout_at(quiet_since + self.limits.idle_max, stream.readable()).await {
            Ok(ready) => Ok(ready?),
            Err(_) => Err(ReadFrameError::Idle),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    fn limits(frame_bytes_max: usize) -> FrameLimits {
        FrameLimits { frame_bytes_max, idle_max: Duration::from_secs(600), budget: MemoryBudget::new(1 << 20) }
    }

    #[tokio::test]
    async fn frames_arrive_whole_however_they_were_cut() {
        let (mut client, server) = pair().await;
        let sent: Vec<Vec<u8>> = [1usize, 5, 70_000, 3].iter().map(|n| vec![*n as u8; *n]).collect();
        let mut wire = Vec::new();
        for body in &sent {
            wire.extend_from_slice(&(body.len() as u32).to_be_bytes());
            wire.extend_from_slice(body);
        }
        let writer = tokio::spawn(async move {
            for piece in wire.chunks(777) {
                client.write_all(piece).await.unwrap();
            }
        });
        let mut reader = FrameReader::new(limits(100_000));
        for body in &sent {
            assert_eq!(reader.next(&server).await.unwrap().unwrap().body, body[..]);
        }
        writer.await.unwrap();
        assert!(reader.next(&server).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn bad_sizes_are_refused_before_any_body_is_read() {
        for announced in [0i32, -1, i32::MIN, 1001, i32::MAX] {
            let (mut client, server) = pair().await;
            client.write_all(&announced.to_be_bytes()).await.unwrap();
            let refused = FrameReader::new(limits(1000)).next(&server).await;
            assert!(matches!(refused, Err(ReadFrameError::Size { announced: a, .. }) if a == announced));
        }
    }

    #[tokio::test]
    async fn an_announced_size_reserves_no_more_than_a_bounded_room() {
        let (mut client, server) = pair().await;
        client.write_all(&(100i32 << 20).to_be_bytes()).await.unwrap();
        client.write_all(&[7; 10]).await.unwrap();
        client.shutdown().await.unwrap();
        let mut reader = FrameReader::new(limits(200 << 20));
        assert!(matches!(reader.next(&server).await, Err(ReadFrameError::Truncated)));
        assert!(reader.buffer.capacity() <= 2 * RESERVE_BYTES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_sent_frame_ends_the_connection() {
        let (mut client, server) = pair().await;
        client.write_all(&[0, 0, 0, 9, 1]).await.unwrap();
        assert!(matches!(FrameReader::new(limits(1000)).next(&server).await, Err(ReadFrameError::TooSlow)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_gives_its_buffer_back_and_then_ends() {
        let (mut client, server) = pair().await;
        client.write_all(&[0, 0, 0, 1, 1]).await.unwrap();
        let mut reader = FrameReader::new(limits(1000));
        drop(reader.next(&server).await.unwrap().unwrap());
        assert!(matches!(reader.next(&server).await, Err(ReadFrameError::Idle)));
        assert_eq!(reader.buffer.capacity(), 0);
    }
}
