//! Binding the node's addresses, and the words for an address that cannot be bound.
//!
//! Addresses are bound before anything is written, so that a busy port changes nothing.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use chronik_console::{Console, LIMITS_DEFAULT};
use chronik_net::{ConnectionLimits, Listener, ServerTls, SocketOptions, TlsFiles};

use crate::config::{HostPort, Http};
use crate::problem::Problem;

/// Connections of leaders, and of whoever else finds the port.
const RECEIVER_CONNECTIONS_MAX: usize = 64;
/// Of them from one address: a leader needs one, and another while the first is on its way out.
const RECEIVER_CONNECTIONS_PER_ADDRESS_MAX: usize = 8;
/// How many ports after the default one are tried for HTTP.
const HTTP_PORTS_TRIED: u16 = 100;

/// Binds the address that clients connect to.
pub(crate) async fn bind_kafka(
    address: &HostPort,
    limits: ConnectionLimits,
    options: SocketOptions,
) -> Result<Listener, Problem> {
    let resolved = resolve(address, "--listen").await?;
    Listener::bind(resolved, limits, options).map_err(|error| unbindable(address, &error, "--listen", "CHRONIK_LISTEN"))
}

/// Reads what clients' connections are encrypted with, where they are.
pub(crate) fn open_tls(files: Option<&TlsFiles>) -> Result<Option<Arc<ServerTls>>, Problem> {
    let Some(files) = files else { return Ok(None) };
    match ServerTls::open(files.clone()) {
        Ok(tls) => Ok(Some(Arc::new(tls))),
        Err(error) => Err(Problem::new(
            format!("clients' connections cannot be encrypted: {error}"),
            "--tls-cert (CHRONIK_TLS_CERT) names the certificate and its chain, --tls-key (CHRONIK_TLS_KEY) its private key, \
             --tls-client-ca (CHRONIK_TLS_CLIENT_CA) the authorities of clients; all are PEM files that this user may read",
        )),
    }
}

/// Binds the address of metrics and health; `None` where it is switched off.
pub(crate) async fn bind_http(http: &Http) -> Result<Option<Console>, Problem> {
    match http {
        Http::Off => Ok(None),
        Http::Named(address) => {
            let resolved = resolve(address, "--http").await?;
            let bound = Console::bind(resolved, LIMITS_DEFAULT).await;
            bound.map(Some).map_err(|error| unbindable(address, &error, "--http", "CHRONIK_HTTP"))
        }
        Http::Default(address) => {
            let resolved = resolve(address, "--http").await?;
            let last = address.port.saturating_add(HTTP_PORTS_TRIED);
            for port in address.port..last {
                match Console::bind(SocketAddr::new(resolved.ip(), port), LIMITS_DEFAULT).await {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                    bound => {
                        let named = HostPort::new(address.host.clone(), port);
                        return bound.map(Some).map_err(|error| unbindable(&named, &error, "--http", "CHRONIK_HTTP"));
                    }
                }
            }
            Err(Problem::new(
                format!("the ports {} to {} for HTTP are all taken", address.port, last.saturating_sub(1)),
                "choose another with --http HOST:PORT (CHRONIK_HTTP), or switch it off with --http off",
            ))
        }
    }
}

/// Binds the address that leaders dial, where there is one.
pub(crate) async fn bind_receiver(address: Option<&HostPort>) -> Result<Option<Listener>, Problem> {
    let Some(address) = address else { return Ok(None) };
    let resolved = resolve(address, "--wal-receiver").await?;
    let limits = ConnectionLimits::new(RECEIVER_CONNECTIONS_MAX, RECEIVER_CONNECTIONS_PER_ADDRESS_MAX);
    let bound = Listener::bind(resolved, limits, SocketOptions::default());
    bound.map(Some).map_err(|error| unbindable(address, &error, "--wal-receiver", "CHRONIK_WAL_RECEIVER_ADDR"))
}

/// The addresses of `max.connections.per.ip.overrides`; a name stands for all it resolves to at the start.
pub(crate) async fn resolve_overrides(overrides: &[(String, usize)]) -> HashMap<IpAddr, usize> {
    let mut limits = HashMap::new();
    for (host, limit) in overrides {
        match tokio::net::lookup_host((host.as_str(), 0)).await {
            Ok(found) => limits.extend(found.map(|address| (address.ip(), *limit))),
            Err(error) => {
                tracing::warn!(host, %error, "max.connections.per.ip.overrides names an unknown host, ignored")
            }
        }
    }
    limits
}

