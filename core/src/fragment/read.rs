//! Reads one fragment, and refuses those that no sender makes of a TCP segment (RFC 791; RFC 8200,
//! section 4.5; RFC 1858; RFC 3128).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::verdict::DropReason;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{nd, tcp};

/// Identifies a datagram. The protocol, which RFC 791 adds for IPv4, is not part of it: two
/// datagrams that differ in nothing else are refused as a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DatagramKey {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// The identification: 16 bits of IPv4, 32 of IPv6.
    pub id: u32,
}

/// A fragment, and its place in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The datagram that it belongs to.
    pub key: DatagramKey,
    /// The protocol of IPv4, or the next header of IPv6's fragment header.
    pub protocol: u8,
    /// The offset of its payload within the datagram's, in bytes.
    pub offset: usize,
    /// The length of its payload in bytes.
    pub len: usize,
    /// The flag MF: it is not the last.
    pub more: bool,
    /// The ECN codepoint in its header (RFC 3168).
    pub ecn: u8,
    /// The offset of its IP header in the frame.
    pub l3: usize,
    /// The length of its headers from there to its payload, in bytes.
    pub headers_len: usize,
    /// For a first fragment of TCP: whether it has the whole TCP header.
    pub(super) is_header_whole: bool,
}

impl Fragment {
    /// The fragment in the frame `bytes`, whose Ethernet header is `ethernet`. `None` when the
    /// frame holds no fragment, or one that the POP drops for a reason that also applies to whole
    /// datagrams.
    pub fn read(ethernet: &Ethernet, bytes: &[u8]) -> Option<Result<Fragment, DropReason>> {
        let l3 = ethernet.header_len();
        let datagram = bytes.get(l3..)?;
        match ethernet.ethertype {
            ethernet::TYPE_IPV4 => Self::read_ipv4(l3, datagram).map(Ok),
            ethernet::TYPE_IPV6 => Self::read_ipv6(l3, datagram),
            _ => None,
        }
    }

    fn read_ipv4(l3: usize, datagram: &[u8]) -> Option<Fragment> {
        let ip = Ipv4::parse(datagram).ok().filter(Ipv4::is_fragment)?;
        let options = ip.options(datagram);
        if ipv4::classify_options(options) != ipv4::Options::Removable {
            return None;
        }
        let payload = datagram.get(ip.header_len..ip.total_len)?;
        Some(Fragment {
            key: DatagramKey {
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
            // Neighbour discovery in fragments is ignored (RFC 6980, section 5).
            return Some(Err(DropReason::NdMalformed));
        }
        Some(Ok(Fragment {
            key: DatagramKey {
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

    /// The end of its payload within the datagram's, in bytes.
    pub const fn end(&self) -> usize {
        self.offset + self.len
    }

    /// Whether it can be a part of a datagram that fits a frame of `frame_len_max` bytes.
    ///
    /// # Errors
    /// [`DropReason::FragmentMalformed`] of one without payload or of a length that no fragment but
    /// the last has, [`DropReason::FragmentTooLong`] beyond the datagram or the frame, and
    /// [`DropReason::FragmentTiny`] where it cuts a TCP header.
    pub fn check(&self, frame_len_max: usize) -> Result<(), DropReason> {
        if self.len == 0 || (self.more && !self.len.is_multiple_of(8)) {
            return Err(DropReason::FragmentMalformed);
        }
        // IPv4's header counts towards the 65,535 bytes; IPv6's fragment header does not remain.
        let counted = if self.key.dst.is_ipv4() { self.headers_len } else { 0 };
        if counted + self.end() > usize::from(u16::MAX)
            || self.l3 + self.headers_len + self.end() > frame_len_max
        {
            return Err(DropReason::FragmentTooLong);
        }
        // The first fragment has the whole TCP header, and no other has a part of it.
        let is_tcp = self.protocol == ipv4::PROTOCOL_TCP;
        let is_tiny =
            if self.offset == 0 { !self.is_header_whole } else { self.offset < tcp::HEADER_LEN };
        if is_tcp && is_tiny {
            return Err(DropReason::FragmentTiny);
        }
        Ok(())
    }
}

/// Whether `payload`, if it begins a TCP segment, has the whole header with its options.
fn is_tcp_header_whole(protocol: u8, payload: &[u8]) -> bool {
    if protocol != ipv4::PROTOCOL_TCP {
        return true;
    }
    let offset = payload.get(tcp::field::DATA_OFFSET).copied().unwrap_or_default();
    let header_len = usize::from(offset >> 4) * 4;
    payload.len() >= header_len.max(tcp::HEADER_LEN)
}

/// The bits of ECN in the TOS of IPv4 and the traffic class of IPv6.
pub(super) const ECN_MASK: u8 = 3;
