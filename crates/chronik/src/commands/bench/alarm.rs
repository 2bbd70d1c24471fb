//! Waking at an instant, to some microseconds: the runtime's own timers are a millisecond coarse, as much as a broker takes
//! to answer.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// One timer of the system.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe, for types that do not own their descriptor; this one does"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Self { timer })
    }

    /// Returns when `wait` has passed. May be left and begun again with another one.
    pub(crate) async fn after(&mut self, wait: Duration) -> io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A wait of nothing would disarm the timer.
        let wait = wait.max(Duration::from_nanos(1));
        let value = Timespec::try_from(wait).map_err(|_| io::ErrorKind::InvalidInput)?;
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: zero, it_value: value })?;
        loop {
            let mut ready = self.timer.readable_mut().await?;
            let mut expirations = [0; 8];
            // Readiness may be left from a wait that was given up; then there is nothing to read.
            if let Ok(read) = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut expirations)?)) {
                return read.map(|_| ());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn it_never_wakes_early_also_after_a_wait_that_was_left() {
        let mut alarm = Alarm::new().unwrap();
        for _ in 0..20 {
            tokio::select! {
                biased;
                woken = alarm.after(Duration::from_micros(100)) => woken.unwrap(),
                () = tokio::task::yield_now() => {}
            }
            let begun = Instant::now();
            alarm.after(Duration::from_millis(2)).await.unwrap();
            assert!(begun.elapsed() >= Duration::from_millis(2));
        }
        alarm.after(Duration::ZERO).await.unwrap();
    }
}