/// The address to bind. A name that stands for several gives its IPv4 one, which every client can use.
async fn resolve(address: &HostPort, flag: &str) -> Result<SocketAddr, Problem> {
    let unresolved = |why: String| {
        Problem::new(
            format!("cannot find the address of \"{}\": {why}", address.host),
            format!("name an address of this machine, as in {flag} 127.0.0.1:{}", address.port),
        )
    };
    let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    let mut found: Vec<SocketAddr> = found.map_err(|error| unresolved(error.to_string()))?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| unresolved("it has none".to_owned()))
}

fn unbindable(address: &HostPort, error: &io::Error, flag: &str, variable: &str) -> Problem {
    let HostPort { host, port } = address;
    match error.kind() {
        io::ErrorKind::AddrInUse => Problem::new(
            format!("port {port} is taken: another process listens on {address}"),
            format!(
                "stop that process, or choose another port with {flag} HOST:PORT ({variable}); port 0 takes a free one"
            ),
        ),
        io::ErrorKind::AddrNotAvailable => Problem::new(
            format!("{host} is no address of this machine"),
            format!("name one that is, as in {flag} 127.0.0.1:{port}, or 0.0.0.0:{port} for all of them"),
        ),
        io::ErrorKind::PermissionDenied => Problem::new(
            format!("this user may not listen on port {port}"),
            format!("choose a port from 1024 on with {flag} HOST:PORT ({variable})"),
        ),
        _ => Problem::new(
            format!("cannot listen on {address}: {error}"),
            format!("choose another address with {flag} HOST:PORT ({variable})"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> ConnectionLimits {
        ConnectionLimits::new(10, 10)
    }

    #[tokio::test]
    async fn a_busy_port_is_named_with_the_way_out() {
        let first = bind_kafka(&HostPort::new("127.0.0.1", 0), limits(), SocketOptions::default()).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let taken = HostPort::new("127.0.0.1", port);
        let problem = bind_kafka(&taken, limits(), SocketOptions::default()).await.unwrap_err().to_string();
        assert!(problem.contains(&format!("another process listens on 127.0.0.1:{port}")), "{problem}");
        assert!(problem.contains("--listen HOST:PORT (CHRONIK_LISTEN)"), "{problem}");
        let problem = bind_http(&Http::Named(taken)).await.unwrap_err().to_string();
        assert!(problem.contains("--http HOST:PORT (CHRONIK_HTTP)"), "{problem}");
    }

    #[tokio::test]
    async fn http_that_nobody_named_moves_to_a_free_port() {
        let first = bind_http(&Http::Named(HostPort::new("127.0.0.1", 0))).await.unwrap().unwrap();
        let port = first.local_addr().port();
        let moved = bind_http(&Http::Default(HostPort::new("127.0.0.1", port))).await.unwrap().unwrap();
        assert!(moved.local_addr().port() > port, "{} after {port}", moved.local_addr());
        assert!(bind_http(&Http::Off).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_host_that_is_not_here_is_told_apart_from_one_that_is_nowhere() {
        let problem = bind_kafka(&HostPort::new("192.0.2.1", 0), limits(), SocketOptions::default())
            .await
            .unwrap_err()
            .to_string();
        assert!(problem.contains("192.0.2.1 is no address of this machine"), "{problem}");
        let problem = bind_kafka(&HostPort::new("no such host", 1), limits(), SocketOptions::default())
            .await
            .unwrap_err()
            .to_string();
        assert!(problem.contains("cannot find the address of \"no such host\""), "{problem}");
    }

    #[tokio::test]
    async fn localhost_is_bound_in_ipv4() {
        let listener = bind_kafka(&HostPort::new("localhost", 0), limits(), SocketOptions::default()).await.unwrap();
        assert!(listener.local_addr().unwrap().is_ipv4());
    }

    #[test]
    fn other_failures_to_bind_have_their_words_too() {
        let denied = unbindable(&HostPort::new("h", 80), &io::ErrorKind::PermissionDenied.into(), "--listen", "V");
        assert!(denied.to_string().contains("choose a port from 1024 on"), "{denied}");
        let other = unbindable(&HostPort::new("h", 80), &io::ErrorKind::Unsupported.into(), "--listen", "V");
        assert!(other.to_string().contains("cannot listen on h:80"), "{other}");
    }
}
