//! The commands and flags, and nothing of what they do.
//!
//! Values stay text here: they are read where environment and file give the same setting, so that every place reports a
//! mistake alike. The environment is not clap's business for the same reason.

mod bench;

use std::path::PathBuf;

use chronik_client::Acks;
use chronik_record::Compression;
use clap::{Args, Parser, Subcommand};

pub(crate) use self::bench::{Bench, BenchConsume, BenchEndToEnd, BenchLoad, BenchProduce, Throughput};

/// Kafka-compatible event streaming in one binary.
#[derive(Debug, Parser)]
#[command(name = "chronik", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a broker
    #[command(alias = "start", after_help = SERVE_HELP)]
    Serve(Serve),
    /// Create, list, describe and delete topics
    #[command(subcommand)]
    Topic(Topic),
    /// Write the lines of standard input to a topic, one record each
    Produce(Produce),
    /// Write the records of a topic to standard output, one line each
    Consume(Consume),
    /// Measure a broker: how fast it takes records and gives them back, read back and compared before any figure
    #[command(subcommand)]
    Bench(Bench),
    /// Read segment files as they lie on the disk, beside a running broker or without one
    #[command(subcommand)]
    Log(Log),
    /// See what followers have, and compare nodes
    #[command(subcommand)]
    Replication(Replication),
    /// Turn a running follower into a leader
    Promote(Promote),
}

const SERVE_HELP: &str = "\
Every Kafka broker setting, and Chronik's own, can also be given
  in the file:         log.retention.ms = 86400000
  in the environment:  CHRONIK_LOG_RETENTION_MS=86400000
  as a flag:           --set log.retention.ms=86400000
