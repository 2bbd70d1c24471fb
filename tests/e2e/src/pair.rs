//! A leader and its follower on this machine.

use std::time::Duration;

use tempfile::TempDir;

use crate::broker::{Broker, Setup};
use crate::place::Place;
use crate::segments;

/// Longest wait for a follower to have what its leader has.
pub const CATCH_UP_BOUND: Duration = Duration::from_secs(60);

/// A leader and its follower. The names tell how they were started: after a promotion it is the other way round.
#[derive(Debug)]
pub struct Pair {
    /// The node that sends.
    pub leader: Broker,
    /// The node that is sent.
    pub follower: Broker,
    /// Where the leader lives.
    pub leaders: Place,
    /// Where the follower lives.
    pub followers: Place,
    // Removed when both brokers are gone.
    _folder: TempDir,
}

impl Pair {
    /// Both on fresh data directories, with shipped defaults; they have met.
    pub fn start() -> Self {
        Self::start_with(|setup| setup)
    }

    /// Like [`Pair::start`], with some settings of both.
    pub fn start_with(change: impl Fn(Setup) -> Setup) -> Self {
        Self::start_each(&change, &change)
    }

    /// Like [`Pair::start`], with some settings of each.
    pub fn start_each(leader: impl FnOnce(Setup) -> Setup, follower: impl FnOnce(Setup) -> Setup) -> Self {
        let folder = TempDir::new().expect("a folder for data");
        let leaders = Place::below(folder.path(), "leader");
        let followers = Place::below(folder.path(), "follower");
        let leader = leader(leaders.leading(&[&followers.receiver])).start();
        let follower = follower(followers.following()).start();
        Self { leader, follower, leaders, followers, _folder: folder }
    }

    /// Both as bootstrap servers, the leader first.
    pub fn bootstrap(&self) -> String {
        format!("{},{}", self.leaders.kafka, self.followers.kafka)
    }

    /// Waits until both have the same segment files with the same bytes.
    pub fn catch_up(&self) {
        segments::wait_until_same(self.leader.data(), self.follower.data(), CATCH_UP_BOUND);
    }

    /// The leader becomes a receiver of the follower, which has been promoted, at its next start.
    pub fn demote_leader(&mut self) {
        let setup = self.leaders.following();
        self.leader.change(|_| setup);
    }
}
