//! Every task and thread of the broker is started here, with a name and what its end means.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::RuntimeFlavor;
use tokio::sync::watch;

/// Tells tasks to stop; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown {
    /// What `receiver` has, for whoever looks with every request.
    is_raised: Arc<AtomicBool>,
    receiver: watch::Receiver<bool>,
}

/// Raises the [`Shutdown`] of all tasks.
#[derive(Debug)]
pub(crate) struct ShutdownSignal {
    is_raised: Arc<AtomicBool>,
    sender: watch::Sender<bool>,
}

/// A signal and what listens to it.
pub(crate) fn shutdown() -> (ShutdownSignal, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    let is_raised = Arc::<AtomicBool>::default();
    (ShutdownSignal { is_raised: Arc::clone(&is_raised), sender }, Shutdown { is_raised, receiver })
}

impl ShutdownSignal {
    /// Tells every task to stop.
    pub(crate) fn raise(&self) {
        self.is_raised.store(true, Ordering::SeqCst);
        self.sender.send_replace(true);
    }
}

impl Drop for ShutdownSignal {
    fn drop(&mut self) {
        // Without its owner nobody could raise it any more.
        self.raise();
    }
}

impl Shutdown {
    /// Whether the tasks are to stop.
    pub(crate) fn is_raised(&self) -> bool {
        self.is_raised.load(Ordering::SeqCst)
    }

    /// Returns when the tasks are to stop. May be cancelled.
    pub(crate) async fn raised(&mut self) {
        // An error means that the signal's owner is gone, which is a stop as well.
        let _ = self.receiver.wait_for(|raised| *raised).await;
    }
}

/// Starts a task that lives as long as the broker. Its panic is a defect that is said loudly.
pub(crate) fn spawn_essential(name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
    let task = tokio::spawn(future);
    tokio::spawn(async move {
        if let Err(error) = task.await
            && error.is_panic()
        {
            tracing::error!(task = name, %error, "a task that the broker needs has panicked");
        }
    });
}

/// Starts a task that ends with the shutdown and is waited for then. Its panic is a defect that is said loudly.
pub(crate) fn spawn_awaited(
    name: &'static str,
    future: impl Future<Output = ()> + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    let task = tokio::spawn(future);
    tokio::spawn(async move {
        if let Err(error) = task.await
            && error.is_panic()
        {
            tracing::error!(task = name, %error, "a task that the broker needs has panicked");
        }
    })
}

/// Does work that may take long without holding up what else the thread has to do. On a runtime of one thread there is no
/// other thread to do it, and it is done as it is.
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Starts a thread that lives as long as the broker.
pub(crate) fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}
