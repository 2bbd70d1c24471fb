//! Producer ids for idempotent producers, handed out of blocks that the controller has recorded, so that no id is
//! given twice, also not after a crash (KIP-730).

use chronik_metadata::{Command, ControllerClient, Outcome};
use chronik_wire::ErrorCode;
use tokio::sync::Mutex;

/// The rest of the current block.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    block: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    /// Hands nothing more out of the current block.
    pub(crate) async fn forget(&self) {
        *self.block.lock().await = 0..0;
    }

    /// The next id; every thousandth asks the controller for a block.
    pub(crate) async fn next(&self, controller: &dyn ControllerClient) -> Result<i64, ErrorCode> {
        // An async lock: while one request fetches a block the others wait for it instead of fetching more.
        let mut block = self.block.lock().await;
        if let Some(id) = block.next() {
            return Ok(id);
        }
        match controller.submit(Command::AllocateProducerIds).await {
            Ok(Outcome::ProducerIds(fresh)) => {
                *block = fresh;
                block.next().ok_or(ErrorCode::UnknownServerError)
            }
            Ok(other) => {
                tracing::error!(?other, "unexpected outcome of a producer id allocation");
                Err(ErrorCode::UnknownServerError)
            }
            Err(error) => {
                tracing::warn!(%error, "no producer ids from the controller");
                Err(ErrorCode::CoordinatorLoadInProgress)
            }
        }
    }
}
