//! Decides what becomes of a relay's segment: its mapping says where it goes and with which
//! endpoints.

use std::net::IpAddr;

use super::super::egress::ship::{Transform, Transmit};
use super::super::packet::Packet;
use crate::frame::Frame;
use crate::net::{Family, IpEndpoint, IpEndpoints, ServiceIndex, Towards};
use crate::relay::Relay;
use crate::relay::encapsulated::EncapsulatedMode;
use crate::relay::mapping::{EgressSide, Tag};
use crate::relay::rewrite::options::{self, INSERTED_LEN, MssRule, OptionsRule, TimestampsOption};
use crate::relay::rewrite::{self, DatagramIds, IpRewrite, Plan, Timestamps, families};
use crate::relay::targets::{TargetIndex, TargetSlot};
use crate::verdict::DropReason;
use crate::wire::ipv4::Ipv4;
use crate::wire::{Datagram, ipv4, tcp};

/// The rewrite of a segment of a relay.
pub(in crate::pop) struct SegmentRewrite<'a> {
    pub(super) to: IpRewrite,
    towards: Towards,
    ids: Option<&'a DatagramIds>,
}

/// The same, of a segment that goes to its target in a tunnel.
pub(in crate::pop) struct TunnelRewrite<'a, R> {
    pub(super) inside: R,
    pub(super) tunnel: &'a EncapsulatedMode,
    pub(super) target: IpAddr,
}

/// What may go to its target in a tunnel.
pub(in crate::pop) trait Carried: Transform {
    /// The ID of the outer datagram of one that may be fragmented, all 32 bits of it.
    fn outer_id<F: Frame>(&self, packet: &Packet, frame: &F) -> Option<u32>;
}

/// What a segment of a target of `relay`, with these TCP options, is sent to. In a mode that has
/// tags, none is a segment without timestamps.
#[inline(always)]
pub(in crate::pop) fn egress_side(packet: &Packet, relay: &Relay, options: &[u8]) -> EgressSide {
    let at = packet.options.timestamps.filter(|_| relay.mode.is_tagged());
    let tag = at.map(|at| Tag::of_timestamp(options::timestamp_echo(options, at)));
    EgressSide { egress: packet.dst(), tag }
}

/// A client's segment goes on to its target, from what stands for the client there; with the
/// client's address, which then [fits](client_address_fits), if it `tells_client`.
#[inline(always)]
pub(in crate::pop) fn outward<'a>(
    packet: &Packet,
    index: ServiceIndex,
    relay: &'a Relay,
    side: &EgressSide,
    (target, tells_client): (TargetIndex, bool),
) -> Result<Transmit<SegmentRewrite<'a>>, DropReason> {
    let slot = relay.targets.slot(target);
    let target = relay.targets.at(target).ok_or(DropReason::NoTarget)?;
    let timestamps = match (side.tag, packet.options.timestamps) {
        (None, _) => Timestamps::Keep,
        (Some(tag), Some(at)) => Timestamps::SetValue(at, tag.timestamp()),
        (Some(tag), None) => {
            let syn = packet.segment.tcp.has(tcp::SYN);
            let value = if syn { tag.of_bare_syn() } else { tag.timestamp() };
            Timestamps::Insert(TimestampsOption { value, echo: 0 })
        }
    };
    let endpoints = IpEndpoints::new(side.egress, *target).ok_or(DropReason::UnservedPort)?;
    let to =
        IpRewrite::new(endpoints, timestamps, options_rule(packet, relay, 0, of_client(packet)));
    let to = to.with_client_address(tells_client);
    Ok(transmit(index, relay, slot, Towards::Targets, target.ip(), to))
}

/// A client's segment goes on to its target whole, in `tunnel`.
pub(in crate::pop) fn into_tunnel<'a>(
    packet: &Packet,
    index: ServiceIndex,
    (relay, tunnel): (&'a Relay, &'a EncapsulatedMode),
    target: TargetIndex,
) -> Result<Transmit<TunnelRewrite<'a, SegmentRewrite<'a>>>, DropReason> {
    let slot = relay.targets.slot(target);
    let target = relay.targets.at(target).ok_or(DropReason::NoTarget)?.ip();
    let ends = IpEndpoints::new(packet.src(), relay.vip).ok_or(DropReason::UnservedPort)?;
    let options = options_rule(packet, relay, 0, of_client(packet));
    let to = IpRewrite::new(ends, Timestamps::Keep, options);
    let transmit = transmit(index, relay, slot, Towards::Targets, target, to);
    Ok(transmit.map(|inside| TunnelRewrite { inside, tunnel, target }))
}

