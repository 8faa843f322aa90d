//! Fields of packets, read by hand.

use std::net::IpAddr;

use super::{DESTINATION_OPTIONS, HOP_BY_HOP, ROUTING};

/// The 16-bit field at `at`; 0 beyond the end.
pub fn word(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |two| u16::from(two[0]) << 8 | u16::from(two[1]))
}

/// The 32-bit field at `at`; 0 beyond the end.
pub fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from(word(bytes, at)) << 16 | u32::from(word(bytes, at + 2))
}

/// Writes the 16-bit field at `at`.
pub fn put_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The protocol that a datagram carries and where its payload begins, behind IPv4 options and IPv6
/// extension headers, which are not checked. `None` when the bytes end before that.
pub fn upper(datagram: &[u8]) -> Option<(u8, usize)> {
    if datagram.first()? >> 4 == 4 {
        let at = usize::from(datagram[0] & 15) * 4;
        return Some((*datagram.get(9)?, at)).filter(|_| at >= 20 && datagram.len() >= at);
    }
    let (mut protocol, mut at) = (*datagram.get(6)?, 40);
    while [HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS].contains(&protocol) {
        let header = datagram.get(at..at + 2)?;
        (protocol, at) = (header[0], at + 8 + 8 * usize::from(header[1]));
    }
    (datagram.len() >= at).then_some((protocol, at))
}

/// Source and destination of a datagram; `None` when its header is not whole.
pub fn addresses(datagram: &[u8]) -> Option<(IpAddr, IpAddr)> {
    if datagram.first()? >> 4 == 4 {
        let ip = |at| Some(<[u8; 4]>::try_from(datagram.get(at..at + 4)?).ok()?.into());
        return Some((ip(12)?, ip(16)?));
    }
    let ip = |at| Some(<[u8; 16]>::try_from(datagram.get(at..at + 16)?).ok()?.into());
    Some((ip(8)?, ip(24)?))
}
