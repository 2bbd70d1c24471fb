//! The five codecs of a record batch, as streams with limits.
//!
//! Decoding never produces more than [`Caps`] allow and never holds the whole output: even 256 MiB in 260 KB of gzip pass
//! through a few KiB of buffer. What the bytes mean is read in `records`.

mod decoder;
mod encoder;
mod gzip;
mod snappy;

use std::fmt;
use std::str::FromStr;

pub use decoder::{CapExceeded, Decoder};
pub use encoder::{Encoder, OutputFull};

#[cfg(doc)]
use crate::Caps;

/// A codec of record batches (`compression.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// The records stand as they are.
    #[default]
    None,
    /// Gzip members.
    Gzip,
    /// Snappy blocks in the framing of the Java library, or one raw block.
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// Zstandard frames (KIP-110).
    Zstd,
}

impl Compression {
    /// Every codec, by its number.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The number in the batch attributes.
    pub fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec of a number in the batch attributes.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.id() == id)
    }

    /// The name in Kafka's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of none, gzip, snappy, lz4, zstd")]
pub struct ParseCompressionError;

impl FromStr for Compression {
    type Err = ParseCompressionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|codec| codec.name() == text).ok_or(ParseCompressionError)
    }
}

#[cfg(test)]
mod tests;
