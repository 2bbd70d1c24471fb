//! Reads length-prefixed frames from a socket.
//!
//! Sockets are read into a chunk of the thread, which stays in the processor's caches however many connections take turns. A
//! connection has a buffer of its own while a frame is not whole, and when its frames are so large that a part would have to
//! be copied each time.
//!
//! Invariant: memory follows the bytes received, not the size announced. A frame that stops coming, or that comes in
//! drops, ends the connection.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::time::{Instant, timeout};

use crate::alarm::Alarm;
use crate::budget::{MemoryBudget, MemoryPermit};
use crate::socket::Socket;

/// Length of the size prefix.
const PREFIX_BYTES: usize = 4;
/// What a connection reads at once, and the room it has before the budget is asked.
const READ_BYTES: usize = 64 * 1024;
/// A thread's chunk. Frames are slices of it: it is used again when the last of them is gone, and another is made where there
/// is no room for a read before.
const CHUNK_BYTES: usize = 2 * READ_BYTES;
/// A frame up to here is copied out of the chunk: one that waits for long must not hold what it is a small part of.
const COPIED_BYTES_MAX: usize = 4 * 1024;
/// Behind a frame of more than this a connection reads into a buffer of its own.
const SHARED_BYTES_MAX: usize = 32 * 1024;
/// Up to here the room for a frame is reserved at once: untouched pages cost nothing, and nothing is moved later.
const RESERVE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A quiet connection gives its own buffer back after this.
const BUFFER_KEEP: Duration = Duration::from_secs(1);
/// In each such window an unfinished frame must grow by [`PROGRESS_BYTES_MIN`].
const PROGRESS_WINDOW: Duration = Duration::from_secs(20);
const PROGRESS_BYTES_MIN: usize = 16 * 1024;

thread_local! {
    static CHUNK: RefCell<BytesMut> = RefCell::default();
}

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
    /// The memory for requests was taken by others for too long.
    #[error("no memory for the request")]
    NoMemory,
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
    /// Whether `buffer` is a part of a thread's chunk.
    shared: bool,
    /// Whether the last frame was too large for the chunk.
    large: bool,
    permit: MemoryPermit,
    charged: usize,
    quiet_since: Option<Instant>,
    window: Option<Window>,
    alarm: Alarm,
}

#[derive(Debug)]
struct Window {
    ends: Instant,
    received: usize,
}

impl FrameReader {
    /// A reader with nothing buffered.
    pub fn new(limits: FrameLimits) -> Self {
        Self {
            limits,
            buffer: BytesMut::new(),
            shared: false,
            large: false,
            permit: MemoryPermit::default(),
            charged: 0,
            quiet_since: None,
            window: None,
            alarm: Alarm::default(),
        }
    }

    /// Whether a whole frame is buffered already.
    pub fn has_frame(&self) -> bool {
        matches!(self.announced(), Ok(Some(size)) if self.buffer.len() - PREFIX_BYTES >= size)
    }

