//! Part of the oracle: fragments are answered as those of an echo request, or not at all.

use anyrelay_core::net::PortIndex;

use crate::seen::checksum;
use crate::validator::{Checked, long, word};
use crate::*;

/// Checks what was sent because of `frame`, if that is a fragment.
pub fn check_fragment(port: PortIndex, frame: &[u8], sent: &Sent) -> Option<Checked> {
    let l3 = if frame.len() >= 18 && word(frame, 12) == 0x8100 { 18 } else { 14 };
    let datagram = frame.get(l3..)?;
    let (headers, more_or_offset) = match word(frame, l3 - 2) {
        0x0800 => (20, word(datagram.get(..20)?, 6) & 0x3fff),
        0x86dd if datagram.get(6) == Some(&44) => (48, word(datagram.get(..48)?, 42) & !6),
        _ => return None,
    };
    (more_or_offset != 0).then(|| match &sent[..] {
        [] => Ok(()),
        [(out, bytes)] if *out == port => mirrored(headers, datagram, &bytes[14..]),
        _ => Err("a fragment gives more than one, or goes on"),
    })
}

fn mirrored(headers: usize, from: &[u8], to: &[u8]) -> Checked {
    let require = |holds: bool, rule| if holds { Ok(()) } else { Err(rule) };
    let v4 = headers == 20;
    let len = usize::from(if v4 { word(from, 2) } else { 40 + word(from, 4) });
    require(to.len() >= len && to[len..].iter().all(|byte| *byte == 0), "a fragment's length")?;
    let icmp = if v4 { from[9] == 1 && from[0] == 0x45 } else { from[40] == 58 };
    require(icmp, "a fragment of something else is answered")?;
    let (src, dst, hops) = if v4 { (12..16, 16..20, 8) } else { (8..24, 24..40, 7) };
    let swapped = from[src.clone()] == to[dst.clone()] && from[dst] == to[src];
    require(swapped && to[hops] == 64, "a fragment goes to somebody else")?;
    if v4 {
        let own = ["203.0.113.20", "203.0.113.21", "192.0.2.2", "10.1.0.2"].map(ip);
        let vips = [WEB.0, MANY.0, RAW.0, WEB6.0];
        let dst = long(from, 16);
        let from_host = !matches!(from[12], 0 | 127 | 224..);
        require((own.contains(&dst) || vips.contains(&dst)) && from_host, "an echo of others")?;
        require(checksum(&[&to[..20]]) == 0, "wrong checksum of a fragment")?;
    }
    let kept = if v4 { [0..8, 9..10] } else { [0..7, 40..48] };
    require(kept.into_iter().all(|at| from[at.clone()] == to[at]), "a fragment's header")?;
    let offset = if v4 { word(from, 6) & 0x1fff } else { word(from, 42) & !7 };
    let (before, after) = (&from[headers..len], &to[headers..len]);
    if offset != 0 {
        return require(before == after, "a later fragment is changed");
    }
    let (request, reply) = if v4 { (8, 0) } else { (128, 129) };
    require((before[0], after[0]) == (request, reply), "no echo request is answered")?;
    let sum = |bytes: &[u8]| (u32::from(bytes[0]) << 8) + u32::from(word(bytes, 2));
    require(sum(before) % 0xffff == sum(after) % 0xffff, "the checksum of an echo's start")?;
    require(before[1] == after[1] && before[4..] == after[4..], "an echo is changed")
}
