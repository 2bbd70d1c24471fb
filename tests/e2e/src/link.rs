//! Frames of the link between a leader and its follower, byte by byte, so that tests can also make wrong ones. An independent
//! second opinion on `docs/internals/replication.md`: nothing of the broker's own encoder is used.

use std::io::{self, Read};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 20;
/// The first bytes of every frame.
pub const MAGIC: [u8; 4] = *b"CHNK";
/// No frame of a test is longer: what announces more is not read.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// Where the fields of a header lie.
pub mod at {
    /// Protocol version.
    pub const VERSION: usize = 4;
    /// Kind.
    pub const KIND: usize = 5;
    /// Flags.
    pub const FLAGS: usize = 6;
    /// Bytes of the head.
    pub const HEAD_BYTES: usize = 8;
    /// Bytes of the payload.
    pub const PAYLOAD_BYTES: usize = 12;
    /// Checksum.
    pub const CRC: usize = 16;
}

/// Numbers of the kinds that tests make or look for.
pub mod kind {
    /// The first frame, from the node that dialled.
    pub const HELLO: u8 = 1;
    /// A receiver with a secret asks for the sender's proof.
    pub const CHALLENGE: u8 = 2;
    /// That proof.
    pub const PROOF: u8 = 3;
    /// The receiver agrees.
    pub const HELLO_ACK: u8 = 4;
    /// The link is refused.
    pub const REFUSED: u8 = 6;
    /// Somebody else leads.
    pub const FENCED: u8 = 7;
    /// A sign of life.
    pub const HEARTBEAT: u8 = 8;
    /// Record batches.
    pub const APPEND: u8 = 36;
    /// Bounds moved.
    pub const PROGRESS: u8 = 37;
    /// How far a follower has come.
    pub const ACK: u8 = 39;
}

/// A whole frame, right or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// All of it.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// A frame of this kind whose lengths and checksum fit.
    pub fn new(kind: u8, head: &[u8], payload: &[u8]) -> Self {
        let length = |part: &[u8]| u32::try_from(part.len()).expect("a length").to_be_bytes();
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, kind, 0, 0]);
        bytes.extend(length(head));
        bytes.extend(length(payload));
        bytes.extend([0; 4]);
        bytes.extend_from_slice(head);
        bytes.extend_from_slice(payload);
        let mut frame = Self { bytes };
        frame.seal();
        frame
    }

    /// Sets the checksum to what header and head say.
    pub fn seal(&mut self) {
        let head_end = HEADER_BYTES + self.head_bytes();
        let covered = [&self.bytes[..at::CRC], &self.bytes[HEADER_BYTES..head_end]].concat();
        let crc = crc32c::crc32c(&covered);
        self.bytes[at::CRC..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
    }

    /// Its kind.
    pub fn kind(&self) -> u8 {
        self.bytes[at::KIND]
    }

    /// Bytes of its head.
    pub fn head_bytes(&self) -> usize {
        length(&self.bytes, at::HEAD_BYTES)
    }

    /// Its head.
    pub fn head(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..HEADER_BYTES + self.head_bytes()]
    }

    /// Where its payload begins.
    pub fn payload_at(&self) -> usize {
        HEADER_BYTES + self.head_bytes()
    }

    /// A number of two bytes at this place of the head.
    pub fn short(&self, at: usize) -> u16 {
        u16::from_be_bytes(*self.head()[at..].first_chunk().expect("two bytes"))
    }

    /// Makes an ack say of every partition that no more than `durable_end` is durable.
    pub fn lower_durable_ends(&mut self, durable_end: i64) {
        /// Journal end and count come first, then for each partition 20 bytes of id, 4 of epoch, 8 of log end, 8 of durable end.
        const FIRST: usize = 12;
        const EACH: usize = 40;
        assert_eq!(self.kind(), kind::ACK, "{self:?}");
        let (head_end, mut at) = (self.payload_at(), HEADER_BYTES + FIRST + EACH - 8);
        while at < head_end {
            let field = &mut self.bytes[at..at + 8];
            let told = i64::from_be_bytes(*field.first_chunk().expect("eight bytes"));
            field.copy_from_slice(&told.min(durable_end).to_be_bytes());
            at += EACH;
        }
        self.seal();
    }

    /// Reason and explanation of a refusal.
    pub fn refusal(&self) -> (u16, String) {
        assert_eq!(self.kind(), kind::REFUSED, "{self:?}");
        let detail = self.head()[4..].to_vec();
        (self.short(0), String::from_utf8(detail).expect("text"))
    }

    /// Reads the next frame; `None` where the stream ends.
    pub fn read(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; HEADER_BYTES];
        match stream.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let rest = length(&bytes, at::HEAD_BYTES) + length(&bytes, at::PAYLOAD_BYTES);
        if !bytes.starts_with(&MAGIC) || rest > FRAME_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a frame"));
        }
        bytes.resize(HEADER_BYTES + rest, 0);
        stream.read_exact(&mut bytes[HEADER_BYTES..])?;
        Ok(Some(Self { bytes }))
    }
}

