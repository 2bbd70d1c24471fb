//! Record batches made by hand, byte by byte, so that tests can also make wrong ones. An independent second opinion on the
//! format: nothing of the broker's own encoder is used.

/// Bytes before the part that the checksum covers: base offset, length, leader epoch, magic, checksum.
const CRC_POSITION: usize = 17;
const CRC_COVERS_FROM: usize = 21;

/// What goes into a batch's header beside what its records determine.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// Attribute bits.
    pub attributes: i16,
    /// Timestamp of every record, in milliseconds.
    pub timestamp: i64,
    /// Producer id, -1 for none.
    pub producer_id: i64,
    /// Producer epoch, -1 for none.
    pub producer_epoch: i16,
    /// Sequence of the first record, -1 for none.
    pub base_sequence: i32,
}

impl Default for Header {
    fn default() -> Self {
        Self { attributes: 0, timestamp: 1_700_000_000_000, producer_id: -1, producer_epoch: -1, base_sequence: -1 }
    }
}

/// A batch of records without keys and headers.
pub fn of(values: &[&[u8]]) -> Vec<u8> {
    with(Header::default(), values)
}

/// Like [`of`], with a header of one's own.
pub fn with(header: Header, values: &[&[u8]]) -> Vec<u8> {
    let count = i32::try_from(values.len()).expect("a few records");
    let mut batch = Vec::new();
    batch.extend(0_i64.to_be_bytes()); // base offset
    batch.extend([0; 4]); // length, set below
    batch.extend((-1_i32).to_be_bytes()); // leader epoch
    batch.push(2); // magic
    batch.extend([0; 4]); // checksum, set below
    batch.extend(header.attributes.to_be_bytes());
    batch.extend((count - 1).to_be_bytes()); // last offset delta
    batch.extend(header.timestamp.to_be_bytes()); // base timestamp
    batch.extend(header.timestamp.to_be_bytes()); // max timestamp
    batch.extend(header.producer_id.to_be_bytes());
    batch.extend(header.producer_epoch.to_be_bytes());
    batch.extend(header.base_sequence.to_be_bytes());
    batch.extend(count.to_be_bytes());
    for (delta, value) in values.iter().enumerate() {
        let mut record = vec![0]; // attributes
        varint(&mut record, 0); // timestamp delta
        varint(&mut record, i64::try_from(delta).expect("a few records"));
        varint(&mut record, -1); // no key
        varint(&mut record, i64::try_from(value.len()).expect("a length"));
        record.extend_from_slice(value);
        varint(&mut record, 0); // no headers
        varint(&mut batch, i64::try_from(record.len()).expect("a length"));
        batch.extend(record);
    }
    seal(&mut batch);
    batch
}

/// Sets length and checksum to what the rest of the batch says.
pub fn seal(batch: &mut [u8]) {
    let length = i32::try_from(batch.len() - 12).expect("a length");
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_COVERS_FROM..]);
    batch[CRC_POSITION..CRC_COVERS_FROM].copy_from_slice(&crc.to_be_bytes());
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).expect("seven bits"));
}
