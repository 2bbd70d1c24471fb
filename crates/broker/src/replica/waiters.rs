//! Fetches that wait for a partition to grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// What a waiting fetch sleeps on. One waiter is registered with every partition of its fetch, and a connection has one
/// for all its fetches.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    woken: AtomicBool,
    task: Mutex<Option<Waker>>,
}

/// The waiters of one partition.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// How often the partition has changed.
    changes: AtomicU64,
    count: AtomicUsize,
    waiting: Mutex<Vec<Arc<Waiter>>>,
}

/// Keeps a waiter registered until dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    waiters: Arc<Waiters>,
    waiter: Arc<Waiter>,
}

impl Waiter {
    /// Ready once for all wakes since it was ready last.
    pub(crate) fn poll_woken(&self, cx: &Context<'_>) -> Poll<()> {
        if self.take() {
            return Poll::Ready(());
        }
        {
            let mut task = self.task.lock();
            if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
                *task = Some(cx.waker().clone());
            }
        }
        // Whoever came before the task was noted did not wake it.
        if self.take() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn take(&self) -> bool {
        self.woken.load(Ordering::SeqCst) && self.woken.swap(false, Ordering::SeqCst)
    }

    fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst)
            && let Some(task) = &*self.task.lock()
        {
            task.wake_by_ref();
        }
    }
}

impl Waiters {
    /// Registers `waiter`. Register first, then look: what happens in between wakes it.
    pub(crate) fn register(waiters: &Arc<Self>, waiter: &Arc<Waiter>) -> Registration {
        let mut waiting = waiters.waiting.lock();
        waiting.push(Arc::clone(waiter));
        waiters.count.store(waiting.len(), Ordering::SeqCst);
        drop(waiting);
        Registration { waiters: Arc::clone(waiters), waiter: Arc::clone(waiter) }
    }

    /// Rises with every change. Whoever looked, registers and then finds the same has missed nothing.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Wakes everything registered, once the partition has changed; each waiter looks again for itself.
    pub(crate) fn wake(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for waiter in self.waiting.lock().iter() {
            waiter.wake();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut waiting = self.waiters.waiting.lock();
        if let Some(at) = waiting.iter().position(|waiter| Arc::ptr_eq(waiter, &self.waiter)) {
            waiting.swap_remove(at);
        }
        self.waiters.count.store(waiting.len(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_wake_between_registering_and_waiting_is_not_lost() {
        let waiters = Arc::new(Waiters::default());
        let waiter = Arc::new(Waiter::default());
        let registration = Waiters::register(&waiters, &waiter);
        waiters.wake();
        poll_fn(|cx| waiter.poll_woken(cx)).await;
        drop(registration);
        assert_eq!(waiters.count.load(Ordering::SeqCst), 0);
        assert!(waiters.waiting.lock().is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_round_of_wakes_from_another_thread_is_heard() {
        let waiters = Arc::new(Waiters::default());
        let waiter = Arc::new(Waiter::default());
        let _registration = Waiters::register(&waiters, &waiter);
        let rounds = Arc::new(AtomicUsize::new(0));
        let waking = tokio::task::spawn_blocking({
            let (waiters, rounds) = (Arc::clone(&waiters), Arc::clone(&rounds));
            move || {
                for round in 1..=20_000 {
                    rounds.store(round, Ordering::SeqCst);
                    waiters.wake();
                    while round.is_multiple_of(4) && rounds.load(Ordering::SeqCst) != 0 {
                        std::thread::yield_now();
                    }
                }
            }
        });
        // Every fourth round is waited for by the other side, so that a lost wake would hold both for ever.
        let hearing = async {
            loop {
                poll_fn(|cx| waiter.poll_woken(cx)).await;
                let round = rounds.load(Ordering::SeqCst);
                if round.is_multiple_of(4) {
                    rounds.store(0, Ordering::SeqCst);
                }
                if round == 20_000 {
                    break;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), hearing).await.unwrap();
        waking.await.unwrap();
    }
}
