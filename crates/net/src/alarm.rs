//! A deadline that moves with every request, on a timer that moves seldom.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// One timer for deadlines that mostly move further away before they come. It is set once, and set anew when it rings too early
/// or would ring too late, so that a request that is answered in time costs no work on the runtime's timers.
#[derive(Debug, Default)]
pub struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready once `deadline` has passed. The task is woken then, and maybe before.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    async fn rings(alarm: &mut Alarm, deadline: Instant) -> Instant {
        poll_fn(|cx| alarm.poll(cx, deadline)).await;
        Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn rings_at_the_deadline_wherever_it_was_set_before() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        for deadline in [at(100), at(200), at(1_000)] {
            assert_eq!(rings(&mut alarm, deadline).await, deadline);
        }
        // Set for later, then moved to before that, then to after it.
        for deadline in [at(9_000), at(2_000), at(5_000)] {
            let _ = poll_fn(|cx| Poll::Ready(alarm.poll(cx, deadline))).await;
        }
        assert_eq!(rings(&mut alarm, at(3_000)).await, at(3_000));
        assert_eq!(rings(&mut alarm, at(4_000)).await, at(4_000));
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_that_has_passed_is_ready_at_once() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        assert_eq!(rings(&mut alarm, start).await, start);
        let _ = poll_fn(|cx| Poll::Ready(alarm.poll(cx, start + Duration::from_secs(60)))).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(rings(&mut alarm, start).await, start + Duration::from_secs(1));
    }
}
