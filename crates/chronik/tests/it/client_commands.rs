//! `topic`, `produce` and `consume` against a running broker.

use std::io::Read as _;
use std::process::Stdio;

use crate::process::Broker;

#[test]
fn lines_go_in_and_come_out_in_every_codec() {
    let broker = Broker::start();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let input: String = (0..20_000).map(|i| format!("{codec} line {i}\n")).collect();
        let produced = broker.run_with(&["produce", codec, "--compression", codec], &input);
        assert!(produced.status.success(), "{produced:?}");
        assert!(produced.stdout.is_empty());
        assert_eq!(String::from_utf8(produced.stderr).unwrap(), format!("20000 records written to {codec}\n"));
        assert!(broker.output(&["consume", codec, "--from", "start", "--exit-at-end"]) == input, "{codec}");
    }
}

#[test]
fn records_larger_than_a_batch_and_topics_with_smaller_ones_are_handled() {
    let broker = Broker::start();
    broker.output(&["topic", "create", "small", "--config", "max.message.bytes=2000"]);
    let input: String = (0..300).map(|i| format!("{i:0100}\n")).collect();
    let produced = broker.run_with(&["produce", "small"], &input);
    assert!(produced.status.success(), "{produced:?}");
    assert!(broker.output(&["consume", "small", "--from", "start", "--exit-at-end"]) == input);
    let refused = broker.run_with(&["produce", "small"], &"x".repeat(3000));
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("MESSAGE_TOO_LARGE") && stderr.contains("raise the topic's max.message.bytes"), "{stderr}");
}

#[test]
fn topics_are_created_listed_described_and_deleted() {
    let broker = Broker::start();
    assert_eq!(broker.output(&["topic", "list"]), "");
    broker.output(&["topic", "create", "b", "--partitions", "2"]);
    broker.output(&["topic", "create", "a"]);
    assert_eq!(broker.output(&["topic", "list"]), "a\nb\n");
    let described = broker.output(&["topic", "describe", "b"]);
    assert!(described.contains("topic=b ") && described.contains("partitions=2 replication-factor=1"), "{described}");
    assert!(described.contains("partition=1 leader=1 leader-epoch=0 replicas=1 isr=1"), "{described}");
    broker.output(&["topic", "delete", "b"]);
    assert_eq!(broker.output(&["topic", "list"]), "a\n");
}

#[test]
fn consuming_begins_and_ends_where_told() {
    let broker = Broker::start();
    let produced = broker.run_with(&["produce", "t", "--key-separator", "="], "k0=v0\nk1=v1\nk2=v2\n");
    assert!(produced.status.success(), "{produced:?}");
    let consume = |more: &[&str]| broker.output(&[&["consume", "t", "--exit-at-end"], more].concat());
    assert_eq!(consume(&["--from", "start", "--print-key"]), "k0\tv0\nk1\tv1\nk2\tv2\n");
    assert_eq!(consume(&["--from", "1"]), "v1\nv2\n");
    assert_eq!(consume(&["--from", "0", "--max-messages", "2"]), "v0\nv1\n");
    assert_eq!(consume(&["--from", "end"]), "");
    assert_eq!(consume(&["--from", "99"]), "");
    assert_eq!(consume(&["--from", "start", "--partition", "0"]), "v0\nv1\nv2\n");
}

#[test]
fn a_consumer_at_the_end_is_given_what_comes_next() {
    let broker = Broker::start();
    broker.output(&["topic", "create", "t"]);
    let mut command = broker.command(&["consume", "t", "--from", "0", "--max-messages", "1"]);
    let consumer = command.stdout(Stdio::piped()).spawn().unwrap();
    assert!(broker.run_with(&["produce", "t"], "late").status.success());
    let output = consumer.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"late\n");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let broker = Broker::start();
    let input: String = (0..200_000).map(|i| format!("{i}\n")).collect();
    assert!(broker.run_with(&["produce", "t"], &input).status.success());
    let mut command = broker.command(&["consume", "t", "--from", "start"]);
    let mut consumer = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 2];
    consumer.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = consumer.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!((&first, output.stderr.as_slice()), (b"0\n", b"".as_slice()));
}

#[test]
fn what_the_broker_refuses_is_told_on_standard_error() {
    let broker = Broker::start();
    broker.output(&["topic", "create", "t"]);
    for (args, expected) in [
        (&["topic", "create", "t"][..], "TOPIC_ALREADY_EXISTS"),
        (&["topic", "create", "a/b"], "INVALID_TOPIC_EXCEPTION"),
        (&["topic", "create", "u", "--replication-factor", "3"], "INVALID_REPLICATION_FACTOR"),
        (&["topic", "create", "u", "--config", "retention.mz=1"], "INVALID_CONFIG"),
        (&["topic", "describe", "u"], "`chronik topic create u`"),
        (&["topic", "delete", "u"], "there is no topic u"),
        (&["consume", "u"], "there is no topic u"),
        (&["consume", "t", "--partition", "1"], "the topic has 1 partitions"),
    ] {
        let output = broker.run(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(expected), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}
