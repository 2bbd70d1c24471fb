//! A connection's bytes: frames are split off, their headers and bodies decoded, as a broker would.
#![no_main]

use bytes::BytesMut;
use chronik_wire::{ApiKey, Reader, RequestBody, frame};
use libfuzzer_sys::fuzz_target;

const FRAME_BYTES_MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut buf = BytesMut::from(data);
    let mut taken = 0;
    while let Ok(Some(bytes)) = frame::split(&mut buf, FRAME_BYTES_MAX) {
        taken += frame::SIZE_BYTES + bytes.len();
        assert!(!bytes.is_empty() && bytes.len() <= FRAME_BYTES_MAX);
        assert_eq!(taken + buf.len(), data.len());
        let Ok(peek) = frame::peek(&bytes) else { continue };
        let Some(key) = ApiKey::from_i16(peek.api_key) else { continue };
        let mut r = Reader::new(bytes);
        let Ok(header) = frame::request_header(key, peek.api_version, &mut r) else { continue };
        assert_eq!(header.request_api_key, peek.api_key);
        assert_eq!(header.request_api_version, peek.api_version);
        assert_eq!(header.correlation_id, peek.correlation_id);
        let _ = RequestBody::decode(key, &mut r, peek.api_version);
    }
});
