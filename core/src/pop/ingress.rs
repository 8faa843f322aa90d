//! Reads a frame and decides what it is, before anything is done about it.

use std::net::Ipv4Addr;

use super::lanes::{Lane, Lanes};
use super::run::Run;
use super::{Of, Output};
use crate::fragment;
use crate::frame::{ChecksumVerdict, Frame};
use crate::net::Family;
use crate::net::ServiceIndex;
use crate::relay::options::{self, TimestampsAt};
use crate::relay::permutation::{Client, ClientTimestamps, Mapped};
use crate::relay::translate::Segment;
use crate::seq::SeqNum;
use crate::snapshot::{Destination, Egress};
use crate::verdict::DropReason;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::ipv4::{self, Ipv4, Ipv4Error, Options};
use crate::wire::ipv6::{Ipv6, Upper};
use crate::wire::tcp::{self, Tcp};
use crate::wire::{MacAddr, icmp};

/// A frame as far as it was read, and what is to be done about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub step: Step,
    /// The service, where it is known.
    pub of: Of,
    /// The station that sent the frame.
    pub peer: MacAddr,
    /// For IPv4, the datagram; the TCP header is meaningful for segments only. For IPv6, where the
    /// datagram begins, and the TCP header of segments.
    pub segment: Segment,
    /// Where the segment's timestamps are.
    pub timestamps: Option<TimestampsAt>,
    /// For IPv6, the datagram.
    pub ipv6: Ipv6Packet,
}

/// An IPv6 datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ipv6Packet {
    pub ip: Ipv6,
    /// What it carries.
    pub upper: Upper,
}

impl Ipv6Packet {
    /// What the datagram in `frame` carries.
    pub fn message<'a, F: Frame>(&self, packet: &Packet, frame: &'a F) -> &'a [u8] {
        frame.bytes().get(packet.segment.l3 + self.upper.at..).unwrap_or_default()
    }
}

/// What is to be done about a frame.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Drop(DropReason),
    Arp,
    Echo,
    /// An echo request over IPv6.
    Echo6,
    /// A neighbour solicitation.
    Solicited,
    /// A neighbour advertisement.
    Advertised,
    /// An ICMP error to an address that quotes are checked for.
    Error {
        mtu: Option<u16>,
        to: Destination,
    },
    /// An ICMPv6 error to an address that quotes are checked for.
    Error6 {
        mtu: Option<u32>,
        to: Destination,
    },
    /// SYN to a VIP port without a service.
    UnservedSyn,
    /// The same over IPv6.
    UnservedSyn6,
    /// A client's segment, mapped in a lane.
    Up(Lane),
    /// A client's RST without timestamps: the connection may or may not have had them.
    UpBothCases,
    /// A client's segment of a transparent service.
    UpTransparent,
    /// A target's segment, mapped in a lane.
    Down(Lane),
    /// A target's segment without timestamps.
    DownUntagged,
    /// A target's segment of a transparent service.
    DownTransparent,
    /// An IPv4 client's segment to an IPv6 target.
    UpPrefix,
    /// An IPv6 target's segment to an IPv4 client.
    DownPrefix,
    /// A client's segment of a transparent service over IPv6.
    UpTransparent6,
    /// A target's segment of such a service.
    DownTransparent6,
    /// An agent's segment to a tunnel, whose checksum holds.
    Tunnel(Family),
    /// An agent's datagram, whose tokens are opened in a lane.
    Datagram(Family, Lane),
}

impl Packet {
    /// Before any frame was read.
    pub const NONE: Packet = Packet {
        step: Step::Drop(DropReason::Runt),
        of: None,
        peer: MacAddr::new([0; 6]),
        segment: Segment {
            l3: 0,
            ip: Ipv4 {
                header_len: 0,
                total_len: 0,
                fragment: 0,
                ttl: 0,
                protocol: 0,
                src: 0,
                dst: 0,
            },
            tcp: Tcp {
                src_port: 0,
                dst_port: 0,
                seq: SeqNum(0),
                ack: SeqNum(0),
                flags: 0,
                header_len: 0,
            },
        },
        timestamps: None,
        ipv6: Ipv6Packet {
            ip: Ipv6 {
                src: 0,
                dst: 0,
                next_header: 0,
                hop_limit: 0,
                traffic_class: 0,
                payload_len: 0,
            },
            upper: Upper { protocol: 0, at: 0 },
        },
    };
}

