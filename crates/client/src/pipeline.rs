//! Several requests of one kind in flight on a connection of their own, answered in order.
//!
//! Requests are queued without waiting and written as the peer takes them; nobody else uses the connection. Waiting for an
//! answer may be left and begun again, as in `select!`. After an error the pipeline is broken and must be dropped.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use chronik_wire::{Request, frame};
use tokio::time::{Instant, timeout_at};

use crate::client::{Client, Target};
use crate::connection::{Broken, Connection, correlated};
use crate::error::ClientError;

#[derive(Debug)]
pub(crate) struct Pipeline<R> {
    connection: Connection,
    version: i16,
    /// Frames, the first perhaps written in part. No more than `in_flight_max`.
    unwritten: VecDeque<Bytes>,
    /// Requests without an answer, oldest first. No more than `in_flight_max`.
    in_flight: VecDeque<InFlight>,
    in_flight_max: usize,
    answer_max: Duration,
    request: PhantomData<fn(R)>,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    correlation_id: i32,
    answer_until: Instant,
}

impl<R: Request> Pipeline<R> {
    /// A pipeline to `to` that waits for each answer at most for `answer_max`.
    pub(crate) async fn open(
        client: &Client,
        to: Target,
        in_flight_max: usize,
        answer_max: Duration,
    ) -> Result<Self, ClientError> {
        let connection = Connection::open(&client.address(to)?, false, &client.options).await?;
        let version = connection.version::<R>()?;
        Ok(Self {
            connection,
            version,
            unwritten: VecDeque::new(),
            in_flight: VecDeque::new(),
            in_flight_max,
            answer_max,
            request: PhantomData,
        })
    }

    pub(crate) fn address(&self) -> &str {
        self.connection.address()
    }

    /// How many requests are without an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.in_flight.len() < self.in_flight_max
    }

    /// Queues a request, made for the version both sides know, and writes what can be written now; `false` where the
    /// pipeline is full and the request was not taken.
    pub(crate) fn push(&mut self, request: impl FnOnce(i16) -> R) -> Result<bool, ClientError> {
        if !self.has_room() {
            return Ok(false);
        }
        let (correlation_id, frame) = self.connection.frame(self.version, &request(self.version))?;
        self.unwritten.push_back(frame);
        self.in_flight.push_back(InFlight { correlation_id, answer_until: Instant::now() + self.answer_max });
        // Whoever waits for the answer goes on with what is left, and is woken for it.
        let mut nobody = Context::from_waker(Waker::noop());
        match self.connection.poll_write(&mut nobody, &mut self.unwritten) {
            Poll::Ready(Err(error)) => Err(self.connection.disconnected(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(true),
        }
    }

    /// The answer to the oldest request, writing meanwhile what is queued. Never ready while nothing is in flight.
    pub(crate) async fn answer(&mut self) -> Result<R::Response, ClientError> {
        let Some(oldest) = self.in_flight.front().copied() else { return std::future::pending().await };
        let read = timeout_at(oldest.answer_until, poll_fn(|cx| self.poll_frame(cx))).await;
        let correlated = read.map(|read| read.and_then(|answer| correlated(answer, oldest.correlation_id)));
        let answer = self.connection.answered(R::KEY, correlated, self.answer_max)?;
        self.in_flight.pop_front();
        let (_, response) = frame::decode_response::<R>(answer, self.version)
            .map_err(|error| ClientError::undecodable(self.connection.address(), R::KEY, &error))?;
        Ok(response)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Broken>> {
        let written = self.connection.poll_write(cx, &mut self.unwritten);
        if let Poll::Ready(Err(error)) = written {
            // What the peer said before it hung up tells more than that it did.
            return Poll::Ready(match self.connection.poll_frame(cx) {
                Poll::Ready(answer @ Ok(_)) => answer,
                _ => Err(Broken::Io(error)),
            });
        }
        Poll::Ready(ready!(self.connection.poll_frame(cx)))
    }
}
