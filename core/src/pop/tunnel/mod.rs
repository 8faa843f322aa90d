//! Segments to tunnels' VIPs: handshakes and keepalives are answered, datagrams sent on to the
//! agent that they are for.
//!
//! What to do is decided by [`crate::tunnel`], which knows no frames; here a segment is taken out of
//! its frame, and what comes of it is put back in. Of a datagram, the body and the sender's token
//! stay where they are: only the headers in front of them are written anew.

mod errors;
mod explain;
mod write;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Output;
use super::ingress::{Ipv6Packet, Packet, Step};
use super::lanes::{Lane, Lanes};
use super::run::Run;
use crate::bucket::Purpose;
use crate::frame::Frame;
use crate::link::Hop;
use crate::net::Family;
use crate::net::ServiceIndex;
use crate::net::Towards;
use crate::seq::SeqNum;
use crate::snapshot::Tunnel;
use crate::tunnel::forward::{DataDown, DataUp};
use crate::tunnel::handshake::{MSS_LEN, SynAck};
use crate::tunnel::keepalive::ReplySegment;
use crate::tunnel::{SegmentKind, TunnelSegment, forward, handshake, keepalive};
use crate::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};
use crate::wire::tcp::{ACK, HEADER_LEN, PSH, RST, SYN};
use crate::wire::{ethernet, ipv4};

use write::{Headers, sum_behind, verified};

/// What an IP header says of a segment, and where the segment is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outer {
    pub family: Family,
    /// The agent.
    pub src: SocketAddr,
    /// The VIP.
    pub dst: SocketAddr,
    /// Where the IP header begins in the frame.
    pub l3: usize,
    /// Where the TCP header begins in the frame.
    pub tcp_at: usize,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
}

impl Outer {
    /// That of a segment to a tunnel.
    #[inline]
    fn of<F: Frame>(packet: &Packet, frame: &F, family: Family) -> Outer {
        match family {
            Family::V4 => Outer::of_ipv4(packet, frame),
            Family::V6 => Outer::of_ipv6(packet),
        }
    }

    /// The segment in `frame`, if its header is there.
    #[inline]
    fn segment<'a, F: Frame>(&self, packet: &Packet, frame: &'a F) -> Option<TunnelSegment<'a>> {
        let tcp = packet.segment.tcp;
        let (header, payload) =
            frame.bytes().get(self.tcp_at..)?.split_at_checked(tcp.header_len)?;
        Some(TunnelSegment {
            src: self.src,
            dst: self.dst,
            seq: tcp.seq,
            ack: tcp.ack,
            flags: tcp.flags,
            options: header.get(HEADER_LEN..).unwrap_or_default(),
            payload,
            datagram_len: frame.bytes().len() - self.l3,
        })
    }

    /// Of an IPv4 datagram.
    fn of_ipv4<F: Frame>(packet: &Packet, frame: &F) -> Outer {
        let (ip, tcp, l3) = (packet.segment.ip, packet.segment.tcp, packet.segment.l3);
        let tos = frame.bytes().get(l3 + ipv4::field::TOS).copied().unwrap_or_default();
        Outer {
            family: Family::V4,
            src: SocketAddr::new(Ipv4Addr::from_bits(ip.src).into(), tcp.src_port),
            dst: SocketAddr::new(Ipv4Addr::from_bits(ip.dst).into(), tcp.dst_port),
            l3,
            tcp_at: l3 + ip.header_len,
            ttl: ip.ttl,
            tos,
        }
    }

    /// Of an IPv6 datagram.
    fn of_ipv6(packet: &Packet) -> Outer {
        let Ipv6Packet { ip, upper } = packet.ipv6;
        let (tcp, l3) = (packet.segment.tcp, packet.segment.l3);
        Outer {
            family: Family::V6,
            src: SocketAddr::new(Ipv6Addr::from_bits(ip.src).into(), tcp.src_port),
            dst: SocketAddr::new(Ipv6Addr::from_bits(ip.dst).into(), tcp.dst_port),
            l3,
            tcp_at: l3 + upper.at,
            ttl: ip.hop_limit,
            tos: ip.traffic_class,
        }
    }
}

/// What becomes of a segment: all that is needed, apart from its frame.
enum Outcome {
    SynAck(SynAck),
    Keepalive(ReplySegment),
    Taken,
}

