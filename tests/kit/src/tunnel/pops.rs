//! What a POP does with a tunnel's segment, by the core's own functions for each kind.

use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::UnixTime;
use anyrelay_core::tunnel::message::OPEN_HEADER_LEN;
use anyrelay_core::tunnel::open::{OpenUp, Outside, down, up};
use anyrelay_core::tunnel::{
    SegmentKind, TunnelSegment, TunnelService, forward, handshake, keepalive,
};
use anyrelay_core::verdict::DropReason;

use crate::frames::{ACK, PSH, SYN, Segment};
use crate::nat::Packet;

/// The segment that the POP with this number sends because of `packet`, if it sends one.
///
/// # Errors
/// The reason for which it drops the segment.
pub fn answer(
    service: &TunnelService,
    now: UnixTime,
    pop: u8,
    packet: &Packet,
) -> Result<Option<Packet>, DropReason> {
    let head = packet.head();
    let segment = TunnelSegment {
        src: packet.src,
        dst: packet.dst,
        seq: head.seq,
        ack: head.ack,
        flags: head.flags,
        options: packet.options(),
        payload: packet.payload(),
        datagram_len: packet.tcp.len() + if packet.src.is_ipv4() { 20 } else { 40 },
    };
    Ok(match SegmentKind::of(&segment)? {
        SegmentKind::Syn => {
            let answer = handshake::syn_ack(service, now, &segment)?;
            let [high, low] = answer.mss.to_be_bytes();
            let mut options = vec![2, 4, high, low];
            if answer.window_scale {
                options.extend([1, 3, 3, 8]);
            }
            Some(back(packet, (answer.seq, answer.ack), SYN | ACK, &options, &[]))
        }
        SegmentKind::Empty => None,
        SegmentKind::Keepalive => {
            let known = keepalive::check(service, now, &segment)?;
            let reply = keepalive::reply(&known, pop, &segment)?;
            Some(back(packet, (reply.seq, reply.ack), ACK | PSH, &[], &reply.payload))
        }
        SegmentKind::Open => {
            let up = OpenUp::read(service, &segment)?;
            let onward = up::decide(service, now, &up, |_| Outside::Refused, |_| true)?;
            let to = onward.to.ok_or(DropReason::OpenDestination)?;
            let inner = segment.payload.get(OPEN_HEADER_LEN..).unwrap_or_default();
            let down = down::segment(service, now, &to, inner).ok_or(DropReason::NotOurs)?;
            let mut data = [&down.header[..], inner].concat();
            data[OPEN_HEADER_LEN + 7] -= 1;
            let (seq, ack) = (down.seq.0, down.ack.0);
            let down = Segment { seq, ack, data, ..Segment::new(down.src, down.dst, ACK | PSH) };
            Some(Packet { src: down.src, dst: down.dst, tcp: down.segment() })
        }
        SegmentKind::Data => {
            let down = forward::accept(service, now, &segment, |_| true)?;
            let data = [&down.header[..], &segment.payload[down.body_at..]].concat();
            let (seq, ack) = (down.seq.0, down.ack.0);
            let down = Segment { seq, ack, data, ..Segment::new(down.src, down.dst, ACK | PSH) };
            Some(Packet { src: down.src, dst: down.dst, tcp: down.segment() })
        }
    })
}

/// A segment from the destination of `packet` to its source.
pub fn back(
    packet: &Packet,
    (seq, ack): (SeqNum, SeqNum),
    flags: u8,
    options: &[u8],
    payload: &[u8],
) -> Packet {
    let (options, data) = (options.to_vec(), payload.to_vec());
    let (seq, ack) = (seq.0, ack.0);
    let back = Segment { seq, ack, options, data, ..Segment::new(packet.dst, packet.src, flags) };
    Packet { src: back.src, dst: back.dst, tcp: back.segment() }
}
