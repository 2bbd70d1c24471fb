//! `replication` and `promote` against running nodes.

use chronik_client::{Client, Target};
use chronik_wire::messages::DeleteRecordsRequest;
use chronik_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};

use crate::process::Broker;

/// A node with 4, 2 and 4 records in the partitions of a topic, and the offsets of a group.
fn node() -> Broker {
    let broker = Broker::start();
    broker.output(&["topic", "create", "t", "--partitions", "3"]);
    for (partition, lines) in [("0", "a\nb\nc\nd\n"), ("1", "e\nf\n"), ("2", "g\nh\ni\nj\n")] {
        assert!(broker.run_with(&["produce", "t", "--partition", partition], lines).status.success());
    }
    broker
}

/// Exit code and output of the comparison.
fn verify(here: &Broker, there: &Broker, more: &[&str]) -> (Option<i32>, String, String) {
    let output = here.run(&[&["replication", "verify", "--against", &there.address], more].concat());
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn field<'a>(line: &'a str, name: &str) -> &'a str {
    line.split(' ').find_map(|field| field.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {line}"))
}

#[test]
fn two_nodes_are_compared_batch_by_batch() {
    let [here, there] = node().doubled();
    let (code, stdout, stderr) = verify(&here, &there, &[]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{stdout}");
    for (line, (partition, to)) in lines.iter().zip([("0", "4"), ("1", "2"), ("2", "4")]) {
        assert!(line.starts_with("same topic=t "), "{line}");
        assert_eq!((field(line, "partition="), field(line, "from="), field(line, "to=")), (partition, "0", to));
    }
    assert!(lines[3].ends_with("partitions=3 batches=3 bytes=263 lag=0 differences=0"), "{stdout}");

    // Being behind is no difference.
    assert!(here.run_with(&["produce", "t", "--partition", "1"], "more\nlines\n").status.success());
    let (code, stdout, _) = verify(&here, &there, &[]);
    assert_eq!(code, Some(0), "{stdout}");
    let lagging = format!(" lag=2 behind={}", there.address);
    assert!(stdout.lines().nth(1).unwrap().ends_with(&lagging), "{stdout}");

    // The second of three batches is another one.
    for (broker, text) in [(&here, "x"), (&there, "y"), (&here, "same"), (&there, "same")] {
        assert!(broker.run_with(&["produce", "t", "--partition", "2"], text).status.success());
    }
    let (code, stdout, stderr) = verify(&here, &there, &[]);
    assert_eq!(code, Some(1), "{stdout}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines[2].starts_with("DIFFERENT topic=t partition=2 from=0 to=4 batches=1 "), "{stdout}");
    for (line, broker) in lines[3..5].iter().zip([&here, &there]) {
        let expected = format!("  topic=t partition=2 first-difference=4 node={} batch base-offset=4 ", broker.address);
        assert!(line.starts_with(&expected), "{line}");
    }
    assert_ne!(field(lines[3], "crc32c="), field(lines[4], "crc32c="));
    assert!(stderr.starts_with("error: 1 difference between"), "{stderr}");

    // A topic that one of them lacks, and one that only has the same name.
    here.output(&["topic", "create", "here"]);
    for broker in [&here, &there] {
        broker.output(&["topic", "create", "u"]);
    }
    let (code, stdout, _) = verify(&here, &there, &["--topic", "here"]);
    assert_eq!(code, Some(1));
    assert!(stdout.starts_with(&format!("ONLY-ON {} topic=here\n", here.address)), "{stdout}");
    let (code, stdout, _) = verify(&there, &here, &["--topic", "u", "--json"]);
    assert_eq!(code, Some(1));
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["differences"], 1);
    let difference = &report["partitions"][0]["difference"];
    assert!(difference["here"].as_str().unwrap().starts_with("topic-id="), "{report}");
    let (code, _, stderr) = verify(&here, &there, &["--topic", "nowhere"]);
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("error: neither node has a topic nowhere"), "{stderr}");
}

/// Deletes the records of partition 0 of `t` below `offset`.
fn delete_records(broker: &Broker, offset: i64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
    let topics = vec![DeleteRecordsTopic { name: "t".to_owned(), partitions }];
    let response = runtime.block_on(async {
        let mut client = Client::connect(&broker.address).await.unwrap();
        client.send(Target::Bootstrap, DeleteRecordsRequest { topics, timeout_ms: 10_000 }).await.unwrap()
    });
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

#[test]
fn records_that_only_one_of_them_keeps_are_passed_over() {
    let [here, there] = node().doubled();
    let compared = || {
        let (code, stdout, stderr) = verify(&here, &there, &["--json"]);
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        ["from", "to", "batches"].map(|name| report["partitions"][0][name].as_i64().unwrap())
    };
    assert_eq!(compared(), [0, 4, 1]);
    // The batch that holds the first offset kept by both is compared whole.
    delete_records(&there, 3);
    assert_eq!(compared(), [3, 4, 1]);
    delete_records(&there, 4);
    assert_eq!(compared(), [4, 4, 0]);
}

#[test]
fn the_admin_api_is_asked_over_http() {
    let broker = Broker::start_in(tempfile::TempDir::new().unwrap(), "127.0.0.1:0");
    for (args, answered_by) in
        [(&["replication", "status"][..], "/api/v1/replication"), (&["promote", "--dry-run"], "/api/v1/promote")]
    {
        // Whatever the node answers, it is an answer of the admin API and no other failure.
        let output = broker.run(&[args, &["--http", &broker.http]].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        let refused = stderr.starts_with(&format!("error: the node at {}", broker.http));
        assert!(output.status.success() || refused, "{answered_by}: {stderr}");
    }
}
