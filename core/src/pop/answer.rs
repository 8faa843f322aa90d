//! Frames that the POP answers: echo requests, and segments that get a reset.
//!
//! An answer goes back through the port that the frame came in by, to the station that sent it:
//! no route and no neighbour is needed.

use super::ingress::{Ipv6Packet, Packet};
use super::run::{Run, encapsulate};
use super::{Note, Output};
use crate::frame::Frame;
use crate::net::is_unicast;
use crate::relay::pending_rst::{Place, Rst};
use crate::relay::translate::Segment;
use crate::seq::SeqNum;
use crate::snapshot::Destination;
use crate::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};
use crate::wire::ipv4::{self, field};

use crate::wire::{MacAddr, checksum, ethernet, icmp, icmpv6, ipv6, put_u16, put_u32, tcp};

/// Shortest Ethernet frame without its check sequence (IEEE 802.3, 3.2.8); shorter ones of our own
/// are filled up, as some ports do not.
const FRAME_LEN_MIN: usize = 60;

/// Fills a frame of our own up to the shortest that Ethernet has.
pub(super) fn pad<F: Frame>(mut frame: F) -> F {
    let len = frame.bytes().len();
    if let Some(missing) = FRAME_LEN_MIN.checked_sub(len)
        && frame.append(missing)
    {
        frame.bytes_mut().get_mut(len..).unwrap_or_default().fill(0);
    }
    frame
}

