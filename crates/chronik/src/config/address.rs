//! `HOST:PORT` as people write it, and what may be handed to clients.

use std::fmt;
use std::net::IpAddr;

use crate::problem::Problem;

/// A host name or address with a port. IPv6 addresses are held without their brackets and shown with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl HostPort {
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Whether the host means "every address of this machine", which no client can connect to.
pub(crate) fn is_wildcard(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_unspecified())
}

/// Reads `HOST:PORT`. `example` is shown where it cannot be read.
pub(crate) fn parse_host_port(text: &str, what: &str, example: &str) -> Result<HostPort, Problem> {
    let (host, port) = split(text, what, example)?;
    let port = port.ok_or_else(|| {
        Problem::new(
            format!("{what} is \"{text}\", which has no port"),
            format!("write HOST:PORT, for example {example}"),
        )
    })?;
    Ok(HostPort { host, port })
}

/// Reads `HOST` or `HOST:PORT`.
pub(crate) fn parse_host_and_maybe_port(
    text: &str,
    what: &str,
    example: &str,
) -> Result<(String, Option<u16>), Problem> {
    split(text, what, example)
}

/// Reads a port number, 0 included.
pub(crate) fn parse_port(text: &str, what: &str) -> Result<u16, Problem> {
    text.parse().map_err(|_| {
        Problem::new(format!("{what} is \"{text}\", which is not a port"), "write a number from 0 to 65535")
    })
}

fn split(text: &str, what: &str, example: &str) -> Result<(String, Option<u16>), Problem> {
    let problem = |why: &str| {
        Problem::new(format!("{what} is \"{text}\", {why}"), format!("write HOST:PORT, for example {example}"))
    };
    if text.contains("://") {
        return Err(problem("which names a protocol; only host and port belong here"));
    }
    if text.contains(',') {
        return Err(problem("which is a list; there is one address"));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(|| problem("where a closing bracket is missing"))?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| problem("where the brackets hold no IPv6 address"))?;
            match after {
                "" => (host, None),
                _ => (host, Some(after.strip_prefix(':').ok_or_else(|| problem("where a colon is missing"))?)),
            }
        }
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err(problem("where an IPv6 address needs brackets, as in [::1]:9092"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() || host.contains(char::is_whitespace) || host.contains(['/', '*']) {
        return Err(problem("which has no host name or address"));
    }
    if port.is_none() && host.bytes().all(|b| b.is_ascii_digit()) {
        return Err(problem("which has no host name or address"));
    }
    let port = port.map(|port| parse_port(port, &format!("the port of {what}"))).transpose()?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_alike() {
        for text in ["127.0.0.1:9092", "localhost:0", "[::1]:9092", "kafka-1.example.org:65535", "[::]:1"] {
            let parsed = parse_host_port(text, "--listen", "127.0.0.1:9092").unwrap();
            assert_eq!(parsed.to_string(), text);
        }
        assert_eq!(parse_host_and_maybe_port("[fe80::1]", "--advertise", "h:1").unwrap(), ("fe80::1".to_owned(), None));
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, why) in [
            ("127.0.0.1", "has no port"),
            ("9092", "has no host"),
            (":9092", "has no host"),
            ("*:9092", "has no host"),
            ("::1:9092", "needs brackets"),
            ("[::1:9092", "closing bracket"),
            ("[::1]9092", "colon is missing"),
            ("[host]:9092", "no IPv6 address"),
            ("PLAINTEXT://a:1", "names a protocol"),
            ("a:1,b:2", "is a list"),
            ("a:70000", "not a port"),
            ("a:", "not a port"),
            ("a b:1", "has no host"),
        ] {
            let problem = parse_host_port(text, "--listen", "127.0.0.1:9092").unwrap_err().to_string();
            assert!(problem.contains(why), "{text}: {problem}");
        }
    }

    #[test]
    fn wildcards_are_recognised_in_every_spelling() {
        for host in ["0.0.0.0", "::", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0"] {
            assert!(is_wildcard(host), "{host}");
        }
        for host in ["127.0.0.1", "::1", "localhost"] {
            assert!(!is_wildcard(host), "{host}");
        }
    }
}
