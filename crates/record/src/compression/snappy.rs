//! Snappy in the framing of the Java library (a header, then blocks with a length each), or one raw block.

use std::io::{self, Read, Write};

use super::decoder::CapExceeded;

const STREAM_MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const STREAM_HEADER_BYTES: usize = 16;
const VERSION: [u8; 4] = [0, 0, 0, 1];
/// Input bytes of a block the encoder writes; the Java library's default.
const BLOCK_BYTES: usize = 32 * 1024;
/// No block can grow more than this: the densest element makes 64 bytes out of 3.
const GROWTH_MAX: usize = 22;

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Decodes block by block; the one buffer is as large as the largest block, which `block_bytes_max` limits.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    framed: bool,
    block_bytes_max: usize,
    block: Vec<u8>,
    read: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(compressed: &'a [u8], block_bytes_max: usize) -> Self {
        let framed = compressed.len() >= STREAM_HEADER_BYTES && compressed.starts_with(STREAM_MAGIC);
        Self { rest: compressed, framed, block_bytes_max, block: Vec::new(), read: 0 }
    }

    /// The next compressed block; `None` at the end.
    fn next_block(&mut self) -> io::Result<Option<&'a [u8]>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        if !self.framed {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        // Streams may follow each other, each with its header.
        while self.rest.starts_with(STREAM_MAGIC) {
            self.rest = self.rest.get(STREAM_HEADER_BYTES..).ok_or_else(|| malformed("snappy stream header is cut"))?;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (length, rest) = self.rest.split_first_chunk().ok_or_else(|| malformed("snappy block length is cut"))?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| malformed("negative snappy block"))?;
        let (block, rest) = rest.split_at_checked(length).ok_or_else(|| malformed("snappy block is cut"))?;
        self.rest = rest;
        Ok(Some(block))
    }

    fn decode(&mut self, compressed: &[u8]) -> io::Result<()> {
        let length = snap::raw::decompress_len(compressed)?;
        if length > compressed.len().saturating_mul(GROWTH_MAX) {
            return Err(malformed("snappy block declares more than it can hold"));
        }
        if length > self.block_bytes_max {
            return Err(io::Error::other(CapExceeded));
        }
        self.block.resize(length, 0);
        let written = snap::raw::Decoder::new().decompress(compressed, &mut self.block)?;
        self.block.truncate(written);
        self.read = 0;
        Ok(())
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.block.get(self.read..).unwrap_or_default();
            if !ready.is_empty() || out.is_empty() {
                let read = ready.read(out)?;
                self.read += read;
                return Ok(read);
            }
            match self.next_block()? {
                Some(block) => self.decode(block)?,
                None => return Ok(0),
            }
        }
    }
}

/// Writes the framing of the Java library.
pub(super) struct Writer<W> {
    out: W,
    pending: Vec<u8>,
    compressed: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(STREAM_MAGIC)?;
        out.write_all(&VERSION)?;
        out.write_all(&VERSION)?;
        Ok(Self {
            out,
            pending: Vec::with_capacity(BLOCK_BYTES),
            compressed: vec![0; snap::raw::max_compress_len(BLOCK_BYTES)],
        })
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.write_block()?;
        Ok(self.out)
    }

    fn write_block(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let written = snap::raw::Encoder::new().compress(&self.pending, &mut self.compressed)?;
        let length = i32::try_from(written).map_err(|_| malformed("snappy block is too large"))?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(self.compressed.get(..written).unwrap_or_default())?;
        self.pending.clear();
        Ok(())
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BLOCK_BYTES.saturating_sub(self.pending.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.pending.extend_from_slice(taken);
        if self.pending.len() >= BLOCK_BYTES {
            self.write_block()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
