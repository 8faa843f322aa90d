//! UDP datagrams of relays: each goes to one target, or to its client.
//!
//! A datagram is never copied, as a request would be answered twice. Where targets change, those of
//! the clients that move go to their new target at once.

use super::super::egress::Egress;
use super::super::egress::ship::{Transform, Transmit, ship};
use super::super::lanes::{Lane, Lanes};
use super::super::limits::Limits;
use super::super::output::{Note, Output};
use super::super::packet::Packet;
use super::segment::{Carried, SegmentRewrite, TunnelRewrite, transmit};
use crate::frame::Frame;
use crate::net::{IpEndpoint, IpEndpoints, ServiceIndex, Towards};
use crate::relay::Relay;
use crate::relay::encapsulated::EncapsulatedMode;
use crate::relay::mapping::{EgressSide, Mapping};
use crate::relay::rewrite::options::OptionsRule;
use crate::relay::rewrite::{IpRewrite, Timestamps, datagrams};
use crate::relay::targets::TargetIndex;
use crate::verdict::DropReason;
use crate::wire::Datagram;

/// A client's datagram goes to the target of new connections.
#[cold]
#[inline(never)]
pub(in crate::pop) fn outward<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
    lanes: &Lanes,
    lane: Lane,
) {
    let Some((index, relay)) = packet.relay(egress.arrival.snapshot) else {
        return egress.drop(packet.service, DropReason::UnservedPort, frame);
    };
    let chosen = lanes.outward_at(lane).and_then(|(side, chosen)| {
        let new = chosen.new.ok_or(DropReason::NoTarget)?;
        let target = *relay.targets.at(new).ok_or(DropReason::NoTarget)?;
        Ok((side, new, target))
    });
    let (side, new, target) = match chosen {
        Ok(chosen) => chosen,
        Err(reason) => return egress.drop(packet.service, reason, frame),
    };
    egress.note::<F>(Note::Mapped(relay.mode.name(), Mapping::new(packet.src(), *side, target)));
    let to = To { index, relay, may_be_cut: may_be_cut(egress, packet) };
    match relay.mode.tunnel() {
        Some(tunnel) => {
            let made = to.in_tunnel(packet, tunnel, (new, target));
            send(egress, limits, packet, frame, made);
        }
        None => {
            let made = to.to_target(side, (new, target));
            send(egress, limits, packet, frame, made);
        }
    }
}

/// A target's datagram goes to its client, if its mapping is a client's.
#[cold]
#[inline(never)]
pub(in crate::pop) fn inward<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
    lanes: &Lanes,
    lane: Lane,
) {
    let arrival = egress.arrival;
    let Some((index, relay)) = packet.relay(arrival.snapshot) else {
        return egress.drop(packet.service, DropReason::UnknownTarget, frame);
    };
    let client = match lanes.inward_at(lane) {
        Ok((client, _)) => *client,
        Err(reason) => return egress.drop(packet.service, reason, frame),
    };
    // Where nothing stands for the client, its address was looked at as it came in.
    if relay.mode.has_stand_ins() && !arrival.snapshot.is_client(&client) {
        return egress.drop(packet.service, DropReason::BadTag, frame);
    }
    let side = EgressSide { egress: packet.dst(), tag: None };
    let mapping = Mapping::new(client, side, packet.sender(relay));
    egress.note::<F>(Note::Mapped(relay.mode.name(), mapping));
    let to = To { index, relay, may_be_cut: may_be_cut(egress, packet) };
    let made = to.to_client(packet.target, client);
    send(egress, limits, packet, frame, made);
}

/// Whether the datagram came in fragments over IPv6, as one does that is longer than its link
/// allows. Then its sender has done what it can for it to fit.
fn may_be_cut<O>(egress: &Egress<'_, O>, packet: &Packet) -> bool {
    match &packet.segment.ip {
        Datagram::V4(_) => false,
        Datagram::V6(ip) => ip.header.total_len() > usize::from(egress.arrival.link.mtu),
    }
}

fn send<F: Frame, O: Output<F>, R: Transform>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
    made: Result<Transmit<R>, DropReason>,
) {
    match made {
        Ok(transmit) => {
            ship(egress, limits, packet, frame, &transmit);
        }
        Err(reason) => egress.drop(packet.service, reason, frame),
    }
}

/// The relay of a datagram that is sent on.
struct To<'a> {
    index: ServiceIndex,
    relay: &'a Relay,
    may_be_cut: bool,
}

