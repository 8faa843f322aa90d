//! ICMP errors about segments from a tunnel's VIP: the agent that sent what the segment brought is
//! told, about the segment that it sent.
//!
//! What it is sent is a new message: the VIP reports it, as a NAT would have it (RFC 5508, section 4),
//! and it quotes the headers of the agent's own segment as far as they can be told.

use std::net::IpAddr;

use super::{ethertype, resize};
use crate::frame::Frame;
use crate::net::Family;
use crate::net::ServiceIndex;
use crate::pop::ingress::Packet;
use crate::pop::run::Run;
use crate::pop::{Note, Output};
use crate::tunnel::handshake::WINDOW;
use crate::tunnel::quote::{self, Concern, Quoted, SentSegment};
use crate::verdict::{AbsorbKind, DropReason, Verdict};
use crate::wire::icmp_error::{HEADER_LEN, IcmpError};
use crate::wire::tcp::{self, ACK, PSH};
use crate::wire::{ipv4, ipv6};

impl<O> Run<'_, O> {
    /// An ICMP error of `family` to a VIP of the tunnel `of`, which announces `mtu`, raised to the floor,
    /// if it announces one.
    #[cold]
    #[inline(never)]
    pub(in crate::pop) fn tunnel_error<F: Frame>(
        &mut self,
        packet: &Packet,
        frame: F,
        of: ServiceIndex,
        family: Family,
        mtu: Option<u16>,
    ) where
        O: Output<F>,
    {
        match self.judge_error(packet, &frame, of, family, mtu) {
            Ok(None) => self.absorb(AbsorbKind::TunnelIcmp, frame),
            Ok(Some((error, sent))) => {
                let ttl = match family {
                    Family::V4 => packet.segment.ip.ttl,
                    Family::V6 => packet.ipv6.ip.hop_limit,
                };
                self.tell(packet.segment.l3, frame, of, error, &sent, ttl);
            }
            Err(reason) => self.drop(Some(of), reason, frame),
        }
    }

    /// What is to be told to whom; nobody is told of answers that a POP gave.
    fn judge_error<F: Frame>(
        &mut self,
        packet: &Packet,
        frame: &F,
        of: ServiceIndex,
        family: Family,
        mtu: Option<u16>,
    ) -> Result<Option<(IcmpError, SentSegment)>, DropReason>
    where
        O: Output<F>,
    {
        if !self.takes_clients() {
            return Err(DropReason::WrongSide);
        }
        let tunnel = self.snapshot.tunnel(of).ok_or(DropReason::IcmpQuote)?;
        let at = packet.segment.l3
            + match family {
                Family::V4 => packet.segment.ip.header_len,
                Family::V6 => packet.ipv6.upper.at,
            };
        let message =
            frame.bytes().get(at..).and_then(|message| message.split_first_chunk::<HEADER_LEN>());
        let (head, quote) = message.ok_or(DropReason::IcmpMalformed)?;
        let quoted = Quoted::parse(family, quote).ok_or(DropReason::IcmpQuote)?;
        let client_ok = |ip| self.snapshot.client_ok_ip(ip);
        let concern = quote::concern(&tunnel.service, self.unix, &quoted, client_ok);
        let sender = match &concern {
            Ok(Concern::Sender(sent)) => Some(sent.src),
            Ok(Concern::Answer) | Err(_) => None,
        };
        self.note(Note::TunnelQuote { vip: quoted.src, agent: quoted.dst, sender });
        let Concern::Sender(sent) = concern? else { return Ok(None) };
        let error = match (IcmpError::parse(family, head), mtu) {
            (Some(IcmpError::TooBig(_)), Some(mtu)) => IcmpError::TooBig(mtu),
            (error, _) => error.ok_or(DropReason::IcmpType)?,
        };
        self.admit_error(Some(of), sent.src.ip())?;
        Ok(Some((error, sent)))
    }

    /// Turns `frame` into the error that the sender gets.
    fn tell<F: Frame>(
        &mut self,
        l3: usize,
        mut frame: F,
        of: ServiceIndex,
        error: IcmpError,
        sent: &SentSegment,
        ttl: u8,
    ) where
        O: Output<F>,
    {
        // No ICMP error is sent about an ICMP error (RFC 1122, section 3.2.2).
        if ttl <= 1 {
            return self.drop(Some(of), DropReason::TtlExceeded, frame);
        }
        let hop = match self.hop_to(sent.src.ip()) {
            Ok(hop) => hop,
            Err(reason) => return self.drop(Some(of), reason, frame),
        };
        let family = Family::of(sent.src.ip());
        let len = error_len(family);
        if !resize(&mut frame, l3 + len) {
            return self.drop(Some(of), DropReason::NoRoom, frame);
        }
        let datagram = frame.bytes_mut().get_mut(l3..).unwrap_or_default();
        write_error(datagram, sent, error, ttl - 1);
        if !self.send(frame, l3, hop, ethertype(family)) {
            return self.count_drop::<F>(Some(of), DropReason::NoRoom);
        }
        if let Some(tunnel) = self.snapshot.tunnel(of) {
            self.counters.service(tunnel.slot).down.add(1, len as u64);
        }
        self.note(Note::Verdict(Verdict::Forward(hop.port)));
    }
}

