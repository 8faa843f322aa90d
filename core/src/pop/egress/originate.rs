//! Segments of the POP's own that no frame is the cause of.

use super::super::limits::Limits;
use super::super::output::Output;
use super::answer::Answer;
use super::endings::Egress;
use super::ethernet::{add_ethernet, ethertype, pad};
use super::headers::Headers;
use crate::frame::Frame;
use crate::net::{Family, IpEndpoint, ServiceSlot, Towards};
use crate::verdict::{DropReason, ReplyKind};
use crate::wire::ipv4::ORIGINATED_TTL;

/// Sends a segment of the service in `slot` from its VIP `src` to the client `dst`. What keeps it
/// from leaving is counted as a drop.
pub(in crate::pop) fn originate<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    slot: ServiceSlot,
    (src, dst): (IpEndpoint, IpEndpoint),
    answer: &Answer<'_>,
    kind: ReplyKind,
) {
    if let Err(reason) = send::<F, O>(egress, limits, (src, dst), answer) {
        egress.counters.count_drop(egress.arrival.port, Some(slot), reason);
        return;
    }
    egress.counters.count_reply(kind);
}

fn send<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    (src, dst): (IpEndpoint, IpEndpoint),
    answer: &Answer<'_>,
) -> Result<(), DropReason> {
    let Answer { seq, ack, flags, .. } = *answer;
    let family = Family::of(dst.ip());
    let (src, dst) = (src.into(), dst.into());
    let headers = Headers { src, dst, seq, ack, flags, ttl: ORIGINATED_TTL, tos: 0 };
    let hop = egress.next_hop::<F>(limits, Towards::Clients, headers.dst.ip())?;
    let link = egress.arrival.soft.links.link(hop.port).ok_or(DropReason::NoRoute)?;
    let mut frame: F = egress.out.allocate().ok_or(DropReason::NoBuffer)?;
    if !answer.write(&headers, &mut frame, 0)
        || !add_ethernet(&mut frame, 0, hop.mac, link, ethertype(family))
    {
        return Err(DropReason::NoRoom);
    }
    pad(&mut frame);
    egress.out.transmit(hop.port, frame);
    Ok(())
}
