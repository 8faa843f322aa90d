//! What an ICMP error quotes, as text, for `--explain`: the ends of the datagram, and of the one
//! inside if it is a tunnel's.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyrelay_core::config::Encapsulate;
use anyrelay_core::net::Family;
use anyrelay_core::wire::ipv4::{self, Ipv4};
use anyrelay_core::wire::{gue, ip, ipv6};

use super::describe::number;
use super::describe_ipv6::{FixedHeader, HEADER_LEN, UpperLayer};

/// Describes the datagram that is quoted in `bytes`, as far as it is there.
pub(super) fn about(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let Some(quoted) = Quoted::read(bytes) else { return Ok(()) };
    write!(f, " about {quoted}")?;
    let Some((protocol, inside)) = quoted.tunnelled() else { return Ok(()) };
    write!(f, " {}", protocol.name())?;
    Quoted::read(inside).map_or(Ok(()), |inside| write!(f, ", inside {inside}"))
}

/// A datagram of which only the start may be there.
struct Quoted<'a> {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    /// Its payload; none of a later fragment.
    payload: &'a [u8],
}

impl Quoted<'_> {
    fn read(bytes: &[u8]) -> Option<Quoted<'_>> {
        Some(match ip::family(bytes) {
            Family::V4 => {
                let ip = Ipv4::parse_quoted(bytes)?;
                let [src, dst] = [ip.src, ip.dst].map(|ip| Ipv4Addr::from_bits(ip).into());
                let payload = bytes.get(ip.header_len..).filter(|_| !ip.is_later_fragment());
                let payload = payload.unwrap_or_default();
                Quoted { src, dst, protocol: ip.protocol, payload }
            }
            Family::V6 => {
                let ip = FixedHeader::parse(bytes)?;
                let payload = bytes.get(HEADER_LEN..).unwrap_or_default();
                let upper = UpperLayer::find(ip.next_header, payload);
                let payload = payload.get(upper.at..).filter(|_| !upper.is_later_fragment);
                let payload = payload.unwrap_or_default();
                let (src, dst) = (ip.src.into(), ip.dst.into());
                Quoted { src, dst, protocol: upper.protocol, payload }
            }
        })
    }

    /// The protocol of the tunnel that it is of, and what is inside.
    fn tunnelled(&self) -> Option<(Encapsulate, &[u8])> {
        let is_ip = |protocol| matches!(protocol, ipv4::PROTOCOL_IPV4 | ipv6::PROTOCOL_IPV6);
        match self.protocol {
            protocol if is_ip(protocol) => Some((Encapsulate::IpIp, self.payload)),
            ipv4::PROTOCOL_UDP if gue::parse(self.payload).is_some_and(is_ip) => {
                Some((Encapsulate::Gue, self.payload.get(gue::HEADERS_LEN..)?))
            }
            _ => None,
        }
    }
}

/// Its ends, with the ports of protocols that have some.
impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Quoted { src, dst, protocol, payload } = self;
        let has_ports = matches!(protocol, ipv4::PROTOCOL_TCP | ipv4::PROTOCOL_UDP);
        if !has_ports || payload.len() < 4 {
            return write!(f, "{src} -> {dst}");
        }
        let [from, to] = [0, 2].map(|at| number(payload, at, 2) as u16);
        write!(f, "{} -> {}", SocketAddr::new(src, from), SocketAddr::new(dst, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct About<'a>(&'a [u8]);

    impl fmt::Display for About<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            about(f, self.0)
        }
    }

    /// A datagram from one address to another, and what it carries.
    fn datagram(protocol: u8, ends: [&str; 2], payload: &[u8]) -> Vec<u8> {
        let [src, dst] = ends.map(|end| end.parse().unwrap());
        let payload_len = payload.len() as u16;
        let mut bytes = vec![0; Family::of(dst).ip_header_len()];
        bytes.extend(payload);
        ip::Header { class: 0, hops: 64, protocol, payload_len, src, dst }.write(&mut bytes);
        bytes
    }

    const V4: [&str; 2] = ["100.64.20.1", "198.51.100.60"];
    const V6: [&str; 2] = ["2001:db8::1", "2001:db8::60"];
    const INNER: [&str; 2] = ["192.0.2.7", "203.0.113.1"];
    const INNER6: [&str; 2] = ["2001:db8:7::7", "2001:db8:f::1"];
    const PORTS: [u8; 8] = [0x12, 0x34, 1, 0xbb, 0, 0, 0, 9];

    #[test]
    fn what_is_inside_a_tunnel_is_described() {
        let (inner, words) = (datagram(6, INNER, &PORTS), "192.0.2.7:4660 -> 203.0.113.1:443");
        let inner6 = datagram(17, INNER6, &PORTS);
        let words6 = "[2001:db8:7::7]:4660 -> [2001:db8:f::1]:443";
        for (ends, protocol, inner, words) in
            [(V4, 4, &inner, words), (V6, 4, &inner, words), (V4, 41, &inner6, words6)]
        {
            let [src, dst] = ends;
            let quote = datagram(protocol, ends, inner);
            let text = format!(" about {src} -> {dst} ipip, inside {words}");
            assert_eq!(About(&quote).to_string(), text);
            let src_port = [0xc0, 0, 0x17, 0xc0, 0, 0, 0, 0, 0, protocol, 0, 0];
            let quote = datagram(17, ends, &[&src_port[..], inner].concat());
            let [src, dst] = [(src, 49152), (dst, 6080)]
                .map(|(ip, port)| SocketAddr::new(ip.parse().unwrap(), port));
            let text = format!(" about {src} -> {dst} gue, inside {words}");
            assert_eq!(About(&quote).to_string(), text);
        }
        // Routers may quote no more than 8 bytes (RFC 792).
        let quote = datagram(4, V4, &inner);
        let text = " about 100.64.20.1 -> 198.51.100.60 ipip";
        assert_eq!(About(&quote[..28]).to_string(), text);
    }

    #[test]
    fn only_what_has_ports_is_described_with_ports() {
        let about = |protocol, ends| About(&datagram(protocol, ends, &PORTS)).to_string();
        for protocol in [6, 17] {
            let text = " about 100.64.20.1:4660 -> 198.51.100.60:443";
            assert_eq!(about(protocol, V4), text);
            assert_eq!(about(protocol, V6), " about [2001:db8::1]:4660 -> [2001:db8::60]:443");
        }
        assert_eq!(about(1, V4), " about 100.64.20.1 -> 198.51.100.60");
        assert_eq!(about(58, V6), " about 2001:db8::1 -> 2001:db8::60");
        let mut later = datagram(6, V4, &PORTS);
        later[7] = 1;
        assert_eq!(About(&later).to_string(), " about 100.64.20.1 -> 198.51.100.60");
    }

    #[test]
    fn arbitrary_quotes_are_described_without_a_panic() {
        let whole = datagram(4, V4, &datagram(41, INNER, &datagram(6, V6, &PORTS)));
        for len in 0..whole.len() {
            let _ = About(&whole[..len]).to_string();
        }
        for at in 0..whole.len() {
            for value in [0, 4, 6, 17, 41, 44, 0x4f, 0x60, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = About(&changed).to_string();
            }
        }
    }
}
