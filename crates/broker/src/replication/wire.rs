//! A link's socket: frames in, frames and slices of segments out, both at the same time.
//!
//! What waits to be written is bounded by whoever sends: the window of a sender, and what [`Wire::is_behind`] holds back.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use chronik_net::{Part, Stream, StreamReader, StreamWriter, WriteError};
use chronik_replication::frame::{self, Decoder, Limits};
use chronik_replication::message::Frame;

/// Room for one read at the least.
const READ_BYTES: usize = 128 * 1024;
/// A peer that takes nothing for so long is given up.
const STALL_MAX: Duration = Duration::from_secs(60);
/// With so many bytes of frames waiting no more are made than must be.
const BEHIND_BYTES: usize = 256 * 1024;
/// How long a last word may take to be written.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// Gives the half back that writes.
type Writing = Pin<Box<dyn Future<Output = Result<StreamWriter, WriteError>> + Send>>;

/// One end of a connection.
pub(super) struct Wire {
    reader: StreamReader,
    /// There while nothing is being written.
    writer: Option<StreamWriter>,
    decoder: Decoder,
    out: Vec<Part>,
    /// Bytes in memory among `out`.
    out_bytes: usize,
    writing: Option<Writing>,
    sent_bytes: u64,
    received_bytes: u64,
}

/// What a turn of the wire was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Bytes came.
    Received,
    /// What waited was written.
    Written,
    /// The peer sends nothing more.
    Ended,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        let (reader, writer) = stream.split();
        Self {
            reader,
            writer: Some(writer),
            decoder: Decoder::new(Limits::HANDSHAKE),
            out: Vec::new(),
            out_bytes: 0,
            writing: None,
            sent_bytes: 0,
            received_bytes: 0,
        }
    }

    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    pub(super) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// The handshake is complete: frames may be as long as these limits say.
    pub(super) fn open(&mut self, limits: Limits) {
        self.decoder.set_limits(limits);
    }

    pub(super) fn send(&mut self, frame: &Frame) {
        self.push(Part::Bytes(Bytes::from(frame::to_bytes(frame))));
    }

    /// Sends the head of an append frame and the batches behind it.
    pub(super) fn send_append(&mut self, head: Vec<u8>, batches: Part) {
        self.push(Part::Bytes(Bytes::from(head)));
        self.push(batches);
    }

    fn push(&mut self, part: Part) {
        self.sent_bytes += part.len() as u64;
        if let Part::Bytes(bytes) = &part {
            self.out_bytes += bytes.len();
        }
        self.out.push(part);
    }

    /// Whether the peer takes less than there is for it.
    pub(super) fn is_behind(&self) -> bool {
        self.out_bytes > BEHIND_BYTES
    }

    /// The next whole frame of what came.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, frame::Error> {
        self.decoder.next_frame()
    }

    /// The stream has ended: an error where it did inside a frame.
    pub(super) fn end(&self) -> Result<(), frame::Error> {
        self.decoder.end()
    }

    /// Reads or writes, whatever can be done first. May be cancelled.
    pub(super) async fn turn(&mut self) -> Result<Turn, WriteError> {
        if !self.out.is_empty()
            && let Some(mut writer) = self.writer.take()
        {
            let mut parts = std::mem::take(&mut self.out);
            self.out_bytes = 0;
            self.writing = Some(Box::pin(async move {
                writer.write_parts(&mut parts, STALL_MAX).await?;
                Ok(writer)
            }));
        }
        let (reader, writing) = (&mut self.reader, &mut self.writing);
        tokio::select! {
            written = written(writing) => {
                self.writing = None;
                self.writer = Some(written?);
                Ok(Turn::Written)
            }
            read = reader.read(self.decoder.room(READ_BYTES)) => match read.map_err(WriteError::Peer)? {
                0 => Ok(Turn::Ended),
                count => {
                    self.received_bytes += count as u64;
                    Ok(Turn::Received)
                }
            }
        }
    }

    /// Writes what waits, as far as the peer takes it soon, and closes.
    pub(super) async fn close(mut self) {
        let farewell = async {
            while self.writing.is_some() || !self.out.is_empty() {
                match self.turn().await {
                    Ok(Turn::Written) => {}
                    // What still comes is not looked at any more.
                    Ok(Turn::Received) => self.decoder = Decoder::new(Limits::HANDSHAKE),
                    Ok(Turn::Ended) | Err(_) => return,
                }
            }
        };
        // A peer that does not take it has no use for it.
        let _ = tokio::time::timeout(FAREWELL_MAX, farewell).await;
    }
}

async fn written(writing: &mut Option<Writing>) -> Result<StreamWriter, WriteError> {
    match writing {
        Some(writing) => writing.await,
        None => std::future::pending().await,
    }
}
