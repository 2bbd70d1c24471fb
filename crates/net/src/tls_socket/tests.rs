//! Frames and answers under TLS, who gets through the handshake, and what is held while nothing passes.

use std::future::poll_fn;
use std::io::Write as _;
use std::os::fd::AsFd as _;

use bytes::Bytes;
use rustls::ProtocolVersion;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::tls::tests::Authority;
use crate::{FileSlice, FrameLimits, FrameReader, MemoryBudget, ReadFrameError, ServerTls, Socket, TlsFiles};

type Client = TlsStream<TcpStream>;

const STALL_MAX: Duration = Duration::from_secs(5);

fn server(authority: &Authority) -> Arc<ServerTls> {
    let files = TlsFiles { own: authority.certificate("localhost"), authorities: None };
    Arc::new(ServerTls::open(files).unwrap())
}

async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (dialled, listener.accept().await.unwrap().0)
}

async fn dial(authority: &Authority, stream: TcpStream, version: &'static rustls::SupportedProtocolVersion) -> Client {
    let files = TlsFiles { own: None, authorities: authority.ca() };
    let config = files.client(&[version]).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// A client and the broker's end.
async fn pair_of(version: &'static rustls::SupportedProtocolVersion) -> (Client, Socket) {
    let authority = Authority::new();
    let server = server(&authority);
    let (dialled, accepted) = tcp().await;
    let (client, socket) = tokio::join!(dial(&authority, dialled, version), server.accept(accepted));
    (client, Socket::Tls(Box::new(socket.unwrap())))
}

async fn pair() -> (Client, Socket) {
    pair_of(&rustls::version::TLS13).await
}

fn reader() -> FrameReader {
    FrameReader::new(FrameLimits {
        frame_bytes_max: 10 << 20,
        idle_max: Duration::from_secs(600),
        budget: MemoryBudget::new(20 << 20),
    })
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn session(socket: &Socket) -> parking_lot::MutexGuard<'_, Session> {
    match socket {
        Socket::Tls(socket) => socket.session.lock(),
        Socket::Plain(_) => panic!("not encrypted"),
    }
}

/// What the client would send, in records of `record_bytes` at the most.
fn encrypted(client: &mut Client, plain: &[u8], record_bytes: usize) -> Vec<u8> {
    let connection = client.get_mut().1;
    connection.set_buffer_limit(None);
    let mut records = Vec::new();
    for record in plain.chunks(record_bytes) {
        connection.writer().write_all(record).unwrap();
        while connection.wants_write() {
            connection.write_tls(&mut records).unwrap();
        }
    }
    records
}

#[tokio::test]
async fn frames_arrive_whole_however_records_and_packets_were_cut() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (record_bytes, packet_bytes) in [(16 * 1024, 777), (7, 100_000), (5000, 1 << 20)] {
            let (mut client, server) = pair_of(version).await;
            let sent: Vec<Vec<u8>> = [1usize, 5, 70_000, 3, 300_000].iter().map(|len| content(*len)).collect();
            let plain: Vec<u8> = sent.iter().flat_map(|body| framed(body)).collect();
            let records = encrypted(&mut client, &plain, record_bytes);
            let writer = tokio::spawn(async move {
                for packet in records.chunks(packet_bytes) {
                    client.get_mut().0.write_all(packet).await.unwrap();
                }
                client.shutdown().await.unwrap();
                client
            });
            let mut reader = reader();
            for body in &sent {
                assert!(reader.next(&server).await.unwrap().unwrap().body == body[..], "{record_bytes} {packet_bytes}");
            }
            assert!(reader.next(&server).await.unwrap().is_none());
            writer.await.unwrap();
        }
    }
}

#[tokio::test]
async fn bytes_and_file_slices_arrive_in_order() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (mut client, server) = pair_of(version).await;
        assert_eq!(client.get_ref().1.protocol_version().unwrap(), expected(version));
        let content = content(3_000_000);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        file.sync_all().unwrap();
        // Where the file system lets pages go, they have to be brought in.
        rustix::fs::fadvise(file.as_fd(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let file: Arc<dyn crate::SendFile> = Arc::new(file);
        let slice = |position: u64, len| Part::File(FileSlice { file: Arc::clone(&file), position, len });
        let mut parts = vec![Part::Bytes(Bytes::from_static(b"head")), slice(1000, 2_000_000), slice(7, 0)];
        parts.extend((0..40u8).map(|at| Part::Bytes(Bytes::copy_from_slice(&[at; 3]))));
        parts.push(Part::Bytes(Bytes::from(content.clone())));
        parts.push(slice(0, 5));
        let mut sent = b"head".to_vec();
        sent.extend_from_slice(&content[1000..2_001_000]);
        (0..40u8).for_each(|at| sent.extend_from_slice(&[at; 3]));
        sent.extend_from_slice(&content);
        sent.extend_from_slice(&content[..5]);
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            // An end that was not announced is an error here.
            client.read_to_end(&mut got).await.unwrap();
            got
        });
        server.write_parts(&mut parts, STALL_MAX).await.unwrap();
        assert!(parts.is_empty());
        drop(server);
        assert!(reading.await.unwrap() == sent);
    }
}

