//! `chronik replication status`: a node's links as tables.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use chronik_broker::replication::{LeaderStatus, LinkStatus, ReplicationStatus};
use tokio::time::MissedTickBehavior;

use super::super::table::{Column, NOTHING, Table, bytes, counted, or_nothing, shown, time};
use super::super::{Stop, http, print, say};
use crate::cli;
use crate::config::parse_host_port;
use crate::problem::Problem;

/// Moves to the upper left corner and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[2J";

const CATCHING_UP: &str = "catching up";

pub(super) async fn run(command: cli::ReplicationStatus) -> Result<(), Stop> {
    let address = parse_host_port(&command.http, "--http", "127.0.0.1:6092")?.to_string();
    let text = asked(&address, &command).await?;
    let Some(seconds) = command.watch else {
        return Ok(print(&text)?);
    };
    let clear = if io::stdout().is_terminal() && !command.json { CLEAR } else { "" };
    print(&format!("{clear}{text}"))?;
    let pace = Duration::from_secs(seconds);
    let mut ticks = tokio::time::interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        match asked(&address, &command).await {
            Ok(text) if clear.is_empty() && !command.json => print(&format!("\n{text}"))?,
            Ok(text) => print(&format!("{clear}{text}"))?,
            // The node is perhaps started again: who watches wants to see it come back.
            Err(problem) => say(&format!("error: {problem}")),
        }
    }
}

async fn asked(address: &str, command: &cli::ReplicationStatus) -> Result<String, Problem> {
    let answer = http::get(address, "/api/v1/replication").await?;
    let status: ReplicationStatus = match (answer.status, serde_json::from_slice(&answer.body)) {
        (200, Ok(status)) => status,
        _ => return Err(answer.refusal(address)),
    };
    match command.json {
        true => Ok(String::from_utf8_lossy(&answer.body).into_owned()),
        false => Ok(described(&status, command.partitions)),
    }
}

fn described(status: &ReplicationStatus, partitions: bool) -> String {
    let mut text = shown(&format!(
        "node {} of cluster {}: {}, {}, generation {}, leader epoch {}",
        status.node_id, status.cluster_id, status.role, status.mode, status.generation, status.leader_epoch
    ));
    text.push('\n');
    if let Some(leader) = &status.leader {
        text += &leader_line(leader);
    }
    if status.receiver.is_none() && status.followers.is_empty() {
        text += "it neither sends to followers nor receives from a leader\n";
    }
    if let Some(link) = &status.receiver {
        text += &section("RECEIVES FROM", std::slice::from_ref(link), partitions);
    }
    if !status.followers.is_empty() {
        text += &section("SENDS TO", &status.followers, partitions);
    }
    text
}

fn leader_line(leader: &LeaderStatus) -> String {
    let LeaderStatus { node_id, generation, address } = leader;
    let place = if address.is_empty() { "at an address that is not known".to_owned() } else { format!("at {address}") };
    shown(&format!("the leader is node {node_id} {place}, generation {generation}")) + "\n"
}

/// The links in one direction, each with what there is to say of it, and with its partitions where they are wanted.
fn section(direction: &'static str, links: &[LinkStatus], partitions: bool) -> String {
    let mut table = Table::new([
        Column::Text(direction),
        Column::Number("NODE"),
        Column::Text("STATE"),
        Column::Number("FOR"),
        Column::Number("LAG RECORDS"),
        Column::Number("LAG BYTES"),
        Column::Number("LAG TIME"),
        Column::Number("LAST HEARD"),
        Column::Number("ROUND TRIP"),
        Column::Number("RECONNECTS"),
        Column::Number("THROUGHPUT"),
    ]);
    let mut notes = String::new();
    for link in links {
        table.row([
            link.address.clone(),
            or_nothing(link.node_id, |node_id| node_id.to_string()),
            link.state.clone(),
            time(link.state_ms),
            link.lag_records.to_string(),
            bytes(link.lag_bytes),
            or_nothing(link.lag_ms, time),
            or_nothing(link.last_heard_ms, |ms| time(ms) + " ago"),
            or_nothing(link.round_trip_us, round_trip),
            link.reconnects.to_string(),
            format!("{}/s", bytes(link.bytes_per_second)),
        ]);
        notes += &remarks(link);
    }
    let mut text = format!("\n{}{notes}", table.text());
    for link in links.iter().filter(|link| partitions && !link.partitions.is_empty()) {
        text += &partition_table(link, links.len() > 1);
    }
    text
}

fn remarks(link: &LinkStatus) -> String {
    let mut text = String::new();
    if link.state == CATCHING_UP {
        text += &format!("{}: {}\n", shown(&link.address), progress(link));
    }
    if let Some(error) = &link.last_error {
        text += &format!("{}: last error: {}\n", shown(&link.address), shown(error));
    }
    text
}

