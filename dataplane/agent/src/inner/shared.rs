//! The state that all peers of an inner side share.

use std::collections::HashMap;
use std::fmt;

use anyrelay_core::time::Now;

use super::counters::InnerDrops;
use super::keys::{PrivateKey, PublicKey};
use super::message::{Index, OVERHEAD};
use super::noise::Ephemeral;
use super::routes::PeerIndex;

/// Fills its argument from the system's random number generator; false on failure. Keys are made of
/// it.
pub type RandomSource = Box<dyn FnMut(&mut [u8]) -> bool + Send>;

/// The longest inner packet, in bytes.
pub const MAX_PACKET: usize = 9000;

/// Keys, randomness, buffers, and the peer of each index.
pub(super) struct Shared {
    pub(super) private: PrivateKey,
    pub(super) public: PublicKey,
    pub(super) indices: HashMap<Index, PeerIndex>,
    pub(super) drops: InnerDrops,
    /// Buffer for a sealed message.
    pub(super) sealed: Box<[u8]>,
    /// Buffer for an opened packet.
    pub(super) opened: Box<[u8]>,
    random: RandomSource,
    last_stamp: u64,
}

impl Shared {
    pub(super) fn new(private: PrivateKey, public: PublicKey, random: RandomSource) -> Self {
        Shared {
            private,
            public,
            indices: HashMap::new(),
            drops: InnerDrops::default(),
            sealed: vec![0; MAX_PACKET + OVERHEAD].into_boxed_slice(),
            opened: vec![0; MAX_PACKET + OVERHEAD].into_boxed_slice(),
            random,
            last_stamp: 0,
        }
    }

    /// RandomSource bytes for a key.
    pub(super) fn random(&mut self) -> Option<Ephemeral> {
        let mut bytes = [0; 32];
        (self.random)(&mut bytes).then_some(bytes)
    }

    /// A random byte, for jitter; 0 on failure.
    pub(super) fn random_byte(&mut self) -> u8 {
        let mut byte = [0];
        (self.random)(&mut byte);
        let [byte] = byte;
        byte
    }

    /// A new index for a session of `peer`.
    pub(super) fn new_index(&mut self, peer: PeerIndex) -> Option<Index> {
        for _ in 0..INDEX_TRIES {
            let mut bytes = [0; 4];
            if !(self.random)(&mut bytes) {
                return None;
            }
            if let Some(index) = Index::from_low_bits(u32::from_be_bytes(bytes))
                && !self.indices.contains_key(&index)
            {
                self.indices.insert(index, peer);
                return Some(index);
            }
        }
        None
    }

    /// The time stamp of an initiation: the wall clock's milliseconds, but always greater than the
    /// last.
    pub(super) fn stamp(&mut self, now: Now) -> u64 {
        self.last_stamp = now.unix.as_millis().max(self.last_stamp.saturating_add(1));
        self.last_stamp
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("public", &self.public).finish_non_exhaustive()
    }
}

/// At most a few thousand of 2^24 indices are in use: more tries would mean broken random numbers.
const INDEX_TRIES: usize = 16;
