//! What stock stacks seldom send, put into datagrams on their way to a POP: options that relays
//! take out, of SYNs and of IPv4, and IPv6 extension headers, which they pass over, or refuse.

use anyrelay_core::verdict::DropReason;
use anyrelay_kit::frames::{
    ACK, DESTINATION_OPTIONS, HOP_BY_HOP, ROUTING, SYN, repair, set_length,
};
use anyrelay_kit::rng::Rng;

use crate::network::Packet;
use crate::setup::MTU;
use crate::wire::{Datagram, EXTENSIONS_MAX};
use crate::world::World;

impl World {
    /// Changes a segment of a host's, which knows nothing of it.
    pub(crate) fn decorate(&mut self, packet: &mut Packet) {
        let bytes = &mut packet.bytes;
        let Some(ip) = Datagram::read(bytes) else { return };
        let Some(segment) = ip.segment() else { return };
        let v6 = ip.src.is_ipv6();
        // Both are behind the header's 20 bytes.
        let (tcp, options) = (ip.payload_at, ip.payload_at + 20);
        let header_len = 20 + segment.options.len();
        if segment.has(SYN) && segment.options.len() <= 32 && !(v6 && self.rng.happens(500)) {
            let option: &[u8] = match self.rng.below(5) {
                0 => &[30, 4, 0x81, 0],
                1 => &[34, 6, 1, 2, 3, 4, 1, 1],
                2 => &[253, 4, 0xf9, 0x89],
                3 => &[254, 3, 9, 1],
                _ => &[29, 8, 1, 2, 3, 4, 5, 6],
            };
            let header_len = (header_len + option.len()) as u8;
            // In front: smoltcp ends its options with an end mark.
            bytes.splice(options..options, option.iter().copied());
            bytes[tcp + 12] = ((header_len / 4) << 4) | (bytes[tcp + 12] & 15);
        } else if v6 {
            let before_calm = self.now_us < self.calm_us;
            let refused = before_calm && self.rng.happens(250);
            packet.refused = extend(&mut self.rng, bytes, refused);
        } else if segment.flags == ACK && segment.data.is_empty() && segment.option(5).is_none() {
            // More blocks of SACK than there is room for beside timestamps that come in, all of
            // them of what was acknowledged long ago (RFC 2883).
            let blocks = (36 - segment.options.len()) / 8;
            let mut option = vec![1, 1, 5, 2 + 8 * blocks as u8];
            for block in (0..blocks as u32).rev() {
                let at = segment.ack.wrapping_sub(10 * block + 10);
                option.extend_from_slice(&at.to_be_bytes());
                option.extend_from_slice(&at.wrapping_add(4).to_be_bytes());
            }
            let header_len = (header_len + option.len()) as u8;
            bytes.splice(options..options, option);
            bytes[tcp + 12] = ((header_len / 4) << 4) | (bytes[tcp + 12] & 15);
        } else if self.rng.happens(200) {
            // A router alert, or a record of the route.
            let option: &[u8] = match self.rng.below(2) {
                0 => &[148, 4, 0, 0],
                _ => &[7, 7, 4, 0, 0, 0, 0, 0],
            };
            bytes.splice(20..20, option.iter().copied());
            bytes[0] += (option.len() / 4) as u8;
        }
        if packet.refused.is_none() {
            set_length(bytes);
            repair(bytes);
        }
    }
}

/// Puts extension headers into an IPv6 datagram, such as must be passed over, or, if that is
/// wanted, such as must be refused; gives back for what reason. Nothing is done where there is no
/// room.
fn extend(rng: &mut Rng, bytes: &mut Vec<u8>, refused: bool) -> Option<DropReason> {
    let flaw = refused.then(|| rng.below(5));
    let most = if rng.happens(500) { 2 } else { EXTENSIONS_MAX as u64 };
    let mut count = 1 + rng.below(most) as usize;
    match flaw {
        Some(TOO_MANY) => count = EXTENSIONS_MAX + 1 + rng.below(2) as usize,
        Some(OUT_OF_PLACE) => count = count.max(2),
        _ => {}
    }
    let mut kinds = vec![DESTINATION_OPTIONS; count];
    if rng.happens(500) {
        kinds[0] = HOP_BY_HOP;
    }
    let at = rng.below(count as u64) as usize;
    match flaw {
        Some(OUT_OF_PLACE) => kinds[at.max(1)] = HOP_BY_HOP,
        Some(ROUTES) => kinds[at] = ROUTING,
        _ => {}
    }
    let last = std::mem::replace(&mut bytes[6], kinds[0]);
    let mut headers = Vec::new();
    for place in 0..count {
        let next = kinds.get(place + 1).copied().unwrap_or(last);
        let mut header = header(rng, next);
        match flaw {
            // The option that begins there, if the header is of a length that is to be believed.
            Some(UNKNOWN) if place == at => header[2] |= 0x40 * (1 + rng.below(3) as u8),
            Some(LIES) if place == at => header[1] = 255,
            _ => {}
        }
        headers.extend(header);
    }
    if bytes.len() + headers.len() > usize::from(MTU) {
        bytes[6] = last;
        return None;
    }
    bytes.splice(40..40, headers);
    set_length(bytes);
    flaw.map(|flaw| match flaw {
        ROUTES => DropReason::SourceRoute,
        _ => DropReason::Ipv6Options,
    })
}

const TOO_MANY: u64 = 0;
const OUT_OF_PLACE: u64 = 1;
const ROUTES: u64 = 2;
/// An option that must be known.
const UNKNOWN: u64 = 3;
/// A length beyond the datagram.
const LIES: u64 = 4;

/// An extension header of 8 to 32 bytes, with options that may be skipped.
fn header(rng: &mut Rng, next: u8) -> Vec<u8> {
    let units = if rng.happens(700) { 0 } else { rng.below(4) as u8 };
    let mut header = vec![next, units];
    let len = 8 + 8 * usize::from(units);
    while header.len() < len {
        let room = len - header.len();
        // Padding by one byte, padding by more, or what nobody knows. The first is always more than
        // one.
        if room == 1 || header.len() > 2 && rng.happens(200) {
            header.push(0);
            continue;
        }
        let kind = [1, 5, 0x1e, 0x3e][rng.below(4) as usize];
        let data = rng.below(room as u64 - 1) as usize;
        header.extend([kind, data as u8]);
        header.extend((0..data).map(|at| if kind == 1 { 0 } else { at as u8 ^ 0xa5 }));
    }
    header
}
