//! Who may be followed: versions, secret, cluster, generation and leader, node ids. What counts is what this node knows when
//! the handshake ends.

use std::sync::Arc;

use chronik_model::NodeId;

use super::{Accepted, Effect, Phase, Receiver, reject};
use crate::frame::VERSION;
use crate::link::Reason;
use crate::link::auth::Side;
use crate::message::{Challenge, Fenced, Frame, Hello, HelloAck, NONCE_BYTES, PROOF_BYTES, Welcome};

impl Receiver {
    pub(super) fn greeted(&mut self, hello: Hello, nonce: [u8; NONCE_BYTES], effects: &mut Vec<Effect>) -> Accepted {
        if !(hello.version_min..=hello.version_max).contains(&VERSION) {
            let detail =
                format!("versions {} to {} are spoken there, {VERSION} here", hello.version_min, hello.version_max);
            return reject(Reason::UnsupportedVersion, detail);
        }
        match &self.config.secret {
            Some(secret) => {
                let proof = secret.prove(Side::Receiver, &hello, &nonce);
                effects.push(Effect::Send(Frame::Challenge(Challenge { nonce, proof })));
                self.phase = Phase::Challenged(hello, nonce);
                Ok(())
            }
            None => self.agree(hello, effects),
        }
    }

    pub(super) fn proven(
        &mut self,
        hello: Hello,
        nonce: [u8; NONCE_BYTES],
        proof: [u8; PROOF_BYTES],
        effects: &mut Vec<Effect>,
    ) -> Accepted {
        let secret = self.config.secret.as_ref();
        if secret.is_some_and(|secret| secret.verify(Side::Sender, &hello, &nonce, &proof)) {
            return self.agree(hello, effects);
        }
        reject(Reason::NotAuthenticated, "the sender has another secret")
    }

    /// Whether to follow. What is told of this node is told only to a sender that has proven itself.
    fn agree(&mut self, hello: Hello, effects: &mut Vec<Effect>) -> Accepted {
        let config = &self.config;
        if config.cluster_id.is_some_and(|cluster_id| cluster_id != hello.cluster_id) {
            return reject(Reason::WrongCluster, "this node belongs to another cluster");
        }
        if hello.node_id == config.node_id || hello.node_id < NodeId::new(0) {
            return reject(Reason::SameNode, format!("the sender has node id {}", hello.node_id));
        }
        if hello.generation < config.generation {
            self.fence(self.known(), effects);
            return Ok(());
        }
        if config.leads {
            if hello.generation > config.generation {
                let Hello { generation, node_id, leader_id, advertised, .. } = hello;
                // One that feeds others does not know where its own leader is reached.
                let advertised = if node_id == leader_id { advertised } else { "".into() };
                effects.push(Effect::Superseded(Fenced { generation, leader_id, advertised }));
            }
            return reject(Reason::IsLeader, format!("this node leads in generation {}", self.config.generation));
        }
        self.one_leader(&hello)?;
        let config = &self.config;
        effects.push(Effect::Send(Frame::HelloAck(HelloAck {
            version: VERSION,
            cluster_id: config.cluster_id,
            node_id: config.node_id,
            generation: config.generation,
            features: 0,
            advertised: Arc::clone(&config.advertised),
            rack: Arc::clone(&config.rack),
            journal: config.journal.clone(),
        })));
        self.phase = Phase::Agreed(hello);
        Ok(())
    }

    pub(super) fn welcomed(&mut self, hello: &Hello, welcome: Welcome, effects: &mut Vec<Effect>) -> Accepted {
        // Another connection may have brought news since the hello.
        if hello.generation < self.config.generation {
            self.fence(self.known(), effects);
            return Ok(());
        }
        self.one_leader(hello)?;
        let Welcome { node_id } = welcome;
        let fits = self.config.node_id == NodeId::NONE || self.config.node_id == node_id;
        if !fits || node_id < NodeId::new(0) || node_id == hello.node_id {
            return reject(Reason::Malformed, format!("welcomed as node {node_id}"));
        }
        if self.config.node_id != node_id || self.config.cluster_id.is_none() {
            effects.push(Effect::Adopt { cluster_id: hello.cluster_id, node_id });
            (self.config.node_id, self.config.cluster_id) = (node_id, Some(hello.cluster_id));
        }
        self.config.generation = hello.generation;
        self.config.leader_id = hello.leader_id;
        self.config.leader_advertised =
            if hello.node_id == hello.leader_id { Arc::clone(&hello.advertised) } else { "".into() };
        effects.push(Effect::Established {
            node_id: hello.node_id,
            leader_id: hello.leader_id,
            generation: hello.generation,
            advertised: Arc::clone(&hello.advertised),
            features: 0,
        });
        self.phase = Phase::Open;
        Ok(())
    }

    /// There is one leader in a generation.
    fn one_leader(&self, hello: &Hello) -> Accepted {
        let (known, generation) = (self.config.leader_id, self.config.generation);
        if hello.generation == generation && known != NodeId::NONE && known != hello.leader_id {
            let detail = format!("node {known} leads in generation {generation}, not {}", hello.leader_id);
            return reject(Reason::OtherLeader, detail);
        }
        Ok(())
    }

    /// Who leads, as far as this node knows.
    fn known(&self) -> Fenced {
        Fenced {
            generation: self.config.generation,
            leader_id: self.config.leader_id,
            advertised: Arc::clone(&self.config.leader_advertised),
        }
    }

    pub(super) fn learned(&mut self, known: Fenced, effects: &mut Vec<Effect>) {
        if known.generation < self.config.generation {
            return;
        }
        let (generation, leader_id) = (self.config.generation, self.config.leader_id);
        let is_old = known.generation > generation;
        let is_other = !is_old && leader_id != NodeId::NONE && known.leader_id != leader_id;
        // During the handshake the welcome is what decides: what counts then is what is known then.
        if self.phase == Phase::Open && is_old {
            return self.fence(known, effects);
        }
        if self.phase == Phase::Open && is_other && known.leader_id != NodeId::NONE {
            let detail = format!("node {} leads in generation {generation}, not {leader_id}", known.leader_id);
            return self.refuse(Reason::OtherLeader, detail.into(), effects);
        }
        if self.phase != Phase::Open {
            self.config.generation = known.generation;
            self.config.leader_id = known.leader_id;
            self.config.leader_advertised = known.advertised;
        }
    }
}
