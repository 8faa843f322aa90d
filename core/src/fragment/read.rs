//! Reads one fragment, and refuses what no fragment of a segment looks like (RFC 791; RFC 8200,
//! section 4.5; RFC 1858; RFC 3128).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::verdict::DropReason;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::nd;
use crate::wire::tcp;

/// What tells a sender's datagrams apart. IPv4's protocol is not among it: two datagrams that differ
/// in nothing else are refused instead of told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IPv4's 16 bits, or IPv6's 32.
    pub id: u32,
}

/// A fragment whose datagram is not whole, and where it is in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Its datagram.
    pub key: Key,
    /// What the datagram carries: the protocol, or IPv6's next header.
    pub protocol: u8,
    /// Where in the datagram's payload it belongs, in bytes.
    pub offset: usize,
    /// Bytes of payload in it.
    pub len: usize,
    /// Whether it is not the last.
    pub more: bool,
    /// The codepoint in its header (RFC 3168).
    pub ecn: u8,
    /// Where its IP header begins in the frame.
    pub l3: usize,
    /// Bytes from there to its payload.
    pub headers_len: usize,
    /// Whether it has the whole TCP header, if it is the first.
    pub(super) is_header_whole: bool,
}

impl Fragment {
    /// The fragment in the frame `bytes`, whose Ethernet header is `ethernet`; `None` when it holds
    /// no fragment, or one that is refused for another reason than that it is one.
    pub fn read(ethernet: &Ethernet, bytes: &[u8]) -> Option<Result<Fragment, DropReason>> {
        let l3 = ethernet.header_len;
        let datagram = bytes.get(l3..)?;
        match ethernet.ethertype {
            ethernet::TYPE_IPV4 => Self::read_ipv4(l3, datagram).map(Ok),
            ethernet::TYPE_IPV6 => Self::read_ipv6(l3, datagram),
            _ => None,
        }
    }

    fn read_ipv4(l3: usize, datagram: &[u8]) -> Option<Fragment> {
        let ip = Ipv4::parse(datagram).ok().filter(Ipv4::is_fragment)?;
        let options = datagram.get(ipv4::HEADER_LEN..ip.header_len)?;
        if ipv4::classify_options(options) != ipv4::Options::Removable {
            return None;
        }
        let payload = datagram.get(ip.header_len..ip.total_len)?;
        Some(Fragment {
            key: Key {
                src: Ipv4Addr::from_bits(ip.src).into(),
                dst: Ipv4Addr::from_bits(ip.dst).into(),
                id: ipv4::id(datagram).into(),
            },
            protocol: ip.protocol,
            offset: ip.fragment_offset(),
            len: payload.len(),
            more: ip.more_fragments(),
            ecn: datagram.get(ipv4::field::TOS)? & ECN_MASK,
            l3,
            headers_len: ip.header_len,
            is_header_whole: is_tcp_header_whole(ip.protocol, payload),
        })
    }

    fn read_ipv6(l3: usize, datagram: &[u8]) -> Option<Result<Fragment, DropReason>> {
        let ip = Ipv6::parse(datagram)?;
        let header = ip.fragment(datagram).filter(|header| !header.is_atomic())?;
        if header.at != ipv6::HEADER_LEN {
            return Some(Err(DropReason::FragmentMalformed));
        }
        let headers_len = header.at + ipv6::FRAGMENT_LEN;
        let payload = datagram.get(headers_len..ip.total_len())?;
        let is_icmpv6 = header.next_header == ipv6::PROTOCOL_ICMPV6 && header.offset == 0;
        if is_icmpv6 && payload.first().is_some_and(|kind| nd::is_discovery(*kind)) {
            // Neighbours are not believed what came in fragments (RFC 6980, section 5).
            return Some(Err(DropReason::NdMalformed));
        }
        Some(Ok(Fragment {
            key: Key {
                src: Ipv6Addr::from_bits(ip.src).into(),
                dst: Ipv6Addr::from_bits(ip.dst).into(),
                id: header.id,
            },
            protocol: header.next_header,
            offset: header.offset,
            len: payload.len(),
            more: header.more,
            ecn: ip.traffic_class & ECN_MASK,
            l3,
            headers_len,
            is_header_whole: is_tcp_header_whole(header.next_header, payload),
        }))
    }

    /// Where its payload ends in that of the datagram.
    pub const fn end(&self) -> usize {
        self.offset + self.len
    }

    /// Whether it can be a part of a datagram that fits a frame of `frame_len_max` bytes.
    pub fn check(&self, frame_len_max: usize) -> Result<(), DropReason> {
        if self.len == 0 || (self.more && !self.len.is_multiple_of(8)) {
            return Err(DropReason::FragmentMalformed);
        }
        // IPv4 counts its header among the 65,535, IPv6 its extension headers.
        let counted = if self.key.dst.is_ipv4() { self.headers_len } else { 0 };
        if counted + self.end() > usize::from(u16::MAX)
            || self.l3 + self.headers_len + self.end() > frame_len_max
        {
            return Err(DropReason::FragmentTooLong);
        }
        // The ports and flags of a segment are in its first fragment, nothing of them in another.
        let is_tcp = self.protocol == ipv4::PROTOCOL_TCP;
        let is_tiny =
            if self.offset == 0 { !self.is_header_whole } else { self.offset < tcp::HEADER_LEN };
        if is_tcp && is_tiny {
            return Err(DropReason::FragmentTiny);
        }
        Ok(())
    }
}

/// Whether `payload`, if it is the beginning of a segment, has the TCP header with its options.
fn is_tcp_header_whole(protocol: u8, payload: &[u8]) -> bool {
    if protocol != ipv4::PROTOCOL_TCP {
        return true;
    }
    let offset = payload.get(tcp::field::DATA_OFFSET).copied().unwrap_or_default();
    let header_len = usize::from(offset >> 4) * 4;
    payload.len() >= header_len.max(tcp::HEADER_LEN)
}

/// The bits of ECN in IPv4's TOS and IPv6's traffic class.
pub(super) const ECN_MASK: u8 = 3;
