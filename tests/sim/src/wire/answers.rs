//! What hosts and routers answer of themselves.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyrelay_kit::frames::{
    ACK, ETHERTYPE_ARP, ETHERTYPE_IPV6, ICMPV6, Mac, RST, Segment, arp, datagram, ethernet, long,
    nd,
};

use super::{Datagram, ETHERNET_LEN, SegmentView};

/// The answer of a host that has no such connection, without timestamps (RFC 9293, section
/// 3.10.7.1).
pub fn refusal(segment: &SegmentView<'_>) -> Option<Vec<u8>> {
    if segment.has(RST) {
        return None;
    }
    let answer = |flags| Segment { ttl: 64, ..Segment::new(segment.dst, segment.src, flags) };
    let answer = match segment.has(ACK) {
        true => Segment { seq: segment.ack, ..answer(RST) },
        false => Segment { seq: 0, ack: segment.end(), ..answer(RST | ACK) },
    };
    Some(answer.from_host())
}

/// The reply of the host `mac` to an ARP request, if it is one and asks for `ip`.
pub fn arp_reply(frame: &[u8], mac: Mac, ip: Ipv4Addr) -> Option<Vec<u8>> {
    let request = frame.get(ETHERNET_LEN..ETHERNET_LEN + 28)?;
    if request[..8] != [0, 1, 8, 0, 6, 4, 0, 1] || request[24..28] != ip.octets() {
        return None;
    }
    let asker: Mac = request[8..14].try_into().ok()?;
    let reply = arp(2, (mac, ip.to_bits()), (asker, long(request, 14)));
    Some(ethernet(asker, mac, None, ETHERTYPE_ARP, &reply))
}

/// The advertisement of the router `mac` in answer to a neighbour solicitation, if it is one and
/// asks for `ip` (RFC 4861, section 4.4).
pub fn advertisement(frame: &[u8], mac: Mac, ip: Ipv6Addr) -> Option<Vec<u8>> {
    let asked = Datagram::read(frame.get(ETHERNET_LEN..)?)?;
    let message = asked.payload();
    let asks = asked.protocol == ICMPV6 && message.len() >= 24 && message[0] == 135;
    if !asks || message[8..24] != ip.octets() || asked.ttl != 255 {
        return None;
    }
    // From a router, solicited, override.
    let answer = nd(136, 0xe0, ip.to_bits(), Some((2, mac)));
    let asker: Mac = frame.get(6..12)?.try_into().ok()?;
    let bytes = datagram(ip.into(), asked.src, 255, ICMPV6, &answer);
    Some(ethernet(asker, mac, None, ETHERTYPE_IPV6, &bytes))
}
