//! IPv6 datagrams as text, for `--explain`: the counterpart of the IPv4 part of `describe`.
//!
//! It too describes the captured bytes, and trusts no length of a header. (RFC 8200 for the
//! headers, RFC 4443 for ICMPv6, RFC 4861 for neighbour discovery.)

use std::fmt;
use std::net::{Ipv6Addr, SocketAddrV6};

use anyrelay_core::wire::tcp::Tcp;

use super::describe::{number, segment_words, udp_words};
use super::describe_quote;

/// Describes the datagram at the start of `bytes`.
pub(super) fn datagram(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let Some(ip) = FixedHeader::parse(bytes) else {
        return write!(f, "IPv6, malformed, {} bytes", bytes.len());
    };
    let FixedHeader { src, dst, claimed, .. } = ip;
    let there = bytes.len().saturating_sub(HEADER_LEN);
    // The captured part, without Ethernet's padding.
    let payload = bytes.get(HEADER_LEN..).unwrap_or_default();
    let payload = payload.get(..claimed).unwrap_or(payload);
    let upper = UpperLayer::find(ip.next_header, payload);
    let rest = payload.get(upper.at..).unwrap_or_default();
    let segment =
        (upper.protocol == TCP && !upper.is_later_fragment).then(|| Tcp::parse(rest)).flatten();
    match (segment, upper.protocol) {
        (Some(tcp), _) => {
            let (src, dst) = (socket(src, tcp.src_port), socket(dst, tcp.dst_port));
            write!(f, "{src} -> {dst} ")?;
            let data = claimed.saturating_sub(upper.at + tcp.header_len);
            segment_words(f, &tcp, rest, data)?;
        }
        (None, TCP) => write!(f, "{src} -> {dst} TCP")?,
        (None, UDP) if rest.len() >= 4 && !upper.is_later_fragment => {
            let [from, to] = [0, 2].map(|at| number(rest, at, 2) as u16);
            write!(f, "{} -> {} UDP ", socket(src, from), socket(dst, to))?;
            udp_words(f, rest)?;
        }
        (None, ICMPV6) if !upper.is_later_fragment => icmp_words(f, src, dst, rest)?,
        (None, protocol) => write!(f, "{src} -> {dst} protocol {protocol}")?,
    }
    if upper.is_fragment {
        f.write_str(" fragment")?;
    }
    if claimed > there {
        let (claimed, there) = (claimed + HEADER_LEN, bytes.len());
        write!(f, " (claims {claimed} bytes, {there} are there)")?;
    }
    Ok(())
}

/// A fixed header, whose payload may be truncated.
pub(super) struct FixedHeader {
    pub src: Ipv6Addr,
    pub dst: Ipv6Addr,
    pub next_header: u8,
    /// The length of the payload by the header.
    claimed: usize,
}

impl FixedHeader {
    pub fn parse(bytes: &[u8]) -> Option<FixedHeader> {
        let head: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        if head[0] >> 4 != 6 {
            return None;
        }
        let address = |at| {
            let octets = head.get(at..).and_then(|rest| rest.first_chunk::<16>());
            Ipv6Addr::from(octets.copied().unwrap_or_default())
        };
        Some(FixedHeader {
            src: address(8),
            dst: address(24),
            next_header: head[6],
            claimed: number(head, 4, 2) as usize,
        })
    }
}

/// The upper-layer header after the extension headers.
pub(super) struct UpperLayer {
    pub protocol: u8,
    /// Its offset in the payload.
    pub at: usize,
    is_fragment: bool,
    /// A fragment without the start of the upper-layer header.
    pub is_later_fragment: bool,
}

impl UpperLayer {
    pub fn find(next_header: u8, payload: &[u8]) -> UpperLayer {
        let mut upper = UpperLayer {
            protocol: next_header,
            at: 0,
            is_fragment: false,
            is_later_fragment: false,
        };
        for _ in 0..EXTENSIONS_MAX {
            let Some(header) = payload.get(upper.at..upper.at + 8) else { break };
            let len = match upper.protocol {
                HOP_BY_HOP | ROUTING | DESTINATION => 8 * (1 + usize::from(header[1])),
                FRAGMENT => {
                    upper.is_fragment = true;
                    upper.is_later_fragment |= number(header, 2, 2) >> 3 != 0;
                    8
                }
                _ => break,
            };
            upper.protocol = header[0];
            upper.at += len;
            if upper.is_later_fragment {
                break;
            }
        }
        upper
    }
}

