//! `chronik bench` against a running broker: what its figures say, and when there are none.

use std::process::Output;
use std::time::Duration;

use chronik_e2e::binary::{self, refusal, spawn};
use chronik_e2e::broker::Broker;
use chronik_e2e::{admin, clients, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const BOUND: Duration = Duration::from_secs(60);

fn bench(broker: &Broker, args: &[&str]) -> Output {
    binary::run(&[&["bench"], args, &["--bootstrap", broker.bootstrap()]].concat())
}

/// The figures of a run that must succeed.
fn figures(broker: &Broker, args: &[&str]) -> Value {
    binary::figures(&bench(broker, &[args, &["--json"]].concat()))
}

fn is_positive(figures: &Value, names: &[&str]) {
    for name in names {
        let value = names_value(figures, name);
        assert!(value.as_f64().is_some_and(|value| value > 0.0), "{name} is {value}");
    }
}

fn names_value<'a>(figures: &'a Value, name: &str) -> &'a Value {
    name.split('/').fold(figures, |value, name| &value[name])
}

#[test]
fn closed_loop_writes_what_it_says_in_every_codec() {
    let broker = Broker::fresh();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("closed-{codec}");
        let args = ["produce", &topic, "--num-records", "2500", "--record-size", "100", "--partitions", "3"];
        let found = figures(&broker, &[&args[..], &["--compression", codec, "--connections", "2"]].concat());
        assert_eq!(found["loop"], "closed", "{found}");
        assert_eq!((&found["latency_from"], &found["topic_created"]), (&"sent".into(), &true.into()), "{found}");
        assert_eq!((&found["records"], &found["bytes"]), (&2500.into(), &250_000.into()), "{found}");
        assert_eq!((&found["verified"]["records"], &found["connections"]), (&2500.into(), &2.into()), "{found}");
        is_positive(&found, &["records_per_s", "mb_per_s", "elapsed_s", "client_cpu_s", "latency_ms/p50"]);
        assert_eq!(clients::read_all(broker.bootstrap(), &topic, 3).len(), 2500);
        let read = figures(&broker, &["consume", &topic, "--connections", "3"]);
        assert_eq!((&read["records"], &read["verified"]["records"]), (&2500.into(), &2500.into()), "{read}");
        assert_eq!(read["batches"], found["batches"], "{read}");
    }
}

#[test]
fn open_loop_sends_what_is_due_and_measures_after_the_warm_up() {
    let broker = Broker::fresh();
    for acks in ["1", "all"] {
        let args = ["produce", "open", "--throughput", "2000", "--num-records", "1000", "--warm-up", "500ms"];
        let found = figures(&broker, &[&args[..], &["--acks", acks, "--in-flight", "2"]].concat());
        assert_eq!((&found["loop"], &found["latency_from"]), (&"open".into(), &"due".into()), "{found}");
        assert_eq!((&found["target_records_per_s"], &found["acks"]), (&2000.into(), &acks.into()), "{found}");
        // Those of the warm-up are there as well, and not in the figures.
        assert_eq!((&found["records"], &found["verified"]["records"]), (&1000.into(), &2000.into()), "{found}");
        is_positive(&found, &["latency_ms/p50", "latency_ms/p99_9", "latency_ms/max"]);
    }
    let found = figures(&broker, &["produce", "open", "--throughput", "500", "--duration", "1s", "--no-verify"]);
    assert_eq!((&found["records"], &found["verified"]), (&500.into(), &Value::Null), "{found}");
}

#[test]
fn end_to_end_counts_each_record_at_the_consumer() {
    let broker = Broker::fresh();
    let args = ["end-to-end", "through", "--throughput", "500", "--num-records", "600", "--partitions", "2"];
    let found = figures(&broker, &[&args[..], &["--warm-up", "200ms"]].concat());
    assert_eq!((&found["records"], &found["verified"]["records"]), (&600.into(), &700.into()), "{found}");
    is_positive(&found, &["latency_ms/p50", "ack_latency_ms/p50", "records_per_s"]);
    // On a topic that has records of others already.
    let found = figures(&broker, &["end-to-end", "through", "--num-records", "20"]);
    assert_eq!((&found["records"], &found["verified"]["records"]), (&20.into(), &20.into()), "{found}");
}

