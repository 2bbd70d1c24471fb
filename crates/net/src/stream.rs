//! A connection, plain or encrypted, as two halves that are used at the same time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use crate::part_writer::{Part, WriteError, write_parts};

/// What a file's slice is read in before it is encrypted.
const READ_BYTES: usize = 256 * 1024;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Without encryption: slices of files go from the page cache to the socket.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// The half that reads.
#[derive(Debug)]
pub enum StreamReader {
    /// Without encryption.
    Plain(Arc<TcpStream>),
    /// With TLS.
    Tls(ReadHalf<Box<TlsStream<TcpStream>>>),
}

/// The half that writes.
#[derive(Debug)]
pub enum StreamWriter {
    /// Without encryption.
    Plain(Arc<TcpStream>),
    /// With TLS.
    Tls(WriteHalf<Box<TlsStream<TcpStream>>>),
}

impl Stream {
    /// Writes all of `bytes`; what is encrypted has left when this returns.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        AsyncWriteExt::write_all(self, bytes).await?;
        self.flush().await
    }

    /// Reads what there is into the room behind `buffer`; 0 at the end. May be cancelled.
    pub async fn read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(buffer).await,
            Self::Tls(stream) => stream.read_buf(buffer).await,
        }
    }

    /// The two halves.
    pub fn split(self) -> (StreamReader, StreamWriter) {
        match self {
            Self::Plain(stream) => {
                let stream = Arc::new(stream);
                (StreamReader::Plain(Arc::clone(&stream)), StreamWriter::Plain(stream))
            }
            Self::Tls(stream) => {
                let (read, write) = tokio::io::split(stream);
                (StreamReader::Tls(read), StreamWriter::Tls(write))
            }
        }
    }
}

/// What is encrypted has left when a flush is done, and may wait until then.
impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl StreamReader {
    /// Reads what there is into the room behind `buffer`; 0 at the end. May be cancelled.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => loop {
                stream.readable().await?;
                match stream.try_read_buf(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => return done,
                }
            },
            Self::Tls(stream) => stream.read_buf(buffer).await,
        }
    }
}

impl StreamWriter {
    /// Writes all `parts` in order and leaves the vector empty. `stall_max` bounds the time without progress.
    ///
    /// # Errors
    /// Part of what was to be written may have left, so the connection cannot go on.
    pub async fn write_parts(&mut self, parts: &mut Vec<Part>, stall_max: Duration) -> Result<(), WriteError> {
        let stream = match self {
            Self::Plain(stream) => return write_parts(stream, parts, stall_max).await,
            Self::Tls(stream) => stream,
        };
        let within = |done: Result<io::Result<()>, _>| match done {
            Ok(done) => done.map_err(WriteError::Peer),
            Err(_) => Err(WriteError::Peer(io::ErrorKind::TimedOut.into())),
        };
        let mut scratch = Vec::new();
        for part in parts.drain(..) {
            match part {
                Part::Bytes(bytes) => within(timeout(stall_max, stream.write_all(&bytes)).await)?,
                Part::File(slice) => {
                    let mut done = 0;
                    while done < slice.len {
                        let step = READ_BYTES.min(slice.len - done);
                        scratch.resize(step, 0);
                        scratch = slice.read_at(done, scratch).await?;
                        within(timeout(stall_max, stream.write_all(&scratch)).await)?;
                        done += step;
                    }
                }
            }
        }
        within(timeout(stall_max, stream.flush()).await)
    }
}
