//! A harness around the real binary: its life, leaders with followers, raw connections, librdkafka clients, disks that lose
//! power, networks that come apart, and the ledger of what was acknowledged.
//!
//! The tests live in `tests/it`; no broker code runs in this process. Everything here panics with what it expected and saw,
//! because its callers are tests.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a harness for tests: a panic is the report")]
#![allow(clippy::print_stderr, reason = "seeds and measured times are for whoever reads the test's output")]

pub mod admin;
pub mod batch;
pub mod binary;
pub mod broker;
pub mod certificates;
pub mod clients;
pub mod disk;
pub mod hosts;
pub mod http;
pub mod ledger;
pub mod link;
pub mod load;
pub mod pair;
pub mod place;
pub mod process;
pub mod raw;
pub mod relay;
pub mod seed;
pub mod segments;
pub mod status;
pub mod switch;
pub mod view;
pub mod wait;
