//! Relay services with IPv6 on a side: segments between IPv4 clients and IPv6 targets, through the
//! addresses of a prefix, and between IPv6 and IPv6, where clients stay themselves.
//!
//! Nothing is tagged, so that every segment can be mapped, whatever options it has. What is done is
//! done one segment at a time: it is a few blocks of the cipher for each.

mod errors;

pub(super) use errors::Error6;

use std::net::IpAddr;

use super::ingress::{Packet, Step};
use super::lanes::Lanes;
use super::run::Run;
use super::{Note, Output};
use crate::frame::Frame;
use crate::net::Family;
use crate::net::Towards;
use crate::net::{Address, Endpoint, Endpoint6, ServiceIndex};
use crate::relay::fragment_id::FragmentIds;
use crate::relay::options::MssRule;
use crate::relay::translate::{Endpoints, Segment};
use crate::relay::translate6::{
    self, Endpoints6, Rewrite4, Rewrite6, Segment6, apply_4to6, apply_6to4, apply_6to6,
};
use crate::snapshot::{Mode6, PoolIndex, Service6};
use crate::verdict::{DropReason, Verdict};
use crate::wire::tcp::{self, Tcp};
use crate::wire::{ethernet, ipv4};

/// How a datagram goes on.
struct Way {
    /// The family that it came in.
    from: Family,
    /// Its TTL or hop limit.
    hops: u8,
    /// Its length in bytes, and that of what it becomes.
    len: (usize, usize),
    /// The side that it goes to, and the address there.
    towards: Towards,
    dst: IpAddr,
}

impl<'a, O> Run<'a, O> {
    /// A client's segment to a service that is not between IPv4 and IPv4.
    #[inline(never)]
    pub(super) fn read_other<F: Frame>(
        &mut self,
        frame: &F,
        packet: &Packet,
        index: ServiceIndex,
        family: Family,
        lanes: &mut Lanes,
    ) -> Result<Step, DropReason> {
        let Some(service) = self.snapshot.service6(index) else {
            return self.read_tunnel(frame, packet, index, family, lanes);
        };
        if packet.segment.tcp.has(tcp::SYN) {
            let src = match family {
                Family::V4 => packet.segment.ip.src.ip(),
                Family::V6 => packet.ipv6.ip.src.ip(),
            };
            self.admit_syn(service.slot, src)?;
        }
        Ok(match service.mode {
            Mode6::Prefix { .. } => Step::UpPrefix,
            Mode6::Transparent { .. } => Step::UpTransparent6,
        })
    }

    /// A segment to an address of a prefix.
    pub(super) fn read_target6(
        &self,
        packet: &mut Packet,
        prefix: PoolIndex,
    ) -> Result<Step, DropReason> {
        let (ip, tcp) = (packet.ipv6.ip, packet.segment.tcp);
        let of = self.snapshot.service_from_prefix(prefix, ip.src, tcp.src_port);
        let index = of.ok_or(DropReason::UnknownTarget)?;
        if !self.takes_targets() {
            return Err(DropReason::WrongSide);
        }
        packet.of = Some(index);
        refuse_syn(&tcp)?;
        Ok(Step::DownPrefix)
    }

    /// A segment to nobody here: it passes if it comes from the target of a transparent service.
    pub(super) fn read_passing6(&self, packet: &mut Packet) -> Result<Step, DropReason> {
        let (ip, tcp) = (packet.ipv6.ip, packet.segment.tcp);
        packet.of = self.snapshot.transparent_service6(ip.src, tcp.src_port);
        if packet.of.is_none() || !self.snapshot.client_ok6(ip.dst) || tcp.dst_port == 0 {
            return Err(DropReason::NotOurs);
        }
        if !self.takes_targets() {
            return Err(DropReason::WrongSide);
        }
        refuse_syn(&tcp)?;
        Ok(Step::DownTransparent6)
    }

    /// A client's segment goes on to its target, as a segment over IPv6.
    #[inline(never)]
    pub(super) fn up_prefix<F: Frame>(&mut self, packet: &Packet, frame: F)
    where
        O: Output<F>,
    {
        let segment = &packet.segment;
        let client = Endpoint { ip: segment.ip.src, port: segment.tcp.src_port };
        let Some((service, fragment_ids, egress, target)) = self.prefixed(packet, client) else {
            return self.drop(packet.of, DropReason::UnservedPort, frame);
        };
        self.note(Note::Prefixed { client, egress, target });
        let rewrite =
            Rewrite6 { endpoints: endpoints6(egress, target), syn: mss_rule(packet, service) };
        let way = Way {
            from: Family::V4,
            hops: segment.ip.ttl,
            len: (segment.ip.total_len, translate6::len_4to6(segment)),
            towards: Towards::Targets,
            dst: target.ip.ip(),
        };
        let id = |frame: &F| {
            let id = ipv4::id(frame.bytes().get(segment.l3..).unwrap_or_default());
            let may = !segment.ip.dont_fragment();
            may.then(|| fragment_ids.of(client.into(), id, segment.tcp.seq))
        };
        let apply = |frame: &mut F| apply_4to6(frame, segment, &rewrite);
        self.carry(packet, frame, service, &way, id, apply);
    }

