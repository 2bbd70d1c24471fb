//! Starting, refusing to start, and stopping.

use std::net::TcpListener;
use std::time::Duration;

use chronik_e2e::broker::{Broker, Ready, Setup, steady_port};
use chronik_e2e::disk::{Disk, files_below};
use chronik_e2e::ledger::Shape;
use chronik_e2e::load::Load;
use chronik_e2e::raw::{self, Connection, assert_none};
use chronik_e2e::{clients, wait};
use chronik_wire::messages::MetadataRequest;
use rustix::process::Signal;
use tempfile::TempDir;

const BOUND: Duration = Duration::from_secs(30);

#[test]
fn ready_line_names_where_clients_are_served_and_what_is_there() {
    let mut broker = Broker::fresh();
    let Ready { kafka, http, data, topics, partitions, took_ms } = broker.ready().clone();
    assert!(!kafka.ends_with(":0") && kafka.starts_with("127.0.0.1:"), "{kafka}");
    assert!(!http.ends_with(":0") && http.starts_with("127.0.0.1:"), "{http}");
    assert_eq!(data, broker.data().display().to_string());
    assert_eq!((topics, partitions), (0, 0));
    eprintln!("ready on an empty directory after {took_ms} ms");
    assert_none(Connection::open(&kafka).ask(4, &raw::hello()).error_code, "the first request");
    assert_eq!(broker.get("/health/live").0, 200);
    assert_eq!(broker.get("/health/ready").0, 200);
    clients::create_topic(&kafka, "three", 3, &[]);
    assert!(broker.stop().success());
    let again = broker.start();
    assert_eq!((again.topics, again.partitions), (1, 3));
}

#[test]
fn start_is_another_name_for_serve_and_the_environment_for_flags() {
    let folder = TempDir::new().unwrap();
    let broker = Setup::on(&folder.path().join("data"))
        .listen("")
        .http("")
        .env("CHRONIK_LISTEN", "127.0.0.1:0")
        .env("CHRONIK_HTTP", "off")
        .env("CHRONIK_NODE_ID", "7")
        .start();
    assert_eq!(broker.ready().http, "off");
    let metadata = Connection::open(broker.bootstrap()).ask(12, &MetadataRequest::default());
    assert_eq!(metadata.brokers.iter().map(|broker| broker.node_id).collect::<Vec<_>>(), [7]);
    assert_eq!(metadata.controller_id, 7);
}

#[test]
fn second_process_on_a_data_directory_is_refused() {
    let broker = Broker::fresh();
    let before = files_below(broker.data());
    Setup::on(broker.data()).refused().assert_names(&[&broker.data().display().to_string()]);
    assert_eq!(files_below(broker.data()), before);
    assert_none(Connection::open(broker.bootstrap()).ask(4, &raw::hello()).error_code, "the first one");
}

#[test]
fn busy_port_is_refused_and_leaves_no_data() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    Setup::on(&data).listen(&address).refused().assert_names(&[&address]);
    assert_eq!(files_below(&data), []);
    // A port that somebody named for HTTP is not exchanged for another one either.
    Setup::on(&data).http(&address).refused().assert_names(&[&address]);
}

#[test]
fn read_only_directory_is_refused() {
    let mut disk = Disk::of_mib(64);
    let data = disk.path().join("data");
    let mut broker = Setup::on(&data).start();
    assert!(broker.stop().success());
    disk.unmount();
    disk.mount("loop,ro");
    Setup::on(&data).refused().assert_names(&[&data.display().to_string(), "read-only"]);
    Setup::on(&disk.path().join("other")).refused().assert_names(&["read-only"]);
}

#[test]
fn full_disk_is_refused_with_nothing_changed_and_served_again_with_room() {
    let disk = Disk::of_mib(64);
    let data = disk.path().join("data");
    let mut broker = Setup::on(&data).start();
    clients::create_topic(broker.bootstrap(), "kept", 1, &[]);
    assert!(broker.stop().success());
    drop(broker);
    disk.fill("ballast");
    let before = files_below(&data);
    Setup::on(&data).refused().assert_names(&["space"]);
    assert_eq!(files_below(&data), before);
    Setup::on(&disk.path().join("other")).refused().assert_names(&["space"]);
    std::fs::remove_file(disk.path().join("ballast")).unwrap();
    assert_eq!(Setup::on(&data).start().ready().topics, 1);
}

#[test]
fn disk_that_fills_up_while_running_refuses_producers_and_loses_nothing_acknowledged() {
    let disk = Disk::of_mib(96);
    let data = disk.path().join("data");
    let mut broker = Setup::on(&data).listen(&format!("127.0.0.1:{}", steady_port())).start();
    for words in ["space", "offline", "append", "flush", "failed", "torn tail cut"] {
        broker.expect_log(words);
    }
    let shape = Shape { seed: 11, partitions: 2, value_bytes_max: 4000 };
    clients::create_topic(broker.bootstrap(), "filling", shape.partitions, &[]);
    let load = Load::start(broker.bootstrap(), "filling", 2, shape);
    wait::until_true("some records", BOUND, || load.acknowledged() > 100);
    disk.fill("ballast");
    let full = load.acknowledged();
    wait::until_true("the broker to notice", BOUND, || broker.log_text().to_lowercase().contains("space"));
    eprintln!("acknowledged {full} records before the disk was full, {} in all", load.acknowledged());
    broker.kill();
    std::fs::remove_file(disk.path().join("ballast")).unwrap();
    broker.start();
    let ledger = load.finish();
    ledger.check(broker.bootstrap(), "filling", shape);
}

