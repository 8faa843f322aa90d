//! Decides what becomes of a relay's segment: its mapping says where it goes and with which
//! endpoints.

use super::super::egress::ship::{Transform, Transmit};
use super::super::packet::Packet;
use crate::frame::Frame;
use crate::net::{IpEndpoints, ServiceIndex, Towards};
use crate::relay::Relay;
use crate::relay::mapping::{ClientTimestamps, Mapping, Tag};
use crate::relay::rewrite::options::{INSERTED_LEN, MssRule, TimestampsAt, TimestampsOption};
use crate::relay::rewrite::{self, DatagramIds, IpRewrite, Plan, Timestamps, families};
use crate::verdict::DropReason;
use crate::wire::{Datagram, ipv4, tcp};

/// The rewrite of a segment of a relay.
pub(in crate::pop) struct SegmentRewrite<'a> {
    to: IpRewrite,
    mapping: &'a Mapping,
    ids: Option<&'a DatagramIds>,
}

/// A client's segment goes on to the target, from the client's egress endpoint.
#[inline(always)]
pub(in crate::pop) fn outward<'a>(
    packet: &Packet,
    index: ServiceIndex,
    relay: &'a Relay,
    mapping: &'a Mapping,
) -> Result<Transmit<SegmentRewrite<'a>>, DropReason> {
    let timestamps = match (mapping.tag, packet.timestamps) {
        (None, _) => Timestamps::Keep,
        (Some(Tag { value, timestamps: ClientTimestamps::Present }), Some(at)) => {
            Timestamps::SetValue(at, value)
        }
        (Some(Tag { value, .. }), _) => Timestamps::Insert(TimestampsOption { value, echo: 0 }),
    };
    let endpoints =
        IpEndpoints::new(mapping.egress, mapping.target).ok_or(DropReason::UnservedPort)?;
    let to = IpRewrite::new(endpoints, timestamps, mss_rule(packet, relay, 0));
    Ok(transmit(index, relay, mapping, Towards::Targets, to))
}

/// A target's segment goes on to the client, from the VIP.
#[inline(always)]
pub(in crate::pop) fn inward<'a>(
    packet: &Packet,
    index: ServiceIndex,
    relay: &'a Relay,
    mapping: &'a Mapping,
) -> Result<Transmit<SegmentRewrite<'a>>, DropReason> {
    let (timestamps, less) = match mapping.tag {
        None => (Timestamps::Keep, 0),
        Some(Tag { timestamps: ClientTimestamps::Absent, .. }) => {
            (Timestamps::Strip, INSERTED_LEN as u16)
        }
        Some(_) => (packet.timestamps.map_or(Timestamps::Keep, clear_echo), 0),
    };
    let endpoints = IpEndpoints::new(relay.vip, mapping.client).ok_or(DropReason::NotOurs)?;
    let to = IpRewrite::new(endpoints, timestamps, mss_rule(packet, relay, less));
    Ok(transmit(index, relay, mapping, Towards::Clients, to))
}

/// The echoed tag is no TSval of the client's.
#[inline(always)]
fn clear_echo(at: TimestampsAt) -> Timestamps {
    Timestamps::SetEcho(at, 0)
}

#[inline(always)]
fn transmit<'a>(
    service: ServiceIndex,
    relay: &'a Relay,
    mapping: &'a Mapping,
    towards: Towards,
    to: IpRewrite,
) -> Transmit<SegmentRewrite<'a>> {
    let destination = match towards {
        Towards::Targets => mapping.target.ip(),
        Towards::Clients => mapping.client.ip(),
    };
    let rewrite = SegmentRewrite { to, mapping, ids: relay.ids.as_ref() };
    Transmit { service, slot: relay.slot, towards, destination, rewrite }
}

/// For a SYN or SYN-ACK, what happens to its MSS.
#[inline(always)]
fn mss_rule(packet: &Packet, relay: &Relay, less: u16) -> Option<MssRule> {
    let syn = packet.segment.tcp.has(tcp::SYN);
    syn.then_some(MssRule { clamp: relay.mss, less })
}

impl SegmentRewrite<'_> {
    /// The ID of an IPv4 datagram that was IPv6, where it has one.
    fn packet_id(&self, packet: &Packet, total_len: usize) -> Option<u16> {
        if !families::may_be_fragmented(total_len) {
            return None;
        }
        let client = self.mapping.client.of_family::<u32>()?;
        let (port, seq) = (self.mapping.target.port(), packet.segment.tcp.seq);
        Some(self.ids?.packets.id(client, port, seq, total_len))
    }
}

impl Transform for SegmentRewrite<'_> {
    type Plan = Plan;

    const IS_ICMP_ERROR: bool = false;

    #[inline(always)]
    fn plan<F: Frame>(&self, packet: &Packet, frame: &F) -> Result<Plan, DropReason> {
        let at = packet.l4();
        let options = frame.bytes().get(at + tcp::HEADER_LEN..at + packet.segment.tcp.header_len);
        rewrite::plan(&packet.segment, options.unwrap_or_default(), &self.to)
    }

    #[inline(always)]
    fn total_len(&self, plan: &Plan) -> usize {
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
        if ip.dont_fragment() {
            return None;
        }
        let id = ipv4::id(frame.bytes().get(packet.segment.l3..).unwrap_or_default());
        let client = self.mapping.client.of_family::<u32>()?;
        let id = self.ids?.fragments.of(client.into(), id, packet.segment.tcp.seq);
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
