//! Reads IPv6 frames and decides what they are.

use super::Output;
use super::ingress::{Ipv6Packet, Packet, Step, flags_contradict, from_client};
use super::lanes::Lanes;
use super::run::Run;
use crate::fragment;
use crate::frame::{ChecksumVerdict, Frame};
use crate::net::Family;
use crate::net::is_link_local6;
use crate::relay::options;
use crate::snapshot::Destination;
use crate::verdict::DropReason;
use crate::wire::ethernet::Ethernet;
use crate::wire::icmp::ParseError;
use crate::wire::icmpv6::{self, Kind};
use crate::wire::ipv6::{self, ExtensionError, Ipv6, Upper};
use crate::wire::nd;
use crate::wire::tcp::{self, Tcp};

impl<O> Run<'_, O> {
    /// Reads the datagram of a frame for this station or a group that it is in.
    // A call of its own: inlined, it would burden the way of IPv4.
    #[inline(never)]
    pub(super) fn read_ipv6<F: Frame>(
        &mut self,
        ethernet: &Ethernet,
        frame: &mut F,
        packet: &mut Packet,
        lanes: &mut Lanes,
    ) -> Result<Step, DropReason>
    where
        O: Output<F>,
    {
        let l3 = packet.segment.l3;
        let datagram = frame.bytes().get(l3..).unwrap_or_default();
        let mut ip = Ipv6::parse(datagram).ok_or(DropReason::Ipv6Malformed)?;
        // What one host is sent must not reach a group of them (RFC 1122, section 3.3.6).
        if !ethernet.dst.is_unicast() && !ipv6::is_multicast(ip.dst) {
            return Err(DropReason::WrongMac);
        }
        let upper = match ip.upper(datagram) {
            Err(ExtensionError::Fragment) => {
                let (inner, upper) = self.whole_after_all(frame, l3, &ip)?;
                ip = inner;
                upper
            }
            found => found.map_err(refused)?,
        };
        packet.ipv6 = Ipv6Packet { ip, upper };
        // What follows the datagram is Ethernet's padding.
        frame.truncate(l3 + ip.total_len());
        let to = self.meaning6(ip.dst);
        match upper.protocol {
            ipv6::PROTOCOL_TCP => self.read_tcp6(frame, packet, to, lanes),
            ipv6::PROTOCOL_ICMPV6 => self.read_icmpv6(frame, packet, to),
            _ if to == Destination::Other => Err(DropReason::NotOurs),
            _ => Err(DropReason::Protocol),
        }
    }

    /// Takes the fragment header out of a datagram that is in one piece all the same; others are not
    /// looked at any further, for whole ones only come this far.
    #[cold]
    fn whole_after_all<F: Frame>(
        &self,
        frame: &mut F,
        l3: usize,
        ip: &Ipv6,
    ) -> Result<(Ipv6, Upper), DropReason> {
        fragment::admit(fragment::remove_atomic(frame, l3, ip))?;
        let datagram = frame.bytes().get(l3..).unwrap_or_default();
        let ip = Ipv6::parse(datagram).ok_or(DropReason::Ipv6Malformed)?;
        let upper = ip.upper(datagram).map_err(refused)?;
        let kind = datagram.get(upper.at).copied().unwrap_or_default();
        if upper.protocol == ipv6::PROTOCOL_ICMPV6 && nd::is_discovery(kind) {
            // Not even such a fragment may carry it (RFC 6980, section 5).
            return Err(DropReason::NdMalformed);
        }
        Ok((ip, upper))
    }

    /// What the destination `ip` means on this port: a link-local address is another station's on
    /// another port's link.
    fn meaning6(&self, ip: u128) -> Destination {
        match self.snapshot.classify6(ip) {
            Destination::Own(_) if is_link_local6(ip) && !self.is_port_address(ip) => {
                Destination::Other
            }
            to => to,
        }
    }

    fn read_icmpv6<F: Frame>(
        &mut self,
        frame: &F,
        packet: &Packet,
        to: Destination,
    ) -> Result<Step, DropReason> {
        let ip = packet.ipv6.ip;
        let kind = icmpv6::parse(ip.src, ip.dst, packet.ipv6.message(packet, frame));
        let kind = kind.map_err(|error| match error {
            ParseError::Malformed => DropReason::IcmpMalformed,
            ParseError::Checksum => DropReason::IcmpChecksum,
        })?;
        match (kind, to) {
            (Kind::Solicitation, _) => Ok(Step::Solicited),
            (Kind::Advertisement, _) => Ok(Step::Advertised),
            // An answer must not go to a group, or come back to a POP.
            (Kind::EchoRequest, Destination::Vip | Destination::Own(_)) => {
                let answers = self.source_ok6(ip.src);
                if answers { Ok(Step::Echo6) } else { Err(DropReason::SourceNotAllowed) }
            }
            (Kind::Error { mtu }, Destination::Vip | Destination::Pool(_) | Destination::Other) => {
                Ok(Step::Error6 { mtu, to })
            }
            (_, Destination::Other) => Err(DropReason::NotOurs),
            _ => Err(DropReason::IcmpType),
        }
    }

    /// Whether an ICMPv6 message can come from `ip`: a station's address, and none of the POP's
    /// own.
    pub(super) fn source_ok6(&self, ip: u128) -> bool {
        ipv6::can_be_source(ip) && self.meaning6(ip) == Destination::Other
    }

    fn read_tcp6<F: Frame>(
        &mut self,
        frame: &F,
        packet: &mut Packet,
        to: Destination,
        lanes: &mut Lanes,
    ) -> Result<Step, DropReason> {
        let segment = packet.ipv6.message(packet, frame);
        let tcp = Tcp::parse(segment).ok_or(DropReason::TcpMalformed)?;
        packet.segment.tcp = tcp;
        if frame.tcp_checksum() == ChecksumVerdict::Bad {
            return Err(DropReason::TcpChecksum);
        }
        if flags_contradict(tcp.flags) {
            return Err(DropReason::TcpFlags);
        }
        // Whatever is to be done with the segment, lengths of its options must hold.
        let options = segment.get(tcp::HEADER_LEN..tcp.header_len).unwrap_or_default();
        options::find_timestamps(options).map_err(|_| DropReason::TcpOptions)?;
        match to {
            Destination::Vip => self.read_client6(frame, packet, lanes),
            Destination::Pool(prefix) => self.read_target6(packet, prefix),
            Destination::Other => self.read_passing6(packet),
            Destination::Own(_) => Err(DropReason::NotOurs),
        }
    }

    /// A segment to an IPv6 VIP.
    fn read_client6<F: Frame>(
        &mut self,
        frame: &F,
        packet: &mut Packet,
        lanes: &mut Lanes,
    ) -> Result<Step, DropReason> {
        if !self.takes_clients() {
            return Err(DropReason::WrongSide);
        }
        let (ip, tcp) = (packet.ipv6.ip, packet.segment.tcp);
        packet.of = self.snapshot.service_at6(ip.dst, tcp.dst_port);
        match from_client(&tcp, packet.of, self.snapshot.client_ok6(ip.src))? {
            Some(index) => self.read_other(frame, packet, index, Family::V6, lanes),
            None => Ok(Step::UnservedSyn6),
        }
    }
}

fn refused(error: ExtensionError) -> DropReason {
    match error {
        ExtensionError::Malformed => DropReason::Ipv6Options,
        ExtensionError::Routing => DropReason::SourceRoute,
        ExtensionError::Fragment => DropReason::Fragment,
    }
}
