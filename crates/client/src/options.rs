//! The bounds a client keeps.

use std::time::Duration;

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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: "chronik".to_owned(),
            dial_max: Duration::from_secs(5),
            request_max: Duration::from_secs(30),
            retry_max: Duration::from_secs(30),
            response_bytes_max: 128 * 1024 * 1024,
        }
    }
}
