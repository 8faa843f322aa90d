//! The segments of a probe: written as a POP sends them in pool mode, and read when they come back.

use std::net::{IpAddr, SocketAddr};

use anyrelay_core::net::Family;
use anyrelay_core::seq::SeqNum;
use anyrelay_core::wire::tcp::{self, kind};
use anyrelay_core::wire::{checksum, icmp, icmp_error::IcmpError, icmpv6, ip, ipv4, ipv6};

use super::findings::Options;

/// The two ends of a connection, as its datagrams have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// This host's.
    pub own: SocketAddr,
    /// The target's, or the VIP.
    pub peer: SocketAddr,
}

impl Flow {
    pub fn family(&self) -> Family {
        Family::of(self.own.ip())
    }

    /// Length in bytes of the headers of a segment without options.
    pub fn headers_len(&self) -> usize {
        self.family().ip_header_len() + tcp::HEADER_LEN
    }
}

/// A segment to the peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    pub seq: SeqNum,
    pub ack: SeqNum,
    pub flags: u8,
    /// TSval and TSecr.
    pub stamps: Option<[u32; 2]>,
    /// Bytes of data, all 0.
    pub data_len: usize,
}

impl Outgoing {
    /// The datagram, with DF set. A SYN offers all that a stock host does.
    pub fn datagram(&self, flow: &Flow) -> Vec<u8> {
        let stamps = self.stamps.map(|[value, echo]| {
            let [value, echo] = [value, echo].map(u32::to_be_bytes);
            let len = tcp::TIMESTAMPS_LEN as u8;
            [&[kind::NOP, kind::NOP, kind::TIMESTAMPS, len][..], &value, &echo].concat()
        });
        let mut options = stamps.unwrap_or_default();
        if self.flags & tcp::SYN != 0 {
            let [high, low] = OFFERED_MSS.to_be_bytes();
            options.extend([
                kind::MSS,
                4,
                high,
                low,
                kind::NOP,
                kind::NOP,
                kind::SACK_PERMITTED,
                2,
            ]);
            options.extend([kind::NOP, kind::WINDOW_SCALE, 3, OFFERED_SCALE]);
        }
        let header = tcp::Header {
            src_port: flow.own.port(),
            dst_port: flow.peer.port(),
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            window: WINDOW,
            options: &options,
        };
        let payload_len = header.header_len() + self.data_len;
        let at = flow.family().ip_header_len();
        let mut bytes = vec![0; at + payload_len];
        let outer = ip::Header {
            class: 0,
            hops: ipv4::ORIGINATED_TTL,
            protocol: ipv4::PROTOCOL_TCP,
            payload_len: payload_len as u16,
            src: flow.own.ip(),
            dst: flow.peer.ip(),
        };
        outer.write(&mut bytes);
        let segment = bytes.get_mut(at..).unwrap_or_default();
        // The data is zeros, and does not change the sum.
        header.write_with_checksum(segment, pseudo(flow, payload_len));
        bytes
    }
}

/// A segment from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Incoming {
    pub seq: SeqNum,
    pub ack: SeqNum,
    pub flags: u8,
    /// The number after it.
    pub end: SeqNum,
    /// Whether it has data, SYN or FIN.
    pub has_length: bool,
    /// TSval and TSecr.
    pub stamps: Option<[u32; 2]>,
    /// Those of a SYN-ACK.
    pub options: Options,
}

