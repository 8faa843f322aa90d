//! A site: an agent, the NAT with its strict firewall, and other middleboxes in front of it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use anyrelay_core::seq::SeqNum;
use anyrelay_core::tunnel::PublicToken;
use anyrelay_core::tunnel::agent::Agent;

use super::{Connection, Judged, Opened, Packet, Rules, Side};
use crate::frames::{ACK, SYN};
use crate::rng::Rng;

/// The middleboxes between an agent and the POPs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Boxes {
    /// The firewall of the NAT.
    pub rules: Rules,
    /// Whether window scale options are removed.
    pub strips_scale: bool,
    /// Whether a box between NAT and POPs shifts the sequence numbers of both directions, by
    /// amounts that are new for each handshake.
    pub rewrites: bool,
    /// The same, between agent and NAT.
    pub rewrites_before: bool,
}

/// A mapping of the NAT.
#[derive(Debug)]
pub struct Flow {
    /// Address and port of the agent.
    pub inside: SocketAddr,
    /// Address and port that the POPs see.
    pub public: SocketAddr,
    /// What the firewall knows of it.
    pub connection: Connection,
}

/// An agent behind its NAT.
#[derive(Debug)]
pub struct Site {
    /// The agent.
    pub agent: Agent,
    /// The middleboxes.
    pub boxes: Boxes,
    /// Address of the agent.
    pub local: IpAddr,
    /// The VIP that it speaks to.
    pub vip: SocketAddr,
    /// Address of the NAT.
    pub public_ip: IpAddr,
    /// Port of the next mapping.
    pub next_port: u16,
    /// Mappings.
    pub flows: Vec<Flow>,
    /// Flows of the boxes that shift sequence numbers: between agent and NAT, and behind the NAT.
    pub rewriters: [HashMap<SocketAddr, Rewriter>; 2],
    /// What the firewall found INVALID.
    pub invalid: Vec<Judged>,
    /// Segments from outside that belong to no mapping.
    pub strays: u64,
    /// Datagrams that the agent received: when in milliseconds, the body, the sender's token.
    pub received: Vec<(u64, Vec<u8>, PublicToken)>,
    /// Packets to its open address that the agent received: when in milliseconds, the packet.
    pub opened: Vec<(u64, Vec<u8>)>,
    /// The host is suspended until then.
    pub asleep_until_ms: u64,
    /// Whether the path is cut, outwards and inwards.
    pub cut: [bool; 2],
    /// The POP that all its segments go to; without it, the one that the world chooses.
    pub route: Option<usize>,
    /// Applied to each segment from the agent, before its NAT; `false` drops it.
    pub spoil_up: Option<Spoil>,
    /// Applied to each segment from outside, before the NAT.
    pub spoil_down: Option<Spoil>,
    /// Datagrams of another conversation than the only one.
    pub strange: u64,
    /// Whether segments end at the NAT instead of the agent.
    pub deaf: bool,
    /// Segments to the agent are kept here instead.
    pub caught: Option<Vec<Packet>>,
    /// The last keepalive, as it left the agent.
    pub last_keepalive: Option<Packet>,
    /// The last datagram, as it left the agent.
    pub last_data: Option<Packet>,
}

/// Changes a segment, or drops it by returning `false`.
pub type Spoil = fn(&mut Rng, &mut Packet) -> bool;

/// By how much a middlebox shifts the numbers of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Rewriter {
    isn: SeqNum,
    up: u32,
    down: u32,
}

impl Site {
    /// A site with addresses for the agent, the VIP and the NAT, whose mappings begin at a port.
    pub fn new(
        agent: Agent,
        boxes: Boxes,
        [local, public_ip]: [IpAddr; 2],
        vip: SocketAddr,
        next_port: u16,
    ) -> Site {
        Site {
            agent,
            boxes,
            local,
            vip,
            public_ip,
            next_port,
            flows: Vec::new(),
            rewriters: [HashMap::new(), HashMap::new()],
            invalid: Vec::new(),
            strays: 0,
            received: Vec::new(),
            opened: Vec::new(),
            asleep_until_ms: 0,
            cut: [false; 2],
            route: None,
            spoil_up: None,
            spoil_down: None,
            strange: 0,
            deaf: false,
            caught: None,
            last_keepalive: None,
            last_data: None,
        }
    }

