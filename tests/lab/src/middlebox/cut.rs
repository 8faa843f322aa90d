//! Cuts segments, and tunnels, over IPv6 into fragments (RFC 8200, section 4.5). Only senders do
//! that, and kernels do not for TCP; so that a path has fragments, this box makes them.

use anyrelay_kit::frames::{TCP, fragments, word};

use super::segment::ETHERNET_BYTES;

const IPV6_BYTES: usize = 40;
const FRAGMENT_BYTES: usize = 8;
/// What is cut: TCP, UDP, IPv4 and IPv6 in a tunnel.
const KINDS: [u8; 4] = [TCP, 17, 4, 41];

/// The fragments of a segment, or of a datagram of UDP or of a tunnel, in order, each a frame whose
/// datagram has at most `mtu` bytes. `None` if it fits into one, or is none over IPv6.
pub fn pieces(frame: &[u8], mtu: usize, id: u32) -> Option<Vec<Vec<u8>>> {
    let (ethernet, datagram) = frame.split_at_checked(ETHERNET_BYTES)?;
    if ethernet[12..] != [0x86, 0xdd] || !KINDS.contains(datagram.get(6)?) {
        return None;
    }
    let payload_len = usize::from(word(datagram, 4));
    // Without what Ethernet padded.
    let datagram = datagram.get(..IPV6_BYTES + payload_len)?;
    let size = mtu.checked_sub(IPV6_BYTES + FRAGMENT_BYTES)? / 8 * 8;
    if datagram.len() <= mtu || size == 0 {
        return None;
    }
    let cuts: Vec<usize> = (size..payload_len).step_by(size).collect();
    let pieces = fragments(datagram, &cuts, id).into_iter();
    Some(pieces.map(|piece| [ethernet, &piece].concat()).collect())
}

#[cfg(test)]
mod tests {
    use anyrelay_kit::frames::{ACK, FRAGMENT, Segment, TCP, framed};

    use super::*;

    /// A frame whose TCP segment has this length.
    fn segment(len: usize) -> Vec<u8> {
        let (src, dst) = ("[2001:db8::1]:7".parse().unwrap(), "[2001:db8::2]:8".parse().unwrap());
        let data = (20..len).map(|at| at as u8).collect();
        framed([1; 6], [2; 6], None, &Segment { data, ..Segment::new(src, dst, ACK) }.datagram())
    }

    #[test]
    fn cuts_what_does_not_fit() {
        let frame = segment(1460);
        let pieces = pieces(&frame, 1280, 0x0102_0304).unwrap();
        let [first, last] = pieces.as_slice() else { panic!("{} pieces", pieces.len()) };
        assert_eq!(first.len(), ETHERNET_BYTES + 1280);
        assert_eq!(first[18..21], [4, 216, FRAGMENT], "1240 bytes, the header named");
        assert_eq!(first[54..62], [TCP, 0, 0, 1, 1, 2, 3, 4], "at 0, more to come");
        assert_eq!(last[18..21], [0, 236, FRAGMENT]);
        assert_eq!(last[54..62], [TCP, 0, 4, 208, 1, 2, 3, 4], "at 1232, the last");
        assert_eq!([&first[62..], &last[62..]].concat(), frame[54..], "nothing is lost");
        assert_eq!(first[..18], frame[..18]);
        assert_eq!(last[21..54], frame[21..54]);
    }

    #[test]
    fn leaves_what_fits_and_what_is_not_its_own() {
        assert_eq!(pieces(&segment(1240), 1280, 1), None);
        let (src, dst) = ("192.0.2.1:7".parse().unwrap(), "192.0.2.2:8".parse().unwrap());
        let ipv4 = Segment { data: vec![7; 1440], ..Segment::new(src, dst, ACK) }.datagram();
        assert_eq!(pieces(&framed([1; 6], [2; 6], None, &ipv4), 1280, 1), None);
        assert_eq!(pieces(&[0x86; 30], 1280, 1), None);
    }
}
