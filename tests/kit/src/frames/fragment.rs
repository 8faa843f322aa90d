//! Fragments (RFC 791, section 3.2; RFC 8200, section 4.5).

use super::{FRAGMENT, put_word, repair_header, set_length};

/// The fragment header and what follows it in a datagram over IPv6; `offset` is in bytes.
pub fn fragment6(next: u8, offset: u16, more: bool, id: u32, part: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, 0];
    bytes.extend((offset | u16::from(more)).to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend(part);
    bytes
}

/// A datagram of either family in fragments, whose payload is cut at these offsets, multiples of 8
/// in rising order. Over IPv6 they have the identification `id6`; over IPv4 they keep the one that
/// the datagram has, whatever it says of fragments.
pub fn fragments(datagram: &[u8], cuts: &[usize], id6: u32) -> Vec<Vec<u8>> {
    let v6 = datagram[0] >> 4 == 6;
    let header_len = if v6 { 40 } else { usize::from(datagram[0] & 15) * 4 };
    let (header, payload) = datagram.split_at(header_len);
    let ends = cuts.iter().copied().chain([payload.len()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let fragment = |(start, end): (usize, usize)| {
        let (part, more) = (&payload[start..end], end < payload.len());
        let mut fragment = header.to_vec();
        if v6 {
            let next = std::mem::replace(&mut fragment[6], FRAGMENT);
            fragment.extend(fragment6(next, start as u16, more, id6, part));
            set_length(&mut fragment);
        } else {
            fragment.extend(part);
            put_word(&mut fragment, 6, (start as u16 / 8) | (u16::from(more) << 13));
            set_length(&mut fragment);
            repair_header(&mut fragment);
        }
        fragment
    };
    starts.zip(ends).map(fragment).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{TCP, datagram, internet_checksum};
    use super::*;

    #[test]
    fn nothing_is_lost() {
        let payload: Vec<u8> = (0..100).collect();
        for (src, dst) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let whole = datagram(src.parse().unwrap(), dst.parse().unwrap(), 64, TCP, &payload);
            let at = if whole[0] >> 4 == 6 { 40 } else { 20 };
            let parts = fragments(&whole, &[8, 64], 0x0102_0304);
            let bodies: Vec<_> = parts.iter().map(|part| part[at..].to_vec()).collect();
            if at == 20 {
                assert_eq!(bodies.concat(), whole[20..]);
                assert!(parts.iter().all(|part| internet_checksum(&[&part[..20]]) == 0));
                let words: Vec<_> = parts.iter().map(|part| [part[6], part[7]]).collect();
                assert_eq!(words, [[0x20, 0], [0x20, 1], [0, 8]]);
            } else {
                let cut: Vec<_> = bodies.iter().map(|body| body[8..].to_vec()).collect();
                assert_eq!(cut.concat(), whole[40..]);
                assert_eq!(bodies[1][..8], [TCP, 0, 0, 9, 1, 2, 3, 4]);
                assert!(parts.iter().all(|part| part[6] == FRAGMENT));
                assert_eq!(parts[2][4..6], [0, 44]);
            }
        }
    }
}
