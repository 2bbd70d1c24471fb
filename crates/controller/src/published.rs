//! What others see of the controller without asking its thread: image, role, and the journal as far as it counts.
//!
//! Image and journal change in one step, so that whoever reads a snapshot or a part of the journal gets what its status
//! says.

use std::sync::Arc;

use arc_swap::ArcSwap;
use chronik_log::LogReader;
use chronik_metadata::{
    Image, JournalBatches, JournalPosition, JournalReadError, JournalSnapshot, JournalStatus, Role,
};
use chronik_model::{Generation, NodeId, Offset, Timestamp};
use tokio::sync::watch;

use crate::journal::Journal;
use crate::snapshot;

/// What the handle and the worker both see.
pub(crate) struct Shared {
    pub(crate) node_id: NodeId,
    pub(crate) clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    published: ArcSwap<Published>,
    role: ArcSwap<Role>,
    /// The version of the status that is published, told after it is.
    version: watch::Sender<u64>,
}

struct Published {
    image: Arc<Image>,
    status: Arc<JournalStatus>,
    reader: LogReader,
}

impl Shared {
    pub(crate) fn new(
        node_id: NodeId,
        clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
        image: Image,
        journal: &Journal,
        generation: Generation,
        role: Role,
    ) -> Self {
        let published = Published::new(Arc::new(image), journal, generation, 0);
        Self {
            node_id,
            clock,
            published: ArcSwap::from_pointee(published),
            role: ArcSwap::from_pointee(role),
            version: watch::Sender::new(0),
        }
    }

    /// Shows an image that everything of the journal is in, with the highest generation known. Only the worker does.
    pub(crate) fn publish(&self, image: Arc<Image>, journal: &Journal, generation: Generation) {
        let version = self.published.load().status.version.saturating_add(1);
        self.published.store(Arc::new(Published::new(image, journal, generation, version)));
        self.version.send_replace(version);
    }

    pub(crate) fn image(&self) -> Arc<Image> {
        Arc::clone(&self.published.load().image)
    }

    pub(crate) fn status(&self) -> Arc<JournalStatus> {
        Arc::clone(&self.published.load().status)
    }

    /// The status once its version is another one.
    pub(crate) async fn moved(&self, version: u64) -> Arc<JournalStatus> {
        let mut current = self.version.subscribe();
        // The sender lives as long as this does.
        let _ = current.wait_for(|current| *current != version).await;
        self.status()
    }

    pub(crate) fn role(&self) -> Arc<Role> {
        self.role.load_full()
    }

    pub(crate) fn set_role(&self, role: Role) {
        self.role.store(Arc::new(role));
    }

    pub(crate) fn read_journal(&self, from: Offset, bytes_max: usize) -> Result<JournalBatches, JournalReadError> {
        let published = self.published.load_full();
        let (start, end) = (published.status.start, published.status.position.end);
        if from < start || from > end {
            return Err(JournalReadError::OutOfRange { offset: from, start, end });
        }
        let found = published.reader.read_replica(from, end, bytes_max).map_err(|error| error.to_string());
        let read = found.and_then(|found| {
            let bytes = found.slice.read().map_err(|error| error.to_string())?;
            Ok(JournalBatches { base: from, end: found.end, bytes })
        });
        read.map_err(|reason| {
            // A compaction or a leader's image came in between.
            let now = self.status();
            let position = &now.position;
            if now.version != published.status.version && (from < now.start || from > position.end) {
                return JournalReadError::OutOfRange { offset: from, start: now.start, end: position.end };
            }
            JournalReadError::Unreadable(reason.into())
        })
    }

    pub(crate) fn snapshot(&self, part_bytes_max: usize) -> Result<JournalSnapshot, JournalReadError> {
        let published = self.published.load_full();
        let image = &published.image;
        let generations = snapshot::generations_of(image, &published.status.position.generations);
        let bytes = snapshot::encode(image, &generations, (self.clock)())
            .map_err(|error| JournalReadError::Unreadable(error.to_string().into()))?;
        let parts = bytes.chunks(part_bytes_max.max(1)).map(<[u8]>::to_vec).collect();
        Ok(JournalSnapshot { position: JournalPosition { end: image.offset(), generations }, parts })
    }
}

impl Published {
    fn new(image: Arc<Image>, journal: &Journal, generation: Generation, version: u64) -> Self {
        let status = JournalStatus { version, start: journal.start(), position: journal.position(), generation };
        Self { image, status: Arc::new(status), reader: journal.reader() }
    }
}
