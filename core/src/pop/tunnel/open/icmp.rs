//! ICMP errors about segments that carried open packets: the sender of the packet is told, by an
//! ICMPv6 error about the packet (RFC 2473, section 8.3).

use std::net::IpAddr;

use super::super::super::egress::Egress;
use super::super::super::egress::ship::{Transform, Transmit, ship};
use super::super::super::egress::wrap::wrap;
use super::super::super::limits::{Limits, OpenWay};
use super::super::super::output::Output;
use super::super::super::packet::Packet;
use crate::frame::{self, Frame};
use crate::net::{Address, Family, ServiceIndex, Towards};
use crate::snapshot::Tunnel;
use crate::time::UnixTime;
use crate::tunnel::TunnelService;
use crate::tunnel::open::quote::SentPacket;
use crate::tunnel::open::{OpenAgent, down};
use crate::verdict::DropReason;
use crate::wire::icmp_error::{self, HEADER_LEN, IcmpError, Unreachable, quote_len_max};
use crate::wire::{ip, ipv6};

/// Tells the sender of `sent`, which the error in `frame` quotes, of `error`.
pub(in crate::pop) fn report<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    mut frame: F,
    (service, tunnel): (ServiceIndex, &Tunnel),
    (error, sent): (IcmpError, &SentPacket),
) {
    let Some((open, _)) = tunnel.service.open_side() else {
        return egress.drop(Some(service), DropReason::IcmpQuote, frame);
    };
    // An agent knows what is in segments to it, and can make up such errors: they are as much as
    // what it sends.
    if let Err(reason) = limits.admit_open(OpenWay::Up, tunnel.slot, sent.agent.at) {
        return egress.drop(Some(service), reason, frame);
    }
    let message = packet.message(&frame).split_first_chunk();
    let behind = message.and_then(|(head, _)| icmp_error::quote_len(Family::V4, head));
    let quote_at = packet.l4() + HEADER_LEN;
    // What follows a quote may be extensions.
    if let Some(len) = behind {
        frame.truncate(quote_at + len);
    }
    let at = quote_at + sent.at;
    frame.truncate(at + sent.header.total_len().min(quote_len_max(Family::V6)));
    let destination = match sent.sender {
        Some(agent) => IpAddr::V4(*agent.at.ip()),
        None => sent.header.src.ip(),
    };
    let rewrite = Report {
        error: about_packet(error),
        src: open.icmp_source.into(),
        dst: sent.header.src,
        at,
        agent: sent.sender.map(|agent| (agent, &tunnel.service, egress.arrival.unix)),
    };
    let (slot, towards) = (tunnel.slot, Towards::Clients);
    let transmit =
        Transmit { service, slot, towards, destination, is_copy: false, target: None, rewrite };
    ship(egress, limits, packet, frame, &transmit);
}

/// What an error about the segment says of the packet in it. An agent that is not there, or not
/// reached, is an address that is not reached (RFC 2473, section 8.2).
fn about_packet(error: IcmpError) -> IcmpError {
    match error {
        IcmpError::TooBig(mtu) => {
            let mtu = mtu.saturating_sub(down::OVERHEAD as u16);
            IcmpError::TooBig(mtu.max(ipv6::MTU_MIN as u16))
        }
        IcmpError::Unreachable(Unreachable::Prohibited) => error,
        _ => IcmpError::Unreachable(Unreachable::Host),
    }
}

/// The error that takes the place of the one that came in.
struct Report<'a> {
    error: IcmpError,
    src: IpAddr,
    /// The sender of the packet.
    dst: u128,
    /// Where the packet is in the frame.
    at: usize,
    /// The sender, where it is an agent, which is told through its tunnel.
    agent: Option<(OpenAgent, &'a TunnelService, UnixTime)>,
}

impl Transform for Report<'_> {
    type Plan = ();

    const IS_ICMP_ERROR: bool = true;

    fn charged(&self) -> Option<IpAddr> {
        Some(self.dst.ip())
    }

    fn plan<F: Frame>(&self, _: &Packet, _: &F) -> Result<(), DropReason> {
        Ok(())
    }

    fn apply<F: Frame>(
        &self,
        packet: &Packet,
        frame: &mut F,
        (): &(),
    ) -> Result<usize, DropReason> {
        let zeros = [0; ipv6::HEADER_LEN + HEADER_LEN];
        let l3 = frame::put_before(frame, self.at, &zeros).ok_or(DropReason::NoRoom)?;
        let datagram = frame.bytes_mut().get_mut(l3..).unwrap_or_default();
        let hops = packet.segment.ip.hops().wrapping_sub(1);
        write(datagram, self.error, self.src, self.dst.ip(), hops);
        match &self.agent {
            None => Ok(l3),
            Some((agent, service, now)) => {
                let down = down::segment(service, *now, agent, datagram);
                wrap(frame, l3, &down.ok_or(DropReason::NotOurs)?)
            }
        }
    }
}

/// Writes the IPv6 and ICMPv6 headers of the error that fills `datagram`, the end of which is the
/// quote.
fn write(datagram: &mut [u8], error: IcmpError, src: IpAddr, dst: IpAddr, hops: u8) {
    let Some((head, message)) = datagram.split_at_mut_checked(ipv6::HEADER_LEN) else { return };
    error.write(src, dst, message);
    let (payload_len, protocol) = (message.len() as u16, ipv6::PROTOCOL_ICMPV6);
    ip::Header { class: 0, hops, protocol, payload_len, src, dst }.write(head);
}