fn length(bytes: &[u8], at: usize) -> usize {
    let number = u32::from_be_bytes(*bytes[at..].first_chunk().expect("four bytes"));
    usize::try_from(number).expect("a length")
}

/// What a Hello says.
#[derive(Debug, Clone)]
pub struct Hello {
    /// Lowest and highest protocol version.
    pub versions: [u8; 2],
    /// The cluster.
    pub cluster_id: [u8; 16],
    /// The node that dials.
    pub node_id: i32,
    /// The node that leads.
    pub leader_id: i32,
    /// The leader's generation.
    pub generation: i32,
    /// Where clients reach it.
    pub advertised: String,
}

impl Hello {
    /// The frame.
    pub fn frame(&self) -> Frame {
        let mut head = self.versions.to_vec();
        head.extend(self.cluster_id);
        for number in [self.node_id, self.leader_id, self.generation] {
            head.extend(number.to_be_bytes());
        }
        head.extend([0; 8]); // features
        head.extend([7; 32]); // nonce
        head.extend(u16::try_from(self.advertised.len()).expect("a length").to_be_bytes());
        head.extend(self.advertised.as_bytes());
        Frame::new(kind::HELLO, &head, &[])
    }

    /// Reads one.
    pub fn parse(frame: &Frame) -> Self {
        assert_eq!(frame.kind(), kind::HELLO, "{frame:?}");
        let head = frame.head();
        let number = |at: usize| i32::from_be_bytes(*head[at..].first_chunk().expect("four bytes"));
        Self {
            versions: [head[0], head[1]],
            cluster_id: *head[2..].first_chunk().expect("sixteen bytes"),
            node_id: number(18),
            leader_id: number(22),
            generation: number(26),
            advertised: String::from_utf8(head[72..].to_vec()).expect("text"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            versions: [1, 1],
            cluster_id: [9; 16],
            node_id: 5,
            leader_id: 6,
            generation: 7,
            advertised: "host:9092".to_owned(),
        }
    }

    #[test]
    fn a_frame_is_read_as_it_was_made() {
        let frame = hello().frame();
        let read = Frame::read(&mut &*frame.bytes).unwrap().unwrap();
        assert_eq!(read, frame);
        let Hello { versions, cluster_id, node_id, leader_id, generation, advertised } = Hello::parse(&read);
        assert_eq!((versions, cluster_id, node_id, leader_id), ([1, 1], [9; 16], 5, 6));
        assert_eq!((generation, advertised.as_str()), (7, "host:9092"));
        assert!(Frame::read(&mut &b""[..]).unwrap().is_none());
        assert!(Frame::read(&mut &b"GET / HTTP/1.1\r\nHost: x\r\n"[..]).is_err());
    }

    #[test]
    fn the_checksum_covers_header_and_head_and_not_the_payload() {
        let frame = Frame::new(kind::APPEND, b"head", b"payload");
        let mut other = Frame::new(kind::APPEND, b"head", b"PAYLOAD");
        assert_eq!(frame.bytes[at::CRC..HEADER_BYTES], other.bytes[at::CRC..HEADER_BYTES]);
        other.bytes[HEADER_BYTES] ^= 1;
        let before = other.clone();
        other.seal();
        assert_ne!(before, other);
    }
}
