//! Datagrams inside others on their way between POPs and targets: docs/protocol.md, section 21.

use std::net::IpAddr;

use crate::frames::{
    DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ICMP, ICMPV6, ROUTING, TCP, addresses, datagram,
    internet_checksum, put_word, repair, transport_checksum, word,
};

/// A datagram inside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried<'a> {
    /// Whether UDP and GUE are between both IP headers.
    pub is_gue: bool,
    /// The address of the POP that sent it.
    pub src: IpAddr,
    /// The target.
    pub dst: IpAddr,
    /// The datagram inside.
    pub inside: &'a [u8],
}

/// What is behind the IP headers of a datagram of `protocol`, where that may be a datagram too.
pub fn inside(protocol: u8, payload: &[u8]) -> Option<&[u8]> {
    match protocol {
        IPV4 | IPV6 => Some(payload),
        UDP => payload.get(GUE_LEN..).filter(|_| word(payload, 2) == GUE_PORT),
        _ => None,
    }
}

/// What the datagram `ip`, which a POP sent to its targets' side and which is whole, carries to a
/// target; `None` when it is a segment, an ICMP message or a fragment instead, or UDP from an
/// address that is none of a tunnel (`is_from`).
///
/// # Errors
/// The rule that the outer headers break.
pub fn sent(
    ip: &[u8],
    is_from: impl Fn(IpAddr) -> bool,
) -> Result<Option<Carried<'_>>, &'static str> {
    let is_v4 = match ip.first().map(|first| first >> 4) {
        Some(4) => true,
        Some(6) => false,
        _ => return Err("no datagram"),
    };
    let (protocol, header_len) = if is_v4 { (ip[9], 20) } else { (ip[6], 40) };
    let is_part = if is_v4 { word(ip, 6) & 0x3fff != 0 } else { protocol == FRAGMENT };
    // Extension headers are those of a segment: a POP puts none in.
    let extensions: &[u8] = if is_v4 { &[] } else { &[HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS] };
    if is_part || [TCP, ICMP, ICMPV6].contains(&protocol) || extensions.contains(&protocol) {
        return Ok(None);
    }
    let (src, dst) = addresses(ip).ok_or("a header that is cut off")?;
    if protocol == UDP && !is_from(src) {
        return Ok(None);
    }
    let payload = ip.get(header_len..).ok_or("a datagram that is cut off")?;
    let total_len = if is_v4 { word(ip, 2).into() } else { 40 + usize::from(word(ip, 4)) };
    require(total_len == ip.len(), "a datagram of another length")?;
    let inside = inside(protocol, payload).ok_or("neither a segment nor a tunnel")?;
    let is_gue = protocol == UDP;
    let (family, least, len) = match inside.first().map(|first| first >> 4) {
        Some(4) => (IPV4, 20, usize::from(word(inside, 2))),
        Some(6) => (IPV6, 40, 40 + usize::from(word(inside, 4))),
        _ => return Err("no datagram in a tunnel"),
    };
    let says = if is_gue { payload[9] } else { protocol };
    require(says == family, "a tunnel that says that it carries another family")?;
    require(inside.len() >= least && inside.len() == len, "more or less than a datagram inside")?;
    require(class(ip) == class(inside), "other DSCP or ECN than inside")?;
    if is_v4 {
        require(ip[0] == 0x45 && internet_checksum(&[&ip[..20]]) == 0, "a wrong IPv4 header")?;
        require(ip[8] == TTL, "another TTL than a tunnel has")?;
        let is_relayed = family == IPV4 && [TCP, UDP].contains(&inside[9]);
        let may_be_cut = is_relayed && word(inside, 6) & DF == 0;
        require(word(ip, 6) == if may_be_cut { 0 } else { DF }, "wrong DF of a tunnel")?;
        require(may_be_cut || word(ip, 4) == 0, "an identification beside DF")?;
    } else {
        require(ip[7] == TTL, "another hop limit than a tunnel has")?;
        require(word(ip, 2) == 0 && ip[1] & 15 == 0, "a flow label of a tunnel")?;
    }
    if is_gue {
        check_gue((src, dst), payload)?;
    }
    Ok(Some(Carried { is_gue, src, dst, inside }))
}

fn check_gue((src, dst): (IpAddr, IpAddr), udp: &[u8]) -> Result<(), &'static str> {
    require(usize::from(word(udp, 4)) == udp.len(), "a wrong length of UDP")?;
    require(word(udp, 0) >= 0xc000, "a source port that no tunnel has")?;
    let is_summed = word(udp, 6) != 0;
    require(is_summed != src.is_ipv4(), "a UDP checksum over IPv4, or none over IPv6")?;
    let holds = transport_checksum(src, dst, UDP, udp) == 0;
    require(!is_summed || holds, "a wrong UDP checksum")?;
    require(udp[8] == 0 && word(udp, 10) == 0, "GUE of another variant, or with flags")
}

