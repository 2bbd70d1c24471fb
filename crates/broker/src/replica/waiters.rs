//! Fetches that wait for a partition to grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a waiting fetch sleeps on. One waiter is registered with every partition of its fetch.
pub(crate) type Waiter = Arc<Notify>;

/// The waiters of one partition.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    count: AtomicUsize,
    waiting: Mutex<Vec<Waiter>>,
}

/// Keeps a waiter registered until dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    waiters: Arc<Waiters>,
    waiter: Waiter,
}

impl Waiters {
    /// Registers `waiter`. Register first, then look: what happens in between wakes it.
    pub(crate) fn register(waiters: &Arc<Self>, waiter: &Waiter) -> Registration {
        let mut waiting = waiters.waiting.lock();
        waiting.push(Arc::clone(waiter));
        waiters.count.store(waiting.len(), Ordering::SeqCst);
        drop(waiting);
        Registration { waiters: Arc::clone(waiters), waiter: Arc::clone(waiter) }
    }

    /// Wakes everything registered; each waiter looks again for itself.
    pub(crate) fn wake(&self) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for waiter in self.waiting.lock().iter() {
            waiter.notify_one();
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
    use super::*;

    #[tokio::test]
    async fn a_wake_between_registering_and_waiting_is_not_lost() {
        let waiters = Arc::new(Waiters::default());
        let waiter = Waiter::default();
        let registration = Waiters::register(&waiters, &waiter);
        waiters.wake();
        waiter.notified().await;
        drop(registration);
        assert_eq!(waiters.count.load(Ordering::SeqCst), 0);
        assert!(waiters.waiting.lock().is_empty());
    }
}
