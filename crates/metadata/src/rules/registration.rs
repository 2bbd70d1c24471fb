//! Registers brokers; each registration has a higher epoch than every one before.

use chronik_model::NodeId;

use super::Decision;
use crate::command::Outcome;
use crate::image::Image;
use crate::record::Record;

pub(super) fn register(image: &Image, node_id: NodeId, host: String, port: u16, rack: Option<String>) -> Decision {
    let highest = image.brokers().values().map(|broker| broker.epoch).max().unwrap_or(-1);
    let broker_epoch = highest.saturating_add(1).max(image.offset().get());
    let record = Record::BrokerRegistered { node_id, host, port, rack, broker_epoch };
    Decision { records: vec![record], outcome: Outcome::BrokerRegistered { broker_epoch } }
}
