//! The IP headers of datagrams that were reassembled, or that are their own only fragment.

use super::decision::Reassembled;
use super::read::ECN_MASK;
use crate::frame::Frame;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{get_u16, put_u16};

/// Removes the fragment header from the IPv6 datagram at `l3` of `frame`, whose header is `ip`, if
/// the datagram is an atomic fragment: in one fragment, and independent of all others (RFC 6946).
/// The bytes before the header move up, and the frame's front is cut, so that the datagram still
/// begins at `l3`. Returns false, and changes nothing, for other datagrams.
pub fn remove_atomic<F: Frame>(frame: &mut F, l3: usize, ip: &Ipv6) -> bool {
    let datagram = frame.bytes().get(l3..).unwrap_or_default();
    let Some(header) = ip.fragment(datagram).filter(ipv6::FragmentHeader::is_atomic) else {
        return false;
    };
    let Some(datagram) = frame.bytes_mut().get_mut(l3..) else { return false };
    let payload_len = ip.payload_len - ipv6::FRAGMENT_LEN;
    put_u16(datagram, ipv6::field::PAYLOAD_LEN, payload_len as u16);
    if let Some(name) = datagram.get_mut(header.next_header_at) {
        *name = header.next_header;
    }
    // The header is in the frame, so there is room for the bytes that move onto it.
    frame.bytes_mut().copy_within(..l3 + header.at, ipv6::FRAGMENT_LEN);
    frame.trim_front(ipv6::FRAGMENT_LEN);
    true
}

/// Completes the IP header of a reassembled datagram in one frame: the checksum of IPv4, and the CE
/// mark that a router put on one of the fragments (RFC 3168, section 5.3). False when the frame is
/// not the datagram that the table found complete.
#[must_use]
pub fn complete_header<F: Frame>(frame: &mut F, reassembled: &Reassembled) -> bool {
    let Some(ethernet) = Ethernet::parse(frame.bytes()) else { return false };
    let l3 = ethernet.header_len();
    let Some(datagram) = frame.bytes_mut().get_mut(l3..) else { return false };
    let mark = if reassembled.is_marked { ECN_MASK } else { 0 };
    match ethernet.ethertype {
        ethernet::TYPE_IPV4 => complete_ipv4(datagram, reassembled, mark),
        ethernet::TYPE_IPV6 => {
            let Some(ip) = Ipv6::parse(datagram) else { return false };
            if let Some(class) = datagram.get_mut(1) {
                *class |= mark << 4;
            }
            ip.payload_len == reassembled.len && ip.total_len() == datagram.len()
        }
        _ => false,
    }
}

fn complete_ipv4(datagram: &mut [u8], reassembled: &Reassembled, mark: u8) -> bool {
    let header_len = datagram.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    let total_len = usize::from(get_u16(datagram, ipv4::field::TOTAL_LEN));
    if total_len != header_len + reassembled.len || total_len != datagram.len() {
        return false;
    }
    let Some(header) = datagram.get_mut(..header_len) else { return false };
    if let Some(tos) = header.get_mut(ipv4::field::TOS) {
        *tos |= mark;
    }
    ipv4::write_checksum(header);
    Ipv4::parse(datagram).is_ok_and(|ip| !ip.is_fragment())
}