impl<O> Run<'_, O> {
    /// Answers an echo request.
    pub(super) fn echo<F: Frame>(&mut self, packet: &Packet, mut frame: F)
    where
        O: Output<F>,
    {
        // An answer must not go to a group, or come back to a POP.
        let src = packet.segment.ip.src;
        if !is_unicast(src) || self.snapshot.classify(src) != Destination::Other {
            return self.drop(None, DropReason::SourceNotAllowed, frame);
        }
        if !self.admit_reply::<F>(ReplyKind::Echo) {
            return self.drop(None, DropReason::RateEcho, frame);
        }
        let Segment { l3, ip, .. } = packet.segment;
        if !self.fits(self.port, ip.total_len) {
            return self.drop(None, DropReason::TooBig, frame);
        }
        // IPv4 options are not sent back: the header moves up to the message.
        let extra = ip.header_len.saturating_sub(ipv4::HEADER_LEN);
        let bytes = frame.bytes_mut();
        bytes.copy_within(l3..l3 + ipv4::HEADER_LEN, l3 + extra);
        let l3 = l3 + extra;
        let Some((head, message)) = bytes
            .get_mut(l3..)
            .and_then(|datagram| datagram.split_first_chunk_mut::<{ ipv4::HEADER_LEN }>())
        else {
            return self.drop(None, DropReason::Ipv4Malformed, frame);
        };
        icmp::make_echo_reply(message);
        head[field::VERSION_IHL] = 0x45;
        head[field::TTL] = ipv4::ORIGINATED_TTL;
        put_u16(head, field::TOTAL_LEN, (ip.total_len - extra) as u16);
        put_u32(head, field::SRC, ip.dst);
        put_u32(head, field::DST, ip.src);
        put_u16(head, field::CHECKSUM, 0);
        let sum = checksum::checksum(head);
        put_u16(head, field::CHECKSUM, sum);
        self.reply(packet, frame, l3, ReplyKind::Echo, ethernet::TYPE_IPV4);
    }

    /// Answers an echo request over IPv6.
    #[cold]
    #[inline(never)]
    pub(super) fn echo6<F: Frame>(&mut self, packet: &Packet, mut frame: F)
    where
        O: Output<F>,
    {
        if !self.admit_reply::<F>(ReplyKind::Echo) {
            return self.drop(None, DropReason::RateEcho, frame);
        }
        let Ipv6Packet { ip, upper } = packet.ipv6;
        // Extension headers are not sent back: the header moves up to the message.
        let l3 = packet.segment.l3 + upper.at.saturating_sub(ipv6::HEADER_LEN);
        let datagram = frame.bytes_mut().get_mut(l3..).unwrap_or_default();
        let total_len = datagram.len();
        if !self.fits(self.port, total_len) {
            return self.drop(None, DropReason::TooBig, frame);
        }
        let Some((_, message)) = datagram.split_at_mut_checked(ipv6::HEADER_LEN) else {
            return self.drop(None, DropReason::Ipv6Malformed, frame);
        };
        let (src, dst) = (ip.dst, ip.src);
        icmpv6::make_echo_reply(src, dst, message);
        let header = ipv6::Header {
            traffic_class: ip.traffic_class,
            payload_len: message.len() as u16,
            next_header: ipv6::PROTOCOL_ICMPV6,
            src,
            dst,
            ..ipv6::ORIGINATED
        };
        header.write(datagram);
        self.reply(packet, frame, l3, ReplyKind::Echo, ethernet::TYPE_IPV6);
    }

    /// A SYN to a VIP port without a service: nothing listens there (RFC 9293, section 3.10.7.1).
    pub(super) fn unserved_syn<F: Frame>(&mut self, packet: &Packet, frame: F)
    where
        O: Output<F>,
    {
        if !self.tcp_checksum_holds(packet, &frame) {
            return self.drop(None, DropReason::TcpChecksum, frame);
        }
        if !self.admit_reply::<F>(ReplyKind::UnservedPort) {
            return self.drop(None, DropReason::RateRst, frame);
        }
        let Segment { ip, tcp, .. } = packet.segment;
        let ack = Some(tcp.end(ip.total_len - ip.header_len));
        self.reset(packet, frame, SeqNum(0), ack, ReplyKind::UnservedPort);
    }

    /// A client's segment is answered with the RST that its target sent without timestamps.
    pub(super) fn answer_with_rst<F: Frame>(&mut self, packet: &Packet, frame: F, rst: Rst)
    where
        O: Output<F>,
    {
        let (seq, ack) = match rst {
            Rst::Bare { seq } => (seq, None),
            Rst::Acknowledging { seq, ack } => (seq, Some(ack)),
        };
        self.reset(packet, frame, seq, ack, ReplyKind::PendingRst);
    }

    /// A target's segment without timestamps says not whom it is for. A RST waits for the segment
    /// it answers; a SYN-ACK shows that the target has no timestamps, and is refused.
    pub(super) fn untagged<F: Frame>(&mut self, packet: &Packet, frame: F)
    where
        O: Output<F>,
    {
        if !self.tcp_checksum_holds(packet, &frame) {
            return self.drop(packet.of, DropReason::TcpChecksum, frame);
        }
        let Segment { ip, tcp, .. } = packet.segment;
        let service = packet.of.and_then(|of| self.service(of));
        if let (true, Some(service)) = (tcp.has(tcp::RST), service) {
            let place = Place { service: service.slot.0, address: ip.dst, port: tcp.dst_port };
            let rst = match tcp.has(tcp::ACK) {
                true => Rst::Acknowledging { seq: tcp.seq, ack: tcp.ack },
                false => Rst::Bare { seq: tcp.seq },
            };
            self.soft.pending_rsts.keep(self.now, place, rst);
            return self.absorb(AbsorbKind::PendingRst, frame);
        }
        self.count_drop::<F>(packet.of, DropReason::TargetWithoutTimestamps);
        if !tcp.has(tcp::SYN | tcp::ACK) {
            return;
        }
        if self.admit_reply::<F>(ReplyKind::NoTimestamps) {
            self.reset_beside(packet, frame, tcp.ack, None, ReplyKind::NoTimestamps);
        }
    }

    /// Whether a segment that the POP itself acts on is undamaged.
    pub(super) fn tcp_checksum_holds<F: Frame>(&self, packet: &Packet, frame: &F) -> bool {
        let Segment { l3, ip, .. } = packet.segment;
        let segment = frame.bytes().get(l3 + ip.header_len..).unwrap_or_default();
        tcp::checksum_holds(ip.src, ip.dst, segment)
    }

    /// Turns `frame` into a RST to its sender, as the verdict on it.
    fn reset<F: Frame>(
        &mut self,
        packet: &Packet,
        mut frame: F,
        seq: SeqNum,
        ack: Option<SeqNum>,
        kind: ReplyKind,
    ) where
        O: Output<F>,
    {
        if !write_reset(packet, &mut frame, seq, ack) {
            return self.drop(packet.of, DropReason::NoRoom, frame);
        }
        self.reply(packet, frame, packet.segment.l3, kind, ethernet::TYPE_IPV4);
    }

    /// Turns `frame`, on which the verdict is given already, into a RST to its sender.
    fn reset_beside<F: Frame>(
        &mut self,
        packet: &Packet,
        mut frame: F,
        seq: SeqNum,
        ack: Option<SeqNum>,
        kind: ReplyKind,
    ) where
        O: Output<F>,
    {
        if write_reset(packet, &mut frame, seq, ack) {
            self.reflect(packet, frame, packet.segment.l3, kind, ethernet::TYPE_IPV4);
        }
    }

    /// Sends an answer, as the verdict on the frame that it was made of.
    pub(super) fn reply<F: Frame>(
        &mut self,
        packet: &Packet,
        frame: F,
        l3: usize,
        kind: ReplyKind,
        ethertype: u16,
    ) where
        O: Output<F>,
    {
        let sent = self.reflect(packet, frame, l3, kind, ethertype);
        self.answered::<F>(packet, kind, sent);
    }

    /// Gives the verdict on a frame whose answer was `sent`, or not for want of room.
    pub(super) fn answered<F: Frame>(&mut self, packet: &Packet, kind: ReplyKind, sent: bool)
    where
        O: Output<F>,
    {
        if sent {
            self.note(Note::Verdict(Verdict::Reply(kind)));
        } else {
            self.count_drop::<F>(packet.of, DropReason::NoRoom);
        }
    }

    /// Sends the payload at `l3` back to the station that `packet` came from.
    pub(super) fn reflect<F: Frame>(
        &mut self,
        packet: &Packet,
        frame: F,
        l3: usize,
        kind: ReplyKind,
        ethertype: u16,
    ) -> bool
    where
        O: Output<F>,
    {
        self.send_back(packet.peer, frame, l3, kind, ethertype)
    }

    /// Sends the payload at `l3` to a station on the link that the burst came in through.
    pub(super) fn send_back<F: Frame>(
        &mut self,
        to: MacAddr,
        frame: F,
        l3: usize,
        kind: ReplyKind,
        ethertype: u16,
    ) -> bool
    where
        O: Output<F>,
    {
        let Some(link) = self.link() else { return false };
        let Some(frame) = encapsulate(frame, l3, to, link, ethertype) else {
            return false;
        };
        self.count_reply::<F>(kind);
        self.out.transmit(self.port, pad(frame));
        true
    }
}

