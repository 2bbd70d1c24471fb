//! Proof of a shared secret without sending it (HMAC-SHA-256 over both nonces and the hello).
//!
//! The two directions use different labels, so that neither side's proof can be sent back as the other's. What follows
//! the handshake is not protected by it: against somebody who changes bytes on the way there is TLS.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::frame;
use crate::message::{Frame, Hello, NONCE_BYTES, PROOF_BYTES};

/// A secret that both ends of a link know. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Wraps the secret's bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    fn mac(&self, label: &[u8], hello: &Hello, nonce: &[u8; NONCE_BYTES]) -> Option<Hmac<Sha256>> {
        // A key of any length fits; an error here would be one of the crate's.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(label);
        // The hello holds the dialling side's nonce, and binds the proof to what that side says of itself.
        mac.update(&frame::to_bytes(&Frame::Hello(hello.clone())));
        mac.update(nonce);
        Some(mac)
    }

    pub(super) fn prove(&self, side: Side, hello: &Hello, nonce: &[u8; NONCE_BYTES]) -> [u8; PROOF_BYTES] {
        let proof = self.mac(side.label(), hello, nonce).map(|mac| mac.finalize().into_bytes().into());
        proof.unwrap_or([0; PROOF_BYTES])
    }

    /// Whether a proof is right; takes the same time for every wrong one.
    pub(super) fn verify(&self, side: Side, hello: &Hello, nonce: &[u8; NONCE_BYTES], proof: &[u8]) -> bool {
        self.mac(side.label(), hello, nonce).is_some_and(|mac| mac.verify_slice(proof).is_ok())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Who proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Sender,
    Receiver,
}

impl Side {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Sender => b"chronik wal sender 1",
            Self::Receiver => b"chronik wal receiver 1",
        }
    }
}

#[cfg(test)]
mod tests {
    use chronik_model::{NodeId, Uuid};

    use super::*;
    use chronik_model::Generation;

    fn hello(nonce: u8) -> Hello {
        Hello {
            version_min: 1,
            version_max: 1,
            cluster_id: Uuid::from_bytes([7; 16]),
            node_id: NodeId::new(1),
            leader_id: NodeId::new(1),
            generation: Generation::ZERO,
            features: 0,
            advertised: "a:1".into(),
            nonce: [nonce; NONCE_BYTES],
        }
    }

    #[test]
    fn a_proof_holds_for_one_secret_one_side_and_one_conversation() {
        let secret = Secret::new(b"secret");
        let proof = secret.prove(Side::Sender, &hello(1), &[2; NONCE_BYTES]);
        assert!(secret.verify(Side::Sender, &hello(1), &[2; NONCE_BYTES], &proof));
        assert!(!secret.verify(Side::Receiver, &hello(1), &[2; NONCE_BYTES], &proof));
        assert!(!secret.verify(Side::Sender, &hello(2), &[2; NONCE_BYTES], &proof));
        assert!(!secret.verify(Side::Sender, &hello(1), &[3; NONCE_BYTES], &proof));
        assert!(!Secret::new(b"secreT").verify(Side::Sender, &hello(1), &[2; NONCE_BYTES], &proof));
        assert!(!secret.verify(Side::Sender, &hello(1), &[2; NONCE_BYTES], &proof[..31]));
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new(b"hunter2")), "Secret(..)");
    }
}
