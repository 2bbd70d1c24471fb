//! Every codec: broken input ends in an error or in no more bytes than the caps allow, and what was compressed comes back.

#![no_main]

use std::io::{Read, Write};

use chronik_record::compression::{Decoder, Encoder};
use chronik_record::{Caps, Compression};
use libfuzzer_sys::fuzz_target;

const CAPS: Caps = Caps {
    bytes_max: 1 << 20,
    ratio_max: 2048,
    ratio_free_bytes: 1 << 18,
    record_bytes_max: 4096,
    block_bytes_max: 1 << 20,
    zstd_window_log_max: 21,
};

fn decompress(codec: Compression, compressed: &[u8], caps: &Caps) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    Decoder::new(codec, compressed, caps)?.read_to_end(&mut plain)?;
    Ok(plain)
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, data)) = input.split_first() else { return };
    let Some(codec) = Compression::from_id(choice & 7) else { return };
    if let Ok(plain) = decompress(codec, data, &CAPS) {
        assert!(plain.len() as u64 <= CAPS.bytes_max);
    }
    if choice & 8 != 0 {
        let mut encoder = Encoder::new(codec, None, Vec::new(), usize::MAX).expect("an encoder starts");
        encoder.write_all(data).expect("memory takes everything");
        let compressed = encoder.finish().expect("memory takes everything");
        let plain = decompress(codec, &compressed, &CAPS).expect("own output decompresses");
        assert_eq!(plain, data);
    }
});
