//! ICMP errors about segments from a tunnel's VIP: the agent whose datagram the segment carried is
//! told, about the segment that it sent.
//!
//! The agent gets a new message: the VIP reports it, as a NAT would have it (RFC 5508, section 4),
//! and it quotes the headers of the agent's own segment as far as they are known.

use std::net::{IpAddr, SocketAddr};

use super::super::egress::Egress;
use super::super::egress::answer::resize;
use super::super::egress::ship::{Transform, Transmit, ship};
use super::super::limits::Limits;
use super::super::output::{Note, Output};
use super::super::packet::Packet;
use super::open;
use crate::frame::Frame;
use crate::net::{Address, Family, ServiceIndex, Towards};
use crate::tunnel::handshake::WINDOW;
use crate::tunnel::open::quote::SentPacket;
use crate::tunnel::quote::{self, Concern, Quoted, SentSegment};
use crate::verdict::{AbsorbKind, DropReason};
use crate::wire::icmp_error::{self, HEADER_LEN, IcmpError};
use crate::wire::tcp::{self, ACK, PSH};
use crate::wire::{ip, ipv4, ipv6};

/// An ICMP error to a VIP of the tunnel `index`, which announces `mtu`, raised to the floor, if it
/// announces one.
#[cold]
#[inline(never)]
pub(in crate::pop) fn tunnel_error<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
    index: ServiceIndex,
    mtu: Option<u32>,
) {
    let mtu = mtu.map(|mtu| mtu.min(u16::MAX.into()) as u16);
    match judge_error(egress, packet, &frame, index, mtu) {
        Ok(None) => egress.absorb(AbsorbKind::TunnelIcmp, frame),
        Ok(Some((error, Sent::Segment(sent)))) => {
            report_error(egress, limits, packet, frame, index, error, sent);
        }
        Ok(Some((error, Sent::Packet(sent)))) => match egress.arrival.snapshot.tunnel(index) {
            Some(tunnel) => {
                let of = (index, tunnel);
                open::icmp::report(egress, limits, packet, frame, of, (error, &sent));
            }
            None => egress.drop(Some(index), DropReason::IcmpQuote, frame),
        },
        Err(reason) => egress.drop(Some(index), reason, frame),
    }
}

/// What a quoted segment carried.
enum Sent {
    /// The datagram of this segment.
    Segment(SentSegment),
    /// An open packet.
    Packet(SentPacket),
}

/// The error that the sender of what the quoted segment carried gets; `None` about an answer of a
/// POP, which nobody is told of.
fn judge_error<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    packet: &Packet,
    frame: &F,
    index: ServiceIndex,
    mtu: Option<u16>,
) -> Result<Option<(IcmpError, Sent)>, DropReason> {
    let arrival = egress.arrival;
    if !arrival.takes_clients() {
        return Err(DropReason::WrongSide);
    }
    let tunnel = arrival.snapshot.tunnel(index).ok_or(DropReason::IcmpQuote)?;
    let family = packet.segment.ip.family();
    let message = packet.message(frame).split_first_chunk::<HEADER_LEN>();
    let (head, quote) = message.ok_or(DropReason::IcmpMalformed)?;
    let quoted = Quoted::parse(family, quote).ok_or(DropReason::IcmpQuote)?;
    let client_ok = |ip| arrival.snapshot.client_ok(ip);
    let host_ok = |ip| open::host_ok(&arrival, ip);
    let concern = quote::concern(&tunnel.service, arrival.unix, &quoted, client_ok, host_ok);
    let sender = match &concern {
        Ok(Concern::Sender(sent)) => Some(sent.src),
        Ok(Concern::Packet(sent)) => Some(SocketAddr::new(sent.header.src.ip(), 0)),
        Ok(Concern::Answer) | Err(_) => None,
    };
    egress.note::<F>(Note::TunnelQuote { vip: quoted.src, agent: quoted.dst, sender });
    let sent = match concern? {
        Concern::Sender(sent) => Sent::Segment(sent),
        Concern::Packet(sent) if sent.may_tell => Sent::Packet(sent),
        Concern::Packet(_) | Concern::Answer => return Ok(None),
    };
    let error = match (IcmpError::parse(family, head), mtu) {
        (Some(IcmpError::TooBig(_)), Some(mtu)) => IcmpError::TooBig(mtu),
        (error, _) => error.ok_or(DropReason::IcmpType)?,
    };
    Ok(Some((error, sent)))
}

