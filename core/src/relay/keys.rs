//! The keys that all relay services share, and the vector instructions that compute with them.
//!
//! What is computed for a service has its VIP, or a hash of it, in the block that is enciphered,
//! and not in the key: the segments of a burst go through the cipher together, whatever services
//! they are of, and a POP with many services touches one key.

use std::sync::Arc;

use cpu_vector::{Isa, RoundKeys};

use crate::crypto::{Aes128, Cmac, HkdfError};
use crate::keys::{
    Secret, flow_key, permutation_key, permutation6_key, prefix_check_key, rendezvous_key,
};
use crate::relay::targets::rendezvous::Hashes;

/// The keys of a relay secret, expanded, and what computes with them.
#[derive(Clone, Debug)]
pub struct RelayKeys {
    /// The secret, of which services have further keys of their own.
    pub secret: Secret,
    /// The key of the permutations of pool mode.
    pub permutation: Arc<RoundKeys>,
    /// The key of the permutations of pool mode over IPv6.
    pub permutation6: Arc<Aes128>,
    /// The hashes of the choice among targets.
    pub hashes: Arc<Hashes>,
    /// The key of the check of prefix mode.
    pub prefix_check: Arc<Aes128>,
    /// The UDP source ports of GUE.
    pub flows: Arc<Cmac>,
    /// The vector instructions of all that is computed for relays, on either way through the POP.
    pub isa: Isa,
}

impl RelayKeys {
    /// Those of `secret`, for a CPU that computes with `isa`.
    ///
    /// # Errors
    /// When HKDF fails, which it does not for keys of this length.
    pub fn new(secret: &Secret, isa: Isa) -> Result<Self, HkdfError> {
        Ok(RelayKeys {
            secret: secret.clone(),
            permutation: Arc::new(RoundKeys::new(permutation_key(secret)?.as_bytes())),
            permutation6: Arc::new(Aes128::new(&permutation6_key(secret)?)),
            hashes: Arc::new(Hashes::new(&rendezvous_key(secret)?)),
            prefix_check: Arc::new(Aes128::new(&prefix_check_key(secret)?)),
            flows: Arc::new(Cmac::new(&flow_key(secret)?)),
            isa,
        })
    }
}
