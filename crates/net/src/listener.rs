//! Accepts connections within limits.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// The kernel's queue of connections not yet accepted is at least this long, whatever `socket.listen.backlog.size` says:
/// a crowd that comes back after a restart must not be turned away.
const BACKLOG_MIN: u32 = 1024;
/// Pause after the process ran out of descriptors, so that accepting does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many connections are served at once, and how fast new ones are taken.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// In all (`max.connections`).
    pub total_max: usize,
    /// From one address (`max.connections.per.ip`).
    pub per_address_max: usize,
    /// From certain addresses instead (`max.connections.per.ip.overrides`).
    pub address_overrides: HashMap<IpAddr, usize>,
    /// New ones in a second (`max.connection.creation.rate`); more of them wait in the kernel's queue.
    pub creations_per_second_max: u32,
}

impl ConnectionLimits {
    fn for_address(&self, address: IpAddr) -> usize {
        self.address_overrides.get(&address).copied().unwrap_or(self.per_address_max)
    }

    /// These many in all and from one address, at any rate.
    pub fn new(total_max: usize, per_address_max: usize) -> Self {
        Self { total_max, per_address_max, address_overrides: HashMap::new(), creations_per_second_max: u32::MAX }
    }
}

/// How the kernel treats the sockets of a listener.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketOptions {
    /// `socket.send.buffer.bytes`; `None` leaves it to the system, which fits it to the connection.
    pub send_buffer_bytes: Option<usize>,
    /// `socket.receive.buffer.bytes`; likewise.
    pub receive_buffer_bytes: Option<usize>,
    /// `socket.listen.backlog.size`.
    pub backlog: u32,
}

/// A bound listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    options: SocketOptions,
    pace: Mutex<Pace>,
    census: Arc<Census>,
}

/// A connection within the limits.
#[derive(Debug)]
pub struct Accepted {
    /// The socket, Nagle's algorithm off.
    pub stream: TcpStream,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The connection's place in the limits.
    pub permit: ConnectionPermit,
}

/// Spends a second's worth of new connections at once at the most, then one each time its share of a second is over.
#[derive(Debug)]
struct Pace {
    share: Duration,
    /// When everything taken so far is paid for.
    paid_at: Instant,
}

impl Pace {
    fn new(per_second: u32) -> Self {
        Self { share: Duration::from_secs(1) / per_second.max(1), paid_at: Instant::now() }
    }

    /// How long to wait before the next connection is taken.
    fn wait(&self, now: Instant) -> Duration {
        let paid_at = self.paid_at.max(now) + self.share;
        paid_at.saturating_duration_since(now).saturating_sub(Duration::from_secs(1))
    }

    /// Counts a connection that was taken.
    fn take(&mut self, now: Instant) {
        self.paid_at = self.paid_at.max(now) + self.share;
    }
}

#[derive(Debug)]
struct Census {
    limits: ConnectionLimits,
    counts: Mutex<Counts>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Holds a connection's place in the limits until dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    census: Arc<Census>,
    address: IpAddr,
}

impl Listener {
    /// Binds `address`; port 0 lets the system choose.
    pub fn bind(address: SocketAddr, limits: ConnectionLimits, options: SocketOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        // A restarted broker takes its port back at once, although old connections linger in TIME_WAIT.
        socket.set_reuse_address(true)?;
        if let Some(bytes) = options.receive_buffer_bytes {
            // On the listening socket: the window a connection offers is fixed when it is opened.
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(options.backlog.max(BACKLOG_MIN)).unwrap_or(i32::MAX))?;
        let pace = Mutex::new(Pace::new(limits.creations_per_second_max));
        let census = Census { limits, counts: Mutex::default(), refused: AtomicU64::new(0) };
        Ok(Self { socket: TcpListener::from_std(socket.into())?, options, pace, census: Arc::new(census) })
    }

    /// The address bound, with the port chosen.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next connection within the limits. Connections beyond them are closed and counted; running out of
    /// descriptors delays accepting and does not end it. May be cancelled.
    pub async fn accept(&self) -> Accepted {
        loop {
            // Waited for before a connection is taken: one that was taken would be lost if this call is cancelled meanwhile.
            let wait = self.pace.lock().wait(Instant::now());
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    self.pace.lock().take(Instant::now());
                    let Some(permit) = Census::admit(&self.census, peer.ip()) else {
                        tracing::debug!(%peer, "connection refused: limit reached");
                        continue;
                    };
                    if let Err(error) = self.prepare(&stream) {
                        tracing::debug!(%peer, %error, "connection lost before it was served");
                        continue;
                    }
                    return Accepted { stream, peer, permit };
                }
                Err(error) if connection_level(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections for the moment");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        if let Some(bytes) = self.options.send_buffer_bytes {
            SockRef::from(stream).set_send_buffer_size(bytes)?;
        }
        Ok(())
    }

