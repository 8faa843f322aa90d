//! Open tunnels: packets of agents to hosts that know nothing of them, and back, at every POP; and
//! every packet that must not pass.

mod down;
mod icmp;
mod random;
mod up;

use std::net::Ipv6Addr;

use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};
use anyrelay_kit::config::Table;

use crate::*;

/// The VIPs of two open tunnels, each of one tenant, and their prefixes.
const OPEN: &str = "203.0.113.22:443";
const RIVAL: &str = "203.0.113.23:443";
const PREFIX: &str = "2001:db8:a::/48";
const RIVAL_PREFIX: &str = "2001:db8:b::/48";
/// The POP's own address.
const SOURCE: &str = "2001:db8:f::99";
/// A host that knows nothing of tunnels.
const HOST: u128 = FAR6;

fn open_side(prefix: &str) -> Table {
    let table = Table::default().with("prefix", prefix).with("icmp_source", SOURCE);
    table.with("to", ["2000::/3", "fd00:1::/32"])
}

/// [`tunnel_config`] with both open tunnels.
fn open_config(pop: u8) -> PopConfig {
    let open = |name, vip, tenant: &str, prefix| {
        tunnel(name, &[vip]).with("tenants", [tenant]).with("open", &open_side(prefix))
    };
    tunnel_config(pop).tunnel(open("open", OPEN, "acme", PREFIX)).tunnel(open(
        "rival",
        RIVAL,
        "zorg",
        RIVAL_PREFIX,
    ))
}

fn open_world(pop: u8) -> World {
    tunnel_world_of(&open_config(pop), KEYS)
}

/// An agent with an open address.
#[derive(Clone, Debug)]
struct Opened {
    agent: Agent,
    address: u128,
}

impl Opened {
    /// The agent of that tenant and number at `addr`, connected to the VIP `vip` of `world`.
    fn connected(world: &mut World, vip: &str, who: (u16, u32), addr: &str) -> Opened {
        let mut agent = Agent::new(who.0, who.1, addr);
        agent.vip = vip.parse().unwrap();
        agent.connect(world);
        let reply = answer(world, &agent.keepalive(world), ReplyKind::Keepalive);
        let address = u128::from_be_bytes(reply.data[58..74].try_into().unwrap());
        Opened { agent, address }
    }

    /// Its segment with the packet `inner`, `steps` of 64 bytes in front of the tick.
    fn up(&self, world: &World, steps: u8, inner: &[u8]) -> Segment {
        let data = [&[0x50, steps, 0, 0], inner].concat();
        self.agent.segment(world, data).edit(|segment| {
            segment.seq = segment.seq.wrapping_add(u32::from(steps) * 64);
        })
    }

    /// Its packet to `dst`.
    fn packet(&self, dst: u128) -> Vec<u8> {
        Ipv6Header { next: 17, ..Ipv6Header::new(self.address, dst) }.with(&BODY)
    }
}

/// The payload of a packet: a UDP datagram, which no POP reads.
const BODY: [u8; 27] = *b"ports and len, and so on...";

/// A world with two agents of one tunnel, and one of the other.
struct Three {
    world: World,
    a: Opened,
    b: Opened,
    rival: Opened,
}

impl Three {
    fn new() -> Three {
        Three::of(&open_config(1))
    }

    fn of(config: &PopConfig) -> Three {
        let mut world = tunnel_world_of(config, KEYS);
        let a = Opened::connected(&mut world, OPEN, (1, 1), A4);
        let b = Opened::connected(&mut world, OPEN, (1, 2), B4);
        let rival = Opened::connected(&mut world, RIVAL, (2, 1), A4);
        Three { world, a, b, rival }
    }

    /// That the segment is refused, and counted at the open tunnel.
    fn refuses(&mut self, segment: &Segment, reason: DropReason) {
        self.refuses_datagram(&segment.datagram(), reason);
    }

    fn refuses_datagram(&mut self, datagram: &[u8], reason: DropReason) {
        let slot = self.world.snapshot.tunnel_at(OPEN.parse().unwrap()).unwrap().slot;
        let count =
            |world: &World| (world.drops(WAN, reason), world.counters.service_drops(slot, reason));
        let before = count(&self.world);
        assert_eq!(self.world.dropped(WAN, datagram), reason);
        assert_eq!(count(&self.world), (before.0 + 1, before.1 + 1), "{reason}");
    }

    /// What the packet, which is sent to an open address from outside, becomes.
    fn down(&mut self, packet: &[u8]) -> Segment {
        let (port, frame) = self.world.passed(WAN, packet);
        assert_eq!(port, WAN);
        outer(&frame)
    }
}

/// `inner` behind one more hop.
fn one_hop_less(inner: &[u8]) -> Vec<u8> {
    let mut inner = inner.to_vec();
    inner[7] -= 1;
    inner
}

/// That `down` is the segment that carries `inner` to `to`, numbered by its own offset, which is
/// given back.
fn assert_carries(world: &World, down: &Segment, to: &Agent, inner: &[u8]) -> u8 {
    let steps = down.data[1];
    let want = Segment::new(to.vip, to.addr, PSH | ACK).edit(|want| {
        (want.ttl, want.tos) = (64, inner[0] << 4 | inner[1] >> 4);
        want.seq = to.ack(world).wrapping_add(u32::from(steps) * 64);
        // Six ticks behind what the agent has sent: LAG of them, and 0x2000.
        want.ack = to.seq(world).wrapping_sub(6 * STRIDE).wrapping_add(1);
        want.data = [&[0x60, steps, 0, 0], inner].concat();
    });
    assert_eq!(*down, want);
    assert!(usize::from(steps) * 64 + down.data.len() <= 16384);
    steps
}
