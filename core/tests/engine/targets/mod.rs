//! Targets that changed not long ago: segments of clients go to each target that may have their
//! connection, and to no more of them than need be (docs/protocol.md, section 19).

mod answers;
mod asking;
mod errors;

use std::net::SocketAddr;

use anyrelay_core::net::{IpEndpoint, PortIndex};
use anyrelay_core::relay::hints::{Hint, Shows};
use anyrelay_core::relay::mapping::Mapping;
use anyrelay_core::relay::targets::Candidates;
use anyrelay_core::time::UnixTime;
use anyrelay_core::verdict::{AbsorbKind, DropReason, Verdict};
use anyrelay_kit::pop::Recorder;

use crate::*;

/// When the newest target of each service began to take new connections.
const CHANGED: UnixTime = UnixTime::from_millis(990_000);

/// A client that a change moved, at one service.
pub struct Moved {
    pub world: World,
    pub service: &'static str,
    pub vip: SocketAddr,
    pub client: SocketAddr,
    /// What stands for it.
    pub egress: SocketAddr,
    /// The TSval of its segments, where they have a tag.
    pub tsval: Option<u32>,
    /// The target of its connections from before, and that of new ones.
    pub old: SocketAddr,
    pub new: SocketAddr,
}

/// The services with several targets: of each egress mode and family.
pub const SERVICES: [&str; 5] = ["many", "many6", "raw", "raw6", "deeps"];

impl Moved {
    /// A moved client of `service`.
    pub fn at(service: &'static str) -> Moved {
        Moved::with(service, pool6_config())
    }

    pub fn with(service: &'static str, config: PopConfig) -> Moved {
        let mut config = config.parse();
        let relay = config.relays.iter_mut().find(|relay| relay.name == service).unwrap();
        relay.targets.entries.last_mut().unwrap().since = CHANGED;
        let is_ipv6 = relay.vip.is_ipv6();
        let world = World::with(&config);
        let mut ports = 5000..6000;
        let client = ports
            .find_map(|port| {
                let client: SocketAddr = match is_ipv6 {
                    false => ([198, 18, 5, 9], port).into(),
                    true => ("2600::5".parse::<std::net::Ipv6Addr>().unwrap(), port).into(),
                };
                let chosen = world.service(service).targets.choose(&client.into(), world.now.unix);
                (chosen.candidates.len() == 2).then_some(client)
            })
            .unwrap();
        Moved::client(service, world, client)
    }

    /// The client of `service`, whose targets of before and now differ.
    pub fn client(service: &'static str, world: World, client: SocketAddr) -> Moved {
        let relay = world.service(service);
        let mapping = |time| relay.outward(client.into(), time).unwrap();
        let (before, after) = (mapping(UnixTime::default()), mapping(world.now.unix));
        let Mapping { egress, tag, .. } = after;
        let vip = relay.vip();
        let (old, new) = (before.target.into(), after.target.into());
        assert_ne!(old, new);
        let tsval = tag.map(|tag| tag.timestamp());
        Moved { world, service, vip, client, egress: egress.into(), tsval, old, new }
    }

    /// A segment of the client.
    pub fn segment(&self, flags: u8, seq: u32, ack: u32) -> Segment {
        let segment = Segment::new(self.client, self.vip, flags);
        Segment { seq, ack, options: timestamps(7, 8), ..segment }
    }

    /// A segment of a target, with the client's tag.
    pub fn answer(&self, target: SocketAddr, flags: u8, seq: u32, ack: u32) -> Segment {
        let segment = Segment::new(target, self.egress, flags);
        Segment { seq, ack, options: timestamps(9, self.tsval.unwrap_or(7)), ..segment }
    }

    /// A RST of a target, as a host sends it that has no socket.
    pub fn refusal(&self, target: SocketAddr, flags: u8, seq: u32, ack: u32) -> Segment {
        Segment { options: Vec::new(), ..self.answer(target, flags, seq, ack) }
    }

    /// Hands over a segment; where what is sent goes, ascending, each of which left by the port of
    /// its side.
    pub fn send(&mut self, segment: &Segment) -> Vec<SocketAddr> {
        self.sent(segment).into_iter().map(|(_, sent)| sent.dst).collect()
    }

    /// Hands over a segment; what is sent, by its destination.
    pub fn sent(&mut self, segment: &Segment) -> Vec<(PortIndex, Segment)> {
        let port = if segment.dst == self.vip { WAN } else { LAN };
        let sent = self.world.datagram(port, &segment.datagram());
        let read = |(port, frame): (PortIndex, Vec<u8>)| {
            let sent = Segment::read(&frame[14..]).unwrap();
            assert_eq!(port, if sent.dst == self.client { WAN } else { LAN });
            (port, sent)
        };
        let mut sent: Vec<_> = sent.into_iter().map(read).collect();
        sent.sort_by_key(|(_, sent)| sent.dst);
        sent
    }

    /// Hands over a segment of the client that goes to `targets`.
    pub fn goes_to(&mut self, segment: &Segment, targets: &[SocketAddr]) {
        let mut targets = targets.to_vec();
        targets.sort_unstable();
        assert_eq!(self.send(segment), targets, "{:?}", self.world.out.said);
    }

    /// Hands over a refusal, which waits.
    pub fn refuse(&mut self, target: SocketAddr, seq: u32) {
        let refusal = self.refusal(target, RST, seq, 0);
        assert_eq!(self.send(&refusal), [], "{:?}", self.world.out.said);
        assert_eq!(self.world.verdict(), Verdict::Absorb(AbsorbKind::PendingRst));
    }

    /// Takes another POP's hint of what a segment of `target` shows.
    pub fn hint(&mut self, target: SocketAddr, shows: Shows) {
        let (vip, egress, target) = (end(self.vip), end(self.egress), end(target));
        let (now, hint) = (self.world.now, Hint { vip, egress, target, shows });
        self.world.hint(now, 0, &hint, &mut Recorder::default());
    }

    /// Both targets.
    pub fn both(&self) -> [SocketAddr; 2] {
        [self.old, self.new]
    }

    /// The target that is asked when both refuse, if the service has a third.
    pub fn next(&self) -> Option<SocketAddr> {
        let relay = self.world.service(self.service);
        let asked = self.both().map(|at| relay.targets.index_of(&at.into()).unwrap());
        let asked = Candidates::only(asked[0]).and(Candidates::only(asked[1]));
        let next = relay.targets.next(&self.client.into(), self.world.now.unix, asked)?;
        Some((*relay.targets.at(next).unwrap()).into())
    }
}

/// Endpoints as core writes them.
pub fn end(at: SocketAddr) -> IpEndpoint {
    at.into()
}
