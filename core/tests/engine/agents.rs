//! Agents of tunnels, as plain as can be: they write their messages by hand and learn the POPs'
//! numbers and their own tokens from what they are sent, as real ones do.

use std::net::SocketAddr;

use anyrelay_core::config::Config;
use anyrelay_core::crypto::{Key128, hmac_sha256_128};
use anyrelay_core::keys::{Secret, agent_key};
use anyrelay_core::verdict::{DropReason, ReplyKind, Verdict};
use anyrelay_kit::config::{PopConfig, tunnel};

use super::*;

pub const VIP4: &str = "203.0.113.20:443";
pub const VIP6: &str = "[2001:db8:f::20]:443";
/// Two agents of each family.
pub const A4: &str = "198.18.5.9:40001";
pub const B4: &str = "198.19.7.7:40002";
pub const A6: &str = "[2600:1::a]:40003";
pub const B6: &str = "[2600:2::b]:40004";
pub const STRIDE: u32 = 4096;

pub const TENANTS: &str = r#"
[[tenant]]
id = 1
name = "acme"
key = "0101010101010101010101010101010101010101010101010101010101010101"
agent = [{ id = 1, name = "a" }, { id = 2, name = "b" }, { id = 3, name = "gone", revoked = true }]

[[tenant]]
id = 2
name = "zorg"
key = "0202020202020202020202020202020202020202020202020202020202020202"
agent = [{ id = 1, name = "a" }]

[[tenant]]
id = 3
name = "elsewhere"
key = "0303030303030303030303030303030303030303030303030303030303030303"
agent = [{ id = 1, name = "a" }]
"#;

/// With two tunnels more: one for both families and two tenants, and one for IPv4 alone.
pub fn with_tunnels(config: PopConfig) -> PopConfig {
    config
        .tunnel(tunnel("tun", &[VIP4, VIP6]).with("tenants", ["acme", "zorg"]))
        .tunnel(tunnel("four", &["203.0.113.21:443"]))
}

/// A config with relays and tunnels, of the POP with this number.
pub fn tunnel_config(pop: u8) -> PopConfig {
    with_tunnels(config6().set("id", pop).limit("syn_ack_per_second", 1_000_000))
}

/// A World with tunnels, of the POP with this number, in the middle of a tick.
pub fn tunnel_world(pop: u8) -> World {
    tunnel_world_of(&tunnel_config(pop), KEYS)
}

pub fn tunnel_world_of(config: &PopConfig, keys: &str) -> World {
    tunnel_world_with(&config.parse(), keys)
}

pub fn tunnel_world_with(config: &Config, keys: &str) -> World {
    let mut world = World::keyed(config, keys, TENANTS);
    world.later(1_795_000_004_000 - 1_000_000);
    world
}

/// The POP's tick.
pub fn tick(world: &World) -> u32 {
    (world.now.unix.as_millis() / 8000) as u32
}

/// An agent's token with the epoch of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentToken {
    pub epoch: u8,
    pub bytes: Vec<u8>,
}

/// An agent.
#[derive(Clone, Debug)]
pub struct Agent {
    pub addr: SocketAddr,
    pub vip: SocketAddr,
    pub tenant: u16,
    pub number: u32,
    pub key: Key128,
    /// Its number at tick 0.
    pub base: u32,
    /// The POPs' number at tick 0, learned from a SYN-ACK.
    pub start: u32,
    /// Its address and port as the last reply told them.
    pub told: Option<SocketAddr>,
    pub token: Option<AgentToken>,
}

impl Agent {
    /// The agent of that tenant and number at `addr`, which knows nothing yet.
    pub fn new(tenant: u16, number: u32, addr: &str) -> Agent {
        let addr: SocketAddr = addr.parse().unwrap();
        let vip = if addr.is_ipv4() { VIP4 } else { VIP6 }.parse().unwrap();
        let key = agent_key(&Secret::new([tenant as u8; 32]), number).unwrap();
        let base = 0xfff4_8000u32.wrapping_add(u32::from(addr.port()) << 16);
        Agent { addr, vip, tenant, number, key, base, start: 0, told: None, token: None }
    }

    /// The agent after a handshake and two keepalives with `world`.
    pub fn connected(world: &mut World, tenant: u16, number: u32, addr: &str) -> Agent {
        let mut agent = Agent::new(tenant, number, addr);
        agent.connect(world);
        agent
    }

    pub fn connect(&mut self, world: &mut World) {
        let syn_ack = answer(world, &self.syn(world), ReplyKind::SynAck);
        self.start = syn_ack.seq.wrapping_sub(STRIDE.wrapping_mul(tick(world)));
        // The first reply tells the agent where it is, the second is for who says so.
        self.told = None;
        let reply = answer(world, &self.keepalive(world), ReplyKind::Keepalive);
        assert_eq!(read_token(&reply.data, self.addr.is_ipv6()), None);
        self.told = Some(read_public(&reply.data, self.addr.is_ipv6()));
        let reply = answer(world, &self.keepalive(world), ReplyKind::Keepalive);
        self.token = read_token(&reply.data, self.addr.is_ipv6());
    }

    /// Its own number at the tick of `world`.
    pub fn seq(&self, world: &World) -> u32 {
        self.base.wrapping_add(STRIDE.wrapping_mul(tick(world)))
    }

    /// What it acks exactly at the tick of `world`.
    pub fn ack(&self, world: &World) -> u32 {
        self.start.wrapping_add(STRIDE.wrapping_mul(tick(world))).wrapping_add(1)
    }