impl Incoming {
    /// Reads the segment that fills `bytes`; `None` for those of other flows and damaged ones.
    pub fn read(flow: &Flow, bytes: &[u8]) -> Option<Self> {
        let view = tcp::Tcp::parse(bytes)?;
        let ports = (view.src_port, view.dst_port);
        if ports != (flow.peer.port(), flow.own.port()) || !is_whole(flow, bytes) {
            return None;
        }
        let header = tcp::Header::parse(bytes)?;
        let (mut options, mut stamps) = (Options::default(), None);
        (options.timestamps, options.sack) = (Some(false), Some(false));
        options.ecn = Some(view.flags & (tcp::ECE | tcp::CWR) == tcp::ECE);
        for option in tcp::Options::new(header.options).flatten() {
            let value = header.options.get(option.at + 2..option.at + option.len)?;
            match (option.kind, value) {
                (kind::MSS, &[high, low]) => options.mss = Some(u16::from_be_bytes([high, low])),
                (kind::WINDOW_SCALE, &[scale]) => options.window_scale = Some(scale),
                (kind::SACK_PERMITTED, []) => options.sack = Some(true),
                (kind::TIMESTAMPS, value) => {
                    if let ([value, echo], []) = value.as_chunks::<4>() {
                        stamps = Some([*value, *echo].map(u32::from_be_bytes));
                        options.timestamps = Some(true);
                    }
                }
                _ => {}
            }
        }
        let (seq, ack, flags, end) = (view.seq, view.ack, view.flags, view.end(bytes.len()));
        Some(Incoming { seq, ack, flags, end, has_length: end != seq, stamps, options })
    }

    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// The segment or message that the datagram of `family` carries, with its source and destination;
/// `None` for a fragment.
pub(super) fn open(family: Family, datagram: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    match family {
        Family::V4 => {
            let header = ipv4::Ipv4::parse(datagram).ok().filter(|header| !header.is_fragment())?;
            let payload = datagram.get(header.header_len..header.total_len)?;
            Some((IpAddr::V4(header.src.into()), IpAddr::V4(header.dst.into()), payload))
        }
        Family::V6 => {
            let header = ipv6::Ipv6::parse(datagram)?;
            let upper = header.upper(datagram).ok()?;
            let payload = datagram.get(upper.at..header.total_len())?;
            Some((IpAddr::V6(header.src.into()), IpAddr::V6(header.dst.into()), payload))
        }
    }
}

/// An ICMP error, and what its quote says of the datagram that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quoted {
    /// Its meaning; `None` for the rarer ones.
    pub error: Option<IcmpError>,
    /// Type and code.
    pub code: [u8; 2],
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    /// The first four bytes behind its headers: the ports of a segment.
    pub ports: Option<[u16; 2]>,
}

impl Quoted {
    /// Reads the message that fills `bytes`; `None` if it is no error, or one without a quote.
    pub fn read(family: Family, bytes: &[u8]) -> Option<Self> {
        let (head, quote) = bytes.split_first_chunk()?;
        let is_error = match family {
            Family::V4 => matches!(icmp::parse(bytes), Ok(icmp::Kind::Error { .. })),
            // The kernel has looked at the checksum (RFC 3542, section 3.1).
            Family::V6 => head[icmpv6::field::TYPE] < ICMPV6_QUESTIONS,
        };
        if !is_error {
            return None;
        }
        let error = IcmpError::parse(family, head);
        let (src, dst, protocol, at): (IpAddr, IpAddr, _, _) = match family {
            Family::V4 => {
                let header = ipv4::Ipv4::parse_quoted(quote)?;
                let [src, dst] = [header.src, header.dst].map(|ip| IpAddr::V4(ip.into()));
                (src, dst, header.protocol, header.header_len)
            }
            Family::V6 => {
                let (header, upper) = ipv6::Ipv6::parse_quoted(quote)?;
                let [src, dst] = [header.src, header.dst].map(|ip| IpAddr::V6(ip.into()));
                (src, dst, upper.protocol, upper.at)
            }
        };
        let word = |at: usize| Some(u16::from_be_bytes(*quote.get(at..)?.first_chunk()?));
        let ports = word(at).zip(word(at + 2)).map(<[u16; 2]>::from);
        let [kind, code, ..] = *head;
        Some(Quoted { error, code: [kind, code], src, dst, protocol, ports })
    }

    /// The MTU that it announces, if it does.
    pub fn mtu(&self) -> Option<u16> {
        match self.error {
            Some(IcmpError::TooBig(mtu)) => Some(mtu),
            _ => None,
        }
    }

    /// Whether it is about a segment of `flow`.
    pub fn is_of(&self, flow: &Flow) -> bool {
        let ends = (self.src, self.dst) == (flow.own.ip(), flow.peer.ip());
        let ports = self.ports == Some([flow.own.port(), flow.peer.port()]);
        ends && self.protocol == ipv4::PROTOCOL_TCP && ports
    }
}

/// Whether the checksum is right, or left to a NIC by a sender on this machine: then the field has
/// the sum of the pseudo header alone.
fn is_whole(flow: &Flow, segment: &[u8]) -> bool {
    let sum = pseudo(flow, segment.len());
    let field = segment.get(tcp::field::CHECKSUM..).and_then(<[u8]>::first_chunk);
    let is_left = field.is_some_and(|&field| u16::from_be_bytes(field) == checksum::fold(sum));
    is_left || checksum::fold(checksum::sum(sum, segment)) == u16::MAX
}