/// Whether the address of the client that sent this segment can be told to the targets of `relay`:
/// whether the options have room for it, and no port's MTU is below the datagram with it. `None`
/// where it is not to be told: in a segment with data that is no SYN.
pub(in crate::pop) fn client_address_fits(
    packet: &Packet,
    relay: &Relay,
    min_mtu: usize,
) -> Option<bool> {
    let (ip, tcp) = (&packet.segment.ip, &packet.segment.tcp);
    let data = ip.payload_len().saturating_sub(tcp.header_len);
    if data > 0 && !tcp.has(tcp::SYN) {
        return None;
    }
    let stamps = match relay.mode.is_tagged() && packet.options.timestamps.is_none() {
        true => INSERTED_LEN,
        false => 0,
    };
    let client = Family::of(packet.src().ip());
    let more = stamps + options::client_address_len(client);
    let fits_options = tcp.header_len + more <= tcp::HEADER_LEN + tcp::OPTIONS_LEN_MAX;
    let len = match ip {
        // Its options are removed.
        Datagram::V4(_) => client.ip_header_len() + tcp.header_len + data,
        Datagram::V6(ip) => ip.header.total_len(),
    };
    Some(fits_options && len + more <= min_mtu)
}

/// A target's segment goes on to its client, from the VIP. Only the SYN-ACK to a SYN without
/// timestamps loses its own: a client that did not agree on them ignores those of later segments
/// (RFC 7323, section 3.2).
#[inline(always)]
pub(in crate::pop) fn inward<'a, F: Frame>(
    packet: &Packet,
    frame: &F,
    index: ServiceIndex,
    relay: &'a Relay,
    client: &IpEndpoint,
) -> Result<Transmit<SegmentRewrite<'a>>, DropReason> {
    let (timestamps, less) = match packet.options.timestamps {
        Some(at) if relay.mode.is_tagged() => {
            let answers_bare_syn = packet.segment.tcp.has(tcp::SYN)
                && Tag::is_of_bare_syn(options::timestamp_echo(packet.tcp_options(frame), at));
            match answers_bare_syn {
                true => (Timestamps::Strip, INSERTED_LEN as u16),
                // The echoed tag is no TSval of the client's.
                false => (Timestamps::SetEcho(at, 0), 0),
            }
        }
        _ => (Timestamps::Keep, 0),
    };
    let endpoints = IpEndpoints::new(relay.vip, *client).ok_or(DropReason::NotOurs)?;
    let options = options_rule(packet, relay, less, OptionsRule::Keep);
    let to = IpRewrite::new(endpoints, timestamps, options);
    let slot = relay.targets.slot(packet.target);
    Ok(transmit(index, relay, slot, Towards::Clients, client.ip(), to))
}

#[inline(always)]
pub(super) fn transmit(
    service: ServiceIndex,
    relay: &Relay,
    target: TargetSlot,
    towards: Towards,
    destination: IpAddr,
    to: IpRewrite,
) -> Transmit<SegmentRewrite<'_>> {
    let rewrite = SegmentRewrite { to, towards, ids: relay.ids.as_ref() };
    let (slot, target) = (relay.slot, Some(target));
    Transmit { service, slot, towards, destination, is_copy: false, target, rewrite }
}

/// What happens to the options of a client's segment that is no SYN: none says who it is.
#[inline(always)]
fn of_client(packet: &Packet) -> OptionsRule {
    match packet.options.client_address {
        true => OptionsRule::WithoutClientAddress,
        false => OptionsRule::Keep,
    }
}

/// What happens to the options other than timestamps: those of a SYN by its rule, whose MSS is
/// lessened by `less`, any others by `others`.
#[inline(always)]
fn options_rule(packet: &Packet, relay: &Relay, less: u16, others: OptionsRule) -> OptionsRule {
    match packet.segment.tcp.has(tcp::SYN) {
        true => OptionsRule::Syn(MssRule { clamp: relay.mss, less }),
        false => others,
    }
}

