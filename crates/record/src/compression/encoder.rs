//! A stream of bytes compressed into a vector of limited size.

use std::fmt;
use std::io::{self, Write};

use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use zstd::stream::write::Encoder as ZstdEncoder;

use super::{Compression, snappy};

/// The output would exceed its limit. Found inside the [`io::Error`] of an [`Encoder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("compressed data exceeds its limit")]
pub struct OutputFull;

/// Compresses what is written to it.
pub struct Encoder {
    codec: Codec,
}

enum Codec {
    None(Sink),
    Gzip(Box<GzEncoder<Sink>>),
    Snappy(snappy::Writer<Sink>),
    Lz4(Box<FrameEncoder<Sink>>),
    Zstd(Box<ZstdEncoder<'static, Sink>>),
}

/// A vector with a limit.
struct Sink {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.bytes_max.saturating_sub(self.bytes.len()) {
            return Err(io::Error::other(OutputFull));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Encoder {
    /// Starts an output behind the bytes already in `out`, which may grow to `bytes_max`. `level` is Kafka's
    /// `compression.gzip.level` or `compression.zstd.level`; snappy has none and LZ4 always takes its fast mode.
    pub fn new(compression: Compression, level: Option<i32>, out: Vec<u8>, bytes_max: usize) -> io::Result<Self> {
        let sink = Sink { bytes: out, bytes_max };
        let codec = match compression {
            Compression::None => Codec::None(sink),
            Compression::Gzip => {
                let level = level.and_then(|level| u32::try_from(level).ok()).filter(|level| *level <= 9);
                let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
                Codec::Gzip(Box::new(GzEncoder::new(sink, level)))
            }
            Compression::Snappy => Codec::Snappy(snappy::Writer::new(sink)?),
            Compression::Lz4 => {
                // What Kafka's own reader takes: independent blocks of 64 KiB.
                let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
                Codec::Lz4(Box::new(FrameEncoder::with_frame_info(info, sink)))
            }
            Compression::Zstd => {
                Codec::Zstd(Box::new(ZstdEncoder::new(sink, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL))?))
            }
        };
        Ok(Self { codec })
    }

    /// Ends the stream and returns the output with what stood before it.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        let sink = match self.codec {
            Codec::None(sink) => sink,
            Codec::Gzip(writer) => writer.finish()?,
            Codec::Snappy(writer) => writer.finish()?,
            Codec::Lz4(writer) => writer.finish().map_err(io::Error::other)?,
            Codec::Zstd(writer) => writer.finish()?,
        };
        Ok(sink.bytes)
    }
}

impl Write for Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.codec {
            Codec::None(writer) => writer.write(bytes),
            Codec::Gzip(writer) => writer.write(bytes),
            Codec::Snappy(writer) => writer.write(bytes),
            Codec::Lz4(writer) => writer.write(bytes),
            Codec::Zstd(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}
