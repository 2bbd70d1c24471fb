//! Hands out producer ids in blocks (KIP-730).

use super::Decision;
use crate::command::Outcome;
use crate::image::Image;
use crate::record::Record;

/// Producer ids handed out at once.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

pub(super) fn allocate(image: &Image) -> Decision {
    let first = image.next_producer_id();
    // After i64::MAX ids there is an empty block, which no broker can use.
    let next = first.saturating_add(PRODUCER_ID_BLOCK);
    Decision { records: vec![Record::ProducerIdsAllocated { next }], outcome: Outcome::ProducerIds(first..next) }
}
