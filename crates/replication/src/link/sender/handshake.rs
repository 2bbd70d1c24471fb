//! Who is talked to: secret, version, cluster, generation, node id; and whose word makes this node step down.

use std::sync::Arc;

use chronik_model::NodeId;

use super::{Effect, Phase, Sender};
use crate::frame::VERSION;
use crate::link::auth::Side;
use crate::link::clock::Clock;
use crate::link::{Reason, Time};
use crate::message::{Challenge, Fenced, Frame, Hello, HelloAck, NONCE_BYTES, Welcome};

impl Sender {
    pub(super) fn greet(&mut self, nonce: [u8; NONCE_BYTES], time: Time, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Idle {
            return;
        }
        self.clock = Clock::new(self.config.timing, time.now);
        let hello = Hello {
            version_min: VERSION,
            version_max: VERSION,
            cluster_id: self.config.cluster_id,
            node_id: self.config.node_id,
            leader_id: self.config.leader_id,
            generation: self.config.generation,
            features: 0,
            advertised: Arc::clone(&self.config.advertised),
            nonce,
        };
        effects.push(Effect::Send(Frame::Hello(hello.clone())));
        self.phase = Phase::Greeting(hello);
    }

    pub(super) fn prove(&mut self, hello: &Hello, challenge: &Challenge, effects: &mut Vec<Effect>) {
        let Some(secret) = &self.config.secret else {
            return self.refuse(Reason::NotAuthenticated, "the receiver asks for a secret and none is set", effects);
        };
        if !secret.verify(Side::Receiver, hello, &challenge.nonce, &challenge.proof) {
            return self.refuse(Reason::NotAuthenticated, "the receiver has another secret", effects);
        }
        let proof = secret.prove(Side::Sender, hello, &challenge.nonce);
        effects.push(Effect::Send(Frame::Proof(proof)));
        self.phase = Phase::Proven;
    }

    pub(super) fn greeted(&mut self, ack: HelloAck, effects: &mut Vec<Effect>) {
        if ack.version != VERSION {
            return self.refuse(Reason::UnsupportedVersion, "the receiver chose another version", effects);
        }
        if ack.cluster_id.is_some_and(|cluster_id| cluster_id != self.config.cluster_id) {
            return self.refuse(Reason::WrongCluster, "the receiver belongs to another cluster", effects);
        }
        if ack.node_id == self.config.node_id {
            return self.refuse(Reason::SameNode, "the receiver has this node's id", effects);
        }
        if ack.generation > self.config.generation {
            let fenced = Fenced { generation: ack.generation, leader_id: NodeId::NONE, advertised: "".into() };
            return self.fenced(fenced, effects);
        }
        self.phase = Phase::Naming;
        let node_id = ack.node_id;
        self.follower = Some(ack);
        if node_id == NodeId::NONE {
            effects.push(Effect::AssignNodeId);
        } else {
            self.welcome(node_id, effects);
        }
    }

    pub(super) fn welcome(&mut self, node_id: NodeId, effects: &mut Vec<Effect>) {
        let Some(follower) = &self.follower else { return };
        effects.push(Effect::Send(Frame::Welcome(Welcome { node_id })));
        let (advertised, rack) = (Arc::clone(&follower.advertised), Arc::clone(&follower.rack));
        effects.push(Effect::Established { node_id, advertised, rack, features: 0 });
        self.journal.begin(&follower.journal, effects);
        self.phase = Phase::Open;
    }

    pub(super) fn fenced(&mut self, fenced: Fenced, effects: &mut Vec<Effect>) {
        let trusted = self.config.secret.is_none() || !matches!(self.phase, Phase::Idle | Phase::Greeting(_));
        if !trusted || fenced.generation <= self.config.generation {
            // Nobody steps down for a stranger, or for a generation that is not higher.
            return self.refuse(Reason::Unexpected, "fenced without a reason", effects);
        }
        let detail = format!("generation {} has replaced {}", fenced.generation, self.config.generation);
        effects.push(Effect::Fenced(fenced));
        self.close(Reason::Fenced, detail.into(), true, effects);
    }
}