Flags win over the environment, the environment over the file. CHRONIK_BIND and CHRONIK_KAFKA_PORT are the two halves
of CHRONIK_LISTEN, CHRONIK_ADVERTISED_ADDR and CHRONIK_ADVERTISED_PORT those of CHRONIK_ADVERTISE. CHRONIK_LOG chooses
the log lines on standard error: off, error, warn, info, debug, trace, or a list as in warn,chronik_broker=debug.";

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Serve {
    /// Directory that holds everything; created where it does not exist [env: CHRONIK_DATA_DIR] [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// Address to listen on; port 0 takes a free one [env: CHRONIK_LISTEN] [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// Address clients are told to connect to [env: CHRONIK_ADVERTISE] [default: the one listened on]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) advertise: Option<String>,
    /// Address of metrics and health, or off [env: CHRONIK_HTTP] [default: 127.0.0.1:6092 or the next free port]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) http: Option<String>,
    /// Number of this node [env: CHRONIK_NODE_ID] [default: what the data directory says, else 1; a new follower is given one]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) node_id: Option<String>,
    /// Followers to send the log to, by commas [env: CHRONIK_REPLICATION_FOLLOWERS]
    #[arg(long, value_name = "HOST:PORT,...")]
    pub(crate) replicate_to: Option<String>,
    /// Address to receive a leader's log on; the broker follows [env: CHRONIK_WAL_RECEIVER_ADDR]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) wal_receiver: Option<String>,
    /// What acks=all waits for: async, this broker alone, or sync, every in-sync replica [env: CHRONIK_REPLICATION_MODE]
    /// [default: async]
    #[arg(long, value_name = "async|sync")]
    pub(crate) replication_mode: Option<String>,
    /// Certificate to show clients, its chain behind it, in PEM: with it the broker speaks TLS [env: CHRONIK_TLS_CERT]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: Option<String>,
    /// The certificate's private key, in PEM [env: CHRONIK_TLS_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<String>,
    /// Authorities in PEM; clients must show a certificate of one of them [env: CHRONIK_TLS_CLIENT_CA]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_client_ca: Option<String>,
    /// Configuration file in TOML [env: CHRONIK_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Any setting by its key, as in --set log.retention.ms=86400000; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// Which broker a client command talks to.
#[derive(Debug, Default, Args)]
pub(crate) struct Bootstrap {
    /// A broker of the cluster [env: CHRONIK_BOOTSTRAP] [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) bootstrap: Option<String>,
    /// Authorities in PEM, one of which gave brokers their certificates: talk TLS [env: CHRONIK_TLS_CA]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Certificate in PEM to show brokers that ask for one [env: CHRONIK_TLS_CERT]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM [env: CHRONIK_TLS_KEY]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Topic {
    /// Create a topic
    Create(TopicCreate),
    /// Print the names of all topics
    List {
        /// Internal topics too
        #[arg(long)]
        internal: bool,
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
    /// Print the partitions of a topic, or of all topics
    Describe {
        name: Option<String>,
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
    /// Delete a topic with everything in it
    Delete {
        name: String,
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Print a line for each record batch, and for each range of bytes that is none
    Dump(LogFiles),
    /// Check every batch and print a line for each file; fails where anything is damaged
    Verify(LogFiles),
}

/// What `log` reads.
#[derive(Debug, Args)]
pub(crate) struct LogFiles {
    /// Segment files, or folders whose segments are read, down to all of a data directory
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Replication {
    /// Print a node's role, its links and how far its followers are behind
    Status(ReplicationStatus),
    /// Compare the records of two running nodes; fails where any differ
    Verify(ReplicationVerify),
}

#[derive(Debug, Args)]
pub(crate) struct ReplicationStatus {
    /// HTTP address of the node
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6092")]
    pub(crate) http: String,
    /// Print what the node answers, as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print again every so many seconds [default: 2]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) watch: Option<u64>,
    /// Print each partition too
    #[arg(long)]
    pub(crate) partitions: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReplicationVerify {
    #[command(flatten)]
    pub(crate) bootstrap: Bootstrap,
    /// The node to compare with
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) against: String,
    /// Compare this topic only
    #[arg(long, value_name = "NAME")]
    pub(crate) topic: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Promote {
    /// HTTP address of the node to promote
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) http: String,
    /// Refuse unless it is known that the node has everything its leader had
    #[arg(long)]
    pub(crate) require_caught_up: bool,
    /// Tell what would be lost, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Lead also where records of the node are known to be damaged
    #[arg(long)]
    pub(crate) accept_damage: bool,
    /// Print what the node answers, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TopicCreate {
    pub(crate) name: String,
    /// Number of partitions [default: the broker's num.partitions]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) partitions: Option<i32>,
    /// Number of replicas of each partition [default: the broker's default.replication.factor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    pub(crate) replication_factor: Option<i16>,
    /// A setting of the topic, as in --config retention.ms=86400000; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) config: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) bootstrap: Bootstrap,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

fn acks(text: &str) -> Result<Acks, String> {
    match text {
        "0" => Ok(Acks::None),
        "1" => Ok(Acks::Leader),
        "all" | "-1" => Ok(Acks::All),
        _ => Err("write 0, 1 or all".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Produce {
    pub(crate) topic: String,
    /// Text between key and value of a line; without it lines have no key
    #[arg(long, value_name = "TEXT")]
    pub(crate) key_separator: Option<String>,
    /// Wait for no one (0), the leader (1), or until the records are safe on all in-sync replicas (all)
    #[arg(long, value_name = "0|1|all", default_value = "all", value_parser = acks, allow_hyphen_values = true)]
    pub(crate) acks: Acks,
    /// Codec of the record batches: none, gzip, snappy, lz4 or zstd
    #[arg(long, value_name = "CODEC", default_value = "none")]
    pub(crate) compression: Compression,
    /// Write to this partition only [default: by key, else in turn]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partition: Option<i32>,
    #[command(flatten)]
    pub(crate) bootstrap: Bootstrap,
}

/// Where consuming begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    Start,
    End,
    Offset(i64),
}

fn from(text: &str) -> Result<Begin, String> {
    match text {
        "start" => Ok(Begin::Start),
        "end" => Ok(Begin::End),
        _ => match text.parse() {
            Ok(offset) if offset >= 0 => Ok(Begin::Offset(offset)),
            _ => Err("write start, end or an offset".to_owned()),
        },
    }
}

#[derive(Debug, Args)]
pub(crate) struct Consume {
    pub(crate) topic: String,
    /// Where to begin: start, end, or an offset
    #[arg(long, value_name = "start|end|OFFSET", default_value = "end", value_parser = from, allow_hyphen_values = true)]
    pub(crate) from: Begin,
    /// Stop at the end the topic has when the command starts
    #[arg(long)]
    pub(crate) exit_at_end: bool,
    /// Read this partition only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partition: Option<i32>,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    pub(crate) max_messages: Option<u64>,
    /// Write the key and a tab before each value
    #[arg(long)]
    pub(crate) print_key: bool,
    #[command(flatten)]
    pub(crate) bootstrap: Bootstrap,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command).map_err(|e| e.to_string())
    }

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_and_start_are_one_command() {
        for name in ["serve", "start"] {
            let line = format!(
                "chronik {name} --data-dir d --listen a:1 --advertise b:2 --http off --node-id 3 --config f.toml \
                 --set x=1 --set y=2"
            );
            let Ok(Command::Serve(flags)) = parse(&line) else { panic!("{line}") };
            assert_eq!(flags.data_dir.as_deref(), Some("d"));
            assert_eq!(flags.listen.as_deref(), Some("a:1"));
            assert_eq!(flags.advertise.as_deref(), Some("b:2"));
            assert_eq!(flags.http.as_deref(), Some("off"));
            assert_eq!(flags.node_id.as_deref(), Some("3"));
            assert_eq!(flags.config, Some(PathBuf::from("f.toml")));
            assert_eq!(flags.set, ["x=1", "y=2"]);
        }
    }

    #[test]
    fn topics_are_created_with_settings() {
        let line = "chronik topic create t --partitions 3 --replication-factor 1 --config a=b=c --bootstrap h:1";
        let Ok(Command::Topic(Topic::Create(create))) = parse(line) else { panic!("{line}") };
        assert_eq!((create.name.as_str(), create.partitions, create.replication_factor), ("t", Some(3), Some(1)));
        assert_eq!(create.config, [("a".to_owned(), "b=c".to_owned())]);
        assert_eq!(create.bootstrap.bootstrap.as_deref(), Some("h:1"));
    }

    #[test]
    fn consuming_begins_where_told() {
        for (text, expected) in [("start", Begin::Start), ("end", Begin::End), ("42", Begin::Offset(42))] {
            let Ok(Command::Consume(consume)) = parse(&format!("chronik consume t --from {text} --exit-at-end")) else {
                panic!("{text}")
            };
            assert_eq!(consume.from, expected);
            assert!(consume.exit_at_end);
        }
    }

    #[test]
    fn watching_has_a_pace_of_its_own_where_none_is_given() {
        for (flags, expected) in
            [("", None), ("--watch", Some(2)), ("--watch 5 --json", Some(5)), ("--watch --json", Some(2))]
        {
            let line = format!("chronik replication status {flags}");
            let Ok(Command::Replication(Replication::Status(status))) = parse(&line) else { panic!("{line}") };
            assert_eq!((status.watch, status.http.as_str()), (expected, "127.0.0.1:6092"), "{line}");
        }
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (line, expected) in [
            ("chronik serv", "serve"),
            ("chronik serve --data-dri d", "--data-dir"),
            ("chronik serve --listen a:1 --listen b:1", "cannot be used multiple times"),
            ("chronik consume t --from middle", "write start, end or an offset"),
            ("chronik consume t --from -1", "write start, end or an offset"),
            ("chronik produce t --acks 2", "write 0, 1 or all"),
            ("chronik produce t --compression zip", "not one of none, gzip, snappy, lz4, zstd"),
            ("chronik topic create t --config x", "write KEY=VALUE"),
            ("chronik topic create t --partitions 0", "1.."),
            ("chronik topic create", "<NAME>"),
            ("chronik produce t --tls-ca a --tls-cert c", "--tls-key"),
            ("chronik promote", "--http"),
            ("chronik replication verify", "--against"),
            ("chronik replication status --watch 0", "1.."),
        ] {
            let message = parse(line).unwrap_err();
            assert!(message.contains(expected), "{line}: {message}");
        }
    }
}
