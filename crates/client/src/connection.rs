//! One connection: frames out and in, correlation ids, and the versions agreed on.
//!
//! One request is in flight at a time, but for what `pipeline` does with the two `poll` methods. After an error, or an
//! answer nobody waited for, the connection is in an unknown state and must be dropped; `Client` does.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use chronik_net::{Stream, dial, split_host_and_port};
use chronik_wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use chronik_wire::{ApiKey, ErrorCode, Message as _, Reader, Request, frame};
use tokio::io::AsyncWrite as _;
use tokio::time::timeout;
use tracing::debug;

use crate::error::ClientError;
use crate::options::Options;

/// Room made before each read; a response's announced size alone reserves nothing.
const READ_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Connection {
    address: String,
    stream: Stream,
    buf: BytesMut,
    last_correlation_id: i32,
    /// Versions the broker serves, inclusive, by API code.
    served: HashMap<i16, (i16, i16)>,
    client_id: String,
    response_bytes_max: usize,
}

impl Connection {
    /// Connects and agrees on versions. `answered_before` goes into the error where that fails.
    pub(crate) async fn open(address: &str, answered_before: bool, options: &Options) -> Result<Self, ClientError> {
        let unreachable = |source| ClientError::Unreachable { address: address.to_owned(), answered_before, source };
        let dialled = async {
            let stream = dial(address).await.map_err(unreachable)?;
            let Some(tls) = &options.tls else { return Ok(Stream::Plain(stream)) };
            let (host, _) = split_host_and_port(address).unwrap_or((address, 0));
            match Box::pin(tls.connect_to_broker(host, stream)).await {
                Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
                Err(source) => Err(ClientError::NotEncrypted { address: address.to_owned(), source }),
            }
        };
        let stream = match timeout(options.dial_max, dialled).await {
            Ok(dialled) => dialled?,
            Err(_) => return Err(unreachable(io::ErrorKind::TimedOut.into())),
        };
        let mut connection = Self {
            address: address.to_owned(),
            stream,
            buf: BytesMut::new(),
            last_correlation_id: 0,
            served: HashMap::new(),
            client_id: options.client_id.clone(),
            response_bytes_max: options.response_bytes_max,
        };
        connection.negotiate(options.request_max).await?;
        Ok(connection)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The highest version of `R` that both sides know.
    pub(crate) fn version<R: Request>(&self) -> Result<i16, ClientError> {
        let served = self.served.get(&R::KEY.as_i16());
        // A version still in development may change under us; a broker that serves it serves the one before, too.
        let own_max = if R::KEY.latest_version_unstable() { R::MAX_VERSION - 1 } else { R::MAX_VERSION };
        match served {
            Some(&(min, max)) if max.min(own_max) >= min.max(R::MIN_VERSION) => Ok(max.min(own_max)),
            _ => Err(ClientError::UnsupportedApi { address: self.address.clone(), api: R::KEY.name() }),
        }
    }

    /// Sends a request and waits for its answer, at most for `wait_max`.
    pub(crate) async fn send<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        wait_max: Duration,
    ) -> Result<R::Response, ClientError> {
        let bytes = self.encode(version, request)?;
        let exchanged = timeout(wait_max, self.exchange(&bytes)).await;
        let answer = self.answered(R::KEY, exchanged, wait_max)?;
        let (_, response) = frame::decode_response::<R>(answer, version)
            .map_err(|error| ClientError::undecodable(&self.address, R::KEY, &error))?;
        Ok(response)
    }

