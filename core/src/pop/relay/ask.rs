//! Which targets a client's segment goes to.
//!
//! A SYN goes to the target of new connections. Any other segment may belong to a connection that
//! another target has, where targets changed not long ago: it goes to each of its candidates, but
//! for those of which the memo knows that they have no socket for it. The client is told of a RST
//! only if each candidate has sent one that answers this very segment, and after one more target
//! was asked: this POP may not know of a change that others know of.

use super::super::egress::Egress;
use super::super::limits::Limits;
use super::super::output::{Note, Output, Standing};
use super::super::packet::Packet;
use super::place::place;
use crate::frame::Frame;
use crate::net::IpEndpoint;
use crate::relay::Relay;
use crate::relay::mapping::EgressSide;
use crate::relay::memo::{Known, NEAR, Place, Progress, Rst, Segment, Syn};
use crate::relay::targets::{Candidates, Chosen, TargetIndex};
use crate::verdict::DropReason;
use crate::wire::tcp;

/// What becomes of a client's segment.
pub(in crate::pop) enum Ask {
    /// It goes to these targets, one or more.
    Send(Candidates),
    /// It is answered with this RST.
    Tell(Rst),
}

/// A client's segment of a relay.
struct Question<'a> {
    relay: &'a Relay,
    place: Place,
    client: IpEndpoint,
    segment: Segment,
    chosen: Chosen,
}

/// What becomes of the segment in `packet`, for whose client `side` stands, and whose targets are
/// `chosen`. A damaged segment is not answered, and a RST goes on waiting: the segment's numbers
/// cannot be believed.
///
/// # Errors
/// [`DropReason::NoTarget`], where no target takes new connections.
#[inline(never)]
pub(in crate::pop) fn ask<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: &F,
    relay: &Relay,
    (side, chosen): (&EgressSide, Chosen),
) -> Result<Ask, DropReason> {
    let tcp = packet.segment.tcp;
    let segment = Segment {
        ack: tcp.has(tcp::ACK).then_some(tcp.ack),
        end: tcp.end(packet.segment.ip.payload_len()),
        tag: side.tag.unwrap_or_default().0,
    };
    let place = place(relay, side.egress);
    let question = Question { relay, place, client: packet.src(), segment, chosen };
    if tcp.has(tcp::SYN) {
        return question.syn(egress, limits, packet, frame);
    }
    if chosen.candidates.is_empty() {
        return Err(DropReason::NoTarget);
    }
    if tcp.has(tcp::RST) {
        return Ok(Ask::Send(chosen.candidates));
    }
    Ok(question.later_segment(egress, packet, frame))
}

/// What the memo says of a target.
#[derive(Clone, Copy)]
struct Answered {
    standing: Standing,
    /// The RST that answers this very segment.
    rst: Option<Rst>,
}