#[test]
fn directory_of_a_newer_format_is_refused_untouched() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    assert!(Setup::on(&data).start().stop().success());
    let identity = data.join("meta.properties");
    let text = std::fs::read_to_string(&identity).unwrap();
    let newer: String = text
        .lines()
        .map(|line| if line.starts_with("version=") { "version=99\n".to_owned() } else { format!("{line}\n") })
        .collect();
    assert!(newer.contains("version=99"), "{text}");
    std::fs::write(&identity, &newer).unwrap();
    let before = files_below(&data);
    Setup::on(&data).refused().assert_names(&["99", "version"]);
    assert_eq!(files_below(&data), before);
    assert_eq!(std::fs::read_to_string(&identity).unwrap(), newer);
}

#[test]
fn mistyped_key_is_refused_with_the_nearest_one() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let setup = Setup::on(&data).set("log.retention.hour", "3");
    setup.refused().assert_names(&["log.retention.hour", "log.retention.hours"]);
    let file = folder.path().join("chronik.toml");
    std::fs::write(&file, "\"num.partition\" = 3\n").unwrap();
    let setup = Setup::on(&data).arg("--config").arg(&file.display().to_string());
    setup.refused().assert_names(&["num.partition", "num.partitions"]);
    let setup = Setup::on(&data).set("num.partitions", "many");
    setup.refused().assert_names(&["num.partitions", "many"]);
    Setup::on(&data).env("CHRONIK_DATA_DIRR", "x").refused().assert_names(&["CHRONIK_DATA_DIRR", "CHRONIK_DATA_DIR"]);
    assert_eq!(files_below(&data), []);
}

#[test]
fn wildcard_address_needs_an_advertised_one() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    Setup::on(&data).listen("0.0.0.0:0").refused().assert_names(&["0.0.0.0", "--advertise"]);
    Setup::on(&data).listen("0.0.0.0:0").arg("--advertise").arg("0.0.0.0:9092").refused().assert_names(&["0.0.0.0"]);
    let port = steady_port();
    let broker = Setup::on(&data)
        .listen(&format!("0.0.0.0:{port}"))
        .arg("--advertise")
        .arg(&format!("localhost:{port}"))
        .start();
    let metadata = Connection::open(&format!("127.0.0.1:{port}")).ask(12, &MetadataRequest::default());
    assert_eq!((metadata.brokers[0].host.as_str(), metadata.brokers[0].port), ("localhost", i32::from(port)));
    drop(broker);
}

#[test]
fn two_brokers_run_on_one_host_without_naming_http_ports() {
    let folder = TempDir::new().unwrap();
    let start = |name: &str| Setup::on(&folder.path().join(name)).http("").start();
    let (first, second) = (start("first"), start("second"));
    assert_ne!(first.ready().http, second.ready().http);
    for broker in [&first, &second] {
        assert_eq!(broker.get("/health/ready").0, 200, "{:?}", broker.ready());
    }
}

#[test]
fn clean_stop_keeps_everything_and_the_next_start_scans_nothing() {
    let mut broker = Broker::fresh_with(|setup| setup.listen(&format!("127.0.0.1:{}", steady_port())));
    let shape = Shape { seed: 12, partitions: 3, value_bytes_max: 1000 };
    clients::create_topic(broker.bootstrap(), "clean", shape.partitions, &[]);
    let load = Load::start(broker.bootstrap(), "clean", 2, shape);
    wait::until_true("some records", BOUND, || load.acknowledged() > 2000);
    let status = broker.stop();
    assert!(status.success(), "{status}");
    broker.start();
    assert_eq!(broker.metric("chronik_log_recovery_scanned_bytes"), Some(0.0), "{}", broker.get("/metrics").1);
    wait::until_true("the load to go on", BOUND, || load.acknowledged() > 4000);
    load.finish().check(broker.bootstrap(), "clean", shape);
}

#[test]
fn interrupt_stops_cleanly_too_and_a_second_signal_forces() {
    let mut broker = Broker::fresh();
    broker.signal(Signal::INT);
    assert!(broker.exit().success());
    broker.start();
    // A request that is never complete is no reason to stay.
    let mut half = Connection::open(broker.bootstrap());
    half.send(&[0, 0, 1, 0, 0]).unwrap();
    broker.signal(Signal::TERM);
    broker.signal(Signal::TERM);
    broker.exit();
    broker.start();
}

#[test]
fn ready_probe_says_no_while_stopping_or_the_port_is_gone() {
    let mut broker = Broker::fresh();
    let address = broker.bootstrap().to_owned();
    assert!(broker.stop().success());
    assert!(Connection::try_open(&address).is_err(), "nobody listens after a stop");
}
