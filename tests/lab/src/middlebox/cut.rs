//! Cuts segments over IPv6 in fragments (RFC 8200, section 4.5). Only senders do that, and kernels
//! do not for TCP: for fragments on a path, somebody else must.

use super::segment::{ETHERNET_BYTES, tcp_at};

const IPV6_BYTES: usize = 40;
const FRAGMENT_BYTES: usize = 8;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_FRAGMENT: u8 = 44;

/// A segment's fragments, in order, each a frame whose datagram has at most `mtu` bytes. `None` if
/// it fits into one, or is none over IPv6.
pub fn pieces(frame: &[u8], mtu: usize, id: u32) -> Option<Vec<Vec<u8>>> {
    let tcp =
        tcp_at(frame).filter(|tcp| *tcp == ETHERNET_BYTES + IPV6_BYTES && frame[12] == 0x86)?;
    let (length, next_header) = (ETHERNET_BYTES + 4, ETHERNET_BYTES + 6);
    let payload_len = usize::from(u16::from_be_bytes([frame[length], frame[length + 1]]));
    // What Ethernet padded is left out.
    let payload = frame.get(tcp..tcp + payload_len)?;
    if IPV6_BYTES + payload_len <= mtu {
        return None;
    }
    let size = mtu.checked_sub(IPV6_BYTES + FRAGMENT_BYTES)? / 8 * 8;
    let piece = |(number, part): (usize, &[u8])| {
        let offset = number * size;
        let more = offset + part.len() < payload_len;
        let mut piece = frame[..tcp].to_vec();
        let here = (FRAGMENT_BYTES + part.len()) as u16;
        piece[length..length + 2].copy_from_slice(&here.to_be_bytes());
        piece[next_header] = PROTOCOL_FRAGMENT;
        piece.extend([PROTOCOL_TCP, 0]);
        piece.extend((offset as u16 | u16::from(more)).to_be_bytes());
        piece.extend(id.to_be_bytes());
        piece.extend(part);
        piece
    };
    (size > 0).then(|| payload.chunks(size).enumerate().map(piece).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(payload_len: u16) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(payload_len.to_be_bytes());
        frame.extend([PROTOCOL_TCP, 64]);
        frame.extend([7; 32]);
        frame.extend((0..payload_len).map(|at| at as u8));
        frame
    }

    #[test]
    fn cuts_what_does_not_fit() {
        let frame = segment(1460);
        let pieces = pieces(&frame, 1280, 0x0102_0304).unwrap();
        let [first, last] = pieces.as_slice() else { panic!("{} pieces", pieces.len()) };
        assert_eq!(first.len(), ETHERNET_BYTES + 1280);
        assert_eq!(first[18..21], [4, 216, PROTOCOL_FRAGMENT], "1240 bytes, the header named");
        assert_eq!(first[54..62], [PROTOCOL_TCP, 0, 0, 1, 1, 2, 3, 4], "at 0, more to come");
        assert_eq!(last[18..21], [0, 236, PROTOCOL_FRAGMENT]);
        assert_eq!(last[54..62], [PROTOCOL_TCP, 0, 4, 208, 1, 2, 3, 4], "at 1232, the last");
        assert_eq!([&first[62..], &last[62..]].concat(), frame[54..], "nothing is lost");
        assert_eq!(first[..18], frame[..18]);
        assert_eq!(last[21..54], frame[21..54]);
    }

    #[test]
    fn leaves_what_fits_and_what_is_not_its_own() {
        assert_eq!(pieces(&segment(1240), 1280, 1), None);
        let mut ipv4 = segment(1460);
        ipv4[12..24].copy_from_slice(&[8, 0, 0x45, 0, 5, 180, 0, 0, 0, 0, 64, 6]);
        assert_eq!(pieces(&ipv4, 1280, 1), None);
        assert_eq!(pieces(&[0x86; 30], 1280, 1), None);
    }
}
