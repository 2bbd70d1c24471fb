//! Clients' connections under TLS: encrypted, with certificates that change while the broker runs, and refused clearly.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use chronik_e2e::binary::{self, figures, refusal, spawn};
use chronik_e2e::broker::{Broker, Setup};
use chronik_e2e::certificates::{Authority, Files};
use chronik_e2e::place::Place;
use chronik_e2e::relay::Relay;
use chronik_e2e::wait;
use tempfile::TempDir;

const BOUND: Duration = Duration::from_secs(60);

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ASCII")
}

/// A broker that shows these files.
fn showing(setup: Setup, files: &Files) -> Setup {
    setup.arg("--tls-cert").arg(text(&files.cert)).arg("--tls-key").arg(text(&files.key))
}

/// `bench produce` of this many records, as a client that believes this authority.
fn produce(bootstrap: &str, topic: &str, records: &str, more: &[&str]) -> Output {
    let args = ["bench", "produce", topic, "--num-records", records, "--json", "--bootstrap", bootstrap];
    binary::run(&[&args[..], more].concat())
}

#[test]
fn what_passes_under_tls_is_what_was_sent_and_nobody_on_the_way_reads_it() {
    let folder = TempDir::new().unwrap();
    let files = Authority::new().issue(folder.path());
    let place = Place::below(folder.path(), "broker");
    let relay = Relay::of_bytes(&place.kafka);
    let broker = showing(place.alone(), &files).arg("--advertise").arg(relay.address()).start();
    let believing = ["--tls-ca", text(&files.ca)];
    // More than a record of TLS, than a buffer, and than what the socket takes at once.
    for (topic, size) in [("secretly-small", "100"), ("secretly-large", "300000")] {
        let more = ["--record-size", size, "--batch-size", "1000000", "--partitions", "2"];
        let written = figures(&produce(relay.address(), topic, "200", &[&more[..], &believing].concat()));
        assert_eq!(written["verified"]["records"], 200, "{written}");
        let args = ["bench", "consume", topic, "--json", "--bootstrap", relay.address()];
        let read = figures(&binary::run(&[&args[..], &believing].concat()));
        assert_eq!((&read["records"], &read["verified"]["records"]), (&200.into(), &200.into()), "{read}");
    }
    let args =
        ["bench", "end-to-end", "secretly", "--num-records", "500", "--throughput", "500", "--json", "--bootstrap"];
    let through = figures(&binary::run(&[&args[..], &[relay.address()], &believing].concat()));
    assert_eq!(through["verified"]["records"], 500, "{through}");
    assert!(!relay.has_seen(b"secretly"), "a topic's name passed in clear");
    assert_eq!(broker.metric("chronik_network_tls_handshakes_failed_total"), Some(0.0));
}

#[test]
fn plain_client_of_a_listener_with_tls_is_told_and_so_is_the_other_way_round() {
    let folder = TempDir::new().unwrap();
    let files = Authority::new().issue(folder.path());
    let broker = showing(Setup::on(&folder.path().join("encrypted")), &files).start();
    let told = refusal(&produce(broker.bootstrap(), "t", "1", &[]));
    assert!(told.contains("--tls-ca FILE"), "{told}");
    assert!(broker.metric("chronik_network_tls_handshakes_failed_total") > Some(0.0));
    let plain = Broker::fresh();
    let told = refusal(&produce(plain.bootstrap(), "t", "1", &["--tls-ca", text(&files.ca)]));
    assert!(told.contains(plain.bootstrap()) && told.contains("--tls-ca FILE"), "{told}");
    let stranger = Authority::new().issue(&folder.path().join("stranger"));
    let told = refusal(&produce(broker.bootstrap(), "t", "1", &["--tls-ca", text(&stranger.ca)]));
    assert!(told.contains("certificate") && told.contains("--tls-ca FILE"), "{told}");
}

#[test]
fn clients_show_a_certificate_where_there_is_an_authority_for_them() {
    let folder = TempDir::new().unwrap();
    let of_brokers = Authority::new().issue(&folder.path().join("brokers"));
    let [known, unknown] = ["known", "unknown"].map(|name| Authority::new().issue(&folder.path().join(name)));
    let setup = showing(Setup::on(&folder.path().join("data")), &of_brokers);
    let broker = setup.arg("--tls-client-ca").arg(text(&known.ca)).start();
    let client = |files: &Files| {
        let more = ["--tls-ca", text(&of_brokers.ca), "--tls-cert", text(&files.cert), "--tls-key", text(&files.key)];
        produce(broker.bootstrap(), "known", "10", &more)
    };
    assert_eq!(figures(&client(&known))["verified"]["records"], 10);
    refusal(&client(&unknown));
    refusal(&produce(broker.bootstrap(), "known", "10", &["--tls-ca", text(&of_brokers.ca)]));
    assert_eq!(figures(&client(&known))["verified"]["records"], 10);
}

