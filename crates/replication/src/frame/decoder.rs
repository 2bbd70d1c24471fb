//! Cuts a stream of bytes into frames.

use ::bytes::{Buf, Bytes, BytesMut};

use super::{Error, HEADER_BYTES, Header, Limits};
use crate::message::Frame;

/// Collects bytes and gives out whole frames. Holds no more than came, and no more than one frame may have beyond what
/// the caller fed at once. After an error it gives the same error again: nothing behind a bad frame can be believed.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    buf: BytesMut,
    header: Option<Header>,
    failed: Option<Error>,
}

impl Decoder {
    /// A decoder at the beginning of a connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, buf: BytesMut::new(), header: None, failed: None }
    }

    /// Changes the limits, which hold from the next header on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes bytes off the wire.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// Where bytes off the wire are read into, with room for what the next frame wants, `bytes` at the least.
    pub fn room(&mut self, bytes: usize) -> &mut BytesMut {
        // A frame's length was compared with its limit, and grows the buffer only as its bytes come.
        self.buf.reserve(self.wanted().clamp(bytes, self.buf.len().max(bytes)));
        &mut self.buf
    }

    /// How many bytes the next frame needs at least before [`Decoder::next_frame`] can say more.
    pub fn wanted(&self) -> usize {
        let whole = match &self.header {
            Some(header) => header.head_bytes().saturating_add(header.payload_bytes()),
            None => HEADER_BYTES,
        };
        whole.saturating_sub(self.buf.len())
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// The bytes are no frame.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let outcome = self.advance();
        if let Err(error) = &outcome {
            self.failed = Some(error.clone());
            self.buf = BytesMut::new();
        }
        outcome
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// It ended inside a frame.
    pub fn end(&self) -> Result<(), Error> {
        if self.header.is_none() && self.buf.is_empty() {
            return Ok(());
        }
        Err(Error::Truncated { missing: self.wanted() })
    }

    fn advance(&mut self) -> Result<Option<Frame>, Error> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let Some(bytes) = self.buf.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
                let header = Header::read(bytes, &self.limits)?;
                self.buf.advance(HEADER_BYTES);
                *self.header.insert(header)
            }
        };
        if self.wanted() > 0 {
            return Ok(None);
        }
        self.header = None;
        let head: Bytes = self.buf.split_to(header.head_bytes()).freeze();
        let payload = self.buf.split_to(header.payload_bytes()).freeze();
        header.finish(&head, payload).map(Some)
    }
}
