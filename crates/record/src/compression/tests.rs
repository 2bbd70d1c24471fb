//! Codecs round-trip, and hostile streams stay within their caps.

use std::io::{self, Read, Write};

use proptest::prelude::*;

use super::{CapExceeded, Compression, Decoder, Encoder, OutputFull};
use crate::Caps;

fn compress(codec: Compression, plain: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(codec, None, Vec::new(), usize::MAX).unwrap();
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn decompress(codec: Compression, compressed: &[u8], caps: &Caps) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    Decoder::new(codec, compressed, caps)?.read_to_end(&mut plain)?;
    Ok(plain)
}

fn is_cap(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|source| source.is::<CapExceeded>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn every_codec_gives_back_what_it_got(plain in prop::collection::vec(any::<u8>(), 0..100_000), repeat in 0usize..4) {
        let plain = plain.repeat(repeat);
        for codec in Compression::ALL {
            let compressed = compress(codec, &plain);
            prop_assert_eq!(&decompress(codec, &compressed, &Caps::default()).unwrap(), &plain);
        }
    }

    #[test]
    fn noise_ends_in_an_error_or_in_bytes_within_the_caps(noise in prop::collection::vec(any::<u8>(), 0..2000)) {
        let caps = Caps { bytes_max: 1 << 20, ..Caps::default() };
        for codec in Compression::ALL {
            if let Ok(plain) = decompress(codec, &noise, &caps) {
                prop_assert!(plain.len() <= 1 << 20);
            }
        }
    }
}

#[test]
fn cut_or_flipped_streams_never_panic() {
    let plain = b"a record after another record after a record".repeat(40);
    for codec in Compression::ALL {
        let compressed = compress(codec, &plain);
        for cut in 0..compressed.len() {
            let _ = decompress(codec, compressed.get(..cut).unwrap(), &Caps::default());
        }
        for bit in 0..compressed.len() * 8 {
            let mut flipped = compressed.clone();
            *flipped.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
            let _ = decompress(codec, &flipped, &Caps::default());
        }
    }
}

#[test]
fn output_stops_at_the_cap() {
    let plain = vec![0; 3 << 20];
    let caps = Caps { bytes_max: 2 << 20, ..Caps::default() };
    for codec in Compression::ALL {
        let error = decompress(codec, &compress(codec, &plain), &caps).unwrap_err();
        assert!(is_cap(&error), "{codec}: {error}");
    }
}

#[test]
fn output_stops_at_the_ratio_past_the_free_bytes() {
    let caps = Caps { ratio_max: 10, ratio_free_bytes: 1 << 20, ..Caps::default() };
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        assert!(decompress(codec, &compress(codec, &vec![0; 1 << 20]), &caps).is_ok(), "{codec}");
        let error = decompress(codec, &compress(codec, &vec![0; 4 << 20]), &caps).unwrap_err();
        assert!(is_cap(&error), "{codec}: {error}");
    }
}

#[test]
fn encoder_stops_at_its_limit() {
    let noise: Vec<u8> = (0..200_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    for codec in Compression::ALL {
        let mut encoder = Encoder::new(codec, None, vec![1; 61], 1000).unwrap();
        let error = encoder.write_all(&noise).and_then(|()| encoder.finish().map(drop)).unwrap_err();
        let text = format!("{error:?}");
        assert!(text.contains(&format!("{OutputFull:?}")) || text.contains("WriteZero"), "{codec}: {text}");
    }
}

#[test]
fn gzip_members_are_read_one_after_the_other_and_garbage_behind_them_is_passed_over() {
    let mut stream = compress(Compression::Gzip, b"first ");
    stream.extend(compress(Compression::Gzip, b"second"));
    assert_eq!(decompress(Compression::Gzip, &stream, &Caps::default()).unwrap(), b"first second");
    stream.extend([0; 40]);
    assert_eq!(decompress(Compression::Gzip, &stream, &Caps::default()).unwrap(), b"first second");
}

#[test]
fn raw_and_concatenated_snappy_are_read() {
    let raw = snap::raw::Encoder::new().compress_vec(b"one raw block").unwrap();
    assert_eq!(decompress(Compression::Snappy, &raw, &Caps::default()).unwrap(), b"one raw block");
    let mut stream = compress(Compression::Snappy, b"first ");
    stream.extend(compress(Compression::Snappy, b"second"));
    assert_eq!(decompress(Compression::Snappy, &stream, &Caps::default()).unwrap(), b"first second");
}

#[test]
fn snappy_block_that_declares_more_than_it_can_hold_is_refused_before_allocation() {
    // A block of five bytes that declares 4 GiB less one.
    let error = decompress(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f], &Caps::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}
