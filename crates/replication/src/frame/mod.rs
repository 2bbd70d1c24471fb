//! Frames as bytes: header, limits, checksum, and a decoder that is fed what the socket gives.
//!
//! A frame is a header of [`HEADER_BYTES`], a head, and, for append frames only, a payload of record batches. The
//! checksum covers header and head. It leaves the payload out so that the leader need not read it: see
//! `docs/internals/replication.md`. No length from the wire is believed before it was compared with a limit, and no
//! buffer grows beyond the bytes that came.

mod body;
mod bytes;
mod decoder;

pub use decoder::Decoder;

use ::bytes::Bytes;

use crate::message::{AppendHead, Frame};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 20;
/// The first four bytes of every frame: `CHNK`.
pub const MAGIC: u32 = 0x4348_4e4b;
/// The protocol version spoken here.
pub const VERSION: u8 = 1;
/// Where the header's checksum lies; it covers what comes before and the head.
const CRC_AT: usize = 16;

/// How long frames may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head.
    pub head_bytes_max: u32,
    /// Bytes of an append frame's batches.
    pub payload_bytes_max: u32,
}

impl Limits {
    /// Until the handshake is complete.
    pub const HANDSHAKE: Self = Self { head_bytes_max: 16 << 10, payload_bytes_max: 0 };
    /// Bytes of a head once it is complete.
    pub const HEAD_BYTES_MAX: u32 = 1 << 20;

    /// Once the handshake is complete.
    pub const fn open(payload_bytes_max: u32) -> Self {
        Self { head_bytes_max: Self::HEAD_BYTES_MAX, payload_bytes_max }
    }
}

/// Bytes that are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first four bytes are others.
    #[error("magic {found:08x}")]
    Magic {
        /// What they are.
        found: u32,
    },
    /// A version not spoken here.
    #[error("version {found}")]
    Version {
        /// Which.
        found: u8,
    },
    /// A kind that does not exist.
    #[error("kind {found}")]
    Kind {
        /// Which.
        found: u8,
    },
    /// Flags that mean nothing.
    #[error("flags {found:04x}")]
    Flags {
        /// Which.
        found: u16,
    },
    /// Longer than its kind may be.
    #[error("{what} of {bytes} bytes, {max} allowed")]
    TooLong {
        /// Head or payload.
        what: &'static str,
        /// The length announced.
        bytes: u32,
        /// The limit.
        max: u32,
    },
    /// The checksum does not fit.
    #[error("checksum {found:08x}, computed {computed:08x}")]
    Checksum {
        /// The one sent.
        found: u32,
        /// The one of the bytes.
        computed: u32,
    },
    /// The head makes no sense.
    #[error("malformed {what}")]
    Malformed {
        /// The field.
        what: &'static str,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended {missing} bytes before the end of a frame")]
    Truncated {
        /// How many bytes are missing at least.
        missing: usize,
    },
}

/// The kinds of frames, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each variant is the message of its name")]
pub enum Kind {
    Hello = 1,
    Challenge = 2,
    Proof = 3,
    HelloAck = 4,
    Welcome = 5,
    Refused = 6,
    Fenced = 7,
    Heartbeat = 8,
    MetadataSnapshot = 16,
    MetadataDelta = 17,
    Attach = 32,
    Attached = 33,
    Truncate = 34,
    Reset = 35,
    Append = 36,
    Progress = 37,
    Detach = 38,
    Ack = 39,
    PartitionRefused = 40,
}

impl Kind {
    /// All of them, for metrics.
    pub const ALL: &[Self] = &[
        Self::Hello,
        Self::Challenge,
        Self::Proof,
        Self::HelloAck,
        Self::Welcome,
        Self::Refused,
        Self::Fenced,
        Self::Heartbeat,
        Self::MetadataSnapshot,
        Self::MetadataDelta,
        Self::Attach,
        Self::Attached,
        Self::Truncate,
        Self::Reset,
        Self::Append,
        Self::Progress,
        Self::Detach,
        Self::Ack,
        Self::PartitionRefused,
    ];

    /// Its number on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Its name in metrics and log lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Challenge => "challenge",
            Self::Proof => "proof",
            Self::HelloAck => "hello_ack",
            Self::Welcome => "welcome",
            Self::Refused => "refused",
            Self::Fenced => "fenced",
            Self::Heartbeat => "heartbeat",
            Self::MetadataSnapshot => "metadata_snapshot",
            Self::MetadataDelta => "metadata_delta",
            Self::Attach => "attach",
            Self::Attached => "attached",
            Self::Truncate => "truncate",
            Self::Reset => "reset",
            Self::Append => "append",
            Self::Progress => "progress",
            Self::Detach => "detach",
            Self::Ack => "ack",
            Self::PartitionRefused => "partition_refused",
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.code() == code)
    }
}

