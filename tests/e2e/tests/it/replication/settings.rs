//! Settings of replication: all the ways to give them, and what is refused.

use chronik_e2e::broker::Setup;
use chronik_e2e::place::{LINK_ALARMS, Place};
use chronik_e2e::status::Status;
use chronik_e2e::wait;
use tempfile::TempDir;

use super::BOUND;

const NO_FOLLOWERS: &str = "CHRONIK_REPLICATION_FOLLOWERS not set, WAL replication disabled";

#[test]
fn bad_lists_of_followers_are_refused_with_the_entry_named() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    for (list, entry) in [
        ("a.example:1,b.example:2,a.example:1", "a.example:1"),
        (" a.example:1 , a.example:1", "a.example:1"),
        ("a.example:1,b.example", "b.example"),
        ("a.example:port", "a.example:port"),
        ("a.example:70000,b.example:1", "a.example:70000"),
        ("b.example:1,:15432", ":15432"),
        ("http://a.example:1", "http://a.example:1"),
    ] {
        let setup = Setup::on(&data).env("CHRONIK_REPLICATION_FOLLOWERS", list);
        setup.refused().assert_names(&[entry, "CHRONIK_REPLICATION_FOLLOWERS"]);
        Setup::on(&data).arg("--replicate-to").arg(list).refused().assert_names(&[entry]);
    }
    assert!(!data.exists(), "nothing is left by a refused start");
}

#[test]
fn other_bad_settings_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let missing = folder.path().join("missing").display().to_string();
    for (name, value, word) in [
        ("CHRONIK_WAL_RECEIVER_ADDR", "15432", "15432"),
        ("CHRONIK_WAL_RECEIVER_ADDR", "127.0.0.1:many", "many"),
        ("CHRONIK_REPLICATION_MODE", "semi", "semi"),
        ("CHRONIK_REPLICATION_SECRET_FILE", missing.as_str(), missing.as_str()),
        ("CHRONIK_REPLICATION_FOLLOWER", "a.example:1", "CHRONIK_REPLICATION_FOLLOWERS"),
    ] {
        Setup::on(&data).env(name, value).refused().assert_names(&[name, word]);
    }
    assert!(!data.exists(), "nothing is left by a refused start");
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = holder.local_addr().unwrap().to_string();
    Setup::on(&data).env("CHRONIK_WAL_RECEIVER_ADDR", &busy).refused().assert_names(&[&busy]);
}

#[test]
fn empty_list_of_followers_means_off() {
    let folder = TempDir::new().unwrap();
    for list in ["", "  "] {
        let place = Place::below(folder.path(), "data");
        let broker = place.alone().env("CHRONIK_REPLICATION_FOLLOWERS", list).start();
        assert!(broker.log_text().contains(NO_FOLLOWERS), "{list:?}:\n{}", broker.log_text());
        assert!(Status::of(&broker).field("followers").as_array().unwrap().is_empty());
    }
    let broker = Place::below(folder.path(), "other").alone().start();
    assert!(broker.log_text().contains(NO_FOLLOWERS), "{}", broker.log_text());
}

#[test]
fn blanks_around_followers_do_not_count() {
    let folder = TempDir::new().unwrap();
    let broker = Place::below(folder.path(), "data").leading(&[" 127.0.0.1:1 ", "\t127.0.0.2:2  "]).start();
    let log = broker.log_text();
    assert!(log.contains("WAL replication enabled with 2 followers: 127.0.0.1:1, 127.0.0.2:2"), "{log}");
    wait::until_true("both links told", BOUND, || {
        Status::of(&broker).field("followers").as_array().unwrap().len() == 2
    });
    for address in ["127.0.0.1:1", "127.0.0.2:2"] {
        assert_ne!(Status::of(&broker).follower(address).state(), "streaming");
    }
    assert_eq!(Status::of(&broker).role(), "leader");
}

#[test]
fn flags_and_file_give_what_the_environment_gives() {
    let folder = TempDir::new().unwrap();
    let (leaders, followers) = (Place::below(folder.path(), "leader"), Place::below(folder.path(), "follower"));
    let file = folder.path().join("chronik.toml");
    std::fs::write(&file, format!("wal-receiver = {:?}\n", followers.receiver)).unwrap();
    let leader = leaders.alone().expect_log(LINK_ALARMS);
    let leader = leader.arg("--replicate-to").arg(&followers.receiver).arg("--replication-mode").arg("sync").start();
    let follower = followers.alone().expect_log(LINK_ALARMS).arg("--config").arg(&file.display().to_string()).start();
    let (status, other) = (Status::of(&leader), Status::of(&follower));
    assert_eq!((status.role(), status.field("mode").as_str()), ("leader", Some("sync")));
    assert_eq!(other.role(), "follower");
    wait::until_true("the link told", BOUND, || Status::of(&follower).receiver().is_some());
    status.follower(&followers.receiver);
}
