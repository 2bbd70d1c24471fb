//! What a node says of its replication, and how it is promoted: the JSON of its admin API and the command line.

use std::time::Duration;

use serde_json::Value;

use crate::broker::Broker;
use crate::{binary, http, wait};

/// Replication of a node, as it tells it.
#[derive(Debug, Clone)]
pub struct Status(Value);

impl Status {
    /// Asks a node.
    pub fn of(broker: &Broker) -> Self {
        let (status, body) = broker.get("/api/v1/replication");
        assert_eq!(status, 200, "{body}");
        Self(serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }

    /// A field of it.
    pub fn field(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }

    /// `leader`, `follower` or `fenced`.
    pub fn role(&self) -> &str {
        self.field("role").as_str().expect("a role")
    }

    /// The highest generation it knows.
    pub fn generation(&self) -> i64 {
        self.field("generation").as_i64().expect("a number")
    }

    /// Its number.
    pub fn node_id(&self) -> i32 {
        self.field("node_id").as_i64().and_then(|id| i32::try_from(id).ok()).expect("a number")
    }

    /// The link to the follower at this address.
    pub fn follower(&self, address: &str) -> Link {
        let links = self.field("followers").as_array().expect("links");
        let link = links.iter().find(|link| link["address"] == address);
        Link(link.unwrap_or_else(|| panic!("no link to {address} in {}", self.0)).clone())
    }

    /// The link on which it is sent a leader's log, where there is one.
    pub fn receiver(&self) -> Option<Link> {
        let link = self.field("receiver");
        (!link.is_null()).then(|| Link(link.clone()))
    }
}

/// One link of a node.
#[derive(Debug, Clone)]
pub struct Link(Value);

impl Link {
    /// What it is doing.
    pub fn state(&self) -> &str {
        self.0["state"].as_str().expect("a state")
    }

    /// Records the follower lacks.
    pub fn lag_records(&self) -> u64 {
        self.number("lag_records")
    }

    /// A field with a number.
    pub fn number(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {}", self.0))
    }

    /// Round trip of the last heartbeat, where there was one.
    pub fn round_trip(&self) -> Option<Duration> {
        self.0["round_trip_us"].as_u64().map(Duration::from_micros)
    }

    /// Whether data flows and nothing is missing.
    pub fn has_everything(&self) -> bool {
        self.state() == "streaming" && self.lag_records() == 0
    }
}

/// Waits until a leader knows that the follower at this address has everything.
pub fn wait_until_streaming(leader: &Broker, follower: &str, bound: Duration) {
    wait::until_true("a follower that has everything", bound, || {
        Status::of(leader).follower(follower).has_everything()
    });
}

/// What came of a promotion, or would come of it.
#[derive(Debug, Clone)]
pub struct Promotion(Value);

impl Promotion {
    /// Reads an answer.
    pub fn parse(json: &str) -> Self {
        Self(serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}")))
    }

    /// Whether the node leads now.
    pub fn promoted(&self) -> bool {
        self.0["promoted"].as_bool().unwrap_or_else(|| panic!("{}", self.0))
    }

    /// Why not, where it was refused.
    pub fn refused(&self) -> Option<&str> {
        self.0["refused"].as_str()
    }

    /// Whether it is known that the old leader had nothing more.
    pub fn caught_up(&self) -> bool {
        self.0["caught_up"].as_bool().unwrap_or_else(|| panic!("{}", self.0))
    }

    /// From the request to the first moment at which writes are taken.
    pub fn took(&self) -> Duration {
        Duration::from_millis(self.0["took_ms"].as_u64().unwrap_or_else(|| panic!("{}", self.0)))
    }

    /// The generation it leads in.
    pub fn generation(&self) -> i64 {
        self.0["generation"].as_i64().unwrap_or_else(|| panic!("{}", self.0))
    }

    /// The log end here and the number of records from there on that the old leader is known to have had.
    pub fn partition(&self, topic: &str, partition: i32) -> (i64, i64) {
        let partitions = self.0["partitions"].as_array().unwrap_or_else(|| panic!("{}", self.0));
        let found = partitions.iter().find(|found| found["topic"] == topic && found["partition"] == partition);
        let found = found.unwrap_or_else(|| panic!("no {topic}-{partition} in {}", self.0));
        (found["log_end"].as_i64().expect("a log end"), found["lost_records"].as_i64().expect("a number"))
    }
}

/// Promotes a follower over HTTP.
pub fn promote(follower: &Broker) -> Promotion {
    let (status, body) = http::post(follower.http(), "/api/v1/promote");
    assert_eq!(status, 200, "{body}");
    let promotion = Promotion::parse(&body);
    assert!(promotion.promoted(), "{promotion:?}");
    promotion
}

/// Promotes a follower with the command line, with these flags beside `--json`. The exit code is that of the command.
pub fn promote_with(follower: &Broker, flags: &[&str]) -> (Option<i32>, Promotion) {
    let args = [&["promote", "--http", follower.http(), "--json"], flags].concat();
    let output = binary::run(&args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.trim_start().starts_with('{'), "chronik {args:?}: {}\n{out}\n{err}", output.status);
    (output.status.code(), Promotion::parse(&out))
}
