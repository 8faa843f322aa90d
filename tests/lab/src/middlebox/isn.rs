//! Rewriting of initial sequence numbers: each end of a flow has its numbers shifted by an amount
//! that depends on the seed and the flow, in its own numbers one way, in acknowledgments and SACK
//! blocks (RFC 2018) the other way. No state: the same flow has the same shift for ever.

use anyrelay_kit::rng::Rng;

use super::segment::{add, ends, tcp_at};

const FLAG_ACK: u8 = 0x10;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_SACK: u8 = 5;

/// Shifts the numbers of a TCP segment. What is no whole TCP header is left as it is.
pub fn shift(seed: u64, frame: &mut [u8]) {
    let Some(tcp) = tcp_at(frame) else { return };
    let (src, dst) = ends(frame, tcp);
    let (own, peer) = (delta(seed, &src, &dst), delta(seed, &dst, &src));
    add(frame, tcp, tcp + 4, own);
    if frame[tcp + 13] & FLAG_ACK == 0 {
        return;
    }
    add(frame, tcp, tcp + 8, peer.wrapping_neg());
    let end = (tcp + usize::from(frame[tcp + 12] >> 4) * 4).min(frame.len());
    let mut at = tcp + 20;
    while at + 1 < end && frame[at] != OPTION_END {
        if frame[at] == OPTION_NOP {
            at += 1;
            continue;
        }
        let length = usize::from(frame[at + 1]);
        if length < 2 || at + length > end {
            return;
        }
        if frame[at] == OPTION_SACK {
            for edge in (at + 2..at + length.saturating_sub(3)).step_by(4) {
                add(frame, tcp, edge, peer.wrapping_neg());
            }
        }
        at += length;
    }
}

/// How far the numbers of `of` are shifted in its flow with `with`; never 0.
fn delta(seed: u64, of: &[u8; 18], with: &[u8; 18]) -> u32 {
    let mix = |hash: u64, byte: &u8| Rng(hash ^ u64::from(*byte)).next();
    let hash = of.iter().chain(with).fold(seed, mix);
    (hash >> 32) as u32 | 1
}

#[cfg(test)]
mod tests {
    use anyrelay_kit::frames::{Segment, framed, transport_checksum};

    use super::*;
    use crate::middlebox::segment::ETHERNET_BYTES;

    const A: &str = "192.0.2.1:258";
    const B: &str = "203.0.113.1:443";

    /// The checksum of the segment in a frame: 0 if its field is right.
    fn checksum(frame: &[u8]) -> u16 {
        let segment = Segment::read(&frame[ETHERNET_BYTES..]).unwrap();
        let tcp = &frame[ETHERNET_BYTES + 20..];
        transport_checksum(segment.src.ip(), segment.dst.ip(), 6, tcp)
    }

    /// A segment with a SACK option behind one NOP, so that its edges are at odd places.
    fn frame(src: &str, dst: &str, seq: u32, ack: u32) -> Vec<u8> {
        let [left, right] = [100, 200].map(|more| ack.wrapping_add(more).to_be_bytes());
        let option = [OPTION_NOP, OPTION_SACK, 10];
        let options = [&option[..], &left, &right, &[OPTION_END]].concat();
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let segment = Segment::new(src, dst, FLAG_ACK | 8);
        let segment = Segment { seq, ack, options, data: vec![1, 2, 3], ..segment };
        framed([0; 6], [0; 6], None, &segment.datagram())
    }

    fn number(frame: &[u8], at: usize) -> u32 {
        let at = ETHERNET_BYTES + 20 + at;
        u32::from_be_bytes(frame[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn both_ways_agree_and_checksums_stay_right() {
        let mut there = frame(A, B, 1000, 0xffff_ff00);
        assert_eq!(checksum(&there), 0, "the test's own frame");
        shift(9, &mut there);
        assert_eq!(checksum(&there), 0);
        let shift_a = number(&there, 4).wrapping_sub(1000);
        let shift_b = 0xffff_ff00_u32.wrapping_sub(number(&there, 8));
        assert!(shift_a != 0 && shift_b != 0 && shift_a != shift_b);
        assert_eq!(number(&there, 23), 0xffff_ff00_u32.wrapping_add(100).wrapping_sub(shift_b));
        assert_eq!(number(&there, 27), 0xffff_ff00_u32.wrapping_add(200).wrapping_sub(shift_b));

        let mut back = frame(B, A, 5, 1000 + shift_a);
        shift(9, &mut back);
        assert_eq!(checksum(&back), 0);
        assert_eq!(number(&back, 4), 5_u32.wrapping_add(shift_b));
        assert_eq!(number(&back, 8), 1000);
        assert_eq!(number(&back, 23), 1100);
    }

    #[test]
    fn damage_stays_visible_and_other_frames_are_left() {
        let mut damaged = frame(A, B, 3, 4);
        *damaged.last_mut().unwrap() ^= 1;
        shift(1, &mut damaged);
        assert_ne!(checksum(&damaged), 0);
        let mut arp = vec![7; 60];
        shift(1, &mut arp);
        assert_eq!(arp, vec![7; 60]);
    }
}
