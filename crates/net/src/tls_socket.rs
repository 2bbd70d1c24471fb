//! A client's connection under TLS, driven by readiness: one read gives many records, one write takes many.
//!
//! Buffers are borrowed from those of the listener while bytes pass, so a quiet connection holds none. What is encrypted
//! is sent before more is, so a client that does not read holds [`PIECE_BYTES`] and no more.

use std::fmt;
use std::io::{self, BufRead as _, IoSlice, Write as _};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BufMut;
use parking_lot::Mutex;
use rustix::net::SendFlags;
use rustls::ServerConnection;
use tokio::net::TcpStream;

use crate::part_writer::{Part, WriteError, progress};

/// What is read, or encrypted, at once: whole records of the largest size.
const PIECE_BYTES: usize = 4 * 16 * 1024;
/// Buffers kept for the next connection that needs one.
const SPARE_MAX: usize = 32;

/// Buffers of [`PIECE_BYTES`] that connections share.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    fn take(&self) -> Vec<u8> {
        let spare = self.spare.lock().pop();
        spare.unwrap_or_else(|| vec![0; PIECE_BYTES])
    }

    fn give(&self, buffer: Vec<u8>) {
        let mut spare = self.spare.lock();
        if spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    }
}

/// A connection behind its handshake.
pub struct TlsSocket {
    stream: TcpStream,
    session: Mutex<Session>,
    buffers: Arc<Buffers>,
}

/// Where writing goes on.
#[derive(Default)]
struct Next {
    /// Index of the part.
    part: usize,
    /// Bytes of it that are behind.
    skip: usize,
    /// Bytes of it that were brought into memory.
    warm_to: usize,
}

struct Session {
    connection: ServerConnection,
    /// Read and not decrypted yet, between `incoming_from` and `incoming_to`; no buffer where there is nothing.
    incoming: Vec<u8>,
    incoming_from: usize,
    incoming_to: usize,
    /// Decrypted and not read yet.
    decrypted: usize,
    /// The peer sends no more.
    ended: bool,
}

impl fmt::Debug for TlsSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSocket").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl TlsSocket {
    pub(crate) fn new(stream: TcpStream, mut connection: ServerConnection, buffers: Arc<Buffers>) -> Self {
        // Each piece is sent before the next one is encrypted; a limit would only cut records short.
        connection.set_buffer_limit(None);
        let session =
            Session { connection, incoming: Vec::new(), incoming_from: 0, incoming_to: 0, decrypted: 0, ended: false };
        let socket = Self { stream, session: Mutex::new(session), buffers };
        // The client's first bytes may have come with the end of the handshake.
        socket.session.lock().process().unwrap_or_default();
        socket
    }

    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.session.lock().has_more() {
            return Poll::Ready(Ok(()));
        }
        self.stream.poll_read_ready(cx)
    }

    pub(crate) fn try_read_buf<B: BufMut>(&self, buffer: &mut B) -> io::Result<usize> {
        let mut session = self.session.lock();
        let mut done = 0;
        loop {
            done += session.drain(buffer)?;
            if !buffer.has_remaining_mut() {
                return Ok(done);
            }
            if !session.has_encrypted() && (done > 0 || session.ended) {
                return Ok(done);
            }
            session.go_on(self)?;
        }
    }

    /// Waits for what the peer does next: whether it closes, rather than sends.
    pub(crate) async fn is_closed_next(&self) -> bool {
        loop {
            {
                let mut session = self.session.lock();
                loop {
                    if session.decrypted > 0 {
                        return false;
                    }
                    if session.ended {
                        return true;
                    }
                    match session.go_on(self) {
                        Ok(()) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(_) => return true,
                    }
                }
            }
            if self.stream.readable().await.is_err() {
                return true;
            }
        }
    }

    pub(crate) async fn write_parts(&self, parts: &mut Vec<Part>, stall_max: Duration) -> Result<(), WriteError> {
        parts.retain(|part| !part.is_empty());
        let mut next = Next::default();
        while next.part < parts.len() {
            let cold = self.encrypt_piece(parts, &mut next)?;
            self.send(next.part < parts.len(), stall_max).await.map_err(WriteError::Peer)?;
            if let (true, Some(Part::File(slice))) = (cold, parts.get(next.part)) {
                next.warm_to = slice.warm(next.skip).await?;
            }
            // A peer that reads as fast as this writes never makes it wait.
            tokio::task::coop::consume_budget().await;
        }
        parts.clear();
        Ok(())
    }

    /// Encrypts what comes next, up to a piece, and moves on behind it. True where the next bytes of a file are not in memory.
    fn encrypt_piece(&self, parts: &[Part], next: &mut Next) -> Result<bool, WriteError> {
        let mut piece = self.buffers.take();
        let (mut filled, mut cold) = (0, false);
        while let (Some(part), Some(room)) =
            (parts.get(next.part), piece.get_mut(filled..).filter(|room| !room.is_empty()))
        {
            let count = match part {
                Part::Bytes(bytes) => {
                    let left = bytes.get(next.skip..).unwrap_or_default();
                    let count = left.len().min(room.len());
                    if let (Some(to), Some(from)) = (room.get_mut(..count), left.get(..count)) {
                        to.copy_from_slice(from);
                    }
                    count
                }
                Part::File(slice) => match slice.read_resident(next.skip, room, next.warm_to) {
                    Ok(Some(count)) => count,
                    Ok(None) => {
                        cold = true;
                        break;
                    }
                    Err(error) => {
                        self.buffers.give(piece);
                        return Err(error);
                    }
                },
            };
            filled += count;
            next.skip += count;
            if next.skip >= part.len() {
                *next = Next { part: next.part + 1, ..Next::default() };
            }
        }
        let mut session = self.session.lock();
        let mut plain = piece.get(..filled).unwrap_or_default();
        let mut encrypted = Ok(());
        while !plain.is_empty() && encrypted.is_ok() {
            match session.connection.writer().write(plain) {
                Ok(0) => encrypted = Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => plain = plain.get(count..).unwrap_or_default(),
                Err(error) => encrypted = Err(error),
            }
        }
        drop(session);
        self.buffers.give(piece);
        encrypted.map_err(WriteError::Peer)?;
        Ok(cold)
    }

    /// Sends all that is encrypted.
    async fn send(&self, more: bool, stall_max: Duration) -> io::Result<()> {
        while self.session.lock().connection.wants_write() {
            progress(&self.stream, stall_max, || {
                self.session.lock().connection.write_tls(&mut Records { stream: &self.stream, more })
            })
            .await?;
        }
        Ok(())
    }

    /// Sends what the session itself has to say, such as an alert, as far as the socket takes it: the rest goes with
    /// the next answer.
    fn send_own(&self, session: &mut Session) {
        let attempt = || session.connection.write_tls(&mut Records { stream: &self.stream, more: false });
        if let Err(error) = self.stream.try_io(tokio::io::Interest::WRITABLE, attempt) {
            tracing::trace!(%error, "nothing can be sent at the moment");
        }
    }
}

