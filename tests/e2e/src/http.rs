//! Requests to a broker's HTTP port, one connection each.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Longest wait for an answer.
const READ_BOUND: Duration = Duration::from_secs(30);

/// Status and body of `GET path`.
pub fn get(address: &str, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// Status and body of `POST path`, of which nobody can be made to send a form: the kind of its empty body is JSON.
pub fn post(address: &str, path: &str) -> (u16, String) {
    ask(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: 0\r\n\r\n"
        ),
    )
}

fn ask(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("HTTP at {address}: {error}"));
    stream.set_read_timeout(Some(READ_BOUND)).expect("a bound");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers text");
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}
