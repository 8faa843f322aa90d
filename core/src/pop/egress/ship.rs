//! The one way out: executes what a mode decided.
//!
//! A mode decides where a frame goes and how it is rewritten, as a [`Transmit`], without touching
//! it. [`ship`] then checks the hop limit, finds the next hop, plans the rewrite, checks the MTU,
//! rewrites, sends, and counts. A frame that cannot be sent on is dropped as it came, so that the
//! ICMP error to its sender can quote it.

use std::net::IpAddr;

use super::super::limits::Limits;
use super::super::output::{Note, Output};
use super::super::packet::Packet;
use super::endings::Egress;
use super::{errors, fragment};
use crate::frame::Frame;
use crate::net::{Family, ServiceIndex, ServiceSlot, Towards};
use crate::relay::targets::TargetSlot;
use crate::verdict::{DropReason, Verdict};

/// A frame that is to be sent on.
pub(in crate::pop) struct Transmit<R> {
    /// The service that it is counted at.
    pub service: ServiceIndex,
    /// The place of the service's counters.
    pub slot: ServiceSlot,
    /// The side that it goes to.
    pub towards: Towards,
    /// The address that it goes to.
    pub destination: IpAddr,
    /// Whether it is one more copy of a frame: its sender is told of the first one alone.
    pub is_copy: bool,
    /// The place of the counters of the target that it is to or from.
    pub target: Option<TargetSlot>,
    /// What it becomes.
    pub rewrite: R,
}

impl<R> Transmit<R> {
    /// The same with what `other` makes of the rewrite.
    pub fn map<S>(self, other: impl FnOnce(R) -> S) -> Transmit<S> {
        let Transmit { service, slot, towards, destination, is_copy, target, rewrite } = self;
        let rewrite = other(rewrite);
        Transmit { service, slot, towards, destination, is_copy, target, rewrite }
    }
}

/// How a datagram is rewritten, as data: first planned, then applied.
pub(in crate::pop) trait Transform {
    /// What planning found out.
    type Plan;

    /// Whether the datagram is an ICMP error. No ICMP error is sent about it (RFC 1122, section
    /// 3.2.2; RFC 4443, section 2.4).
    const IS_ICMP_ERROR: bool;

    /// The client or agent whose budget of forwarded ICMP errors it is charged to.
    fn charged(&self) -> Option<IpAddr> {
        None
    }

    /// Plans the rewrite without touching `frame`.
    ///
    /// # Errors
    /// When it is not possible.
    fn plan<F: Frame>(&self, packet: &Packet, frame: &F) -> Result<Self::Plan, DropReason>;

    /// Length in bytes of the datagram afterwards, where that is known before it is rewritten; else
    /// 0.
    fn total_len(&self, _: &Packet, _: &Self::Plan) -> usize {
        0
    }

    /// The most bytes that the datagram may have afterwards, where that may be less than an MTU.
    #[inline(always)]
    fn mtu_max(&self) -> usize {
        usize::MAX
    }

    /// The side that it is counted to, of a datagram that goes to the side `towards`.
    #[inline(always)]
    fn counted(&self, towards: Towards) -> Towards {
        towards
    }

    /// The ID of the fragments that the datagram may be sent in; `None` when it may not be
    /// fragmented. IPv4 takes the low 16 bits.
    fn fragment_id<F: Frame>(&self, _: &Packet, _: &F, _: &Self::Plan) -> Option<u32> {
        None
    }

    /// Rewrites `frame`; gives back where its IP header is afterwards. The hop limit is one less.
    ///
    /// # Errors
    /// When the frame buffer has no room, or a length does not fit its field.
    fn apply<F: Frame>(
        &self,
        packet: &Packet,
        frame: &mut F,
        plan: &Self::Plan,
    ) -> Result<usize, DropReason>;
}

/// Sends `frame` on as `transmit` says. False when it was dropped. Not inlined: both directions of
/// relays share its code in the CPU's caches.
#[inline(never)]
pub(in crate::pop) fn ship<F: Frame, O: Output<F>, R: Transform>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    mut frame: F,
    transmit: &Transmit<R>,
) -> bool {
    let Transmit { service, slot, towards, destination, is_copy, target, rewrite } = transmit;
    let of = Some(*service);
    if packet.segment.ip.hops() <= 1 {
        if R::IS_ICMP_ERROR || *is_copy {
            egress.drop(of, DropReason::TtlExceeded, frame);
        } else {
            errors::time_exceeded(egress, limits, packet, of, frame);
        }
        return false;
    }
    let charged = match rewrite.charged() {
        Some(client) => limits.admit_error(*slot, client),
        None => Ok(()),
    };
    let hop = match charged.and_then(|()| egress.next_hop(limits, *towards, *destination)) {
        Ok(hop) => hop,
        Err(reason) => {
            egress.drop(of, reason, frame);
            return false;
        }
    };
    let planned = rewrite.plan(packet, &frame);
    // Looked at where it is: a copy of what was just written would wait for the writes.
    let plan = match &planned {
        Ok(plan) => plan,
        Err(reason) => {
            egress.drop(of, *reason, frame);
            return false;
        }
    };
    let mtu = egress.mtu(hop.port).min(rewrite.mtu_max());
    let total_len = rewrite.total_len(packet, plan);
    let mut fragment_id = None;
    if total_len > mtu {
        fragment_id = rewrite.fragment_id(packet, &frame, plan);
        if fragment_id.is_none() {
            // Of what came in, the length that would just fit.
            let fits = (mtu + packet.segment.ip.total_len()).saturating_sub(total_len);
            if *is_copy {
                egress.drop(of, DropReason::TooBig, frame);
                return false;
            }
            errors::too_big(egress, limits, packet, of, frame, fits);
            return false;
        }
    }
    let l3 = match rewrite.apply(packet, &mut frame, plan) {
        Ok(l3) => l3,
        Err(reason) => {
            egress.drop(of, reason, frame);
            return false;
        }
    };
    let family = Family::of(*destination);
    // The length of an ICMP error shows only now.
    let len = match R::IS_ICMP_ERROR {
        true => frame.bytes().len().saturating_sub(l3),
        false => total_len,
    };
    let sent = match fragment_id {
        Some(id) => fragment::send(egress, &frame, l3, hop, family, id),
        None if len > mtu => Err(DropReason::TooBig),
        None if egress.send(frame, l3, hop, family) => Ok(()),
        None => Err(DropReason::NoRoom),
    };
    if let Err(reason) = sent {
        egress.count_drop::<F>(of, reason);
        return false;
    }
    let counters = egress.counters.service(*slot);
    let traffic =
        if *is_copy { &counters.copies } else { counters.traffic(rewrite.counted(*towards)) };
    traffic.add(1, len as u64);
    if let Some(target) = target {
        let of_target = counters.target(target.0);
        of_target.traffic(*towards).add(1, len as u64);
        if *is_copy {
            of_target.copies.add(1);
        }
    }
    egress.note::<F>(Note::Verdict(Verdict::Forward(hop.port)));
    true
}