impl Frame {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::Hello,
            Self::Challenge(_) => Kind::Challenge,
            Self::Proof(_) => Kind::Proof,
            Self::HelloAck(_) => Kind::HelloAck,
            Self::Welcome(_) => Kind::Welcome,
            Self::Refused(_) => Kind::Refused,
            Self::Fenced(_) => Kind::Fenced,
            Self::Heartbeat(_) => Kind::Heartbeat,
            Self::MetadataSnapshot(_) => Kind::MetadataSnapshot,
            Self::MetadataDelta(_) => Kind::MetadataDelta,
            Self::Attach(_) => Kind::Attach,
            Self::Attached(_) => Kind::Attached,
            Self::Truncate(_) => Kind::Truncate,
            Self::Reset(_) => Kind::Reset,
            Self::Append(..) => Kind::Append,
            Self::Progress(_) => Kind::Progress,
            Self::Detach(_) => Kind::Detach,
            Self::Ack(_) => Kind::Ack,
            Self::PartitionRefused(_) => Kind::PartitionRefused,
        }
    }
}

/// A header that was read: the kind is known and the lengths are within the limits. The checksum is not checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    kind: Kind,
    head_bytes: u32,
    payload_bytes: u32,
    crc: u32,
    /// The checksum of the header's bytes before it.
    crc_before: u32,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// It is none, or announces more than `limits` allow.
    pub fn read(bytes: &[u8; HEADER_BYTES], limits: &Limits) -> Result<Self, Error> {
        let mut reader = bytes::Reader::new(bytes);
        let found = reader.u32("magic")?;
        if found != MAGIC {
            return Err(Error::Magic { found });
        }
        let found = reader.u8("version")?;
        if found != VERSION {
            return Err(Error::Version { found });
        }
        let found = reader.u8("kind")?;
        let kind = Kind::from_code(found).ok_or(Error::Kind { found })?;
        let found = reader.u16("flags")?;
        if found != 0 {
            return Err(Error::Flags { found });
        }
        let head_bytes = reader.u32("head length")?;
        if head_bytes > limits.head_bytes_max {
            return Err(Error::TooLong { what: "head", bytes: head_bytes, max: limits.head_bytes_max });
        }
        let payload_bytes = reader.u32("payload length")?;
        let max = if kind == Kind::Append { limits.payload_bytes_max } else { 0 };
        if payload_bytes > max {
            return Err(Error::TooLong { what: "payload", bytes: payload_bytes, max });
        }
        let crc = reader.u32("checksum")?;
        let crc_before = crc32c::crc32c(bytes.get(..CRC_AT).unwrap_or_default());
        Ok(Self { kind, head_bytes, payload_bytes, crc, crc_before })
    }

    /// The frame's kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of the head, within the limit.
    pub fn head_bytes(&self) -> usize {
        usize::try_from(self.head_bytes).unwrap_or(usize::MAX)
    }

    /// Bytes of the payload, within the limit.
    pub fn payload_bytes(&self) -> usize {
        usize::try_from(self.payload_bytes).unwrap_or(usize::MAX)
    }

    /// Makes the frame of its head and payload.
    ///
    /// # Errors
    /// The checksum does not fit, or the content makes no sense.
    pub fn finish(&self, head: &Bytes, payload: Bytes) -> Result<Frame, Error> {
        if head.len() != self.head_bytes() || payload.len() != self.payload_bytes() {
            return Err(Error::Malformed { what: "length" });
        }
        let computed = crc32c::crc32c_append(self.crc_before, head);
        if computed != self.crc {
            return Err(Error::Checksum { found: self.crc, computed });
        }
        body::decode(self.kind, head, payload)
    }
}

/// Writes a whole frame behind what `out` holds.
pub fn encode(frame: &Frame, out: &mut Vec<u8>) {
    let payload: &[u8] = if let Frame::Append(_, batches) = frame { batches } else { &[] };
    encode_parts(frame.kind(), payload.len(), out, |out| body::encode(frame, out));
    out.extend_from_slice(payload);
}

/// A whole frame.
pub fn to_bytes(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    encode(frame, &mut out);
    out
}

/// Header and head of an append frame, to be followed by `payload_bytes` bytes out of a segment.
pub fn encode_append(head: &AppendHead, payload_bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + body::APPEND_HEAD_BYTES);
    encode_parts(Kind::Append, payload_bytes, &mut out, |out| body::encode_append(head, out));
    out
}

fn encode_parts(kind: Kind, payload_bytes: usize, out: &mut Vec<u8>, head: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    head(out);
    let head_bytes = out.len() - start - HEADER_BYTES;
    // Our own frames are far below 4 GiB; a length that does not fit would be refused by the peer, never cut short.
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(&MAGIC.to_be_bytes());
    header.extend_from_slice(&[VERSION, kind.code(), 0, 0]);
    header.extend_from_slice(&length(head_bytes));
    header.extend_from_slice(&length(payload_bytes));
    let crc = crc32c::crc32c(&header);
    let crc = crc32c::crc32c_append(crc, out.get(start + HEADER_BYTES..).unwrap_or_default());
    header.extend_from_slice(&crc.to_be_bytes());
    if let Some(target) = out.get_mut(start..start + HEADER_BYTES) {
        target.copy_from_slice(&header);
    }
}

#[cfg(test)]
mod tests;