fn icmp_words(
    f: &mut fmt::Formatter<'_>,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    message: &[u8],
) -> fmt::Result {
    let target = || {
        let octets = message.get(8..).and_then(|rest| rest.first_chunk::<16>());
        octets.map(|octets| Ipv6Addr::from(*octets))
    };
    let (Some(kind), Some(code)) = (message.first(), message.get(1)) else {
        return write!(f, "{src} -> {dst} ICMPv6 cut off");
    };
    match (kind, target()) {
        (135, Some(target)) => return write!(f, "ND who has {target}, tell {src}"),
        (136, Some(target)) => {
            write!(f, "ND {target} is at ")?;
            return link_address(f, message.get(24..).unwrap_or_default());
        }
        _ => write!(f, "{src} -> {dst} ICMPv6 ")?,
    }
    match (kind, code) {
        (128, 0) => return f.write_str("echo request"),
        (129, 0) => return f.write_str("echo reply"),
        (2, _) if message.len() >= 8 => {
            write!(f, "packet too big mtu {}", number(message, 4, 4))?;
        }
        (1, _) => write!(f, "unreachable code {code}")?,
        (3, _) => f.write_str("time exceeded")?,
        _ => return write!(f, "type {kind} code {code}"),
    }
    describe_quote::about(f, message.get(8..).unwrap_or_default())
}

/// The target's link-layer address among the options of an advertisement.
fn link_address(f: &mut fmt::Formatter<'_>, options: &[u8]) -> fmt::Result {
    match options {
        [2, 1, a, b, c, d, e, g, ..] => {
            write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
        }
        _ => f.write_str("an address that is not told"),
    }
}

fn socket(ip: Ipv6Addr, port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(ip, port, 0, 0)
}

/// Length in bytes of the fixed header.
pub(super) const HEADER_LEN: usize = 40;
/// The maximum number of extension headers.
const EXTENSIONS_MAX: usize = 8;
const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const DESTINATION: u8 = 60;

#[cfg(test)]
mod tests {
    use super::super::Described;

    fn described(datagram: &[u8]) -> String {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
        frame.extend(datagram);
        Described(&frame).to_string()
    }

    /// A datagram of 2001:db8::7 to 2001:db8::1 with a correct length field.
    fn datagram(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next_header, 64];
        for last in [7, 1] {
            bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        bytes.extend(payload);
        bytes
    }

    const SYN: [u8; 24] =
        [0x12, 0x34, 1, 0xbb, 0, 0, 0, 9, 0, 0, 0, 0, 0x60, 2, 1, 0, 0, 0, 0, 0, 2, 4, 5, 160];

    #[test]
    fn a_segment_is_described_behind_extension_headers() {
        let words = "[2001:db8::7]:4660 -> [2001:db8::1]:443 [S] seq 9 mss 1440 len 0";
        assert_eq!(described(&datagram(6, &SYN)), words);
        let with_options = [&[6, 0, 1, 4, 0, 0, 0, 0][..], &SYN].concat();
        assert_eq!(described(&datagram(60, &with_options)), words);
        let first = [&[6, 0, 0, 1, 0, 0, 0, 5][..], &SYN].concat();
        assert_eq!(described(&datagram(44, &first)), format!("{words} fragment"));
        let later = [&[6, 0, 0, 8, 0, 0, 0, 5][..], &SYN].concat();
        assert_eq!(described(&datagram(44, &later)), "2001:db8::7 -> 2001:db8::1 TCP fragment");
    }

    #[test]
    fn icmpv6_and_neighbour_discovery_are_described() {
        let quoted = datagram(6, &SYN);
        let too_big = [&[2, 0, 0, 0, 0, 0, 5, 0][..], &quoted].concat();
        assert_eq!(
            described(&datagram(58, &too_big)),
            "2001:db8::7 -> 2001:db8::1 ICMPv6 packet too big mtu 1280 about \
             [2001:db8::7]:4660 -> [2001:db8::1]:443"
        );
        let target = &quoted[24..40];
        let advertisement =
            [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], target, &[2, 1, 2, 0, 0, 0, 0, 9]].concat();
        assert_eq!(
            described(&datagram(58, &advertisement)),
            "ND 2001:db8::1 is at 02:00:00:00:00:09"
        );
        let solicitation = [&[135, 0, 0, 0, 0, 0, 0, 0][..], target].concat();
        assert_eq!(
            described(&datagram(58, &solicitation)),
            "ND who has 2001:db8::1, tell 2001:db8::7"
        );
    }

    #[test]
    fn arbitrary_frames_are_described_without_a_panic() {
        let whole = datagram(60, &[&[6, 0, 1, 4, 0, 0, 0, 0][..], &SYN].concat());
        for len in 0..whole.len() {
            assert!(!described(&whole[..len]).is_empty());
        }
        assert!(described(&whole[..60]).contains("(claims 72 bytes, 60 are there)"));
        for at in 0..whole.len() {
            for value in [0, 1, 6, 43, 44, 58, 60, 0x4f, 128, 136, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                described(&changed);
            }
        }
    }
}
