//! Gzip as Java reads it: members one after the other, and whatever follows the last member is passed over.

use std::io::{self, Read};

use flate2::bufread::GzDecoder;

const MEMBER_HEADER_BYTES: usize = 10;
const MEMBER_MAGIC: &[u8] = &[0x1f, 0x8b, 0x08];

/// Reads concatenated members.
pub(super) struct Reader<'a> {
    member: Option<GzDecoder<&'a [u8]>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(compressed: &'a [u8]) -> Self {
        Self { member: Some(GzDecoder::new(compressed)) }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let read = member.read(out)?;
            if read > 0 {
                return Ok(read);
            }
            let rest = *member.get_ref();
            let another = rest.len() >= MEMBER_HEADER_BYTES && rest.starts_with(MEMBER_MAGIC);
            self.member = another.then(|| GzDecoder::new(rest));
        }
        Ok(0)
    }
}
