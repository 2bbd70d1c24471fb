//! The admin API: who may ask for what.

use std::sync::Arc;

use chronik_console::{Console, LIMITS_DEFAULT, Limits, OPENAPI, Promotion, Readiness, Reply, State};
use prometheus_client::registry::Registry;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};

use crate::{PATIENCE, exchange, get, start};

const JSON: &str = "content-type: application/json\r\n";

fn post(query: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /api/v1/promote{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
}

#[tokio::test]
async fn replication_and_the_description_are_answered() {
    let running = start(LIMITS_DEFAULT).await;
    let status = get(running.address, "/api/v1/replication").await;
    assert!(status.starts_with("HTTP/1.1 200") && status.contains("content-type: application/json"), "{status}");
    assert!(status.ends_with("{\"role\":\"leader\"}\n"), "{status}");
    let description = get(running.address, "/api/v1/openapi.json").await;
    assert!(description.starts_with("HTTP/1.1 200") && description.ends_with(OPENAPI), "{description}");
}

#[tokio::test]
async fn a_promotion_is_passed_on_as_asked_and_its_answer_passed_back() {
    let running = start(LIMITS_DEFAULT).await;
    let request = post("?require_caught_up=true&dry_run=true", "Content-Type: application/json; charset=utf-8\r\n", "");
    let answer = exchange(running.address, &request).await;
    assert!(answer.starts_with("HTTP/1.1 409") && answer.ends_with("{\"promoted\":false}\n"), "{answer}");
    let asked_for = Promotion { require_caught_up: true, dry_run: true, accept_damage: false };
    assert_eq!(*running.promotions.lock().unwrap(), [asked_for]);
}

#[tokio::test]
async fn no_web_page_and_no_slip_promotes_a_node() {
    let running = start(LIMITS_DEFAULT).await;
    for (request, status, why) in [
        (post("", "", ""), 415, "content-type: application/json is missing"),
        (post("", "content-type: application/x-www-form-urlencoded\r\n", ""), 415, "is missing"),
        (post("", "content-type: text/plain; a=application/json\r\n", ""), 415, "is missing"),
        (post("", "content-type: application/json\r\norigin: http://x\r\n", ""), 403, "web pages may not"),
        (post("", "content-type: application/json\r\norigin: null\r\n", ""), 403, "web pages may not"),
        (post("?dry-run=true", JSON, ""), 400, "no parameter dry-run"),
        (post("?dry_run=yes", JSON, ""), 400, "write true or false"),
        (post("", JSON, "{\"dry_run\":true}"), 400, "the body must be empty"),
    ] {
        let answer = exchange(running.address, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        assert!(answer.contains("{\"error\":\"") && answer.contains(why), "{request}: {answer}");
    }
    for method in ["GET", "PUT", "OPTIONS"] {
        let request = post("", JSON, "").replacen("POST", method, 1);
        let answer = exchange(running.address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 405") && answer.contains(&format!("no {method} here")), "{answer}");
        assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
    }
    assert!(running.promotions.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_promotion_goes_on_when_whoever_asked_hangs_up() {
    let (go, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (ended, end) = oneshot::channel();
    let ended = std::sync::Mutex::new(Some(ended));
    let (goes, begins) = (Arc::clone(&go), Arc::clone(&begun));
    let state = State {
        readiness: Arc::new(|| Readiness::Ready),
        metrics: Arc::new(Registry::default()),
        replication: Arc::new(|| Reply::error(503, "starting")),
        promote: Arc::new(move |_| {
            let (go, begun, ended) = (Arc::clone(&goes), Arc::clone(&begins), ended.lock().unwrap().take());
            Box::pin(async move {
                begun.notify_one();
                go.notified().await;
                ended.unwrap().send(()).unwrap();
                Reply::ok(Vec::new())
            })
        }),
    };
    let limits = Limits { connections_max: 1, ..LIMITS_DEFAULT };
    let console = Console::bind("127.0.0.1:0".parse().unwrap(), limits).await.unwrap();
    let address = console.local_addr();
    tokio::spawn(console.serve(state, std::future::pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(post("", JSON, "").as_bytes()).await.unwrap();
    tokio::time::timeout(PATIENCE, begun.notified()).await.unwrap();
    drop(stream);
    // The one place there is comes free when the console has let go of the connection.
    assert!(get(address, "/health/live").await.starts_with("HTTP/1.1 200"));
    go.notify_one();
    tokio::time::timeout(PATIENCE, end).await.expect("the promotion ends").unwrap();
}

#[tokio::test]
async fn a_promotion_that_panics_is_answered() {
    let state = State {
        readiness: Arc::new(|| Readiness::Ready),
        metrics: Arc::new(Registry::default()),
        replication: Arc::new(|| Reply::error(503, "starting")),
        promote: Arc::new(|_| Box::pin(async { panic!("a defect") })),
    };
    let console = Console::bind("127.0.0.1:0".parse().unwrap(), LIMITS_DEFAULT).await.unwrap();
    let address = console.local_addr();
    tokio::spawn(console.serve(state, std::future::pending()));
    let answer = exchange(address, &post("", JSON, "")).await;
    assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("the promotion failed"), "{answer}");
    let status = get(address, "/api/v1/replication").await;
    assert!(status.starts_with("HTTP/1.1 503") && status.ends_with("{\"error\":\"starting\"}\n"), "{status}");
}