/// Turns `frame` into the error that the sender gets.
fn report_error<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
    service: ServiceIndex,
    error: IcmpError,
    sent: SentSegment,
) {
    let Some(tunnel) = egress.arrival.snapshot.tunnel(service) else {
        return egress.drop(Some(service), DropReason::IcmpQuote, frame);
    };
    let destination = sent.src.ip();
    let (slot, towards) = (tunnel.slot, Towards::Clients);
    let rewrite = Report { error, sent };
    let transmit =
        Transmit { service, slot, towards, destination, is_copy: false, target: None, rewrite };
    ship(egress, limits, packet, frame, &transmit);
}

/// The error that takes the place of the one that came in.
struct Report {
    error: IcmpError,
    sent: SentSegment,
}

impl Transform for Report {
    type Plan = ();

    const IS_ICMP_ERROR: bool = true;

    fn charged(&self) -> Option<IpAddr> {
        Some(self.sent.src.ip())
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
        let l3 = packet.segment.l3;
        if !resize(frame, l3 + error_len(Family::of(self.sent.src.ip()))) {
            return Err(DropReason::NoRoom);
        }
        let datagram = frame.bytes_mut().get_mut(l3..).unwrap_or_default();
        let ttl = packet.segment.ip.hops().wrapping_sub(1);
        write_error(datagram, &self.sent, self.error, ttl);
        Ok(l3)
    }
}

/// `error` about a segment that reached its destination shorter by `longer_by` bytes, for its
/// sender over `family`.
fn for_sender(error: IcmpError, family: Family, longer_by: u16) -> IcmpError {
    match error {
        IcmpError::TooBig(mtu) => {
            let mtu = mtu.saturating_add(longer_by);
            let min = if family == Family::V6 { ipv6::MTU_MIN as u16 } else { 0 };
            IcmpError::TooBig(mtu.max(min))
        }
        other => other,
    }
}

/// Writes the error about `sent` that fills `datagram`.
fn write_error(datagram: &mut [u8], sent: &SentSegment, error: IcmpError, ttl: u8) {
    let (agent, vip) = (sent.src.ip(), sent.dst.ip());
    let family = Family::of(agent);
    let ip_header_len = family.ip_header_len();
    let Some((outer, message)) = datagram.split_at_mut_checked(ip_header_len) else { return };
    let quote = message.get_mut(HEADER_LEN..).unwrap_or_default();
    let quoted = ip::Header {
        class: 0,
        hops: QUOTED_TTL,
        protocol: ipv4::PROTOCOL_TCP,
        payload_len: sent.total_len.saturating_sub(ip_header_len as u16),
        src: agent,
        dst: vip,
    };
    quoted.write(quote);
    write_segment(quote.get_mut(ip_header_len..).unwrap_or_default(), sent);
    for_sender(error, family, sent.longer_by).write(vip, agent, message);
    let header = ip::Header {
        class: 0,
        hops: ttl,
        protocol: icmp_error::protocol(family),
        payload_len: message.len() as u16,
        src: vip,
        dst: agent,
    };
    header.write(outer);
}

/// Writes the TCP header of `sent`, without its checksum, which is not known.
fn write_segment(bytes: &mut [u8], sent: &SentSegment) {
    tcp::Header {
        src_port: sent.src.port(),
        dst_port: sent.dst.port(),
        seq: sent.seq,
        ack: sent.ack,
        flags: PSH | ACK,
        window: WINDOW,
        options: &[],
    }
    .write(bytes);
}

/// Length of an error with its quote.
const fn error_len(family: Family) -> usize {
    2 * family.ip_header_len() + HEADER_LEN + tcp::HEADER_LEN
}

/// What it was when it reached the POP is not known.
const QUOTED_TTL: u8 = 1;
