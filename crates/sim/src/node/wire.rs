//! What both ends of a link need of a connection: bytes are cut into frames, and frames wait as bytes until the network
//! takes them.

use chronik_replication::frame::{self, Decoder, Limits};
use chronik_replication::message::Frame;

use super::Context;
use crate::network::End;

/// One end of a connection with its buffers.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) end: End,
    pub(super) decoder: Decoder,
    outbox: Vec<u8>,
}

impl Wire {
    pub(super) fn new(end: End) -> Self {
        Self { end, decoder: Decoder::new(Limits::HANDSHAKE), outbox: Vec::new() }
    }

    pub(super) fn send(&mut self, frame: &Frame) {
        frame::encode(frame, &mut self.outbox);
    }

    pub(super) fn send_bytes(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
    }

    /// Gives the network what it takes of the queue, and closes.
    pub(super) fn close(mut self, cx: &mut Context<'_>) {
        self.pump(cx);
        cx.on_network(|network, now, due| network.close(self.end, now, due));
    }

    /// Bytes that the network has not taken yet.
    pub(super) fn queued(&self) -> usize {
        self.outbox.len()
    }

    /// Gives the network what it takes.
    pub(super) fn pump(&mut self, cx: &mut Context<'_>) {
        let room = cx.network.room(self.end).min(self.outbox.len());
        if room > 0 {
            let rest = self.outbox.split_off(room);
            let bytes = std::mem::replace(&mut self.outbox, rest);
            cx.on_network(|network, now, due| network.send(self.end, bytes, now, due));
        }
    }
}
