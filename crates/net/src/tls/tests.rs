//! Who gets through: certificates of the right and of the wrong authority, and none.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;
use crate::{FileSlice, Part, Stream};

/// A folder with an authority, and certificates of it.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    pub(crate) fn ca(&self) -> Option<PathBuf> {
        Some(self.folder.path().join("ca.pem"))
    }

    pub(crate) fn certificate(&self, name: &str) -> Option<(PathBuf, PathBuf)> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |end: &str| self.folder.path().join(format!("{name}.{end}"));
        std::fs::write(path("pem"), certificate.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        Some((path("pem"), path("key")))
    }
}

/// Both ends of a handshake; the dialling one says a word, so that it hears of a refusal.
async fn met(server: &TlsFiles, client: &TlsFiles, host: &str) -> (Result<Stream, TlsError>, Result<Stream, TlsError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let accepted = listener.accept().await.unwrap().0;
    let stream = |stream| Stream::Tls(Box::new(stream));
    let (accepted, connected) = tokio::join!(server.accept(accepted), client.connect(host, dialled));
    (accepted.map(stream), connected.map(stream))
}

#[tokio::test]
async fn bytes_and_file_slices_arrive_encrypted_between_nodes_that_trust_each_other() {
    let authority = Authority::new();
    let files = |name| TlsFiles { own: authority.certificate(name), authorities: authority.ca() };
    let (accepted, connected) = met(&files("localhost"), &files("leader"), "localhost").await;
    let ((mut reader, _writer), (_reader, mut writer)) = (accepted.unwrap().split(), connected.unwrap().split());
    let content: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &content).unwrap();
    let slice = FileSlice { file: Arc::new(file), position: 10, len: 900_000 };
    let writing = tokio::spawn(async move {
        let mut parts = vec![Part::Bytes(Bytes::from_static(b"head")), Part::File(slice)];
        writer.write_parts(&mut parts, Duration::from_secs(5)).await.unwrap();
        writer
    });
    let mut got = BytesMut::new();
    while got.len() < 900_004 {
        got.reserve(64 * 1024);
        assert!(reader.read(&mut got).await.unwrap() > 0);
    }
    assert!(got[..4] == *b"head" && got[4..] == content[10..900_010]);
    writing.await.unwrap();
}

#[tokio::test]
async fn whoever_cannot_prove_itself_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = TlsFiles { own: ours.certificate("localhost"), authorities: ours.ca() };
    for (name, client) in [
        ("no certificate", TlsFiles { own: None, authorities: ours.ca() }),
        ("a certificate of others", TlsFiles { own: theirs.certificate("leader"), authorities: ours.ca() }),
    ] {
        assert!(met(&server, &client, "localhost").await.0.is_err(), "{name}");
    }
    let client = TlsFiles { own: ours.certificate("leader"), authorities: ours.ca() };
    assert!(met(&server, &client, "elsewhere").await.1.is_err(), "a certificate of another host");
    let stranger = TlsFiles { own: theirs.certificate("localhost"), authorities: None };
    assert!(met(&stranger, &client, "localhost").await.1.is_err(), "a receiver of others");
}

#[tokio::test]
async fn certificate_that_signed_itself_is_believed_where_it_is_named_unless_it_is_an_authority() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let believes = async |is_ca: IsCa| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = is_ca;
        std::fs::write(path("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        let server = TlsFiles { own: Some((path("cert.pem"), path("key.pem"))), authorities: None };
        let client = TlsFiles { own: None, authorities: Some(path("cert.pem")) };
        met(&server, &client, "localhost").await.1
    };
    assert!(believes(IsCa::ExplicitNoCa).await.is_ok());
    let refused = believes(IsCa::Ca(BasicConstraints::Unconstrained)).await.unwrap_err();
    assert!(matches!(refused, TlsError::AuthorityAsPeer), "{refused}");
}

#[tokio::test]
async fn new_certificates_are_used_without_a_restart() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = TlsFiles { own: theirs.certificate("localhost"), authorities: None };
    let client = TlsFiles { own: None, authorities: ours.ca() };
    assert!(met(&server, &client, "localhost").await.1.is_err());
    let (certificate, key) = ours.certificate("localhost").unwrap();
    let (old_certificate, old_key) = server.own.as_ref().unwrap();
    std::fs::copy(certificate, old_certificate).unwrap();
    std::fs::copy(key, old_key).unwrap();
    assert!(met(&server, &client, "localhost").await.1.is_ok());
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name() {
    let authority = Authority::new();
    let missing = TlsFiles { own: None, authorities: Some("/nowhere/ca.pem".into()) };
    assert!(missing.check_client().unwrap_err().to_string().starts_with("/nowhere/ca.pem: "));
    let (_, key) = authority.certificate("a").unwrap();
    let swapped = TlsFiles { own: Some((key.clone(), key)), authorities: None };
    assert!(swapped.check_server().unwrap_err().to_string().contains("a.key: it holds no certificate"));
    let (of_another, _) = authority.certificate("b").unwrap();
    let mixed = TlsFiles { own: Some((of_another, authority.certificate("a").unwrap().1)), authorities: None };
    let problem = mixed.check_server().unwrap_err().to_string();
    assert!(
        problem.contains("a.key: it is not the key of the certificate in") && problem.contains("b.pem"),
        "{problem}"
    );
    let no_key = TlsFiles { own: Some((authority.ca().unwrap(), authority.ca().unwrap())), authorities: None };
    assert!(no_key.check_server().unwrap_err().to_string().contains("ca.pem: it holds no private key"));
    assert!(TlsFiles::default().check_server().unwrap_err().to_string().contains("no certificate of this node"));
    assert!(TlsFiles::default().check_client().unwrap_err().to_string().contains("authority"));
}
