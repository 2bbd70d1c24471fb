//! A capped stream of decompressed bytes.

use std::fmt;
use std::io::{self, Read};

use lz4_flex::frame::FrameDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::{Compression, gzip, snappy};
use crate::Caps;

/// The data decompresses to more than the caps allow. Found inside the [`io::Error`] of a [`Decoder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("decompressed data exceeds its cap")]
pub struct CapExceeded;

/// Decompresses a slice as a stream, within caps. An error whose source is [`CapExceeded`] says that the data is larger
/// than allowed; any other error that it is broken.
pub struct Decoder<'a> {
    codec: Codec<'a>,
    left: u64,
    ended: bool,
}

enum Codec<'a> {
    None(&'a [u8]),
    Gzip(Box<gzip::Reader<'a>>),
    Snappy(snappy::Reader<'a>),
    Lz4(Box<FrameDecoder<&'a [u8]>>),
    Zstd(Box<ZstdDecoder<'static, &'a [u8]>>),
}

impl<'a> Decoder<'a> {
    /// Starts decoding `compressed`. Nothing is read yet.
    pub fn new(compression: Compression, compressed: &'a [u8], caps: &Caps) -> io::Result<Self> {
        let codec = match compression {
            Compression::None => Codec::None(compressed),
            Compression::Gzip => Codec::Gzip(Box::new(gzip::Reader::new(compressed))),
            Compression::Snappy => Codec::Snappy(snappy::Reader::new(compressed, caps.block_bytes_max)),
            Compression::Lz4 => Codec::Lz4(Box::new(FrameDecoder::new(compressed))),
            Compression::Zstd => {
                let mut decoder = ZstdDecoder::with_buffer(compressed)?;
                decoder.window_log_max(caps.zstd_window_log_max)?;
                Codec::Zstd(Box::new(decoder))
            }
        };
        Ok(Self { codec, left: caps.produced_bytes_max(compressed.len()), ended: false })
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ended || out.is_empty() {
            return Ok(0);
        }
        let read = match &mut self.codec {
            Codec::None(rest) => rest.read(out),
            Codec::Gzip(reader) => reader.read(out),
            Codec::Snappy(reader) => reader.read(out),
            Codec::Lz4(reader) => reader.read(out),
            Codec::Zstd(reader) => reader.read(out),
        }?;
        // An LZ4 decoder asked again after the end of its frame would start on the bytes behind it.
        self.ended = read == 0;
        self.left = u64::try_from(read)
            .ok()
            .and_then(|read| self.left.checked_sub(read))
            .ok_or_else(|| io::Error::other(CapExceeded))?;
        Ok(read)
    }
}

impl fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let codec = match self.codec {
            Codec::None(_) => Compression::None,
            Codec::Gzip(_) => Compression::Gzip,
            Codec::Snappy(_) => Compression::Snappy,
            Codec::Lz4(_) => Compression::Lz4,
            Codec::Zstd(_) => Compression::Zstd,
        };
        f.debug_struct("Decoder").field("codec", &codec).field("left", &self.left).finish_non_exhaustive()
    }
}