impl<O> Run<'_, O> {
    /// Reads a segment to a tunnel's VIP. A datagram takes a lane.
    #[inline(never)]
    pub(super) fn read_tunnel<F: Frame>(
        &self,
        frame: &F,
        packet: &Packet,
        index: ServiceIndex,
        family: Family,
        lanes: &mut Lanes,
    ) -> Result<Step, DropReason> {
        let tunnel = self.snapshot.tunnel(index).ok_or(DropReason::UnservedPort)?;
        let outer = Outer::of(packet, frame, family);
        let segment = outer.segment(packet, frame).ok_or(DropReason::TcpMalformed)?;
        // A POP acts on segments of tunnels itself, so damage must end here.
        if !verified(&outer, frame.bytes().get(outer.tcp_at..).unwrap_or_default()) {
            return Err(DropReason::TcpChecksum);
        }
        if SegmentKind::of(&segment) != Ok(SegmentKind::Data) {
            return Ok(Step::Tunnel(family));
        }
        // What is wrong with a datagram's form is found again, and told, when it is judged.
        Ok(match DataUp::read(&tunnel.service, &segment) {
            Ok(datagram) => Step::Datagram(family, lanes.datagram(index, datagram)),
            Err(_) => Step::Tunnel(family),
        })
    }

    /// A segment to a tunnel's VIP.
    #[inline]
    pub(super) fn tunnel<F: Frame>(&mut self, packet: &Packet, frame: F, family: Family)
    where
        O: Output<F>,
    {
        let Some(tunnel) = packet.of.and_then(|of| self.snapshot.tunnel(of)) else {
            return self.drop(packet.of, DropReason::UnservedPort, frame);
        };
        let outer = Outer::of(packet, &frame, family);
        let Some(segment) = outer.segment(packet, &frame) else {
            return self.drop(packet.of, DropReason::TcpMalformed, frame);
        };
        if O::EXPLAINS {
            explain::segment(&tunnel.service, self.unix, &segment, |note| self.out.explain(note));
        }
        match self.judge::<F>(tunnel, &segment) {
            Ok(Outcome::Taken) => self.absorb(AbsorbKind::TunnelAck, frame),
            Ok(Outcome::Keepalive(reply)) => self.keepalive(packet, frame, &outer, &reply),
            Ok(Outcome::SynAck(syn_ack)) => self.syn_ack(packet, frame, &outer, &syn_ack),
            Err(reason) => self.drop(packet.of, reason, frame),
        }
    }

    /// A SYN to a port of an IPv6 VIP without a service: nothing listens there, as over IPv4.
    pub(super) fn unserved_syn6<F: Frame>(&mut self, packet: &Packet, frame: F)
    where
        O: Output<F>,
    {
        let outer = Outer::of_ipv6(packet);
        let segment = frame.bytes().get(outer.tcp_at..).unwrap_or_default();
        if !verified(&outer, segment) {
            return self.drop(None, DropReason::TcpChecksum, frame);
        }
        if !self.admit_reply::<F>(ReplyKind::UnservedPort) {
            return self.drop(None, DropReason::RateRst, frame);
        }
        let ack = packet.segment.tcp.end(segment.len());
        let headers = Headers::answer(&outer, SeqNum(0), ack, RST | ACK);
        self.answer(packet, frame, &outer, &headers, &[], &[], ReplyKind::UnservedPort);
    }

    /// A datagram whose tokens are open.
    #[inline]
    pub(super) fn datagram<F: Frame>(
        &mut self,
        packet: &Packet,
        frame: F,
        family: Family,
        lanes: &Lanes,
        lane: Lane,
    ) where
        O: Output<F>,
    {
        let tunnel = packet.of.and_then(|of| self.snapshot.tunnel(of));
        let Some((tunnel, (datagram, opened))) = tunnel.zip(lanes.datagram_at(lane)) else {
            return self.drop(packet.of, DropReason::UnservedPort, frame);
        };
        let (service, outer) = (&tunnel.service, Outer::of(packet, &frame, family));
        if O::EXPLAINS
            && let Some(segment) = outer.segment(packet, &frame)
        {
            explain::segment(service, self.unix, &segment, |note| self.out.explain(note));
        }
        let client_ok = |ip| self.snapshot.client_ok_ip(ip);
        match forward::decide(service, self.unix, datagram, opened, client_ok) {
            Ok(down) => {
                let payload_at = outer.tcp_at + packet.segment.tcp.header_len;
                self.send_on(packet, frame, tunnel, &outer, payload_at, &down)
            }
            Err(reason) => self.drop(packet.of, reason, frame),
        }
    }

    #[inline]
    fn judge<F: Frame>(
        &mut self,
        tunnel: &Tunnel,
        segment: &TunnelSegment<'_>,
    ) -> Result<Outcome, DropReason>
    where
        O: Output<F>,
    {
        let (service, now) = (&tunnel.service, self.unix);
        match SegmentKind::of(segment)? {
            // One whose form holds is not judged here, but has a lane.
            SegmentKind::Data => match DataUp::read(service, segment) {
                Ok(_) => Err(DropReason::TunnelMalformed),
                Err(reason) => Err(reason),
            },
            SegmentKind::Empty => Ok(Outcome::Taken),
            SegmentKind::Keepalive => {
                self.answer_keepalive(tunnel, segment).map(Outcome::Keepalive)
            }
            SegmentKind::Syn => {
                let limit = self.snapshot.config.limits.syn_ack_per_second;
                let (hash, from) = (&self.snapshot.bucket_hash, segment.src.ip());
                let place = hash.of(Purpose::SynAck, tunnel.slot.0, from);
                let bucket = self.buckets.syn_acks.at(place);
                if !bucket.is_some_and(|bucket| bucket.take(self.now, limit)) {
                    self.count_withheld::<F>(ReplyKind::SynAck);
                    return Err(DropReason::RateSynAck);
                }
                handshake::syn_ack(service, now, segment).map(Outcome::SynAck)
            }
        }
    }

    /// MACs that turn out wrong are what the bucket is for: one host's are not all looked at, and
    /// nobody else's keepalives suffer.
    fn answer_keepalive(
        &mut self,
        tunnel: &Tunnel,
        segment: &TunnelSegment<'_>,
    ) -> Result<ReplySegment, DropReason> {
        let known = keepalive::check(&tunnel.service, self.unix, segment)?;
        let limit = self.snapshot.config.limits.keepalive_mac_per_second;
        let (hash, from) = (&self.snapshot.bucket_hash, segment.src.ip());
        let place = hash.of(Purpose::KeepaliveMac, tunnel.slot.0, from);
        let bucket = self.buckets.keepalive_macs.at(place).ok_or(DropReason::RateKeepalive)?;
        if !bucket.has(self.now, limit) {
            return Err(DropReason::RateKeepalive);
        }
        let reply = keepalive::reply(&known, self.snapshot.config.pop.id, segment);
        if reply.is_err() {
            bucket.take(self.now, limit);
        }
        reply
    }

    fn syn_ack<F: Frame>(&mut self, packet: &Packet, frame: F, outer: &Outer, syn_ack: &SynAck)
    where
        O: Output<F>,
    {
        let options = handshake::options(syn_ack.mss);
        let options = if syn_ack.window_scale { &options[..] } else { &options[..MSS_LEN] };
        let headers = Headers::answer(outer, syn_ack.seq, syn_ack.ack, SYN | ACK);
        self.answer(packet, frame, outer, &headers, options, &[], ReplyKind::SynAck);
    }

    fn keepalive<F: Frame>(
        &mut self,
        packet: &Packet,
        frame: F,
        outer: &Outer,
        reply: &ReplySegment,
    ) where
        O: Output<F>,
    {
        let headers = Headers::answer(outer, reply.seq, reply.ack, PSH | ACK);
        self.answer(packet, frame, outer, &headers, &[], &reply.payload, ReplyKind::Keepalive);
    }

    /// Turns `frame` into an answer to its sender.
    #[expect(clippy::too_many_arguments, reason = "all that makes up a segment")]
    fn answer<F: Frame>(
        &mut self,
        packet: &Packet,
        mut frame: F,
        outer: &Outer,
        headers: &Headers,
        options: &[u8],
        payload: &[u8],
        kind: ReplyKind,
    ) where
        O: Output<F>,
    {
        let payload_at = headers.len() + options.len();
        if !resize(&mut frame, outer.l3 + payload_at + payload.len()) {
            return self.drop(packet.of, DropReason::NoRoom, frame);
        }
        let datagram = frame.bytes_mut().get_mut(outer.l3..).unwrap_or_default();
        if let Some(place) = datagram.get_mut(payload_at..) {
            place.copy_from_slice(payload);
        }
        headers.write(datagram, options, sum_of(payload));
        self.reply(packet, frame, outer.l3, kind, ethertype(outer.family));
    }

    /// Sends a datagram on. Its payload begins at `payload_at` of the frame.
    #[inline]
    fn send_on<F: Frame>(
        &mut self,
        packet: &Packet,
        mut frame: F,
        tunnel: &Tunnel,
        outer: &Outer,
        payload_at: usize,
        down: &DataDown,
    ) where
        O: Output<F>,
    {
        let counters = self.counters.service(tunnel.slot);
        counters.up.add(1, (frame.bytes().len() - outer.l3) as u64);
        if down.issued_by != self.snapshot.config.pop.id {
            self.counters.count_issued_elsewhere(down.issued_by);
        }
        if outer.ttl <= 1 {
            return match outer.family {
                Family::V4 => self.time_exceeded(packet, frame),
                Family::V6 => self.time_exceeded6(packet, frame),
            };
        }
        let hop = match self.hop_to(down.dst.ip()) {
            Ok(hop) => hop,
            Err(reason) => return self.drop(packet.of, reason, frame),
        };
        let headers = Headers {
            src: down.src,
            dst: down.dst,
            seq: down.seq,
            ack: down.ack,
            flags: PSH | ACK,
            ttl: outer.ttl - 1,
            tos: outer.tos,
        };
        // What is in front of the sender's token is longer than what takes its place: a header and a
        // token more than headers can differ.
        let header_at = (payload_at + down.body_at).checked_sub(down.header.len());
        let l3 = header_at.and_then(|at| at.checked_sub(headers.len()));
        let (Some(header_at), Some(l3)) = (header_at, l3) else {
            return self.drop(packet.of, DropReason::NoRoom, frame);
        };
        let total_len = frame.bytes().len().saturating_sub(l3);
        let mtu = self.mtu(hop.port);
        if total_len > mtu {
            // What the agent sends is longer.
            let fits = mtu + (frame.bytes().len() - outer.l3).saturating_sub(total_len);
            return match outer.family {
                Family::V4 => self.too_big(packet, frame, fits.min(usize::from(u16::MAX)) as u16),
                Family::V6 => self.too_big6(packet, frame, fits as u32),
            };
        }
        let bytes = frame.bytes_mut();
        let replaced = bytes.get(outer.tcp_at..payload_at + down.body_at).unwrap_or_default();
        let whole_len = bytes.len() - outer.tcp_at;
        let behind = sum_behind(outer, replaced, whole_len);
        if let Some(place) = bytes.get_mut(header_at..).and_then(|rest| rest.first_chunk_mut()) {
            *place = down.header;
        }
        let datagram = bytes.get_mut(l3..).unwrap_or_default();
        headers.write(datagram, &[], crate::wire::checksum::sum(behind, &down.header));
        if !self.send(frame, l3, hop, ethertype(Family::of(down.dst.ip()))) {
            return self.count_drop::<F>(packet.of, DropReason::NoRoom);
        }
        counters.down.add(1, total_len as u64);
        self.note(super::Note::Verdict(Verdict::Forward(hop.port)));
    }

    #[inline]
    fn hop_to<F: Frame>(&mut self, dst: IpAddr) -> Result<Hop, DropReason>
    where
        O: Output<F>,
    {
        self.hop_either(Towards::Clients, dst)
    }
}

/// Makes `frame` `len` bytes long.
fn resize<F: Frame>(frame: &mut F, len: usize) -> bool {
    match len.checked_sub(frame.bytes().len()) {
        Some(missing) => frame.append(missing),
        None => {
            frame.truncate(len);
            true
        }
    }
}

fn sum_of(payload: &[u8]) -> u32 {
    crate::wire::checksum::sum(0, payload)
}

fn ethertype(family: Family) -> u16 {
    match family {
        Family::V4 => ethernet::TYPE_IPV4,
        Family::V6 => ethernet::TYPE_IPV6,
    }
}
