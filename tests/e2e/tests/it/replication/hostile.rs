//! The receiver's port under hostile input: nothing is written, the answer has a reason, the connection is closed, and all of
//! it is counted.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chronik_e2e::broker::Broker;
use chronik_e2e::link::{Frame, HEADER_BYTES, Hello, at, kind};
use chronik_e2e::pair::{CATCH_UP_BOUND, Pair};
use chronik_e2e::place::Place;
use chronik_e2e::relay::{Fate, Relay};
use chronik_e2e::seed::Random;
use chronik_e2e::status::Status;
use chronik_e2e::{clients, process, segments, view, wait};
use tempfile::TempDir;

use super::{BOUND, counted, produce};

const MIB: u64 = 1 << 20;

/// Longest wait for a receiver to close a connection whose handshake does not come.
const HANDSHAKE_BOUND: Duration = Duration::from_secs(30);

/// A connection to a receiver's port.
fn dial(receiver: &str) -> TcpStream {
    let stream = TcpStream::connect(receiver).unwrap();
    stream.set_read_timeout(Some(HANDSHAKE_BOUND)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends bytes, and gives the refusal that comes before the connection is closed, where one does.
fn refused(receiver: &str, bytes: &[u8]) -> Option<(u16, String)> {
    let mut stream = dial(receiver);
    stream.write_all(bytes).ok();
    refusal(&mut stream)
}

/// Sends bytes and ends the stream.
fn ended(receiver: &str, bytes: &[u8]) {
    let mut stream = dial(receiver);
    stream.write_all(bytes).ok();
    stream.shutdown(Shutdown::Write).ok();
    refusal(&mut stream);
}

/// The last refusal before the connection is closed.
fn refusal(mut stream: &mut TcpStream) -> Option<(u16, String)> {
    let mut refusal = None;
    while let Ok(Some(frame)) = Frame::read(&mut stream) {
        if frame.kind() == kind::REFUSED {
            refusal = Some(frame.refusal());
        }
    }
    refusal
}

/// Rejections with this reason, as the metrics count them.
fn rejections(broker: &Broker, reason: &str) -> f64 {
    counted(&broker.get("/metrics").1, &["replication", "reject", &format!("reason=\"{reason}\"")])
}

/// How often a leader had to dial again.
fn reconnects(leader: &Broker, follower: &str) -> u64 {
    Status::of(leader).follower(follower).number("reconnects")
}

/// What the leader of a pair says of itself, from its own Hello.
fn hello_of(pair: &Pair) -> Hello {
    let status = Status::of(&pair.leader);
    let generation = i32::try_from(status.generation()).unwrap();
    Hello {
        versions: [1, 1],
        cluster_id: [0xee; 16],
        node_id: 77,
        leader_id: 77,
        generation,
        advertised: "127.0.0.1:1".to_owned(),
    }
}

#[test]
fn what_is_no_handshake_is_answered_with_a_reason_and_counted() {
    let mut pair = Pair::start();
    let receiver = pair.followers.receiver.clone();
    clients::create_topic(&pair.leaders.kafka, "untouched", 1, &[]);
    produce(&pair.leaders.kafka, "untouched", 0, -1, &[b"there"]);
    pair.catch_up();
    let (before, dialled) = (segments::of(pair.follower.data()), reconnects(&pair.leader, &receiver));
    let hello = hello_of(&pair);
    let sealed = |change: &dyn Fn(&mut Frame)| {
        let mut frame = hello.frame();
        change(&mut frame);
        frame.seal();
        frame.bytes
    };
    let unsealed = |place: usize| {
        let mut frame = hello.frame();
        frame.bytes[place] ^= 1;
        frame.bytes
    };
    let announced = |kind: u8, head: u32, payload: u32| {
        let mut bytes = Frame::new(kind, &[], &[]).bytes;
        bytes[at::HEAD_BYTES..at::PAYLOAD_BYTES].copy_from_slice(&head.to_be_bytes());
        bytes[at::PAYLOAD_BYTES..at::CRC].copy_from_slice(&payload.to_be_bytes());
        bytes
    };
    let short = Frame::new(kind::HELLO, &hello.frame().head()[..40], &[]).bytes;
    let long = Frame::new(kind::HELLO, &[hello.frame().head(), &[0]].concat(), &[]).bytes;
    let versions = Hello { versions: [7, 9], ..hello.clone() }.frame().bytes;
    let cases: [(&str, Vec<u8>, &str, u16); 15] = [
        ("another protocol", b"GET /api/v1/replication HTTP/1.1\r\n\r\n".to_vec(), "wrong_magic", 1),
        ("another version of the frame", sealed(&|frame| frame.bytes[at::VERSION] = 9), "unsupported_version", 2),
        ("versions not spoken here", versions, "unsupported_version", 2),
        ("a kind that does not exist", sealed(&|frame| frame.bytes[at::KIND] = 99), "unknown_kind", 3),
        ("flags", sealed(&|frame| frame.bytes[at::FLAGS] = 1), "unknown_kind", 3),
        ("4 GiB of head", announced(kind::HELLO, u32::MAX, 0), "too_long", 4),
        ("a head above the limit", announced(kind::HELLO, 16 * 1024 + 1, 0), "too_long", 4),
        ("a payload before the handshake", announced(kind::APPEND, 64, 1), "too_long", 4),
        ("a flipped bit in the header's checksum", unsealed(at::CRC), "checksum", 5),
        ("a flipped bit in the head", unsealed(HEADER_BYTES + 20), "checksum", 5),
        ("a head that ends early", short, "malformed", 6),
        ("a byte behind the last field", long, "malformed", 6),
        ("a heartbeat first", Frame::new(kind::HEARTBEAT, &[0; 32], &[]).bytes, "unexpected", 7),
        ("a proof nobody asked for", Frame::new(kind::PROOF, &[0; 32], &[]).bytes, "unexpected", 7),
        ("another cluster's leader", hello.frame().bytes, "wrong_cluster", 10),
    ];
    for (what, bytes, reason, code) in cases {
        let counted = rejections(&pair.follower, reason);
        let refusal = refused(&receiver, &bytes);
        let (found, detail) = refusal.unwrap_or_else(|| panic!("{what}: closed without an answer"));
        assert_eq!(found, code, "{what}: {detail}");
        wait::until_true(&format!("{what}: counted as {reason}"), BOUND, || {
            rejections(&pair.follower, reason) > counted
        });
    }
    // A stream that ends inside a frame has nobody to answer to.
    for length in [1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 30] {
        let counted = rejections(&pair.follower, "truncated");
        ended(&receiver, &hello.frame().bytes[..length]);
        wait::until_true("a cut frame counted", BOUND, || rejections(&pair.follower, "truncated") > counted);
    }
    // Nobody else noticed.
    assert_eq!(segments::of(pair.follower.data()), before);
    assert_eq!(reconnects(&pair.leader, &receiver), dialled, "the leader's own link stood all the time");
    produce(&pair.leaders.kafka, "untouched", 0, -1, &[b"and goes on"]);
    view::wait_for_bounds(&pair.followers.kafka, "untouched", 0, (0, 2), BOUND);
    pair.catch_up();
    assert!(pair.follower.runs());
}

#[test]
fn garbage_slow_senders_and_huge_announcements_cost_a_receiver_little() {
    let mut random = Random::for_test("garbage at the receiver");
    let mut pair = Pair::start();
    let receiver = pair.followers.receiver.clone();
    clients::create_topic(&pair.leaders.kafka, "untouched", 1, &[]);
    pair.catch_up();
    let dialled = reconnects(&pair.leader, &receiver);
    let before = process::resident_bytes(pair.follower.pid());
    let started = Instant::now();
    // One sends a byte now and then, some say nothing, some announce much and send little; no more than one address may have.
    let hello = hello_of(&pair).frame().bytes;
    let dribbling = std::thread::spawn({
        let (mut stream, hello) = (dial(&receiver), hello.clone());
        move || {
            let mut left = hello.iter().cycle();
            // A byte each time one looks, until the other end is gone.
            wait::until_true("a slow sender closed", HANDSHAKE_BOUND, || {
                stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                let is_closed = match stream.read(&mut [0; 256]) {
                    Ok(count) => count == 0,
                    Err(error) => {
                        !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
                    }
                };
                is_closed || stream.write_all(&[*left.next().unwrap()]).is_err()
            });
            started.elapsed()
        }
    });
    let silent: Vec<TcpStream> = (0..2).map(|_| dial(&receiver)).collect();
    let mut announcing: Vec<TcpStream> = Vec::new();
    for _ in 0..3 {
        let mut stream = dial(&receiver);
        let mut bytes = Frame::new(kind::HELLO, &[], &[]).bytes;
        bytes[at::HEAD_BYTES..at::PAYLOAD_BYTES].copy_from_slice(&(16 * 1024_u32).to_be_bytes());
        stream.write_all(&bytes).ok();
        announcing.push(stream);
    }
    for _ in 0..300 {
        let length = usize::try_from(random.between(1, 400)).unwrap();
        let mut bytes = random.bytes(length);
        if random.draw().is_multiple_of(2) {
            bytes = [hello.as_slice(), &bytes].concat();
            let flipped = usize::try_from(random.between(0, u64::try_from(hello.len()).unwrap())).unwrap();
            bytes[flipped] ^= 1 << (random.draw() % 8);
        }
        ended(&receiver, &bytes);
    }
    let grown = process::resident_bytes_peak(pair.follower.pid()).saturating_sub(before);
    assert!(grown < 24 * MIB, "memory grew by {} MiB", grown / MIB);
    produce(&pair.leaders.kafka, "untouched", 0, -1, &[b"meanwhile"]);
    view::wait_for_bounds(&pair.followers.kafka, "untouched", 0, (0, 1), BOUND);
    // Whoever does not come to the end of the handshake is closed, whether it sends or not.
    let dribbled = dribbling.join().unwrap();
    for mut stream in silent.into_iter().chain(announcing) {
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    }
    eprintln!("a slow sender was closed after {dribbled:?}, all after {:?}", started.elapsed());
    assert!(dribbled > Duration::from_secs(5), "closed after {dribbled:?}: not for being slow");
    assert!(rejections(&pair.follower, "handshake_timeout") > 0.0);
    assert_eq!(reconnects(&pair.leader, &receiver), dialled, "the leader's own link stood all the time");
    wait::until_true("descriptors given back", BOUND, || process::descriptors(pair.follower.pid()) < 200);
    assert!(pair.follower.runs());
}

/// What is done to an append frame, and the reason under which the receiver must count it.
type Change = fn(&mut Frame) -> Fate;

fn resealed(frame: &mut Frame, change: impl FnOnce(&mut Vec<u8>)) -> Fate {
    change(&mut frame.bytes);
    frame.seal();
    Fate::Pass
}

/// Places in the head of an append frame.
const LEADER_EPOCH: usize = HEADER_BYTES + 20;
const SEGMENT: usize = LEADER_EPOCH + 4;
const BASE: usize = SEGMENT + 8;
const END: usize = BASE + 8;

fn payload(frame: &Frame) -> usize {
    frame.payload_at()
}

const CHANGES: &[(&str, &[&str], Change)] = &[
    ("another magic", &["wrong_magic"], |frame| {
        frame.bytes[0] ^= 1;
        Fate::Pass
    }),
    ("a flipped bit in the head", &["checksum"], |frame| {
        frame.bytes[BASE + 7] ^= 1;
        Fate::Pass
    }),
    ("a payload of 1 GiB announced", &["too_long"], |frame| {
        resealed(frame, |bytes| bytes[at::PAYLOAD_BYTES..at::CRC].copy_from_slice(&(1_u32 << 30).to_be_bytes()))
    }),
    ("a flipped bit in a record", &["corrupt_batch"], |frame| {
        *frame.bytes.last_mut().unwrap() ^= 1;
        Fate::Pass
    }),
    ("another base offset in a batch", &["corrupt_batch", "bad_offset", "gap", "overlap"], |frame| {
        let at = payload(frame) + 7;
        frame.bytes[at] ^= 1;
        Fate::Pass
    }),
    ("another length in a batch", &["corrupt_batch"], |frame| {
        let at = payload(frame) + 11;
        frame.bytes[at] ^= 1;
        Fate::Pass
    }),
    ("a leader epoch in a batch that is not the leader's yet", &["batch_leader_epoch"], |frame| {
        let at = payload(frame) + 12;
        frame.bytes[at] = 0x7f;
        Fate::Pass
    }),
    ("an older leader epoch", &["stale_leader_epoch", "malformed"], |frame| {
        resealed(frame, |bytes| bytes[LEADER_EPOCH..SEGMENT].copy_from_slice(&(-1_i32).to_be_bytes()))
    }),
    ("a topic nobody knows", &["not_attached", "unknown_partition"], |frame| {
        resealed(frame, |bytes| bytes[HEADER_BYTES..HEADER_BYTES + 16].fill(0xab))
    }),
    ("a segment that the log cannot continue", &["wrong_segment"], |frame| {
        resealed(frame, |bytes| bytes[SEGMENT + 7] = 1)
    }),
    ("a head that claims more than its batches hold", &["corrupt_batch", "bad_offset", "malformed"], |frame| {
        resealed(frame, |bytes| bytes[END + 6] ^= 1)
    }),
    ("a frame twice", &["overlap"], |_| Fate::Repeat),
    ("a frame that is missing", &["gap"], |_| Fate::Drop),
    ("a frame that ends early", &["truncated"], |frame| Fate::CutAfter(payload(frame) + 30)),
    ("a header that ends early", &["truncated"], |_| Fate::CutAfter(7)),
];

#[test]
fn bad_frames_of_a_leader_change_nothing_and_the_link_recovers() {
    let folder = TempDir::new().unwrap();
    let (leaders, followers) = (Place::below(folder.path(), "leader"), Place::below(folder.path(), "follower"));
    let relay = Relay::to(&followers.receiver);
    let leader = leaders.leading(&[relay.address()]).start();
    let mut follower = followers.following().start();
    clients::create_topic(&leaders.kafka, "changed", 1, &[]);
    let watch = view::Watch::start(&followers.kafka, "changed", 1);
    produce(&leaders.kafka, "changed", 0, -1, &[b"first", b"of two"]);
    segments::wait_until_same(leader.data(), follower.data(), CATCH_UP_BOUND);
    let mut end = 2;
    for (what, reasons, change) in CHANGES {
        let sum = |broker: &Broker| reasons.iter().map(|reason| rejections(broker, reason)).sum::<f64>();
        // A link that has stood for a while is dialled again soon.
        wait::until_true("a link that stands", BOUND, || {
            let link = Status::of(&leader).follower(relay.address());
            link.has_everything() && link.number("state_ms") > 1_200
        });
        let before = sum(&follower);
        let changed = Arc::new(Mutex::new(false));
        relay.rule({
            let changed = Arc::clone(&changed);
            move |frame| {
                let mut changed = changed.lock().unwrap();
                if *changed || frame.kind() != kind::APPEND {
                    return Fate::Pass;
                }
                *changed = true;
                change(frame)
            }
        });
        wait::until_true(&format!("{what}: counted as one of {reasons:?}"), BOUND, || {
            // More than one frame, so that one can be missing.
            end = produce(&leaders.kafka, "changed", 0, -1, &[b"some value", b"another"]) + 2;
            sum(&follower) > before
        });
        assert!(*changed.lock().unwrap());
        segments::assert_prefix(follower.data(), leader.data());
        relay.pass();
        view::wait_for_bounds(&followers.kafka, "changed", 0, (0, end), BOUND);
        segments::wait_until_same(leader.data(), follower.data(), CATCH_UP_BOUND);
        assert!(follower.runs(), "{what}: the follower is gone:\n{}", follower.log_text());
    }
    watch.finish();
    assert!(segments::cut_files(follower.data()).is_empty());
    assert_eq!(follower.metric("chronik_log_damaged_ranges"), Some(0.0));
}

#[test]
fn leader_of_another_cluster_is_refused_and_says_so() {
    let pair = Pair::start();
    clients::create_topic(&pair.leaders.kafka, "ours", 1, &[]);
    produce(&pair.leaders.kafka, "ours", 0, -1, &[b"ours"]);
    pair.catch_up();
    let (before, dialled) = (segments::of(pair.follower.data()), reconnects(&pair.leader, &pair.followers.receiver));
    let folder = TempDir::new().unwrap();
    let strangers = Place::below(folder.path(), "stranger");
    let stranger = strangers.leading(&[&pair.followers.receiver]).env("CHRONIK_NODE_ID", "9").start();
    clients::create_topic(&strangers.kafka, "theirs", 1, &[]);
    produce(&strangers.kafka, "theirs", 0, -1, &[b"theirs"]);
    wait::until_true("the refusal", BOUND, || {
        let link = Status::of(&stranger).follower(&pair.followers.receiver);
        link.state() != "streaming" && stranger.log_text().contains("another cluster")
    });
    wait::until_true("it counted", BOUND, || rejections(&pair.follower, "wrong_cluster") > 0.0);
    assert_eq!(segments::of(pair.follower.data()), before);
    produce(&pair.leaders.kafka, "ours", 0, -1, &[b"still ours"]);
    view::wait_for_bounds(&pair.followers.kafka, "ours", 0, (0, 2), BOUND);
    assert_eq!(reconnects(&pair.leader, &pair.followers.receiver), dialled, "the leader's own link stood all the time");
}

#[test]
fn second_leader_of_the_same_generation_is_refused() {
    let pair = Pair::start();
    clients::create_topic(&pair.leaders.kafka, "ours", 1, &[]);
    pair.catch_up();
    let dialled = reconnects(&pair.leader, &pair.followers.receiver);
    // Whoever knows the cluster's id and speaks the protocol, but is not who leads.
    let metadata = view::metadata(&pair.leaders.kafka, None);
    let text = metadata.cluster_id.expect("a cluster id");
    let cluster_id = uuid(&text);
    for (what, hello, code) in [
        ("another leader", Hello { cluster_id, ..hello_of(&pair) }, 13),
        ("its own node id", Hello { cluster_id, node_id: 2, leader_id: 2, ..hello_of(&pair) }, 14),
    ] {
        let refusal = refused(&pair.followers.receiver, &hello.frame().bytes);
        assert_eq!(refusal.as_ref().map(|(code, _)| *code), Some(code), "{what}: {refusal:?}");
    }
    assert_eq!(reconnects(&pair.leader, &pair.followers.receiver), dialled, "the leader's own link stood all the time");
}

/// Sixteen bytes from Kafka's text for them: URL-safe base64 without padding.
fn uuid(text: &str) -> [u8; 16] {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = 0_u128;
    for (number, digit) in text.bytes().enumerate() {
        let value = DIGITS.iter().position(|known| *known == digit).expect("base64");
        let value = u128::try_from(value).unwrap();
        // Of the last digit only two bits count.
        bits = if number == 21 { (bits << 2) | (value >> 4) } else { (bits << 6) | value };
    }
    assert_eq!(text.len(), 22, "{text}");
    bits.to_be_bytes()
}
