//! Where a node lives: its data directory and its addresses, known before it starts, so that other nodes can be told.

use std::path::{Path, PathBuf};

use crate::broker::{Setup, steady_port};

/// Log lines of links that cannot be made or that break, and of receivers that anybody may dial as no secret was given.
pub const LINK_ALARMS: &[&str] = &["ollower", "eader", "WAL ", "eplication", "link", "secret"];

/// What a crash may leave, as recovery tells it.
const CRASH: &[&str] = &["torn", "truncat", "recover", "unclean"];

/// The place of a node.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its data directory.
    pub data: PathBuf,
    /// `HOST:PORT` for Kafka clients.
    pub kafka: String,
    /// `HOST:PORT` for HTTP.
    pub http: String,
    /// `HOST:PORT` for leaders.
    pub receiver: String,
    /// What its command line is given to.
    pub wrapper: Vec<String>,
}

impl Place {
    /// A place on this machine, with steady ports.
    pub fn below(folder: &Path, name: &str) -> Self {
        let address = || format!("127.0.0.1:{}", steady_port());
        Self { data: folder.join(name), kafka: address(), http: address(), receiver: address(), wrapper: Vec::new() }
    }

    /// A node there, without any link.
    pub fn alone(&self) -> Setup {
        let wrapper: Vec<&str> = self.wrapper.iter().map(String::as_str).collect();
        Setup::on(&self.data).listen(&self.kafka).http(&self.http).under(&wrapper).expect_log(CRASH)
    }

    /// A node there that sends its log to these addresses.
    pub fn leading(&self, followers: &[&str]) -> Setup {
        // It tries before the followers are up, and notices when they go.
        self.alone().env("CHRONIK_REPLICATION_FOLLOWERS", &followers.join(",")).expect_log(LINK_ALARMS)
    }

    /// A node there that is sent a leader's log.
    pub fn following(&self) -> Setup {
        self.alone().env("CHRONIK_WAL_RECEIVER_ADDR", &self.receiver).expect_log(LINK_ALARMS)
    }
}