    /// The next frame, or `None` when the peer closed between frames.
    pub async fn next(&mut self, stream: &Socket) -> Result<Option<Frame>, ReadFrameError> {
        loop {
            let missing = match self.announced()? {
                None => PREFIX_BYTES - self.buffer.len(),
                Some(size) => match size.checked_sub(self.buffer.len() - PREFIX_BYTES) {
                    None | Some(0) => return Ok(Some(self.split(size))),
                    Some(missing) => missing,
                },
            };
            let read = if self.buffer.is_empty() && !self.large {
                self.read_into_chunk(stream)
            } else {
                self.leave_chunk();
                let allowed = self.make_room(missing).await?;
                stream.try_read_buf(&mut (&mut self.buffer).limit(allowed))
            };
            match read {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Err(ReadFrameError::Truncated),
                Ok(count) => self.received(count)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait(stream).await?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Reads into the thread's chunk. The connection has what was read.
    fn read_into_chunk(&mut self, stream: &Socket) -> io::Result<usize> {
        CHUNK.with_borrow_mut(|chunk| {
            if chunk.capacity() < READ_BYTES {
                chunk.reserve(CHUNK_BYTES);
            }
            let read = stream.try_read_buf(&mut (&mut *chunk).limit(READ_BYTES));
            // Also where it failed half way, as under TLS at a damaged record: nothing of it may reach the next connection.
            if !chunk.is_empty() {
                (self.buffer, self.shared) = (chunk.split(), true);
            }
            read
        })
    }

    /// Moves a frame that is not whole into a buffer of its own.
    fn leave_chunk(&mut self) {
        if self.shared {
            let part = std::mem::take(&mut self.buffer);
            self.buffer.extend_from_slice(&part);
            self.shared = false;
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
        let body = self.buffer.split_to(size);
        let body = if self.shared && size <= COPIED_BYTES_MAX { Bytes::copy_from_slice(&body) } else { body.freeze() };
        self.large = size > SHARED_BYTES_MAX;
        if self.buffer.is_empty() && (self.shared || !self.large) {
            // Empty as it is, it would hold the chunk.
            (self.buffer, self.shared) = (BytesMut::new(), false);
        }
        self.charged = 0;
        self.quiet_since = None;
        self.window = None;
        Frame { body, permit: std::mem::take(&mut self.permit) }
    }

    /// Makes room for some of the `missing` bytes and says how many may be read. What exceeds one read is charged to
    /// the budget as it comes, each step at most what has come already, so that an announced size holds nothing.
    async fn make_room(&mut self, missing: usize) -> Result<usize, ReadFrameError> {
        let mut allowed = (READ_BYTES + self.charged).saturating_sub(self.buffer.len());
        if allowed == 0 {
            let step = missing.min(self.buffer.len().max(READ_BYTES));
            // Whoever holds a part and waits for more gives up in the end: a few such must not block all for ever.
            let grown = timeout(PROGRESS_WINDOW, self.limits.budget.grow(&mut self.permit, step)).await;
            grown.map_err(|_| ReadFrameError::NoMemory)?;
            self.charged += step;
            allowed = step;
        }
        if self.buffer.capacity() - self.buffer.len() < missing.min(allowed) {
            let trusted = self.buffer.len().max(RESERVE_BYTES_MAX);
            let at_least = if self.large { READ_BYTES } else { 0 };
            self.buffer.reserve(missing.min(trusted).max(at_least));
        }
        Ok(allowed)
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
    async fn wait(&mut self, stream: &Socket) -> Result<(), ReadFrameError> {
        if !self.buffer.is_empty() {
            let window = self
                .window
                .get_or_insert_with(|| Window { ends: Instant::now() + PROGRESS_WINDOW, received: self.buffer.len() });
            if readable_by(window.ends, &mut self.alarm, stream).await? {
                return Ok(());
            }
            if window.received < PROGRESS_BYTES_MIN {
                return Err(ReadFrameError::TooSlow);
            }
            *window = Window { ends: Instant::now() + PROGRESS_WINDOW, received: 0 };
            return Ok(());
        }
        let quiet_since = *self.quiet_since.get_or_insert_with(Instant::now);
        if self.buffer.capacity() > 0 {
            if readable_by(quiet_since + BUFFER_KEEP, &mut self.alarm, stream).await? {
                return Ok(());
            }
            self.buffer = BytesMut::new();
            self.permit = MemoryPermit::default();
            self.charged = 0;
        }
        if readable_by(quiet_since + self.limits.idle_max, &mut self.alarm, stream).await? {
            return Ok(());
        }
        Err(ReadFrameError::Idle)
    }
}

/// Whether the socket is readable before the deadline.
async fn readable_by(deadline: Instant, alarm: &mut Alarm, stream: &Socket) -> io::Result<bool> {
    poll_fn(|cx| match stream.poll_readable(cx) {
        Poll::Ready(ready) => Poll::Ready(ready.map(|()| true)),
        Poll::Pending => alarm.poll(cx, deadline).map(|()| Ok(false)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpStream;

    use super::*;

    async fn pair() -> (TcpStream, Socket) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0.into())
    }

    impl Socket {
        async fn readable(&self) {
            poll_fn(|cx| self.poll_readable(cx)).await.unwrap();
        }
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
    async fn what_comes_after_the_socket_was_empty_is_heard_and_so_is_the_end() {
        let (mut client, server) = pair().await;
        let mut reader = FrameReader::new(limits(1000));
        for round in 0..100u8 {
            client.write_all(&[0, 0, 0, 2, 7, round]).await.unwrap();
            if round == 99 {
                client.shutdown().await.unwrap();
            }
            assert_eq!(reader.next(&server).await.unwrap().unwrap().body, [7, round][..]);
        }
        assert!(reader.next(&server).await.unwrap().is_none());
    }

    /// Polls for a frame once, and gives up.
    async fn poll_once(reader: &mut FrameReader, server: &Socket) {
        tokio::select! {
            biased;
            frame = reader.next(server) => panic!("there is no frame: {frame:?}"),
            () = tokio::task::yield_now() => {}
        }
    }

    #[tokio::test]
    async fn connections_that_share_a_chunk_do_not_see_each_other() {
        let size = |number: usize| [1, 3, 5_000, 20_000, 40_000, 70_000, 9_999][number % 7];
        let mut connections = Vec::new();
        for number in 0..20u8 {
            let (client, server) = pair().await;
            connections.push((number, client, server, FrameReader::new(limits(100_000))));
        }
        for round in 0..8 {
            let body = |number: u8| vec![number ^ round; size(usize::from(number + round))];
            for half in [false, true] {
                for (number, client, server, reader) in &mut connections {
                    let body = body(*number);
                    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
                    frame.extend_from_slice(&body);
                    let (first, rest) = frame.split_at(frame.len() / 2);
                    client.write_all(if half { rest } else { first }).await.unwrap();
                    if !half {
                        // Some see the first half before the others read, some do not.
                        server.readable().await;
                        poll_once(reader, server).await;
                    }
                }
            }
            let mut frames = Vec::new();
            for (number, _, server, reader) in &mut connections {
                frames.push((body(*number), reader.next(server).await.unwrap().unwrap()));
            }
            for (body, frame) in frames {
                assert!(frame.body == body, "round {round}");
            }
        }
    }

    #[tokio::test]
    async fn small_frame_that_is_held_holds_nothing_else() {
        let reclaims = || CHUNK.with_borrow_mut(|chunk| chunk.try_reclaim(CHUNK_BYTES));
        let (mut client, server) = pair().await;
        let mut reader = FrameReader::new(limits(100_000));
        let mut frames = Vec::new();
        for size in [10u8, 200] {
            client.write_all(&[0, 0, 0, size]).await.unwrap();
            client.write_all(&vec![size; usize::from(size)]).await.unwrap();
            frames.push(reader.next(&server).await.unwrap().unwrap());
        }
        poll_once(&mut reader, &server).await;
        assert!(reclaims());
        client.write_all(&5_000u32.to_be_bytes()).await.unwrap();
        client.write_all(&[7; 5_000]).await.unwrap();
        let larger = reader.next(&server).await.unwrap().unwrap();
        drop(larger);
        assert!(reclaims());
        assert_eq!((&frames[0].body[..], &frames[1].body[..]), (&[10; 10][..], &[200; 200][..]));
    }

    #[tokio::test]
    async fn part_of_a_frame_leaves_the_chunk_to_others() {
        let (mut client, server) = pair().await;
        let mut reader = FrameReader::new(limits(100_000));
        client.write_all(&[0, 0, 39, 16, 7, 7, 7]).await.unwrap();
        server.readable().await;
        poll_once(&mut reader, &server).await;
        assert_eq!(reader.buffer.len(), 7);
        assert!(CHUNK.with_borrow_mut(|chunk| chunk.try_reclaim(CHUNK_BYTES)));
        client.write_all(&[7; 9_997]).await.unwrap();
        assert_eq!(reader.next(&server).await.unwrap().unwrap().body, [7; 10_000][..]);
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

    #[tokio::test]
    async fn announced_frames_hold_no_budget_and_large_ones_hold_what_has_come() {
        let budget = MemoryBudget::new(1 << 20);
        let limits = FrameLimits { budget: Arc::clone(&budget), ..limits(10 << 20) };
        let (mut announcing, announced) = pair().await;
        announcing.write_all(&(9i32 << 20).to_be_bytes()).await.unwrap();
        let mut waiting = FrameReader::new(limits.clone());
        tokio::select! {
            biased;
            frame = waiting.next(&announced) => panic!("there is no frame: {frame:?}"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(budget.bytes_in_use(), 0);
        let (mut client, server) = pair().await;
        let body = vec![3u8; 600_000];
        client.write_all(&(body.len() as u32).to_be_bytes()).await.unwrap();
        let sending = tokio::spawn(async move { client.write_all(&body).await.map(|()| client) });
        let frame = FrameReader::new(limits).next(&server).await.unwrap().unwrap();
        assert!((500_000..=1 << 20).contains(&budget.bytes_in_use()), "{}", budget.bytes_in_use());
        assert_eq!(frame.body.len(), 600_000);
        drop(frame);
        assert_eq!(budget.bytes_in_use(), 0);
        sending.await.unwrap().unwrap();
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