/// Writes a RST to the sender of `packet` over it. False when the frame is too short for it, which
/// no segment with at least a header is.
fn write_reset<F: Frame>(packet: &Packet, frame: &mut F, seq: SeqNum, ack: Option<SeqNum>) -> bool {
    let Segment { l3, ip, tcp } = packet.segment;
    const LEN: usize = ipv4::HEADER_LEN + tcp::HEADER_LEN;
    frame.truncate(l3 + LEN);
    let datagram = frame.bytes_mut().get_mut(l3..).and_then(<[u8]>::first_chunk_mut::<LEN>);
    let Some(datagram) = datagram else { return false };
    let (head, segment) = datagram.split_at_mut(ipv4::HEADER_LEN);
    let (src, dst) = (ip.dst, ip.src);
    let (total_len, protocol) = (LEN as u16, ipv4::PROTOCOL_TCP);
    ipv4::Header { total_len, protocol, src, dst, ..ipv4::ORIGINATED }.write(head);
    tcp::Header {
        src_port: tcp.dst_port,
        dst_port: tcp.src_port,
        seq,
        ack: ack.unwrap_or_default(),
        flags: if ack.is_some() { tcp::RST | tcp::ACK } else { tcp::RST },
        window: 0,
        options: &[],
    }
    .write(segment);
    tcp::write_checksum(src, dst, segment);
    true
}
