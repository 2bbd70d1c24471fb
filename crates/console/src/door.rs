//! The listening socket and what one peer may cost.
//!
//! Connections are counted, and each may send only so many bytes, and wait only so long, between two answers: a peer
//! that says nothing, trickles its request, sends a huge one or does not read is cut off. What is asked is `routes`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tracing::{debug, warn};

use crate::routes::{State, router};

/// What peers may cost together and alone.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections open at a time; more wait in the listen queue.
    pub connections_max: usize,
    /// Bytes a peer may send between two answers: head and body of one request.
    pub request_bytes_max: usize,
    /// Time without an answer or progress in writing one after which a connection is closed.
    pub idle_max: Duration,
    /// Time that answers in flight get when the console stops.
    pub drain_max: Duration,
}

/// The limits of a node: the idle time outlasts the usual minute between two scrapes.
pub const LIMITS_DEFAULT: Limits = Limits {
    connections_max: 64,
    request_bytes_max: 16 * 1024,
    idle_max: Duration::from_secs(75),
    drain_max: Duration::from_secs(2),
};

/// A bound console that does not answer yet.
#[derive(Debug)]
pub struct Console {
    listener: TcpListener,
    local_addr: SocketAddr,
    limits: Limits,
}

impl Console {
    /// Binds `address`; port 0 takes a free one.
    pub async fn bind(address: SocketAddr, limits: Limits) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let local_addr = listener.local_addr()?;
        Ok(Self { listener, local_addr, limits })
    }

    /// The address bound, with the port the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers until `shutdown` completes, then lets the answers in flight end within their time.
    pub async fn serve(self, state: State, shutdown: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let door = Door {
            permits: Arc::new(Semaphore::new(self.limits.connections_max)),
            listener: self.listener,
            local_addr: self.local_addr,
            limits: self.limits.clone(),
        };
        let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = axum::serve(door, router(state)).with_graceful_shutdown(async move {
            shutdown.await;
            drop(stopping);
        });
        let drain_max = self.limits.drain_max;
        let overtime = async move {
            let _ = stopped.await;
            tokio::time::sleep(drain_max).await;
        };
        tokio::select! {
            served = serving => served,
            () = overtime => {
                debug!("console connections were cut at shutdown");
                Ok(())
            }
        }
    }
}

/// The listener as the HTTP server sees it: it hands out guarded connections, and none beyond the limit.
struct Door {
    listener: TcpListener,
    local_addr: SocketAddr,
    permits: Arc<Semaphore>,
    limits: Limits,
}

impl axum::serve::Listener for Door {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        loop {
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
                // Nobody closes the semaphore; were it closed, nobody could come in any more.
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, peer)) => return (Guarded::new(stream, permit, &self.limits), peer),
                Err(error) => {
                    // Out of file descriptors, most likely: they come back, and until then retrying at once would spin.
                    warn!(%error, "console cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local_addr)
    }
}

/// One connection with its place among those allowed.
struct Guarded {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
    idle_max: Duration,
    deadline: Pin<Box<Sleep>>,
    request_bytes_max: usize,
    /// Bytes read since the last byte was written.
    request_bytes: usize,
}

impl Guarded {
    fn new(stream: TcpStream, permit: OwnedSemaphorePermit, limits: &Limits) -> Self {
        Self {
            stream,
            _permit: permit,
            idle_max: limits.idle_max,
            deadline: Box::pin(tokio::time::sleep(limits.idle_max)),
            request_bytes_max: limits.request_bytes_max,
            request_bytes: 0,
        }
    }

    /// Ends a wait that has lasted too long.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn written(&mut self) {
        self.request_bytes = 0;
        self.deadline.as_mut().reset(Instant::now() + self.idle_max);
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guarded = self.get_mut();
        if guarded.request_bytes > guarded.request_bytes_max {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "request is too large")));
        }
        let before = buf.filled().len();
        match Pin::new(&mut guarded.stream).poll_read(cx, buf) {
            Poll::Ready(done) => {
                guarded.request_bytes = guarded.request_bytes.saturating_add(buf.filled().len() - before);
                Poll::Ready(done)
            }
            Poll::Pending => guarded.wait(cx),
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guarded = self.get_mut();
        match Pin::new(&mut guarded.stream).poll_write(cx, bytes) {
            Poll::Ready(done) => {
                guarded.written();
                Poll::Ready(done)
            }
            Poll::Pending => guarded.wait(cx),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
