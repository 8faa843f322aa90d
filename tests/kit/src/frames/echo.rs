//! Fragments of echo requests, and what a POP must make of them.

use super::{ICMP, ICMPV6, internet_checksum, word};

/// Whether `datagram` is a fragment, and not an atomic one.
pub fn is_fragment(datagram: &[u8]) -> bool {
    match datagram.first().map(|byte| byte >> 4) {
        Some(4) => datagram.len() >= 20 && word(datagram, 6) & 0x3fff != 0,
        Some(6) => datagram.len() >= 48 && datagram[6] == 44 && word(datagram, 42) & !6 != 0,
        _ => false,
    }
}

/// Whether `to` is the fragment of an echo reply that answers the fragment `from`: addresses
/// swapped, a new TTL, in the first one the type and the checksum of the reply, and nothing else
/// changed. `to` may be padded with zeros.
///
/// # Errors
/// The rule that is broken.
pub fn check_mirrored(from: &[u8], to: &[u8]) -> Result<(), &'static str> {
    let require = |holds: bool, rule| if holds { Ok(()) } else { Err(rule) };
    let v4 = from[0] >> 4 == 4;
    let len = usize::from(if v4 { word(from, 2) } else { 40 + word(from, 4) });
    require(from.len() >= len && to.len() >= len, "a fragment loses its end")?;
    require(to[len..].iter().all(|byte| *byte == 0), "a fragment is longer than it was")?;
    let icmp = if v4 { from[9] == ICMP && from[0] == 0x45 } else { from[40] == ICMPV6 };
    require(icmp, "a fragment of something else is answered")?;
    let mut want = from[..len].to_vec();
    let (src, dst, hops) = if v4 { (12, 16, 8) } else { (8, 24, 7) };
    let address = dst - src;
    want[src..dst].copy_from_slice(&from[dst..dst + address]);
    want[dst..dst + address].copy_from_slice(&from[src..dst]);
    want[hops] = 64;
    if v4 {
        require(internet_checksum(&[&to[..20]]) == 0, "wrong checksum of a fragment")?;
        want[10..12].copy_from_slice(&to[10..12]);
    }
    let (offset, at) = if v4 { (word(from, 6) & 0x1fff, 20) } else { (word(from, 42) & !7, 48) };
    if offset == 0 {
        require(len >= at + 8, "too little of a message is answered")?;
        let (request, reply) = if v4 { (8, 0) } else { (128, 129) };
        require(from[at] == request, "what is no echo request is answered")?;
        want[at] = reply;
        want[at + 2..at + 4].copy_from_slice(&to[at + 2..at + 4]);
        let sum = |bytes: &[u8]| (u32::from(bytes[at]) << 8) + u32::from(word(bytes, at + 2));
        require(sum(from) % 0xffff == sum(to) % 0xffff, "the checksum of an echo's start")?;
    }
    require(to[..len] == want, "a fragment of an echo comes back changed")
}
