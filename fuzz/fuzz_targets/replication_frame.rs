//! A link's bytes: frames are cut off and given to the end that follows, which must refuse what it cannot take and pass on
//! nothing that is not in its place.
//!
//! The first byte chooses: even, the rest is a stream as it comes; odd, it is heads of frames, each behind its kind and a length
//! of two bytes, to which the right header is made.
#![no_main]

use std::time::Duration;

use chronik_model::{Generation, Instant, NodeId, Offset};
use chronik_replication::frame::{self, Decoder, HEADER_BYTES, Limits, MAGIC, VERSION};
use chronik_replication::link::receiver::{Config, Effect, Input, Receiver};
use chronik_replication::link::{Time, Timing};
use chronik_replication::message::{Attached, Frame, JournalPosition};
use libfuzzer_sys::fuzz_target;

const PAYLOAD_BYTES_MAX: u32 = 1 << 20;

fn framed(mut data: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let [kind, high, low, rest @ ..] = data {
        let wanted = usize::from(u16::from_be_bytes([*high, *low]));
        let (head, behind) = rest.split_at(wanted.min(rest.len()));
        // What is behind an append's head is its payload.
        let payload = if *kind == frame::Kind::Append as u8 { behind.len().min(256) } else { 0 };
        let at = stream.len();
        stream.extend_from_slice(&MAGIC.to_be_bytes());
        stream.extend_from_slice(&[VERSION, *kind, 0, 0]);
        stream.extend_from_slice(&(head.len() as u32).to_be_bytes());
        stream.extend_from_slice(&(payload as u32).to_be_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&stream[at..]), head);
        stream.extend_from_slice(&crc.to_be_bytes());
        assert_eq!(stream.len() - at, HEADER_BYTES);
        stream.extend_from_slice(head);
        stream.extend_from_slice(&behind[..payload]);
        data = &behind[payload..];
    }
    stream
}

fn receiver() -> Receiver {
    Receiver::new(Config {
        cluster_id: None,
        node_id: NodeId::NONE,
        generation: Generation::ZERO,
        leader_id: NodeId::NONE,
        leader_advertised: "".into(),
        leads: false,
        advertised: "f:1".into(),
        rack: "".into(),
        secret: None,
        timing: Timing {
            handshake: Duration::from_secs(10),
            heartbeat: Duration::from_secs(10),
            silence: Duration::from_secs(60),
        },
        journal: JournalPosition::default(),
    })
}

/// What a shell would answer whose logs are empty.
fn answer(effect: &Effect) -> Option<Input> {
    let empty = |id, leader_epoch, end: Offset| {
        Input::Attached(Attached {
            id,
            leader_epoch,
            log_start: Offset::ZERO,
            log_end: end,
            durable_end: end,
            tail: None,
            damaged: None,
            epochs: Vec::new(),
        })
    };
    match effect {
        Effect::Attach(attach) => Some(empty(attach.id, attach.leader_epoch, Offset::ZERO)),
        Effect::Truncate(truncate) => Some(empty(truncate.id, truncate.leader_epoch, truncate.to)),
        Effect::Reset(reset) => Some(empty(reset.id, reset.leader_epoch, reset.to)),
        Effect::Append { head, .. } => Some(Input::Advanced {
            id: head.id,
            leader_epoch: head.leader_epoch,
            log_end: head.end,
            durable_end: head.base,
        }),
        Effect::ApplyDelta(delta) => Some(Input::JournalApplied { end: delta.end }),
        Effect::ApplySnapshot(part) if part.last => Some(Input::JournalApplied { end: part.position.end }),
        _ => None,
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, rest)) = data.split_first() else { return };
    let stream = if mode % 2 == 0 { rest.to_vec() } else { framed(rest) };
    let mut decoder = Decoder::new(Limits::HANDSHAKE);
    let mut receiver = receiver();
    let mut effects = Vec::new();
    let time = Time { now: Instant::ORIGIN, ..Time::default() };
    receiver.handle(Input::Connected { nonce: [1; 32] }, time, &mut effects);
    let step = usize::from(mode / 2) + 1;
    for chunk in stream.chunks(step.max(stream.len() / 64)) {
        decoder.feed(chunk);
        loop {
            let input = match decoder.next_frame() {
                Ok(Some(frame)) => {
                    // Only what a peer of this version says comes out as it went in; an append is written in two pieces.
                    if !matches!(frame, Frame::Append(..)) {
                        let mut again = Decoder::new(Limits::open(PAYLOAD_BYTES_MAX));
                        again.feed(&frame::to_bytes(&frame));
                        assert_eq!(again.next_frame(), Ok(Some(frame.clone())));
                    }
                    Input::Frame(frame)
                }
                Ok(None) => break,
                Err(error) => Input::Malformed(error),
            };
            let is_over = matches!(input, Input::Malformed(_));
            let mut inputs = vec![input, Input::Settled];
            while !inputs.is_empty() {
                receiver.handle(inputs.remove(0), time, &mut effects);
                receiver.check_invariants();
                if receiver.is_open() {
                    decoder.set_limits(Limits::open(PAYLOAD_BYTES_MAX));
                }
                inputs.extend(effects.drain(..).filter_map(|effect| answer(&effect)));
            }
            if is_over || receiver.is_closed() {
                return;
            }
        }
    }
});
