//! A client's connection, plain or encrypted: what [`crate::FrameReader`] reads from and parts are written to.
//!
//! The plain one is the system's socket and nothing else.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BufMut;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::part_writer::{Part, WriteError, write_parts};
use crate::tls_socket::TlsSocket;

/// A client's connection. One task reads and writes it; both take it shared, so that one may be waited for beside the other.
#[derive(Debug)]
pub enum Socket {
    /// Without encryption.
    Plain(TcpStream),
    /// With TLS, behind its handshake.
    Tls(Box<TlsSocket>),
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(stream)
    }
}

impl Socket {
    /// Ready when reading may give something.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_read_ready(cx),
            Self::Tls(socket) => socket.poll_readable(cx),
        }
    }

    /// Reads what there is into the room of `buffer`, which is not empty; 0 at the end, `WouldBlock` where there is nothing.
    pub(crate) fn try_read_buf<B: BufMut>(&self, buffer: &mut B) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => read(stream, buffer),
            Self::Tls(socket) => socket.try_read_buf(buffer),
        }
    }

    /// Writes all `parts` in order and leaves the vector empty. `stall_max` bounds the time without progress.
    ///
    /// # Errors
    /// Part of what was to be written may have left, so the connection cannot go on.
    pub async fn write_parts(&self, parts: &mut Vec<Part>, stall_max: Duration) -> Result<(), WriteError> {
        match self {
            Self::Plain(stream) => write_parts(stream, parts, stall_max).await,
            Self::Tls(socket) => socket.write_parts(parts, stall_max).await,
        }
    }

    /// Returns when the peer has closed its side. With requests pipelined behind the running one it cannot be told
    /// apart from a peer that waits, and this does not return.
    pub async fn peer_closed(&self) {
        let closed = match self {
            Self::Plain(stream) => {
                // An error is found again by whoever looks.
                let _ = poll_fn(|cx| stream.poll_read_ready(cx)).await;
                !matches!(stream.peek(&mut [0]).await, Ok(1..))
            }
            Self::Tls(socket) => socket.is_closed_next().await,
        };
        if !closed {
            std::future::pending().await
        }
    }
}

/// Less than there is room for means that the socket is empty: saying so saves the call that would find that out. What
/// comes after it makes the socket readable anew.
fn read<B: BufMut>(stream: &TcpStream, buffer: &mut B) -> io::Result<usize> {
    let room = buffer.chunk_mut().len();
    let mut received = None;
    let tried = stream.try_io(Interest::READABLE, || {
        let count = stream.try_read_buf(buffer)?;
        received = Some(count);
        if (1..room).contains(&count) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    received.map_or_else(|| tried.map(|()| 0), Ok)
}