/// `error` about a segment that reached its destination shorter by `longer_by` bytes, for its sender
/// over `family`.
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
    let total_len = datagram.len();
    let error = for_sender(error, Family::of(sent.src.ip()), sent.longer_by);
    match (sent.src.ip(), sent.dst.ip()) {
        (IpAddr::V4(agent), IpAddr::V4(vip)) => {
            let (agent, vip) = (agent.to_bits(), vip.to_bits());
            let Some((outer, message)) = datagram.split_at_mut_checked(ipv4::HEADER_LEN) else {
                return;
            };
            let quote = message.get_mut(HEADER_LEN..).unwrap_or_default();
            let quoted = ipv4::Header {
                total_len: sent.total_len,
                ttl: QUOTED_TTL,
                protocol: ipv4::PROTOCOL_TCP,
                src: agent,
                dst: vip,
                ..ipv4::ORIGINATED
            };
            quoted.write(quote);
            write_segment(quote.get_mut(ipv4::HEADER_LEN..).unwrap_or_default(), sent);
            error.write_icmp(message);
            let header = ipv4::Header {
                total_len: total_len as u16,
                ttl,
                protocol: ipv4::PROTOCOL_ICMP,
                src: vip,
                dst: agent,
                ..ipv4::ORIGINATED
            };
            header.write(outer);
        }
        (IpAddr::V6(agent), IpAddr::V6(vip)) => {
            let (agent, vip) = (agent.to_bits(), vip.to_bits());
            let Some((outer, message)) = datagram.split_at_mut_checked(ipv6::HEADER_LEN) else {
                return;
            };
            let quote = message.get_mut(HEADER_LEN..).unwrap_or_default();
            let quoted = ipv6::Header {
                payload_len: sent.total_len.saturating_sub(ipv6::HEADER_LEN as u16),
                next_header: ipv6::PROTOCOL_TCP,
                hop_limit: QUOTED_TTL,
                src: agent,
                dst: vip,
                ..ipv6::ORIGINATED
            };
            quoted.write(quote);
            write_segment(quote.get_mut(ipv6::HEADER_LEN..).unwrap_or_default(), sent);
            error.write_icmpv6(vip, agent, message);
            let header = ipv6::Header {
                payload_len: message.len() as u16,
                next_header: ipv6::PROTOCOL_ICMPV6,
                hop_limit: ttl,
                src: vip,
                dst: agent,
                ..ipv6::ORIGINATED
            };
            header.write(outer);
        }
        // An agent and its VIP are of one family.
        _ => {}
    }
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
