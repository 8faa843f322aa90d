//! The open side of agents against that of POPs: packets from and to hosts that know nothing of
//! the tunnel, and between two agents.

mod flows;
mod life;
mod refusals;

use std::net::Ipv6Addr;
use std::sync::Arc;

use anyrelay_core::predict::Constants;
use anyrelay_core::tunnel::agent::{OPEN_HEADROOM, OpenSendError};
use anyrelay_core::tunnel::open::down;
use anyrelay_kit::frames::{ACK, Ipv6Header, PSH, Segment};
use anyrelay_kit::nat::Packet;
use anyrelay_kit::tunnel::open_service;

use crate::world::{Event, World, collect};

/// A host that knows nothing of tunnels.
const HOST: u128 = 0x2600_0007 << 96 | 7;

impl World {
    /// A world whose tunnel has an open side.
    fn open(seed: u64) -> World {
        let mut world = World::new(seed, Constants::default());
        let service = open_service(&world.keys, &world.tenants, Constants::default());
        world.service = Arc::new(service);
        world
    }

    /// The agent's open address in the newest epoch.
    fn address(&self, site: usize) -> u128 {
        let addresses = self.sites[site].agent.open_addresses();
        addresses.current.expect("has an open address").to_bits()
    }

    /// Sends a packet from the agent's host.
    fn send_open(&mut self, from: usize, packet: &[u8]) -> Result<(), OpenSendError> {
        let now = self.instant();
        let mut buffer = [&[0xee; OPEN_HEADROOM][..], packet].concat();
        let mut out = Vec::new();
        let sent = self.sites[from]
            .agent
            .send_open(now, &mut buffer, OPEN_HEADROOM, &mut collect(&mut out))
            .map(|outgoing| (outgoing.port, outgoing.segment.to_vec()));
        out.extend(sent.as_ref().ok().cloned());
        self.leave(from, out);
        sent.map(|_| ())
    }

    /// A packet to an open address comes to a POP from outside. Returns whether an agent has that
    /// address.
    fn come_from_outside(&mut self, packet: &[u8]) -> bool {
        let pop = self.rng.below(self.pops.len() as u64) as usize;
        let now = self.pop_time(pop);
        let dst = u128::from_be_bytes(packet[24..40].try_into().unwrap());
        let Ok(agent) = down::agent_of(&self.service, now, dst, |_| true) else { return false };
        let down = down::segment(&self.service, now, &agent, packet).unwrap();
        let data = [&down.header[..], packet].concat();
        let (seq, ack) = (down.seq.0, down.ack.0);
        let segment = Segment { seq, ack, data, ..Segment::new(down.src, down.dst, ACK | PSH) };
        let to = self.sites.iter().position(|site| site.public_ip == down.dst.ip());
        let packet = Packet { src: down.src, dst: down.dst, tcp: segment.segment() };
        self.travel(Event::Down(to.unwrap()), packet);
        true
    }

    /// A packet with a random payload of up to so many bytes, which no other has.
    fn packet(&mut self, src: u128, dst: u128, most: u64) -> Vec<u8> {
        let mut payload = vec![0; self.rng.below(most + 1).max(8) as usize];
        payload[..8].copy_from_slice(&self.count.to_be_bytes());
        self.count += 1;
        Ipv6Header { next: 17, ..Ipv6Header::new(src, dst) }.with(&payload)
    }
}

/// What comes out of a tunnel when `packet` went in: the same behind one hop.
fn one_hop_less(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[7] -= 1;
    packet
}

fn ip(bits: u128) -> Ipv6Addr {
    Ipv6Addr::from_bits(bits)
}
