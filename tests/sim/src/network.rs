//! The network between hosts and POPs: it loses, doubles, holds back, damages and cuts up
//! datagrams, and sends each one wherever it likes.

use anyrelay_core::verdict::DropReason;
use anyrelay_kit::frames::{fragments, put_word, word};
use anyrelay_kit::rng::Rng;

use crate::errors::Reported;
use crate::stamps::Origin;
use crate::wire;

/// A datagram on its way.
#[derive(Clone, Debug)]
pub struct Packet {
    pub bytes: Vec<u8>,
    pub origin: Origin,
    /// The datagram of a tunnel that is in it.
    pub body: Option<u32>,
    /// Bits were flipped.
    pub damaged: bool,
    /// It is a part of what was sent, or cannot go on for want of TTL: lost, as far as its sender
    /// is concerned.
    pub doomed: bool,
    /// An ICMP error, and what it must be when it arrives.
    pub reported: Option<Reported>,
    /// Whole, but nothing that a POP may send on, for this reason.
    pub refused: Option<DropReason>,
    /// Made up by nobody who has a connection: whatever comes of it is a mistake.
    pub forged: bool,
}

impl Packet {
    pub fn new(bytes: Vec<u8>, origin: Origin) -> Self {
        Packet {
            bytes,
            origin,
            body: None,
            damaged: false,
            doomed: false,
            reported: None,
            refused: None,
            forged: false,
        }
    }

    /// What a POP made of it.
    pub fn became(&self, bytes: Vec<u8>) -> Self {
        Packet { bytes, ..self.clone() }
    }
}

/// What happens to datagrams on each way, in a thousand, and how long they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    pub lost: u64,
    pub doubled: u64,
    pub damaged: u64,
    pub cut: u64,
    pub expired: u64,
    /// Behind a POP, dropped by a router that reports it.
    pub reported: u64,
    pub delay_us: u64,
    pub jitter_us: u64,
    /// So many of a thousand are held back longer, by up to half a second.
    pub held: u64,
}

impl Weather {
    /// With nothing that loses, and hardly anything that reorders.
    pub fn calm(self) -> Self {
        let jitter_us = self.jitter_us.min(CALM_JITTER_US);
        Weather { delay_us: self.delay_us, jitter_us, ..Weather::default() }
    }

    /// What arrives of a datagram, and how much later.
    pub fn pass(&self, rng: &mut Rng, packet: Packet, arrive: &mut impl FnMut(u64, Packet)) {
        if rng.happens(self.lost) {
            return;
        }
        let again = rng.happens(self.doubled).then(|| packet.clone());
        for packet in std::iter::once(packet).chain(again) {
            let mut delay_us = self.delay_us + rng.below(self.jitter_us + 1);
            if rng.happens(self.held) {
                delay_us += rng.below(500_000);
            }
            let fresh = !packet.damaged && !packet.doomed && packet.refused.is_none();
            if fresh && rng.happens(self.cut) {
                for (part, bytes) in cut(rng, &packet.bytes).into_iter().enumerate() {
                    let part_us = delay_us + rng.below(1 + 1000 * part as u64);
                    arrive(part_us, Packet { doomed: true, ..packet.became(bytes) });
                }
                continue;
            }
            let mut packet = packet;
            if fresh && rng.happens(self.damaged) {
                damage(rng, &mut packet.bytes);
                packet.damaged = true;
            } else if fresh && rng.happens(self.expired) {
                expire(&mut packet.bytes);
                packet.doomed = true;
            }
            arrive(delay_us, packet);
        }
    }
}

/// Flips one bit; checksums see any one. Those of IPv6 do not cover the first words of the header,
/// nor extension headers.
pub fn damage(rng: &mut Rng, bytes: &mut [u8]) {
    let (from, extensions) = match bytes[0] >> 4 {
        6 => (8, wire::upper6(bytes).map_or(0, |(_, at)| at - 40)),
        _ => (0, 0),
    };
    let covered = bytes.len() - from - extensions;
    let at = from + rng.below(covered as u64) as usize;
    // Headers are where damage can do most.
    let near = from + rng.below(covered.min(64) as u64) as usize;
    let at = if rng.happens(700) { near } else { at };
    let at = if extensions > 0 && at >= 40 { at + extensions } else { at };
    bytes[at] ^= 1 << rng.below(8);
}

/// A path that was too long: the next hop may not forward it.
fn expire(bytes: &mut [u8]) {
    if bytes[0] >> 4 == 6 {
        bytes[7] = 1;
        return;
    }
    // RFC 1624, as routers do it.
    let before = word(bytes, 8);
    let after = before & 0x00ff | 0x0100;
    let sum = u32::from(!word(bytes, 10)) + u32::from(!before) + u32::from(after);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    put_word(bytes, 8, after);
    put_word(bytes, 10, !(sum as u16));
}

/// A router that does not care for DF: the parts of an IPv4 datagram, in any order. IPv6 is sent in
/// fragments by hosts only; it looks the same from outside.
fn cut(rng: &mut Rng, bytes: &[u8]) -> Vec<Vec<u8>> {
    let v6 = bytes[0] >> 4 == 6;
    let header_len = if v6 { 40 } else { usize::from(bytes[0] & 15) * 4 };
    // The first part may be too short even for the ports.
    let steps = (bytes.len() - header_len).saturating_sub(1) / 8;
    if steps == 0 {
        return Vec::new();
    }
    let at = 8 * (1 + rng.below(steps as u64) as usize);
    let id = rng.next() as u32;
    let mut parts = fragments(bytes, &[at], id);
    if rng.happens(500) {
        parts.reverse();
    }
    parts
}

const CALM_JITTER_US: u64 = 300;