fn progress(link: &LinkStatus) -> String {
    let rate = bytes(link.bytes_per_second);
    let estimate = match link.caught_up_in_ms {
        Some(ms) => format!("done in about {}", time(ms)),
        None => "nothing moves at the moment".to_owned(),
    };
    let done = link.catch_up_bytes.filter(|all| *all > 0).map_or_else(String::new, |all| {
        format!("{} % done, ", all.saturating_sub(link.lag_bytes).saturating_mul(100) / all)
    });
    let (records, lag) = (counted(link.lag_records, "record"), bytes(link.lag_bytes));
    format!("{done}{records} and {lag} to go at {rate}/s, {estimate}")
}

fn round_trip(us: u64) -> String {
    if us < 1_000 { format!("{us} us") } else { time(us / 1_000) }
}

fn partition_table(link: &LinkStatus, several: bool) -> String {
    let mut table = Table::new([
        Column::Text("TOPIC"),
        Column::Number("PARTITION"),
        Column::Number("END"),
        Column::Number("SENT"),
        Column::Number("LOG END"),
        Column::Number("DURABLE END"),
        Column::Number("HIGH WATERMARK"),
        Column::Number("LAG BYTES"),
        Column::Text("ATTACHED"),
        Column::Text("IN SYNC"),
    ]);
    let yes = |is: bool| if is { "yes" } else { NOTHING }.to_owned();
    for partition in &link.partitions {
        table.row([
            partition.topic.clone(),
            partition.partition.to_string(),
            partition.end.to_string(),
            partition.sent.to_string(),
            partition.log_end.to_string(),
            partition.durable_end.to_string(),
            partition.high_watermark.to_string(),
            bytes(partition.lag_bytes),
            yes(partition.attached),
            yes(partition.in_sync),
        ]);
    }
    let heading = if several { format!("{}\n", shown(&link.address)) } else { String::new() };
    format!("\n{heading}{}", table.text())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use chronik_broker::replication::{PartitionStatus, PromotedPartition, PromotionAnswer};
    use chronik_console::{Console, LIMITS_DEFAULT, Readiness, Reply, State};
    use expect_test::expect;
    use serde_json::Value;

    use super::*;

    fn follower() -> LinkStatus {
        LinkStatus {
            address: "localhost:15432".to_owned(),
            node_id: Some(2),
            state: "streaming".to_owned(),
            state_ms: 7_500_000,
            lag_ms: Some(0),
            last_heard_ms: Some(4_200),
            round_trip_us: Some(310),
            bytes_per_second: 1_258_291,
            partitions: vec![PartitionStatus {
                topic: "orders".to_owned(),
                partition: 1,
                attached: true,
                end: 120,
                sent: 120,
                log_end: 118,
                durable_end: 100,
                high_watermark: 118,
                lag_bytes: 300,
                ..PartitionStatus::default()
            }],
            ..LinkStatus::default()
        }
    }

    fn leader() -> ReplicationStatus {
        ReplicationStatus {
            node_id: 1,
            cluster_id: "AbCdEfGhIjKlMnOpQrStUv".to_owned(),
            role: "leader".to_owned(),
            mode: "sync".to_owned(),
            generation: 3,
            leader_epoch: 7,
            followers: vec![follower()],
            ..ReplicationStatus::default()
        }
    }

    #[test]
    fn a_leader_shows_each_follower_and_what_there_is_to_say_of_it() {
        let catching_up = LinkStatus {
            address: "10.0.0.9:15432".to_owned(),
            node_id: Some(3),
            state: "catching up".to_owned(),
            state_ms: 900,
            last_error: Some("connection reset\u{1b}[2J".to_owned()),
            lag_records: 5_000_000,
            lag_bytes: 5 << 29,
            lag_ms: None,
            last_heard_ms: Some(0),
            reconnects: 4,
            bytes_per_second: 512 << 20,
            catch_up_bytes: Some(10 << 30),
            caught_up_in_ms: Some(5_000),
            ..LinkStatus::default()
        };
        let waiting = LinkStatus {
            address: "gone:1".to_owned(),
            state: "waiting".to_owned(),
            last_error: Some("connection refused".to_owned()),
            ..LinkStatus::default()
        };
        let status = ReplicationStatus { followers: vec![follower(), catching_up, waiting], ..leader() };
        expect![[r#"
            node 1 of cluster AbCdEfGhIjKlMnOpQrStUv: leader, sync, generation 3, leader epoch 7

            SENDS TO         NODE  STATE              FOR  LAG RECORDS  LAG BYTES  LAG TIME  LAST HEARD  ROUND TRIP  RECONNECTS   THROUGHPUT
            localhost:15432     2  streaming    2 h 5 min            0        0 B       0 s   4.2 s ago      310 us           0    1.1 MiB/s
            10.0.0.9:15432      3  catching up     900 ms      5000000    2.5 GiB         -     0 s ago           -           4  512.0 MiB/s
            gone:1              -  waiting            0 s            0        0 B         -           -           -           0        0 B/s
            10.0.0.9:15432: 75 % done, 5000000 records and 2.5 GiB to go at 512.0 MiB/s, done in about 5.0 s
            10.0.0.9:15432: last error: connection reset�[2J
            gone:1: last error: connection refused
        "#]]
        .assert_eq(&described(&status, false));
    }

    #[test]
    fn a_follower_shows_its_leader_and_its_partitions_where_they_are_wanted() {
        let status = ReplicationStatus {
            role: "follower".to_owned(),
            mode: "async".to_owned(),
            leader: Some(LeaderStatus { node_id: 9, generation: 3, address: "kafka-9:9092".to_owned() }),
            receiver: Some(LinkStatus { address: "10.0.0.1:51234".to_owned(), ..follower() }),
            followers: Vec::new(),
            ..leader()
        };
        expect![[r#"
            node 1 of cluster AbCdEfGhIjKlMnOpQrStUv: follower, async, generation 3, leader epoch 7
            the leader is node 9 at kafka-9:9092, generation 3

            RECEIVES FROM   NODE  STATE            FOR  LAG RECORDS  LAG BYTES  LAG TIME  LAST HEARD  ROUND TRIP  RECONNECTS  THROUGHPUT
            10.0.0.1:51234     2  streaming  2 h 5 min            0        0 B       0 s   4.2 s ago      310 us           0   1.1 MiB/s

            TOPIC   PARTITION  END  SENT  LOG END  DURABLE END  HIGH WATERMARK  LAG BYTES  ATTACHED  IN SYNC
            orders          1  120   120      118          100             118      300 B  yes       -
        "#]]
        .assert_eq(&described(&status, true));
    }

    #[test]
    fn a_node_alone_says_so() {
        let status = ReplicationStatus { followers: Vec::new(), ..leader() };
        let text = described(&status, true);
        assert!(text.ends_with("it neither sends to followers nor receives from a leader\n"), "{text}");
        let fenced = LeaderStatus { node_id: 2, generation: 4, address: String::new() };
        let text = described(&ReplicationStatus { leader: Some(fenced), ..status }, false);
        assert!(text.contains("the leader is node 2 at an address that is not known, generation 4\n"), "{text}");
    }

    #[tokio::test]
    async fn a_node_is_asked_at_its_http_address() {
        let body = serde_json::to_vec(&leader()).unwrap();
        let (starting, answered) = (Arc::new(AtomicBool::new(true)), body.clone());
        let still = Arc::clone(&starting);
        let state = State {
            readiness: Arc::new(|| Readiness::Ready),
            metrics: Arc::default(),
            replication: Arc::new(move || match still.load(Ordering::SeqCst) {
                true => Reply::error(503, "starting"),
                false => Reply::ok(answered.clone()),
            }),
            promote: Arc::new(|_| Box::pin(async { Reply::error(503, "starting") })),
        };
        let console = Console::bind("127.0.0.1:0".parse().unwrap(), LIMITS_DEFAULT).await.unwrap();
        let address = console.local_addr().to_string();
        tokio::spawn(console.serve(state, std::future::pending()));
        let command = |json| cli::ReplicationStatus { http: address.clone(), json, watch: None, partitions: false };
        let problem = asked(&address, &command(false)).await.unwrap_err().to_string();
        assert_eq!(problem, format!("the node at {address} is starting\n  try again when it is ready"));
        starting.store(false, Ordering::SeqCst);
        assert_eq!(asked(&address, &command(false)).await.unwrap(), described(&leader(), false));
        let json = asked(&address, &command(true)).await.unwrap();
        assert_eq!(json.as_bytes(), [&body[..], b"\n"].concat());
    }

    /// The fields of `value` are those that the console's description has under `name`, and all are there always.
    fn check_described(name: &str, value: Value) {
        let openapi: Value = serde_json::from_str(chronik_console::OPENAPI).unwrap();
        let schema = &openapi["components"]["schemas"][name];
        let there: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let described: BTreeSet<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let required: BTreeSet<&str> =
            schema["required"].as_array().unwrap().iter().map(|field| field.as_str().unwrap()).collect();
        assert_eq!(described, there, "{name}");
        assert_eq!(required, there, "{name}");
    }

    #[test]
    fn the_consoles_description_has_the_fields_there_are() {
        check_described("ReplicationStatus", serde_json::to_value(leader()).unwrap());
        check_described("LeaderStatus", serde_json::to_value(LeaderStatus::default()).unwrap());
        check_described("LinkStatus", serde_json::to_value(follower()).unwrap());
        check_described("PartitionStatus", serde_json::to_value(PartitionStatus::default()).unwrap());
        check_described("PromotionAnswer", serde_json::to_value(PromotionAnswer::default()).unwrap());
        check_described("PromotedPartition", serde_json::to_value(PromotedPartition::default()).unwrap());
    }
}
