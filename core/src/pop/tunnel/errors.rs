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
use crate::tunnel::quote::{self, Concern, Quoted, Sent};
use crate::verdict::{AbsorbKind, DropReason, Verdict};
use crate::wire::tcp::{self, ACK, PSH};
use crate::wire::{icmp, icmpv6, ipv4, ipv6, put_u16, put_u32};

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
            Ok(Some((trouble, sent))) => {
                let ttl = match family {
                    Family::V4 => packet.segment.ip.ttl,
                    Family::V6 => packet.ipv6.ip.hop_limit,
                };
                self.tell(packet.segment.l3, frame, of, trouble, &sent, ttl);
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
    ) -> Result<Option<(Trouble, Sent)>, DropReason>
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
            frame.bytes().get(at..).and_then(|message| message.split_at_checked(HEAD_LEN));
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
        let trouble = Trouble::of(family, head, mtu).ok_or(DropReason::IcmpType)?;
        self.admit_error(Some(of), sent.src.ip())?;
        Ok(Some((trouble, sent)))
    }

    /// Turns `frame` into the error that the sender gets.
    fn tell<F: Frame>(
        &mut self,
        l3: usize,
        mut frame: F,
        of: ServiceIndex,
        trouble: Trouble,
        sent: &Sent,
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
        write_error(datagram, sent, trouble, ttl - 1);
        if !self.send(frame, l3, hop, ethertype(family)) {
            return self.count_drop::<F>(Some(of), DropReason::NoRoom);
        }
        if let Some(tunnel) = self.snapshot.tunnel(of) {
            self.counters.service(tunnel.slot).down.add(1, len as u64);
        }
        self.note(Note::Verdict(Verdict::Forward(hop.port)));
    }
}

/// What an agent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// What it sends is too big for the way of what becomes of it, which takes so many bytes.
    TooBig(u16),
    /// What became of it reached nobody.
    Unreachable(Why),
    /// It went in a circle, or (true) was not put together again in time.
    TimeExceeded(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Host,
    Port,
    Prohibited,
}

impl Trouble {
    /// That in the header of an ICMP error; `None` for what would tell an agent nothing.
    fn of(family: Family, head: &[u8], mtu: Option<u16>) -> Option<Trouble> {
        if let Some(mtu) = mtu {
            return Some(Trouble::TooBig(mtu));
        }
        let &[kind, code, ..] = head else { return None };
        Some(match (family, kind, code) {
            (Family::V4, 3, 3) | (Family::V6, 1, 4) => Trouble::Unreachable(Why::Port),
            (Family::V4, 3, 9 | 10 | 13) | (Family::V6, 1, 1 | 5 | 6) => {
                Trouble::Unreachable(Why::Prohibited)
            }
            (Family::V4, 3, _) | (Family::V6, 1, _) => Trouble::Unreachable(Why::Host),
            (Family::V4, 11, _) | (Family::V6, 3, _) => Trouble::TimeExceeded(code == 1),
            _ => return None,
        })
    }

    /// Type, code and MTU of the error about a segment of `family`, by which what came of it was
    /// shorter by `shorter_by`.
    fn header(self, family: Family, shorter_by: u16) -> (u8, u8, u16) {
        let v4 = family == Family::V4;
        match self {
            Trouble::TooBig(mtu) => {
                let mtu = mtu.saturating_add(shorter_by);
                if v4 { (3, 4, mtu) } else { (2, 0, mtu.max(ipv6::MTU_MIN as u16)) }
            }
            Trouble::Unreachable(Why::Port) => {
                if v4 {
                    (3, 3, 0)
                } else {
                    (1, 4, 0)
                }
            }
            Trouble::Unreachable(Why::Prohibited) => {
                if v4 {
                    (3, 13, 0)
                } else {
                    (1, 1, 0)
                }
            }
            Trouble::Unreachable(Why::Host) => {
                if v4 {
                    (3, 1, 0)
                } else {
                    (1, 3, 0)
                }
            }
            Trouble::TimeExceeded(code) => (if v4 { 11 } else { 3 }, code.into(), 0),
        }
    }
}

/// Writes the error about `sent` that fills `datagram`.
fn write_error(datagram: &mut [u8], sent: &Sent, trouble: Trouble, ttl: u8) {
    let total_len = datagram.len();
    match (sent.src.ip(), sent.dst.ip()) {
        (IpAddr::V4(agent), IpAddr::V4(vip)) => {
            let (agent, vip) = (agent.to_bits(), vip.to_bits());
            let Some((outer, message)) = datagram.split_at_mut_checked(ipv4::HEADER_LEN) else {
                return;
            };
            let Some((head, quote)) = message.split_at_mut_checked(HEAD_LEN) else { return };
            let (kind, code, mtu) = trouble.header(Family::V4, sent.longer_by);
            head.fill(0);
            head[icmp::field::TYPE] = kind;
            head[icmp::field::CODE] = code;
            put_u16(head, icmp::field::MTU, mtu);
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
            icmp::write_checksum(message);
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
            let Some((head, quote)) = message.split_at_mut_checked(HEAD_LEN) else { return };
            let (kind, code, mtu) = trouble.header(Family::V6, sent.longer_by);
            head.fill(0);
            head[icmpv6::field::TYPE] = kind;
            head[icmpv6::field::CODE] = code;
            put_u32(head, icmpv6::field::MTU, mtu.into());
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
            icmpv6::write_checksum(vip, agent, message);
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
fn write_segment(bytes: &mut [u8], sent: &Sent) {
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
    2 * family.ip_header_len() + HEAD_LEN + tcp::HEADER_LEN
}

/// That of errors of both families.
const HEAD_LEN: usize = icmp::HEADER_LEN;
const _: () = assert!(HEAD_LEN == icmpv6::HEADER_LEN);

/// What it was when it reached the POP is not known.
const QUOTED_TTL: u8 = 1;
