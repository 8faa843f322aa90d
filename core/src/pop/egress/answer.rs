//! Answers with a TCP segment: the frame that is answered becomes a segment to its sender.

use super::super::output::{Note, Output};
use super::super::packet::Packet;
use super::endings::Egress;
use super::ethernet::ethertype;
use super::headers::Headers;
use super::reply;
use crate::frame::Frame;
use crate::seq::SeqNum;
use crate::verdict::{DropReason, ReplyKind, Verdict};
use crate::wire::{checksum, tcp};

/// What an answer says.
pub(in crate::pop) struct Answer<'a> {
    pub seq: SeqNum,
    pub ack: SeqNum,
    pub flags: u8,
    /// TCP options, a multiple of four bytes.
    pub options: &'a [u8],
    pub payload: &'a [u8],
}

impl Answer<'static> {
    /// A RST, with ACK where it acknowledges something (RFC 9293, section 3.10.7.1).
    pub fn rst(seq: SeqNum, ack: Option<SeqNum>) -> Self {
        let flags = if ack.is_some() { tcp::RST | tcp::ACK } else { tcp::RST };
        Answer { seq, ack: ack.unwrap_or_default(), flags, options: &[], payload: &[] }
    }
}

impl Answer<'_> {
    /// Makes the datagram at `l3` of `frame` the answer with `headers`; `frame` ends where it ends.
    /// False when there is no room.
    pub(super) fn write<F: Frame>(&self, headers: &Headers, frame: &mut F, l3: usize) -> bool {
        let Answer { options, payload, .. } = *self;
        let payload_at = headers.len() + options.len();
        if !resize(frame, l3 + payload_at + payload.len()) {
            return false;
        }
        let datagram = frame.bytes_mut().get_mut(l3..).unwrap_or_default();
        if let Some(place) = datagram.get_mut(payload_at..) {
            place.copy_from_slice(payload);
        }
        headers.write(datagram, options, checksum::sum(0, payload));
        true
    }
}

/// Answers a segment, as the verdict on it.
pub(in crate::pop) fn answer<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    packet: &Packet,
    frame: F,
    answer: &Answer<'_>,
    kind: ReplyKind,
) {
    if answer_beside(egress, packet, frame, answer, kind) {
        egress.note::<F>(Note::Verdict(Verdict::Reply(kind)));
    } else {
        egress.count_drop::<F>(packet.service, DropReason::NoRoom);
    }
}

/// Answers a segment whose verdict is given already. False when there is no room for the answer.
pub(in crate::pop) fn answer_beside<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    packet: &Packet,
    mut frame: F,
    answer: &Answer<'_>,
    kind: ReplyKind,
) -> bool {
    let l3 = packet.segment.l3;
    let headers = Headers::answer(packet, answer.seq, answer.ack, answer.flags);
    if !answer.write(&headers, &mut frame, l3) {
        return false;
    }
    reply::send_back(egress, packet.from, frame, l3, kind, ethertype(packet.segment.ip.family()))
}

/// Makes `frame` `len` bytes long. False when there is no room.
pub(in crate::pop) fn resize<F: Frame>(frame: &mut F, len: usize) -> bool {
    let missing = len.saturating_sub(frame.bytes().len());
    if missing > 0 {
        return frame.append(missing);
    }
    frame.truncate(len);
    true
}