/// The sum of the pseudo header, which is the same in both directions.
fn pseudo(flow: &Flow, len: usize) -> u32 {
    checksum::pseudo_header_of(flow.own.ip(), flow.peer.ip(), ipv4::PROTOCOL_TCP, len)
}

/// The first type of ICMPv6 messages that are no errors (RFC 4443, section 2.1).
const ICMPV6_QUESTIONS: u8 = 128;
const OFFERED_MSS: u16 = 1460;
const OFFERED_SCALE: u8 = 7;
const WINDOW: u16 = u16::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn flows() -> [Flow; 2] {
        let flow =
            |own: &str, peer: &str| Flow { own: own.parse().unwrap(), peer: peer.parse().unwrap() };
        [
            flow("192.0.2.7:40000", "198.51.100.10:443"),
            flow("[2001:db8:1::7]:40000", "[2001:db8:2::10]:443"),
        ]
    }

    #[test]
    fn a_segment_is_read_as_it_was_written() {
        for flow in flows() {
            let turned = Flow { own: flow.peer, peer: flow.own };
            let out = Outgoing {
                seq: SeqNum(9),
                ack: SeqNum(7),
                flags: tcp::SYN | tcp::ACK | tcp::ECE,
                stamps: Some([5, 6]),
                data_len: 3,
            };
            let datagram = out.datagram(&flow);
            let (src, dst, segment) = open(flow.family(), &datagram).unwrap();
            assert_eq!((src, dst), (flow.own.ip(), flow.peer.ip()));
            let read = Incoming::read(&turned, segment).unwrap();
            assert_eq!((read.seq, read.ack, read.end), (SeqNum(9), SeqNum(7), SeqNum(13)));
            assert_eq!(read.stamps, Some([5, 6]));
            let options = Options {
                timestamps: Some(true),
                mss: Some(1460),
                window_scale: Some(7),
                sack: Some(true),
                ecn: Some(true),
            };
            assert_eq!(read.options, options);
            assert_eq!(Incoming::read(&flow, segment), None, "another flow's");
            for at in 0..segment.len() {
                let mut damaged = segment.to_vec();
                damaged[at] ^= 1;
                assert_eq!(Incoming::read(&turned, &damaged), None, "byte {at}");
            }
        }
    }

    #[test]
    fn a_bare_segment_has_no_stamps() {
        for flow in flows() {
            let (seq, ack) = (SeqNum(1), SeqNum(2));
            let out = Outgoing { seq, ack, flags: tcp::RST, stamps: None, data_len: 0 };
            let datagram = out.datagram(&flow);
            assert_eq!(datagram.len(), flow.headers_len());
            let (_, _, segment) = open(flow.family(), &datagram).unwrap();
            let read = Incoming::read(&Flow { own: flow.peer, peer: flow.own }, segment).unwrap();
            assert_eq!((read.stamps, read.options.timestamps), (None, Some(false)));
            assert!(!read.has_length && read.has(tcp::RST) && !read.has(tcp::ACK));
        }
    }

    #[test]
    fn quotes_name_their_flow() {
        for flow in flows() {
            let (seq, ack) = (SeqNum(1), SeqNum(2));
            let out = Outgoing { seq, ack, flags: tcp::ACK, stamps: None, data_len: 9 };
            let mut message = [&[0; 8][..], &out.datagram(&flow)].concat();
            let router = flow.peer.ip();
            IcmpError::TooBig(1400).write(router, flow.own.ip(), &mut message);
            let read = Quoted::read(flow.family(), &message).unwrap();
            assert_eq!(read.error, Some(IcmpError::TooBig(1400)));
            assert!(read.is_of(&flow));
            let own = SocketAddr::new(flow.own.ip(), 40_001);
            assert!(!read.is_of(&Flow { own, ..flow }));
            assert!(!read.is_of(&Flow { own: flow.peer, peer: flow.own }));
            for len in 0..message.len() {
                let cut = Quoted::read(flow.family(), &message[..len]);
                // A router may quote less than all: what is left is still of the flow.
                let is_right = |cut: Quoted| {
                    let has_ports = cut.ports.is_some();
                    cut.src == flow.own.ip() && (!has_ports || cut.is_of(&flow))
                };
                assert!(cut.is_none_or(is_right), "{len} bytes: {cut:?}");
            }
        }
    }
}