    /// What stands for the client in prefix mode, and its target.
    fn prefixed(
        &self,
        packet: &Packet,
        client: Endpoint,
    ) -> Option<(&'a Service6, &'a FragmentIds, Endpoint6, Endpoint6)> {
        let service = self.snapshot.service6(packet.of?)?;
        let Mode6::Prefix { map, fragment_ids, .. } = &service.mode else { return None };
        let egress = Endpoint { ip: map.address(client.ip), port: client.port };
        Some((service, fragment_ids, egress, service.rendezvous.choose4(client)?))
    }

    /// A target's segment goes on to the client that its destination stands for, over IPv4.
    #[inline(never)]
    pub(super) fn down_prefix<F: Frame>(&mut self, packet: &Packet, frame: F)
    where
        O: Output<F>,
    {
        let segment = segment6(packet);
        let found = packet.of.and_then(|of| self.snapshot.service6(of));
        let Some((service, Mode6::Prefix { vip, map, ids, .. })) =
            found.map(|service| (service, &service.mode))
        else {
            return self.drop(packet.of, DropReason::NotOurs, frame);
        };
        let client_ok = |ip: &u32| self.snapshot.client_ok(*ip) && segment.tcp.dst_port != 0;
        let Some(ip) = map.client(segment.ip.dst).filter(client_ok) else {
            return self.drop(packet.of, DropReason::BadTag, frame);
        };
        let client = Endpoint { ip, port: segment.tcp.dst_port };
        let egress = Endpoint { ip: segment.ip.dst, port: client.port };
        let target = Endpoint { ip: segment.ip.src, port: segment.tcp.src_port };
        self.note(Note::Prefixed { client, egress, target });
        let len = translate6::len_6to4(&segment);
        let id = match translate6::may_be_fragmented(len) {
            true => ids.id(client, target.port, segment.tcp.seq, len),
            false => 0,
        };
        let rewrite =
            Rewrite4 { endpoints: endpoints(*vip, client), syn: mss_rule(packet, service), id };
        let way = Way {
            from: Family::V6,
            hops: segment.ip.hop_limit,
            len: (segment.ip.total_len(), len),
            towards: Towards::Clients,
            dst: client.ip.ip(),
        };
        let id = |_: &F| translate6::may_be_fragmented(len).then_some(id.into());
        let apply = |frame: &mut F| apply_6to4(frame, &segment, &rewrite);
        self.carry(packet, frame, service, &way, id, apply);
    }

    /// A client's segment goes on to its target, from the client.
    #[inline(never)]
    pub(super) fn up_transparent6<F: Frame>(&mut self, packet: &Packet, frame: F)
    where
        O: Output<F>,
    {
        let segment = segment6(packet);
        let client = Endpoint { ip: segment.ip.src, port: segment.tcp.src_port };
        let service = packet.of.and_then(|of| self.snapshot.service6(of));
        let chosen =
            service.and_then(|service| Some((service, service.rendezvous.choose6(client)?)));
        let Some((service, target)) = chosen else {
            return self.drop(packet.of, DropReason::UnservedPort, frame);
        };
        self.note(Note::Passed6 { client, target });
        let to = endpoints6(client, target);
        self.pass6(packet, frame, service, Towards::Targets, to);
    }

    /// A target's segment goes on to the client that it is sent to, from the VIP.
    #[inline(never)]
    pub(super) fn down_transparent6<F: Frame>(&mut self, packet: &Packet, frame: F)
    where
        O: Output<F>,
    {
        let segment = segment6(packet);
        let found = packet.of.and_then(|of| self.snapshot.service6(of));
        let Some((service, Mode6::Transparent { vip })) =
            found.map(|service| (service, &service.mode))
        else {
            return self.drop(packet.of, DropReason::NotOurs, frame);
        };
        let client = Endpoint { ip: segment.ip.dst, port: segment.tcp.dst_port };
        let target = Endpoint { ip: segment.ip.src, port: segment.tcp.src_port };
        self.note(Note::Passed6 { client, target });
        let to = endpoints6(*vip, client);
        self.pass6(packet, frame, service, Towards::Clients, to);
    }

