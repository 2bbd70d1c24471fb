//! A connection that speaks the protocol byte by byte, or breaks it.
//!
//! Messages are the generated ones of `wire`; framing and header versions are written here again, so that a mistake in the
//! broker's own framing does not cancel out.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use chronik_wire::codec::{Message, Reader, Request, Writer};
use chronik_wire::messages::{ApiVersionsRequest, RequestHeader, ResponseHeader};
use chronik_wire::{ApiKey, ErrorCode};

/// Longest wait for bytes, unless a test asks for another one.
const READ_BOUND: Duration = Duration::from_secs(30);

/// A TCP connection to a broker.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    /// Connects; panics when it cannot.
    pub fn open(address: &str) -> Self {
        Self::try_open(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    /// Connects.
    pub fn try_open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_BOUND))?;
        stream.set_write_timeout(Some(READ_BOUND))?;
        Ok(Self { stream, correlation_id: 0 })
    }

    /// Changes how long reading may wait.
    pub fn set_read_bound(&mut self, bound: Duration) {
        self.stream.set_read_timeout(Some(bound)).expect("a bound above zero");
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request and gives its correlation id.
    pub fn request<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation_id += 1;
        let frame = frame(R::KEY, version, self.correlation_id, |w| {
            request.encode(w, version).unwrap_or_else(|error| panic!("{:?} v{version}: {error}", R::KEY));
        });
        self.send(&frame).expect("the broker reads");
        self.correlation_id
    }

    /// Reads one frame without its size; `None` when the broker has closed the connection.
    pub fn frame(&mut self) -> io::Result<Option<Bytes>> {
        let mut size = [0; 4];
        match self.stream.read_exact(&mut size) {
            Ok(()) => {}
            Err(error) if closed(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        let size = usize::try_from(i32::from_be_bytes(size)).expect("a response's size is not negative");
        let mut frame = vec![0; size];
        self.stream.read_exact(&mut frame)?;
        Ok(Some(frame.into()))
    }

    /// Reads the response to the request with this correlation id.
    pub fn response<R: Request>(&mut self, version: i16, correlation_id: i32) -> R::Response {
        let what = || format!("{:?} v{version}", R::KEY);
        let frame = self.frame().unwrap_or_else(|error| panic!("{}: {error}", what()));
        let frame = frame.unwrap_or_else(|| panic!("{}: the broker closed the connection", what()));
        Self::body::<R>(frame, version, correlation_id)
    }

    fn body<R: Request>(frame: Bytes, version: i16, correlation_id: i32) -> R::Response {
        let what = || format!("{:?} v{version}", R::KEY);
        let shown = frame.clone();
        let mut reader = Reader::new(frame);
        let header = ResponseHeader::decode(&mut reader, response_header_version(R::KEY, version))
            .unwrap_or_else(|error| panic!("{}: header: {error}", what()));
        assert_eq!(header.correlation_id, correlation_id, "{}: answers leave in the order of requests", what());
        let body = <R::Response as Message>::decode(&mut reader, version)
            .unwrap_or_else(|error| panic!("{}: {error} in {shown:?}", what()));
        assert_eq!(reader.remaining(), 0, "{}: bytes behind the response: {shown:?}", what());
        body
    }

    /// Sends a request and reads its response.
    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let correlation_id = self.request(version, request);
        self.response::<R>(version, correlation_id)
    }

    /// Like [`Connection::ask`], of a broker that may be gone at any time; `None` when it has closed the connection.
    pub fn try_ask<R: Request>(&mut self, version: i16, request: &R) -> io::Result<Option<R::Response>> {
        self.correlation_id += 1;
        let frame = frame(R::KEY, version, self.correlation_id, |w| {
            request.encode(w, version).unwrap_or_else(|error| panic!("{:?} v{version}: {error}", R::KEY));
        });
        self.send(&frame)?;
        let Some(frame) = self.frame()? else { return Ok(None) };
        Ok(Some(Self::body::<R>(frame, version, self.correlation_id)))
    }

    /// Whether the broker closes the connection, perhaps after bytes that nobody reads, within the read bound.
    pub fn is_closed(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return closed(&error),
            }
        }
    }

    /// The address of this end.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

fn closed(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// A whole frame: size, request header, and what `body` writes.
pub fn frame(key: ApiKey, version: i16, correlation_id: i32, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    let header = RequestHeader {
        request_api_key: key.as_i16(),
        request_api_version: version,
        correlation_id,
        client_id: Some("chronik-e2e".to_owned()),
    };
    header.encode(&mut writer, if flexible(key, version) { 2 } else { 1 }).expect("a header");
    body(&mut writer);
    let bytes = writer.into_bytes();
    let mut frame = i32::try_from(bytes.len()).expect("a size").to_be_bytes().to_vec();
    frame.extend_from_slice(&bytes);
    frame
}

fn flexible(key: ApiKey, version: i16) -> bool {
    key.flexible_since().is_some_and(|since| version >= since)
}

/// A client reads the answer to ApiVersions before it knows what the broker speaks, so that header never changes.
fn response_header_version(key: ApiKey, version: i16) -> i16 {
    if key != ApiKey::ApiVersions && flexible(key, version) { 1 } else { 0 }
}

/// Asserts that a response's error code is 0.
pub fn assert_none(code: i16, what: &str) {
    assert_code(code, ErrorCode::None, what);
}

/// Asserts a response's error code by name.
pub fn assert_code(code: i16, expected: ErrorCode, what: &str) {
    let found = ErrorCode::from_code(code);
    assert_eq!(found, Some(expected), "{what}: code {code}");
}

/// The request every client starts with. From version 3 on it must name the client's software.
pub fn hello() -> ApiVersionsRequest {
    ApiVersionsRequest { client_software_name: "chronik-e2e".to_owned(), client_software_version: "1".to_owned() }
}