impl Drop for TlsSocket {
    fn drop(&mut self) {
        let mut session = self.session.lock();
        // Behind half a response an end would be misread as a part of it.
        if !session.connection.wants_write() {
            session.connection.send_close_notify();
            self.send_own(&mut session);
        }
    }
}

impl Session {
    /// Whether reading gives something without the socket.
    fn has_more(&self) -> bool {
        self.decrypted > 0 || self.has_encrypted() || self.ended
    }

    /// Whether something is read and not decrypted.
    fn has_encrypted(&self) -> bool {
        self.incoming_from < self.incoming_to
    }

    /// Decrypts what is there, else reads the socket.
    fn go_on(&mut self, socket: &TlsSocket) -> io::Result<()> {
        if self.has_encrypted() { self.decrypt(socket) } else { self.fill(socket) }
    }

    /// Moves decrypted bytes to the room of `buffer`.
    fn drain<B: BufMut>(&mut self, buffer: &mut B) -> io::Result<usize> {
        let mut done = 0;
        while self.decrypted > 0 && buffer.has_remaining_mut() {
            let mut reader = self.connection.reader();
            let chunk = reader.fill_buf()?;
            let count = chunk.len().min(buffer.remaining_mut());
            buffer.put_slice(chunk.get(..count).unwrap_or_default());
            reader.consume(count);
            self.decrypted = self.decrypted.saturating_sub(count);
            done += count;
        }
        Ok(done)
    }

    /// Reads the socket once.
    fn fill(&mut self, socket: &TlsSocket) -> io::Result<()> {
        let mut incoming = socket.buffers.take();
        match socket.stream.try_read(&mut incoming) {
            Ok(count) => {
                (self.incoming, self.incoming_from, self.incoming_to) = (incoming, 0, count);
                self.ended |= count == 0;
                if count == 0 {
                    self.give_back(socket);
                }
                Ok(())
            }
            Err(error) => {
                socket.buffers.give(incoming);
                Err(error)
            }
        }
    }

    /// Decrypts what was read, as far as nothing decrypted waits to be read.
    fn decrypt(&mut self, socket: &TlsSocket) -> io::Result<()> {
        let mut processed = Ok(());
        while self.decrypted == 0 && !self.ended && processed.is_ok() {
            let mut unread = self.incoming.get(self.incoming_from..self.incoming_to).unwrap_or_default();
            if unread.is_empty() {
                break;
            }
            let before = unread.len();
            let taken = self.connection.read_tls(&mut unread);
            self.incoming_from += before - unread.len();
            // Behind the peer's end nothing is taken any more.
            self.ended |= matches!(taken, Ok(0));
            processed = taken.and_then(|_| self.process());
        }
        if self.incoming_from >= self.incoming_to || self.ended || processed.is_err() {
            self.give_back(socket);
        }
        if self.connection.wants_write() {
            socket.send_own(self);
        }
        processed
    }

    fn process(&mut self) -> io::Result<()> {
        let state =
            self.connection.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.decrypted = state.plaintext_bytes_to_read();
        self.ended |= state.peer_has_closed();
        Ok(())
    }

    fn give_back(&mut self, socket: &TlsSocket) {
        let incoming = std::mem::take(&mut self.incoming);
        (self.incoming_from, self.incoming_to) = (0, 0);
        if !incoming.is_empty() {
            socket.buffers.give(incoming);
        }
    }
}

/// The socket as rustls writes records to it: all of them in one call.
struct Records<'a> {
    stream: &'a TcpStream,
    /// More is to come at once.
    more: bool,
}

impl io::Write for Records<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = if self.more { SendFlags::MORE | SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL };
        let mut no_control = rustix::net::SendAncillaryBuffer::default();
        Ok(rustix::net::sendmsg(self.stream, slices, &mut no_control, flags)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
