//! One bound for the memory of all requests in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes per semaphore permit: coarse, so that counting costs nothing per small request.
const UNIT_BYTES: usize = 4096;

/// A pool of bytes that frames in flight are charged to (`queued.max.request.bytes`). Waiting for room is the
/// back-pressure: the connection is not read meanwhile.
#[derive(Debug)]
pub struct MemoryBudget {
    units: Arc<Semaphore>,
    units_max: u32,
    waits: AtomicU64,
}

/// Bytes held from a [`MemoryBudget`]; they go back when this is dropped.
#[derive(Debug, Default)]
pub struct MemoryPermit {
    held: Option<OwnedSemaphorePermit>,
}

impl MemoryBudget {
    /// A budget of `bytes`, rounded up to whole pages.
    pub fn new(bytes: usize) -> Arc<Self> {
        let units_max = u32::try_from(bytes.div_ceil(UNIT_BYTES).max(1)).unwrap_or(u32::MAX);
        let units_max = units_max.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Arc::new(Self { units: Arc::new(Semaphore::new(units_max as usize)), units_max, waits: AtomicU64::new(0) })
    }

    /// Adds room for `bytes` to `permit`, waiting until there is some. A request larger than the whole budget is
    /// charged as the whole budget, so that it passes alone instead of never.
    pub async fn grow(&self, permit: &mut MemoryPermit, bytes: usize) {
        let held = permit.held.as_ref().map_or(0, |p| u32::try_from(p.num_permits()).unwrap_or(u32::MAX));
        let wanted = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let wanted = wanted.min(self.units_max.saturating_sub(held));
        if wanted == 0 {
            return;
        }
        let more = match Arc::clone(&self.units).try_acquire_many_owned(wanted) {
            Ok(more) => more,
            Err(_) => {
                self.waits.fetch_add(1, Ordering::Relaxed);
                // The semaphore is never closed; were it, going on uncharged would be the only answer.
                match Arc::clone(&self.units).acquire_many_owned(wanted).await {
                    Ok(more) => more,
                    Err(_) => return,
                }
            }
        };
        match &mut permit.held {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
    }

    /// Bytes charged at the moment.
    pub fn bytes_in_use(&self) -> usize {
        (self.units_max as usize).saturating_sub(self.units.available_permits()) * UNIT_BYTES
    }

    /// How often a connection had to wait for room.
    pub fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_back_when_the_permit_is_dropped() {
        let budget = MemoryBudget::new(64 * 1024);
        let mut permit = MemoryPermit::default();
        budget.grow(&mut permit, 10_000).await;
        budget.grow(&mut permit, 10_000).await;
        assert_eq!(budget.bytes_in_use(), 6 * UNIT_BYTES);
        drop(permit);
        assert_eq!(budget.bytes_in_use(), 0);
    }

    #[tokio::test]
    async fn a_request_above_the_whole_budget_passes_alone() {
        let budget = MemoryBudget::new(8192);
        let mut permit = MemoryPermit::default();
        budget.grow(&mut permit, 1 << 30).await;
        assert_eq!(budget.bytes_in_use(), 8192);
        let mut second = MemoryPermit::default();
        let waiting = budget.grow(&mut second, 1);
        tokio::pin!(waiting);
        assert!(futures_pending(&mut waiting).await, "the second request waits for room");
        drop(permit);
        waiting.await;
        assert_eq!(budget.bytes_in_use(), UNIT_BYTES);
    }

    async fn futures_pending<F: Future<Output = ()> + Unpin>(future: &mut F) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())).await
    }
}
