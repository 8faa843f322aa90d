//! Datagrams that a POP sent in fragments, reassembled by plain tables of bytes: part of the
//! oracle, see [`crate::seen`].

use etherparse::Ipv4HeaderSlice;

use crate::seen::checksum;
use anyrelay_kit::pop::Sent;

/// The frame of the IPv4 datagram whose fragments these are; panics when they are not, or one is
/// not as it must be on a link with this MTU.
pub fn reassemble(fragments: &[Vec<u8>], mtu: usize) -> Vec<u8> {
    let mut whole: Vec<u8> = Vec::new();
    let mut filled: Vec<bool> = Vec::new();
    let mut end = None;
    let first = Ipv4HeaderSlice::from_slice(&fragments[0][14..]).unwrap().to_header();
    for frame in fragments {
        assert_eq!(frame[..14], fragments[0][..14], "the same Ethernet header");
        let header = Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        let len = usize::from(header.total_len);
        assert!(len <= mtu && frame.len() == 14 + len, "{len} bytes");
        assert!(!header.dont_fragment && header.is_fragmenting_payload());
        let same = |header: &etherparse::Ipv4Header| {
            let addresses = (header.source, header.destination, header.identification);
            (addresses, header.time_to_live, header.dscp, header.ecn, header.protocol)
        };
        assert_eq!(same(&header), same(&first));
        let (from, payload) = (usize::from(header.fragment_offset.value()) * 8, &frame[34..]);
        let to = from + payload.len();
        assert!(!header.more_fragments || payload.len() % 8 == 0);
        whole.resize(whole.len().max(to), 0);
        filled.resize(whole.len(), false);
        assert!(filled[from..to].iter().all(|filled| !filled), "an overlap");
        whole[from..to].copy_from_slice(payload);
        filled[from..to].fill(true);
        if !header.more_fragments {
            assert_eq!(end.replace(to), None, "two ends");
        }
    }
    assert!(end == Some(whole.len()) && filled.iter().all(|filled| *filled), "a hole");
    let mut frame = fragments[0][..34].to_vec();
    frame[16..18].copy_from_slice(&((20 + whole.len()) as u16).to_be_bytes());
    frame[20..22].fill(0);
    frame.extend(whole);
    fill_header_checksum(&mut frame);
    frame
}

/// Writes the header checksum of the IPv4 datagram without options in an untagged frame.
pub fn fill_header_checksum(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let sum = checksum(&[&frame[14..34]]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// The frame of the IPv6 datagram whose fragments these are in order, and their identification;
/// `None` when they are not.
pub fn reassemble6(fragments: &Sent) -> Option<(Vec<u8>, u32)> {
    let (_, first) = fragments.first()?;
    let (mut payload, mut ended) = (Vec::<u8>::new(), false);
    for (_, frame) in fragments {
        let same = frame[..18] == first[..18] && frame[20..54] == first[20..54];
        let header = frame.get(54..62)?;
        let word = u16::from_be_bytes([header[2], header[3]]);
        let (offset, more) = (usize::from(word & !7), word & 1 != 0);
        let len = 54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]));
        // No router fragments it again, so it must fit any link.
        let fits = frame.len() == len && len <= 14 + 1280 && frame[20] == 44 && header[0] == 6;
        let clean = header[1] == 0 && word & 6 == 0 && header[4..] == first[58..62];
        let whole_units = !more || (frame.len() - 62) % 8 == 0;
        if !same || !fits || !clean || ended || offset != payload.len() || !whole_units {
            return None;
        }
        ended = !more;
        payload.extend(&frame[62..]);
    }
    let mut whole = first[..54].to_vec();
    whole[18..20].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    whole[20] = 6;
    whole.extend(payload);
    let id = u32::from_be_bytes(first[58..62].try_into().unwrap());
    (ended && fragments.len() > 1).then_some((whole, id))
}