impl Question<'_> {
    fn syn<F: Frame, O: Output<F>>(
        &self,
        egress: &mut Egress<'_, O>,
        limits: &mut Limits<'_>,
        packet: &Packet,
        frame: &F,
    ) -> Result<Ask, DropReason> {
        let Question { relay, place, segment, chosen, .. } = self;
        let (now, memo) = (egress.arrival.now, &egress.arrival.soft.memo);
        let new = chosen.new.ok_or(DropReason::NoTarget)?;
        if !memo.knows_nothing() {
            let refused = self
                .relay
                .targets
                .at(new)
                .and_then(|target| memo.refused_syn(now, *place, *target, segment));
            match refused {
                Some(rst) if packet.tcp_checksum_holds(frame) => {
                    self.forget(egress, Candidates::only(new));
                    return Ok(Ask::Tell(rst));
                }
                // The RST waits on.
                Some(_) => {}
                // What is known is of connections before this one.
                None => self.forget(egress, chosen.candidates.and(Candidates::only(new))),
            }
        }
        // Where each segment names its client, a RST needs the SYN only where it may be of another
        // target than the client's.
        if relay.mode.is_tagged() || chosen.candidates.len() > 1 {
            if limits.admit_remembered_syn(self.client.ip()) {
                memo.remember_syn(now, *place, Syn { tag: segment.tag, end: segment.end });
            } else {
                // What is remembered is the last SYN or none.
                memo.forget_syn(now, *place);
            }
        }
        let counters = egress.counters.service(relay.slot);
        counters.target(relay.targets.slot(new).0).syns.add(1);
        Ok(Ask::Send(Candidates::only(new)))
    }

    fn later_segment<F: Frame, O: Output<F>>(
        &self,
        egress: &mut Egress<'_, O>,
        packet: &Packet,
        frame: &F,
    ) -> Ask {
        let candidates = self.chosen.candidates;
        let (mut owners, mut quiet) = (Candidates::default(), Candidates::default());
        let (mut rst, mut exact) = (None, Candidates::default());
        for target in candidates.iter() {
            let answered = self.answered(egress, target);
            let only = Candidates::only(target);
            match answered.standing {
                Standing::Owner => owners = owners.and(only),
                Standing::Refused | Standing::OfAnother | Standing::RefusedThis => {
                    quiet = quiet.and(only);
                }
                _ => {}
            }
            if answered.rst.is_some() {
                exact = exact.and(only);
                rst = rst.or(answered.rst);
            }
            self.note::<F, O>(egress, target, answered.standing);
        }
        if !owners.is_empty() {
            return Ask::Send(owners);
        }
        let left = candidates.without(quiet);
        if !left.is_empty() {
            return Ask::Send(left);
        }
        let next = self.relay.targets.next(&self.client, egress.arrival.unix, candidates);
        let next = next.map(|target| (target, self.answered(egress, target).standing));
        if let Some((target, standing)) = next {
            self.note::<F, O>(egress, target, standing);
            if standing == Standing::Owner {
                return Ask::Send(Candidates::only(target));
            }
        }
        let Some(rst) = rst.filter(|_| exact == candidates) else {
            // Not all refused this very segment: what they refused may be of another connection.
            if candidates.len() > 1 {
                self.forget(egress, candidates.without(exact));
            }
            return Ask::Send(candidates);
        };
        if !packet.tcp_checksum_holds(frame) {
            return Ask::Send(candidates);
        }
        match next {
            Some((target, Standing::Unknown | Standing::OfAnother)) => {
                self.remember_asked(egress, target);
                Ask::Send(Candidates::only(target))
            }
            _ => {
                let asked = next.map(|(target, _)| Candidates::only(target));
                self.forget(egress, candidates.and(asked.unwrap_or_default()));
                Ask::Tell(rst)
            }
        }
    }

    /// What the memo says of the target about this segment.
    fn answered<O>(&self, egress: &Egress<'_, O>, target: TargetIndex) -> Answered {
        let Question { place, segment, .. } = self;
        let (now, memo) = (egress.arrival.now, &egress.arrival.soft.memo);
        let unknown = Answered { standing: Standing::Unknown, rst: None };
        let Some(target) = self.relay.targets.at(target) else { return unknown };
        let is_near = |number| segment.ack.is_some_and(|ack| NEAR.holds(number, ack));
        let is_there = |at: Progress| segment.progress().is_some_and(|to| at.is_near(to));
        let standing = match memo.known(now, *place, *target, segment) {
            Some(Known::Owner { tag, .. }) if tag != segment.tag => Standing::OfAnother,
            Some(Known::Owner { at, .. }) if is_there(at) => Standing::Owner,
            Some(Known::Asked { tag, ack }) if tag == segment.tag && is_near(ack) => {
                Standing::Asked
            }
            Some(Known::Refused { rst, near, is_exact }) if is_near(near) => {
                let rst = Rst::Bare { seq: rst };
                if is_exact && rst.answers(segment) {
                    return Answered { standing: Standing::RefusedThis, rst: Some(rst) };
                }
                Standing::Refused
            }
            _ => Standing::Unknown,
        };
        match memo.refused_syn(now, *place, *target, segment) {
            Some(rst) if standing == Standing::Owner => Answered { standing, rst: Some(rst) },
            Some(rst) => Answered { standing: Standing::RefusedThis, rst: Some(rst) },
            None => Answered { standing, rst: None },
        }
    }

    fn remember_asked<O>(&self, egress: &Egress<'_, O>, target: TargetIndex) {
        let Question { relay, place, segment, .. } = self;
        if let (Some(target), Some(ack)) = (relay.targets.at(target), segment.ack) {
            let about = (segment.tag, ack);
            egress.arrival.soft.memo.remember_asked(egress.arrival.now, *place, *target, about);
        }
    }

    fn forget<O>(&self, egress: &Egress<'_, O>, targets: Candidates) {
        for target in targets.iter().filter_map(|index| self.relay.targets.at(index)) {
            egress.arrival.soft.memo.forget(egress.arrival.now, self.place, *target);
        }
    }

    /// Explains what is known of a target, unless that is nothing of the only one.
    fn note<F: Frame, O: Output<F>>(
        &self,
        egress: &mut Egress<'_, O>,
        target: TargetIndex,
        standing: Standing,
    ) {
        let is_plain = standing == Standing::Unknown && self.chosen.candidates.len() == 1;
        if O::EXPLAINS
            && !is_plain
            && let Some(target) = self.relay.targets.at(target)
        {
            egress.note::<F>(Note::Target(*target, standing));
        }
    }
}
