//! Frames: the size prefix, the request header in front of a body, and whole frames to send.
//!
//! Pure functions over bytes; reading from a socket under a limit is `net`'s part, deciding what to do with an unknown API
//! or version is the broker's.

use bytes::{Buf as _, Bytes, BytesMut};
use thiserror::Error;

use crate::codec::{DECODE_BUDGET_DEFAULT, DecodeError, EncodeError, Message, Reader, Request, Writer};
use crate::messages::{RequestHeader, ResponseHeader};
use crate::{ApiKey, ResponseBody};

/// Bytes of the size prefix, which counts what follows it.
pub const SIZE_BYTES: usize = 4;

/// Memory for elements that a response may take for each byte of its frame. Partitions of a metadata response, the largest
/// elements in number, take about a fifth of that.
const RESPONSE_BUDGET_FACTOR: usize = 16;

/// The size prefix announces a frame that must not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SizeError {
    /// Negative or zero.
    #[error("frame size {0} is not positive")]
    NotPositive(i32),
    /// Above the limit of the reader.
    #[error("frame of {size} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Announced size in bytes, without the prefix.
        size: usize,
        /// Largest size allowed.
        limit: usize,
    },
}

/// Number of bytes that follow this size prefix, 1 to `limit` inclusive.
pub fn size(prefix: [u8; SIZE_BYTES], limit: usize) -> Result<usize, SizeError> {
    let announced = i32::from_be_bytes(prefix);
    match usize::try_from(announced) {
        Err(_) | Ok(0) => Err(SizeError::NotPositive(announced)),
        Ok(size) if size > limit => Err(SizeError::TooLarge { size, limit }),
        Ok(size) => Ok(size),
    }
}

/// Takes the first whole frame off `buf`, without its size prefix; `None` if it is not there yet.
///
/// An announced size alone reserves no memory.
pub fn split(buf: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, SizeError> {
    let Some(prefix) = buf.first_chunk::<SIZE_BYTES>() else { return Ok(None) };
    let size = size(*prefix, limit)?;
    if buf.len() - SIZE_BYTES < size {
        return Ok(None);
    }
    buf.advance(SIZE_BYTES);
    Ok(Some(buf.split_to(size).freeze()))
}

/// The part of a request header that is the same in all its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peek {
    /// Code of the API, known or not.
    pub api_key: i16,
    /// Version of the API, supported or not.
    pub api_version: i16,
    /// What the response must carry.
    pub correlation_id: i32,
}

/// Reads the beginning of a request's frame, to decide on API and version before anything else of it is decoded.
pub fn peek(frame: &Bytes) -> Result<Peek, DecodeError> {
    let mut r = Reader::new(frame.clone());
    Ok(Peek {
        api_key: r.i16("request_api_key")?,
        api_version: r.i16("request_api_version")?,
        correlation_id: r.i32("correlation_id")?,
    })
}

/// Reads the header of a request whose API is known; the reader then stands at the body.
pub fn request_header(key: ApiKey, api_version: i16, r: &mut Reader) -> Result<RequestHeader, DecodeError> {
    RequestHeader::decode(r, key.request_header_version(api_version))
}

/// A whole frame with its size prefix: header and body of a request.
pub fn request<R: Request>(
    api_version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    body: &R,
) -> Result<Bytes, EncodeError> {
    let header = RequestHeader {
        request_api_key: R::KEY.as_i16(),
        request_api_version: api_version,
        correlation_id,
        client_id: client_id.map(str::to_owned),
    };
    sized(|w| {
        header.encode(w, R::KEY.request_header_version(api_version))?;
        body.encode(w, api_version)
    })
}

/// A whole frame with its size prefix: header and body of a response to a request of type `R`.
pub fn response<R: Request>(api_version: i16, correlation_id: i32, body: &R::Response) -> Result<Bytes, EncodeError> {
    sized(|w| {
        ResponseHeader { correlation_id }.encode(w, R::KEY.response_header_version(api_version))?;
        body.encode(w, api_version)
    })
}

/// Like [`response`], for a body whose type is known at run time only.
pub fn response_body(api_version: i16, correlation_id: i32, body: &ResponseBody) -> Result<Bytes, EncodeError> {
    sized(|w| {
        ResponseHeader { correlation_id }.encode(w, body.key().response_header_version(api_version))?;
        body.encode(w, api_version)
    })
}

/// Reads a response's frame, given without its size prefix: correlation id and body.
///
/// The budget grows with the frame: the metadata of a large cluster is no attack, and the caller has bounded the frame.
pub fn decode_response<R: Request>(frame: Bytes, api_version: i16) -> Result<(i32, R::Response), DecodeError> {
    let budget = DECODE_BUDGET_DEFAULT.max(frame.len().saturating_mul(RESPONSE_BUDGET_FACTOR));
    let mut r = Reader::with_budget(frame, budget);
    let header = ResponseHeader::decode(&mut r, R::KEY.response_header_version(api_version))?;
    Ok((header.correlation_id, R::Response::decode(&mut r, api_version)?))
}

