//! The console over a real loopback socket.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod admin;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chronik_console::{Console, LIMITS_DEFAULT, Limits, Promotion, Readiness, Reply, State};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longest time any of these tests may wait for something to happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    /// What was asked for, in order.
    promotions: Arc<Mutex<Vec<Promotion>>>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

async fn start(limits: Limits) -> Running {
    let mut registry = Registry::default();
    let requests = Counter::<u64>::default();
    requests.inc_by(7);
    registry.register("chronik_requests", "Requests answered", requests);
    let ready = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&ready);
    let readiness = Arc::new(move || {
        if asked.load(Ordering::SeqCst) { Readiness::Ready } else { Readiness::NotReady("still \"loading\"".into()) }
    });
    let console = Console::bind("127.0.0.1:0".parse().unwrap(), limits).await.unwrap();
    let address = console.local_addr();
    let (stop, stopped) = oneshot::channel();
    let promotions: Arc<Mutex<Vec<Promotion>>> = Arc::default();
    let asked_for = Arc::clone(&promotions);
    let state = State {
        readiness,
        metrics: Arc::new(registry),
        replication: Arc::new(|| Reply::ok(br#"{"role":"leader"}"#.to_vec())),
        promote: Arc::new(move |promotion| {
            asked_for.lock().unwrap().push(promotion);
            Box::pin(async { Reply { status: 409, body: br#"{"promoted":false}"#.to_vec() } })
        }),
    };
    let served = tokio::spawn(console.serve(state, async {
        let _ = stopped.await;
    }));
    Running { address, ready, promotions, stop, served }
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A peer that is cut off may see a reset after the bytes.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection ends");
    String::from_utf8(answer).unwrap()
}

async fn get(address: SocketAddr, path: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn health_and_metrics_are_answered() {
    let running = start(LIMITS_DEFAULT).await;
    let live = get(running.address, "/health/live").await;
    assert!(live.starts_with("HTTP/1.1 200") && live.contains(r#"{"status":"live"}"#), "{live}");
    let before = get(running.address, "/health/ready").await;
    assert!(before.starts_with("HTTP/1.1 503"), "{before}");
    assert!(before.contains(r#"{"status":"not ready","reason":"still \"loading\""}"#), "{before}");
    running.ready.store(true, Ordering::SeqCst);
    let after = get(running.address, "/health/ready").await;
    assert!(after.starts_with("HTTP/1.1 200"), "{after}");
    let metrics = get(running.address, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(metrics.contains("content-type: application/openmetrics-text"), "{metrics}");
    assert!(metrics.contains("chronik_requests_total 7\n") && metrics.ends_with("# EOF\n"), "{metrics}");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_as_json() {
    let running = start(LIMITS_DEFAULT).await;
    let missing = get(running.address, "/admin").await;
    assert!(missing.starts_with("HTTP/1.1 404") && missing.contains("application/json"), "{missing}");
    let post = "POST /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let refused = exchange(running.address, post).await;
    assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("no POST here"), "{refused}");
}

#[tokio::test]
async fn an_endless_request_is_cut_off() {
    let running = start(Limits { request_bytes_max: 1024, ..LIMITS_DEFAULT }).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let writing = async {
        while stream.write_all(b"x-filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n").await.is_ok() {}
    };
    tokio::time::timeout(PATIENCE, writing).await.expect("the peer is cut off");
}

#[tokio::test]
async fn a_half_sent_request_is_cut_off_and_gives_its_place_back() {
    let limits = Limits { connections_max: 1, idle_max: Duration::from_millis(50), ..LIMITS_DEFAULT };
    let running = start(limits).await;
    let mut slow = TcpStream::connect(running.address).await.unwrap();
    slow.write_all(b"GET /health/live HTT").await.unwrap();
    read_to_end(&mut slow).await;
    let live = get(running.address, "/health/live").await;
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let running = start(Limits { connections_max: 1, ..LIMITS_DEFAULT }).await;
    let mut first = TcpStream::connect(running.address).await.unwrap();
    let keep_alive = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    first.write_all(keep_alive.as_bytes()).await.unwrap();
    let mut byte = [0; 1];
    first.read_exact(&mut byte).await.unwrap();
    let second = tokio::spawn(get(running.address, "/health/live"));
    first.write_all(keep_alive.as_bytes()).await.unwrap();
    let mut rest = [0; 150];
    first.read_exact(&mut rest).await.unwrap();
    assert!(!second.is_finished(), "the only place is taken");
    drop(first);
    assert!(tokio::time::timeout(PATIENCE, second).await.unwrap().unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn stopping_ends_the_console_though_a_connection_stays_open() {
    let running = start(Limits { drain_max: Duration::from_millis(10), ..LIMITS_DEFAULT }).await;
    let mut half_sent = TcpStream::connect(running.address).await.unwrap();
    half_sent.write_all(b"GET /health/li").await.unwrap();
    get(running.address, "/health/live").await;
    running.stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, running.served).await.expect("the console ends").unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err(), "nobody listens any more");
}
