//! Outgoing connections.

use std::io;

use tokio::net::TcpStream;

/// Connects to `host:port` with Nagle's algorithm off. Names are resolved at every call, so a peer may move.
pub async fn dial(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