    pub fn syn(&self, world: &World) -> Segment {
        let syn = Segment::new(self.addr, self.vip, SYN);
        syn.edit(|syn| {
            syn.seq = self.seq(world);
            syn.options = vec![2, 4, 5, 0xb4, 4, 2, 1, 1, 1, 3, 3, 8];
        })
    }

    /// A segment with `data`, numbered as it should be.
    pub fn segment(&self, world: &World, data: Vec<u8>) -> Segment {
        Segment::new(self.addr, self.vip, PSH | ACK).edit(|segment| {
            segment.seq = self.seq(world).wrapping_add(1);
            segment.ack = self.ack(world);
            segment.data = data;
        })
    }

    /// A keepalive request, which names what a reply of this tick told it.
    pub fn keepalive(&self, world: &World) -> Segment {
        self.keepalive_of(world, tick(world))
    }

    /// The same, with a reply of this tick.
    pub fn keepalive_of(&self, world: &World, tick: u32) -> Segment {
        let len = if self.addr.is_ipv4() { 90 } else { 118 };
        let mut data = vec![0x10, 2];
        data.extend(self.tenant.to_be_bytes());
        data.extend(self.number.to_be_bytes());
        data.extend(NONCE);
        if let Some(told) = self.told {
            data.extend(u64::from(tick).to_be_bytes());
            data.extend(endpoint(told));
        }
        data.resize(len - 16, 0);
        data.extend(mac(&self.key, b"keepalive request", self.vip, &data));
        self.segment(world, data)
    }

    /// A datagram to the agent with the token `to`, `steps` of 64 bytes in front of the tick.
    pub fn data(&self, world: &World, to: &AgentToken, steps: u8, body: &[u8]) -> Segment {
        let own = self.token.as_ref().unwrap();
        let flags = u8::from(to.bytes.len() == 32) << 3
            | u8::from(own.bytes.len() == 32) << 2
            | (to.epoch & 1) << 1
            | own.epoch & 1;
        let mut data = vec![0x30 | flags, steps];
        data.extend(CHANNEL);
        data.extend(SESSION);
        data.extend(&to.bytes);
        data.extend(&own.bytes);
        data.extend(body);
        self.segment(world, data).edit(|segment| {
            segment.seq = segment.seq.wrapping_add(u32::from(steps) * 64);
        })
    }

    pub fn token(&self) -> &AgentToken {
        self.token.as_ref().unwrap()
    }
}

pub const NONCE: [u8; 8] = *b"a nonce!";
pub const CHANNEL: [u8; 2] = [0xc4, 0xa7];
pub const SESSION: [u8; 8] = *b"session!";

/// An address in 4 or 16 bytes and its port in 2.
pub fn endpoint(addr: SocketAddr) -> Vec<u8> {
    let port = addr.port().to_be_bytes();
    match addr.ip() {
        std::net::IpAddr::V4(ip) => [&ip.octets()[..], &port].concat(),
        std::net::IpAddr::V6(ip) => [&ip.octets()[..], &port].concat(),
    }
}

/// The MAC of a keepalive of this label.
pub fn mac(key: &Key128, label: &[u8], vip: SocketAddr, data: &[u8]) -> [u8; 16] {
    hmac_sha256_128(key, &[label, &[0], &endpoint(vip), data])
}

/// The agent's address and port in a keepalive reply.
pub fn read_public(reply: &[u8], v6: bool) -> SocketAddr {
    let (ip, port): (std::net::IpAddr, _) = match v6 {
        true => (<[u8; 16]>::try_from(&reply[32..48]).unwrap().into(), &reply[48..50]),
        false => (<[u8; 4]>::try_from(&reply[32..36]).unwrap().into(), &reply[36..38]),
    };
    SocketAddr::new(ip, u16::from_be_bytes(port.try_into().unwrap()))
}

/// The token in a keepalive reply.
pub fn read_token(reply: &[u8], v6: bool) -> Option<AgentToken> {
    let (ip_len, token_len) = if v6 { (16, 32) } else { (4, 16) };
    let after = 32 + ip_len;
    let bytes = reply[after + 6..after + 6 + token_len].to_vec();
    (reply[0] == 0x21).then_some(AgentToken { epoch: reply[after + 4], bytes })
}

/// What `world` answers to `segment`; it must be one frame of that kind, back to where it is from.
pub fn answer(world: &mut World, segment: &Segment, kind: ReplyKind) -> Segment {
    let sent = world.datagram(WAN, &segment.datagram());
    let [(WAN, frame)] = &sent[..] else { panic!("{sent:02x?} {:?}", world.out.said) };
    assert_eq!(world.verdict(), Verdict::Reply(kind));
    let seen = outer(frame);
    assert_eq!((seen.src, seen.dst, seen.ttl), (segment.dst, segment.src, 64));
    seen
}

/// What `world` sends on because of `segment`.
pub fn sent_on(world: &mut World, segment: &Segment) -> Segment {
    let sent = world.datagram(WAN, &segment.datagram());
    let [(WAN, frame)] = &sent[..] else { panic!("{sent:02x?} {:?}", world.out.said) };
    assert_eq!(world.verdict(), Verdict::Forward(WAN));
    outer(frame)
}

/// Why `world` drops `segment`, without an answer.
pub fn refused(world: &mut World, segment: &Segment) -> DropReason {
    world.dropped(WAN, &segment.datagram())
}
