//! Signs of life: when a heartbeat is due, when the peer has been silent for too long, how long a round trip takes.

use std::time::Duration;

use chronik_model::{Instant, Timestamp};

use crate::message::Heartbeat;

/// Both clocks at one moment, given by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Time {
    /// Monotonic; deadlines are measured with it.
    pub now: Instant,
    /// The wall clock, which is only told to people and to the log.
    pub wall: Timestamp,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the connection to the end of the handshake.
    pub handshake: Duration,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Without any byte.
    pub silence: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            heartbeat: Duration::from_secs(10),
            silence: Duration::from_secs(60),
        }
    }
}

/// What a heartbeat told of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// The peer's wall clock.
    pub wall: Timestamp,
    /// How long a frame takes there and back; none before the peer has heard of us.
    pub round_trip: Option<Duration>,
}

/// The clocks of one end of a link.
#[derive(Debug)]
pub(super) struct Clock {
    timing: Timing,
    connected: Instant,
    heard: Instant,
    beat: Instant,
    /// The peer's clock in its last heartbeat, and when that came.
    peer: Option<(u64, Instant)>,
}

impl Clock {
    pub(super) fn new(timing: Timing, now: Instant) -> Self {
        Self { timing, connected: now, heard: now, beat: now, peer: None }
    }

    /// Something came.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// When the peer last said anything.
    pub(super) fn last_heard(&self) -> Instant {
        self.heard
    }

    pub(super) fn is_silent(&self, now: Instant) -> bool {
        now >= self.heard + self.timing.silence
    }

    pub(super) fn handshake_is_over(&self, now: Instant) -> bool {
        now >= self.connected + self.timing.handshake
    }

    /// The heartbeat that is due, if one is.
    pub(super) fn beat(&mut self, time: Time) -> Option<Heartbeat> {
        if time.now < self.beat + self.timing.heartbeat {
            return None;
        }
        self.beat = time.now;
        let (echo_us, held_us) =
            self.peer.map_or((0, 0), |(echo_us, came)| (echo_us, micros(time.now.saturating_since(came))));
        // 0 stands for "none".
        Some(Heartbeat { wall: time.wall, clock_us: micros(time.now.elapsed()).max(1), echo_us, held_us })
    }

    /// Takes the peer's heartbeat.
    pub(super) fn pulse(&mut self, heartbeat: &Heartbeat, now: Instant) -> Pulse {
        self.peer = Some((heartbeat.clock_us, now));
        let round_trip = (heartbeat.echo_us > 0)
            .then(|| micros(now.elapsed()).checked_sub(heartbeat.echo_us)?.checked_sub(heartbeat.held_us))
            .flatten()
            .map(Duration::from_micros);
        Pulse { wall: heartbeat.wall, round_trip }
    }

    /// When to be called back: the next heartbeat once the handshake is complete, else its end.
    pub(super) fn deadline(&self, open: bool) -> Instant {
        let silence = self.heard + self.timing.silence;
        let other = if open { self.beat + self.timing.heartbeat } else { self.connected + self.timing.handshake };
        silence.min(other)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
