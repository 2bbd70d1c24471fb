//! Tells links which partitions have moved: each partition is listed once for each link, however often it moves, so a
//! link that is slow costs a place in a list and nothing more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::partition::Partition;

/// Links that may be subscribed at a time; a bit of a partition's mark each.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 64;

/// What all partitions of a broker push to.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// A bit for each subscription.
    subscribed: AtomicU64,
    lists: ArcSwap<Vec<Option<Arc<List>>>>,
    changing: Mutex<()>,
}

/// For which subscriptions a partition is listed.
#[derive(Debug, Default)]
pub(super) struct Mark(AtomicU64);

#[derive(Debug, Default)]
struct List {
    moved: Mutex<VecDeque<Arc<Partition>>>,
    wake: Notify,
}

/// A link's place in the feed until dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    feed: Arc<Feed>,
    list: Arc<List>,
    slot: usize,
}

impl Feed {
    /// Whether nobody would hear of anything.
    pub(super) fn is_empty(&self) -> bool {
        self.subscribed.load(Ordering::SeqCst) == 0
    }

    /// Lists a partition for every subscription that does not have it listed.
    pub(super) fn push(&self, partition: &Arc<Partition>) {
        let subscribed = self.subscribed.load(Ordering::SeqCst);
        if subscribed == 0 {
            return;
        }
        let missing = subscribed & !partition.mark().0.fetch_or(subscribed, Ordering::SeqCst);
        if missing == 0 {
            return;
        }
        let lists = self.lists.load();
        for (slot, list) in lists.iter().enumerate() {
            if let Some(list) = list.as_ref().filter(|_| missing & bit(slot) != 0) {
                list.moved.lock().push_back(Arc::clone(partition));
                list.wake.notify_one();
            }
        }
    }

    /// Takes a place; `None` where all are taken. Nothing is listed yet: see [`Subscription::list_all`].
    pub(crate) fn subscribe(self: &Arc<Self>) -> Option<Subscription> {
        let _one_at_a_time = self.changing.lock();
        let mut lists = Vec::clone(&self.lists.load());
        let slot = match lists.iter().position(Option::is_none) {
            Some(slot) => slot,
            None if lists.len() < SUBSCRIPTIONS_MAX => {
                lists.push(None);
                lists.len() - 1
            }
            None => return None,
        };
        let list = Arc::new(List::default());
        *lists.get_mut(slot)? = Some(Arc::clone(&list));
        self.lists.store(Arc::new(lists));
        self.subscribed.fetch_or(bit(slot), Ordering::SeqCst);
        Some(Subscription { feed: Arc::clone(self), list, slot })
    }
}

const fn bit(slot: usize) -> u64 {
    1 << slot
}

impl Subscription {
    /// Lists these partitions, whatever was listed for whoever had the place before.
    pub(crate) fn list_all(&self, partitions: impl IntoIterator<Item = Arc<Partition>>) {
        let mut moved = self.list.moved.lock();
        for partition in partitions {
            partition.mark().0.fetch_or(bit(self.slot), Ordering::SeqCst);
            moved.push_back(partition);
        }
        self.list.wake.notify_one();
    }

    /// The next partition that has moved. Whatever moves from here on is listed again.
    pub(crate) fn next(&self) -> Option<Arc<Partition>> {
        let partition = self.list.moved.lock().pop_front()?;
        partition.mark().0.fetch_and(!bit(self.slot), Ordering::SeqCst);
        Some(partition)
    }

    /// More may be listed than was looked at.
    pub(crate) fn again(&self) {
        self.list.wake.notify_one();
    }

    /// Returns when something may be listed. May be cancelled.
    pub(crate) async fn moved(&self) {
        self.list.wake.notified().await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let _one_at_a_time = self.feed.changing.lock();
        self.feed.subscribed.fetch_and(!bit(self.slot), Ordering::SeqCst);
        let mut lists = Vec::clone(&self.feed.lists.load());
        if let Some(list) = lists.get_mut(self.slot) {
            *list = None;
        }
        self.feed.lists.store(Arc::new(lists));
        // Whoever gets the place next would else never hear of what is still listed here.
        for partition in self.list.moved.lock().drain(..) {
            partition.mark().0.fetch_and(!bit(self.slot), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests;
