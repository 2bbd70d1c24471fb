//! Turns for look-ups of offsets by time. They may read and decompress whole batches, so they run off the threads that
//! serve connections, and few at once.
//!
//! A turn ends with its work, not with the request: a client that asks and leaves makes no room for the next one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

/// Look-ups that run at once.
const TURNS_MAX: usize = 4;
/// What a turn may take; clients wait no longer by default (`request.timeout.ms`).
const TURN_MAX: Duration = Duration::from_secs(30);

/// The turns of one broker.
#[derive(Debug)]
pub(crate) struct LookUps {
    turns: Arc<Semaphore>,
}

/// One turn, held by its work.
pub(crate) struct Turn<T> {
    answer: oneshot::Sender<T>,
    ends: Instant,
    /// Goes back when the work has ended.
    _place: Option<OwnedSemaphorePermit>,
}

impl Default for LookUps {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(TURNS_MAX)) }
    }
}

impl LookUps {
    /// Does the work when it is its turn; `None` where it panicked.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Turn<T>) -> T + Send + 'static) -> Option<T> {
        // The semaphore is never closed; were it, going on without a place would be the only answer.
        let place = Arc::clone(&self.turns).acquire_owned().await.ok();
        let (answer, answered) = oneshot::channel();
        let turn = Turn { answer, ends: Instant::now() + TURN_MAX, _place: place };
        tokio::task::spawn_blocking(move || {
            let found = work(&turn);
            // A receiver that is gone belongs to a client that is gone.
            let _ = turn.answer.send(found);
        });
        answered.await.ok()
    }
}

impl<T> Turn<T> {
    /// Whether to stop, because nobody waits any more or it has taken too long. Asked between two steps of the work.
    pub(crate) fn is_over(&self) -> bool {
        self.answer.is_closed() || Instant::now() >= self.ends
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// One look-up that has begun and goes on until it is told to end; its client has left.
    async fn abandoned(look_ups: &Arc<LookUps>, until: impl FnOnce(&Turn<()>) + Send + 'static) {
        let (began, begun) = oneshot::channel();
        let asked = Arc::clone(look_ups);
        let client = tokio::spawn(async move {
            asked
                .run(move |turn| {
                    began.send(()).unwrap();
                    until(turn);
                })
                .await
        });
        begun.await.unwrap();
        client.abort();
        assert!(client.await.unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn a_client_that_leaves_makes_no_room_for_another_look_up() {
        let look_ups = Arc::new(LookUps::default());
        let (end, ended) = mpsc::channel::<()>();
        let ended = Arc::new(std::sync::Mutex::new(ended));
        for taken in 1..=TURNS_MAX {
            let ended = Arc::clone(&ended);
            abandoned(&look_ups, move |_| assert!(ended.lock().unwrap().recv().is_err())).await;
            assert_eq!(look_ups.turns.available_permits(), TURNS_MAX - taken);
        }
        drop(end);
        assert_eq!(look_ups.run(|_| 7).await, Some(7));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_told_so() {
        let look_ups = Arc::new(LookUps::default());
        let (end, ended) = oneshot::channel();
        abandoned(&look_ups, |turn| {
            while !turn.is_over() {
                std::thread::yield_now();
            }
            end.send(()).unwrap();
        })
        .await;
        tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap().unwrap();
    }

    #[test]
    fn a_turn_is_over_when_its_time_is() {
        let (answer, _waits) = oneshot::channel::<()>();
        let mut turn = Turn { answer, ends: Instant::now() + TURN_MAX, _place: None };
        assert!(!turn.is_over());
        turn.ends = Instant::now();
        assert!(turn.is_over());
    }
}
