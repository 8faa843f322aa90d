//! The bytes of a datagram.

use sha2::{Digest, Sha256};

/// The smallest datagram.
pub const MIN_BYTES: usize = HEADER_BYTES + HASH_BYTES;

/// The direction towards the server.
pub const UP: u8 = 0;
/// The direction from it.
pub const DOWN: u8 = 1;
const HEADER_BYTES: usize = 13;
const HASH_BYTES: usize = 8;

/// The first bytes of a datagram.
pub struct Header {
    /// The flow.
    pub id: u32,
    /// [`UP`] or [`DOWN`].
    pub direction: u8,
    /// Its number in its direction.
    pub number: u64,
}

impl Header {
    /// Reads it; `None` when the datagram is too short.
    pub fn read(datagram: &[u8]) -> Option<Self> {
        let (id, rest) = datagram.split_first_chunk()?;
        let (direction, rest) = rest.split_first()?;
        let (number, _) = rest.split_first_chunk()?;
        Some(Self {
            id: u32::from_be_bytes(*id),
            direction: *direction,
            number: u64::from_be_bytes(*number),
        })
    }
}

/// Fills in the hash.
pub fn seal(datagram: &mut [u8]) {
    let at = datagram.len() - HASH_BYTES;
    let hash = Sha256::digest(&datagram[..at]);
    datagram[at..].copy_from_slice(&hash[..HASH_BYTES]);
}

/// Whether the hash is right.
pub fn hash_holds(datagram: &[u8]) -> bool {
    let Some(at) = datagram.len().checked_sub(HASH_BYTES) else { return false };
    Sha256::digest(&datagram[..at])[..HASH_BYTES] == datagram[at..]
}
