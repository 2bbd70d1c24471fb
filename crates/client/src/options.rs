//! The bounds a client keeps.

use std::time::Duration;

use chronik_net::TlsFiles;

/// How a client names itself, and what it waits for and holds at most.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name brokers see.
    pub client_id: String,
    /// Longest time to wait for a connection.
    pub dial_max: Duration,
    /// Longest time to wait for the answer to one request.
    pub request_max: Duration,
    /// Longest time to go on retrying what a broker says may be retried.
    pub retry_max: Duration,
    /// Largest response in bytes.
    pub response_bytes_max: usize,
    /// The authorities that brokers' certificates must come from, and the client's own certificate where brokers ask for
    /// one; connections are plain where there is none.
    pub tls: Option<TlsFiles>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: "chronik".to_owned(),
            dial_max: Duration::from_secs(5),
            request_max: Duration::from_secs(30),
            retry_max: Duration::from_secs(30),
            response_bytes_max: 128 * 1024 * 1024,
            tls: None,
        }
    }
}