impl<O> Run<'_, O> {
    /// Reads `frame` into `packet`, cuts off what follows its datagram, and takes a lane if it is to
    /// be mapped. What `packet` held before is of another frame.
    #[inline]
    pub fn classify<F: Frame>(&mut self, packet: &mut Packet, frame: &mut F, lanes: &mut Lanes)
    where
        O: Output<F>,
    {
        packet.of = None;
        packet.step = match self.read(frame, packet, lanes) {
            Ok(step) => step,
            Err(reason) => Step::Drop(reason),
        };
    }

    #[inline]
    fn read<F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &mut Packet,
        lanes: &mut Lanes,
    ) -> Result<Step, DropReason>
    where
        O: Output<F>,
    {
        let ethernet = Ethernet::parse(frame.bytes()).ok_or(DropReason::Runt)?;
        self.check_link(&ethernet)?;
        packet.peer = ethernet.src;
        packet.segment.l3 = ethernet.header_len;
        match ethernet.ethertype {
            ethernet::TYPE_IPV4 => self.read_ipv4(frame, packet, lanes),
            ethernet::TYPE_ARP => Ok(Step::Arp),
            ethernet::TYPE_IPV6 => self.read_ipv6(&ethernet, frame, packet, lanes),
            _ => Err(DropReason::Ethertype),
        }
    }

    /// Whether the frame is for this station, and tagged as the port is.
    #[inline]
    fn check_link(&self, ethernet: &Ethernet) -> Result<(), DropReason> {
        let link = self.link().ok_or(DropReason::WrongMac)?;
        if ethernet.dst != link.mac && !self.is_for_group(ethernet) {
            return Err(DropReason::WrongMac);
        }
        // A tag with VLAN 0 carries a priority only (802.1Q, 9.6).
        let vlan = ethernet.vlan.filter(|vlan| *vlan != 0);
        if vlan != link.vlan {
            return Err(DropReason::WrongVlan);
        }
        if !ethernet.src.is_unicast() {
            return Err(DropReason::WrongMac);
        }
        Ok(())
    }

    /// Whether the frame is for a group of stations that this one is in.
    fn is_for_group(&self, ethernet: &Ethernet) -> bool {
        match ethernet.ethertype {
            ethernet::TYPE_ARP => ethernet.dst == MacAddr::BROADCAST,
            ethernet::TYPE_IPV6 => self.is_own_group(ethernet.dst),
            _ => false,
        }
    }

    #[inline]
    fn read_ipv4<F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &mut Packet,
        lanes: &mut Lanes,
    ) -> Result<Step, DropReason>
    where
        O: Output<F>,
    {
        let l3 = packet.segment.l3;
        let datagram = frame.bytes().get(l3..).unwrap_or_default();
        let ip = Ipv4::parse(datagram).map_err(|error| match error {
            Ipv4Error::Malformed => DropReason::Ipv4Malformed,
            Ipv4Error::Checksum => DropReason::Ipv4Checksum,
        })?;
        packet.segment.ip = ip;
        if ip.header_len > ipv4::HEADER_LEN {
            let options = datagram.get(ipv4::HEADER_LEN..ip.header_len).unwrap_or_default();
            match ipv4::classify_options(options) {
                Options::Removable => {}
                Options::SourceRoute => return Err(DropReason::SourceRoute),
                Options::Malformed => return Err(DropReason::Ipv4Options),
            }
        }
        // What follows the datagram is Ethernet's padding.
        frame.truncate(l3 + ip.total_len);
        fragment::admit(!ip.is_fragment())?;
        let to = self.snapshot.classify(ip.dst);
        match ip.protocol {
            ipv4::PROTOCOL_TCP => self.read_tcp(frame, packet, to, lanes),
            ipv4::PROTOCOL_ICMP => self.read_icmp(frame, packet, to),
            _ if to == Destination::Other => Err(DropReason::NotOurs),
            _ => Err(DropReason::Protocol),
        }
    }

    fn read_icmp<F: Frame>(
        &mut self,
        frame: &F,
        packet: &Packet,
        to: Destination,
    ) -> Result<Step, DropReason> {
        let message = frame.bytes().get(packet.segment.l3 + packet.segment.ip.header_len..);
        let kind = icmp::parse(message.unwrap_or_default()).map_err(|error| match error {
            icmp::ParseError::Malformed => DropReason::IcmpMalformed,
            icmp::ParseError::Checksum => DropReason::IcmpChecksum,
        })?;
        match (kind, to) {
            (icmp::Kind::EchoRequest, Destination::Vip | Destination::Own(_))
                if self.source_ok(packet.segment.ip.src) =>
            {
                Ok(Step::Echo)
            }
            (icmp::Kind::EchoRequest, Destination::Vip | Destination::Own(_)) => {
                Err(DropReason::SourceNotAllowed)
            }
            (
                icmp::Kind::Error { mtu },
                Destination::Vip | Destination::Pool(_) | Destination::Other,
            ) => Ok(Step::Error { mtu, to }),
            (_, Destination::Other) => Err(DropReason::NotOurs),
            _ => Err(DropReason::IcmpType),
        }
    }

    /// Whether an ICMP message can come from `ip`: a station's address, and none of the POP's own.
    pub fn source_ok(&self, ip: u32) -> bool {
        ipv4::can_be_source(ip) && self.snapshot.classify(ip) == Destination::Other
    }

    #[inline]
    fn read_tcp<F: Frame>(
        &mut self,
        frame: &F,
        packet: &mut Packet,
        to: Destination,
        lanes: &mut Lanes,
    ) -> Result<Step, DropReason> {
        let at = packet.segment.l3 + packet.segment.ip.header_len;
        let segment = frame.bytes().get(at..).unwrap_or_default();
        let tcp = Tcp::parse(segment).ok_or(DropReason::TcpMalformed)?;
        packet.segment.tcp = tcp;
        if frame.tcp_checksum() == ChecksumVerdict::Bad {
            return Err(DropReason::TcpChecksum);
        }
        let options = segment.get(tcp::HEADER_LEN..tcp.header_len).unwrap_or_default();
        packet.timestamps =
            options::find_timestamps(options).map_err(|_| DropReason::TcpOptions)?;
        if flags_contradict(tcp.flags) {
            return Err(DropReason::TcpFlags);
        }
        match to {
            Destination::Vip => self.read_client(frame, packet, lanes),
            Destination::Pool(pool) => {
                let ip = &packet.segment.ip;
                let service = self.snapshot.service_from_pool(pool, ip.src, tcp.src_port);
                self.read_target(service.ok_or(DropReason::UnknownTarget)?, options, packet, lanes)
            }
            Destination::Other => self.read_passing(packet),
            Destination::Own(_) => Err(DropReason::NotOurs),
        }
    }

    /// A segment to a VIP.
    #[inline]
    fn read_client<F: Frame>(
        &mut self,
        frame: &F,
        packet: &mut Packet,
        lanes: &mut Lanes,
    ) -> Result<Step, DropReason> {
        let Segment { ip, tcp, .. } = packet.segment;
        if !self.takes_clients() {
            return Err(DropReason::WrongSide);
        }
        packet.of = self.snapshot.service_at(ip.dst, tcp.dst_port);
        let client_ok = self.snapshot.client_ok(ip.src);
        let index = match from_client(&tcp, packet.of, client_ok)? {
            Some(index) => index,
            None => return Ok(Step::UnservedSyn),
        };
        let Some(service) = self.service(index) else {
            return self.read_other(frame, packet, index, Family::V4, lanes);
        };
        if tcp.has(tcp::SYN) {
            self.admit_syn(service.slot, Ipv4Addr::from_bits(ip.src).into())?;
        }
        if let Egress::Transparent = service.egress {
            return Ok(Step::UpTransparent);
        }
        let timestamps = match packet.timestamps {
            Some(_) => ClientTimestamps::Present,
            None if tcp.has(tcp::RST) => return Ok(Step::UpBothCases),
            None => ClientTimestamps::Absent,
        };
        Ok(Step::Up(lanes.up(index, Client { timestamps, ip: ip.src, port: tcp.src_port })))
    }

    /// A segment from a target to an egress address.
    #[inline]
    fn read_target(
        &mut self,
        index: ServiceIndex,
        options: &[u8],
        packet: &mut Packet,
        lanes: &mut Lanes,
    ) -> Result<Step, DropReason> {
        let Segment { ip, tcp, .. } = packet.segment;
        if !self.takes_targets() {
            return Err(DropReason::WrongSide);
        }
        packet.of = Some(index);
        if tcp.has(tcp::SYN) && !tcp.has(tcp::ACK) {
            return Err(DropReason::SynFromTarget);
        }
        let Some(at) = packet.timestamps else { return Ok(Step::DownUntagged) };
        let service = self.service(index).ok_or(DropReason::UnknownTarget)?;
        let Egress::Pool { pool, .. } = &service.egress else {
            return Err(DropReason::UnknownTarget);
        };
        let tag = options::timestamp_echo(options, at);
        let mapped = Mapped { tag, port: tcp.dst_port, index: pool.index(ip.dst) };
        Ok(Step::Down(lanes.down(index, mapped)))
    }

    /// A segment to nobody here: it passes if it comes from the target of a transparent service.
    fn read_passing(&mut self, packet: &mut Packet) -> Result<Step, DropReason> {
        let Segment { ip, tcp, .. } = packet.segment;
        let index = self.snapshot.transparent_service(ip.src, tcp.src_port);
        packet.of = index;
        if index.is_none() || !self.snapshot.client_ok(ip.dst) || tcp.dst_port == 0 {
            return Err(DropReason::NotOurs);
        }
        if !self.takes_targets() {
            return Err(DropReason::WrongSide);
        }
        if tcp.has(tcp::SYN) && !tcp.has(tcp::ACK) {
            return Err(DropReason::SynFromTarget);
        }
        Ok(Step::DownTransparent)
    }

    #[inline]
    pub fn takes_clients(&self) -> bool {
        self.side().is_some_and(|side| side.takes_clients())
    }

    #[inline]
    pub fn takes_targets(&self) -> bool {
        self.side().is_some_and(|side| side.takes_targets())
    }

    #[inline]
    fn side(&self) -> Option<crate::net::Side> {
        self.port_config().map(|port| port.side)
    }
}

/// What holds for a client's segment of either family: gives back the service that it is to, or
/// nothing for a SYN to a VIP's port that none has.
#[inline(always)]
pub(super) fn from_client(
    tcp: &Tcp,
    of: Of,
    client_ok: bool,
) -> Result<Option<ServiceIndex>, DropReason> {
    if !client_ok || tcp.src_port == 0 {
        return Err(DropReason::SourceNotAllowed);
    }
    if of.is_none() {
        let syn = tcp.has(tcp::SYN) && !tcp.has(tcp::ACK);
        return if syn { Ok(None) } else { Err(DropReason::UnservedPort) };
    }
    if tcp.has(tcp::SYN | tcp::ACK) {
        return Err(DropReason::SynAckFromClient);
    }
    Ok(of)
}

/// Flags that no segment of a connection has (RFC 9293, section 3.10.7.4).
#[inline]
pub(super) fn flags_contradict(flags: u8) -> bool {
    let several = (flags & (tcp::SYN | tcp::FIN | tcp::RST)).count_ones() > 1;
    several || flags & (tcp::SYN | tcp::RST | tcp::ACK) == 0
}
