//! ARP (RFC 826) for the addresses of the port.

use super::super::egress::Egress;
use super::super::egress::reply::reply;
use super::super::output::Output;
use super::super::packet::Packet;
use crate::frame::Frame;
use crate::link::Told;
use crate::net::Address;
use crate::verdict::{AbsorbKind, DropReason, ReplyKind};
use crate::wire::arp::{self, Arp, Operation};
use crate::wire::ethernet;

/// Answers a request for one of the port's addresses, and learns from replies to the POP's own
/// requests, and from whatever else a host that was asked for says of itself (the merge of
/// RFC 826).
#[cold]
#[inline(never)]
pub(in crate::pop) fn arp<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    packet: &Packet,
    mut frame: F,
) {
    let (l3, arrival) = (packet.segment.l3, egress.arrival);
    let Some(arp) = frame.bytes().get(l3..).and_then(Arp::parse) else {
        return egress.drop(None, DropReason::ArpMalformed, frame);
    };
    let ours = arrival.is_port_address(arp.target_ip);
    let (sender, mac) = (arp.sender_ip.ip(), arp.sender_mac);
    let told = if ours { Told::ANSWER } else { Told::ANNOUNCEMENT };
    let learned = arrival.soft.links.learn(arrival.now, arrival.port, sender, mac, told);
    match arp.operation {
        Operation::Request if ours => {
            let answer = Arp {
                operation: Operation::Reply,
                sender_mac: arrival.link.mac,
                sender_ip: arp.target_ip,
                target_mac: arp.sender_mac,
                target_ip: arp.sender_ip,
            };
            answer.write(frame.bytes_mut().get_mut(l3..).unwrap_or_default());
            frame.truncate(l3 + arp::LEN);
            reply(egress, packet, frame, l3, ReplyKind::Arp, ethernet::TYPE_ARP);
        }
        _ if learned => egress.absorb(AbsorbKind::Neighbour, frame),
        _ => egress.drop(None, DropReason::ArpNotOurs, frame),
    }
}
