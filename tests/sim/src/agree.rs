//! POPs agree: another one would have done the same with a datagram.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyrelay_core::net::PortIndex;
use anyrelay_core::verdict::{AbsorbKind, ReplyKind, Verdict};
use anyrelay_kit::frames::{TCP, framed};
use anyrelay_kit::pop::{Recorder, Said};

use crate::network::Packet;
use crate::open::is_to_agent;
use crate::pops::is_unresolved;
use crate::popside::is_address_query;
use crate::setup::{self, Port, TUNNEL4, TUNNEL6};
use crate::wire::{Datagram, ETHERNET_LEN};
use crate::world::World;

impl World {
    /// The same datagram, given to the judge of any POP.
    pub(crate) fn compare(
        &mut self,
        pop: usize,
        packet: &Packet,
        port: Port,
        out: &Recorder,
    ) -> Result<(), String> {
        let datagram = Datagram::read(&packet.bytes);
        let segment = datagram.and_then(|ip| ip.segment());
        let tunnel = segment.is_some_and(|segment| [TUNNEL4, TUNNEL6].contains(&segment.dst))
            || is_to_agent(&packet.bytes);
        let mut other = self.rng.below(self.pops.len() as u64) as usize;
        // The answer to a keepalive has the POP's number and time in it, and what goes to an agent
        // its time; what is forged may be from the POP's own address.
        if tunnel || packet.forged || self.pops[other].revision != self.pops[pop].revision {
            other = pop;
        }
        let now = self.pops[other].now(self.now_us, self.unix_ms);
        let frame = framed(setup::mac(other, port), setup::router_mac(port), None, &packet.bytes);
        let mut judged = std::mem::take(&mut self.judged);
        self.pops[other].ask_judge(now, port, &frame, &mut judged);
        // What a RST means, and where a segment goes of a client with several targets, depends on
        // what the POP remembers, and on its clock.
        let soft = |out: &Recorder| {
            let waits = Verdict::Absorb(AbsorbKind::PendingRst);
            let cannot = Verdict::Absorb(AbsorbKind::Unreachable);
            out.replies().any(|kind| kind == ReplyKind::PendingRst)
                || out.verdicts().any(|verdict| [waits, cannot].contains(&verdict))
                || out.said.iter().any(|said| matches!(said, Said::Target(..)))
        };
        let quoted = packet.reported.as_ref().and_then(|of| self.setup.service_at(of.vip));
        let quoted = quoted.map(|at| self.setup.services[at].name);
        let moves = out.service().or(quoted).is_some_and(|name| self.setup.moves(name));
        let excused = is_unresolved(out) || soft(out) || soft(&judged) || moves;
        let own: BTreeMap<_, _> = relevant(&out.sent, packet).collect();
        let others: BTreeMap<_, _> = relevant(&judged.sent, packet).collect();
        // A copy is the same whatever others there are.
        let mut both = own.iter().filter_map(|(to, bytes)| Some((bytes, others.get(to)?)));
        let same = both.all(|(one, other)| one == other) && (excused || own.len() == others.len());
        let same = same && (excused || own.keys().eq(others.keys()));
        let verdicts = format!("{:?}", judged.verdicts().collect::<Vec<_>>());
        self.judged = judged;
        if same { Ok(()) } else { Err(format!("POP {other} would not do the same: {verdicts}")) }
    }
}

/// What POPs must agree on, by the port and who gets it: all from the IP header on, but ICMP errors
/// of their own and questions for their neighbours.
fn relevant<'a>(
    sent: &'a [(PortIndex, Vec<u8>)],
    packet: &Packet,
) -> impl Iterator<Item = ((u8, IpAddr, u16), &'a [u8])> {
    let passed_on = packet.reported.is_some();
    sent.iter().filter(|(_, frame)| !is_address_query(frame)).filter_map(move |(port, frame)| {
        let payload = frame.get(ETHERNET_LEN..)?;
        let shared = Datagram::read(payload).filter(|ip| passed_on || ip.protocol == TCP);
        let to = |ip: &Datagram<'_>| (port.0, ip.dst, ip.segment().map_or(0, |to| to.dst.port()));
        shared.map(|ip| (to(&ip), ip.bytes))
    })
}