    /// Connections served at the moment.
    pub fn connections(&self) -> usize {
        self.census.counts.lock().total
    }

    /// Connections refused because a limit was reached.
    pub fn refused(&self) -> u64 {
        self.census.refused.load(Ordering::Relaxed)
    }
}

/// Errors of one connection that died before it was accepted, rather than of the listener.
fn connection_level(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

impl Census {
    fn admit(census: &Arc<Self>, address: IpAddr) -> Option<ConnectionPermit> {
        let mut counts = census.counts.lock();
        let here = counts.by_address.get(&address).copied().unwrap_or(0);
        if counts.total >= census.limits.total_max || here >= census.limits.for_address(address) {
            census.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        counts.total += 1;
        counts.by_address.insert(address, here + 1);
        Some(ConnectionPermit { census: Arc::clone(census), address })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.census.counts.lock();
        counts.total -= 1;
        if let Some(here) = counts.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn connections_beyond_the_limit_are_closed_and_places_come_back() {
        let limits = ConnectionLimits::new(10, 2);
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(address, limits, SocketOptions::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let _first = TcpStream::connect(address).await.unwrap();
        let _second = TcpStream::connect(address).await.unwrap();
        let (a, b) = (listener.accept().await, listener.accept().await);
        let mut third = TcpStream::connect(address).await.unwrap();
        let mut byte = [0; 1];
        tokio::select! {
            _ = listener.accept() => panic!("the third connection exceeds the limit"),
            read = third.read(&mut byte) => assert!(matches!(read, Ok(0) | Err(_))),
        }
        assert_eq!((listener.connections(), listener.refused()), (2, 1));
        drop((a, b));
        assert_eq!(listener.connections(), 0);
        let _fourth = TcpStream::connect(address).await.unwrap();
        listener.accept().await;
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_while_it_waits_for_its_turn_loses_no_connection() {
        let limits = ConnectionLimits { creations_per_second_max: 1, ..ConnectionLimits::new(10, 10) };
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), limits, SocketOptions::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let _first = TcpStream::connect(address).await.unwrap();
        listener.accept().await;
        let second = TcpStream::connect(address).await.unwrap();
        let local = second.local_addr().unwrap();
        for _ in 0..3 {
            tokio::select! {
                biased;
                _ = listener.accept() => panic!("the second connection has to wait for its turn"),
                () = std::future::ready(()) => {}
            }
        }
        assert_eq!(listener.accept().await.peer, local);
    }

    #[tokio::test]
    async fn socket_buffers_are_as_asked() {
        let options =
            SocketOptions { send_buffer_bytes: Some(50_000), receive_buffer_bytes: Some(60_000), backlog: 50 };
        let limits = ConnectionLimits::new(10, 10);
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), limits, options).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let accepted = listener.accept().await;
        // The kernel doubles what is asked for, to keep its books in.
        let socket = SockRef::from(&accepted.stream);
        assert_eq!(socket.send_buffer_size().unwrap(), 100_000);
        assert_eq!(socket.recv_buffer_size().unwrap(), 120_000);
    }

    #[tokio::test]
    async fn an_address_may_have_a_limit_of_its_own() {
        let address = IpAddr::from([127, 0, 0, 1]);
        let limits =
            ConnectionLimits { address_overrides: HashMap::from([(address, 0)]), ..ConnectionLimits::new(10, 10) };
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), limits, SocketOptions::default()).unwrap();
        let mut refused = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut byte = [0; 1];
        tokio::select! {
            _ = listener.accept() => panic!("the address may not connect"),
            read = refused.read(&mut byte) => assert!(matches!(read, Ok(0) | Err(_))),
        }
    }

    #[test]
    fn new_connections_are_taken_at_the_rate_allowed_after_a_burst_of_a_second() {
        let start = Instant::now();
        let mut pace = Pace { share: Duration::from_millis(100), paid_at: start };
        for _ in 0..10 {
            assert!(pace.wait(start).is_zero());
            pace.take(start);
        }
        assert_eq!(pace.wait(start), Duration::from_millis(100));
        pace.take(start);
        assert_eq!(pace.wait(start), Duration::from_millis(200));
        assert!(pace.wait(start + Duration::from_secs(5)).is_zero());
    }
}
