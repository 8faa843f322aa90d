//! A keyed hash of datagrams.
//!
//! It names the worker that reassembles a datagram and the datagram's bucket in that worker's
//! table. Datagrams that meet in one bucket cannot be chosen without the key.

use std::net::IpAddr;

use super::read::DatagramKey;
use crate::crypto::{Aes128, HkdfError};
use crate::keys::Secret;

/// The hash, under a key of its own.
#[derive(Clone, Debug)]
pub struct FragmentHash(Aes128);

impl FragmentHash {
    /// The hash under a key that is derived from `secret`.
    ///
    /// # Errors
    /// When HKDF fails, which it does not for keys of this length.
    pub fn new(secret: &Secret) -> Result<Self, HkdfError> {
        Ok(FragmentHash(Aes128::new(&secret.derive("fragments", &[])?)))
    }

    /// The datagram's hash.
    pub fn of(&self, key: &DatagramKey) -> u64 {
        // CBC-MAC, whose number of blocks is fixed for each family.
        let mut state = [0; 16];
        let mut mix = |block: u128| {
            state = self.0.encrypt_block(&(u128::from_be_bytes(state) ^ block).to_be_bytes());
        };
        match (key.src, key.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let addresses = u128::from(src.to_bits()) << 32 | u128::from(dst.to_bits());
                mix(4 << 120 | addresses << 32 | u128::from(key.id));
            }
            (src, dst) => {
                mix(6 << 120 | u128::from(key.id));
                mix(bits(src));
                mix(bits(dst));
            }
        }
        u128::from_be_bytes(state) as u64
    }

    /// The worker, of `workers`, that reassembles the datagram.
    pub fn worker(&self, key: &DatagramKey, workers: usize) -> usize {
        (((self.of(key) >> 32) * workers as u64) >> 32) as usize
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}