    fn pass6<F: Frame>(
        &mut self,
        packet: &Packet,
        frame: F,
        service: &Service6,
        towards: Towards,
        endpoints: Endpoints6,
    ) where
        O: Output<F>,
    {
        let segment = segment6(packet);
        let rewrite = Rewrite6 { endpoints, syn: mss_rule(packet, service) };
        let way = Way {
            from: Family::V6,
            hops: segment.ip.hop_limit,
            len: (segment.ip.total_len(), translate6::len_6to6(&segment)),
            towards,
            dst: endpoints.dst.ip(),
        };
        let apply = |frame: &mut F| {
            apply_6to6(frame, &segment, &rewrite);
            Ok(segment.l3)
        };
        self.carry(packet, frame, service, &way, |_: &F| None, apply);
    }

    /// Rewrites with `apply` and sends, unless the hops are used up, the next hop is not known, or it
    /// does not fit: then it goes out in fragments, if `fragment_id` has an ID for them, or else the
    /// sender is told in its own family.
    fn carry<F: Frame>(
        &mut self,
        packet: &Packet,
        mut frame: F,
        service: &Service6,
        way: &Way,
        fragment_id: impl FnOnce(&F) -> Option<u32>,
        apply: impl FnOnce(&mut F) -> Result<usize, DropReason>,
    ) where
        O: Output<F>,
    {
        if way.hops <= 1 {
            return match way.from {
                Family::V4 => self.time_exceeded(packet, frame),
                Family::V6 => self.time_exceeded6(packet, frame),
            };
        }
        let hop = match self.hop_either(way.towards, way.dst) {
            Ok(hop) => hop,
            Err(reason) => return self.drop(packet.of, reason, frame),
        };
        let (before, len) = way.len;
        let mtu = self.mtu(hop.port);
        let cut = if len > mtu { fragment_id(&frame) } else { None };
        if len > mtu && cut.is_none() {
            // Of what came in, the length that would just fit.
            let fits = (mtu + before).saturating_sub(len);
            return match way.from {
                Family::V4 => {
                    let fits = fits.clamp(ipv4::MTU_MIN as usize, usize::from(u16::MAX));
                    self.too_big(packet, frame, fits as u16)
                }
                Family::V6 => self.too_big6(packet, frame, fits as u32),
            };
        }
        let l3 = match apply(&mut frame) {
            Ok(l3) => l3,
            Err(reason) => return self.drop(packet.of, reason, frame),
        };
        let sent = match (cut, way.dst) {
            (None, dst) => {
                let sent = self.send(frame, l3, hop, ethertype(dst));
                if sent { Ok(()) } else { Err(DropReason::NoRoom) }
            }
            (Some(id), IpAddr::V4(_)) => self.send_in_fragments(&frame, l3, hop, id as u16),
            (Some(id), IpAddr::V6(_)) => self.send_in_fragments6(&frame, l3, hop, id),
        };
        if let Err(reason) = sent {
            return self.count_drop::<F>(packet.of, reason);
        }
        self.count_forwarded(service.slot, way.towards, len);
        self.note(Note::Verdict(Verdict::Forward(hop.port)));
    }
}

/// A target opens no connections.
fn refuse_syn(tcp: &Tcp) -> Result<(), DropReason> {
    let syn = tcp.has(tcp::SYN) && !tcp.has(tcp::ACK);
    if syn { Err(DropReason::SynFromTarget) } else { Ok(()) }
}

/// The segment of an IPv6 packet.
fn segment6(packet: &Packet) -> Segment6 {
    let Segment { l3, tcp, .. } = packet.segment;
    Segment6 { l3, ip: packet.ipv6.ip, at: packet.ipv6.upper.at, tcp }
}

fn endpoints(src: Endpoint, dst: Endpoint) -> Endpoints {
    Endpoints { src: src.ip, src_port: src.port, dst: dst.ip, dst_port: dst.port }
}

fn endpoints6(src: Endpoint6, dst: Endpoint6) -> Endpoints6 {
    Endpoints6 { src: src.ip, src_port: src.port, dst: dst.ip, dst_port: dst.port }
}

fn ethertype(dst: IpAddr) -> u16 {
    if dst.is_ipv4() { ethernet::TYPE_IPV4 } else { ethernet::TYPE_IPV6 }
}

/// For a SYN or SYN-ACK, what happens to its MSS.
fn mss_rule(packet: &Packet, service: &Service6) -> Option<MssRule> {
    let syn = packet.segment.tcp.has(tcp::SYN);
    syn.then_some(MssRule { clamp: service.mss, less: 0 })
}