/// What `content` writes, with its size in front.
fn sized(content: impl FnOnce(&mut Writer) -> Result<(), EncodeError>) -> Result<Bytes, EncodeError> {
    let mut w = Writer::with_capacity(256);
    w.i32(0);
    content(&mut w)?;
    let len = w.len() - SIZE_BYTES;
    let size = i32::try_from(len).map_err(|_| EncodeError::TooLong { field: "frame", len })?;
    w.patch_i32(0, size);
    Ok(w.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{ApiVersionsRequest, HeartbeatRequest, HeartbeatResponse};

    #[test]
    fn sizes_out_of_bounds_are_refused() {
        assert_eq!(size(0i32.to_be_bytes(), 10), Err(SizeError::NotPositive(0)));
        assert_eq!(size((-1i32).to_be_bytes(), 10), Err(SizeError::NotPositive(-1)));
        assert_eq!(size(10i32.to_be_bytes(), 10), Ok(10));
        assert_eq!(size(11i32.to_be_bytes(), 10), Err(SizeError::TooLarge { size: 11, limit: 10 }));
        assert_eq!(size([0x7f, 0xff, 0xff, 0xff], 10), Err(SizeError::TooLarge { size: 0x7fff_ffff, limit: 10 }));
    }

    #[test]
    fn frames_come_off_a_buffer_one_by_one() {
        let mut buf = BytesMut::new();
        for byte in [0, 0, 0, 2, 7] {
            assert_eq!(split(&mut buf, 100), Ok(None));
            buf.extend_from_slice(&[byte]);
        }
        assert_eq!(split(&mut buf, 100), Ok(None));
        buf.extend_from_slice(&[8, 0, 0, 0, 1, 9, 0]);
        assert_eq!(split(&mut buf, 100), Ok(Some(Bytes::from_static(&[7, 8]))));
        assert_eq!(split(&mut buf, 100), Ok(Some(Bytes::from_static(&[9]))));
        assert_eq!(split(&mut buf, 100), Ok(None));
        assert_eq!(&buf[..], [0]);
    }

    #[test]
    fn request_frame_is_read_back_in_every_header_version() {
        for api_version in 0..=4 {
            let body = HeartbeatRequest { group_id: "g".into(), generation_id: 3, ..Default::default() };
            let mut buf = BytesMut::from(&request(api_version, 42, Some("me"), &body).unwrap()[..]);
            let frame = split(&mut buf, 1000).unwrap().unwrap();
            assert!(buf.is_empty());
            assert_eq!(peek(&frame).unwrap(), Peek { api_key: 12, api_version, correlation_id: 42 });
            let mut r = Reader::new(frame);
            let header = request_header(ApiKey::Heartbeat, api_version, &mut r).unwrap();
            assert_eq!(header.client_id.as_deref(), Some("me"));
            assert_eq!(HeartbeatRequest::decode(&mut r, api_version).unwrap(), body);
            assert_eq!(r.remaining(), 0);
        }
    }

    #[test]
    fn response_frame_is_read_back() {
        let body = HeartbeatResponse { error_code: 27, ..Default::default() };
        for api_version in 0..=4 {
            let frame = response::<HeartbeatRequest>(api_version, 7, &body).unwrap().slice(SIZE_BYTES..);
            assert_eq!(decode_response::<HeartbeatRequest>(frame, api_version).unwrap(), (7, body.clone()));
        }
        let any = response_body(4, 7, &body.clone().into()).unwrap();
        assert_eq!(any, response::<HeartbeatRequest>(4, 7, &body).unwrap());
    }

    #[test]
    fn api_versions_response_has_no_tags_in_its_header() {
        let frame = response::<ApiVersionsRequest>(3, 7, &Default::default()).unwrap();
        // Size, correlation id, error code, no keys, throttle time, no tags.
        assert_eq!(&frame[..], [0, 0, 0, 12, 0, 0, 0, 7, 0, 0, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn cut_headers_are_errors() {
        let frame = request(4, 42, Some("me"), &HeartbeatRequest::default()).unwrap().slice(SIZE_BYTES..);
        for len in 0..8 {
            assert!(peek(&frame.slice(..len)).is_err(), "{len}");
        }
        for len in 0..13 {
            assert!(request_header(ApiKey::Heartbeat, 4, &mut Reader::new(frame.slice(..len))).is_err(), "{len}");
        }
    }
}
