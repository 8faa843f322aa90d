//! A site: an agent, and the strict firewall with NAT, and other boxes, in front of it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use anyrelay_core::seq::SeqNum;
use anyrelay_core::tunnel::PublicToken;
use anyrelay_core::tunnel::agent::Agent;

use crate::conntrack::{Connection, Invalid, Opened, Rules, Seen, Side};
use crate::packet::{Packet, Rng};

/// What stands between an agent and the POPs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Boxes {
    pub rules: Rules,
    /// Window scale options are removed.
    pub strips_scale: bool,
    /// Sequence numbers of both directions are moved by amounts that are new for each handshake;
    /// between NAT and POPs.
    pub rewrites: bool,
    /// The same, between agent and NAT.
    pub rewrites_before: bool,
}

/// A flow in the NAT.
#[derive(Debug)]
pub struct Flow {
    pub inside: SocketAddr,
    pub public: SocketAddr,
    pub connection: Connection,
}

/// One site: an agent behind its NAT.
#[derive(Debug)]
pub struct Site {
    pub agent: Agent,
    pub boxes: Boxes,
    pub local: IpAddr,
    pub vip: SocketAddr,
    pub public_ip: IpAddr,
    pub next_port: u16,
    pub flows: Vec<Flow>,
    pub rewriters: [HashMap<SocketAddr, Rewriter>; 2],
    pub invalid: Vec<(u64, Side, Invalid, Seen)>,
    /// Segments that came to the NAT from outside for no flow.
    pub strays: u64,
    pub received: Vec<(u64, Vec<u8>, PublicToken)>,
    /// Asleep: nothing is done and nothing is heard until then.
    pub asleep_until_ms: u64,
    /// The way of this site is cut, outwards and inwards.
    pub cut: [bool; 2],
    /// The POP that its segments go to, whatever those of others do.
    pub route: Option<usize>,
    /// What is done to each segment that leaves the agent, before its NAT; `false` drops it.
    pub spoil_up: Option<Spoil>,
    /// What is done to each that comes from outside, before the NAT.
    pub spoil_down: Option<Spoil>,
    /// Datagrams of another conversation than the only one.
    pub strange: u64,
    /// Hears nothing, while its NAT goes on.
    pub deaf: bool,
    /// What would come to the agent is put here instead.
    pub caught: Option<Vec<Packet>>,
    /// The last keepalive and the last datagram, as they left the agent.
    pub last_keepalive: Option<Packet>,
    pub last_data: Option<Packet>,
}

/// Changes a segment, or drops it by returning false.
pub type Spoil = fn(&mut Rng, &mut Packet) -> bool;

#[derive(Clone, Copy, Debug)]
pub struct Rewriter {
    isn: SeqNum,
    up: u32,
    down: u32,
}

impl Site {
    /// A segment of the agent's leaves the site, unless the firewall drops it.
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

    /// A segment from outside comes into the site, unless the firewall drops it.
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
    if head.flags & 0x12 == 0x02 {
        let flow = flows.entry(packet.src).or_insert(Rewriter { isn: head.seq, up, down });
        if flow.isn != head.seq {
            *flow = Rewriter { isn: head.seq, up, down };
        }
    }
    let Some(flow) = flows.get(&packet.src).copied() else { return };
    packet.set_seq(head.seq.plus(flow.up));
    if head.flags & 0x10 != 0 {
        packet.set_ack(head.ack.plus(flow.down.wrapping_neg()));
    }
}

fn rewrite_down(flows: &HashMap<SocketAddr, Rewriter>, inside: SocketAddr, packet: &mut Packet) {
    let Some(flow) = flows.get(&inside).copied() else { return };
    let head = packet.head();
    packet.set_seq(head.seq.plus(flow.down));
    packet.set_ack(head.ack.plus(flow.up.wrapping_neg()));
}
