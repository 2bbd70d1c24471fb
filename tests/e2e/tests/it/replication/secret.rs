//! The shared secret of a link: right, wrong, missing, and never in clear.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use chronik_e2e::broker::Setup;
use chronik_e2e::link::{Frame, Hello, kind};
use chronik_e2e::pair::CATCH_UP_BOUND;
use chronik_e2e::place::Place;
use chronik_e2e::relay::Relay;
use chronik_e2e::status::Status;
use chronik_e2e::{clients, segments, view, wait};
use tempfile::TempDir;

use super::{BOUND, counted, produce};

const SECRET: &str = "canary-7f3a9c";
const NOT_AUTHENTICATED: u16 = 11;

fn with_secret(setup: Setup) -> Setup {
    setup.env("CHRONIK_REPLICATION_SECRET", SECRET)
}

fn warned_that_anybody_may_dial(log: &str) -> usize {
    log.lines().filter(|line| line.contains(" WARN ") && line.to_lowercase().contains("secret")).count()
}

#[test]
fn link_with_the_same_secret_stands_and_nobody_on_the_way_sees_it() {
    let folder = TempDir::new().unwrap();
    let (leaders, followers) = (Place::below(folder.path(), "leader"), Place::below(folder.path(), "follower"));
    let relay = Relay::to(&followers.receiver);
    // One has it from the environment, the other from a file, whose last line end does not count.
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let leader = with_secret(leaders.leading(&[relay.address()])).start();
    let follower = followers.following().env("CHRONIK_REPLICATION_SECRET_FILE", &file.display().to_string()).start();
    clients::create_topic(&leaders.kafka, "closed", 1, &[]);
    produce(&leaders.kafka, "closed", 0, -1, &[b"seen in clear"]);
    view::wait_for_bounds(&followers.kafka, "closed", 0, (0, 1), BOUND);
    segments::wait_until_same(leader.data(), follower.data(), CATCH_UP_BOUND);
    assert!(relay.has_seen(b"seen in clear"), "the relay sees what passes");
    assert!(!relay.has_seen(SECRET.as_bytes()), "the secret passed in clear");
    for broker in [&leader, &follower] {
        let log = broker.log_text();
        assert!(!log.contains(SECRET), "the secret is in a log");
        assert_eq!(warned_that_anybody_may_dial(&log), 0, "{log}");
        for path in ["/metrics", "/api/v1/replication", "/health/ready"] {
            assert!(!broker.get(path).1.contains(SECRET), "the secret is in {path}");
        }
    }
}

#[test]
fn link_whose_ends_disagree_about_the_secret_does_not_come_about() {
    let folder = TempDir::new().unwrap();
    let named = |name: &str| Place::below(folder.path(), name);
    for (name, ours, theirs) in [
        ("wrong", Some(SECRET), Some("canary-other")),
        ("missing", None, Some(SECRET)),
        ("one-sided", Some(SECRET), None),
    ] {
        let (leaders, followers) = (named(&format!("{name}-leader")), named(&format!("{name}-follower")));
        let give = |setup: Setup, secret: Option<&str>| match secret {
            Some(secret) => setup.env("CHRONIK_REPLICATION_SECRET", secret),
            None => setup,
        };
        let leader = give(leaders.leading(&[&followers.receiver]), ours).start();
        let mut follower = give(followers.following(), theirs).launch();
        clients::create_topic(&leaders.kafka, "kept-back", 1, &[]);
        produce(&leaders.kafka, "kept-back", 0, -1, &[b"for who has the secret"]);
        wait::until_true(&format!("{name}: the leader to see why"), BOUND, || {
            let link = Status::of(&leader).follower(&followers.receiver);
            assert_ne!(link.state(), "streaming", "{name}");
            let log = leader.log_text();
            log.contains("not_authenticated") || log.to_lowercase().contains("secret")
        });
        assert!(follower.is_not_ready(), "{name}: a receiver that has met nobody is not ready");
        assert!(segments::of(follower.data()).is_empty(), "{name}");
        // The same node with the right secret is met.
        if ours.is_some() {
            follower.kill();
            follower.change(with_secret);
            follower.start();
            view::wait_for_bounds(&followers.kafka, "kept-back", 0, (0, 1), BOUND);
        }
    }
}

#[test]
fn receiver_with_a_secret_tells_nothing_of_itself_before_the_proof() {
    let folder = TempDir::new().unwrap();
    let (leaders, followers) = (Place::below(folder.path(), "leader"), Place::below(folder.path(), "follower"));
    let leader = with_secret(leaders.leading(&[&followers.receiver])).start();
    let follower = with_secret(followers.following()).start();
    let dial = || {
        let stream = TcpStream::connect(&followers.receiver).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    };
    let hello = Hello {
        versions: [1, 1],
        cluster_id: [1; 16],
        node_id: 50,
        leader_id: 50,
        generation: 1_000,
        advertised: "127.0.0.1:1".to_owned(),
    };
    let mut stream = dial();
    stream.write_all(&hello.frame().bytes).unwrap();
    let challenge = Frame::read(&mut stream).unwrap().expect("a challenge");
    assert_eq!((challenge.kind(), challenge.head().len()), (kind::CHALLENGE, 64), "nonce and proof, nothing else");
    // The receiver's own proof is no proof of the sender's, and neither is a guess.
    let echoed = challenge.head()[32..].to_vec();
    for proof in [echoed, vec![0; 32]] {
        let mut stream = dial();
        stream.write_all(&hello.frame().bytes).unwrap();
        let asked = Frame::read(&mut stream).unwrap().expect("a challenge");
        assert_ne!(asked.head()[..32], challenge.head()[..32], "a nonce is used once");
        stream.write_all(&Frame::new(kind::PROOF, &proof, &[]).bytes).unwrap();
        let refusal = Frame::read(&mut stream).unwrap().expect("a refusal").refusal();
        assert_eq!(refusal.0, NOT_AUTHENTICATED, "{refusal:?}");
        assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0, "closed");
    }
    let metrics = follower.get("/metrics").1;
    assert!(counted(&metrics, &["replication", "reject", "reason=\"not_authenticated\""]) >= 2.0);
    // Whoever skips the proof gets nowhere: a welcome without one has no place here.
    let mut stream = dial();
    stream.write_all(&[hello.frame().bytes, Frame::new(5, &9_i32.to_be_bytes(), &[]).bytes].concat()).unwrap();
    let mut answers = Vec::new();
    while let Ok(Some(frame)) = Frame::read(&mut stream) {
        answers.push(frame.kind());
    }
    assert!(!answers.contains(&kind::HELLO_ACK), "{answers:?}");
    // A generation that nobody has proven fences nobody.
    assert_eq!(Status::of(&leader).role(), "leader");
    assert_eq!(Status::of(&follower).role(), "follower");
    clients::create_topic(&leaders.kafka, "goes-on", 1, &[]);
    produce(&leaders.kafka, "goes-on", 0, -1, &[b"x"]);
    view::wait_for_bounds(&followers.kafka, "goes-on", 0, (0, 1), BOUND);
}

#[test]
fn receiver_without_a_secret_says_once_that_anybody_may_dial() {
    let folder = TempDir::new().unwrap();
    let (leaders, followers) = (Place::below(folder.path(), "leader"), Place::below(folder.path(), "follower"));
    let leader = leaders.leading(&[&followers.receiver]).start();
    let follower = followers.following().start();
    let log = follower.log_text();
    assert_eq!(warned_that_anybody_may_dial(&log), 1, "{log}");
    drop(leader);
}
