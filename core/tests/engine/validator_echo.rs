//! Part of the oracle: fragments are answered as those of an echo request, or not at all.

use anyrelay_core::net::PortIndex;
use anyrelay_kit::frames::{check_mirrored, is_fragment};

use crate::validator::{Checked, long, word};
use crate::*;

/// Checks what was sent because of `frame`, if that is a fragment.
pub fn check_fragment(port: PortIndex, frame: &[u8], sent: &Sent) -> Option<Checked> {
    let l3 = if frame.len() >= 18 && word(frame, 12) == 0x8100 { 18 } else { 14 };
    let from = frame.get(l3..).filter(|datagram| is_fragment(datagram))?;
    Some(match &sent[..] {
        [] => Ok(()),
        [(out, bytes)] if *out == port && may_ask(from) => check_mirrored(from, &bytes[14..]),
        _ => Err("a fragment goes on, gives more than one, or is an echo of others"),
    })
}

/// Whether a host may have sent an IPv4 fragment, to an address that the POP answers for.
fn may_ask(from: &[u8]) -> bool {
    if from[0] >> 4 != 4 {
        return true;
    }
    let own = ["203.0.113.20", "203.0.113.21", "192.0.2.2", "10.1.0.2"].map(ip);
    let vips = [WEB.0, MANY.0, RAW.0, WEB6.0];
    let dst = long(from, 16);
    (own.contains(&dst) || vips.contains(&dst)) && !matches!(from[12], 0 | 127 | 224..)
}