    /// Passes a segment of the agent to the outside, unless the firewall drops it.
    pub fn outwards(&mut self, now_ms: u64, rng: &mut Rng, mut packet: Packet) -> Option<Packet> {
        let mut offsets = || (rng.next() as u32, rng.next() as u32);
        let offsets = [offsets(), offsets()];
        let here = self;
        let boxes = here.boxes;
        if boxes.strips_scale {
            packet.strip_scale();
        }
        if boxes.rewrites_before {
            rewrite_up(&mut here.rewriters[0], offsets[0], &mut packet);
        }
        let seen = packet.seen();
        here.flows.retain(|flow| !flow.connection.is_over(now_ms));
        let inside = packet.src;
        let mut at = here.flows.iter().position(|flow| flow.inside == inside);
        let verdict = match at {
            Some(found) => here.flows[found].connection.see(now_ms, Side::Original, &seen),
            None => Ok(Opened::Anew),
        };
        let verdict = match verdict {
            Ok(Opened::Same) => Ok(()),
            Ok(Opened::Anew) => match Connection::new(boxes.rules, now_ms, &seen) {
                Ok(connection) => {
                    let public = SocketAddr::new(here.public_ip, here.next_port);
                    match at {
                        Some(found) => here.flows[found].connection = connection,
                        None => {
                            here.next_port += 1;
                            at = Some(here.flows.len());
                            here.flows.push(Flow { inside, public, connection });
                        }
                    }
                    Ok(())
                }
                Err(reason) => Err(reason),
            },
            Err(reason) => Err(reason),
        };
        if let Err(reason) = verdict {
            here.invalid.push((now_ms, Side::Original, reason, seen));
            return None;
        }
        let public = here.flows[at?].public;
        let dst = packet.dst;
        packet.set_addresses(public, dst);
        if boxes.rewrites {
            rewrite_up(&mut here.rewriters[1], offsets[1], &mut packet);
        }
        Some(packet)
    }

    /// Passes a segment from outside to the agent, unless the firewall drops it.
    pub fn inwards(&mut self, now_ms: u64, mut packet: Packet) -> Option<Packet> {
        let here = self;
        if here.boxes.rewrites {
            rewrite_down(&here.rewriters[1], packet.dst, &mut packet);
        }
        if here.boxes.strips_scale {
            packet.strip_scale();
        }
        let seen = packet.seen();
        let (to, from) = (packet.dst, packet.src);
        here.flows.retain(|flow| !flow.connection.is_over(now_ms));
        let flow = here.flows.iter_mut().find(|flow| flow.public == to);
        let Some(flow) = flow.filter(|_| from == here.vip) else {
            here.strays += 1;
            return None;
        };
        if let Err(reason) = flow.connection.see(now_ms, Side::Reply, &seen) {
            here.invalid.push((now_ms, Side::Reply, reason, seen));
            return None;
        }
        let inside = flow.inside;
        packet.set_addresses(from, inside);
        if here.boxes.rewrites_before {
            rewrite_down(&here.rewriters[0], inside, &mut packet);
        }
        Some(packet)
    }
}

fn rewrite_up(
    flows: &mut HashMap<SocketAddr, Rewriter>,
    (up, down): (u32, u32),
    packet: &mut Packet,
) {
    let head = packet.head();
    if head.flags & (SYN | ACK) == SYN {
        let flow = flows.entry(packet.src).or_insert(Rewriter { isn: head.seq, up, down });
        if flow.isn != head.seq {
            *flow = Rewriter { isn: head.seq, up, down };
        }
    }
    let Some(flow) = flows.get(&packet.src).copied() else { return };
    packet.set_seq(head.seq.plus(flow.up));
    if head.flags & ACK != 0 {
        packet.set_ack(head.ack.plus(flow.down.wrapping_neg()));
    }
}

fn rewrite_down(flows: &HashMap<SocketAddr, Rewriter>, inside: SocketAddr, packet: &mut Packet) {
    let Some(flow) = flows.get(&inside).copied() else { return };
    let head = packet.head();
    packet.set_seq(head.seq.plus(flow.down));
    packet.set_ack(head.ack.plus(flow.up.wrapping_neg()));
}