fn expected(version: &rustls::SupportedProtocolVersion) -> ProtocolVersion {
    version.version
}

#[tokio::test]
async fn a_file_that_is_too_short_is_to_blame_and_not_the_peer() {
    let (_client, server) = pair().await;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[7; 1000]).unwrap();
    let mut parts = vec![Part::File(FileSlice { file: Arc::new(file), position: 100, len: 2000 })];
    match server.write_parts(&mut parts, STALL_MAX).await.unwrap_err() {
        WriteError::File { position, source, .. } => {
            assert_eq!((position, source.kind()), (1000, io::ErrorKind::UnexpectedEof));
        }
        WriteError::Peer(error) => panic!("the peer is blamed: {error}"),
    }
}

#[tokio::test]
async fn a_peer_that_reads_late_gets_everything_and_little_is_held_meanwhile() {
    let (mut client, server) = pair().await;
    let content = content(30 << 20);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let mut parts = vec![Part::File(FileSlice { file: Arc::new(file), position: 0, len: content.len() })];
    let mut writing = Box::pin(server.write_parts(&mut parts, STALL_MAX));
    let blocked = || session(&server).connection.wants_write();
    loop {
        tokio::select! {
            biased;
            _ = &mut writing => panic!("more than a socket holds was written to nobody"),
            () = tokio::task::yield_now() => if blocked() { break },
        }
    }
    let mut held = Vec::new();
    while session(&server).connection.wants_write() {
        session(&server).connection.write_tls(&mut held).unwrap();
    }
    assert!(held.len() <= PIECE_BYTES + 1024, "{}", held.len());
    // What was taken out to be counted goes the way it would have gone.
    let Socket::Tls(socket) = &server else { panic!("not encrypted") };
    let mut got = vec![0; content.len()];
    let (read, sent) = tokio::join!(client.read_exact(&mut got), async {
        let mut rest = &held[..];
        while !rest.is_empty() {
            let sent =
                progress(&socket.stream, STALL_MAX, || Records { stream: &socket.stream, more: false }.write(rest));
            rest = &rest[sent.await.unwrap()..];
        }
        writing.await
    });
    sent.unwrap();
    read.unwrap();
    assert!(got == content);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_given_up() {
    let (_client, server) = pair().await;
    let mut parts = vec![Part::Bytes(Bytes::from(content(30 << 20)))];
    match server.write_parts(&mut parts, STALL_MAX).await.unwrap_err() {
        WriteError::Peer(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
        error => panic!("{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_handshake_ends_the_connection() {
    let authority = Authority::new();
    let server = server(&authority);
    let (mut dialled, accepted) = tcp().await;
    dialled.write_all(&[0x16, 3, 1, 2]).await.unwrap();
    assert_eq!(server.accept(accepted).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_plain_client_is_refused() {
    let authority = Authority::new();
    let server = server(&authority);
    let (mut dialled, accepted) = tcp().await;
    dialled.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 255, 255]).await.unwrap();
    assert_eq!(server.accept(accepted).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn damaged_records_end_the_connection() {
    let (mut client, server) = pair().await;
    let mut records = encrypted(&mut client, &framed(b"x"), 100);
    *records.last_mut().unwrap() ^= 1;
    client.get_mut().0.write_all(&records).await.unwrap();
    match reader().next(&server).await {
        Err(ReadFrameError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::InvalidData),
        read => panic!("{read:?}"),
    }
}

#[tokio::test]
async fn record_that_is_not_whole_does_not_hold_up_the_frame_before_it() {
    let (mut client, server) = pair().await;
    let mut records = encrypted(&mut client, &framed(b"first"), 100);
    let second = encrypted(&mut client, &framed(b"second"), 100);
    let (part, rest) = second.split_at(10);
    records.extend_from_slice(part);
    client.get_mut().0.write_all(&records).await.unwrap();
    let mut reader = reader();
    assert_eq!(reader.next(&server).await.unwrap().unwrap().body, b"first"[..]);
    client.get_mut().0.write_all(rest).await.unwrap();
    assert_eq!(reader.next(&server).await.unwrap().unwrap().body, b"second"[..]);
}

#[tokio::test]
async fn what_was_read_before_a_damaged_record_reaches_no_other_connection() {
    let (mut client, server) = pair().await;
    let mut records = encrypted(&mut client, &framed(&content(60_000)), 5000);
    *records.last_mut().unwrap() ^= 1;
    client.get_mut().0.write_all(&records).await.unwrap();
    assert!(matches!(reader().next(&server).await, Err(ReadFrameError::Io(_))));
    let (mut client, server) = pair().await;
    client.write_all(&framed(b"ours")).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(reader().next(&server).await.unwrap().unwrap().body, b"ours"[..]);
}

#[tokio::test]
async fn clients_show_a_certificate_where_there_is_an_authority_for_them() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let files = TlsFiles { own: ours.certificate("localhost"), authorities: ours.ca() };
    let server = Arc::new(ServerTls::open(files).unwrap());
    for (name, own, admitted) in [
        ("none", None, false),
        ("one of others", theirs.certificate("client"), false),
        ("one of ours", ours.certificate("client"), true),
    ] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let files = TlsFiles { own: own.clone(), authorities: ours.ca() };
            let connector = TlsConnector::from(Arc::new(files.client(&[version]).unwrap()));
            let (dialled, accepted) = tcp().await;
            let connecting = connector.connect(ServerName::try_from("localhost").unwrap(), dialled);
            let (_, accepted) = tokio::join!(connecting, server.accept(accepted));
            assert_eq!(accepted.is_ok(), admitted, "{name}: {:?}", version.version);
        }
    }
}

/// Whether a client that believes `authority` gets through.
async fn believes(authority: &Authority, server: &Arc<ServerTls>) -> bool {
    let files = TlsFiles { own: None, authorities: authority.ca() };
    let (dialled, accepted) = tcp().await;
    let (connected, _) = tokio::join!(files.connect_to_broker("localhost", dialled), server.accept(accepted));
    connected.is_ok()
}

#[tokio::test]
async fn changed_files_are_used_and_broken_ones_are_not() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (certificate, key) = theirs.certificate("localhost").unwrap();
    let own = Some((certificate.clone(), key.clone()));
    let server = Arc::new(ServerTls::open(TlsFiles { own, authorities: None }).unwrap());
    assert!(believes(&theirs, &server).await);
    let (new_certificate, new_key) = ours.certificate("localhost").unwrap();
    std::fs::copy(new_certificate, &certificate).unwrap();
    server.look_again();
    assert!(believes(&theirs, &server).await, "a certificate whose key has not come yet");
    std::fs::copy(new_key, &key).unwrap();
    server.look_again();
    assert!(believes(&ours, &server).await);
    std::fs::remove_file(&certificate).unwrap();
    server.look_again();
    assert!(believes(&ours, &server).await, "a certificate that is away");
}

#[tokio::test(start_paused = true)]
async fn files_are_looked_at_for_new_connections_after_a_while() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (certificate, key) = theirs.certificate("localhost").unwrap();
    let own = Some((certificate.clone(), key.clone()));
    let server = Arc::new(ServerTls::open(TlsFiles { own, authorities: None }).unwrap());
    let (new_certificate, new_key) = ours.certificate("localhost").unwrap();
    std::fs::copy(new_certificate, &certificate).unwrap();
    std::fs::copy(new_key, &key).unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(believes(&ours, &server).await);
}

#[tokio::test]
async fn a_peer_that_waits_for_an_answer_is_told_from_one_that_is_gone() {
    let (mut client, server) = pair().await;
    client.write_all(&framed(b"next")).await.unwrap();
    client.flush().await.unwrap();
    poll_fn(|cx| server.poll_readable(cx)).await.unwrap();
    for _ in 0..10 {
        tokio::select! {
            biased;
            () = server.peer_closed() => panic!("the peer has sent a request"),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(reader().next(&server).await.unwrap().unwrap().body, &b"next"[..]);
    // With an announced end, as clients close.
    client.shutdown().await.unwrap();
    server.peer_closed().await;
    assert!(reader().next(&server).await.unwrap().is_none());
    // And without one, as they die.
    let (client, server) = pair().await;
    drop(client);
    server.peer_closed().await;
}

#[tokio::test]
async fn a_quiet_connection_holds_no_buffers() {
    let (mut client, server) = pair().await;
    client.write_all(&framed(&content(200_000))).await.unwrap();
    client.flush().await.unwrap();
    let frame = reader().next(&server).await.unwrap().unwrap();
    server.write_parts(&mut vec![Part::Bytes(frame.body)], STALL_MAX).await.unwrap();
    let session = session(&server);
    assert_eq!(session.incoming.capacity(), 0);
    assert!(!session.connection.wants_write());
}