#[test]
fn what_a_person_reads_tells_the_loop_and_what_was_verified() {
    let broker = Broker::fresh();
    let output = bench(&broker, &["produce", "text", "--num-records", "500"]);
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("created topic text"), "{stderr}");
    for words in ["closed loop", "500 of 1024 bytes", "p99.9", "client cpu", "500 records in", "contents are right"] {
        assert!(stdout.contains(words), "no {words:?} in\n{stdout}");
    }
    let output = bench(&broker, &["produce", "text", "--num-records", "500", "--throughput", "9000", "--no-verify"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("open loop: 9000 records/s due") && stdout.contains("nothing (--no-verify)"), "{stdout}");
}

#[test]
fn records_that_are_cut_during_a_run_leave_it_without_figures() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "cut", 1, &[]);
    let args = ["bench", "produce", "cut", "--throughput", "500", "--num-records", "1000", "--json", "--bootstrap"];
    let running = spawn(&[&args[..], &[broker.bootstrap()]].concat());
    wait::until_true("some records", BOUND, || clients::watermarks(broker.bootstrap(), "cut", 0).1 > 100);
    admin::delete_records(broker.bootstrap(), "cut", 0, 50);
    let said = refusal(&running.wait_with_output().unwrap());
    assert!(said.contains("no longer there") && said.contains("no figure is given"), "{said}");
}

#[test]
fn an_interrupted_run_tells_what_was_done() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "early", 1, &[]);
    let args = ["bench", "produce", "early", "--throughput", "500", "--duration", "1h", "--json", "--bootstrap"];
    let running = spawn(&[&args[..], &[broker.bootstrap()]].concat());
    wait::until_true("some records", BOUND, || clients::watermarks(broker.bootstrap(), "early", 0).1 > 100);
    let pid = i32::try_from(running.id()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let Output { status, stdout, stderr } = running.wait_with_output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let found: Value = serde_json::from_slice(&stdout).unwrap();
    let (_, end) = clients::watermarks(broker.bootstrap(), "early", 0);
    assert_eq!((&found["ended"], &found["records"]), (&"interrupted".into(), &end.into()), "{found}");
    assert_eq!(found["verified"]["records"], end, "{found}");
}

#[test]
fn what_is_wrong_is_told_with_what_to_do_next() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "one", 1, &[]);
    clients::create_topic(broker.bootstrap(), "small", 1, &[("max.message.bytes", "1000")]);
    for (args, expected) in [
        (&["produce", "one", "--num-records", "1", "--partitions", "3"][..], ["has partitions: 1", "--partitions"]),
        (
            &["produce", "new", "--num-records", "1", "--replication-factor", "3"],
            ["INVALID_REPLICATION_FACTOR", "brokers"],
        ),
        (&["produce", "small", "--num-records", "9"], ["MESSAGE_TOO_LARGE", "--batch-size"]),
        (&["consume", "none"], ["there is no topic none", "chronik topic create none"]),
        (&["consume", "one"], ["no record of topic one came", "`chronik bench produce` fills a topic"]),
        (&["consume", "one", "--num-records", "1", "--timeout", "1s"], ["no record came for 1s", "--timeout"]),
    ] {
        let said = refusal(&bench(&broker, args));
        assert!(expected.iter().all(|words| said.contains(words)), "{args:?}: {said}");
    }
    let said = refusal(&binary::run(&["bench", "produce", "t", "--num-records", "1", "--bootstrap", "127.0.0.1:1"]));
    assert!(said.contains("no broker answers at 127.0.0.1:1"), "{said}");
}
