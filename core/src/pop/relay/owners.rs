//! What a target's segment shows of who owns a connection.

use super::super::egress::Egress;
use super::super::limits::Limits;
use super::super::output::Output;
use super::super::packet::Packet;
use super::place::{is_of_before, place};
use super::refusals::{self, Refusal, send_hint};
use super::segment;
use crate::frame::Frame;
use crate::net::IpEndpoint;
use crate::relay::Relay;
use crate::relay::hints::{Hint, Shows};
use crate::relay::memo::{Known, Owned};
use crate::relay::targets::{Candidates, Chosen};
use crate::wire::tcp;

/// Whether a target's segment goes to its client. One that no socket need have sent does not: a RST
/// without timestamps of a target that the client has besides others. It is a [`Refusal`].
pub(in crate::pop) enum Observed {
    /// It goes on.
    Pass,
    /// It is a refusal.
    Refusal(Refusal),
}

/// Looks at a target's segment to `client`, which has the targets `chosen`, where it may have
/// several: the memo learns who owns the connection, and so do other POPs.
#[inline(never)]
pub(in crate::pop) fn observe<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: &F,
    relay: &Relay,
    (client, chosen): (&IpEndpoint, Chosen),
) -> Observed {
    let arrival = egress.arrival;
    let (tcp, target, memo) = (packet.segment.tcp, packet.sender(relay), &arrival.soft.memo);
    let place = place(relay, packet.dst());
    let has_several = chosen.candidates.len() > 1;
    if tcp.has(tcp::RST) {
        let is_of_socket = packet.options.timestamps.is_some();
        if !is_of_socket {
            refusals::count(egress, packet, relay);
        }
        let only = Candidates::only(packet.target);
        // Also where this POP sends to one target alone: by the clock of another, there are more.
        if is_of_socket || relay.targets.choose(client, arrival.unix).candidates == only {
            memo.forget(arrival.now, place, target);
            return Observed::Pass;
        }
        let refusal = Refusal::of(packet, relay);
        // Its numbers must be believed.
        if !packet.tcp_checksum_holds(frame) {
            return Observed::Refusal(refusal);
        }
        return match refusal.client(egress, relay) {
            Some(_) => Observed::Pass,
            None => Observed::Refusal(refusal),
        };
    }
    if !tcp.has(tcp::ACK) {
        return Observed::Pass;
    }
    let before = memo.state(arrival.now, place, target);
    if has_several || matches!(before, Some(Known::Asked { .. })) {
        let side = segment::egress_side(packet, relay, packet.tcp_options(frame));
        let tag = side.tag.unwrap_or_default().0;
        let owned = Owned { tag, end: tcp.end(packet.segment.ip.payload_len()), ack: tcp.ack };
        let is_known = matches!(before, Some(Known::Owner { tag: same, .. }) if same == tag);
        let believed = is_known || packet.tcp_checksum_holds(frame);
        if !believed || is_of_before(egress, place, tag, owned.ack) {
            return Observed::Pass;
        }
        let counters = egress.counters.service(relay.slot);
        counters.target(relay.targets.slot(packet.target).0).owners.add(1);
        let is_news = memo.remember_owner(arrival.now, place, target, owned);
        if is_news && has_several {
            let (vip, egress_side) = (relay.vip, packet.dst());
            let shows = Shows::Owner(owned);
            send_hint::<F, O>(egress, limits, Hint { vip, egress: egress_side, target, shows });
        }
    }
    Observed::Pass
}
