//! The operator's secrets, the files that hold them, and the keys derived from them.
//!
//! Every key is HKDF-SHA256(secret, salt "anyrelay v2", info = label | 0 | fields big-endian). The
//! `relay` and `sequence` secrets must not change under a live VIP: that would break every
//! connection. Token secrets change by epochs. Neither `Debug` nor an error shows a secret or a
//! part of one.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayVec;

use crate::crypto::{HkdfError, Key128, hkdf_sha256};

mod agent;
mod epochs;
mod file;
mod lookup;
mod tenants;

pub use agent::{AgentKey, AgentKeyError};
pub use epochs::{EPOCH_GRACE_MS, Epoch, Epochs, EpochsError, RotateError};
pub use file::{KeyFile, KeyFileError};
pub use lookup::AgentKeys;
pub use tenants::{AgentEntry, ChangeError, Mistake, Tenant, Tenants};

/// A 32-byte secret, from which keys are derived.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The secret with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Secret(bytes)
    }

    /// The key for `label` and `fields`, which the caller writes big-endian.
    ///
    /// # Errors
    /// When HKDF fails, which it does not for keys of this length.
    pub fn derive(&self, label: &str, fields: &[u8]) -> Result<Key128, HkdfError> {
        let info = [label.as_bytes(), &[0], fields].concat();
        hkdf_sha256(&self.0, SALT, &info)
    }

    /// 16 bytes that distinguish two secrets and reveal nothing else of them.
    ///
    /// # Errors
    /// When HKDF fails, which it does not for keys of this length.
    pub fn fingerprint(&self) -> Result<[u8; 16], HkdfError> {
        Ok(*self.derive("fingerprint", &[])?.as_bytes())
    }

    fn from_hex(text: &str) -> Option<Self> {
        from_hex(text).map(Secret)
    }

    fn to_hex(&self) -> String {
        to_hex(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The key of the permutations of all services in pool mode.
///
/// # Errors
/// When HKDF fails, which it does not for keys of this length.
pub fn permutation_key(relay: &Secret) -> Result<Key128, HkdfError> {
    relay.derive("permutation", &[])
}

/// The key of the permutations of all services in pool mode over IPv6.
///
/// # Errors
/// When HKDF fails, which it does not for keys of this length.
pub fn permutation6_key(relay: &Secret) -> Result<Key128, HkdfError> {
    relay.derive("permutation ipv6", &[])
}

/// Of what the first bits are the tweak of the permutation of the relay in pool mode over IPv6 at
/// `vip`.
///
/// # Errors
/// When HKDF fails, which it does not for keys of this length.
pub fn permutation6_tweak(relay: &Secret, vip: SocketAddr) -> Result<Key128, HkdfError> {
    relay.derive("permutation ipv6 tweak", &endpoint_fields(vip))
}

/// The key of hints between POPs.
///
/// # Errors
/// When HKDF fails, which it does not for keys of this length.
pub fn hint_key(relay: &Secret) -> Result<Key128, HkdfError> {
    relay.derive("hints", &[])
}

/// The key of the choice among the targets of all services.
///
/// # Errors
/// When HKDF fails, which it does not for keys of this length.
pub fn rendezvous_key(relay: &Secret) -> Result<Key128, HkdfError> {
    relay.derive("rendezvous", &[])
}

/// The key of the check in the egress addresses of all services in prefix mode.
///
/// # Errors
/// When HKDF fails, which it does not for keys of this length.
pub fn prefix_check_key(relay: &Secret) -> Result<Key128, HkdfError> {
    relay.derive("prefix check", &[])
}

/// The key of the UDP source ports of clients' datagrams in GUE, of all services.
///
/// # Errors
/// When HKDF fails, which it does not for keys of this length.
pub fn flow_key(relay: &Secret) -> Result<Key128, HkdfError> {
    relay.derive("flow", &[])
}

/// The key of the IDs of IPv4 datagrams of the relay in prefix mode at `vip`.
///
/// # Errors
/// When HKDF fails, which it does not for keys of this length.
pub fn packet_id_key(relay: &Secret, vip: SocketAddr) -> Result<Key128, HkdfError> {
    relay.derive("packet id", &endpoint_fields(vip))
}

/// The key of the IDs of fragmented datagrams of the relay at `vip`.
///
/// # Errors
/// When HKDF fails, which it does not for keys of this length.
pub fn fragment_id_key(relay: &Secret, vip: SocketAddr) -> Result<Key128, HkdfError> {
    relay.derive("fragment id", &endpoint_fields(vip))
}

/// The key of the predicted sequence numbers of the tunnel at `vip`.
///
/// # Errors
/// When HKDF fails, which it does not for keys of this length.
pub fn sequence_key(sequence: &Secret, vip: SocketAddr) -> Result<Key128, HkdfError> {
    sequence.derive("sequence", &endpoint_fields(vip))
}

/// The key of an epoch's tokens of IPv4 agents of the tunnel at `vip`.
///
/// # Errors
/// When HKDF fails, which it does not for keys of this length.
pub fn token_key(token: &Secret, vip: SocketAddr) -> Result<Key128, HkdfError> {
    token.derive("token", &endpoint_fields(vip))
}

/// The two keys, for the check and for the mask, of an epoch's tokens of IPv6 agents of the tunnel
/// at `vip`.
///
/// # Errors
/// When HKDF fails, which it does not for keys of this length.
pub fn token_keys_v6(token: &Secret, vip: SocketAddr) -> Result<(Key128, Key128), HkdfError> {
    let fields = endpoint_fields(vip);
    Ok((token.derive("token mac", &fields)?, token.derive("token mask", &fields)?))
}

/// The key of an epoch's open addresses of the agents of `tenant` at the tunnel at `vip`.
///
/// # Errors
/// When HKDF fails, which it does not for keys of this length.
pub fn open_key(token: &Secret, vip: SocketAddr, tenant: u16) -> Result<Key128, HkdfError> {
    token.derive("open", &[&endpoint_fields(vip)[..], &tenant.to_be_bytes()].concat())
}

/// The key of the offsets of packets to open addresses of the tunnel at `vip`.
///
/// # Errors
/// When HKDF fails, which it does not for keys of this length.
pub fn open_offset_key(sequence: &Secret, vip: SocketAddr) -> Result<Key128, HkdfError> {
    sequence.derive("open offset", &endpoint_fields(vip))
}

/// The key of the agent with the number `agent` of the tenant with the key `tenant`.
///
/// # Errors
/// When HKDF fails, which it does not for keys of this length.
pub fn agent_key(tenant: &Secret, agent: u32) -> Result<Key128, HkdfError> {
    tenant.derive("agent", &agent.to_be_bytes())
}

/// An address in 4 or 16 bytes and its port in 2.
pub(crate) fn endpoint_fields(endpoint: SocketAddr) -> ArrayVec<u8, 18> {
    let mut fields = ArrayVec::new();
    // 18 bytes are the longest, so that all of it fits.
    let _ = match endpoint.ip() {
        IpAddr::V4(ip) => fields.try_extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => fields.try_extend_from_slice(&ip.octets()),
    };
    let _ = fields.try_extend_from_slice(&endpoint.port().to_be_bytes());
    fields
}

/// The `N` bytes whose hex form is `text`, if it is that.
fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
    }
    Some(bytes)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing into a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The line that an error of the TOML crate concerns, from 1. The crate's own message would quote
/// the line, which may hold a secret.
fn line_of(text: &str, error: &toml::de::Error) -> usize {
    let start = error.span().map_or(0, |span| span.start);
    1 + text.bytes().take(start).filter(|&byte| byte == b'\n').count()
}

const SALT: &[u8] = b"anyrelay v2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_label_secret_and_vip() {
        let (one, other) = (Secret::new([0x11; 32]), Secret::new([0xa2; 32]));
        let vip = |text: &str| text.parse::<SocketAddr>().unwrap();
        let base = packet_id_key(&one, vip("203.0.113.10:443")).unwrap();
        assert_eq!(base, packet_id_key(&one, vip("203.0.113.10:443")).unwrap());
        assert_ne!(base, packet_id_key(&other, vip("203.0.113.10:443")).unwrap());
        for other in ["203.0.113.11:443", "203.0.113.10:444", "[::cb00:710a]:443"] {
            assert_ne!(base, packet_id_key(&one, vip(other)).unwrap());
        }
        let vip = vip("203.0.113.10:443");
        assert_ne!(permutation_key(&one).unwrap(), permutation_key(&other).unwrap());
        let base = permutation_key(&one).unwrap();
        let rendezvous = rendezvous_key(&one).unwrap();
        let check = prefix_check_key(&one).unwrap();
        assert!(base != rendezvous && check != rendezvous && check != base);
        let (mac, mask) = token_keys_v6(&one, vip).unwrap();
        let open = [
            open_key(&one, vip, 1).unwrap(),
            open_key(&one, vip, 2).unwrap(),
            open_offset_key(&one, vip).unwrap(),
        ];
        let tunnel = [sequence_key(&one, vip).unwrap(), token_key(&one, vip).unwrap(), mac, mask];
        let tunnel = [&tunnel[..], &open].concat();
        for (index, key) in tunnel.iter().enumerate() {
            assert!(!tunnel[..index].contains(key) && *key != base);
        }
        assert_ne!(agent_key(&one, 1).unwrap(), agent_key(&one, 2).unwrap());
        assert_ne!(agent_key(&one, 1).unwrap(), agent_key(&other, 1).unwrap());
    }

    #[test]
    fn endpoints_are_written_by_family() {
        assert_eq!(endpoint_fields("1.2.3.4:258".parse().unwrap())[..], [1, 2, 3, 4, 1, 2]);
        let fields = endpoint_fields("[102:304::f]:443".parse().unwrap());
        assert_eq!(fields[..], [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 15, 1, 187]);
    }

    #[test]
    fn debug_hides_secrets() {
        assert_eq!(format!("{:?}", Secret::new([0x11; 32])), "Secret(..)");
    }
}
