//! Fragments are answered as those of an echo request, each by the same one of the reply.

use anyrelay_kit::frames::word;

use super::{Checked, Input, require};
use crate::wire::ETHERNET_LEN;

/// Checks the datagram in `out`, if it is sent because of a fragment of an ICMP message.
pub(super) fn check_fragment(out: &[u8], input: Option<&Input<'_>>) -> Option<Checked> {
    let from = input?.frame.get(ETHERNET_LEN..)?;
    let v4 = *from.first()? >> 4 == 4;
    let fragment = match v4 {
        true => from.len() >= 20 && word(from, 6) & 0x3fff != 0 && from[9] == 1,
        false => from.len() >= 48 && from[6] == 44 && from[40] == 58 && word(from, 42) & !6 != 0,
    };
    fragment.then(|| mirrored(v4, from, out))
}

fn mirrored(v4: bool, from: &[u8], out: &[u8]) -> Checked {
    let len = usize::from(if v4 { word(from, 2) } else { 40 + word(from, 4) });
    require(from.len() >= len && out.len() >= len, "a fragment loses its end")?;
    let mut want = from[..len].to_vec();
    let (src, dst, hops) = if v4 { (12, 16, 8) } else { (8, 24, 7) };
    let address = dst - src;
    want[src..dst].copy_from_slice(&from[dst..dst + address]);
    want[dst..dst + address].copy_from_slice(&from[src..dst]);
    want[hops] = 64;
    // Checksums are those of the reply; the first fragment has the reply's type.
    let (offset, at) = if v4 { (word(from, 6) & 0x1fff, 20) } else { (word(from, 42) & !7, 48) };
    if v4 {
        want[10..12].copy_from_slice(&out[10..12]);
    }
    if offset == 0 {
        require(len >= at + 8, "too little of a message is answered")?;
        require(want[at] == if v4 { 8 } else { 128 }, "what is no echo request is answered")?;
        want[at] = if v4 { 0 } else { 129 };
        want[at + 2..at + 4].copy_from_slice(&out[at + 2..at + 4]);
    }
    require(out[..len] == want, "a fragment of an echo comes back otherwise")
}