    /// Sends a request that gets no answer.
    pub(crate) async fn send_unanswered<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        wait_max: Duration,
    ) -> Result<(), ClientError> {
        let bytes = self.encode(version, request)?;
        let written = timeout(wait_max, self.stream.write_all(&bytes)).await;
        match written {
            Ok(written) => written.map_err(|source| self.disconnected(source)),
            Err(_) => Err(self.timed_out(R::KEY, wait_max)),
        }
    }

    /// The frame of a request, and the correlation id its answer will carry.
    pub(crate) fn frame<R: Request>(&mut self, version: i16, request: &R) -> Result<(i32, Bytes), ClientError> {
        let bytes = self.encode(version, request)?;
        Ok((self.last_correlation_id, bytes))
    }

    /// Writes from `queue` what the system takes; ready when all of it is gone. What was written has left the queue, so
    /// this may be left and begun again.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, queue: &mut VecDeque<Bytes>) -> Poll<io::Result<()>> {
        while let Some(front) = queue.front_mut() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, front))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            front.advance(written);
            if front.is_empty() {
                queue.pop_front();
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Reads the next answer's frame with the correlation id still in it. May be left and begun again.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Broken>> {
        loop {
            if let Some(answer) = frame::split(&mut self.buf, self.response_bytes_max)? {
                return Poll::Ready(Ok(answer));
            }
            self.buf.reserve(READ_BYTES);
            if ready!(pin!(self.stream.read_buf(&mut self.buf)).poll(cx))? == 0 {
                let closed = io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed it");
                return Poll::Ready(Err(Broken::Io(closed)));
            }
        }
    }

    async fn negotiate(&mut self, wait_max: Duration) -> Result<(), ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: "chronik".to_owned(),
            client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let mut version = ApiVersionsRequest::MAX_VERSION;
        loop {
            let bytes = self.encode(version, &request)?;
            let exchanged = timeout(wait_max, self.exchange(&bytes)).await;
            let answer = self.answered(ApiKey::ApiVersions, exchanged, wait_max)?;
            let response = self.api_versions(version, answer)?;
            for api in &response.api_keys {
                self.served.insert(api.api_key, (api.min_version, api.max_version));
            }
            if response.error_code != ErrorCode::UnsupportedVersion as i16 {
                return ClientError::check(response.error_code, None, || "ApiVersions".to_owned());
            }
            // An older broker answers in version 0 and names what it serves; one that asks for the same again never ends.
            let lower = self.version::<ApiVersionsRequest>().unwrap_or(0);
            if lower >= version {
                return Err(ClientError::UnsupportedApi { address: self.address.clone(), api: "ApiVersions" });
            }
            debug!(address = self.address, version = lower, "broker speaks an older ApiVersions");
            version = lower;
        }
    }

    fn api_versions(&self, version: i16, answer: Bytes) -> Result<ApiVersionsResponse, ClientError> {
        let garbled = |error| ClientError::undecodable(&self.address, ApiKey::ApiVersions, &error);
        let mut reader = Reader::new(answer);
        reader.i32("correlation_id").map_err(garbled)?;
        let refused = reader.clone().i16("error_code").map_err(garbled)? == ErrorCode::UnsupportedVersion as i16;
        ApiVersionsResponse::decode(&mut reader, if refused { 0 } else { version }).map_err(garbled)
    }

    fn encode<R: Request>(&mut self, version: i16, request: &R) -> Result<Bytes, ClientError> {
        self.last_correlation_id = self.last_correlation_id.wrapping_add(1) & i32::MAX;
        Ok(frame::request(version, self.last_correlation_id, Some(&self.client_id), request)?)
    }

    /// Writes a request and reads the answer's frame with the correlation id still in it.
    async fn exchange(&mut self, request: &[u8]) -> Result<Bytes, Broken> {
        self.stream.write_all(request).await?;
        let answer = poll_fn(|cx| self.poll_frame(cx)).await?;
        correlated(answer, self.last_correlation_id)
    }

    pub(crate) fn answered(
        &self,
        api: ApiKey,
        exchanged: Result<Result<Bytes, Broken>, tokio::time::error::Elapsed>,
        waited: Duration,
    ) -> Result<Bytes, ClientError> {
        match exchanged {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Broken::Io(source))) => Err(self.disconnected(source)),
            Ok(Err(Broken::Garbled(reason))) => Err(ClientError::incomplete(&self.address, api, &reason)),
            Err(_) => Err(self.timed_out(api, waited)),
        }
    }

    pub(crate) fn disconnected(&self, source: io::Error) -> ClientError {
        ClientError::Disconnected { address: self.address.clone(), source }
    }

    fn timed_out(&self, api: ApiKey, after: Duration) -> ClientError {
        ClientError::TimedOut { address: self.address.clone(), api: api.name(), after }
    }
}

/// The frame of an answer, if it answers the request with this correlation id.
pub(crate) fn correlated(answer: Bytes, expected: i32) -> Result<Bytes, Broken> {
    let got = answer.clone().try_get_i32().map_err(|_| Broken::Garbled("no header".to_owned()))?;
    if got != expected {
        return Err(Broken::Garbled(format!("correlation id {got} instead of {expected}")));
    }
    Ok(answer)
}

/// Why an exchange did not come to its end.
pub(crate) enum Broken {
    Io(io::Error),
    Garbled(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<frame::SizeError> for Broken {
    fn from(error: frame::SizeError) -> Self {
        Self::Garbled(error.to_string())
    }
}
