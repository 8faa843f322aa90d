//! What classification finds out about a frame, and what is to be done about it.

use std::net::IpAddr;

use super::lanes::Lane;
use crate::frame::Frame;
use crate::net::{Address, Endpoint, IpEndpoint, ServiceIndex};
use crate::relay::Relay;
use crate::relay::rewrite::Segment;
use crate::relay::rewrite::options::Found;
use crate::relay::targets::TargetIndex;
use crate::seq::SeqNum;
use crate::snapshot::Snapshot;
use crate::verdict::DropReason;
use crate::wire::ipv4::Ipv4;
use crate::wire::tcp::{self, Tcp};
use crate::wire::{Datagram, MacAddr, icmpv6, udp};

/// A frame as far as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    /// What is to be done about it.
    pub step: Step,
    /// The service, where it is known.
    pub service: Option<ServiceIndex>,
    /// The target that sent it, in steps about a target's segment.
    pub target: TargetIndex,
    /// The hardware address that sent the frame.
    pub from: MacAddr,
    /// The datagram; its TCP header is meaningful for segments and for UDP of relays only.
    pub segment: Segment,
    /// What the segment's options hold.
    pub options: Found,
}

/// What is to be done about a frame. It is two bytes long, so that it travels in a register.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Drop(DropReason),
    Arp,
    NeighbourSolicitation,
    NeighbourAdvertisement,
    /// An echo request.
    Echo,
    /// A fragment of one.
    EchoFragment,
    /// An ICMP error to an address that quotes are checked for.
    IcmpError,
    /// A UDP datagram of no relay to a VIP or an address of the port, as traceroute sends them.
    Udp,
    /// A SYN to a VIP port without a service.
    UnservedSyn,
    /// A client's segment to a relay, mapped in a lane.
    Outward(Lane),
    /// A target's segment to a relay, mapped in a lane.
    Inward(Lane),
    /// A client's UDP datagram to a relay, mapped in a lane.
    DatagramOut(Lane),
    /// A target's UDP datagram to a relay, mapped in a lane.
    DatagramIn(Lane),
    /// A target's segment without timestamps, in a mode where they carry the tag.
    Untagged,
    /// An agent's segment to a tunnel, whose checksum holds.
    Tunnel,
    /// An agent's datagram, whose tokens are opened in a lane.
    TunnelData(Lane),
    /// A packet to the open address of an agent.
    OpenDown,
    /// A packet from the open address of an agent, out of its segment.
    OpenUp,
}

const _: () = assert!(size_of::<Result<Step, DropReason>>() == 2);

impl Packet {
    /// Before any frame was read.
    pub const NONE: Packet = Packet {
        step: Step::Drop(DropReason::Runt),
        service: None,
        target: TargetIndex(0),
        from: MacAddr::new([0; 6]),
        segment: Segment {
            l3: 0,
            ip: Datagram::V4(Ipv4 {
                header_len: 0,
                total_len: 0,
                fragment: 0,
                ttl: 0,
                protocol: 0,
                src: 0,
                dst: 0,
            }),
            tcp: Tcp {
                src_port: 0,
                dst_port: 0,
                seq: SeqNum(0),
                ack: SeqNum(0),
                flags: 0,
                header_len: 0,
            },
        },
        options: Found { timestamps: None, client_address: false },
    };

    /// Source address and port of a segment.
    #[inline(always)]
    pub fn src(&self) -> IpEndpoint {
        let port = self.segment.tcp.src_port;
        match &self.segment.ip {
            Datagram::V4(ip) => Endpoint { ip: ip.src, port }.into(),
            Datagram::V6(ip) => Endpoint { ip: ip.header.src, port }.into(),
        }
    }

    /// Destination address and port of a segment.
    #[inline(always)]
    pub fn dst(&self) -> IpEndpoint {
        let port = self.segment.tcp.dst_port;
        match &self.segment.ip {
            Datagram::V4(ip) => Endpoint { ip: ip.dst, port }.into(),
            Datagram::V6(ip) => Endpoint { ip: ip.header.dst, port }.into(),
        }
    }

    /// The target that sent it, in steps about a target's segment: what is in a tunnel is from the
    /// VIP.
    #[inline]
    pub fn sender(&self, relay: &Relay) -> IpEndpoint {
        relay.targets.at(self.target).copied().unwrap_or_else(|| self.src())
    }

    /// The relay that it is of.
    #[inline(always)]
    pub fn relay<'a>(&self, snapshot: &'a Snapshot) -> Option<(ServiceIndex, &'a Relay)> {
        let index = self.service?;
        Some((index, snapshot.relay(index)?))
    }

    /// Where the segment or ICMP message in the frame begins.
    #[inline(always)]
    pub fn l4(&self) -> usize {
        self.segment.l3 + self.segment.ip.headers_len()
    }

    /// The segment or ICMP message in `frame`.
    #[inline(always)]
    pub fn message<'a, F: Frame>(&self, frame: &'a F) -> &'a [u8] {
        frame.bytes().get(self.l4()..).unwrap_or_default()
    }

    /// The TCP options of the segment in `frame`.
    #[inline(always)]
    pub fn tcp_options<'a, F: Frame>(&self, frame: &'a F) -> &'a [u8] {
        let options = tcp::HEADER_LEN..self.segment.tcp.header_len;
        self.message(frame).get(options).unwrap_or_default()
    }

    /// Whether it is an open packet, whose contents the POP does not read.
    #[inline]
    pub fn is_open(&self) -> bool {
        matches!(self.step, Step::OpenDown | Step::OpenUp)
    }

    /// Whether the IPv6 packet in `frame` is an ICMPv6 error, or may be.
    pub fn may_be_error<F: Frame>(&self, frame: &F) -> bool {
        let bytes = frame.bytes().get(self.segment.l3..).unwrap_or_default();
        match &self.segment.ip {
            Datagram::V4(_) => false,
            Datagram::V6(ip) => icmpv6::may_be_error(&ip.header, bytes),
        }
    }

    /// Whether it is a UDP datagram of a relay.
    #[inline]
    pub fn is_udp(&self) -> bool {
        matches!(self.step, Step::DatagramOut(_) | Step::DatagramIn(_))
    }

    /// Whether a segment that the POP itself acts on is undamaged.
    pub fn tcp_checksum_holds<F: Frame>(&self, frame: &F) -> bool {
        self.checksum_holds(frame).is_ok()
    }

    /// Looks whether a segment or UDP datagram that the POP itself acts on is undamaged.
    ///
    /// # Errors
    /// [`DropReason::TcpChecksum`] or [`DropReason::UdpChecksum`], if it is not.
    pub fn checksum_holds<F: Frame>(&self, frame: &F) -> Result<(), DropReason> {
        // Both are of the family of their header.
        match (self.segment.ip.src(), self.segment.ip.dst()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.holds(frame, src.to_bits(), dst.to_bits()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.holds(frame, src.to_bits(), dst.to_bits()),
            _ => Err(DropReason::TcpChecksum),
        }
    }

    fn holds<F: Frame, A: Address>(&self, frame: &F, src: A, dst: A) -> Result<(), DropReason> {
        let message = self.message(frame);
        match self.is_udp() {
            true if !udp::checksum_holds(src, dst, message) => Err(DropReason::UdpChecksum),
            false if !tcp::checksum_holds(src, dst, message) => Err(DropReason::TcpChecksum),
            _ => Ok(()),
        }
    }
}
