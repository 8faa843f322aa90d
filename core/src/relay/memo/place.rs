//! The keys of the memo's tables: a keyed hash of what they stand for.

use crate::crypto::HkdfError;
use crate::keys::Secret;
use crate::net::IpEndpoint;

/// An egress endpoint of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The place of the service's counters.
    pub service: u16,
    /// The egress endpoint.
    pub egress: IpEndpoint,
}

/// The secret numbers of the hash. Whoever does not know them cannot make two places share a key;
/// by chance two do with a probability of 2^-63.
#[derive(Clone, Copy, Debug)]
pub struct MemoKey([u64; 4]);

impl MemoKey {
    /// The numbers that are derived from `secret`.
    ///
    /// # Errors
    /// When HKDF fails, which it does not for keys of this length.
    pub fn new(secret: &Secret) -> Result<Self, HkdfError> {
        let half = |info: &[u8]| -> Result<[u64; 2], HkdfError> {
            let key = u128::from_be_bytes(*secret.derive("memo", info)?.as_bytes());
            Ok([(key >> 64) as u64 | 1, key as u64 | 1])
        };
        let ([a, b], [c, d]) = (half(b"places")?, half(b"targets")?);
        Ok(MemoKey([a, b, c, d]))
    }

    /// The odd number that keys the filter of egress endpoints.
    pub(super) fn of_filter(&self) -> u64 {
        let [_, b, _, d] = self.0;
        fold(b, d) | 1
    }

    /// The key of `place`, of `target` there, and of what kind. Above 1.
    #[inline]
    pub(super) fn of(&self, place: Place, target: Option<IpEndpoint>, kind: u64) -> u64 {
        let [a, b, c, d] = self.0;
        let egress = words(&place.egress);
        let target = target.as_ref().map_or([u64::MAX; 3], words);
        let mut hash = fold(egress[0] ^ a, egress[1] ^ b) ^ egress[2];
        hash = fold(hash ^ target[0] ^ c, target[1] ^ d) ^ target[2];
        hash = fold(hash ^ kind << 32 ^ u64::from(place.service), a);
        1 << 63 | hash
    }
}

/// An endpoint as three words.
#[inline]
fn words(at: &IpEndpoint) -> [u64; 3] {
    match at {
        IpEndpoint::V4(at) => [u64::from(at.ip), 0, u64::from(at.port) << 1],
        IpEndpoint::V6(at) => {
            let ip = at.ip;
            [ip as u64, (ip >> 64) as u64, u64::from(at.port) << 1 | 1]
        }
    }
}

/// Both halves of the product, folded.
#[inline]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Endpoint;
    use std::collections::HashSet;

    #[test]
    fn places_that_differ_have_different_keys() {
        let key = MemoKey::new(&Secret::new([3; 32])).unwrap();
        let mut seen = HashSet::new();
        let mut count = 0;
        for ip in 0..8u32 {
            for port in (0..64).chain(1024..1030) {
                for wide in [false, true] {
                    let at: IpEndpoint = match wide {
                        false => Endpoint { ip, port }.into(),
                        true => Endpoint { ip: u128::from(ip), port }.into(),
                    };
                    for (target, service, kind) in
                        [(None, 0, 0), (Some(at), 0, 0), (None, 1, 0), (Some(at), 0, 1)]
                    {
                        seen.insert(key.of(Place { service, egress: at }, target, kind));
                        count += 1;
                    }
                }
            }
        }
        assert_eq!(seen.len(), count);
    }
}
