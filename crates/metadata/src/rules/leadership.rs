//! Who leads, in which generation and leader epoch.
//!
//! A generation is a count of promotions above the remainder of the node id by 256, so that nodes promoted at the same
//! time never choose the same one. A leader epoch is the generation above a count of the leader's starts, so that every
//! epoch of a later generation is above all those of an earlier one, however often its leader started. Both make an
//! epoch one leader's alone, which agreement of logs by their epochs rests on (KIP-101).

use chronik_model::{Generation, LeaderEpoch, NodeId};

use super::Decision;
use super::error::LeadershipError;
use super::registration::{Registering, registered};
use crate::command::Outcome;
use crate::image::Image;
use crate::leader::{Leadership, ReplicationMode};
use crate::record::Record;

/// Node ids that can be told apart.
pub(super) const NODES: i32 = 256;
/// Starts of one leader in one generation; one more begins another generation.
const STARTS: i32 = 1024;
/// The first generation that would have a leader epoch above the largest number.
const GENERATIONS: i32 = 1 << 21;

/// What tells a node's generations from those of others.
pub(super) fn tag(node_id: NodeId) -> i32 {
    node_id.get().rem_euclid(NODES)
}

pub(super) fn lead(
    image: &Image,
    node_id: NodeId,
    mode: ReplicationMode,
    is_replicated: bool,
    clean_stop: bool,
    above: Generation,
) -> Decision {
    let led_before = image.leader() == node_id && above <= image.generation();
    let current = Leadership { generation: image.generation(), leader_epoch: image.leader_epoch() };
    if image.leader() == NodeId::NONE && !is_replicated {
        return decided(Vec::new(), None);
    }
    if led_before && clean_stop && mode == image.mode() {
        return decided(Vec::new(), Some(current));
    }
    let next =
        if led_before { started_again(image, node_id) } else { first_in_next(node_id, image.generation().max(above)) };
    match next {
        Ok(leadership) => {
            // Who was in sync with this very node still is: an acknowledgement goes on meaning all of them.
            let keeps_isr = led_before && mode == ReplicationMode::Sync && image.mode() == ReplicationMode::Sync;
            decided(vec![led(node_id, leadership, mode, keeps_isr)], Some(leadership))
        }
        Err(error) => Decision { records: Vec::new(), outcome: Outcome::Leads(Err(error)) },
    }
}

pub(super) fn promote(image: &Image, broker: Registering, mode: ReplicationMode, above: Generation) -> Decision {
    let node_id = broker.node_id;
    match first_in_next(node_id, image.generation().max(above)) {
        Ok(leadership) => {
            // Behind the leader's record, which fences all others.
            let records = vec![led(node_id, leadership, mode, false), registered(image, broker).0];
            decided(records, Some(leadership))
        }
        Err(error) => Decision { records: Vec::new(), outcome: Outcome::Leads(Err(error)) },
    }
}

fn decided(records: Vec<Record>, leadership: Option<Leadership>) -> Decision {
    Decision { records, outcome: Outcome::Leads(Ok(leadership)) }
}

fn led(node_id: NodeId, leadership: Leadership, mode: ReplicationMode, keeps_isr: bool) -> Record {
    let Leadership { generation, leader_epoch } = leadership;
    Record::Led { generation, node_id, leader_epoch, mode, keeps_isr }
}

/// The next leader epoch in the same generation. A leader that started too often takes the next generation, as if it
/// were promoted: an epoch used twice would be worse.
fn started_again(image: &Image, node_id: NodeId) -> Result<Leadership, LeadershipError> {
    let leader_epoch = image.leader_epoch().get().saturating_add(1);
    if leader_epoch / STARTS == image.generation().get() {
        return Ok(Leadership { generation: image.generation(), leader_epoch: LeaderEpoch::new(leader_epoch) });
    }
    first_in_next(node_id, image.generation())
}

fn first_in_next(node_id: NodeId, highest: Generation) -> Result<Leadership, LeadershipError> {
    let count = highest.get().div_euclid(NODES).saturating_add(1);
    match count.checked_mul(NODES).map(|count| count + tag(node_id)) {
        Some(generation) if generation < GENERATIONS => Ok(Leadership {
            generation: Generation::new(generation),
            leader_epoch: LeaderEpoch::new(generation * STARTS),
        }),
        _ => Err(LeadershipError::GenerationsExhausted { highest }),
    }
}
