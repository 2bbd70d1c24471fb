//! Brokers that registered.

use chronik_model::NodeId;

use crate::record::Record;

/// A broker as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its number.
    pub node_id: NodeId,
    /// Address that clients are told.
    pub host: String,
    /// Port that clients are told.
    pub port: u16,
    /// Its rack, where it has one.
    pub rack: Option<String>,
    /// Raised at every registration; fences what an earlier run still says.
    pub epoch: i64,
    /// Whether its connection is gone, or not there yet.
    pub is_fenced: bool,
}

impl Broker {
    pub(super) fn to_records(&self) -> impl Iterator<Item = Record> {
        let registered = Record::BrokerRegistered {
            node_id: self.node_id,
            host: self.host.clone(),
            port: self.port,
            rack: self.rack.clone(),
            broker_epoch: self.epoch,
        };
        let fenced = self.is_fenced.then_some(Record::BrokerFenced { node_id: self.node_id });
        std::iter::once(registered).chain(fenced)
    }
}