impl<'a> To<'a> {
    fn to_target(
        &self,
        side: &EgressSide,
        (index, target): (TargetIndex, IpEndpoint),
    ) -> Result<Transmit<DatagramRewrite<'a>>, DropReason> {
        let ends = IpEndpoints::new(side.egress, target).ok_or(DropReason::UnservedPort)?;
        Ok(self.transmit(ends, index, (Towards::Targets, target)))
    }

    fn in_tunnel(
        &self,
        packet: &Packet,
        tunnel: &'a EncapsulatedMode,
        (index, target): (TargetIndex, IpEndpoint),
    ) -> Result<Transmit<TunnelRewrite<'a, DatagramRewrite<'a>>>, DropReason> {
        let ends = IpEndpoints::new(packet.src(), self.relay.vip);
        let ends = ends.ok_or(DropReason::UnservedPort)?;
        let transmit = self.transmit(ends, index, (Towards::Targets, target));
        let target = target.ip();
        Ok(transmit.map(|inside| TunnelRewrite { inside, tunnel, target }))
    }

    fn to_client(
        &self,
        target: TargetIndex,
        client: IpEndpoint,
    ) -> Result<Transmit<DatagramRewrite<'a>>, DropReason> {
        let ends = IpEndpoints::new(self.relay.vip, client).ok_or(DropReason::NotOurs)?;
        Ok(self.transmit(ends, target, (Towards::Clients, client)))
    }

    fn transmit(
        &self,
        ends: IpEndpoints,
        target: TargetIndex,
        (towards, destination): (Towards, IpEndpoint),
    ) -> Transmit<DatagramRewrite<'a>> {
        let To { index, relay, may_be_cut } = *self;
        let to = IpRewrite::new(ends, Timestamps::Keep, OptionsRule::Keep);
        let slot = relay.targets.slot(target);
        let transmit = transmit(index, relay, slot, towards, destination.ip(), to);
        transmit.map(|of| DatagramRewrite { of, may_be_cut })
    }
}

/// The rewrite of a UDP datagram of a relay.
pub(in crate::pop) struct DatagramRewrite<'a> {
    of: SegmentRewrite<'a>,
    /// Whether one of IPv6 may be sent in fragments.
    may_be_cut: bool,
}

impl DatagramRewrite<'_> {
    /// The ID of an IPv4 datagram that was IPv6, if it may be fragmented.
    fn id(&self, packet: &Packet) -> Option<u16> {
        let short = self.of.packet_id(packet, datagrams::len(&packet.segment, &self.of.to));
        short.or_else(|| {
            let id = self.of.id_of(packet, 0).filter(|_| self.may_be_cut)?;
            Some((id >> 16) as u16)
        })
    }
}

impl Transform for DatagramRewrite<'_> {
    type Plan = ();

    const IS_ICMP_ERROR: bool = false;

    fn plan<F: Frame>(&self, _: &Packet, _: &F) -> Result<(), DropReason> {
        Ok(())
    }

    fn total_len(&self, packet: &Packet, (): &()) -> usize {
        datagrams::len(&packet.segment, &self.of.to)
    }

    fn fragment_id<F: Frame>(&self, packet: &Packet, frame: &F, (): &()) -> Option<u32> {
        match (&packet.segment.ip, &self.of.to) {
            (Datagram::V6(_), IpRewrite::V4(_)) => self.id(packet).map(u32::from),
            (Datagram::V4(_), IpRewrite::V4(_)) => Some(self.outer_id(packet, frame)? >> 16),
            (_, IpRewrite::V6(_)) => self.outer_id(packet, frame),
        }
    }

    fn apply<F: Frame>(
        &self,
        packet: &Packet,
        frame: &mut F,
        (): &(),
    ) -> Result<usize, DropReason> {
        let id = match (&packet.segment.ip, &self.of.to) {
            (Datagram::V6(_), IpRewrite::V4(_)) => self.id(packet),
            _ => None,
        };
        datagrams::apply(frame, &packet.segment, &self.of.to, id)
    }
}

impl Carried for DatagramRewrite<'_> {
    fn outer_id<F: Frame>(&self, packet: &Packet, frame: &F) -> Option<u32> {
        match &packet.segment.ip {
            Datagram::V4(ip) => self.of.long_id(packet, frame, ip),
            Datagram::V6(_) => self.of.id_of(packet, 0).filter(|_| self.may_be_cut),
        }
    }
}
