//! One client connection: frames in, answers out in request order.
//!
//! Requests are started in order, each only when its predecessor has done its work. A produce whose append is done
//! and which only waits for its commit lets the next request start; every other request is finished first. Nothing is
//! read while too much is in flight, which is the back-pressure.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use chronik_net::{Alarm, ConnectionPermit, Frame, FrameReader, Part, ReadFrameError, Socket, TcpStream, WriteError};

use crate::api::{self, Answer, Later};
use crate::replica::Waiter;
use crate::server::Broker;
use crate::tasks::Shutdown;

/// Requests of one connection that may wait for their answers at once.
const IN_FLIGHT_MAX: usize = 64;

/// What the handlers know of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Name and version of the client's software (KIP-511), once it said so.
    pub(crate) software: parking_lot::Mutex<Option<(String, String)>>,
    /// What the fetch sleeps on that waits: one at a time does.
    pub(crate) waiter: Arc<Waiter>,
    /// When that fetch waits no more.
    pub(crate) alarm: parking_lot::Mutex<Alarm>,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, software: Default::default(), waiter: Arc::default(), alarm: Default::default() }
    }
}

/// Requests that came together are started before the first of them is answered, up to here.
const TOGETHER_MAX: usize = 16;

/// An answer at its place in the order.
enum InFlight {
    Done(Answer),
    Waiting { future: Later, barrier: bool },
}

struct Connection<'a> {
    broker: &'a Arc<Broker>,
    peer: Arc<Peer>,
    stream: &'a Socket,
    reader: FrameReader,
    in_flight: VecDeque<InFlight>,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(
    broker: Arc<Broker>,
    stream: TcpStream,
    address: SocketAddr,
    permit: ConnectionPermit,
    mut shutdown: Shutdown,
) {
    let Some(stream) = open(&broker, stream, address, &mut shutdown).await else { return };
    let mut connection = Connection {
        broker: &broker,
        peer: Arc::new(Peer::new(address)),
        stream: &stream,
        reader: FrameReader::new(broker.frame_limits()),
        in_flight: VecDeque::new(),
    };
    match connection.run(shutdown).await {
        Ok(()) => {}
        Err(ReadFrameError::Io(error)) => tracing::debug!(peer = %address, %error, "connection failed"),
        Err(error) => {
            broker.metrics.connections_closed_for_cause.inc();
            tracing::debug!(peer = %address, %error, "connection closed");
        }
    }
    drop(permit);
}

/// The connection as requests are read from it: behind the handshake where clients use TLS.
async fn open(broker: &Broker, stream: TcpStream, address: SocketAddr, shutdown: &mut Shutdown) -> Option<Socket> {
    let Some(tls) = &broker.tls else { return Some(stream.into()) };
    // Boxed: what a handshake needs would else be a part of every connection for as long as it lives.
    let handshake = Box::pin(tls.accept(stream));
    let error = tokio::select! {
        opened = handshake => match opened {
            Ok(socket) => return Some(Socket::Tls(Box::new(socket))),
            Err(error) => error,
        },
        () = shutdown.raised() => return None,
    };
    broker.metrics.tls_handshakes_failed.inc();
    tracing::debug!(peer = %address, %error, "TLS handshake failed");
    None
}

impl Connection<'_> {
    async fn run(&mut self, shutdown: Shutdown) -> Result<(), ReadFrameError> {
        let mut listener = shutdown.clone();
        // Listened to once for all requests, rather than anew for each.
        let mut raised = pin!(listener.raised());
        loop {
            let stopping = shutdown.is_raised();
            if stopping && self.in_flight.is_empty() {
                return Ok(());
            }
            let barrier = matches!(self.in_flight.back(), Some(InFlight::Waiting { barrier: true, .. }));
            let may_read = !stopping && !barrier && self.in_flight.len() < IN_FLIGHT_MAX;
            // Requests that are here already are answered together.
            if may_read
                && !self.in_flight.is_empty()
                && self.reader.has_frame()
                && self.in_flight.len() < TOGETHER_MAX
                && let Some(frame) = self.reader.next(self.stream).await?
            {
                self.start(frame);
                continue;
            }
            tokio::select! {
                biased;
                answer = next_answer(&mut self.in_flight), if !self.in_flight.is_empty() => {
                    if !self.write(answer).await? {
                        return Ok(());
                    }
                }
                frame = self.reader.next(self.stream), if may_read => match frame? {
                    Some(frame) => self.start(frame),
                    None => return Ok(()),
                },
                // A waiting fetch or join of a client that is gone is given up.
                () = self.stream.peer_closed(), if barrier => return Ok(()),
                () = &mut raised, if !stopping => {}
            }
        }
    }

    fn start(&mut self, frame: Frame) {
        let started = match api::start(self.broker, &self.peer, frame) {
            api::Started::Done(answer) => InFlight::Done(answer),
            api::Started::Committing(future) => InFlight::Waiting { future, barrier: false },
            api::Started::Running(future) => InFlight::Waiting { future, barrier: true },
        };
        self.in_flight.push_back(started);
    }

    /// Sends an answer; false ends the connection.
    async fn write(&mut self, answer: Answer) -> Result<bool, ReadFrameError> {
        let mut parts = match answer {
            Answer::Bytes(bytes) => vec![Part::Bytes(bytes)],
            Answer::Parts(parts) => parts,
            Answer::Nothing => return Ok(true),
            Answer::Close => return Ok(false),
        };
        // Answers that are ready behind this one leave in the same call.
        while let Some(InFlight::Done(Answer::Bytes(_))) = self.in_flight.front() {
            if let Some(InFlight::Done(Answer::Bytes(bytes))) = self.in_flight.pop_front() {
                parts.push(Part::Bytes(bytes));
            }
        }
        self.broker.metrics.bytes_sent(&parts);
        match self.stream.write_parts(&mut parts, self.broker.settings().connections_max_idle).await {
            Ok(()) => Ok(true),
            Err(WriteError::Peer(error)) => Err(error.into()),
            Err(WriteError::File { file, position, source }) => {
                tracing::error!(peer = %self.peer.address, file, position, error = %source, "records cannot be read while they are sent");
                Ok(false)
            }
        }
    }
}

/// Drives everything in flight and gives the answer that is due. Nothing is lost when it is cancelled.
async fn next_answer(in_flight: &mut VecDeque<InFlight>) -> Answer {
    poll_fn(|cx| {
        for slot in in_flight.iter_mut() {
            if let InFlight::Waiting { future, .. } = slot
                && let Poll::Ready(answer) = Pin::new(future).poll(cx)
            {
                *slot = InFlight::Done(answer);
            }
        }
        match in_flight.front() {
            Some(InFlight::Done(_)) => match in_flight.pop_front() {
                Some(InFlight::Done(answer)) => Poll::Ready(answer),
                _ => Poll::Pending,
            },
            _ => Poll::Pending,
        }
    })
    .await
}
