//! The one thing the coordinator reads of what consumers tell each other: the topics of a subscription.
//!
//! Every version of `ConsumerProtocolSubscription` begins with the topics, so only those are read and the rest is left
//! to the clients.

use std::collections::BTreeSet;

use super::field::{CodecError, Reader};

/// The fewest bytes one topic name takes.
const TOPIC_BYTES_MIN: usize = 2;

/// The topics of a consumer's subscription.
///
/// # Errors
/// The bytes are not a subscription.
pub fn subscribed_topics(subscription: &[u8]) -> Result<BTreeSet<String>, CodecError> {
    let mut reader = Reader::new(subscription);
    let version = reader.i16("version")?;
    if version < 0 {
        return Err(CodecError::UnknownVersion { record: "ConsumerProtocolSubscription", version });
    }
    let count = reader.count("topics", TOPIC_BYTES_MIN)?;
    (0..count).map(|_| reader.string("topic")).collect()
}
