//! TLS with certificates from PEM files: between nodes (1.3 only), and between clients and brokers (1.2 and 1.3).
//!
//! Between nodes, and by a client, the files are read for every connection, so that new ones are used without a restart.
//! What accepts many connections looks whether they have changed: [`ServerTls`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, ClientConfig, InconsistentKeys, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

mod server;

pub use server::ServerTls;

/// What nodes speak with each other: both ends are Chronik's.
const OF_NODES: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
/// What clients speak.
const OF_CLIENTS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Where certificates are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// This node's certificate with its private key: both are shown to peers.
    pub own: Option<(PathBuf, PathBuf)>,
    /// The certificates that peers' certificates must come from.
    pub authorities: Option<PathBuf>,
}

/// TLS cannot be used with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds something else.
    #[error("{file}: {reason}", file = file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate that is needed is not given.
    #[error("no {what} is given")]
    Missing {
        /// Which.
        what: &'static str,
    },
    /// The files do not fit together.
    #[error("{0}")]
    Config(String),
    /// The peer shows an authority's certificate, as `openssl req -x509` makes one where it is not told otherwise.
    #[error("the peer shows the certificate of an authority as its own: make it one with basicConstraints=CA:FALSE")]
    AuthorityAsPeer,
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] io::Error),
}

fn bad(file: &Path, reason: impl ToString) -> TlsError {
    TlsError::File { file: file.to_owned(), reason: reason.to_string() }
}

fn bad_pem(file: &Path, error: &pem::Error, wanted: &str) -> TlsError {
    match error {
        pem::Error::NoItemsFound => bad(file, format!("it holds no {wanted} in PEM")),
        pem::Error::Io(error) => bad(file, error),
        error => bad(file, error),
    }
}

impl TlsFiles {
    /// Whether anything is given.
    pub fn is_empty(&self) -> bool {
        self.own.is_none() && self.authorities.is_none()
    }

    fn chain(&self) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, TlsError> {
        let Some((certificate, key)) = &self.own else { return Ok(None) };
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| bad_pem(key, &error, "private key that is not encrypted"))?;
        Ok(Some((chain, key)))
    }

    fn roots(&self) -> Result<Option<RootCertStore>, TlsError> {
        let Some(file) = &self.authorities else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(|error| bad(file, error))?;
        }
        Ok(Some(roots))
    }

    /// What an accepting end uses: its own certificate; with authorities it asks the peer for one of theirs.
    fn server(&self, versions: &[&'static SupportedProtocolVersion]) -> Result<ServerConfig, TlsError> {
        let (chain, key) = self.chain()?.ok_or(TlsError::Missing { what: "certificate of this node" })?;
        let builder = ServerConfig::builder_with_protocol_versions(versions);
        let builder = match self.roots()? {
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| TlsError::Config(error.to_string()))?)
            }
            None => builder.with_no_client_auth(),
        };
        builder.with_single_cert(chain, key).map_err(|error| self.unusable(&error))
    }

    /// Why the own certificate and its key cannot be used, each good PEM.
    fn unusable(&self, error: &rustls::Error) -> TlsError {
        match (&self.own, error) {
            (Some((certificate, key)), rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                bad(key, format!("it is not the key of the certificate in {}", certificate.display()))
            }
            (Some((certificate, _)), rustls::Error::InvalidCertificate(_)) => bad(certificate, error),
            (Some((_, key)), rustls::Error::General(_)) => bad(key, error),
            _ => TlsError::Config(error.to_string()),
        }
    }

    /// What a dialling end uses: authorities to check the peer with, and its own certificate where it has one.
    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Result<ClientConfig, TlsError> {
        let roots = self.roots()?.ok_or(TlsError::Missing { what: "certificate authority to check peers with" })?;
        let builder = ClientConfig::builder_with_protocol_versions(versions);
        let builder = builder.with_root_certificates(roots);
        match self.chain()? {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| self.unusable(&error)),
            None => Ok(builder.with_no_client_auth()),
        }
    }

    /// Whether an accepting end can use the files as they are now.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check_server(&self) -> Result<(), TlsError> {
        self.server(OF_NODES).map(drop)
    }

    /// Whether a dialling end can use the files as they are now.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check_client(&self) -> Result<(), TlsError> {
        self.client(OF_NODES).map(drop)
    }

    /// The accepting end's handshake between nodes.
    ///
    /// # Errors
    /// The files cannot be used, or the peer does not prove who it is.
    pub async fn accept(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
        let acceptor = TlsAcceptor::from(Arc::new(self.server(OF_NODES)?));
        Ok(TlsStream::Server(acceptor.accept(stream).await?))
    }

    /// The dialling end's handshake between nodes with `host`, whose name or address must be in the peer's certificate.
    ///
    /// # Errors
    /// The files cannot be used, or the peer does not prove who it is.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
        handshake(self.client(OF_NODES)?, host, stream).await
    }

    /// A client's handshake with the broker `host`, whose name or address must be in the broker's certificate.
    ///
    /// # Errors
    /// The files cannot be used, or the broker does not prove who it is.
    pub async fn connect_to_broker(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
        handshake(self.client(OF_CLIENTS)?, host, stream).await
    }
}

async fn handshake(config: ClientConfig, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| TlsError::Config(error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(config));
    let connected = connector.connect(name, stream).await.map_err(|error| match error.get_ref() {
        Some(cause) if is_of_authority(cause) => TlsError::AuthorityAsPeer,
        _ => error.into(),
    });
    Ok(TlsStream::Client(connected?))
}

/// Whether a peer was refused for the certificate of an authority as its own. The library has no word of its own for it.
fn is_of_authority(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let Some(rustls::Error::InvalidCertificate(CertificateError::Other(cause))) = error.downcast_ref() else {
        return false;
    };
    format!("{cause:?}").contains("CaUsedAsEndEntity")
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad_pem = |error| bad_pem(file, &error, "certificate");
    let found: Vec<_> =
        CertificateDer::pem_file_iter(file).map_err(bad_pem)?.collect::<Result<_, _>>().map_err(bad_pem)?;
    if found.is_empty() { Err(bad_pem(pem::Error::NoItemsFound)) } else { Ok(found) }
}

#[cfg(test)]
pub(crate) mod tests;