#[test]
fn certificates_that_change_are_shown_to_who_comes_next_and_break_no_connection() {
    let folder = TempDir::new().unwrap();
    let shown = folder.path().join("shown");
    let before = Authority::new().issue(&shown);
    let kept = folder.path().join("before.pem");
    fs::copy(&before.ca, &kept).unwrap();
    let broker = showing(Setup::on(&folder.path().join("data")), &before)
        .expect_log(&["changed TLS files cannot be used, those read before stay in use"])
        .start();
    let comes = |ca: &Path| produce(broker.bootstrap(), "t", "1", &["--tls-ca", text(ca)]).status.success();
    assert!(comes(&kept));

    let args = ["bench", "produce", "t", "--num-records", "1500", "--throughput", "500", "--no-verify", "--json"];
    let running = spawn(&[&args[..], &["--bootstrap", broker.bootstrap(), "--tls-ca", text(&kept)]].concat());
    wait::until_true("some records", BOUND, || broker.metric("chronik_network_tls_handshakes_failed_total").is_some());
    let after = Authority::new().issue(&shown);
    wait::until_true("the new certificate to be shown", BOUND, || comes(&after.ca));
    assert!(!comes(&kept), "the old certificate is shown");
    assert_eq!(figures(&running.wait_with_output().unwrap())["records"], 1500, "who was there goes on");

    // Half written, as a copy that is cut short leaves it.
    let whole = fs::read(&after.key).unwrap();
    fs::write(&after.key, &whole[..whole.len() / 2]).unwrap();
    wait::until_true("the broken file to be named", BOUND, || {
        assert!(comes(&after.ca), "those read before stay in use");
        broker.log_text().contains("changed TLS files cannot be used")
    });
    assert!(broker.log_text().contains(text(&after.key)), "{}", broker.log_text());
    fs::write(&after.key, whole).unwrap();
    let last = Authority::new().issue(&shown);
    wait::until_true("the last certificate to be shown", BOUND, || comes(&last.ca));
}

#[test]
fn files_that_cannot_be_used_are_named_at_start() {
    let folder = TempDir::new().unwrap();
    let [files, others] = ["ours", "others"].map(|name| Authority::new().issue(&folder.path().join(name)));
    let setup = || Setup::on(&folder.path().join("data"));
    let nothing = folder.path().join("nothing.pem");
    fs::write(&nothing, "no PEM here\n").unwrap();
    setup().arg("--tls-cert").arg(text(&files.cert)).refused().assert_names(&["--tls-key FILE"]);
    for (cert, key, named) in [
        (&folder.path().join("away.pem"), &files.key, "away.pem"),
        (&nothing, &files.key, "nothing.pem"),
        (&files.cert, &nothing, "nothing.pem"),
        (&files.cert, &others.key, "is not the key of the certificate"),
    ] {
        let shown = Files { cert: cert.clone(), key: key.clone(), ca: files.ca.clone() };
        showing(setup(), &shown).refused().assert_names(&[named, "CHRONIK_TLS_CERT"]);
    }
    assert!(!folder.path().join("data/wal").exists(), "nothing is made before the files are read");
}

#[test]
fn follower_passes_on_to_a_leader_whose_clients_use_tls() {
    let folder = TempDir::new().unwrap();
    let files = Authority::new().issue(&folder.path().join("ours"));
    let (leaders, followers) = (Place::below(folder.path(), "leader"), Place::below(folder.path(), "follower"));
    let both = |setup| showing(setup, &files).env("CHRONIK_TLS_CA", text(&files.ca));
    let leader = both(leaders.leading(&[&followers.receiver])).start();
    let follower = both(followers.following()).start();
    let believing = ["--tls-ca", text(&files.ca)];
    // A topic that is made because it is asked for, and the id of an idempotent producer; there is nothing to send.
    let asked = ["produce", "passed-on", "--bootstrap", follower.bootstrap()];
    binary::output_of(&[&asked[..], &believing].concat());
    let described = ["topic", "describe", "passed-on", "--bootstrap", leader.bootstrap()];
    let described = binary::output_of(&[&described[..], &believing].concat());
    assert!(described.contains("passed-on"), "{described}");
    let compared = ["replication", "verify", "--against", follower.bootstrap(), "--bootstrap", leader.bootstrap()];
    assert_eq!(figures(&produce(leader.bootstrap(), "passed-on", "50", &believing))["verified"]["records"], 50);
    wait::until_true("both to have the same", BOUND, || {
        binary::run(&[&compared[..], &believing].concat()).status.success()
    });
}
