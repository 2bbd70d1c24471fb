//! Links under TLS: encrypted, and only between nodes with a certificate where the receiver asks for one.

use chronik_e2e::broker::Setup;
use chronik_e2e::certificates::{Authority, Files};
use chronik_e2e::pair::CATCH_UP_BOUND;
use chronik_e2e::place::Place;
use chronik_e2e::relay::Relay;
use chronik_e2e::status::Status;
use chronik_e2e::{clients, segments, view, wait};
use tempfile::TempDir;

use super::{BOUND, produce};

fn showing(setup: Setup, files: &Files) -> Setup {
    setup
        .env("CHRONIK_REPLICATION_TLS_CERT", &files.cert.display().to_string())
        .env("CHRONIK_REPLICATION_TLS_KEY", &files.key.display().to_string())
}

fn believing(setup: Setup, files: &Files) -> Setup {
    setup.env("CHRONIK_REPLICATION_TLS_CA", &files.ca.display().to_string())
}

#[test]
fn link_between_nodes_that_know_each_other_stands_and_nobody_on_the_way_reads_it() {
    let folder = TempDir::new().unwrap();
    let files = Authority::new().issue(&folder.path().join("ours"));
    let (leaders, followers) = (Place::below(folder.path(), "leader"), Place::below(folder.path(), "follower"));
    let relay = Relay::of_bytes(&followers.receiver);
    let both = |setup| believing(showing(setup, &files), &files);
    let leader = both(leaders.leading(&[relay.address()])).start();
    let mut follower = both(followers.following()).start();
    clients::create_topic(&leaders.kafka, "closed", 1, &[]);
    produce(&leaders.kafka, "closed", 0, -1, &[b"not to be read on the way"]);
    view::wait_for_bounds(&followers.kafka, "closed", 0, (0, 1), BOUND);
    // A segment that was away comes over the same way.
    follower.kill();
    for number in 0..200 {
        produce(&leaders.kafka, "closed", 0, -1, &[format!("not to be read on the way {number}").as_bytes()]);
    }
    follower.start();
    view::wait_for_bounds(&followers.kafka, "closed", 0, (0, 201), BOUND);
    segments::wait_until_same(leader.data(), follower.data(), CATCH_UP_BOUND);
    assert!(!relay.has_seen(b"not to be read"), "batches passed in clear");
    assert!(!relay.has_seen(b"closed"), "a topic's name passed in clear");
}

#[test]
fn receiver_takes_nobody_without_a_certificate_that_it_believes() {
    let folder = TempDir::new().unwrap();
    let (ours, others) =
        (Authority::new().issue(&folder.path().join("ours")), Authority::new().issue(&folder.path().join("others")));
    type Change<'a> = &'a dyn Fn(Setup) -> Setup;
    let plain: Change<'_> = &|setup| setup;
    let without: Change<'_> = &|setup| believing(setup, &ours);
    let of_others: Change<'_> = &|setup| believing(showing(setup, &others), &ours);
    let not_believing: Change<'_> = &|setup| believing(showing(setup, &ours), &others);
    for (name, change) in
        [("plain", plain), ("without", without), ("of-others", of_others), ("not-believing", not_believing)]
    {
        let place = |role: &str| Place::below(folder.path(), &format!("{name}-{role}"));
        let (leaders, followers) = (place("leader"), place("follower"));
        let follower = believing(showing(followers.following(), &ours), &ours).launch();
        let leader = change(leaders.leading(&[&followers.receiver])).start();
        clients::create_topic(&leaders.kafka, "kept-back", 1, &[]);
        produce(&leaders.kafka, "kept-back", 0, -1, &[b"for who is believed"]);
        wait::until_true(&format!("{name}: the leader to try more than once"), BOUND, || {
            let link = Status::of(&leader).follower(&followers.receiver);
            assert_ne!(link.state(), "streaming", "{name}");
            leader.log_text().matches("Attempting to connect to follower").count() > 2
        });
        assert!(follower.is_not_ready(), "{name}: a receiver that has met nobody is not ready");
        assert!(segments::of(follower.data()).is_empty(), "{name}");
    }
}
