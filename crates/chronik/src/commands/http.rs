//! Asking a node over HTTP: one request a connection, and a bounded answer.
//!
//! The request is HTTP/1.0, so that the answer ends with the connection and is never sent in chunks.

use std::io;
use std::time::Duration;

use chronik_net::dial;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::problem::Problem;

/// Longest time to wait for the connection.
const DIAL_MAX: Duration = Duration::from_secs(5);
/// Longest time from there to the end of the answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Bytes of an answer with its head: some hundred thousand partitions.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
const HEADERS_MAX: usize = 64;

/// What a node answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Asks the node at `address` for `path`.
pub(crate) async fn get(address: &str, path: &str) -> Result<Answer, Problem> {
    exchange(address, &format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n")).await
}

/// Posts to `path` with an empty body. What came of it is not known where no answer comes.
pub(crate) async fn post(address: &str, path: &str) -> Result<Answer, Problem> {
    let head = "content-type: application/json\r\ncontent-length: 0";
    exchange(address, &format!("POST {path} HTTP/1.0\r\nhost: {address}\r\n{head}\r\n\r\n")).await
}

impl Answer {
    /// An answer that is not what was asked for, in words: the node's own where it has some.
    pub(crate) fn refusal(&self, address: &str) -> Problem {
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
        }
        let refusal: Option<Refusal> = serde_json::from_slice(&self.body).ok();
        let why = refusal.map(|refusal| super::table::shown(&refusal.error));
        match (self.status, why) {
            (503, Some(why)) => Problem::new(format!("the node at {address} is {why}"), "try again when it is ready"),
            (404, _) => Problem::new(
                format!("the node at {address} does not know this request"),
                "use the chronik command of the node's release",
            ),
            (status, Some(why)) => {
                Problem::new(format!("the node at {address} refused, HTTP {status}: {why}"), "its log may say more")
            }
            (status, None) => no_node(address, &format!("HTTP {status} without words")),
        }
    }
}

async fn exchange(address: &str, request: &str) -> Result<Answer, Problem> {
    let unreachable = |error: &dyn std::fmt::Display| {
        Problem::new(
            format!("no node answers at {address}: {error}"),
            "is `chronik serve` running there? its ready line has the address; --http HOST:PORT names another",
        )
    };
    let mut stream = match timeout(DIAL_MAX, dial(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(&error)),
        Err(_) => return Err(unreachable(&io::Error::from(io::ErrorKind::TimedOut))),
    };
    let mut answer = Vec::new();
    let asking = async {
        stream.write_all(request.as_bytes()).await?;
        (&mut stream).take(ANSWER_BYTES_MAX + 1).read_to_end(&mut answer).await
    };
    match timeout(ANSWER_MAX, asking).await {
        Ok(Ok(_)) => parsed(&answer).map_err(|why| no_node(address, &why)),
        Ok(Err(error)) => Err(Problem::new(
            format!("the connection to {address} broke: {error}"),
            "whether the request was carried out is not known; `chronik replication status` shows what is",
        )),
        Err(_) => Err(Problem::new(
            format!("the node at {address} did not answer within {ANSWER_MAX:?}"),
            "whether the request was carried out is not known; `chronik replication status` shows what is",
        )),
    }
}

fn no_node(address: &str, why: &str) -> Problem {
    Problem::new(
        format!("{address} sent no valid answer: {why}"),
        format!("is {address} the HTTP port of a node? the Kafka port is another one"),
    )
}

fn parsed(answer: &[u8]) -> Result<Answer, String> {
    if answer.len() as u64 > ANSWER_BYTES_MAX {
        return Err(format!("more than {ANSWER_BYTES_MAX} bytes"));
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let (length, status) = match (head.parse(answer), head.code) {
        (Ok(httparse::Status::Complete(length)), Some(status)) => (length, status),
        (Ok(_), _) => return Err("it ends in the middle of its head".to_owned()),
        (Err(error), _) => return Err(error.to_string()),
    };
    let body = answer.get(length..).unwrap_or_default().to_vec();
    let told = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let told =
        told.and_then(|header| std::str::from_utf8(header.value).ok()).map(|value| value.trim().parse::<usize>());
    match told {
        Some(Ok(told)) if body.len() == told => Ok(Answer { status, body }),
        Some(Ok(told)) => Err(format!("{} bytes of {told}", body.len())),
        Some(Err(_)) => Err("its content-length is no number".to_owned()),
        None => Ok(Answer { status, body }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parsed(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn an_answer_is_whole_or_no_answer() {
        let whole = "HTTP/1.0 409 Conflict\r\nContent-Length: 3\r\nx: y\r\n\r\n{}\n";
        assert_eq!(parsed(whole.as_bytes()), Ok(Answer { status: 409, body: b"{}\n".to_vec() }));
        for length in 0..whole.len() {
            assert!(parsed(&whole.as_bytes()[..length]).is_err(), "{length}");
        }
        assert_eq!(parsed(b"HTTP/1.1 200 OK\r\n\r\nx"), Ok(Answer { status: 200, body: b"x".to_vec() }));
        assert_eq!(refused("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabcd"), "4 bytes of 3");
        assert_eq!(refused("HTTP/1.0 200 OK\r\ncontent-length: x\r\n\r\n"), "its content-length is no number");
        assert_eq!(refused("\0\0\0\x10"), "invalid HTTP version");
    }

    #[test]
    fn a_refusal_is_told_in_the_nodes_words() {
        for (status, body, expected) in [
            (503, r#"{"error":"starting"}"#, "the node at a:1 is starting\n  try again when it is ready"),
            (400, r#"{"error":"no parameter x"}"#, "the node at a:1 refused, HTTP 400: no parameter x"),
            (404, r#"{"error":"no such path"}"#, "use the chronik command of the node's release"),
            (500, "<html>", "a:1 sent no valid answer: HTTP 500 without words"),
        ] {
            let problem = Answer { status, body: body.as_bytes().to_vec() }.refusal("a:1").to_string();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