/// The outer headers of a datagram from `src` to `dst` around `inside`, as a target's host sends
/// it, and that datagram. The class is that of `inside`, whose header has to be there.
pub fn around(src: IpAddr, dst: IpAddr, is_gue: bool, inside: &[u8]) -> Vec<u8> {
    let carried = if inside[0] >> 4 == 4 { IPV4 } else { IPV6 };
    let mut outer = if is_gue {
        let mut udp = vec![0xc0, 1, 0x17, 0xc0, 0, 0, 0, 0, 0, carried, 0, 0];
        put_word(&mut udp, 4, (GUE_LEN + inside.len()) as u16);
        datagram(src, dst, TTL, UDP, &[&udp, inside].concat())
    } else {
        datagram(src, dst, TTL, carried, inside)
    };
    if is_gue {
        // Without a checksum.
        put_word(&mut outer, if src.is_ipv4() { 26 } else { 46 }, 0);
    }
    let class = class(inside);
    if src.is_ipv4() {
        outer[1] = class;
        repair(&mut outer[..20]);
    } else {
        // Version and class, without the flow label.
        put_word(&mut outer, 0, 0x6000 | u16::from(class) << 4);
    }
    outer
}

/// How much longer the outer headers from the address `from` make a datagram.
pub fn overhead(from: IpAddr, is_gue: bool) -> u16 {
    let header = if from.is_ipv4() { 20 } else { 40 };
    header + if is_gue { GUE_LEN as u16 } else { 0 }
}

/// The byte of DSCP and ECN of a datagram whose header is there.
pub fn class(ip: &[u8]) -> u8 {
    if ip[0] >> 4 == 4 { ip[1] } else { (word(ip, 0) >> 4) as u8 }
}

pub(crate) fn require(holds: bool, rule: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(rule) }
}

/// Protocol numbers of datagrams inside.
const IPV4: u8 = 4;
const IPV6: u8 = 41;
const UDP: u8 = 17;
/// UDP and GUE headers.
const GUE_LEN: usize = 12;
const GUE_PORT: u16 = 6080;
const TTL: u8 = 64;
const DF: u16 = 0x4000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{ACK, Segment, repair_header};

    /// A datagram as a POP sends it, with a UDP checksum over IPv6.
    fn good(src: &str, dst: &str, is_gue: bool) -> Vec<u8> {
        let (client, vip) = match src.contains(':') {
            true => ("[2600::1]:5", "[2600::2]:443"),
            false => ("198.18.0.7:5", "203.0.113.1:443"),
        };
        let inside = Segment::new(client.parse().unwrap(), vip.parse().unwrap(), ACK).datagram();
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let mut bytes = around(src, dst, is_gue, &inside);
        if src.is_ipv4() {
            put_word(&mut bytes, 4, 0);
            repair(&mut bytes[..20]);
        } else if is_gue {
            let sum = transport_checksum(src, dst, UDP, &bytes[40..]);
            put_word(&mut bytes, 46, sum);
        }
        bytes
    }

    #[test]
    fn what_a_pop_sends_is_taken_apart_and_nothing_else_passes() {
        for (src, dst, header) in [("10.0.0.1", "10.0.0.2", 20), ("fd00::1", "fd00::2", 40)] {
            for is_gue in [false, true] {
                let bytes = good(src, dst, is_gue);
                let at = header + if is_gue { GUE_LEN } else { 0 };
                let carried = sent(&bytes, |_| true).unwrap().unwrap();
                let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
                assert_eq!(carried, Carried { is_gue, src, dst, inside: &bytes[at..] });
                assert_eq!(bytes.len() - carried.inside.len(), overhead(src, is_gue).into());
                // One bit of the headers at a time. Any source port from 0xc000 on is right where
                // no checksum is over it, and the checksum of IPv4 is repaired.
                for bit in 0..8 * at {
                    let (mut wrong, byte) = (bytes.clone(), bit / 8);
                    wrong[byte] ^= 1 << (bit % 8);
                    let is_v4 = header == 20;
                    if is_v4 && byte > 0 {
                        repair_header(&mut wrong);
                    }
                    let is_port = is_gue && (byte == header && bit % 8 < 6 || byte == header + 1);
                    let may_pass = is_v4 && ((10..12).contains(&byte) || is_port);
                    assert_eq!(
                        sent(&wrong, |_| true) == Ok(Some(carried)),
                        may_pass,
                        "bit {bit} of {bytes:x?}"
                    );
                }
                assert!(sent(&bytes[..bytes.len() - 1], |_| true).is_err());
                assert!(sent(&[&bytes[..], &[0]].concat(), |_| true).is_err());
            }
        }
    }
}
