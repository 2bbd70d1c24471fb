//! What people see of replication: the status of a node, its metrics, and whether two nodes hold the same.

use chronik_e2e::pair::Pair;
use chronik_e2e::status::wait_until_streaming;
use chronik_e2e::{binary, clients, process, wait};
use rustix::process::Signal;

use super::{BOUND, counted, produce};

#[test]
fn status_tells_roles_and_lag_on_both_sides() {
    let pair = Pair::start_with(|setup| setup.set("replication.heartbeat.interval.ms", "200"));
    let leader = pair.leaders.kafka.as_str();
    clients::create_topic(leader, "seen", 2, &[]);
    produce(leader, "seen", 1, -1, &[b"one", b"two"]);
    wait_until_streaming(&pair.leader, &pair.followers.receiver, BOUND);
    let table = |http: &str| binary::output_of(&["replication", "status", "--http", http, "--partitions"]);
    let of_leader = table(&pair.leaders.http);
    for words in ["leader", &pair.followers.receiver, "streaming", "seen"] {
        assert!(of_leader.contains(words), "no {words:?} in\n{of_leader}");
    }
    let of_follower = table(&pair.followers.http);
    for words in ["follower", leader] {
        assert!(of_follower.contains(words), "no {words:?} in\n{of_follower}");
    }
    // A follower that stands still falls behind, in records, bytes and time, in the metrics too.
    pair.follower.signal(Signal::STOP);
    wait::until_true("the process to stand still", BOUND, || process::stands_still(pair.follower.pid()));
    for _ in 0..10 {
        produce(leader, "seen", 0, 1, &[&[7; 1_000]]);
    }
    let json = || {
        let told = binary::output_of(&["replication", "status", "--http", &pair.leaders.http, "--json"]);
        serde_json::from_str::<serde_json::Value>(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
    };
    wait::until_true("a lag", BOUND, || {
        let link = &json()["followers"][0];
        let behind = link["partitions"].as_array().unwrap().iter().find(|found| found["partition"] == 0).cloned();
        let behind = behind.unwrap_or_default();
        link["lag_records"] == 10
            && link["lag_bytes"].as_u64().is_some_and(|bytes| bytes > 10_000)
            && link["lag_ms"].as_u64().is_some_and(|ms| ms > 0)
            && (behind["end"].as_i64(), behind["log_end"].as_i64()) == (Some(10), Some(0))
    });
    wait::until_true("the lag in the metrics", BOUND, || {
        let metrics = pair.leader.get("/metrics").1;
        let lag =
            |what: &str| counted(&metrics, &["chronik_replication_lag_", what, "topic=\"seen\"", "partition=\"0\""]);
        lag("records") == 10.0 && lag("bytes") > 10_000.0 && lag("seconds") > 0.0
    });
    pair.follower.signal(Signal::CONT);
    wait_until_streaming(&pair.leader, &pair.followers.receiver, BOUND);
    wait::until_true("a round trip", BOUND, || json()["followers"][0]["round_trip_us"].as_u64().is_some());
    assert_eq!(json()["followers"][0]["lag_bytes"], 0);
}

#[test]
fn verify_compares_nodes_and_names_the_first_difference() {
    let mut pair = Pair::start();
    let (leader, follower) = (pair.leaders.kafka.clone(), pair.followers.kafka.clone());
    clients::create_topic(&leader, "compared", 2, &[]);
    for number in 0..20_u8 {
        produce(&leader, "compared", 1, -1, &[&[number; 500]]);
    }
    pair.catch_up();
    let verify = || binary::run(&["replication", "verify", "--bootstrap", &leader, "--against", &follower]);
    let same = verify();
    assert!(same.status.success(), "{same:?}");
    // A byte of a record in the middle of the follower's file, behind the broker's back.
    assert!(pair.follower.stop().success());
    let file = pair.follower.partition_folder("compared", 1).join("wal_1_0.log");
    let mut bytes = std::fs::read(&file).unwrap();
    let batch = bytes.len() / 20;
    bytes[12 * batch + 100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    pair.follower.start();
    for words in ["damage", "corrupt", "read", "offset"] {
        pair.follower.expect_log(words);
        pair.leader.expect_log(words);
    }
    let differs = verify();
    let told = String::from_utf8_lossy(&differs.stdout).into_owned() + &String::from_utf8_lossy(&differs.stderr);
    assert!(!differs.status.success(), "{told}");
    assert!(told.contains("compared") && told.contains("12"), "{told}");
}
