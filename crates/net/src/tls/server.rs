//! What a listener shows its clients, taken from files that may change while it runs.
//!
//! Invariant: there is always one whole configuration. Files that cannot be used are named once and change nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::{OF_CLIENTS, TlsError, TlsFiles};
use crate::tls_socket::{Buffers, TlsSocket};

/// How long a client may take to its handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(20);
/// The files are looked at this often at the most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The accepting end of clients' connections: TLS 1.2 and 1.3, with the files as they were last usable.
#[derive(Debug)]
pub struct ServerTls {
    files: TlsFiles,
    current: Mutex<Current>,
    buffers: Arc<Buffers>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// The files when they were last read, usable or not.
    seen: Vec<Stamp>,
    looked_at: Instant,
}

/// What tells a file that was written or replaced from the one before; `None` where there is none.
type Stamp = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let seen = stamps(&files);
        let config = Arc::new(files.server(OF_CLIENTS)?);
        let current = Mutex::new(Current { config, seen, looked_at: Instant::now() });
        Ok(Self { files, current, buffers: Arc::default() })
    }

    /// The handshake with a client, for 20 seconds at the most.
    ///
    /// # Errors
    /// The client does not speak TLS, is too slow, or does not prove who it is where it must.
    pub async fn accept(self: &Arc<Self>, stream: TcpStream) -> io::Result<TlsSocket> {
        let acceptor = TlsAcceptor::from(self.config().await);
        let accepted = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await;
        let (stream, connection) = accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?.into_inner();
        Ok(TlsSocket::new(stream, connection, Arc::clone(&self.buffers)))
    }

    /// What to use for the next connection. Whoever comes first after the interval looks at the files, the others go on.
    async fn config(self: &Arc<Self>) -> Arc<ServerConfig> {
        {
            let mut current = self.current.lock();
            let now = Instant::now();
            if now.duration_since(current.looked_at) < LOOK_INTERVAL {
                return Arc::clone(&current.config);
            }
            current.looked_at = now;
        }
        let server = Arc::clone(self);
        // A disk that hangs must not stop the threads that serve connections.
        let looked = tokio::task::spawn_blocking(move || server.look()).await;
        looked.unwrap_or_else(|_| Arc::clone(&self.current.lock().config))
    }

    fn look(&self) -> Arc<ServerConfig> {
        // Before the files are read: what is written meanwhile is a change at the next look.
        let stamps = stamps(&self.files);
        {
            let mut current = self.current.lock();
            if current.seen == stamps {
                return Arc::clone(&current.config);
            }
            current.seen = stamps;
        }
        let read = self.files.server(OF_CLIENTS);
        let mut current = self.current.lock();
        match read {
            Ok(config) => {
                current.config = Arc::new(config);
                tracing::info!("TLS certificates for clients read again");
            }
            Err(error) => {
                tracing::warn!(%error, "changed TLS files cannot be used, those read before stay in use");
            }
        }
        Arc::clone(&current.config)
    }

    #[cfg(test)]
    pub(crate) fn look_again(&self) {
        self.look();
    }
}

fn stamps(files: &TlsFiles) -> Vec<Stamp> {
    let own = files.own.iter().flat_map(|(certificate, key)| [certificate, key]);
    own.chain(&files.authorities).map(stamp).collect()
}

fn stamp(file: &PathBuf) -> Stamp {
    let found = fs::metadata(file).ok()?;
    let (written, changed) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    Some((found.dev(), found.ino(), found.len(), written, changed))
}