impl SegmentRewrite<'_> {
    /// The client.
    fn client(&self, packet: &Packet) -> IpEndpoint {
        match (self.towards, &self.to) {
            (Towards::Targets, _) => packet.src(),
            (Towards::Clients, IpRewrite::V4(to)) => to.endpoints.dst.into(),
            (Towards::Clients, IpRewrite::V6(to)) => to.endpoints.dst.into(),
        }
    }

    /// The ID of fragments of an IPv4 datagram that may be fragmented.
    pub(super) fn long_id<F: Frame>(&self, packet: &Packet, frame: &F, ip: &Ipv4) -> Option<u32> {
        if ip.dont_fragment() {
            return None;
        }
        self.id_of(packet, ipv4::id(frame.bytes().get(packet.segment.l3..).unwrap_or_default()))
    }

    /// The ID of fragments of a datagram that came with the ID `id`.
    pub(super) fn id_of(&self, packet: &Packet, id: u16) -> Option<u32> {
        Some(self.ids?.fragments.of(self.client(packet), id, packet.segment.tcp.seq))
    }

    /// The ID of an IPv4 datagram that was IPv6, where it has one: a target's segment to a client.
    pub(super) fn packet_id(&self, packet: &Packet, total_len: usize) -> Option<u16> {
        if !families::may_be_fragmented(total_len) {
            return None;
        }
        let (client, tcp) = (self.client(packet).of_family()?, packet.segment.tcp);
        Some(self.ids?.packets.id(client, tcp.src_port, tcp.seq, total_len))
    }
}

impl Transform for SegmentRewrite<'_> {
    type Plan = Plan;

    const IS_ICMP_ERROR: bool = false;

    #[inline(always)]
    fn plan<F: Frame>(&self, packet: &Packet, frame: &F) -> Result<Plan, DropReason> {
        rewrite::plan(&packet.segment, packet.tcp_options(frame), &self.to)
    }

    #[inline(always)]
    fn total_len(&self, _: &Packet, plan: &Plan) -> usize {
        plan.total_len()
    }

    #[cold]
    fn fragment_id<F: Frame>(&self, packet: &Packet, frame: &F, plan: &Plan) -> Option<u32> {
        let Datagram::V4(ip) = packet.segment.ip else {
            return match self.to {
                IpRewrite::V4(_) => self.packet_id(packet, plan.total_len()).map(u32::from),
                IpRewrite::V6(_) => None,
            };
        };
        let id = self.long_id(packet, frame, &ip)?;
        Some(match self.to {
            IpRewrite::V4(_) => id >> 16,
            IpRewrite::V6(_) => id,
        })
    }

    #[inline(always)]
    fn apply<F: Frame>(
        &self,
        packet: &Packet,
        frame: &mut F,
        plan: &Plan,
    ) -> Result<usize, DropReason> {
        if let (Datagram::V6(_), IpRewrite::V4(to)) = (&packet.segment.ip, &self.to) {
            let id = self.packet_id(packet, plan.total_len()).unwrap_or_default();
            let to = IpRewrite::V4(rewrite::Rewrite { id, ..*to });
            return rewrite::apply(frame, &packet.segment, &to, plan);
        }
        rewrite::apply(frame, &packet.segment, &self.to, plan)
    }
}

impl Carried for SegmentRewrite<'_> {
    fn outer_id<F: Frame>(&self, packet: &Packet, frame: &F) -> Option<u32> {
        match &packet.segment.ip {
            Datagram::V4(ip) => self.long_id(packet, frame, ip),
            Datagram::V6(_) => None,
        }
    }
}

impl<R: Carried> Transform for TunnelRewrite<'_, R> {
    type Plan = R::Plan;

    const IS_ICMP_ERROR: bool = false;

    fn plan<F: Frame>(&self, packet: &Packet, frame: &F) -> Result<R::Plan, DropReason> {
        self.inside.plan(packet, frame)
    }

    fn total_len(&self, packet: &Packet, plan: &R::Plan) -> usize {
        self.inside.total_len(packet, plan) + self.tunnel.encapsulation().overhead()
    }

    fn fragment_id<F: Frame>(&self, packet: &Packet, frame: &F, _: &R::Plan) -> Option<u32> {
        let id = self.inside.outer_id(packet, frame)?;
        Some(if self.target.is_ipv4() { id >> 16 } else { id })
    }

    fn apply<F: Frame>(
        &self,
        packet: &Packet,
        frame: &mut F,
        plan: &R::Plan,
    ) -> Result<usize, DropReason> {
        let id = self.inside.outer_id(packet, frame).map(|id| (id >> 16) as u16);
        let l3 = self.inside.apply(packet, frame, plan)?;
        self.tunnel.put(frame, l3, &packet.src(), self.target, id)
    }
}
