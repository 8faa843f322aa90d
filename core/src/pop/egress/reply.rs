//! The way back: an answer goes through the port that its cause came in by, to the host that sent
//! it. It needs no route and no neighbour.

use super::super::output::{Note, Output};
use super::super::packet::Packet;
use super::endings::Egress;
use super::ethernet::{add_ethernet, pad};
use super::fragment;
use crate::frame::Frame;
use crate::link::Hop;
use crate::net::Family;
use crate::verdict::{DropReason, ReplyKind, Verdict};
use crate::wire::MacAddr;

/// Sends an answer, the payload at `l3` of `frame`, as the verdict on the frame that it was made
/// of.
pub(in crate::pop) fn reply<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    packet: &Packet,
    frame: F,
    l3: usize,
    kind: ReplyKind,
    ethertype: u16,
) {
    reply_to(egress, packet, packet.from, frame, l3, kind, ethertype);
}

/// [`reply`], to another hardware address than that of the sender.
pub(in crate::pop) fn reply_to<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    packet: &Packet,
    to: MacAddr,
    frame: F,
    l3: usize,
    kind: ReplyKind,
    ethertype: u16,
) {
    if send_back(egress, to, frame, l3, kind, ethertype) {
        egress.note::<F>(Note::Verdict(Verdict::Reply(kind)));
    } else {
        egress.count_drop::<F>(packet.service, DropReason::NoRoom);
    }
}

/// [`reply`] in fragments with the ID `id`, for the datagram of `family` at `l3`, which is longer
/// than the link's MTU.
pub(in crate::pop) fn reply_in_fragments<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    packet: &Packet,
    frame: F,
    l3: usize,
    kind: ReplyKind,
    (family, id): (Family, u32),
) {
    let hop = Hop { port: egress.arrival.port, mac: packet.from };
    if let Err(reason) = fragment::send(egress, &frame, l3, hop, family, id) {
        return egress.drop(packet.service, reason, frame);
    }
    egress.counters.count_reply(kind);
    egress.note::<F>(Note::Sent(kind));
    egress.note::<F>(Note::Verdict(Verdict::Reply(kind)));
}

/// Sends the payload at `l3` to a host on the link that the burst came in through.
pub(in crate::pop) fn send_back<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    to: MacAddr,
    mut frame: F,
    l3: usize,
    kind: ReplyKind,
    ethertype: u16,
) -> bool {
    if !add_ethernet(&mut frame, l3, to, egress.arrival.link, ethertype) {
        return false;
    }
    pad(&mut frame);
    egress.counters.count_reply(kind);
    egress.note::<F>(Note::Sent(kind));
    egress.out.transmit(egress.arrival.port, frame);
    true
}
